package elfdiff

import (
	"context"
	"debug/elf"
	"fmt"
	"slices"
	"strings"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/symbols"
)

// Selection is what a patch has to hold of the patched object: the changed
// functions, and what they bring along. Everything else that they refer to is
// in the running kernel.
type Selection struct {
	Changed []UnitID // functions that replace one of the original, by UnitID of the patched graph
	New     []UnitID // functions that only the patched object has, referred to by what is included
	Atoms   []AtomID // everything included, in the order of the patched object
	Pieces  []Piece  // entries of tables that were not compared but travel, in the order of the patched object
	// Constants are table entries whose site is an instruction with a constant that the kernel fills in at boot.
	Constants []AtomID

	in   []bool   // by AtomID
	from []AtomID // by AtomID: what brought it
}

// Piece is a stretch of data of the patched object.
type Piece struct {
	Sec  object.SecID
	Off  uint64
	Size uint64
}

// Has reports whether an atom of the patched graph is included.
func (s *Selection) Has(a AtomID) bool { return s.in[a] }

// Chain names what brought an atom into the selection, outermost first.
func (s *Selection) Chain(g *Graph, a AtomID) []string {
	var out []string
	for n := 0; a != 0 && n < 64; n++ {
		out = append(out, g.Name(a))
		a = s.from[a]
	}
	slices.Reverse(out)
	return out
}

// Close follows what the changed functions of d bring along. roots are further
// pieces of the patched graph to include: functions (by Unit.Main) and data that
// somebody else refers to. The diagnostics hold every reason against such a patch;
// it must not be written when diag.HasErrors says so. The error is that of the context.
func Close(ctx context.Context, orig, patched *Graph, d *Delta, format Format, roots []AtomID) (*Selection, []diag.Diagnostic, error) {
	c := &closer{a: orig, b: patched, d: d, format: format, s: &Selection{in: make([]bool, len(patched.Atoms)), from: make([]AtomID, len(patched.Atoms))}}
	for i := range d.Functions {
		if f := &d.Functions[i]; f.Status == Changed {
			c.s.Changed = append(c.s.Changed, f.Patched)
		}
	}
	slices.Sort(c.s.Changed)
	c.instrument()
	for _, u := range c.s.Changed {
		c.unit(u, 0)
	}
	for _, a := range roots {
		if u := patched.Atoms[a].Unit; u != 0 && patched.Units[u].Main == a {
			c.unit(u, 0)
		} else {
			c.include(a, 0)
		}
	}
	for i := 0; len(c.work) > 0; i++ {
		if i&255 == 0 && ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		a := c.work[len(c.work)-1]
		c.work = c.work[:len(c.work)-1]
		c.follow(a)
	}
	for a := range c.s.in {
		if !c.s.in[a] {
			continue
		}
		c.s.Atoms = append(c.s.Atoms, AtomID(a))
		if at := &patched.Atoms[a]; patched.File.Sections[at.Sec].Group != 0 {
			c.fail(diag.GroupChanged, at.Sec, at.Off, AtomID(a), "%s is a member of a section group", patched.Name(AtomID(a)))
		}
	}
	c.derived()
	c.replaced()
	c.data()
	c.inbound()
	diag.Sort(c.diags)
	return c.s, c.diags, nil
}

type closer struct {
	a, b   *Graph
	d      *Delta
	format Format
	s      *Selection
	work   []AtomID
	edges  []Edge
	diags  []diag.Diagnostic
	probes map[object.SymID]bool // what instrumented code calls; true: told
}

// instrument finds what instrumented code would call.
func (c *closer) instrument() {
	for i := range c.b.File.Symbols {
		s := &c.b.File.Symbols[i]
		if s.Undefined() && slices.ContainsFunc(c.b.Rules.Instrument, func(p string) bool { return matchSection(p, s.Name) }) {
			if c.probes == nil {
				c.probes = make(map[object.SymID]bool)
			}
			c.probes[object.SymID(i)] = false
		}
	}
}

