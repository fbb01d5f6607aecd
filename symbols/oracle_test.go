package symbols_test

import (
	"debug/elf"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/symbols"
)

// readelfText prints a table as readelf -s --wide does.
func readelfText(t *symbols.Table) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "\nSymbol table '.symtab' contains %d entries:\n   Num:    Value          Size Type    Bind   Vis      Ndx Name\n", len(t.Entries))
	for i := range t.Entries {
		e := &t.Entries[i]
		ndx := fmt.Sprint(e.Sec)
		switch {
		case e.Flags&symbols.EntryUndefined != 0:
			ndx = "UND"
		case e.Flags&symbols.EntryAbs != 0 || elf.SymType(e.Type) == elf.STT_FILE:
			ndx = "ABS"
		}
		fmt.Fprintf(&b, "%6d: %016x %5d %-7s %-6s DEFAULT %4s %s\n", i, e.Addr, e.Size, t.TypeName(e), t.BindName(e), ndx, e.Name)
	}
	return []byte(b.String())
}

// row is a symbol of a test's table: binding and type as readelf abbreviates them.
type row struct {
	kind string // FILE, or l/g/w and f/o/n: lf is a local function
	name string
	addr uint64
	size uint64
	sec  string
}

const base = 0xffffffff81000000

// kernel makes a linked vmlinux's table of rows.
func kernel(name string, rows ...row) *symbols.Table {
	var b strings.Builder
	b.WriteString("Symbol table '.symtab' contains 1 entries:\n")
	for i, r := range rows {
		if r.kind == "FILE" {
			fmt.Fprintf(&b, "%d: 0 0 FILE LOCAL DEFAULT ABS %s\n", i, r.name)
			continue
		}
		bind := map[byte]string{'l': "LOCAL", 'g': "GLOBAL", 'w': "WEAK"}[r.kind[0]]
		typ := map[byte]string{'f': "FUNC", 'o': "OBJECT", 'n': "NOTYPE"}[r.kind[1]]
		fmt.Fprintf(&b, "%d: %x %d %s %s DEFAULT 1 %s\n", i, base+r.addr, r.size, typ, bind, r.name)
	}
	t, err := symbols.ParseReadelf(name, symbols.Vmlinux, []byte(b.String()))
	if err != nil {
		panic(err)
	}
	return t
}

// obj makes an object of rows; addr counts in the section, .text when none is named. A section is as long as its symbols.
func obj(t testing.TB, name string, rows ...row) *object.File {
	t.Helper()
	b := object.NewBuilder(object.Header{Type: elf.ET_REL})
	b.Name = name
	secs := map[string]object.SecID{}
	size := map[string]uint64{}
	var order []string
	for i := range rows {
		r := &rows[i]
		if r.kind == "FILE" {
			continue
		}
		if r.sec == "" {
			r.sec = ".text"
		}
		if _, ok := size[r.sec]; !ok {
			order = append(order, r.sec)
		}
		size[r.sec] = max(size[r.sec], r.addr+r.size, 1)
	}
	for _, s := range order {
		fl := elf.SHF_ALLOC
		if strings.Contains(s, "text") {
			fl |= elf.SHF_EXECINSTR
		}
		secs[s] = b.AddSection(object.BuildSection{Name: s, Type: elf.SHT_PROGBITS, Flags: fl, Addralign: 16, Data: make([]byte, size[s]), Size: size[s]})
	}
	for _, r := range rows {
		if r.kind == "FILE" {
			b.AddSymbol(object.BuildSymbol{Name: r.name, Shndx: elf.SHN_ABS, Info: byte(elf.STT_FILE)})
			continue
		}
		bind := map[byte]elf.SymBind{'l': 0, 'g': 1, 'w': 2}[r.kind[0]]
		typ := map[byte]elf.SymType{'f': 2, 'o': 1, 'n': 0}[r.kind[1]]
		b.AddSymbol(object.BuildSymbol{Name: r.name, Value: r.addr, Size: r.size, Sec: secs[r.sec], Info: byte(bind)<<4 | byte(typ)})
	}
	data, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return parseObject(t, name, data)
}

func symbol(t testing.TB, f *object.File, name string) object.SymID {
	t.Helper()
	for i := range f.Symbols {
		if f.Symbols[i].Name == name && f.Symbols[i].Type() != elf.STT_FILE {
			return object.SymID(i)
		}
	}
	t.Fatalf("%s has no %s", f.Name, name)
	return 0
}

// want checks an answer: a position, or -1 and a part of the reason.
func want(t *testing.T, a symbols.Answer, pos int, text string) {
	t.Helper()
	if a.Known != (pos >= 0) || a.Known && a.Pos != uint64(pos) || !strings.Contains(a.Evidence, text) {
		t.Errorf("got %+v, want %d with %q", a, pos, text)
	}
}

func oracle(t *testing.T, name string, sources ...symbols.Source) *symbols.Oracle {
	t.Helper()
	o, ds := symbols.NewOracle(name, sources...)
	for _, d := range ds {
		t.Error(d)
	}
	return o
}

