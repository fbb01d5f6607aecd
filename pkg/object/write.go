package object

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/kdelta/kdelta/pkg/diag"
)

// How a Builder becomes bytes. Each step of Bytes settles one thing that later
// steps rely on: which sections are tables, the sections' indices, the symbols'
// indices, where names are in the string tables, sizes and file offsets. Then
// the one output buffer is made and everything is written to its place.

const (
	maxAddralign  = 1 << 40 // of sh_addralign; larger ones serve no purpose but overflow
	maxFileAlign  = 4096    // of contents in the file
	maxNobits     = 1 << 47 // the address space of x86-64
	defaultMaxOut = 16 << 30
)

// role says what Bytes has to do with a section's contents.
type role uint8

const (
	roleData    role = iota // copied
	roleEmpty               // nothing in the file
	roleSymtab              // made from syms
	roleShndx               // made from syms
	roleStrings             // Data and names
	roleRela
	roleRel
	roleGroup
	roleAddrsig
)

// outSec is one section header in the making; the slice of them is in the order of the object.
type outSec struct {
	src   SecID // 0: made by Bytes
	role  role
	table uint8 // roleStrings: index into writer.strs
	name  uint32
	off   uint64
	size  uint64
}

type writer struct {
	b     *Builder
	diags []diag.Diagnostic
	out   []byte

	secs  []outSec // by index
	idx   []uint32 // section handle to index; 0: not in the object
	order []SymID  // symbol index to handle, from 1; nil: the order of handles
	symOf []uint32 // symbol handle to index; nil: the handle is the index
	nsym  int      // in the object, with the null symbol
	local int      // of these, the local ones

	symtab, shndx, symstr, secstr SecID     // handles; 0: made by Bytes or not there
	symtabIdx, shndxIdx           uint32    // indices; 0: not there
	strs                          [2]strtab // symbol names, section names
	oneTable                      bool      // both kinds of names are in strs[0]
	symNames                      []uint32  // by symbol index
	shoff                         uint64    // file offset of the section headers
	member                        []bool    // by section handle: a group has it; nil: there is no group
	addrsig                       [][]byte  // of the roleAddrsig sections, in their order
}

func (w *writer) fail(at diag.Place, format string, args ...any) {
	if len(w.diags) < maxProblems {
		at.File = w.b.Name
		w.diags = append(w.diags, diag.New(diag.BuildInvalid, at, format, args...))
	}
}

func (w *writer) full() bool { return len(w.diags) >= maxProblems }

// sec gives the place of a section for a diagnostic.
func (w *writer) sec(id SecID) diag.Place {
	if w.b.hasSection(id) {
		s := &w.b.secs[id]
		switch {
		case s.Name != "":
			return diag.Place{Section: s.Name}
		case s.flags&recAuto != 0:
			return diag.Place{Section: ".rela" + w.b.secs[s.Info].Name}
		}
	}
	return diag.Place{Section: fmt.Sprintf("[%d]", id)}
}

func (w *writer) sym(id SymID) diag.Place {
	if uint64(id) < uint64(len(w.b.syms)) {
		s := &w.b.syms[id]
		switch {
		case s.Name != "":
			return diag.Place{Symbol: s.Name}
		case elf.SymType(s.Info&0xf) == elf.STT_SECTION && w.b.hasSection(s.Sec):
			return diag.Place{Symbol: w.b.secs[s.Sec].Name}
		}
	}
	return diag.Place{Symbol: fmt.Sprintf("[%d]", id)}
}

// live reports whether id is a section of the object. A relocation section goes with its target.
func (w *writer) live(id SecID) bool {
	b := w.b
	if !b.hasSection(id) || b.secs[id].flags&recRemoved != 0 {
		return false
	}
	s := &b.secs[id]
	return s.Type != elf.SHT_RELA && s.Type != elf.SHT_REL ||
		!b.hasSection(SecID(s.Info)) || b.secs[s.Info].flags&recRemoved == 0
}

func (w *writer) check() {
	b := w.b
	if t := b.Header.Type; t != elf.ET_REL && t != 0 {
		w.fail(diag.Place{}, "the file type is %v, not ET_REL", t)
	}
	if b.Header.Phnum != 0 {
		w.fail(diag.Place{}, "a relocatable object with %d program headers", b.Header.Phnum)
	}
	if uint64(len(b.secs)) > math.MaxUint32 || uint64(len(b.syms)) > math.MaxUint32 || uint64(len(b.arena)) > math.MaxUint32 {
		w.fail(diag.Place{}, "%d sections, %d symbols, %d relocations: more than 32 bits can count", len(b.secs), len(b.syms), len(b.arena))
	}
	for _, id := range b.badSecs {
		w.fail(w.sec(id), "section handle %d is not one of %d, or of the wrong type for what was done to it", id, len(b.secs)-1)
	}
	for _, id := range b.badSyms {
		w.fail(w.sym(id), "symbol handle %d is not one of %d, or the null symbol, which nobody can change", id, len(b.syms)-1)
	}
	for i := 1; i < len(b.secs) && !w.full(); i++ {
		if w.live(SecID(i)) {
			w.checkSection(SecID(i), &b.secs[i])
		}
	}
	for i := 1; i < len(b.syms) && !w.full(); i++ {
		if b.syms[i].flags&recRemoved == 0 {
			w.checkSymbol(SymID(i), &b.syms[i])
		}
	}
}

