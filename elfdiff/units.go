package elfdiff

import (
	"cmp"
	"debug/elf"
	"slices"
	"sort"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/symbols"
	"github.com/kdelta/kdelta/x86"
)

// units gathers atoms of code into units (rule G3): a function with what stands
// before it (prefix), what was split off it (cold parts), and what is glued to
// it (code behind its size, code that it falls into). Then it gives table
// entries and replacement code to the unit of their site.
func (g *Graph) units() error {
	g.Units = make([]Unit, 1, len(g.Atoms)/2+1)
	var cold []AtomID
	for sec := 1; sec < len(g.File.Sections); sec++ {
		if g.File.Sections[sec].Exec() {
			cold = g.sectionUnits(object.SecID(sec), cold)
		}
	}
	g.coldParts(cold)
	g.gatherMembers()
	g.owners()
	for i := 1; i < len(g.Atoms); i++ {
		a := &g.Atoms[i]
		if a.Kind == AtomObject && g.nameClass[a.Sym]&symPlain == 0 && g.readOnly(a.Sec) && g.content(a.Sym) {
			a.Flag |= FlagContent
		}
	}
	return nil
}

// gatherMembers lists the atoms of each unit: those in the body's section in
// order, then those elsewhere by the name of their section, which does not depend
// on the order of the file.
func (g *Graph) gatherMembers() {
	start := make([]uint32, len(g.Units)+1)
	for i := range g.Atoms {
		if u := g.Atoms[i].Unit; u != 0 {
			start[u]++
		}
	}
	n := uint32(0)
	for u := range start {
		start[u], n = n, n+start[u]
	}
	arena := make([]AtomID, n)
	for i := range g.Atoms {
		if u := g.Atoms[i].Unit; u != 0 {
			arena[start[u]] = AtomID(i)
			start[u]++
		}
	}
	lo := uint32(0)
	for u := 1; u < len(g.Units); u++ {
		m := arena[lo:start[u]:start[u]]
		lo = start[u]
		g.Units[u].Members = m
		if home := g.Atoms[g.Units[u].Main].Sec; g.Atoms[m[0]].Sec != home || g.Atoms[m[len(m)-1]].Sec != home {
			slices.SortStableFunc(m, func(x, y AtomID) int {
				sx, sy := g.Atoms[x].Sec, g.Atoms[y].Sec
				if sx == sy {
					return 0
				}
				if (sx == home) != (sy == home) {
					if sx == home {
						return -1
					}
					return 1
				}
				return cmp.Compare(g.File.Sections[sx].Name, g.File.Sections[sy].Name)
			})
		}
	}
}

// content reports whether a symbol names compiler-made data whose identity is its content.
func (g *Graph) content(s object.SymID) bool {
	return g.nameClass[s]&symPlain == 0 && symbols.Parse(g.File.Symbols[s].Name).Flags.Has(symbols.Content)
}

// nameOf parses the name of an atom's symbol.
func (g *Graph) nameOf(a AtomID) symbols.Family {
	if s := g.Atoms[a].Sym; s != 0 {
		return symbols.Parse(g.File.Symbols[s].Name)
	}
	return symbols.Family{}
}

