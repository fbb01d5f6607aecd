package verify

import (
	"debug/elf"
	"slices"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/symbols"
)

// numbered reports whether compilers give such a name anew in every build.
func numbered(name string) bool {
	return symbols.Parse(name).Flags.Any(symbols.Numbered | symbols.Hashed | symbols.UniqueID | symbols.Promoted | symbols.Unique | symbols.Initcall)
}

func family(name string) string { return symbols.Parse(name).Key }

// family gives how many symbols of the original (0) or patched object (1) have the family of name.
func (pr *pair) family(side int, name string) int {
	if pr.families[side] == nil {
		v := pr.view(side)
		m := make(map[string]int)
		for i := 1; i < len(v.f.Symbols); i++ {
			if s := &v.f.Symbols[i]; defined(s) {
				m[family(s.Name)]++
			}
		}
		pr.families[side] = m
	}
	return pr.families[side][family(name)]
}

func (pr *pair) view(side int) *view {
	if side == 0 {
		return pr.o
	}
	return pr.q
}

// toKernel checks a reference that the kernel resolves, where the patched object
// has one to what it defines itself.
func (p *prover) toKernel(it *item, pr *pair, sec object.SecID, anchor, pos int64, want, got *ref) {
	at, off := it.p.sec, it.p.off+got.off
	q := pr.q
	k := klp.Symbol{Object: pr.Object}
	if got.klp != nil {
		k = got.klp.Symbol
	} else {
		s := &p.p.f.Symbols[got.sym]
		if k.Name = s.Name; s.Shndx != elf.SHN_UNDEF || s.Name == "" {
			p.fail(diag.VerifyTarget, at, off, "leads to %s, want %s", p.p.f.SymName(got.sym), q.where(sec, pos))
			return
		}
	}
	p.count("kernel references", 1)
	size := int64(q.f.Sections[sec].Size)
	sp := span{}
	if size > 0 {
		sp = q.spanAt(sec, uint64(min(max(anchor, 0), size-1)))
	}
	if q.f.Sections[sec].Exec() && sp.sym != 0 {
		start := site{sec, sp.lo}
		_, here := pr.at[start]
		old, replaced := pr.replaced[start]
		name := q.f.Symbols[sp.sym].Name
		switch f := symbols.Parse(name); {
		case here && replaced && takesAddress(it, want) && pos == int64(sp.lo):
			if orig := p.originals(pr, k.Name, true); !slices.ContainsFunc(orig, func(id object.SymID) bool { return p.namesPlace(pr, id, old) }) {
				p.fail(diag.VerifySymbol, at, off, "the address of %s, want that of %s", k.Name, old)
				return
			}
			if got.disp != 0 {
				p.fail(diag.VerifyAddend, at, off, "leads to %s, want %s", plus(k.Name, got.disp), old)
				return
			}
			p.owner(pr.Object, at, off, &k)
			p.position(pr, p.originals(pr, k.Name, true), k.Name, k.Pos, func(format string, args ...any) { p.fail(diag.VerifyPosition, at, off, format, args...) })
			return
		case here:
			p.fail(diag.VerifyTarget, at, off, "leads to the running kernel's %s, though the patch holds %s", plus(k.Name, got.disp), name)
			return
		case f.Flags.Has(symbols.Cold) && pr.carried[f.Parent]:
			p.fail(diag.VerifyCold, at, off, "leads to the running kernel's %s: the patch does not hold %s, a part of %s", plus(k.Name, got.disp), name, f.Parent)
			return
		}
	}
	p.owner(pr.Object, at, off, &k)
	orig := p.originals(pr, k.Name, false)
	if got.klp == nil {
		orig = slices.DeleteFunc(orig, func(id object.SymID) bool { return pr.o.f.Symbols[id].Bind() == elf.STB_LOCAL })
	}
	if len(orig) == 0 {
		p.fail(diag.VerifySymbol, at, off, "leads to the running kernel's %s, and the original object has no such symbol; want %s", k.Name, q.where(sec, pos))
		return
	}
	best := verdict{code: diag.VerifySymbol, why: "which is something else"}
	chosen := orig
	for _, id := range orig {
		if v := p.corresponds(pr, id, sec, anchor, pos, sp, want, got.disp); v.grade > best.grade {
			best, chosen = v, []object.SymID{id}
		}
	}
	switch best.grade {
	case wrong, misplaced:
		p.fail(best.code, at, off, "leads to the running kernel's %s, %s; want %s", plus(k.Name, got.disp), best.why, q.where(sec, pos))
		return
	case plausible:
		p.unproved(at, off, "that the running kernel's %s is what the patched object has as %s (%s)", k.Name, q.where(sec, pos), best.why)
	default:
		p.count("kernel references proved", 1)
	}
	if got.klp != nil {
		p.position(pr, chosen, k.Name, k.Pos, func(format string, args ...any) { p.fail(diag.VerifyPosition, at, off, format, args...) })
	}
}