func (c *closer) fail(code diag.Code, sec object.SecID, off uint64, because AtomID, format string, args ...any) {
	d := diag.New(code, c.b.place(sec, off), format, args...)
	if because != 0 {
		d.Chain = c.s.Chain(c.b, because)
	}
	c.diags = append(c.diags, d)
}

func (c *closer) include(a, from AtomID) {
	if !c.s.in[a] {
		c.s.in[a], c.s.from[a] = true, from
		c.work = append(c.work, a)
	}
}

// unit includes a function: its parts, the table entries that its format carries,
// and padding only where it stands before or between them.
func (c *closer) unit(u UnitID, from AtomID) {
	unit := &c.b.Units[u]
	if c.s.in[unit.Main] {
		return
	}
	if c.d.AtomStatus[unit.Main] == New {
		c.s.New = append(c.s.New, u)
	}
	c.include(unit.Main, from)
	for i, m := range unit.Members {
		at := &c.b.Atoms[m]
		if at.Kind == AtomPad && at.Flag&FlagPrefix == 0 && !(i+1 < len(unit.Members) && unit.Members[i+1] == m+1) {
			continue
		}
		c.include(m, from)
	}
	for _, e := range unit.Entries {
		switch c.b.Rules.Tables[c.b.Atoms[e].Row-1].Emit[c.format] {
		case Carry:
			c.include(e, unit.Main)
		case Constant:
			c.s.Constants = append(c.s.Constants, e)
		}
	}
}

// derived finds the entries of excluded tables that travel with included code.
func (c *closer) derived() {
	g, f := c.b, c.b.File
	for sec := range g.rows {
		// Excluded tables, and those that occupy no memory (hints for objtool).
		if g.excluded[sec] == "" && f.Sections[sec].Alloc() || f.Sections[sec].Rela == 0 {
			continue
		}
		row := g.rowOf(object.SecID(sec))
		if row == nil || row.Emit[c.format] != Carry {
			continue
		}
		rs := f.RelocsOf(object.SecID(sec))
		for i, n := 0, rs.Len(); i < n; i++ {
			r := rs.At(i)
			if int(r.Off%uint64(row.Entry)) != row.Site || r.Type == elf.R_X86_64_NONE || f.Symbols[r.Sym].Sec == 0 {
				continue
			}
			e := g.relocEdge(&r, 0, false)
			if t := g.Resolve(&e); t.Atom == 0 || !c.s.in[t.Atom] {
				continue
			}
			off := r.Off - uint64(row.Site)
			c.s.Pieces = append(c.s.Pieces, Piece{object.SecID(sec), off, min(uint64(row.Entry), f.Sections[sec].Size-off)})
		}
	}
}

// follow includes what the references of an atom need.
func (c *closer) follow(a AtomID) {
	g := c.b
	c.edges, _ = g.Edges(a, c.edges[:0])
	var refs map[AtomID]bool // what a refers to; made when needed
	for i := range c.edges {
		e := &c.edges[i]
		t := g.Resolve(e)
		c.target(a, e, t)
		if told, ok := c.probes[e.Sym]; ok && !told && e.Sym != 0 {
			c.probes[e.Sym] = true
			at := &g.Atoms[a]
			c.fail(diag.Instrumented, at.Sec, e.Off, a, "calls %s: the object is instrumented", g.File.Symbols[e.Sym].Name)
		}
		// The end of the piece before is the other reading (rule G2): what it needs is selected as well, where the
		// same code refers to that piece.
		p := g.Before(e, t)
		if p == 0 {
			continue
		}
		if refs == nil {
			refs = g.targets(c.edges)
		}
		if refs[p] {
			c.target(a, e, Target{Atom: p, Disp: int64(g.Atoms[p].Size)})
		}
	}
}