// sectionUnits makes the units of one section of code; split-off parts are put on the list cold.
func (g *Graph) sectionUnits(sec object.SecID, cold []AtomID) []AtomID {
	lo, hi := g.atomsOf(sec)
	pieces := 0 // that hold more than padding
	for a := lo; a < hi; a++ {
		if g.Atoms[a].Kind != AtomPad {
			pieces++
		}
	}
	g.multi[sec] = pieces > 1
	var cur UnitID  // the unit that code without a name is glued to
	var last AtomID // the last code before the present place
	var lead AtomID // first atom of what waits for the next function: its prefix
	begin := func(a AtomID) UnitID {
		u := UnitID(len(g.Units))
		for ; lead != 0 && lead < a; lead++ {
			g.Atoms[lead].Unit = u
			g.Atoms[lead].Flag |= FlagPrefix
		}
		lead = 0
		g.Atoms[a].Unit = u
		g.Units = append(g.Units, Unit{Main: a, File: g.symFile[g.Atoms[a].Sym]})
		return u
	}
	join := func(a AtomID, u UnitID) { g.Atoms[a].Unit = u }
	for a := lo; a < hi; a++ {
		g.poll.step()
		at := &g.Atoms[a]
		switch at.Kind {
		case AtomFunc:
			switch class := g.nameClass[at.Sym]; {
			case class&symPrefix != 0 && a+1 < hi && g.Atoms[a+1].Kind == AtomFunc:
				if lead == 0 {
					lead = a
				}
				continue
			case class&symCold != 0:
				for ; lead != 0 && lead < a; lead++ { // a prefix of nothing is a function of its own
					g.Atoms[lead].Unit = UnitID(len(g.Units))
					g.Units = append(g.Units, Unit{Main: lead, File: g.symFile[g.Atoms[lead].Sym]})
				}
				cold = append(cold, a)
				cur, lead = 0, 0
				continue
			}
			if cur != 0 && lead == 0 && g.fallsInto(last) {
				at.Flag |= FlagFallsIn
				join(a, cur)
				last = a
				continue
			}
			last = a
			cur = begin(a)
		case AtomPad:
			if a+1 < hi && g.Atoms[a+1].Kind == AtomFunc && g.isPrefix(a) {
				if lead == 0 {
					lead = a
				}
				continue
			}
			if cur != 0 {
				join(a, cur)
			}
		case AtomCode:
			code, data := g.reaches(last, a)
			if !code && data {
				at.Kind = AtomAnon // constants between functions
				continue
			}
			if cur == 0 || code {
				last = a // else what it decodes to runs nowhere
			}
			if cur != 0 {
				join(a, cur)
			}
		}
	}
	return cold
}

// isPrefix reports whether the padding a, which stands before a function, belongs
// to that function's entry rather than to the alignment of the one before:
// it opens the section, or the compiler's list of patchable entries points at it.
func (g *Graph) isPrefix(a AtomID) bool {
	at := &g.Atoms[a]
	if at.Off == 0 {
		d := g.File.Sections[at.Sec].Data
		return d != nil && d[0] != 0
	}
	return g.prefixCut(at.Sec, at.Off)
}

// prefixCut reports whether the list of patchable entries points at off.
func (g *Graph) prefixCut(sec object.SecID, off uint64) bool {
	_, ok := slices.BinarySearch(g.patchableEntries(sec), off)
	return ok
}

// patchableEntries reads where in a section __patchable_function_entries (gcc and clang,
// -fpatchable-function-entry) points: the first bytes of functions' prefixes, sorted.
func (g *Graph) patchableEntries(sec object.SecID) []uint64 {
	if g.prefixLo == nil {
		g.listPrefixes()
	}
	return g.prefixes[g.prefixLo[sec]:g.prefixLo[sec+1]]
}

// isNamed compares a section's name, quickly where it is another one of the same length.
func isNamed(s *object.Section, name string) bool {
	return len(s.Name) == len(name) && (len(name) < 3 || s.Name[2] == name[2]) && s.Name == name
}

func (g *Graph) listPrefixes() {
	f := g.File
	var lists []object.SecID
	for i := range f.Sections {
		if s := &f.Sections[i]; s.Alloc() && isNamed(s, "__patchable_function_entries") {
			lists = append(lists, object.SecID(i))
		}
	}
	each := func(use func(sec object.SecID, off uint64)) {
		for _, i := range lists {
			rs := f.RelocsOf(i)
			for j, n := 0, rs.Len(); j < n; j++ {
				r := rs.File(j)
				if sym := &f.Symbols[r.Sym]; sym.Sec != 0 && r.Type == elf.R_X86_64_64 {
					use(sym.Sec, sym.Value+uint64(r.Addend))
				}
			}
		}
	}
	lo := make([]uint32, len(f.Sections)+2)
	each(func(sec object.SecID, _ uint64) { lo[sec+2]++ })
	for i := 1; i < len(lo); i++ {
		lo[i] += lo[i-1]
	}
	g.prefixes = make([]uint64, lo[len(lo)-1])
	each(func(sec object.SecID, off uint64) {
		g.prefixes[lo[sec+1]] = off
		lo[sec+1]++
	})
	g.prefixLo = lo
	for sec := range f.Sections {
		if p := g.prefixes[lo[sec]:lo[sec+1]]; len(p) > 1 {
			slices.Sort(p)
		}
	}
}

