package patch

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/symbols"
)

// def is a function or datum of an object made by hand. Functions get a call of
// __fentry__ in front; offsets of relocations count from behind it.
type def struct {
	name  string
	sec   string // several definitions of one section lie behind each other, 16 bytes aligned
	code  string // hexadecimal
	size  uint64 // of zero-initialised data
	local bool
	alias bool        // another name for the start of the section
	bare  bool        // a label, without a size
	align uint64      // of the section, when it is the first there
	typ   elf.SymType // functions when 0
	rels  []rel
}

type rel struct {
	off uint64
	typ elf.R_X86_64
	sym string // "." + name: the section
	add int64
}

const (
	pc32  = elf.R_X86_64_PC32
	plt32 = elf.R_X86_64_PLT32
	abs64 = elf.R_X86_64_64
	abs32 = elf.R_X86_64_32S
)

// make1 makes an object.
func make1(t testing.TB, file string, defs ...def) []byte {
	t.Helper()
	b := object.NewBuilder(object.Header{})
	b.AddSymbol(object.BuildSymbol{Name: file, Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_FILE), Shndx: elf.SHN_ABS})
	secs := map[string]object.SecID{}
	syms := map[string]object.SymID{}
	starts := make([]uint64, len(defs))
	for i, d := range defs {
		if secs[d.sec] == 0 {
			s := object.BuildSection{Name: d.sec, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_WRITE, Addralign: 16}
			switch {
			case strings.Contains(d.sec, ".text"):
				s.Flags = elf.SHF_ALLOC | elf.SHF_EXECINSTR
			case strings.HasPrefix(d.sec, ".rodata.str"):
				s.Flags, s.Entsize, s.Addralign = elf.SHF_ALLOC|elf.SHF_MERGE|elf.SHF_STRINGS, 1, 1
			case strings.HasPrefix(d.sec, ".rodata.cst16"):
				s.Flags, s.Entsize = elf.SHF_ALLOC|elf.SHF_MERGE, 16
			case strings.HasPrefix(d.sec, ".rodata"), strings.HasPrefix(d.sec, "runtime_"):
				s.Flags = elf.SHF_ALLOC
			case strings.HasPrefix(d.sec, ".discard."):
				s.Addralign = 8
			case strings.HasPrefix(d.sec, ".bss"):
				s.Type = elf.SHT_NOBITS
			}
			if d.align != 0 {
				s.Addralign = d.align
			}
			secs[d.sec] = b.AddSection(s)
			syms["."+d.sec] = b.AddSymbol(object.BuildSymbol{Sec: secs[d.sec], Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_SECTION)})
		}
		s := b.Section(secs[d.sec])
		if d.alias {
			syms[d.name] = b.AddSymbol(object.BuildSymbol{Name: d.name, Sec: secs[d.sec], Size: d.size, Info: elf.ST_INFO(elf.STB_GLOBAL, d.typ)})
			continue
		}
		code, err := hex.DecodeString(strings.ReplaceAll(d.code, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(d.sec, ".text") && d.typ == 0 {
			code = append([]byte{0xe8, 0, 0, 0, 0}, code...)
			d.typ = elf.STT_FUNC
			starts[i] = 5
		}
		size := uint64(len(code)) + d.size
		at := uint64(0)
		if s.Type == elf.SHT_NOBITS {
			at = s.Size
			s.Size += size
		} else {
			for uint64(len(s.Data))%min(s.Addralign, 16) != 0 {
				s.Data = append(s.Data, map[bool]byte{true: 0x90}[s.Flags&elf.SHF_EXECINSTR != 0])
			}
			at = uint64(len(s.Data))
			s.Data = append(s.Data, code...)
		}
		b.SetSection(secs[d.sec], s)
		bind := elf.STB_GLOBAL
		if d.local {
			bind = elf.STB_LOCAL
		}
		if starts[i] != 0 {
			starts[i] += at
		} else {
			starts[i] = at
		}
		if d.bare {
			size = 0
		}
		if d.name != "" {
			syms[d.name] = b.AddSymbol(object.BuildSymbol{Name: d.name, Sec: secs[d.sec], Value: at, Size: size, Info: elf.ST_INFO(bind, d.typ)})
		}
	}
	sym := func(name string) object.SymID {
		if weak, ok := strings.CutPrefix(name, "weak "); ok && syms[name] == 0 {
			syms[name] = b.AddSymbol(object.BuildSymbol{Name: weak, Info: elf.ST_INFO(elf.STB_WEAK, elf.STT_NOTYPE)})
		}
		if syms[name] == 0 {
			syms[name] = b.AddSymbol(object.BuildSymbol{Name: name, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_NOTYPE)})
		}
		return syms[name]
	}
	for i, d := range defs {
		if strings.Contains(d.sec, ".text") && d.typ == 0 {
			b.AddReloc(secs[d.sec], object.Reloc{Off: starts[i] - 4, Type: plt32, Sym: sym("__fentry__"), Addend: -4})
		}
		for _, r := range d.rels {
			b.AddReloc(secs[d.sec], object.Reloc{Off: starts[i] + r.off, Type: r.typ, Sym: sym(r.sym), Addend: r.add})
		}
	}
	out, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// pairOf makes a pair from two objects.