func (w *writer) checkSection(id SecID, s *secRec) {
	loaded := s.flags&recLoaded != 0
	if !loaded && strings.IndexByte(s.Name, 0) >= 0 {
		w.fail(w.sec(id), "the name holds a NUL")
	}
	if s.Addralign&(s.Addralign-1) != 0 || s.Addralign > maxAddralign {
		w.fail(w.sec(id), "alignment %d is not a power of two that makes sense", s.Addralign)
	}
	switch s.Type {
	case elf.SHT_NOBITS, elf.SHT_NULL:
		if len(s.Data) != 0 {
			w.fail(w.sec(id), "%v with %d bytes of contents", s.Type, len(s.Data))
		}
		if s.Size > maxNobits {
			w.fail(w.sec(id), "a section of 0x%x bytes", s.Size)
		}
	default:
		if s.Size != 0 && s.Size != uint64(len(s.Data)) {
			w.fail(w.sec(id), "size 0x%x, but 0x%x bytes of contents", s.Size, len(s.Data))
		}
	}
	if s.Link != 0 && !w.live(s.Link) {
		w.fail(w.sec(id), "sh_link: no section has the handle %d", s.Link)
	}
	if s.Flags&(elf.SHF_COMPRESSED|elf.SHF_ALLOC) == elf.SHF_COMPRESSED|elf.SHF_ALLOC {
		w.fail(w.sec(id), "a compressed section that occupies memory")
	}
	if s.Flags&elf.SHF_COMPRESSED != 0 && (!compressible(s.Type) || len(s.Data) < chdrSize) {
		w.fail(w.sec(id), "a compressed section of type %v and 0x%x bytes", s.Type, len(s.Data))
	}
	reloc := s.Type == elf.SHT_RELA || s.Type == elf.SHT_REL
	if (reloc || s.Flags&elf.SHF_INFO_LINK != 0) && (s.Info != 0 || reloc) && !generated(&s.BuildSection, 0) && s.Type != elf.SHT_GROUP && !w.live(SecID(s.Info)) {
		w.fail(w.sec(id), "sh_info: no section has the handle %d", s.Info)
		return
	}
	if !reloc {
		return
	}
	t := &w.b.secs[s.Info]
	n := w.relocCount(s)
	switch {
	case len(s.Data)%entSize(s.Type) != 0:
		w.fail(w.sec(id), "0x%x bytes of relocations of %d bytes each", len(s.Data), entSize(s.Type))
	case s.Entsize != 0 && s.Entsize != uint64(entSize(s.Type)):
		w.fail(w.sec(id), "relocations with entry size %d", s.Entsize)
	case n > 0 && (t.Type == elf.SHT_NOBITS || t.Type == elf.SHT_NULL):
		w.fail(w.sec(id), "relocations for %s, which has no contents", w.sec(SecID(s.Info)).Section)
	case s.Type == elf.SHT_REL && t.Type != SHT_LLVM_CALL_GRAPH_PROFILE:
		w.fail(w.sec(id), "relocations without addends for %s", w.sec(SecID(s.Info)).Section)
	case ordinary(&s.BuildSection) && t.rela != id && w.live(t.rela):
		w.fail(w.sec(id), "a second relocation section for %s", w.sec(SecID(s.Info)).Section)
	}
}

func entSize(t elf.SectionType) int {
	if t == elf.SHT_REL {
		return relSize
	}
	return relaSize
}

// relocCount gives the number of entries of relocation section s.
func (w *writer) relocCount(s *secRec) int {
	n := len(s.Data) / entSize(s.Type)
	if s.rel != 0 {
		r := &w.b.rels[s.rel-1]
		n += len(r.list) + r.n
	}
	return n
}

func (w *writer) checkSymbol(id SymID, s *symRec) {
	loaded := s.flags&recLoaded != 0
	switch {
	case s.Sec != 0:
		if !w.live(s.Sec) {
			w.fail(w.sym(id), "no section has the handle %d", s.Sec)
		}
		if s.Shndx != 0 {
			w.fail(w.sym(id), "both a section and the index %v", s.Shndx)
		}
	case s.Shndx != 0 && (s.Shndx < elf.SHN_LORESERVE || s.Shndx >= elf.SHN_XINDEX):
		w.fail(w.sym(id), "the index %v is not a reserved one; sections are given by handle", s.Shndx)
	case s.Shndx == 0 && !loaded && elf.SymBind(s.Info>>4) == elf.STB_LOCAL:
		w.fail(w.sym(id), "a local symbol that is undefined")
	}
	if !loaded && strings.IndexByte(s.Name, 0) >= 0 {
		w.fail(w.sym(id), "the name holds a NUL")
	}
}

