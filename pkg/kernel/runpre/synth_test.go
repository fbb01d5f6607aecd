package runpre

import (
	"cmp"
	"debug/elf"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel/image"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/reloc"
	"github.com/kdelta/kdelta/symbols"
)

// sym is a symbol of a synthetic object.
type sym struct {
	name string
	off  uint64
	size uint64
	info uint8
}

// rel is a relocation; to is a symbol, or a section when it starts with a dot.
type rel struct {
	off    uint64
	typ    elf.R_X86_64
	to     string
	addend int64
}

// sect is a section of a synthetic object, and where a synthetic kernel has it.
type sect struct {
	name string
	data []byte
	bss  uint64
	syms []sym
	rels []rel
	addr uint64
}

var (
	local  = elf.ST_INFO(elf.STB_LOCAL, elf.STT_FUNC)
	global = elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC)
	weak   = elf.ST_INFO(elf.STB_WEAK, elf.STT_FUNC)
	lobj   = elf.ST_INFO(elf.STB_LOCAL, elf.STT_OBJECT)
)

func flags(name string) elf.SectionFlag {
	switch {
	case strings.HasPrefix(name, ".text"):
		return elf.SHF_ALLOC | elf.SHF_EXECINSTR
	case strings.HasPrefix(name, ".rodata.str"):
		return elf.SHF_ALLOC | elf.SHF_MERGE | elf.SHF_STRINGS
	case strings.HasPrefix(name, ".rodata.cst"):
		return elf.SHF_ALLOC | elf.SHF_MERGE
	case strings.HasPrefix(name, ".rodata"), name == "__jump_table":
		return elf.SHF_ALLOC
	case strings.HasPrefix(name, ".discard"):
		return 0
	}
	return elf.SHF_ALLOC | elf.SHF_WRITE
}

// build gives the object.
func build(t testing.TB, secs []sect) *object.File {
	t.Helper()
	b := object.NewBuilder(object.Header{Type: elf.ET_REL})
	ids := map[string]object.SymID{}
	secID := make([]object.SecID, len(secs))
	for i, s := range secs {
		bs := object.BuildSection{Name: s.name, Type: elf.SHT_PROGBITS, Flags: flags(s.name), Addralign: 1, Data: s.data}
		if bs.Flags&elf.SHF_STRINGS != 0 {
			bs.Entsize = 1
		} else if bs.Flags&elf.SHF_MERGE != 0 {
			bs.Entsize = 8
		}
		if s.bss > 0 {
			bs.Type, bs.Size = elf.SHT_NOBITS, s.bss
		}
		secID[i] = b.AddSection(bs)
		ids[s.name] = b.AddSymbol(object.BuildSymbol{Sec: secID[i], Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_SECTION)})
	}
	for _, loc := range []bool{true, false} {
		for i, s := range secs {
			for _, y := range s.syms {
				if (elf.SymBind(y.info>>4) == elf.STB_LOCAL) == loc {
					ids[y.name] = b.AddSymbol(object.BuildSymbol{Name: y.name, Sec: secID[i], Value: y.off, Size: y.size, Info: y.info})
				}
			}
		}
	}
	for i, s := range secs {
		for _, r := range s.rels {
			id, ok := ids[r.to]
			if !ok {
				id = b.AddSymbol(object.BuildSymbol{Name: r.to, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_NOTYPE)})
				ids[r.to] = id
			}
			b.AddReloc(secID[i], object.Reloc{Off: r.off, Type: r.typ, Sym: id, Addend: r.addend})
		}
	}
	data, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	f, err := object.Parse(data, object.Options{Name: "synthetic.o"})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// link puts the sections at their addresses and adds more symbols.
func link(t testing.TB, secs []sect, more ...image.Symbol) *image.Kernel {
	t.Helper()
	k := &image.Kernel{Name: "vmlinuz", Symbols: more}
	at := map[string]uint64{}
	for _, s := range more {
		at[s.Name] = s.Addr
	}
	for _, s := range secs {
		at[s.name] = s.addr
		for _, y := range s.syms {
			at[y.name] = s.addr + y.off
			typ := byte('T')
			if elf.SymBind(y.info>>4) == elf.STB_LOCAL {
				typ = 't'
			}
			k.Symbols = append(k.Symbols, image.Symbol{Name: y.name, Addr: s.addr + y.off, Type: typ})
		}
	}
	for _, s := range secs {
		d := slices.Clone(s.data)
		for _, r := range s.rels {
			to, ok := at[r.to]
			if !ok {
				t.Fatalf("%s is not defined", r.to)
			}
			if err := reloc.Apply(d[r.off:], r.typ, to, r.addend, s.addr+r.off, reloc.Overwrite); err != nil {
				t.Fatal(err)
			}
		}
		n := uint64(len(d)) + s.bss
		k.Sections = append(k.Sections, image.Section{Name: s.name, Addr: s.addr, Size: n, Flags: flags(s.name), Data: d})
	}
	sortKernel(k)
	return k
}