func TestParseReadelf(t *testing.T) {
	long := "_R" + strings.Repeat("NvCs_abcdefghij", 400)
	text := "\nFile: vmlinux\n\nSymbol table '.dynsym' contains 2 entries:\n   Num:    Value          Size Type    Bind   Vis      Ndx Name\n" +
		"     0: 0000000000000000     0 NOTYPE  LOCAL  DEFAULT  UND \n" +
		"     1: ffffffff81000000    10 FUNC    GLOBAL DEFAULT    1 not_this@VERS (2)\n" +
		"\nSymbol table '.symtab' contains 12 entries:\n   Num:    Value          Size Type    Bind   Vis      Ndx Name\n" +
		"     0: 0000000000000000     0 NOTYPE  LOCAL  DEFAULT  UND \n" +
		"     1: 0000000000000000     0 FILE    LOCAL  DEFAULT  ABS a.c\n" +
		"     2: ffffffff81000000 0x1234f FUNC    LOCAL  DEFAULT    1 hex_size\n" +
		"     3: ffffffff81000010   100 FUNC    GLOBAL DEFAULT [<localentry>: 8]     1 ppc_new\n" +
		"     4: ffffffff81000020   100 FUNC    GLOBAL DEFAULT    1 ppc_old [<localentry>: 8]\r\n" +
		"     5: ffffffff81000030   100 <OS specific>: 12 <processor specific>: 13 HIDDEN    1 strange\n" +
		"     6: ffffffff81000040   100 FANCY   UNIQUE PROTECTED    1 words\n" +
		"     7: ffffffff81000050     0 FUNC    LOCAL  DEFAULT    1 " + long + "\n" +
		"     8: 0000000000000000     0 FUNC    GLOBAL DEFAULT OS [0xff20] .klp.sym.vmlinux.f,1\n" +
		"     9: ffffffff81000060     0 FUNC    LOCAL  DEFAULT    1 std::vector<int, std::allocator<int> >::f(int)\n" +
		"    10: 0000000000000000     0 FILE    LOCAL  DEFAULT  ABS \n" +
		"    11: ffffffff81000070     0 SECTION LOCAL  DEFAULT    2 .init.text\n"
	tab, err := symbols.ParseReadelf("t", "vmlinux", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range tab.Entries {
		e := &tab.Entries[i]
		file := "-"
		if e.File >= 0 {
			file = tab.Blocks[e.File].Name
		}
		got = append(got, fmt.Sprintf("%s %d %s %s %s", e.Name, e.Size, tab.TypeName(e), tab.BindName(e), file))
	}
	wanted := []string{" 0 NOTYPE LOCAL -", "a.c 0 FILE LOCAL -", "hex_size 74575 FUNC LOCAL a.c", "ppc_new 100 FUNC GLOBAL -", "ppc_old 100 FUNC GLOBAL -",
		"strange 100 " + strings.TrimPrefix(elf.SymType(12).String(), "STT_") + " " + strings.TrimPrefix(elf.SymBind(13).String(), "STB_") + " -", "words 100 FANCY " + strings.TrimPrefix(elf.SymBind(10).String(), "STB_") + " -", long + " 0 FUNC LOCAL a.c",
		".klp.sym.vmlinux.f,1 0 FUNC GLOBAL -", "std::vector<int, std::allocator<int> >::f(int) 0 FUNC LOCAL a.c", " 0 FILE LOCAL -", ".init.text 0 SECTION LOCAL -"}
	if !slices.Equal(got, wanted) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(wanted, "\n"))
	}
	if tab.Order != symbols.ByAddress || len(tab.Blocks) != 2 || tab.Blocks[0].End != 10 {
		t.Errorf("order %d, blocks %v", tab.Order, tab.Blocks)
	}
}

