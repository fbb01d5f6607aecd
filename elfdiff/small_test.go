package elfdiff_test

import (
	"debug/elf"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/elfdiff/internal/testutil"
)

// What the assembler resolved leads where the processor takes it: from the end of the instruction, behind an immediate.
func TestResolvedBias(t *testing.T) {
	a := newAsm(t)
	a.section(".text", text)
	a.label("f", 18, elf.STB_GLOBAL, elf.STT_FUNC)
	a.raw(0x48, 0x8d, 0x3d).u32(11)          // 0: lea 11(%rip),%rdi: to 18
	a.raw(0xc7, 0x05).u32(4).u32(0x01020304) // 7: movl $..,4(%rip): to 21
	a.raw(0xc3)                              // 17
	a.label("g", 8, elf.STB_GLOBAL, elf.STT_FUNC)
	a.raw(0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xc3)
	g := a.graph()
	type want struct{ off, disp, bias int64 }
	var got []want
	for i := range g.Atoms {
		es, _ := g.Edges(elfdiff.AtomID(i), nil)
		for _, e := range es {
			got = append(got, want{int64(e.Off), e.Disp, int64(e.Bias)})
		}
	}
	if len(got) != 2 || got[0] != (want{3, 18, 4}) || got[1] != (want{9, 21, 8}) {
		t.Errorf("%+v", got)
	}
}

// Brief leaves out what has nothing to say, and counts it.
func TestBrief(t *testing.T) {
	for _, p := range testutil.FixturePairs(t) {
		a, b, ok := testutil.LoadPair(t, p)
		if !ok {
			continue
		}
		full, brief := testutil.Diff(t, a, b), testutil.DiffOpts(t, a, b, &elfdiff.Options{Brief: true})
		if full.Omitted != (elfdiff.Omitted{}) {
			t.Errorf("%s: %+v omitted without being asked", p.Name, full.Omitted)
		}
		if len(brief.Functions)+brief.Omitted.Functions != len(full.Functions) || len(brief.Data)+brief.Omitted.Data != len(full.Data) {
			t.Errorf("%s: %d functions and %d data, %+v omitted, of %d and %d", p.Name, len(brief.Functions), len(brief.Data), brief.Omitted, len(full.Functions), len(full.Data))
		}
		if brief.Same() != full.Same() {
			t.Errorf("%s: same %v, %v", p.Name, brief.Same(), full.Same())
		}
	}
}

// A name of this file alone is not the name that others have.
func TestUndefinedBinding(t *testing.T) {
	make := func(bind elf.SymBind) *elfdiff.Graph {
		a := newAsm(t)
		s := a.b.Symbol(a.ref("there"))
		s.Info = elf.ST_INFO(bind, elf.STT_NOTYPE)
		s.Shndx = elf.SHN_ABS
		s.Value = 0x1000
		a.b.SetSymbol(a.ref("there"), s)
		a.section(".text.f", text)
		a.lea(toRDI, "there", 0).raw(0xc3).whole("f", elf.STB_GLOBAL)
		return a.graph()
	}
	global, local := make(elf.STB_GLOBAL), make(elf.STB_LOCAL)
	if d := testutil.Diff(t, global, global); !d.Same() {
		t.Error(dump(d))
	}
	if d := testutil.Diff(t, global, local); d.Same() || d.Functions[0].Status != elfdiff.Changed {
		t.Error(dump(d))
	}
}

// The section of a function says when it is there: .text.x is as good as .text, .init.text is not.
func TestSectionClass(t *testing.T) {
	make := func(section string) *elfdiff.Graph {
		a := newAsm(t)
		a.section(section, text)
		a.raw(0xb8).u32(7).raw(0xc3).whole("f", elf.STB_GLOBAL)
		return a.graph()
	}
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{".text.f", ".text.f", true},
		{".text", ".text.f", true},
		{".text.x", ".text.y", true},
		{".text.x", ".text", true},
		{".text.unlikely.f", ".text.f", true},
		{".init.text", ".text", false},
		{".text..other", ".text", false},
		{".text..other", ".text..another", false},
		{".special", ".text", false},
		{".special.f", ".special", true},
	} {
		for _, swap := range []bool{false, true} {
			x, y := c.a, c.b
			if swap {
				x, y = y, x
			}
			if d := testutil.Diff(t, make(x), make(y)); d.Same() != c.same {
				t.Errorf("%s to %s: same %v\n%s", x, y, d.Same(), dump(d))
			}
		}
	}
}

// What is an address of its own in one object and defined elsewhere for the other is not the same.
func TestUndefinedAndAbsolute(t *testing.T) {
	make := func(where elf.SectionIndex, value uint64) *elfdiff.Graph {
		a := newAsm(t)
		s := a.b.Symbol(a.ref("there"))
		s.Shndx, s.Value = where, value
		a.b.SetSymbol(a.ref("there"), s)
		a.section(".text.f", text)
		a.lea(toRDI, "there", 0).raw(0xc3).whole("f", elf.STB_GLOBAL)
		return a.graph()
	}
	undefined := make(elf.SHN_UNDEF, 0)
	for _, c := range []struct {
		name string
		x, y *elfdiff.Graph
		same bool
	}{
		{"undefined", undefined, make(elf.SHN_UNDEF, 0), true},
		{"absolute", make(elf.SHN_ABS, 16), make(elf.SHN_ABS, 16), true},
		{"other address", make(elf.SHN_ABS, 16), make(elf.SHN_ABS, 32), false},
		{"becomes absolute", undefined, make(elf.SHN_ABS, 16), false},
		{"becomes address 0", undefined, make(elf.SHN_ABS, 0), false},
		{"was address 0", make(elf.SHN_ABS, 0), undefined, false},
	} {
		if d := testutil.Diff(t, c.x, c.y); (statusOf(t, d, "f") == elfdiff.Unchanged) != c.same {
			t.Errorf("%s: %s", c.name, dump(d))
		}
	}
}

// Filling that is referred to is as good as what control falls into behind it.
func TestBehindPadding(t *testing.T) {
	make := func(off int64, edit byte) *elfdiff.Graph {
		a := newAsm(t)
		a.section(".text", text)
		for i, name := range []string{"g", "h", "k"} {
			v := byte(i)
			if name == "h" {
				v += edit
			}
			a.label(name, 6, elf.STB_GLOBAL, elf.STT_FUNC)
			a.raw(0xb8, v, 0, 0, 0, 0xc3)
			for range 10 {
				a.raw(0x90)
			}
		}
		a.section(".text.f", text)
		a.lea(toRDI, ".text", off).raw(0xc3).whole("f", elf.STB_GLOBAL)
		return a.graph()
	}
	for _, c := range []struct {
		name string
		x, y *elfdiff.Graph
		want elfdiff.Status
	}{
		{"as it was", make(8, 0), make(8, 0), elfdiff.Unchanged},
		{"before another function", make(8, 0), make(24, 0), elfdiff.Changed},
		{"before nothing", make(8, 0), make(40, 0), elfdiff.Changed},
		{"the function behind it changes, which is told of that function", make(8, 0), make(8, 7), elfdiff.Unchanged},
	} {
		if d := testutil.Diff(t, c.x, c.y); statusOf(t, d, "f") != c.want {
			t.Errorf("%s: %s", c.name, dump(d))
		}
	}
}