// sortKernel orders symbols and sections by address.
func sortKernel(k *image.Kernel) {
	slices.SortStableFunc(k.Symbols, func(a, b image.Symbol) int { return cmp.Compare(a.Addr, b.Addr) })
	slices.SortStableFunc(k.Sections, func(a, b image.Section) int { return cmp.Compare(a.Addr, b.Addr) })
}

const base = 0xffffffff81000000

// sample is an object with everything: f calls the tracer, the local twin, prints a
// string, reads a constant, a variable, a table of pointers; two functions with a namesake
// elsewhere; a weak one.
func sample() []sect {
	code := func(parts ...string) []byte { return []byte(strings.Join(parts, "")) }
	call, load := "\xe8\x00\x00\x00\x00", "\x48\xc7\xc7\x00\x00\x00\x00" // call; mov $imm32,%rdi
	return []sect{
		{name: ".text.f", addr: base + 0x1000, data: code(call, load, call, "\x8b\x05\x00\x00\x00\x00", "\x48\x8b\x05\x00\x00\x00\x00", load, "\xc3"), syms: []sym{{"f", 0, 0x26, global}}, rels: []rel{
			{1, elf.R_X86_64_PLT32, "__fentry__", -4}, {8, elf.R_X86_64_32S, ".rodata.str1.1", 3}, {13, elf.R_X86_64_PLT32, ".text.twin", -4},
			{19, elf.R_X86_64_PC32, ".bss.count.1", -4}, {26, elf.R_X86_64_PC32, ".rodata.cst8", -4}, {33, elf.R_X86_64_32S, ".data.ops", 0}}},
		{name: ".text.twin", addr: base + 0x1100, data: code("\x31\xc0\xc3"), syms: []sym{{"twin", 0, 3, local}}},
		{name: ".text.shown", addr: base + 0x1200, data: code("\x31\xdb\xc3"), syms: []sym{{"shown", 0, 3, local}}},
		{name: ".text.w", addr: base + 0x1300, data: code("\x31\xd2\xc3"), syms: []sym{{"w", 0, 3, weak}}},
		{name: ".data.ops", addr: base + 0x100000, data: make([]byte, 16), syms: []sym{{"ops", 0, 16, lobj}}, rels: []rel{{8, elf.R_X86_64_64, ".text.shown", 0}}},
		{name: ".bss.count.1", addr: base + 0x200000, bss: 4, syms: []sym{{"count.1", 0, 4, lobj}}},
		{name: ".rodata.str1.1", addr: base + 0x300000, data: code("ab\x00text %d\x00")},
		{name: ".rodata.cst8", addr: base + 0x300100, data: code("12345678")},
		{name: ".data.alone", addr: base + 0x100100, data: make([]byte, 8), syms: []sym{{"alone", 0, 8, lobj}}},
	}
}

// others are what other objects of the kernel have.
func others() []image.Symbol {
	return []image.Symbol{
		{Name: "__fentry__", Addr: base, Type: 'T'}, {Name: "g", Addr: base + 0x40, Type: 'T'}, {Name: "other_string", Addr: base + 0x300080, Type: 'r'},
		{Name: "twin", Addr: base + 0x100, Type: 't'}, {Name: "twin", Addr: base + 0x8000, Type: 't'}, {Name: "shown", Addr: base + 0x180, Type: 't'},
		{Name: "count.1", Addr: base + 0x200100, Type: 'b'},
	}
}

// kernelWith links the sample with bodies for the namesakes.
func kernelWith(t testing.TB, secs []sect) *image.Kernel {
	k := link(t, secs, others()...)
	body := make([]byte, 0x1000)
	copy(body[0x100:], "\x31\xc0\xc3")
	copy(body[0x180:], "\x31\xdb\xc3")
	k.Sections = append([]image.Section{{Name: ".text", Addr: base, Size: 0x1000, Flags: flags(".text"), Data: body}}, k.Sections...)
	k.Sections = append(k.Sections, image.Section{Name: ".text.far", Addr: base + 0x8000, Size: 16, Data: []byte("\x31\xc0\xc3")})
	sortKernel(k)
	return k
}

func check(t testing.TB, secs []sect, k *image.Kernel) (*object.File, *Result) {
	t.Helper()
	f := build(t, secs)
	r, err := Check(f, k)
	if err != nil {
		t.Fatal(err)
	}
	return f, r
}