// tables finds the symbol table, its string table, the section names and the extended indices among the sections.
func (w *writer) tables() {
	b := w.b
	for i := 1; i < len(b.secs); i++ {
		id, s := SecID(i), &b.secs[i]
		if s.Type != elf.SHT_SYMTAB || !w.live(id) {
			continue
		}
		if w.symtab != 0 {
			w.fail(w.sec(id), "a second symbol table (the first is %s)", w.sec(w.symtab).Section)
			continue
		}
		w.symtab, w.symstr = id, s.Link
		if len(s.Data) != 0 {
			w.fail(w.sec(id), "contents for the symbol table, which Bytes makes")
		}
		if s.Entsize != 0 && s.Entsize != symSize {
			w.fail(w.sec(id), "symbols with entry size %d", s.Entsize)
		}
	}
	for i := 1; i < len(b.secs); i++ {
		id, s := SecID(i), &b.secs[i]
		if !w.live(id) {
			continue
		}
		switch s.Type {
		case elf.SHT_SYMTAB_SHNDX:
			if !generated(&s.BuildSection, w.symtab) {
				continue
			}
			if w.shndx != 0 {
				w.fail(w.sec(id), "a second table of extended indices (the first is %s)", w.sec(w.shndx).Section)
			}
			w.shndx = id
			if len(s.Data) != 0 {
				w.fail(w.sec(id), "contents for the extended indices, which Bytes makes")
			}
		case elf.SHT_RELA, elf.SHT_REL, elf.SHT_GROUP:
			if s.Link != 0 && s.Link != w.symtab {
				w.fail(w.sec(id), "sh_link is %s, not the symbol table", w.sec(s.Link).Section)
			}
		}
	}
	w.secstr = b.Header.Shstrndx
	for i, id := range [2]SecID{w.symstr, w.secstr} {
		if id == 0 {
			continue
		}
		if !w.live(id) || b.secs[id].Type != elf.SHT_STRTAB {
			w.fail(w.sec(id), "the %s names are in a section that is not a string table", [2]string{"symbol", "section"}[i])
			continue
		}
		w.strs[i].base = b.secs[id].Data
	}
	w.oneTable = w.symstr != 0 && w.symstr == w.secstr
}

func (w *writer) sections() {
	b := w.b
	w.idx = make([]uint32, len(b.secs))
	w.secs = make([]outSec, 1, len(b.secs)+4)
	w.secs[0].role = roleEmpty
	place := func(id SecID) {
		w.idx[id] = uint32(len(w.secs))
		w.secs = append(w.secs, outSec{src: id, role: w.roleOf(id)})
	}
	var autos int
	if b.secOrder != nil {
		for _, id := range b.secOrder {
			switch {
			case !w.live(id):
				w.fail(w.sec(id), "the order of sections has the handle %d, which no section has", id)
			case w.idx[id] != 0:
				w.fail(w.sec(id), "the order of sections has the handle %d twice", id)
			default:
				place(id)
			}
		}
	}
	for i := 1; i < len(b.secs); i++ {
		switch id := SecID(i); {
		case w.idx[i] != 0 || !w.live(id):
		case b.secs[i].flags&recAuto != 0:
			autos++
		case b.secOrder != nil:
			w.fail(w.sec(id), "the order of sections lacks the handle %d", id)
		default:
			place(id)
		}
	}
	// Relocation sections that nobody placed: in the order of their targets.
	for i, n := 1, len(w.secs); i < n && autos > 0; i++ {
		if id := b.secs[w.secs[i].src].rela; id != 0 && w.idx[id] == 0 && w.live(id) {
			place(id)
			autos--
		}
	}

	if autos > 0 && len(w.diags) == 0 {
		w.fail(diag.Place{}, "%d relocation sections without a section that they apply to", autos)
	}

	needSymtab := len(b.syms) > 1
	for i := range w.secs {
		switch w.secs[i].role {
		case roleRela, roleRel, roleGroup:
			needSymtab = true
		}
	}
	if w.symtab != 0 {
		w.symtabIdx = w.idx[w.symtab]
	} else if needSymtab {
		w.symtabIdx = uint32(len(w.secs))
		w.secs = append(w.secs, outSec{role: roleSymtab})
	}
	if w.shndx != 0 {
		w.shndxIdx = w.idx[w.shndx]
	} else if w.needShndx() {
		w.shndxIdx = uint32(len(w.secs))
		w.secs = append(w.secs, outSec{role: roleShndx})
	}
	if w.symtabIdx != 0 && w.symstr == 0 {
		w.secs = append(w.secs, outSec{role: roleStrings, table: 0})
	}
	if w.secstr == 0 && w.anyName() {
		w.secs = append(w.secs, outSec{role: roleStrings, table: 1})
	}
}

