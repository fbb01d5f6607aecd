package verify

import (
	"bytes"
	"debug/elf"
	"slices"
	"strings"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/reloc"
	"github.com/kdelta/kdelta/symbols"
)

// pair is a Pair under examination.
type pair struct {
	Pair
	o, q     *view
	named    bool            // the two have the same symbol table
	at       map[site]site   // where the patch has what starts at a place of the patched object
	replaced map[site]string // functions of the patched object that replace one of the kernel, by start
	carried  map[string]bool // names of carried functions
	votes    map[[2]object.SymID]vote
	canons   [2]map[site]*canon // of the original and the patched object
	families [2]map[string]int  // how many symbols have a key
}

// item is a stretch of the patch that has to equal one of a patched object.
type item struct {
	pr   *pair
	q, p site
	size uint64
	kind itemKind
	row  *elfdiff.Table // of an entry
}

type itemKind uint8

const (
	itemCode itemKind = iota
	itemData
	itemEntry
)

type itemKey struct {
	pr   *pair
	q, p site
	size uint64
}

// prover is the state of the level code.
type prover struct {
	*checker
	work    []item
	seen    map[itemKey]bool
	from    map[site]itemKey // what a place of the patch is a copy of
	cover   map[object.SecID][]span
	fresh   []item // code whose tables were not looked at yet
	entries map[site]bool
	ours    map[object.SymID]bool // functions of the patch that come from no object
	takers  map[object.SymID]site // those of them that take relocations back, and the callback of an object that they call first
	insns   []insn                // of p.decode
}

func (c *checker) code(pairs []Pair) {
	cov := &c.res.Levels[Code]
	switch {
	case c.klp == nil:
		cov.Why = "the livepatch metadata cannot be read"
		return
	case len(pairs) == 0:
		cov.Why = "no pair of objects was given"
		return
	}
	c.p.addKlp(c.klp.Relocs)
	views := map[*object.File]*view{}
	open := func(f *object.File) *view {
		v := views[f]
		if v == nil {
			v = newView(f, c.rules)
			views[f] = v
		}
		return v
	}
	for i := range pairs {
		if c.ctx.Err() != nil {
			return
		}
		o, q := open(pairs[i].Orig), open(pairs[i].Patched)
		named := sameSymbols(o.f, q.f)
		if named {
			q.names = o.names
		}
		c.pairs = append(c.pairs, &pair{Pair: pairs[i], o: o, q: q, named: named, at: map[site]site{}, replaced: map[site]string{}, carried: map[string]bool{}})
	}
	p := &prover{checker: c, seen: map[itemKey]bool{}, from: map[site]itemKey{}, cover: map[object.SecID][]span{}, entries: map[site]bool{}}
	p.machinery()
	p.start()
	p.claims()
	for len(p.work) > 0 || len(p.fresh) > 0 {
		if c.ctx.Err() != nil {
			return
		}
		if n := len(p.work); n > 0 {
			it := p.work[n-1]
			p.work = p.work[:n-1]
			p.compare(&it)
			continue
		}
		n := len(p.fresh)
		it := p.fresh[n-1]
		if !it.pr.q.known(it.q.sec) {
			p.expect()
		}
		p.fresh = p.fresh[:n-1]
		p.tables(&it)
	}
	p.leftovers()
	p.callbacks()
	p.unwind()
	for _, pr := range c.pairs {
		p.changed(pr)
	}
	p.unaccounted()
	cov.Reached = true
}

// expect looks for the table entries of all code that waits for them, at once.
func (p *prover) expect() {
	of := map[*view][]bool{}
	for i := range p.fresh {
		it := &p.fresh[i]
		q := it.pr.q
		if q.known(it.q.sec) {
			continue
		}
		if of[q] == nil {
			of[q] = make([]bool, len(q.f.Sections))
		}
		of[q][it.q.sec] = true
	}
	for q, secs := range of {
		q.indexMore(secs)
	}
}

// glue reports whether a section holds code that makes a patch a module, not code of the patch.
func glue(name string) bool {
	return strings.HasPrefix(name, ".init") || strings.HasPrefix(name, ".exit")
}

