package elfdiff

import (
	"bytes"
	"debug/elf"
	"slices"

	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/symbols"
)

// Most of two builds of one object is the same. Settling finds that part first,
// with memory compares and almost without decoding, so that the rest of the
// comparison looks only at what may differ.
//
// The argument is the one of the comparison itself. Take as a hypothesis that
// sections with symbols of the same exact names correspond, and that atoms at the
// same place in them do. A pair of atoms contradicts the hypothesis when its
// bytes, its symbols or its relocations differ under it. It also falls with an atom
// that it depends on: one that it refers to by position, by a name that holds a
// number, or into the middle of code. A section symbol plus addend means the same
// thing on both sides as long as what may lie there stands, whatever the distance to
// the end of the instruction. What stands in the end is a set of pairs that agree
// with one another in everything, which is a proof. References to plain names make
// no dependency, here as there.
//
// Names with numbers (static locals) need care: equal numbers are a coincidence
// when anything around them changed. So an atom that falls takes with it every
// numbered thing that it refers to, on either side, and these take their users:
// what is left has the same users in both builds. The rest is paired by content
// and users like any other family.
//
// Operands that the assembler resolved need no look while everything in their
// section stands: equal displacements between equal layouts. Once something in a
// section of several pieces of code falls, the others are decoded, and depend on
// what they lead into the middle of.
type settling struct {
	c      *correlation
	a, b   *Graph
	pair   []object.SecID // by SecID of a: the section of b that corresponds
	back   []object.SecID // by SecID of b
	layout []bool         // by SecID of a: it and its pair are cut alike
	fallen []bool         // by AtomID of a
	flags  [2][]uint8     // by SymID: what the name is, see nameFlags
	state  [2][]bool      // by AtomID: numbered things that have an identity
	deps   []atomDep
	byTo   []int32 // by AtomID of a: 1 + index of the first dependency on it
	work   []AtomID
	opened []bool // by SecID of a: its code was decoded for resolved operands
	edges  []Edge
}

type atomDep struct {
	from AtomID
	next int32 // 1 + index of the next dependency on the same atom
}

const (
	nameKnown    = 1 << iota // the flags were looked up
	nameNumbered             // the name holds a number that compilers give out anew
	nameState                // and stands for something with an identity
)

// nameFlags says what a symbol's name is worth as evidence.
func (s *settling) nameFlags(side int, id object.SymID) uint8 {
	f := &s.flags[side][id]
	if *f == 0 {
		*f = nameKnown
		fl := symbols.Parse(s.side(side).File.Symbols[id].Name).Flags
		if fl.Any(numbered | symbols.Label) {
			*f |= nameNumbered
			if !fl.Any(symbols.Content | symbols.Label) {
				*f |= nameState
			}
		}
	}
	return *f
}

func (s *settling) side(n int) *Graph {
	if n == 0 {
		return s.a
	}
	return s.b
}

// settle pairs the atoms that are proved equal so, and notes them in c.proved.
func (c *correlation) settle() {
	na, nb := len(c.a.File.Sections), len(c.b.File.Sections)
	s := &settling{c: c, a: c.a, b: c.b, pair: make([]object.SecID, na), back: make([]object.SecID, nb), layout: make([]bool, na), opened: make([]bool, na),
		fallen: make([]bool, len(c.a.Atoms)), byTo: make([]int32, len(c.a.Atoms))}
	for i := range s.flags {
		g := s.side(i)
		s.flags[i] = make([]uint8, max(1, len(g.File.Symbols)))
		s.state[i] = make([]bool, len(g.Atoms))
		for _, l := range g.labels {
			if s.nameFlags(i, l)&nameState != 0 {
				s.state[i][g.symAtom[l]] = true
			}
		}
	}
	s.pairSections()
	for sec := 1; sec < na; sec++ {
		if id := object.SecID(sec); c.a.compared(id) {
			s.layout[sec] = s.pair[sec] != 0 && s.sameLayout(id, s.pair[sec])
		}
	}
	for sec := 1; sec < na; sec++ {
		if id := object.SecID(sec); c.a.compared(id) {
			s.section(id)
		}
	}
	for sec := 1; sec < nb; sec++ {
		if id := object.SecID(sec); c.b.compared(id) && (s.back[sec] == 0 || !s.layout[s.back[sec]]) {
			lo, hi := c.b.atomsOf(id)
			for y := lo; y < hi; y++ {
				s.touch(1, y)
			}
		}
	}
	for len(s.work) > 0 {
		x := s.work[len(s.work)-1]
		s.work = s.work[:len(s.work)-1]
		for d := s.byTo[x]; d != 0; d = s.deps[d-1].next {
			s.fall(s.deps[d-1].from)
		}
		s.touch(0, x)
		sec := s.a.Atoms[x].Sec
		if s.layout[sec] {
			s.touch(1, s.other(x))
		}
		if s.a.multi[sec] && s.layout[sec] && !s.opened[sec] {
			s.open(sec)
		}
	}
	c.proved = make([]bool, len(s.a.Atoms))
	for sec := range s.layout {
		if !s.layout[sec] {
			continue
		}
		lo, hi := s.a.atomsOf(object.SecID(sec))
		for x := lo; x < hi; x++ {
			y := s.other(x)
			if s.fallen[x] || c.ab[x] != 0 && c.ab[x] != y || c.ba[y] != 0 && c.ba[y] != x {
				continue // or the caller pinned otherwise
			}
			c.ab[x], c.ba[y], c.proved[x] = y, x, true
			if c.conf[x] == 0 {
				c.conf[x] = ConfName
			}
		}
	}
}

