package patch

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/reloc"
	"github.com/kdelta/kdelta/symbols"
)

// sttIfunc is STT_GNU_IFUNC: the symbol names a function that gives the address of another. The kernel has none.
const sttIfunc elf.SymType = 10

// writer decides about one pair: where each included atom lies in the patch,
// and what each of its references becomes.
//
// An atom keeps its place modulo the alignment of its section, so a function
// with a prefix is aligned as it was. A reference is exact whatever its bias:
// the position that symbol and addend give moves by as much as the atom that the
// reference really leads to.
type writer struct {
	plan  *Plan
	pp    *pairPlan
	edges []elfdiff.Edge
	named map[symRef]symbols.Answer
	diags []diag.Diagnostic

	asked *klpSymbol  // not nil: nothing is to be decided, only this to be filled in
	off   []branchOff // static branches that lost their entries
}

// symRef is a symbol of the original of a pair.
type symRef struct {
	pp  *pairPlan
	sym object.SymID
}

// fail records what the catalogue has for code; refuse does so as an error.
func (w *writer) fail(code diag.Code, atom elfdiff.AtomID, off uint64, format string, args ...any) {
	w.diags = append(w.diags, w.diagnostic(code, atom, off, format, args...))
}

func (w *writer) refuse(code diag.Code, atom elfdiff.AtomID, off uint64, format string, args ...any) {
	d := w.diagnostic(code, atom, off, format, args...)
	d.Severity = diag.SevError
	w.diags = append(w.diags, d)
}

func (w *writer) diagnostic(code diag.Code, atom elfdiff.AtomID, off uint64, format string, args ...any) diag.Diagnostic {
	g := w.pp.Patched
	at := &g.Atoms[atom]
	p := diag.Place{File: g.File.Name, Section: g.File.Sections[at.Sec].Name, Symbol: g.Name(atom)}.At(off)
	d := diag.New(code, p, format, args...)
	d.Chain = w.pp.sel.Chain(g, atom)
	return d
}

// place gives every included atom its place.
func (w *writer) place() {
	g, f := w.pp.Patched, w.pp.Patched.File
	w.pp.off = make([]uint64, len(g.Atoms))
	for _, a := range w.pp.atoms {
		at := &g.Atoms[a]
		align := max(f.Sections[at.Sec].Addralign, 1)
		if at.Kind == elfdiff.AtomEntry {
			align = 1 // tables have no holes
		}
		w.pp.off[a] = w.put(elfdiff.Piece{Sec: at.Sec, Off: at.Off, Size: at.Size}, align)
	}
	w.pp.pieces = make([]uint64, len(w.pp.sel.Pieces))
	for i, p := range w.pp.sel.Pieces {
		w.pp.pieces[i] = w.put(p, 1)
	}
}

// put appends a stretch of the patched object to its section of the patch, at the
// same place modulo align, and gives that place.
func (w *writer) put(p elfdiff.Piece, align uint64) uint64 {
	s := &w.pp.Patched.File.Sections[p.Sec]
	o := &w.pp.sections[w.section(p.Sec)]
	pos := o.size + (p.Off-o.size)&(align-1)
	if s.Type != elf.SHT_NOBITS {
		fill := byte(0)
		if s.Exec() {
			fill = 0x90
		}
		for uint64(len(o.data)) < pos {
			o.data = append(o.data, fill)
		}
		o.data = append(o.data, s.Data[p.Off:p.Off+p.Size]...)
	}
	o.size = pos + p.Size
	return pos
}

// section gives the index of the patch's section for one of the patched object.
func (w *writer) section(sec object.SecID) int {
	if w.pp.bySec[sec] == 0 {
		w.pp.sections = append(w.pp.sections, outSection{src: sec})
		w.pp.bySec[sec] = int32(len(w.pp.sections))
	}
	return int(w.pp.bySec[sec]) - 1
}

