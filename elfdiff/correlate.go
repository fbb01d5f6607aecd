package elfdiff

import (
	"cmp"
	"debug/elf"
	"encoding/binary"
	"iter"
	"math/bits"
	"slices"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/symbols"
)

// Correlation goes from the certain to the uncertain (rule G5):
//
//  1. what the caller pinned;
//  2. exact names that exist once on either side in one scope and hold no
//     number that compilers give out;
//  3. families: what is left with one stable key in one scope. A family with one
//     member on either side is a pair; a larger one is refined by rounds of
//     signatures, from strict (content and users with positions) to loose
//     (users alone, content alone), each pairing what is unique on both sides;
//  4. the same without regard to scope, when unique: static made global, link-time optimisation;
//  5. what remains of a family with equal numbers, in order, marked as a tie.
//
// Signatures are hashes: they choose pairs, and whatever they choose is then
// compared in full. Anonymous data takes no part; it is compared where it is
// referred to.

// Confidence says how a pair was found, best first.
type Confidence uint8

// The ways to a pair.
const (
	ConfPinned  Confidence = iota + 1 // by the caller
	ConfName                          // exact name, unique
	ConfFamily                        // the only member of its family on either side
	ConfContent                       // among several: content and users agree
	ConfUsers                         // among several: the same functions refer to it
	ConfLoose                         // among several: content alone, or scope differs
	ConfTie                           // several matches are equally good; paired in order
)

var confNames = [...]string{"none", "pinned", "name", "family", "content", "users", "loose", "tie"}

// String gives the name of the confidence.
func (c Confidence) String() string { return word(confNames[:], uint8(c)) }

// MarshalText makes a confidence its word in JSON.
func (c Confidence) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// correlation is the pairing of two graphs.
type correlation struct {
	a, b           *Graph
	poll           *poller
	ab, ba         []AtomID // by AtomID: the other side's atom; 0 none
	conf           []Confidence
	files          []uint32       // by FILE scope of a: that of b; 0 none
	symAB          []object.SymID // by SymID of a: the symbol of b that stands for the same thing, for symbols without an atom
	usersA, usersB *openUsers     // references from what is not proved; made when needed
	proved         []bool         // by AtomID of a: the pair is proved equal already
	doneA, doneB   []bool         // by SecID: all of the section's atoms are
	readA, readB   []bool         // by AtomID: strings that settling compared for something that refers to them
	diags          []diag.Diagnostic
}

// Pin makes two pieces a pair, by the names of their symbols. A local name that
// several source files have is written with its FILE symbol before it: "core.c:state".
type Pin struct{ Orig, Patched string }

func correlate(a, b *Graph, pins []Pin, poll *poller) *correlation {
	c := &correlation{a: a, b: b, poll: poll,
		ab: make([]AtomID, len(a.Atoms)), ba: make([]AtomID, len(b.Atoms)), conf: make([]Confidence, len(a.Atoms)),
		files: make([]uint32, len(a.Files)+1), symAB: make([]object.SymID, max(len(a.File.Symbols), 1))}
	for _, step := range []func(){c.pairFiles, func() { c.pin(pins) }, c.exact, c.settle, c.byName, c.families, c.members, c.anonymous, c.ties} {
		poll.look()
		step()
	}
	return c
}

// pair makes x and y a pair unless either has one; functions pair with functions, data with data.
func (c *correlation) pair(x, y AtomID, conf Confidence) bool {
	if x == 0 || y == 0 || c.ab[x] != 0 || c.ba[y] != 0 || !samekind(c.a.Atoms[x].Kind, c.b.Atoms[y].Kind) {
		return false
	}
	c.ab[x], c.ba[y], c.conf[x] = y, x, conf
	return true
}

func samekind(x, y AtomKind) bool { return x == y }

