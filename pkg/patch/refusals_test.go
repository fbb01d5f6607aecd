package patch

import (
	"context"
	"debug/elf"
	"slices"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
)

// refusal is a pair that a patch is refused for, by one code.
type refusal struct {
	code    diag.Code
	orig    []def
	patched []def
	object  string // vmlinux when empty
	opts    Options
	place   string // section
	symbol  string // of the place
	chain   string // references that led there; empty: the place itself is what changed
}

func refusals(t testing.TB) []refusal {
	f1, f2 := fn("f", one), fn("f", two)
	f := func(code string, rels ...rel) def { return fn("f", code, rels...) }
	v := static(datum("v", ".data.v", word))
	bare := func(code string) def { return def{name: "f", sec: ".text.f", code: code, typ: elf.STT_FUNC} }
	in := func(sec, code string) def { return def{name: "g", sec: sec, code: code} }
	jump := def{sec: "__jump_table", code: "00000000 00000000 0000000000000000", typ: elf.STT_OBJECT, rels: []rel{{0, pc32, "f", 5}, {4, pc32, "f", 7}, {8, abs64, "v", 0}}}
	site := def{sec: ".static_call_sites", code: "00000000 00000000", typ: elf.STT_OBJECT, rels: []rel{{0, pc32, "f", 5}, {4, pc32, "v", 0}}}
	bug := def{sec: "__bug_table", code: "000000000000000000000000", typ: elf.STT_OBJECT, rels: []rel{{0, pc32, "f", 5}, {4, pc32, "v", 0}}}
	shift := def{sec: "runtime_shift_LIMIT", code: "00000000", typ: elf.STT_OBJECT, rels: []rel{{0, pc32, "f", 7}}}
	merged := func(f, g string) []def {
		return []def{{name: "f", sec: ".text", code: f}, {name: "g", sec: ".text", code: g}}
	}
	return []refusal{
		{code: diag.DataChanged, orig: []def{f1, v}, patched: []def{f2, static(datum("v", ".data.v", "0200000000000000"))}, place: ".data.v", symbol: "v"},
		{code: diag.UnknownTable, orig: []def{f1, {sec: "__sites", code: "00000000", typ: elf.STT_OBJECT, rels: []rel{{0, pc32, "f", 0}}}},
			patched: []def{f2, {sec: "__sites", code: "00000000", typ: elf.STT_OBJECT, rels: []rel{{0, pc32, "f", 0}}}}, place: "__sites"},
		{code: diag.NoFtraceEntry, orig: []def{bare(one)}, patched: []def{bare(two)}, place: ".text.f", symbol: "f"},
		{code: diag.InitChanged, orig: []def{in(".init.text", one)}, patched: []def{in(".init.text", two)}, place: ".init.text", symbol: "g"},
		{code: diag.InitReference, orig: []def{f1, datum("n", ".init.data", word)}, patched: []def{f(load, rel{2, pc32, "n", -4}), datum("n", ".init.data", word)}, place: ".text.f", symbol: "f", chain: "f"},
		{code: diag.Unpatchable, orig: []def{in(".noinstr.text", one)}, patched: []def{in(".noinstr.text", two)}, place: ".noinstr.text", symbol: "g"},
		{code: diag.SymposUnknown, orig: []def{f1, v, static(datum("v", ".data.v2", "0300000000000000"))}, patched: []def{f(load, rel{2, pc32, "..data.v", -4}), v, static(datum("v", ".data.v2", "0300000000000000"))}, place: ".text.f", symbol: "f", chain: "f"},
		{code: diag.NothingChanged, orig: []def{f1}, patched: []def{f1}},
		{code: diag.ExportChanged, orig: []def{f1}, patched: []def{f2, datum("__ksymtab_f", "___ksymtab+f", "00000000", rel{0, pc32, "f", 0})}, place: "___ksymtab+f", symbol: "__ksymtab_f"},
		{code: diag.NewInitcall, orig: []def{f1}, patched: []def{f2, datum("__initcall__x", ".initcall6.init", "00000000", rel{0, pc32, "f", 0})}, place: ".initcall6.init", symbol: "__initcall__x"},
		{code: diag.NewTracepoint, orig: []def{f1}, patched: []def{f2, datum("__tracepoint_x", "__tracepoints", word)}, place: "__tracepoints", symbol: "__tracepoint_x"},
		{code: diag.Instrumented, orig: []def{f1}, patched: []def{f(call, rel{1, plt32, "__asan_load8_noabort", -4})}, place: ".text.f", symbol: "f", chain: "f"},
		{code: diag.UnnamedData, orig: []def{f1, {sec: ".mydata", code: word, typ: elf.STT_OBJECT}}, patched: []def{f(load, rel{2, pc32, "..mydata", -4}), {sec: ".mydata", code: word, typ: elf.STT_OBJECT}}, place: ".mydata", chain: "f"},
		{code: diag.ShortBranch, orig: merged(one, one), patched: merged("eb 09 c3", one), place: ".text", symbol: "f", chain: "f"},
		{code: diag.RuntimeConst, orig: []def{f("c1e012" + one), shift}, patched: []def{f("c1e012" + two), shift}, place: "runtime_shift_LIMIT"},
		{code: diag.Undefined, orig: []def{f1}, patched: []def{f(call, rel{1, plt32, "g", -4})}, opts: Options{Symbols: known(t, []string{"T f"}, "__fentry__=vmlinux")}, place: ".text.f", symbol: "f", chain: "f"},
		{code: diag.ExportTwice, orig: []def{f1}, patched: []def{f(call, rel{1, plt32, "g", -4})}, opts: Options{Symbols: known(t, nil, "g=a", "g=b", "__fentry__=vmlinux")}, place: ".text.f", symbol: "f", chain: "f"},
		{code: diag.StaticKey, object: "mod", orig: []def{f("6690" + one), v, jump}, patched: []def{f("6690" + two), v, jump}, place: "__jump_table", chain: "f"},
		{code: diag.StaticCall, object: "mod", orig: []def{f("6690" + one), v, site}, patched: []def{f("6690" + two), v, site}, place: ".static_call_sites", chain: "f"},
		{code: diag.LateTable, object: "mod", orig: []def{f("0f0b" + one), v, bug}, patched: []def{f("0f0b" + two), v, bug}, place: "__bug_table", chain: "f"},
		{code: diag.RelocUnsupported, orig: []def{f1}, patched: []def{f("488b05 00000000 c3", rel{3, elf.R_X86_64_REX_GOTPCRELX, "g", -4})}, place: ".text.f", symbol: "f", chain: "f"},
		{code: diag.RelocOverflow, orig: []def{f1, v}, patched: []def{f("bf 00000000 c3", rel{1, elf.R_X86_64_32, "v", 0}), v}, place: ".text.f", symbol: "f", chain: "f"},
		{code: diag.AmbiguousTarget, orig: []def{f1, datum("u", ".data", word+word)}, patched: []def{f(lea, rel{3, pc32, "..data", 16 - 4}), datum("u", ".data", word+word), static(datum("w", ".data", word))}, place: ".text.f", symbol: "f", chain: "f"},
		{code: diag.NotImplemented, orig: []def{f1}, patched: []def{f(call, rel{1, plt32, "g", -4})}, opts: Options{Symbols: known(t, nil, "g=lib", "__fentry__=vmlinux")}, place: ".text.f", symbol: "f", chain: "f"},
		{code: diag.CallbackInvalid, orig: []def{f1}, patched: []def{f2, kpatchCB("pre_patch", "elsewhere")}, place: ".kpatch.callbacks.pre_patch"},
	}
}