// fallsInto reports whether the code of atom a runs into the atom behind it.
// A call at the very end does not count: functions that do not return end so.
func (g *Graph) fallsInto(a AtomID) bool {
	if a == 0 {
		return false
	}
	w := x86.Walker{Code: g.Bytes(a)}
	var last x86.Inst
	ended := 0 // behind the last instruction that control does not pass
	for w.Next() {
		last = w.Inst
		if last.EndsFlow() || last.Flow == x86.FlowTrap {
			ended = w.Off + int(last.Len)
		}
	}
	if ended > 0 && x86.IsPadding(w.Code[ended:]) {
		return false // an unsized function reaches up to the next symbol, alignment included
	}
	falls := w.Err == nil && last.Len != 0 && last.FallsThrough() && last.Flow != x86.FlowCall && last.Flow != x86.FlowCallInd && last.Flow != x86.FlowTrap
	if falls {
		_, falls = g.Edges(a, nil) // not when the decoder lost its step
	}
	return falls
}

// reaches reports whether the code of atom a runs or branches into atom b of its
// section, and whether it refers to b as data.
func (g *Graph) reaches(a, b AtomID) (code, data bool) {
	if a == 0 {
		return false, false
	}
	code = b == a+1 && g.fallsInto(a)
	lo, hi := int64(g.Atoms[b].Off), int64(g.Atoms[b].Off+g.Atoms[b].Size)
	w := x86.Walker{Code: g.Bytes(a)}
	for w.Next() {
		if _, _, v, ok := w.Inst.Rel(w.Bytes()); ok {
			if t := int64(g.Atoms[a].Off) + int64(w.Off) + int64(w.Inst.Len) + v; t >= lo && t < hi {
				code = code || w.Inst.IsBranch()
				data = data || !w.Inst.IsBranch()
			}
		}
	}
	return code, data
}

// coldParts gives split-off parts to the unit of their parent: the function of
// that name in the same FILE scope (or global), confirmed by a reference between
// the two; where names repeat, the reference decides.
func (g *Graph) coldParts(cold []AtomID) {
	if len(cold) == 0 {
		return
	}
	slices.SortFunc(cold, func(a, b AtomID) int { return cmp.Compare(g.Name(a), g.Name(b)) })
	const few = 4 // candidates that are worth a look at their own references
	type candidates struct {
		list []AtomID
		n    int
	}
	want := make(map[string]*candidates)
	for _, c := range cold {
		want[g.nameOf(c).Parent] = &candidates{}
	}
	for _, l := range g.labels {
		c := want[g.File.Symbols[l].Name]
		if c == nil {
			continue
		}
		if a := g.symAtom[l]; a != 0 && g.Atoms[a].Kind == AtomFunc {
			if c.n++; len(c.list) <= few {
				c.list = append(c.list, a)
			}
		}
	}
	fits := func(c, p AtomID, parent string) bool {
		if p == c || g.Atoms[p].Unit == 0 || g.Atoms[p].Kind != AtomFunc || !g.hasName(p, parent) {
			return false
		}
		ps, cs := g.Atoms[p].Sym, g.Atoms[c].Sym
		return g.File.Symbols[ps].Bind() != elf.STB_LOCAL || g.File.Symbols[cs].Bind() != elf.STB_LOCAL || g.symFile[ps] == g.symFile[cs]
	}
	// A part may itself have been split (foo.part.0.cold's parent is a unit, but foo.cold.1.cold's is a part):
	// two rounds reach every chain that compilers make.
	var edges []Edge
	for round := 0; round < 2; round++ {
		for _, c := range cold {
			if g.Atoms[c].Unit != 0 {
				continue
			}
			parent := g.nameOf(c).Parent
			linked, several := AtomID(0), false
			link := func(p AtomID) {
				if p != linked && fits(c, p, parent) {
					several = linked != 0
					linked = p
				}
			}
			edges, _ = g.Edges(c, edges[:0])
			for i := range edges {
				if t := g.Resolve(&edges[i]); t.Atom != 0 {
					link(t.Atom)
				}
			}
			cand := want[parent]
			if linked == 0 && cand.n <= few {
				for _, p := range cand.list {
					if g.refers(p, c) {
						link(p)
					}
				}
			}
			if linked == 0 && !several && cand.n <= few {
				for _, p := range cand.list {
					link(p) // by name alone
				}
			}
			if linked == 0 || several {
				continue
			}
			g.Atoms[c].Unit = g.Atoms[linked].Unit
			g.Atoms[c].Flag |= FlagCold
		}
	}
	for _, c := range cold {
		if g.Atoms[c].Unit == 0 {
			g.Diags = append(g.Diags, diag.New(diag.ColdParent, g.place(g.Atoms[c].Sec, g.Atoms[c].Off), "no function %s that refers to this part", g.nameOf(c).Parent))
			g.Atoms[c].Unit = UnitID(len(g.Units))
			g.Units = append(g.Units, Unit{Main: c, File: g.symFile[g.Atoms[c].Sym]})
		}
	}
	// Code glued behind a part (padding, code without a symbol) follows the part's unit.
	for sec := 1; sec < len(g.File.Sections); sec++ {
		if !g.File.Sections[sec].Exec() {
			continue
		}
		lo, hi := g.atomsOf(object.SecID(sec))
		for a := lo + 1; a < hi; a++ {
			if at := &g.Atoms[a]; at.Unit == 0 && g.Atoms[a-1].Unit != 0 && (at.Kind == AtomPad || at.Kind == AtomCode) && g.Atoms[a-1].Flag&FlagCold != 0 {
				at.Unit = g.Atoms[a-1].Unit
				at.Flag |= FlagCold
			}
		}
	}
}

