package elfdiff

import (
	"bytes"
	"debug/elf"
	"strings"

	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/symbols"
	"github.com/kdelta/kdelta/x86"
)

// Comparison is coinductive (rule G5d). A node is a pair of atoms under
// comparison. Each node is looked at once, on the assumption that every other
// node it leads to is equal; it fails when its own bytes or references differ.
// Then failure is handed back along the references through which a node depends
// on another. What has not failed in the end is equal: the largest set of pairs
// in which no member gives a reason against another. There is no recursion, and
// each node and each dependency is visited once.
//
// A reference to something with a name of its own makes no dependency: that a
// function calls a changed function does not change it. A reference to anonymous
// or compiler-made data does: such data is part of whoever refers to it.

type nodeID int32

type node struct {
	x, y   AtomID
	users  int32 // head of the list of dependents in deps
	failed bool
	lines  bool // equal but for line numbers
	own    bool // failed for a reason of its own
	causes []Cause
}

type dep struct {
	user nodeID
	next int32
	off  uint64 // of the reference, from the start of the dependent
}

type comparer struct {
	c      *correlation
	a, b   *Graph
	opts   *Options
	nodes  []node
	deps   []dep
	index  map[uint64]nodeID
	queue  []nodeID // nodes not yet looked at
	ea, eb []Edge   // of the node under comparison
	wa     *walk    // of the original's code
	own    [2]walk  // memory for them, by side
	like   walk     // likewise, for code with the same bytes as that of the other side
	refs   struct { // what the node under comparison refers to; made when needed
		node nodeID
		a, b map[AtomID]bool
	}
	pads  int      // uses of the relaxation "padding"
	moves int      // uses of the relaxation "text-move"
	reads struct { // how far the code of the node reads from its references; made when needed
		node nodeID
		a, b map[uint64]uint64
	}
	inside bool // narrowed is at work
	narrow int  // references to nameless constants that were compared by what is read
	plts   int  // uses of the relaxation "plt32"
	empty  int  // uses of the relaxation "empty-replacement"
}

func newComparer(c *correlation, opts *Options) *comparer {
	return &comparer{c: c, a: c.a, b: c.b, opts: opts, deps: make([]dep, 1)}
}

// node gives the node of a pair, made and queued when it is new.
func (k *comparer) node(x, y AtomID) nodeID {
	key := uint64(x)<<32 | uint64(y)
	if n, ok := k.index[key]; ok {
		return n
	}
	n := nodeID(len(k.nodes))
	k.nodes = append(k.nodes, node{x: x, y: y})
	k.index[key] = n
	k.queue = append(k.queue, n)
	return n
}

// needs records that a node is equal only if a pair is.
func (k *comparer) needs(user nodeID, x, y AtomID, off uint64) {
	if k.c.proved[x] && k.c.ab[x] == y {
		return
	}
	n := k.node(x, y)
	k.deps = append(k.deps, dep{user: user, next: k.nodes[n].users, off: off})
	k.nodes[n].users = int32(len(k.deps) - 1)
}

// fail gives node n a reason of its own against equality.
func (k *comparer) fail(n nodeID, cause Cause) {
	nd := &k.nodes[n]
	nd.failed, nd.own = true, true
	nd.causes = append(nd.causes, cause)
}

// run compares all pairs of the correlation, and what they lead to.
func (k *comparer) run() {
	open := 0
	for x, y := range k.c.ab {
		if y != 0 && !k.c.proved[x] {
			open++
		}
	}
	k.nodes, k.index = make([]node, 0, open+open/4), make(map[uint64]nodeID, open)
	for x, y := range k.c.ab {
		if y != 0 && !k.c.proved[x] {
			k.node(AtomID(x), y)
		}
	}
	for len(k.queue) > 0 {
		k.c.poll.step()
		n := k.queue[len(k.queue)-1]
		k.queue = k.queue[:len(k.queue)-1]
		k.local(n)
	}
	// Hand failure back to dependents.
	var work []nodeID
	for i := range k.nodes {
		if k.nodes[i].failed {
			work = append(work, nodeID(i))
		}
	}
	for len(work) > 0 {
		n := work[len(work)-1]
		work = work[:len(work)-1]
		for d := k.nodes[n].users; d != 0; d = k.deps[d].next {
			u := k.deps[d].user
			nd := &k.nodes[u]
			if len(nd.causes) < maxCauses {
				nd.causes = append(nd.causes, k.viaCause(n, k.deps[d].off))
			}
			if !nd.failed {
				nd.failed = true
				work = append(work, u)
			}
		}
	}
	// Line numbers in data without a name of its own are those of whoever refers to it.
	for i := range k.nodes {
		if k.nodes[i].lines && !k.nodes[i].failed {
			work = append(work, nodeID(i))
		}
	}
	for len(work) > 0 {
		n := work[len(work)-1]
		work = work[:len(work)-1]
		for d := k.nodes[n].users; d != 0; d = k.deps[d].next {
			nd := &k.nodes[k.deps[d].user]
			if nd.failed || nd.lines {
				continue
			}
			nd.lines = true
			c := k.viaCause(n, k.deps[d].off)
			c.Kind = CauseLine
			nd.causes = append(nd.causes, c)
			work = append(work, k.deps[d].user)
		}
	}
}