// resolve decides about every reference of every included atom, and names the functions.
func (w *writer) resolve() {
	for _, a := range w.pp.atoms {
		w.atom(a)
	}
	for i, p := range w.pp.sel.Pieces {
		w.edges = w.pp.Patched.DataEdges(p, w.edges[:0])
		for k := range w.edges {
			e := &w.edges[k]
			w.target(w.pp.Patched.AtomAt(p.Sec, p.Off), e, outReloc{sec: w.section(p.Sec), off: e.Off - p.Off + w.pp.pieces[i], typ: e.Type, addend: e.Disp - int64(e.Bias)}, false)
		}
	}
	for _, e := range w.pp.sel.Constants {
		w.constant(e)
	}
	w.silence()
	if w.plan.opts.Format == elfdiff.FormatKpatch {
		w.restore()
	}
	w.unwind()
	for _, u := range w.pp.sel.Changed {
		main := w.pp.Patched.Units[u].Main
		x := w.pp.Delta.OrigOf[main]
		sym := w.pp.Orig.Atoms[x].Sym
		if sym == 0 {
			w.fail(diag.UnnamedData, main, w.pp.Patched.Atoms[main].Off, "the function that it replaces has no symbol")
			continue
		}
		if w.pp.Orig.File.Symbols[sym].Type() == sttIfunc {
			w.fail(diag.RelocUnsupported, main, w.pp.Patched.Atoms[main].Off, "%s is an indirect function", w.pp.Orig.Name(x))
			continue
		}
		ans := w.position(w.pp, sym)
		if !ans.Known {
			w.fail(ans.Code, main, w.pp.Patched.Atoms[main].Off, "cannot tell which %s of %s to replace: %s", w.pp.Orig.Name(x), w.pp.Object, evidence(ans))
			continue
		}
		w.pp.funcs = append(w.pp.funcs, outFunc{unit: u, sym: w.pp.Patched.Atoms[main].Sym, name: w.pp.Orig.Name(x), orig: sym, answer: ans})
	}
}

// position says how the running kernel calls a symbol of the original of pp.
func (w *writer) position(pp *pairPlan, sym object.SymID) symbols.Answer {
	key := symRef{pp, sym}
	a, ok := w.named[key]
	if !ok {
		a = w.plan.answer(pp, sym)
		w.named[key] = a
	}
	return a
}

// evidence is why there is no position, with what comes into question.
func evidence(a symbols.Answer) string {
	if len(a.Candidates) < 2 {
		return a.Evidence
	}
	var b strings.Builder
	b.WriteString(a.Evidence)
	for i, c := range a.Candidates {
		b.WriteString([]string{"; number ", ", "}[min(i, 1)])
		fmt.Fprintf(&b, "%d at %#x", c.Pos, c.Addr)
		if c.File != "" {
			b.WriteString(" (" + c.File + ")")
		}
	}
	return b.String()
}

// atom decides about the references of one atom.
func (w *writer) atom(a elfdiff.AtomID) {
	g := w.pp.Patched
	at := &g.Atoms[a]
	edges, decoded := g.Edges(a, w.edges[:0])
	w.edges = edges
	if !decoded && at.Kind != elfdiff.AtomPad {
		// Operands that the assembler resolved may have been overlooked.
		w.refuse(diag.Undecodable, a, at.Off, "%s travels, and its code does not decode to its end", g.Name(a))
		return
	}
	sec := w.section(at.Sec)
	for i := range w.edges {
		e := &w.edges[i]
		off := e.Off - at.Off + w.pp.off[a]
		if e.Kind != elfdiff.EdgeReloc {
			w.resolved(a, e, sec, off)
			continue
		}
		w.target(a, e, outReloc{sec: sec, off: off, typ: e.Type, addend: e.Disp - int64(e.Bias)}, false)
	}
}