// other gives the atom of b at the same place, in sections that are cut alike.
func (s *settling) other(x AtomID) AtomID {
	sec := s.a.Atoms[x].Sec
	return s.b.first[s.pair[sec]] + (x - s.a.first[sec])
}

// compared reports whether a section has atoms that take part in the comparison.
func (g *Graph) compared(sec object.SecID) bool {
	return g.first[sec] != g.first[sec+1] && g.excluded[sec] == ""
}

func (s *settling) fall(x AtomID) {
	if !s.fallen[x] {
		s.fallen[x] = true
		s.work = append(s.work, x)
	}
}

func (s *settling) depend(from, on AtomID) {
	if from == on {
		return
	}
	if s.fallen[on] {
		s.fall(from)
		return
	}
	if d := s.byTo[on]; d != 0 && s.deps[d-1].from == from {
		return
	}
	s.deps = append(s.deps, atomDep{from: from, next: s.byTo[on]})
	s.byTo[on] = int32(len(s.deps))
}

// pairSections makes the hypothesis: sections correspond whose first named
// symbols do; sections without such symbols by name, where that is unique.
func (s *settling) pairSections() {
	fa, fb := s.a.File, s.b.File
	var byName map[string]object.SecID
	for sec := 1; sec < len(fa.Sections); sec++ {
		id := object.SecID(sec)
		if !s.a.compared(id) {
			continue
		}
		t := object.SecID(0)
		for _, l := range s.a.labels[s.a.labelLo[sec]:s.a.labelLo[sec+1]] {
			if m := s.c.symAB[l]; m != 0 && fa.Symbols[l].Type() != elf.STT_NOTYPE {
				t = fb.Symbols[m].Sec
				break
			}
		}
		if t == 0 {
			if byName == nil {
				byName = s.byName()
			}
			t = byName[fa.Sections[sec].Name]
		}
		if t != 0 && s.back[t] == 0 && s.b.compared(t) {
			s.pair[sec], s.back[t] = t, id
		}
	}
}

// byName gives the sections of b whose names are unique on both sides.
func (s *settling) byName() map[string]object.SecID {
	m := make(map[string]object.SecID, len(s.back))
	for sec := 1; sec < len(s.back); sec++ {
		if id := object.SecID(sec); s.b.compared(id) {
			n := s.b.File.Sections[sec].Name
			if _, ok := m[n]; ok {
				id = 0
			}
			m[n] = id
		}
	}
	seen := make(map[string]bool, len(s.pair))
	for sec := 1; sec < len(s.pair); sec++ {
		if s.a.compared(object.SecID(sec)) {
			n := s.a.File.Sections[sec].Name
			if seen[n] {
				m[n] = 0
			}
			seen[n] = true
		}
	}
	return m
}

// sameLayout reports whether two sections are of one kind and cut alike.
func (s *settling) sameLayout(id, t object.SecID) bool {
	x, y := &s.a.File.Sections[id], &s.b.File.Sections[t]
	if x.Type != y.Type || x.Flags != y.Flags || x.Size != y.Size || x.Addralign != y.Addralign || x.Entsize != y.Entsize || x.Group != 0 || y.Group != 0 ||
		s.a.rows[id] != s.b.rows[t] || x.Name != y.Name && symbols.Key(x.Name) != symbols.Key(y.Name) {
		return false
	}
	lx, hx := s.a.atomsOf(id)
	ly, hy := s.b.atomsOf(t)
	if hx-lx != hy-ly {
		return false
	}
	for i := range hx - lx {
		p, q := &s.a.Atoms[lx+i], &s.b.Atoms[ly+i]
		if p.Off != q.Off || p.Size != q.Size || p.Kind != q.Kind {
			return false
		}
	}
	return true
}

