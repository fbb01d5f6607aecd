package elfdiff

import (
	"debug/elf"
	"iter"
	"slices"
	"sync"

	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/reloc"
	"github.com/kdelta/kdelta/x86"
)

// EdgeKind says how a reference is written.
type EdgeKind uint8

// The kinds of edges.
const (
	EdgeReloc  EdgeKind = iota + 1 // a relocation
	EdgeBranch                     // a branch that the assembler resolved inside the section
	EdgeData                       // a RIP-relative operand that the assembler resolved inside the section
)

// Edge is a reference from a field of a section to a place: a symbol and a
// signed displacement, or a position in a section (rule G2). The displacement
// is the true one, counted from where the processor counts.
type Edge struct {
	Off  uint64 // of the field, from the start of its section
	Disp int64  // from the symbol's value, or, with Sym 0, from the start of section Sec
	Sym  object.SymID
	Sec  object.SecID // where the symbol is defined; 0 when it is not defined here
	Type elf.R_X86_64 // EdgeReloc
	Size uint8        // bytes of the field
	Bias uint8        // bytes from the field to where the processor counts from; 0 for absolute fields and data
	Kind EdgeKind
	// Indexed: the field is the displacement of a memory operand with a base or index
	// register, so the access may reach anything behind the target.
	Indexed bool
	// Taken: the reference gives an address (an immediate, the operand of lea, a pointer in data)
	// rather than an access at it.
	Taken bool
}

// Pos gives the position of the edge's target in section Sec; it may lie outside the section.
func (g *Graph) Pos(e *Edge) int64 {
	if e.Sym == 0 {
		return e.Disp
	}
	return int64(g.File.Symbols[e.Sym].Value) + e.Disp
}

// Edges appends the references of atom a to buf, by offset: every relocation
// but R_X86_64_NONE and, for code, every operand resolved by the assembler that
// leads out of the atom. decoded is false when code cannot be trusted to be what a
// linear decoder sees: it does not decode to its end, a relocation is not a field
// of an instruction, or a branch leads between two instructions. Then displacements
// assume that a PC-relative field ends its instruction, and resolved operands may be missing.
func (g *Graph) Edges(a AtomID, buf []Edge) (edges []Edge, decoded bool) {
	at := &g.Atoms[a]
	buf, decoded = g.edgesIn(at.Sec, at.Off, at.Off+at.Size, at.Kind.Code(), buf, nil)
	if body := g.emptyBody(a); body >= 0 {
		buf = slices.DeleteFunc(buf, func(e Edge) bool { return e.Sec != 0 && e.Off == at.Off+uint64(body) })
	}
	return buf, decoded
}

// emptyBody gives the field of a table entry that refers to replacement code of no
// length, NoField when there is none: it leads wherever the next body happens to
// be, and is no reference to it.
func (g *Graph) emptyBody(a AtomID) int {
	at := &g.Atoms[a]
	if at.Kind != AtomEntry {
		return NoField
	}
	row := &g.Rules.Tables[at.Row-1]
	if row.Body == NoField || g.Bytes(a)[row.BodyLen] != 0 {
		return NoField
	}
	return row.Body
}

// DataEdges appends the relocations of a stretch of data to buf, by offset.
func (g *Graph) DataEdges(p Piece, buf []Edge) []Edge {
	buf, _ = g.edgesIn(p.Sec, p.Off, p.Off+p.Size, false, buf, nil)
	return buf
}