// resolved keeps an operand that the assembler resolved, moves it, or makes it a relocation.
func (w *writer) resolved(a elfdiff.AtomID, e *elfdiff.Edge, sec int, off uint64) {
	g := w.pp.Patched
	t := g.Resolve(e)
	if t.Atom == 0 {
		w.fail(diag.NotImplemented, a, e.Off, "an operand leads outside all sections")
		return
	}
	field := w.pp.sections[sec].data[off : off+uint64(e.Size)]
	here := int64(w.pp.off[a]) - int64(g.Atoms[a].Off)
	if w.pp.has(t.Atom) && !w.redirected(a, e, t) {
		v := signed(field) + w.moved(t.Atom) - here
		if e.Size == 1 && (v < math.MinInt8 || v > math.MaxInt8) || v < math.MinInt32 || v > math.MaxInt32 {
			w.fail(diag.ShortBranch, a, e.Off, "a branch to %s does not reach it any more", g.TargetText(t))
			return
		}
		if e.Size == 1 {
			field[0] = byte(v)
		} else {
			binary.LittleEndian.PutUint32(field, uint32(v))
		}
		return
	}
	if e.Size != 4 {
		w.fail(diag.ShortBranch, a, e.Off, "a branch of one byte leads to %s, which stays in the running kernel", g.TargetText(t))
		return
	}
	clear(field)
	typ := elf.R_X86_64_PC32
	if e.Kind == elfdiff.EdgeBranch {
		typ = elf.R_X86_64_PLT32
	}
	w.target(a, e, outReloc{sec: sec, off: off, typ: typ, addend: e.Disp - int64(e.Bias)}, true)
}

// moved says how far an included atom has moved within its section.
func (w *writer) moved(a elfdiff.AtomID) int64 {
	return int64(w.pp.off[a]) - int64(w.pp.Patched.Atoms[a].Off)
}

func signed(b []byte) int64 {
	if len(b) == 1 {
		return int64(int8(b[0]))
	}
	return int64(int32(binary.LittleEndian.Uint32(b)))
}

// target settles what a reference becomes. r.addend counts from e.Sym, or, when
// positional is set, from the start of section e.Sec.
func (w *writer) target(a elfdiff.AtomID, e *elfdiff.Edge, r outReloc, positional bool) {
	g, f := w.pp.Patched, w.pp.Patched.File
	if !module(r.typ) {
		w.fail(diag.RelocUnsupported, a, e.Off, "%v against %s", r.typ, g.EdgeText(e))
		return
	}
	if f.Symbols[e.Sym].Type() == sttIfunc {
		w.fail(diag.RelocUnsupported, a, e.Off, "refers to %s, an indirect function", f.Symbols[e.Sym].Name)
		return
	}
	t := g.Resolve(e)
	if !fits(r.typ, r.addend, t.Atom != 0 && !strings.HasPrefix(f.Sections[g.Atoms[t.Atom].Sec].Name, perCPU)) {
		w.fail(diag.RelocOverflow, a, e.Off, "%v against %s%+d", r.typ, g.EdgeText(e), r.addend)
		return
	}
	if t.Atom == 0 {
		w.undefined(a, e, r)
		return
	}
	at := &g.Atoms[t.Atom]
	raw := r.addend // position that symbol and addend give, from the start of the section
	if !positional {
		raw += int64(f.Symbols[e.Sym].Value)
	}
	named := !positional && e.Sym != 0 && namesTarget(f, e.Sym)
	if !w.oneReading(e, t) {
		w.fail(diag.AmbiguousTarget, a, e.Off, "refers to the end of %s or to %s, which do not stay together", g.Name(t.Atom-1), g.Name(t.Atom))
		return
	}
	if w.pp.has(t.Atom) && !w.redirected(a, e, t) {
		switch {
		case named && f.Symbols[e.Sym].Sec == at.Sec, !named && !positional && w.label(e.Sym, t.Atom):
			r.sym = e.Sym
		default:
			r.into = w.section(at.Sec) + 1
			r.addend = raw + w.moved(t.Atom)
		}
		w.pp.relocs = append(w.pp.relocs, r)
		return
	}
	x := w.pp.Delta.OrigOf[t.Atom]
	name := ""
	if named {
		name = f.Symbols[e.Sym].Name
	}
	sym := w.original(x, name)
	if sym == 0 {
		w.fail(diag.UnnamedData, a, e.Off, "refers to %s, which has no symbol in the original", g.TargetText(t))
		return
	}
	// Both atoms start at the same thing, and hold the same.
	o := w.pp.Orig
	r.addend = raw - int64(at.Off) + int64(o.Atoms[x].Off) - int64(o.File.Symbols[sym].Value)
	w.kernel(a, e, r, w.pp, sym)
}

