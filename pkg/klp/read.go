package klp

import (
	"debug/elf"
	"encoding/binary"
	"strings"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/internal/checked"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/reloc"
)

const maxProblems = 32 // diagnostics collected before a reader gives up

// problems collects diagnostics about one file.
type problems struct {
	file  string
	diags []diag.Diagnostic
}

func (p *problems) fail(code diag.Code, sec string, off uint64, format string, args ...any) {
	if !p.full() {
		p.diags = append(p.diags, diag.New(code, diag.Place{File: p.file, Section: sec}.At(off), format, args...))
	}
}

func (p *problems) full() bool { return len(p.diags) >= maxProblems }

func (p *problems) err() error { return diag.Refuse(p.diags) }

// reader reads tables whose pointers are relocations.
type reader struct {
	problems
	f       *object.File
	p       *Patch
	strings map[object.SecID]string // contents as one string, so that names in it take no memory
	byPlace map[place]object.SymID  // named symbols; made on demand
	objects map[string]int          // index into p.Objects
}

type place struct {
	sec object.SecID
	off uint64
}

func newReader(f *object.File) *reader {
	return &reader{problems: problems{file: f.Name}, f: f, p: &Patch{File: f},
		strings: map[object.SecID]string{}, objects: map[string]int{}}
}

// relocatable refuses files whose relocations the object reader does not give.
func (r *reader) relocatable() bool {
	if r.f.Header.Type != elf.ET_REL {
		r.fail(diag.KlpForm, "", 16, "the file type is %v, not ET_REL", r.f.Header.Type)
		return false
	}
	return true
}

func (r *reader) result() (*Patch, error) {
	if err := r.err(); err != nil {
		return nil, err
	}
	return r.p, nil
}

// ReadIntermediate reads upstream's intermediate form, from what was written as
// an object or from a module linked of several. Sections of the same name are read
// one after the other. A file without any of it gives an empty Patch. The error is
// a *diag.Error with the codes klp-form, klp-malformed, klp-name,
// reloc-unsupported, reloc-outside and reloc-nonzero.
func ReadIntermediate(f *object.File) (*Patch, error) {
	r := newReader(f)
	if r.relocatable() {
		r.upstream()
	}
	return r.result()
}

func (r *reader) upstream() {
	r.upstreamObjects()
	for i := range r.f.Sections {
		if obj, ok := strings.CutPrefix(r.f.Sections[i].Name, SecRelocs); ok && r.f.Sections[i].Type == elf.SHT_PROGBITS {
			r.upstreamRelocs(object.SecID(i), obj)
		}
	}
}

// upstreamObjects reads .init.klp_objects and the functions that its entries claim.
func (r *reader) upstreamObjects() {
	claimed := make(map[object.SecID][]bool) // by function entry
	for sec := range r.f.Named(SecFuncs) {
		if n, ok := r.entries(sec, funcSize); ok {
			claimed[sec] = make([]bool, n)
		}
	}
	for sec := range r.f.Named(SecObjects) {
		n, _ := r.entries(sec, objectSize)
		for i := 0; i < n && !r.full(); i++ {
			r.upstreamObject(sec, uint64(i)*objectSize, claimed)
		}
	}
	for sec := range r.f.Named(SecFuncs) {
		for i, ok := range claimed[sec] {
			if !ok {
				r.fail(diag.KlpMalformed, r.name(sec), uint64(i)*funcSize, "a function that no entry of %s claims", SecObjects)
				break
			}
		}
	}
}

func (r *reader) upstreamObject(sec object.SecID, at uint64, claimed map[object.SecID][]bool) {
	slots, ok := r.slots(sec, at, objectSize, 0, 8, 16, 24, 32, 40)
	if !ok {
		return
	}
	name := Vmlinux
	if slots[0] != nil {
		if name, ok = r.objectName(sec, slots[0]); !ok {
			return
		}
		if name == Vmlinux {
			r.fail(diag.KlpMalformed, r.name(sec), at, "the kernel itself has no name here, but this entry calls it %s", Vmlinux)
			return
		}
	}
	n := uint64(binary.LittleEndian.Uint32(r.f.Sections[sec].Data[at+56:]))
	o := r.object(name)
	for k := range numCallbacks {
		if rel := slots[2+k]; rel != nil {
			if fn, ok := r.function(sec, rel); ok {
				r.p.Callbacks = append(r.p.Callbacks, Callback{Object: name, Kind: k, Func: fn})
			}
		}
	}
	if slots[1] == nil {
		if n != 0 {
			r.fail(diag.KlpMalformed, r.name(sec), at+8, "%d functions, but no relocation says where they are", n)
		}
		return
	}
	fsec, off, ok := r.target(sec, slots[1])
	if !ok {
		return
	}
	list, isFuncs := claimed[fsec]
	if !isFuncs || off%funcSize != 0 || !checked.Within(off/funcSize, n, uint64(len(list))) {
		r.fail(diag.KlpMalformed, r.name(sec), at+8, "%d functions at %s+0x%x, which is not a part of %s that holds so many", n, r.name(fsec), off, SecFuncs)
		return
	}
	for i := off / funcSize; i < off/funcSize+n && !r.full(); i++ {
		if list[i] {
			r.fail(diag.KlpMalformed, r.name(fsec), i*funcSize, "a function that two entries of %s claim", SecObjects)
			return
		}
		list[i] = true
		fat := i * funcSize
		fs, ok := r.slots(fsec, fat, funcSize, 0, 8)
		if !ok {
			continue
		}
		if fs[0] == nil || fs[1] == nil {
			r.fail(diag.KlpMalformed, r.name(fsec), fat, "a function without name or replacement")
			continue
		}
		fname, ok1 := r.symbolName(fsec, fs[0])
		fn, ok2 := r.function(fsec, fs[1])
		if ok1 && ok2 {
			r.p.Objects[o].Funcs = append(r.p.Objects[o].Funcs, Func{Name: fname, Pos: binary.LittleEndian.Uint64(r.f.Sections[fsec].Data[fat+16:]), New: fn})
		}
	}
}

