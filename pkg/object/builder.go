package object

import (
	"debug/elf"
	"slices"

	"github.com/kdelta/kdelta/pkg/diag"
)

// Builder makes the bytes of an ET_REL object.
//
// It is a list of sections and a list of symbols, and everything in it is named
// by handle: AddSection gives the SecID, AddSymbol the SymID by which links,
// symbols, relocations and groups refer to it. Handles count from 1 in the order
// of the calls and never change; 0 is none (for symbols: the null symbol, which
// is always there). What number a section or symbol gets in the object is
// settled by Bytes alone. In a Builder that comes from FromFile the handles are
// the indices of the file.
//
// One rule covers all contents that hold indices (SHT_RELA, SHT_REL, SHT_GROUP,
// SHT_LLVM_ADDRSIG): they are given with handles in the places of indices, and
// Bytes puts the indices there.
//
// Tables: a section of type SHT_SYMTAB gives the symbol table its name and its
// place; without one, Bytes appends .symtab when anything needs it. The same
// holds for the string tables (the SHT_STRTAB sections named by the symbol
// table's Link and by Header.Shstrndx, which may be one section) and for the
// SHT_SYMTAB_SHNDX section. Relocation sections that AddReloc had to make come
// after all sections that were added, in the order of their targets, and after
// them .symtab, .symtab_shndx, .strtab and .shstrtab.
//
// A Builder checks nothing until Bytes. It is not safe for concurrent use; the
// slices that it is given are not copied and must stay as they are until the
// last call of Bytes has returned.
type Builder struct {
	Name    string // what diagnostics call the object
	Header  Header // Type 0 is ET_REL; Shstrndx is the handle of the section for section names, 0: made by Bytes
	MaxSize uint64 // of the object in bytes; 0: 16 GiB
	// AllowNull accepts relocations against symbol 0 from AddReloc and SetRelocs.
	// They mean an absolute address, which is rarely what a caller wants.
	AllowNull bool

	secs     []secRec // by handle; 0 unused
	syms     []symRec // by handle; 0 is the null symbol
	rels     []relRec
	arena    []chained // what AddReloc adds
	secOrder []SecID   // nil: the order of handles
	symOrder []SymID
	badSecs  []SecID // handles that a call could do nothing with
	badSyms  []SymID
	noNull   bool // a file's symbol table without even the null symbol
}

// BuildSection is a section as a Builder takes it.
type BuildSection struct {
	Name string
	// Data is the contents, with handles in the places of indices (see Builder).
	// It must be empty for SHT_NOBITS, SHT_NULL, SHT_SYMTAB and the
	// SHT_SYMTAB_SHNDX of the symbol table. In a string table that Bytes fills it
	// is what the table starts with; names are looked up in it before they are
	// appended.
	Data      []byte
	Size      uint64 // sh_size of SHT_NOBITS and SHT_NULL; else 0 or the length of Data
	Addr      uint64
	Addralign uint64 // 0, 1 or a power of two up to 1<<40
	Entsize   uint64 // 0 is replaced where the gABI fixes it (symbols, relocations, groups, extended indices)
	Type      elf.SectionType
	Flags     elf.SectionFlag
	// Link is a section (gABI, "Sections": sh_link is always a section header
	// table index). It is filled in, and may be 0, for SHT_RELA, SHT_REL, SHT_GROUP
	// and SHT_SYMTAB.
	Link SecID
	// Info is the handle of a section for SHT_RELA, SHT_REL and wherever
	// SHF_INFO_LINK is set, the handle of a symbol for SHT_GROUP, computed for
	// SHT_SYMTAB, and a plain number otherwise.
	Info uint32
}