// perCPU is where per-CPU variables are: up to 6.14 their addresses are small numbers.
const perCPU = ".data..percpu"

// fits reports whether the value of a relocation can fit its field at all: the kernel
// and its modules lie in the top 2 GiB (mapped), where address says that the symbol does. How far
// a reference leads past the end of what it is to does not matter.
func fits(t elf.R_X86_64, addend int64, mapped bool) bool {
	switch t {
	case elf.R_X86_64_32S, elf.R_X86_64_PC32, elf.R_X86_64_PLT32:
		return addend >= math.MinInt32 && addend <= math.MaxUint32
	case elf.R_X86_64_32:
		_, phys := reloc.PhysOffset(addend)
		return !mapped || phys
	}
	return true
}

// label reports whether a reference into a section of mergeable data has to keep
// its symbol: linkers take section symbol and addend there for a position only
// where nothing is added for the instruction.
func (w *writer) label(sym object.SymID, a elfdiff.AtomID) bool {
	g := w.pp.Patched
	s := &g.File.Symbols[sym]
	return sym != 0 && s.Type() != elf.STT_SECTION && s.Name != "" && g.File.Sections[g.Atoms[a].Sec].Flags&elf.SHF_MERGE != 0 && g.SymbolAtom(sym) == a
}

// oneReading reports whether a reference to a position leads to the same place
// whether it means the start of t or the end of what lies before it. Both do
// when the two stay together: in the patch, or in the running kernel.
func (w *writer) oneReading(e *elfdiff.Edge, t elfdiff.Target) bool {
	g := w.pp.Patched
	x := *e
	x.Taken = e.Taken || e.Indexed // a negative index from the end
	p := g.Before(&x, t)
	if p == 0 || w.pp.Delta.AtomStatus[p] == elfdiff.Padding {
		return true
	}
	if s := g.Atoms[p].Sym; s != 0 && symbols.Parse(g.File.Symbols[s].Name).Flags&(symbols.Disposable|symbols.UniqueID) != 0 {
		return true // a single thing that a macro made: nobody walks to its end
	}
	switch before, here := w.pp.has(p), w.pp.has(t.Atom); {
	case before && here:
		return w.moved(p) == w.moved(t.Atom)
	case before || here:
		return false
	}
	o := w.pp.Orig
	y, z := w.pp.Delta.OrigOf[p], w.pp.Delta.OrigOf[t.Atom]
	return y != 0 && z != 0 && o.Atoms[y].Sec == o.Atoms[z].Sec && o.Atoms[y].Off+o.Atoms[y].Size == o.Atoms[z].Off
}

// original gives the symbol by which the original has atom x: the one that the
// reference uses where there is one, else that which stands for the atom. 0: it has no name.
func (w *writer) original(x elfdiff.AtomID, name string) object.SymID {
	if x == 0 {
		return 0
	}
	g := w.pp.Orig
	sym := g.Atoms[x].Sym
	if sym == 0 || !namesTarget(g.File, sym) {
		return 0
	}
	if name == "" || g.File.Symbols[sym].Name == name {
		return sym
	}
	for _, l := range g.Labels(x) { // a global name, if it is one of this atom
		if s := &g.File.Symbols[l]; s.Name == name && s.Bind() != elf.STB_LOCAL && g.SymbolAtom(l) == x {
			return l
		}
	}
	return sym
}

// redirected reports whether a reference to an included function has to lead to
// the original: its address is taken (not called), and the function replaces one
// of the original. The kernel redirects the original, so what keeps the address
// stays right when the patch is disabled and gone.
func (w *writer) redirected(a elfdiff.AtomID, e *elfdiff.Edge, t elfdiff.Target) bool {
	g := w.pp.Patched
	at := &g.Atoms[t.Atom]
	if at.Kind != elfdiff.AtomFunc || t.Disp != 0 || at.Unit == 0 || g.Units[at.Unit].Main != t.Atom {
		return false
	}
	return w.pp.Delta.AtomStatus[t.Atom] == elfdiff.Changed && w.address(a, e)
}