const maxCauses = 64 // per node; the first ones explain

// viaCause explains a failure that came through anonymous data.
func (k *comparer) viaCause(n nodeID, off uint64) Cause {
	nd := &k.nodes[n]
	c := Cause{Kind: CauseConstant, Off: off, Orig: k.a.Name(nd.x), Patched: k.b.Name(nd.y)}
	switch k.a.Atoms[nd.x].Kind {
	case AtomCode:
		c.Kind = CauseTable
	case AtomEntry:
		c.Kind = CauseTable
	}
	return c
}

// local compares one pair by its own bytes and references.
func (k *comparer) local(n nodeID) {
	x, y := k.nodes[n].x, k.nodes[n].y
	ax, ay := &k.a.Atoms[x], &k.b.Atoms[y]
	if ax.Kind == AtomPad && ay.Kind == AtomPad {
		if !bytes.Equal(k.a.Bytes(x), k.b.Bytes(y)) {
			k.pads++ // relaxation "padding": NOPs, int3 and zeros may differ
		}
		return
	}
	sx, sy := &k.a.File.Sections[ax.Sec], &k.b.File.Sections[ay.Sec]
	if sx.Type != sy.Type || (sx.Flags^sy.Flags)&(elf.SHF_WRITE|elf.SHF_EXECINSTR|elf.SHF_ALLOC|elf.SHF_TLS) != 0 || k.a.class(x) != k.b.class(y) {
		k.fail(n, Cause{Kind: CauseSection, Orig: sx.Name, Patched: sy.Name})
		return
	}
	if ax.Kind == AtomFunc && sx.Name != sy.Name && ax.Flag&FlagCold == 0 && subsection(sx.Name) != subsection(sy.Name) {
		k.moves++
	}
	if ax.Kind == AtomObject && sx.Addralign != sy.Addralign && k.a.alone(ax.Sec) && k.b.alone(ay.Sec) {
		k.fail(n, Cause{Kind: CauseAlign, Orig: dec(sx.Addralign), Patched: dec(sy.Addralign)})
		return
	}
	if ax.Sym != 0 || ay.Sym != 0 {
		if c, ok := k.labels(x, y); !ok {
			k.fail(n, c)
		}
	}
	if ax.Kind == AtomFunc || ax.Kind == AtomCode {
		k.code(n, ax, ay)
		return
	}
	if ax.Size != ay.Size {
		k.fail(n, Cause{Kind: CauseSize, Orig: hex(ax.Size), Patched: hex(ay.Size)})
		return
	}
	k.ea, _ = k.a.Edges(x, k.own[0].edges[:0])
	k.eb, _ = k.b.Edges(y, k.own[1].edges[:0])
	k.own[0].edges, k.own[1].edges = k.ea, k.eb
	if ax.Kind == AtomEntry {
		k.entry(n, ax, ay)
		return
	}
	if dx, dy := k.a.Bytes(x), k.b.Bytes(y); !bytes.Equal(dx, dy) {
		if c, ok := k.lineData(x, y, dx, dy); ok {
			k.nodes[n].lines = true
			k.nodes[n].causes = append(k.nodes[n].causes, c)
		} else {
			i := firstDiff(dx, dy)
			k.fail(n, Cause{Kind: CauseBytes, Off: uint64(i), Orig: hexBytes(dx, i), Patched: hexBytes(dy, i)})
			return
		}
	}
	k.edges(n, ax, ay, k.ea, k.eb)
}

// class gives what a section's name says beyond the symbol that the compiler put
// there (-ffunction-sections, -fdata-sections): .init.text is another class than
// .text, .data..percpu another than .data. Where the compiler chooses between
// subsections (hot, unlikely), code may move: the relaxation "text-move".
func (g *Graph) class(a AtomID) string {
	at := &g.Atoms[a]
	name := g.File.Sections[at.Sec].Name
	if at.Sym == 0 {
		return ""
	}
	for _, p := range classPrefixes {
		if rest, ok := strings.CutPrefix(name, p); ok && (rest == "" || rest[0] == '.' && len(rest) > 1 && rest[1] != '.') {
			return p
		}
	}
	if rest, ok := strings.CutSuffix(name, "."+g.File.Symbols[at.Sym].Name); ok {
		return rest
	}
	return name
}