func TestParsers_Errors(t *testing.T) {
	readelf := func(b []byte) error { _, err := symbols.ParseReadelf("x", "vmlinux", b); return err }
	kallsyms := func(b []byte) error { _, err := symbols.ParseKallsyms("x", b); return err }
	sysmap := func(b []byte) error { _, err := symbols.ParseSystemMap("x", b); return err }
	symvers := func(b []byte) error { _, err := symbols.ParseSymvers("x", b); return err }
	for _, c := range []struct {
		name  string
		parse func([]byte) error
		text  string
		want  string
	}{
		{"empty", readelf, "", "no symbol in it"},
		{"not readelf", readelf, "ffffffff81000000 T _text\n", "no symbol in it"},
		{"value", readelf, "h\n 1: zz 0 FUNC LOCAL DEFAULT 1 f\n", "line 2: the value \"zz\""},
		{"size", readelf, " 1: 0 0xzz FUNC LOCAL DEFAULT 1 f\n", "line 1: the size"},
		{"short", readelf, " 1: 0 0 FUNC LOCAL DEFAULT\n", "line 1: it has fewer"},
		{"cut name", readelf, " 1: 0 0 FUNC LOCAL DEFAULT 1 a_long_na[...]\n", "--wide"},
		{"two tables", readelf, "Symbol table '.symtab' contains 1 entries:\n 1: 0 0 FUNC LOCAL DEFAULT 1 f\nSymbol table '.symtab' contains", "a second symbol table"},
		{"empty", kallsyms, "\n\n", "no symbol"},
		{"address", kallsyms, "0 T a\nxyz T _text\n", "line 2: the address"},
		{"letter", kallsyms, "0 TT _text\n", "no letter"},
		{"no nm letter", kallsyms, "0 5 _text\n", "is none of nm's"},
		{"no name", kallsyms, "0 T \n", "no name"},
		{"module", kallsyms, "0 T a\tmod\n", "not in brackets"},
		{"columns", kallsyms, "0 T a b\n", "more than three"},
		{"stub", sysmap, "ffffffffffffffff B The real System.map is in the linux-image-<version>-dbg package\n", "a stub"},
		{"module", sysmap, "0 T a\t[m]\n", "no module's symbols"},
		{"columns", symvers, "0x1\ta\n", "2 columns"},
		{"crc", symvers, "0xzz\ta\tvmlinux\n", "the checksum"},
		{"crc width", symvers, "0x123456789\ta\tvmlinux\n", "the checksum"},
		{"no module", symvers, "0x1\ta\tb\n", "no column holds"},
		{"short line", symvers, "0x1\ta\tns\tvmlinux\tEXPORT_SYMBOL\n0x2\tb\tvmlinux\n", "line 2: no column 4"},
	} {
		err := c.parse([]byte(c.text))
		var de *diag.Error
		if err == nil || !strings.Contains(err.Error(), c.want) || !errors.As(err, &de) || de.Diagnostics[0].Code != diag.SymbolsMalformed || !de.Diagnostics[0].Place.HasOffset {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// One entry more than the limit is refused with a code of its own; as many as it are not.
func TestLimits(t *testing.T) {
	for _, c := range []struct {
		name  string
		text  string // three entries
		parse func(o symbols.Options, text []byte) error
	}{
		{"readelf", " 1: 0 0 FUNC LOCAL DEFAULT 1 f\n 2: 0 0 FUNC LOCAL DEFAULT 1 g\n 3: 0 0 FUNC LOCAL DEFAULT 1 h\n", func(o symbols.Options, text []byte) error {
			_, err := o.ParseReadelf("x", "vmlinux", text)
			return err
		}},
		{"kallsyms", "0 T f\n0 T g\n\n0 T h\t[mod]\n", func(o symbols.Options, text []byte) error {
			_, err := o.ParseKallsyms("x", text)
			return err
		}},
		{"System.map", "0 T f\n0 T g\n0 T h\n", func(o symbols.Options, text []byte) error {
			_, err := o.ParseSystemMap("x", text)
			return err
		}},
		{"Module.symvers", "0x1\tf\tvmlinux\n0x2\tg\tvmlinux\n0x3\th\tvmlinux\n", func(o symbols.Options, text []byte) error {
			_, err := o.ParseSymvers("x", text)
			return err
		}},
	} {
		for _, limit := range []int{0, 3, math.MaxInt} {
			if err := c.parse(symbols.Options{MaxEntries: limit}, []byte(c.text)); err != nil {
				t.Errorf("%s, limit %d: %v", c.name, limit, err)
			}
		}
		err := c.parse(symbols.Options{MaxEntries: 2}, []byte(c.text))
		var de *diag.Error
		if !errors.As(err, &de) || len(de.Diagnostics) != 1 || de.Diagnostics[0].Code != diag.SymbolsLimit || !de.Diagnostics[0].Place.HasOffset || !strings.Contains(err.Error(), "more than 2 entries") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	_, err := symbols.FromKallsyms("x", "vmlinux", 1<<28+1, func(int) (uint64, byte, string) { panic("asked for a symbol") })
	var de *diag.Error
	if !errors.As(err, &de) || de.Diagnostics[0].Code != diag.SymbolsLimit {
		t.Error(err)
	}
}

func TestParseKallsyms(t *testing.T) {
	ts, err := symbols.ParseKallsyms("k", []byte("0000000000000000 A per_cpu\n0000000000000000 T _text\n0000000000000000 t f\n0000000000000000 W w\n"+
		"0000000000000000 t f\t[snd-hda]\n0000000000000000 d g\t[snd_hda]\n0000000000000000 t h [other]\n0000000000000000 t bpf_prog\t[bpf]\n"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, tab := range ts {
		got = append(got, fmt.Sprintf("%s %d %v", tab.Object, len(tab.Entries), tab.Core))
	}
	if w := []string{"vmlinux 4 false", "snd_hda 1 true", "snd_hda 1 true", "other 1 true", "bpf 1 true"}; !slices.Equal(got, w) {
		t.Errorf("got %q, want %q", got, w)
	}
	if e := ts[0].Entries; e[0].Local() || e[0].Global() || !e[1].Global() || !e[2].Local() || !e[3].Global() {
		t.Errorf("bindings: %+v", e)
	}
	// Lines that somebody sorted by name come back into the order of addresses.
	ts, err = symbols.ParseKallsyms("k", []byte("30 t a\n10 t b\n20 t a\n"))
	if err != nil || ts[0].Order != symbols.ByAddress {
		t.Fatal(err, ts[0].Order)
	}
	if got := symbols.Sequence(ts[0]); !slices.Equal(got, []string{"b", "a", "a"}) {
		t.Error(got)
	}
}

func TestParseSymvers(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"three columns", "0x1\ta\tvmlinux\n0x2\tb\tdrivers/x/y-z\n", "a vmlinux   1|b y_z   2"},
		{"type", "0x1\ta\tvmlinux\tEXPORT_SYMBOL\n0x2\tb\tdrivers/x/y-z\tEXPORT_SYMBOL_GPL\n", "a vmlinux EXPORT_SYMBOL  1|b y_z EXPORT_SYMBOL_GPL  2"},
		{"namespace first", "0x1\ta\t\tvmlinux\tEXPORT_SYMBOL\n0x2\tb\tNS\tdrivers/x/y-z\tEXPORT_SYMBOL_GPL\n", "a vmlinux EXPORT_SYMBOL  1|b y_z EXPORT_SYMBOL_GPL NS 2"},
		{"namespace last", "0x1\ta\tvmlinux\tEXPORT_SYMBOL\t\n0x2\tb\tdrivers/x/y-z\tEXPORT_SYMBOL_GPL\tNS\n", "a vmlinux EXPORT_SYMBOL  1|b y_z EXPORT_SYMBOL_GPL NS 2"},
		{"external, a path", "0xff\ta\t/home/u/my-mod.ko\tEXPORT_SYMBOL\t\n", "a my_mod EXPORT_SYMBOL  255"},
		{"external, a bare name", "0x0\ta\tmy-mod\tEXPORT_SYMBOL\t\n", "a my_mod EXPORT_SYMBOL  0"},
		{"empty", "", ""},
	} {
		s, err := symbols.ParseSymvers(c.name, []byte(c.text))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got []string
		for _, e := range s.Exports {
			got = append(got, fmt.Sprintf("%s %s %s %s %d", e.Symbol, e.Module, e.Type, e.Namespace, e.CRC))
		}
		if strings.Join(got, "|") != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	s, err := symbols.ParseSymvers("twice", []byte("1\ta\tvmlinux\n2\tb\tm/x\n2\tb\tm/x\n3\tc\tm/x\n3\tc\tm/y\n"))
	if err != nil {
		t.Fatal(err)
	}
	set := symbols.NewSet(s)
	for name, w := range map[string]string{"a": "vmlinux", "b": "x", "c": "", "d": ""} {
		if m, ok := set.Exporter(name); m != w || ok != (w != "") {
			t.Errorf("%s is exported by %q", name, m)
		}
	}
	if !s.Ambiguous("c") {
		t.Error("c has two exporters")
	}
}

// TestSymversOfDebian reads the real ones.
func TestSymversOfDebian(t *testing.T) {
	s, err := symbols.ParseSymvers("Module.symvers", unpack(t, shared(t, "fixes", "Module.symvers-6.1.0-50-amd64.xz"), "xz", "-dc"))
	if err != nil {
		t.Fatal(err)
	}
	e, ok := s.Lookup("phys_base")
	if !ok || e.CRC != 0x4c9d28b0 || e.Module != "vmlinux" || e.Type != "EXPORT_SYMBOL" || e.Namespace != "" {
		t.Errorf("%+v", e)
	}
	t.Logf("%d exports", len(s.Exports))
}

// TestVmlinuxCounts is how the kernel counts its own symbols: by address, whatever the binding and type,
// without what kallsyms hides (spec/kpatch.md 16.10, spec/klp.md H12).
func TestVmlinuxCounts(t *testing.T) {
	k := kernel("vmlinux",
		row{"FILE", "a.c", 0, 0, ""}, row{"lf", "dup", 0x300, 16, ""}, row{"lf", "only", 0x310, 16, ""}, row{"lo", "mixed", 0x900, 8, ""}, row{"lf", "twin", 0x700, 0, ""},
		row{"FILE", "b.c", 0, 0, ""}, row{"lf", "dup", 0x100, 16, ""}, row{"lf", "glob", 0x110, 16, ""}, row{"lf", "own_b", 0x120, 16, ""}, row{"lf", "twin", 0x700, 0, ""},
		row{"ln", "__crc_dup", 1, 0, ""}, row{"ln", ".Ldup", 2, 0, ""}, row{"lf", "two", 0x210, 16, ""},
		row{"gf", "glob", 0x500, 16, ""}, row{"gf", "mixed", 0x800, 16, ""}, row{"wf", "weak", 0x600, 16, ""}, row{"gf", "two", 0x220, 16, ""}, row{"gf", "two", 0x230, 16, ""})
	o := oracle(t, "vmlinux", k)
	f := obj(t, "a.o", row{"FILE", "a.c", 0, 0, ""}, row{"lf", "dup", 0, 16, ""}, row{"lf", "only", 16, 16, ""}, row{"lo", "mixed", 0, 8, ".data"}, row{"lf", "twin", 32, 0, ".text.twin"},
		row{"lf", "gone", 48, 16, ""}, row{"lo", "__UNIQUE_ID___addressable_x1", 0, 8, ".discard.addressable"}, row{"ln", "__crc_dup", 48, 0, ""}, row{"gf", "glob", 64, 16, ""}, row{"gf", "weak", 80, 16, ""}, row{"gf", "two", 96, 16, ""})
	for _, c := range []struct {
		name string
		pos  int
		text string
	}{
		{"dup", 2, "file a.c"},
		{"only", 0, "the only symbol of this name"},
		{"mixed", 2, "file a.c"},   // a global function before a local variable
		{"twin", 1, "file a.c"},    // two at one address: the kernel finds the same thing by either number
		{"glob", 2, "only global"}, // H12: 0 would be ambiguous
		{"weak", 0, "the only symbol"},
		{"two", -1, "does not tell which one is global (2 are"},
		{"gone", -1, "has no symbol of this name"},
		{"__crc_dup", -1, "leaves names of this kind out"},
	} {
		t.Run(c.name, func(t *testing.T) { want(t, o.Position(f, symbol(t, f, c.name)), c.pos, c.text) })
	}
	want(t, o.Position(f, 0), -1, "no symbol 0")
	if !o.Has("dup") || o.Has("__crc_dup") || o.Has("nothing") {
		t.Error("Has")
	}
	if d := o.Place(f).Diagnostics; len(d) != 1 || d[0].Code != diag.SymbolsMismatch || !strings.HasPrefix(d[0].Message, "1 of its 5 local") {
		t.Error(d)
	}
}

// TestGlobalByLetter: kallsyms tells global from local by the case of the letter, but not for per-CPU symbols.
func TestGlobalByLetter(t *testing.T) {
	ts, err := symbols.ParseKallsyms("kallsyms", []byte("0 t f\n0 T f\n0 t f\n0 A p\n0 d p\n0 D p\n0 d l\n0 d l\n"))
	if err != nil {
		t.Fatal(err)
	}
	o := oracle(t, "vmlinux", ts[0])
	want(t, o.Global("f"), 2, "only global one of 3")
	want(t, o.Global("p"), -1, "1 may be")
	want(t, o.Global("l"), -1, "(0 are")
}

// TestModuleCounts: a module's symbols count in the order of its symbol table, and those of .init only while it loads (H13, spec/kpatch.md 16.10b).
func TestModuleCounts(t *testing.T) {
	f := obj(t, "m.ko",
		row{"FILE", "a.c", 0, 0, ""}, row{"lf", "f", 0, 16, ".text.f"}, row{"lf", "early", 0, 16, ".init.text"}, row{"lf", "late", 16, 16, ".text"}, row{"lf", "init_only", 16, 16, ".init.text"},
		row{"FILE", "b.c", 0, 0, ""}, row{"lf", "f", 0, 16, ".text.g"}, row{"lf", "early", 32, 16, ".text"}, row{"lf", "late", 48, 16, ".init.text"}, row{"lf", "b_own", 64, 16, ".text"})
	o := oracle(t, "m", symbols.FromELF(f, "m.ko"))
	ids := map[string][]object.SymID{}
	for i := range f.Symbols {
		ids[f.Symbols[i].Name] = append(ids[f.Symbols[i].Name], object.SymID(i))
	}
	p := o.Place(f)
	want(t, p.Position(ids["f"][0]), 1, "file a.c")
	want(t, p.Position(ids["f"][1]), 2, "file b.c") // both have value 0
	want(t, p.Position(ids["early"][1]), -1, "while the module loads it is the 2-th of its name, later the 1-th")
	want(t, p.Position(ids["late"][0]), 1, "file a.c") // first in both tables
	want(t, p.Position(ids["late"][1]), -1, "loses it")
	want(t, p.Position(ids["init_only"][0]), -1, "loses it")
	want(t, p.Position(ids["b_own"][0]), 0, "only symbol")
	// The loaded module, as kallsyms has it, counts without init symbols; the two agree.
	ts, err := symbols.ParseKallsyms("kallsyms", []byte("0 T x\n0 t f\t[m]\n0 t late\t[m]\n0 t f\t[m]\n0 t early\t[m]\n0 t b_own\t[m]\n"))
	if err != nil {
		t.Fatal(err)
	}
	o = oracle(t, "m", symbols.FromELF(f, "m.ko"), ts[0], ts[1])
	p = o.Place(f)
	want(t, p.Position(ids["f"][1]), 2, "file b.c")
	want(t, p.Position(ids["late"][0]), 1, "")
}

// TestFiles is about choosing among files of one name.
func TestFiles(t *testing.T) {
	a := []row{{"FILE", "core.c", 0, 0, ""}, {"lf", "dup", 0xe0, 16, ""}, {"lf", "a1", 0x110, 16, ""}, {"lf", "a2", 0x120, 16, ""}, {"lf", "a3", 0x130, 16, ""}, {"lf", "a4", 0x140, 16, ""}}
	b := []row{{"FILE", "core.c", 0, 0, ""}, {"lf", "dup", 0x200, 16, ""}, {"lf", "b1", 0x210, 16, ""}, {"lf", "b2", 0x220, 16, ""}, {"lf", "b3", 0x230, 16, ""}, {"lf", "b4", 0x240, 16, ""}}
	inA := func(extra ...row) *object.File {
		rows := []row{{"FILE", "core.c", 0, 0, ""}, {"lf", "a1", 0, 16, ".text.a1"}, {"lf", "a2", 0, 16, ".text.a2"}, {"lf", "a3", 0, 16, ".text.a3"}, {"lf", "a4", 0, 16, ".text.a4"}, {"lf", "dup", 0, 16, ".text.dup"}}
		return obj(t, "core.o", append(rows, extra...)...)
	}
	join := func(rs ...[]row) []row { return slices.Concat(rs...) }
	twin := func(addr uint64) []row {
		return []row{{"FILE", "core.c", 0, 0, ""}, {"lf", "dup", addr, 16, ""}, {"lf", "same", addr + 16, 16, ""}}
	}
	for _, c := range []struct {
		name   string
		kernel []row
		f      *object.File
		pos    int
		text   string
	}{
		{"a path", join([]row{{"FILE", "/build/kernel/core.c", 0, 0, ""}}, a[1:], b), inA(), 1, "5 common"},
		{"in order", join(a, b), inA(), 1, "5 common local names, 0 missing, 0 more; next: 1 common"},
		{"swapped", join(b, a), inA(), 1, "5 common"},
		{"one missing in the kernel", join(a, b), inA(row{"lf", "new", 0, 16, ".text.new"}), 1, "5 common local names, 1 missing"},
		{"discarded does not count", join(a, b), inA(row{"lo", "__UNIQUE_ID___addressable_f12", 0, 8, ".data"}), 1, "0 missing"},
		{"one more in the kernel", join(a, []row{{"lf", "asm", 0x150, 4, ""}}, b), inA(), 1, "0 missing, 1 more"},
		{"no file of the name", join(b[1:], []row{{"FILE", "z.c", 0, 0, ""}}, a[1:]), inA(), -1, "has no file core.c"},
		{"too different", join(b, []row{{"FILE", "z.c", 0, 0, ""}, {"lf", "dup", 0x900, 16, ""}}), inA(), -1, "4 of the object's 5 local symbols"},
		{"equal", join(twin(0x100), twin(0x200)), obj(t, "core.o", row{"FILE", "core.c", 0, 0, ""}, row{"lf", "dup", 0, 16, ""}, row{"lf", "same", 16, 16, ""}), -1, "2 files called core.c of vmlinux match equally well"},
		{"another size", join(twin(0x100), []row{{"FILE", "core.c", 0, 0, ""}, {"lf", "dup", 0x200, 24, ""}, {"lf", "same", 0x220, 16, ""}}), obj(t, "core.o", row{"FILE", "core.c", 0, 0, ""}, row{"lf", "dup", 0, 24, ""}, row{"lf", "same", 32, 16, ""}), 2, "next: 2 common local names, 0 missing, 0 more, 1 of another size"},
		{"nearly as well", join(a, []row{{"lf", "x1", 0x150, 4, ""}}, a[:1], []row{{"lf", "dup", 0x300, 16, ""}, {"lf", "a1", 0x310, 16, ""}, {"lf", "a2", 0x320, 16, ""}, {"lf", "a3", 0x330, 16, ""}}), inA(), -1, "nearly as well"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want(t, oracle(t, "vmlinux", kernel("vmlinux", c.kernel...)).Position(c.f, symbol(t, c.f, "dup")), c.pos, c.text)
		})
	}
	// A unique name of another file is not the object's.
	k := kernel("vmlinux", join(a, []row{{"FILE", "other.c", 0, 0, ""}, {"lf", "inlined", 0x800, 16, ""}})...)
	f := inA(row{"lf", "inlined", 0, 16, ".text.inlined"})
	want(t, oracle(t, "vmlinux", k).Position(f, symbol(t, f, "inlined")), -1, "but not just this symbol in it")
	// An object of several files: the order of the known ones settles ties.
	z := func(n string, addr uint64) []row { return []row{{"FILE", n, 0, 0, ""}, {"lf", n + "_f", addr, 16, ""}} }
	k = kernel("vmlinux", join(z("x.c", 0x10), twin(0x100), z("y.c", 0x180), twin(0x200), z("z.c", 0x280))...)
	f = obj(t, "all.o", join(z("x.c", 0), []row{{"FILE", "core.c", 0, 0, ""}, {"lf", "dup", 0, 16, ".text.dup"}, {"lf", "same", 0, 16, ".text.same"}}, z("y.c", 0x20))...)
	want(t, oracle(t, "vmlinux", k).Position(f, symbol(t, f, "dup")), 1, "between the files before and after")
}

// TestRuns is about tables without files: no addresses, so only names and their order.
func TestRuns(t *testing.T) {
	f := obj(t, "b.o", row{"FILE", "b.c", 0, 0, ""}, row{"lf", "b1", 0, 16, ".text.b1"}, row{"lf", "dup", 0, 16, ".text.dup"}, row{"lf", "b2", 0, 16, ".text.b2"}, row{"gf", "b3", 0, 16, ".text.b3"},
		row{"lo", "data1", 0, 8, ".data.data1"}, row{"lo", "alone", 0, 8, ".bss.alone"})
	for _, c := range []struct {
		name, text, sym string
		pos             int
		why             string
	}{
		{"inside", "0 t dup\n0 t x\n0 t b1\n0 t dup\n0 t b2\n0 T b3\n0 t dup\n0 d data1\n", "dup", 2, "between b1 and b3, and all 4 symbols there are the object's"},
		{"prefixes", "0 t dup\n0 t x\n0 t __pfx_b1\n0 t b1\n0 t __pfx_dup\n0 t dup\n0 t __pfx_b2\n0 t b2\n0 t dup\n0 d data1\n", "dup", 2, "between b1 and b2"},
		{"edge", "0 t dup\n0 t b1\n0 t b2\n0 t x\n0 t dup\n0 d data1\n", "dup", -1, "no symbol of this name in kallsyms lies between"},
		{"foreign between", "0 t b1\n0 t x\n0 t dup\n0 t b2\n0 t dup\n0 d data1\n", "dup", -1, "lies between"},
		{"two inside", "0 t b1\n0 t dup\n0 t dup\n0 t b2\n0 d data1\n", "dup", -1, "2 symbols of this name in kallsyms lie among"},
		{"other kind", "0 t b1\n0 d dup\n0 t b2\n0 t dup\n0 d data1\n", "dup", -1, "lies between"},
		{"nothing unique", "0 t b1\n0 t dup\n0 t b2\n0 d data1\n0 b alone\n0 b x\n0 b alone\n", "alone", -1, "no symbol in this section that is unique"},
		{"wrong build", "0 t b1\n0 t dup\n0 t x\n0 t dup\n", "dup", -1, "3 of the object's 5 local symbols"},
		{"unique", "0 t b1\n0 t dup\n0 t b2\n0 d data1\n", "dup", 0, "only symbol"},
		{"unique, other kind", "0 t b1\n0 D dup\n0 t b2\n0 d data1\n", "dup", -1, "another kind"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ts, err := symbols.ParseKallsyms("kallsyms", []byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			want(t, oracle(t, "vmlinux", ts[0]).Position(f, symbol(t, f, c.sym)), c.pos, c.why)
		})
	}
	// A stock module: no FILE symbols; all local ones of an object stand together.
	ko := obj(t, "m.ko", row{"lf", "a1", 0, 16, ""}, row{"lf", "dup", 16, 16, ""}, row{"lf", "b1", 32, 16, ""}, row{"lf", "dup", 48, 16, ""}, row{"lf", "b2", 64, 16, ""}, row{"lo", "data1", 0, 8, ".data"}, row{"lo", "alone", 0, 8, ".bss"})
	want(t, oracle(t, "m", symbols.FromELF(ko, "m")).Position(f, symbol(t, f, "dup")), 2, "between b1 and alone")
}

// TestLayout places sections by address.
func TestLayout(t *testing.T) {
	whole := obj(t, "b.o", row{"lf", "dup", 0, 16, ""}, row{"lf", "b1", 16, 16, ""}, row{"lf", "dup2", 48, 16, ""})
	parts := obj(t, "b.o", row{"lf", "dup", 0, 16, ".text.dup"}, row{"lf", "b1", 0, 20, ".text.b1"}, row{"lf", "dup2", 0, 16, ".text.dup2"}, row{"lo", "__func__.0", 0, 4, ".rodata.__func__.0"})
	text := "1000 t dup\n1010 t b1\n1030 t dup2\n1040 t dup\n1050 t x\n1060 t dup2\n2000 r __func__.0\n2010 r __func__.0\n"
	ts, err := symbols.ParseKallsyms("kallsyms", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	o := oracle(t, "vmlinux", ts[0])
	want(t, o.Position(whole, symbol(t, whole, "dup")), 1, "b1, which is unique and in the same section")
	want(t, o.Position(whole, symbol(t, whole, "dup2")), 1, "")
	want(t, o.Position(parts, symbol(t, parts, "dup")), 1, "its section follows from that of b1")
	want(t, o.Position(parts, symbol(t, parts, "dup2")), 1, "its section follows")
	want(t, o.Position(parts, symbol(t, parts, "__func__.0")), -1, "no symbol in this section that is unique")
	moved := obj(t, "b.o", row{"lf", "dup", 0, 8, ".text.dup"}, row{"lf", "mid", 0, 40, ".text.mid"}, row{"lf", "b1", 0, 16, ".text.b1"})
	if a := o.Position(moved, symbol(t, moved, "dup")); a.Known {
		t.Errorf("a section that does not follow: %+v", a)
	}
}

// TestConflicts: sources that contradict each other are refused, and said when the Oracle is made.
func TestConflicts(t *testing.T) {
	rows := []row{{"FILE", "a.c", 0, 0, ""}, {"lf", "dup", 0x100, 16, ""}, {"lf", "a1", 0x110, 16, ""}, {"FILE", "b.c", 0, 0, ""}, {"lf", "dup", 0x200, 16, ""}, {"lf", "b1", 0x210, 16, ""}}
	f := obj(t, "b.o", row{"FILE", "b.c", 0, 0, ""}, row{"lf", "dup", 0, 16, ".text.dup"}, row{"lf", "b1", 0, 16, ".text.b1"})
	one := kernel("one", rows...)
	swapped := slices.Clone(rows)
	swapped[1].addr, swapped[2].addr = 0x300, 0x310
	two := kernel("two", swapped...)
	id := symbol(t, f, "dup")
	want(t, oracle(t, "vmlinux", one).Position(f, id), 2, "")
	want(t, oracle(t, "vmlinux", two).Position(f, id), 1, "")
	a := oracle(t, "vmlinux", one, two).Position(f, id)
	want(t, a, -1, "makes it number 2; two: file b.c")
	if a.Code != diag.SymposConflict || len(a.Candidates) != 2 || a.Candidates[1].File != "b.c" {
		t.Errorf("%+v", a)
	}
	// Another number of namesakes.
	three := kernel("three", append(slices.Clone(rows), row{"FILE", "c.c", 0, 0, ""}, row{"lf", "dup", 0x50, 16, ""})...)
	o, ds := symbols.NewOracle("vmlinux", one, three)
	if len(ds) != 1 || ds[0].Code != diag.SymposConflict || !strings.Contains(ds[0].Message, "dup (2 and 3)") {
		t.Error(ds)
	}
	if a := o.Position(f, id); a.Known || a.Code != diag.SymposConflict {
		t.Errorf("%+v", a)
	}
	// Another kernel altogether, and none.
	_, ds = symbols.NewOracle("vmlinux", one, kernel("other", row{"gf", "x", 0, 1, ""}, row{"gf", "y", 1, 1, ""}))
	if len(ds) != 1 || ds[0].Code != diag.SymbolsMismatch {
		t.Error(ds)
	}
	o, ds = symbols.NewOracle("nfs", one)
	if len(ds) != 1 || ds[0].Code != diag.SymbolsMismatch || o.Has("dup") {
		t.Error(ds)
	}
	// Evidence from outside, right and wrong.
	right := &symbols.Located{Source: "run-pre", File: f, Addr: map[object.SymID]uint64{id: base + 0x200}}
	wrong := &symbols.Located{Source: "run-pre", File: f, Addr: map[object.SymID]uint64{id: base + 0x100}}
	want(t, oracle(t, "vmlinux", one, right).Position(f, id), 2, "run-pre puts it at")
	want(t, oracle(t, "vmlinux", one, wrong).Position(f, id), -1, "run-pre puts it at")
	nowhere := &symbols.Located{Source: "run-pre", File: f, Addr: map[object.SymID]uint64{id: 5}}
	o, ds = symbols.NewOracle("vmlinux", one, nowhere)
	if len(ds) != 1 || ds[0].Code != diag.SymbolsMismatch {
		t.Error(ds)
	}
	want(t, o.Position(f, id), -1, "where no source has it")
}

// TestUnlinked: vmlinux.o tells which names are unique, and nothing about order.
func TestUnlinked(t *testing.T) {
	f := obj(t, "vmlinux.o", row{"FILE", "a.c", 0, 0, ""}, row{"lf", "dup", 0, 16, ".text.dup"}, row{"lf", "a1", 0, 16, ".text.a1"}, row{"FILE", "b.c", 0, 0, ""}, row{"lf", "dup", 16, 16, ".text.dup"}, row{"lf", "b1", 0, 16, ".text.b1"})
	o := oracle(t, "vmlinux", symbols.FromELF(f, "vmlinux.o"))
	want(t, o.Position(f, symbol(t, f, "a1")), 0, "")
	want(t, o.Position(f, symbol(t, f, "dup")), -1, "not linked yet")
	want(t, symbols.NewSet(nil, o).Answer("ext4", f, 1), -1, "no source has the symbols of ext4")
}

// TestReadelfIsELF: the two ways of reading a file agree.
func TestReadelfIsELF(t *testing.T) {
	f := obj(t, "m.ko", row{"FILE", "a.c", 0, 0, ""}, row{"lf", "f", 0, 16, ".text.f"}, row{"lo", "d", 8, 16, ".data"}, row{"FILE", "b.c", 0, 0, ""}, row{"lf", "f", 0, 16, ".text.g"}, row{"gf", "x", 0, 5, ".text.x"})
	a := symbols.FromELF(f, "m")
	b, err := symbols.ParseReadelf("m.ko", "m", readelfText(a))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(symbols.Sequence(a), symbols.Sequence(b)) || len(a.Entries) != len(b.Entries) || !slices.Equal(a.Blocks, b.Blocks) {
		t.Errorf("%+v\n%+v", a, b)
	}
	for i := range a.Entries {
		x, y := a.Entries[i], b.Entries[i]
		x.Flags, y.Flags = 0, 0
		if x != y {
			t.Errorf("%d: %+v and %+v", i, x, y)
		}
	}
}

// TestManyOfOneName: time stays near linear when everything has one name.
func TestManyOfOneName(t *testing.T) {
	const n = 30_000
	rows := make([]row, 0, 2*n)
	rows = append(rows, row{"FILE", "a.c", 0, 0, ""})
	for i := range n {
		rows = append(rows, row{"lf", "same", uint64(i) * 16, 16, ""})
		if i%3 == 0 {
			rows = append(rows, row{"FILE", "a.c", 0, 0, ""})
		}
	}
	f := obj(t, "m.ko", rows...)
	tab := kernel("vmlinux", rows...)
	start := time.Now()
	for _, name := range []string{"m", symbols.Vmlinux} {
		o, _ := symbols.NewOracle(name, symbols.FromELF(f, "m"), tab)
		p := o.Place(f)
		for i := range f.Symbols {
			p.Position(object.SymID(i))
		}
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("%v", d)
	} else {
		t.Log(d)
	}
}

// What a Set knows of exports, over all its sources; nil knows nothing.
func TestSetExports(t *testing.T) {
	symvers := func(text string) *symbols.Symvers {
		s, err := symbols.ParseSymvers("Module.symvers", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	a := symvers("0x1\tplain\tvmlinux\tEXPORT_SYMBOL\t\n0x2\tkvm_only\tvmlinux\tEXPORT_SYMBOL\tmodule:kvm\n0x3\ttwice\tvmlinux\tEXPORT_SYMBOL\t\n")
	b := symvers("0x4\tof_lib\tdrivers/my-lib\tEXPORT_SYMBOL_GPL\tLIB\n0x3\ttwice\tdrivers/my-lib\tEXPORT_SYMBOL\t\n")
	o, _ := symbols.NewOracle("mod", b)
	set := symbols.NewSet(a, o)
	for _, c := range []struct {
		name, module, ns    string
		ok, only, ambiguous bool
	}{
		{"plain", "vmlinux", "", true, false, false},
		{"kvm_only", "vmlinux", "module:kvm", true, true, false},
		{"of_lib", "my_lib", "LIB", true, false, false},
		{"twice", "", "", false, false, true},
		{"none", "", "", false, false, false},
	} {
		e, ok := set.Export(c.name)
		by, known := set.Exporter(c.name)
		if ok != c.ok || known != ok || e.Module != c.module || by != c.module || e.Namespace != c.ns || e.ModulesOnly() != c.only || set.Ambiguous(c.name) != c.ambiguous {
			t.Errorf("%s: %+v %v, %q %v, ambiguous %v", c.name, e, ok, by, known, set.Ambiguous(c.name))
		}
	}
	if !set.HasExports() || symbols.NewSet(symvers("")).HasExports() {
		t.Error("HasExports")
	}
	var none *symbols.Set
	if _, ok := none.Export("plain"); ok || none.HasExports() || none.Ambiguous("plain") || none.Oracle("vmlinux") != nil {
		t.Error("nil knows something")
	}
}