func pairOf(t testing.TB, obj, file string, orig, patched []def) Pair {
	t.Helper()
	a, err := analyze(make1(t, file, orig...), file+".ORIG.o")
	if err != nil {
		t.Fatal(err)
	}
	b, err := analyze(make1(t, file, patched...), file+".PATCHED.o")
	if err != nil {
		t.Fatal(err)
	}
	d, err := elfdiff.Diff(context.Background(), a, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	return Pair{Object: obj, Orig: a, Patched: b, Delta: d}
}

// result is a patch in words: "section+0xoff type symbol+addend", klp relocations
// by the symbol that they stand for, and what is replaced.
type result struct {
	refs  []string
	funcs []string
	out   *object.File
	plan  *Plan
}

func write(t testing.TB, opts Options, pairs ...Pair) *result {
	t.Helper()
	p, err := New(context.Background(), pairs, opts)
	if err != nil {
		for _, d := range err.(*diag.Error).Diagnostics {
			t.Error(d)
		}
		t.FailNow()
	}
	data, err := p.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	checkOutput(t, p, data)
	r := &result{plan: p}
	if r.out, err = object.Parse(data, object.Options{}); err != nil {
		t.Fatal(err)
	}
	records := klpRecords(t, r.out)
	for i := range r.out.Sections {
		s := &r.out.Sections[i]
		if strings.Contains(s.Name, "klp_") || !s.Alloc() {
			continue
		}
		rs := r.out.RelocsOf(object.SecID(i))
		for k := range rs.Len() {
			x := rs.At(k)
			name := r.out.SymName(x.Sym)
			if rec, ok := records[site{object.SecID(i), x.Off}]; ok {
				name = fmt.Sprintf("[%s:%s.%s,%d]", rec.gate, rec.object, rec.name, rec.pos)
			}
			if name != "__fentry__" {
				r.refs = append(r.refs, fmt.Sprintf("%s+%#x %s %s%+d", s.Name, x.Off, strings.TrimPrefix(x.Type.String(), "R_X86_64_"), name, x.Addend))
			}
		}
	}
	for _, f := range p.Contents().Functions {
		w := f.Object + ":" + f.Name
		if f.Replaces() {
			w += fmt.Sprintf("=%s,%d", f.OrigName, f.Pos)
		}
		r.funcs = append(r.funcs, w)
	}
	return r
}

func (r *result) want(t testing.TB, funcs string, refs ...string) {
	t.Helper()
	if got := strings.Join(r.funcs, " "); got != funcs {
		t.Errorf("functions %s, want %s", got, funcs)
	}
	if !slices.Equal(r.refs, refs) {
		t.Errorf("references\n\t%s\nwant\n\t%s", strings.Join(r.refs, "\n\t"), strings.Join(refs, "\n\t"))
	}
}

func refused(t testing.TB, opts Options, pairs []Pair, codes ...string) *diag.Error {
	t.Helper()
	_, err := New(context.Background(), pairs, opts)
	if err == nil {
		t.Fatal("not refused")
	}
	if got := codesOf(t, err); !slices.Equal(got, codes) {
		t.Errorf("refused for %v (%v), want %v", got, err, codes)
	}
	return err.(*diag.Error)
}

// Shorthands. Functions return 1 in the original and 2 in the patched object.
const (
	one = "b8 01000000 c3"
	two = "b8 02000000 c3"
)

func fn(name, code string, rels ...rel) def {
	return def{name: name, sec: ".text." + name, code: code, rels: rels}
}

func static(d def) def {
	d.local = true
	return d
}

func datum(name, sec, bytes string, rels ...rel) def {
	return def{name: name, sec: sec, code: bytes, typ: elf.STT_OBJECT, rels: rels}
}

const word = "0100000000000000"

func TestCrossObjects(t *testing.T) {
	call := fn("f", "e8 00000000 c3", rel{1, plt32, "helper", -4})
	state := static(datum("state", ".data.state", word))
	helper := fn("helper", "8b05 00000000 c3", rel{2, pc32, "state", -4})
	g := fn("g", "8b05 00000000 c3", rel{2, pc32, "state", -4})
	a := pairOf(t, "vmlinux", "a.c", []def{fn("f", one)}, []def{call})

	t.Run("new function of another object", func(t *testing.T) {
		b := pairOf(t, "vmlinux", "b.c", []def{g, state}, []def{g, state, helper})
		for _, pairs := range [][]Pair{{a, b}, {b, a}} {
			r := write(t, Options{}, pairs...)
			slices.Sort(r.refs)
			r.want(t, "vmlinux:f=f,0 vmlinux:helper", ".text.f+0x6 PLT32 helper-4", ".text.helper+0x7 PC32 [vmlinux:vmlinux.state,0]-4")
			for i := range r.out.Symbols {
				if s := &r.out.Symbols[i]; s.Name == "helper" && s.Undefined() {
					t.Error("helper is undefined as well")
				}
			}
		}
	})
	t.Run("it is not there", func(t *testing.T) {
		write(t, Options{}, a).want(t, "vmlinux:f=f,0", ".text.f+0x6 PLT32 helper-4")
	})
	t.Run("changed function of another object, called", func(t *testing.T) {
		b := pairOf(t, "vmlinux", "b.c", []def{fn("helper", one)}, []def{fn("helper", two)})
		write(t, Options{}, a, b).want(t, "vmlinux:f=f,0 vmlinux:helper=helper,0", ".text.f+0x6 PLT32 helper-4")
	})
	t.Run("changed function of another object, address taken", func(t *testing.T) {
		a := pairOf(t, "vmlinux", "a.c", []def{fn("f", one)}, []def{fn("f", "488d05 00000000 c3", rel{3, pc32, "helper", -4})})
		b := pairOf(t, "vmlinux", "b.c", []def{fn("helper", one)}, []def{fn("helper", two)})
		write(t, Options{}, a, b).want(t, "vmlinux:f=f,0 vmlinux:helper=helper,0", ".text.f+0x8 PC32 [vmlinux:vmlinux.helper,0]-4")
	})
	t.Run("new data of another object", func(t *testing.T) {
		a := pairOf(t, "vmlinux", "a.c", []def{fn("f", one)}, []def{fn("f", "8b05 00000000 c3", rel{2, pc32, "fresh", -4})})
		b := pairOf(t, "vmlinux", "b.c", []def{fn("h", one)}, []def{fn("h", one), datum("fresh", ".data.fresh", word)})
		for _, pairs := range [][]Pair{{a, b}, {b, a}} {
			write(t, Options{}, pairs...).want(t, "vmlinux:f=f,0", ".text.f+0x7 PC32 fresh-4")
		}
	})
	t.Run("one name twice in an object", func(t *testing.T) {
		a := pairOf(t, "vmlinux", "a.c", []def{static(fn("h", one))}, []def{static(fn("h", two))})
		b := pairOf(t, "vmlinux", "b.c", []def{static(fn("h", one))}, []def{static(fn("h", two))})
		refused(t, Options{}, []Pair{a, b}, "sympos-unknown")
		b.Object = "mod"
		r := write(t, Options{}, a, b)
		r.want(t, "vmlinux:h=h,0 mod:h=h,0")
		for i := range r.out.Sections {
			if s := &r.out.Sections[i]; s.Name == ".init.klp_objects" && s.Size != 128 {
				t.Errorf("%d bytes of objects", s.Size)
			}
		}
	})
	t.Run("one global name in two objects", func(t *testing.T) {
		a := pairOf(t, "vmlinux", "a.c", []def{fn("h", one)}, []def{fn("h", two)})
		b := pairOf(t, "mod", "b.c", []def{fn("h", one)}, []def{fn("h", two)})
		refused(t, Options{}, []Pair{a, b}, "not-supported-yet")
	})
	t.Run("nothing", func(t *testing.T) {
		same := pairOf(t, "vmlinux", "a.c", []def{fn("h", one)}, []def{fn("h", one)})
		refused(t, Options{}, []Pair{same, same}, "nothing-changed")
		write(t, Options{}, same, a).want(t, "vmlinux:f=f,0", ".text.f+0x6 PLT32 helper-4")
	})
}

// known makes a Set of symbols of vmlinux, as "letter name" of kallsyms with a module in brackets
// where it is one's ("t v.1", "T f [mod]"), and of exports, as "name=exporter" with a namespace behind a colon.
func known(t testing.TB, names []string, exports ...string) *symbols.Set {
	t.Helper()
	var text strings.Builder
	for _, e := range exports {
		name, by, _ := strings.Cut(e, "=")
		by, ns, _ := strings.Cut(by, ":")
		if by != "vmlinux" {
			by = "drivers/" + by
		}
		fmt.Fprintf(&text, "0x00000000\t%s\t%s\tEXPORT_SYMBOL\t%s\n", name, by, ns)
	}
	sv, err := symbols.ParseSymvers("Module.symvers", []byte(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	if names == nil {
		return symbols.NewSet(sv)
	}
	for _, x := range sv.Exports { // the kernel has what it exports
		if x.Module == "vmlinux" && !slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, " "+x.Symbol) }) {
			names = append(names, "T "+x.Symbol)
		}
	}
	text.Reset()
	for i, n := range names {
		addr := 0xffffffff81000000 + 16*uint64(i)
		if n, m, ok := strings.Cut(n, " ["); ok {
			addr += 1 << 26
			fmt.Fprintf(&text, "%016x %s\t[%s\n", addr, n, m)
			continue
		}
		fmt.Fprintf(&text, "%016x %s\n", addr, n)
	}
	tables, err := symbols.ParseKallsyms("kallsyms", []byte(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	var oracles []*symbols.Oracle
	for _, tab := range tables {
		o, _ := symbols.NewOracle(tab.Object, tab)
		oracles = append(oracles, o)
	}
	return symbols.NewSet(sv, oracles...)
}

func TestKernelSymbols(t *testing.T) {
	const load, call, lea = "8b05 00000000 c3", "e8 00000000 c3", "488d05 00000000 c3"
	local := static(datum("v.1", ".data.v.1", word))
	for _, c := range []struct {
		name    string
		object  string
		opts    Options
		orig    []def
		patched []def
		ref     string
		codes   string
	}{
		{name: "local", orig: []def{fn("f", one), local}, patched: []def{fn("f", load, rel{2, pc32, "v.1", 0}), local}, ref: "PC32 [vmlinux:vmlinux.v.1,0]+0"},
		{name: "local, by its section", orig: []def{fn("f", one), local}, patched: []def{fn("f", load, rel{2, pc32, "..data.v.1", 0}), local}, ref: "PC32 [vmlinux:vmlinux.v.1,0]+0"},
		{name: "second of a section", orig: []def{fn("f", one), datum("u", ".data", word), static(datum("w", ".data", word))},
			patched: []def{fn("f", load, rel{2, pc32, "..data", 16 + 2 - 4}), datum("u", ".data", word), static(datum("w", ".data", word))}, ref: "PC32 [vmlinux:vmlinux.w,0]-2"},
		{name: "start of one, or end of another, that stay together", orig: []def{fn("f", one), datum("u", ".data", word+word), static(datum("w", ".data", word))},
			patched: []def{fn("f", lea, rel{3, pc32, "..data", 16 - 4}), datum("u", ".data", word+word), static(datum("w", ".data", word))}, ref: "PC32 [vmlinux:vmlinux.w,0]-4"},
		{name: "start of a new one, or end of another", orig: []def{fn("f", one), datum("u", ".data", word+word)},
			patched: []def{fn("f", lea, rel{3, pc32, "..data", 16 - 4}), datum("u", ".data", word+word), static(datum("w", ".data", word))}, codes: "ambiguous-target"},
		{name: "access of a new one behind another", orig: []def{fn("f", one), datum("u", ".data", word+word)},
			patched: []def{fn("f", load, rel{2, pc32, "..data", 16 - 4}), datum("u", ".data", word+word), static(datum("w", ".data", word))}, ref: "PC32 .data-4"},
		{name: "another name for what is there", orig: []def{fn("f", one), datum("v", ".data.v", word)},
			patched: []def{fn("f", load, rel{2, pc32, "v_too", -4}), datum("v", ".data.v", word), {name: "v_too", sec: ".data.v", alias: true, size: 8, typ: elf.STT_OBJECT}}, codes: "data-changed"},
		{name: "before its start", orig: []def{fn("f", one), local}, patched: []def{fn("f", load, rel{2, pc32, "v.1", -12}), local}, ref: "PC32 [vmlinux:vmlinux.v.1,0]-12"},
		{name: "local of a module", object: "mod", orig: []def{fn("f", one), local}, patched: []def{fn("f", load, rel{2, pc32, "v.1", -4}), local}, ref: "PC32 [mod:mod.v.1,0]-4"},
		{name: "global, defined", orig: []def{fn("f", one), datum("v", ".data.v", word)}, patched: []def{fn("f", load, rel{2, pc32, "v", -4}), datum("v", ".data.v", word)}, ref: "PC32 [vmlinux:vmlinux.v,0]-4"},
		{name: "global, defined and exported", opts: Options{Symbols: known(t, nil, "v=vmlinux", "__fentry__=vmlinux")}, orig: []def{fn("f", one), datum("v", ".data.v", word)},
			patched: []def{fn("f", load, rel{2, pc32, "v", -4}), datum("v", ".data.v", word)}, ref: "PC32 v-4"},
		{name: "undefined", orig: []def{fn("f", one)}, patched: []def{fn("f", call, rel{1, plt32, "g", -4})}, ref: "PLT32 g-4"},
		{name: "undefined, exported", opts: Options{Symbols: known(t, nil, "g=vmlinux", "__fentry__=vmlinux")}, orig: []def{fn("f", one)}, patched: []def{fn("f", call, rel{1, plt32, "g", -4})}, ref: "PLT32 g-4"},
		{name: "undefined, not exported", opts: Options{Symbols: known(t, nil, "__fentry__=vmlinux")}, orig: []def{fn("f", one)}, patched: []def{fn("f", call, rel{1, plt32, "g", -4})}, ref: "PLT32 [vmlinux:vmlinux.g,0]-4"},
		{name: "undefined, of another module", object: "mod", opts: Options{Symbols: known(t, nil, "g=lib", "__fentry__=vmlinux")}, orig: []def{fn("f", one)},
			patched: []def{fn("f", call, rel{1, plt32, "g", -4})}, ref: "PLT32 [mod:lib.g,0]-4"},
		{name: "of a module, in the kernel", opts: Options{Symbols: known(t, nil, "g=lib", "__fentry__=vmlinux")}, orig: []def{fn("f", one)},
			patched: []def{fn("f", call, rel{1, plt32, "g", -4})}, codes: "not-supported-yet"},
		{name: "address of an exported function that is replaced", opts: Options{Symbols: known(t, nil, "f=vmlinux", "__fentry__=vmlinux")}, orig: []def{fn("f", one)},
			patched: []def{fn("f", lea, rel{3, pc32, "f", -4})}, ref: "PC32 [vmlinux:vmlinux.f,0]-4"},
		{name: "position by its neighbour", opts: Options{Symbols: known(t, []string{"T f", "t v.1", "d v.1", "D u"})}, orig: []def{fn("f", one), local}, patched: []def{fn("f", load, rel{2, pc32, "v.1", -4}), local}, codes: "sympos-unknown"},
		{name: "unique in the kernel", opts: Options{Symbols: known(t, []string{"T f", "d v.1"})}, orig: []def{fn("f", one), local}, patched: []def{fn("f", load, rel{2, pc32, "v.1", -4}), local}, ref: "PC32 [vmlinux:vmlinux.v.1,0]-4"},
		{name: "position not in the table", opts: Options{Symbols: known(t, []string{"T f"})}, orig: []def{fn("f", one), local},
			patched: []def{fn("f", load, rel{2, pc32, "v.1", -4}), local}, codes: "sympos-unknown"},
		{name: "function not in the table", opts: Options{Symbols: known(t, []string{"T g"})}, orig: []def{fn("f", one)}, patched: []def{fn("f", two)}, codes: "sympos-unknown"},
		// H12: position 0 asks for a name that nothing else has, whatever its binding.
		{name: "H12 global, and a local one in another file", opts: Options{Symbols: known(t, []string{"T f", "d v", "D v", "d v"})}, orig: []def{fn("f", one), datum("v", ".data.v", word)},
			patched: []def{fn("f", load, rel{2, pc32, "v", -4}), datum("v", ".data.v", word)}, ref: "PC32 [vmlinux:vmlinux.v,2]-4"},
		{name: "H12 undefined global, and a local one in another file", opts: Options{Symbols: known(t, []string{"T f", "t g", "T g"}, "__fentry__=vmlinux")}, orig: []def{fn("f", one)},
			patched: []def{fn("f", call, rel{1, plt32, "g", -4})}, ref: "PLT32 [vmlinux:vmlinux.g,2]-4"},
		{name: "H12 undefined, and only local ones", opts: Options{Symbols: known(t, []string{"T f", "t g", "t g"}, "__fentry__=vmlinux")}, orig: []def{fn("f", one)},
			patched: []def{fn("f", call, rel{1, plt32, "g", -4})}, codes: "sympos-unknown"},
		// H15: what nothing defines or exports can never be resolved.
		{name: "H15 weak", opts: Options{Symbols: known(t, []string{"T f"}, "__fentry__=vmlinux")}, orig: []def{fn("f", one)},
			patched: []def{fn("f", call, rel{1, plt32, "weak g", -4})}, codes: "undefined-symbol"},
		{name: "H15 weak, no table", opts: Options{Symbols: known(t, nil, "__fentry__=vmlinux")}, orig: []def{fn("f", one)},
			patched: []def{fn("f", call, rel{1, plt32, "weak g", -4})}, codes: "undefined-symbol"},
		{name: "H15 strong", opts: Options{Symbols: known(t, []string{"T f"}, "__fentry__=vmlinux")}, orig: []def{fn("f", one)},
			patched: []def{fn("f", call, rel{1, plt32, "g", -4})}, codes: "undefined-symbol"},
		{name: "H15 weak, and there", opts: Options{Symbols: known(t, []string{"T f", "T g"}, "__fentry__=vmlinux")}, orig: []def{fn("f", one)},
			patched: []def{fn("f", call, rel{1, plt32, "weak g", -4})}, ref: "PLT32 [vmlinux:vmlinux.g,0]-4"},
		{name: "of another object of the patch, perhaps", opts: Options{Partial: true, Symbols: known(t, []string{"T f"}, "__fentry__=vmlinux")}, orig: []def{fn("f", one)},
			patched: []def{fn("f", call, rel{1, plt32, "g", -4})}, ref: "PLT32 g-4"},
		{name: "exported to named modules", opts: Options{Symbols: known(t, []string{"T f", "t g", "T g"}, "g=vmlinux:module:kvm", "__fentry__=vmlinux")}, orig: []def{fn("f", one)},
			patched: []def{fn("f", call, rel{1, plt32, "g", -4})}, ref: "PLT32 [vmlinux:vmlinux.g,2]-4"},
		{name: "defined, and exported to named modules", opts: Options{Symbols: known(t, nil, "v=vmlinux:module:kvm", "__fentry__=vmlinux")}, orig: []def{fn("f", one), datum("v", ".data.v", word)},
			patched: []def{fn("f", load, rel{2, pc32, "v", -4}), datum("v", ".data.v", word)}, ref: "PC32 [vmlinux:vmlinux.v,0]-4"},
		{name: "exported by two", opts: Options{Symbols: known(t, nil, "g=a", "g=b", "__fentry__=vmlinux")}, orig: []def{fn("f", one)},
			patched: []def{fn("f", call, rel{1, plt32, "g", -4})}, codes: "export-ambiguous"},
		{name: "of another module, position of the global", object: "mod", opts: Options{Symbols: known(t, []string{"T x", "t f [mod]", "t g [lib]", "T g [lib]"}, "g=lib", "__fentry__=vmlinux")}, orig: []def{fn("f", one)},
			patched: []def{fn("f", call, rel{1, plt32, "g", -4})}, ref: "PLT32 [mod:lib.g,2]-4"},
		{name: "global and local of one name", orig: []def{fn("f", one), datum("v", ".data.v", word), static(datum("v", ".data.v2", "0200000000000000"))},
			patched: []def{fn("f", load, rel{2, pc32, "v", -4}), datum("v", ".data.v", word), static(datum("v", ".data.v2", "0200000000000000"))}, codes: "sympos-unknown"},
		{name: "without a symbol", orig: []def{fn("f", one), {sec: ".data", code: word, typ: elf.STT_OBJECT}}, patched: []def{fn("f", load, rel{2, pc32, "..data", -4}), {sec: ".data", code: word, typ: elf.STT_OBJECT}}, codes: "unnamed-data"},
		{name: "GOT", orig: []def{fn("f", one)}, patched: []def{fn("f", "488b05 00000000 c3", rel{3, elf.R_X86_64_REX_GOTPCRELX, "g", -4})}, codes: "reloc-unsupported"},
		{name: "nothing in it", orig: []def{fn("f", one)}, patched: []def{fn("f", "48c7c0 00000000 c3", rel{3, abs32, "__key.3", 0}), static(datum("__key.3", ".bss.__key.3", ""))}, ref: "32S .bss.__key.3+0"},
		{name: "new data", orig: []def{fn("f", one)}, patched: []def{fn("f", load, rel{2, pc32, "n", 0}), static(datum("n", ".data.n", word))}, ref: "PC32 n+0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			obj := c.object
			if obj == "" {
				obj = "vmlinux"
			}
			p := pairOf(t, obj, "a.c", c.orig, c.patched)
			if c.codes != "" {
				refused(t, c.opts, []Pair{p}, strings.Fields(c.codes)...)
				return
			}
			r := write(t, c.opts, p)
			if len(r.refs) != 1 || !strings.HasSuffix(r.refs[0], " "+c.ref) {
				t.Errorf("%v, want %s", r.refs, c.ref)
			}
		})
	}
}

// What takes the address of a function that is replaced gets the original's,
// which the kernel redirects; what calls it reaches the replacement.
func TestFunctionPointers(t *testing.T) {
	g1, g2 := fn("g", one), fn("g", two)
	orig := []def{fn("f", one), g1}
	for _, c := range []struct {
		name, code string
		rel        rel
		ref        string
	}{
		{"call", "e8 00000000 c3", rel{1, plt32, "g", -4}, "PLT32 g-4"},
		{"jmp", "e9 00000000", rel{1, plt32, "g", -4}, "PLT32 g-4"},
		{"jne", "0f85 00000000 c3", rel{2, pc32, "g", -4}, "PC32 g-4"},
		{"lea", "488d3d 00000000 c3", rel{3, pc32, "g", -4}, "PC32 [vmlinux:vmlinux.g,0]-4"},
		{"mov", "48c7c7 00000000 c3", rel{3, abs32, "g", 0}, "32S [vmlinux:vmlinux.g,0]+0"},
		{"movabs", "48bf 0000000000000000 c3", rel{2, abs64, "g", 0}, "64 [vmlinux:vmlinux.g,0]+0"},
		{"by its section", "48c7c7 00000000 c3", rel{3, abs32, "..text.g", 0}, "32S [vmlinux:vmlinux.g,0]+0"},
		{"cmp behind it", "48813d 00000000 00000000 c3", rel{3, pc32, "g", -8}, "PC32 [vmlinux:vmlinux.g,0]-8"},
		{"inside", "48c7c7 00000000 c3", rel{3, abs32, "g", 5}, "32S g+5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := write(t, Options{}, pairOf(t, "vmlinux", "a.c", orig, []def{fn("f", c.code, c.rel), g2}))
			r.want(t, "vmlinux:f=f,0 vmlinux:g=g,0", fmt.Sprintf(".text.f+%#x %s", c.rel.off+5, c.ref))
		})
	}
	t.Run("in new data", func(t *testing.T) {
		r := write(t, Options{}, pairOf(t, "vmlinux", "a.c", orig, []def{fn("f", "8b05 00000000 c3", rel{2, pc32, "ops", -4}), g2, static(datum("ops", ".data.ops", "0000000000000000", rel{0, abs64, "g", 0}))}))
		r.want(t, "vmlinux:f=f,0 vmlinux:g=g,0", ".text.f+0x7 PC32 ops-4", ".data.ops+0x0 64 [vmlinux:vmlinux.g,0]+0")
	})
	t.Run("of a new function", func(t *testing.T) {
		r := write(t, Options{}, pairOf(t, "vmlinux", "a.c", []def{fn("f", one)}, []def{fn("f", "488d3d 00000000 c3", rel{3, pc32, "n", -4}), fn("n", two)}))
		r.want(t, "vmlinux:f=f,0 vmlinux:n", ".text.f+0x8 PC32 n-4")
	})
}