// subsection gives the part of a code section's name that the compiler chooses by how often it runs.
func subsection(name string) string {
	for _, p := range [...]string{".text.unlikely", ".text.hot", ".text.startup", ".text.exit", ".text.split"} {
		if strings.HasPrefix(name, p) {
			return p
		}
	}
	return ".text"
}

// classPrefixes are the sections that compilers split by symbol, longest first.
var classPrefixes = [...]string{".data.rel.ro", ".text", ".data", ".rodata", ".bss", ".tdata", ".tbss"}

// alone reports whether a section holds one atom.
func (g *Graph) alone(sec object.SecID) bool { return g.first[sec+1]-g.first[sec] == 1 }

// labels compares the names that other objects can refer to: the same symbols at
// the same places, weak where they were weak. A symbol that is local on one side
// counts as the same name: that nobody else uses it is a matter of the other objects.
func (k *comparer) labels(x, y AtomID) (Cause, bool) {
	lx, ly := k.a.Labels(x), k.b.Labels(y)
	if len(lx) == 1 && len(ly) == 1 && k.c.symAB[lx[0]] == ly[0] {
		return weakCause(&k.a.File.Symbols[lx[0]], &k.b.File.Symbols[ly[0]])
	}
	if l, c := missing(k.a, k.b, x, y, lx, ly); c.Kind != 0 {
		c.Orig = k.a.File.Symbols[l].Name
		return c, false
	}
	if l, c := missing(k.b, k.a, y, x, ly, lx); c.Kind != 0 {
		c.Patched = k.b.File.Symbols[l].Name
		return c, false
	}
	return Cause{}, true
}

// missing finds a global symbol of list, in atom from of g, that is not in other,
// in atom to of h, at the same place and as weak; the cause says how.
func missing(g, h *Graph, from, to AtomID, list, other []object.SymID) (object.SymID, Cause) {
	type place struct {
		off uint64
		key string
	}
	var index map[place]object.SymID // for long lists
	if len(list)*len(other) > 256 {
		index = make(map[place]object.SymID, len(other))
		for _, m := range other {
			t := &h.File.Symbols[m]
			index[place{t.Value - h.Atoms[to].Off, symbols.Key(t.Name)}] = m
		}
	}
	for _, l := range list {
		s := &g.File.Symbols[l]
		if s.Bind() == elf.STB_LOCAL || !g.namesTarget(l) {
			continue
		}
		p := place{s.Value - g.Atoms[from].Off, symbols.Key(s.Name)}
		found := object.SymID(0)
		if index != nil {
			found = index[p]
		} else {
			for _, m := range other {
				if t := &h.File.Symbols[m]; t.Value-h.Atoms[to].Off == p.off && symbols.Key(t.Name) == p.key {
					found = m
				}
			}
		}
		if found == 0 {
			return l, Cause{Kind: CauseSymbol, Off: p.off}
		}
		if c, ok := weakCause(s, &h.File.Symbols[found]); !ok {
			return l, c
		}
	}
	return 0, Cause{}
}

func weakCause(x, y *object.Symbol) (Cause, bool) {
	if x.Bind() != elf.STB_LOCAL && y.Bind() != elf.STB_LOCAL && (x.Bind() == elf.STB_WEAK) != (y.Bind() == elf.STB_WEAK) {
		return Cause{Kind: CauseSymbol, Orig: x.Name + " " + x.Bind().String(), Patched: y.Name + " " + y.Bind().String()}, false
	}
	return Cause{}, true
}

// edges compares two lists of references pairwise, by place, type and target.
func (k *comparer) edges(n nodeID, ax, ay *Atom, ea, eb []Edge) {
	for i := range ea {
		if i >= len(eb) || ea[i].Off-ax.Off != eb[i].Off-ay.Off || ea[i].Kind != eb[i].Kind || !k.sameType(&ea[i], &eb[i]) {
			c := Cause{Kind: CauseRelocType, Off: ea[i].Off - ax.Off, Orig: k.a.EdgeText(&ea[i])}
			if i < len(eb) {
				c.Patched = k.b.EdgeText(&eb[i])
			}
			k.fail(n, c)
			return
		}
		k.c.poll.step()
		k.target(n, ea[i].Off-ax.Off, &ea[i], &eb[i])
	}
	if len(eb) > len(ea) {
		e := &eb[len(ea)]
		k.fail(n, Cause{Kind: CauseRelocType, Off: e.Off - ay.Off, Patched: k.b.EdgeText(e)})
	}
}

