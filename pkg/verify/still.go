package verify

import (
	"bytes"
	"debug/elf"
	"slices"
	"strings"

	"github.com/kdelta/kdelta/pkg/object"
)

// still tells which functions of a pair cannot differ, because everything that a
// comparison of them would look at is byte for byte the same in both objects. It answers for
// objects with the same sections and symbols, such as two builds of a kernel that differ in the
// contents of a few functions; for others it knows nothing.
type still struct {
	dirty []bool // by section: contents or relocations differ, or it leads without a name to such a section
	bad   []bool // by symbol: of such a section; nil: there are none
	table bool   // one of them is a table
}

// sameSymbols reports whether two files have the same symbol table, byte for byte.
func sameSymbols(o, q *object.File) bool {
	if o.Symtab == 0 || o.Symtab != q.Symtab || len(o.Sections) != len(q.Sections) {
		return false
	}
	names := o.Sections[o.Symtab].Link
	for i := range o.Sections {
		a, b := &o.Sections[i], &q.Sections[i]
		if a.Type != b.Type {
			return false
		}
		part := object.SecID(i) == o.Symtab || uint32(i) == names || a.Type == elf.SHT_SYMTAB_SHNDX
		if part && (a.Link != b.Link || !bytes.Equal(a.Data, b.Data)) {
			return false
		}
	}
	return true
}

// stillOf compares the sections of a pair; nil when their sections or symbols are not the same.
func stillOf(pr *pair) *still {
	o, q := pr.o.f, pr.q.f
	if len(o.Sections) != len(q.Sections) || !pr.named {
		return nil
	}
	s := &still{dirty: make([]bool, len(o.Sections))}
	any := false
	for i := range o.Sections {
		a, b := &o.Sections[i], &q.Sections[i]
		if a.Name != b.Name || a.Type != b.Type || a.Flags != b.Flags || a.Entsize != b.Entsize || a.Size != b.Size {
			return nil
		}
		id := object.SecID(i)
		s.dirty[i] = !bytes.Equal(a.Data, b.Data) || !bytes.Equal(o.RelocsOf(id).Raw(), q.RelocsOf(id).Raw())
		any = any || s.dirty[i]
	}
	// What has no name of its own is looked into: tables, code that is patched in, data without symbols.
	again := any
	for round := 0; again && round < maxRounds; round++ {
		again = false
		s.mark(q)
		for i := range q.Sections {
			sec := &q.Sections[i]
			if s.dirty[i] || !looksInto(sec) {
				continue
			}
			if s.dirty[i] = s.leads(pr.q, object.SecID(i), 0, sec.Size); s.dirty[i] {
				again = true
			}
		}
	}
	if again { // a long chain: what might yet be reached counts as reached
		for i := range q.Sections {
			s.dirty[i] = s.dirty[i] || looksInto(&q.Sections[i])
		}
		s.mark(q)
	}
	for i := range s.dirty {
		if !s.dirty[i] {
			continue
		}
		if _, table := pr.q.row(object.SecID(i)); table {
			s.table = true
		}
	}
	return s
}

// maxRounds bounds how long a chain of references between sections is followed.
const maxRounds = 8

// looksInto reports whether a comparison of functions may look into a section that it is led to.
func looksInto(s *object.Section) bool {
	return s.Alloc() && (!s.Exec() || strings.HasPrefix(s.Name, ".altinstr") || s.Name == ".fixup")
}

// mark finds the symbols of sections that are not the same.
func (s *still) mark(f *object.File) {
	s.bad = slices.Grow(s.bad[:0], len(f.Symbols))[:len(f.Symbols)]
	for i := range f.Symbols {
		s.bad[i] = s.dirty[f.Symbols[i].Sec]
	}
}

// leads reports whether a stretch refers into a section that is not the same.
func (s *still) leads(v *view, sec object.SecID, lo, hi uint64) bool {
	if s.bad == nil {
		return false
	}
	rs := v.f.RelocsOf(sec)
	from, to := 0, rs.Len()
	if lo > 0 || hi < v.f.Sections[sec].Size {
		from, to = rs.Range(lo, hi)
	}
	for k := from; k < to; k++ {
		if s.bad[rs.Sym(k)] {
			return true
		}
	}
	return false
}

// same reports whether the function at a stretch of the patched object cannot differ from that of the original.
func (s *still) same(v *view, sec object.SecID, sp span) bool {
	if s == nil || s.dirty[sec] || s.leads(v, sec, sp.lo, sp.hi) {
		return false
	}
	if !s.table {
		return true
	}
	same := true
	v.sitesOf(sec, sp.lo, sp.hi, func(entries []sited) {
		for i := range entries {
			same = same && !s.dirty[entries[i].sec]
		}
	})
	return same
}
