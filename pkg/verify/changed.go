package verify

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/symbols"
	"github.com/kdelta/kdelta/x86"
)

// canon is a piece of code or data in a form that two builds have in common.
type canon struct {
	hard   []byte // bytes outside of references, and where named references lead
	soft   []byte // what data without a name holds: it may be laid out anew for the sake of others
	code   bool
	depth  int          // of code without a name in code without a name
	budget *int         // what may still be followed
	home   object.SecID // the function that it is a part of
	in     span
	regs   []regImm // constants loaded into registers
}

// regImm is a constant in a mov to a register before a call of something that takes a line number.
type regImm struct{ from, to int }

func (c *canon) equal(d *canon) bool {
	return bytes.Equal(c.hard, d.hard) && bytes.Equal(c.soft, d.soft)
}

// equalLines compares without the constants that are line numbers.
func (c *canon) equalLines(d *canon) bool {
	if len(c.regs) == 0 || len(c.regs) != len(d.regs) || len(c.hard) != len(d.hard) {
		return false
	}
	a, b := bytes.Clone(c.hard), bytes.Clone(d.hard)
	for i := range c.regs {
		clear(a[c.regs[i].from:c.regs[i].to])
		clear(b[d.regs[i].from:d.regs[i].to])
	}
	return bytes.Equal(a, b) && bytes.Equal(c.soft, d.soft)
}

// decode gives instructions until it is called again.
func (p *prover) decode(code []byte) []insn {
	p.insns, _ = decodeTo(p.insns[:0], code)
	return p.insns
}

// canonOf gives the canon of the piece of the original (0) or patched object (1) at a place.
func (p *prover) canonOf(pr *pair, side int, at site) *canon {
	if pr.canons[side] == nil {
		pr.canons[side] = map[site]*canon{}
	}
	v := pr.view(side)
	if at.off >= v.f.Sections[at.sec].Size {
		return nil
	}
	sp := v.spanAt(at.sec, at.off)
	at.off = sp.lo
	c, ok := pr.canons[side][at]
	if !ok {
		c = p.canon(v, at.sec, sp)
		pr.canons[side][at] = c
	}
	return c
}

// canon makes one. It describes named things by name and does not look into
// them, so it takes time in proportion to the piece and the strings that it uses.
func (p *prover) canon(v *view, sec object.SecID, sp span) *canon {
	budget := canonBudget
	c := &canon{code: v.f.Sections[sec].Exec(), budget: &budget}
	d := bytes.Clone(v.data(sec, sp.lo, sp.hi))
	var insns []insn
	if c.code {
		insns = p.decode(d)
	}
	refs := v.refs(sec, sp.lo, sp.hi, insns)
	for i := range refs {
		if r := &refs[i]; r.off+r.size <= uint64(len(d)) {
			clear(d[r.off : r.off+r.size])
		}
	}
	if c.code {
		c.lines(v, insns, refs)
		for len(d) > 0 && x86.IsPadding(d[len(d)-1:]) && len(refs) > 0 && refs[len(refs)-1].off < uint64(len(d)-1) && d[len(d)-1] == 0x90 {
			d = d[:len(d)-1]
		}
	}
	c.hard = binary.LittleEndian.AppendUint64(d, sp.hi-sp.lo)
	for i := range refs {
		c.hard = binary.LittleEndian.AppendUint64(c.hard, refs[i].off)
		p.describeTo(c, v, sec, sp, &refs[i])
	}
	if c.code {
		p.tableText(c, v, sec, sp)
	}
	return c
}

func (c *canon) add(s string, n int64) {
	c.hard = append(append(c.hard, s...), 0)
	c.hard = binary.LittleEndian.AppendUint64(c.hard, uint64(n))
}

