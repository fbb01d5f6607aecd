package elfdiff

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"slices"

	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/reloc"
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
//
// Nearly everything stands. So the first pass over the sections only looks whether
// an atom contradicts the hypothesis; who depends on an atom is found when one in
// the same section falls.
type settling struct {
	c      *correlation
	a, b   *Graph
	pair   []object.SecID // by SecID of a: the section of b that corresponds
	back   []object.SecID // by SecID of b
	layout []bool         // by SecID of a: it and its pair are cut alike
	same   []bool         // by SymID of a: its namesake of b is the same symbol at the same place in the corresponding section
	to     []object.SymID // by SymID of a: the only symbol of b that means the same in any relocation; 0: sameTarget has to look
	fallen []bool         // by AtomID of a
	flags  [2][]uint8     // by SymID: what the name is, see nameFlags
	state  [2][]uint8     // by AtomID: see stateful
	deps   []atomDep
	byTo   []int32 // by AtomID of a: 1 + index of the first dependency on it
	work   []AtomID
	opened []bool // by SecID of a: its code was decoded for resolved operands
	edges  []Edge

	linked  []bool         // by SecID of a: who depends on its atoms is noted
	scans   int            // looks at all relocations so far
	secOf   []object.SecID // by SymID of a: the compared section that holds it; 0 none
	masks   []uint64       // by SecID of a: bit n: a relocation leads to a section with secBit n, or not known
	hot     []bool         // by SecID of a: leads to it are looked for
	leads   []bool         // by SymID of a: it is in such a section
	inbound []inbound      // relocations of compared sections of a, by the section that they lead to; made after maxScans
	into    []uint32       // by SecID of a: range in inbound
}

// maxScans is how often all relocations are looked at for those that lead to some
// sections, before an index of all of them is made. What falls mostly takes little with it.
const maxScans = 4

// inbound is a relocation that leads to a section.
type inbound struct {
	from AtomID // that holds it
	rel  uint32 // its place among the relocations of its section, by offset
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
		g := s.side(side)
		if g.nameClass[id]&symPlain != 0 {
			return *f
		}
		fl := symbols.Parse(g.File.Symbols[id].Name).Flags
		if fl.Any(numbered | symbols.Label) {
			*f |= nameNumbered
			if !fl.Any(symbols.Content | symbols.Label) {
				*f |= nameState
			}
		}
	}
	return *f
}

