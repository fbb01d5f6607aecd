package klp

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/pkg/object"
)

func modelTuples(x *fixture) []Tuple {
	var out []Tuple
	for _, r := range x.relocs {
		out = append(out, Tuple{r.Object, x.b.Section(r.Sec).Name, r.Off, r.Type, r.Symbol.Object, r.Symbol.Name, r.Symbol.Pos, r.Addend})
	}
	slices.SortFunc(out, compareTuples)
	return out
}

func TestIntermediateRoundTrip(t *testing.T) {
	x := newFixture("x")
	p := must(t, ReadIntermediate, x.klp(t))
	same(t, "tuples", p.Tuples(), modelTuples(x))
	if len(p.Objects) != 2 || p.Kpatch != nil || len(p.Callbacks) != 0 {
		t.Errorf("%+v", p)
	}
	same(t, "functions", funcs(p), []string{"mod_a:x_modfn,1=x_cb", "vmlinux:x_fn,0=x_fn", "vmlinux:x_twice,2=x_cb"})
	for i, r := range p.Relocs {
		if r.Symbol.Type == elf.STT_NOTYPE {
			t.Errorf("relocation %d: the symbol has no type", i)
		}
	}
}

// Callbacks are relocations in .init.klp_objects (struct klp_object_ext).
func TestIntermediateCallbacks(t *testing.T) {
	x := newFixture("x")
	var all []Callback
	for k := range numCallbacks {
		all = append(all, Callback{"mod_a", k, x.cb})
	}
	Intermediate(x.b, x.objects, nil, all, x.sections)
	p := must(t, ReadIntermediate, mustBytes(t, x.b))
	same(t, "callbacks", funcs(p)[:4], []string{"mod_a:post_patch=x_cb", "mod_a:post_unpatch=x_cb", "mod_a:pre_patch=x_cb", "mod_a:pre_unpatch=x_cb"})
	for i := range p.File.Sections {
		if p.File.Sections[i].Name != SecObjects {
			continue
		}
		rs := p.File.RelocsOf(object.SecID(i))
		for k := range numCallbacks {
			if lo, hi := rs.Range(64+16+8*uint64(k), 64+16+8*uint64(k)+1); hi-lo != 1 {
				t.Errorf("no pointer for %v", k)
			}
		}
	}
}

// The entry of a function may be a section symbol and an offset, as assemblers write it for local functions.
func TestFunctionBySectionSymbol(t *testing.T) {
	x := newFixture("x")
	sec := x.b.AddSymbol(object.BuildSymbol{Sec: x.text, Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_SECTION)})
	x.sections[x.text] = sec
	Kpatch(x.b, &x.tables, x.sections)
	s := x.b.AddSection(object.BuildSection{Name: ".kpatch.callbacks.post_patch", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_WRITE, Addralign: 8, Data: make([]byte, 16)})
	strs := object.SecID(0)
	for i := range x.b.NumSections() {
		if x.b.Section(object.SecID(i)).Name == KpatchStringsSection {
			strs = object.SecID(i)
		}
	}
	x.b.AddReloc(s, object.Reloc{Off: 0, Type: elf.R_X86_64_64, Sym: sec, Addend: 32})
	x.b.AddReloc(s, object.Reloc{Off: 8, Type: elf.R_X86_64_64, Sym: x.sections[strs]})
	p := must(t, ReadKpatch, mustBytes(t, x.b))
	if len(p.Callbacks) != 1 || p.File.SymName(p.Callbacks[0].Func) != "x_cb" || p.Callbacks[0].Object != Vmlinux {
		t.Errorf("%+v", p.Callbacks)
	}
}

func TestKpatchRoundTrip(t *testing.T) {
	x := newFixture("x")
	x.tables.Callbacks = []Callback{{Vmlinux, PrePatch, x.cb}, {"mod_a", PrePatch, x.fn}, {Vmlinux, PostUnpatch, x.fn}}
	x.tables.Force = []object.SymID{x.fn}
	x.tables.Arch = []KpatchArch{{x.data, "mod_a"}}
	p := must(t, ReadKpatch, x.kpatch(t))
	same(t, "tuples", p.Tuples(), modelTuples(x))
	got := *p.Kpatch
	// Handles of the Builder are indices of the object here: locals come first, and were added first.
	back := func(id object.SymID) object.SymID {
		for h := 1; h < x.b.NumSymbols(); h++ {
			if n := x.b.Symbol(object.SymID(h)).Name; n != "" && n == p.File.SymName(id) {
				return object.SymID(h)
			}
		}
		return 0
	}
	for i := range got.Funcs {
		got.Funcs[i].New = back(got.Funcs[i].New)
	}
	for i := range got.Callbacks {
		got.Callbacks[i].Func = back(got.Callbacks[i].Func)
	}
	for i := range got.Force {
		got.Force[i] = back(got.Force[i])
	}
	if !reflect.DeepEqual(got, x.tables) {
		t.Errorf("\n got %+v\nwant %+v", got, x.tables)
	}
}

