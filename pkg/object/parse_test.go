package object

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/pkg/diag"
)

// Everything that the reader says of every object there is, against debug/elf.
func TestParse(t *testing.T) {
	corpus(t, func(t *testing.T, path string, d []byte) {
		f := mustParse(t, d)
		if err := mustOracle(t, d).agrees(f); err != nil {
			t.Fatal(err)
		}
		if &f.Data[0] != &d[0] {
			t.Fatal("the input was copied")
		}
		groups := 0
		for i := range f.Sections {
			s := &f.Sections[i]
			checkRelocs(t, f.Relocs(SecID(i)))
			if s.Type == elf.SHT_GROUP {
				groups++
			}
			if s.Group != 0 && !slices.Contains(f.Groups[s.Group-1].Members, SecID(i)) {
				t.Errorf("section %d is not in its group", i)
			}
			if s.Alloc() != (s.Flags&2 != 0) || s.Exec() != (s.Flags&4 != 0) || s.Strings() != (s.Flags&0x30 == 0x30) {
				t.Errorf("section %d: flags %v", i, s.Flags)
			}
		}
		if groups != len(f.Groups) {
			t.Errorf("%d groups, want %d", len(f.Groups), groups)
		}
	})
}

// checkRelocs compares the sorted view with a naive one.
func checkRelocs(t *testing.T, r Relocs) {
	t.Helper()
	type entry struct {
		Reloc
		file int
	}
	var want []entry
	sorted := true
	for i := range r.Len() {
		want = append(want, entry{r.File(i), i})
		sorted = sorted && (i == 0 || want[i-1].Off <= want[i].Off)
	}
	slices.SortStableFunc(want, func(a, b entry) int { return cmp.Compare(a.Off, b.Off) })
	if r.Sorted() != sorted {
		t.Fatalf("Sorted is %v", r.Sorted())
	}
	probes := []uint64{0, 1, math.MaxUint64}
	for i, w := range want {
		if r.At(i) != w.Reloc || r.FileIndex(i) != w.file || r.Off(i) != w.Off {
			t.Fatalf("entry %d is %+v of %d, want %+v", i, r.At(i), r.FileIndex(i), w)
		}
		if len(want) < 40 || i%(len(want)/20) == 0 {
			probes = append(probes, w.Off, w.Off+1)
		}
	}
	for _, from := range probes {
		for _, to := range probes {
			lo, hi := r.Range(from, to)
			n := 0
			for _, w := range want {
				if from <= w.Off && w.Off < to {
					n++
				}
			}
			if lo < 0 || hi < lo || hi > len(want) || hi-lo != n || n > 0 && (want[lo].Off < from || want[hi-1].Off >= to) {
				t.Fatalf("Range(%d, %d) of %d entries is %d, %d, want %d of them", from, to, len(want), lo, hi, n)
			}
		}
	}
}

func TestRelocs(t *testing.T) {
	checkRelocs(t, Relocs{})
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 60 {
		b := NewBuilder(Header{})
		s := b.AddSection(BuildSection{Name: ".d", Type: elf.SHT_PROGBITS, Data: make([]byte, 64)})
		x := b.AddSymbol(BuildSymbol{Name: "x", Info: elf.ST_INFO(elf.STB_GLOBAL, 0)})
		var rs []Reloc
		for i := range n {
			// Few offsets, so that many entries share one; the addend tells them apart.
			rs = append(rs, Reloc{Off: uint64(r.IntN(1 + n)), Sym: x, Type: elf.R_X86_64_64, Addend: int64(i) - 5})
		}
		if n%4 == 0 {
			slices.SortFunc(rs, func(a, b Reloc) int { return cmp.Compare(a.Off, b.Off) })
		}
		b.SetRelocs(s, rs)
		f := mustParse(t, mustBytes(t, b))
		got := f.RelocsOf(1)
		if got.Len() != n || len(got.Raw()) != 24*n {
			t.Fatalf("%d entries, want %d", got.Len(), n)
		}
		for i := range rs {
			if got.File(i) != rs[i] {
				t.Fatalf("entry %d is %+v, want %+v", i, got.File(i), rs[i])
			}
		}
		checkRelocs(t, got)
	}
	f := mustParse(t, mustBytes(t, everything()))
	for _, id := range []SecID{0, f.Symtab, SecID(len(f.Sections)), math.MaxUint32} {
		if f.Relocs(id).Len() != 0 {
			t.Errorf("section %d has relocations", id)
		}
	}
	if n := f.RelocsOf(0).Len(); n != 0 {
		t.Errorf("the null section has %d relocations", n)
	}
}