// address reports whether a reference takes an address that may be kept, other than a table entry or a call.
func (w *writer) address(a elfdiff.AtomID, e *elfdiff.Edge) bool {
	if a == 0 {
		return false
	}
	switch k := w.pp.Patched.Atoms[a].Kind; {
	case k == elfdiff.AtomEntry || k == elfdiff.AtomExcluded || e.Kind == elfdiff.EdgeBranch:
		return false
	case e.Kind == elfdiff.EdgeReloc && k.Code():
		return !w.branch(a, e)
	}
	return true
}

// branch reports whether the relocated field e is the operand of a call or jump.
func (w *writer) branch(a elfdiff.AtomID, e *elfdiff.Edge) bool {
	if e.Bias != 4 || e.Type != elf.R_X86_64_PC32 && e.Type != elf.R_X86_64_PLT32 {
		return false
	}
	at := &w.pp.Patched.Atoms[a]
	d := w.pp.Patched.Bytes(a)
	i := int(e.Off - at.Off)
	return i >= 1 && (d[i-1] == 0xe8 || d[i-1] == 0xe9) || i >= 2 && d[i-2] == 0x0f && d[i-1]&0xf0 == 0x80
}

// undefined settles a reference to something of which the patched object has no contents.
func (w *writer) undefined(a elfdiff.AtomID, e *elfdiff.Edge, r outReloc) {
	f := w.pp.Patched.File
	s := &f.Symbols[e.Sym]
	switch {
	case e.Sym == 0:
		w.fail(diag.RelocUnsupported, a, e.Off, "%v without a symbol", r.typ)
	case s.Sec != 0 && f.Sections[s.Sec].Alloc() && f.Sections[s.Sec].Size == 0 && s.Bind() == elf.STB_LOCAL:
		// Something without a size (an empty lock class): its address is all there is to it.
		r.into = w.section(s.Sec) + 1
		r.addend += int64(s.Value)
		w.pp.relocs = append(w.pp.relocs, r)
	case s.Type() == elf.STT_SECTION || s.Sec != 0:
		w.fail(diag.UnnamedData, a, e.Off, "refers to %s, of which there is nothing in the object", f.SymName(e.Sym))
	case s.Shndx == elf.SHN_ABS, s.Shndx == elf.SHN_COMMON:
		w.fail(diag.RelocUnsupported, a, e.Off, "refers to %s, which is %v", s.Name, s.Shndx)
	default:
		r.sym = e.Sym
		w.global(a, e, r, s.Name, s.Type())
	}
}

// export gives what is known of an exported symbol. A Module.symvers may be that of
// the patched build, which exports more than the running kernel does: where the kernel's
// own symbols tell what it exports, they decide.
func (w *writer) export(name string) (symbols.Export, bool) {
	set := w.plan.opts.Symbols
	x, ok := set.Export(name)
	if !ok {
		return x, false
	}
	if o := set.Oracle(x.Module); o != nil {
		if yes, known := o.Exports(name); known && !yes {
			return symbols.Export{}, false
		}
	}
	return x, true
}

