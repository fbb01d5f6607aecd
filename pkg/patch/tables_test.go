package patch

import (
	"context"
	"debug/elf"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/object"
)

// with analyses a pair again under other rules.
func with(t testing.TB, rules *elfdiff.Rules, p Pair) Pair {
	t.Helper()
	var g [2]*elfdiff.Graph
	for i, f := range []*object.File{p.Orig.File, p.Patched.File} {
		var err error
		if g[i], err = elfdiff.Analyze(context.Background(), f, rules); err != nil {
			t.Fatal(err)
		}
	}
	d, err := elfdiff.Diff(context.Background(), g[0], g[1], nil)
	if err != nil {
		t.Fatal(err)
	}
	return Pair{Object: p.Object, Orig: g[0], Patched: g[1], Delta: d}
}

func section(f *object.File, name string) *object.Section {
	for i := range f.Sections {
		if f.Sections[i].Name == name {
			return &f.Sections[i]
		}
	}
	return nil
}

// A table without a row that points at what is replaced stops the patch, and a row that the
// caller adds lets its entries travel, or says that they are not needed.
func TestUnknownTable(t *testing.T) {
	sites := def{sec: "__new_sites", code: "00000000 07000000 00000000 08000000", typ: elf.STT_OBJECT, rels: []rel{{0, pc32, "f", 5}, {8, pc32, "g", 5}}}
	base := pairOf(t, "vmlinux", "a.c", []def{fn("f", one), fn("g", one), sites}, []def{fn("f", two), fn("g", one), sites})
	e := refused(t, Options{}, []Pair{base}, "unknown-table")
	if d := e.Diagnostics[0]; d.Place.Section != "__new_sites" || !strings.Contains(d.Message, "f") || !strings.Contains(d.Remedy, "row") {
		t.Errorf("%+v", d)
	}
	const no = elfdiff.NoField
	for _, c := range []struct {
		emit elfdiff.Action
		want string
	}{{elfdiff.Carry, "0000000007000000"}, {elfdiff.Drop, ""}} {
		rules := kernel.Rules()
		rules.Tables = append(rules.Tables, elfdiff.Table{Section: "__new_*", Entry: 8, Refs: []int{0}, SiteLen: no, Body: no, BodyLen: no, Line: no, Format: no, File: no, Emit: [3]elfdiff.Action{c.emit, c.emit, c.emit}})
		for _, format := range []elfdiff.Format{elfdiff.FormatKlp, elfdiff.FormatKpatch} {
			plan, err := New(context.Background(), []Pair{with(t, rules, base)}, Options{Format: format})
			if err != nil {
				t.Fatal(err)
			}
			data, err := plan.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			f, err := object.Parse(data, object.Options{})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if s := section(f, "__new_sites"); s != nil {
				got = hex.EncodeToString(s.Data)
			}
			if got != c.want {
				t.Errorf("action %d, form %d: %q, want %q", c.emit, format, got, c.want)
			}
		}
	}
}

