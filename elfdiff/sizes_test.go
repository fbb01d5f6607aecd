package elfdiff_test

import (
	"context"
	"debug/elf"
	"slices"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/object"
)

// A table whose relocations fit entries of 4, 8 and 16 bytes: sources decide in their order, and contradictions are told.
func TestEntrySizes(t *testing.T) {
	row := func(n int, refs ...int) elfdiff.Table {
		const no = elfdiff.NoField
		return elfdiff.Table{Section: "table", Entry: n, Refs: refs, SiteLen: no, Body: no, BodyLen: no, Line: no, Format: no, File: no}
	}
	build := func(entsize uint64, marks ...int64) *object.File {
		a := newAsm(t)
		a.section(".text.f", text)
		a.raw(0x90, 0x90, 0x90, 0xc3).whole("f", elf.STB_GLOBAL)
		a.section("table", rodata)
		for range 8 {
			a.field(elf.R_X86_64_PC32, "f", 0)
		}
		id := a.sec
		if marks != nil {
			a.section(".discard.annotate_data", 0)
			for _, m := range marks {
				a.field(elf.R_X86_64_PC32, "table", m).u32(1)
			}
			a.field(elf.R_X86_64_PC32, ".text.f", 0).u32(2) // of another type
		}
		a.flush()
		s := a.b.Section(id)
		s.Entsize = entsize
		a.b.SetSection(id, s)
		return a.file()
	}
	caller := func(n int) elfdiff.EntrySize {
		return elfdiff.EntrySize{Section: "tab*", Entry: n, Source: elfdiff.SizeCaller}
	}
	types := func(n int) elfdiff.EntrySize {
		return elfdiff.EntrySize{Section: "table", Entry: n, Source: elfdiff.SizeTypes}
	}
	for _, c := range []struct {
		name    string
		sizes   []elfdiff.EntrySize
		marks   []int64
		entsize uint64
		want    int
		told    []string // of table-size
	}{
		{name: "the first row that fits", want: 8},
		{name: "sh_entsize", entsize: 4, want: 4},
		{name: "sh_entsize that means nothing", entsize: 1, want: 8},
		{name: "types", sizes: []elfdiff.EntrySize{types(16)}, want: 16},
		{name: "the first of a source", sizes: []elfdiff.EntrySize{types(16), types(4)}, want: 16},
		{name: "the first of each source", sizes: []elfdiff.EntrySize{types(8), caller(16), types(4), caller(4)}, want: 16, told: []string{"the kernel's types gives 8"}},
		{name: "of another section", sizes: []elfdiff.EntrySize{{Section: "other", Entry: 4, Source: elfdiff.SizeCaller}, types(16)}, want: 16},
		{name: "types before sh_entsize", sizes: []elfdiff.EntrySize{types(16)}, entsize: 4, want: 16, told: []string{"sh_entsize gives 4 bytes for an entry, and the kernel's types gives 16"}},
		{name: "annotations", marks: []int64{0, 16}, want: 16},
		{name: "annotations, in any order", marks: []int64{24, 0, 16, 8}, want: 8},
		{name: "annotations before types", marks: []int64{0, 16}, sizes: []elfdiff.EntrySize{types(4)}, want: 16, told: []string{"the kernel's types gives 4 bytes for an entry, and the object's annotations gives 16"}},
		{name: "one annotation", marks: []int64{0}, want: 8, told: []string{"the object's annotations gives 32 bytes for an entry, which does not fit"}},
		{name: "annotations at unequal distances", marks: []int64{0, 8}, want: 8, told: []string{"gives 16"}},
		{name: "caller before all", sizes: []elfdiff.EntrySize{types(8), caller(4)}, marks: []int64{0, 16}, entsize: 8, want: 4,
			told: []string{"the object's annotations gives 16", "the kernel's types gives 8", "sh_entsize gives 8"}},
		{name: "caller, who is right", sizes: []elfdiff.EntrySize{caller(8)}, entsize: 8, want: 8},
		{name: "caller, who is wrong", sizes: []elfdiff.EntrySize{caller(12)}, entsize: 4, want: 4, told: []string{"the caller gives 12 bytes for an entry, which does not fit"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			rules := &elfdiff.Rules{Marks: ".discard.annotate_data", Sizes: c.sizes, Tables: []elfdiff.Table{row(8, 0, 4), row(4, 0), row(16, 0, 4, 8, 12), row(12, 0, 4, 8)}}
			g, err := elfdiff.Analyze(context.Background(), build(c.entsize, c.marks...), rules)
			if err != nil {
				t.Fatal(err)
			}
			got := 0
			for i := range g.Atoms {
				if g.Atoms[i].Kind == elfdiff.AtomEntry {
					got = int(g.Atoms[i].Size)
					break
				}
			}
			if c.name == "annotations at unequal distances" {
				c.told = nil // they say nothing
			}
			if got != c.want {
				t.Errorf("entries of %d bytes, want %d", got, c.want)
			}
			var told []string
			for _, d := range g.Diags {
				if d.Code != diag.TableSize || d.Severity != diag.SevWarning || d.Place.Section != "table" {
					t.Errorf("%v", d)
				}
				told = append(told, d.Message)
			}
			if len(told) != len(c.told) || slices.ContainsFunc(c.told, func(w string) bool {
				return !slices.ContainsFunc(told, func(m string) bool { return strings.Contains(m, w) })
			}) {
				t.Errorf("%q, want %q", told, c.told)
			}
		})
	}
}

// Starts that the object lists cut code without names too.
func TestMarksCutCode(t *testing.T) {
	a := newAsm(t)
	a.section(".altinstr_replacement", text)
	a.raw(0xfb, 0xfb, 0xfb, 0xfa, 0xfa, 0xfa, 0xf4)
	a.section(".discard.annotate_data", 0)
	for _, m := range []int64{0, 3, 6} {
		a.field(elf.R_X86_64_PC32, ".altinstr_replacement", m).u32(1)
	}
	g := a.graph()
	var cuts []uint64
	for i := range g.Atoms {
		if at := &g.Atoms[i]; at.Sec != 0 && g.File.Sections[at.Sec].Name == ".altinstr_replacement" {
			cuts = append(cuts, at.Off)
		}
	}
	if !slices.Equal(cuts, []uint64{0, 3, 6}) {
		t.Errorf("cut at %v", cuts)
	}
}

// SetSizes takes a size that no row has, and refuses what cannot be.
func TestSetSizes(t *testing.T) {
	r := kernel.Rules()
	n := len(r.Tables)
	if err := kernel.SetSizes(r, elfdiff.SizeTypes, map[string]int{"__bug_table": 12, "__ex_table": 12}); err != nil || len(r.Tables) != n || len(r.Sizes) != 2 {
		t.Errorf("%v, %d rows, %v", err, len(r.Tables), r.Sizes)
	}
	if err := kernel.SetSizes(r, elfdiff.SizeCaller, map[string]int{"__bug_table": 20}); err != nil || len(r.Tables) != n+1 || r.Tables[n].Entry != 20 || r.Tables[n].Line != elfdiff.NoField {
		t.Errorf("%v, %d rows", err, len(r.Tables))
	}
	for section, size := range map[string]int{"__bug_table": 0, "__ex_table": -1, ".altinstructions": 1 << 20, "__jump_table": 4, "nothing": 8} {
		if kernel.SetSizes(r, elfdiff.SizeCaller, map[string]int{section: size}) == nil {
			t.Errorf("%s of %d bytes taken", section, size)
		}
	}
}