// sameType compares relocation types. R_X86_64_PLT32 against code that is defined
// here is R_X86_64_PC32 (psABI 4.4.1): compilers choose by the symbol's binding.
func (k *comparer) sameType(ea, eb *Edge) bool {
	if ea.Type == eb.Type {
		return true
	}
	call := func(g *Graph, e *Edge) bool {
		return (e.Type == elf.R_X86_64_PC32 || e.Type == elf.R_X86_64_PLT32) && e.Sec != 0 && g.File.Sections[e.Sec].Exec()
	}
	if call(k.a, ea) && call(k.b, eb) {
		k.plts++
		return true
	}
	return false
}

// target compares where two references lead. Off is the place in the node, for causes.
func (k *comparer) target(n nodeID, off uint64, ea, eb *Edge) {
	tx, ty := k.a.Resolve(ea), k.b.Resolve(eb)
	differs := func() {
		k.fail(n, Cause{Kind: CauseTarget, Off: off, Orig: k.a.EdgeText(ea), Patched: k.b.EdgeText(eb)})
	}
	if tx.Atom == 0 || ty.Atom == 0 {
		// A section that holds something on one side only is not the same as an empty one.
		lone := (tx.Atom == 0) != (ty.Atom == 0) && (ea.Sym == 0 || eb.Sym == 0 || k.a.File.Symbols[ea.Sym].Type() == elf.STT_SECTION || k.b.File.Symbols[eb.Sym].Type() == elf.STT_SECTION)
		if lone || tx.Disp != ty.Disp || !k.sameSymbol(ea, eb, tx, ty) {
			differs()
		}
		return
	}
	if k.weak(k.a, ea) || k.weak(k.b, eb) {
		// The final link may take another definition: the name is what counts.
		if ea.Sym == 0 || eb.Sym == 0 || k.a.File.Symbols[ea.Sym].Name != k.b.File.Symbols[eb.Sym].Name {
			differs()
			return
		}
	}
	if !k.otherReading(n, ea, eb, tx, ty) {
		k.fail(n, Cause{Kind: CauseAmbiguous, Off: off, Orig: k.a.EdgeText(ea), Patched: k.b.EdgeText(eb)})
		return
	}
	ax, ay := &k.a.Atoms[tx.Atom], &k.b.Atoms[ty.Atom]
	switch {
	case ax.Kind != ay.Kind:
		differs()
		return
	case ea.Indexed && (ax.Kind == AtomString || ax.Kind == AtomConst):
		k.indexed(n, off, ea, eb, tx, ty)
		return
	case ax.Kind == AtomAnon && k.a.readOnly(ax.Sec) && k.b.readOnly(ay.Sec) && k.narrowed(n, off, ea, eb, tx, ty):
		return
	case ax.Kind == AtomString:
		if sx, sy := k.a.stringBytes(tx), k.b.stringBytes(ty); k.a.File.Sections[ax.Sec].Entsize != k.b.File.Sections[ay.Sec].Entsize || sx == nil || !bytes.Equal(sx, sy) {
			k.fail(n, Cause{Kind: CauseString, Off: off, Orig: quote(sx), Patched: quote(sy)})
		}
		return
	case ax.Kind == AtomPad:
		// Something that looks like padding and is referred to: control that comes there falls into what is behind it.
		if tx.Disp != ty.Disp || !bytes.Equal(k.a.Bytes(tx.Atom), k.b.Bytes(ty.Atom)) {
			differs()
			return
		}
		if nx, ny := k.a.behind(tx.Atom), k.b.behind(ty.Atom); k.a.File.Sections[ax.Sec].Exec() && (nx != 0 || ny != 0) {
			switch {
			case nx == 0 || ny == 0 || k.a.Atoms[nx].Kind != k.b.Atoms[ny].Kind:
				differs()
			case k.a.Atoms[nx].Kind == AtomCode:
				k.needs(n, nx, ny, off)
			case k.c.ab[nx] != ny:
				differs()
			}
		}
		return
	case ax.Kind == AtomExcluded:
		if k.a.File.Sections[ax.Sec].Name != k.b.File.Sections[ay.Sec].Name {
			differs()
		}
		return
	case tx.Disp != ty.Disp:
		// Positions inside a function that differ are left to whoever compares that function.
		differs()
		return
	case ax.Kind == AtomConst:
		k.needs(n, tx.Atom, ty.Atom, off)
		if tx.Disp != 0 { // the access may run into the next entry
			k.nextConst(n, off, tx.Atom, ty.Atom)
		}
		return
	case ax.Kind == AtomEntry:
		// The function's own entry is compared as such; here it must be the same one.
		if ax.Unit != 0 && ay.Unit != 0 {
			if k.c.ab[k.a.Units[ax.Unit].Main] != k.b.Units[ay.Unit].Main || k.a.entryOrd[tx.Atom] != k.b.entryOrd[ty.Atom] {
				differs()
			}
			return
		}
		k.needs(n, tx.Atom, ty.Atom, off)
		return
	case k.c.ab[tx.Atom] == ty.Atom:
		// To code, a place inside another function means something only while that function is as it was. (Data that
		// holds such a place is as it was; what became of the place is told of the function.)
		src := &k.a.Atoms[k.nodes[n].x]
		inside := ax.Kind.Code() && src.Kind.Code() && tx.Disp != 0 && ax.Unit != src.Unit
		if k.c.conf[tx.Atom] == ConfTie && !k.a.readOnly(ax.Sec) {
			k.fail(n, Cause{Kind: CauseAmbiguous, Off: off, Orig: k.a.Name(tx.Atom), Patched: k.b.Name(ty.Atom)})
			return
		}
		if ax.Flag&FlagContent != 0 || ax.Kind == AtomAnon || inside || ax.Kind == AtomCode && (ax.Unit == 0 || ax.Flag&FlagBody != 0) {
			k.needs(n, tx.Atom, ty.Atom, off)
		}
		return
	case k.byContent(ax, ay):
		k.needs(n, tx.Atom, ty.Atom, off)
		return
	}
	differs()
}