// pairFiles pairs FILE scopes: by name where it is unique; where names repeat
// (every directory has a core.c), by the largest number of local names in common
// that only one scope of that name holds on either side; the rest in order.
func (c *correlation) pairFiles() {
	na, nb := len(c.a.Files), len(c.b.Files)
	if na == 1 && nb == 1 {
		c.files[1] = 1
		return
	}
	byName := make(map[string][]uint32, nb)
	for i, s := range c.b.Files {
		n := c.b.File.Symbols[s].Name
		byName[n] = append(byName[n], uint32(i+1))
	}
	mine := make(map[string][]uint32, na)
	var order []string
	for i, s := range c.a.Files {
		n := c.a.File.Symbols[s].Name
		if mine[n] == nil {
			order = append(order, n)
		}
		mine[n] = append(mine[n], uint32(i+1))
	}
	var many []string
	for _, n := range order {
		switch {
		case len(mine[n]) == 1 && len(byName[n]) == 1:
			c.files[mine[n][0]] = byName[n][0]
		case len(byName[n]) > 0:
			many = append(many, n)
		}
	}
	many = slices.DeleteFunc(many, func(n string) bool { return c.sameBlocks(mine[n], byName[n]) })
	if len(many) == 0 {
		return
	}
	ambiguousA, ambiguousB := make([]bool, na+1), make([]bool, nb+1)
	for _, n := range many {
		for _, s := range mine[n] {
			ambiguousA[s] = true
		}
		for _, s := range byName[n] {
			ambiguousB[s] = true
		}
	}
	// A local name that one scope of a file name holds on either side is a vote for the pair.
	type key struct {
		file, local string
		content     uint64 // 0: the name alone votes
	}
	type holders struct{ a, b uint32 } // scope + 1; 1<<32-1 when several
	const several = ^uint32(0)
	votes := make(map[key]holders)
	var keys []key
	collect := func(g *Graph, amb []bool, set func(*holders, uint32)) {
		for i := range g.File.Symbols {
			s := g.symFile[i]
			if s == 0 || !amb[s] || g.File.Symbols[i].Sec == 0 || g.File.Symbols[i].Name == "" || g.File.Symbols[i].Type() == elf.STT_SECTION {
				continue
			}
			k := key{file: g.File.Symbols[g.Files[s-1]].Name, local: symbols.Key(g.File.Symbols[i].Name)}
			for _, content := range [2]uint64{0, bodyHash(g, g.symAtom[i])} {
				k.content = content
				h, ok := votes[k]
				if !ok {
					keys = append(keys, k)
				}
				set(&h, s)
				votes[k] = h
			}
		}
	}
	merge := func(f *uint32, s uint32) {
		switch *f {
		case 0, s:
			*f = s
		default:
			*f = several
		}
	}
	collect(c.a, ambiguousA, func(h *holders, s uint32) { merge(&h.a, s) })
	collect(c.b, ambiguousB, func(h *holders, s uint32) { merge(&h.b, s) })
	tally := make(map[holders]int)
	var cand []holders
	for _, k := range keys {
		if h := votes[k]; h.a != 0 && h.b != 0 && h.a != several && h.b != several {
			if tally[h] == 0 {
				cand = append(cand, h)
			}
			tally[h]++
		}
	}
	slices.SortFunc(cand, func(x, y holders) int {
		return cmp.Or(cmp.Compare(tally[y], tally[x]), cmp.Compare(x.a, y.a), cmp.Compare(x.b, y.b))
	})
	taken := make([]bool, nb+1)
	for _, h := range cand {
		if c.files[h.a] == 0 && !taken[h.b] {
			c.files[h.a], taken[h.b] = h.b, true
		}
	}
	for _, n := range many {
		rest := slices.DeleteFunc(slices.Clone(byName[n]), func(s uint32) bool { return taken[s] })
		for _, s := range mine[n] {
			if c.files[s] == 0 && len(rest) > 0 {
				c.files[s], rest = rest[0], rest[1:]
			}
		}
	}
}

// ties says which pairs are one of several that are equally good.
func (c *correlation) ties() {
	n := 0
	for x, conf := range c.conf {
		if conf != ConfTie {
			continue
		}
		if n++; n > maxDiags {
			continue
		}
		at := &c.a.Atoms[x]
		c.diags = append(c.diags, diag.New(diag.AmbiguousMatch, c.a.place(at.Sec, at.Off), "%s is paired with %s, but others match as well", c.a.Name(AtomID(x)), c.b.Name(c.ab[x])))
	}
	if n > maxDiags {
		c.diags = append(c.diags, diag.New(diag.AmbiguousMatch, diag.Place{File: c.a.File.Name}, "%d more pairs are one of several that match equally well", n-maxDiags))
	}
}

// sameBlocks pairs scopes of one name in order when each has the same symbols, of
// the same sizes, as its counterpart.
func (c *correlation) sameBlocks(xs, ys []uint32) bool {
	if len(xs) != len(ys) {
		return false
	}
	for i := range xs {
		if c.a.blockSig(xs[i]) != c.b.blockSig(ys[i]) {
			return false
		}
	}
	for i := range xs {
		c.files[xs[i]] = ys[i]
	}
	return true
}

// blockSig hashes the symbols of a FILE scope, in whatever order.
func (g *Graph) blockSig(scope uint32) (sum uint64) {
	for i := int(g.Files[scope-1]) + 1; i < len(g.File.Symbols) && g.symFile[i] == scope; i++ {
		s := &g.File.Symbols[i]
		var h hasher
		h.u64(s.Size<<8 | uint64(s.Info))
		h.string(s.Name)
		sum += uint64(h)
	}
	return sum
}

