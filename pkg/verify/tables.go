package verify

import (
	"cmp"
	"debug/elf"
	"slices"
	"sort"
	"strings"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/x86"
)

// column gives what a patch of this form does with the entries of a row.
func (p *prover) column(row *elfdiff.Table) elfdiff.Action {
	switch p.res.Format {
	case Kpatch:
		return row.Emit[elfdiff.FormatKpatch]
	case Final:
		return row.Emit[elfdiff.FormatModule]
	}
	return row.Emit[elfdiff.FormatKlp]
}

// tables checks that every table entry about a stretch of code travels with it, once.
func (p *prover) tables(it *item) {
	it.pr.q.sitesOf(it.q.sec, it.q.off, it.q.off+it.size, func(want []sited) { p.entriesAt(it, want) })
}

func (p *prover) entriesAt(it *item, want []sited) {
	name := want[0].table
	there := site{it.p.sec, it.p.off + want[0].at - it.q.off}
	got := p.p.entriesAt(name, there)
	act := p.column(want[0].row)
	if act == elfdiff.Constant || act == elfdiff.Drop && len(got) == 0 {
		return
	}
	if len(got) == 0 && p.res.Format == Final && slices.Contains(want[0].row.Emit[:], elfdiff.Drop) {
		// A module that was made from an intermediate form has what the build's tools make anew, if they were
		// run. Without these entries the kernel runs the same code, slower or untraced.
		p.count("optional table entries left out", len(want))
		return
	}
	if len(got) < len(want) {
		p.fail(diag.VerifyEntryMissing, there.sec, there.off, "%d of %d entries of %s are missing", len(want)-len(got), len(want), name)
		for i := range got {
			p.entries[site{got[i].sec, got[i].off}] = true
		}
		return
	}
	for i := range got {
		if i >= len(want) {
			p.fail(diag.VerifyEntryExtra, got[i].sec, got[i].off, "a further entry for %s, for which the patched object has %d", p.p.where(there.sec, int64(there.off)), len(want))
			p.entries[site{got[i].sec, got[i].off}] = true
			continue
		}
		e, w := &got[i], &want[i]
		p.entries[site{e.sec, e.off}] = true
		n := w.size(it.pr.q)
		if e.row.Entry != w.row.Entry {
			p.fail(diag.VerifyEntry, e.sec, e.off, "entries of %d bytes, %d in the patched object", e.row.Entry, w.row.Entry)
			continue
		}
		if m := e.size(p.p); m < n {
			n = m // the last entry may be cut
		}
		p.count("table entries", 1)
		p.bind(it.pr, site{w.sec, w.off}, site{e.sec, e.off}, n, itemEntry, w.row)
	}
}

// leftovers reports table entries of the patch that belong to no code that was proved.
func (p *prover) leftovers() {
	for _, name := range p.p.tableNames() {
		p.p.places(name, func(at site, entries []sited) {
			if glue(p.p.f.Sections[at.sec].Name) {
				return
			}
			for i, e := range entries {
				if name == "__mcount_loc" && p.res.Format != Intermediate && i == 0 && p.entrySite(at) {
					continue // these forms have the list made anew, from the code
				}
				if !p.entries[site{e.sec, e.off}] {
					p.fail(diag.VerifyEntryExtra, e.sec, e.off, "an entry for %s, for which the patched object has none", p.p.where(at.sec, int64(at.off)))
				}
			}
		})
	}
}

// maxEntry is how far into a function its call of ftrace may lie: behind ENDBR64 and a few moves.
const maxEntry = 16

// entrySite reports whether a place is at the entry of a function that the patch was found to copy.
func (p *prover) entrySite(at site) bool {
	sp := p.p.spanAt(at.sec, at.off)
	_, ok := p.from[site{at.sec, sp.lo}]
	return ok && sp.sym != 0 && at.off-sp.lo <= maxEntry
}

// own reports whether a section of the patch holds what was not copied from an object.
func own(name string) bool {
	switch {
	case strings.HasPrefix(name, ".init"), strings.HasPrefix(name, ".exit"), strings.HasPrefix(name, klp.SecRelocs), strings.HasPrefix(name, ".kpatch."),
		strings.HasPrefix(name, ".note"), strings.HasPrefix(name, "__version"), strings.HasPrefix(name, ".orc_"), strings.HasPrefix(name, ".gnu."):
		return true
	}
	return name == klp.SecStrings || name == ".modinfo"
}

// unaccounted reports loaded contents of the patch that nothing was found to need.
func (p *prover) unaccounted() {
	f := p.p.f
	for i := 1; i < len(f.Sections); i++ {
		s := &f.Sections[i]
		sec := object.SecID(i)
		if !s.Alloc() || s.Size == 0 || own(s.Name) || s.Type == elf.SHT_RELA {
			continue
		}
		if _, known := p.p.row(sec); known {
			continue // each entry was looked at
		}
		l := p.cover[sec]
		slices.SortFunc(l, func(a, b span) int { return cmp.Compare(a.lo, b.lo) })
		end := uint64(0)
		gap := func(to uint64) {
			if to <= end {
				return
			}
			d := p.p.data(sec, end, to)
			if (sameZero(d) || s.Exec() && x86.IsPadding(d)) && !p.symbolIn(sec, end, to) {
				return // alignment
			}
			p.fail(diag.VerifyUnaccounted, sec, end, "0x%x bytes that nothing of the patched objects needs", to-end)
		}
		for _, c := range l {
			gap(c.lo)
			end = max(end, c.hi)
		}
		gap(s.Size)
	}
}

func (p *prover) symbolIn(sec object.SecID, lo, hi uint64) bool {
	l := p.p.spansOf(sec)
	n := sort.Search(len(l), func(i int) bool { return l[i].hi > lo })
	return n < len(l) && l[n].lo < hi
}
