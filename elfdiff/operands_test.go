package elfdiff_test

import (
	"bytes"
	"context"
	"debug/elf"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/elfdiff/internal/testutil"
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
		a.flush()
		b, err := a.b.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		f, err := object.Parse(b, object.Options{Name: "t.o"})
		if err != nil {
			t.Fatal(err)
		}
		row := elfdiff.Table{Section: "table", Entry: 12, Refs: []int{8}, Site: 8, SiteLen: no, Body: no, BodyLen: no, Line: line, LineSize: 2, Format: no, File: no}
		g, err := elfdiff.Analyze(context.Background(), f, &elfdiff.Rules{Tables: []elfdiff.Table{row}})
		if err != nil {
			t.Fatal(err)
		}
		return g
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
		a.flush()
		b, err := a.b.Bytes()
		if err != nil {
			t.Fatal(err)
		}
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