// start pairs each function that the patch defines with that of a patched object.
func (p *prover) start() {
	wants := map[site]string{} // replacement: object
	for _, o := range p.klp.Objects {
		for _, fn := range o.Funcs {
			if s := &p.p.f.Symbols[fn.New]; s.Sec != 0 {
				wants[site{s.Sec, s.Value}] = o.Name
			}
		}
	}
	for i := 1; i < len(p.p.f.Symbols); i++ {
		s := &p.p.f.Symbols[i]
		if s.Type() != elf.STT_FUNC || s.Sec == 0 || s.Size == 0 || !p.p.f.Sections[s.Sec].Exec() || glue(p.p.f.Sections[s.Sec].Name) {
			continue
		}
		if p.ours[object.SymID(i)] {
			continue
		}
		at := site{s.Sec, s.Value}
		pr, id := p.origin(object.SymID(i), wants[at])
		if pr == nil {
			if s.Name == "init_module" || s.Name == "cleanup_module" {
				continue
			}
			p.fail(diag.VerifyFunction, s.Sec, s.Value, "no patched object has a function %s of 0x%x bytes", s.Name, s.Size)
			continue
		}
		t := &pr.q.f.Symbols[id]
		if t.Size != s.Size {
			p.fail(diag.VerifyCode, s.Sec, s.Value, "has 0x%x bytes, 0x%x in %s", s.Size, t.Size, pr.q.f.Name)
			continue
		}
		pr.carried[s.Name] = true
		p.count("functions", 1)
		p.bind(pr, site{t.Sec, t.Value}, at, t.Size, itemCode, nil)
	}
}

// origin finds the function of a patched object that one of the patch is a copy of.
func (p *prover) origin(id object.SymID, owner string) (*pair, object.SymID) {
	type cand struct {
		pr *pair
		id object.SymID
	}
	s := &p.p.f.Symbols[id]
	var all []cand
	for _, pr := range p.pairs {
		if owner != "" && pr.Object != owner {
			continue
		}
		for _, k := range pr.q.ids(s.Name) {
			if t := &pr.q.f.Symbols[k]; t.Type() == elf.STT_FUNC && t.Size > 0 && pr.q.f.Sections[t.Sec].Exec() {
				all = append(all, cand{pr, k})
			}
		}
	}
	keep := func(f func(c cand) bool) {
		if len(all) < 2 {
			return
		}
		var out []cand
		for _, c := range all {
			if f(c) {
				out = append(out, c)
			}
		}
		if len(out) > 0 {
			all = out
		}
	}
	keep(func(c cand) bool {
		return (c.pr.q.f.Symbols[c.id].Bind() == elf.STB_LOCAL) == (s.Bind() == elf.STB_LOCAL)
	})
	keep(func(c cand) bool { return c.pr.q.file(c.id) == p.p.file(id) })
	keep(func(c cand) bool { return c.pr.q.f.Symbols[c.id].Size == s.Size })
	keep(func(c cand) bool {
		t := &c.pr.q.f.Symbols[c.id]
		at, ok := c.pr.at[site{t.Sec, t.Value}]
		return !ok || at == site{s.Sec, s.Value}
	})
	keep(func(c cand) bool {
		t := &c.pr.q.f.Symbols[c.id]
		return p.alike(c.pr, site{t.Sec, t.Value}, site{s.Sec, s.Value}, s.Size)
	})
	if len(all) == 0 {
		return nil, 0
	}
	return all[0].pr, all[0].id
}

// alike reports whether two stretches of code are equal outside of what the
// patched object refers to: enough to choose among functions of one name.
func (p *prover) alike(pr *pair, q, at site, size uint64) bool {
	a, b := pr.q.data(q.sec, q.off, q.off+size), p.p.data(at.sec, at.off, at.off+size)
	if a == nil || b == nil {
		return false
	}
	a, b = bytes.Clone(a), bytes.Clone(b)
	insns, _ := decode(a)
	for _, r := range pr.q.refs(q.sec, q.off, q.off+size, insns) {
		if r.off+r.size <= size {
			clear(a[r.off : r.off+r.size])
			clear(b[r.off : r.off+r.size])
		}
	}
	return bytes.Equal(a, b)
}