// Operands that the assembler resolved, in one section with several functions:
// f at 0, mid at 0x10, g at 0x20, each behind a call of __fentry__.
func TestResolvedOperands(t *testing.T) {
	merged := func(f, mid, g string) []def {
		return []def{{name: "f", sec: ".text", code: f}, {name: "mid", sec: ".text", code: mid}, {name: "g", sec: ".text", code: g}}
	}
	orig := merged(one, one, one)
	for _, c := range []struct {
		name  string
		defs  []def
		funcs string
		refs  []string
		bytes string // of .text
		codes string
	}{
		{name: "call of one that stays", defs: merged("e8 16000000 c3", one, one), funcs: "vmlinux:f=f,0", refs: []string{".text+0x6 PLT32 [vmlinux:vmlinux.g,0]-4"},
			bytes: "e800000000 e800000000c3"},
		{name: "jump into the middle of one that stays", defs: merged("e9 1b000000 c3", one, one), funcs: "vmlinux:f=f,0", refs: []string{".text+0x6 PLT32 [vmlinux:vmlinux.g,0]+1"},
			bytes: "e800000000 e900000000c3"},
		{name: "call of one that moves", defs: merged("e8 16000000 c3", one, two), funcs: "vmlinux:f=f,0 vmlinux:g=g,0",
			bytes: "e800000000 e806000000c3 9090909090 e800000000 b802000000c3"},
		{name: "short jump to one that moves", defs: merged("eb 19 c3", one, two), funcs: "vmlinux:f=f,0 vmlinux:g=g,0",
			bytes: "e800000000 eb09c3 9090909090909090 e800000000 b802000000c3"},
		{name: "short jump to one that stays", defs: merged("eb 19 c3", one, one), codes: "short-branch"},
		{name: "lea of one that stays", defs: merged("488d05 14000000 c3", one, one), funcs: "vmlinux:f=f,0", refs: []string{".text+0x8 PC32 [vmlinux:vmlinux.g,0]-4"},
			bytes: "e800000000 488d0500000000c3"},
		{name: "lea of one that is replaced", defs: merged("488d05 14000000 c3", one, two), funcs: "vmlinux:f=f,0 vmlinux:g=g,0", refs: []string{".text+0x8 PC32 [vmlinux:vmlinux.g,0]-4"},
			bytes: "e800000000 488d0500000000c3 909090 e800000000 b802000000c3"},
		{name: "backwards", defs: merged(two, one, "e8 d6ffffff c3"), funcs: "vmlinux:f=f,0 vmlinux:g=g,0",
			bytes: "e800000000 b802000000c3 9090909090 e800000000 e8e6ffffffc3"},
		{name: "inside", defs: merged("eb 00 c3", one, one), funcs: "vmlinux:f=f,0", bytes: "e800000000 eb00c3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pairOf(t, "vmlinux", "a.c", orig, c.defs)
			if c.codes != "" {
				refused(t, Options{}, []Pair{p}, c.codes)
				return
			}
			r := write(t, Options{}, p)
			r.want(t, c.funcs, c.refs...)
			want, _ := hex.DecodeString(strings.ReplaceAll(c.bytes, " ", ""))
			if got := r.out.Sections[1].Data; !bytes.Equal(got, want) {
				t.Errorf("% x, want\n% x", got, want)
			}
		})
	}
}