// openAtoms yields the atoms of all sections but those in done.
func (g *Graph) openAtoms(done []bool) iter.Seq[AtomID] {
	return func(yield func(AtomID) bool) {
		for sec := range done {
			if done[sec] {
				continue
			}
			lo, hi := g.atomsOf(object.SecID(sec))
			for a := lo; a < hi; a++ {
				if !yield(a) {
					return
				}
			}
		}
	}
}

// bodyHash hashes the bytes of an atom, never to 0.
func bodyHash(g *Graph, a AtomID) uint64 {
	var h hasher
	if a != 0 {
		h.bytes(g.Bytes(a))
	}
	return uint64(h) | 1
}

// pin pairs what the caller named.
func (c *correlation) pin(pins []Pin) {
	if len(pins) == 0 {
		return
	}
	type found struct {
		atom AtomID
		n    int
	}
	index := func(g *Graph) map[string]found {
		m := make(map[string]found)
		for _, l := range g.labels {
			a := g.symAtom[l]
			if a == 0 {
				continue
			}
			name := g.File.Symbols[l].Name
			keys := []string{name}
			if f := g.fileName(g.symFile[l]); f != "" {
				keys = append(keys, f+":"+name)
			}
			for _, k := range keys {
				if f := m[k]; f.atom != a {
					m[k] = found{a, f.n + 1}
				}
			}
		}
		return m
	}
	ma, mb := index(c.a), index(c.b)
	for _, p := range pins {
		x, y := ma[p.Orig], mb[p.Patched]
		if x.n != 1 || y.n != 1 || !c.pair(x.atom, y.atom, ConfPinned) {
			c.diags = append(c.diags, diag.New(diag.PinInvalid, diag.Place{File: c.a.File.Name, Symbol: p.Orig},
				"cannot pair %s (%d in the original) with %s (%d in the patched object)", p.Orig, x.n, p.Patched, y.n))
		}
	}
}

// numbered says that a name holds something that compilers give out anew in every build.
const numbered = symbols.Numbered | symbols.Hashed | symbols.Content

// named reports whether a symbol has a name of its own to be found by.
func named(s *object.Symbol) bool {
	return s.Name != "" && s.Type() != elf.STT_SECTION && s.Type() != elf.STT_FILE
}

// scopeTable finds symbols by scope and exact name. Open addressing over
// indices: no key is stored, names are compared where they are.
type scopeTable struct {
	f     *object.File
	scope []uint32 // by SymID: FILE scope, or globalScope
	slots []scopeSlot
	twice []bool // by SymID: another symbol has the same scope and name
}

type scopeSlot struct {
	hash uint32
	sym  object.SymID // 0: free
}

// scopesOf gives the scope of every symbol: that of its FILE symbol, or globalScope.
func scopesOf(g *Graph) []uint32 {
	out := make([]uint32, len(g.File.Symbols))
	for i := range out {
		out[i] = globalScope
		if g.File.Symbols[i].Bind() == elf.STB_LOCAL {
			out[i] = g.symFile[i]
		}
	}
	return out
}

func newScopeTable(g *Graph, poll *poller) *scopeTable {
	f := g.File
	n := 16
	for n < 2*len(f.Symbols) {
		n *= 2
	}
	t := &scopeTable{f: f, slots: make([]scopeSlot, n), twice: make([]bool, len(f.Symbols)), scope: scopesOf(g)}
	for i := 1; i < len(f.Symbols); i++ {
		poll.step()
		if s := &f.Symbols[i]; named(s) {
			at, hash := t.find(t.scope[i], s.Name)
			if first := t.slots[at].sym; first != 0 {
				t.twice[first], t.twice[i] = true, true
			} else {
				t.slots[at] = scopeSlot{hash, object.SymID(i)}
			}
		}
	}
	return t
}

// find gives the slot that holds the symbol, or where it would be.
func (t *scopeTable) find(scope uint32, name string) (int, uint32) {
	var h hasher
	h.u64(uint64(scope))
	h.string(name)
	hash := uint32(h >> 32)
	mask := len(t.slots) - 1
	i := int(uint64(h)>>7) & mask
	for {
		s := t.slots[i]
		if s.sym == 0 || s.hash == hash && t.f.Symbols[s.sym].Name == name && t.scope[s.sym] == scope {
			return i, hash
		}
		i = (i + 1) & mask
	}
}