// edgesIn appends the references of a stretch to buf. For code, starts gets a bit for each byte that begins
// an instruction; it has startWords(to-from) words that are zero, or is nil.
func (g *Graph) edgesIn(sec object.SecID, from, to uint64, code bool, buf []Edge, starts []uint64) ([]Edge, bool) {
	rs := g.File.RelocsOf(sec)
	lo, hi := rs.Range(from, to)
	if !code {
		for i := lo; i < hi; i++ {
			if r := rs.At(i); r.Type != elf.R_X86_64_NONE {
				e := g.relocEdge(&r, 0, false)
				e.Taken = true
				buf = append(buf, e)
			}
		}
		return buf, true
	}
	d := g.File.Sections[sec].Data[from:to]
	decoded := true
	// Most functions are small enough for the stack.
	var few [64]uint64
	var some [32]int
	targets := some[:0] // of branches inside
	if n := startWords(to - from); starts == nil && n <= len(few) {
		starts = few[:]
	} else if starts == nil {
		starts = make([]uint64, n)
	}
	w := x86.Walker{Code: d}
	for w.Next() {
		in := &w.Inst
		starts[w.Off>>6] |= 1 << (w.Off & 63)
		start := from + uint64(w.Off)
		end := start + uint64(in.Len)
		var fo, fs uint8
		var v int64
		rel := in.IsBranch() || in.RIPRelative()
		if rel {
			fo, fs, v, rel = in.Rel(d[w.Off:])
		}
		field := start + uint64(fo)
		relocated := false // the instruction's relative field
		for ; lo < hi; lo++ {
			r := rs.At(lo)
			if r.Off >= end {
				break
			}
			if r.Type == elf.R_X86_64_NONE {
				continue
			}
			relocated = relocated || r.Off == field
			e := g.relocEdge(&r, end, true)
			at := uint8(r.Off - start)
			switch {
			case in.DispLen > 0 && at == in.DispOff && e.Size <= in.DispLen:
				e.Indexed = in.ModOff != 0 && in.ModRM>>6 != 3 && !in.RIPRelative() && !(in.ModRM>>6 == 0 && in.ModRM&7 == 4 && in.SIB&7 == 5 && in.SIB>>3&7 == 4 && in.Prefix&x86.RexX == 0)
				e.Taken = in.Map == x86.MapOne && in.Opcode == 0x8d
			case in.ImmLen > 0 && at == in.ImmOff && e.Size <= in.ImmLen:
				e.Taken = !in.IsBranch()
			default:
				decoded = false
			}
			buf = append(buf, e)
		}
		if rel && !relocated {
			pos := int64(end) + v
			switch {
			case pos < int64(from) || pos >= int64(to):
				kind := EdgeData
				if in.IsBranch() {
					kind = EdgeBranch
				}
				buf = append(buf, Edge{Off: field, Disp: pos, Sec: sec, Size: fs, Bias: in.Len - fo, Kind: kind})
			case in.IsBranch():
				targets = append(targets, int(pos-int64(from)))
			}
		}
	}
	for ; lo < hi; lo++ {
		if r := rs.At(lo); r.Type != elf.R_X86_64_NONE {
			info, _ := reloc.Lookup(r.Type)
			buf = append(buf, g.relocEdge(&r, r.Off+uint64(info.Size), true))
		}
	}
	for _, t := range targets {
		decoded = decoded && starts[t>>6]>>(t&63)&1 != 0
	}
	return buf, decoded && w.Err == nil
}

// relocEdge makes the edge of a relocation; end is the end of its instruction, for code.
func (g *Graph) relocEdge(r *object.Reloc, end uint64, code bool) Edge {
	info, _ := reloc.Lookup(r.Type)
	bias := uint64(0)
	if code && info.PCRel {
		bias = end - r.Off // the processor adds to the end of the instruction
	}
	return Edge{Off: r.Off, Disp: r.Addend + int64(bias), Sym: r.Sym, Sec: g.File.Symbols[r.Sym].Sec, Type: r.Type, Size: info.Size, Bias: uint8(bias), Kind: EdgeReloc}
}

// Target is what an edge leads to.
type Target struct {
	Atom AtomID       // 0: nothing in this object holds it
	Sym  object.SymID // the symbol, when Atom is 0
	Disp int64        // from the start of the atom, or from the symbol
}

// Resolve attributes an edge to an atom. A symbol with a name stands for the
// atom that it lies in, however far the displacement leads; a section symbol,
// an assembler-local label or a resolved operand stands for a position, and the
// atom is the one that holds it (the nearest one, for positions outside the section).
func (g *Graph) Resolve(e *Edge) Target {
	if e.Sec == 0 {
		return Target{Sym: e.Sym, Disp: e.Disp}
	}
	if e.Sym != 0 && g.namesTarget(e.Sym) {
		if a := g.symAtom[e.Sym]; a != 0 {
			return Target{Atom: a, Disp: int64(g.File.Symbols[e.Sym].Value) - int64(g.Atoms[a].Off) + e.Disp}
		}
		return Target{Sym: e.Sym, Disp: e.Disp}
	}
	pos := g.Pos(e)
	a := g.AtomAt(e.Sec, uint64(max(pos, 0)))
	if a == 0 {
		return Target{Sym: e.Sym, Disp: e.Disp} // an empty or not allocated section
	}
	return Target{Atom: a, Disp: pos - int64(g.Atoms[a].Off)}
}