// The layouts of spec/kpatch.md 11, byte by byte, with the example of 18.1.
func TestKpatchLayout(t *testing.T) {
	b := object.NewBuilder(object.Header{})
	text := b.AddSection(object.BuildSection{Name: ".text.foo", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, Addralign: 16, Data: make([]byte, 32)})
	foo := b.AddSymbol(object.BuildSymbol{Name: "foo", Sec: text, Size: 32, Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_FUNC)})
	Kpatch(b, &KpatchTables{
		Parent: Vmlinux,
		Funcs:  []KpatchFunc{{Func: Func{Name: "foo", Pos: 7, New: foo}, Object: Vmlinux, NewSize: 32, OldAddr: 0xffffffff81234560, OldSize: 16}},
		Relocs: []KpatchReloc{{
			Reloc: Reloc{Object: Vmlinux, Sec: text, Off: 9, Type: elf.R_X86_64_PLT32, Addend: -4, Symbol: Symbol{"lib", "bar", 1, elf.STT_FUNC}},
			Bind:  elf.STB_WEAK, Src: 0xffffffff81000010, External: true,
		}},
		Arch:      []KpatchArch{{text, "lib"}},
		Callbacks: []Callback{{Vmlinux, PreUnpatch, foo}},
		Force:     []object.SymID{foo},
	}, map[object.SecID]object.SymID{})
	f := mustParse(t, mustBytes(t, b))

	var names []string
	for i := range f.Sections {
		names = append(names, f.Sections[i].Name)
	}
	same(t, "sections", names, []string{"", ".text.foo", ".kpatch.strings", ".kpatch.funcs", ".rela.kpatch.funcs",
		".kpatch.relocations", ".rela.kpatch.relocations", ".kpatch.symbols", ".rela.kpatch.symbols", ".kpatch.arch", ".rela.kpatch.arch",
		".kpatch.callbacks.pre_unpatch", ".rela.kpatch.callbacks.pre_unpatch", ".kpatch.force", ".rela.kpatch.force", ".symtab", ".strtab", ".shstrtab"})

	strs := section(t, f, KpatchStringsSection)
	if string(strs.Data) != "vmlinux\x00foo\x00bar\x00lib\x00" || strs.Flags != elf.SHF_ALLOC || strs.Addralign != 1 || strs.Entsize != 1 || strs.Type != elf.SHT_PROGBITS {
		t.Errorf("strings %q %+v", strs.Data, strs)
	}
	for _, w := range []struct {
		name    string
		entsize uint64
		flags   elf.SectionFlag
		data    []byte
		relas   string
	}{
		{KpatchFuncsSection, 56, elf.SHF_ALLOC, le64(0, 32, 0xffffffff81234560, 16, 7, 0, 0), "0 foo+0; 40 .kpatch.strings+8; 48 .kpatch.strings+0; "},
		{KpatchRelocsSection, 40, elf.SHF_ALLOC, le64(0, 4|1<<32, 0xfffffffffffffffc, 0, 0), "0 .text.foo+9; 24 .kpatch.strings+0; 32 .kpatch.symbols+0; "},
		{KpatchSymbolsSection, 40, elf.SHF_ALLOC, le64(0xffffffff81000010, 1, 2|2<<8, 0, 0), "24 .kpatch.strings+12; 32 .kpatch.strings+16; "},
		{KpatchArchSection, 16, elf.SHF_ALLOC, le64(0, 0), "0 .text.foo+0; 8 .kpatch.strings+16; "},
		{".kpatch.callbacks.pre_unpatch", 0, elf.SHF_ALLOC | elf.SHF_WRITE, le64(0, 0), "0 foo+0; 8 .kpatch.strings+0; "},
		{KpatchForceSection, 0, elf.SHF_ALLOC | elf.SHF_WRITE, le64(0), "0 foo+0; "},
	} {
		s := section(t, f, w.name)
		if s.Type != elf.SHT_PROGBITS || s.Flags != w.flags || s.Addralign != 8 || s.Entsize != w.entsize || !bytes.Equal(s.Data, w.data) {
			t.Errorf("%s: %v %v align %d entsize %d\n got % x\nwant % x", w.name, s.Type, s.Flags, s.Addralign, s.Entsize, s.Data, w.data)
		}
		r := &f.Sections[s.Rela]
		if r.Name != ".rela"+w.name || r.Flags != elf.SHF_INFO_LINK || r.Addralign != 8 || r.Entsize != 24 {
			t.Errorf("%s: %v align %d entsize %d", r.Name, r.Flags, r.Addralign, r.Entsize)
		}
		var relas strings.Builder
		for i := range f.Relocs(s.Rela).Len() {
			e := f.Relocs(s.Rela).File(i)
			fmt.Fprintf(&relas, "%d %s%+d; ", e.Off, f.SymName(e.Sym), e.Addend)
			if e.Type != elf.R_X86_64_64 {
				t.Errorf("%s: type %v", r.Name, e.Type)
			}
		}
		if relas.String() != w.relas {
			t.Errorf("%s:\n got %s\nwant %s", r.Name, relas.String(), w.relas)
		}
	}
}

