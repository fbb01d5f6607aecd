package object

import (
	"bytes"
	"debug/elf"
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/internal/checked"
)

// Options tells Parse what to call the file and how much to accept. The zero value is useful.
type Options struct {
	Name        string // for diagnostics
	MaxSections int    // 0: 8 million
	MaxSymbols  int    // 0: 64 million
	MaxRelocs   int    // in all sections together; 0: 256 million

	// Alias makes names parts of data rather than of copies of its string tables. Nobody may then write to data, or
	// take it away, as long as anything lives that has a name from it: the File, and what is made of it.
	Alias bool
}

const (
	defaultMaxSections = 8 << 20
	defaultMaxSymbols  = 64 << 20
	defaultMaxRelocs   = 256 << 20
	maxName            = 64 << 10 // bytes of a section's or symbol's name with its NUL; the kernel takes 512
	maxProblems        = 32       // diagnostics collected before Parse gives up
)

// Parse reads an ELF64 little-endian x86-64 file: ET_REL completely, ET_EXEC
// and ET_DYN as far as sections and symbols go. The result aliases data and
// takes memory in proportion to it, whatever its headers claim.
//
// Of an ET_REL file it asks what the gABI does: section 0 and symbol 0 are null,
// sections do not overlap so far that they hold more than the file, local
// symbols are the first sh_info ones, relocations lie within contents that are
// there. It refuses what would otherwise be passed over in silence: relocations
// in other forms than SHT_RELA (but for SHT_LLVM_CALL_GRAPH_PROFILE), and a
// second SHT_RELA section for the same target unless it has SHF_RELA_LIVEPATCH.
//
// It takes no context: it is done in a few passes over headers, symbols and
// relocations, with contents left alone: some 10 ms for 20 MB.
//
// The error is a *diag.Error with the codes elf-malformed, elf-unsupported or
// elf-limit; it holds up to 32 problems, each with the offset in a section, or in
// the file when no section is named.
func Parse(data []byte, opts Options) (*File, error) {
	p := parser{f: &File{Name: opts.Name, Data: data}, opts: opts}
	p.opts.MaxSections = orDefault(opts.MaxSections, defaultMaxSections)
	p.opts.MaxSymbols = orDefault(opts.MaxSymbols, defaultMaxSymbols)
	p.opts.MaxRelocs = min(orDefault(opts.MaxRelocs, defaultMaxRelocs), commonRelocs-1)
	steps := []func(){p.header, p.sections, p.symbols, p.relocs, p.groups}
	for _, step := range steps {
		step()
		if len(p.diags) > 0 { // later steps rely on what earlier ones checked
			return nil, &diag.Error{Diagnostics: p.diags}
		}
	}
	return p.f, nil
}

func orDefault(v, d int) int {
	if v <= 0 {
		return d
	}
	return v
}

type parser struct {
	f     *File
	opts  Options
	diags []diag.Diagnostic
	le    struct {
		shoff    uint64
		shnum    uint64
		shstrndx uint64
	}
}

// fail records a problem; sec is the section concerned or -1, off an offset in it (in the file when sec is -1).
func (p *parser) fail(code diag.Code, sec int, off uint64, format string, args ...any) {
	if len(p.diags) >= maxProblems {
		return
	}
	at := diag.Place{File: p.opts.Name}.At(off)
	if sec >= 0 {
		at.Section = p.secName(sec)
	}
	p.diags = append(p.diags, diag.New(code, at, format, args...))
}

func (p *parser) secName(i int) string {
	if i < len(p.f.Sections) && p.f.Sections[i].Name != "" {
		return p.f.Sections[i].Name
	}
	return fmt.Sprintf("[%d]", i)
}