// indexed compares two indexed accesses into mergeable data. The linker may merge
// and move each piece of such a section by itself (gABI, SHF_MERGE), so an access by
// way of a piece stays in that piece: the one that a label names, whatever
// displacement follows, or that a section symbol leads to the start of. Anything else
// may reach whatever stands there: the rest of the section has to be equal.
func (k *comparer) indexed(n nodeID, off uint64, ea, eb *Edge, tx, ty Target) {
	px, okx := k.a.piece(ea, tx)
	py, oky := k.b.piece(eb, ty)
	if okx && oky {
		if px.Disp != py.Disp || k.a.Atoms[px.Atom].Kind != k.b.Atoms[py.Atom].Kind {
			k.fail(n, Cause{Kind: CauseConstant, Off: off, Orig: k.a.TargetText(px), Patched: k.b.TargetText(py)})
			return
		}
		k.needs(n, px.Atom, py.Atom, off)
		return
	}
	sx, sy := k.a.Atoms[tx.Atom].Sec, k.b.Atoms[ty.Atom].Sec
	if !bytes.Equal(k.a.rest(tx), k.b.rest(ty)) || k.a.File.RelocsOf(sx).Len()+k.b.File.RelocsOf(sy).Len() > 0 {
		k.fail(n, Cause{Kind: CauseConstant, Off: off, Orig: k.a.TargetText(tx), Patched: k.b.TargetText(ty)})
	}
}

// piece gives the piece of mergeable data that a reference goes by, and the displacement from its start.
func (g *Graph) piece(e *Edge, t Target) (Target, bool) {
	if e.Sym != 0 && g.File.Symbols[e.Sym].Type() != elf.STT_SECTION {
		a := g.symAtom[e.Sym]
		return Target{Atom: a, Disp: g.Pos(e) - int64(g.Atoms[a].Off)}, a != 0
	}
	return t, t.Disp == 0
}

// otherReading compares two references under their second reading, the end of the
// piece before, where code that also refers to that piece makes it likely: a loop's
// end pointer. Where only one side has it, the two do not mean the same.
func (k *comparer) otherReading(n nodeID, ea, eb *Edge, tx, ty Target) bool {
	px, py := k.a.Before(ea, tx), k.b.Before(eb, ty)
	if px == 0 && py == 0 {
		return true
	}
	if k.refs.node != n || k.refs.a == nil {
		k.refs.node, k.refs.a, k.refs.b = n, k.a.targets(k.ea), k.b.targets(k.eb)
	}
	if !k.refs.a[px] {
		px = 0
	}
	if !k.refs.b[py] {
		py = 0
	}
	if px == 0 || py == 0 {
		return px == 0 && py == 0
	}
	return k.c.ab[px] == py && k.a.Atoms[px].Size == k.b.Atoms[py].Size
}

// targets gives the atoms that a list of references leads to.
func (g *Graph) targets(edges []Edge) map[AtomID]bool {
	m := make(map[AtomID]bool)
	for i := range edges {
		if t := g.Resolve(&edges[i]); t.Atom != 0 {
			m[t.Atom] = true
		}
	}
	return m
}

// weak reports whether an edge names a weak definition.
func (k *comparer) weak(g *Graph, e *Edge) bool {
	return e.Sym != 0 && g.File.Symbols[e.Sym].Bind() == elf.STB_WEAK
}

