package symbols_test

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/symbols"
)

// What is just enough for an answer, and what is just too little: the refusals of the Oracle at their limits.

// like is a block core.c of the kernel beside an object with eight local functions.
type like struct {
	missing, extra, resized int
	name                    string // core.c
}

const eight = 8

// block makes its rows: dup and f1 to f7, less the last ones, with others, the first ones of f1 and so on too large.
func (l like) block(at uint64) []row {
	if l.name == "" {
		l.name = "core.c"
	}
	rows := []row{{"FILE", l.name, 0, 0, ""}, {"lf", "dup", at, 16, ""}}
	for i := 1; i < eight-l.missing; i++ {
		r := row{"lf", fmt.Sprintf("f%d", i), at + uint64(i)*0x100, 16, ""}
		if i <= l.resized {
			r.size = 24
		}
		rows = append(rows, r)
	}
	for i := range l.extra {
		rows = append(rows, row{"lf", fmt.Sprintf("x%d_%x", i, at), at + 0x1000 + uint64(i), 1, ""})
	}
	return rows
}

// coreObject is the object: each function has its section, and nothing follows from where another lies.
func coreObject(t *testing.T) *object.File {
	rows := []row{{"FILE", "core.c", 0, 0, ""}, {"lf", "dup", 0, 16, ".text.dup"}}
	for i := 1; i < eight; i++ {
		rows = append(rows, row{"lf", fmt.Sprintf("f%d", i), 0, 16, fmt.Sprintf(".text.f%d", i)})
	}
	return obj(t, "core.o", rows...)
}

func TestFileMargins(t *testing.T) {
	const tooDifferent, nearly, equally, none = "is too different", "match nearly as well", "match equally well", "has enough of its local symbols"
	for _, c := range []struct {
		blocks []like
		pos    int
		text   string
	}{
		{[]like{{}}, 2, "0 missing"},
		{[]like{{missing: 2}}, 2, "2 missing"}, // a quarter
		{[]like{{missing: 3}}, -1, tooDifferent},
		{[]like{{missing: 4}}, -1, none},
		{[]like{{resized: 4}}, 2, "4 of another size"}, // a half
		{[]like{{resized: 5}}, -1, tooDifferent},
		{[]like{{extra: 280}}, 2, "280 more"},
		{[]like{{extra: 281}}, -1, none},
		// The second: nothing differs in the best, or it is half as far.
		{[]like{{}, {}}, -1, equally},
		{[]like{{}, {extra: 1}}, 2, "next:"},
		{[]like{{extra: 1}, {}}, 3, "next:"},
		{[]like{{extra: 1}, {extra: 1}}, -1, "2 files called core.c of vmlinux " + equally},
		{[]like{{extra: 1}, {extra: 1}, {extra: 9}, {extra: 1}}, -1, "3 files called core.c of vmlinux " + equally},
		{[]like{{extra: 1}, {extra: 3}}, -1, nearly},
		{[]like{{extra: 1}, {extra: 4}}, 2, "next:"},
		{[]like{{extra: 2}, {extra: 5}}, -1, nearly},
		{[]like{{extra: 2}, {extra: 6}}, 2, "next:"},
		// What is missing, and what has another size, counts twice.
		{[]like{{missing: 1}, {extra: 2}}, -1, equally},
		{[]like{{missing: 1}, {extra: 5}}, -1, nearly},
		{[]like{{missing: 1}, {extra: 6}}, 2, "next:"},
		{[]like{{resized: 1}, {extra: 2}}, -1, equally},
		{[]like{{resized: 1}, {extra: 5}}, -1, nearly},
		{[]like{{resized: 1}, {extra: 6}}, 2, "next:"},
		// Others of the name that are nothing like it do not matter, however many there are.
		{[]like{{}, {missing: 7}, {missing: 7}, {missing: 7}, {missing: 7}, {missing: 7}, {missing: 7}, {missing: 7}, {missing: 7}, {missing: 7}}, 2, ""},
		{[]like{{missing: 7}, {missing: 7}, {missing: 7}, {missing: 7}, {missing: 7}, {missing: 7}, {missing: 7}, {missing: 7}, {missing: 7}, {}}, 11, ""},
		// Nor does what another file has.
		{[]like{{missing: 3}, {name: "other.c"}}, -1, tooDifferent},
		{[]like{{missing: 3}, {missing: 7}, {missing: 7}, {missing: 7}, {missing: 7}, {missing: 7}, {missing: 7}, {missing: 7}, {missing: 7}, {missing: 7}, {name: "other.c"}}, -1, tooDifferent},
	} {
		// First of all another file with all the names, so that none is unique and none is missing.
		rows := like{name: "first.c"}.block(0)
		for i, l := range c.blocks {
			rows = append(rows, l.block(uint64(i+1)*0x10000)...)
		}
		f := coreObject(t)
		a := oracle(t, "vmlinux", kernel("vmlinux", rows...)).Position(f, symbol(t, f, "dup"))
		if want(t, a, c.pos, c.text); t.Failed() {
			t.Fatalf("%+v", c.blocks)
		}
	}
}

