package elfdiff

import (
	"debug/elf"

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
// leads out of the atom. decoded is false when code does not decode to its end:
// then displacements behind that point assume that a PC-relative field ends its
// instruction, and resolved operands behind it are unknown.
func (g *Graph) Edges(a AtomID, buf []Edge) (edges []Edge, decoded bool) {
	at := &g.Atoms[a]
	return g.edgesIn(at.Sec, at.Off, at.Off+at.Size, at.Kind == AtomFunc || at.Kind == AtomCode, buf)
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
				buf = append(buf, g.relocEdge(&r, 0, false))
			}
		}
		return buf, true
	}
	d := g.File.Sections[sec].Data[from:to]
	w := x86.Walker{Code: d}
	for w.Next() {
		start := from + uint64(w.Off)
		end := start + uint64(w.Inst.Len)
		fo, fs, v, rel := w.Inst.Rel(d[w.Off:])
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
			buf = append(buf, g.relocEdge(&r, end, true))
		}
		if rel && !relocated {
			if pos := int64(end) + v; pos < int64(from) || pos >= int64(to) {
				kind := EdgeData
				if w.Inst.IsBranch() {
					kind = EdgeBranch
				}
				buf = append(buf, Edge{Off: field, Disp: pos, Sec: sec, Size: fs, Bias: w.Inst.Len - fo, Kind: kind})
			}
		}
	}
	for ; lo < hi; lo++ {
		if r := rs.At(lo); r.Type != elf.R_X86_64_NONE {
			info, _ := reloc.Lookup(r.Type)
			buf = append(buf, g.relocEdge(&r, r.Off+uint64(info.Size), true))
		}
	}
	return buf, w.Err == nil
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

// namesTarget reports whether references to the symbol mean the thing it names,
// rather than a position in its section.
func (g *Graph) namesTarget(id object.SymID) bool {
	s := &g.File.Symbols[id]
	if s.Type() == elf.STT_SECTION || s.Name == "" {
		return false
	}
	return !(len(s.Name) > 1 && s.Name[0] == '.' && s.Name[1] == 'L')
}

// user is a place that refers to an atom.
type user struct {
	atom AtomID // the body, for a function and all that belongs to it
	off  uint64 // from the start of the atom that holds the reference
}

// usersOf finds who refers to the wanted atoms, in one pass over all
// relocations of allocated sections. Positions assume that a PC-relative field
// ends its instruction, which attributes a reference to the right atom unless
// it leads to the last bytes before a boundary.
func (g *Graph) usersOf(want []bool) map[AtomID][]user {
	users := make(map[AtomID][]user)
	f := g.File
	for sec := 1; sec < len(f.Sections); sec++ {
		if !f.Sections[sec].Alloc() {
			continue
		}
		rs := f.RelocsOf(object.SecID(sec))
		lo, hi := g.atomsOf(object.SecID(sec))
		cur := lo
		for i, n := 0, rs.Len(); i < n; i++ {
			r := rs.At(i)
			if f.Symbols[r.Sym].Sec == 0 || r.Type == elf.R_X86_64_NONE {
				continue
			}
			for cur+1 < hi && g.Atoms[cur+1].Off <= r.Off {
				cur++
			}
			e := g.relocEdge(&r, r.Off+4, g.Atoms[cur].Kind.Code())
			t := g.Resolve(&e)
			if t.Atom == 0 || !want[t.Atom] {
				continue
			}
			u := cur
			if ut := g.Atoms[cur].Unit; ut != 0 {
				u = g.Units[ut].Main
			}
			users[t.Atom] = append(users[t.Atom], user{u, r.Off - g.Atoms[cur].Off})
		}
	}
	return users
}