func TestSymName(t *testing.T) {
	f := mustParse(t, mustBytes(t, everything()))
	got := map[string]bool{}
	for i := range f.Symbols {
		got[f.SymName(SymID(i))] = true
	}
	for _, want := range []string{"", "a.c", ".rodata.str1.1", "f", "ext"} {
		if !got[want] {
			t.Errorf("no symbol is called %q", want)
		}
	}
}

func TestStringAt(t *testing.T) {
	tests := []struct {
		d    string
		off  uint64
		w    int
		want string
		ok   bool
	}{
		{"ab\x00cd\x00", 0, 1, "ab\x00", true},
		{"ab\x00cd\x00", 1, 1, "b\x00", true},
		{"ab\x00cd\x00", 2, 1, "\x00", true},
		{"ab\x00cd\x00", 3, 1, "cd\x00", true},
		{"ab\x00cd\x00", 6, 1, "", false},
		{"ab\x00cd\x00", 7, 1, "", false},
		{"ab\x00cd\x00", math.MaxUint64, 1, "", false},
		{"ab", 0, 1, "", false},
		{"", 0, 1, "", false},
		{"a\x00b\x00\x00\x00", 0, 2, "a\x00b\x00\x00\x00", true},
		{"a\x00b\x00\x00\x00", 2, 2, "b\x00\x00\x00", true},
		{"a\x00b\x00\x00\x00", 1, 2, "\x00b\x00\x00", true}, // characters count from off
		{"\x00a\x00\x00", 0, 2, "\x00a\x00\x00", true},
		{"a\x00\x00", 0, 2, "", false},
		{"a\x00\x00\x00\x00\x00\x00\x00", 0, 4, "a\x00\x00\x00\x00\x00\x00\x00", true},
		{"a\x00\x00\x00\x00\x00\x00", 0, 4, "", false},
		{"\x00\x00\x00\x00", 0, 4, "\x00\x00\x00\x00", true},
		{"a\x00", 0, 0, "", false},
		{"a\x00", 0, -1, "", false},
		{"a\x00", 0, math.MaxInt, "", false},
	}
	for _, tt := range tests {
		s, ok := StringAt([]byte(tt.d), tt.off, tt.w)
		if string(s) != tt.want || ok != tt.ok {
			t.Errorf("StringAt(%q, %d, %d) = %q, %v; want %q, %v", tt.d, tt.off, tt.w, s, ok, tt.want, tt.ok)
		}
	}
}

// patched is a small object whose bytes a test changes.
type patched struct {
	d []byte
	f *File // of the unchanged bytes
}

