package elfdiff_test

import (
	"debug/elf"
	"fmt"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/elfdiff/internal/testutil"
	"github.com/kdelta/kdelta/pkg/object"
)

// TestSectionHeaders: what a section's header says of otherwise equal contents.
func TestSectionHeaders(t *testing.T) {
	// A function that reads a variable and a string, each in its section; edit changes one of these.
	build := func(name string, edit func(*object.BuildSection)) *elfdiff.Graph {
		a := newAsm(t)
		ids := map[string]object.SecID{}
		section := func(name string, flags elf.SectionFlag) {
			a.section(name, flags)
			ids[name] = a.sec
		}
		section(".rodata.str", strs)
		a.raw('a', 0, 0, 0, 'b', 0, 0, 0)
		section(".data.v", data)
		a.label("v", 8, elf.STB_GLOBAL, elf.STT_OBJECT)
		a.raw(1, 2, 3, 4, 5, 6, 7, 8)
		section(".rodata.c", rodata)
		a.label("c", 8, elf.STB_LOCAL, elf.STT_OBJECT)
		a.raw(1, 2, 3, 4, 5, 6, 7, 8)
		section(".text.f", text)
		a.lea(toRDI, ".rodata.str", 4).lea(toRSI, "v", 0).lea(toRSI, "c", 0).raw(0xc3).whole("f", elf.STB_GLOBAL)
		a.flush()
		if edit != nil {
			s := a.b.Section(ids[name])
			edit(&s)
			a.b.SetSection(ids[name], s)
		}
		a.sec = 0
		return a.graph()
	}
	as := func(typ elf.SectionType) func(*object.BuildSection) {
		return func(s *object.BuildSection) { s.Type = typ }
	}
	flags := func(fl elf.SectionFlag) func(*object.BuildSection) {
		return func(s *object.BuildSection) { s.Flags ^= fl }
	}
	align := func(n uint64) func(*object.BuildSection) {
		return func(s *object.BuildSection) { s.Addralign = n }
	}
	entsize := func(n uint64) func(*object.BuildSection) {
		return func(s *object.BuildSection) { s.Entsize = n }
	}
	for _, c := range []struct {
		name, section string
		edit          func(*object.BuildSection)
		want          string // what changes; empty: nothing
	}{
		{"the same", ".data.v", nil, ""},
		{"the type, of data", ".data.v", as(elf.SHT_NOTE), "v"},
		{"the type, of constants", ".rodata.c", as(elf.SHT_NOTE), "c"},
		{"the type, of code", ".text.f", as(elf.SHT_NOTE), "f"},
		{"read-only", ".data.v", flags(elf.SHF_WRITE), "v"},
		{"writable", ".rodata.c", flags(elf.SHF_WRITE), "c"},
		{"writable code", ".text.f", flags(elf.SHF_WRITE), "f"},
		{"executable data", ".data.v", flags(elf.SHF_EXECINSTR), "v"},
		{"thread-local", ".data.v", flags(elf.SHF_TLS), "v"},
		{"alignment, of data", ".data.v", align(32), "v"},
		{"alignment, of constants", ".rodata.c", align(8), "c"},
		{"alignment, of code", ".text.f", align(64), ""},
		{"entry size, of data", ".data.v", entsize(8), ""},
		{"wide characters", ".rodata.str", entsize(2), "f"},
		{"wider characters", ".rodata.str", entsize(4), "f"},
	} {
		for _, swap := range []bool{false, true} {
			x, y := build("", nil), build(c.section, c.edit)
			if swap {
				x, y = y, x
			}
			d := testutil.Diff(t, x, y)
			got := ""
			for i := range d.Functions {
				if d.Functions[i].Status != elfdiff.Unchanged {
					got += d.Functions[i].Name
				}
			}
			for i := range d.Data {
				if d.Data[i].Status != elfdiff.Unchanged && d.Data[i].Section != ".rodata.str" {
					got += d.Data[i].Name
				}
			}
			if got != c.want {
				t.Errorf("%s, swapped %v: %q, want %q\n%s", c.name, swap, got, c.want, dump(d))
			}
		}
	}
}