// global settles a reference to a symbol that the object does not define, by the
// name that r has in r.sym or r.name.
func (w *writer) global(a elfdiff.AtomID, e *elfdiff.Edge, r outReloc, name string, typ elf.SymType) {
	if d, ok := w.plan.defined[name]; ok {
		// Another object of the same patch brings it.
		at := d.pp.Patched.SymbolAtom(d.sym)
		if d.pp.Delta.AtomStatus[at] != elfdiff.Changed || !w.address(a, e) {
			w.pp.relocs = append(w.pp.relocs, r)
			return
		}
		if x := d.pp.Delta.OrigOf[at]; x != 0 && d.pp.Orig.Atoms[x].Sym != 0 {
			w.kernel(a, e, r, d.pp, d.pp.Orig.Atoms[x].Sym)
			return
		}
	}
	set := w.plan.opts.Symbols
	k := klp.Symbol{Object: w.pp.Object, Name: name, Type: typ}
	o := set.Oracle(w.pp.Object)
	if x, ok := w.export(name); ok {
		if x.Module == klp.Vmlinux && !x.ModulesOnly() {
			if v := set.Oracle(klp.Vmlinux); v != nil && !v.Has(name) && !w.plan.opts.Partial {
				w.fail(diag.Undefined, a, e.Off, "refers to %s, which the list of exports has and the running kernel does not", name)
				return
			}
			r.ns = x.Namespace
			w.pp.relocs = append(w.pp.relocs, r)
			return
		}
		k.Object = x.Module
		o = set.Oracle(x.Module)
	} else {
		weak := r.sym != 0 && w.pp.Patched.File.Symbols[r.sym].Bind() == elf.STB_WEAK
		switch {
		case set.Ambiguous(name):
			w.fail(diag.ExportTwice, a, e.Off, "refers to %s, which two kernel objects export", name)
			return
		case o != nil && o.Has(name): // of the same kernel object, in another file
		case !set.HasExports() || w.plan.opts.Partial:
			w.pp.relocs = append(w.pp.relocs, r) // somebody else's: another object's of the patch, or exported
			return
		case o != nil || weak:
			w.fail(diag.Undefined, a, e.Off, "refers to %s, which nobody exports and %s does not have", name, w.pp.Object)
			return
		}
	}
	if o != nil && w.asked == nil {
		ans := o.Global(name)
		if !ans.Known {
			w.fail(ans.Code, a, e.Off, "refers to %s of %s: %s", name, k.Object, evidence(ans))
			return
		}
		k.Pos = ans.Pos
		w.klp(a, e, r, klpSymbol{Symbol: k, addr: ans.Addr, bind: elf.STB_GLOBAL, exported: k.Object != w.pp.Object})
		return
	}
	w.klp(a, e, r, klpSymbol{Symbol: k, bind: elf.STB_GLOBAL, exported: k.Object != w.pp.Object})
}

// klpSymbol is a symbol of the running kernel with what only kpatch's form says of it.
type klpSymbol struct {
	klp.Symbol
	addr     uint64
	bind     elf.SymBind
	exported bool
}

// kernel settles a reference to what the running kernel has: symbol sym of the original of pp.
func (w *writer) kernel(a elfdiff.AtomID, e *elfdiff.Edge, r outReloc, pp *pairPlan, sym object.SymID) {
	s := &pp.Orig.File.Symbols[sym]
	k := klpSymbol{Symbol: klp.Symbol{Object: pp.Object, Name: s.Name, Type: s.Type()}, bind: s.Bind()}
	if s.Bind() != elf.STB_LOCAL {
		if x, ok := w.export(s.Name); ok && x.Module == pp.Object {
			_, here := w.plan.defined[s.Name] // an ordinary reference would lead to the replacement
			if x.Module == klp.Vmlinux && !here && !x.ModulesOnly() {
				r.sym, r.name, r.ns = 0, s.Name, x.Namespace
				w.pp.relocs = append(w.pp.relocs, r)
				return
			}
			k.exported = true
		}
	}
	if w.asked != nil {
		*w.asked = k
		return
	}
	ans := w.position(pp, sym)
	if !ans.Known {
		w.fail(ans.Code, a, e.Off, "refers to %s of the running kernel: %s", s.Name, evidence(ans))
		return
	}
	k.Pos, k.addr = ans.Pos, ans.Addr
	w.klp(a, e, r, k)
}