// A reference into mergeable data keeps its label where something is added for the instruction.
func TestLabels(t *testing.T) {
	strs := []def{{name: ".LC0", sec: ".rodata.str1.1", code: "6100", typ: elf.STT_OBJECT, local: true}, {name: ".LC1", sec: ".rodata.str1.1", code: "626300", typ: elf.STT_OBJECT, local: true}}
	p := pairOf(t, "vmlinux", "a.c", append([]def{fn("f", one)}, strs...), append([]def{fn("f", "488d05 00000000 48c7c7 00000000 c3", rel{3, pc32, ".LC1", -4}, rel{10, abs32, "..rodata.str1.1", 2})}, strs...))
	write(t, Options{}, p).want(t, "vmlinux:f=f,0", ".text.f+0x8 PC32 .LC1-4", ".text.f+0xf 32S .rodata.str1.1+0")
}

// A table that the kernel reads when it loads the patch cannot wait for a module.
func TestTableOfModule(t *testing.T) {
	key := static(datum("key", ".data.key", "00000000000000000000000000000000"))
	entry := def{sec: "__jump_table", code: "00000000 00000000 0000000000000000", typ: elf.STT_OBJECT, rels: []rel{{0, pc32, "f", 5}, {4, pc32, "f", 7}, {8, abs64, "key", 0}}}
	orig := []def{fn("f", "eb00 "+one), key, entry}
	patched := []def{fn("f", "eb00 "+two), key, entry}
	r := write(t, Options{}, pairOf(t, "vmlinux", "a.c", orig, patched))
	r.want(t, "vmlinux:f=f,0", "__jump_table+0x0 PC32 f+5", "__jump_table+0x4 PC32 f+7", "__jump_table+0x8 64 [vmlinux:vmlinux.key,0]+0")
	e := refused(t, Options{}, []Pair{pairOf(t, "mod", "a.c", orig, patched)}, "static-key-module")
	if d := e.Diagnostics[0]; len(d.Chain) == 0 || d.Chain[0] != "f" || !strings.Contains(d.Remedy, "static_key_enabled()") || !strings.Contains(d.Message, "f+0x5 ") || !d.Place.HasOffset {
		t.Errorf("%+v", d)
	}
	bug := def{sec: "__bug_table", code: "000000000000000000000000", typ: elf.STT_OBJECT, rels: []rel{{0, pc32, "f", 5}, {4, pc32, "key", 0}}}
	refused(t, Options{}, []Pair{pairOf(t, "mod", "a.c", []def{fn("f", "eb00 "+one), key, bug}, []def{fn("f", "eb00 "+two), key, bug})}, "table-module")
}