// target includes what one reference needs.
func (c *closer) target(a AtomID, e *Edge, t Target) {
	g := c.b
	if t.Atom == 0 {
		return
	}
	at := &g.Atoms[t.Atom]
	switch at.Kind {
	case AtomString, AtomConst:
		c.include(t.Atom, a)
		last := t.Atom
		_, hi := g.atomsOf(at.Sec)
		p, whole := g.piece(e, t)
		switch {
		case e.Indexed && whole:
			c.include(p.Atom, a)
		case e.Indexed:
			last = hi - 1 // the access may reach anything behind
		case at.Kind == AtomConst && t.Disp != 0 && t.Atom+1 < hi:
			last = t.Atom + 1 // or run into the next entry
		}
		for t := t.Atom + 1; t <= last; t++ {
			c.include(t, a)
		}
	case AtomFunc, AtomCode, AtomPad:
		switch {
		case at.Unit == 0 || at.Flag&FlagBody != 0:
			c.include(t.Atom, a)
		case c.d.AtomStatus[g.Units[at.Unit].Main] == New:
			c.initReference(a, e, at.Sec) // a new one goes with the patch's own init code
			c.unit(at.Unit, a)
		case !c.s.in[t.Atom]:
			c.initReference(a, e, at.Sec)
		}
	case AtomEntry:
		if !c.s.in[t.Atom] {
			c.fail(diag.UnknownTable, e.Sec, uint64(g.Pos(e)), a, "%s refers to an entry of %s that does not travel", g.Name(a), g.Name(t.Atom))
		}
	default:
		c.dataTarget(a, e, t)
	}
}

// dataTarget decides whether data travels: copies of what has no identity, and what is new.
func (c *closer) dataTarget(from AtomID, e *Edge, t Target) {
	g := c.b
	at := &g.Atoms[t.Atom]
	st := c.d.AtomStatus[t.Atom]
	writable := !g.readOnly(at.Sec)
	switch {
	case at.Flag&FlagContent != 0:
		c.include(t.Atom, from)
	case at.Kind == AtomAnon && !writable:
		c.include(t.Atom, from)
	case at.Kind == AtomAnon && st != New:
		c.fail(diag.UnnamedData, at.Sec, at.Off, from, "%s refers to writable data without a symbol", g.Name(from))
	case st == New || c.disposable(t.Atom):
		c.initReference(from, e, at.Sec)
		c.include(t.Atom, from)
	case st == Changed && !writable:
		c.include(t.Atom, from) // a new copy, if nobody else reads it: see data
	default:
		c.initReference(from, e, at.Sec)
	}
}

// disposable reports whether an atom is a static that every user of a kernel macro may have a fresh copy of.
func (c *closer) disposable(a AtomID) bool {
	at := &c.b.Atoms[a]
	return at.Sym != 0 && c.b.File.Symbols[at.Sym].Bind() == elf.STB_LOCAL && c.b.nameOf(a).Flags.Has(symbols.Disposable)
}

// initReference refuses references to memory that is freed after init.
func (c *closer) initReference(from AtomID, e *Edge, sec object.SecID) {
	if r, ok := matchAny(c.b.Rules.Init, c.b.File.Sections[sec].Name); ok {
		at := &c.b.Atoms[from]
		if _, ok := matchAny(c.b.Rules.Init, c.b.File.Sections[at.Sec].Name); ok {
			return // it is gone as well
		}
		c.fail(diag.InitReference, at.Sec, e.Off, from, "%s refers to %s, which is %s", c.b.Name(from), c.b.TargetText(c.b.Resolve(e)), r)
	}
}

func matchAny(list []Ignored, name string) (reason string, ok bool) {
	for i := range list {
		if matchSection(list[i].Section, name) {
			return list[i].Reason, true
		}
	}
	return "", false
}