// checkFinal holds what every final form must be, by the file alone.
func checkFinal(t testing.TB, d []byte) *Patch {
	t.Helper()
	p := must(t, ReadFinal, d)
	f := p.File
	taken := map[place]bool{}
	for i := range f.Sections {
		s := &f.Sections[i]
		if s.Type != elf.SHT_RELA || !f.Sections[s.Info].Alloc() {
			continue
		}
		klp := s.Flags&object.SHF_RELA_LIVEPATCH != 0
		for j := range f.Relocs(object.SecID(i)).Len() {
			e := f.Relocs(object.SecID(i)).File(j)
			at := place{object.SecID(s.Info), e.Off}
			if taken[at] && e.Type != elf.R_X86_64_NONE {
				t.Errorf("%s+0x%x is relocated twice", f.Sections[s.Info].Name, e.Off)
			}
			taken[at] = true
			if (f.Symbols[e.Sym].Shndx == object.SHN_LIVEPATCH) != klp {
				t.Errorf("%s: entry %d against %s", s.Name, j, f.Symbols[e.Sym].Name)
			}
		}
		if klp && (s.Flags != elf.SHF_ALLOC|elf.SHF_INFO_LINK|object.SHF_RELA_LIVEPATCH || s.Entsize != 24 || s.Addralign != 8 || object.SecID(s.Link) != f.Symtab) {
			t.Errorf("%s: %v entsize %d align %d link %d", s.Name, s.Flags, s.Entsize, s.Addralign, s.Link)
		}
		if klp && !strings.HasSuffix(s.Name, "."+f.Sections[s.Info].Name) {
			t.Errorf("%s applies to %s", s.Name, f.Sections[s.Info].Name)
		}
	}
	for i := range f.Sections {
		name := f.Sections[i].Name
		if strings.HasPrefix(name, SecRelocs) || name == KpatchRelocsSection || name == KpatchSymbolsSection || name == KpatchArchSection {
			t.Errorf("section %s is still there", name)
		}
	}
	for i := range f.Symbols {
		s := &f.Symbols[i]
		if strings.HasPrefix(s.Name, Tombstone) || strings.HasPrefix(s.Name, SymPrefix) && s.Shndx != object.SHN_LIVEPATCH {
			t.Errorf("symbol %s is still there, in section %v", s.Name, s.Shndx)
		}
	}
	return p
}

func finalize(t testing.TB, d []byte, opts FinalizeOptions) []byte {
	t.Helper()
	opts.Name = "in.ko"
	out, err := Finalize(d, opts)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Finalize(d, opts); err != nil || !bytes.Equal(out, again) {
		t.Errorf("the second run gives other bytes (%v)", err)
	}
	return out
}

