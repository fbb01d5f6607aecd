package klp

import (
	"debug/elf"

	"github.com/kdelta/kdelta/pkg/object"
)

// ReadSource reads the structures of a livepatch module that was written in C, as
// the kernel's samples are: the one piece of writable data that starts with the
// address of __this_module and goes on with a pointer is taken for the struct
// klp_patch. The result is as that of ReadStatic; a file in which there is no such
// thing, more than one, or one that contradicts itself, gives an empty Patch.
func ReadSource(f *object.File, l *Layout) (p *Patch, replace bool) {
	if l == nil {
		l = DefaultLayout()
	}
	empty := &Patch{File: f}
	r := newReader(f)
	if l.Check() != nil || !r.relocatable() {
		return empty, false
	}
	var found []place
	for i := range f.Sections {
		s := &f.Sections[i]
		if !s.Alloc() || s.Flags&elf.SHF_WRITE == 0 || s.Name == moduleSection {
			continue
		}
		sec := object.SecID(i)
		rels := f.RelocsOf(sec)
		for k := range rels.Len() {
			e := rels.At(k)
			if e.Type != elf.R_X86_64_64 || e.Addend != 0 || f.Symbols[e.Sym].Name != thisModule || e.Off < l.PatchMod {
				continue
			}
			at := e.Off - l.PatchMod
			if lo, hi := rels.Range(at+l.PatchObjs, at+l.PatchObjs+8); hi > lo && l.Patch <= uint64(len(s.Data)) && at <= uint64(len(s.Data))-l.Patch {
				found = append(found, place{sec, at})
			}
		}
	}
	if len(found) != 1 {
		return empty, false
	}
	replace = r.static(l, found[0].sec, found[0].off)
	p, err := r.result()
	if err != nil {
		return empty, false
	}
	return p, replace
}