// klp makes a reference one that the livepatch core resolves.
func (w *writer) klp(a elfdiff.AtomID, e *elfdiff.Edge, r outReloc, k klpSymbol) {
	if w.asked != nil {
		*w.asked = k
		return
	}
	r.sym, r.name, r.klp, r.gate = 0, "", &k, klp.Vmlinux
	at := &w.pp.Patched.Atoms[a]
	table := at.Kind == elfdiff.AtomEntry || at.Kind == elfdiff.AtomExcluded || at.Flag&elfdiff.FlagBody != 0
	arch := w.plan.opts.Format == elfdiff.FormatKpatch && w.plan.opts.LateKlp && (at.Flag&elfdiff.FlagBody != 0 || afterKlp(w.pp.Patched.File.Sections[at.Sec].Name))
	if table && w.plan.opts.LateKlp && !arch {
		w.fail(diag.LateTable, a, e.Off, "a table entry refers to %s of %s, which the kernel resolves too late", k.Name, k.Object)
		return
	}
	if k.Object != klp.Vmlinux {
		switch {
		case w.pp.Object == klp.Vmlinux:
			w.fail(diag.NotImplemented, a, e.Off, "code of the kernel itself refers to %s of module %s", k.Name, k.Object)
			return
		case table && !arch:
			// The kernel reads the tables of a patch when it loads it, which may be before the module is there.
			w.fail(diag.LateTable, a, e.Off, "a table entry refers to %s of module %s, which the kernel may resolve too late", k.Name, k.Object)
			return
		}
		r.gate = w.pp.Object
	}
	w.pp.relocs = append(w.pp.relocs, r)
}

// constant rewrites an instruction whose immediate the kernel fills in at boot:
// movabs $imm64,%reg becomes mov symbol(%rip),%reg and a NOP of the same length.
func (w *writer) constant(e elfdiff.AtomID) {
	g := w.pp.Patched
	at := &g.Atoms[e]
	w.edges, _ = g.Edges(e, w.edges[:0])
	sec := g.File.Sections[at.Sec].Name
	name, ok := strings.CutPrefix(sec, "runtime_ptr_")
	if len(w.edges) != 1 || !ok {
		w.fail(diag.RuntimeConst, e, at.Off, "an instruction listed in %s", sec)
		return
	}
	t := g.Resolve(&w.edges[0])
	if t.Atom == 0 || !w.pp.has(t.Atom) || t.Disp < 2 || t.Disp+8 > int64(g.Atoms[t.Atom].Size) {
		w.fail(diag.RuntimeConst, e, at.Off, "an instruction listed in %s lies outside the function", sec)
		return
	}
	out := w.section(g.Atoms[t.Atom].Sec)
	start := w.pp.off[t.Atom] + uint64(t.Disp) - 2
	d := w.pp.sections[out].data
	if start+10 > uint64(len(d)) || d[start]&^1 != 0x48 || d[start+1]&^7 != 0xb8 {
		w.fail(diag.RuntimeConst, e, at.Off, "the instruction listed in %s is not a movabs", sec)
		return
	}
	reg := d[start+1]&7 | d[start]&1<<3
	copy(d[start:], []byte{0x48 | reg>>3<<2, 0x8b, reg&7<<3 | 5, 0, 0, 0, 0, 0x0f, 0x1f, 0x00})
	r := outReloc{sec: out, off: start + 3, typ: elf.R_X86_64_PC32, addend: -4}
	sym := w.lookup(name)
	if sym != 0 && w.pp.Patched.File.Symbols[sym].Sec != 0 {
		edge := elfdiff.Edge{Off: g.Atoms[t.Atom].Off + uint64(t.Disp), Sym: sym, Sec: w.pp.Patched.File.Symbols[sym].Sec, Type: r.typ, Size: 4, Bias: 4, Kind: elfdiff.EdgeReloc}
		w.target(t.Atom, &edge, r, false)
		return
	}
	if sym != 0 {
		r.sym = sym
	} else {
		r.name = name
	}
	w.global(t.Atom, &elfdiff.Edge{Off: g.Atoms[t.Atom].Off + uint64(t.Disp), Kind: elfdiff.EdgeData}, r, name, elf.STT_NOTYPE)
}

// lookup finds a symbol of the patched object by name; 0 when there is none.
func (w *writer) lookup(name string) object.SymID {
	for i := range w.pp.Patched.File.Symbols {
		if s := &w.pp.Patched.File.Symbols[i]; s.Name == name && s.Type() != elf.STT_FILE && s.Type() != elf.STT_SECTION {
			return object.SymID(i)
		}
	}
	return 0
}