// Each reason against a patch has its code, says where, how it got there, and what to do about it.
// (Groups, weak definitions, overlapping symbols and changes of alignment are fixtures of testdata/cases.)
func TestRefusals(t *testing.T) {
	for _, c := range refusals(t) {
		t.Run(string(c.code), func(t *testing.T) {
			if c.object == "" {
				c.object = "vmlinux"
			}
			e := refused(t, c.opts, []Pair{pairOf(t, c.object, "a.c", c.orig, c.patched)}, string(c.code))
			i := slices.IndexFunc(e.Diagnostics, func(d diag.Diagnostic) bool { return d.Code == c.code })
			d := e.Diagnostics[i]
			if d.Remedy == "" || d.Message == "" || d.Severity != diag.SevError {
				t.Errorf("%+v", d)
			}
			if c.place != "" && (d.Place.File != "a.c.PATCHED.o" || d.Place.Section != c.place || c.symbol != "" && d.Place.Symbol != c.symbol) {
				t.Errorf("at %v, want %s (%s)", d.Place, c.place, c.symbol)
			}
			if c.chain != "" && (len(d.Chain) == 0 || d.Chain[0] != c.chain) {
				t.Errorf("led there: %v, want %s first", d.Chain, c.chain)
			}
		})
	}
	// Those of fixtures.
	for name, code := range map[string]diag.Code{"cxx-template/g++": diag.GroupChanged, "cxx-template/clang++": diag.GroupChanged, "weak/gcc": diag.WeakChanged, "fallthrough/as": diag.OverlappingSymbols} {
		p := fixture(t, name)
		_, err := New(context.Background(), []Pair{p}, Options{})
		if err == nil || !slices.Contains(codesOf(t, err), string(code)) {
			t.Errorf("%s: %v, want %s", name, err, code)
		}
	}
}