// behind gives the atom behind another in its section, 0 when there is none.
func (g *Graph) behind(a AtomID) AtomID {
	if _, end := g.atomsOf(g.Atoms[a].Sec); a+1 < end {
		return a + 1
	}
	return 0
}

// rest gives the contents of a section from a target on.
func (g *Graph) rest(t Target) []byte {
	at := &g.Atoms[t.Atom]
	d := g.File.Sections[at.Sec].Data
	return d[min(max(int64(at.Off)+t.Disp, 0), int64(len(d))):]
}

// stringBytes gives the string at a target with its terminator; nil when the target lies outside its atom.
func (g *Graph) stringBytes(t Target) []byte {
	at := &g.Atoms[t.Atom]
	d := g.Bytes(t.Atom)
	if t.Disp < 0 || uint64(t.Disp) >= uint64(len(d)) {
		return nil
	}
	s, _ := object.StringAt(d, uint64(t.Disp), int(g.File.Sections[at.Sec].Entsize))
	return s
}

// byContent reports whether two atoms without a pair may stand for each other by content.
func (k *comparer) byContent(ax, ay *Atom) bool {
	switch ax.Kind {
	case AtomAnon:
		return k.a.readOnly(ax.Sec) || ax.Flag&FlagContent != 0 && ay.Flag&FlagContent != 0
	case AtomObject:
		return ax.Flag&FlagContent != 0 && ay.Flag&FlagContent != 0
	case AtomCode:
		return true // replacement code, out-of-line fixups: compared where they are referred to
	}
	return false
}

func (k *comparer) nextConst(n nodeID, off uint64, x, y AtomID) {
	_, hx := k.a.atomsOf(k.a.Atoms[x].Sec)
	_, hy := k.b.atomsOf(k.b.Atoms[y].Sec)
	switch {
	case x+1 < hx && y+1 < hy:
		k.needs(n, x+1, y+1, off)
	case x+1 < hx || y+1 < hy:
		k.fail(n, Cause{Kind: CauseConstant, Off: off, Orig: k.a.Name(x), Patched: k.b.Name(y)})
	}
}

// sameSymbol compares targets of which at least one is not in its object.
func (k *comparer) sameSymbol(ea, eb *Edge, tx, ty Target) bool {
	if ea.Sym == 0 || eb.Sym == 0 {
		return ea.Sym == eb.Sym && ea.Sec == 0 && eb.Sec == 0 // an absolute address
	}
	sx, sy := &k.a.File.Symbols[ea.Sym], &k.b.File.Symbols[eb.Sym]
	if sx.Type() == elf.STT_SECTION || sy.Type() == elf.STT_SECTION {
		// Empty sections (and sections that occupy no memory) stand for themselves.
		return sx.Type() == sy.Type() && symbols.Key(k.a.File.SymName(ea.Sym)) == symbols.Key(k.b.File.SymName(eb.Sym))
	}
	if sx.Name != sy.Name {
		return false
	}
	if (sx.Bind() == elf.STB_LOCAL) != (sy.Bind() == elf.STB_LOCAL) {
		return false
	}
	if sx.Shndx == elf.SHN_ABS || sy.Shndx == elf.SHN_ABS {
		return sx.Shndx == sy.Shndx && sx.Value == sy.Value
	}
	return true
}

// code compares two pieces of code: bytes outside resolved operands that leave
// the piece, and references. Where it must, it decodes; equal bytes in sections
// with one function each need no decoding, since whatever is resolved inside is
// resolved equally.
func (k *comparer) code(n nodeID, ax, ay *Atom) {
	x, y := k.nodes[n].x, k.nodes[n].y
	dx, dy := k.a.Bytes(x), k.b.Bytes(y)
	equal := bytes.Equal(dx, dy)
	if equal && !k.a.multi[ax.Sec] && !k.b.multi[ay.Sec] && k.relocsAlike(ax, ay) {
		return
	}
	k.wa = k.walk(0, x)
	wb := k.kept(1, y)
	switch {
	case wb != nil:
	case equal && k.b.walkLike(y, k.a, x, k.wa, &k.like):
		wb = &k.like
	default:
		wb = k.walk(1, y)
	}
	k.ea, k.eb = k.wa.edges, wb.edges
	ea, eb := k.ea, k.eb
	if !k.wa.decoded || !wb.decoded {
		// Operands that the assembler resolved cannot be found. Equal bytes prove them equal where the section
		// holds nothing else, or lies the same on both sides.
		if !equal || (k.a.multi[ax.Sec] || k.b.multi[ay.Sec]) && !k.sameLayout(ax.Sec, ay.Sec) {
			k.fail(n, Cause{Kind: CauseUndecodable})
			return
		}
	}
	if equal {
		k.edges(n, ax, ay, ea, eb)
		return
	}
	k.instructions(n, ax, ay, dx, dy, ea, eb)
}

