package elfdiff_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/elfdiff/internal/testutil"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
)

// statusOf gives the verdict on a function.
func statusOf(t *testing.T, d *elfdiff.Delta, name string) elfdiff.Status {
	t.Helper()
	for i := range d.Functions {
		if d.Functions[i].Name == name {
			return d.Functions[i].Status
		}
	}
	t.Fatalf("no %s\n%s", name, dump(d))
	return 0
}

// TestResolvedOperands: what the assembler resolved leads to the same function, wherever that lies now; everything
// else of the instruction has to be equal.
func TestResolvedOperands(t *testing.T) {
	type inst struct{ op, tail []byte }
	var (
		call, jmp = inst{op: []byte{0xe8}}, inst{op: []byte{0xe9}}
		je, jne   = inst{op: []byte{0x0f, 0x84}}, inst{op: []byte{0x0f, 0x85}}
		eax, ecx  = inst{op: []byte{0x8b, 0x05}}, inst{op: []byte{0x8b, 0x0d}}
		rax, lea  = inst{op: []byte{0x48, 0x8b, 0x05}}, inst{op: []byte{0x48, 0x8d, 0x05}}
		cmp1      = inst{[]byte{0x80, 0x3d}, []byte{1}}
		cmp2      = inst{[]byte{0x80, 0x3d}, []byte{2}}
		add1      = inst{[]byte{0x80, 0x05}, []byte{1}}
	)
	object := func(i inst, at int, target string) *elfdiff.Graph {
		a := newAsm(t)
		a.section(".text", text)
		n := len(i.op) + 4 + len(i.tail)
		a.label("f", n+1, elf.STB_GLOBAL, elf.STT_FUNC)
		to := at
		if target == "h" {
			to += 16
		}
		a.raw(i.op...).u32(uint32(to - n)).raw(i.tail...).raw(0xc3)
		for len(a.buf) < at {
			a.raw(0xcc)
		}
		for _, name := range []string{"g", "h"} {
			a.label(name, 16, elf.STB_GLOBAL, elf.STT_FUNC)
			for range 15 {
				a.raw(0x90)
			}
			a.raw(0xc3)
		}
		return a.graph()
	}
	for _, c := range []struct {
		name string
		x, y inst
		to   string // in the patched object; g in the original
		same bool
	}{
		{"call", call, call, "g", true}, {"call of another", call, call, "h", false}, {"call, jmp", call, jmp, "g", false}, {"jmp, call", jmp, call, "g", false},
		{"je", je, je, "g", true}, {"je, jne", je, jne, "g", false}, {"load", eax, eax, "g", true}, {"load of another", eax, eax, "h", false},
		{"into another register", eax, ecx, "g", false}, {"load, lea", rax, lea, "g", false}, {"behind the operand", cmp1, cmp1, "g", true},
		{"another number behind the operand", cmp1, cmp2, "g", false}, {"another operation", cmp1, add1, "g", false},
	} {
		for _, at := range []int{16, 32} {
			d := testutil.Diff(t, object(c.x, 16, "g"), object(c.y, at, c.to))
			if got := statusOf(t, d, "f") == elfdiff.Unchanged; got != c.same || statusOf(t, d, "g") != elfdiff.Unchanged {
				t.Errorf("%s, %d: same %v, want %v\n%s", c.name, at, got, c.same, dump(d))
			}
		}
	}
}

