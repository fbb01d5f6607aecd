package object

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/pkg/diag"
)

func progbits(name string, n int) BuildSection {
	return BuildSection{Name: name, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Addralign: 1, Data: make([]byte, n)}
}

func global(name string, sec SecID) BuildSymbol {
	return BuildSymbol{Name: name, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_NOTYPE), Sec: sec}
}

func sectionNames(f *File) []string {
	var names []string
	for i := range f.Sections[1:] {
		names = append(names, f.Sections[i+1].Name)
	}
	return names
}

func TestBuilderEmpty(t *testing.T) {
	d := mustBytes(t, NewBuilder(Header{}))
	f := mustParse(t, d)
	if len(f.Sections) != 1 || len(f.Symbols) != 0 || f.Header.Type != elf.ET_REL || len(d) != 128 {
		t.Errorf("%d sections, %d symbols, %d bytes", len(f.Sections), len(f.Symbols), len(d))
	}
	if err := mustOracle(t, d).agrees(f); err != nil {
		t.Error(err)
	}
}

// Where the tables go when nobody says, and when somebody does.
func TestBuilderTables(t *testing.T) {
	build := func(place bool) []byte {
		b := NewBuilder(Header{})
		var symtab SecID
		if place {
			symtab = b.AddSection(BuildSection{Name: ".syms", Type: elf.SHT_SYMTAB})
			both := b.AddSection(BuildSection{Name: ".names", Type: elf.SHT_STRTAB})
			s := b.Section(symtab)
			s.Link = both
			b.SetSection(symtab, s)
			b.Header.Shstrndx = both
		}
		x := b.AddSection(progbits(".x", 16))
		y := b.AddSection(progbits(".y", 16))
		f := b.AddSymbol(global("f", x))
		b.AddReloc(y, Reloc{Off: 1, Sym: f, Type: elf.R_X86_64_64})
		if place {
			b.AddSection(BuildSection{Name: ".rela.x", Type: elf.SHT_RELA, Info: uint32(x)})
		}
		b.AddReloc(x, Reloc{Off: 2, Sym: f, Type: elf.R_X86_64_64})
		return mustBytes(t, b)
	}
	for _, tt := range []struct {
		place bool
		want  string
	}{
		{false, ".x .y .rela.x .rela.y .symtab .strtab .shstrtab"},
		{true, ".syms .names .x .y .rela.x .rela.y"},
	} {
		d := build(tt.place)
		f := mustParse(t, d)
		if got := strings.Join(sectionNames(f), " "); got != tt.want {
			t.Errorf("sections %s, want %s", got, tt.want)
		}
		if err := mustOracle(t, d).agrees(f); err != nil {
			t.Error(err)
		}
		for i := range f.Sections {
			s := &f.Sections[i]
			if s.Type == elf.SHT_RELA && (s.Flags != elf.SHF_INFO_LINK || s.Addralign != 8 || s.Entsize != 24 || SecID(s.Link) != f.Symtab) {
				t.Errorf("%+v", s)
			}
		}
		rebuilt(t, d, 3, true)
	}
}

func TestBuilderNames(t *testing.T) {
	b := NewBuilder(Header{})
	for i := range 3 {
		s := b.AddSection(progbits(".same", 8))
		f := b.AddSymbol(global("twice", s))
		b.AddSymbol(global(fmt.Sprint("once", i), s))
		b.AddReloc(s, Reloc{Sym: f, Type: elf.R_X86_64_64})
	}
	f := mustParse(t, mustBytes(t, b))
	want := map[string]string{
		".strtab":   "\x00twice\x00once0\x00once1\x00once2\x00",
		".shstrtab": "\x00.rela.same\x00.symtab\x00.strtab\x00.shstrtab\x00",
	}
	for i := range f.Sections {
		if s := &f.Sections[i]; want[s.Name] != "" && string(s.Data) != want[s.Name] {
			t.Errorf("%s holds %q", s.Name, s.Data)
		}
	}
}