// section lets the atoms of a section fall that contradict the hypothesis.
func (s *settling) section(id object.SecID) {
	lo, hi := s.a.atomsOf(id)
	if !s.layout[id] {
		for x := lo; x < hi; x++ {
			s.fall(x)
		}
		return
	}
	t := s.pair[id]
	equal := bytes.Equal(s.a.File.Sections[id].Data, s.b.File.Sections[t].Data)
	labels := s.sameLabels(s.a.labels[s.a.labelLo[id]:s.a.labelLo[id+1]], s.b.labels[s.b.labelLo[t]:s.b.labelLo[t+1]], t)
	rx, ry := s.a.File.RelocsOf(id), s.b.File.RelocsOf(t)
	if equal && labels && rx.Len() == 0 && ry.Len() == 0 && lo+1 != hi {
		for x := lo; x < hi; x++ {
			if s.a.Atoms[x].Flag != s.b.Atoms[s.other(x)].Flag {
				s.fall(x)
			}
		}
		return
	}
	i, j := 0, 0
	for x := lo; x < hi; x++ {
		y := s.other(x)
		ax, ay := &s.a.Atoms[x], &s.b.Atoms[y]
		ei, ej := rx.Len(), ry.Len()
		if x+1 < hi {
			for ei = i; ei < rx.Len() && rx.Off(ei) < ax.Off+ax.Size; ei++ {
			}
			for ej = j; ej < ry.Len() && ry.Off(ej) < ay.Off+ay.Size; ej++ {
			}
		}
		ok := ax.Flag == ay.Flag && ei-i == ej-j && (equal || bytes.Equal(s.a.Bytes(x), s.b.Bytes(y))) &&
			(labels || s.sameLabels(s.a.labelsAt(x), s.b.labelsAt(y), t))
		for k := 0; ok && k < ei-i; k++ {
			p, q := rx.At(i+k), ry.At(j+k)
			ok = p.Off == q.Off && p.Type == q.Type && p.Addend == q.Addend && s.sameTarget(x, ax, &p, &q)
		}
		if !ok {
			s.fall(x)
		}
		i, j = ei, ej
	}
}

// sameLabels reports whether two lists of symbols, those of section t of b and of
// its pair or of parts of them, have the same symbols at the same places.
func (s *settling) sameLabels(lx, ly []object.SymID, t object.SecID) bool {
	if len(lx) != len(ly) {
		return false
	}
	for i, l := range lx {
		x := &s.a.File.Symbols[l]
		if m := s.c.symAB[l]; m != 0 {
			if y := &s.b.File.Symbols[m]; y.Sec != t || !sameLabel(x, y) {
				return false
			}
			continue
		}
		// A name that its scope has more than once (objtool puts all __pfx_ symbols behind the last source file):
		// here it is enough that the other section has it at the same place.
		if sameLabel(x, &s.b.File.Symbols[ly[i]]) {
			continue
		}
		if !slices.ContainsFunc(ly[max(0, i-8):min(len(ly), i+8)], func(m object.SymID) bool { return sameLabel(x, &s.b.File.Symbols[m]) }) {
			return false
		}
	}
	return true
}

func sameLabel(x, y *object.Symbol) bool {
	return x.Value == y.Value && x.Size == y.Size && x.Info == y.Info && x.Name == y.Name
}

// sameTarget compares the symbols of two relocations of atom x that are otherwise
// equal, and notes what has to stand for them to mean the same.
func (s *settling) sameTarget(from AtomID, src *Atom, p, q *object.Reloc) bool {
	if p.Type == elf.R_X86_64_NONE {
		return true
	}
	x, y := &s.a.File.Symbols[p.Sym], &s.b.File.Symbols[q.Sym]
	if x.Type() == elf.STT_SECTION {
		return y.Type() == elf.STT_SECTION && x.Sec != 0 && y.Sec != 0 && x.Value == y.Value && s.position(from, src, x.Sec, y.Sec, int64(x.Value)+p.Addend)
	}
	if p.Sym == 0 || s.c.symAB[p.Sym] != q.Sym {
		return false
	}
	switch {
	case x.Sec == 0 && y.Sec == 0:
		return x.Shndx == y.Shndx && (x.Shndx != elf.SHN_ABS || x.Value == y.Value)
	case x.Sec == 0 || y.Sec == 0:
		return false
	}
	ax, ay := s.a.symAtom[p.Sym], s.b.symAtom[q.Sym]
	if ax == 0 || ay == 0 {
		return false
	}
	at := &s.a.Atoms[ax]
	if s.nameFlags(0, p.Sym)&nameNumbered == 0 && x.Value == at.Off && y.Value == s.b.Atoms[ay].Off && at.Flag&FlagContent == 0 && at.Kind == s.b.Atoms[ay].Kind &&
		(at.Kind == AtomFunc && (p.Addend == 0 || p.Addend == -4) || at.Kind == AtomObject) {
		return true // a plain name
	}
	return x.Value == y.Value && s.position(from, src, x.Sec, y.Sec, int64(x.Value)+p.Addend)
}

