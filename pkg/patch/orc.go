package patch

import (
	"cmp"
	"debug/elf"
	"slices"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/object"
)

// The two halves of the unwind table (Documentation/arch/x86/orc-unwinder.rst):
// addresses, relative to themselves, and what holds from there on.
const (
	orcIP     = ".orc_unwind_ip"
	orcUnwind = ".orc_unwind"
	ipSize    = 4
	orcSize   = 6
)

// orcEntry is entry i of the unwind table of the patched object.
type orcEntry struct {
	sec object.SecID
	pos uint64
	i   uint64
}

// unwind carries the unwind entries of included code: those within it, the one
// that holds at its start, and one at its end that says nothing is known from there
// on, so that what happens to lie behind it is not taken for it.
func (w *writer) unwind() {
	ip, un := w.named1(orcIP), w.named1(orcUnwind)
	row := w.pp.Patched.Rules.BesideOf(orcIP)
	if ip == 0 || un == 0 || row == nil || row.Emit[w.plan.opts.Format] != elfdiff.Carry {
		return
	}
	f, g := w.pp.Patched.File, w.pp.Patched
	table := f.Sections[un].Data
	var list []orcEntry
	rs := f.RelocsOf(ip)
	for i := range rs.Len() {
		r := rs.At(i)
		s := &f.Symbols[r.Sym]
		if r.Type != elf.R_X86_64_PC32 || r.Off%ipSize != 0 || r.Off >= f.Sections[ip].Size || s.Sec == 0 || (r.Off/ipSize+1)*orcSize > uint64(len(table)) {
			continue
		}
		list = append(list, orcEntry{s.Sec, s.Value + uint64(r.Addend), r.Off / ipSize})
	}
	slices.SortFunc(list, func(a, b orcEntry) int {
		return cmp.Or(cmp.Compare(a.sec, b.sec), cmp.Compare(a.pos, b.pos), cmp.Compare(a.i, b.i))
	})
	none := make([]byte, orcSize)
	add := func(sec int, pos uint64, data []byte) {
		a, b := &w.pp.sections[w.section(ip)], &w.pp.sections[w.section(un)]
		w.pp.relocs = append(w.pp.relocs, outReloc{sec: w.section(ip), off: a.size, typ: elf.R_X86_64_PC32, into: sec + 1, addend: int64(pos)})
		a.data, b.data = append(a.data, make([]byte, ipSize)...), append(b.data, data...)
		a.size, b.size = a.size+ipSize, b.size+orcSize
	}
	for k := 0; k < len(w.pp.atoms); {
		first := &g.Atoms[w.pp.atoms[k]]
		if !first.Kind.Code() || first.Flag&elfdiff.FlagBody != 0 {
			k++
			continue
		}
		start, end, moved := first.Off, first.Off+first.Size, w.moved(w.pp.atoms[k])
		for k++; k < len(w.pp.atoms); k++ { // what lies and stays together
			at := &g.Atoms[w.pp.atoms[k]]
			if at.Sec != first.Sec || at.Off != end || w.moved(w.pp.atoms[k]) != moved {
				break
			}
			end = at.Off + at.Size
		}
		lo, _ := slices.BinarySearchFunc(list, orcEntry{sec: first.Sec, pos: start + 1}, func(a, b orcEntry) int {
			return cmp.Or(cmp.Compare(a.sec, b.sec), cmp.Compare(a.pos, b.pos))
		})
		sec, said := w.section(first.Sec), false
		say := func(pos uint64, e *orcEntry) {
			d := table[e.i*orcSize : (e.i+1)*orcSize]
			said = said || !slices.Equal(d, none)
			if said {
				add(sec, pos+uint64(moved), d)
			}
		}
		if lo > 0 && list[lo-1].sec == first.Sec {
			say(start, &list[lo-1])
		}
		for ; lo < len(list) && list[lo].sec == first.Sec && list[lo].pos < end; lo++ {
			say(list[lo].pos, &list[lo])
		}
		if said {
			add(sec, end+uint64(moved), none)
		}
	}
}

// named1 gives the only section of a name; 0 when there is none, or more.
func (w *writer) named1(name string) object.SecID {
	if l := slices.Collect(w.pp.Patched.File.Named(name)); len(l) == 1 {
		return l[0]
	}
	return 0
}
