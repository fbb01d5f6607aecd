package elfdiff_test

import (
	"debug/elf"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/elfdiff/internal/testutil"
)

// A string that other objects know by name differs, while the same text stands elsewhere in
// both objects: whoever reads it by its name reads another text.
func TestMergedNames(t *testing.T) {
	make := func(bind elf.SymBind, texts ...string) *elfdiff.Graph {
		a := newAsm(t)
		a.section(".rodata.str1.1", strs)
		for i, s := range texts {
			if i == 0 {
				a.label("banner", len(s)+1, bind, elf.STT_OBJECT)
			}
			a.str(s)
		}
		a.section(".text.f", text)
		for i := range texts[1:] {
			off := int64(0)
			for _, s := range texts[:i+1] {
				off += int64(len(s)) + 1
			}
			a.lea(toRDI, ".rodata.str1.1", off)
		}
		a.raw(0xc3).whole("f", elf.STB_GLOBAL)
		return a.graph()
	}
	const global, weak, local = elf.STB_GLOBAL, elf.STB_WEAK, elf.STB_LOCAL
	for _, c := range []struct {
		name      string
		bind      elf.SymBind
		orig, pat []string
		want      elfdiff.Status // of banner; 0: nothing is said
	}{
		{"the same", global, []string{"one", "two"}, []string{"one", "two"}, 0},
		{"others swap", global, []string{"one", "two", "six"}, []string{"one", "six", "two"}, 0},
		{"changed", global, []string{"one", "two"}, []string{"six", "two"}, elfdiff.Changed},
		{"changed to what is there", global, []string{"one", "two"}, []string{"two", "one"}, elfdiff.Changed},
		{"weak", weak, []string{"one", "two"}, []string{"two", "one"}, elfdiff.Changed},
		{"a prefix", global, []string{"one", "two"}, []string{"ones", "two"}, elfdiff.Changed},
		{"nobody else's", local, []string{"one", "two"}, []string{"one", "two"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := testutil.Diff(t, make(c.bind, c.orig...), make(c.bind, c.pat...))
			got := elfdiff.Status(0)
			for i := range d.Data {
				if d.Data[i].Name == "banner" {
					got = d.Data[i].Status
				}
			}
			if got != c.want || c.want != 0 && d.Same() {
				t.Errorf("banner is %v, want %v; same %v\n%s", got, c.want, d.Same(), dump(d))
			}
		})
	}
	// There or not.
	with, without := make(global, "one", "two"), make(local, "one", "two")
	for _, c := range []struct {
		a, b *elfdiff.Graph
		want elfdiff.Status
	}{{with, without, elfdiff.Removed}, {without, with, elfdiff.New}} {
		found := false
		d := testutil.Diff(t, c.a, c.b)
		for i := range d.Data {
			found = found || d.Data[i].Name == "banner" && d.Data[i].Status == c.want
		}
		if !found {
			t.Errorf("not %v\n%s", c.want, dump(d))
		}
	}
}
