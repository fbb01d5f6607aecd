package symbols

import (
	"debug/elf"
	"fmt"
	"slices"
)

const (
	maxRivals   = 8  // candidate blocks that are compared in full
	maxVoters   = 64 // a name with more namesakes does not nominate
	enoughShare = 4  // at most a quarter of an object's names may be missing in its block
)

// likeness is how an object's block and one of the kernel's compare.
type likeness struct {
	block   int32
	common  int // names that both have
	missing int // only the object
	extra   int // only the kernel
	resized int // both, with another size
}

// distance weighs what differs. What the kernel's block has beyond the object's
// counts half: symbols of assembler files, which have no FILE symbol, are appended to the block before.
func (l likeness) distance() int { return 2*l.missing + l.extra + 2*l.resized }

func (l likeness) String() string {
	s := fmt.Sprintf("%d common local names, %d missing, %d more", l.common, l.missing, l.extra)
	if l.resized > 0 {
		s += fmt.Sprintf(", %d of another size", l.resized)
	}
	return s
}

// fileMatch is the fate of one block of the object.
type fileMatch struct {
	block    int32 // of the kernel, -1
	evidence string
	why      string
	rivals   []likeness
}

// telling reports whether a local symbol takes part in comparing blocks.
func telling(e *Entry) bool {
	t := elf.SymType(e.Type)
	return e.File >= 0 && (t == elf.STT_FUNC || t == elf.STT_OBJECT) && e.Flags&(EntryMeta|EntryUndefined|EntryDiscarded) == 0 && !discardable(e.Name)
}

// blockEntries gives the local symbols of a block, in their order.
func blockEntries(t *Table, b int32, out []int32) []int32 {
	for i := t.Blocks[b].First; i < t.Blocks[b].End; i++ {
		if e := &t.Entries[i]; e.File == b && e.Flags&(EntryMeta|EntryUndefined) == 0 {
			out = append(out, i)
		}
	}
	return out
}

// matchFiles finds the kernel's block of each of the object's, and from these the kernel's entry of each of their local symbols.
func matchFiles(ot *Table, x *index) (matches []fileMatch, to []int32) {
	to = make([]int32, len(ot.Entries))
	for i := range to {
		to[i] = -1
	}
	matches = make([]fileMatch, len(ot.Blocks))
	tellingIn := make([]int32, len(x.t.Blocks))
	for i := range x.t.Entries {
		if e := &x.t.Entries[i]; telling(e) {
			tellingIn[e.File]++
		}
	}
	var m matcher
	for b := range ot.Blocks {
		matches[b] = m.match(ot, int32(b), x, tellingIn)
	}
	inOrder(matches, x)
	// One block of the kernel is one object's.
	owner := make(map[int32]int, len(matches))
	for b := range matches {
		k := matches[b].block
		if k < 0 {
			continue
		}
		if other, taken := owner[k]; taken {
			why := fmt.Sprintf("two files called %s of the object match the same one of %s", ot.Blocks[b].Name, x.t.Name)
			matches[b] = fileMatch{block: -1, why: why, rivals: matches[b].rivals}
			matches[other] = fileMatch{block: -1, why: why, rivals: matches[other].rivals}
			continue
		}
		owner[k] = b
	}
	var own, theirs []int32
	for b := range matches {
		if k := matches[b].block; k >= 0 {
			own, theirs = blockEntries(ot, int32(b), own[:0]), blockEntries(x.t, k, theirs[:0])
			pairUp(ot, own, x.t, theirs, to)
		}
	}
	return matches, to
}

// pairUp gives each of the object's symbols the kernel's of the same name. Several of one
// name are paired in their order, which linking keeps, if they are as many and have the same sizes.
func pairUp(ot *Table, own []int32, kt *Table, theirs, to []int32) {
	byName := make(map[string][]int32, len(theirs))
	for _, i := range theirs {
		byName[kt.Entries[i].Name] = append(byName[kt.Entries[i].Name], i)
	}
	mine := make(map[string][]int32, len(own))
	for _, i := range own {
		if e := &ot.Entries[i]; e.Flags&EntryDiscarded == 0 {
			mine[e.Name] = append(mine[e.Name], i)
		}
	}
	for name, is := range mine {
		ks := byName[name]
		if len(ks) != len(is) {
			continue
		}
		same := true
		for n := range is {
			a, b := &ot.Entries[is[n]], &kt.Entries[ks[n]]
			same = same && a.Type == b.Type && (len(is) == 1 || a.Size == b.Size)
		}
		if same {
			for n := range is {
				to[is[n]] = ks[n]
			}
		}
	}
}

type matcher struct {
	votes map[int32]int
	names map[string]int32 // name to the object's entry, -1 when several
	count map[string]int
	own   []int32
	their []int32
}