// BuildSymbol is a symbol as a Builder takes it.
type BuildSymbol struct {
	Name  string
	Value uint64
	Size  uint64
	Sec   SecID            // the section that defines it; 0: see Shndx
	Shndx elf.SectionIndex // when Sec is 0: SHN_UNDEF, SHN_ABS, SHN_COMMON, SHN_LIVEPATCH or another reserved index
	Info  uint8            // elf.ST_INFO(bind, type)
	Other uint8
}

// BuildGroup is the contents of a section group.
type BuildGroup struct {
	Flags   uint32 // GRP_COMDAT ...
	Sig     SymID
	Members []SecID
}

type secRec struct {
	BuildSection
	hint  uint32 // where the name may be found in the table's Data
	rel   uint32 // relocation section: 1 + index into rels
	rela  SecID  // the ordinary relocation section of this one
	flags uint8
}

type symRec struct {
	BuildSymbol
	hint  uint32
	flags uint8
}

const (
	recRemoved = 1 << iota // left out of the object
	recLoaded              // as a file had it: what the reader accepts is not questioned
	recAuto                // a relocation section that AddReloc made
)

// relRec holds the entries of a relocation section that follow those in its Data.
type relRec struct {
	list       []Reloc
	head, tail uint32 // 1 + index into arena
	n          int    // entries in the chain
}

type chained struct {
	Reloc
	next uint32
}

// NewBuilder makes a Builder for an object without sections and symbols.
func NewBuilder(h Header) *Builder {
	return &Builder{Header: h, secs: make([]secRec, 1), syms: make([]symRec, 1)}
}

// FromFile makes a Builder that holds all of f, which must be an ET_REL file.
// Bytes of it gives an object that equals f in everything but file offsets and
// the padding between sections; even the string tables have the same bytes.
// Contents are not copied.
func FromFile(f *File) *Builder {
	b := &Builder{
		Name: f.Name, Header: f.Header,
		secs:   make([]secRec, len(f.Sections), len(f.Sections)+4),
		syms:   make([]symRec, max(1, len(f.Symbols))),
		noNull: f.Symtab != 0 && len(f.Symbols) == 0,
	}
	for i := 1; i < len(f.Sections); i++ {
		s, r := &f.Sections[i], &b.secs[i]
		r.BuildSection = BuildSection{
			Name: s.Name, Data: s.Data, Addr: s.Addr, Addralign: s.Addralign, Entsize: s.Entsize,
			Type: s.Type, Flags: s.Flags, Link: SecID(s.Link), Info: s.Info,
		}
		r.hint, r.rela, r.flags = s.NameOff, s.Rela, recLoaded
		switch {
		case s.Type == elf.SHT_NOBITS || s.Type == elf.SHT_NULL:
			r.Size = s.Size
		case generated(&r.BuildSection, f.Symtab):
			r.Data = nil
		}
	}
	for i := 1; i < len(f.Symbols); i++ {
		s, r := &f.Symbols[i], &b.syms[i]
		r.BuildSymbol = BuildSymbol{Name: s.Name, Value: s.Value, Size: s.Size, Sec: s.Sec, Info: s.Info, Other: s.Other}
		if s.Sec == 0 {
			r.Shndx = s.Shndx
		}
		r.hint, r.flags = s.NameOff, recLoaded
	}
	return b
}

// generated reports whether Bytes makes the contents of s, given the handle of the symbol table.
func generated(s *BuildSection, symtab SecID) bool {
	return s.Type == elf.SHT_SYMTAB || s.Type == elf.SHT_SYMTAB_SHNDX && symtab != 0 && s.Link == symtab
}

// AddSection adds a section and gives its handle.
func (b *Builder) AddSection(s BuildSection) SecID {
	b.secs = append(b.secs, secRec{BuildSection: s})
	id := SecID(len(b.secs) - 1)
	b.adopt(id)
	return id
}

// adopt makes id the ordinary relocation section of its target, if it is the first.
func (b *Builder) adopt(id SecID) {
	s := &b.secs[id]
	if ordinary(&s.BuildSection) && b.hasSection(SecID(s.Info)) && b.secs[s.Info].rela == 0 {
		b.secs[s.Info].rela = id
	}
}

