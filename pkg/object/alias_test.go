package object

import "testing"

// TestAlias: the same File, whether names are copied or not.
func TestAlias(t *testing.T) {
	d := mustBytes(t, kernelLike(20))
	copied, err := Parse(d, Options{})
	if err != nil {
		t.Fatal(err)
	}
	aliased, err := Parse(d, Options{Alias: true})
	if err != nil {
		t.Fatal(err)
	}
	for i := range copied.Sections {
		if copied.Sections[i].Name != aliased.Sections[i].Name {
			t.Errorf("section %d: %q, aliased %q", i, copied.Sections[i].Name, aliased.Sections[i].Name)
		}
	}
	for i := range copied.Symbols {
		if copied.Symbols[i].Name != aliased.Symbols[i].Name {
			t.Errorf("symbol %d: %q, aliased %q", i, copied.Symbols[i].Name, aliased.Symbols[i].Name)
		}
	}
	last := len(copied.Symbols) - 1
	off := int(aliased.Sections[aliased.Sections[aliased.Symtab].Link].Offset) + int(aliased.Symbols[last].NameOff)
	d[off]++
	if copied.Symbols[last].Name == aliased.Symbols[last].Name {
		t.Error("the name is a copy")
	}
}