// namesPlace reports whether symbol id of the original lies where the symbol called name does.
func (p *prover) namesPlace(pr *pair, id object.SymID, name string) bool {
	s := &pr.o.f.Symbols[id]
	return slices.ContainsFunc(pr.o.ids(name), func(x object.SymID) bool {
		t := &pr.o.f.Symbols[x]
		return t.Sec == s.Sec && t.Value == s.Value
	})
}

type grade uint8

const (
	wrong grade = iota
	misplaced
	plausible
	proved
)

type verdict struct {
	grade grade
	code  diag.Code
	why   string
}

// corresponds says whether symbol id of the original plus disp is the place
// that a reference to pos leads to in the patched object.
func (p *prover) corresponds(pr *pair, id object.SymID, sec object.SecID, anchor, pos int64, sp span, want *ref, disp int64) verdict {
	o, q := pr.o, pr.q
	s := &o.f.Symbols[id]
	best := verdict{code: diag.VerifySymbol, why: "which is something else"}
	try := func(t object.SymID) {
		ts := &q.f.Symbols[t]
		if ts.Sec != sec || label(ts.Name) {
			return
		}
		v := p.same(pr, id, t)
		if v.grade > wrong && pos-int64(ts.Value) != disp {
			v = verdict{misplaced, diag.VerifyAddend, "at another place of it"}
		}
		if v.grade > best.grade {
			best = v
		}
	}
	if want.sym != 0 {
		try(want.sym)
	}
	for _, t := range q.ids(s.Name) {
		// A name in the same piece: an alias, or a name without a size.
		if ts := &q.f.Symbols[t]; ts.Sec == sec && q.spanAt(sec, min(ts.Value, max(q.f.Sections[sec].Size, 1)-1)).lo == sp.lo {
			try(t)
		}
	}
	if sp.sym != 0 {
		try(sp.sym)
	}
	if best.grade < plausible && (sp.sym == 0 || anchor == int64(sp.lo)) && anchor > 0 {
		// The end of what lies before.
		if b := q.spanAt(sec, uint64(anchor)-1); b.sym != 0 && int64(b.hi) == anchor {
			try(b.sym)
		}
	}
	if best.grade < plausible && sp.sym == 0 && want.sym == 0 {
		best.why = "and what the patched object has there has no name"
	}
	return best
}

// same says whether symbol o of the original and symbol t of the patched object are the same thing.
func (p *prover) same(pr *pair, o, t object.SymID) verdict {
	a, b := &pr.o.f.Symbols[o], &pr.q.f.Symbols[t]
	exact := a.Name == b.Name
	if !exact && family(a.Name) != family(b.Name) {
		if !pr.aliased(o, t) {
			if pr.vote(o, t) == unchangedVote {
				return verdict{grade: proved}
			}
			return verdict{wrong, diag.VerifySymbol, "which is something else"}
		}
		exact = true
	}
	if why := pr.unlike(o, t); why != "" {
		return verdict{wrong, diag.VerifySymbol, why}
	}
	if exact && !numbered(a.Name) {
		if len(pr.q.ids(b.Name)) == 1 || a.Bind() != elf.STB_LOCAL && b.Bind() != elf.STB_LOCAL {
			return verdict{grade: proved}
		}
		if pr.o.file(o) == pr.q.file(t) {
			n := 0
			for _, x := range pr.o.ids(a.Name) {
				if pr.o.file(x) == pr.o.file(o) {
					n++
				}
			}
			if n == 1 {
				return verdict{grade: proved}
			}
		} else if len(pr.o.ids(a.Name)) > 1 {
			return verdict{wrong, diag.VerifySymbol, "which is that of another source file"}
		}
	}
	ok, why := p.evidence(pr, o, t)
	if ok {
		return verdict{grade: proved}
	}
	return verdict{plausible, "", why}
}

// aliased reports whether o and t are names of one thing that has another name in common.
func (pr *pair) aliased(o, t object.SymID) bool {
	a, b := &pr.o.f.Symbols[o], &pr.q.f.Symbols[t]
	other := pr.q.namesAt(site{b.Sec, b.Value})
	return slices.ContainsFunc(pr.o.namesAt(site{a.Sec, a.Value}), func(n string) bool { return !numbered(n) && slices.Contains(other, n) })
}

// unlike says in what two symbols differ that cannot be the same thing; empty for nothing.
func (pr *pair) unlike(o, t object.SymID) string {
	a, b := &pr.o.f.Symbols[o], &pr.q.f.Symbols[t]
	as, bs := &pr.o.f.Sections[a.Sec], &pr.q.f.Sections[b.Sec]
	const rights = elf.SHF_ALLOC | elf.SHF_WRITE | elf.SHF_EXECINSTR | elf.SHF_TLS
	switch {
	case as.Flags&rights != bs.Flags&rights:
		return "which lies in a section of another kind"
	case a.Type() != b.Type() && a.Type() != elf.STT_NOTYPE && b.Type() != elf.STT_NOTYPE:
		return "which is of another type"
	case !as.Exec() && a.Size != b.Size:
		return "which is of another size"
	}
	return ""
}