func TestFinalize(t *testing.T) {
	for _, form := range []string{"klp", "kpatch"} {
		x := newFixture("x").module()
		x.b.AddSection(object.BuildSection{Name: ".BTF", Type: elf.SHT_PROGBITS, Data: []byte("btf"), Addralign: 1})
		var d []byte
		if form == "klp" {
			d = x.klp(t)
		} else {
			d = x.kpatch(t)
		}
		out := finalize(t, d, FinalizeOptions{})
		p := checkFinal(t, out)
		same(t, form+" tuples", p.Tuples(), modelTuples(x))
		same(t, form+" functions", funcs(p), []string{"mod_a:x_modfn,1=x_cb", "vmlinux:x_fn,0=x_fn", "vmlinux:x_twice,2=x_cb"})
		section(t, p.File, ".BTF")
		rela := section(t, p.File, ".klp.rela.vmlinux..text")
		if len(rela.Data) != 48 || section(t, p.File, ".klp.rela.mod_a..text").Info != rela.Info {
			t.Errorf("%s: %+v", form, rela)
		}
		text := section(t, p.File, ".text")
		if n := p.File.Relocs(text.Rela).Len(); n != 1 {
			t.Errorf("%s: %d ordinary relocations for .text, want 1", form, n)
		}
		klps := 0
		for i := range p.File.Symbols {
			s := &p.File.Symbols[i]
			if s.Shndx != object.SHN_LIVEPATCH {
				continue
			}
			klps++
			want := elf.STB_WEAK
			if form == "kpatch" {
				if want = elf.STB_LOCAL; s.Name == ".klp.sym.mod_b.exported,0" {
					want = elf.STB_GLOBAL
				}
			}
			if s.Bind() != want || s.Value != 0 || s.Size != 0 {
				t.Errorf("%s: %+v", form, s)
			}
		}
		if klps != 3 {
			t.Errorf("%s: %d klp symbols, want 3", form, klps)
		}
		without := must(t, ReadFinal, finalize(t, d, FinalizeOptions{DropBTF: true}))
		if slices.ContainsFunc(without.File.Sections, func(s object.Section) bool { return s.Name == ".BTF" }) {
			t.Error(".BTF is still there")
		}
		_, err := Finalize(out, FinalizeOptions{Name: "in.ko"})
		refused(t, err, "klp-form", ".klp.rela.vmlinux..text", "final form already")
	}
}

// Two patches linked by ld -r: offsets move, tables are concatenated, symbols of one name become one.
func TestLinkedAndFinalized(t *testing.T) {
	for _, form := range []string{"klp", "kpatch"} {
		x, y := newFixture("x").module(), newFixture("y")
		var d []byte
		var read func(*object.File) (*Patch, error)
		if form == "klp" {
			d, read = link(t, x.klp(t), y.klp(t)), ReadIntermediate
		} else {
			d, read = link(t, x.kpatch(t), y.kpatch(t)), ReadKpatch
		}
		want := modelTuples(x)
		for _, tu := range modelTuples(y) {
			tu.Off += map[string]uint64{".text": 64, ".data.rel": 32}[tu.Section]
			want = append(want, tu)
		}
		slices.SortFunc(want, compareTuples)
		wantFuncs := []string{"mod_a:x_modfn,1=x_cb", "mod_a:y_modfn,1=y_cb", "vmlinux:x_fn,0=x_fn", "vmlinux:x_twice,2=x_cb", "vmlinux:y_fn,0=y_fn", "vmlinux:y_twice,2=y_cb"}
		linked := must(t, read, d)
		same(t, form+" linked", linked.Tuples(), want)
		same(t, form+" linked", funcs(linked), wantFuncs)
		out := finalize(t, d, FinalizeOptions{DropBTF: true})
		p := checkFinal(t, out)
		same(t, form+" final", p.Tuples(), want)
		same(t, form+" final", funcs(p), wantFuncs)
		if len(p.Objects) != 2 {
			t.Errorf("%s: %d objects", form, len(p.Objects))
		}
		l := DefaultLayout()
		l.ModuleInit, l.ModuleExit = 312, 1200
		static := finalize(t, d, FinalizeOptions{Layout: l})
		same(t, form+" static", checkFinal(t, static).Tuples(), want)
		s, replace, err := ReadStatic(mustParse(t, static), l)
		if err != nil || !replace {
			t.Fatal(err, replace)
		}
		same(t, form+" static", funcs(s), wantFuncs)
		readelf(t, out)
		readelf(t, static)
	}
}

