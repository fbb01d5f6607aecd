package symbols

import (
	"debug/elf"
	"fmt"

	"github.com/kdelta/kdelta/pkg/object"
)

// layout is where the sections of an object lie in a table that has addresses.
//
// A section moves as a whole, so one symbol that is unique in both gives the place of
// all others in it. Of objects that were built with a section for each function or
// variable, the sections of a region follow each other as the parts of the whole
// would: from a section that is placed, its neighbour's place follows by size and
// alignment, and is taken when the neighbour's names are found exactly there.
type layout struct {
	to   []int32 // by the object's entry: place in the table's order, -1
	from []int32 // by section: the entry that placed it or its neighbour, 0 when it is not placed
	base []uint64
}

// findLayout places the sections of an object.
func findLayout(f *object.File, ot *Table, x *index) *layout {
	l := &layout{to: make([]int32, len(ot.Entries)), from: make([]int32, len(f.Sections)), base: make([]uint64, len(f.Sections))}
	for i := range l.to {
		l.to[i] = -1
	}
	if !x.addrs || x.module || !x.rising || x.t.Order == Unordered || f.Header.Type != elf.ET_REL {
		return l
	}
	// Members of each section, in one flat list.
	first := make([]int32, len(f.Sections)+1)
	member := func(e *Entry) bool {
		return e.Sec != 0 && int(e.Sec) < len(f.Sections) && e.Flags&(EntryMeta|EntryUndefined|EntryDiscarded) == 0 && e.Name != "" && f.Sections[e.Sec].Alloc()
	}
	for i := range ot.Entries {
		if e := &ot.Entries[i]; member(e) {
			first[e.Sec+1]++
		}
	}
	for s := range f.Sections {
		first[s+1] += first[s]
	}
	members := make([]int32, first[len(f.Sections)])
	fill := append([]int32(nil), first...)
	count := make(map[string]int32, len(ot.Entries))
	for i := range ot.Entries {
		if e := &ot.Entries[i]; member(e) {
			members[fill[e.Sec]] = int32(i)
			fill[e.Sec]++
			count[e.Name]++
		}
	}
	// Unique symbols vote for their sections.
	contradicted := make([]bool, len(f.Sections))
	for _, i := range members {
		e := &ot.Entries[i]
		g, ok := x.names[e.Name]
		if !ok || x.count[g] != 1 || count[e.Name] != 1 || elf.SymBind(e.Bind) == elf.STB_WEAK {
			continue
		}
		k := x.entry(x.members(g)[0])
		if !alike(e, k) || k.Addr < e.Addr {
			continue
		}
		base := k.Addr - e.Addr
		if l.from[e.Sec] != 0 && l.base[e.Sec] != base {
			contradicted[e.Sec] = true
		}
		l.from[e.Sec], l.base[e.Sec] = i, base
	}
	for s, bad := range contradicted {
		if bad {
			l.from[s] = 0
		}
	}
	// Neighbours, per region in the order of the file.
	regions := make(map[string][]int32)
	var names []string
	for s := 1; s < len(f.Sections); s++ {
		sec := &f.Sections[s]
		if !sec.Alloc() || sec.Flags&elf.SHF_MERGE != 0 || sec.Type != elf.SHT_PROGBITS && sec.Type != elf.SHT_NOBITS || sec.Size == 0 && first[s] == first[s+1] {
			continue
		}
		r := region(sec.Name)
		if regions[r] == nil {
			names = append(names, r)
		}
		regions[r] = append(regions[r], int32(s))
	}
	for _, r := range names {
		seq := regions[r]
		for i := 1; i < len(seq); i++ {
			a, b := seq[i-1], seq[i]
			if l.from[a] == 0 || l.from[b] != 0 || contradicted[b] {
				continue
			}
			base := alignUp(l.base[a]+f.Sections[a].Size, f.Sections[b].Addralign)
			if l.there(ot, x, members[first[b]:first[b+1]], base) {
				l.from[b], l.base[b] = l.from[a], base
			}
		}
		for i := len(seq) - 2; i >= 0; i-- {
			a, b := seq[i], seq[i+1]
			if l.from[b] == 0 || l.from[a] != 0 || contradicted[a] {
				continue
			}
			if base, ok := l.before(f, ot, x, a, b, members[first[a]:first[a+1]]); ok {
				l.from[a], l.base[a] = l.from[b], base
			}
		}
	}
	for _, i := range members {
		e := &ot.Entries[i]
		if l.from[e.Sec] == 0 {
			continue
		}
		if k := x.find(e.Name, l.base[e.Sec]+e.Addr); k >= 0 && alike(e, x.entry(k)) && fits(e, x, k) {
			l.to[i] = k
		}
	}
	return l
}

// there reports whether the table has every symbol of a section that would lie at base, and there is one.
func (l *layout) there(ot *Table, x *index, members []int32, base uint64) bool {
	n := 0
	for _, i := range members {
		e := &ot.Entries[i]
		if discardable(e.Name) || kallsymsHides(e) || elf.SymBind(e.Bind) == elf.STB_WEAK {
			continue
		}
		k := x.find(e.Name, base+e.Addr)
		if k < 0 || !alike(e, x.entry(k)) || !fits(e, x, k) {
			return false
		}
		n++
	}
	return n > 0
}

// before finds the base of section a from that of its successor b: the one place from which b would follow.
func (l *layout) before(f *object.File, ot *Table, x *index, a, b int32, members []int32) (base uint64, ok bool) {
	sa, sb := &f.Sections[a], &f.Sections[b]
	for _, i := range members {
		e := &ot.Entries[i]
		g, has := x.names[e.Name]
		if !has || discardable(e.Name) {
			continue
		}
		// It ends at most sb's alignment before sb.
		low := l.base[b] - min(l.base[b], sa.Size+max(sb.Addralign, 1))
		for _, k := range x.from(g, low+e.Addr) {
			addr := x.entry(k).Addr
			if addr < e.Addr || addr-e.Addr > l.base[b] {
				break
			}
			at := addr - e.Addr
			if alignUp(at, sa.Addralign) != at || alignUp(at+sa.Size, sb.Addralign) != l.base[b] || ok && at == base {
				continue
			}
			if !l.there(ot, x, members, at) {
				continue
			}
			if ok {
				return 0, false
			}
			base, ok = at, true
		}
		return base, ok
	}
	return 0, false
}

func alignUp(v, align uint64) uint64 {
	if align < 2 || align&(align-1) != 0 {
		return v
	}
	return (v + align - 1) &^ (align - 1)
}

func (l *layout) evidence(ot *Table, i int32) string {
	a := &ot.Entries[l.from[ot.Entries[i].Sec]]
	if a.Sec == ot.Entries[i].Sec {
		return fmt.Sprintf("it lies where %s, which is unique and in the same section, puts it", a.Name)
	}
	return fmt.Sprintf("it lies where its section follows from that of %s, which is unique, by sizes and alignments", a.Name)
}