// evidence says whether the two objects prove that o and t, whose names do not tell, are the same thing.
func (p *prover) evidence(pr *pair, o, t object.SymID) (ok bool, why string) {
	a, b := &pr.o.f.Symbols[o], &pr.q.f.Symbols[t]
	if pr.o.f.Sections[a.Sec].Exec() {
		if pr.family(0, a.Name) == 1 && pr.family(1, b.Name) == 1 {
			return true, ""
		}
		x, y := p.canonOf(pr, 0, site{a.Sec, a.Value}), p.canonOf(pr, 1, site{b.Sec, b.Value})
		if x != nil && y != nil && x.equal(y) {
			return true, ""
		}
	} else {
		x, y := p.canonOf(pr, 0, site{a.Sec, a.Value}), p.canonOf(pr, 1, site{b.Sec, b.Value})
		if x == nil || y == nil || !x.equal(y) {
			return false, "their initial contents differ"
		}
		if pr.family(0, a.Name) == 1 && pr.family(1, b.Name) == 1 {
			return true, ""
		}
		if pr.q.f.Sections[b.Sec].Flags&elf.SHF_WRITE == 0 {
			return true, "" // nobody can tell two constants with the same contents apart
		}
	}
	switch pr.vote(o, t) {
	case unchangedVote:
		return true, ""
	case changedVote:
		return false, "only functions that changed refer to both at corresponding places"
	}
	return false, "no function refers to both at corresponding places"
}

// vote is what functions of both objects say about a pair of symbols.
type vote uint8

const (
	noVote vote = iota
	changedVote
	unchangedVote
)

func (pr *pair) vote(o, t object.SymID) vote {
	if pr.votes == nil {
		pr.votes = map[[2]object.SymID]vote{}
		for i := 1; i < len(pr.q.f.Symbols); i++ {
			s := &pr.q.f.Symbols[i]
			if !defined(s) {
				continue
			}
			l, m := pr.q.ids(s.Name), pr.o.ids(s.Name)
			if len(l) != 1 || len(m) != 1 || numbered(s.Name) {
				continue
			}
			pr.ballot(m[0], l[0])
		}
	}
	return pr.votes[[2]object.SymID{o, t}]
}

// ballot pairs the references of a function, or of data with pointers, of both objects in their order.
func (pr *pair) ballot(of, tf object.SymID) {
	a, b := &pr.o.f.Symbols[of], &pr.q.f.Symbols[tf]
	if a.Size == 0 || b.Size == 0 || pr.o.f.Sections[a.Sec].Flags&elf.SHF_MERGE != 0 {
		return
	}
	x, xb := pr.o.named(a.Sec, a.Value, a.Size)
	y, yb := pr.q.named(b.Sec, b.Value, b.Size)
	if len(x) != len(y) {
		return
	}
	v := changedVote
	if a.Size == b.Size && string(xb) == string(yb) {
		v = unchangedVote
	}
	for i := range x {
		if x[i].off != y[i].off || x[i].disp != y[i].disp || !pr.mayBe(x[i].sym, y[i].sym) {
			v = changedVote
		}
	}
	for i := range x {
		if x[i].disp == y[i].disp && pr.mayBe(x[i].sym, y[i].sym) {
			k := [2]object.SymID{x[i].sym, y[i].sym}
			pr.votes[k] = max(pr.votes[k], v)
		}
	}
}

// mayBe reports whether names let two symbols be the same thing: they are equal, of one
// family of numbered names, or neither object has the other's.
func (pr *pair) mayBe(o, t object.SymID) bool {
	a, b := pr.o.f.Symbols[o].Name, pr.q.f.Symbols[t].Name
	if family(a) == family(b) {
		return true
	}
	return pr.family(0, b) == 0 && pr.family(1, a) == 0
}

// namedRef is a reference to a thing with a name.
type namedRef struct {
	off  uint64
	sym  object.SymID
	disp int64
}

// named gives the references of a piece to things that have names, and its bytes outside of all references.
func (v *view) named(sec object.SecID, off, size uint64) ([]namedRef, []byte) {
	d := v.data(sec, off, off+size)
	var insns []insn
	if v.f.Sections[sec].Exec() {
		insns, _ = decode(d)
	}
	masked := slices.Clone(d)
	var out []namedRef
	for _, r := range v.refs(sec, off, off+size, insns) {
		if r.off+r.size <= uint64(len(masked)) {
			clear(masked[r.off : r.off+r.size])
		}
		tsec, anchor, pos, ok := v.target(sec, &r)
		if !ok || anchor < 0 || v.f.Sections[tsec].Flags&elf.SHF_MERGE != 0 {
			continue
		}
		if sp := v.spanAt(tsec, uint64(anchor)); sp.sym != 0 {
			out = append(out, namedRef{r.off, sp.sym, pos - int64(sp.lo)})
		}
	}
	return out, masked
}