// exact pairs symbols of one exact name in one scope, when there is one on either side. What they stand for is paired later.
func (c *correlation) exact() {
	sa, sb := c.a.File.Symbols, c.b.File.Symbols
	table := newScopeTable(c.b, c.poll)
	taken := make([]object.SymID, len(sb))
	type clash struct{ x, y object.SymID }
	var clashes []clash
	for i := 1; i < len(sa); i++ {
		c.poll.step()
		s := &sa[i]
		if !named(s) {
			continue
		}
		scope := globalScope
		if s.Bind() == elf.STB_LOCAL {
			if scope = c.files[c.a.symFile[i]]; scope == 0 && c.a.symFile[i] != 0 {
				continue // a source file that the patched object does not have
			}
		}
		// Two builds mostly have their symbols in the same order.
		found := object.SymID(i)
		if i >= len(sb) || table.scope[i] != scope || sb[i].Name != s.Name || !named(&sb[i]) {
			at, _ := table.find(scope, s.Name)
			found = table.slots[at].sym
		}
		if found == 0 || table.twice[found] {
			continue
		}
		if taken[found] != 0 {
			clashes = append(clashes, clash{taken[found], found})
			continue
		}
		taken[found] = object.SymID(i)
		c.symAB[i] = found
	}
	for _, cl := range clashes {
		c.symAB[cl.x] = 0
	}
}

// byName pairs what symbols of one exact name stand for.
func (c *correlation) byName() {
	sa, sb := c.a.File.Symbols, c.b.File.Symbols
	var open []object.SymID
	for i, j := range c.symAB {
		if x := c.a.symAtom[i]; j != 0 && x != 0 && c.ab[x] == 0 && c.b.symAtom[j] != 0 {
			open = append(open, object.SymID(i))
		}
	}
	// Names that stand for their atoms first, then other names of the same things: whatever the order of the
	// symbol table, the name that stands for both decides when aliases were torn apart.
	for round := range 2 {
		for _, i := range open {
			j := c.symAB[i]
			x, y := c.a.symAtom[i], c.b.symAtom[j]
			if c.ab[x] != 0 || round == 0 && (c.a.Atoms[x].Sym != i || c.b.Atoms[y].Sym != j) {
				continue
			}
			// The symbol must stand at the start of both: a label inside something else names no atom.
			if sa[i].Value != c.a.Atoms[x].Off || sb[j].Value != c.b.Atoms[y].Off {
				continue
			}
			if symbols.Parse(sa[i].Name).Flags.Any(numbered) {
				continue
			}
			c.pair(x, y, ConfName)
		}
	}
}

// family is a group of atoms with one stable key that are still without a pair.
type family struct {
	xs, ys []AtomID
}

type familyKey struct {
	key   string
	scope uint32 // of a; ^0 for globals
	code  bool
}

const globalScope = ^uint32(0)

// families refines what exact names left.
func (c *correlation) families() {
	back := make([]uint32, len(c.b.Files)+1)
	for x, y := range c.files {
		if y != 0 {
			back[y] = uint32(x)
		}
	}
	scopeless := false
	for round := 0; round < 2; round++ {
		groups := make(map[familyKey]*family)
		var order []familyKey
		add := func(g *Graph, id AtomID, scope uint32, second bool) {
			c.poll.step()
			at := &g.Atoms[id]
			if at.Sym == 0 || at.Kind != AtomFunc && at.Kind != AtomObject {
				return
			}
			s := &g.File.Symbols[at.Sym]
			fam := symbols.Parse(s.Name)
			if fam.Flags.Has(symbols.Label) {
				return
			}
			if s.Bind() != elf.STB_LOCAL || fam.Flags.Has(symbols.Promoted) {
				scope = globalScope
			}
			if scopeless {
				scope = 0
			}
			k := familyKey{fam.Key, scope, at.Kind == AtomFunc}
			f := groups[k]
			if f == nil {
				f = &family{}
				groups[k] = f
				order = append(order, k)
			}
			if second {
				f.ys = append(f.ys, id)
			} else {
				f.xs = append(f.xs, id)
			}
		}
		for i := range c.a.openAtoms(c.doneA) {
			if c.ab[i] == 0 {
				add(c.a, i, c.a.symFile[c.a.Atoms[i].Sym], false)
			}
		}
		for i := range c.b.openAtoms(c.doneB) {
			if c.ba[i] == 0 {
				scope := c.b.symFile[c.b.Atoms[i].Sym]
				if scope != 0 && back[scope] == 0 {
					scope += 1 << 31 // a source file that the original does not have: no pairs, but its own families
				} else {
					scope = back[scope]
				}
				add(c.b, i, scope, true)
			}
		}
		c.refine(groups, order, scopeless)
		scopeless = true
	}
}