// ordinary reports whether s holds relocations that everybody applies, not only the livepatch loader.
func ordinary(s *BuildSection) bool {
	return s.Type == elf.SHT_RELA && s.Flags&SHF_RELA_LIVEPATCH == 0
}

// NumSections gives one more than the highest section handle.
func (b *Builder) NumSections() int { return len(b.secs) }

// NumSymbols gives one more than the highest symbol handle.
func (b *Builder) NumSymbols() int { return len(b.syms) }

// Section gives what section id is at present; the zero value for a handle that is not one.
func (b *Builder) Section(id SecID) BuildSection {
	if !b.hasSection(id) {
		return BuildSection{}
	}
	return b.secs[id].BuildSection
}

// SetSection replaces what section id is; relocations added to it stay.
func (b *Builder) SetSection(id SecID, s BuildSection) {
	if !b.hasSection(id) {
		b.badSecs = append(b.badSecs, id)
		return
	}
	r := &b.secs[id]
	if ordinary(&r.BuildSection) && b.hasSection(SecID(r.Info)) && b.secs[r.Info].rela == id {
		b.secs[r.Info].rela = 0
	}
	r.BuildSection = s
	r.flags &^= recLoaded | recAuto
	b.adopt(id)
}

// RemoveSection leaves section id, and the relocation sections that apply to
// it, out of the object. Bytes complains when anything else still refers to it.
func (b *Builder) RemoveSection(id SecID) {
	if !b.hasSection(id) {
		b.badSecs = append(b.badSecs, id)
		return
	}
	b.secs[id].flags |= recRemoved
}

// AddSymbol adds a symbol and gives its handle. Local symbols come before all
// others in the object; apart from that the order is that of the calls.
func (b *Builder) AddSymbol(s BuildSymbol) SymID {
	b.syms = append(b.syms, symRec{BuildSymbol: s})
	b.noNull = false
	return SymID(len(b.syms) - 1)
}

// Symbol gives what symbol id is at present; the zero value for a handle that is not one.
func (b *Builder) Symbol(id SymID) BuildSymbol {
	if uint64(id) >= uint64(len(b.syms)) {
		return BuildSymbol{}
	}
	return b.syms[id].BuildSymbol
}

// SetSymbol replaces what symbol id is. Setting the null symbol, or one that is
// not there, is a fault that Bytes reports.
func (b *Builder) SetSymbol(id SymID, s BuildSymbol) {
	if id == 0 || uint64(id) >= uint64(len(b.syms)) {
		b.badSyms = append(b.badSyms, id)
		return
	}
	b.syms[id].BuildSymbol = s
	b.syms[id].flags &^= recLoaded
}

// RemoveSymbol leaves symbol id out of the object. Bytes complains when a
// relocation or group still refers to it; entries of SHT_LLVM_ADDRSIG that do
// are left out.
func (b *Builder) RemoveSymbol(id SymID) {
	if id == 0 || uint64(id) >= uint64(len(b.syms)) {
		b.badSyms = append(b.badSyms, id)
		return
	}
	b.syms[id].flags |= recRemoved
}

// RelocSection gives the handle of the relocation section for target, making
// ".rela" + the target's name when there is none. When target is itself a
// SHT_RELA or SHT_REL section, that is the answer. A section group wants the
// relocation sections of its members as members too; the one made here is not.
func (b *Builder) RelocSection(target SecID) SecID {
	if !b.hasSection(target) {
		b.badSecs = append(b.badSecs, target)
		return 0
	}
	s := &b.secs[target]
	if s.Type == elf.SHT_RELA || s.Type == elf.SHT_REL {
		return target
	}
	if s.rela == 0 {
		// The name is made by Bytes, when the target's is final.
		id := b.AddSection(BuildSection{Type: elf.SHT_RELA, Info: uint32(target)})
		b.secs[id].flags |= recAuto
		return id
	}
	return s.rela
}

