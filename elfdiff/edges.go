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
	buf, decoded = g.edgesIn(at.Sec, at.Off, at.Off+at.Size, at.Kind == AtomFunc || at.Kind == AtomCode, buf)
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
	buf, _ = g.edgesIn(p.Sec, p.Off, p.Off+p.Size, false, buf)
	return buf
}

func (g *Graph) edgesIn(sec object.SecID, from, to uint64, code bool, buf []Edge) ([]Edge, bool) {
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
	starts := make([]uint64, len(d)/64+1) // bit i: an instruction starts at i
	var targets []int                     // of branches inside
	w := x86.Walker{Code: d}
	for w.Next() {
		in := &w.Inst
		starts[w.Off>>6] |= 1 << (w.Off & 63)
		start := from + uint64(w.Off)
		end := start + uint64(in.Len)
		fo, fs, v, rel := in.Rel(d[w.Off:])
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

// maxSectionIndexes is how many sections get an index of who refers to them before all get one.
const maxSectionIndexes = 8

// users gives the references to an atom from compared sections. What is asked for first
// is who refers to a few functions or variables: that takes one look at all relocations
// for each section. The poller may end it, and then nothing is kept.
func (g *Graph) users(a AtomID, poll *poller) []user {
	r := &g.reverse
	r.mu.Lock()
	defer r.mu.Unlock()
	sec := g.Atoms[a].Sec
	if r.all == nil {
		if x := r.of[sec]; x != nil {
			return x.of(a - g.first[sec])
		}
		if len(r.of) < maxSectionIndexes {
			x := g.indexUsers(nil, nil, sec, poll)
			if r.of == nil {
				r.of = make(map[object.SecID]*userIndex)
			}
			r.of[sec] = &x
			return x.of(a - g.first[sec])
		}
		x := g.indexUsers(nil, nil, 0, poll)
		r.all = &x
	}
	return r.all.of(a)
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
	mu  sync.Mutex
	all *userIndex
	of  map[object.SecID]*userIndex // of single sections, by AtomID from the section's first

	outerOnce sync.Once
	outer     []bool // by AtomID
}

// userIndex is who refers to what, by target.
type userIndex struct {
	start []uint32 // by AtomID: range in list
	list  []user
}

func (x *userIndex) of(a AtomID) []user { return x.list[x.start[a]:x.start[a+1]] }

// indexUsers makes the index over the references of all atoms but those to skip; done are
// sections that consist of such. With a section, it is the index of its atoms alone.
func (g *Graph) indexUsers(skip, done []bool, only object.SecID, poll *poller) userIndex {
	base, n := AtomID(0), len(g.Atoms)
	var leads []bool // by SymID: it is in the section
	if only != 0 {
		base, n = g.first[only], int(g.first[only+1]-g.first[only])
		leads = make([]bool, len(g.File.Symbols))
		for i := range leads {
			leads[i] = g.File.Symbols[i].Sec == only
		}
	}
	start := make([]uint32, n+2)
	type ref struct {
		to AtomID
		user
	}
	var refs []ref
	g.eachReference(skip, done, leads, poll, func(from AtomID, e *Edge, t Target) {
		if to := t.Atom - base; only == 0 || g.Atoms[t.Atom].Sec == only {
			refs = append(refs, ref{to, user{from, e.Off - g.Atoms[from].Off, t.Disp}})
			start[to+2]++
		}
	})
	for i := 1; i < len(start); i++ {
		start[i] += start[i-1]
	}
	list := make([]user, len(refs))
	for _, r := range refs {
		list[start[r.to+1]] = r.user
		start[r.to+1]++
	}
	return userIndex{start, list}
}

// eachReference calls f for every relocation of compared sections that leads to
// an atom. Code is decoded where a PC-relative reference is to a position in a
// section of several atoms: there the distance to the end of the instruction decides.
// With leads, by SymID, atoms without a relocation against such a symbol are passed over.
func (g *Graph) eachReference(skip, done, leads []bool, poll *poller, f func(from AtomID, e *Edge, t Target)) {
	file := g.File
	var buf []Edge
	if done == nil {
		done = make([]bool, len(file.Sections))
	}
	var sec object.SecID
	var rs object.Relocs
	next := 0 // of rs
	for a := range g.openAtoms(done) {
		at := &g.Atoms[a]
		if at.Kind == AtomExcluded || at.Kind == AtomPad || skip != nil && skip[a] {
			continue
		}
		if at.Sec != sec { // atoms come in the order of sections and offsets
			sec, next = at.Sec, 0
			rs = file.RelocsOf(sec)
		}
		lo := next
		for lo < rs.Len() && rs.Off(lo) < at.Off { // those of atoms that were left out
			lo++
		}
		hi := lo
		for ; hi < rs.Len() && rs.Off(hi) < at.Off+at.Size; hi++ {
		}
		if next = hi; lo == hi {
			continue
		}
		poll.step()
		if leads != nil {
			hit := false
			for i := lo; i < hi && !hit; i++ {
				hit = leads[rs.At(i).Sym]
			}
			if !hit {
				continue
			}
		}
		code := at.Kind.Code()
		exact := !code
		for i := lo; code && i < hi; i++ {
			r := rs.At(i)
			if s := file.Symbols[r.Sym].Sec; s != 0 && g.first[s+1]-g.first[s] > 1 && !g.namesTarget(r.Sym) {
				exact = true
				break
			}
		}
		if exact {
			buf, _ = g.Edges(a, buf[:0])
			for i := range buf {
				if t := g.Resolve(&buf[i]); t.Atom != 0 && buf[i].Kind == EdgeReloc {
					f(a, &buf[i], t)
				}
			}
			continue
		}
		for i := lo; i < hi; i++ {
			r := rs.At(i)
			if file.Symbols[r.Sym].Sec == 0 || r.Type == elf.R_X86_64_NONE {
				continue
			}
			e := g.relocEdge(&r, r.Off+4, true)
			if t := g.Resolve(&e); t.Atom != 0 {
				f(a, &e, t)
			}
		}
	}
}
