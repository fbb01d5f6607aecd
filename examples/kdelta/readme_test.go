package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/pkg/diag"
)

var update = flag.Bool("update", false, "rewrite the generated parts of README.md, and CODES.md")

// The README shows what the command really prints.
func TestReadme(t *testing.T) {
	t.Chdir("../..")
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	want := consoles(string(data))
	if want == string(data) {
		return
	}
	if !*update {
		have := strings.Split(string(data), "\n")
		for i, line := range strings.Split(want, "\n") {
			if i >= len(have) || have[i] != line {
				t.Fatalf("README.md is out of date (go test ./examples/kdelta -run Readme -update rewrites it); line %d should be:\n%s", i+1, line)
			}
		}
		t.Fatal("README.md is too long")
	}
	if err := os.WriteFile("README.md", []byte(want), 0o666); err != nil {
		t.Fatal(err)
	}
}

// codes is the list of diagnostics, pkg/diag/CODES.md.
func codes() string {
	var b strings.Builder
	b.WriteString("# Diagnostics\n\n<!-- written by go test ./examples/kdelta -run Codes -update -->\n\n" +
		"Everything that kdelta has to say about an input, a comparison or a patch is a diagnostic with a stable code, a place and a remedy. All are\n" +
		"collected; one of severity `error` refuses. Codes never change their meaning. Each is shown with a line as it is printed:\n" +
		"`file: section+offset (symbol): severity: message [code]`.\n")
	for _, e := range append(diag.Catalogue(), commandCodes()...) {
		fmt.Fprintf(&b, "\n## %s\n\n%s: %s\n\n    %s\n\n%s\n", e.Code, strings.ToUpper(e.Severity.String()[:1])+e.Severity.String()[1:], e.Meaning, e.Example, e.Remedy)
	}
	return b.String()
}

// The document of codes has every code that there is.
func TestCodes(t *testing.T) {
	const path = "../../pkg/diag/CODES.md"
	want := codes()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != want {
		t.Errorf("%s is out of date (go test ./examples/kdelta -run Codes -update rewrites it; an example for a new code stands in pkg/diag/examples.go) %v", path, err)
	}
}

// consoles fills in the output of the commands in console blocks that run kdelta.
func consoles(text string) string {
	const program = "$ go run ./examples/kdelta "
	var b strings.Builder
	replacing := false
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, program):
			b.WriteString(line)
			b.WriteString(do(strings.Fields(line[len(program):])...).out)
			replacing = true
			continue
		case strings.HasPrefix(line, "```"), strings.HasPrefix(line, "$ "):
			replacing = false
		}
		if !replacing {
			b.WriteString(line)
		}
	}
	return b.String()
}