// describeTo appends where a reference leads.
func (p *prover) describeTo(c *canon, v *view, sec object.SecID, sp span, r *ref) {
	if r.typ == elf.R_X86_64_64 {
		c.hard = append(c.hard, '8')
	}
	tsec, anchor, pos, ok := v.target(sec, r)
	if !ok {
		c.add("U"+v.f.SymName(r.sym), r.disp)
		if s := &v.f.Symbols[r.sym]; s.Shndx == elf.SHN_ABS {
			c.add("=", int64(s.Value))
		}
		return
	}
	s := &v.f.Sections[tsec]
	switch {
	case tsec == sec && anchor >= int64(sp.lo) && anchor < int64(sp.hi):
		c.add("self", pos-int64(sp.lo))
		return
	case c.depth > 0 && tsec == c.home && anchor >= int64(c.in.lo) && anchor < int64(c.in.hi):
		c.add("home", pos-int64(c.in.lo))
		return
	case s.Strings():
		str, _ := v.str(tsec, pos)
		c.add("S"+string(str[:min(len(str), 1<<16)]), int64(len(str)))
		return
	case s.Flags&elf.SHF_MERGE != 0 && s.Entsize > 0 && pos >= 0:
		n := uint64(s.Entsize)
		lo := uint64(pos) / n * n
		c.add("C"+string(v.data(tsec, lo, lo+n)), pos-int64(lo))
		return
	case s.Size == 0:
		c.add("0", pos)
		return
	}
	if _, table := v.row(tsec); table {
		c.add("T"+s.Name, 0) // entries are compared with the code that they belong to
		return
	}
	t := v.spanAt(tsec, uint64(min(max(anchor, 0), int64(s.Size)-1)))
	if t.sym != 0 {
		name := v.f.Symbols[t.sym].Name
		if f := symbols.Parse(name); !label(name) && !f.Flags.Has(symbols.Content) {
			c.add("N"+f.Key, pos-int64(t.lo))
			return
		}
	}
	c.add("A", 0)
	if s.Exec() {
		// Code without a name, as far as control runs from here.
		if *c.budget > 0 && anchor >= 0 && anchor < int64(s.Size) {
			n := flowEnd(v.data(tsec, uint64(anchor), t.hi))
			*c.budget -= 1 + int(min(n, canonBudget)/64)
			sub := p.canonBody(v, tsec, uint64(anchor), n, c.depth+1, sec, sp, c.budget)
			c.hard, c.soft = append(c.hard, sub.hard...), append(c.soft, sub.soft...)
		}
		return
	}
	// Data without a name: as it is, from where the reference leads to a bound.
	from := uint64(max(pos, 0))
	to := min(t.hi, from+4096)
	if from > to {
		return
	}
	d := bytes.Clone(v.data(tsec, from, to))
	for _, x := range v.relocsIn(tsec, from, to) {
		if e := x.off - from + uint64(x.size); e <= uint64(len(d)) {
			clear(d[x.off-from : e])
		}
		c.soft = append(append(c.soft, v.f.SymName(x.sym)...), 0)
		c.soft = binary.LittleEndian.AppendUint64(c.soft, uint64(x.addend))
	}
	c.soft = append(c.soft, d...)
}

// lines finds the constants that may be line numbers: they go to a register, and a
// call of something that takes a line number is the next call.
func (c *canon) lines(v *view, insns []insn, refs []ref) {
	var waiting []regImm
	k := 0
	for i := range insns {
		in := &insns[i]
		for k < len(refs) && refs[k].off < in.off {
			k++
		}
		if in.loads && (k == len(refs) || refs[k].off >= in.end) {
			waiting = append(waiting, regImm{int(in.immOff), int(in.end)})
		}
		if !in.branch || k == len(refs) || refs[k].off >= in.end {
			continue
		}
		name := ""
		if refs[k].sym != 0 {
			name = v.f.Symbols[refs[k].sym].Name
		}
		if slices.ContainsFunc(v.rules.LineArgs, func(l elfdiff.LineArg) bool { return l.Callee == name }) {
			c.regs = append(c.regs, waiting...)
		}
		waiting = waiting[:0]
	}
}

// tableText appends what tables say about a stretch of code, without line numbers.
func (p *prover) tableText(c *canon, v *view, sec object.SecID, sp span) {
	v.sitesOf(sec, sp.lo, sp.hi, func(entries []sited) {
		for _, e := range entries {
			if e.row.Exclude != "" {
				continue
			}
			d := bytes.Clone(v.data(e.sec, e.off, e.off+e.size(v)))
			if e.row.Line != elfdiff.NoField {
				clear(d[e.row.Line : e.row.Line+e.row.LineSize])
			}
			c.add(e.table, int64(e.at-sp.lo))
			c.hard = append(c.hard, d...)
			for _, r := range v.relocsIn(e.sec, e.off, e.off+e.size(v)) {
				x := ref{off: r.off - e.off, size: uint64(r.size), typ: r.typ, sym: r.sym, disp: r.addend}
				tsec, _, pos, ok := v.target(e.sec, &x)
				if ok && e.row.Body != elfdiff.NoField && int(x.off) == e.row.Body && pos >= 0 {
					n := uint64(d[e.row.BodyLen])
					sub := p.canonBody(v, tsec, uint64(pos), n, c.depth+1, sec, sp, c.budget)
					c.hard, c.soft = append(c.hard, sub.hard...), append(c.soft, sub.soft...)
					continue
				}
				if ok && tsec == sec && pos >= int64(sp.lo) && pos <= int64(sp.hi) {
					c.add("self", pos-int64(sp.lo))
					continue
				}
				p.describeTo(c, v, e.sec, span{}, &x)
			}
		}
	})
}

// canonBudget bounds how much code without a name is followed from one function.
const canonBudget = 1000

func (p *prover) canonBody(v *view, sec object.SecID, off, n uint64, depth int, home object.SecID, in span, budget *int) *canon {
	c := &canon{depth: depth, home: home, in: in, budget: budget}
	d := bytes.Clone(v.data(sec, off, off+n))
	insns := p.decode(d)
	refs := v.refs(sec, off, off+n, insns)
	for i := range refs {
		if r := &refs[i]; r.off+r.size <= uint64(len(d)) {
			clear(d[r.off : r.off+r.size])
		}
	}
	c.hard = d
	for i := range refs {
		p.describeTo(c, v, sec, span{lo: off, hi: off + n}, &refs[i])
	}
	return c
}