func (r *reader) upstreamRelocs(sec object.SecID, obj string) {
	if err := checkObject(obj); err != nil {
		r.fail(diag.KlpName, r.name(sec), 0, "%v", err)
		return
	}
	n, _ := r.entries(sec, relocSize)
	data := r.f.Sections[sec].Data
	for i := 0; i < n && !r.full(); i++ {
		at := uint64(i) * relocSize
		slots, ok := r.slots(sec, at, relocSize, 0, 8)
		if !ok {
			continue
		}
		if slots[0] == nil || slots[1] == nil {
			r.fail(diag.KlpMalformed, r.name(sec), at, "a relocation without place or symbol")
			continue
		}
		if pad := binary.LittleEndian.Uint32(data[at+20:]); pad != 0 {
			r.fail(diag.KlpMalformed, r.name(sec), at+20, "padding that holds 0x%x", pad)
			continue
		}
		tsec, off, ok := r.target(sec, slots[0])
		if !ok {
			continue
		}
		s := &r.f.Symbols[slots[1].Sym]
		sym, err := ParseSymbol(s.Name)
		if err != nil {
			r.fail(diag.KlpName, r.name(sec), at+8, "%v", err)
			continue
		}
		if s.Shndx != elf.SHN_UNDEF && s.Shndx != object.SHN_LIVEPATCH {
			r.fail(diag.KlpMalformed, r.name(sec), at+8, "the symbol %s is defined in the patch", quote(s.Name))
			continue
		}
		if sym.Type = s.Type(); !namable(sym.Type) {
			r.fail(diag.KlpMalformed, r.name(sec), at+8, "the symbol %s is of type %v", quote(s.Name), sym.Type)
			continue
		}
		rel := Reloc{Object: obj, Sec: tsec, Off: off, Type: elf.R_X86_64(binary.LittleEndian.Uint32(data[at+16:])), Addend: slots[1].Addend, Symbol: sym}
		if r.checkReloc(sec, at, &rel) {
			r.p.Relocs = append(r.p.Relocs, rel)
		}
	}
}

// ReadFinal reads the final form: the relocations of SHF_RELA_LIVEPATCH sections,
// and the functions from what is left of the intermediate tables. (Those in static
// tables: ReadStatic.) The error is as that of ReadIntermediate.
func ReadFinal(f *object.File) (*Patch, error) {
	r := newReader(f)
	if !r.relocatable() {
		return r.result()
	}
	r.upstreamObjects()
	r.kpatchObjects()
	for i := range f.Sections {
		s := &f.Sections[i]
		if s.Flags&object.SHF_RELA_LIVEPATCH == 0 {
			if strings.HasPrefix(s.Name, RelaPrefix) {
				r.fail(diag.KlpMalformed, s.Name, 0, "the flag SHF_RELA_LIVEPATCH is missing")
			}
			continue
		}
		r.finalRelocs(object.SecID(i))
	}
	return r.result()
}