// A module says which namespaces it uses; code of the kernel itself need not.
func TestNamespaces(t *testing.T) {
	const call = "e8 00000000 e8 00000000 c3"
	info := def{sec: ".modinfo", code: hex.EncodeToString([]byte("license=GPL\x00mod.import_ns=OLD\x00import_ns=LOG\x00")), typ: elf.STT_OBJECT}
	for _, c := range []struct{ by, want string }{{"vmlinux:LOG", "import_ns=OLD\x00import_ns=LOG\x00"}, {"vmlinux:NEW", "import_ns=OLD\x00import_ns=LOG\x00import_ns=NEW\x00"}, {"vmlinux", "import_ns=OLD\x00import_ns=LOG\x00"}} {
		set := known(t, nil, "g="+c.by, "h=vmlinux", "__fentry__=vmlinux")
		p := pairOf(t, "vmlinux", "a.c", []def{fn("f", one), info}, []def{fn("f", call, rel{1, plt32, "g", -4}, rel{6, plt32, "g", -4}), info})
		for _, format := range []elfdiff.Format{elfdiff.FormatKlp, elfdiff.FormatKpatch} {
			plan, err := New(context.Background(), []Pair{p}, Options{Symbols: set, Format: format})
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
			for i := range f.Sections {
				if f.Sections[i].Name == ".modinfo" {
					got += string(f.Sections[i].Data)
				}
			}
			if got != c.want {
				t.Errorf("%s, format %d: %q, want %q", c.by, format, got, c.want)
			}
		}
	}
}