// replaced checks that each changed function can be replaced in a running kernel.
func (c *closer) replaced() {
	for _, u := range c.s.Changed {
		unit := &c.b.Units[u]
		at := &c.b.Atoms[unit.Main]
		name := c.b.Name(unit.Main)
		sec := c.b.File.Sections[at.Sec].Name
		if r, ok := matchAny(c.b.Rules.Init, sec); ok {
			c.fail(diag.InitChanged, at.Sec, at.Off, 0, "%s changed, and its section is %s", name, r)
			continue
		}
		if r, ok := matchAny(c.b.Rules.NoPatch, sec); ok {
			c.fail(diag.Unpatchable, at.Sec, at.Off, 0, "%s changed, and %s %s", name, sec, r)
			continue
		}
		if at.Flag&FlagNested != 0 || slices.ContainsFunc(unit.Members, func(m AtomID) bool { return c.b.Atoms[m].Flag&FlagFallsIn != 0 }) {
			d := diag.New(diag.OverlappingSymbols, c.b.place(at.Sec, at.Off), "%s changed, and other functions share its code", name)
			d.Severity = diag.SevError
			c.diags = append(c.diags, d)
		}
		if at.Sym != 0 && c.b.File.Symbols[at.Sym].Bind() == elf.STB_WEAK {
			c.fail(diag.WeakChanged, at.Sec, at.Off, 0, "%s is a weak definition", name)
		}
		if !c.a.Replaceable(c.d.OrigOf[unit.Main]) {
			c.fail(diag.NoFtraceEntry, at.Sec, at.Off, 0, "the original %s does not call %s at its entry; %s", name, strings.Join(c.a.Rules.Entry, " or "), c.callers(unit.Main))
		}
	}
}

// callers says which functions of the object could be replaced instead of one that
// cannot: the nearest that lead to it.
func (c *closer) callers(a AtomID) string {
	const most = 8
	seen := map[AtomID]bool{a: true}
	var names []string
	more := 0
	for work := []AtomID{a}; len(work) > 0; work = work[1:] {
		for _, u := range c.b.users(work[0], nil) {
			r := c.b.speaker(u.atom)
			if seen[r] || c.b.Atoms[r].Kind != AtomFunc {
				continue
			}
			seen[r] = true
			_, init := matchAny(c.b.Rules.Init, c.b.File.Sections[c.b.Atoms[r].Sec].Name)
			_, not := matchAny(c.b.Rules.NoPatch, c.b.File.Sections[c.b.Atoms[r].Sec].Name)
			switch x := c.d.OrigOf[r]; {
			case init || not || !c.a.Replaceable(x):
				work = append(work, r)
			case len(names) < most:
				names = append(names, c.a.Name(x))
			default:
				more++
			}
		}
	}
	switch {
	case len(names) == 0:
		return "no function of this object that leads to it can be replaced"
	case more > 0:
		return fmt.Sprintf("callers that can be replaced: %s and %d more", strings.Join(names, ", "), more)
	}
	return "callers that can be replaced: " + strings.Join(names, ", ")
}

// Replaceable reports whether a function calls one of Rules.Entry first, right at its entry or behind ENDBR64.
// An R_X86_64_NONE relocation left by recordmcount counts: there the call has become a NOP.
func (g *Graph) Replaceable(a AtomID) bool {
	if a == 0 {
		return false
	}
	if len(g.Rules.Entry) == 0 {
		return true
	}
	at := &g.Atoms[a]
	rs := g.File.RelocsOf(at.Sec)
	lo, hi := rs.Range(at.Off, min(at.Off+at.Size, at.Off+16))
	for i := lo; i < hi; i++ {
		r := rs.At(i)
		off := r.Off - at.Off
		if (off == 1 || off == 5) && slices.Contains(g.Rules.Entry, g.File.Symbols[r.Sym].Name) {
			return true
		}
	}
	return false
}

