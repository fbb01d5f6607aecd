package diag

import (
	"strings"
	"testing"
)

// Every code stands in the catalogue once, with everything that is to be said of it and an example as it is printed.
func TestCatalogue(t *testing.T) {
	seen := map[Code]bool{}
	for _, e := range Catalogue() {
		if seen[e.Code] {
			t.Errorf("%s is there twice", e.Code)
		}
		seen[e.Code] = true
		if e.Meaning == "" || e.Remedy == "" || !strings.HasSuffix(e.Remedy, ".") || e.Severity < SevNote || e.Severity > SevError {
			t.Errorf("%+v", e)
		}
		if !strings.HasSuffix(e.Example, " ["+string(e.Code)+"]") || strings.Contains(e.Example, "/tmp/") {
			t.Errorf("%s: no example: %q", e.Code, e.Example)
		}
		if s := e.Severity.String() + ": "; !strings.Contains(e.Example, ": "+s) && !strings.HasPrefix(e.Example, s) {
			t.Errorf("%s is of severity %v, and the example of another: %q", e.Code, e.Severity, e.Example)
		}
		if Lookup(e.Code) != e {
			t.Errorf("%s: Lookup gives %+v", e.Code, Lookup(e.Code))
		}
	}
	for c := range examples {
		if !seen[c] {
			t.Errorf("%s has an example and is not in the catalogue", c)
		}
	}
}