func (p *parser) header() {
	b := p.f.Data
	if len(b) < ehdrSize || string(b[:4]) != elf.ELFMAG {
		p.fail(diag.ElfMalformed, -1, 0, "not an ELF file (%d bytes)", len(b))
		return
	}
	if elf.Class(b[elf.EI_CLASS]) != elf.ELFCLASS64 || elf.Data(b[elf.EI_DATA]) != elf.ELFDATA2LSB {
		p.fail(diag.ElfUnsupported, -1, elf.EI_CLASS, "not ELF64 little-endian")
		return
	}
	h := &p.f.Header
	h.OSABI, h.ABIVersion = elf.OSABI(b[elf.EI_OSABI]), b[elf.EI_ABIVERSION]
	h.Type = elf.Type(le.Uint16(b[16:]))
	h.Entry = le.Uint64(b[24:])
	h.Flags = le.Uint32(b[48:])
	h.Phnum = le.Uint16(b[56:])
	if m := elf.Machine(le.Uint16(b[18:])); m != elf.EM_X86_64 {
		p.fail(diag.ElfUnsupported, -1, 18, "machine is %v, not EM_X86_64", m)
	}
	if v := le.Uint32(b[20:]); v != uint32(elf.EV_CURRENT) || b[elf.EI_VERSION] != byte(elf.EV_CURRENT) {
		p.fail(diag.ElfMalformed, -1, 20, "ELF version is %d", v)
	}
	switch h.Type {
	case elf.ET_REL, elf.ET_EXEC, elf.ET_DYN:
	default:
		p.fail(diag.ElfUnsupported, -1, 16, "file type is %v", h.Type)
	}
	if n := le.Uint16(b[52:]); n < ehdrSize {
		p.fail(diag.ElfMalformed, -1, 52, "e_ehsize is %d", n)
	}
	if h.Type == elf.ET_REL && h.Phnum != 0 {
		p.fail(diag.ElfUnsupported, -1, 56, "a relocatable object with %d program headers", h.Phnum)
	}
	p.le.shoff = le.Uint64(b[40:])
	p.le.shnum = uint64(le.Uint16(b[60:]))
	p.le.shstrndx = uint64(le.Uint16(b[62:]))
	if p.le.shoff == 0 {
		p.fail(diag.ElfMalformed, -1, 40, "no section headers")
		return
	}
	if n := le.Uint16(b[58:]); n != shdrSize {
		p.fail(diag.ElfMalformed, -1, 58, "e_shentsize is %d, not %d", n, shdrSize)
	}
	// The first header must be there before extended numbering can be read from it.
	if !checked.Within(p.le.shoff, shdrSize, uint64(len(b))) {
		p.fail(diag.ElfMalformed, -1, 40, "section headers at 0x%x lie outside the file of 0x%x bytes", p.le.shoff, len(b))
		return
	}
	sh0 := b[p.le.shoff:]
	if p.le.shnum == 0 {
		p.le.shnum = le.Uint64(sh0[32:])
	}
	ndx := p.le.shstrndx
	if ndx == uint64(elf.SHN_XINDEX) {
		p.le.shstrndx = uint64(le.Uint32(sh0[40:]))
	}
	if p.le.shnum > (uint64(len(b))-p.le.shoff)/shdrSize || p.le.shnum == 0 {
		p.fail(diag.ElfMalformed, -1, 60, "%d section headers at 0x%x do not fit in the file of 0x%x bytes", p.le.shnum, p.le.shoff, len(b))
		return
	}
	if p.le.shnum > uint64(p.opts.MaxSections) {
		p.fail(diag.ElfLimit, -1, 60, "%d sections, limit %d", p.le.shnum, p.opts.MaxSections)
	}
	switch {
	case ndx >= uint64(elf.SHN_LORESERVE) && ndx != uint64(elf.SHN_XINDEX):
		p.fail(diag.ElfMalformed, -1, 62, "e_shstrndx 0x%x is a reserved index", ndx)
	case p.le.shstrndx >= p.le.shnum:
		p.fail(diag.ElfMalformed, -1, 62, "e_shstrndx %d is not one of %d sections", p.le.shstrndx, p.le.shnum)
	}
	h.Shstrndx = SecID(p.le.shstrndx)
}