// refine pairs the members of families by signatures.
func (c *correlation) refine(groups map[familyKey]*family, order []familyKey, scopeless bool) {
	var open []*family
	for _, k := range order {
		f := groups[k]
		if len(f.xs) == 0 || len(f.ys) == 0 {
			continue
		}
		if len(f.xs) == 1 && len(f.ys) == 1 && c.a.Atoms[f.xs[0]].Kind == AtomFunc {
			conf := ConfFamily
			if scopeless {
				conf = ConfLoose
			}
			c.pair(f.xs[0], f.ys[0], conf)
			continue
		}
		open = append(open, f)
	}
	if len(open) == 0 {
		return
	}
	c.indexOpen()
	c.usersA.cover(familySections(c.a, open, func(f *family) []AtomID { return f.xs }))
	c.usersB.cover(familySections(c.b, open, func(f *family) []AtomID { return f.ys }))
	sa, sb := newSigner(c, c.a, false), newSigner(c, c.b, true)
	sa.users, sb.users = c.usersA, c.usersB
	// Functions first: the users of data are functions, so pairing them makes the users comparable.
	for _, code := range []bool{true, false} {
		for round := 0; round < 2; round++ {
			sa.index(open, false)
			sb.index(open, true)
			for level := range sigLevels {
				lv := &sigLevels[level]
				for _, f := range open {
					c.poll.step()
					if len(f.xs) == 0 || len(f.ys) == 0 || (c.a.Atoms[f.xs[0]].Kind == AtomFunc) != code {
						continue
					}
					if lv.last && round == 0 {
						continue
					}
					c.match(f, sa, sb, lv, scopeless)
				}
			}
		}
	}
}

// familySections yields the sections that hold members of families.
func familySections(g *Graph, open []*family, members func(*family) []AtomID) iter.Seq[object.SecID] {
	return func(yield func(object.SecID) bool) {
		for _, f := range open {
			for _, m := range members(f) {
				if !yield(g.Atoms[m].Sec) {
					return
				}
			}
		}
	}
}

// indexOpen makes ready the references from what is not proved. Whoever refers
// to what is open and has no plain name is not proved either: see settle.
func (c *correlation) indexOpen() {
	if c.usersA != nil {
		return
	}
	skip := make([]bool, len(c.b.Atoms))
	for x, y := range c.ab {
		if c.proved[x] {
			skip[y] = true
		}
	}
	c.usersA, c.usersB = c.a.newOpenUsers(c.proved, c.doneA, c.poll), c.b.newOpenUsers(skip, c.doneB, c.poll)
	c.usersB.walks.other, c.usersB.walks.h, c.usersB.walks.partner = &c.usersA.walks, c.a, c.ba
}

// match pairs the members of a family whose signature at this level is unique on both sides.
func (c *correlation) match(f *family, sa, sb *signer, lv *sigLevel, scopeless bool) {
	conf := lv.conf
	if scopeless {
		conf = max(conf, ConfLoose)
	}
	if lv.inOrder {
		if len(f.xs) != len(f.ys) || scopeless {
			return
		}
		// By exact name where one exists on both sides, then in the order of names.
		byName := func(g *Graph) func(x, y AtomID) int {
			return func(x, y AtomID) int {
				return cmp.Or(cmp.Compare(len(g.Name(x)), len(g.Name(y))), cmp.Compare(g.Name(x), g.Name(y)))
			}
		}
		slices.SortStableFunc(f.xs, byName(c.a))
		slices.SortStableFunc(f.ys, byName(c.b))
		for i, j := 0, 0; i < len(f.xs) && j < len(f.ys); {
			x, y := c.a.Name(f.xs[i]), c.b.Name(f.ys[j])
			switch o := cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y)); {
			case o == 0:
				if c.compatible(f.xs[i], f.ys[j]) {
					c.pair(f.xs[i], f.ys[j], conf)
				}
				i++
				j++
			case o < 0:
				i++
			default:
				j++
			}
		}
		f.xs, f.ys = c.unpaired(f.xs, c.ab), c.unpaired(f.ys, c.ba)
		for i := range f.xs {
			if c.compatible(f.xs[i], f.ys[i]) {
				c.pair(f.xs[i], f.ys[i], conf)
			}
		}
		f.xs, f.ys = c.unpaired(f.xs, c.ab), c.unpaired(f.ys, c.ba)
		return
	}
	type cell struct {
		x, y   AtomID
		nx, ny int
	}
	cells := make(map[uint64]*cell, len(f.xs))
	var order []uint64
	for _, x := range f.xs {
		c.poll.step()
		s, ok := lv.sig(sa, x)
		if !ok {
			continue
		}
		k := cells[s]
		if k == nil {
			k = &cell{}
			cells[s] = k
			order = append(order, s)
		}
		k.x = x
		k.nx++
	}
	for _, y := range f.ys {
		c.poll.step()
		s, ok := lv.sig(sb, y)
		if !ok {
			continue
		}
		if k := cells[s]; k != nil {
			k.y = y
			k.ny++
		}
	}
	done := false
	for _, s := range order {
		k := cells[s]
		if k.nx == 1 && k.ny == 1 && (lv.free || c.compatible(k.x, k.y)) {
			done = c.pair(k.x, k.y, conf) || done
		}
	}
	if done {
		f.xs, f.ys = c.unpaired(f.xs, c.ab), c.unpaired(f.ys, c.ba)
	}
}