// Several symbols of one name in one file are those of the kernel in their order, when nothing speaks against it.
func TestNamesakesInFile(t *testing.T) {
	own := []row{{"FILE", "core.c", 0, 0, ""}, {"lf", "dup", 0, 16, ".text.a"}, {"lf", "dup", 0, 32, ".text.b"}, {"lf", "f1", 0, 16, ".text.f1"}, {"lf", "f2", 0, 16, ".text.f2"}}
	for _, c := range []struct {
		name string
		rows []row
		pos  [2]int
	}{
		{"as there", []row{{"lf", "dup", 0x100, 16, ""}, {"lf", "dup", 0x200, 32, ""}}, [2]int{1, 2}},
		{"listed against the addresses", []row{{"lf", "dup", 0x200, 16, ""}, {"lf", "dup", 0x100, 32, ""}}, [2]int{2, 1}},
		{"sizes the other way round", []row{{"lf", "dup", 0x100, 32, ""}, {"lf", "dup", 0x200, 16, ""}}, [2]int{-1, -1}},
		{"first of another size", []row{{"lf", "dup", 0x100, 17, ""}, {"lf", "dup", 0x200, 32, ""}}, [2]int{-1, -1}},
		{"second of another size", []row{{"lf", "dup", 0x100, 16, ""}, {"lf", "dup", 0x200, 33, ""}}, [2]int{-1, -1}},
		{"a variable", []row{{"lo", "dup", 0x100, 16, ""}, {"lf", "dup", 0x200, 32, ""}}, [2]int{-1, -1}},
		{"three", []row{{"lf", "dup", 0x100, 16, ""}, {"lf", "dup", 0x200, 32, ""}, {"lf", "dup", 0x300, 32, ""}}, [2]int{-1, -1}},
	} {
		f := obj(t, "core.o", own...)
		k := kernel("vmlinux", slices.Concat([]row{{"FILE", "core.c", 0, 0, ""}}, c.rows, []row{{"lf", "f1", 0x400, 16, ""}, {"lf", "f2", 0x500, 16, ""}, {"FILE", "z.c", 0, 0, ""}, {"lf", "dup", 0x900, 64, ""}})...)
		o := oracle(t, "vmlinux", k)
		id := symbol(t, f, "dup")
		for i, pos := range c.pos {
			a := o.Position(f, id+object.SymID(i))
			if a.Known != (pos >= 0) || a.Known && a.Pos != uint64(pos) {
				t.Errorf("%s: dup %d: %+v, want %d", c.name, i, a, pos)
			}
		}
	}
}

// An object of several files: where two are alike, the order of the others tells, if it does.
func TestFileOrder(t *testing.T) {
	z := func(n string, addr uint64) []row { return []row{{"FILE", n, 0, 0, ""}, {"lf", n + "_f", addr, 16, ""}} }
	core := func(addr uint64, more ...string) []row {
		rows := []row{{"FILE", "core.c", 0, 0, ""}, {"lf", "dup", addr, 16, ""}, {"lf", "same", addr + 16, 16, ""}}
		for i, n := range more {
			rows = append(rows, row{"lf", n, addr + 32 + 16*uint64(i), 16, ""})
		}
		return rows
	}
	x, y, v := z("x.c", 0x1000), z("y.c", 0x2000), z("v.c", 0x3000)
	for _, c := range []struct {
		name   string
		own    [][]row
		kernel [][]row
		pos    int
	}{
		{"first", [][]row{core(0), x, y}, [][]row{core(0x10), x, core(0x100), y}, 1},
		{"between", [][]row{x, core(0), y}, [][]row{core(0x10), x, core(0x100), y, core(0x200)}, 2},
		{"last", [][]row{x, y, core(0)}, [][]row{core(0x10), x, core(0x100), y, core(0x200)}, 3},
		{"two between", [][]row{x, core(0), y}, [][]row{x, core(0x100), core(0x200), y}, -1},
		{"none between", [][]row{x, core(0), y}, [][]row{core(0x10), x, y, core(0x200)}, -1},
		{"a worse one between", [][]row{x, core(0, "a"), y}, [][]row{core(0x10, "a", "b"), x, core(0x100, "a", "b", "c"), y, core(0x200, "a", "b")}, -1},
		{"no order", [][]row{y, core(0), x}, [][]row{core(0x10), x, core(0x100), y}, -1},
		{"no order behind it", [][]row{core(0), v, y, x}, [][]row{core(0x10), x, core(0x100), y, core(0x200), v}, -1},
		{"two of the name", [][]row{x, core(0), core(0x40), y}, [][]row{x, core(0x100), core(0x200), y}, -1},
	} {
		f := obj(t, "all.o", slices.Concat(c.own...)...)
		a := oracle(t, "vmlinux", kernel("vmlinux", slices.Concat(c.kernel...)...)).Position(f, symbol(t, f, "dup"))
		if a.Known != (c.pos >= 0) || a.Known && a.Pos != uint64(c.pos) {
			t.Errorf("%s: %+v, want %d", c.name, a, c.pos)
		}
	}
	// Two files of the object that would be the same one of the kernel.
	f := obj(t, "all.o", slices.Concat(core(0, "a", "b"), core(0x100, "a", "b"))...)
	o := oracle(t, "vmlinux", kernel("vmlinux", slices.Concat(core(0x100, "a", "b"), []row{{"FILE", "w.c", 0, 0, ""}, {"lf", "dup", 0x200, 16, ""}})...))
	for i := range f.Symbols {
		if f.Symbols[i].Name == "dup" {
			want(t, o.Position(f, object.SymID(i)), -1, "two files called core.c of the object match the same one")
		}
	}
}