func item(t *testing.T, f *object.File, r *Result, name string) *Item {
	t.Helper()
	for i := range r.Funcs {
		if f.Symbols[r.Funcs[i].Sym].Name == name {
			got, ok := r.Func(r.Funcs[i].Sym)
			if !ok || got != &r.Funcs[i] {
				t.Errorf("Func(%s) is not the item", name)
			}
			return got
		}
	}
	t.Fatalf("no function %s", name)
	return nil
}

func TestExact(t *testing.T) {
	k := kernelWith(t, sample())
	f, r := check(t, sample(), k)
	if err := r.Refuse(); err != nil || len(r.Diagnostics) > 0 {
		t.Fatal(r.Diagnostics)
	}
	if r.Count(Exact) != 4 || len(r.Data) != 2 || r.Data[0].Status != Exact {
		t.Errorf("%v, %+v", r.Counts, r.Data)
	}
	// By the call in f, by the pointer in ops.
	if it := item(t, f, r, "twin"); it.Addr != base+0x1100 || it.Equal != 3 || it.Of != 3 {
		t.Errorf("twin: %+v", it)
	}
	if it := item(t, f, r, "shown"); it.Addr != base+0x1200 || it.Equal != 2 {
		t.Errorf("shown: %+v", it)
	}
	if len(r.Unlocated) > 0 || len(r.Located.Addr) != 7 {
		t.Errorf("%v, %v", r.Unlocated, r.Located.Addr)
	}
	named := 0
	for _, a := range r.Anchors {
		if a.Name != "" {
			named++
			if a.Name != "alone" || a.Addr != base+0x100100 || a.Votes != 0 {
				t.Errorf("%+v", a)
			}
		} else if a.Votes == 0 {
			t.Errorf("%+v", a)
		}
	}
	if named != 1 {
		t.Errorf("%+v", r.Anchors)
	}
	// And the Oracle takes it.
	o, ds := symbols.NewOracle(symbols.Vmlinux, r.Located.Table, r.Located)
	if len(ds) > 0 {
		t.Fatal(ds)
	}
	for name, pos := range map[string]uint64{"twin": 2, "shown": 2, "count.1": 1, "f": 0} {
		for i := range f.Symbols {
			if f.Symbols[i].Name == name {
				if a := o.Position(f, object.SymID(i)); !a.Known || a.Pos != pos {
					t.Errorf("%s: %+v", name, a)
				}
			}
		}
	}
}

// What differs is named, at its first place.
func TestMismatch(t *testing.T) {
	at := func(secs []sect, name string) *sect {
		return &secs[slices.IndexFunc(secs, func(s sect) bool { return s.name == name })]
	}
	for name, c := range map[string]struct {
		change         func(secs []sect) []sect
		fn             string
		off            uint64
		object, kernel string
	}{
		"code":   {func(s []sect) []sect { at(s, ".text.f").data[0x25] = 0xcc; return s }, "f", 0x25, "ret", "int3"},
		"callee": {func(s []sect) []sect { at(s, ".text.f").rels[0].to = "g"; return s }, "f", 0, "{__fentry__}", "<g>"},
		"string": {func(s []sect) []sect { at(s, ".rodata.str1.1").data[4] = 'o'; return s }, "f", 5, `{"text %d"}`, `{"toxt %d"}`},
		"longer string": {func(s []sect) []sect {
			x := at(s, ".rodata.str1.1")
			x.data = []byte("ab\x00text %d.\x00")
			return s
		}, "f", 5, `{"text %d"}`, `{"text %d."}`},
		"constant": {func(s []sect) []sect { at(s, ".rodata.cst8").data[7] = '9'; return s }, "f", 0x17, "{31 32 33 34 35 36 37 38}", "{31 32 33 34 35 36 37 39}"},
		"variable": {func(s []sect) []sect {
			at(s, ".text.f").rels[3].to = "alone"
			return s
		}, "f", 0x11, "{count.1}", "{alone}"},
		"place in variable": {func(s []sect) []sect {
			at(s, ".text.f").rels[5].addend = 8
			return s
		}, "f", 0x1e, "{ops}", "{ops+0x8}"},
		"no function": {func(s []sect) []sect {
			at(s, ".text.f").syms[0].name = "f_renamed"
			return s
		}, "f", 0, "38 bytes of code", "no function of this name"},
	} {
		t.Run(name, func(t *testing.T) {
			k := kernelWith(t, c.change(sample()))
			f, r := check(t, sample(), k)
			it := item(t, f, r, c.fn)
			if it.Status != Mismatch || it.Diff.Off != c.off || !strings.Contains(it.Diff.Object, c.object) || !strings.Contains(it.Diff.Kernel, c.kernel) {
				t.Errorf("%+v, %+v", it, it.Diff)
			}
			var e *diag.Error
			if !errors.As(r.Refuse(), &e) || e.Diagnostics[0].Code != diag.RunPreMismatch || e.Diagnostics[0].Place.Symbol != c.fn {
				t.Errorf("%v", r.Refuse())
			}
		})
	}
}