// anyName reports whether a string table for section names is needed.
func (w *writer) anyName() bool {
	for i := range w.secs[1:] {
		if s := &w.secs[i+1]; s.src == 0 || w.b.secs[s.src].Name != "" || w.b.secs[s.src].flags&recAuto != 0 {
			return true
		}
	}
	return false
}

func (w *writer) needShndx() bool {
	if len(w.secs) <= int(elf.SHN_LORESERVE) {
		return false
	}
	for i := range w.b.syms {
		if s := &w.b.syms[i]; s.flags&recRemoved == 0 && w.idx[s.Sec] >= uint32(elf.SHN_LORESERVE) {
			return true
		}
	}
	return false
}

func (w *writer) roleOf(id SecID) role {
	s := &w.b.secs[id]
	switch {
	case id == w.symstr || id == w.secstr:
		return roleStrings
	case id == w.shndx:
		return roleShndx
	}
	switch s.Type {
	case elf.SHT_NOBITS, elf.SHT_NULL:
		return roleEmpty
	case elf.SHT_SYMTAB:
		return roleSymtab
	case elf.SHT_RELA:
		return roleRela
	case elf.SHT_REL:
		return roleRel
	case elf.SHT_GROUP:
		return roleGroup
	case SHT_LLVM_ADDRSIG:
		if w.symtab != 0 && s.Link == w.symtab {
			return roleAddrsig
		}
	}
	return roleData
}

// tableOf gives the string table of a roleStrings section.
func (w *writer) tableOf(s *outSec) *strtab {
	if s.src != 0 {
		if s.src == w.symstr {
			return &w.strs[0]
		}
		return &w.strs[1]
	}
	return &w.strs[s.table]
}

func (w *writer) secNames() *strtab {
	if w.oneTable {
		return &w.strs[0]
	}
	return &w.strs[1]
}

func (w *writer) symbols() {
	b := w.b
	n := len(b.syms)
	if b.noNull {
		return
	}
	if b.symOrder == nil {
		// Usually the handles are in a valid order already.
		first, ok := n, true
		for i := 1; i < n && ok; i++ {
			if elf.SymBind(b.syms[i].Info>>4) != elf.STB_LOCAL {
				first = min(first, i)
			} else if i > first {
				ok = false
			}
			ok = ok && b.syms[i].flags&recRemoved == 0
		}
		if ok {
			w.nsym, w.local = n, first
			return
		}
	}
	in := b.symOrder
	w.symOf = make([]uint32, n)
	w.order = make([]SymID, 1, n)
	add := func(id SymID, local bool) {
		if (elf.SymBind(b.syms[id].Info>>4) == elf.STB_LOCAL) == local {
			w.symOf[id] = uint32(len(w.order))
			w.order = append(w.order, id)
		}
	}
	for _, local := range [2]bool{true, false} {
		if in == nil {
			for i := 1; i < n; i++ {
				if b.syms[i].flags&recRemoved == 0 {
					add(SymID(i), local)
				}
			}
		} else {
			for _, id := range in {
				switch {
				case id == 0 || uint64(id) >= uint64(n) || b.syms[id].flags&recRemoved != 0:
					if local {
						w.fail(w.sym(id), "the order of symbols has the handle %d, which no symbol has", id)
					}
				case w.symOf[id] != 0 && (elf.SymBind(b.syms[id].Info>>4) == elf.STB_LOCAL) == local:
					w.fail(w.sym(id), "the order of symbols has the handle %d twice", id)
				default:
					add(id, local)
				}
			}
		}
		if local {
			w.local = len(w.order)
		}
	}
	w.nsym = len(w.order)
	if in != nil {
		w.checkSymbolOrder()
	}
}

// checkSymbolOrder finds symbols that SetSymbolOrder lacks, and local ones that it moved to another source file.
func (w *writer) checkSymbolOrder() {
	b := w.b
	for i := 1; i < len(b.syms); i++ {
		if b.syms[i].flags&recRemoved == 0 && w.symOf[i] == 0 {
			w.fail(w.sym(SymID(i)), "the order of symbols lacks the handle %d", i)
		}
	}
	if len(w.diags) > 0 {
		return
	}
	isFile := func(s *symRec) bool { return s.Info == elf.ST_INFO(elf.STB_LOCAL, elf.STT_FILE) }
	fileOf := make([]SymID, len(b.syms)) // in the order of handles
	var file SymID
	for i := 1; i < len(b.syms); i++ {
		if s := &b.syms[i]; s.flags&recRemoved == 0 && isFile(s) {
			file = SymID(i)
		}
		fileOf[i] = file
	}
	file = 0
	for _, id := range w.order[1:w.local] {
		s := &b.syms[id]
		switch {
		case isFile(s):
			file = id
		case elf.SymType(s.Info&0xf) != elf.STT_SECTION && fileOf[id] != file:
			w.fail(w.sym(id), "the order of symbols moves a local symbol from file %q to file %q", b.syms[fileOf[id]].Name, b.syms[file].Name)
			return
		}
	}
}