// claims checks which function each replacement says that it replaces.
func (p *prover) claims() {
	for _, o := range p.klp.Objects {
		for _, fn := range o.Funcs {
			s := &p.p.f.Symbols[fn.New]
			k, ok := p.from[site{s.Sec, s.Value}]
			if !ok {
				continue // said already
			}
			pr := k.pr
			if pr.Object != o.Name {
				p.failSym(diag.VerifyObject, fn.Name, "is replaced in %s by %s, which is of %s", o.Name, s.Name, pr.Object)
				continue
			}
			pr.replaced[k.q] = fn.Name
			orig := p.originals(pr, fn.Name, true)
			if len(orig) == 0 {
				p.failSym(diag.VerifySymbol, fn.Name, "is replaced, and the original object has no such function")
				continue
			}
			qsym := pr.q.spanAt(k.q.sec, k.q.off).sym
			names := pr.q.namesAt(k.q)
			if slices.Contains(names, fn.Name) && !numbered(fn.Name) {
				// nothing to prove
			} else if !slices.ContainsFunc(names, func(n string) bool { return family(n) == family(fn.Name) }) {
				p.failSym(diag.VerifyFunction, fn.Name, "is replaced by %s, which is another function", s.Name)
			} else if pr.family(0, fn.Name) > 1 || pr.family(1, s.Name) > 1 {
				if proved, _ := p.evidence(pr, orig[0], qsym); !proved && !slices.Contains(names, fn.Name) {
					p.unproved(s.Sec, s.Value, "that %s replaces %s and not another of that family", s.Name, fn.Name)
				}
			}
			p.position(pr, orig, fn.Name, fn.Pos, func(format string, args ...any) { p.failSym(diag.VerifyPosition, fn.Name, format, args...) })
		}
	}
}

// originals gives the symbols of a name that the original object defines.
func (p *prover) originals(pr *pair, name string, fn bool) []object.SymID {
	var out []object.SymID
	for _, id := range pr.o.ids(name) {
		if s := &pr.o.f.Symbols[id]; !fn || s.Type() == elf.STT_FUNC || s.Type() == elf.STT_NOTYPE && pr.o.f.Sections[s.Sec].Exec() {
			out = append(out, id)
		}
	}
	return out
}

// position checks which of several symbols of a name is meant.
func (p *prover) position(pr *pair, ids []object.SymID, name string, pos uint64, report func(format string, args ...any)) {
	n := 0
	seen := map[*view]bool{}
	for _, other := range p.pairs {
		if other.Object == pr.Object && !seen[other.o] {
			seen[other.o] = true
			n += len(other.o.ids(name))
		}
	}
	if pos == 0 && n > 1 {
		report("the original objects have %d symbols of this name, and the patch asks for the only one", n)
		return
	}
	syms := p.opts.Symbols[pr.Object]
	if k, ok := syms.(Positioner); ok && len(ids) == 1 {
		if a := k.Position(pr.o.f, ids[0]); a.Known {
			if a.Pos != pos && (a.Pos > 1 || pos > 1) {
				report("the patch asks for number %d, and the kernel's symbols say %d (%s)", pos, a.Pos, a.Evidence)
			}
			return
		}
	}
	if pos > 1 && syms == nil {
		d := diag.New(diag.VerifyUnproved, diag.Place{File: p.p.f.Name, Symbol: name}, "not proved: that number %d of the symbols of this name is meant", pos)
		p.report(d)
	}
}

func (p *prover) unproved(sec object.SecID, off uint64, format string, args ...any) {
	p.fail(diag.VerifyUnproved, sec, off, "not proved: "+format, args...)
}

// bind takes note that the patch has a copy of a stretch of a patched object, and has it compared.
func (p *prover) bind(pr *pair, q, at site, size uint64, kind itemKind, row *elfdiff.Table) bool {
	k := itemKey{pr, q, at, size}
	if p.seen[k] {
		return true
	}
	if kind != itemEntry {
		if was, ok := pr.at[q]; ok && was != at {
			p.fail(diag.VerifyTarget, at.sec, at.off, "a second copy of %s, which is at %s already", pr.q.where(q.sec, int64(q.off)), p.p.where(was.sec, int64(was.off)))
			return false
		}
		if was, ok := p.from[at]; ok && (was.pr != pr || was.q != q) && size > 0 && was.size > 0 {
			p.fail(diag.VerifyTarget, at.sec, at.off, "stands for %s and for %s at once", was.pr.q.where(was.q.sec, int64(was.q.off)), pr.q.where(q.sec, int64(q.off)))
			return false
		}
		pr.at[q], p.from[at] = at, k
	}
	p.seen[k] = true
	p.covered(at, size)
	it := item{pr, q, at, size, kind, row}
	p.work = append(p.work, it)
	if kind == itemCode {
		p.fresh = append(p.fresh, it)
	}
	return true
}