// TestEmptySections: a section that holds nothing stands for itself, by its name.
func TestEmptySections(t *testing.T) {
	build := func(name string, n int) *elfdiff.Graph {
		a := newAsm(t)
		a.section(name, data)
		a.raw(make([]byte, n)...)
		a.section(".data.v", data)
		a.label("v", 8, elf.STB_GLOBAL, elf.STT_OBJECT)
		a.raw(make([]byte, 8)...)
		a.section(".text.f", text)
		a.lea(toRDI, name, 0).lea(toRSI, "v", 0).raw(0xc3).whole("f", elf.STB_GLOBAL)
		return a.graph()
	}
	for _, c := range []struct {
		x, y *elfdiff.Graph
		same bool
	}{
		{build(".start", 0), build(".start", 0), true}, {build(".start", 0), build(".end", 0), false}, {build(".start.1", 0), build(".start.2", 0), true},
		{build(".start", 0), build(".start", 8), false}, {build(".start", 8), build(".start", 0), false}, {build(".start", 8), build(".start", 8), true},
	} {
		if d := testutil.Diff(t, c.x, c.y); (statusOf(t, d, "f") == elfdiff.Unchanged) != c.same {
			t.Errorf("want same %v\n%s", c.same, dump(d))
		}
	}
}

// TestOtherNames: the names by which other objects know places in a function, wherever that lies in its section.
func TestOtherNames(t *testing.T) {
	type name struct {
		name string
		off  int
		bind elf.SymBind
	}
	const global, weak, local = elf.STB_GLOBAL, elf.STB_WEAK, elf.STB_LOCAL
	build := func(before int, names ...name) *elfdiff.Graph {
		a := newAsm(t)
		a.section(".text", text)
		if before > 0 {
			a.label("first", before, global, elf.STT_FUNC)
			for range before - 1 {
				a.raw(0x90)
			}
			a.raw(0xc3)
		}
		start := len(a.buf)
		a.label("f", 6, global, elf.STT_FUNC)
		for i, b := range []byte{0x90, 0xb8, 1, 0, 0, 0, 0xc3} {
			for _, n := range names {
				if n.off == i {
					a.label(n.name, 0, n.bind, elf.STT_NOTYPE)
				}
			}
			if i == 6 {
				s := a.b.Symbol(a.syms["f"])
				s.Size = uint64(len(a.buf) - start + 1)
				a.b.SetSymbol(a.syms["f"], s)
			}
			a.raw(b)
		}
		return a.graph()
	}
	g, h := name{"g", 0, global}, name{"h", 1, global}
	many := func(last name) (out []name) {
		for i := range 20 {
			out = append(out, name{fmt.Sprintf("n%d", i), i % 2, global})
		}
		return append(out, last)
	}
	for _, c := range []struct {
		name string
		x, y []name
		same bool
	}{
		{"none", nil, nil, true}, {"two", []name{g, h}, []name{g, h}, true}, {"another order", []name{g, {"a", 0, global}}, []name{{"a", 0, global}, g}, true},
		{"one goes", []name{g, h}, []name{g}, false}, {"one comes", []name{g}, []name{g, h}, false}, {"another", []name{g}, []name{{"k", 0, global}}, false},
		{"one moves", []name{g, h}, []name{g, {"h", 6, global}}, false}, {"weak", []name{g}, []name{{"g", 0, weak}}, false}, {"weak before", []name{{"g", 0, weak}}, []name{g}, false},
		{"weak in both", []name{{"g", 0, weak}}, []name{{"g", 0, weak}}, true}, {"a local one goes", []name{{"g", 1, local}}, nil, true}, {"local now", []name{g}, []name{{"g", 0, local}}, true},
		{"many", many(g), many(g), true}, {"many, another order", many(g), append([]name{g}, many(g)[:20]...), true}, {"many, another last", many(g), many(h), false},
		{"many, the last moves", many(g), many(name{"g", 1, global}), false}, {"many, the last is weak", many(g), many(name{"g", 0, weak}), false}, {"many, and one less", many(g), many(g)[:20], false},
	} {
		for _, before := range []int{0, 16} {
			d := testutil.Diff(t, build(before, c.x...), build(before, c.y...))
			if got := statusOf(t, d, "f") == elfdiff.Unchanged; got != c.same {
				t.Errorf("%s, at %d: same %v, want %v\n%s", c.name, before, got, c.same, dump(d))
			}
		}
	}
}