// kept gives the walk over a piece of code that somebody made before, or nil.
func (k *comparer) kept(side int, a AtomID) *walk {
	users := k.c.usersA
	if side == 1 {
		users = k.c.usersB
	}
	if users == nil {
		return nil
	}
	return users.walks.of(a)
}

// walk gives the walk over a piece of code: one that is kept, or in memory of the side's own.
func (k *comparer) walk(side int, a AtomID) *walk {
	if w := k.kept(side, a); w != nil {
		return w
	}
	g := k.a
	if side == 1 {
		g = k.b
	}
	g.walk(a, &k.own[side])
	return &k.own[side]
}

// sameLayout reports whether two sections have pairs of atoms at the same places,
// with the same bytes where they have no name: then equal displacements lead to the same thing.
func (k *comparer) sameLayout(sx, sy object.SecID) bool {
	lx, hx := k.a.atomsOf(sx)
	ly, hy := k.b.atomsOf(sy)
	if hx-lx != hy-ly {
		return false
	}
	for i := range hx - lx {
		x, y := &k.a.Atoms[lx+i], &k.b.Atoms[ly+i]
		if x.Off != y.Off || x.Size != y.Size || x.Kind != y.Kind || x.Kind != AtomPad && k.c.ab[lx+i] != ly+i {
			return false
		}
		if x.Kind != AtomFunc && x.Kind != AtomObject && !bytes.Equal(k.a.Bytes(lx+i), k.b.Bytes(ly+i)) {
			return false
		}
	}
	return true
}

// relocsAlike settles the common case without decoding: the same relocations,
// each against the same thing for any distance to the end of the instruction.
// False says nothing.
func (k *comparer) relocsAlike(ax, ay *Atom) bool {
	rx, ry := k.a.File.RelocsOf(ax.Sec), k.b.File.RelocsOf(ay.Sec)
	lx, hx := rx.Range(ax.Off, ax.Off+ax.Size)
	ly, hy := ry.Range(ay.Off, ay.Off+ay.Size)
	if hx-lx != hy-ly {
		return false
	}
	for i := 0; i < hx-lx; i++ {
		p, q := rx.At(lx+i), ry.At(ly+i)
		if p.Off-ax.Off != q.Off-ay.Off || p.Type != q.Type || p.Addend != q.Addend {
			return false
		}
		if p.Type == elf.R_X86_64_NONE {
			continue
		}
		if k.c.symAB[p.Sym] != q.Sym || q.Sym == 0 {
			return false
		}
		s := &k.a.File.Symbols[p.Sym]
		if s.Sec == 0 && k.b.File.Symbols[q.Sym].Sec != 0 {
			return false
		}
		if s.Sec == 0 {
			if t := &k.b.File.Symbols[q.Sym]; s.Shndx != t.Shndx || s.Shndx == elf.SHN_ABS && s.Value != t.Value {
				return false
			}
			continue
		}
		// Defined here: the symbols must name a pair of atoms that is equal by name.
		ta, tb := k.a.symAtom[p.Sym], k.b.symAtom[q.Sym]
		if ta == 0 || !k.a.namesTarget(p.Sym) || k.c.ab[ta] != tb || k.a.Atoms[ta].Flag&FlagContent != 0 || k.a.Atoms[ta].Kind == AtomAnon ||
			s.Value-k.a.Atoms[ta].Off != k.b.File.Symbols[q.Sym].Value-k.b.Atoms[tb].Off || k.c.conf[ta] == ConfTie {
			return false
		}
		if s.Bind() == elf.STB_WEAK || k.b.File.Symbols[q.Sym].Bind() == elf.STB_WEAK {
			return false
		}
		if k.a.Atoms[ta].Kind.Code() && (s.Value != k.a.Atoms[ta].Off || p.Addend != 0 && p.Addend != -4) {
			return false // perhaps a place inside
		}
	}
	return true
}