func (c *correlation) unpaired(list []AtomID, pairs []AtomID) []AtomID {
	return slices.DeleteFunc(list, func(a AtomID) bool { return pairs[a] != 0 })
}

// compatible reports whether nothing speaks against a pair that only a family
// name (or order) suggests. For data: some function refers to both, or one side's
// users do not exist on the other (removed, new, or inlined away), or nobody
// refers to it. If its old users are all still there and none refers to the new
// one, they are two variables.
func (c *correlation) compatible(x, y AtomID) bool {
	if c.a.Atoms[x].Kind == AtomFunc {
		return true
	}
	ux, uy := c.usersA.of(x), c.usersB.of(y)
	if len(ux) == 0 || len(uy) == 0 {
		return true
	}
	// The users of both as atoms of b; one that has no pair is gone, or fresh.
	old, cur := make([]AtomID, 0, len(ux)), make([]AtomID, 0, len(uy))
	for _, u := range ux {
		p := c.ab[c.a.speaker(u.atom)]
		if p == 0 {
			return true
		}
		old = append(old, p)
	}
	for _, v := range uy {
		q := c.b.speaker(v.atom)
		if c.ba[q] == 0 {
			return true
		}
		cur = append(cur, q)
	}
	slices.Sort(old)
	slices.Sort(cur)
	for i, j := 0, 0; i < len(old) && j < len(cur); {
		switch {
		case old[i] == cur[j]:
			return true
		case old[i] < cur[j]:
			i++
		default:
			j++
		}
	}
	return false
}

// signer computes signatures of atoms of one side; ids of paired atoms are those of side a.
type signer struct {
	c      *correlation
	g      *Graph
	second bool
	users  *openUsers
	ord    map[member]uint32
	edges  []Edge
}

func newSigner(c *correlation, g *Graph, second bool) *signer {
	return &signer{c: c, g: g, second: second}
}

// index numbers the members of the open families among those that one user refers to.
func (s *signer) index(open []*family, second bool) {
	// The ordinal of a member among those of its family that one function refers to, in order of first reference.
	s.ord = make(map[member]uint32)
	type first struct {
		user member
		part uint64 // which part of the user
		off  uint64
	}
	var list []first
	for _, f := range open {
		members := f.xs
		if second {
			members = f.ys
		}
		if len(members) < 2 {
			continue
		}
		list = list[:0]
		for _, m := range members {
			us := s.users.of(m)
			for i, u := range us {
				if i > 0 && us[i-1].atom == u.atom {
					continue
				}
				list = append(list, first{member{s.g.speaker(u.atom), m}, s.g.partOrder(u.atom), u.off})
			}
		}
		slices.SortFunc(list, func(x, y first) int {
			s.c.poll.step()
			return cmp.Or(cmp.Compare(x.user.user, y.user.user), cmp.Compare(x.part, y.part), cmp.Compare(x.off, y.off), cmp.Compare(x.user.atom, y.user.atom))
		})
		n := uint32(0)
		for i, l := range list {
			if i > 0 && list[i-1].user.user != l.user.user {
				n = 0
			}
			if _, ok := s.ord[l.user]; !ok {
				s.ord[l.user] = n
				n++
			}
		}
	}
}

// partOrder ranks what belongs to a function in a way that does not depend on
// the order of sections: its parts first, then its table entries.
func (g *Graph) partOrder(a AtomID) uint64 {
	at := &g.Atoms[a]
	switch {
	case at.Unit == 0 || a == g.Units[at.Unit].Main:
		return 0
	case at.Kind == AtomEntry:
		return 1<<62 | uint64(at.Row)<<32 | uint64(g.entryOrd[a])
	}
	return 1 + uint64(slices.Index(g.Units[at.Unit].Members, a))
}

// member is an atom as one function sees it.
type member struct{ user, atom AtomID }

// id gives a number for an atom that is equal for both atoms of a pair, or its family for others.
func (s *signer) id(a AtomID) uint64 {
	if s.second {
		if p := s.c.ba[a]; p != 0 {
			return uint64(p)
		}
	} else if s.c.ab[a] != 0 {
		return uint64(a)
	}
	at := &s.g.Atoms[a]
	if at.Sym != 0 {
		return hashString(symbols.Key(s.g.File.Symbols[at.Sym].Name)) | 1<<63
	}
	return 1<<62 | uint64(at.Kind)
}

// hasher is a 64-bit hash that is the same in every run. It is fast, not
// strong: what it suggests is always compared in full.
type hasher uint64