// handle gives the handle of the symbol of index i.
func (w *writer) handle(i int) SymID {
	if w.order == nil {
		return SymID(i)
	}
	return w.order[i]
}

// index gives the index of the symbol of handle id; 0 and false when there is none.
func (w *writer) index(id uint32) (uint32, bool) {
	if w.symOf == nil {
		return id, uint64(id) < uint64(len(w.b.syms))
	}
	if uint64(id) >= uint64(len(w.symOf)) {
		return 0, false
	}
	i := w.symOf[id]
	return i, i != 0 || id == 0
}

// Types whose contents hold indices that Bytes does not know how to change.
const (
	shtGNUVersym    elf.SectionType = 0x6fffffff
	shtLLVMOldGraph elf.SectionType = 0x6fff4c02 // SHT_LLVM_CALL_GRAPH_PROFILE of LLVM 11 and before
)

// opaque refuses an object whose indices change when a section holds indices that Bytes passes through.
func (w *writer) opaque() {
	for i := range w.secs {
		o := &w.secs[i]
		if o.role != roleData {
			continue
		}
		switch w.b.secs[o.src].Type {
		case elf.SHT_DYNSYM, elf.SHT_HASH, elf.SHT_GNU_HASH, shtGNUVersym, shtLLVMOldGraph, elf.SHT_SYMTAB_SHNDX:
			if w.renumbered() {
				w.fail(w.sec(o.src), "contents of type %v hold indices, which have changed", w.b.secs[o.src].Type)
			}
		}
	}
}

// renumbered reports whether any section or symbol has an index that is not its handle.
func (w *writer) renumbered() bool {
	for id, i := range w.idx {
		if i != uint32(id) {
			return true
		}
	}
	for id, i := range w.symOf {
		if i != uint32(id) {
			return true
		}
	}
	return false
}

// strtab makes a string table: base, as it was given, and then the names that base lacks.
type strtab struct {
	base  []byte
	extra []byte
	seen  map[string]uint32
}

func (t *strtab) size() uint64 { return uint64(len(t.base)) + uint64(len(t.extra)) }

// at reports whether name is the string at off of base.
func (t *strtab) at(off uint32, name string) bool {
	if uint64(off)+uint64(len(name)) >= uint64(len(t.base)) {
		return name == "" && off == 0 && len(t.base) == 0 && len(t.extra) == 0
	}
	end := int(off) + len(name)
	return t.base[end] == 0 && string(t.base[off:end]) == name
}

// start makes the table ready for names that base lacks, about n of them.
func (t *strtab) start(n int) {
	if t.seen != nil {
		return
	}
	t.seen = make(map[string]uint32, n)
	if len(t.base) == 0 {
		t.extra = []byte{0} // gABI, "String Table": the first byte is NUL
	}
}

// add gives the offset of name. What base holds is found by the hint only, or at offset 0.
func (t *strtab) add(name string, hint uint32) uint32 {
	if t.at(hint, name) {
		return hint
	}
	t.start(0)
	if name == "" && (len(t.base) == 0 || t.base[0] == 0) {
		return 0
	}
	if off, ok := t.seen[name]; ok {
		return off
	}
	off := t.size()
	t.extra = append(append(t.extra, name...), 0)
	t.seen[name] = uint32(off)
	return uint32(off)
}

func (w *writer) names() {
	b := w.b
	if w.symtabIdx != 0 {
		w.symNames = make([]uint32, w.nsym)
		t := &w.strs[0]
		if b.secs[w.symstr].flags&recLoaded == 0 {
			t.start(w.nsym)
			n := len(t.extra)
			for i := 1; i < w.nsym; i++ {
				n += len(b.syms[w.handle(i)].Name) + 1
			}
			t.extra = slices.Grow(t.extra, n)
		}
		for i := 1; i < w.nsym; i++ {
			s := &b.syms[w.handle(i)]
			w.symNames[i] = t.add(s.Name, s.hint)
		}
		// Symbol 0 has st_name 0, which must be the empty string.
		if w.nsym > 0 && len(t.base) > 0 && t.base[0] != 0 {
			w.fail(w.sec(w.symstr), "the string table does not begin with NUL")
		}
	}
	t := w.secNames()
	if b.secs[w.secstr].flags&recLoaded == 0 {
		t.start(len(w.secs))
	}
	// ".rela.text" ends in ".text": the names of the relocation sections that are
	// made here come first, and their targets' are within them.
	var made map[string]uint32 // by target
	for i := range w.secs {
		o := &w.secs[i]
		if o.role != roleRela || b.secs[o.src].flags&recAuto == 0 {
			continue
		}
		t.start(len(w.secs))
		if made == nil {
			made = make(map[string]uint32, len(w.secs))
		}
		target := b.secs[b.secs[o.src].Info].Name
		off, ok := made[target]
		if !ok {
			off = uint32(t.size())
			t.extra = append(append(append(t.extra, ".rela"...), target...), 0)
			made[target] = off
			if _, ok := t.seen[target]; !ok && target != "" {
				t.seen[target] = off + 5
			}
		}
		o.name = off
	}
	for i := 1; i < len(w.secs); i++ {
		o := &w.secs[i]
		switch {
		case o.src != 0 && b.secs[o.src].flags&recAuto != 0:
		case o.src != 0:
			s := &b.secs[o.src]
			if w.secstr != 0 || s.Name != "" {
				o.name = t.add(s.Name, s.hint)
			}
		default:
			o.name = t.add([...]string{roleSymtab: ".symtab", roleShndx: ".symtab_shndx", roleStrings: [2]string{".strtab", ".shstrtab"}[o.table]}[o.role], 0)
		}
	}
	for i := range w.strs {
		if w.strs[i].size() > math.MaxUint32 {
			w.fail(diag.Place{}, "0x%x bytes of names", w.strs[i].size())
		}
	}
}