func tiny(t testing.TB) *patched {
	t.Helper()
	b := NewBuilder(Header{})
	group := b.AddSection(BuildSection{Name: ".group", Type: elf.SHT_GROUP})
	text := b.AddSection(BuildSection{Name: ".text", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR | elf.SHF_GROUP, Addralign: 16, Data: make([]byte, 16)})
	rela := b.AddSection(BuildSection{Name: ".rela.text", Type: elf.SHT_RELA, Flags: elf.SHF_GROUP, Info: uint32(text)})
	b.AddSection(BuildSection{Name: ".bss", Type: elf.SHT_NOBITS, Flags: elf.SHF_ALLOC | elf.SHF_WRITE, Addralign: 8, Size: 8})
	cg := b.AddSection(BuildSection{Name: ".cg", Type: SHT_LLVM_CALL_GRAPH_PROFILE, Entsize: 8, Data: make([]byte, 8)})
	rel := b.AddSection(BuildSection{Name: ".rel.cg", Type: elf.SHT_REL, Info: uint32(cg)})
	data := b.AddSection(BuildSection{Name: ".data", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_WRITE, Addralign: 8, Data: make([]byte, 32)})
	symtab := b.AddSection(BuildSection{Name: ".symtab", Type: elf.SHT_SYMTAB})
	b.AddSection(BuildSection{Name: ".symtab_shndx", Type: elf.SHT_SYMTAB_SHNDX, Link: symtab})
	b.AddSection(BuildSection{Name: ".symtab_shndx2", Type: elf.SHT_PROGBITS, Link: symtab, Data: make([]byte, 5*4)})
	b.AddSymbol(BuildSymbol{Name: "a.c", Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_FILE), Shndx: elf.SHN_ABS})
	b.AddSymbol(BuildSymbol{Name: "s", Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_OBJECT), Sec: data, Size: 4})
	f := b.AddSymbol(BuildSymbol{Name: "f", Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC), Sec: text, Size: 16})
	ext := b.AddSymbol(BuildSymbol{Name: "ext", Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_NOTYPE)})
	b.SetGroup(group, BuildGroup{Flags: 1, Sig: f, Members: []SecID{text, rela}})
	b.AddReloc(text, Reloc{Off: 4, Sym: ext, Type: elf.R_X86_64_PLT32, Addend: -4})
	b.AddReloc(text, Reloc{Off: 9, Sym: f, Type: elf.R_X86_64_PC32, Addend: -4})
	b.AddReloc(rel, Reloc{Sym: f})
	d := mustBytes(t, b)
	return &patched{d, mustParse(t, d)}
}

func (p *patched) sec(name string) *Section {
	for i := range p.f.Sections {
		if p.f.Sections[i].Name == name {
			return &p.f.Sections[i]
		}
	}
	panic("no section " + name)
}

// id gives the index of a section.
func (p *patched) id(name string) uint64 {
	return uint64(slices.IndexFunc(p.f.Sections, func(s Section) bool { return s.Name == name }))
}

func put(b []byte, v uint64, width int) {
	for i := range width {
		b[i] = byte(v >> (8 * i))
	}
}

// Fields of the section header: offset and width.
type field struct{ off, width int }

var (
	shName   = field{0, 4}
	shType   = field{4, 4}
	shFlags  = field{8, 8}
	shAddr   = field{16, 8}
	shOffset = field{24, 8}
	shSize   = field{32, 8}
	shLink   = field{40, 4}
	shInfo   = field{44, 4}
	shAlign  = field{48, 8}
	shEnt    = field{56, 8}
)

// sh changes a field of a section header; the null section is "".
func (p *patched) sh(name string, f field, v uint64) {
	off := binary.LittleEndian.Uint64(p.d[40:]) + p.id(name)*64
	put(p.d[int(off)+f.off:], v, f.width)
}

func (p *patched) hdr(off, width int, v uint64) { put(p.d[off:], v, width) }

func (p *patched) data(name string, off, width int, v uint64) {
	put(p.d[int(p.sec(name).Offset)+off:], v, width)
}