// compressible reports whether SHF_COMPRESSED makes sense: contents that are read here must be there as they are.
func compressible(t elf.SectionType) bool {
	switch t {
	case elf.SHT_NULL, elf.SHT_NOBITS, elf.SHT_SYMTAB, elf.SHT_DYNSYM, elf.SHT_STRTAB, elf.SHT_SYMTAB_SHNDX, elf.SHT_RELA, elf.SHT_REL, elf.SHT_GROUP:
		return false
	}
	return true
}

func (p *parser) sections() {
	f, b := p.f, p.f.Data
	n := int(p.le.shnum)
	hdr := b[p.le.shoff : p.le.shoff+uint64(n)*shdrSize]
	f.Sections = make([]Section, n)
	rel := f.Header.Type == elf.ET_REL
	left := uint64(len(b)) // bytes of the file that no section has claimed yet
	for i := range f.Sections {
		h := hdr[i*shdrSize : i*shdrSize+shdrSize : i*shdrSize+shdrSize]
		s := &f.Sections[i]
		s.NameOff = le.Uint32(h)
		s.Type = elf.SectionType(le.Uint32(h[4:]))
		flags := le.Uint64(h[8:])
		s.Flags = elf.SectionFlag(flags)
		s.Addr = le.Uint64(h[16:])
		s.Offset = le.Uint64(h[24:])
		s.Size = le.Uint64(h[32:])
		s.Link = le.Uint32(h[40:])
		s.Info = le.Uint32(h[44:])
		s.Addralign = le.Uint64(h[48:])
		s.Entsize = le.Uint64(h[56:])
		if i == 0 {
			if s.Type != elf.SHT_NULL {
				p.fail(diag.ElfMalformed, i, 0, "section 0 is %v, not SHT_NULL", s.Type)
			}
			// gABI, "Sections": all zero but for sh_size, sh_link and sh_info, which extend the ELF header.
			if rel && (s.NameOff|s.Info != 0 || flags|s.Addr|s.Offset|s.Addralign|s.Entsize != 0 ||
				s.Size != 0 && le.Uint16(b[60:]) != 0 || s.Link != 0 && le.Uint16(b[62:]) != uint16(elf.SHN_XINDEX)) {
				p.fail(diag.ElfMalformed, i, 0, "section 0 is not the null section")
			}
			continue
		}
		if s.Type != elf.SHT_NOBITS && s.Type != elf.SHT_NULL {
			if !checked.Within(s.Offset, s.Size, uint64(len(b))) {
				p.fail(diag.ElfMalformed, i, 0, "0x%x bytes at file offset 0x%x lie outside the file of 0x%x bytes", s.Size, s.Offset, len(b))
				continue
			}
			// gABI, "Sections": no byte of a file is in more than one section. Sections
			// that overlap would make a copy larger than the file without bound.
			if rel && s.Size > left {
				p.fail(diag.ElfMalformed, i, 0, "with 0x%x bytes at file offset 0x%x the sections hold more than the file", s.Size, s.Offset)
				continue
			}
			left -= min(left, s.Size)
			s.Data = b[s.Offset : s.Offset+s.Size : s.Offset+s.Size]
		} else if s.Size > 1<<47 {
			// The address space of x86-64 is smaller; larger values only serve to make sums wrap.
			p.fail(diag.ElfMalformed, i, 0, "a section of 0x%x bytes", s.Size)
		}
		if rel && s.Type == elf.SHT_NULL && s.Size != 0 && s.Flags&elf.SHF_ALLOC != 0 {
			// gABI, "Sections": the header is inactive. What it claims to hold is nowhere.
			p.fail(diag.ElfMalformed, i, 0, "an inactive section (SHT_NULL) of 0x%x bytes that occupies memory", s.Size)
		}
		if s.Addralign&(s.Addralign-1) != 0 || s.Addralign > 1<<40 {
			p.fail(diag.ElfMalformed, i, 0, "alignment %d is not a power of two that makes sense", s.Addralign)
		}
		if flags>>32 != 0 {
			p.fail(diag.ElfUnsupported, i, 0, "sh_flags 0x%x has bits that nothing defines", flags)
		}
		if uint64(s.Link) >= uint64(n) {
			p.fail(diag.ElfMalformed, i, 0, "sh_link %d is not one of %d sections", s.Link, n)
		}
		if rel && s.Flags&elf.SHF_INFO_LINK != 0 && uint64(s.Info) >= uint64(n) {
			p.fail(diag.ElfMalformed, i, 0, "sh_info %d is not one of %d sections", s.Info, n)
		}
		if s.Flags&elf.SHF_COMPRESSED != 0 {
			switch {
			case !compressible(s.Type):
				p.fail(diag.ElfUnsupported, i, 0, "a compressed section of type %v", s.Type)
			case len(s.Data) < chdrSize:
				p.fail(diag.ElfMalformed, i, 0, "a compressed section of 0x%x bytes", s.Size)
			}
		}
		if rel && s.Flags&(elf.SHF_COMPRESSED|elf.SHF_ALLOC) == elf.SHF_COMPRESSED|elf.SHF_ALLOC {
			p.fail(diag.ElfMalformed, i, 0, "a compressed section that occupies memory")
		}
	}
	if len(p.diags) > 0 {
		return
	}
	if f.Header.Shstrndx == 0 {
		return
	}
	shstr := &f.Sections[f.Header.Shstrndx]
	if shstr.Type != elf.SHT_STRTAB {
		p.fail(diag.ElfMalformed, int(f.Header.Shstrndx), 0, "section names are in a section of type %v", shstr.Type)
		return
	}
	names := p.text(shstr.Data)
	for i := range f.Sections {
		s := &f.Sections[i]
		name, ok := cstring(names, s.NameOff)
		if !ok {
			p.fail(diag.ElfMalformed, int(f.Header.Shstrndx), uint64(s.NameOff), "the name of section %d is not a string in the table of 0x%x bytes", i, len(names))
			continue
		}
		s.Name = name
	}
}

