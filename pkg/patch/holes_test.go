package patch

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/symbols"
)

// What objtool klp diff ("H") and kpatch's create-diff-object ("16.") get wrong when they
// write a patch, by the numbers of our notes on the two tools, each with the test
// that shows what is right. Those about comparing are in elfdiff/holes_test.go.
//
//	H4      zero-size .LC constants are cloned empty               TestHoleH4
//	H5      PC-relative references to strings are off by four      TestHoleH5
//	H6      a section's copy goes behind what is there already     TestHoleH6
//	H7      one symbol for each reference                          TestHoleH7
//	H8      prefix and function are torn apart                     TestHoleH8
//	H9      a function is cloned once for each alias               TestHoleH9
//	H10     pointers to replaced functions dangle                  TestHoleH10, TestFunctionPointers
//	H12     globals get position 0 though their name is not unique TestHoleH12, TestKernelSymbols
//	H13     positions in modules count symbols that go after init  TestHoleH13
//	H14     functions that cannot be traced are accepted           TestHoleH14
//	H15     weak symbols that nobody has                           TestHoleH15, TestKernelSymbols
//	16.3    a missing section symbol crashes                       TestHole16_3
//	16.4    one named reference lets unnamed ones through          TestHole16_4
//	16.5    a key that only __jump_table refers to is left behind  TestHole16_5
//	16.10   positions: a to e                                      TestHole16_10a to TestHole16_10e
//	16.11   pointers behind a prefix, PC-relative, in data         TestHole16_11
//	16.12   functions of named text sections                       TestHole16_12
//	16.12b  __mcount_loc of a section with several functions       TestHole16_12b
//	16.14   undefined functions; empty lists of relocations        TestHole16_14
//	16.14b  KPATCH_FORCE_UNSAFE of what did not change             TestForce
//	16.15   string pointers out of bounds                          TestHole16_15
//	16.19   alignment of data is fatal                             TestHole16_19
//	16.26   exports of the patched build                           TestHole16_26

// leads gives what a relocated operand of 4 bytes of code, the last of its instruction, leads to in the patch.
func (r *result) leads(t testing.TB, sec string, off uint64) (target object.SecID, pos uint64) {
	t.Helper()
	for i := range r.out.Sections {
		if r.out.Sections[i].Name != sec {
			continue
		}
		rs := r.out.RelocsOf(object.SecID(i))
		lo, hi := rs.Range(off, off+1)
		if hi-lo != 1 {
			continue
		}
		x := rs.At(lo)
		s := &r.out.Symbols[x.Sym]
		at := int64(s.Value) + x.Addend
		if x.Type == pc32 || x.Type == plt32 {
			at += 4
		}
		if s.Sec == 0 || at < 0 {
			t.Fatalf("%s+%#x leads to %s%+d", sec, off, s.Name, at)
		}
		return s.Sec, uint64(at)
	}
	t.Fatalf("no relocation at %s+%#x", sec, off)
	return 0, 0
}