// changed finds the functions that differ between the original and the patched
// object and demands that the patch replaces them.
func (p *prover) changed(pr *pair) {
	q := pr.q
	unmoved := stillOf(pr)
	held := make([]bool, len(q.f.Sections)) // the patch has something of it
	for at := range pr.at {
		held[at.sec] = true
	}
	untouched := 0
	for i := range q.f.Sections {
		sec := object.SecID(i)
		size := q.f.Sections[i].Size
		if !q.f.Sections[i].Exec() || size == 0 {
			continue
		}
		if !held[i] && unmoved.same(q, sec, span{hi: size}) {
			untouched++
			continue
		}
		for _, sp := range q.spansOf(sec) {
			s := &q.f.Symbols[sp.sym]
			if s.Type() != elf.STT_FUNC || p.ctx.Err() != nil {
				continue
			}
			p.count("functions compared", 1)
			at := site{sec, sp.lo}
			if _, held := pr.at[at]; !held && unmoved.same(q, sec, sp) {
				continue
			}
			p.changedFunc(pr, at, s, sp.sym)
		}
	}
	if untouched > 0 {
		p.count("sections of code untouched", untouched)
	}
}

func (p *prover) changedFunc(pr *pair, at site, s *object.Symbol, id object.SymID) {
	if _, ok := pr.at[at]; ok {
		if _, ok := pr.replaced[at]; !ok {
			p.carriedOnly(pr, at, s, id)
		}
		return
	}
	sec := pr.q.f.Sections[at.sec].Name
	if slices.ContainsFunc(p.rules.Init, func(g elfdiff.Ignored) bool { return matches(g.Section, sec) }) {
		return
	}
	orig, sure := p.counterpart(pr, s, id)
	if orig == 0 {
		return // new, or renamed: if anything refers to it, the patch was found to hold it
	}
	o := &pr.o.f.Symbols[orig]
	x, y := p.canonOf(pr, 0, site{o.Sec, o.Value}), p.canonOf(pr, 1, at)
	if x == nil || y == nil || x.equal(y) || x.equalLines(y) {
		clear(pr.canons[0]) // nobody asks for these again
		clear(pr.canons[1])
		return
	}
	f := symbols.Parse(s.Name)
	d := diag.New(diag.VerifyMissing, diag.Place{File: pr.q.f.Name, Section: sec, Symbol: s.Name}, "differs from the original, and the patch does not hold it")
	if f.Flags.Has(symbols.Cold) && pr.carried[f.Parent] {
		d.Code = diag.VerifyCold
	}
	if !sure || bytes.Equal(x.hard, y.hard) || p.ignored(pr, s.Name) || f.Parent != "" && p.ignored(pr, f.Parent) {
		d = diag.New(diag.VerifyUnproved, d.Place, "not proved: that the function did not change; what it refers to has no name, or is numbered anew")
	}
	p.report(d)
}

// carriedOnly checks a function that the patch holds without replacing one by it.
func (p *prover) carriedOnly(pr *pair, at site, s *object.Symbol, id object.SymID) {
	f := symbols.Parse(s.Name)
	if f.Flags.Any(symbols.Cold|symbols.Prefix|symbols.CFI) || strings.HasPrefix(pr.q.f.Sections[at.sec].Name, ".altinstr") {
		return
	}
	orig, sure := p.counterpart(pr, s, id)
	if orig == 0 || !sure {
		return
	}
	o := &pr.o.f.Symbols[orig]
	x, y := p.canonOf(pr, 0, site{o.Sec, o.Value}), p.canonOf(pr, 1, at)
	switch {
	case x == nil || y == nil:
	case !x.equal(y) && !x.equalLines(y):
		p.failSym(diag.VerifyMissing, s.Name, "differs from the original and is in the patch, but not among what it replaces")
	default:
		p.failSym(diag.VerifyUnproved, s.Name, "is in the patch and not among what it replaces, though the running kernel has it")
	}
}

// counterpart gives the function of the original that one of the patched object
// is called after; sure is false when only the family of the name says so.
func (p *prover) counterpart(pr *pair, s *object.Symbol, id object.SymID) (orig object.SymID, sure bool) {
	var l []object.SymID
	ids := pr.o.ids(s.Name)
	for _, k := range ids {
		if t := &pr.o.f.Symbols[k]; t.Type() == elf.STT_FUNC && t.Size > 0 && (len(ids) == 1 || pr.o.file(k) == pr.q.file(id)) {
			l = append(l, k)
		}
	}
	if len(l) != 1 {
		return 0, false
	}
	return l[0], !numbered(s.Name)
}

// ignored reports whether the source takes a function out of the comparison.
func (p *prover) ignored(pr *pair, name string) bool {
	for i := range pr.q.f.Sections {
		if pr.q.f.Sections[i].Name != p.rules.IgnoreFuncs || p.rules.IgnoreFuncs == "" {
			continue
		}
		for _, r := range pr.q.relocs(object.SecID(i)) {
			s := &pr.q.f.Symbols[r.sym]
			if s.Sec != 0 && slices.Contains(pr.q.namesAt(site{s.Sec, s.Value + uint64(r.addend)}), name) {
				return true
			}
		}
	}
	return false
}