// Local symbols come first and keep their order, whatever order they come in.
func TestBuilderSymbolOrder(t *testing.T) {
	b := NewBuilder(Header{})
	s := b.AddSection(progbits(".d", 64))
	want := []string{""}
	for _, bind := range []elf.SymBind{elf.STB_LOCAL, elf.STB_GLOBAL} {
		for i := range 10 {
			if (i%3 == 0) == (bind == elf.STB_LOCAL) {
				want = append(want, fmt.Sprint("s", i))
			}
		}
	}
	ids := make([]SymID, 10)
	for i := range 10 {
		bind := elf.STB_GLOBAL
		if i%3 == 0 {
			bind = elf.STB_LOCAL
		}
		ids[i] = b.AddSymbol(BuildSymbol{Name: fmt.Sprint("s", i), Info: elf.ST_INFO(bind, elf.STT_OBJECT), Sec: s, Value: uint64(i)})
		b.AddReloc(s, Reloc{Off: uint64(i), Sym: ids[i], Type: elf.R_X86_64_8, Addend: int64(i)})
	}
	f := mustParse(t, mustBytes(t, b))
	for i := range f.Symbols {
		if f.Symbols[i].Name != want[i] {
			t.Errorf("symbol %d is %s, want %s", i, f.Symbols[i].Name, want[i])
		}
	}
	if n := f.Sections[f.Symtab].Info; n != 5 {
		t.Errorf("sh_info %d", n)
	}
	for i := range 10 {
		if r := f.RelocsOf(1).At(i); f.SymName(r.Sym) != fmt.Sprint("s", i) || r.Addend != int64(i) {
			t.Errorf("relocation %d: %+v", i, r)
		}
	}
}

// Section symbols have no name, so they belong to no file and may move to another's symbols.
func TestBuilderSectionSymbolMoves(t *testing.T) {
	b := NewBuilder(Header{})
	s := b.AddSection(progbits(".d", 8))
	file := b.AddSymbol(BuildSymbol{Name: "a.c", Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_FILE), Shndx: elf.SHN_ABS})
	sec := b.AddSymbol(BuildSymbol{Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_SECTION), Sec: s})
	v := b.AddSymbol(BuildSymbol{Name: "v", Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_OBJECT), Sec: s})
	b.SetSymbolOrder([]SymID{sec, file, v})
	f := mustParse(t, mustBytes(t, b))
	if f.Symbols[1].Type() != elf.STT_SECTION || f.Symbols[2].Name != "a.c" || f.Symbols[3].Name != "v" {
		t.Errorf("%+v", f.Symbols)
	}
}

// Changing an object that was loaded: the rest stays as it is.
func TestBuilderEdit(t *testing.T) {
	orig := mustParse(t, mustBytes(t, everything()))
	find := func(f *File, name string) SymID {
		return SymID(slices.IndexFunc(f.Symbols, func(s Symbol) bool { return s.Name == name }))
	}
	section := func(f *File, name string) SecID {
		return SecID(slices.IndexFunc(f.Sections, func(s Section) bool { return s.Name == name }))
	}
	b := FromFile(orig)
	// Remove a section with its relocations and symbols; rename a symbol; add one, local, and a relocation.
	data := section(orig, ".data")
	b.RemoveSection(data)
	for i := range orig.Symbols {
		if orig.Symbols[i].Sec == data {
			b.RemoveSymbol(SymID(i))
		}
	}
	b.RemoveSymbol(find(orig, "com")) // SHT_LLVM_ADDRSIG names it too
	f := find(orig, "f")
	s := b.Symbol(f)
	s.Name = "renamed"
	b.SetSymbol(f, s)
	text := section(orig, ".text.f")
	added := b.AddSymbol(BuildSymbol{Name: "added", Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_OBJECT), Sec: text})
	b.AddReloc(text, Reloc{Off: 3, Sym: added, Type: elf.R_X86_64_64, Addend: 7})
	klp := section(orig, ".klp.rela.ext4..text.f")
	b.SetRelocs(klp, []Reloc{{Off: 1, Sym: added, Type: elf.R_X86_64_64}})

	d := mustBytes(t, b)
	g := mustParse(t, d)
	if err := mustOracle(t, d).agrees(g); err != nil {
		t.Fatal(err)
	}
	if len(g.Sections) != len(orig.Sections)-2 || section(g, ".data") != math.MaxUint32 || section(g, ".rela.data") != math.MaxUint32 {
		t.Errorf("sections %v", sectionNames(g))
	}
	if len(g.Symbols) != len(orig.Symbols)-2+1 || g.SymName(g.Groups[0].Sig) != "renamed" {
		t.Errorf("%d symbols, were %d; the group is %s", len(g.Symbols), len(orig.Symbols), g.SymName(g.Groups[0].Sig))
	}
	rs := g.RelocsOf(section(g, ".text.f"))
	if rs.Len() != 3 || g.SymName(rs.File(0).Sym) != "ext" || g.SymName(rs.File(2).Sym) != "added" || rs.File(2).Addend != 7 {
		t.Errorf("%d relocations, the last %+v", rs.Len(), rs.File(rs.Len()-1))
	}
	if rs := g.Relocs(section(g, ".klp.rela.ext4..text.f")); rs.Len() != 1 || g.SymName(rs.At(0).Sym) != "added" {
		t.Errorf("%d livepatch relocations", rs.Len())
	}
	sig := g.Sections[section(g, ".llvm_addrsig")].Data
	var names []string
	for len(sig) > 0 {
		x, n := uleb32(sig)
		names = append(names, g.SymName(SymID(x)))
		sig = sig[n:]
	}
	if strings.Join(names, " ") != "renamed v.149" {
		t.Errorf("address-significant symbols %v", names)
	}
}