// text makes a string of a table.
func (p *parser) text(b []byte) string {
	if p.opts.Alias && len(b) > 0 {
		return unsafe.String(&b[0], len(b))
	}
	return string(b)
}

// cstring gives the NUL-terminated string at off of table; an offset of 0 in an empty table is the empty string.
func cstring(table string, off uint32) (string, bool) {
	if uint64(off) >= uint64(len(table)) {
		return "", off == 0
	}
	s := table[off:]
	if len(s) > maxName {
		s = s[:maxName] // many symbols may share one long name, each of which would be looked through
	}
	n := strings.IndexByte(s, 0)
	if n < 0 {
		return "", false
	}
	return s[:n], true
}

func (p *parser) symbols() {
	f := p.f
	var symtab, shndxSec SecID
	for i := range f.Sections {
		switch t := f.Sections[i].Type; {
		case t == elf.SHT_SYMTAB && symtab != 0 && f.Sections[symtab].Type == elf.SHT_SYMTAB:
			p.fail(diag.ElfMalformed, i, 0, "a second symbol table (the first is section %d)", symtab)
		case t == elf.SHT_SYMTAB, t == elf.SHT_DYNSYM && symtab == 0 && f.Header.Type != elf.ET_REL:
			symtab = SecID(i)
		}
	}
	for i := range f.Sections {
		s := &f.Sections[i]
		if s.Type != elf.SHT_SYMTAB_SHNDX || symtab == 0 || SecID(s.Link) != symtab {
			continue
		}
		if shndxSec != 0 {
			p.fail(diag.ElfMalformed, i, 0, "a second table of extended indices (the first is section %d)", shndxSec)
		}
		shndxSec = SecID(i)
	}
	f.Symtab = symtab
	if symtab == 0 || len(p.diags) > 0 {
		return
	}
	st := &f.Sections[symtab]
	if st.Size%symSize != 0 || st.Entsize != symSize {
		p.fail(diag.ElfMalformed, int(symtab), 0, "0x%x bytes of symbols with entry size %d", st.Size, st.Entsize)
		return
	}
	n := int(st.Size / symSize)
	if n > p.opts.MaxSymbols {
		p.fail(diag.ElfLimit, int(symtab), 0, "%d symbols, limit %d", n, p.opts.MaxSymbols)
		return
	}
	strs := &f.Sections[st.Link]
	if strs.Type != elf.SHT_STRTAB {
		p.fail(diag.ElfMalformed, int(symtab), 0, "symbol names are in section %s of type %v", p.secName(int(st.Link)), strs.Type)
		return
	}
	var ext []byte
	if shndxSec != 0 {
		ext = f.Sections[shndxSec].Data
		if len(ext) != n*4 {
			p.fail(diag.ElfMalformed, int(shndxSec), 0, "0x%x bytes of extended indices for %d symbols", len(ext), n)
			return
		}
	}
	names := p.text(strs.Data)
	f.Symbols = make([]Symbol, n)
	nsec := SecID(len(f.Sections))
	for i := range f.Symbols {
		b := st.Data[i*symSize : i*symSize+symSize : i*symSize+symSize]
		s := &f.Symbols[i]
		s.NameOff = le.Uint32(b)
		s.Info, s.Other = b[4], b[5]
		s.Shndx = elf.SectionIndex(le.Uint16(b[6:]))
		s.Value = le.Uint64(b[8:])
		s.Size = le.Uint64(b[16:])
		switch {
		case s.Shndx == elf.SHN_XINDEX:
			if ext == nil {
				p.fail(diag.ElfMalformed, int(symtab), uint64(i*symSize), "symbol %d has an extended section index, but there is no table of them", i)
				continue
			}
			if s.Sec = SecID(le.Uint32(ext[i*4:])); s.Sec == 0 {
				p.fail(diag.ElfMalformed, int(shndxSec), uint64(i*4), "symbol %d has the extended section index 0", i)
				continue
			}
		case s.Shndx < elf.SHN_LORESERVE:
			s.Sec = SecID(s.Shndx)
		}
		if s.Sec >= nsec {
			p.fail(diag.ElfMalformed, int(symtab), uint64(i*symSize), "symbol %d is in section %d of %d", i, s.Sec, nsec)
			s.Sec = 0
		}
		name, ok := cstring(names, s.NameOff)
		if !ok {
			p.fail(diag.ElfMalformed, int(st.Link), uint64(s.NameOff), "the name of symbol %d is not a string in the table of 0x%x bytes", i, len(names))
			continue
		}
		s.Name = name
		if len(p.diags) >= maxProblems {
			return
		}
	}
	if f.Header.Type == elf.ET_REL && len(p.diags) == 0 {
		p.symbolOrder(symtab)
	}
}