// readelf sees that binutils find nothing to complain about.
func readelf(t testing.TB, d []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "out.ko")
	write(t, name, d)
	out := run(t, tool(t, "readelf"), "-aW", name)
	for _, bad := range []string{"Warning", "Error", "<corrupt", "warning"} {
		if strings.Contains(out, bad) {
			t.Errorf("readelf says:\n%s", out)
			break
		}
	}
	return out
}

// What eu-elflint finds wrong is what the format asks for: the flag and the index that it does not know.
func TestElflint(t *testing.T) {
	lint := tool(t, "eu-elflint")
	l := DefaultLayout()
	l.ModuleInit = 312
	for _, opts := range []FinalizeOptions{{}, {Layout: l}} {
		name := filepath.Join(t.TempDir(), "out.ko")
		write(t, name, finalize(t, newFixture("x").module().klp(t), opts))
		out, _ := runLint(lint, name)
		for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
			known := strings.Contains(line, ".klp.rela.") ||
				strings.Contains(line, "invalid section index") || // SHN_LIVEPATCH
				strings.Contains(line, "unknown") && strings.Contains(line, "flag") ||
				line == "No errors" || line == ""
			if !known {
				t.Errorf("eu-elflint: %s", line)
			}
		}
	}
}

func TestKlpModuleConverter(t *testing.T) {
	ckm := filepath.Join(*peers, "bin", "create-klp-module")
	if _, err := os.Stat(ckm); err != nil {
		t.Skipf("no create-klp-module: fill %s with get-peers", *peers)
	}
	x, y := newFixture("x").module(), newFixture("y")
	x.tables.Callbacks = []Callback{{Vmlinux, PrePatch, x.cb}}
	y.tables.Force = []object.SymID{y.fn}
	in := link(t, x.kpatch(t), y.kpatch(t))
	dir := t.TempDir()
	from, to := filepath.Join(dir, "in.ko"), filepath.Join(dir, "out.ko")
	write(t, from, in)
	if out := run(t, ckm, from, to); strings.TrimSpace(out) != "" {
		t.Errorf("create-klp-module says: %s", out)
	}
	d, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	theirs := checkFinal(t, d)
	ours := checkFinal(t, finalize(t, in, FinalizeOptions{}))
	if len(theirs.Relocs) != 8 {
		t.Errorf("%d relocations", len(theirs.Relocs))
	}
	same(t, "tuples", ours.Tuples(), theirs.Tuples())
	same(t, "functions", funcs(ours), funcs(theirs))
	klp := func(p *Patch) []string {
		var out []string
		for i := range p.File.Symbols {
			if s := &p.File.Symbols[i]; s.Shndx == object.SHN_LIVEPATCH {
				out = append(out, fmt.Sprint(s.Name, s.Bind(), s.Type(), s.Value, s.Size, s.Other))
			}
		}
		slices.Sort(out)
		return out
	}
	same(t, "symbols", klp(ours), klp(theirs))
	secs := func(p *Patch) []string {
		var out []string
		for i := range p.File.Sections {
			if s := &p.File.Sections[i]; strings.HasPrefix(s.Name, RelaPrefix) || strings.HasPrefix(s.Name, ".kpatch") {
				out = append(out, fmt.Sprint(s.Name, s.Type, s.Flags, s.Addralign, s.Entsize, s.Size))
			}
		}
		slices.Sort(out)
		return out
	}
	same(t, "sections", secs(ours), secs(theirs))
}