func (r *reader) finalRelocs(sec object.SecID) {
	s := &r.f.Sections[sec]
	rest, ok := strings.CutPrefix(s.Name, RelaPrefix)
	obj, target, dot := strings.Cut(rest, ".")
	if !ok || !dot {
		r.fail(diag.KlpName, s.Name, 0, "the name is not of the form %sOBJECT.SECTION", RelaPrefix)
		return
	}
	if err := checkObject(obj); err != nil {
		r.fail(diag.KlpName, s.Name, 0, "%v", err)
		return
	}
	if s.Type != elf.SHT_RELA || !s.Alloc() {
		r.fail(diag.KlpMalformed, s.Name, 0, "type %v and flags %v, not SHT_RELA with SHF_ALLOC: the kernel would not keep it", s.Type, s.Flags)
		return
	}
	if t := r.f.Sections[s.Info].Name; t != target {
		r.fail(diag.KlpMalformed, s.Name, 0, "sh_info leads to %s", quote(t))
		return
	}
	rels := r.f.Relocs(sec)
	for i := 0; i < rels.Len() && !r.full(); i++ {
		e := rels.File(i)
		at := uint64(i) * 24
		es := &r.f.Symbols[e.Sym]
		if es.Shndx != object.SHN_LIVEPATCH {
			r.fail(diag.KlpMalformed, s.Name, at, "the symbol %s is not SHN_LIVEPATCH", quote(es.Name))
			continue
		}
		sym, err := ParseSymbol(es.Name)
		if err != nil {
			r.fail(diag.KlpName, s.Name, at, "%v", err)
			continue
		}
		if sym.Type = es.Type(); !namable(sym.Type) {
			r.fail(diag.KlpMalformed, s.Name, at, "the symbol %s is of type %v", quote(es.Name), sym.Type)
			continue
		}
		rel := Reloc{Object: obj, Sec: object.SecID(s.Info), Off: e.Off, Type: e.Type, Addend: e.Addend, Symbol: sym}
		if r.checkReloc(sec, at, &rel) {
			r.p.Relocs = append(r.p.Relocs, rel)
		}
	}
}

// checkReloc says whether the kernel can apply rel, which the entry at+off of table describes.
func (r *reader) checkReloc(table object.SecID, at uint64, rel *Reloc) bool {
	t := &r.f.Sections[rel.Sec]
	info, ok := reloc.Lookup(rel.Type)
	if !ok || !info.Module || info.Size == 0 {
		r.fail(diag.RelocUnsupported, r.name(table), at, "relocation type %v (%d) at %s+0x%x", rel.Type, uint32(rel.Type), t.Name, rel.Off)
		return false
	}
	if !t.Alloc() || structural(t.Type) {
		r.fail(diag.KlpMalformed, r.name(table), at, "a relocation into %s, which is not loaded", quote(t.Name))
		return false
	}
	size, n := uint64(info.Size), uint64(len(t.Data)) // no contents: no place
	if rel.Off > n || size > n-rel.Off {
		r.fail(diag.RelocOutside, r.name(table), at, "%d bytes at %s+0x%x, which has 0x%x bytes", size, t.Name, rel.Off, n)
		return false
	}
	for i, c := range t.Data[rel.Off : rel.Off+size] {
		if c != 0 {
			r.fail(diag.RelocNonzero, t.Name, rel.Off+uint64(i), "0x%02x under %v for %s", c, rel.Type, quote(rel.Symbol.Name))
			return false
		}
	}
	return true
}

// namable reports whether a symbol of type t can be one that the kernel looks up by name.
func namable(t elf.SymType) bool {
	return t <= elf.STT_HIOS && t != elf.STT_SECTION && t != elf.STT_FILE
}

// structural reports whether a section's contents are the object's own, not the program's.
func structural(t elf.SectionType) bool {
	switch t {
	case elf.SHT_NULL, elf.SHT_SYMTAB, elf.SHT_STRTAB, elf.SHT_RELA, elf.SHT_REL, elf.SHT_SYMTAB_SHNDX, elf.SHT_GROUP, object.SHT_LLVM_ADDRSIG:
		return true
	}
	return false
}

func (r *reader) name(sec object.SecID) string { return r.f.Sections[sec].Name }

// entries gives the number of entries of a table.
func (r *reader) entries(sec object.SecID, size uint64) (int, bool) {
	s := &r.f.Sections[sec]
	n := uint64(len(s.Data))
	if s.Type != elf.SHT_PROGBITS || s.Flags&elf.SHF_COMPRESSED != 0 || n%size != 0 {
		r.fail(diag.KlpMalformed, s.Name, 0, "type %v and 0x%x bytes, not entries of %d bytes each", s.Type, s.Size, size)
		return 0, false
	}
	return int(n / size), true
}