// TestShares: how much of an object a table may lack.
func TestShares(t *testing.T) {
	for _, c := range []struct {
		locals, missing int
		sev             diag.Severity
		known           bool
	}{
		{20, 0, 0, true},
		{20, 1, diag.SevNote, true}, // one of twenty is worth a note
		{19, 1, diag.New(diag.SymbolsMismatch, diag.Place{}, "").Severity, true},
		{40, 10, diag.New(diag.SymbolsMismatch, diag.Place{}, "").Severity, true}, // a quarter
		{40, 11, diag.New(diag.SymbolsMismatch, diag.Place{}, "").Severity, false},
	} {
		var own []row
		var text strings.Builder
		text.WriteString("1 t dup\n")
		for i := range c.locals {
			name := fmt.Sprintf("f%d", i)
			if i == 1 {
				name = "dup"
			}
			own = append(own, row{"lf", name, uint64(i) * 16, 16, ""})
			if i < 2 || i >= c.missing+2 {
				fmt.Fprintf(&text, "%x t %s\n", 0x1000+i*16, name)
			}
		}
		ts, err := symbols.ParseKallsyms("kallsyms", []byte(text.String()))
		if err != nil {
			t.Fatal(err)
		}
		f := obj(t, "b.o", own...)
		p := oracle(t, "vmlinux", ts[0]).Place(f)
		if a := p.Position(symbol(t, f, "dup")); a.Known != c.known || c.known && a.Pos != 2 {
			t.Errorf("%d of %d missing: %+v", c.missing, c.locals, a)
		}
		if c.missing == 0 {
			if len(p.Diagnostics) > 0 {
				t.Error(p.Diagnostics)
			}
		} else if len(p.Diagnostics) != 1 || p.Diagnostics[0].Severity != c.sev || p.Diagnostics[0].Place.Symbol != "f2" {
			t.Errorf("%d of %d missing: %v", c.missing, c.locals, p.Diagnostics)
		}
	}
}