// TestEndPointers: a position in a section that is the start of one variable is the end of the one before. Where code refers to
// that, too, it may mean either, and both builds have to mean the same either way.
func TestEndPointers(t *testing.T) {
	type layout struct {
		sizeA  int
		beside bool // b lies behind a; else in a section of its own
	}
	object := func(l layout, refers bool) *elfdiff.Graph {
		a := newAsm(t)
		a.section(".data", data)
		a.label("a", l.sizeA, elf.STB_GLOBAL, elf.STT_OBJECT)
		a.raw(make([]byte, l.sizeA)...)
		sec, off := ".data", int64(l.sizeA)
		if !l.beside {
			sec, off = ".data.b", 0
			a.section(sec, data)
		}
		a.label("b", 8, elf.STB_GLOBAL, elf.STT_OBJECT)
		a.raw(make([]byte, 8)...)
		a.section(".text.f", text)
		if refers {
			a.lea(toRDI, "a", 0)
		}
		a.lea(toRSI, sec, off).raw(0xc3).whole("f", elf.STB_GLOBAL)
		return a.graph()
	}
	for _, c := range []struct {
		name   string
		x, y   layout
		refers bool
		same   bool
	}{
		{"the same", layout{8, true}, layout{8, true}, true, true},
		{"apart in both", layout{8, false}, layout{8, false}, true, true},
		{"apart, then beside", layout{8, false}, layout{8, true}, true, false},
		{"beside, then apart", layout{8, true}, layout{8, false}, true, false},
		{"the first grows", layout{8, true}, layout{16, true}, true, false},
		{"apart, then beside, and only b is meant", layout{8, false}, layout{8, true}, false, true},
		{"beside, then apart, and only b is meant", layout{8, true}, layout{8, false}, false, true},
		{"the first grows, and only b is meant", layout{8, true}, layout{16, true}, false, true},
	} {
		d := testutil.Diff(t, object(c.x, c.refers), object(c.y, c.refers))
		if got := statusOf(t, d, "f") == elfdiff.Unchanged; got != c.same {
			t.Errorf("%s: same %v, want %v\n%s", c.name, got, c.same, dump(d))
		}
	}
}

// TestEntryBytes: only the line field of a table's entry may differ without a change of its function.
func TestEntryBytes(t *testing.T) {
	const no = elfdiff.NoField
	build := func(line int, change int) *elfdiff.Graph {
		a := newAsm(t)
		a.section(".text.f", text)
		a.raw(0x90, 0x90, 0x90, 0xc3).whole("f", elf.STB_GLOBAL)
		a.section("table", rodata)
		a.u32(0x01010101).u32(0x01010101).field(elf.R_X86_64_PC32, "f", 0)
		if change >= 0 {
			a.buf[change] = 9
		}
		row := elfdiff.Table{Section: "table", Entry: 12, Refs: []int{8}, Site: 8, SiteLen: no, Body: no, BodyLen: no, Line: line, LineSize: 2, Format: no, File: no}
		return a.graphBy(row)
	}
	for _, c := range []struct {
		line, change int
		noLines      bool
		want         elfdiff.Status // of f; LineOnly: it is unchanged, and the entry has another line
	}{
		{no, 0, false, elfdiff.Changed}, {no, 1, false, elfdiff.Changed}, {no, 7, false, elfdiff.Changed}, {no, -1, false, elfdiff.Unchanged},
		{2, 0, false, elfdiff.Changed}, {2, 1, false, elfdiff.Changed}, {2, 2, false, elfdiff.LineOnly}, {2, 3, false, elfdiff.LineOnly}, {2, 4, false, elfdiff.Changed}, {2, 7, false, elfdiff.Changed},
		{0, 0, false, elfdiff.LineOnly}, {0, 1, false, elfdiff.LineOnly}, {0, 2, false, elfdiff.Changed}, {6, 5, false, elfdiff.Changed}, {6, 6, false, elfdiff.LineOnly}, {6, 7, false, elfdiff.LineOnly},
		{2, 2, true, elfdiff.Changed}, {2, -1, true, elfdiff.Unchanged},
	} {
		d := testutil.DiffOpts(t, build(c.line, -1), build(c.line, c.change), &elfdiff.Options{NoLines: c.noLines})
		got := statusOf(t, d, "f")
		if got == elfdiff.Unchanged && d.Patched.LineOnly > 0 {
			got = elfdiff.LineOnly
		}
		if got != c.want {
			t.Errorf("line at %d, byte %d: %v, want %v\n%s", c.line, c.change, got, c.want, dump(d))
		}
	}
}

