package klp_test

import (
	"bytes"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
)

// build makes a patch by hand: two functions and a variable in three sections.
func build(objects func(f, g object.SymID) []klp.Object, relocs func(text, data object.SecID) []klp.Reloc) (*object.File, error) {
	b := object.NewBuilder(object.Header{})
	text := b.AddSection(object.BuildSection{Name: ".text.f", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, Addralign: 16, Data: make([]byte, 64)})
	data := b.AddSection(object.BuildSection{Name: ".data.v", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_WRITE, Addralign: 8, Data: make([]byte, 8)})
	textSym := b.AddSymbol(object.BuildSymbol{Sec: text, Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_SECTION)})
	f := b.AddSymbol(object.BuildSymbol{Name: "f", Sec: text, Size: 32, Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_FUNC)})
	g := b.AddSymbol(object.BuildSymbol{Name: "g", Sec: text, Value: 32, Size: 32, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC)})
	sections := map[object.SecID]object.SymID{text: textSym}
	klp.Intermediate(b, objects(f, g), relocs(text, data), nil, sections)
	if len(sections) < 2 || sections[text] != textSym {
		return nil, fmt.Errorf("section symbols: %v", sections)
	}
	out, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	return object.Parse(out, object.Options{})
}

func twoObjects(f, g object.SymID) []klp.Object {
	return []klp.Object{
		{Name: klp.Vmlinux, Funcs: []klp.Func{{Name: "f", Pos: 3, New: f}}},
		{Name: "mod_a", Funcs: []klp.Func{{Name: "g.isra.0", New: g}, {Name: "f", Pos: 0x1234, New: f}}},
	}
}

func someRelocs(text, data object.SecID) []klp.Reloc {
	v := klp.Symbol{Object: klp.Vmlinux, Name: "v.7", Pos: 2, Type: elf.STT_OBJECT}
	return []klp.Reloc{
		{Object: klp.Vmlinux, Sec: text, Off: 0x13, Type: elf.R_X86_64_PC32, Addend: -4, Symbol: v},
		{Object: "mod_a", Sec: data, Off: 0, Type: elf.R_X86_64_64, Addend: 8, Symbol: klp.Symbol{Object: "mod_b", Name: "w", Type: elf.STT_FUNC}},
		{Object: klp.Vmlinux, Sec: text, Off: 0x24, Type: elf.R_X86_64_PLT32, Addend: -4, Symbol: v},
	}
}

func section(t *testing.T, f *object.File, name string) (object.SecID, *object.Section) {
	t.Helper()
	for i := range f.Sections {
		if f.Sections[i].Name == name {
			return object.SecID(i), &f.Sections[i]
		}
	}
	t.Fatalf("no section %s", name)
	return 0, nil
}

// relocs gives a section's relocations as text: offset, type, symbol, addend.
func relocs(f *object.File, sec object.SecID) string {
	var out []string
	rs := f.RelocsOf(sec)
	for i := range rs.Len() {
		r := rs.File(i)
		out = append(out, fmt.Sprintf("%x %v %s%+d", r.Off, r.Type, f.SymName(r.Sym), r.Addend))
	}
	return strings.Join(out, "; ")
}

// The layouts byte by byte: struct klp_object_ext is 64 bytes, klp_func_ext and klp_reloc are 24.
func TestIntermediate(t *testing.T) {
	f, err := build(twoObjects, someRelocs)
	if err != nil {
		t.Fatal(err)
	}
	zeros := func(n int) string { return strings.Repeat("00", n) }
	for _, c := range []struct {
		name           string
		align, entsize uint64
		flags          elf.SectionFlag
		data, relocs   string
	}{
		{klp.SecObjects, 1, 64, elf.SHF_ALLOC,
			zeros(56) + "01000000" + zeros(4) + zeros(56) + "02000000" + zeros(4),
			"8 R_X86_64_64 .init.klp_funcs+0; 40 R_X86_64_64 .rodata.klp.str1.1+3; 48 R_X86_64_64 .init.klp_funcs+24"},
		{klp.SecFuncs, 1, 24, elf.SHF_ALLOC,
			zeros(16) + "0300000000000000" + zeros(24) + zeros(16) + "3412000000000000",
			"0 R_X86_64_64 .rodata.klp.str1.1+1; 8 R_X86_64_64 f+0; 18 R_X86_64_64 .rodata.klp.str1.1+9; 20 R_X86_64_64 g+0; 30 R_X86_64_64 .rodata.klp.str1.1+1; 38 R_X86_64_64 f+0"},
		{klp.SecStrings, 1, 1, elf.SHF_ALLOC | elf.SHF_MERGE | elf.SHF_STRINGS,
			hex.EncodeToString([]byte("\x00f\x00mod_a\x00g.isra.0\x00")), ""},
		{klp.SecRelocs + "vmlinux", 8, 0, elf.SHF_ALLOC,
			zeros(16) + "02000000" + zeros(4) + zeros(16) + "04000000" + zeros(4),
			"0 R_X86_64_64 .text.f+19; 8 R_X86_64_64 .klp.sym.vmlinux.v.7,2-4; 18 R_X86_64_64 .text.f+36; 20 R_X86_64_64 .klp.sym.vmlinux.v.7,2-4"},
		{klp.SecRelocs + "mod_a", 8, 0, elf.SHF_ALLOC,
			zeros(16) + "01000000" + zeros(4),
			"0 R_X86_64_64 .data.v+0; 8 R_X86_64_64 .klp.sym.mod_b.w,0+8"},
	} {
		id, s := section(t, f, c.name)
		if s.Type != elf.SHT_PROGBITS || s.Flags != c.flags || s.Addralign != c.align || s.Entsize != c.entsize {
			t.Errorf("%s: type %v, flags %v, align %d, entsize %d", c.name, s.Type, s.Flags, s.Addralign, s.Entsize)
		}
		if got := hex.EncodeToString(s.Data); got != c.data {
			t.Errorf("%s holds\n%s, want\n%s", c.name, got, c.data)
		}
		if got := relocs(f, id); got != c.relocs {
			t.Errorf("%s: relocations\n%s, want\n%s", c.name, got, c.relocs)
		}
	}
	// The ordinary relocations lead to one placeholder per name.
	id, _ := section(t, f, ".text.f")
	if got, want := relocs(f, id), "13 R_X86_64_PC32 .klp.tombstone.v.7-4; 24 R_X86_64_PLT32 .klp.tombstone.v.7-4"; got != want {
		t.Errorf("relocations %s, want %s", got, want)
	}
	seen := map[string]int{}
	for i := range f.Symbols {
		s := &f.Symbols[i]
		if !strings.HasPrefix(s.Name, ".klp.") {
			continue
		}
		seen[s.Name]++
		if !s.Undefined() || s.Bind() != elf.STB_WEAK {
			t.Errorf("%+v", s)
		}
		if s.Name == ".klp.sym.vmlinux.v.7,2" && s.Type() != elf.STT_OBJECT || s.Name == ".klp.sym.mod_b.w,0" && s.Type() != elf.STT_FUNC {
			t.Errorf("%+v", s)
		}
	}
	if len(seen) != 4 {
		t.Errorf("symbols %v", seen)
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("%d symbols %s", n, name)
		}
	}
}

