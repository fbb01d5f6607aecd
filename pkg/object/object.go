// Package object reads and builds ELF relocatable objects for x86-64.
//
// Parse reads a file from bytes in one pass and keeps all that is needed to
// write it again: header fields, section order, symbol 0, section groups,
// extended section indices, the file's own order of relocations. Nothing is
// copied: section contents and raw relocations alias the input, names are
// substrings of one string per string table (of the input itself, with Options.Alias). A File is immutable, may be used
// by any number of goroutines, and stays valid as long as the caller does not
// write to the input. A Builder makes the bytes of an ET_REL object.
//
// The package knows nothing of kernels. It is meant for hostile input: what
// contradicts itself is refused with the file, section and offset, without a
// panic and without allocating what a header claims.
package object

import (
	"debug/elf"
	"encoding/binary"
	"iter"
	"sort"
)

// SecID is the index of a section in its file; 0 is none (SHN_UNDEF).
type SecID uint32

// SymID is the index of a symbol in its file's symbol table; 0 is the null symbol.
type SymID uint32

// Livepatch values, from the kernel's include/uapi/linux/elf.h and Documentation/livepatch/module-elf-format.rst.
const (
	SHF_RELA_LIVEPATCH elf.SectionFlag  = 0x00100000
	SHN_LIVEPATCH      elf.SectionIndex = 0xff20
)

// Section types that debug/elf does not name.
const (
	SHT_LLVM_ADDRSIG            elf.SectionType = 0x6fff4c03 // ULEB128 symbol indices
	SHT_LLVM_CALL_GRAPH_PROFILE elf.SectionType = 0x6fff4c09
)

// commonRelocs is set in Section.order where Relocs.Common is true.
const commonRelocs = 1 << 31

// RelaSize is the size of an entry of Relocs.Raw in bytes.
const RelaSize = relaSize

const (
	ehdrSize = 64
	shdrSize = 64
	symSize  = 24
	relaSize = 24
	relSize  = 16
	chdrSize = 24 // Elf64_Chdr, at the start of compressed contents
)

// Relocation sections that the reader refuses rather than pass over.
const (
	shtRelr elf.SectionType = 19
	shtCrel elf.SectionType = 0x40000014
)

var le = binary.LittleEndian

// Header is the ELF header's own fields.
type Header struct {
	OSABI      elf.OSABI
	ABIVersion uint8
	Type       elf.Type
	Flags      uint32 // e_flags
	Entry      uint64
	Shstrndx   SecID // section that holds the section names, extended numbering resolved
	Phnum      uint16
}

// Section is one section as the file has it.
type Section struct {
	Name      string
	Data      []byte // aliases the input; nil for SHT_NOBITS and SHT_NULL; the compressed form for SHF_COMPRESSED
	Type      elf.SectionType
	Flags     elf.SectionFlag
	Addr      uint64
	Offset    uint64 // in the file
	Size      uint64 // sh_size; larger than len(Data) for SHT_NOBITS
	Addralign uint64
	Entsize   uint64
	Link      uint32
	Info      uint32
	NameOff   uint32 // sh_name
	Rela      SecID  // the SHT_RELA section without SHF_RELA_LIVEPATCH that applies to this one; 0 none
	Group     uint32 // 1 + index into File.Groups of the group that this section is a member of; 0 none
	order     uint32 // SHT_RELA: 1 + start in File.order when the entries are not sorted by offset; commonRelocs
}

// Alloc reports whether the section occupies memory at run time.
func (s *Section) Alloc() bool { return s.Flags&elf.SHF_ALLOC != 0 }

// Exec reports whether the section holds instructions.
func (s *Section) Exec() bool { return s.Flags&elf.SHF_EXECINSTR != 0 }

// inflated gives the size of the contents that relocations count in: those of
// a compressed section apply to what it inflates to (gABI, "Section Compression").
// The compression header says how much that is; nothing checks that it is true.
func (s *Section) inflated() uint64 { return inflated(s.Flags, s.Data, s.Size) }

func inflated(flags elf.SectionFlag, data []byte, size uint64) uint64 {
	// The form before SHF_COMPRESSED (binutils --compress-debug-sections=zlib-gnu, in .zdebug_* sections).
	if flags&elf.SHF_ALLOC == 0 && len(data) >= 12 && string(data[:4]) == "ZLIB" {
		return binary.BigEndian.Uint64(data[4:])
	}
	if flags&elf.SHF_COMPRESSED != 0 && len(data) >= chdrSize {
		return le.Uint64(data[8:])
	}
	return size
}

// Strings reports whether the section holds mergeable NUL-terminated strings of sh_entsize wide characters.
func (s *Section) Strings() bool {
	return s.Flags&(elf.SHF_MERGE|elf.SHF_STRINGS) == elf.SHF_MERGE|elf.SHF_STRINGS
}

// Symbol is one entry of the symbol table.
type Symbol struct {
	Name    string
	Value   uint64
	Size    uint64
	Sec     SecID // the section that defines it, SHN_XINDEX resolved; 0 when undefined or special (see Shndx)
	NameOff uint32
	Shndx   elf.SectionIndex // st_shndx as written
	Info    uint8
	Other   uint8
}

// Bind gives the symbol's binding.
func (s *Symbol) Bind() elf.SymBind { return elf.SymBind(s.Info >> 4) }

// Type gives the symbol's type.
func (s *Symbol) Type() elf.SymType { return elf.SymType(s.Info & 0xf) }

// Undefined reports whether the symbol is defined elsewhere.
func (s *Symbol) Undefined() bool { return s.Shndx == elf.SHN_UNDEF }