func TestParse_Errors(t *testing.T) {
	const bad, unsup, limit = diag.ElfMalformed, diag.ElfUnsupported, diag.ElfLimit
	tests := []struct {
		name string
		edit func(p *patched)
		opts Options
		code diag.Code
		sec  string // the place: section and offset
		off  uint64
		last bool // the offset is that of the last name in .shstrtab
	}{
		{name: "empty", edit: func(p *patched) { p.d = nil }, code: bad},
		{name: "short header", edit: func(p *patched) { p.d = p.d[:63] }, code: bad},
		{name: "magic", edit: func(p *patched) { p.d[1] = 'e' }, code: bad},
		{name: "class", edit: func(p *patched) { p.d[4] = 1 }, code: unsup, off: 4},
		{name: "byte order", edit: func(p *patched) { p.d[5] = 2 }, code: unsup, off: 4},
		{name: "ident version", edit: func(p *patched) { p.d[6] = 0 }, code: bad, off: 20},
		{name: "version", edit: func(p *patched) { p.hdr(20, 4, 2) }, code: bad, off: 20},
		{name: "machine", edit: func(p *patched) { p.hdr(18, 2, 183) }, code: unsup, off: 18},
		{name: "core", edit: func(p *patched) { p.hdr(16, 2, 4) }, code: unsup, off: 16},
		{name: "e_ehsize", edit: func(p *patched) { p.hdr(52, 2, 52) }, code: bad, off: 52},
		{name: "program headers", edit: func(p *patched) { p.hdr(56, 2, 1) }, code: unsup, off: 56},
		{name: "no sections", edit: func(p *patched) { p.hdr(40, 8, 0) }, code: bad, off: 40},
		{name: "e_shentsize", edit: func(p *patched) { p.hdr(58, 2, 40) }, code: bad, off: 58},
		{name: "e_shoff outside", edit: func(p *patched) { p.hdr(40, 8, uint64(len(p.d)-63)) }, code: bad, off: 40},
		{name: "e_shoff wraps", edit: func(p *patched) { p.hdr(40, 8, math.MaxUint64-10) }, code: bad, off: 40},
		{name: "too many sections", edit: func(p *patched) { p.hdr(60, 2, 1000) }, code: bad, off: 60},
		{name: "truncated", edit: func(p *patched) { p.d = p.d[:len(p.d)-1] }, code: bad, off: 60},
		{name: "extended number of sections 0", edit: func(p *patched) { p.hdr(60, 2, 0) }, code: bad, off: 60},
		{name: "extended number of sections wraps", edit: func(p *patched) { p.hdr(60, 2, 0); p.sh("", shSize, 1<<58) }, code: bad, off: 60},
		{name: "section limit", edit: func(p *patched) {}, opts: Options{MaxSections: 3}, code: limit, off: 60},
		{name: "e_shstrndx", edit: func(p *patched) { p.hdr(62, 2, 100) }, code: bad, off: 62},
		{name: "e_shstrndx reserved", edit: func(p *patched) { p.hdr(62, 2, 0xfff1) }, code: bad, off: 62},
		// debug/elf panics here: its check comes before the index is replaced.
		{name: "extended e_shstrndx", edit: func(p *patched) {
			p.hdr(60, 2, 0)
			p.sh("", shSize, uint64(len(p.f.Sections)))
			p.hdr(62, 2, 0xffff)
			p.sh("", shLink, 65520)
		}, code: bad, off: 62},

		{name: "section 0 type", edit: func(p *patched) { p.sh("", shType, 1) }, code: bad, sec: "[0]"},
		{name: "section 0 name", edit: func(p *patched) { p.sh("", shName, 1) }, code: bad, sec: "[0]"},
		{name: "section 0 size", edit: func(p *patched) { p.sh("", shSize, 1) }, code: bad, sec: "[0]"},
		{name: "section 0 link", edit: func(p *patched) { p.sh("", shLink, 1) }, code: bad, sec: "[0]"},
		{name: "section 0 info", edit: func(p *patched) { p.sh("", shInfo, 1) }, code: bad, sec: "[0]"},
		{name: "section 0 flags", edit: func(p *patched) { p.sh("", shFlags, 1) }, code: bad, sec: "[0]"},
		{name: "contents outside", edit: func(p *patched) { p.sh(".text", shOffset, uint64(len(p.d)-15)) }, code: bad, sec: "[2]"},
		{name: "contents wrap", edit: func(p *patched) { p.sh(".text", shOffset, math.MaxUint64) }, code: bad, sec: "[2]"},
		{name: "size wraps", edit: func(p *patched) { p.sh(".text", shSize, math.MaxUint64-0x40) }, code: bad, sec: "[2]"},
		{name: "sections overlap", edit: func(p *patched) {
			for _, s := range []string{".text", ".data"} {
				p.sh(s, shOffset, 0)
				p.sh(s, shSize, uint64(len(p.d))*5/8)
			}
		}, code: bad, sec: "[7]"},
		{name: "huge NOBITS", edit: func(p *patched) { p.sh(".bss", shSize, 1<<47+1) }, code: bad, sec: "[4]"},
		{name: "alignment 3", edit: func(p *patched) { p.sh(".text", shAlign, 3) }, code: bad, sec: "[2]"},
		{name: "inactive section with memory", edit: func(p *patched) { p.sh(".text", shType, 0) }, code: bad, sec: "[2]"},
		{name: "alignment 2^41", edit: func(p *patched) { p.sh(".bss", shAlign, 1<<41) }, code: bad, sec: "[4]"},
		{name: "flags beyond 32 bits", edit: func(p *patched) { p.sh(".data", shFlags, 1<<32|3) }, code: unsup, sec: "[7]"},
		{name: "sh_link", edit: func(p *patched) { p.sh(".data", shLink, uint64(len(p.f.Sections))) }, code: bad, sec: "[7]"},
		{name: "sh_link negative", edit: func(p *patched) { p.sh(".data", shLink, math.MaxUint32) }, code: bad, sec: "[7]"},
		{name: "SHF_INFO_LINK", edit: func(p *patched) { p.sh(".data", shFlags, 0x43); p.sh(".data", shInfo, 0xffffffff) }, code: bad, sec: "[7]"},
		{name: "compressed and allocated", edit: func(p *patched) { p.sh(".data", shFlags, 0x802) }, code: bad, sec: "[7]"},
		{name: "compressed without header", edit: func(p *patched) { p.sh(".data", shFlags, 0x800); p.sh(".data", shSize, 23) }, code: bad, sec: "[7]"},
		{name: "compressed symbols", edit: func(p *patched) { p.sh(".symtab", shFlags, 0x800) }, code: unsup, sec: "[8]"},
		{name: "compressed NOBITS", edit: func(p *patched) { p.sh(".bss", shFlags, 0x800) }, code: unsup, sec: "[4]"},
		{name: "section names elsewhere", edit: func(p *patched) { p.hdr(62, 2, 2) }, code: bad, sec: "[2]"},
		{name: "section name outside", edit: func(p *patched) { p.sh(".text", shName, 0xfffff0) }, code: bad, sec: "[12]", off: 0xfffff0},
		{name: "section name without end", edit: func(p *patched) {
			s := p.sec(".shstrtab")
			p.sh(".shstrtab", shSize, s.Size-1)
		}, code: bad, sec: "[12]", last: true},

		{name: "two symbol tables", edit: func(p *patched) { p.sh(".data", shType, 2) }, code: bad, sec: ".symtab"},
		{name: "two extended index tables", edit: func(p *patched) { p.sh(".symtab_shndx2", shType, 18) }, code: bad, sec: ".symtab_shndx2"},
		{name: "symbol table size", edit: func(p *patched) { p.sh(".symtab", shSize, 5*24-1) }, code: bad, sec: ".symtab"},
		{name: "symbol entry size", edit: func(p *patched) { p.sh(".symtab", shEnt, 16) }, code: bad, sec: ".symtab"},
		{name: "symbol limit", edit: func(p *patched) {}, opts: Options{MaxSymbols: 4}, code: limit, sec: ".symtab"},
		{name: "symbol names elsewhere", edit: func(p *patched) { p.sh(".symtab", shLink, 2) }, code: bad, sec: ".symtab"},
		{name: "extended indices short", edit: func(p *patched) { p.sh(".symtab_shndx", shSize, 16) }, code: bad, sec: ".symtab_shndx"},
		{name: "extended index without table", edit: func(p *patched) { p.sh(".symtab_shndx", shType, 1); p.data(".symtab", 2*24+6, 2, 0xffff) }, code: bad, sec: ".symtab", off: 48},
		{name: "extended index 0", edit: func(p *patched) { p.data(".symtab", 2*24+6, 2, 0xffff) }, code: bad, sec: ".symtab_shndx", off: 8},
		{name: "extended index outside", edit: func(p *patched) {
			p.data(".symtab", 2*24+6, 2, 0xffff)
			p.data(".symtab_shndx", 8, 4, 0xfffffff0)
		}, code: bad, sec: ".symtab", off: 48},
		{name: "symbol section outside", edit: func(p *patched) { p.data(".symtab", 2*24+6, 2, 0xfeff) }, code: bad, sec: ".symtab", off: 48},
		{name: "symbol name outside", edit: func(p *patched) { p.data(".symtab", 2*24, 4, 0xffffffff) }, code: bad, sec: ".strtab", off: 0xffffffff},
		{name: "symbol 0 name", edit: func(p *patched) { p.data(".symtab", 0, 4, 1) }, code: bad, sec: ".symtab"},
		{name: "symbol 0 value", edit: func(p *patched) { p.data(".symtab", 8, 8, 1) }, code: bad, sec: ".symtab"},
		{name: "local symbols outside", edit: func(p *patched) { p.sh(".symtab", shInfo, 6) }, code: bad, sec: ".symtab"},
		{name: "too few local symbols", edit: func(p *patched) { p.sh(".symtab", shInfo, 2) }, code: bad, sec: ".symtab", off: 48},
		{name: "too many local symbols", edit: func(p *patched) { p.sh(".symtab", shInfo, 4) }, code: bad, sec: ".symtab", off: 72},
		{name: "global symbol among local ones", edit: func(p *patched) { p.data(".symtab", 24+4, 1, 0x14) }, code: bad, sec: ".symtab", off: 24},

		{name: "SHT_RELR", edit: func(p *patched) { p.sh(".data", shType, 19) }, code: unsup, sec: ".data"},
		{name: "SHT_CREL", edit: func(p *patched) { p.sh(".data", shType, 0x40000014) }, code: unsup, sec: ".data"},
		{name: "relocation size", edit: func(p *patched) { p.sh(".rela.text", shSize, 47) }, code: bad, sec: ".rela.text"},
		{name: "relocation entry size", edit: func(p *patched) { p.sh(".rela.text", shEnt, 0) }, code: bad, sec: ".rela.text"},
		{name: "REL entry size", edit: func(p *patched) { p.sh(".rel.cg", shEnt, 24) }, code: bad, sec: ".rel.cg"},
		{name: "relocations for nothing", edit: func(p *patched) { p.sh(".rela.text", shInfo, 0) }, code: bad, sec: ".rela.text"},
		{name: "relocations for a section outside", edit: func(p *patched) {
			p.sh(".rela.text", shFlags, 0)
			p.sh(".rela.text", shInfo, math.MaxUint32)
		}, code: bad, sec: ".rela.text"},
		{name: "relocations against other symbols", edit: func(p *patched) { p.sh(".rela.text", shLink, 2) }, code: bad, sec: ".rela.text"},
		{name: "relocations without symbols", edit: func(p *patched) { p.sh(".symtab", shType, 1) }, code: bad, sec: ".rela.text"},
		{name: "REL", edit: func(p *patched) { p.sh(".rel.cg", shInfo, p.id(".data")) }, code: unsup, sec: ".rel.cg"},
		{name: "two relocation sections", edit: func(p *patched) {
			p.sh(".rel.cg", shType, 4)
			p.sh(".rel.cg", shEnt, 24)
			p.sh(".rel.cg", shSize, 0)
			p.sh(".rel.cg", shInfo, p.id(".text"))
		}, code: unsup, sec: ".rel.cg"},
		{name: "relocation limit", edit: func(p *patched) {}, opts: Options{MaxRelocs: 1}, code: limit, sec: ".rela.text"},
		{name: "relocation limit in all", edit: func(p *patched) {}, opts: Options{MaxRelocs: 2}, code: limit, sec: ".rel.cg"},
		{name: "relocations for NOBITS", edit: func(p *patched) { p.sh(".rela.text", shInfo, p.id(".bss")) }, code: bad, sec: ".rela.text"},
		{name: "relocation symbol", edit: func(p *patched) { p.data(".rela.text", 24+12, 4, 5) }, code: bad, sec: ".rela.text", off: 24},
		{name: "REL symbol", edit: func(p *patched) { p.data(".rel.cg", 12, 4, 0xffffffff) }, code: bad, sec: ".rel.cg"},
		{name: "relocation offset", edit: func(p *patched) { p.data(".rela.text", 24, 8, 17) }, code: bad, sec: ".rela.text", off: 24},
		{name: "relocation offset in compressed contents", edit: func(p *patched) {
			p.sh(".data", shFlags, 0x800)
			p.data(".data", 8, 8, 3) // ch_size
			p.sh(".rela.text", shInfo, p.id(".data"))
		}, code: bad, sec: ".rela.text"},

		{name: "group without flags", edit: func(p *patched) { p.sh(".group", shSize, 0) }, code: bad, sec: ".group"},
		{name: "group size", edit: func(p *patched) { p.sh(".group", shSize, 11) }, code: bad, sec: ".group"},
		{name: "group signature", edit: func(p *patched) { p.sh(".group", shInfo, 5) }, code: bad, sec: ".group"},
		{name: "group signature elsewhere", edit: func(p *patched) { p.sh(".group", shLink, 2) }, code: bad, sec: ".group"},
		{name: "group member 0", edit: func(p *patched) { p.data(".group", 8, 4, 0) }, code: bad, sec: ".group", off: 8},
		{name: "group member outside", edit: func(p *patched) { p.data(".group", 4, 4, 0xffffffff) }, code: bad, sec: ".group", off: 4},
		{name: "group in itself", edit: func(p *patched) { p.data(".group", 4, 4, 1) }, code: bad, sec: ".group", off: 4},
		{name: "group member twice", edit: func(p *patched) { p.data(".group", 8, 4, 2) }, code: bad, sec: ".group", off: 8},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := tiny(t)
			tt.edit(p)
			tt.opts.Name = "x.o"
			f, err := Parse(p.d, tt.opts)
			var de *diag.Error
			if f != nil || !errors.As(err, &de) {
				t.Fatalf("Parse gives %v, %v", f != nil, err)
			}
			d := de.Diagnostics[0]
			at := diag.Place{File: "x.o", Section: tt.sec}.At(tt.off)
			if tt.last {
				for i := range p.f.Sections {
					at.Offset = max(at.Offset, uint64(p.f.Sections[i].NameOff))
				}
			}
			if d.Code != tt.code || d.Severity != diag.SevError || d.Place != at || d.Message == "" {
				t.Fatalf("%v\nwant %s at %v", d, tt.code, at)
			}
		})
	}
}

