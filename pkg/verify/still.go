package verify

import (
	"bytes"
	"strings"

	"github.com/kdelta/kdelta/pkg/object"
)

// still tells which functions of a pair cannot differ, because everything that a
// comparison of them would look at is byte for byte the same in both objects. It answers for
// objects with the same sections and symbols, such as two builds of a kernel that differ in the
// contents of a few functions; for others it knows nothing.
type still struct {
	dirty []bool // by section: contents or relocations differ, or it leads without a name to such a section
	table bool   // one of them is a table
}

// stillOf compares the sections of a pair; nil when their sections or symbols are not the same.
func stillOf(pr *pair) *still {
	o, q := pr.o.f, pr.q.f
	if len(o.Sections) != len(q.Sections) || len(o.Symbols) != len(q.Symbols) {
		return nil
	}
	for i := range o.Symbols {
		a, b := &o.Symbols[i], &q.Symbols[i]
		if a.Value != b.Value || a.Size != b.Size || a.Sec != b.Sec || a.Info != b.Info || a.Shndx != b.Shndx || a.Name != b.Name {
			return nil
		}
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
	for again := any; again; {
		again = false
		for i := range q.Sections {
			sec := &q.Sections[i]
			if s.dirty[i] || !sec.Alloc() || sec.Exec() && !strings.HasPrefix(sec.Name, ".altinstr") && sec.Name != ".fixup" {
				continue
			}
			if s.dirty[i] = s.leads(pr.q, object.SecID(i), 0, sec.Size); s.dirty[i] {
				again = true
			}
		}
	}
	for i := range s.dirty {
		if _, table := pr.q.row(object.SecID(i)); s.dirty[i] && table {
			s.table = true
		}
	}
	return s
}

// leads reports whether a stretch refers into a section that is not the same.
func (s *still) leads(v *view, sec object.SecID, lo, hi uint64) bool {
	rs := v.f.RelocsOf(sec)
	from, to := rs.Range(lo, hi)
	for k := from; k < to; k++ {
		if s.dirty[v.f.Symbols[rs.At(k).Sym].Sec] {
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