func TestDataMismatch(t *testing.T) {
	secs := sample()
	secs[4].data[0] = 1
	_, r := check(t, sample(), kernelWith(t, secs))
	if r.Count(Mismatch) != 0 || r.Data[0].Status != Mismatch || r.Refuse() == nil {
		t.Errorf("%+v", r.Data)
	}
	secs = sample()
	secs[4].rels[0].to = "f"
	_, r = check(t, sample(), kernelWith(t, secs))
	if r.Data[0].Status != Mismatch || r.Data[0].Diff.Object != "shown" || r.Data[0].Diff.Kernel != "f" {
		t.Errorf("%+v", r.Data[0].Diff)
	}
}

// A weak definition that the kernel overrides is told apart from one that it runs.
func TestWeak(t *testing.T) {
	secs := sample()
	secs[3].data = []byte("\x31\xd2\x90")
	f, r := check(t, sample(), kernelWith(t, secs))
	if it := item(t, f, r, "w"); it.Status != Weak || !strings.Contains(it.Why, "another definition") || r.Refuse() != nil {
		t.Errorf("%+v", it)
	}
}

// Nothing says which twin it is when nothing refers to it.
func TestUndecided(t *testing.T) {
	secs := sample()
	secs[0].rels[2] = rel{13, elf.R_X86_64_PLT32, "g", -4}
	f, r := check(t, secs, kernelWith(t, secs))
	it := item(t, f, r, "twin")
	if it.Status != Exact || it.Addr != 0 || !strings.Contains(it.Why, "3 of 3") || r.Refuse() != nil {
		t.Errorf("%+v", it)
	}
	if w := r.Unlocated[it.Sym]; w != it.Why {
		t.Errorf("%q", w)
	}
}

// Two functions that put one section at two places: one of them is not what the kernel runs.
func TestContradiction(t *testing.T) {
	call := func(n int) sect {
		return sect{name: ".text.c" + string(rune('0'+n)), addr: base + 0x2000 + uint64(n)*0x100, data: []byte("\xe8\x00\x00\x00\x00\xc3"),
			syms: []sym{{"c" + string(rune('0'+n)), 0, 6, global}}, rels: []rel{{1, elf.R_X86_64_PLT32, ".text.twin", -4}}}
	}
	secs := append(sample(), call(0), call(1))
	k := kernelWith(t, secs)
	// c1 calls the namesake far away.
	s := k.SectionAt(base + 0x2100)
	if err := reloc.Apply(s.Data[1:], elf.R_X86_64_PLT32, base+0x8000, -4, base+0x2101, reloc.Overwrite); err != nil {
		t.Fatal(err)
	}
	f, r := check(t, secs, k)
	if it := item(t, f, r, "c1"); it.Status != Mismatch || it.Diff.Off != 1 || !strings.Contains(it.Diff.Object, "reference to twin") {
		t.Errorf("%+v", it)
	}
	if item(t, f, r, "c0").Status != Exact || item(t, f, r, "twin").Addr != base+0x1100 {
		t.Error("the others are what they were")
	}
}

// Jumps of static branches that the build makes NOPs of (objtool), short and near, the near one with its relocation.
func TestJumpLabels(t *testing.T) {
	site := func(code string, rels []rel) sect {
		return sect{name: ".text.j", addr: base + 0x2000, data: []byte(code), syms: []sym{{"j", 0, uint64(len(code)), global}}, rels: rels}
	}
	table := sect{name: "__jump_table", addr: base + 0x400000, data: make([]byte, 48), rels: []rel{
		{0, elf.R_X86_64_PC32, ".text.j", 0}, {4, elf.R_X86_64_PC32, ".text.j", 7}, {8, elf.R_X86_64_PC64, "g", 2},
		{16, elf.R_X86_64_PC32, ".text.j", 2}, {20, elf.R_X86_64_PC32, ".text.j", 7}, {24, elf.R_X86_64_PC64, "g", 2},
		{32, elf.R_X86_64_PC32, ".text.j", 7}, {36, elf.R_X86_64_PC32, ".text.j", 9}, {40, elf.R_X86_64_PC64, "g", 0}}}
	raw := append(sample(), site("\xeb\x05\xe9\x00\x00\x00\x00\xeb\x00\xc3", []rel{{3, elf.R_X86_64_PLT32, ".text.twin", -4}}), table)
	linked := append(sample(), site("\x66\x90\x0f\x1f\x44\x00\x00\xeb\x00\xc3", nil), table)
	f, r := check(t, raw, kernelWith(t, linked))
	if it := item(t, f, r, "j"); it.Status != Exact || r.Refuse() != nil {
		t.Errorf("%+v %v", it.Diff, r.Diagnostics)
	}
	linked[len(linked)-2].data[7], linked[len(linked)-2].data[8] = 0x66, 0x90
	f, r = check(t, raw, kernelWith(t, linked))
	if it := item(t, f, r, "j"); it.Status != Mismatch || it.Diff.Off != 7 {
		t.Errorf("%+v", it.Diff)
	}
}