// The same edits that are faults above are none here.
func TestParseAccepts(t *testing.T) {
	tests := []struct {
		name string
		edit func(p *patched)
	}{
		{"as it is", func(p *patched) {}},
		{"no section names", func(p *patched) { p.hdr(62, 2, 0) }},
		{"extended numbers", func(p *patched) {
			p.hdr(60, 2, 0)
			p.sh("", shSize, uint64(len(p.f.Sections)))
			p.sh("", shLink, binary.LittleEndian.Uint64(p.d[62:])&0xffff)
			p.hdr(62, 2, 0xffff)
		}},
		{"extended index of a low section", func(p *patched) {
			p.data(".symtab", 2*24+6, 2, 0xffff)
			p.data(".symtab_shndx", 8, 4, 7)
		}},
		{"relocation at the end", func(p *patched) { p.data(".rela.text", 24, 8, 16) }},
		{"NOBITS behind the file", func(p *patched) { p.sh(".bss", shOffset, 1<<40) }},
		{"two livepatch relocation sections", func(p *patched) {
			p.sh(".rela.text", shFlags, 0x100000)
			p.sh(".rel.cg", shType, 4)
			p.sh(".rel.cg", shFlags, 0x100000)
			p.sh(".rel.cg", shEnt, 24)
			p.sh(".rel.cg", shSize, 0)
			p.sh(".rel.cg", shInfo, p.id(".text"))
		}},
		{"address, entry size, flags", func(p *patched) {
			p.sh(".data", shAddr, 1<<60)
			p.sh(".data", shEnt, 77)
			p.sh(".data", shFlags, 0xf0000003)
		}},
		{"unknown type", func(p *patched) { p.sh(".data", shType, 0x70000123) }},
		{"an executable", func(p *patched) {
			p.hdr(16, 2, 2)
			p.hdr(56, 2, 9)
			p.sh(".symtab", shInfo, 99) // not looked at
			p.sh(".rela.text", shInfo, 999)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := tiny(t)
			tt.edit(p)
			f := mustParse(t, p.d)
			if f.Header.Type != elf.ET_REL {
				if f.RelocsOf(2).Len() != 0 || f.Relocs(3).Len() != 0 || len(f.Symbols) != 5 || len(f.Groups) != 0 {
					t.Errorf("%d symbols, %d groups", len(f.Symbols), len(f.Groups))
				}
				return
			}
			g := mustParse(t, mustBytes(t, FromFile(f)))
			if err := sameFile(f, g, identity(len(f.Sections), len(f.Symbols))); err != nil {
				t.Error(err)
			}
		})
	}
}