// Before gives the other reading of a reference that leads to the very start of a
// piece of data: one past the end of the piece before it (rule G2). 0 when there
// is none: the symbol names its target, nothing ends there, or the code accesses
// the place instead of taking its address.
func (g *Graph) Before(e *Edge, t Target) AtomID {
	if t.Atom == 0 || t.Disp != 0 || !e.Taken || e.Sym != 0 && g.namesTarget(e.Sym) {
		return 0
	}
	at := &g.Atoms[t.Atom]
	if at.Kind != AtomObject && at.Kind != AtomAnon || t.Atom == g.first[at.Sec] {
		return 0
	}
	if p := &g.Atoms[t.Atom-1]; p.Kind == AtomObject || p.Kind == AtomAnon {
		return t.Atom - 1
	}
	return 0
}

// namesTarget reports whether references to the symbol mean the thing it names,
// rather than a position in its section.
func (g *Graph) namesTarget(id object.SymID) bool { return g.nameClass[id]&symNames != 0 }

// user is a reference to an atom.
type user struct {
	atom AtomID // that holds the reference
	off  uint64 // of the field, from the start of that atom
	pos  int64  // where it leads, from the start of the target
}

// users gives the references to an atom from compared sections. What is asked for is
// who refers to a few functions or variables: so at first only the atoms that refer to
// each section are listed, and the references to a section are looked up when somebody
// asks for one of its atoms. The poller may end it, and then nothing is kept.
func (g *Graph) users(a AtomID, poll *poller) []user {
	r := &g.reverse
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.from == nil {
		r.from = g.sources(poll)
	}
	sec := g.Atoms[a].Sec
	base, n := g.first[sec], int(g.first[sec+1]-g.first[sec])
	x := r.of[sec]
	if x == nil {
		refs := newReferences(n)
		var buf []Edge
		last := AtomID(0)
		for _, from := range r.from.of(sec) {
			if from == last {
				continue
			}
			last = from
			poll.step()
			at := &g.Atoms[from]
			rs := g.File.RelocsOf(at.Sec)
			lo, hi := rs.Range(at.Off, at.Off+at.Size)
			buf = g.references(from, rs, lo, hi, buf, nil, func(to object.SecID) bool { return to == sec }, func(from AtomID, e *Edge, t Target) {
				refs.add(t.Atom-base, user{from, e.Off - g.Atoms[from].Off, t.Disp})
			})
		}
		x = refs.index()
		if r.of == nil {
			r.of = make(map[object.SecID]*userIndex)
		}
		r.of[sec] = x
	}
	return x.of(a - base)
}

// sources is which atoms have relocations against symbols of which section.
type sources struct {
	start []uint32 // by SecID: range in list
	list  []AtomID // in order; an atom may be there several times
}

func (s *sources) of(sec object.SecID) []AtomID { return s.list[s.start[sec]:s.start[sec+1]] }

func (g *Graph) sources(poll *poller) *sources {
	f := g.File
	secOf := make([]object.SecID, max(1, len(f.Symbols)))
	for i := range f.Symbols {
		if sec := f.Symbols[i].Sec; g.first[sec] != g.first[sec+1] {
			secOf[i] = sec
		}
	}
	s := &sources{start: make([]uint32, len(f.Sections)+2)}
	each := func(use func(from AtomID, to object.SecID)) {
		for sec := 1; sec < len(f.Sections); sec++ {
			poll.step()
			a, end := g.atomsOf(object.SecID(sec))
			if f.Sections[sec].Rela == 0 || a == end {
				continue
			}
			rs := f.RelocsOf(object.SecID(sec))
			for i, n := 0, rs.Len(); i < n; i++ {
				r := rs.At(i)
				for a+1 < end && g.Atoms[a+1].Off <= r.Off {
					a++
				}
				if to := secOf[r.Sym]; to != 0 && g.refersAtAll(a) {
					use(a, to)
				}
			}
		}
	}
	each(func(_ AtomID, to object.SecID) { s.start[to+2]++ })
	for i := 1; i < len(s.start); i++ {
		s.start[i] += s.start[i-1]
	}
	s.list = make([]AtomID, s.start[len(s.start)-1])
	each(func(from AtomID, to object.SecID) {
		s.list[s.start[to+1]] = from
		s.start[to+1]++
	})
	return s
}