// layout settles sizes and file offsets and makes the output buffer.
func (w *writer) layout() {
	b := w.b
	limit := b.MaxSize
	if limit == 0 {
		limit = defaultMaxOut
	}
	limit = min(limit, math.MaxInt)
	off := uint64(ehdrSize)
	for i := 1; i < len(w.secs); i++ {
		o := &w.secs[i]
		s := &b.secs[o.src]
		align := s.Addralign
		switch o.role {
		case roleData:
			o.size = uint64(len(s.Data))
		case roleEmpty:
			o.size = s.Size
		case roleSymtab:
			o.size, align = uint64(w.nsym)*symSize, max(align, 8)
		case roleShndx:
			o.size, align = uint64(w.nsym)*4, max(align, 4)
		case roleStrings:
			o.size = w.tableOf(o).size()
		case roleRela, roleRel:
			o.size, align = uint64(w.relocCount(s))*uint64(entSize(s.Type)), max(align, 8)
		case roleGroup:
			o.size, align = uint64(len(s.Data)), max(align, 4)
		case roleAddrsig:
			w.addrsig = append(w.addrsig, w.addrsigData(o.src))
			o.size = uint64(len(w.addrsig[len(w.addrsig)-1]))
		}
		if s.Type != elf.SHT_NULL || o.src == 0 {
			align = min(max(align, 1), maxFileAlign)
			off = (off + align - 1) &^ (align - 1)
			o.off = off
		}
		if o.role != roleEmpty {
			if o.size > limit || off > limit-o.size {
				at := diag.Place{}
				if o.src != 0 {
					at = w.sec(o.src)
				}
				w.fail(at, "the object is larger than 0x%x bytes", limit)
				return
			}
			off += o.size
		}
	}
	off = (off + 7) &^ 7
	w.shoff = off
	total := off + uint64(len(w.secs))*shdrSize
	if total > limit {
		w.fail(diag.Place{}, "the object is larger than 0x%x bytes", limit)
		return
	}
	if len(w.diags) == 0 {
		w.out = make([]byte, total)
	}
}

// addrsigData gives the contents of a SHT_LLVM_ADDRSIG section with indices in the places of handles.
func (w *writer) addrsigData(id SecID) []byte {
	d := w.b.secs[id].Data
	if w.symOf == nil {
		return d
	}
	out := make([]byte, 0, len(d))
	for i := 0; i < len(d); {
		v, n := uleb32(d[i:])
		if n == 0 {
			w.fail(w.sec(id).At(uint64(i)), "not a ULEB128 number")
			return nil
		}
		switch x, ok := w.index(v); {
		case ok:
			out = binary.AppendUvarint(out, uint64(x)) // the same encoding
		case uint64(v) >= uint64(len(w.b.syms)):
			w.fail(w.sec(id).At(uint64(i)), "no symbol has the handle %d", v)
		}
		i += n
	}
	return out
}

// uleb32 decodes a ULEB128 number below 1<<32 and gives the bytes that it takes; 0 when there is none.
func uleb32(d []byte) (uint32, int) {
	v, n := binary.Uvarint(d)
	if n <= 0 || v > math.MaxUint32 {
		return 0, 0
	}
	return uint32(v), n
}