// Other objects of a patch may refer to what is new in one.
func TestPartial(t *testing.T) {
	p := pairOf(t, "vmlinux", "a.c", []def{fn("f", one)}, []def{fn("f", one), fn("n", two), static(fn("s", two))})
	refused(t, Options{}, []Pair{p}, "nothing-changed")
	write(t, Options{Partial: true}, p).want(t, "vmlinux:n")
	p = pairOf(t, "vmlinux", "a.c", []def{fn("f", one)}, []def{fn("f", two), datum("v", ".data.v", word)})
	plan, err := New(context.Background(), []Pair{p}, Options{Partial: true})
	if err != nil {
		t.Fatal(err)
	}
	if c := plan.Contents(); len(plan.Diagnostics) != 0 || !slices.ContainsFunc(c.Items, func(x Item) bool { return x.Name == "v" }) {
		t.Errorf("%v, %+v", plan.Diagnostics, c.Items)
	}
	// A new global variable alone is a patch for others, and a local one is not.
	orig := []def{fn("f", one)}
	write(t, Options{Partial: true}, pairOf(t, "vmlinux", "a.c", orig, append(orig, datum("v", ".data.v", word)))).want(t, "")
	refused(t, Options{Partial: true}, []Pair{pairOf(t, "vmlinux", "a.c", orig, append(orig, static(datum("v", ".data.v", word))))}, "nothing-changed")
	// What is freed after init stays away.
	init := def{name: "n", sec: ".init.data", code: word, typ: elf.STT_OBJECT}
	plan, err = New(context.Background(), []Pair{pairOf(t, "vmlinux", "a.c", orig, []def{fn("f", two), init})}, Options{Partial: true})
	if err != nil || len(plan.Diagnostics) != 1 || plan.Diagnostics[0].Code != diag.InitChanged || plan.Diagnostics[0].Severity != diag.SevWarning {
		t.Errorf("%v, %v", err, plan)
	}
	use := fn("f", "8b05 00000000 c3", rel{2, pc32, "n", -4})
	refused(t, Options{}, []Pair{pairOf(t, "vmlinux", "a.c", orig, []def{use, init})}, "init-reference")
}