// outside reports whether a section that is not compared, or occupies no memory, refers to an atom.
func (g *Graph) outside(a AtomID) bool {
	g.reverse.outerOnce.Do(func() {
		f := g.File
		g.reverse.outer = make([]bool, len(g.Atoms))
		for sec := range f.Sections {
			if f.Sections[sec].Alloc() && g.excluded[sec] == "" {
				continue
			}
			rs := f.RelocsOf(object.SecID(sec))
			for i, n := 0, rs.Len(); i < n; i++ {
				r := rs.File(i)
				if f.Symbols[r.Sym].Sec == 0 || r.Type == elf.R_X86_64_NONE {
					continue
				}
				e := g.relocEdge(&r, 0, false)
				if t := g.Resolve(&e); t.Atom != 0 {
					g.reverse.outer[t.Atom] = true
				}
			}
		}
	})
	return g.reverse.outer[a]
}

// speaker gives the atom that stands for whatever a belongs to: the body of its function, or itself.
func (g *Graph) speaker(a AtomID) AtomID {
	if u := g.Atoms[a].Unit; u != 0 {
		return g.Units[u].Main
	}
	return a
}

// Users yields who refers to an atom: the atom that holds the reference, and the
// reference's place in it.
func (g *Graph) Users(a AtomID) iter.Seq2[AtomID, uint64] {
	return func(yield func(AtomID, uint64) bool) {
		for _, u := range g.users(a, nil) {
			if !yield(u.atom, u.off) {
				return
			}
		}
	}
}

// reverseIndex keeps what is made on demand.
type reverseIndex struct {
	mu   sync.Mutex
	from *sources
	of   map[object.SecID]*userIndex // by AtomID from the section's first

	outerOnce sync.Once
	outer     []bool // by AtomID
}

// userIndex is who refers to what, by target.
type userIndex struct {
	start []uint32 // by AtomID: range in list
	list  []user
}

func (x *userIndex) of(a AtomID) []user { return x.list[x.start[a]:x.start[a+1]] }

// references collects who refers to what.
type references struct {
	start []uint32
	list  []reference
}

type reference struct {
	to AtomID
	user
}

func newReferences(atoms int) *references { return &references{start: make([]uint32, atoms+2)} }

func (r *references) add(to AtomID, u user) {
	r.list = append(r.list, reference{to, u})
	r.start[to+2]++
}

func (r *references) index() *userIndex {
	for i := 1; i < len(r.start); i++ {
		r.start[i] += r.start[i-1]
	}
	list := make([]user, len(r.list))
	for _, x := range r.list {
		list[r.start[x.to+1]] = x.user
		r.start[x.to+1]++
	}
	return &userIndex{r.start, list}
}

// openUsers knows the references from atoms that are not proved. Who is asked for are the members of
// few families and what is left in the end: the references to their sections are gathered when
// somebody asks, in one pass for all sections of a question.
type openUsers struct {
	g          *Graph
	skip, done []bool   // by AtomID: what is proved; by SecID: sections that consist of such
	part       []uint8  // by SecID: 1 + index into parts of the pass that covers it; 0: none yet
	base       []uint32 // by SecID: of its first atom in that part
	parts      []*userIndex
	walks      walks
	poll       *poller
}

func (g *Graph) newOpenUsers(skip, done []bool, poll *poller) *openUsers {
	return &openUsers{g: g, skip: skip, done: done, part: make([]uint8, len(g.File.Sections)), base: make([]uint32, len(g.File.Sections)), poll: poll}
}