func (p *prover) covered(at site, size uint64) {
	p.cover[at.sec] = append(p.cover[at.sec], span{lo: at.off, hi: at.off + size})
}

// compare compares a stretch of the patch with what it is a copy of.
func (p *prover) compare(it *item) {
	qs, ps := &it.pr.q.f.Sections[it.q.sec], &p.p.f.Sections[it.p.sec]
	p.count("pieces", 1)
	p.count("bytes", int(it.size))
	if it.kind != itemEntry {
		p.aligned(it)
	}
	if it.kind == itemData && qs.Flags&elf.SHF_WRITE != 0 {
		p.state(it)
	}
	a := it.pr.q.data(it.q.sec, it.q.off, it.q.off+it.size)
	b := p.p.data(it.p.sec, it.p.off, it.p.off+it.size)
	if qs.Type == elf.SHT_NOBITS {
		if b != nil && !sameZero(b) || it.p.off+it.size > ps.Size {
			p.fail(diag.VerifyData, it.p.sec, it.p.off, "holds something else than zeros")
		}
		return
	}
	if a == nil || b == nil {
		p.fail(diag.VerifyData, it.p.sec, it.p.off, "0x%x bytes are not there", it.size)
		return
	}
	if qs.Exec() != ps.Exec() || ps.Flags&elf.SHF_WRITE == 0 && qs.Flags&elf.SHF_WRITE != 0 {
		p.fail(diag.VerifyStructure, it.p.sec, it.p.off, "lies in a section with other rights than %s", qs.Name)
	}
	code := diag.VerifyData
	var insns []insn
	switch it.kind {
	case itemEntry:
		code = diag.VerifyEntry
	case itemCode:
		code = diag.VerifyCode
		insns, _ = decode(a)
	}
	want := it.pr.q.refs(it.q.sec, it.q.off, it.q.off+it.size, insns)
	a, b = bytes.Clone(a), bytes.Clone(b)
	skip := map[uint64]bool{} // fields that stand for a constant
	if it.kind == itemCode {
		for i := range insns {
			if name, ok := it.pr.q.constAt(site{it.q.sec, it.q.off + insns[i].off}); ok {
				p.constant(it, insns[i].off, name, a, b, skip)
			}
		}
	}
	if it.kind == itemCode && p.res.Format != Intermediate {
		p.fentry(it, insns, a, b, skip)
	}
	for i := range want {
		r := &want[i]
		if r.off+r.size > it.size {
			p.fail(code, it.p.sec, it.p.off+r.off, "a field reaches beyond the end")
			return
		}
		clear(a[r.off : r.off+r.size])
		if r.typ == elf.R_X86_64_NONE {
			clear(b[r.off : r.off+r.size])
		}
	}
	if i := differ(a, b); i >= 0 {
		p.fail(code, it.p.sec, it.p.off+uint64(i), "0x%02x, want 0x%02x as in %s", b[i], a[i], it.pr.q.where(it.q.sec, int64(it.q.off)+int64(i)))
		return
	}
	p.references(it, want, insns, skip)
}