// AddReloc adds a relocation. sec is either the section that it applies to,
// which has one ordinary relocation section (see RelocSection), or a SHT_RELA
// or SHT_REL section, for the others. The order in the object is that of the
// calls, after what SetRelocs gave and what the section's Data holds.
func (b *Builder) AddReloc(sec SecID, r Reloc) {
	rr := b.relRec(sec)
	if rr == nil {
		return
	}
	b.noNull = false
	b.arena = append(b.arena, chained{Reloc: r})
	id := uint32(len(b.arena))
	if rr.tail != 0 {
		b.arena[rr.tail-1].next = id
	} else {
		rr.head = id
	}
	rr.tail = id
	rr.n++
}

// SetRelocs replaces all relocations of sec, which is as for AddReloc, by rs.
// It does not copy rs.
func (b *Builder) SetRelocs(sec SecID, rs []Reloc) {
	if rr := b.relRec(sec); rr != nil {
		*rr = relRec{list: rs}
		b.noNull = b.noNull && len(rs) == 0
		id := b.RelocSection(sec)
		b.secs[id].Data, b.secs[id].Size = nil, 0
	}
}

func (b *Builder) relRec(sec SecID) *relRec {
	id := b.RelocSection(sec)
	if id == 0 {
		return nil
	}
	s := &b.secs[id]
	if s.rel == 0 {
		b.rels = append(b.rels, relRec{})
		s.rel = uint32(len(b.rels))
	}
	return &b.rels[s.rel-1]
}

// SetGroup sets the signature, flags and members of a SHT_GROUP section. The
// gABI wants the group's section before its members'; keeping that order is the
// caller's affair.
func (b *Builder) SetGroup(sec SecID, g BuildGroup) {
	if !b.hasSection(sec) || b.secs[sec].Type != elf.SHT_GROUP {
		b.badSecs = append(b.badSecs, sec)
		return
	}
	d := make([]byte, 4+4*len(g.Members))
	le.PutUint32(d, g.Flags)
	for i, m := range g.Members {
		le.PutUint32(d[4+4*i:], uint32(m))
	}
	s := &b.secs[sec]
	s.Data, s.Size, s.Info = d, 0, uint32(g.Sig)
	s.flags &^= recLoaded
}

// SetSectionOrder sets the order of the sections in the object: each handle once,
// except those that were removed. Relocation sections that RelocSection, AddReloc
// or SetRelocs made may be left out and then come last. nil is the order of handles.
func (b *Builder) SetSectionOrder(order []SecID) { b.secOrder = slices.Clone(order) }

// SetSymbolOrder sets the order of the symbols in the object: each handle but 0
// once, except those that were removed. Local symbols still come first. A local
// symbol belongs to the source file that the FILE symbol before it names, so an
// order in which a local symbol other than a section symbol follows another FILE
// symbol than it does in the order of handles is a fault. nil is the order of handles.
func (b *Builder) SetSymbolOrder(order []SymID) { b.symOrder = slices.Clone(order) }

func (b *Builder) hasSection(id SecID) bool { return id != 0 && uint64(id) < uint64(len(b.secs)) }

// Bytes gives the object. The same calls before it give the same bytes. The
// error is a *diag.Error with the code build-invalid that names the sections
// and symbols at fault, at most 32 of them. Contents are aligned in the file as
// sh_addralign asks, but to no more than 4096 bytes.
func (b *Builder) Bytes() ([]byte, error) {
	w := writer{b: b}
	for _, step := range []func(){w.check, w.tables, w.sections, w.symbols, w.opaque, w.names, w.layout, w.write} {
		step()
		if len(w.diags) > 0 {
			return nil, &diag.Error{Diagnostics: w.diags}
		}
	}
	return w.out, nil
}