// of gives the references to an atom. When nobody announced its section, all that are left are covered.
func (x *openUsers) of(a AtomID) []user {
	sec := x.g.Atoms[a].Sec
	if x.part[sec] == 0 {
		x.cover(func(yield func(object.SecID) bool) {
			for i := range x.part {
				if !yield(object.SecID(i)) {
					return
				}
			}
		})
	}
	return x.parts[x.part[sec]-1].of(AtomID(x.base[sec]) + a - x.g.first[sec])
}

// covers reports whether the references to a section are known.
func (x *openUsers) covers(sec object.SecID) bool { return x.part[sec] != 0 }

// cover gathers the references to sections.
func (x *openUsers) cover(secs iter.Seq[object.SecID]) {
	g := x.g
	part := uint8(len(x.parts) + 1)
	atoms := uint32(0)
	for sec := range secs {
		if x.part[sec] == 0 {
			x.part[sec], x.base[sec] = part, atoms
			atoms += uint32(g.first[sec+1] - g.first[sec])
		}
	}
	refs := newReferences(int(atoms))
	var buf []Edge
	var sec object.SecID
	var rs object.Relocs
	next := 0 // of rs
	for a := range g.openAtoms(x.done) {
		at := &g.Atoms[a]
		if !g.refersAtAll(a) || x.skip[a] {
			continue
		}
		if at.Sec != sec { // atoms come in the order of sections and offsets
			sec, next = at.Sec, 0
			rs = g.File.RelocsOf(sec)
		}
		lo := next
		for lo < rs.Len() && rs.Off(lo) < at.Off { // those of atoms that were left out
			lo++
		}
		hi, wanted := lo, false
		for ; hi < rs.Len() && rs.Off(hi) < at.Off+at.Size; hi++ {
			wanted = wanted || x.part[g.File.Symbols[rs.Sym(hi)].Sec] == part
		}
		if next = hi; !wanted {
			continue
		}
		x.poll.step()
		buf = g.references(a, rs, lo, hi, buf, &x.walks, func(to object.SecID) bool { return x.part[to] == part }, func(from AtomID, e *Edge, t Target) {
			to := g.Atoms[t.Atom].Sec
			refs.add(AtomID(x.base[to])+t.Atom-g.first[to], user{from, e.Off - g.Atoms[from].Off, t.Disp})
		})
	}
	x.parts = append(x.parts, refs.index())
}

// refersAtAll reports whether the references of an atom count.
func (g *Graph) refersAtAll(a AtomID) bool {
	k := g.Atoms[a].Kind
	return k != AtomExcluded && k != AtomPad
}

// references calls f for every relocation of an atom, from the lo-th to before the hi-th
// of its section, that leads to an atom in a wanted section. Code is decoded where a
// PC-relative reference is to a position in such a section, of several atoms: there the
// distance to the end of the instruction decides; keep, when there is one, keeps the walk while it has room.
func (g *Graph) references(a AtomID, rs object.Relocs, lo, hi int, buf []Edge, keep *walks, wanted func(object.SecID) bool, f func(from AtomID, e *Edge, t Target)) []Edge {
	file := g.File
	code := g.Atoms[a].Kind.Code()
	exact := !code
	for i := lo; code && i < hi; i++ {
		sym := rs.Sym(i)
		if s := file.Symbols[sym].Sec; s != 0 && g.first[s+1]-g.first[s] > 1 && !g.namesTarget(sym) && wanted(s) {
			exact = true
			break
		}
	}
	if exact {
		var w *walk
		if code && keep != nil {
			w = keep.walk(g, a)
		}
		var edges []Edge
		if w != nil {
			edges = w.edges
		} else {
			buf, _ = g.Edges(a, buf[:0])
			edges = buf
		}
		for i := range edges {
			if edges[i].Kind != EdgeReloc || !wanted(edges[i].Sec) {
				continue
			}
			if t := g.Resolve(&edges[i]); t.Atom != 0 {
				f(a, &edges[i], t)
			}
		}
		return buf
	}
	for i := lo; i < hi; i++ {
		r := rs.At(i)
		if s := file.Symbols[r.Sym].Sec; s == 0 || r.Type == elf.R_X86_64_NONE || !wanted(s) {
			continue
		}
		e := g.relocEdge(&r, r.Off+4, true)
		if t := g.Resolve(&e); t.Atom != 0 {
			f(a, &e, t)
		}
	}
	return buf
}