// Reloc is one relocation with addend.
type Reloc struct {
	Off    uint64 // of the field, from the start of the section that it applies to
	Addend int64
	Sym    SymID
	Type   elf.R_X86_64
}

// Relocs is a view of the entries of one SHT_RELA section. The zero value is empty.
type Relocs struct {
	raw    []byte
	order  []uint32 // nil when the file's order is the order of offsets
	common bool
}

// Len gives the number of entries.
func (r Relocs) Len() int { return len(r.raw) / relaSize }

// Common reports whether all entries are of the types that nearly all are of
// (R_X86_64_NONE, 64, PC32, PLT32, 32 and 32S), with fields that lie in the contents
// of the section and are zero there, as the psABI has it for relocations with addends.
// Parse looks at sections that occupy memory only; false says nothing.
func (r Relocs) Common() bool { return r.common }

// Sorted reports whether the file's order is the order of offsets.
func (r Relocs) Sorted() bool { return r.order == nil }

// File gives the i-th entry in the order of the file.
func (r Relocs) File(i int) Reloc {
	b := r.raw[i*relaSize : i*relaSize+relaSize : i*relaSize+relaSize]
	info := le.Uint64(b[8:])
	return Reloc{
		Off:    le.Uint64(b),
		Sym:    SymID(info >> 32),
		Type:   elf.R_X86_64(uint32(info)),
		Addend: int64(le.Uint64(b[16:])),
	}
}

// At gives the i-th entry in the order of offsets; entries of equal offset keep the file's order.
func (r Relocs) At(i int) Reloc {
	if r.order != nil {
		i = int(r.order[i])
	}
	return r.File(i)
}

// FileIndex gives the position in the file of the i-th entry in the order of offsets.
func (r Relocs) FileIndex(i int) int {
	if r.order != nil {
		return int(r.order[i])
	}
	return i
}

// Off gives the offset of the i-th entry in the order of offsets.
func (r Relocs) Off(i int) uint64 {
	if r.order != nil {
		i = int(r.order[i])
	}
	return le.Uint64(r.raw[i*relaSize:])
}

// Sym gives the symbol of the i-th entry in the order of offsets.
func (r Relocs) Sym(i int) SymID {
	if r.order != nil {
		i = int(r.order[i])
	}
	return SymID(le.Uint32(r.raw[i*relaSize+12:]))
}

// Range gives lo and hi such that the entries At(lo) to At(hi-1) are those with from <= Off < to.
func (r Relocs) Range(from, to uint64) (lo, hi int) {
	n := r.Len()
	if n == 0 {
		return 0, 0
	}
	if from == 0 && r.Off(n-1) < to {
		return 0, n
	}
	lo = sort.Search(n, func(i int) bool { return r.Off(i) >= from })
	hi = lo + sort.Search(n-lo, func(i int) bool { return r.Off(lo+i) >= to })
	return lo, hi
}

// Raw gives the entries as the file has them, 24 bytes each, in the order of the file.
func (r Relocs) Raw() []byte { return r.raw }

// Group is a section group (gABI, "Section Groups").
type Group struct {
	Sec     SecID  // the SHT_GROUP section
	Flags   uint32 // GRP_COMDAT ...
	Sig     SymID  // its signature
	Members []SecID
}

// File is a parsed object. Treat everything in it as read-only.
type File struct {
	Name     string // as the caller calls it, for diagnostics
	Header   Header
	Sections []Section // by SecID; 0 is the null section
	Symbols  []Symbol  // by SymID; 0 is the null symbol; empty when there is no symbol table
	Groups   []Group
	Symtab   SecID // the SHT_SYMTAB (or, in ET_EXEC and ET_DYN files without one, SHT_DYNSYM) section
	Data     []byte
	order    []uint32 // permutations of the unsorted relocation sections, one after the other
}

// Relocs gives the entries of the SHT_RELA section rela; empty when it is not
// one, and in ET_EXEC and ET_DYN files, whose relocations Parse does not check.
func (f *File) Relocs(rela SecID) Relocs {
	if uint64(rela) >= uint64(len(f.Sections)) {
		return Relocs{}
	}
	s := &f.Sections[rela]
	if s.Type != elf.SHT_RELA || f.Header.Type != elf.ET_REL {
		return Relocs{}
	}
	r := Relocs{raw: s.Data, common: s.order&commonRelocs != 0}
	if start := s.order &^ commonRelocs; start != 0 {
		lo := start - 1
		r.order = f.order[lo : lo+uint32(r.Len())]
	}
	return r
}

// RelocsOf gives the relocations that apply to section sec, without those of SHF_RELA_LIVEPATCH sections.
func (f *File) RelocsOf(sec SecID) Relocs { return f.Relocs(f.Sections[sec].Rela) }

// Named yields the sections of a name, in the order of the file.
func (f *File) Named(name string) iter.Seq[SecID] {
	return func(yield func(SecID) bool) {
		for i := 1; i < len(f.Sections); i++ {
			if f.Sections[i].Name == name && !yield(SecID(i)) {
				return
			}
		}
	}
}

// FindSection gives the first section of a name and type, 0 when there is none.
func (f *File) FindSection(name string, typ elf.SectionType) SecID {
	for id := range f.Named(name) {
		if f.Sections[id].Type == typ {
			return id
		}
	}
	return 0
}

// SymName gives the name of a symbol as people know it: a section symbol has its section's name.
func (f *File) SymName(id SymID) string {
	s := &f.Symbols[id]
	if s.Name == "" && s.Type() == elf.STT_SECTION && s.Sec != 0 {
		return f.Sections[s.Sec].Name
	}
	return s.Name
}