// slots gives the relocations of one table entry by the pointers that it has at
// offs; nil for a pointer that is null.
func (r *reader) slots(sec object.SecID, at, size uint64, offs ...uint64) (out [8]*object.Reloc, ok bool) {
	data := r.f.Sections[sec].Data
	rels := r.f.RelocsOf(sec)
	lo, hi := rels.Range(at, at+size)
	for i := lo; i < hi; i++ {
		e := rels.At(i)
		if e.Type == elf.R_X86_64_NONE {
			continue
		}
		k := 0
		for k < len(offs) && at+offs[k] != e.Off {
			k++
		}
		switch {
		case k == len(offs):
			r.fail(diag.KlpMalformed, r.name(sec), e.Off, "a relocation where the entry has no pointer")
			return out, false
		case e.Type != elf.R_X86_64_64:
			r.fail(diag.KlpMalformed, r.name(sec), e.Off, "a pointer with a relocation of type %v", e.Type)
			return out, false
		case out[k] != nil:
			r.fail(diag.KlpMalformed, r.name(sec), e.Off, "two relocations for one pointer")
			return out, false
		}
		out[k] = &e
	}
	for _, off := range offs {
		if binary.LittleEndian.Uint64(data[at+off:]) != 0 {
			r.fail(diag.RelocNonzero, r.name(sec), at+off, "a pointer whose bytes are not zero")
			return out, false
		}
	}
	return out, true
}

// target gives the place that a pointer leads to. It may be the end of a section.
func (r *reader) target(sec object.SecID, e *object.Reloc) (object.SecID, uint64, bool) {
	s := &r.f.Symbols[e.Sym]
	if s.Sec == 0 {
		r.fail(diag.KlpMalformed, r.name(sec), e.Off, "a pointer to %s, which is not defined here", quote(r.f.SymName(e.Sym)))
		return 0, 0, false
	}
	off := s.Value + uint64(e.Addend)
	if off > r.f.Sections[s.Sec].Size {
		r.fail(diag.KlpMalformed, r.name(sec), e.Off, "a pointer to %s+0x%x, which has 0x%x bytes", r.name(s.Sec), off, r.f.Sections[s.Sec].Size)
		return 0, 0, false
	}
	return s.Sec, off, true
}

// function gives the symbol of the function that a pointer leads to. The kernel
// finds the size of a function by its symbol, so there must be one.
func (r *reader) function(sec object.SecID, e *object.Reloc) (object.SymID, bool) {
	tsec, off, ok := r.target(sec, e)
	if !ok {
		return 0, false
	}
	if !r.f.Sections[tsec].Exec() {
		r.fail(diag.KlpMalformed, r.name(sec), e.Off, "a pointer to a function, but %s holds no code", quote(r.name(tsec)))
		return 0, false
	}
	if s := &r.f.Symbols[e.Sym]; e.Addend == 0 && s.Type() != elf.STT_SECTION && s.Name != "" {
		return e.Sym, true
	}
	if r.byPlace == nil {
		r.byPlace = make(map[place]object.SymID)
		for i := 1; i < len(r.f.Symbols); i++ {
			s := &r.f.Symbols[i]
			if s.Sec == 0 || s.Name == "" || s.Type() != elf.STT_FUNC {
				continue
			}
			if at := (place{s.Sec, s.Value}); r.byPlace[at] == 0 {
				r.byPlace[at] = object.SymID(i)
			}
		}
	}
	id := r.byPlace[place{tsec, off}]
	if id == 0 {
		r.fail(diag.KlpMalformed, r.name(sec), e.Off, "a pointer to %s+0x%x, where no function has its symbol", r.name(tsec), off)
	}
	return id, id != 0
}

// str gives the string that a pointer leads to.
func (r *reader) str(sec object.SecID, e *object.Reloc) (string, bool) {
	tsec, off, ok := r.target(sec, e)
	if !ok {
		return "", false
	}
	all, seen := r.strings[tsec]
	if !seen {
		if s := &r.f.Sections[tsec]; s.Flags&elf.SHF_COMPRESSED == 0 {
			all = string(s.Data)
		}
		r.strings[tsec] = all
	}
	if off < uint64(len(all)) {
		s := all[off:]
		if n := strings.IndexByte(s[:min(len(s), MaxSymbolName+1)], 0); n >= 0 {
			return s[:n], true
		}
	}
	r.fail(diag.KlpMalformed, r.name(sec), e.Off, "a pointer to %s+0x%x, where no string of at most %d bytes is", r.name(tsec), off, MaxSymbolName)
	return "", false
}

func (r *reader) objectName(sec object.SecID, e *object.Reloc) (string, bool) {
	return r.checked(sec, e, checkObject)
}

func (r *reader) symbolName(sec object.SecID, e *object.Reloc) (string, bool) {
	return r.checked(sec, e, checkName)
}

func (r *reader) checked(sec object.SecID, e *object.Reloc, check func(string) error) (string, bool) {
	s, ok := r.str(sec, e)
	if !ok {
		return "", false
	}
	if err := check(s); err != nil {
		r.fail(diag.KlpName, r.name(sec), e.Off, "%v", err)
		return "", false
	}
	return s, true
}

// object gives the index of the object called name.
func (r *reader) object(name string) int {
	i, ok := r.objects[name]
	if !ok {
		i = len(r.p.Objects)
		r.objects[name] = i
		r.p.Objects = append(r.p.Objects, Object{Name: name})
	}
	return i
}