// finds checks the bytes that an operand leads to.
func (r *result) finds(t testing.TB, sec string, off uint64, want string) {
	t.Helper()
	target, pos := r.leads(t, sec, off)
	b, err := hex.DecodeString(strings.ReplaceAll(want, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	if d := r.out.Sections[target].Data; pos > uint64(len(d)) || !bytes.HasPrefix(d[pos:], b) {
		t.Errorf("%s+%#x leads to %s+%#x, where %s is not", sec, off, r.out.Sections[target].Name, pos, want)
	}
}

func (r *result) symbol(t testing.TB, name string) *object.Symbol {
	t.Helper()
	for i := range r.out.Symbols {
		if r.out.Symbols[i].Name == name {
			return &r.out.Symbols[i]
		}
	}
	t.Fatalf("no symbol %s", name)
	return nil
}

// fixture makes the pair of a committed case.
func fixture(t testing.TB, name string) Pair {
	t.Helper()
	a, err := analyze(read(t, cases+"/"+name+".ORIG.o"), name+".ORIG.o")
	if err != nil {
		t.Fatal(err)
	}
	b, err := analyze(read(t, cases+"/"+name+".PATCHED.o"), name+".PATCHED.o")
	if err != nil {
		t.Fatal(err)
	}
	d, err := elfdiff.Diff(context.Background(), a, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	return Pair{Object: "vmlinux", Orig: a, Patched: b, Delta: d}
}

const (
	load = "8b05 00000000 c3"   // mov x(%rip),%eax
	lea  = "488d05 00000000 c3" // lea x(%rip),%rax
	call = "e8 00000000 c3"
)

func TestHoleH4(t *testing.T) {
	const a, b = "000102030405060708090a0b0c0d0e0f", "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
	consts := []def{{name: ".LC0", sec: ".rodata.cst16", code: a, local: true, bare: true}, {name: ".LC1", sec: ".rodata.cst16", code: b, local: true, bare: true}}
	r := write(t, Options{}, pairOf(t, "vmlinux", "a.c", append([]def{fn("f", one)}, consts...), append([]def{fn("f", "0f2805 00000000 c3", rel{3, pc32, ".LC1", -4})}, consts...)))
	r.finds(t, ".text.f", 8, b)
	for _, name := range []string{"cst8/gcc", "cst8/clang"} {
		p := fixture(t, name)
		write(t, Options{}, p) // which compares every constant
		_, out := written(t, elfdiff.FormatKlp, p)
		for i := range out.File.Sections {
			if s := &out.File.Sections[i]; s.Flags&elf.SHF_MERGE != 0 && s.Flags&elf.SHF_STRINGS == 0 && s.Size == 0 {
				t.Errorf("%s: %s is empty", name, s.Name)
			}
		}
	}
}

func TestHoleH5(t *testing.T) {
	strs := []def{{name: ".LC0", sec: ".rodata.str1.1", code: "61616100", local: true, bare: true}, {name: ".LC1", sec: ".rodata.str1.1", code: "626300", local: true, bare: true}}
	orig := append([]def{fn("f", one)}, strs...)
	for _, x := range []rel{{3, pc32, ".LC1", -4}, {3, pc32, "..rodata.str1.1", 0}} {
		r := write(t, Options{}, pairOf(t, "vmlinux", "a.c", orig, append([]def{fn("f", lea, x)}, strs...)))
		r.finds(t, ".text.f", 8, "626300")
	}
	// Into the middle, and by absolute address.
	r := write(t, Options{}, pairOf(t, "vmlinux", "a.c", orig, append([]def{fn("f", lea, rel{3, pc32, ".LC0", 1 - 4})}, strs...)))
	r.finds(t, ".text.f", 8, "616100")
	r = write(t, Options{}, pairOf(t, "vmlinux", "a.c", orig, append([]def{fn("f", "48c7c0 00000000 c3", rel{3, abs32, "..rodata.str1.1", 4})}, strs...)))
	r.finds(t, ".text.f", 8, "626300")
}

func TestHoleH6(t *testing.T) {
	// A named table goes to .rodata first, then what lies there without a name, by the section's symbol.
	table := static(datum("table", ".rodata", "1111111111111111"))
	nameless := def{sec: ".rodata", code: "2222222233333333", typ: elf.STT_OBJECT}
	for _, defs := range [][]def{{table, nameless}, {nameless, table}} {
		off := int64(16)
		if defs[0].name == "" {
			off = 0
		}
		f := fn("f", "8b05 00000000 8b0d 00000000 c3", rel{2, pc32, "table", -4}, rel{8, pc32, "..rodata", off + 4 - 4})
		r := write(t, Options{}, pairOf(t, "vmlinux", "a.c", []def{fn("f", one)}, append([]def{f}, defs...)))
		r.finds(t, ".text.f", 7, "11111111")
		r.finds(t, ".text.f", 13, "33333333")
	}
	// Two objects, each with its own nameless constants in a section of one name.
	two := func(file, fname, bytes string) Pair {
		return pairOf(t, "vmlinux", file, []def{fn(fname, one)}, []def{fn(fname, load, rel{2, pc32, "..rodata", -4}), {sec: ".rodata", code: bytes, typ: elf.STT_OBJECT}})
	}
	r := write(t, Options{}, two("a.c", "f", "4444444455555555"), two("b.c", "g", "6666666677777777"))
	r.finds(t, ".text.f", 7, "44444444")
	r.finds(t, ".text.g", 7, "66666666")
}

func TestHoleH7(t *testing.T) {
	v := static(datum("v", ".data.v", word))
	h := static(fn("h", one))
	f := fn("f", "8b05 00000000 8b0d 00000000 e8 00000000 e8 00000000 c3", rel{2, pc32, "v", -4}, rel{8, pc32, "v", -4}, rel{13, plt32, "h", -4}, rel{18, plt32, "h", -4})
	r := write(t, Options{}, pairOf(t, "vmlinux", "a.c", []def{fn("f", one), v, h}, []def{f, v, h}))
	n := map[string]int{}
	for i := range r.out.Symbols {
		n[r.out.Symbols[i].Name]++
	}
	for _, name := range []string{".klp.sym.vmlinux.v,0", ".klp.sym.vmlinux.h,0"} {
		if n[name] != 1 {
			t.Errorf("%d symbols %s", n[name], name)
		}
	}
}

func TestHoleH8(t *testing.T) {
	glued := func(name string, r *result, in *object.File) {
		t.Helper()
		for i := range r.out.Symbols {
			s := &r.out.Symbols[i]
			fname, ok := strings.CutPrefix(s.Name, "__pfx_")
			if !ok {
				continue
			}
			body := r.symbol(t, fname)
			align := r.out.Sections[s.Sec].Addralign
			if body.Sec != s.Sec || body.Value != s.Value+s.Size || s.Size != 16 {
				t.Errorf("%s: %s at %#x, its prefix at %#x", name, fname, body.Value, s.Value)
			}
			for k := range in.Symbols {
				if x := &in.Symbols[k]; x.Name == fname && (in.Sections[x.Sec].Addralign != align || x.Value%align != body.Value%align) {
					t.Errorf("%s: %s lies %d bytes behind a boundary of %d, %d of %d before", name, fname, body.Value%align, align, x.Value%align, in.Sections[x.Sec].Addralign)
				}
			}
		}
	}
	nops := strings.Repeat("90", 16)
	with := func(body string) []def { // two functions with a prefix in a section aligned to 64
		var out []def
		for _, name := range []string{"f", "g"} {
			out = append(out, def{name: "__pfx_" + name, sec: ".text", code: nops, typ: elf.STT_FUNC, local: true, align: 64}, def{name: name, sec: ".text", code: body})
		}
		return out
	}
	p := pairOf(t, "vmlinux", "a.c", with(one), with(two))
	r := write(t, Options{}, p)
	if len(r.funcs) != 2 {
		t.Errorf("%v", r.funcs)
	}
	glued("aligned to 64", r, p.Patched.File)
	for _, name := range []string{"pfx-merged/as", "func-pointer-pfx/as"} {
		p := fixture(t, name)
		glued(name, write(t, Options{}, p), p.Patched.File)
	}
}

func TestHoleH9(t *testing.T) {
	bug := def{sec: "__bug_table", code: "000000000000000000000000", typ: elf.STT_OBJECT, rels: []rel{{0, pc32, "n", 5}, {4, pc32, "..rodata.str1.1", 0}}}
	file := def{sec: ".rodata.str1.1", code: hex.EncodeToString([]byte("a.c\x00")), typ: elf.STT_OBJECT}
	n := fn("n", "0f0b "+one)
	alias := func(name, of string, size uint64) def {
		return def{name: name, sec: ".text." + of, alias: true, size: size, typ: elf.STT_FUNC}
	}
	f := fn("f", "e8 00000000 e8 00000000 c3", rel{1, plt32, "n", -4}, rel{6, plt32, "n_too", -4})
	r := write(t, Options{}, pairOf(t, "vmlinux", "a.c", []def{fn("f", one), file}, []def{f, n, alias("n_too", "n", 13), bug, file}))
	x, y := r.symbol(t, "n"), r.symbol(t, "n_too")
	if x.Sec != y.Sec || x.Value != y.Value || r.out.Sections[x.Sec].Size != 13 {
		t.Errorf("n at %d+%#x, n_too at %d+%#x; %d bytes", x.Sec, x.Value, y.Sec, y.Value, r.out.Sections[x.Sec].Size)
	}
	if sec, _ := r.leads(t, ".text.f", 6); sec != x.Sec {
		t.Error("a call leads elsewhere")
	}
	entries := 0
	for i := range r.out.Sections {
		if r.out.Sections[i].Name == "__bug_table" {
			entries = int(r.out.Sections[i].Size) / 12
		}
	}
	if entries != 1 {
		t.Errorf("%d entries of __bug_table", entries)
	}
	// A changed one is replaced once: the kernel has one address for both names.
	one2 := write(t, Options{}, pairOf(t, "vmlinux", "a.c", []def{fn("f", one), alias("f_too", "f", 11)}, []def{fn("f", two), alias("f_too", "f", 11)}))
	if len(one2.funcs) != 1 {
		t.Errorf("%v", one2.funcs)
	}
	for _, tool := range []string{"gcc", "clang"} {
		p := fixture(t, "alias/"+tool)
		if plan, err := New(context.Background(), []Pair{p}, Options{}); err == nil {
			seen := map[string]bool{}
			for _, x := range plan.Contents().Functions {
				if seen[x.Section] {
					t.Errorf("%s: two functions in %s", tool, x.Section)
				}
				seen[x.Section] = true
			}
		}
	}
}

func TestHoleH10(t *testing.T) {
	g1, g2 := fn("g", one), fn("g", two)
	ops := static(datum("ops", ".data.ops", pointer, rel{0, abs64, "g", 0}))
	f := fn("f", "488d3d 00000000 48c7c6 00000000 8b05 00000000 e8 00000000 c3", rel{3, pc32, "g", -4}, rel{10, abs32, "g", 0}, rel{16, pc32, "ops", -4}, rel{21, plt32, "g", -4})
	r := write(t, Options{}, pairOf(t, "vmlinux", "a.c", []def{fn("f", one), g1}, []def{f, g2, ops}))
	r.want(t, "vmlinux:f=f,0 vmlinux:g=g,0", ".text.f+0x8 PC32 [vmlinux:vmlinux.g,0]-4", ".text.f+0xf 32S [vmlinux:vmlinux.g,0]+0", ".text.f+0x15 PC32 ops-4",
		".text.f+0x1a PLT32 g-4", ".data.ops+0x0 64 [vmlinux:vmlinux.g,0]+0")
}

func TestHoleH12(t *testing.T) {
	v := datum("v", ".data.v", word)
	pair := func() Pair {
		return pairOf(t, "vmlinux", "a.c", []def{fn("f", one), v}, []def{fn("f", load, rel{2, pc32, "v", -4}), v})
	}
	for _, c := range []struct {
		names []string
		ref   string // empty: refused
	}{
		{[]string{"T f", "D v"}, "PC32 [vmlinux:vmlinux.v,0]-4"},
		{[]string{"T f", "d v", "D v"}, "PC32 [vmlinux:vmlinux.v,2]-4"},
		{[]string{"T f", "D v", "t v"}, "PC32 [vmlinux:vmlinux.v,1]-4"},
		{[]string{"T f", "d v", "d v"}, ""},
	} {
		opts := Options{Symbols: known(t, c.names)}
		if c.ref == "" {
			refused(t, opts, []Pair{pair()}, "sympos-unknown")
			continue
		}
		if r := write(t, opts, pair()); len(r.refs) != 1 || !strings.HasSuffix(r.refs[0], " "+c.ref) {
			t.Errorf("%v: %v, want %s", c.names, r.refs, c.ref)
		}
	}
	// The replaced function itself is asked for by the same rule.
	r := write(t, Options{Symbols: known(t, []string{"t f", "T f"})}, pairOf(t, "vmlinux", "a.c", []def{fn("f", one)}, []def{fn("f", two)}))
	r.want(t, "vmlinux:f=f,2")
	// Without symbols of the kernel the object alone already shows that it is not unique.
	twin := static(datum("v", ".data.v2", "0200000000000000"))
	refused(t, Options{}, []Pair{pairOf(t, "vmlinux", "a.c", []def{fn("f", one), v, twin}, []def{fn("f", load, rel{2, pc32, "v", -4}), v, twin})}, "sympos-unknown")
}

// moduleSet knows one module, from the text that readelf prints of its .ko: "KIND NAME SECTION", FILE symbols as "file NAME".
func moduleSet(t testing.TB, lines ...string) *symbols.Set {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "\nSymbol table '.symtab' contains %d entries:\n   Num:    Value          Size Type    Bind   Vis      Ndx Name\n", len(lines))
	for i, l := range lines {
		w := strings.Fields(l)
		typ, bind, ndx, size := "FUNC", "LOCAL", "", 11
		switch w[0] {
		case "file":
			typ, ndx, size = "FILE", "ABS", 0
		case "v":
			typ, size = "OBJECT", 8
		case "F":
			bind = "GLOBAL"
		}
		if ndx == "" {
			ndx = w[2]
		}
		fmt.Fprintf(&b, "%6d: %016x %5d %-7s %-6s DEFAULT  %3s %s\n", i, 0, size, typ, bind, ndx, w[1])
	}
	tab, err := symbols.ParseReadelf("mod.ko", "mod", []byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	o, _ := symbols.NewOracle("mod", tab)
	return symbols.NewSet(nil, o)
}

// fileSet knows one module from its file.
func fileSet(t testing.TB, ko []byte) *symbols.Set {
	t.Helper()
	f, err := object.Parse(ko, object.Options{Name: "mod.ko"})
	if err != nil {
		t.Fatal(err)
	}
	o, _ := symbols.NewOracle("mod", symbols.FromELF(f, "mod"))
	return symbols.NewSet(nil, o)
}

func TestHoleH13(t *testing.T) {
	h, init := static(fn("h", one)), static(def{name: "h", sec: ".init.text", code: one})
	f2 := fn("f", call, rel{1, plt32, "..text.h", -4})
	for _, c := range []struct {
		name string
		ko   []def
		ref  string // empty: refused
	}{
		{"none in init", []def{fn("f", one), h}, "PLT32 [mod:mod.h,0]-4"},
		{"init behind it", []def{fn("f", one), h, init}, "PLT32 [mod:mod.h,1]-4"}, // the first, while the module loads and after
		{"init before it", []def{init, fn("f", one), h}, ""},                      // the second, then the first
	} {
		t.Run(c.name, func(t *testing.T) {
			patched := slices.Clone(c.ko)
			patched[slices.IndexFunc(patched, func(d def) bool { return d.name == "f" })] = f2
			p := pairOf(t, "mod", "a.c", c.ko, patched)
			opts := Options{Symbols: fileSet(t, make1(t, "a.c", c.ko...))}
			if c.ref == "" {
				e := refused(t, opts, []Pair{p}, "sympos-unknown")
				if d := e.Diagnostics[0]; !strings.Contains(d.Message, "while the module loads") {
					t.Error(d)
				}
				return
			}
			if r := write(t, opts, p); len(r.refs) != 1 || !strings.HasSuffix(r.refs[0], " "+c.ref) {
				t.Errorf("%v, want %s", r.refs, c.ref)
			}
		})
	}
}

func TestHoleH14(t *testing.T) {
	bare := func(sec, code string) def { return def{name: "f", sec: sec, code: code, typ: elf.STT_FUNC} }
	for _, c := range []struct {
		name    string
		f       func(code string) def
		code    string
		message string
	}{
		{"notrace", func(code string) def { return bare(".text.f", code) }, "no-ftrace-entry", "__fentry__"},
		{"noinstr", func(code string) def { return bare(".noinstr.text", code) }, "unpatchable-section", ".noinstr.text"},
		{"entry code", func(code string) def { return bare(".entry.text", code) }, "unpatchable-section", ".entry.text"},
		{"__init", func(code string) def { return def{name: "f", sec: ".init.text", code: code} }, "init-changed", "init"},
		{"__exit", func(code string) def { return def{name: "f", sec: ".exit.text", code: code} }, "init-changed", ".exit.text"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := refused(t, Options{}, []Pair{pairOf(t, "vmlinux", "a.c", []def{c.f(one)}, []def{c.f(two)})}, c.code)
			if d := e.Diagnostics[0]; d.Place.Symbol != "f" || !strings.Contains(d.Message+d.Place.Section, c.message) {
				t.Errorf("%+v", d)
			}
		})
	}
}

func TestHoleH15(t *testing.T) {
	p := func(name string) Pair {
		return pairOf(t, "vmlinux", "a.c", []def{fn("f", one)}, []def{fn("f", call, rel{1, plt32, name, -4})})
	}
	for _, name := range []string{"weak g", "g"} {
		refused(t, Options{Symbols: known(t, []string{"T f"}, "__fentry__=vmlinux")}, []Pair{p(name)}, "undefined-symbol")
	}
	r := write(t, Options{Symbols: known(t, []string{"T f", "T g"}, "__fentry__=vmlinux")}, p("weak g"))
	r.want(t, "vmlinux:f=f,0", ".text.f+0x6 PLT32 [vmlinux:vmlinux.g,0]-4")
}

func TestHole16_3(t *testing.T) {
	write(t, Options{}, fixture(t, "secsym-gone/as")).want(t, "vmlinux:user=user,0")
	for _, name := range []string{"static-local-removed/gcc", "static-local-removed/clang"} {
		if r := write(t, Options{}, fixture(t, name)); len(r.funcs) != 1 {
			t.Errorf("%s: %v", name, r.funcs)
		}
	}
	// And the other way round.
	p := fixture(t, "secsym-gone/as")
	d, err := elfdiff.Diff(context.Background(), p.Patched, p.Orig, nil)
	if err != nil {
		t.Fatal(err)
	}
	write(t, Options{}, Pair{Object: "vmlinux", Orig: p.Patched, Patched: p.Orig, Delta: d}).want(t, "vmlinux:user=user,0", ".text.user+0x6 PC32 [vmlinux:vmlinux.callee,0]-4")
}

func TestHole16_4(t *testing.T) {
	data := []def{static(datum("a", ".mydata", word)), {sec: ".mydata", code: pointer, typ: elf.STT_OBJECT}}
	second := rel{9, pc32, "..mydata", 16 - 4}
	first := fn("f", "8b05 00000000 488b0d 00000000 c3", rel{2, pc32, "..mydata", -4}, second)
	alone := fn("f", "8b05 00000000 488b0d 00000000 c3", rel{2, pc32, "elsewhere", -4}, second)
	for _, f := range []def{first, alone} {
		e := refused(t, Options{}, []Pair{pairOf(t, "vmlinux", "a.c", append([]def{fn("f", one)}, data...), append([]def{f}, data...))}, "unnamed-data")
		if d := e.Diagnostics[0]; d.Place.Section != ".mydata" || d.Place.Offset < 8 || len(d.Chain) == 0 {
			t.Errorf("%+v", d)
		}
	}
	write(t, Options{}, pairOf(t, "vmlinux", "a.c", append([]def{fn("f", one)}, data...), append([]def{fn("f", load, rel{2, pc32, "..mydata", -4})}, data...))).
		want(t, "vmlinux:f=f,0", ".text.f+0x7 PC32 [vmlinux:vmlinux.a,0]-4")
}

func TestHole16_5(t *testing.T) {
	key := static(datum("mykey", ".data.mykey", "01000000000000000200000000000000"))
	entry := def{sec: "__jump_table", code: "00000000 00000000 0000000000000000", typ: elf.STT_OBJECT, rels: []rel{{0, pc32, "user", 10}, {4, pc32, "user", 15}, {8, abs64, "mykey", 0}}}
	user := "b802000000 0f1f440000 c3"
	for _, format := range []elfdiff.Format{elfdiff.FormatKlp, elfdiff.FormatKpatch} {
		_, p := written(t, format, pairOf(t, "vmlinux", "a.c", []def{fn("user", one)}, []def{fn("user", user), key, entry}))
		for i := range p.File.Symbols {
			s := &p.File.Symbols[i]
			if s.Bind() == elf.STB_LOCAL && s.Sec == 0 && s.Type() != elf.STT_FILE && i > 0 {
				t.Errorf("form %d: %q is local and undefined", format, s.Name)
			}
			if s.Name == "mykey" && (s.Sec == 0 || p.File.Sections[s.Sec].Data[s.Value+8] != 2) {
				t.Errorf("form %d: mykey has not its contents", format)
			}
		}
	}
	for _, name := range []string{"static-key-new/gcc", "static-key-new/clang"} {
		written(t, elfdiff.FormatKlp, fixture(t, name))
	}
}

// Every entry of kallsyms counts, whatever its binding and type.
func TestHole16_10a(t *testing.T) {
	v := static(datum("v", ".data.v", word))
	u := static(datum("u", ".data.v", word))
	f := fn("f", load, rel{2, pc32, "v", -4})
	r := write(t, Options{Symbols: known(t, []string{"T f", "T v", "t v", "d v", "d u"})}, pairOf(t, "vmlinux", "a.c", []def{fn("f", one), v, u}, []def{f, v, u}))
	if len(r.refs) != 1 || !strings.HasSuffix(r.refs[0], "[vmlinux:vmlinux.v,3]-4") {
		t.Errorf("%v", r.refs)
	}
}

// Symbols of modules count in the order of the symbol table: their values say nothing.
func TestHole16_10b(t *testing.T) {
	h := static(fn("helper", one))
	p := func(file string) Pair {
		return pairOf(t, "mod", file, []def{fn("user", one), h}, []def{fn("user", call, rel{1, plt32, "helper", -4}), h})
	}
	set := moduleSet(t, "file one.c", "f helper 1", "file two.c", "f helper 3", "F user 2")
	for file, pos := range map[string]int{"one.c": 1, "two.c": 2} {
		r := write(t, Options{Symbols: set}, p(file))
		r.want(t, "mod:user=user,0", fmt.Sprintf(".text.user+0x6 PLT32 [mod:mod.helper,%d]-4", pos))
	}
}

// The module that counts is the one that runs, not the one that was built anew.
func TestHole16_10c(t *testing.T) {
	h := static(fn("helper", one))
	p := pairOf(t, "mod", "one.c", []def{fn("user", one), h}, []def{fn("user", call, rel{1, plt32, "helper", -4}), h})
	r := write(t, Options{Symbols: moduleSet(t, "file two.c", "f helper 3", "file one.c", "f helper 1", "F user 2")}, p)
	r.want(t, "mod:user=user,0", ".text.user+0x6 PLT32 [mod:mod.helper,2]-4")
	// Both given, and of different order: said, not chosen.
	var tables []symbols.Source
	for _, order := range [][]string{{"one.c", "two.c"}, {"two.c", "one.c"}} {
		text := "Symbol table '.symtab' contains 5 entries:\n   Num:    Value          Size Type    Bind   Vis      Ndx Name\n"
		for i, file := range order {
			text += fmt.Sprintf("%6d: 0000000000000000     0 FILE    LOCAL  DEFAULT  ABS %s\n%6d: 0000000000000000    11 FUNC    LOCAL  DEFAULT    %d helper\n", 2*i, file, 2*i+1, i+1)
		}
		text += "     4: 0000000000000000    11 FUNC    GLOBAL DEFAULT    5 user\n"
		tab, err := symbols.ParseReadelf(order[0]+" first", "mod", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		tables = append(tables, tab)
	}
	o, _ := symbols.NewOracle("mod", tables...)
	refused(t, Options{Symbols: symbols.NewSet(nil, o)}, []Pair{p}, "sympos-conflict")
}

// A global with a static namesake has a position.
func TestHole16_10d(t *testing.T) { TestHoleH12(t) }

// What kallsyms leaves out does not count.
func TestHole16_10e(t *testing.T) {
	text := func(lines ...string) *symbols.Set {
		s := "Symbol table '.symtab' contains 9 entries:\n   Num:    Value          Size Type    Bind   Vis      Ndx Name\n"
		for i, l := range lines {
			s += fmt.Sprintf("%6d: %s\n", i, l)
		}
		tab, err := symbols.ParseReadelf("vmlinux", "vmlinux", []byte(s))
		if err != nil {
			t.Fatal(err)
		}
		o, _ := symbols.NewOracle("vmlinux", tab)
		return symbols.NewSet(nil, o)
	}
	h := static(fn("helper", one))
	p := pairOf(t, "vmlinux", "a.c", []def{fn("user", one), h}, []def{fn("user", call, rel{1, plt32, "helper", -4}), h})
	const (
		fileA  = "0000000000000000     0 FILE    LOCAL  DEFAULT  ABS a.c"
		fileB  = "0000000000000000     0 FILE    LOCAL  DEFAULT  ABS b.c"
		helper = "ffffffff81000100    11 FUNC    LOCAL  DEFAULT    1 helper"
		user   = "ffffffff81000200    11 FUNC    GLOBAL DEFAULT    1 user"
		abs    = "0000000000000007     0 NOTYPE  LOCAL  DEFAULT  ABS helper"
		undef  = "0000000000000000     0 NOTYPE  GLOBAL DEFAULT  UND helper"
	)
	for _, hidden := range []string{abs, undef} {
		write(t, Options{Symbols: text(fileA, helper, fileB, hidden, user)}, p).want(t, "vmlinux:user=user,0", ".text.user+0x6 PLT32 [vmlinux:vmlinux.helper,0]-4")
	}
}

func TestHole16_11(t *testing.T) {
	r := write(t, Options{}, fixture(t, "func-pointer-pfx/as"))
	n := 0
	for _, x := range r.refs {
		if strings.Contains(x, "cb") {
			if !strings.Contains(x, "[vmlinux:vmlinux.cb,0]") {
				t.Errorf("%s", x)
			}
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d pointers to cb: %v", n, r.refs)
	}
	// In data, and behind a prefix, by the section's symbol.
	nops := strings.Repeat("90", 16)
	g := func(body string) []def {
		return []def{{name: "__pfx_g", sec: ".text.g", code: nops, typ: elf.STT_FUNC, local: true}, {name: "g", sec: ".text.g", code: body}}
	}
	ops := static(datum("ops", ".data.ops", pointer, rel{0, abs64, "..text.g", 16}))
	f := fn("f", load, rel{2, pc32, "ops", -4})
	r = write(t, Options{}, pairOf(t, "vmlinux", "a.c", append(g(one), fn("f", one)), append(g(two), f, ops)))
	if !slices.Contains(r.refs, ".data.ops+0x0 64 [vmlinux:vmlinux.g,0]+0") {
		t.Errorf("%v", r.refs)
	}
}

func TestHole16_12(t *testing.T) {
	for _, sec := range []string{".sched.text", ".spinlock.text", ".kprobes.text", ".softirqentry.text", ".irqentry.text", ".ref.text", ".text.unlikely", ".text.hot"} {
		f := func(code string) def { return def{name: "f", sec: sec, code: code} }
		stays := def{name: "stays", sec: sec, code: one}
		r := write(t, Options{}, pairOf(t, "vmlinux", "a.c", []def{stays, f(one)}, []def{stays, f(two)}))
		r.want(t, "vmlinux:f=f,0")
		if s := r.symbol(t, "f"); r.out.Sections[s.Sec].Name != sec || r.out.Sections[s.Sec].Size != 11 {
			t.Errorf("%s: %d bytes", sec, r.out.Sections[s.Sec].Size)
		}
		// A new one brings itself, not the section.
		r = write(t, Options{Partial: true}, pairOf(t, "vmlinux", "a.c", []def{stays}, []def{stays, f(two)}))
		r.want(t, "vmlinux:f")
		if s := r.symbol(t, "f"); r.out.Sections[s.Sec].Size != 11 {
			t.Errorf("%s: %d bytes with a new function", sec, r.out.Sections[s.Sec].Size)
		}
		// Without a call of the tracer it cannot be replaced there either.
		bare := func(code string) def { return def{name: "f", sec: sec, code: code, typ: elf.STT_FUNC} }
		refused(t, Options{}, []Pair{pairOf(t, "vmlinux", "a.c", []def{bare(one)}, []def{bare(two)})}, "no-ftrace-entry")
	}
	for sec, code := range map[string]string{".noinstr.text": "unpatchable-section", ".entry.text": "unpatchable-section", ".cpuidle.text": "unpatchable-section", ".head.text": "unpatchable-section", ".init.text": "init-changed", ".exit.text": "init-changed"} {
		f := func(code string) def { return def{name: "f", sec: sec, code: code} }
		refused(t, Options{}, []Pair{pairOf(t, "vmlinux", "a.c", []def{f(one)}, []def{f(two)})}, code)
	}
}

func TestHole16_12b(t *testing.T) {
	in := func(code string) []def {
		var out []def
		for _, name := range []string{"a", "b", "c"} {
			out = append(out, def{name: name, sec: ".sched.text", code: code})
		}
		return out
	}
	plan, err := New(context.Background(), []Pair{pairOf(t, "vmlinux", "a.c", in(one), in(two))}, Options{Format: elfdiff.FormatKpatch})
	if err != nil {
		t.Fatal(err)
	}
	p, _ := kpatchOut(t, plan) // which compares the entries with the calls
	var got []string
	for i := range p.File.Sections {
		if p.File.Sections[i].Name == "__mcount_loc" {
			for _, r := range relocs(p.File, object.SecID(i)) {
				got = append(got, fmt.Sprintf("%s%+d", p.File.SymName(r.Sym), r.Addend))
			}
		}
	}
	if s := strings.Join(got, " "); s != "a+0 b+0 c+0" {
		t.Errorf("__mcount_loc: %s", s)
	}
}

func relocs(f *object.File, sec object.SecID) []object.Reloc {
	var out []object.Reloc
	rs := f.RelocsOf(sec)
	for i := range rs.Len() {
		out = append(out, rs.File(i))
	}
	return out
}

func TestHole16_14(t *testing.T) {
	// A function type on what is undefined (.type ext, @function).
	for _, name := range []string{"func-undef/as"} {
		write(t, Options{}, fixture(t, name))
	}
	// Relocation sections without relocations, for code, data and the sections of macros.
	empty := func(data []byte, name string) *elfdiff.Graph {
		f, err := object.Parse(data, object.Options{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		b := object.FromFile(f)
		for i := 1; i < len(f.Sections); i++ {
			if s := &f.Sections[i]; s.Type == elf.SHT_PROGBITS && s.Rela == 0 {
				b.AddSection(object.BuildSection{Name: ".rela" + s.Name, Type: elf.SHT_RELA, Flags: elf.SHF_INFO_LINK, Addralign: 8, Entsize: 24, Info: uint32(i)})
			}
		}
		out, err := b.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		g, err := analyze(out, name)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	pair := func(extra ...def) Pair {
		bare := def{name: "h", sec: ".text.h", code: one, typ: elf.STT_FUNC}
		a := empty(make1(t, "a.c", append([]def{fn("f", one), bare, datum("v", ".data.v", word)}, extra...)...), "a.o")
		b := empty(make1(t, "a.c", append([]def{fn("f", two), bare, datum("v", ".data.v", word)}, extra...)...), "b.o")
		d, err := elfdiff.Diff(context.Background(), a, b, nil)
		if err != nil {
			t.Fatal(err)
		}
		return Pair{Object: "vmlinux", Orig: a, Patched: b, Delta: d}
	}
	write(t, Options{}, pair(datum("x", ".kpatch.ignore.functions", pointer), datum("y", ".kpatch.ignore.sections", pointer))).want(t, "vmlinux:f=f,0")
	// A callback that points nowhere is an error, and no crash.
	refused(t, Options{}, []Pair{pair(datum("x", ".kpatch.callbacks.pre_patch", pointer+pointer))}, "callback-invalid")
	refused(t, Options{}, []Pair{pair(datum("x", ".kpatch.force", pointer))}, "callback-invalid")
}

func TestHole16_15(t *testing.T) {
	strs := []def{{name: ".LC0", sec: ".rodata.str1.1", code: "61616100", local: true, bare: true}}
	for _, add := range []int64{4, 5, 1 << 20, 1<<31 - 1, -1 << 31, -5, 1 << 62, -1 << 62} {
		for _, x := range []rel{{3, abs32, ".LC0", add}, {3, pc32, ".LC0", add}, {3, abs32, "..rodata.str1.1", add}} {
			f := fn("f", "48c7c0 00000000 c3", x)
			p := pairOf(t, "vmlinux", "a.c", append([]def{fn("f", one)}, strs...), append([]def{f}, strs...))
			plan, err := New(context.Background(), []Pair{p}, Options{})
			if err != nil {
				codesOf(t, err) // a refusal, with codes
				continue
			}
			if _, err := plan.Bytes(); err != nil {
				codesOf(t, err)
			}
		}
	}
	// In debug information, which a patch does not have.
	debug := func(f def) []def {
		return append([]def{f, {name: "d", sec: ".debug_info", code: pointer, typ: elf.STT_OBJECT, rels: []rel{{0, abs64, ".LC0", 1 << 40}}}}, strs...)
	}
	write(t, Options{}, pairOf(t, "vmlinux", "a.c", debug(fn("f", one)), debug(fn("f", two)))).want(t, "vmlinux:f=f,0")
}

func TestHole16_19(t *testing.T) {
	v := func(sec string, align uint64) def {
		d := def{name: "v", sec: sec, typ: elf.STT_OBJECT, align: align, code: word}
		if sec == ".bss.v" {
			d.code, d.size = "", 8
		}
		return d
	}
	for _, sec := range []string{".rodata.v", ".data.v", ".bss.v"} {
		for _, c := range []struct {
			align uint64
			ref   string
		}{{8, "[vmlinux:vmlinux.v,0]"}, {32, "[vmlinux:vmlinux.v,0]"}, {64, ""}} {
			p := pairOf(t, "vmlinux", "a.c", []def{fn("f", one), v(sec, 32)}, []def{fn("f", load, rel{2, pc32, "v", -4}), v(sec, c.align)})
			if c.ref == "" && sec != ".rodata.v" { // the code may rely on an alignment that the kernel's variable does not have
				if d := refused(t, Options{}, []Pair{p}, "data-changed").Diagnostics[0]; d.Place.Symbol != "v" {
					t.Error(d)
				}
				continue
			}
			if c.align != 32 && sec == ".rodata.v" {
				c.ref = "v" // constants have a copy
			}
			if r := write(t, Options{}, p); len(r.refs) != 1 || !strings.HasSuffix(r.refs[0], "PC32 "+c.ref+"-4") {
				t.Errorf("%s, %d: %v", sec, c.align, r.refs)
			}
		}
	}
	// New nameless constants with an alignment of their own.
	table := def{sec: ".rodata", code: word + word, typ: elf.STT_OBJECT, align: 32}
	was := def{sec: ".rodata", code: "0700000000000000", typ: elf.STT_OBJECT, align: 8}
	r := write(t, Options{}, pairOf(t, "vmlinux", "a.c", []def{fn("f", load, rel{2, pc32, "..rodata", -4}), was}, []def{fn("f", load, rel{2, pc32, "..rodata", -4}), table}))
	r.finds(t, ".text.f", 7, word)
	if sec, _ := r.leads(t, ".text.f", 7); r.out.Sections[sec].Addralign != 32 {
		t.Errorf("aligned to %d", r.out.Sections[sec].Addralign)
	}
}

// The list of exports may be that of the patched build.
func TestHole16_26(t *testing.T) {
	// The patch itself exports something: refused, since modules cannot see it.
	entry := def{name: "__ksymtab_f", sec: "___ksymtab+f", code: "00000000", typ: elf.STT_OBJECT, rels: []rel{{0, pc32, "f", 0}}}
	refused(t, Options{}, []Pair{pairOf(t, "vmlinux", "a.c", []def{fn("f", one)}, []def{fn("f", two), entry})}, "export-changed")
	// Another object of the build refers to what it has begun to export: the running kernel does not.
	p := pairOf(t, "vmlinux", "b.c", []def{fn("f", one)}, []def{fn("f", call, rel{1, plt32, "g", -4})})
	for _, c := range []struct {
		names []string
		ref   string
	}{
		{[]string{"T f", "T g"}, "PLT32 g-4"},                                               // nothing is known of what the kernel exports
		{[]string{"T f", "T g", "r __ksymtab_g", "r __ksymtab___fentry__"}, "PLT32 g-4"},    // it exports g
		{[]string{"T f", "T g", "r __ksymtab___fentry__"}, "PLT32 [vmlinux:vmlinux.g,0]-4"}, // it has g, and keeps it to itself
		{[]string{"T f", "t g", "T g", "r __ksymtab_x"}, "PLT32 [vmlinux:vmlinux.g,2]-4"},
	} {
		r := write(t, Options{Symbols: known(t, c.names, "g=vmlinux", "__fentry__=vmlinux")}, p)
		if !slices.ContainsFunc(r.refs, func(s string) bool { return strings.HasSuffix(s, " "+c.ref) }) {
			t.Errorf("%v: %v, want %s", c.names, r.refs, c.ref)
		}
	}
	// It has no such symbol at all: that of another object of the patch, or nobody's.
	sv, err := symbols.ParseSymvers("Module.symvers", []byte("0x0\tg\tvmlinux\tEXPORT_SYMBOL\t\n0x0\t__fentry__\tvmlinux\tEXPORT_SYMBOL\t\n"))
	if err != nil {
		t.Fatal(err)
	}
	tabs, err := symbols.ParseKallsyms("kallsyms", []byte("ffffffff81000000 T f\nffffffff81000010 T __fentry__\n"))
	if err != nil {
		t.Fatal(err)
	}
	o, _ := symbols.NewOracle("vmlinux", tabs[0])
	set := symbols.NewSet(sv, o)
	refused(t, Options{Symbols: set}, []Pair{p}, "undefined-symbol")
	write(t, Options{Symbols: set, Partial: true}, p).want(t, "vmlinux:f=f,0", ".text.f+0x6 PLT32 g-4")
}