// symbolOrder checks what the gABI ("Symbol Table") says of the order: symbol 0
// is null and sh_info is the number of local symbols, which come first.
func (p *parser) symbolOrder(symtab SecID) {
	f := p.f
	if n, info := len(f.Symbols), f.Sections[symtab].Info; uint64(info) > uint64(n) {
		p.fail(diag.ElfMalformed, int(symtab), 0, "sh_info says %d local symbols of %d", info, n)
		return
	}
	for i := range f.Symbols {
		s := &f.Symbols[i]
		if i == 0 && (s.NameOff != 0 || s.Name != "" || s.Value != 0 || s.Size != 0 || s.Shndx != 0 || s.Info != 0 || s.Other != 0) {
			p.fail(diag.ElfMalformed, int(symtab), 0, "symbol 0 is not the null symbol")
		}
		if local := s.Bind() == elf.STB_LOCAL; local != (i < int(f.Sections[symtab].Info)) {
			p.fail(diag.ElfMalformed, int(symtab), uint64(i*symSize), "symbol %d is %v, but sh_info says that the first %d symbols are the local ones", i, s.Bind(), f.Sections[symtab].Info)
			return
		}
	}
}

func (p *parser) relocs() {
	f := p.f
	if f.Header.Type != elf.ET_REL {
		return
	}
	total, unsorted := 0, 0
	nsym := uint64(len(f.Symbols))
	for i := range f.Sections {
		s := &f.Sections[i]
		size := relaSize
		switch s.Type {
		case elf.SHT_RELA:
		case elf.SHT_REL:
			size = relSize
		case shtRelr, shtCrel:
			p.fail(diag.ElfUnsupported, i, 0, "relocations in a section of type 0x%x", uint32(s.Type))
			continue
		default:
			continue
		}
		if s.Size%uint64(size) != 0 || s.Entsize != uint64(size) {
			p.fail(diag.ElfMalformed, i, 0, "0x%x bytes of relocations with entry size %d", s.Size, s.Entsize)
			continue
		}
		if s.Info == 0 || uint64(s.Info) >= uint64(len(f.Sections)) {
			p.fail(diag.ElfMalformed, i, 0, "relocations for section %d of %d", s.Info, len(f.Sections))
			continue
		}
		if SecID(s.Link) != f.Symtab || f.Symtab == 0 {
			p.fail(diag.ElfMalformed, i, 0, "relocations against symbols in section %d, not in the symbol table", s.Link)
			continue
		}
		target := &f.Sections[s.Info]
		if s.Type == elf.SHT_REL && target.Type != SHT_LLVM_CALL_GRAPH_PROFILE {
			// The psABI has RELA only; passing these over would hide references.
			p.fail(diag.ElfUnsupported, i, 0, "relocations without addends for %s", p.secName(int(s.Info)))
			continue
		}
		if s.Flags&SHF_RELA_LIVEPATCH == 0 && s.Type == elf.SHT_RELA {
			if target.Rela != 0 {
				p.fail(diag.ElfUnsupported, i, 0, "a second relocation section for %s (the first is section %d)", p.secName(int(s.Info)), target.Rela)
				continue
			}
			target.Rela = SecID(i)
		}
		n := len(s.Data) / size
		if n > p.opts.MaxRelocs-total {
			p.fail(diag.ElfLimit, i, 0, "more than %d relocations", p.opts.MaxRelocs)
			return
		}
		total += n
		if n > 0 && (target.Type == elf.SHT_NOBITS || target.Type == elf.SHT_NULL) {
			p.fail(diag.ElfMalformed, i, 0, "relocations for %s, which has no contents", p.secName(int(s.Info)))
			continue
		}
		limit := target.inflated()
		sorted := true
		var contents []byte // of which fields have to be zero
		common := s.Type == elf.SHT_RELA && target.Alloc()
		if common {
			contents = target.Data
		}
		ok := false
		if s.Type == elf.SHT_RELA {
			ok, sorted, common = scanRela(s.Data, nsym, limit, contents, common)
		}
		for j := 0; !ok && j < n && len(p.diags) < maxProblems; j++ {
			b := s.Data[j*size : j*size+16 : j*size+16]
			off, info := le.Uint64(b), le.Uint64(b[8:])
			if info>>32 >= nsym {
				p.fail(diag.ElfMalformed, i, uint64(j*size), "relocation %d is against symbol %d of %d", j, info>>32, nsym)
			}
			if off > limit {
				p.fail(diag.ElfMalformed, i, uint64(j*size), "relocation %d is at 0x%x of %s, which has 0x%x bytes", j, off, p.secName(int(s.Info)), limit)
			}
		}
		if common {
			s.order = commonRelocs
		}
		if !sorted && s.Type == elf.SHT_RELA {
			s.order |= 1 // marked; the arena is laid out below, when its size is known
			unsorted += n
		}
		if len(p.diags) >= maxProblems {
			return
		}
	}
	if unsorted == 0 || len(p.diags) > 0 {
		return
	}
	f.order = make([]uint32, 0, unsorted)
	for i := range f.Sections {
		s := &f.Sections[i]
		if s.Type != elf.SHT_RELA || s.order&^commonRelocs == 0 {
			continue
		}
		lo := len(f.order)
		for j := range len(s.Data) / relaSize {
			f.order = append(f.order, uint32(j))
		}
		s.order = s.order&commonRelocs | (uint32(lo) + 1)
		d := s.Data
		slices.SortStableFunc(f.order[lo:], func(a, b uint32) int {
			return cmpU64(le.Uint64(d[int(a)*relaSize:]), le.Uint64(d[int(b)*relaSize:]))
		})
	}
}

