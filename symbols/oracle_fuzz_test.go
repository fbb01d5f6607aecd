package symbols_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/symbols"
)

// typed fails for an error that is not one of ours.
func typed(t *testing.T, err error) {
	t.Helper()
	var de *diag.Error
	if err != nil && (!errors.As(err, &de) || len(de.Diagnostics) == 0 || de.Diagnostics[0].Code != diag.SymbolsMalformed) {
		t.Fatalf("not a typed error: %v", err)
	}
}

// holds checks what is true of every table and every Oracle made of it.
func holds(t *testing.T, text []byte, tab *symbols.Table) {
	t.Helper()
	if len(tab.Entries) > bytes.Count(text, []byte("\n"))+1 {
		t.Fatalf("%d symbols from %d lines", len(tab.Entries), bytes.Count(text, []byte("\n"))+1)
	}
	end := int32(0)
	for _, b := range tab.Blocks {
		if b.First <= end && end > 0 && b.First != end+1 || b.End < b.First || int(b.End) > len(tab.Entries) {
			t.Fatalf("block %+v after %d of %d", b, end, len(tab.Entries))
		}
		end = b.End
	}
	for i := range tab.Entries {
		e := &tab.Entries[i]
		_, _ = tab.TypeName(e), tab.BindName(e)
		if e.File >= 0 && (int(e.File) >= len(tab.Blocks) || !e.Local()) {
			t.Fatalf("entry %d is of file %d", i, e.File)
		}
	}
	for _, name := range []string{symbols.Vmlinux, tab.Object} {
		o, _ := symbols.NewOracle(name, tab)
		counts := map[string]uint64{}
		for _, n := range symbols.Sequence(tab) {
			counts[n]++
		}
		for n, c := range counts {
			if a := o.Global(n); a.Known && (a.Pos > c || a.Pos == 0 && c > 1 && name == tab.Object && tab.Object == symbols.Vmlinux) {
				t.Fatalf("%q: position %d of %d", n, a.Pos, c)
			} else if !a.Known && (a.Code == "" || a.Evidence == "") {
				t.Fatalf("%q: no reason: %+v", n, a)
			}
		}
	}
}

func FuzzReadelf(f *testing.F) {
	f.Add("vmlinux", []byte("Symbol table '.symtab' contains 3 entries:\n 0: 0 0 NOTYPE LOCAL DEFAULT UND \n 1: 0 0 FILE LOCAL DEFAULT ABS a.c\n 2: ffffffff81000000 0x10 FUNC LOCAL DEFAULT [<localentry>: 8] 1 f\n"))
	f.Add("m", []byte("1: 0 0 <OS specific>: 10 UNIQUE DEFAULT OS [0xff20] f\n2: 5 0 SECTION LOCAL DEFAULT 3 .init.text\n3: 0 1 FUNC GLOBAL HIDDEN 3 f\n"))
	f.Fuzz(func(t *testing.T, name string, text []byte) {
		tab, err := symbols.ParseReadelf("fuzz", name, text)
		if typed(t, err); err == nil {
			holds(t, text, tab)
		}
	})
}

func FuzzKallsyms(f *testing.F) {
	f.Add([]byte("0 T _text\n0 t f\n0 t f\n0 d x\t[mod]\n"))
	f.Add([]byte("ffffffff81000000 A p\nffffffff80000000 W w\n         U undefined\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		ts, err := symbols.ParseKallsyms("fuzz", text)
		typed(t, err)
		for _, tab := range ts {
			holds(t, text, tab)
		}
		tab, err := symbols.ParseSystemMap("fuzz", text)
		if typed(t, err); err == nil {
			holds(t, text, tab)
		}
	})
}

func FuzzSymvers(f *testing.F) {
	f.Add([]byte("0x1\ta\tvmlinux\tEXPORT_SYMBOL\tNS\n"))
	f.Add([]byte("0x1\ta\tNS\tvmlinux\tEXPORT_SYMBOL\n0x1 b drivers/x-y\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := symbols.ParseSymvers("fuzz", text)
		if typed(t, err); err != nil {
			return
		}
		for _, e := range s.Exports {
			m, ok := s.Exporter(e.Symbol)
			if ok == s.Ambiguous(e.Symbol) || ok && m == "" || e.Module == "" {
				t.Fatalf("%+v: %q %v", e, m, ok)
			}
		}
	})
}

// FuzzPlace puts one object into another: whatever they are, answers have reasons and positions exist.
func FuzzPlace(f *testing.F) {
	small := obj(f, "a.o", row{"FILE", "a.c", 0, 0, ""}, row{"lf", "dup", 0, 16, ".text.dup"}, row{"lf", "a1", 0, 16, ".text.a1"}, row{"lf", "dup", 16, 16, ".text.x"})
	f.Add(small.Data, []byte("1: 0 0 FILE LOCAL DEFAULT ABS a.c\n2: ffffffff81000000 16 FUNC LOCAL DEFAULT 1 dup\n3: ffffffff81000010 16 FUNC LOCAL DEFAULT 1 a1\n4: ffffffff81000020 16 FUNC LOCAL DEFAULT 1 dup\n"), []byte("0 t dup\n0 t a1\n0 t dup\n"))
	f.Fuzz(func(t *testing.T, data, readelf, kallsyms []byte) {
		file, err := object.Parse(data, object.Options{Name: "fuzz", MaxSymbols: 4096})
		if err != nil {
			return
		}
		sources := []symbols.Source{symbols.FromELF(file, "m")}
		if tab, err := symbols.ParseReadelf("readelf", symbols.Vmlinux, readelf); err == nil {
			sources = append(sources, tab)
		}
		if ts, err := symbols.ParseKallsyms("kallsyms", kallsyms); err == nil {
			for _, tab := range ts {
				sources = append(sources, tab)
			}
		}
		for _, name := range []string{symbols.Vmlinux, "m"} {
			o, _ := symbols.NewOracle(name, sources...)
			p := o.Place(file)
			for i := range file.Symbols {
				a := p.Position(object.SymID(i))
				if a.Known != (a.Code == "") || a.Evidence == "" || a.Known && !o.Has(file.Symbols[i].Name) {
					t.Fatalf("symbol %d: %+v", i, a)
				}
			}
		}
		_, err = symbols.SymIDs(file, file)
		typed(t, err)
	})
}