func TestBuilder_Errors(t *testing.T) {
	local := elf.ST_INFO(elf.STB_LOCAL, elf.STT_OBJECT)
	// Each starts with sections 1 .a, 2 .b and 3 .bss, and symbols 1 to 3: f.c (FILE), l (local, in .a), g (in .b).
	tests := []struct {
		name string
		do   func(b *Builder)
		sec  string
		sym  string
		msg  string
	}{
		{"type", func(b *Builder) { b.Header.Type = elf.ET_DYN }, "", "", "ET_DYN"},
		{"program headers", func(b *Builder) { b.Header.Phnum = 1 }, "", "", "program headers"},
		{"section name with NUL", func(b *Builder) { b.AddSection(progbits("a\x00b", 0)) }, "a\x00b", "", "NUL"},
		{"alignment", func(b *Builder) { b.AddSection(BuildSection{Name: ".x", Addralign: 24, Type: elf.SHT_PROGBITS}) }, ".x", "", "alignment 24"},
		{"alignment too large", func(b *Builder) { b.AddSection(BuildSection{Name: ".x", Addralign: 1 << 63, Type: elf.SHT_PROGBITS}) }, ".x", "", "alignment"},
		{"NOBITS with contents", func(b *Builder) { s := b.Section(3); s.Data = []byte{1}; b.SetSection(3, s) }, ".bss", "", "1 bytes of contents"},
		{"NOBITS size", func(b *Builder) { s := b.Section(3); s.Size = math.MaxUint64; b.SetSection(3, s) }, ".bss", "", "0xffffffffffffffff bytes"},
		{"size", func(b *Builder) { s := b.Section(1); s.Size = 5; b.SetSection(1, s) }, ".a", "", "size 0x5"},
		{"sh_link", func(b *Builder) { s := b.Section(1); s.Link = 99; b.SetSection(1, s) }, ".a", "", "handle 99"},
		{"SHF_INFO_LINK", func(b *Builder) { s := b.Section(1); s.Flags, s.Info = elf.SHF_INFO_LINK, 99; b.SetSection(1, s) }, ".a", "", "handle 99"},
		{"compressed", func(b *Builder) { s := b.Section(1); s.Flags |= elf.SHF_COMPRESSED; b.SetSection(1, s) }, ".a", "", "compressed"},
		{"compressed too short", func(b *Builder) { s := b.Section(1); s.Flags = elf.SHF_COMPRESSED; b.SetSection(1, s) }, ".a", "", "0x10 bytes"},
		{"SetSection 0", func(b *Builder) { b.SetSection(0, BuildSection{}) }, "[0]", "", "handle 0"},
		{"SetSection nobody", func(b *Builder) { b.SetSection(9, BuildSection{}) }, "[9]", "", "handle 9"},
		{"RemoveSection nobody", func(b *Builder) { b.RemoveSection(9) }, "[9]", "", "handle 9"},
		{"removed section used", func(b *Builder) { b.RemoveSection(1) }, "", "l", "handle 1"},

		{"symbol name with NUL", func(b *Builder) { b.AddSymbol(global("a\x00", 1)) }, "", "a\x00", "NUL"},
		{"symbol section", func(b *Builder) { b.AddSymbol(global("x", 99)) }, "", "x", "handle 99"},
		{"symbol section and index", func(b *Builder) { s := global("x", 1); s.Shndx = elf.SHN_ABS; b.AddSymbol(s) }, "", "x", "SHN_ABS"},
		{"symbol with plain index", func(b *Builder) { s := global("x", 0); s.Shndx = 1; b.AddSymbol(s) }, "", "x", "by handle"},
		{"symbol with SHN_XINDEX", func(b *Builder) { s := global("x", 0); s.Shndx = elf.SHN_XINDEX; b.AddSymbol(s) }, "", "x", "by handle"},
		{"symbol with negative index", func(b *Builder) { s := global("x", 0); s.Shndx = -1; b.AddSymbol(s) }, "", "x", "by handle"},
		{"undefined local", func(b *Builder) { b.AddSymbol(BuildSymbol{Name: "x", Info: local}) }, "", "x", "undefined"},
		{"SetSymbol 0", func(b *Builder) { b.SetSymbol(0, global("x", 1)) }, "", "[0]", "null symbol"},
		{"SetSymbol nobody", func(b *Builder) { b.SetSymbol(9, global("x", 1)) }, "", "[9]", "handle 9"},
		{"RemoveSymbol nobody", func(b *Builder) { b.RemoveSymbol(9) }, "", "[9]", "handle 9"},

		{"two symbol tables", func(b *Builder) {
			b.AddSection(BuildSection{Name: ".s", Type: elf.SHT_SYMTAB})
			b.AddSection(BuildSection{Name: ".t", Type: elf.SHT_SYMTAB})
		}, ".t", "", "second symbol table"},
		{"contents for symbols", func(b *Builder) {
			b.AddSection(BuildSection{Name: ".s", Type: elf.SHT_SYMTAB, Data: make([]byte, 24)})
		}, ".s", "", "contents"},
		{"symbol entry size", func(b *Builder) {
			b.AddSection(BuildSection{Name: ".s", Type: elf.SHT_SYMTAB, Entsize: 16})
		}, ".s", "", "entry size 16"},
		{"symbol names elsewhere", func(b *Builder) { b.AddSection(BuildSection{Name: ".s", Type: elf.SHT_SYMTAB, Link: 1}) }, ".a", "", "symbol names"},
		{"section names elsewhere", func(b *Builder) { b.Header.Shstrndx = 1 }, ".a", "", "section names"},
		{"section names nowhere", func(b *Builder) { b.Header.Shstrndx = 99 }, "[99]", "", "section names"},
		{"string table without NUL", func(b *Builder) {
			s := b.AddSection(BuildSection{Name: ".n", Type: elf.SHT_STRTAB, Data: []byte("x\x00")})
			b.AddSection(BuildSection{Name: ".s", Type: elf.SHT_SYMTAB, Link: s})
		}, ".n", "", "begin with NUL"},
		{"two extended index tables", func(b *Builder) {
			s := b.AddSection(BuildSection{Name: ".s", Type: elf.SHT_SYMTAB})
			b.AddSection(BuildSection{Name: ".x", Type: elf.SHT_SYMTAB_SHNDX, Link: s})
			b.AddSection(BuildSection{Name: ".y", Type: elf.SHT_SYMTAB_SHNDX, Link: s})
		}, ".y", "", "second table"},
		{"contents for extended indices", func(b *Builder) {
			s := b.AddSection(BuildSection{Name: ".s", Type: elf.SHT_SYMTAB})
			b.AddSection(BuildSection{Name: ".x", Type: elf.SHT_SYMTAB_SHNDX, Link: s, Data: make([]byte, 4)})
		}, ".x", "", "contents"},

		{"AddReloc nowhere", func(b *Builder) { b.AddReloc(0, Reloc{Sym: 3}) }, "[0]", "", "handle 0"},
		{"SetRelocs nowhere", func(b *Builder) { b.SetRelocs(99, nil) }, "[99]", "", "handle 99"},
		{"relocation section for nothing", func(b *Builder) { b.AddSection(BuildSection{Name: ".rela", Type: elf.SHT_RELA}) }, ".rela", "", "handle 0"},
		{"relocation without symbol", func(b *Builder) { b.AddReloc(1, Reloc{Type: elf.R_X86_64_64}) }, ".rela.a", "", "no symbol"},
		{"relocation against nobody", func(b *Builder) { b.AddReloc(1, Reloc{Sym: 99, Type: elf.R_X86_64_64}) }, ".rela.a", "[99]", "handle 99"},
		{"relocation against a removed symbol", func(b *Builder) {
			b.RemoveSymbol(3)
			b.AddReloc(1, Reloc{Sym: 3, Type: elf.R_X86_64_64})
		}, ".rela.a", "g", "handle 3"},
		{"relocation outside", func(b *Builder) { b.AddReloc(1, Reloc{Off: 17, Sym: 3, Type: elf.R_X86_64_64}) }, ".rela.a", "", "outside .a"},
		{"relocation type", func(b *Builder) { b.AddReloc(1, Reloc{Sym: 3, Type: -1}) }, ".rela.a", "", "type -1"},
		{"relocation in NOBITS", func(b *Builder) { b.AddReloc(3, Reloc{Sym: 3, Type: elf.R_X86_64_64}) }, ".rela.bss", "", "no contents"},
		{"REL", func(b *Builder) { b.AddSection(BuildSection{Name: ".rel.a", Type: elf.SHT_REL, Info: 1}) }, ".rel.a", "", "without addends"},
		{"REL with addend", func(b *Builder) {
			cg := b.AddSection(BuildSection{Name: ".cg", Type: SHT_LLVM_CALL_GRAPH_PROFILE, Data: make([]byte, 8)})
			rel := b.AddSection(BuildSection{Name: ".rel.cg", Type: elf.SHT_REL, Info: uint32(cg)})
			b.AddReloc(rel, Reloc{Sym: 3, Addend: 1})
		}, ".rel.cg", "", "addend 1"},
		{"two relocation sections", func(b *Builder) {
			b.AddReloc(1, Reloc{Sym: 3, Type: elf.R_X86_64_64})
			b.AddSection(BuildSection{Name: ".rela.second", Type: elf.SHT_RELA, Info: 1})
		}, ".rela.second", "", "second relocation section"},
		{"raw relocations", func(b *Builder) {
			b.AddSection(BuildSection{Name: ".rela.a", Type: elf.SHT_RELA, Info: 1, Data: make([]byte, 25)})
		}, ".rela.a", "", "0x19 bytes"},
		{"raw relocation outside", func(b *Builder) {
			b.AddSection(BuildSection{Name: ".rela.a", Type: elf.SHT_RELA, Info: 1, Data: bytes.Repeat([]byte{1}, 24)})
		}, ".rela.a", "[16843009]", "handle 16843009"},
		{"raw relocation at a wrong offset", func(b *Builder) {
			d := make([]byte, 48)
			d[24], d[36] = 17, 3
			b.AddSection(BuildSection{Name: ".rela.a", Type: elf.SHT_RELA, Info: 1, Data: d})
		}, ".rela.a", "", "outside .a"},
		{"relocation entry size", func(b *Builder) {
			b.AddSection(BuildSection{Name: ".rela.a", Type: elf.SHT_RELA, Info: 1, Entsize: 8})
		}, ".rela.a", "", "entry size 8"},
		{"relocations linked elsewhere", func(b *Builder) {
			b.AddSection(BuildSection{Name: ".rela.a", Type: elf.SHT_RELA, Info: 1, Link: 2})
		}, ".rela.a", "", "not the symbol table"},

		{"SetGroup elsewhere", func(b *Builder) { b.SetGroup(1, BuildGroup{}) }, ".a", "", "wrong type"},
		{"group without contents", func(b *Builder) { b.AddSection(BuildSection{Name: ".group", Type: elf.SHT_GROUP}) }, ".group", "", "0x0 bytes"},
		{"group without signature", func(b *Builder) {
			b.SetGroup(b.AddSection(BuildSection{Name: ".group", Type: elf.SHT_GROUP}), BuildGroup{})
		}, ".group", "", "signature"},
		{"group member", func(b *Builder) {
			b.SetGroup(b.AddSection(BuildSection{Name: ".group", Type: elf.SHT_GROUP}), BuildGroup{Sig: 3, Members: []SecID{99}})
		}, ".group", "", "member 99"},
		{"group member twice", func(b *Builder) {
			b.SetGroup(b.AddSection(BuildSection{Name: ".group", Type: elf.SHT_GROUP}), BuildGroup{Sig: 3, Members: []SecID{1, 1}})
		}, ".group", "", "two groups"},
		{"ULEB128", func(b *Builder) {
			s := b.AddSection(BuildSection{Name: ".s", Type: elf.SHT_SYMTAB})
			b.AddSection(BuildSection{Name: ".sig", Type: SHT_LLVM_ADDRSIG, Link: s, Data: []byte{3, 0x80}})
			b.SetSymbolOrder([]SymID{1, 2, 3})
		}, ".sig", "", "ULEB128"},
		{"ULEB128 against nobody", func(b *Builder) {
			s := b.AddSection(BuildSection{Name: ".s", Type: elf.SHT_SYMTAB})
			b.AddSection(BuildSection{Name: ".sig", Type: SHT_LLVM_ADDRSIG, Link: s, Data: []byte{3, 99}})
			b.SetSymbolOrder([]SymID{1, 2, 3})
		}, ".sig", "", "handle 99"},
		{"indices in unknown contents", func(b *Builder) {
			b.AddSection(BuildSection{Name: ".hash", Type: elf.SHT_HASH, Data: make([]byte, 8)})
			b.SetSectionOrder([]SecID{2, 1, 3, 4})
		}, ".hash", "", "indices"},

		{"symbol indices in unknown contents", func(b *Builder) {
			b.AddSection(BuildSection{Name: ".hash", Type: elf.SHT_HASH, Data: make([]byte, 8)})
			mustBytes(t, b) // they are right as long as nothing moves
			b.AddSymbol(global("h", 1))
			b.SetSymbolOrder([]SymID{1, 2, 3, 4})
			mustBytes(t, b)
			b.SetSymbolOrder([]SymID{1, 2, 4, 3})
		}, ".hash", "", "indices"},

		{"section order short", func(b *Builder) { b.SetSectionOrder([]SecID{1, 3}) }, ".b", "", "lacks"},
		{"section order empty", func(b *Builder) { b.SetSectionOrder([]SecID{}) }, ".a", "", "lacks"},
		{"section order twice", func(b *Builder) { b.SetSectionOrder([]SecID{1, 2, 1, 3}) }, ".a", "", "twice"},
		{"section order nobody", func(b *Builder) { b.SetSectionOrder([]SecID{1, 2, 3, 0}) }, "[0]", "", "handle 0"},
		{"symbol order short", func(b *Builder) { b.SetSymbolOrder([]SymID{1, 3}) }, "", "l", "lacks"},
		{"symbol order empty", func(b *Builder) { b.SetSymbolOrder([]SymID{}) }, "", "f.c", "lacks"},
		{"symbol order twice", func(b *Builder) { b.SetSymbolOrder([]SymID{1, 2, 3, 2}) }, "", "l", "twice"},
		{"symbol order twice, global", func(b *Builder) { b.SetSymbolOrder([]SymID{1, 2, 3, 3}) }, "", "g", "twice"},
		{"symbol order nobody", func(b *Builder) { b.SetSymbolOrder([]SymID{1, 2, 3, 0}) }, "", "[0]", "handle 0"},
		{"local symbol before its file", func(b *Builder) { b.SetSymbolOrder([]SymID{2, 1, 3}) }, "", "l", `file "f.c" to file ""`},

		{"too large", func(b *Builder) { b.MaxSize = 100 }, "", "", "larger than 0x64"},
		{"too large, contents", func(b *Builder) { b.MaxSize = 70 }, ".a", "", "larger than 0x46"},
		{"too large, the same again and again", func(b *Builder) {
			big := make([]byte, 1<<30)
			for range 17 {
				b.AddSection(BuildSection{Name: ".big", Type: elf.SHT_PROGBITS, Data: big})
			}
		}, ".big", "", "larger than 0x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := NewBuilder(Header{})
			b.Name = "x.o"
			b.AddSection(progbits(".a", 16))
			b.AddSection(progbits(".b", 16))
			b.AddSection(BuildSection{Name: ".bss", Type: elf.SHT_NOBITS, Size: 8})
			b.AddSymbol(BuildSymbol{Name: "f.c", Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_FILE), Shndx: elf.SHN_ABS})
			b.AddSymbol(BuildSymbol{Name: "l", Info: local, Sec: 1})
			b.AddSymbol(global("g", 2))
			mustBytes(t, b)
			tt.do(b)
			d, err := b.Bytes()
			var de *diag.Error
			if d != nil || !errors.As(err, &de) {
				t.Fatalf("%d bytes, error %v", len(d), err)
			}
			g := de.Diagnostics[0]
			if g.Code != diag.BuildInvalid || g.Place.File != "x.o" || g.Place.Section != tt.sec || g.Place.Symbol != tt.sym || !strings.Contains(g.Message, tt.msg) {
				t.Fatalf("%+v\nwant section %q, symbol %q, message with %q", g, tt.sec, tt.sym, tt.msg)
			}
		})
	}
}