// scanRela looks once at all entries of a relocation section: whether their symbols and
// offsets are in range (otherwise the rest of the answer means nothing), in order, and
// common (see Relocs.Common) when that is asked.
func scanRela(d []byte, nsym, limit uint64, contents []byte, ask bool) (ok, sorted, common bool) {
	const four = 1<<elf.R_X86_64_PC32 | 1<<elf.R_X86_64_PLT32 | 1<<elf.R_X86_64_32 | 1<<elf.R_X86_64_32S // fields of four bytes
	prev, n := uint64(0), uint64(len(contents))
	sorted, common = true, ask
	for ; len(d) >= relaSize; d = d[relaSize:] {
		off, info := le.Uint64(d), le.Uint64(d[8:])
		if info>>32 >= nsym || off > limit {
			return false, false, false
		}
		if off < prev {
			sorted = false
		}
		prev = off
		if !common {
			continue
		}
		switch t := elf.R_X86_64(uint32(info)); {
		case t < 32 && uint32(four)>>t&1 != 0:
			common = off < n && n-off >= 4 && le.Uint32(contents[off:]) == 0
		case t == elf.R_X86_64_64:
			common = off < n && n-off >= 8 && le.Uint64(contents[off:]) == 0
		default:
			common = t == elf.R_X86_64_NONE
		}
	}
	return true, sorted, common
}