// Everything that stands against a patch is told in one run.
func TestRefusalsTogether(t *testing.T) {
	var orig, patched []def
	var want []string
	n := 0
	for _, c := range refusals(t) {
		switch c.code {
		case diag.NothingChanged, diag.SymposUnknown, diag.Undefined, diag.ExportTwice, diag.NotImplemented, diag.StaticKey, diag.StaticCall, diag.LateTable, diag.ShortBranch, diag.UnknownTable, diag.AmbiguousTarget:
			continue // which need symbols of their own, another object, or a section to themselves
		}
		n++
		mine := func(defs []def) (out []def) {
			suffix := "_" + string(rune('a'+n))
			for _, d := range defs {
				own := func(s string) string {
					if s == "f" || s == "v" || s == "g" || s == "n" {
						return s + suffix
					}
					if s == "..data.v" {
						return s + suffix
					}
					return s
				}
				d.name = own(d.name)
				if strings.HasPrefix(d.sec, ".text.") || strings.HasPrefix(d.sec, ".data.") {
					d.sec += suffix
				}
				d.rels = slices.Clone(d.rels)
				for i := range d.rels {
					d.rels[i].sym = own(d.rels[i].sym)
				}
				out = append(out, d)
			}
			return out
		}
		orig, patched = append(orig, mine(c.orig)...), append(patched, mine(c.patched)...)
		want = append(want, string(c.code))
	}
	slices.Sort(want)
	refused(t, Options{}, []Pair{pairOf(t, "vmlinux", "a.c", orig, patched)}, slices.Compact(want)...)
	if n < 10 {
		t.Errorf("%d reasons", n)
	}
}

// Two builds that are not of one kind are no pair.
func TestHeaderMismatch(t *testing.T) {
	a, err := analyze(make1(t, "a.c", fn("f", one)), "a.o")
	if err != nil {
		t.Fatal(err)
	}
	f, err := object.Parse(make1(t, "a.c", fn("f", two)), object.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := object.NewBuilder(object.Header{Type: elf.ET_REL, OSABI: 3})
	for i := 1; i < len(f.Sections); i++ {
		if s := &f.Sections[i]; s.Alloc() {
			b.AddSection(object.BuildSection{Name: s.Name, Type: s.Type, Flags: s.Flags, Addralign: s.Addralign, Data: s.Data})
		}
	}
	data, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	g, err := analyze(data, "b.o")
	if err != nil {
		t.Fatal(err)
	}
	_, err = elfdiff.Diff(context.Background(), a, g, nil)
	if err == nil || !slices.Equal(codesOf(t, err), []string{"header-mismatch"}) {
		t.Errorf("%v", err)
	}
}

// What can never fit is refused; a reference far past the end of its target is legal.
func TestFits(t *testing.T) {
	for _, c := range []struct {
		typ    elf.R_X86_64
		addend int64
		mapped bool
		want   bool
	}{
		{abs32, 0, true, true}, {abs32, 1 << 20, true, true}, {abs32, -8, true, true}, {abs32, 0x80000000, true, true}, {abs32, 1 << 32, true, false}, {abs32, -1<<31 - 1, true, false},
		{pc32, -4, true, true}, {pc32, 1 << 20, true, true}, {plt32, 1 << 33, true, false}, {abs64, 1 << 40, true, true}, {elf.R_X86_64_PC64, -1 << 40, true, true},
		{elf.R_X86_64_32, 0, true, false}, {elf.R_X86_64_32, 0, false, true}, {elf.R_X86_64_32, 0x80000000, true, true},
	} {
		if got := fits(c.typ, c.addend, c.mapped); got != c.want {
			t.Errorf("%v%+d: %v", c.typ, c.addend, got)
		}
	}
}