// What is refused from a caller but may be in a file.
func TestBuilderLenient(t *testing.T) {
	b := NewBuilder(Header{})
	s := b.AddSection(progbits(".a", 16))
	b.AllowNull = true
	b.AddReloc(s, Reloc{Off: 1, Type: elf.R_X86_64_PLT32, Addend: 0x1234})
	x := b.AddSymbol(BuildSymbol{Name: "x", Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_OBJECT), Sec: s})
	d := mustBytes(t, b)
	f := mustParse(t, d)
	symtab := f.Sections[f.Symtab]
	put(d[symtab.Offset+uint64(x)*24+6:], 0, 2) // now a local symbol that is undefined
	rebuilt(t, d, 2, false)
}

// Many faults are cut short.
func TestBuilderManyErrors(t *testing.T) {
	b := NewBuilder(Header{})
	for i := range 1000 {
		s := b.AddSection(progbits(fmt.Sprint(".s", i), 1))
		b.AddReloc(s, Reloc{Sym: 77})
	}
	_, err := b.Bytes()
	var de *diag.Error
	if !errors.As(err, &de) || len(de.Diagnostics) != maxProblems {
		t.Fatal(err)
	}
}

// Whole zero-length tables, and names in tables that do not end with NUL.
func TestRoundTripOddTables(t *testing.T) {
	b := NewBuilder(Header{})
	b.AddSection(BuildSection{Name: ".symtab", Type: elf.SHT_SYMTAB})
	d := mustBytes(t, b)
	f := mustParse(t, d)
	shdr := func(id SecID, fl field, v uint64) {
		off := le.Uint64(d[40:]) + uint64(id)*64
		put(d[off+uint64(fl.off):], v, fl.width)
	}
	shdr(f.Symtab, shSize, 0)
	shdr(f.Symtab, shInfo, 0)
	shdr(SecID(f.Sections[f.Symtab].Link), shSize, 0)
	f = mustParse(t, d)
	g := mustParse(t, mustBytes(t, FromFile(f)))
	if err := sameFile(f, g, identity(len(f.Sections), 1)); err != nil || len(g.Symbols) != 0 {
		t.Fatal(err)
	}
	// A symbol makes it a table again.
	e := FromFile(f)
	e.AddSymbol(global("new", 0))
	if g = mustParse(t, mustBytes(t, e)); len(g.Symbols) != 2 || g.Symbols[1].Name != "new" {
		t.Fatalf("%d symbols", len(g.Symbols))
	}

	p := tiny(t)
	p.d[p.sec(".strtab").Offset+p.sec(".strtab").Size-1] = 'x' // the last name has no end: nobody may use it
	last := p.sec(".strtab").Size
	for i := range p.f.Symbols {
		if s := &p.f.Symbols[i]; uint64(s.NameOff)+uint64(len(s.Name))+1 == last {
			p.data(".symtab", i*24, 4, 0)
		}
	}
	f = mustParse(t, p.d)
	e = FromFile(f)
	id := e.AddSymbol(global("new", 0))
	if g = mustParse(t, mustBytes(t, e)); g.Symbols[id].Name != "new" {
		t.Fatalf("the new symbol is %q", g.Symbols[id].Name)
	}
}