// Branches to other sections, which the kernel has in the short form.
func TestRelaxed(t *testing.T) {
	long := "\xe8\x00\x00\x00\x00" + "\x74\x05" + "\xe9\x00\x00\x00\x00" + "\x0f\x84\x00\x00\x00\x00" + "\x75\xec" + "\xc3"
	short := "\xe8\x00\x00\x00\x00" + "\x74\x02" + "\xeb\x00" + "\x74\x00" + "\x75\xf3" + "\xc3"
	obj := sect{name: ".text.r", data: []byte(long), syms: []sym{{"r", 0, uint64(len(long)), global}}, rels: []rel{
		{1, elf.R_X86_64_PLT32, "__fentry__", -4}, {8, elf.R_X86_64_PLT32, ".text.twin", -4}, {14, elf.R_X86_64_PC32, ".text.shown", -4}}}
	mk := func(jmp, jcc byte) *image.Kernel {
		lin := sect{name: ".text.r", addr: base + 0x1176, data: []byte(short), syms: []sym{{"r", 0, uint64(len(short)), global}}, rels: []rel{{1, elf.R_X86_64_PLT32, "__fentry__", -4}}}
		lin.data[8], lin.data[10] = jmp, jcc
		lin.data = append(lin.data, make([]byte, 32)...)
		return kernelWith(t, append(sample(), lin))
	}
	// Between twin at 0x1100 and shown at 0x1200.
	jmp, jcc := byte(0x81), byte(0x7f)
	f, r := check(t, append(sample(), obj), mk(jmp, jcc))
	if it := item(t, f, r, "r"); it.Status != Exact || !it.Relaxed || r.Refuse() != nil {
		t.Errorf("%+v %+v", it, it.Diff)
	}
	for _, c := range []struct {
		k   *image.Kernel
		off uint64
	}{{mk(jmp+1, jcc), 7}, {mk(jmp, jcc-1), 12}} {
		f, r := check(t, append(sample(), obj), c.k)
		if it := item(t, f, r, "r"); it.Status != Mismatch || it.Diff.Off != c.off {
			t.Errorf("%+v %+v", it, it.Diff)
		}
	}
	k := mk(jmp, jcc)
	k.SectionAt(base + 0x1176).Data[6] = 4 // a branch within the function to another instruction
	f, r = check(t, append(sample(), obj), k)
	if it := item(t, f, r, "r"); it.Status != Mismatch || it.Diff.Off != 5 {
		t.Errorf("%+v %+v", it, it.Diff)
	}
}