// TestDirectives: the patched source may take functions out of the comparison, by address, and sections, by name.
func TestDirectives(t *testing.T) {
	type at struct {
		sym string
		off int64
	}
	build := func(v uint32, funcs []at, sections ...string) *elfdiff.Graph {
		a := newAsm(t)
		a.section(".rodata.str", strs)
		var offs []int64
		for _, s := range sections {
			offs = append(offs, a.str(s))
		}
		for _, n := range []string{"f", "g"} {
			a.fn(n, ".text."+n, elf.STB_GLOBAL, func() { a.raw(0x90, 0xb8).u32(v).raw(0xc3) })
		}
		if funcs != nil {
			a.section(".kpatch.ignore.functions", rodata)
			for _, f := range funcs {
				a.field(elf.R_X86_64_64, f.sym, f.off)
			}
		}
		if sections != nil {
			a.section(".kpatch.ignore.sections", rodata)
			for _, o := range offs {
				a.field(elf.R_X86_64_64, ".rodata.str", o)
			}
		}
		return a.graph()
	}
	x := build(1, nil)
	for _, c := range []struct {
		name string
		y    *elfdiff.Graph
		f, g string // what made them equal; empty: they are not
	}{
		{"none", build(2, nil), "", ""}, {"a function", build(2, []at{{"f", 0}}), "functions", ""}, {"both", build(2, []at{{"g", 0}, {"f", 0}}), "functions", "functions"},
		{"a place in a function", build(2, []at{{"f", 1}}), "", ""}, {"a section", build(2, nil, ".text.g"), "", "sections"}, {"two sections", build(2, nil, ".text.g", ".text.f"), "sections", "sections"},
		{"another section", build(2, nil, ".text", "x"), "", ""}, {"the empty name", build(2, nil, ""), "", ""}, {"each in its way", build(2, []at{{"f", 0}}, ".text.g"), "functions", "sections"},
	} {
		for _, off := range []bool{false, true} {
			d := testutil.DiffOpts(t, x, c.y, &elfdiff.Options{NoDirectives: off})
			for name, by := range map[string]string{"f": c.f, "g": c.g} {
				for i := range d.Functions {
					if f := &d.Functions[i]; f.Name == name {
						ignored := f.Status == elfdiff.Unchanged && len(f.Causes) > 0 && f.Causes[0].Kind == elfdiff.CauseIgnored && f.Causes[0].Detail == ".kpatch.ignore."+by
						if want := by != "" && !off; ignored != want || f.Status == elfdiff.Unchanged && !want {
							t.Errorf("%s, off %v: %s is %v, want ignored %v\n%s", c.name, off, name, f.Status, want, dump(d))
						}
					}
				}
			}
		}
	}
}

// TestNamelessRows: what has no name is told of where nobody else tells of it.
func TestNamelessRows(t *testing.T) {
	build := func(sec string, flags elf.SectionFlag, v byte, refers bool) *elfdiff.Graph {
		a := newAsm(t)
		a.section(sec, flags)
		a.raw(v, 2, 3, 4, 5, 6, 7, 8)
		a.section(".text.f", text)
		if refers {
			a.lea(toRDI, sec, 0)
		}
		a.raw(0xc3).whole("f", elf.STB_GLOBAL)
		return a.graph()
	}
	for _, c := range []struct {
		name   string
		sec    string
		flags  elf.SectionFlag
		refers bool
		f      elfdiff.Status
		row    elfdiff.Status // 0: none
	}{
		{"state that a function uses", ".data", data, true, ch, ch}, {"state that nobody uses", ".data", data, false, un, ch},
		{"constants that a function uses", ".rodata", rodata, true, ch, 0}, {"constants that nobody uses", ".rodata", rodata, false, un, ch},
	} {
		d := testutil.Diff(t, build(c.sec, c.flags, 1, c.refers), build(c.sec, c.flags, 9, c.refers))
		row := elfdiff.Status(0)
		for i := range d.Data {
			row = d.Data[i].Status
		}
		if f := statusOf(t, d, "f"); f != c.f || row != c.row || len(d.Data) > 1 {
			t.Errorf("%s: f is %v, the data %v; want %v and %v\n%s", c.name, f, row, c.f, c.row, dump(d))
		}
	}
}