func (h *hasher) u64(v uint64) {
	hi, lo := bits.Mul64(uint64(*h)^v^0x9e3779b97f4a7c15, 0xd6e8feb86659fd93)
	*h = hasher(hi ^ lo)
}

func (h *hasher) bytes(b []byte) {
	h.u64(uint64(len(b)))
	for ; len(b) >= 8; b = b[8:] {
		h.u64(binary.LittleEndian.Uint64(b))
	}
	var tail uint64
	for i, c := range b {
		tail |= uint64(c) << (8 * i)
	}
	h.u64(tail)
}

func (h *hasher) string(s string) {
	h.u64(uint64(len(s)))
	for ; len(s) >= 8; s = s[8:] {
		h.u64(uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56)
	}
	var tail uint64
	for i := range len(s) {
		tail |= uint64(s[i]) << (8 * i)
	}
	h.u64(tail)
}

func hashString(s string) uint64 {
	var h hasher
	h.string(s)
	return uint64(h)
}

// contentSig hashes what an atom holds: size, bytes, and where its edges lead.
func (s *signer) contentSig(a AtomID) uint64 {
	g := s.g
	at := &g.Atoms[a]
	var h hasher
	h.u64(at.Size)
	sec := &g.File.Sections[at.Sec]
	h.u64(uint64(sec.Flags)<<8 | uint64(sec.Type))
	h.bytes(s.maskedBytes(a))
	s.edges, _ = g.Edges(a, s.edges[:0])
	for i := range s.edges {
		e := &s.edges[i]
		h.u64(e.Off - at.Off)
		h.u64(uint64(e.Type))
		t := g.Resolve(e)
		if t.Atom == 0 {
			h.string(g.File.Symbols[t.Sym].Name)
			h.u64(uint64(t.Disp))
			continue
		}
		if ta := &g.Atoms[t.Atom]; ta.Kind == AtomString && t.Disp >= 0 && uint64(t.Disp) < ta.Size {
			h.bytes(g.Bytes(t.Atom)[t.Disp:])
			continue
		}
		h.u64(s.id(t.Atom))
		h.u64(uint64(t.Disp))
	}
	return uint64(h)
}

// maskedBytes gives the contents of an atom without line numbers.
func (s *signer) maskedBytes(a AtomID) []byte {
	b := s.g.Bytes(a)
	for i := range s.g.Rules.LineData {
		r := &s.g.Rules.LineData[i]
		if s.g.lineRow(r, a) && r.Off+4 <= len(b) {
			b = slices.Clone(b)
			v := binary.LittleEndian.Uint32(b[r.Off:])
			binary.LittleEndian.PutUint32(b[r.Off:], v&^r.Mask)
			break
		}
	}
	return b
}

// usersSig hashes who refers to an atom; pos 1 with the place in the user, 2 with
// the ordinal among the family's members there, 0 without.
func (s *signer) usersSig(a AtomID, pos int) (uint64, bool) {
	us := s.users.of(a)
	if len(us) == 0 {
		return 0, false
	}
	sigs := make([]uint64, 0, len(us))
	for _, u := range us {
		var h hasher
		h.u64(s.id(s.g.speaker(u.atom)))
		switch pos {
		case 1:
			h.u64(u.off)
		case 2:
			h.u64(uint64(s.ord[member{s.g.speaker(u.atom), a}]))
		}
		sigs = append(sigs, uint64(h))
	}
	slices.Sort(sigs)
	var h hasher
	prev := uint64(0)
	for i, v := range sigs {
		if i == 0 || v != prev || pos == 1 {
			h.u64(v)
		}
		prev = v
	}
	return uint64(h), true
}

// sigLevel is one way to tell the members of a family apart.
type sigLevel struct {
	conf    Confidence
	sig     func(*signer, AtomID) (uint64, bool)
	free    bool // the signature itself is evidence enough that users agree
	last    bool // only when the stricter ones had two rounds
	inOrder bool
}

func mix(x, y uint64) uint64 {
	var h hasher
	h.u64(x)
	h.u64(y)
	return uint64(h)
}