func differ(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

// references compares the references of two stretches with equal bytes.
func (p *prover) references(it *item, want []ref, insns []insn, skip map[uint64]bool) {
	got := p.p.refs(it.p.sec, it.p.off, it.p.off+it.size, p.moved(it, insns))
	got = slices.DeleteFunc(got, func(r ref) bool { return skip[r.off] })
	i, k := 0, 0
	for i < len(want) || k < len(got) {
		switch {
		case i < len(want) && (k == len(got) || want[i].off < got[k].off) && p.noBody(it, &want[i]):
			i++ // a patch may leave it out
		case k == len(got) || i < len(want) && want[i].off < got[k].off:
			p.fail(diag.VerifyTarget, it.p.sec, it.p.off+want[i].off, "the reference to %s is missing", p.describe(it.pr.q, it.q.sec, &want[i]))
			i++
		case i == len(want) || got[k].off < want[i].off:
			p.fail(diag.VerifyTarget, it.p.sec, it.p.off+got[k].off, "a reference to %s, where the patched object has none", p.describe(p.p, it.p.sec, &got[k]))
			k++
		default:
			p.lead(it, &want[i], &got[k])
			i++
			k++
		}
	}
}

// moved reads the operands of the same instructions again, as the patch has them.
func (p *prover) moved(it *item, insns []insn) []insn {
	out := slices.Clone(insns)
	d := p.p.data(it.p.sec, it.p.off, it.p.off+it.size)
	for i := range out {
		in := &out[i]
		if in.field == 0 {
			continue
		}
		v := uint64(0)
		for k := in.size; k > 0; k-- {
			v = v<<8 | uint64(d[in.field+k-1])
		}
		shift := 64 - 8*in.size
		in.value = int64(v<<shift) >> shift
	}
	return out
}

// constant checks the rewriting of an instruction whose constant the kernel fills in at boot:
// movabs $imm64,%reg has become mov symbol(%rip),%reg and a NOP of three bytes.
func (p *prover) constant(it *item, off uint64, section string, a, b []byte, skip map[uint64]bool) {
	p.count("boot-time constants", 1)
	name, isPtr := strings.CutPrefix(section, "runtime_ptr_")
	if off+10 > it.size || a[off]&^1 != 0x48 || a[off+1]&^7 != 0xb8 {
		p.fail(diag.VerifyCode, it.p.sec, it.p.off+off, "what %s lists is no instruction with a constant of 64 bits", section)
		return
	}
	reg := a[off+1]&7 | a[off]&1<<3
	want := []byte{0x48 | reg>>3<<2, 0x8b, reg&7<<3 | 5, 0, 0, 0, 0, 0x0f, 0x1f, 0x00}
	if !isPtr || !bytes.Equal(b[off:off+10], want) {
		p.fail(diag.VerifyCode, it.p.sec, it.p.off+off, "%s lists the instruction, so the kernel would have to fill in its constant, and does not for a patch", section)
	}
	clear(a[off : off+10])
	clear(b[off : off+10])
	skip[off+3] = true
	rs := p.p.relocsIn(it.p.sec, it.p.off+off, it.p.off+off+10)
	if len(rs) != 1 || rs[0].off != it.p.off+off+3 || rs[0].typ != elf.R_X86_64_PC32 {
		p.fail(diag.VerifyTarget, it.p.sec, it.p.off+off+3, "the load of %s has no relocation", name)
		return
	}
	got := ref{off: off + 3, size: 4, typ: rs[0].typ, sym: rs[0].sym, klp: rs[0].klp, disp: rs[0].addend + 4, code: true}
	for _, id := range it.pr.q.ids(name) {
		s := &it.pr.q.f.Symbols[id]
		p.leadTo(it, it.pr, s.Sec, int64(s.Value), int64(s.Value), &ref{off: off + 3, size: 4, typ: rs[0].typ, sym: id, code: true}, &got)
		return
	}
	p.byName(it, name, 0, &got, false)
}

// fentry allows kpatch's rewriting of a function's entry: the NOP that stands for
// the call of ftrace is the call again, and listed.
func (p *prover) fentry(it *item, insns []insn, a, b []byte, skip map[uint64]bool) {
	for i := range insns {
		off := insns[i].off
		if off > maxEntry {
			return
		}
		at := site{it.p.sec, it.p.off + off}
		if off+5 <= it.size && bytes.Equal(a[off:off+5], []byte{0x0f, 0x1f, 0x44, 0, 0}) && bytes.Equal(b[off:off+5], []byte{0xe8, 0, 0, 0, 0}) &&
			p.callsFentry(at) && len(p.p.entriesAt("__mcount_loc", at)) == 1 {
			clear(a[off : off+5])
			clear(b[off : off+5])
			skip[off+1] = true
			return
		}
	}
}

// describe says where a reference leads.
func (p *prover) describe(v *view, sec object.SecID, r *ref) string {
	if r.klp != nil {
		return plus(r.klp.Symbol.String(), r.disp)
	}
	if tsec, _, pos, ok := v.target(sec, r); ok {
		return v.where(tsec, pos)
	}
	return plus(v.f.SymName(r.sym), r.disp)
}

// aligned checks that a copy is aligned as what it is a copy of.
func (p *prover) aligned(it *item) {
	align := max(it.pr.q.f.Sections[it.q.sec].Addralign, 1)
	for it.q.off&(align-1) != 0 {
		align >>= 1
	}
	if p.p.f.Sections[it.p.sec].Addralign < align || it.p.off&(align-1) != 0 {
		p.fail(diag.VerifyStructure, it.p.sec, it.p.off, "is not aligned to %d bytes as in %s", align, it.pr.q.f.Name)
	}
}

// state checks that data which the running kernel holds already is not in the patch again.
func (p *prover) state(it *item) {
	s := it.pr.q.spanAt(it.q.sec, it.q.off)
	if s.sym == 0 {
		return
	}
	name := it.pr.q.f.Symbols[s.sym].Name
	if label(name) || symbols.Parse(name).Flags.Any(symbols.Disposable|symbols.UniqueID|symbols.Content) {
		return
	}
	if !numbered(name) {
		for _, id := range it.pr.o.ids(name) {
			if it.pr.o.file(id) == it.pr.q.file(s.sym) {
				p.fail(diag.VerifyState, it.p.sec, it.p.off, "a copy of %s, which the running kernel has", name)
				return
			}
		}
		return
	}
	if it.pr.family(0, name) >= it.pr.family(1, name) {
		p.unproved(it.p.sec, it.p.off, "that %s is new: the original has as many of its family", name)
	}
}

// takesAddress reports whether a reference takes an address that may be kept.
func takesAddress(it *item, r *ref) bool { return it.kind != itemEntry && !r.branch }

// noBody reports whether a reference of a table entry leads to replacement code of no length.
func (p *prover) noBody(it *item, r *ref) bool {
	return it.row != nil && it.row.Body != elfdiff.NoField && uint64(it.row.Body) == r.off &&
		it.pr.q.data(it.q.sec, it.q.off, it.q.off+it.size)[it.row.BodyLen] == 0
}

// lead checks that a reference of the patch leads to what that of the patched object leads to.
func (p *prover) lead(it *item, want, got *ref) {
	p.count("references", 1)
	if got.typ == elf.R_X86_64_NONE && want.typ != elf.R_X86_64_NONE {
		p.fail(diag.VerifyTarget, it.p.sec, it.p.off+got.off, "the relocation to %s is missing", p.describe(it.pr.q, it.q.sec, want))
		return
	}
	if got.typ != want.typ && !(want.typ == elf.R_X86_64_NONE && (got.typ == elf.R_X86_64_PC32 || got.typ == elf.R_X86_64_PLT32) && want.size == got.size) {
		p.fail(diag.VerifyType, it.p.sec, it.p.off+got.off, "%s to %s, want %s", reloc.Name(got.typ), p.describe(p.p, it.p.sec, got), reloc.Name(want.typ))
		return
	}
	q := it.pr.q
	sec, anchor, pos, ok := q.target(it.q.sec, want)
	if ok {
		p.leadTo(it, it.pr, sec, anchor, pos, want, got)
		return
	}
	s := &q.f.Symbols[want.sym]
	if want.sym == 0 || s.Shndx != elf.SHN_UNDEF {
		p.fail(diag.VerifyTarget, it.p.sec, it.p.off+got.off, "the patched object refers to %s, which a patch cannot", q.f.SymName(want.sym))
		return
	}
	p.byName(it, s.Name, want.disp, got, takesAddress(it, want))
}

// byName checks a reference to what the patched object does not define.
func (p *prover) byName(it *item, name string, disp int64, got *ref, address bool) {
	at, off := it.p.sec, it.p.off+got.off
	// Another object of the patch may define it.
	for _, pr := range p.pairs {
		if pr == it.pr {
			continue
		}
		for _, id := range pr.q.ids(name) {
			if s := &pr.q.f.Symbols[id]; s.Bind() != elf.STB_LOCAL {
				if start, ok := pr.at[site{s.Sec, s.Value}]; ok && (got.klp != nil || p.p.f.Symbols[got.sym].Sec != 0 || start.sec != 0) {
					w := ref{off: got.off, size: got.size, typ: got.typ, sym: id, disp: disp, code: got.code, branch: !address}
					p.leadTo(it, pr, s.Sec, int64(s.Value), int64(s.Value)+disp, &w, got)
					return
				}
			}
		}
	}
	if got.klp != nil {
		k := &got.klp.Symbol
		switch {
		case k.Name != name:
			p.fail(diag.VerifySymbol, at, off, "leads to %s, want %s", k.Name, name)
		case got.disp != disp:
			p.fail(diag.VerifyAddend, at, off, "leads to %s, want %s", plus(name, got.disp), plus(name, disp))
		default:
			p.owner(it.pr.Object, at, off, k)
			if k.Pos > 1 && p.opts.Symbols[k.Object] == nil {
				p.unproved(at, off, "that number %d of the symbols %s is meant", k.Pos, name)
			}
		}
		return
	}
	s := &p.p.f.Symbols[got.sym]
	switch {
	case s.Sec != 0 || s.Name != name:
		p.fail(diag.VerifySymbol, at, off, "leads to %s, want %s", p.describe(p.p, at, got), plus(name, disp))
	case got.disp != disp:
		p.fail(diag.VerifyAddend, at, off, "leads to %s, want %s", plus(name, got.disp), plus(name, disp))
	}
}

// owner checks the object in which a symbol is looked up.
func (p *prover) owner(object string, sec object.SecID, off uint64, k *klp.Symbol) {
	if k.Object == object {
		return
	}
	if p.opts.Exports != nil {
		if o, ok := p.opts.Exports.Exporter(k.Name); ok && o == k.Object {
			return
		}
	}
	p.fail(diag.VerifyObject, sec, off, "%s is looked up in %s, want %s", k.Name, k.Object, object)
}

// leadTo checks a reference to a place of the patched object of pr.
func (p *prover) leadTo(it *item, pr *pair, sec object.SecID, anchor, pos int64, want, got *ref) {
	at, off := it.p.sec, it.p.off+got.off
	q := pr.q
	s := &q.f.Sections[sec]
	tsec, _, tpos, ok := p.p.target(it.p.sec, got)
	if !ok {
		p.toKernel(it, pr, sec, anchor, pos, want, got)
		return
	}
	wrong := func() {
		code := diag.VerifyTarget
		if got.sym != 0 && want.sym != 0 && p.p.f.SymName(got.sym) == q.f.SymName(want.sym) && got.disp != want.disp {
			code = diag.VerifyAddend
		}
		p.fail(code, at, off, "leads to %s, want %s", p.p.where(tsec, tpos), q.where(sec, pos))
	}
	ts := &p.p.f.Sections[tsec]
	switch {
	case s.Size == 0:
		if ts.Name != s.Name && ts.Size != 0 || ts.Name == s.Name && tpos != pos {
			wrong()
		}
		return
	case s.Strings():
		if it.kind == itemEntry && want.disp == int64(want.off) && tpos >= pos-int64(s.Size) {
			// Older tables count from the start of the entry, not from the field.
			if before := q.data(sec, uint64(max(pos-int64(want.off), 0)), uint64(max(pos, 0))); before != nil && pos >= int64(want.off) && bytes.IndexByte(before, 0) < 0 {
				pos, tpos = pos-int64(want.off), tpos-int64(want.off)
			}
		}
		w, ok := q.str(sec, pos)
		if !ok {
			p.unproved(at, off, "the patched object refers to no string at %s", q.where(sec, pos))
			return
		}
		g := p.p.data(tsec, uint64(max(tpos, 0)), uint64(max(tpos, 0))+uint64(len(w)))
		if tpos < 0 || !bytes.Equal(w, g) {
			p.fail(diag.VerifyData, at, off, "leads to the string %q, want %q", g, w)
			return
		}
		p.count("strings", 1)
		p.covered(site{tsec, uint64(tpos)}, uint64(len(w)))
		return
	case s.Flags&elf.SHF_MERGE != 0 && s.Entsize > 0:
		n := int64(s.Entsize)
		lo := pos / n * n
		w := q.data(sec, uint64(max(lo, 0)), uint64(max(lo, 0)+n))
		plo := tpos - (pos - lo)
		if pos < 0 || w == nil || plo < 0 || !bytes.Equal(w, p.p.data(tsec, uint64(plo), uint64(plo+n))) {
			p.fail(diag.VerifyData, at, off, "leads to a constant % x, want % x", p.p.data(tsec, uint64(max(plo, 0)), uint64(max(plo, 0)+n)), w)
			return
		}
		if align := min(uint64(n), max(s.Addralign, 1)); align&(align-1) == 0 && uint64(plo)&(align-1) != 0 {
			p.fail(diag.VerifyStructure, tsec, uint64(plo), "a constant that is not aligned to %d bytes", align)
		}
		p.count("constants", 1)
		p.covered(site{tsec, uint64(plo)}, uint64(n))
		return
	}
	if it.row != nil && it.row.Body != elfdiff.NoField && uint64(it.row.Body) == want.off {
		d := q.data(it.q.sec, it.q.off, it.q.off+it.size)
		n := uint64(d[it.row.BodyLen])
		if tpos < 0 || pos < 0 || uint64(tpos) > ts.Size || uint64(pos)+n > s.Size || n > ts.Size-uint64(tpos) {
			wrong()
			return
		}
		if n > 0 {
			p.body(pr, site{sec, uint64(pos)}, site{tsec, uint64(tpos)}, n)
		}
		return
	}
	clamped := uint64(min(max(anchor, 0), int64(s.Size)-1))
	sp := q.spanAt(sec, clamped)
	kind := itemData
	var row *elfdiff.Table
	switch r, known := q.row(sec); {
	case known && r != nil && anchor < int64(s.Size):
		n := uint64(r.Entry)
		sp = span{lo: clamped / n * n, hi: min(clamped/n*n+n, s.Size)}
		kind, row = itemEntry, r
	case s.Exec() && sp.sym == 0:
		if anchor < 0 || anchor >= int64(s.Size) {
			p.unproved(at, off, "that code at the end of %s is meant", s.Name)
			return
		}
		kind = itemCode
		insns, _ := decode(q.data(sec, uint64(anchor), sp.hi))
		sp = span{lo: uint64(anchor), hi: sp.hi}
		for _, in := range insns {
			if in.endsFlow {
				sp.hi = sp.lo + in.end
				break
			}
		}
	case s.Exec():
		kind = itemCode
	}
	start := site{sec, sp.lo}
	if kind == itemCode && pos == int64(sp.lo) && takesAddress(it, want) {
		if old, ok := pr.replaced[start]; ok {
			p.fail(diag.VerifyPointer, at, off, "takes the address of the new %s, which is gone when the patch is; want that of the kernel's %s", q.f.Symbols[sp.sym].Name, old)
			return
		}
	}
	plo := tpos - (pos - int64(sp.lo))
	if plo < 0 || uint64(plo) > ts.Size || sp.hi-sp.lo > ts.Size-uint64(plo) {
		wrong()
		return
	}
	to := site{tsec, uint64(plo)}
	if was, ok := pr.at[start]; ok && kind != itemEntry {
		if was != to {
			wrong()
		}
		return
	}
	if kind != itemEntry && !p.fitsThere(pr, start, to, sp) {
		wrong()
		return
	}
	p.bind(pr, start, to, sp.hi-sp.lo, kind, row)
}

// fitsThere reports whether the patch has a name where the patched object has one, and none where it has none.
func (p *prover) fitsThere(pr *pair, q, at site, sp span) bool {
	there := p.p.spanAt(at.sec, at.off)
	if sp.sym == 0 || label(pr.q.f.Symbols[sp.sym].Name) {
		if there.sym != 0 && !label(p.p.f.Symbols[there.sym].Name) {
			return false
		}
		return true
	}
	if at.off != there.lo {
		return false
	}
	names := p.p.namesAt(at)
	return slices.ContainsFunc(pr.q.namesAt(q), func(n string) bool { return slices.Contains(names, n) })
}

// body has replacement code compared. Bodies of several entries may overlap, so they are bound to no place.
func (p *prover) body(pr *pair, q, at site, n uint64) {
	k := itemKey{pr, q, at, n}
	if p.seen[k] {
		return
	}
	p.seen[k] = true
	p.covered(at, n)
	it := item{pr, q, at, n, itemCode, nil}
	p.work = append(p.work, it)
	p.fresh = append(p.fresh, it)
}