// hasName reports whether one of the symbols at the start of an atom has this name.
func (g *Graph) hasName(a AtomID, name string) bool {
	for _, l := range g.Labels(a) {
		if g.File.Symbols[l].Name == name && g.File.Symbols[l].Value == g.Atoms[a].Off {
			return true
		}
	}
	return false
}

// Labels gives the symbols that lie in an atom, by value. They are the graph's own and must not be written to.
func (g *Graph) Labels(a AtomID) []object.SymID {
	at := &g.Atoms[a]
	labels := g.labels[g.labelLo[at.Sec]:g.labelLo[at.Sec+1]]
	syms := g.File.Symbols
	lo := 0
	if at.Off != 0 {
		lo, _ = slices.BinarySearchFunc(labels, at.Off, func(l object.SymID, v uint64) int { return cmp.Compare(syms[l].Value, v) })
	}
	end := at.Off + at.Size
	hi := len(labels)
	if hi > lo && syms[labels[hi-1]].Value >= end {
		n, _ := slices.BinarySearchFunc(labels[lo:], end, func(l object.SymID, v uint64) int { return cmp.Compare(syms[l].Value, v) })
		hi = lo + n
		if _, last := g.atomsOf(at.Sec); a+1 == last {
			hi = len(labels) // what lies at and behind the end of the section belongs to its last atom
		}
	}
	return labels[lo:hi]
}

// refers reports whether a relocation in atom a leads to atom b, give or take
// the distance to the end of an instruction.
func (g *Graph) refers(a, b AtomID) bool {
	f := g.File
	from, to := &g.Atoms[a], &g.Atoms[b]
	rs := f.RelocsOf(from.Sec)
	lo, hi := rs.Range(from.Off, from.Off+from.Size)
	for i := lo; i < hi; i++ {
		r := rs.At(i)
		s := &f.Symbols[r.Sym]
		if s.Sec != to.Sec {
			continue
		}
		pos := s.Value + uint64(r.Addend) + 4
		if pos >= to.Off && pos <= to.Off+to.Size {
			return true
		}
	}
	return false
}