// stateful reports whether an atom is a numbered thing that has an identity.
func (s *settling) stateful(side int, a AtomID) bool {
	const no, yes = 1, 2
	f := &s.state[side][a]
	if *f == 0 {
		*f = no
		for _, l := range s.side(side).Labels(a) {
			if s.nameFlags(side, l)&nameState != 0 {
				*f = yes
				break
			}
		}
	}
	return *f == yes
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
		fallen: make([]bool, len(c.a.Atoms))}
	c.readA, c.readB = make([]bool, len(c.a.Atoms)), make([]bool, len(c.b.Atoms))
	for i := range s.flags {
		g := s.side(i)
		s.flags[i] = make([]uint8, max(1, len(g.File.Symbols)))
		s.state[i] = make([]uint8, len(g.Atoms))
	}
	s.pairSections()
	for sec := 1; sec < na; sec++ {
		if id := object.SecID(sec); c.a.compared(id) {
			s.layout[sec] = s.pair[sec] != 0 && s.sameLayout(id, s.pair[sec])
		}
	}
	s.meanings()
	for sec := 1; sec < na; sec++ {
		c.poll.step()
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
	if len(s.work) > 0 {
		s.linked, s.byTo = make([]bool, na), make([]int32, len(s.a.Atoms))
	}
	for len(s.work) > 0 { // wave by wave
		wave := s.work
		s.work = nil
		s.link(wave)
		for _, x := range wave {
			c.poll.step()
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
	}
	c.proved = make([]bool, len(s.a.Atoms))
	c.doneA, c.doneB = make([]bool, na), make([]bool, nb)
	for sec := range s.layout {
		if !s.layout[sec] {
			continue
		}
		lo, hi := s.a.atomsOf(object.SecID(sec))
		done := true
		for x := lo; x < hi; x++ {
			y := s.b.first[s.pair[sec]] + (x - lo)
			if s.fallen[x] || c.ab[x] != 0 && c.ab[x] != y || c.ba[y] != 0 && c.ba[y] != x {
				done = false
				continue // or the caller pinned otherwise
			}
			c.ab[x], c.ba[y], c.proved[x] = y, x, true
			if c.conf[x] == 0 {
				c.conf[x] = ConfName
			}
		}
		c.doneA[sec], c.doneB[s.pair[sec]] = done, done
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
	var nameless []object.SecID
	t := make([]object.SecID, len(s.pair))
	for sec := 1; sec < len(fa.Sections); sec++ {
		id := object.SecID(sec)
		if !s.a.compared(id) {
			continue
		}
		for _, l := range s.a.labels[s.a.labelLo[sec]:s.a.labelLo[sec+1]] {
			if m := s.c.symAB[l]; m != 0 && fa.Symbols[l].Type() != elf.STT_NOTYPE {
				t[sec] = fb.Symbols[m].Sec
				break
			}
		}
		if t[sec] == 0 {
			nameless = append(nameless, id)
		}
	}
	s.byName(nameless, t)
	for sec := 1; sec < len(t); sec++ {
		if t := t[sec]; t != 0 && s.back[t] == 0 && s.b.compared(t) {
			s.pair[sec], s.back[t] = t, object.SecID(sec)
		}
	}
}

// byName sets in t the sections of b that have the same names as the listed ones of a, where these are unique on both sides.
func (s *settling) byName(list []object.SecID, t []object.SecID) {
	if len(list) == 0 {
		return
	}
	type found struct {
		sec    object.SecID // of b
		na, nb bool         // seen
		twice  bool
	}
	all := make([]found, 0, len(list))
	at := make(map[string]int32, len(list))
	var some [1024]bool // what a name that is listed looks like at a glance
	look := func(n string) *bool {
		if n == "" {
			return &some[0]
		}
		return &some[(len(n)<<5^int(n[len(n)-1]))&1023]
	}
	for _, id := range list {
		n := s.a.File.Sections[id].Name
		*look(n) = true
		if at[n] == 0 {
			all = append(all, found{})
			at[n] = int32(len(all))
		}
	}
	for sec := 1; sec < len(s.pair); sec++ {
		if n := s.a.File.Sections[sec].Name; s.a.compared(object.SecID(sec)) && *look(n) {
			if i := at[n]; i != 0 {
				f := &all[i-1]
				f.twice = f.twice || f.na
				f.na = true
			}
		}
	}
	for sec := 1; sec < len(s.back); sec++ {
		if n := s.b.File.Sections[sec].Name; s.b.compared(object.SecID(sec)) && *look(n) {
			if i := at[n]; i != 0 {
				f := &all[i-1]
				f.twice = f.twice || f.nb
				f.sec, f.nb = object.SecID(sec), true
			}
		}
	}
	for _, id := range list {
		if f := &all[at[s.a.File.Sections[id].Name]-1]; !f.twice {
			t[id] = f.sec
		}
	}
}

// meanings fills s.to: symbols that sameTarget finds to mean the same whatever the relocation.
func (s *settling) meanings() {
	fa, fb := s.a.File, s.b.File
	s.secOf, s.masks = make([]object.SecID, max(1, len(fa.Symbols))), make([]uint64, len(fa.Sections))
	s.to, s.same = make([]object.SymID, max(1, len(fa.Symbols))), make([]bool, max(1, len(fa.Symbols)))
	sectionSym := make([]object.SymID, len(fb.Sections))
	for j := range fb.Symbols {
		if y := &fb.Symbols[j]; y.Type() == elf.STT_SECTION {
			sectionSym[y.Sec] = object.SymID(j)
		}
	}
	for i := 1; i < len(fa.Symbols); i++ {
		x := &fa.Symbols[i]
		if s.a.compared(x.Sec) {
			s.secOf[i] = x.Sec
		}
		stands := s.layout[x.Sec]
		m := s.c.symAB[i]
		if x.Type() == elf.STT_SECTION {
			if m = sectionSym[s.pair[x.Sec]]; m != 0 && stands && x.Value == fb.Symbols[m].Value {
				s.to[i] = m
			}
			continue
		}
		if m == 0 {
			continue
		}
		y := &fb.Symbols[m]
		s.same[i] = y.Sec == s.pair[x.Sec] && x.Value == y.Value && x.Size == y.Size && x.Info == y.Info
		switch {
		case x.Sec == 0:
			if y.Sec == 0 && x.Shndx == y.Shndx && (x.Shndx != elf.SHN_ABS || x.Value == y.Value) {
				s.to[i] = m
			}
		case stands && y.Sec == s.pair[x.Sec] && x.Value == y.Value && s.a.symAtom[i] != 0 && s.b.symAtom[m] != 0:
			s.to[i] = m
		}
	}
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
	labels := s.sameLabels(s.a.labels[s.a.labelLo[id]:s.a.labelLo[id+1]], s.b.labels[s.b.labelLo[t]:s.b.labelLo[t+1]])
	var rx, ry object.Relocs
	mask, same := uint64(0), true
	if s.a.File.Sections[id].Rela|s.b.File.Sections[t].Rela != 0 {
		rx, ry = s.a.File.RelocsOf(id), s.b.File.RelocsOf(t)
		if mask, same = s.sameRelocs(rx, ry); !same {
			mask = ^uint64(0)
		}
		s.masks[id] = mask
	}
	if equal && labels && same {
		for x := lo; x < hi; x++ {
			if s.a.Atoms[x].Flag != s.b.Atoms[s.other(x)].Flag {
				s.fall(x)
			}
		}
		return
	}
	i, j := 0, 0
	for x := lo; x < hi; x++ {
		s.c.poll.step()
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
			(labels || s.sameLabels(s.a.Labels(x), s.b.Labels(y)))
		for k := 0; ok && k < ei-i; k++ {
			p, q := rx.At(i+k), ry.At(j+k)
			ok = p.Off == q.Off && p.Type == q.Type && (p.Addend == q.Addend && s.sameTarget(&p, &q) || s.sameString(ax, &p, &q))
		}
		if !ok {
			s.fall(x)
		}
		i, j = ei, ej
	}
}

// sameRelocs reports whether two sections have the same relocations, each against
// symbols that mean the same in any relocation, and gives the secBits of the sections
// that they lead to. False says nothing.
func (s *settling) sameRelocs(rx, ry object.Relocs) (mask uint64, ok bool) {
	p, q := rx.Raw(), ry.Raw()
	if len(p) != len(q) || !(rx.Sorted() && ry.Sorted()) && !bytes.Equal(p, q) {
		return 0, false
	}
	for len(p) >= object.RelaSize && len(q) >= object.RelaSize {
		ip, iq := binary.LittleEndian.Uint64(p[8:]), binary.LittleEndian.Uint64(q[8:])
		if uint32(ip) != uint32(iq) || binary.LittleEndian.Uint64(p) != binary.LittleEndian.Uint64(q) || binary.LittleEndian.Uint64(p[16:]) != binary.LittleEndian.Uint64(q[16:]) {
			return 0, false
		}
		if t := s.to[ip>>32]; t == 0 || t != object.SymID(iq>>32) {
			return 0, false
		}
		mask |= secBit(s.secOf[ip>>32])
		p, q = p[object.RelaSize:], q[object.RelaSize:]
	}
	return mask, true
}

// secBit spreads sections over the bits of a word.
func secBit(sec object.SecID) uint64 { return 1 << ((sec ^ sec>>1 ^ sec>>6) & 63) }

// sameLabels reports whether two lists of symbols, those of two sections that
// correspond or of parts of them, have the same symbols at the same places.
func (s *settling) sameLabels(lx, ly []object.SymID) bool {
	if len(lx) != len(ly) {
		return false
	}
	for i, l := range lx {
		if s.c.symAB[l] != 0 {
			if !s.same[l] {
				return false
			}
			continue
		}
		x := &s.a.File.Symbols[l]
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

// sameTarget compares the symbols of two relocations that are otherwise equal. What
// has to stand for them to mean the same is noted by link.
func (s *settling) sameTarget(p, q *object.Reloc) bool {
	if p.Type == elf.R_X86_64_NONE {
		return true
	}
	x, y := &s.a.File.Symbols[p.Sym], &s.b.File.Symbols[q.Sym]
	if x.Type() == elf.STT_SECTION {
		return y.Type() == elf.STT_SECTION && x.Sec != 0 && y.Sec != 0 && x.Value == y.Value && s.position(x.Sec, y.Sec)
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
	return ax != 0 && ay != 0 && (s.plain(p) || x.Value == y.Value && s.position(x.Sec, y.Sec))
}

// sameString reports whether two relocations lead to equal strings, wherever these lie.
func (s *settling) sameString(src *Atom, p, q *object.Reloc) bool {
	x, y := &s.a.File.Symbols[p.Sym], &s.b.File.Symbols[q.Sym]
	info, ok := reloc.Lookup(p.Type)
	if !ok || x.Bind() != elf.STB_LOCAL || y.Bind() != elf.STB_LOCAL || s.a.namesTarget(p.Sym) || s.b.namesTarget(q.Sym) {
		return false
	}
	sx, sy := &s.a.File.Sections[x.Sec], &s.b.File.Sections[y.Sec]
	if !sx.Strings() || !sy.Strings() || sx.Flags != sy.Flags || sx.Type != sy.Type || sx.Entsize != sy.Entsize || sx.Rela != 0 || sy.Rela != 0 ||
		!s.a.compared(x.Sec) || !s.b.compared(y.Sec) {
		return false
	}
	lo, hi := reach(src, p.Type)
	px, py := int64(x.Value)+p.Addend+lo, int64(y.Value)+q.Addend+lo
	if px < 0 || py < 0 {
		return false
	}
	ix, iy := s.a.AtomAt(x.Sec, uint64(px)), s.b.AtomAt(y.Sec, uint64(py))
	ax, ay := &s.a.Atoms[ix], &s.b.Atoms[iy]
	if ax.Kind != AtomString || ay.Kind != AtomString {
		return false
	}
	if src.Kind.Code() && !info.PCRel {
		// Perhaps an index is added: only the start of a piece keeps the access in it.
		ok = x.Type() == elf.STT_SECTION && y.Type() == elf.STT_SECTION && ax.Off == uint64(px) && ay.Off == uint64(py) && bytes.Equal(s.a.Bytes(ix), s.b.Bytes(iy))
	} else {
		tx, ty := s.a.stringBytes(Target{Atom: ix, Disp: px - int64(ax.Off)}), s.b.stringBytes(Target{Atom: iy, Disp: py - int64(ay.Off)})
		ok = tx != nil && int64(len(tx)) > hi-lo && bytes.Equal(tx, ty) // wherever in it the reference leads
	}
	if ok {
		s.c.readA[ix], s.c.readB[iy] = true, true
	}
	return ok
}

// plain reports whether a relocation of a is against a name that stands for the same
// thing in both objects, whatever became of that thing.
func (s *settling) plain(p *object.Reloc) bool {
	m := s.c.symAB[p.Sym]
	x, y := &s.a.File.Symbols[p.Sym], &s.b.File.Symbols[m]
	at, other := &s.a.Atoms[s.a.symAtom[p.Sym]], &s.b.Atoms[s.b.symAtom[m]]
	return x.Value == at.Off && y.Value == other.Off && at.Flag&FlagContent == 0 && at.Kind == other.Kind &&
		(at.Kind == AtomFunc && (p.Addend == 0 || p.Addend == -4) || at.Kind == AtomObject) && s.nameFlags(0, p.Sym)&nameNumbered == 0
}

// position reports whether equal displacements in two sections mean the same as long
// as what may lie there stands: the sections are cut alike, or hold nothing and stand for themselves.
func (s *settling) position(sx, sy object.SecID) bool {
	if s.a.first[sx] == s.a.first[sx+1] {
		nx, ny := s.a.File.Sections[sx].Name, s.b.File.Sections[sy].Name
		return s.b.first[sy] == s.b.first[sy+1] && (nx == ny || symbols.Key(nx) == symbols.Key(ny))
	}
	return s.pair[sx] == sy && s.layout[sx]
}

// link notes, once for each section, which atoms depend on those of the sections of
// some that fell. In a section that is not cut alike all fell, and whoever referred to it
// by position did as well.
func (s *settling) link(wave []AtomID) {
	var hot []object.SecID
	for _, x := range wave {
		if sec := s.a.Atoms[x].Sec; !s.linked[sec] {
			s.linked[sec] = true
			if s.layout[sec] {
				hot = append(hot, sec)
			}
		}
	}
	if len(hot) == 0 {
		return
	}
	if s.scans++; s.scans <= maxScans {
		s.scan(hot)
		return
	}
	if s.inbound == nil {
		s.index()
	}
	for _, sec := range hot {
		for _, in := range s.inbound[s.into[sec]:s.into[sec+1]] {
			s.linkOne(in.from, int(in.rel))
		}
	}
}

// scan looks through all relocations for those that lead to some sections.
func (s *settling) scan(hot []object.SecID) {
	f := s.a.File
	if s.hot == nil {
		s.hot, s.leads = make([]bool, len(f.Sections)), make([]bool, len(s.secOf))
	}
	mask := uint64(0)
	for _, sec := range hot {
		s.hot[sec] = true
		mask |= secBit(sec)
	}
	leads := s.leads
	for i, sec := range s.secOf {
		leads[i] = s.hot[sec]
	}
	for sec := 1; sec < len(f.Sections); sec++ {
		if s.masks[sec]&mask == 0 || !s.layout[sec] {
			continue
		}
		rs := f.RelocsOf(object.SecID(sec))
		sorted := rs.Sorted()
		for i, raw := 0, rs.Raw(); len(raw) >= object.RelaSize; i, raw = i+1, raw[object.RelaSize:] {
			if !leads[binary.LittleEndian.Uint32(raw[12:])] {
				continue
			}
			from := s.a.AtomAt(object.SecID(sec), binary.LittleEndian.Uint64(raw))
			if sorted {
				s.linkOne(from, i)
				continue
			}
			at := &s.a.Atoms[from]
			for k, hi := rs.Range(at.Off, at.Off+at.Size); k < hi && !s.fallen[from]; k++ {
				if leads[rs.At(k).Sym] {
					s.linkOne(from, k)
				}
			}
		}
	}
	for _, sec := range hot {
		s.hot[sec] = false
	}
}

// linkOne notes what atom from depends on by way of the i-th relocation of its section.
func (s *settling) linkOne(from AtomID, i int) {
	s.c.poll.step()
	if s.fallen[from] {
		return
	}
	src := &s.a.Atoms[from]
	rs := s.a.File.RelocsOf(src.Sec)
	p := rs.At(i)
	x := &s.a.File.Symbols[p.Sym]
	if p.Type == elf.R_X86_64_NONE || x.Type() != elf.STT_SECTION && s.plain(&p) {
		return
	}
	if s.a.File.Sections[x.Sec].Strings() { // settled by content, wherever it lies
		y := &s.b.Atoms[s.other(from)]
		ry := s.b.File.RelocsOf(y.Sec)
		lx, _ := rs.Range(src.Off, src.Off+src.Size)
		ly, hy := ry.Range(y.Off, y.Off+y.Size)
		if k := ly + i - lx; k < hy {
			if q := ry.At(k); s.sameString(src, &p, &q) {
				return
			}
		}
	}
	lo, hi := reach(src, p.Type)
	if s.a.File.Sections[x.Sec].Flags&elf.SHF_MERGE != 0 && src.Kind.Code() && lo == hi && !s.inPiece(&p) {
		s.fall(from) // perhaps an index is added, and the access reaches whatever stands there; something in the section differs
		return
	}
	if pos := int64(x.Value) + p.Addend; lo == hi && pos >= 0 {
		// The start of a function with a plain name is that function, as if the relocation had named it.
		if t := s.a.AtomAt(x.Sec, uint64(pos)); s.a.Atoms[t].Off == uint64(pos) && s.plainStart(t) {
			return
		}
	}
	s.dependAt(from, x.Sec, int64(x.Value)+p.Addend+lo, int64(x.Value)+p.Addend+hi)
}

// inPiece reports whether an access by a relocation of a stays in one piece of mergeable data, whatever is added: see comparer.indexed.
func (s *settling) inPiece(p *object.Reloc) bool {
	x := &s.a.File.Symbols[p.Sym]
	pos := int64(x.Value) + p.Addend
	if pos < 0 {
		return false
	}
	t := s.a.AtomAt(x.Sec, uint64(pos))
	if x.Type() == elf.STT_SECTION {
		return s.a.Atoms[t].Off == uint64(pos)
	}
	return t == s.a.symAtom[p.Sym]
}

// reach gives how far from symbol plus addend the true place of a reference may be. A
// PC-relative field in code counts from the end of its instruction, of which at most an
// immediate of four bytes follows.
func reach(src *Atom, typ elf.R_X86_64) (lo, hi int64) {
	if info, ok := reloc.Lookup(typ); ok && !info.PCRel || !src.Kind.Code() {
		return 0, 0
	} else if ok {
		lo = int64(info.Size)
	}
	return lo, 8
}

// dependAt makes an atom depend on what lies in [from, to] of a section.
func (s *settling) dependAt(user AtomID, sec object.SecID, from, to int64) {
	_, hi := s.a.atomsOf(sec)
	t := s.a.AtomAt(sec, uint64(max(from, 0)))
	s.depend(user, t)
	for t++; t < hi && int64(s.a.Atoms[t].Off) <= to; t++ {
		s.depend(user, t)
	}
}

// index lists the relocations of what may stand by the section that they lead to.
func (s *settling) index() {
	f := s.a.File
	s.into = make([]uint32, len(f.Sections)+2)
	each := func(use func(from AtomID, rel int, to object.SecID)) {
		for sec := 1; sec < len(f.Sections); sec++ {
			if !s.layout[sec] || f.Sections[sec].Rela == 0 {
				continue
			}
			rs := f.RelocsOf(object.SecID(sec))
			x, hi := s.a.atomsOf(object.SecID(sec))
			for i, n := 0, rs.Len(); i < n; i++ {
				r := rs.At(i)
				for x+1 < hi && s.a.Atoms[x+1].Off <= r.Off {
					x++
				}
				if to := s.secOf[r.Sym]; to != 0 {
					use(x, i, to)
				}
			}
		}
	}
	each(func(_ AtomID, _ int, to object.SecID) { s.into[to+2]++ })
	for i := 1; i < len(s.into); i++ {
		s.into[i] += s.into[i-1]
	}
	s.inbound = make([]inbound, s.into[len(s.into)-1])
	each(func(from AtomID, rel int, to object.SecID) {
		s.inbound[s.into[to+1]] = inbound{from, uint32(rel)}
		s.into[to+1]++
	})
}

// open makes the code of a section of several pieces depend on what its resolved operands lead into.
func (s *settling) open(sec object.SecID) {
	s.opened[sec] = true
	lo, hi := s.a.atomsOf(sec)
	for x := lo; x < hi; x++ {
		s.c.poll.step()
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
			from, to := reach(at, r.Type)
			first = g.AtomAt(sym.Sec, uint64(max(pos+from, 0)))
			last = g.AtomAt(sym.Sec, uint64(max(pos+to, 0)))
		}
		for t := first; t <= last; t++ {
			if !s.stateful(side, t) {
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