// Kernels before 5.8 resolve everything too late for their tables.
func TestLateKlp(t *testing.T) {
	key := static(datum("key", ".data.key", "00000000000000000000000000000000"))
	entry := def{sec: "__jump_table", code: "00000000 00000000 0000000000000000", typ: elf.STT_OBJECT, rels: []rel{{0, pc32, "f", 5}, {4, pc32, "f", 7}, {8, abs64, "key", 0}}}
	bug := def{sec: "__bug_table", code: "000000000000000000000000", typ: elf.STT_OBJECT, rels: []rel{{0, pc32, "f", 5}, {4, pc32, "key", 0}}}
	for _, c := range []struct {
		extra def
		code  string
	}{{entry, "static-key-module"}, {bug, "table-module"}} {
		p := pairOf(t, "vmlinux", "a.c", []def{fn("f", "eb00 "+one), key, c.extra}, []def{fn("f", "eb00 "+two), key, c.extra})
		write(t, Options{}, p)
		refused(t, Options{LateKlp: true}, []Pair{p}, c.code)
	}
}

// Entries whose key belongs to a module: dropped where the branch may stay off, else refused.
func TestKeysOfModules(t *testing.T) {
	jump := func(key string, add int64) def {
		return def{sec: "__jump_table", code: "00000000 00000000 0000000000000000", typ: elf.STT_OBJECT, rels: []rel{{0, pc32, "f", 5}, {4, pc32, "f", 7}, {8, abs64, key, add}}}
	}
	call := func(key string) def {
		return def{sec: ".static_call_sites", code: "00000000 00000000", typ: elf.STT_OBJECT, rels: []rel{{0, pc32, "f", 5}, {4, pc32, key, 0}}}
	}
	exported := func(key, by string) *symbols.Set {
		return known(t, []string{"T x", "t f [mod]", "t g [lib]"}, key+"="+by, "__fentry__=vmlinux")
	}
	for _, c := range []struct {
		name   string
		object string
		set    *symbols.Set
		format elfdiff.Format
		site   string // bytes at the site
		extra  def
		key    def
		codes  string // of errors, or of everything else
		refs   string
		code   string
	}{
		{name: "of the kernel", object: "vmlinux", extra: jump("key", 0), key: static(datum("key", ".data.key", word)), refs: "__jump_table+0x0 PC32 f+5"},
		{name: "of the patch", object: "mod", extra: jump("key", 0), refs: "__jump_table+0x0 PC32 f+5"},
		{name: "tracepoint", object: "mod", extra: jump("__tracepoint_x", 0), key: datum("__tracepoint_x", "__tracepoints", word), codes: "warning tracepoint-disabled"},
		{name: "tracepoint, as compilers leave it", object: "mod", site: "eb00", extra: jump("__tracepoint_x", 2), key: datum("__tracepoint_x", "__tracepoints", word), codes: "warning tracepoint-disabled", code: "6690"},
		{name: "tracepoint, branch taken", object: "mod", site: "eb00", extra: jump("__tracepoint_x", 1), key: datum("__tracepoint_x", "__tracepoints", word), codes: "warning tracepoint-disabled", code: "eb00"},
		{name: "tracepoint of another module", object: "mod", set: exported("__tracepoint_x", "lib"), extra: jump("__tracepoint_x", 0), codes: "static-key"},
		{name: "tracepoint of the kernel", object: "mod", set: exported("__tracepoint_x", "vmlinux"), extra: jump("__tracepoint_x", 0), refs: "__jump_table+0x0 PC32 f+5"},
		{name: "pr_debug", object: "mod", extra: jump("f.__UNIQUE_ID_ddebug7", 0), key: datum("f.__UNIQUE_ID_ddebug7", ".data.x", word), codes: "warning pr-debug-disabled"},
		{name: "pr_debug in its section", object: "mod", extra: jump("dd", 0), key: datum("dd", "__dyndbg", word), codes: "warning pr-debug-disabled"},
		{name: "key", object: "mod", extra: jump("key", 0), key: datum("key", ".data.key", word), codes: "error static-key-module"},
		{name: "key of another module", object: "mod", set: exported("key", "lib"), extra: jump("key", 0), codes: "error static-key-module"},
		{name: "call", object: "mod", format: elfdiff.FormatKpatch, extra: call("__SCK__go"), key: datum("__SCK__go", ".data.k", word), codes: "error static-call-module"},
		{name: "call of the kernel", object: "vmlinux", format: elfdiff.FormatKpatch, extra: call("__SCK__go"), key: datum("__SCK__go", ".data.k", word)},
		{name: "call of a tracepoint", object: "mod", format: elfdiff.FormatKpatch, extra: call("__SCK__tp_func_x"), key: datum("__SCK__tp_func_x", ".data.k", word), codes: "note tracepoint-disabled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			site := c.site
			if site == "" {
				site = "6690"
			}
			defs := func(body string) []def {
				l := []def{fn("f", site+body), c.extra}
				if c.key.sec != "" {
					l = append(l, c.key)
				}
				return l
			}
			if c.codes == "static-key" {
				c.codes = "warning tracepoint-disabled"
			}
			p := pairOf(t, c.object, "a.c", defs(one), defs(two))
			opts := Options{Symbols: c.set, Format: c.format}
			if code, ok := strings.CutPrefix(c.codes, "error "); ok {
				refused(t, opts, []Pair{p}, code)
				return
			}
			plan, err := New(context.Background(), []Pair{p}, opts)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range plan.Diagnostics {
				if d.Code != diag.SymbolsMismatch {
					got = append(got, d.Severity.String()+" "+string(d.Code))
				}
			}
			if strings.Join(got, " ") != c.codes {
				t.Errorf("diagnostics %v, want %s", plan.Diagnostics, c.codes)
			}
			data, err := plan.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			f, err := object.Parse(data, object.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if c.format == elfdiff.FormatKlp && c.codes == "" {
				checkOutput(t, plan, data)
			}
			has := false
			for i := range f.Sections {
				has = has || f.Sections[i].Name == c.extra.sec && f.Sections[i].Size > 0
			}
			if has != (c.codes == "") {
				t.Errorf("the entry travels: %v", has)
			}
			if c.code != "" && hex.EncodeToString(f.Sections[1].Data[5:7]) != c.code {
				t.Errorf("at the site: %x, want %s", f.Sections[1].Data[5:7], c.code)
			}
		})
	}
}