// What two tables of one kernel may differ in.
func TestSourcesDisagree(t *testing.T) {
	list := func(name string, names ...string) *symbols.Table {
		var rows []row
		for i, n := range names {
			rows = append(rows, row{"lf", n, uint64(i) * 16, 16, ""})
		}
		return kernel(name, rows...)
	}
	numbers := func(from, to int) (out []string) {
		for i := from; i < to; i++ {
			out = append(out, fmt.Sprintf("f%d", i))
		}
		return out
	}
	for _, c := range []struct {
		name string
		a, b []string
		want string
	}{
		{"the same", numbers(0, 100), numbers(0, 100), ""},
		{"nineteen of twenty", numbers(0, 100), numbers(5, 105), ""},
		{"fewer", numbers(0, 100), numbers(6, 106), "only 94 of 100 names are in one too"},
		{"a part", numbers(0, 100), numbers(0, 10), ""},
		{"a part, the other way round", numbers(0, 10), numbers(0, 100), ""},
		{"nothing", numbers(0, 10), numbers(10, 20), "only 0 of 10"},
		{"one twice", []string{"a", "b"}, []string{"a", "b", "b"}, "1 names do not occur as often as in one: b (1 and 2)"},
		{"twice each", []string{"b", "c"}, []string{"b", "b", "c", "c"}, "2 names do not occur as often as in one: b (1 and 2), c (1 and 2)"},
		{"one once", []string{"a", "b", "b"}, []string{"a", "b"}, "1 names do not occur as often as in one: b (2 and 1)"},
		{"many twice", numbers(0, 7), slices.Concat(numbers(0, 7), numbers(0, 7)), "7 names do not occur as often as in one: f0 (1 and 2), f1 (1 and 2), f2 (1 and 2), f3 (1 and 2), f4 (1 and 2)"},
	} {
		_, ds := symbols.NewOracle("vmlinux", list("one", c.a...), list("two", c.b...))
		got := ""
		for _, d := range ds {
			got += d.Message
		}
		if c.want == "" && got != "" || !strings.HasPrefix(got, c.want) || strings.Count(got, "(") > 5 {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	// A source that cannot tell which one is meant still counts.
	rows := []row{{"FILE", "a.c", 0, 0, ""}, {"lf", "dup", 0x100, 16, ""}, {"lf", "a1", 0x110, 16, ""}, {"FILE", "b.c", 0, 0, ""}, {"lf", "dup", 0x200, 16, ""}, {"lf", "b1", 0x210, 16, ""}}
	f := obj(t, "b.o", row{"FILE", "b.c", 0, 0, ""}, row{"lf", "dup", 0, 16, ".text.dup"}, row{"lf", "b1", 0, 16, ".text.b1"})
	for text, pos := range map[string]int{"0 t dup\n0 t a1\n0 t dup\n0 t b1\n": 2, "0 t dup\n0 t a1\n0 t dup\n0 t b1\n0 t dup\n": -1, "0 t dup\n0 t a1\n0 t b1\n": -1, "0 t a1\n0 t b1\n": 2} {
		ts, err := symbols.ParseKallsyms("kallsyms", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, sources := range [][]symbols.Source{{kernel("one", rows...), ts[0]}, {ts[0], kernel("one", rows...)}} {
			o, _ := symbols.NewOracle("vmlinux", sources...)
			if a := o.Position(f, symbol(t, f, "dup")); a.Known != (pos > 0) || a.Known && a.Pos != uint64(pos) || !a.Known && a.Code != diag.SymposConflict {
				t.Errorf("%q: %+v, want %d", text, a, pos)
			}
		}
	}
}

// Evidence that names entries of a table must name the right ones.
func TestLocatedEntries(t *testing.T) {
	m := symbols.FromELF(obj(t, "m.ko", row{"lf", "a", 0, 16, ""}, row{"lf", "dup", 16, 16, ""}, row{"lf", "b", 32, 16, ""}, row{"lf", "dup", 48, 16, ""}), "m")
	other := *m
	f := obj(t, "a.o", row{"lf", "dup", 0, 16, ".text.dup"}, row{"lf", "a", 0, 16, ".text.a"})
	dup := symbol(t, f, "dup")
	at := func(name string, nth int) int32 {
		for i := range m.Entries {
			if m.Entries[i].Name == name {
				if nth--; nth == 0 {
					return int32(i)
				}
			}
		}
		panic(name)
	}
	for _, c := range []struct {
		name  string
		table *symbols.Table
		entry int32
		bad   bool
		pos   int
	}{
		{"first", m, at("dup", 1), false, 1},
		{"second", m, at("dup", 2), false, 2},
		{"another name", m, at("a", 1), true, -1},
		{"before the first", m, -1, true, -1},
		{"behind the last", m, int32(len(m.Entries)), true, -1},
		{"no table", nil, at("dup", 1), true, -1},
		{"a table that is no source", &other, at("dup", 1), false, -1},
	} {
		l := &symbols.Located{Source: "run-pre", File: f, Table: c.table, Entry: map[object.SymID]int32{dup: c.entry, 9999: 0}}
		o, ds := symbols.NewOracle("m", m, l)
		if c.bad != (len(ds) == 1 && ds[0].Code == diag.SymbolsMismatch && ds[0].Place.Symbol == "dup" && strings.Contains(ds[0].Message, "1 of 2 symbols")) {
			t.Errorf("%s: %v", c.name, ds)
		}
		if a := o.Position(f, dup); a.Known != (c.pos > 0) || a.Known && (a.Pos != uint64(c.pos) || !strings.Contains(a.Evidence, "run-pre makes it symbol")) {
			t.Errorf("%s: %+v, want %d", c.name, a, c.pos)
		}
	}
	// Addresses: what the kernel hides may be anywhere, and a table without addresses says nothing.
	k := kernel("vmlinux", row{"lf", "a", 0x10, 16, ""}, row{"lf", "dup", 0x20, 16, ""}, row{"lf", "dup", 0x40, 16, ""})
	hidden, _ := symbols.ParseKallsyms("kallsyms", []byte("0 t a\n0 t dup\n0 t dup\n"))
	g := obj(t, "a.o", row{"lf", "dup", 0, 16, ".text.dup"}, row{"lf", "a", 0, 16, ".text.a"}, row{"ln", "__crc_a", 0, 0, ".text.a"})
	for _, c := range []struct {
		name   string
		tables []symbols.Source
		of     *symbols.Table
		addr   map[object.SymID]uint64
		bad    bool
	}{
		{"right", []symbols.Source{k}, nil, map[object.SymID]uint64{symbol(t, g, "dup"): base + 0x40, symbol(t, g, "__crc_a"): 7}, false},
		{"right, of that table", []symbols.Source{k}, k, map[object.SymID]uint64{symbol(t, g, "dup"): base + 0x40}, false},
		{"beside it", []symbols.Source{k}, nil, map[object.SymID]uint64{symbol(t, g, "dup"): base + 0x41}, true},
		{"of another table", []symbols.Source{k}, hidden[0], map[object.SymID]uint64{symbol(t, g, "dup"): base + 0x40}, true},
		{"no addresses", []symbols.Source{hidden[0]}, nil, map[object.SymID]uint64{symbol(t, g, "dup"): 7}, false},
		{"beyond the object", []symbols.Source{k}, nil, map[object.SymID]uint64{9999: 7}, false},
	} {
		_, ds := symbols.NewOracle("vmlinux", append(c.tables, &symbols.Located{Source: "run-pre", File: g, Table: c.of, Addr: c.addr})...)
		if c.bad != (len(ds) == 1) || c.bad && ds[0].Place.Symbol != "dup" {
			t.Errorf("%s: %v", c.name, ds)
		}
	}
}

// What the kernel object itself exports, by its own list.
func TestExportList(t *testing.T) {
	with := kernel("one", row{"gf", "f", 0, 16, ""}, row{"gf", "g", 16, 16, ""}, row{"lo", "__ksymtab_f", 0x1000, 16, ""})
	without := kernel("two", row{"gf", "f", 0, 16, ""}, row{"gf", "g", 16, 16, ""}, row{"lo", "__ksymtab_", 0x1000, 16, ""})
	for _, c := range []struct {
		sources    []symbols.Source
		name       string
		yes, known bool
	}{
		{[]symbols.Source{with}, "f", true, true},
		{[]symbols.Source{with}, "g", false, true},
		{[]symbols.Source{without}, "f", false, false},
		{[]symbols.Source{without, with}, "f", true, true},
		{[]symbols.Source{with, without}, "g", false, true},
		{nil, "f", false, false},
	} {
		o, _ := symbols.NewOracle("vmlinux", c.sources...)
		if yes, known := o.Exports(c.name); yes != c.yes || known != c.known {
			t.Errorf("%s: %v, known %v", c.name, yes, known)
		}
	}
	one, err := symbols.ParseSymvers("one", []byte("1\ta\tvmlinux\n"))
	if err != nil || !symbols.NewSet(one).HasExports() {
		t.Error("one export is some", err)
	}
}

// A unique name is the object's when kind and binding can be the same.
func TestKinds(t *testing.T) {
	f := obj(t, "a.o", row{"lf", "code", 0, 16, ".text.code"}, row{"lo", "data", 0, 16, ".data.data"}, row{"ln", "label", 0, 0, ".text.label"})
	for name, letters := range map[string]string{"code": "tTwWvVuAaNniI?", "data": "bBdDrRgGsSwWvVuAaNniI?", "label": "tTwWvVuAaNniI?"} {
		for _, letter := range "tTbBdDrRgGsSwWvVuAa" {
			ts, err := symbols.ParseKallsyms("kallsyms", fmt.Appendf(nil, "0 %c %s\n", letter, name))
			if err != nil {
				t.Fatal(err)
			}
			e := &ts[0].Entries[0]
			known := strings.ContainsRune(letters, letter) && !e.Global()
			if a := oracle(t, "vmlinux", ts[0]).Position(f, symbol(t, f, name)); a.Known != known {
				t.Errorf("%s as %c: %+v, want %v", name, letter, a, known)
			}
		}
	}
	for _, c := range []struct {
		kind, name string
		known      bool
	}{
		{"lf", "code", true}, {"lo", "code", false}, {"ln", "code", true}, {"gf", "code", false}, {"wf", "code", false},
		{"lo", "data", true}, {"lf", "data", false}, {"ln", "data", true},
		{"ln", "label", true}, {"lf", "label", true}, {"lo", "label", true},
	} {
		if a := oracle(t, "vmlinux", kernel("vmlinux", row{c.kind, c.name, 0x10, 16, ""})).Position(f, symbol(t, f, c.name)); a.Known != c.known {
			t.Errorf("%s as %s: %+v, want %v", c.name, c.kind, a, c.known)
		}
	}
}

// TestSections: what one placed symbol tells of others, by sizes and alignments.
func TestSections(t *testing.T) {
	for _, c := range []struct {
		name string
		own  []row
		text string // dup is asked for
		pos  int
	}{
		{"behind it in its section", []row{{"lf", "b", 0, 16, ""}, {"lf", "dup", 32, 16, ""}}, "1 t dup\n1000 t b\n1020 t dup\n", 2},
		{"before it in its section", []row{{"lf", "dup", 0, 16, ""}, {"lf", "b", 32, 16, ""}}, "1 t dup\n1000 t dup\n1020 t b\n", 2},
		{"not quite there", []row{{"lf", "b", 0, 16, ""}, {"lf", "dup", 32, 16, ""}}, "1 t dup\n1000 t b\n1021 t dup\n", -1},
		{"another kind is there", []row{{"lf", "b", 0, 16, ""}, {"lf", "dup", 32, 16, ""}}, "1 t dup\n1000 t b\n1020 d dup\n", -1},
		{"no room there", []row{{"lf", "b", 0, 16, ""}, {"lf", "dup", 32, 16, ""}}, "1 t dup\n1000 t b\n1020 t dup\n102f t x\n", -1},
		{"just room there", []row{{"lf", "b", 0, 16, ""}, {"lf", "dup", 32, 16, ""}}, "1 t dup\n1000 t b\n1020 t dup\n1030 t x\n", 2},
		{"two say otherwise", []row{{"lf", "b", 0, 16, ""}, {"lf", "dup", 32, 16, ""}, {"lf", "c", 48, 16, ""}}, "1 t dup\n1000 t b\n1010 t x\n1020 t dup\n1031 t c\n", -1},
		{"the first says otherwise", []row{{"lf", "b", 0, 16, ""}, {"lf", "dup", 32, 16, ""}, {"lf", "c", 48, 16, ""}}, "1 t dup\n1001 t b\n1010 t x\n1020 t dup\n1030 t c\n", -1},
		{"half of the next section", []row{{"lf", "b", 0, 16, ".text.b"}, {"lf", "dup", 0, 8, ".text.dup"}, {"lf", "z", 8, 8, ".text.dup"}}, "1 t dup\n2 t z\n1000 t b\n1010 t dup\n1030 t z\n", -1},
		{"all of the next section", []row{{"lf", "b", 0, 16, ".text.b"}, {"lf", "dup", 0, 8, ".text.dup"}, {"lf", "z", 8, 8, ".text.dup"}}, "1 t dup\n2 t z\n1000 t b\n1010 t dup\n1018 t z\n", 2},
		{"too far before", []row{{"lf", "dup", 0, 20, ".text.dup"}, {"lf", "b", 0, 16, ".text.b"}}, "1 t dup\n1000 t dup\n1030 t b\n", -1},
		{"not aligned, before", []row{{"lf", "dup", 0, 20, ".text.dup"}, {"lf", "b", 0, 16, ".text.b"}}, "1 t dup\n1004 t dup\n1020 t b\n", -1},
		{"half of the section before", []row{{"lf", "dup", 0, 8, ".text.dup"}, {"lf", "z", 8, 8, ".text.dup"}, {"lf", "b", 0, 16, ".text.b"}}, "1 t dup\n2 t z\n3 t z\n1000 t dup\n1010 t b\n", -1},
		{"a weak one says nothing", []row{{"wf", "b", 0, 16, ""}, {"lf", "dup", 32, 16, ""}}, "1 t dup\n1000 t b\n1020 t dup\n", -1},
		{"before the start of memory", []row{{"lf", "dup", 0, 16, ""}, {"lf", "b", 0x100, 16, ""}}, "1 t dup\n10 t b\n40 t dup\n", -1},
		{"the next section", []row{{"lf", "b", 0, 20, ".text.b"}, {"lf", "dup", 0, 16, ".text.dup"}}, "1 t dup\n1000 t b\n1020 t dup\n", 2},
		{"the next section, not aligned", []row{{"lf", "b", 0, 20, ".text.b"}, {"lf", "dup", 0, 16, ".text.dup"}}, "1 t dup\n1000 t b\n1014 t dup\n", -1},
		{"the one after the next", []row{{"lf", "b", 0, 16, ".text.b"}, {"lf", "two", 0, 16, ".text.two"}, {"lf", "dup", 0, 16, ".text.dup"}}, "1 t dup\n2 t two\n1000 t b\n1010 t two\n1020 t dup\n", 2},
		{"the section before", []row{{"lf", "dup", 0, 20, ".text.dup"}, {"lf", "b", 0, 16, ".text.b"}}, "1 t dup\n1000 t dup\n1020 t b\n", 2},
		{"the one before that", []row{{"lf", "dup", 0, 16, ".text.dup"}, {"lf", "two", 0, 16, ".text.two"}, {"lf", "b", 0, 16, ".text.b"}}, "1 t dup\n2 t two\n1000 t dup\n1010 t two\n1020 t b\n", 2},
		{"another region", []row{{"lf", "b", 0, 16, ".text.b"}, {"lf", "dup", 0, 16, ".text.unlikely.dup"}}, "1 t dup\n1000 t b\n1010 t dup\n", -1},
		{"a region of that kind", []row{{"lf", "b", 0, 16, ".text.unlikely.b"}, {"lf", "dup", 0, 16, ".text.unlikely.dup"}}, "1 t dup\n1000 t b\n1010 t dup\n", 2},
		{"no region of that kind", []row{{"lf", "b", 0, 16, ".text..b"}, {"lf", "dup", 0, 16, ".text..dup"}}, "1 t dup\n1000 t b\n1010 t dup\n", -1},
		{"a nameless start of a region", []row{{"lf", "b", 0, 16, ".text.hot"}, {"lf", "dup", 0, 16, ".text.hot.dup"}}, "1 t dup\n1000 t b\n1010 t dup\n", 2},
		{"a name that looks like a region", []row{{"lf", "b", 0, 16, ".text.b"}, {"lf", "dup", 0, 16, ".text.hotter"}}, "1 t dup\n1000 t b\n1010 t dup\n", 2},
	} {
		ts, err := symbols.ParseKallsyms("kallsyms", []byte(c.text))
		if err != nil {
			t.Fatal(err)
		}
		f := obj(t, "b.o", c.own...)
		a := oracle(t, "vmlinux", ts[0]).Position(f, symbol(t, f, "dup"))
		if a.Known != (c.pos > 0) || a.Known && (a.Pos != uint64(c.pos) || a.Method != symbols.MethodLayout) {
			t.Errorf("%s: %+v, want %d", c.name, a, c.pos)
		}
	}
}

// TestHiddenNames: which names of vmlinux the kernel does not know, and so cannot find.
func TestHiddenNames(t *testing.T) {
	for name, hidden := range map[string]bool{
		"f": false, "_f": false, "Lf": false, "L0": false, "L0x": false, "$x": true, ".Lx": true, ".x": false, "__crc_f": true, "__kstrtab_f": true, "__kstrtabns_f": true,
		"__kcfi_typeid_f": true, "__mod_device_table__x": true, "__efistub_f": true, "__pi_$x": true, "__pi_.Lx": true, "__pi_f": false, "__tagsym_x": true, "_SDA_BASE_": true,
		"_SDA2_BASE_": true, "_SDA_BASE": false, "__UNIQUE_ID_modinfo123": true, "__UNIQUE_ID_modinfo_123": true, "__UNIQUE_ID_modinfo_x": false, "__UNIQUE_ID_modinfo": false, "__UNIQUE_ID_x123": false,
	} {
		got := symbols.Sequence(kernel("vmlinux", row{"lf", "a", 0, 16, ""}, row{"lf", name, 16, 16, ""}))
		if slices.Contains(got, name) == hidden {
			t.Errorf("%s: hidden %v, want %v", name, !hidden, hidden)
		}
	}
}

// TestSourcesOfOneKind: sources that tell less do not stand in the way of others, nor does what they leave out get lost.
func TestSourcesOfOneKind(t *testing.T) {
	rows := []row{{"FILE", "a.c", 0, 0, ""}, {"lf", "dup", 0x100, 16, ""}, {"lf", "a1", 0x110, 16, ""}, {"FILE", "b.c", 0, 0, ""}, {"lf", "dup", 0x200, 16, ""}, {"lf", "b1", 0x210, 16, ""}}
	swapped := slices.Clone(rows)
	swapped[1].addr, swapped[2].addr = 0x300, 0x310
	linked, other := kernel("linked", rows...), kernel("other", swapped...)
	whole := obj(t, "vmlinux.o", row{"FILE", "a.c", 0, 0, ""}, row{"lf", "dup", 0, 16, ".text.dup"}, row{"lf", "a1", 0, 16, ".text.a1"}, row{"FILE", "b.c", 0, 0, ""}, row{"lf", "dup", 16, 16, ".text.dup"}, row{"lf", "b1", 0, 16, ".text.b1"})
	unlinked := symbols.FromELF(whole, "vmlinux.o")
	f := obj(t, "b.o", row{"FILE", "b.c", 0, 0, ""}, row{"lf", "dup", 0, 16, ".text.dup"}, row{"lf", "b1", 0, 16, ".text.b1"}, row{"gf", "g", 0, 16, ".text.g"})
	g := kernel("globals", row{"gf", "g", 0x500, 16, ""})
	for _, c := range []struct {
		name    string
		sources []symbols.Source
		sym     string
		pos     int
		text    string
	}{
		{"not linked", []symbols.Source{unlinked}, "b1", 0, "vmlinux.o: the only symbol"},
		{"not linked, then linked", []symbols.Source{unlinked, linked}, "dup", 2, "linked: file b.c"},
		{"linked, then not", []symbols.Source{linked, unlinked}, "dup", 2, "linked: file b.c"},
		{"not linked, then two that disagree", []symbols.Source{unlinked, linked, other}, "dup", -1, "makes it number 2; other"},
		{"a source without it first", []symbols.Source{linked, g}, "g", 0, "globals: the only symbol"},
	} {
		o, _ := symbols.NewOracle("vmlinux", c.sources...)
		a := o.Position(f, symbol(t, f, c.sym))
		if want(t, a, c.pos, c.text); t.Failed() {
			t.Fatal(c.name)
		}
		if c.pos < 0 && (len(a.Candidates) != 2 || a.Candidates[0].Pos != 1 || a.Candidates[1].Pos != 2 || a.Candidates[0].File != "a.c" || a.Candidates[1].File != "b.c") {
			t.Errorf("%s: %+v", c.name, a.Candidates)
		}
	}
	// The .ko and the loaded module.
	m := obj(t, "m.ko", row{"FILE", "a.c", 0, 0, ""}, row{"lf", "f", 0, 16, ".text.f"}, row{"lf", "early", 0, 16, ".init.text"}, row{"lf", "once", 16, 16, ".init.text"},
		row{"FILE", "b.c", 0, 0, ""}, row{"lf", "f", 0, 16, ".text.g"}, row{"lf", "early", 32, 16, ".text"}, row{"lf", "own", 64, 16, ".text"})
	ko := symbols.FromELF(m, "m")
	ts, err := symbols.ParseKallsyms("kallsyms", []byte("0 t f\t[m]\n0 t f\t[m]\n0 t early\t[m]\n0 t own\t[m]\n"))
	if err != nil {
		t.Fatal(err)
	}
	loaded := ts[len(ts)-1]
	ids := map[string]object.SymID{} // the last of each name
	for i := range m.Symbols {
		ids[m.Symbols[i].Name] = object.SymID(i)
	}
	for _, sources := range [][]symbols.Source{{ko, loaded}, {loaded, ko}} {
		o, _ := symbols.NewOracle("m", sources...)
		want(t, o.Position(m, ids["early"]), -1, "while the module loads it is the 2-th of its name")
		want(t, o.Position(m, ids["once"]), -1, "loses it")
		want(t, o.Position(m, ids["own"]), 0, "m.ko: the only symbol")
		if a := o.Position(m, ids["f"]); !a.Known || a.Pos != 2 || a.Method != symbols.MethodFile || strings.Contains(a.Evidence, "counted in the loaded module") {
			t.Errorf("%+v", a)
		}
	}
	if a := oracle(t, "m", loaded).Global("own"); !a.Known || a.Pos != 0 || strings.Contains(a.Evidence, "loaded") {
		t.Errorf("%+v", a)
	}
}

// TestMadeLocal: a global symbol of an object may be a local one of the kernel. Its namesakes have to be local, too, and somebody
// has to know which one it is.
func TestMadeLocal(t *testing.T) {
	f := obj(t, "b.o", row{"FILE", "b.c", 0, 0, ""}, row{"gf", "g", 0, 16, ".text.g"}, row{"lf", "b1", 0, 16, ".text.b1"})
	rows := func(first, second string) []row {
		return []row{{"FILE", "a.c", 0, 0, ""}, {first, "g", 0x100, 16, ""}, {"lf", "a1", 0x110, 16, ""}, {"FILE", "b.c", 0, 0, ""}, {second, "g", 0x200, 16, ""}, {"lf", "b1", 0x210, 16, ""}}
	}
	at := func(addr uint64) *symbols.Located {
		return &symbols.Located{Source: "run-pre", File: f, Addr: map[object.SymID]uint64{symbol(t, f, "g"): addr}}
	}
	for _, c := range []struct {
		name    string
		sources []symbols.Source
		pos     int
		text    string
	}{
		{"nobody knows", []symbols.Source{kernel("k", rows("lf", "lf")...)}, -1, "(0 are"},
		{"somebody does", []symbols.Source{kernel("k", rows("lf", "lf")...), at(base + 0x200)}, 2, "run-pre puts it at"},
		{"the first", []symbols.Source{kernel("k", rows("lf", "lf")...), at(base + 0x100)}, 1, "run-pre puts it at"},
		{"one is global", []symbols.Source{kernel("k", rows("lf", "gf")...), at(base + 0x100)}, 2, "only global"},
		{"two are", []symbols.Source{kernel("k", rows("gf", "gf")...), at(base + 0x100)}, -1, "(2 are"},
	} {
		o, _ := symbols.NewOracle("vmlinux", c.sources...)
		if want(t, o.Position(f, symbol(t, f, "g")), c.pos, c.text); t.Failed() {
			t.Fatal(c.name)
		}
	}
}

// TestRunLimits: what may lie between an object's own symbols, and what may not.
func TestRunLimits(t *testing.T) {
	const none = "no symbol of this name in kallsyms lies between"
	f := obj(t, "b.o", row{"lf", "b1", 0, 16, ".text.b1"}, row{"lf", "dup", 0, 16, ".text.dup"}, row{"lf", "b2", 0, 16, ".text.b2"}, row{"lf", "c1", 0, 16, ".text.unlikely.c1"}, row{"lf", "twice", 0, 16, ".text.x"}, row{"lf", "twice", 0, 16, ".text.y"},
		row{"wf", "w", 0, 16, ".text.w"})
	for _, c := range []struct {
		name, text, sym string
		pos             int
		why             string
	}{
		{"between", "0 t dup\n0 t b1\n0 t dup\n0 t b2\n0 t c1\n0 t twice\n", "dup", 2, "between b1 and b2"},
		{"the other order", "0 t dup\n0 t b2\n0 t dup\n0 t b1\n0 t c1\n0 t twice\n", "dup", 2, "between b2 and b1"},
		{"its own padding", "0 t dup\n0 t b1\n0 t __cfi_dup\n0 t __pfx_dup\n0 t dup\n0 t __pfx_b2\n0 t b2\n0 t c1\n0 t twice\n", "dup", 2, "between b1 and b2"},
		{"padding of another", "0 t dup\n0 t b1\n0 t __pfx_x\n0 t dup\n0 t b2\n0 t c1\n0 t twice\n", "dup", -1, none},
		{"much padding", "0 t dup\n0 t b1\n" + strings.Repeat("0 t __pfx_b1\n", 7) + "0 t dup\n0 t b2\n0 t c1\n0 t twice\n", "dup", 2, "between"},
		{"too much padding", "0 t dup\n0 t b1\n" + strings.Repeat("0 t __pfx_b1\n", 8) + "0 t dup\n0 t b2\n0 t c1\n0 t twice\n", "dup", -1, none},
		{"another between, with a short name", "0 t dup\n0 t b1\n0 t x\n0 t dup\n0 t __pfx_b2\n0 t b2\n0 t c1\n0 t twice\n", "dup", -1, none},
		{"of another region", "0 t dup\n0 t b1\n0 t dup\n0 t c1\n0 t x\n0 t b2\n0 t twice\n", "dup", -1, none},
		{"the first of the object", "0 t dup\n0 t b1\n0 t b2\n0 t c1\n0 t x\n0 t dup\n0 t twice\n", "dup", -1, none},
		{"the last of the object", "0 t b1\n0 t b2\n0 t dup\n0 t x\n0 t dup\n0 t c1\n0 t twice\n", "dup", -1, none},
		{"a weak end", "0 t dup\n0 t b1\n0 t dup\n0 W w\n0 t x\n0 t b2\n0 t c1\n0 t twice\n", "dup", -1, none},
		{"the object has two", "0 t twice\n0 t b1\n0 t twice\n0 t b2\n0 t c1\n0 t dup\n", "twice", -1, "the object itself has 2 symbols of this name"},
		{"a size that does not fit", "1 t dup\n1000 t b1\n1014 t dup\n1018 t b2\n1020 t c1\n1030 t twice\n", "dup", -1, "has another size"},
	} {
		ts, err := symbols.ParseKallsyms("kallsyms", []byte(c.text))
		if err != nil {
			t.Fatal(err)
		}
		o, _ := symbols.NewOracle("vmlinux", ts[0])
		if want(t, o.Position(f, symbol(t, f, c.sym)), c.pos, c.why); t.Failed() {
			t.Fatal(c.name)
		}
	}
}

// TestSymIDs: the two lists have to be of one kind, and each entry's symbol its own.
func TestSymIDs(t *testing.T) {
	type list struct {
		section string
		typ     elf.SectionType
		words   []uint64 // id and address, in turn
		tail    int      // bytes behind them
		rels    []object.Reloc
	}
	file := func(name string, l list) *object.File {
		b := object.NewBuilder(object.Header{Type: elf.ET_REL})
		var data []byte
		for _, w := range l.words {
			data = binary.LittleEndian.AppendUint64(data, w)
		}
		data = append(data, make([]byte, l.tail)...)
		sec := b.AddSection(object.BuildSection{Name: l.section, Type: l.typ, Addralign: 8, Data: data})
		for _, n := range []string{"a", "b"} {
			b.AddSymbol(object.BuildSymbol{Name: n, Info: byte(elf.STB_GLOBAL) << 4})
		}
		for _, r := range l.rels {
			b.AddReloc(sec, r)
		}
		text, err := b.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return parseObject(t, name, text)
	}
	const r64 = elf.R_X86_64_64
	for _, c := range []struct {
		name string
		edit func(orig, linked *list)
		want string
	}{
		{"good", func(_, _ *list) {}, ""},
		{"in another order", func(_, l *list) { l.words = []uint64{8, 0x2000, 7, 0x1000} }, ""},
		{"more than asked for", func(o, l *list) { l.words[2] = 9; o.words[2] = 9 }, ""},
		{"none in the object", func(o, _ *list) { o.section = "other" }, "vmlinux.o: 0x0: error: no section .klp.symid"},
		{"none in the kernel", func(_, l *list) { l.section = "other" }, "vmlinux: 0x0: error: no section .klp.symid"},
		{"of another type", func(_, l *list) { l.typ = elf.SHT_NOTE }, "vmlinux: 0x0: error: no section .klp.symid"},
		{"cut, in the object", func(o, _ *list) { o.tail = 8 }, "not a list of entries of 16 bytes"},
		{"cut, in the kernel", func(_, l *list) { l.tail = 1 }, "not a list of entries of 16 bytes"},
		{"shorter", func(_, l *list) { l.words = l.words[:2] }, "has 1 entries, that of vmlinux.o has 2"},
		{"an id twice", func(_, l *list) { l.words[2] = 7 }, "0x10: error: .klp.symid: id 7 stands twice"},
		{"an id that the kernel lacks", func(_, l *list) { l.words[2] = 9 }, "0x10: error: .klp.symid: vmlinux lacks id 8"},
		{"a relocation less", func(o, _ *list) { o.rels = o.rels[:1] }, "has 2 entries and 1 relocations"},
		{"a relocation of an id", func(o, _ *list) { o.rels[1].Off = 16 }, "relocation 1 is not the address of entry 1"},
		{"of another type of relocation", func(o, _ *list) { o.rels[0].Type = elf.R_X86_64_PC64 }, "relocation 0 is not the address of entry 0"},
		{"beside a symbol", func(o, _ *list) { o.rels[0].Addend = 4 }, "relocation 0 is not the address of entry 0"},
		{"a symbol twice", func(o, _ *list) { o.rels[1].Sym = o.rels[0].Sym }, "0x18: error: .klp.symid: symbol 1 stands twice"},
	} {
		orig := list{".klp.symid", elf.SHT_PROGBITS, []uint64{7, 0, 8, 0}, 0, []object.Reloc{{Off: 8, Type: r64, Sym: 1}, {Off: 24, Type: r64, Sym: 2}}}
		linked := list{".klp.symid", elf.SHT_PROGBITS, []uint64{7, 0x1000, 8, 0x2000}, 0, nil}
		c.edit(&orig, &linked)
		l, err := symbols.SymIDs(file("vmlinux.o", orig), file("vmlinux", linked))
		switch {
		case c.want != "":
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %s", c.name, err, c.want)
			}
		case err != nil || len(l.Addr) != 2 || l.Addr[1] != 0x1000 || l.Addr[2] != 0x2000:
			t.Errorf("%s: %+v, %v", c.name, l, err)
		}
	}
}