// TestAbsolute: code that refers to a number instead of a symbol.
func TestAbsolute(t *testing.T) {
	build := func(named bool, addend int64) *elfdiff.Graph {
		a := newAsm(t)
		a.section(".text.f", text)
		a.raw(0xb8)
		a.field(elf.R_X86_64_32, "there", addend)
		a.raw(0xc3).whole("f", elf.STB_GLOBAL)
		if named {
			return a.graph()
		}
		b := a.bytes()
		f, err := elf.NewFile(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		clear(b[f.Section(".rela.text.f").Offset+12:][:4]) // the symbol
		g, err := testutil.Analyze(b, "t.o")
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	for _, c := range []struct {
		x, y *elfdiff.Graph
		same bool
	}{
		{build(false, 0x1000), build(false, 0x1000), true}, {build(false, 0x1000), build(false, 0x1001), false},
		{build(false, 0x1000), build(true, 0x1000), false}, {build(true, 0x1000), build(false, 0x1000), false}, {build(true, 1), build(true, 1), true},
	} {
		if d := testutil.Diff(t, c.x, c.y); (statusOf(t, d, "f") == elfdiff.Unchanged) != c.same {
			t.Errorf("want same %v\n%s", c.same, dump(d))
		}
	}
}

// TestRelocationGone: the same bytes mean something else with a relocation, or with another.
func TestRelocationGone(t *testing.T) {
	build := func(fields ...string) *elfdiff.Graph {
		a := newAsm(t)
		a.section(".text.f", text)
		for _, sym := range fields {
			if a.raw(0xb8); sym == "" {
				a.u32(0)
			} else {
				a.field(elf.R_X86_64_32, sym, 0)
			}
		}
		a.raw(0xc3).whole("f", elf.STB_GLOBAL)
		return a.graph()
	}
	for _, c := range []struct {
		x, y []string
		same bool
	}{
		{[]string{"u", "v"}, []string{"u", "v"}, true}, {[]string{"u", "v"}, []string{"u", ""}, false}, {[]string{"u", ""}, []string{"u", "v"}, false},
		{[]string{"", "v"}, []string{"u", ""}, false}, {[]string{"u", "v"}, []string{"v", "u"}, false}, {[]string{"u"}, []string{""}, false}, {[]string{""}, []string{"u"}, false},
	} {
		if d := testutil.Diff(t, build(c.x...), build(c.y...)); (statusOf(t, d, "f") == elfdiff.Unchanged) != c.same {
			t.Errorf("%q and %q: want same %v\n%s", c.x, c.y, c.same, dump(d))
		}
	}
}

// TestReferredPadding: filling that something refers to counts.
func TestReferredPadding(t *testing.T) {
	build := func(fill byte, off int64) *elfdiff.Graph {
		a := newAsm(t)
		a.section(".text", text)
		for _, name := range []string{"g", "h"} {
			a.label(name, 6, elf.STB_GLOBAL, elf.STT_FUNC)
			a.raw(0xb8, 1, 0, 0, 0, 0xc3)
			for range 10 {
				a.raw(fill)
			}
		}
		a.section(".text.f", text)
		a.lea(toRDI, ".text", off).raw(0xc3).whole("f", elf.STB_GLOBAL)
		return a.graph()
	}
	for _, c := range []struct {
		fill byte
		off  int64
		same bool
	}{{0x90, 8, true}, {0xcc, 8, false}, {0x90, 9, false}} {
		if d := testutil.Diff(t, build(0x90, 8), build(c.fill, c.off)); (statusOf(t, d, "f") == elfdiff.Unchanged) != c.same || statusOf(t, d, "g") != elfdiff.Unchanged {
			t.Errorf("%#x at %d: want same %v\n%s", c.fill, c.off, c.same, dump(d))
		}
	}
}

// TestUndecodable: in code that does not decode, operands that the assembler resolved cannot be found. Equal bytes are the same
// code only where equal distances lead to the same things.
func TestUndecodable(t *testing.T) {
	type piece struct {
		name string
		size int
		ret  byte
	}
	build := func(before ...piece) *elfdiff.Graph {
		a := newAsm(t)
		a.section(".text", text)
		for _, p := range before {
			if p.name == "" {
				for range p.size {
					a.raw(p.ret)
				}
				continue
			}
			a.label(p.name, p.size, elf.STB_GLOBAL, elf.STT_FUNC)
			for range p.size - 2 {
				a.raw(0x90)
			}
			a.raw(p.ret, 0xc3)
		}
		a.label("f", 8, elf.STB_GLOBAL, elf.STT_FUNC)
		a.raw(0xe8, 0xeb, 0xff, 0xff, 0xff, 0x06, 0x06, 0xc3) // a call 16 bytes back, then none of 64-bit code
		return a.graph()
	}
	g, h, fill := piece{"g", 16, 0x90}, piece{"h", 16, 0x90}, piece{"", 16, 0x90}
	for _, c := range []struct {
		name string
		x, y []piece
		same bool
	}{
		{"alone", nil, nil, true}, {"alone, then not", nil, []piece{g}, false}, {"not alone, then alone", []piece{g}, nil, false}, {"the same", []piece{g, h}, []piece{g, h}, true}, {"exchanged", []piece{g, h}, []piece{h, g}, false}, {"another", []piece{g}, []piece{h}, false},
		{"one more before", []piece{h}, []piece{g, h}, false}, {"cut otherwise", []piece{{"g", 16, 0x90}, {"h", 16, 0x90}}, []piece{{"g", 20, 0x90}, {"h", 12, 0x90}}, false},
		{"another body there", []piece{g}, []piece{{"g", 16, 0xf4}}, true}, {"filling there", []piece{g, fill}, []piece{g, fill}, true}, {"another filling there", []piece{g, fill}, []piece{g, {"", 16, 0xcc}}, false},
	} {
		d := testutil.Diff(t, build(c.x...), build(c.y...))
		if got := statusOf(t, d, "f") == elfdiff.Unchanged; got != c.same {
			t.Errorf("%s: same %v, want %v\n%s", c.name, got, c.same, dump(d))
		}
	}
}

// TestAbsoluteSymbols: a symbol that is a number is that number.
func TestAbsoluteSymbols(t *testing.T) {
	build := func(shndx elf.SectionIndex, value uint64) *elfdiff.Graph {
		a := newAsm(t)
		a.b.SetSymbol(a.ref("there"), object.BuildSymbol{Name: "there", Shndx: shndx, Value: value, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_NOTYPE)})
		a.section(".text.f", text)
		a.raw(0xb8).field(elf.R_X86_64_32, "there", 0).raw(0xc3).whole("f", elf.STB_GLOBAL)
		return a.graph()
	}
	for _, c := range []struct {
		x, y *elfdiff.Graph
		same bool
	}{
		{build(elf.SHN_ABS, 5), build(elf.SHN_ABS, 5), true}, {build(elf.SHN_ABS, 5), build(elf.SHN_ABS, 6), false}, {build(elf.SHN_UNDEF, 0), build(elf.SHN_UNDEF, 0), true},
		{build(elf.SHN_ABS, 5), build(elf.SHN_UNDEF, 0), false},
	} {
		if d := testutil.Diff(t, c.x, c.y); (statusOf(t, d, "f") == elfdiff.Unchanged) != c.same {
			t.Errorf("want same %v\n%s", c.same, dump(d))
		}
	}
}

// TestIndexedStrings: an indexed access stays in the piece that it goes by, when it goes by one; else it may reach all that follows.
func TestIndexedStrings(t *testing.T) {
	op := []byte{0x8a, 0x80} // mov sym+off(%rax),%al
	build := func(label bool, off int64, texts ...string) *elfdiff.Graph {
		a := newAsm(t)
		a.section(".rodata.str", strs)
		for i, s := range texts {
			if label && i == 1 {
				a.label("second", len(s)+1, elf.STB_LOCAL, elf.STT_OBJECT)
			}
			a.str(s)
		}
		a.section(".text.f", text)
		sym := ".rodata.str"
		if label {
			sym = "second"
		}
		a.raw(op...).field(elf.R_X86_64_32S, sym, off).raw(0xc3).whole("f", elf.STB_GLOBAL)
		return a.graph()
	}
	for _, c := range []struct {
		name    string
		op      []byte
		indexed bool
	}{
		{"base", []byte{0x8a, 0x80}, true}, {"base and index", []byte{0x8a, 0x84, 0x18}, true}, {"index", []byte{0x8a, 0x04, 0x1d}, true}, {"r12 as index", []byte{0x42, 0x8a, 0x04, 0x25}, true},
		{"rsp", []byte{0x8a, 0x84, 0x24}, true}, {"neither", []byte{0x8a, 0x04, 0x25}, false}, {"a number", []byte{0xb8}, false},
	} {
		op = c.op
		d := testutil.Diff(t, build(false, 4, "aa", "bb", "cc"), build(false, 4, "aa", "bb", "ddd"))
		if got := statusOf(t, d, "f") == elfdiff.Changed; got != c.indexed {
			t.Errorf("%s: %v, want %v", c.name, got, c.indexed)
		}
	}
	op = []byte{0x8a, 0x80}
	for _, c := range []struct {
		name string
		x, y *elfdiff.Graph
		same bool
	}{
		{"the start of a piece", build(false, 3, "aa", "bb", "cc"), build(false, 3, "aa", "bb", "dd"), true},
		{"the start of a piece that moved", build(false, 3, "aa", "bb", "cc"), build(false, 0, "bb", "aa", "cc"), true},
		{"another piece", build(false, 3, "aa", "bb", "cc"), build(false, 6, "aa", "bb", "cc"), false},
		{"the piece changes", build(false, 3, "aa", "bb", "cc"), build(false, 3, "aa", "bd", "cc"), false},
		{"inside a piece", build(false, 4, "aa", "bb", "cc"), build(false, 4, "aa", "bb", "cc"), true},
		{"inside a piece, and what follows changes", build(false, 4, "aa", "bb", "cc"), build(false, 4, "aa", "bb", "ddd"), false},
		{"inside a piece, and what follows changes where it is", build(false, 4, "aa", "bb", "cc"), build(false, 4, "aa", "bb", "dd"), false},
		{"inside a piece, and what is before changes", build(false, 4, "aa", "bb", "cc"), build(false, 4, "dd", "bb", "cc"), true},
		{"by a label", build(true, 1, "aa", "bb", "cc"), build(true, 1, "aa", "bb", "ddd"), true},
		{"by a label, that moves", build(true, 1, "aa", "bb", "cc"), build(true, 1, "ccc", "bb", "aa"), true},
		{"by a label, another place", build(true, 1, "aa", "bb", "cc"), build(true, 0, "aa", "bb", "cc"), false},
	} {
		if d := testutil.Diff(t, c.x, c.y); (statusOf(t, d, "f") == elfdiff.Unchanged) != c.same {
			t.Errorf("%s: want same %v\n%s", c.name, c.same, dump(d))
		}
	}
}

// TestDefinedElsewhere: whether this object defines what a name stands for does not change who refers to it by that name;
// what it is weak or strong about does.
func TestDefinedElsewhere(t *testing.T) {
	const none, global, weak, local = elf.SymBind(99), elf.STB_GLOBAL, elf.STB_WEAK, elf.STB_LOCAL
	build := func(name string, bind elf.SymBind, off int64) *elfdiff.Graph {
		a := newAsm(t)
		a.section(".data.v", data)
		if bind != none {
			a.label(name, 8, bind, elf.STT_OBJECT)
		}
		a.raw(1, 2, 3, 4, 5, 6, 7, 8)
		a.section(".text.f", text)
		a.lea(toRDI, name, off).raw(0xc3).whole("f", elf.STB_GLOBAL)
		return a.graph()
	}
	for _, c := range []struct {
		name string
		x, y *elfdiff.Graph
		same bool
	}{
		{"here now", build("v", none, 0), build("v", global, 0), true}, {"elsewhere now", build("v", global, 0), build("v", none, 0), true},
		{"here now, another place", build("v", none, 0), build("v", global, 4), false}, {"another name", build("v", none, 0), build("w", none, 0), false},
		{"here now, another name", build("v", none, 0), build("w", global, 0), false}, {"here now, local", build("v", none, 0), build("v", local, 0), false},
		{"another place", build("v", none, 0), build("v", none, 4), false}, {"weak", build("v", weak, 0), build("v", weak, 0), true},
		{"another weak one", build("v", weak, 0), build("w", weak, 0), false}, {"renamed", build("v", global, 0), build("w", global, 0), false},
	} {
		if d := testutil.Diff(t, c.x, c.y); (statusOf(t, d, "f") == elfdiff.Unchanged) != c.same {
			t.Errorf("%s: want same %v\n%s", c.name, c.same, dump(d))
		}
	}
}

// TestEveryReference: whatever the first reference of a function is, the second counts, too.
func TestEveryReference(t *testing.T) {
	build := func(first string, off int64, second string, patched bool) *elfdiff.Graph {
		a := newAsm(t)
		variable := func(sec string, flags elf.SectionFlag, name string, bind elf.SymBind) {
			a.section(sec, flags)
			if name != "" {
				a.label(name, 8, bind, elf.STT_OBJECT)
			}
			a.raw(1, 2, 3, 4, 5, 6, 7, 8)
		}
		a.b.SetSymbol(a.ref("number"), object.BuildSymbol{Name: "number", Shndx: elf.SHN_ABS, Value: 7, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_NOTYPE)})
		variable(".data.u", data, "u", elf.STB_GLOBAL)
		variable(".data.v", data, "v", elf.STB_GLOBAL)
		variable(".data.w", data, "w", elf.STB_WEAK)
		variable(".rodata.CSWTCH.1", rodata, "CSWTCH.1", elf.STB_LOCAL)
		variable(".rodata", rodata, "", 0)
		a.fn("g", ".text.g", elf.STB_GLOBAL, func() { a.raw(0x90, 0x90, 0x90, 0xc3) })
		if patched {
			variable(".data.now", data, "now", elf.STB_GLOBAL)
		}
		a.section(".text.f", text)
		a.lea(toRDI, first, off).lea(toRSI, second, 0).raw(0xc3).whole("f", elf.STB_GLOBAL)
		return a.graph()
	}
	for _, c := range []struct {
		first string
		off   int64
	}{{"u", 0}, {"u", 4}, {"w", 0}, {"now", 0}, {"elsewhere", 0}, {"number", 0}, {"CSWTCH.1", 0}, {".rodata", 0}, {".rodata", 4}, {"g", 0}, {"g", 2}, {".data.u", 4}} {
		for _, second := range []string{"u", "elsewhere", "v"} {
			d := testutil.Diff(t, build(c.first, c.off, "v", false), build(c.first, c.off, second, true))
			if got := statusOf(t, d, "f") == elfdiff.Unchanged; got != (second == "v") {
				t.Errorf("%s+%d and v, then %s: same %v\n%s", c.first, c.off, second, got, dump(d))
			}
		}
	}
}