// A bad file gives no more problems than anybody reads, and says so early.
func TestParseManyErrors(t *testing.T) {
	f := mustParse(t, mustBytes(t, manySections(2000)))
	for _, name := range []string{".symtab", ".rela.data.v0"} {
		d := slices.Clone(f.Data)
		i := slices.IndexFunc(f.Sections, func(s Section) bool { return s.Name == name })
		s := &f.Sections[i]
		for k := range s.Data {
			d[s.Offset+uint64(k)] = 0xee
		}
		_, err := Parse(d, Options{})
		var de *diag.Error
		if !errors.As(err, &de) || len(de.Diagnostics) > maxProblems {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func allocated(fn func()) uint64 {
	var a, b runtime.MemStats
	runtime.ReadMemStats(&a)
	fn()
	runtime.ReadMemStats(&b)
	return b.TotalAlloc - a.TotalAlloc
}

// Memory is bounded by the size of the input, whatever its headers say.
func TestParseAllocation(t *testing.T) {
	check := func(name string, d []byte) {
		t.Helper()
		if n, most := allocated(func() { Parse(d, Options{}) }), uint64(32*len(d)+1<<20); n > most {
			t.Errorf("%s: %d bytes allocated for %d", name, n, len(d))
		}
	}
	check("many sections", mustBytes(t, manySections(20_000)))
	everything := mustBytes(t, everything())
	check("everything", everything)
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		d := slices.Clone(everything)
		shoff := binary.LittleEndian.Uint64(d[40:])
		for range 1 + r.IntN(4) {
			off := int(shoff) + r.IntN(len(d)-int(shoff))
			if r.IntN(4) == 0 {
				off = r.IntN(64)
			}
			put(d[off:], []uint64{0, 1, 0xff, 0xffff, 0xffffffff, math.MaxUint64, uint64(len(d))}[r.IntN(7)], min(len(d)-off, 1<<r.IntN(4)))
		}
		check("mutation", d)
	}
	// Every byte is a symbol table, and the names' one is as large as the file.
	check("zeros", append(slices.Clone(everything[:64]), make([]byte, 1<<20)...))
	check("text", []byte(strings.Repeat("\x7fELF", 1<<18)))
}

// What a File gives cannot be made to write to the input.
func TestParseReadOnly(t *testing.T) {
	d := mustBytes(t, everything())
	before := bytes.Clone(d)
	f := mustParse(t, d)
	for i := range f.Sections {
		_ = append(f.Sections[i].Data, 0xff)
	}
	b := FromFile(f)
	_, syms, _ := shuffle(f, rand.New(rand.NewPCG(1, 1)), true)
	b.SetSymbolOrder(syms)
	mustBytes(t, b)
	if !bytes.Equal(before, d) {
		t.Error("the input has changed")
	}
}