func (m *matcher) match(ot *Table, b int32, x *index, tellingIn []int32) fileMatch {
	name := baseName(ot.Blocks[b].Name)
	all := x.blocks[name]
	switch {
	case name == "":
		return fileMatch{block: -1, why: "its symbols belong to no source file"}
	case len(all) == 0:
		return fileMatch{block: -1, why: fmt.Sprintf("%s has no file %s", x.t.Name, name)}
	}
	m.own = blockEntries(ot, b, m.own[:0])
	clear(m.count)
	clear(m.names)
	if m.count == nil {
		m.count, m.names, m.votes = map[string]int{}, map[string]int32{}, map[int32]int{}
	}
	total := 0
	for _, i := range m.own {
		if e := &ot.Entries[i]; telling(e) {
			total++
			m.count[e.Name]++
			if m.count[e.Name] == 1 {
				m.names[e.Name] = i
			} else {
				m.names[e.Name] = -1
			}
		}
	}
	if total == 0 {
		return fileMatch{block: -1, why: "its file has no local function or variable that could tell it from others"}
	}
	rivals := all
	if len(all) > maxRivals {
		rivals = m.nominate(all, x)
	}
	var ls []likeness
	for _, k := range rivals {
		// A block that cannot have enough in common, or far more than the object, is not read.
		if n := int(tellingIn[k]); n*enoughShare < total*(enoughShare-1)-enoughShare || n > 4*total+256 {
			continue
		}
		ls = append(ls, m.compare(ot, x.t, k, total))
	}
	slices.SortStableFunc(ls, func(a, b likeness) int { return a.distance() - b.distance() })
	return decide(ls, name, len(all), x.t.Name)
}

// nominate chooses among many files of one name those with most of the object's names.
func (m *matcher) nominate(all []int32, x *index) []int32 {
	clear(m.votes)
	name := baseName(x.t.Blocks[all[0]].Name)
	for n := range m.count {
		g, ok := x.names[n]
		if !ok || x.count[g] > maxVoters {
			continue
		}
		for _, k := range x.members(g) {
			if b := x.entry(k).File; b >= 0 && baseName(x.t.Blocks[b].Name) == name {
				m.votes[b]++
			}
		}
	}
	out := make([]int32, 0, len(m.votes))
	for b := range m.votes {
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b int32) int {
		if m.votes[a] != m.votes[b] {
			return m.votes[b] - m.votes[a]
		}
		return int(a - b)
	})
	return out[:min(len(out), maxRivals)]
}

func (m *matcher) compare(ot, kt *Table, k int32, total int) likeness {
	l := likeness{block: k}
	m.their = blockEntries(kt, k, m.their[:0])
	left := make(map[string]int, len(m.count))
	for _, i := range m.their {
		e := &kt.Entries[i]
		if !telling(e) {
			continue
		}
		seen, ok := left[e.Name]
		if !ok {
			seen = m.count[e.Name]
		}
		if seen == 0 {
			l.extra++
			continue
		}
		left[e.Name] = seen - 1
		o := m.names[e.Name]
		switch {
		case o < 0:
			l.common++
		case ot.Entries[o].Type != e.Type:
			l.extra++
		case ot.Entries[o].Size != e.Size && ot.Entries[o].Size != 0 && e.Size != 0:
			l.common++
			l.resized++
		default:
			l.common++
		}
	}
	l.missing = total - l.common
	return l
}

// decide takes the best block when it is good, and better than the second by a margin: exact where the other is
// not, or at half its distance.
func decide(ls []likeness, name string, files int, source string) fileMatch {
	if len(ls) == 0 {
		return fileMatch{block: -1, why: fmt.Sprintf("none of %d files called %s of %s has enough of its local symbols", files, name, source)}
	}
	best := ls[0]
	if best.common == 0 || best.missing*enoughShare > best.common+best.missing || best.resized*2 > best.common {
		return fileMatch{block: -1, rivals: ls, why: fmt.Sprintf("the nearest of %d files called %s of %s is too different (%v)", files, name, source, best)}
	}
	if len(ls) > 1 {
		d, next := best.distance(), ls[1].distance()
		if next == d {
			return fileMatch{block: -1, rivals: ls, why: fmt.Sprintf("%d files called %s of %s match equally well (%v)", ties(ls), name, source, best)}
		}
		if d > 0 && next < 2*d+2 {
			return fileMatch{block: -1, rivals: ls, why: fmt.Sprintf("two files called %s of %s match nearly as well (%v; %v)", name, source, best, ls[1])}
		}
	}
	m := fileMatch{block: best.block, rivals: ls, evidence: fmt.Sprintf("file %s (%v)", name, best)}
	if len(ls) > 1 {
		m.evidence = fmt.Sprintf("file %s (%v; next: %v)", name, best, ls[1])
	}
	return m
}

func ties(ls []likeness) int {
	n := 0
	for n < len(ls) && ls[n].distance() == ls[0].distance() {
		n++
	}
	return n
}

// inOrder settles ties of an object with several files: linking keeps the order of files, so a file lies between the
// neighbours that are known, if the known ones are in order at all.
func inOrder(ms []fileMatch, x *index) {
	prev := int32(-1)
	for b := range ms {
		if k := ms[b].block; k >= 0 {
			if k <= prev {
				return
			}
			prev = k
		}
	}
	lo := int32(-1)
	for b := 0; b < len(ms); b++ {
		if ms[b].block >= 0 {
			lo = ms[b].block
			continue
		}
		if len(ms[b].rivals) < 2 {
			continue
		}
		hi := int32(len(x.t.Blocks))
		for c := b + 1; c < len(ms); c++ {
			if ms[c].block >= 0 {
				hi = ms[c].block
				break
			}
		}
		best, n := likeness{block: -1}, 0
		for _, l := range ms[b].rivals {
			if l.block > lo && l.block < hi {
				best = l
				n++
			}
		}
		if n == 1 && best.distance() == ms[b].rivals[0].distance() && best.missing*enoughShare <= best.common {
			ms[b].evidence = fmt.Sprintf("file %s (%v), the only one of its like between the files before and after", x.t.Blocks[best.block].Name, best)
			ms[b].block, ms[b].why = best.block, ""
			lo = best.block
		}
	}
}