func cmpU64(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (p *parser) groups() {
	f := p.f
	if f.Header.Type != elf.ET_REL {
		return
	}
	for i := range f.Sections {
		s := &f.Sections[i]
		if s.Type != elf.SHT_GROUP {
			continue
		}
		if s.Size < 4 || s.Size%4 != 0 {
			p.fail(diag.ElfMalformed, i, 0, "a section group of 0x%x bytes", s.Size)
			continue
		}
		if SecID(s.Link) != f.Symtab || uint64(s.Info) >= uint64(len(f.Symbols)) {
			p.fail(diag.ElfMalformed, i, 0, "the group's signature is symbol %d of section %d", s.Info, s.Link)
			continue
		}
		g := Group{Sec: SecID(i), Flags: le.Uint32(s.Data), Sig: SymID(s.Info), Members: make([]SecID, 0, len(s.Data)/4-1)}
		for off := 4; off < len(s.Data); off += 4 {
			m := le.Uint32(s.Data[off:])
			if len(p.diags) >= maxProblems {
				return
			}
			if m == 0 || uint64(m) >= uint64(len(f.Sections)) || SecID(m) == SecID(i) {
				p.fail(diag.ElfMalformed, i, uint64(off), "group member %d of %d sections", m, len(f.Sections))
				continue
			}
			if f.Sections[m].Group != 0 {
				p.fail(diag.ElfMalformed, i, uint64(off), "section %s is a member of two groups", p.secName(int(m)))
				continue
			}
			f.Sections[m].Group = uint32(len(f.Groups)) + 1
			g.Members = append(g.Members, SecID(m))
		}
		f.Groups = append(f.Groups, g)
	}
}

// StringAt gives the bytes of the string of w-byte characters at off of d, with
// its terminator; ok is false when off is outside or nothing terminates it.
func StringAt(d []byte, off uint64, w int) (s []byte, ok bool) {
	if w <= 0 || off > uint64(len(d)) {
		return nil, false
	}
	d = d[off:]
	if w == 1 {
		n := bytes.IndexByte(d, 0)
		if n < 0 {
			return nil, false
		}
		return d[:n+1], true
	}
	for i := 0; i+w <= len(d); i += w {
		zero := true
		for _, c := range d[i : i+w] {
			zero = zero && c == 0
		}
		if zero {
			return d[:i+w], true
		}
	}
	return nil, false
}
