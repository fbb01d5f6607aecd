package symbols_test

import (
	"testing"

	"github.com/kdelta/kdelta/symbols"
)

// TestGlance: what it says is what Parse finds.
func TestGlance(t *testing.T) {
	names := []string{"", "f", "f.cold", "f.part.0.cold", "f.cold.1", "__pfx_f", "__pfx_", "__pfx_f.cold", "__pi___pfx_f", "__pi_f.cold", "__cfi_f", "__cfi_", "__cfi_f.part.0",
		"cold", "x.coldest", ".LC0", "__func__.1", "__UNIQUE_ID_x1", "_ZN1a4coldE", "_RNvC1a4cold", "__pi_", "__pi___pfx_", "memcpy", "a.b.cold.c"}
	for _, n := range names {
		glance(t, n)
	}
}

func FuzzGlance(f *testing.F) {
	f.Add("__pi___pfx_f.isra.0.cold")
	f.Fuzz(func(t *testing.T, name string) { glance(t, name) })
}

func glance(t *testing.T, name string) {
	t.Helper()
	plain, attached := symbols.Glance(name)
	p := symbols.Parse(name)
	if want := p.Flags & (symbols.Prefix | symbols.Cold); attached != want {
		t.Errorf("%q: attached %v, Parse says %v", name, attached, want)
	}
	if plain && (p.Flags != 0 || p.Key != name) {
		t.Errorf("%q: plain, and Parse says %+v", name, p)
	}
}