// position settles a reference to a place in a section: it means the same when
// the sections are cut alike and what may lie there stands. The true place of a
// PC-relative field in code lies up to 8 bytes further.
func (s *settling) position(from AtomID, src *Atom, sx, sy object.SecID, pos int64) bool {
	if s.a.first[sx] == s.a.first[sx+1] { // holds nothing: it stands for itself
		nx, ny := s.a.File.Sections[sx].Name, s.b.File.Sections[sy].Name
		return s.b.first[sy] == s.b.first[sy+1] && (nx == ny || symbols.Key(nx) == symbols.Key(ny))
	}
	if s.pair[sx] != sy || !s.layout[sx] {
		return false
	}
	lo, hi := s.a.atomsOf(sx)
	if lo+1 == hi {
		s.depend(from, lo)
		return true
	}
	first := s.a.AtomAt(sx, uint64(max(pos, 0)))
	s.depend(from, first)
	if src.Kind.Code() {
		for t := first + 1; t < hi && int64(s.a.Atoms[t].Off) <= pos+8; t++ {
			s.depend(from, t)
		}
	}
	return true
}

// open makes the code of a section of several pieces depend on what its resolved operands lead into.
func (s *settling) open(sec object.SecID) {
	s.opened[sec] = true
	lo, hi := s.a.atomsOf(sec)
	for x := lo; x < hi; x++ {
		if k := s.a.Atoms[x].Kind; s.fallen[x] || k != AtomFunc && k != AtomCode {
			continue
		}
		var ok bool
		s.edges, ok = s.a.Edges(x, s.edges[:0])
		if !ok {
			s.fall(x)
			continue
		}
		for i := range s.edges {
			if e := &s.edges[i]; e.Kind != EdgeReloc {
				if t := s.a.Resolve(e); t.Atom != 0 && !(t.Disp == 0 && s.plainStart(t.Atom)) {
					s.depend(x, t.Atom)
				}
			}
		}
	}
}

// plainStart reports whether a function is known on both sides by one plain name
// at the same place, whatever became of its code.
func (s *settling) plainStart(x AtomID) bool {
	at := &s.a.Atoms[x]
	m := s.c.symAB[at.Sym]
	if at.Kind != AtomFunc || m == 0 || s.nameFlags(0, at.Sym)&nameNumbered != 0 {
		return false
	}
	t := &s.b.File.Symbols[m]
	return s.a.File.Symbols[at.Sym].Value == at.Off && t.Sec == s.pair[at.Sec] && t.Value == at.Off
}

// touch lets everything numbered fall that an atom refers to.
func (s *settling) touch(side int, id AtomID) {
	g := s.side(side)
	at := &g.Atoms[id]
	rs := g.File.RelocsOf(at.Sec)
	lo, hi := rs.Range(at.Off, at.Off+at.Size)
	for i := lo; i < hi; i++ {
		r := rs.At(i)
		sym := &g.File.Symbols[r.Sym]
		if sym.Sec == 0 || g.first[sym.Sec] == g.first[sym.Sec+1] {
			continue
		}
		first, last := g.symAtom[r.Sym], g.symAtom[r.Sym]
		if first == 0 || !g.namesTarget(r.Sym) {
			pos := int64(sym.Value) + r.Addend
			first = g.AtomAt(sym.Sec, uint64(max(pos, 0)))
			last = g.AtomAt(sym.Sec, uint64(max(pos+8, 0)))
		}
		for t := first; t <= last; t++ {
			if !s.state[side][t] {
				continue
			}
			x := t
			if side == 1 {
				sec := s.back[sym.Sec]
				if sec == 0 || !s.layout[sec] {
					continue
				}
				x = s.a.first[sec] + (t - g.first[sym.Sec])
			}
			s.fall(x)
		}
	}
}