// owners gives each table entry, and the replacement code it brings, to the
// unit that its site lies in. Tables with replacement code go first, since the
// sites of other tables may lie in it.
func (g *Graph) owners() {
	f := g.File
	type owned struct {
		member int32 // place of the site's section among the unit's members
		site   uint64
		id     AtomID
	}
	var all []owned
	counts := make([]uint32, len(g.Units)+1)
	most := 0
	for sec := range g.rows {
		if g.rows[sec] != 0 && g.excluded[sec] == "" {
			most += int(g.first[sec+1] - g.first[sec])
		}
	}
	all = make([]owned, 0, most)
	for pass := 0; pass < 2; pass++ {
		for sec := range g.rows {
			if g.rows[sec] == 0 || g.excluded[sec] != "" {
				continue
			}
			row := &g.Rules.Tables[g.rows[sec]-1]
			if (row.Body != NoField) != (pass == 0) {
				continue
			}
			rs := f.RelocsOf(object.SecID(sec))
			lo, _ := g.atomsOf(object.SecID(sec))
			for i, n := 0, rs.Len(); i < n; i++ {
				g.poll.step()
				r := rs.At(i)
				if int(r.Off%uint64(row.Entry)) != row.Site || r.Type == elf.R_X86_64_NONE {
					continue
				}
				s := &f.Symbols[r.Sym]
				if s.Sec == 0 {
					continue
				}
				id := lo + AtomID(r.Off/uint64(row.Entry))
				pos := s.Value + uint64(r.Addend)
				t := g.AtomAt(s.Sec, pos)
				if t == 0 || g.Atoms[t].Unit == 0 {
					continue
				}
				u := g.Atoms[t].Unit
				g.Atoms[id].Unit = u
				counts[u]++
				all = append(all, owned{g.memberIndex(u, s.Sec), pos, id})
				if row.Body != NoField {
					g.ownBody(row, rs, object.SecID(sec), r.Off-uint64(row.Site), u)
				}
			}
		}
	}
	if len(all) == 0 {
		return
	}
	// Place by unit, then put each unit's entries in order: by row, and by where their site lies.
	n := uint32(0)
	for u := range counts {
		counts[u], n = n, n+counts[u]
	}
	placed := make([]owned, len(all))
	for _, o := range all {
		u := g.Atoms[o.id].Unit
		placed[counts[u]] = o
		counts[u]++
	}
	g.entryOrd = make([]uint32, len(g.Atoms))
	arena := make([]AtomID, len(placed))
	lo := uint32(0)
	for u := 1; u < len(g.Units); u++ {
		hi := counts[u]
		list := placed[lo:hi]
		order := func(a, b owned) int {
			return cmp.Or(cmp.Compare(g.Atoms[a.id].Row, g.Atoms[b.id].Row), cmp.Compare(a.member, b.member), cmp.Compare(a.site, b.site), cmp.Compare(a.id, b.id))
		}
		if !slices.IsSortedFunc(list, order) {
			slices.SortFunc(list, order)
		}
		ord := uint32(0)
		for i, o := range list {
			if i > 0 && g.Atoms[list[i-1].id].Row != g.Atoms[o.id].Row {
				ord = 0
			}
			g.entryOrd[o.id] = ord
			ord++
			arena[lo+uint32(i)] = o.id
		}
		g.Units[u].Entries = arena[lo:hi:hi]
		lo = hi
	}
}

// memberIndex gives the place of section sec among the sections of a unit's members.
func (g *Graph) memberIndex(u UnitID, sec object.SecID) int32 {
	if g.Atoms[g.Units[u].Main].Sec == sec {
		return 0
	}
	// Members elsewhere stand behind those of the body's section, by section name: binary search for the first.
	ms := g.Units[u].Members
	home := g.Atoms[g.Units[u].Main].Sec
	name := g.File.Sections[sec].Name
	i := sort.Search(len(ms), func(i int) bool {
		s := g.Atoms[ms[i]].Sec
		return s != home && g.File.Sections[s].Name >= name
	})
	return int32(i)
}

// ownBody gives the replacement code of the entry at off to unit u.
func (g *Graph) ownBody(row *Table, rs object.Relocs, sec object.SecID, entry uint64, u UnitID) {
	f := g.File
	lo, hi := rs.Range(entry+uint64(row.Body), entry+uint64(row.Body)+1)
	if lo == hi || f.Sections[sec].Data[entry+uint64(row.BodyLen)] == 0 {
		return
	}
	r := rs.At(lo)
	s := &f.Symbols[r.Sym]
	if s.Sec == 0 {
		return
	}
	b := g.AtomAt(s.Sec, s.Value+uint64(r.Addend))
	if b != 0 && g.Atoms[b].Unit == 0 && g.Atoms[b].Kind == AtomCode {
		g.Atoms[b].Unit = u
		g.Atoms[b].Flag |= FlagBody
	}
}