// data refuses changes of data that the running kernel already holds, and of what registers itself.
func (c *closer) data() {
	for i := range c.d.Data {
		dt := &c.d.Data[i]
		if dt.Status == New || dt.Status == Changed || dt.Status == Removed {
			if code, ok := c.registers(dt); ok {
				p := diag.Place{File: c.b.File.Name, Section: dt.Section, Symbol: dt.Name}
				c.diags = append(c.diags, diag.New(code, p, "%s data in %s", dt.Status, dt.Section))
				continue
			}
		}
		if dt.Status != Changed || c.looser(dt) {
			continue
		}
		if dt.Patched == 0 || !c.s.in[dt.Patched] {
			p := diag.Place{File: c.b.File.Name, Section: dt.Section, Symbol: dt.Name}
			c.diags = append(c.diags, diag.New(diag.DataChanged, p, "%s changed (%d to %d bytes)%s", dt.Name, dt.OrigSize, dt.PatchedSize, readBy(dt.Readers)))
			continue
		}
		for _, u := range c.b.users(dt.Patched, nil) {
			if r := c.b.speaker(u.atom); !c.s.in[r] {
				at := &c.b.Atoms[dt.Patched]
				c.fail(diag.DataChanged, at.Sec, at.Off, dt.Patched, "%s changed, and %s, which does not, reads it", c.b.Name(dt.Patched), c.b.Name(r))
				break
			}
		}
	}
}

// looser reports whether all that changed about a variable is that it asks for less
// alignment, which the running kernel's has anyway.
func (c *closer) looser(dt *Datum) bool {
	if dt.Orig == 0 || dt.Patched == 0 || len(dt.Causes) == 0 || slices.ContainsFunc(dt.Causes, func(x Cause) bool { return x.Kind != CauseAlign }) {
		return false
	}
	return c.a.File.Sections[c.a.Atoms[dt.Orig].Sec].Addralign >= c.b.File.Sections[c.b.Atoms[dt.Patched].Sec].Addralign
}

func (c *closer) registers(dt *Datum) (diag.Code, bool) {
	for _, r := range c.b.Rules.Register {
		if matchSection(r.Section, dt.Section) && (r.Symbol == "" || matchSection(r.Symbol, dt.Name)) {
			return r.Code, true
		}
	}
	return "", false
}

func readBy(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return ", read by " + strings.Join(names[:min(len(names), 4)], ", ")
}

// inbound looks at the selection from the other side: each relocation of the
// patched object that leads into an included function from outside must be taken
// along by a row, dropped by a rule, or be of a kind that the running kernel
// still has. Code is: a call reaches the original, which is redirected.
func (c *closer) inbound() {
	g, f := c.b, c.b.File
	told := make(map[object.SecID]bool)
	for sec := 1; sec < len(f.Sections); sec++ {
		s := &f.Sections[sec]
		if !s.Alloc() || s.Exec() {
			continue
		}
		_, dropped := matchAny(g.Rules.Inbound, s.Name)
		if dropped || g.rows[sec] != 0 || g.excluded[sec] != "" || g.Rules.BesideOf(s.Name) != nil {
			continue
		}
		rs := f.RelocsOf(object.SecID(sec))
		for i, n := 0, rs.Len(); i < n && !told[object.SecID(sec)]; i++ {
			r := rs.At(i)
			if r.Type == elf.R_X86_64_NONE || f.Symbols[r.Sym].Sec == 0 || !f.Sections[f.Symbols[r.Sym].Sec].Exec() {
				continue
			}
			src := g.AtomAt(object.SecID(sec), r.Off)
			if src == 0 || c.s.in[src] {
				continue
			}
			e := g.relocEdge(&r, 0, false)
			t := g.Resolve(&e)
			if t.Atom == 0 || !c.s.in[t.Atom] {
				continue
			}
			told[object.SecID(sec)] = true
			c.fail(diag.UnknownTable, object.SecID(sec), r.Off, 0, "no rule says what becomes of %s's references to %s", s.Name, g.Name(t.Atom))
		}
	}
}