// A constant that the kernel fills in at boot becomes a load, in every register.
func TestRuntimeConstants(t *testing.T) {
	for reg := range byte(16) {
		movabs := fmt.Sprintf("%02x%02x efcdab8967452301", 0x48|reg>>3, 0xb8|reg&7)
		entry := def{sec: "runtime_ptr_LIMIT", code: "00000000", typ: elf.STT_OBJECT, rels: []rel{{0, pc32, "f", 7}}}
		r := write(t, Options{}, pairOf(t, "vmlinux", "a.c", []def{fn("f", movabs+one), entry}, []def{fn("f", movabs+two), entry}))
		r.want(t, "vmlinux:f=f,0", ".text.f+0x8 PC32 LIMIT-4")
		want := fmt.Sprintf("e800000000%02x8b%02x000000000f1f00b802000000c3", 0x48|reg>>3<<2, reg&7<<3|5)
		if got := hex.EncodeToString(r.out.Sections[1].Data); got != want {
			t.Errorf("register %d: %s, want %s", reg, got, want)
		}
	}
	limit := static(datum("LIMIT", ".data.LIMIT", word))
	entry := def{sec: "runtime_ptr_LIMIT", code: "00000000", typ: elf.STT_OBJECT, rels: []rel{{0, pc32, "f", 7}}}
	const movabs = "48b8 efcdab8967452301"
	r := write(t, Options{}, pairOf(t, "vmlinux", "a.c", []def{fn("f", movabs+one), entry, limit}, []def{fn("f", movabs+two), entry, limit}))
	r.want(t, "vmlinux:f=f,0", ".text.f+0x8 PC32 [vmlinux:vmlinux.LIMIT,0]-4")

	shift := entry
	shift.sec = "runtime_shift_LIMIT"
	refused(t, Options{}, []Pair{pairOf(t, "vmlinux", "a.c", []def{fn("f", movabs+one), shift}, []def{fn("f", movabs+two), shift})}, "runtime-constant")
	refused(t, Options{}, []Pair{pairOf(t, "vmlinux", "a.c", []def{fn("f", "c7042578563412 78563412"+one), entry}, []def{fn("f", "c7042578563412 78563412"+two), entry})}, "runtime-constant")
}

// The same in a real object.
func TestRuntimeConstantOfCVE(t *testing.T) {
	base := shared + "/cve/CVE-2025-39977.kernel_futex_requeue"
	if _, err := os.Stat(base + ".ORIG.o"); err != nil {
		t.Skip("no ../shared/pairs beside the project")
	}
	patched := read(t, base+".PATCHED.o")
	in, err := object.Parse(patched, object.Options{})
	if err != nil {
		t.Fatal(err)
	}
	magic := []byte{0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01}
	plan, err := planOf("CVE-2025-39977", read(t, base+".ORIG.o"), patched)
	if err != nil {
		t.Fatal(err)
	}
	data, err := plan.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, magic) {
		t.Error("the patch holds a constant that nobody fills in")
	}
	out, err := object.Parse(data, object.Options{})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for i := range in.Sections {
		s := &in.Sections[i]
		if s.Name != ".text.futex_requeue" {
			continue
		}
		var o object.SecID
		for k := range out.Sections {
			if out.Sections[k].Name == s.Name {
				o = object.SecID(k)
			}
		}
		rs := out.RelocsOf(o)
		for at := range s.Data {
			if !bytes.HasPrefix(s.Data[at:], magic) {
				continue
			}
			n++
			rex, op := s.Data[at-2], s.Data[at-1]
			reg := rex&1<<3 | op&7
			want := []byte{0x48 | reg>>3<<2, 0x8b, reg&7<<3 | 5, 0, 0, 0, 0, 0x0f, 0x1f, 0x00}
			if got := out.Sections[o].Data[at-2 : at+8]; !bytes.Equal(got, want) {
				t.Errorf("+0x%x: % x, want % x", at-2, got, want)
			}
			lo, hi := rs.Range(uint64(at-2), uint64(at+8))
			if hi-lo != 1 {
				t.Fatalf("%d relocations", hi-lo)
			}
			if r := rs.At(lo); r.Off != uint64(at+1) || r.Type != pc32 || r.Addend != -4 || out.SymName(r.Sym) != "USER_PTR_MAX" || !out.Symbols[r.Sym].Undefined() {
				t.Errorf("%+v", r)
			}
		}
	}
	if n == 0 {
		t.Error("no constant in the object")
	}
}

// Ten of the eleven fixes of vulnerabilities can be written; one is of a function without a call of __fentry__.
func TestCVE(t *testing.T) {
	sharedPairs(t)
	n := 0
	for _, p := range under(t, shared+"/cve") {
		_, err := planOf(p.name, read(t, p.orig), read(t, p.patched))
		switch {
		case err == nil:
			n++
		case !strings.HasPrefix(p.name, "CVE-2024-35947.") || !slices.Equal(codesOf(t, err), []string{"no-ftrace-entry"}):
			t.Errorf("%s: %v", p.name, err)
		}
	}
	if n != 10 {
		t.Errorf("%d written", n)
	}
}

func TestNewErrors(t *testing.T) {
	p := pairOf(t, "vmlinux", "a.c", []def{fn("f", one)}, []def{fn("f", two)})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := New(ctx, []Pair{p}, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	refused(t, Options{Format: elfdiff.FormatModule + 1}, []Pair{p}, "not-supported-yet")
	refused(t, Options{}, nil, "nothing-changed")
}