// TestRefusedRelocations: what could not be compared is refused, at the limits.
func TestRefusedRelocations(t *testing.T) {
	a := newAsm(t)
	a.section(".data.v", data)
	a.label("v", 8, elf.STB_GLOBAL, elf.STT_OBJECT)
	a.field(elf.R_X86_64_32, "w", 0).raw(0, 0, 0, 0)
	good := a.bytes()
	f, err := elf.NewFile(bytes.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	at, rela := f.Section(".data.v").Offset, f.Section(".rela.data.v").Offset
	const clean = -1
	for _, c := range []struct {
		typ  elf.R_X86_64
		off  uint64
		dirt int // a byte of the section that is not zero
		want diag.Code
	}{
		{elf.R_X86_64_64, 0, clean, ""}, {elf.R_X86_64_64, 1, clean, diag.RelocOutside}, {elf.R_X86_64_32, 4, clean, ""}, {elf.R_X86_64_32, 5, clean, diag.RelocOutside},
		{elf.R_X86_64_PC32, 4, clean, ""}, {elf.R_X86_64_PC32, 5, clean, diag.RelocOutside}, {elf.R_X86_64_16, 6, clean, ""}, {elf.R_X86_64_16, 7, clean, diag.RelocOutside},
		{elf.R_X86_64_8, 7, clean, ""}, {elf.R_X86_64_8, 8, clean, diag.RelocOutside},
		{elf.R_X86_64_32, 2, 1, ""}, {elf.R_X86_64_32, 2, 2, diag.RelocNonzero}, {elf.R_X86_64_32, 2, 5, diag.RelocNonzero}, {elf.R_X86_64_32, 2, 6, ""},
		{elf.R_X86_64_8, 3, 3, diag.RelocNonzero}, {elf.R_X86_64_8, 3, 4, ""}, {elf.R_X86_64_64, 0, 7, diag.RelocNonzero},
		{elf.R_X86_64_COPY, 0, clean, diag.RelocUnsupported}, {elf.R_X86_64_GLOB_DAT, 0, clean, diag.RelocUnsupported}, {elf.R_X86_64_RELATIVE, 0, clean, diag.RelocUnsupported},
		{elf.R_X86_64_IRELATIVE, 0, clean, diag.RelocUnsupported}, {99, 0, clean, diag.RelocUnsupported}, {250, 0, clean, diag.RelocUnsupported}, {251, 0, clean, diag.RelocUnsupported},
		{elf.R_X86_64_NONE, 7, 7, ""}, {elf.R_X86_64_GOTPCREL, 0, clean, ""},
	} {
		b := bytes.Clone(good)
		binary.LittleEndian.PutUint64(b[rela:], c.off)
		binary.LittleEndian.PutUint32(b[rela+8:], uint32(c.typ))
		if c.dirt != clean {
			b[at+uint64(c.dirt)] = 1
		}
		_, err := testutil.Analyze(b, "t.o")
		e := (*diag.Error)(nil)
		if ok := errors.As(err, &e); c.want == "" && err != nil || c.want != "" && (!ok || len(e.Diagnostics) != 1 || e.Diagnostics[0].Code != c.want || e.Diagnostics[0].Place.Offset != c.off) {
			t.Errorf("%v at %d, byte %d: %v, want %s", c.typ, c.off, c.dirt, err, c.want)
		}
	}
}

// TestReplacementOwners: replacement code, and table entries for places in it, belong to the function that it is put into.
func TestReplacementOwners(t *testing.T) {
	const no = elfdiff.NoField
	build := func(a1, b1 byte, last int64) *elfdiff.Graph {
		a := newAsm(t)
		for _, n := range []string{"f", "g"} {
			a.fn(n, ".text."+n, elf.STB_GLOBAL, func() { a.raw(0x90, 0x90, 0x90, 0x90, 0x90, 0xc3) })
		}
		a.section(".altrepl", text)
		a.raw(0xb8, a1, 0, 0, 0, 0xb8, b1, 0, 0, 0)
		a.section("sites", rodata) // stands before what says where these places are
		a.field(elf.R_X86_64_PC32, ".altrepl", 5)
		a.section("alt", rodata)
		a.field(elf.R_X86_64_PC32, ".text.f", 0).field(elf.R_X86_64_PC32, ".altrepl", 0).raw(5, 5)
		a.field(elf.R_X86_64_PC32, ".text.g", 0).field(elf.R_X86_64_PC32, ".altrepl", last).raw(5, 5)
		return a.graphBy(
			elfdiff.Table{Section: "alt", Entry: 10, Refs: []int{0, 4}, SiteLen: 8, Body: 4, BodyLen: 9, Line: no, Format: no, File: no},
			elfdiff.Table{Section: "sites", Entry: 4, Refs: []int{0}, SiteLen: no, Body: no, BodyLen: no, Line: no, Format: no, File: no},
		)
	}
	x := build(1, 1, 5)
	for u := 1; u < len(x.Units); u++ {
		if n, want := len(x.Units[u].Entries), map[string]int{"f": 1, "g": 2}[x.UnitName(elfdiff.UnitID(u))]; n != want {
			t.Errorf("%s has %d entries, want %d", x.UnitName(elfdiff.UnitID(u)), n, want)
		}
	}
	for _, c := range []struct {
		y    *elfdiff.Graph
		f, g elfdiff.Status
	}{
		{build(1, 1, 5), un, un}, {build(2, 1, 5), ch, un}, {build(1, 2, 5), un, ch}, {build(2, 2, 5), ch, ch}, {build(1, 1, 0), un, ch},
	} {
		d := testutil.Diff(t, x, c.y)
		if f, g := statusOf(t, d, "f"), statusOf(t, d, "g"); f != c.f || g != c.g {
			t.Errorf("f is %v, g %v; want %v and %v\n%s", f, g, c.f, c.g, dump(d))
		}
	}
}