func (w *writer) write() {
	b, out := w.b, w.out
	copy(out, elf.ELFMAG)
	out[elf.EI_CLASS], out[elf.EI_DATA], out[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	out[elf.EI_OSABI], out[elf.EI_ABIVERSION] = byte(b.Header.OSABI), b.Header.ABIVersion
	le.PutUint16(out[16:], uint16(elf.ET_REL))
	le.PutUint16(out[18:], uint16(elf.EM_X86_64))
	le.PutUint32(out[20:], uint32(elf.EV_CURRENT))
	le.PutUint64(out[24:], b.Header.Entry)
	le.PutUint64(out[40:], w.shoff)
	le.PutUint32(out[48:], b.Header.Flags)
	le.PutUint16(out[52:], ehdrSize)
	le.PutUint16(out[58:], shdrSize)

	headers := out[w.shoff:]
	strIdx := uint32(0)
	if w.secstr != 0 {
		strIdx = w.idx[w.secstr]
	} else if last := &w.secs[len(w.secs)-1]; last.src == 0 && last.role == roleStrings && last.table == 1 {
		strIdx = uint32(len(w.secs) - 1)
	}
	symstrIdx := uint32(0)
	if w.symstr != 0 {
		symstrIdx = w.idx[w.symstr]
	} else {
		for i := len(w.secs) - 1; i > 0 && w.secs[i].src == 0; i-- {
			if w.secs[i].role == roleStrings && w.secs[i].table == 0 {
				symstrIdx = uint32(i)
			}
		}
	}
	// gABI, "ELF Header": numbers from SHN_LORESERVE on are in section 0.
	if n := len(w.secs); n < int(elf.SHN_LORESERVE) {
		le.PutUint16(out[60:], uint16(n))
	} else {
		le.PutUint64(headers[32:], uint64(n))
	}
	if strIdx < uint32(elf.SHN_LORESERVE) {
		le.PutUint16(out[62:], uint16(strIdx))
	} else {
		le.PutUint16(out[62:], uint16(elf.SHN_XINDEX))
		le.PutUint32(headers[40:], strIdx)
	}

	addrsig := 0
	for i := 1; i < len(w.secs) && !w.full(); i++ {
		o := &w.secs[i]
		s := &b.secs[o.src] // of what Bytes makes: the zero section
		typ, flags, align, entsize := s.Type, s.Flags, s.Addralign, s.Entsize
		link, info := w.idx[s.Link], s.Info
		if flags&elf.SHF_INFO_LINK != 0 {
			info = w.idxOf(s.Info)
		}
		var data []byte
		if o.role != roleEmpty {
			data = out[o.off : o.off+o.size : o.off+o.size]
		}
		fix := s.flags&recLoaded == 0 // fields that were not given get what the gABI wants
		switch o.role {
		case roleData:
			copy(data, s.Data)
		case roleSymtab:
			typ, link, info = elf.SHT_SYMTAB, symstrIdx, uint32(w.local)
			align, entsize = orFixed(fix, align, 8), orFixed(fix, entsize, symSize)
			w.writeSymbols(data)
		case roleShndx:
			typ, link = elf.SHT_SYMTAB_SHNDX, w.symtabIdx
			align, entsize = orFixed(fix, align, 4), orFixed(fix, entsize, 4)
		case roleStrings:
			typ, align = elf.SHT_STRTAB, orFixed(fix, align, 1)
			t := w.tableOf(o)
			copy(data[copy(data, t.base):], t.extra)
		case roleRela, roleRel:
			link, info = w.symtabIdx, w.idx[s.Info]
			align, entsize = orFixed(fix, align, 8), orFixed(fix, entsize, uint64(entSize(typ)))
			if fix {
				flags |= elf.SHF_INFO_LINK
			}
			w.writeRelocs(data, o.src, s)
		case roleGroup:
			link = w.symtabIdx
			align, entsize = orFixed(fix, align, 4), orFixed(fix, entsize, 4)
			info = w.writeGroup(data, o.src, s)
		case roleAddrsig:
			copy(data, w.addrsig[addrsig])
			addrsig++
		}
		h := headers[i*shdrSize : i*shdrSize+shdrSize : i*shdrSize+shdrSize]
		le.PutUint32(h, o.name)
		le.PutUint32(h[4:], uint32(typ))
		le.PutUint64(h[8:], uint64(flags))
		le.PutUint64(h[16:], s.Addr)
		le.PutUint64(h[24:], o.off)
		le.PutUint64(h[32:], o.size)
		le.PutUint32(h[40:], link)
		le.PutUint32(h[44:], info)
		le.PutUint64(h[48:], align)
		le.PutUint64(h[56:], entsize)
	}
}

func orFixed(fix bool, v, d uint64) uint64 {
	if fix && v == 0 {
		return d
	}
	return v
}

// idxOf gives the index of a section whose handle is in a 32-bit field.
func (w *writer) idxOf(id uint32) uint32 {
	if uint64(id) >= uint64(len(w.idx)) {
		return 0
	}
	return w.idx[id]
}

func (w *writer) writeSymbols(data []byte) {
	if len(data) == 0 {
		return
	}
	var ext []byte
	if w.shndxIdx != 0 {
		o := &w.secs[w.shndxIdx]
		ext = w.out[o.off : o.off+o.size]
	}
	for i := 1; i < w.nsym; i++ {
		s := &w.b.syms[w.handle(i)]
		e := data[i*symSize : i*symSize+symSize : i*symSize+symSize]
		le.PutUint32(e, w.symNames[i])
		e[4], e[5] = s.Info, s.Other
		shndx := uint16(s.Shndx)
		if s.Sec != 0 {
			if n := w.idx[s.Sec]; n < uint32(elf.SHN_LORESERVE) {
				shndx = uint16(n)
			} else {
				shndx = uint16(elf.SHN_XINDEX)
				le.PutUint32(ext[i*4:], n)
			}
		}
		le.PutUint16(e[6:], shndx)
		le.PutUint64(e[8:], s.Value)
		le.PutUint64(e[16:], s.Size)
	}
}

func (w *writer) writeRelocs(data []byte, id SecID, s *secRec) {
	size := entSize(s.Type)
	target := &w.b.secs[s.Info]
	limit := inflated(target.Flags, target.Data, w.secs[w.idx[s.Info]].size)
	copy(data, s.Data)
	n := len(s.Data) / size
	for j := 0; j < n && !w.full(); j++ {
		e := data[j*size : j*size+16 : j*size+16]
		sym := le.Uint32(e[12:])
		x, ok := w.index(sym)
		if off := le.Uint64(e); !ok || off > limit {
			w.badReloc(id, j*size, Reloc{Off: off, Sym: SymID(sym)}, ok, limit)
			continue
		}
		if x != sym {
			le.PutUint32(e[12:], x)
		}
	}
	if s.rel == 0 {
		return
	}
	rr := &w.b.rels[s.rel-1]
	pos := n * size
	for i := range rr.list {
		if w.full() {
			return
		}
		w.writeReloc(data[pos:], id, pos, size, limit, &rr.list[i])
		pos += size
	}
	for i := rr.head; i != 0 && !w.full(); i = w.b.arena[i-1].next {
		w.writeReloc(data[pos:], id, pos, size, limit, &w.b.arena[i-1].Reloc)
		pos += size
	}
}

func (w *writer) writeReloc(e []byte, id SecID, pos, size int, limit uint64, r *Reloc) {
	x, ok := w.index(uint32(r.Sym))
	if !ok || r.Off > limit {
		w.badReloc(id, pos, *r, ok, limit)
		return
	}
	if r.Sym == 0 && !w.b.AllowNull && r.Type != elf.R_X86_64_NONE {
		w.fail(w.sec(id).At(uint64(pos)), "the relocation at 0x%x is against no symbol", r.Off)
	}
	if r.Type < 0 || int64(r.Type) > math.MaxUint32 {
		w.fail(w.sec(id).At(uint64(pos)), "relocation type %d", r.Type)
	}
	le.PutUint64(e, r.Off)
	le.PutUint64(e[8:], uint64(x)<<32|uint64(uint32(r.Type)))
	if size == relaSize {
		le.PutUint64(e[16:], uint64(r.Addend))
	} else if r.Addend != 0 {
		w.fail(w.sec(id).At(uint64(pos)), "the relocation at 0x%x has the addend %d, for which SHT_REL has no room", r.Off, r.Addend)
	}
}

func (w *writer) badReloc(id SecID, pos int, r Reloc, ok bool, limit uint64) {
	at := w.sec(id).At(uint64(pos))
	if !ok {
		at.Symbol = w.sym(r.Sym).Symbol
		w.fail(at, "the relocation at 0x%x is against symbol handle %d, which no symbol of the object has", r.Off, r.Sym)
	} else {
		w.fail(at, "the relocation at 0x%x is outside %s, which has 0x%x bytes", r.Off, w.sec(SecID(w.b.secs[id].Info)).Section, limit)
	}
}

// writeGroup writes the members of a group and gives the index of its signature.
func (w *writer) writeGroup(data []byte, id SecID, s *secRec) uint32 {
	if len(s.Data) < 4 || len(s.Data)%4 != 0 {
		w.fail(w.sec(id), "a section group of 0x%x bytes", len(s.Data))
		return 0
	}
	sig, ok := w.index(s.Info)
	if !ok || s.Info == 0 && s.flags&recLoaded == 0 {
		w.fail(w.sec(id), "the group's signature is symbol handle %d, which no symbol of the object has", s.Info)
	}
	copy(data, s.Data[:4])
	for off := 4; off < len(s.Data); off += 4 {
		m := le.Uint32(s.Data[off:])
		x := w.idxOf(m)
		if x == 0 || SecID(m) == id {
			w.fail(w.sec(id).At(uint64(off)), "group member %d is not another section of the object", m)
			continue
		}
		if w.member == nil {
			w.member = make([]bool, len(w.b.secs))
		}
		if w.member[m] {
			w.fail(w.sec(id).At(uint64(off)), "section %s is a member of two groups, or twice of one", w.sec(SecID(m)).Section)
		}
		w.member[m] = true
		le.PutUint32(data[off:], x)
	}
	return sig
}