func TestStatic(t *testing.T) {
	x := newFixture("x").module()
	x.b.AddSymbol(object.BuildSymbol{Name: "init_module", Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_NOTYPE)})
	ini := object.SymID(x.b.NumSymbols() - 1)
	x.b.AddReloc(x.mod, object.Reloc{Off: 312, Type: elf.R_X86_64_64, Sym: ini})
	x.b.AddSection(object.BuildSection{Name: ".modinfo", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Addralign: 1, Data: []byte("license=GPL\x00")})
	x.tables.Callbacks = []Callback{{"mod_z", PostPatch, x.cb}, {Vmlinux, PreUnpatch, x.fn}}
	l := DefaultLayout()
	l.ModuleExit = 1200
	x.b.AddSection(object.BuildSection{Name: returnSites, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Addralign: 1, Data: make([]byte, 4)})
	x.b.AddReloc(object.SecID(x.b.NumSections()-1), object.Reloc{Off: 0, Type: elf.R_X86_64_PC32, Sym: x.fn, Addend: 5})
	ver := x.b.AddSection(object.BuildSection{Name: "__versions", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Addralign: 32, Data: make([]byte, 64)})
	d := x.kpatch(t)
	_, err := Finalize(d, FinalizeOptions{Name: "in.ko", Layout: l})
	refused(t, err, "klp-init", "__versions", "checksum of klp_enable_patch")
	refused(t, err, "klp-init", "__versions", "checksum of __x86_return_thunk")
	_ = ver
	opts := FinalizeOptions{Layout: l, NoReplace: true, CRCs: map[string]uint32{enablePatch: 0x01020304, returnThunk: 5}}
	out := finalize(t, d, opts)
	p := checkFinal(t, out)
	f := p.File
	same(t, "tuples", p.Tuples(), modelTuples(x))
	for i := range f.Sections {
		if strings.HasPrefix(f.Sections[i].Name, ".kpatch") || strings.HasPrefix(f.Sections[i].Name, ".init.klp") {
			t.Errorf("%s is still there", f.Sections[i].Name)
		}
	}
	s, replace, err := ReadStatic(f, l)
	if err != nil || replace {
		t.Fatal(err, replace)
	}
	same(t, "functions", funcs(s), []string{"mod_a:x_modfn,1=x_cb", "mod_z:post_patch=x_cb", "vmlinux:pre_unpatch=x_fn", "vmlinux:x_fn,0=x_fn", "vmlinux:x_twice,2=x_cb"})

	code := section(t, f, StartSection)
	want := slices.Concat(bytes.Repeat([]byte{0x90}, 16),
		[]byte{0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0xc7, 0xc7, 0, 0, 0, 0, 0xe9, 0, 0, 0, 0, 0xcc},
		bytes.Repeat([]byte{0xcc}, 15), bytes.Repeat([]byte{0x90}, 16),
		[]byte{0xf3, 0x0f, 0x1e, 0xfa, 0xe9, 0, 0, 0, 0, 0xcc})
	if !bytes.Equal(code.Data, want) || code.Flags != elf.SHF_ALLOC|elf.SHF_EXECINSTR || code.Addralign != 16 {
		t.Errorf("code % x", code.Data)
	}
	relas := func(name string) []string {
		var out []string
		rels := f.Relocs(section(t, f, name).Rela)
		for i := range rels.Len() {
			e := rels.File(i)
			out = append(out, fmt.Sprintf("%d %v %s%+d", e.Off, e.Type, f.SymName(e.Sym), e.Addend))
		}
		return out
	}
	same(t, "code", relas(StartSection), []string{"23 R_X86_64_32S __klp_patch+0", "28 R_X86_64_PLT32 klp_enable_patch-4", "69 R_X86_64_PLT32 __x86_return_thunk-4"})
	same(t, "return sites", relas(returnSites), []string{"0 R_X86_64_PC32 x_fn+5", "4 R_X86_64_PC32 .text.klp_start+68"})
	same(t, "struct module", relas(moduleSection), []string{"312 R_X86_64_64 init_module+0", "1200 R_X86_64_64 cleanup_module+0"})
	// klp_patch, four klp_object (the last empty), then two, one and no klp_func, each list with an empty one.
	objs, fns := uint64(200), uint64(200+4*168)
	same(t, "tables", relas(StaticSection), []string{
		"0 R_X86_64_64 __this_module+0",
		fmt.Sprintf("8 R_X86_64_64 .data.klp_patch+%d", objs),
		fmt.Sprintf("%d R_X86_64_64 .data.klp_patch+%d", objs+8, fns),
		fmt.Sprintf("%d R_X86_64_64 x_fn+0", objs+16+16),
		fmt.Sprintf("%d R_X86_64_64 .rodata.klp_names+0", fns),
		fmt.Sprintf("%d R_X86_64_64 x_fn+0", fns+8),
		fmt.Sprintf("%d R_X86_64_64 .rodata.klp_names+5", fns+152),
		fmt.Sprintf("%d R_X86_64_64 x_cb+0", fns+152+8),
		fmt.Sprintf("%d R_X86_64_64 .rodata.klp_names+13", objs+168),
		fmt.Sprintf("%d R_X86_64_64 .data.klp_patch+%d", objs+168+8, fns+3*152),
		fmt.Sprintf("%d R_X86_64_64 .rodata.klp_names+19", fns+3*152),
		fmt.Sprintf("%d R_X86_64_64 x_cb+0", fns+3*152+8),
		fmt.Sprintf("%d R_X86_64_64 .rodata.klp_names+27", objs+2*168),
		fmt.Sprintf("%d R_X86_64_64 .data.klp_patch+%d", objs+2*168+8, fns+5*152),
		fmt.Sprintf("%d R_X86_64_64 x_cb+0", objs+2*168+16+8),
	})
	data := section(t, f, StaticSection)
	zero := make([]byte, fns+6*152)
	binary.LittleEndian.PutUint64(zero[fns+152+16:], 2)
	binary.LittleEndian.PutUint64(zero[fns+3*152+16:], 1)
	if !bytes.Equal(data.Data, zero) || data.Flags != elf.SHF_ALLOC|elf.SHF_WRITE {
		t.Error("tables: numbers are not as they should be")
	}
	if n := section(t, f, StaticStrings); string(n.Data) != "x_fn\x00x_twice\x00mod_a\x00x_modfn\x00mod_z\x00" {
		t.Errorf("names %q", n.Data)
	}
	if m := section(t, f, ".modinfo"); string(m.Data) != "license=GPL\x00livepatch=Y\x00" {
		t.Errorf("modinfo %q", m.Data)
	}
	if v := section(t, f, "__versions"); len(v.Data) != 192 || binary.LittleEndian.Uint64(v.Data[64:]) != 0x01020304 || !bytes.HasPrefix(v.Data[72:], []byte("klp_enable_patch\x00")) || !bytes.HasPrefix(v.Data[136:], []byte("__x86_return_thunk\x00")) {
		t.Errorf("versions % x", v.Data)
	}
	for i := range f.Symbols {
		switch s := &f.Symbols[i]; s.Name {
		case "init_module":
			if s.Value != 16 || s.Size != 17 || s.Bind() != elf.STB_GLOBAL || s.Type() != elf.STT_FUNC {
				t.Errorf("%+v", s)
			}
		case "cleanup_module":
			if s.Value != 64 || s.Size != 10 || s.Bind() != elf.STB_GLOBAL || s.Type() != elf.STT_FUNC {
				t.Errorf("%+v", s)
			}
		case PatchSymbol:
			if s.Size != 200 || s.Value != 0 || s.Bind() != elf.STB_LOCAL {
				t.Errorf("%+v", s)
			}
		}
	}
	readelf(t, out)

	// Replacing is the default; a plain return needs neither thunk nor entry.
	plain := newFixture("x").module()
	l.ModuleInit = 312
	pf := mustParse(t, finalize(t, plain.klp(t), FinalizeOptions{Layout: l, PlainReturn: true}))
	if d := section(t, pf, StaticSection).Data; d[24] != 1 {
		t.Error("replace is not set")
	}
	if d := section(t, pf, StartSection).Data; !bytes.Equal(d[64:], []byte{0xf3, 0x0f, 0x1e, 0xfa, 0xc3, 0xcc}) {
		t.Errorf("exit % x", d[64:])
	}
	for i := range pf.Sections {
		if n := pf.Sections[i].Name; n == returnSites || n == SecObjects || n == SecFuncs {
			t.Errorf("section %s", n)
		}
	}
}

// objdump reads the start as the three functions' code.
func TestStartDecodes(t *testing.T) {
	dump := tool(t, "objdump")
	l := DefaultLayout()
	l.ModuleInit = 312
	name := filepath.Join(t.TempDir(), "out.ko")
	write(t, name, finalize(t, newFixture("x").module().klp(t), FinalizeOptions{Layout: l}))
	out := run(t, dump, "-dr", "-j", StartSection, "--no-show-raw-insn", name)
	at := 0
	for _, want := range []string{"<init_module>", "endbr64", "mov    $0x0,%rdi", "R_X86_64_32S", "jmp", "klp_enable_patch-0x4", "int3", "<cleanup_module>", "endbr64", "jmp", "__x86_return_thunk-0x4", "int3"} {
		i := strings.Index(out[at:], want)
		if i < 0 {
			t.Fatalf("no %s in\n%s", want, out)
		}
		at += i
	}
}