// sigLevels are tried in order, strictest first.
var sigLevels = []sigLevel{
	{conf: ConfContent, free: true, sig: func(s *signer, a AtomID) (uint64, bool) {
		u, ok := s.usersSig(a, 1)
		return mix(u, s.contentSig(a)), ok
	}},
	{conf: ConfContent, free: true, sig: func(s *signer, a AtomID) (uint64, bool) {
		u, ok := s.usersSig(a, 0)
		return mix(u, s.contentSig(a)), ok
	}},
	{conf: ConfUsers, free: true, sig: func(s *signer, a AtomID) (uint64, bool) {
		u, ok := s.usersSig(a, 2)
		return mix(u, s.g.Atoms[a].Size), ok
	}},
	{conf: ConfUsers, free: true, sig: func(s *signer, a AtomID) (uint64, bool) {
		u, ok := s.usersSig(a, 0)
		return mix(u, s.g.Atoms[a].Size), ok
	}},
	{conf: ConfUsers, free: true, sig: func(s *signer, a AtomID) (uint64, bool) { return s.usersSig(a, 2) }},
	{conf: ConfUsers, free: true, sig: func(s *signer, a AtomID) (uint64, bool) { return s.usersSig(a, 0) }},
	{conf: ConfLoose, last: true, sig: func(s *signer, a AtomID) (uint64, bool) { return s.contentSig(a), true }},
	{conf: ConfLoose, last: true, sig: func(s *signer, a AtomID) (uint64, bool) { return s.g.Atoms[a].Size, true }},
	{conf: ConfTie, last: true, inOrder: true},
}

// members pairs the parts of paired functions: prefix with prefix, cold parts by
// key then in order, glued code and padding in order.
func (c *correlation) members() {
	for u := 1; u < len(c.a.Units); u++ {
		x := &c.a.Units[u]
		y := c.ab[x.Main]
		if y == 0 || c.b.Atoms[y].Unit == 0 {
			continue
		}
		v := &c.b.Units[c.b.Atoms[y].Unit]
		if v.Main != y {
			continue
		}
		conf := c.conf[x.Main]
		for pass := 0; pass < 2; pass++ {
			j := 0
			for _, m := range x.Members {
				c.poll.step()
				if c.ab[m] != 0 {
					continue
				}
				for k := j; k < len(v.Members); k++ {
					n := v.Members[k]
					if c.ba[n] != 0 || !c.samePart(m, n, pass == 0) {
						continue
					}
					c.pair(m, n, conf)
					j = k + 1
					break
				}
			}
		}
	}
}

func (c *correlation) samePart(m, n AtomID, strict bool) bool {
	x, y := &c.a.Atoms[m], &c.b.Atoms[n]
	const mask = FlagPrefix | FlagCold | FlagFallsIn
	if x.Kind != y.Kind || x.Flag&mask != y.Flag&mask {
		return false
	}
	// A function that another falls into keeps its name, or it is not the same one.
	return !strict && x.Flag&FlagFallsIn == 0 || c.a.nameOf(m).Key == c.b.nameOf(n).Key
}

// anonymous pairs stretches without a name: by section name, where that is
// unique, and order among equals in number. For writable ones, which have an
// identity, this is all there is; constants are still compared with whatever a
// reference leads to.
func (c *correlation) anonymous() {
	want := make(map[string]object.SecID) // what b has under that name, when it is one section
	var list []object.SecID
	for i := range c.a.File.Sections {
		if !c.doneA[i] && c.a.hasGaps(object.SecID(i)) {
			list = append(list, object.SecID(i))
			want[c.a.File.Sections[i].Name] = 0
		}
	}
	if len(list) == 0 {
		return
	}
	seen := make(map[string]bool, len(want))
	for i := range c.b.File.Sections {
		s := &c.b.File.Sections[i]
		if !s.Alloc() || c.b.rows[i] != 0 || s.Strings() || c.b.first[i] == c.b.first[i+1] {
			continue
		}
		if _, ok := want[s.Name]; !ok {
			continue
		}
		want[s.Name] = object.SecID(i)
		if seen[s.Name] {
			want[s.Name] = 0 // not unique
		}
		seen[s.Name] = true
	}
	for _, i := range list {
		s := &c.a.File.Sections[i]
		j := want[s.Name]
		if j == 0 {
			continue
		}
		xs, ys := c.a.gaps(i), c.b.gaps(j)
		if len(xs) != len(ys) || slices.ContainsFunc(xs, func(x AtomID) bool { return c.ab[x] != 0 }) || slices.ContainsFunc(ys, func(y AtomID) bool { return c.ba[y] != 0 }) {
			continue
		}
		for k := range xs {
			c.pair(xs[k], ys[k], ConfFamily)
		}
	}
}

func (g *Graph) hasGaps(sec object.SecID) bool {
	lo, hi := g.atomsOf(sec)
	for a := lo; a < hi; a++ {
		if g.isGap(a) {
			return true
		}
	}
	return false
}

func (g *Graph) gaps(sec object.SecID) []AtomID {
	var out []AtomID
	lo, hi := g.atomsOf(sec)
	for a := lo; a < hi; a++ {
		if g.isGap(a) {
			out = append(out, a)
		}
	}
	return out
}

// isGap reports whether an atom has neither a name nor a function that it belongs to.
func (g *Graph) isGap(a AtomID) bool {
	at := &g.Atoms[a]
	return at.Kind == AtomAnon || at.Kind == AtomCode && at.Unit == 0
}