// Static calls travel in both intermediate forms; one whose key the kernel does not have goes through its trampoline.
func TestStaticCallSites(t *testing.T) {
	tramp := rel{1, plt32, "__SCT__go", -4}
	site := def{sec: ".static_call_sites", code: "00000000 00000000", typ: elf.STT_OBJECT, rels: []rel{{0, pc32, "f", 5}, {4, pc32, "__SCK__go", 1}}}
	body := func(tail string) string { return "e8 00000000 " + tail }
	pair := pairOf(t, "vmlinux", "a.c", []def{fn("f", body(one), tramp), site}, []def{fn("f", body(two), tramp), site})
	for _, format := range []elfdiff.Format{elfdiff.FormatKlp, elfdiff.FormatKpatch} {
		_, p := written(t, format, pair)
		if s := section(p.File, ".static_call_sites"); s == nil || s.Size != 8 {
			t.Errorf("form %d: %+v", format, s)
		}
	}
	for _, c := range []struct {
		names []string
		sites bool
	}{{[]string{"T f", "T __SCT__go", "D __SCK__go"}, true}, {[]string{"T f", "T __SCT__go"}, false}} {
		plan, err := New(context.Background(), []Pair{pair}, Options{Symbols: known(t, c.names, "__fentry__=vmlinux")})
		if err != nil {
			t.Fatal(err)
		}
		data, err := plan.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		f, err := object.Parse(data, object.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if s := section(f, ".static_call_sites"); (s != nil && s.Size > 0) != c.sites || c.sites == (len(plan.Diagnostics) > 0) {
			t.Errorf("%v: %+v, %v", c.names, s, plan.Diagnostics)
		}
	}
}

// Unwind entries travel in pairs and end where the code does, where the build does not make them anew.
func TestUnwindEntries(t *testing.T) {
	// f has two entries, and what follows it in the table is g's.
	ip := func(fs ...rel) def {
		return def{sec: ".orc_unwind_ip", code: strings.Repeat("00000000", len(fs)), typ: elf.STT_OBJECT, rels: fs}
	}
	table := def{sec: ".orc_unwind", code: "080000000500 100000000500 080000000200 180000000500", typ: elf.STT_OBJECT}
	ips := ip(rel{0, pc32, "f", 0}, rel{4, pc32, "f", 5}, rel{8, pc32, "g", 0}, rel{12, pc32, "g", 1})
	pair := pairOf(t, "vmlinux", "a.c", []def{fn("f", one), fn("g", one), ips, table}, []def{fn("f", two), fn("g", one), ips, table})
	_, p := written(t, elfdiff.FormatKpatch, pair)
	if s := section(p.File, ".orc_unwind"); s == nil || hex.EncodeToString(s.Data) != "080000000500"+"100000000500"+"000000000000" {
		t.Errorf("%+v", s)
	}
	var at []int64
	for i := range p.File.Sections {
		if p.File.Sections[i].Name == ".orc_unwind_ip" {
			for _, r := range relocs(p.File, object.SecID(i)) {
				at = append(at, int64(p.File.Symbols[r.Sym].Value)+r.Addend)
			}
		}
	}
	if len(at) != 3 || at[0] != 0 || at[1] != 5 || at[2] != 11 {
		t.Errorf("at %v", at)
	}
	if _, p = written(t, elfdiff.FormatKlp, pair); section(p.File, ".orc_unwind") != nil {
		t.Error("the kernel's own build makes unwind entries")
	}
}

// Objects of the kernel and of two modules in one patch, two of them of one module: each function and reference belongs to its own.
func TestSeveralParents(t *testing.T) {
	pair := func(object, file, name string) Pair {
		v := static(datum("state_"+file[:1], ".data.state", word))
		return pairOf(t, object, file, []def{fn(name, one), v}, []def{fn(name, "8b05 00000000 e8 00000000 c3", rel{2, pc32, "state_" + file[:1], -4}, rel{7, plt32, "common", -4}), v})
	}
	common := pairOf(t, "vmlinux", "v.c", []def{fn("k", one)}, []def{fn("k", two), fn("common", two)})
	pairs := []Pair{common, pair("ext4", "a.c", "alloc"), pair("ext4", "b.c", "bmap"), pair("xfs", "c.c", "alloc_x")}
	want := []string{"ext4 .text.alloc+0x7 R_X86_64_PC32 ext4:state_a,0 -4", "ext4 .text.bmap+0x7 R_X86_64_PC32 ext4:state_b,0 -4", "xfs .text.alloc_x+0x7 R_X86_64_PC32 xfs:state_c,0 -4"}
	for _, format := range []elfdiff.Format{elfdiff.FormatKlp, elfdiff.FormatKpatch} {
		_, p := written(t, format, pairs...)
		var got, funcs []string
		for _, tu := range p.Tuples() {
			got = append(got, tu.String())
		}
		for _, o := range p.Objects {
			for _, f := range o.Funcs {
				funcs = append(funcs, o.Name+":"+f.Name)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("form %d: %q, want %q", format, got, want)
		}
		slices.Sort(funcs)
		if s := strings.Join(funcs, " "); s != "ext4:alloc ext4:bmap vmlinux:k xfs:alloc_x" {
			t.Errorf("form %d: %s", format, s)
		}
		n := 0 // the new function is there once, and all calls lead to it
		for i := range p.File.Symbols {
			if p.File.Symbols[i].Name == "common" {
				n++
				if p.File.Symbols[i].Sec == 0 {
					t.Errorf("form %d: common is undefined", format)
				}
			}
		}
		if n != 1 {
			t.Errorf("form %d: %d symbols common", format, n)
		}
	}
}