// A module's file, which has relocations: the same object, and one with its sections merged.
func TestModule(t *testing.T) {
	ko := sample()
	ko = append(ko, sect{name: ".modinfo", data: []byte("name=m\x00")}, sect{name: ".text.t2", data: []byte("\x31\xc0\xc3"), syms: []sym{{"none", 0, 0, local}}})
	mod := func(secs []sect) *image.Module {
		m, err := image.ParseModule(build(t, secs).Data, image.Options{Name: "m.ko"})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	m := mod(ko)
	f := build(t, sample())
	r := CheckModule(f, m)
	if r.Refuse() != nil || r.Count(Exact) != 4 || len(r.Unlocated) > 0 || len(r.Located.Entry) != 7 {
		t.Fatalf("%v %v %v", r.Diagnostics, r.Counts, r.Unlocated)
	}
	o, ds := symbols.NewOracle("m", r.Located.Table, r.Located)
	if len(ds) > 0 {
		t.Fatal(ds)
	}
	for i := range f.Symbols {
		if f.Symbols[i].Name == "twin" {
			if a := o.Position(f, object.SymID(i)); !a.Known || a.Pos != 0 {
				t.Errorf("%+v", a)
			}
		}
	}
	// The call of twin within one section, without a relocation.
	merged := sample()
	merged[0].data = append(slices.Clone(merged[0].data), merged[1].data...)
	le32 := func(b []byte, v uint32) { b[0], b[1], b[2], b[3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24) }
	le32(merged[0].data[13:], 0x26-17)
	merged[0].syms = append(merged[0].syms, sym{"twin", 0x26, 3, local})
	merged[0].rels = slices.Delete(merged[0].rels, 2, 3)
	merged = append(slices.Delete(merged, 1, 2), sect{name: ".modinfo", data: []byte("name=m\x00")})
	m = mod(merged)
	if r = CheckModule(f, m); r.Refuse() != nil || len(r.Unlocated) > 0 {
		t.Errorf("%v %v", r.Diagnostics, r.Unlocated)
	}
	// Another callee; a reference that the object lacks.
	ko[0].rels[0].to = "__other__"
	m = mod(ko)
	r = CheckModule(f, m)
	if it := item(t, f, r, "f"); it.Status != Mismatch || !strings.Contains(it.Diff.Object, "{__fentry__}") || !strings.Contains(r.Diagnostics[0].Message, "__other__") {
		t.Errorf("%+v", it.Diff)
	}
	ko = append(sample(), sect{name: ".modinfo", data: []byte("name=m\x00")})
	ko[1].rels = []rel{{0, elf.R_X86_64_8, "x", 0}}
	m = mod(ko)
	r = CheckModule(f, m)
	if it := item(t, f, r, "twin"); it.Status != Mismatch {
		t.Errorf("%+v", it)
	}
}

func TestNotCompared(t *testing.T) {
	secs := append(sample(),
		sect{name: ".text.z", data: []byte("\xc3"), syms: []sym{{"nosize", 0, 0, global}}},
		sect{name: ".discard.text", data: []byte("\xc3"), syms: []sym{{"gone", 0, 1, local}}},
		sect{name: ".init.text", data: []byte("\xc3"), syms: []sym{{"early", 0, 1, local}}},
		sect{name: ".text.got", data: []byte("\xe8\x00\x00\x00\x00"), syms: []sym{{"got", 0, 5, global}}, rels: []rel{{1, elf.R_X86_64_GOTPCREL, "g", -4}}})
	k := kernelWith(t, sample())
	k.Symbols = append(k.Symbols, image.Symbol{Name: "got", Addr: base + 0x300000, Type: 'T'}, image.Symbol{Name: "nosize", Addr: base + 0x300000, Type: 'T'})
	f, r := check(t, secs, k)
	for name, want := range map[string]Status{"nosize": Incomparable, "gone": Absent, "early": Absent, "got": Incomparable} {
		if it := item(t, f, r, name); it.Status != want || it.Why == "" {
			t.Errorf("%s: %+v", name, it)
		}
	}
	if r.Refuse() != nil {
		t.Error(r.Diagnostics)
	}
}

func FuzzCheck(f *testing.F) {
	secs := sample()
	f.Add(build(f, secs).Data)
	f.Add(build(f, append(secs, sect{name: "__jump_table", data: make([]byte, 16), rels: []rel{{0, elf.R_X86_64_PC32, ".text.f", 0}, {4, elf.R_X86_64_PC32, ".text.f", 7}, {8, elf.R_X86_64_PC64, "g", 2}}})).Data)
	k := kernelWith(f, secs)
	m, err := image.ParseModule(build(f, append(sample(), sect{name: ".modinfo", data: []byte("name=m\x00")})).Data, image.Options{Name: "m.ko"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := object.Parse(data, object.Options{Name: "fuzz.o"})
		if err != nil {
			return
		}
		r, err := Check(o, k)
		if err != nil {
			t.Fatal(err)
		}
		for id, a := range r.Located.Addr {
			if !(&vmlinux{k: k}).named(o.Symbols[id].Name, a) {
				t.Fatalf("%s is not at %#x", o.Symbols[id].Name, a)
			}
		}
		CheckModule(o, m)
		// The other way round: a hostile module.
		if m, err := image.ParseModule(data, image.Options{Name: "fuzz.ko"}); err == nil {
			CheckModule(o, m)
		}
	})
}

// A variable of the object that is larger in the kernel: what lies behind it has moved, and no function differs.
func TestMoved(t *testing.T) {
	load := func(n string, off int64) sect {
		return sect{name: ".text.l" + n, addr: base + 0x2000 + uint64(off)*16, data: []byte("\x48\xc7\xc7\x00\x00\x00\x00\xc3"), syms: []sym{{"l" + n, 0, 8, global}}, rels: []rel{{3, elf.R_X86_64_32S, ".bss", off}}}
	}
	bss := func(second uint64) sect {
		return sect{name: ".bss", addr: base + 0x500000, bss: 64, syms: []sym{{"one", 0, 8, lobj}, {"two", second, 8, lobj}}}
	}
	secs := append(sample(), load("1", 0), load("2", 8), bss(8))
	linked := append(sample(), load("1", 0), load("2", 16), bss(16))
	linked[len(linked)-2].addr = base + 0x2080
	f, r := check(t, secs, kernelWith(t, linked))
	if item(t, f, r, "l1").Status != Exact || item(t, f, r, "l2").Status != Exact || r.Refuse() == nil {
		t.Fatalf("%v", r.Diagnostics)
	}
	d := r.Diagnostics[0]
	if d.Place.Section != ".bss" || d.Place.Symbol != "two" || !strings.Contains(d.Message, "two 0x8 bytes from it") {
		t.Errorf("%v", d)
	}
}

// Sections that nothing refers to, with names that are in two places: their contents tell, or what is known of that which they refer to.
func TestPlaceByContents(t *testing.T) {
	data := func(v byte, at uint64) sect {
		return sect{name: ".data.map", addr: at, data: []byte{v, 0, 0, 0, 0, 0, 0, 0}, syms: []sym{{"map", 0, 8, lobj}}}
	}
	ptr := func(at uint64) sect {
		return sect{name: ".data.ptr", addr: at, data: make([]byte, 8), syms: []sym{{"ptr", 0, 8, lobj}}, rels: []rel{{0, elf.R_X86_64_64, ".data.map", 0}}}
	}
	secs := append(sample(), ptr(base+0x600000), data(7, base+0x600100))
	k := kernelWith(t, secs)
	// Another object with the same names and other contents, in front.
	k.Symbols = append(k.Symbols, image.Symbol{Name: "ptr", Addr: base + 0x500000, Type: 'd'}, image.Symbol{Name: "map", Addr: base + 0x500100, Type: 'd'})
	k.Sections = append(k.Sections, image.Section{Name: ".data.o", Addr: base + 0x500000, Size: 0x108, Data: make([]byte, 0x108)})
	copy(k.Sections[len(k.Sections)-1].Data, "\x00\x01\x50\x81\xff\xff\xff\xff")
	sortKernel(k)
	f, r := check(t, secs, k)
	if r.Refuse() != nil {
		t.Fatal(r.Diagnostics)
	}
	for i := range f.Symbols {
		want := map[string]uint64{"ptr": base + 0x600000, "map": base + 0x600100}[f.Symbols[i].Name]
		if want != 0 && r.Located.Addr[object.SymID(i)] != want {
			t.Errorf("%s: %#x, %q", f.Symbols[i].Name, r.Located.Addr[object.SymID(i)], r.Unlocated[object.SymID(i)])
		}
	}
}

// What tables say of a function counts as its code.
func TestTables(t *testing.T) {
	secs := func() []sect {
		return append(sample(),
			sect{name: ".altinstructions", addr: base + 0x700000, data: []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x05\x00\x03\x02"), rels: []rel{{0, elf.R_X86_64_PC32, ".text.twin", 0}, {4, elf.R_X86_64_PC32, ".altinstr_replacement", 0}}},
			sect{name: ".altinstr_replacement", addr: base + 0x710000, data: []byte("\x90\x90")},
			sect{name: "__ex_table", addr: base + 0x720000, data: make([]byte, 12), rels: []rel{{0, elf.R_X86_64_PC32, ".text.f", 5}, {4, elf.R_X86_64_PC32, ".text.f", 0x25}}},
			sect{name: "__jump_table", addr: base + 0x730000, data: make([]byte, 16), rels: []rel{{0, elf.R_X86_64_PC32, ".text.f", 0x10}, {4, elf.R_X86_64_PC32, ".text.f", 0x25}, {8, elf.R_X86_64_PC64, "g", 0}}},
			sect{name: "__bug_table", addr: base + 0x740000, data: []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x11\x00\x01\x00"), rels: []rel{{0, elf.R_X86_64_PC32, ".text.f", 0x1e}, {4, elf.R_X86_64_PC32, ".rodata.str1.1", 0}}})
	}
	at := func(secs []sect, name string) *sect {
		return &secs[slices.IndexFunc(secs, func(s sect) bool { return s.name == name })]
	}
	for name, c := range map[string]struct {
		change         func(s []sect)
		fn             string // empty: nothing differs
		off            uint64
		object, kernel string
	}{
		"same":        {func(s []sect) {}, "", 0, "", ""},
		"line":        {func(s []sect) { at(s, "__bug_table").data[8] = 0x12 }, "", 0, "", ""},
		"flags":       {func(s []sect) { at(s, "__bug_table").data[10] = 3 }, "f", 0x1e, "__bug_table with 11 00 01 00", "11 00 03 00"},
		"file":        {func(s []sect) { at(s, "__bug_table").rels[1].addend = 3 }, "f", 0x1e, `__bug_table with "ab"`, `"te`},
		"feature":     {func(s []sect) { at(s, ".altinstructions").data[8] = 6 }, "twin", 0, ".altinstructions with 05 00 03 02", "06 00 03 02"},
		"key":         {func(s []sect) { at(s, "__jump_table").rels[2].to = "__fentry__" }, "f", 0x10, "__jump_table with g", "__fentry__"},
		"fixup":       {func(s []sect) { at(s, "__ex_table").rels[1].addend = 0x1e }, "f", 5, "__ex_table with f+0x25", "f+0x1e"},
		"no entry":    {func(s []sect) { at(s, "__ex_table").rels[0].addend = 4 }, "f", 5, "an entry in __ex_table", "none"},
		"replacement": {func(s []sect) { at(s, ".altinstr_replacement").data[1] = 0xcc }, ".altinstr_replacement", 1, "90", "cc"},
	} {
		t.Run(name, func(t *testing.T) {
			s := secs()
			c.change(s)
			f, r := check(t, secs(), kernelWith(t, s))
			if c.fn == "" {
				if r.Refuse() != nil {
					t.Error(r.Diagnostics)
				}
				return
			}
			var it *Item
			if c.fn[0] == '.' {
				for i := range r.Data {
					if f.Sections[r.Data[i].Sec].Name == c.fn {
						it = &r.Data[i]
					}
				}
			} else {
				it = item(t, f, r, c.fn)
			}
			if it == nil || it.Status != Mismatch || it.Diff.Off != c.off || !strings.Contains(it.Diff.Object, c.object) || !strings.Contains(it.Diff.Kernel, c.kernel) {
				t.Fatalf("%+v", r.Diagnostics)
			}
		})
	}
}

func TestLineOfDebugMessage(t *testing.T) {
	secs := func(line byte, more byte) []sect {
		d := make([]byte, 56)
		d[32], d[34] = line, more
		return append(sample(), sect{name: "__dyndbg", addr: base + 0x700000, data: d, syms: []sym{{"dd", 0, 56, lobj}}})
	}
	if _, r := check(t, secs(1, 0), kernelWith(t, secs(9, 3))); r.Refuse() != nil {
		t.Error(r.Diagnostics)
	}
	if _, r := check(t, secs(1, 0), kernelWith(t, secs(1, 4))); r.Refuse() == nil {
		t.Error("what is not the line differs")
	}
}

// The build clears a variable after the link; the tables of kallsyms are not among the symbols, but always at one place.
func TestAfterTheLink(t *testing.T) {
	secs := func(second string) []sect {
		return append(sample(),
			sect{name: ".init.data", addr: base + 0x700000, data: []byte("\x01\x00\x00\x00\x07"), syms: []sym{{"main_extable_sort_needed", 0, 4, lobj}, {"after", 4, 1, lobj}}},
			sect{name: ".text.k", addr: base + 0x2000, data: []byte("\x48\xc7\xc7\x00\x00\x00\x00\x48\xc7\xc7\x00\x00\x00\x00\xc3"), syms: []sym{{"k", 0, 15, global}},
				rels: []rel{{3, elf.R_X86_64_32S, "kallsyms_names", 0}, {10, elf.R_X86_64_32S, second, 0}}})
	}
	linked := func(second string, sorted, after byte) *image.Kernel {
		s := secs(second)
		s[len(s)-2].data[0], s[len(s)-2].data[4] = sorted, after
		k := link(t, s, append(others(), image.Symbol{Name: "kallsyms_names", Addr: base + 0x300000, Type: 'r'})...)
		// As kallsyms does, it leaves its own tables out.
		k.Symbols = slices.DeleteFunc(k.Symbols, func(s image.Symbol) bool { return s.Name == "kallsyms_names" })
		return k
	}
	if f, r := check(t, secs("kallsyms_names"), linked("kallsyms_names", 0, 7)); item(t, f, r, "k").Status != Exact || r.Refuse() != nil {
		t.Error(r.Diagnostics)
	}
	if f, r := check(t, secs("kallsyms_names"), linked("g", 0, 7)); item(t, f, r, "k").Status != Mismatch {
		t.Error("two places")
	}
	if _, r := check(t, secs("kallsyms_names"), linked("kallsyms_names", 0, 8)); r.Refuse() == nil {
		t.Error("what is behind the variable differs")
	}
}