// Without livepatch relocations there is no section for them.
func TestIntermediateNoRelocs(t *testing.T) {
	f, err := build(twoObjects, func(_, _ object.SecID) []klp.Reloc { return nil })
	if err != nil {
		t.Fatal(err)
	}
	for i := range f.Sections {
		if strings.HasPrefix(f.Sections[i].Name, klp.SecRelocs) {
			t.Error(f.Sections[i].Name)
		}
	}
}

func TestIntermediateDeterminism(t *testing.T) {
	var first []byte
	for range 10 {
		f, err := build(twoObjects, someRelocs)
		if err != nil {
			t.Fatal(err)
		}
		if first != nil && !bytes.Equal(first, f.Data) {
			t.Fatal("the bytes differ")
		}
		first = f.Data
	}
}

func TestSymbolString(t *testing.T) {
	for _, c := range []struct {
		s    klp.Symbol
		want string
	}{
		{klp.Symbol{Object: "vmlinux", Name: "foo"}, ".klp.sym.vmlinux.foo,0"},
		{klp.Symbol{Object: "nf_tables", Name: "x.constprop.0", Pos: 12}, ".klp.sym.nf_tables.x.constprop.0,12"},
		{klp.Symbol{Object: "vmlinux", Name: "y", Pos: 1<<64 - 1}, ".klp.sym.vmlinux.y,18446744073709551615"},
	} {
		if got := c.s.String(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestModuleName(t *testing.T) {
	for in, want := range map[string]string{
		"vmlinux": "vmlinux", "vmlinux.o": "vmlinux", "ext4.ko": "ext4", "nf-tables.ko.xz": "nf_tables", "a/b-c/snd-hda-intel.o": "snd_hda_intel",
		"/lib/modules/6.1.0-9/kernel/fs/btrfs/btrfs.ko": "btrfs", "foo_bar": "foo_bar", "-": "_", "": "", "dir/": "", ".hidden": ".hidden",
	} {
		if got := klp.ModuleName(in); got != want {
			t.Errorf("ModuleName(%q) = %q, want %q", in, got, want)
		}
	}
}

func ExampleSymbol_String() {
	fmt.Println(klp.Symbol{Object: klp.Vmlinux, Name: "saved_command_line"})
	// Output: .klp.sym.vmlinux.saved_command_line,0
}

func ExampleModuleName() {
	fmt.Println(klp.ModuleName("sound/pci/hda/snd-hda-intel.ko"))
	// Output: snd_hda_intel
}

// A patch of one function that refers to a variable of the running kernel.
func ExampleIntermediate() {
	b := object.NewBuilder(object.Header{})
	text := b.AddSection(object.BuildSection{Name: ".text.f", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, Addralign: 16,
		Data: []byte{0x8b, 0x05, 0, 0, 0, 0, 0xc3}}) // mov v(%rip),%eax; ret
	f := b.AddSymbol(object.BuildSymbol{Name: "f", Sec: text, Size: 7, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC)})
	klp.Intermediate(b,
		[]klp.Object{{Name: klp.Vmlinux, Funcs: []klp.Func{{Name: "f", New: f}}}},
		[]klp.Reloc{{Object: klp.Vmlinux, Sec: text, Off: 2, Type: elf.R_X86_64_PC32, Addend: -4, Symbol: klp.Symbol{Object: klp.Vmlinux, Name: "v", Type: elf.STT_OBJECT}}},
		nil, map[object.SecID]object.SymID{})
	out, err := b.Bytes()
	if err != nil {
		fmt.Println(err)
		return
	}
	o, err := object.Parse(out, object.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, s := range o.Sections {
		if s.Alloc() {
			fmt.Println(s.Name, s.Size)
		}
	}
	// Output:
	// .text.f 7
	// __klp_relocs.vmlinux 24
	// .rodata.klp.str1.1 3
	// .init.klp_objects 64
	// .init.klp_funcs 24
}