// instructions walks two pieces of code in step. Operands resolved by the
// assembler count by their target; immediates that differ are kept as candidates
// for line numbers; the first other difference ends the walk.
func (k *comparer) instructions(n nodeID, ax, ay *Atom, dx, dy []byte, ea, eb []Edge) {
	var imms []immDiff
	for at := 0; ; {
		at += firstDiff(dx[at:], dy[at:])
		if at == min(len(dx), len(dy)) {
			if len(dx) != len(dy) {
				k.fail(n, k.codeCause(ax, ay, at))
				return
			}
			break
		}
		at = k.wa.start(at) // up to here, instructions start at the same places in both
		ix, errx := x86.Decode(dx[at:])
		iy, erry := x86.Decode(dy[at:])
		if errx != nil || erry != nil || !k.sameInst(dx[at:], dy[at:], &ix, &iy, at, ax, ay, &imms) {
			k.fail(n, k.codeCause(ax, ay, at))
			return
		}
		at += int(ix.Len)
	}
	before := k.nodes[n].failed
	k.edges(n, ax, ay, ea, eb)
	if k.nodes[n].failed && !before {
		return
	}
	if len(imms) == 0 {
		return
	}
	proofX, proofY := k.a.newProver(k.nodes[n].x, ea, imms, k.c.poll), k.b.newProver(k.nodes[n].y, eb, imms, k.c.poll)
	for _, d := range imms {
		if line, ok := k.lineArgument(proofX, proofY, d); ok {
			k.nodes[n].lines = true
			k.nodes[n].causes = append(k.nodes[n].causes, line)
			continue
		}
		k.fail(n, Cause{Kind: CauseImmediate, Off: uint64(d.off), Orig: dec(d.x), Patched: dec(d.y)})
	}
}

// immDiff is an instruction that differs only in the value that it loads into a register.
type immDiff struct {
	off  int // of the instruction, in both
	len  int
	reg  x86.Reg
	x, y uint64
}

// sameInst reports whether two instructions at the same place are equal but for a
// resolved operand that leaves the piece (compared as an edge) or a loaded immediate (noted in imms).
func (k *comparer) sameInst(cx, cy []byte, ix, iy *x86.Inst, at int, ax, ay *Atom, imms *[]immDiff) bool {
	if ix.Len != iy.Len {
		return false
	}
	n := int(ix.Len)
	if bytes.Equal(cx[:n], cy[:n]) {
		return true
	}
	if off, size, vx, ok := ix.Rel(cx); ok {
		off2, size2, vy, ok2 := iy.Rel(cy)
		lo, hi := int(off), int(off)+int(size)
		if ok2 && off2 == off && size2 == size && bytes.Equal(cx[:lo], cy[:lo]) && bytes.Equal(cx[hi:n], cy[hi:n]) {
			tx, ty := int64(at+n)+vx, int64(at+n)+vy
			outx, outy := tx < 0 || tx >= int64(ax.Size), ty < 0 || ty >= int64(ay.Size)
			return outx && outy // inside, different displacements are different targets
		}
		return false
	}
	rx, vx, okx := ix.LoadsImm(cx)
	ry, vy, oky := iy.LoadsImm(cy)
	if okx && oky && rx == ry && ix.ImmLen == iy.ImmLen && bytes.Equal(cx[:ix.ImmOff], cy[:iy.ImmOff]) && len(*imms) < 4096 {
		*imms = append(*imms, immDiff{off: at, len: n, reg: rx, x: vx, y: vy})
		return true
	}
	return false
}

func (k *comparer) codeCause(ax, ay *Atom, at int) Cause {
	c := Cause{Kind: CauseCode, Off: uint64(at)}
	c.Orig = k.a.instText(ax, at)
	c.Patched = k.b.instText(ay, at)
	return c
}

// entry compares two table entries: bytes outside the line field, and references.
func (k *comparer) entry(n nodeID, ax, ay *Atom) {
	if ax.Row != ay.Row {
		k.fail(n, Cause{Kind: CauseTable, Orig: k.a.Name(k.nodes[n].x), Patched: k.b.Name(k.nodes[n].y)})
		return
	}
	row := &k.a.Rules.Tables[ax.Row-1]
	dx, dy := k.a.Bytes(k.nodes[n].x), k.b.Bytes(k.nodes[n].y)
	if !bytes.Equal(dx, dy) {
		lo, hi := 0, 0
		if row.Line != NoField {
			lo, hi = row.Line, row.Line+row.LineSize
		}
		cause := Cause{Kind: CauseTable, Orig: hexBytes(dx, 0), Patched: hexBytes(dy, 0)}
		if k.opts.NoLines || hi == 0 || !bytes.Equal(dx[:lo], dy[:lo]) || !bytes.Equal(dx[hi:], dy[hi:]) {
			k.fail(n, cause)
			return
		}
		cause.Kind, cause.Off, cause.Proof = CauseLine, uint64(lo), "the line field of "+row.Section
		cause.Orig, cause.Patched = dec(leUint(dx[lo:hi])), dec(leUint(dy[lo:hi]))
		k.nodes[n].lines = true
		k.nodes[n].causes = append(k.nodes[n].causes, cause)
	}
	if k.a.emptyBody(k.nodes[n].x) >= 0 {
		k.empty++ // relaxation "empty-replacement": where no code is put, it does not matter where it would come from
	}
	k.edges(n, ax, ay, k.ea, k.eb)
}
