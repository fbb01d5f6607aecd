package patch

import (
	"debug/elf"
	"encoding/binary"
	"math"
	"strings"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
)

// writer decides about one pair: where each included atom lies in the patch,
// and what each of its references becomes.
//
// An atom keeps its place modulo the alignment of its section, so a function
// with a prefix is aligned as it was. A reference is exact whatever its bias:
// the position that symbol and addend give moves by as much as the atom that the
// reference really leads to.
type writer struct {
	plan   *Plan
	pp     *pairPlan
	edges  []elfdiff.Edge
	pieces []uint64                   // where the selection's pieces lie
	named  map[object.SymID]posAnswer // of the original
	diags  []diag.Diagnostic
}

type posAnswer struct {
	pos   uint64
	known bool
}

func (w *writer) fail(code diag.Code, atom elfdiff.AtomID, off uint64, format string, args ...any) {
	g := w.pp.Patched
	at := &g.Atoms[atom]
	p := diag.Place{File: g.File.Name, Section: g.File.Sections[at.Sec].Name, Symbol: g.Name(atom)}.At(off)
	d := diag.New(code, p, format, args...)
	d.Chain = w.pp.sel.Chain(g, atom)
	w.diags = append(w.diags, d)
}

// place gives every included atom its place.
func (w *writer) place() {
	g, f := w.pp.Patched, w.pp.Patched.File
	w.pp.bySec = make([]int32, len(f.Sections))
	w.pp.off = make([]uint64, len(g.Atoms))
	for _, a := range w.pp.sel.Atoms {
		at := &g.Atoms[a]
		align := max(f.Sections[at.Sec].Addralign, 1)
		if at.Kind == elfdiff.AtomEntry {
			align = 1 // tables have no holes
		}
		w.pp.off[a] = w.put(elfdiff.Piece{Sec: at.Sec, Off: at.Off, Size: at.Size}, align)
	}
	w.pieces = make([]uint64, len(w.pp.sel.Pieces))
	for i, p := range w.pp.sel.Pieces {
		w.pieces[i] = w.put(p, 1)
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
	w.named = make(map[object.SymID]posAnswer)
	for _, a := range w.pp.sel.Atoms {
		w.atom(a)
	}
	for i, p := range w.pp.sel.Pieces {
		w.edges = w.pp.Patched.DataEdges(p, w.edges[:0])
		for k := range w.edges {
			e := &w.edges[k]
			w.target(w.pp.Patched.AtomAt(p.Sec, p.Off), e, outReloc{sec: w.section(p.Sec), off: e.Off - p.Off + w.pieces[i], typ: e.Type, addend: e.Disp - int64(e.Bias)}, false)
		}
	}
	for _, e := range w.pp.sel.Constants {
		w.constant(e)
	}
	for _, u := range w.pp.sel.Changed {
		main := w.pp.Patched.Units[u].Main
		x := w.pp.Delta.OrigOf[main]
		sym := w.pp.Orig.Atoms[x].Sym
		pos, ok := w.position(sym)
		if !ok {
			w.fail(diag.SymposUnknown, main, w.pp.Patched.Atoms[main].Off, "cannot tell which %s of %s to replace: %s", w.pp.Orig.Name(x), w.pp.Object, w.why(sym))
			continue
		}
		w.pp.funcs = append(w.pp.funcs, outFunc{sym: w.pp.Patched.Atoms[main].Sym, name: w.pp.Orig.Name(x), pos: pos})
	}
}

func (w *writer) position(sym object.SymID) (uint64, bool) {
	if p, ok := w.named[sym]; ok {
		return p.pos, p.known
	}
	pos, known, _ := w.ask(sym)
	w.named[sym] = posAnswer{pos, known}
	return pos, known
}

func (w *writer) ask(sym object.SymID) (uint64, bool, string) {
	if w.plan.opts.Positions == nil {
		return unique(w.pp.Orig.File, sym)
	}
	return w.plan.opts.Positions.Position(w.pp.Object, w.pp.Orig.File, sym)
}

func (w *writer) why(sym object.SymID) string {
	_, _, why := w.ask(sym)
	return why
}

// atom decides about the references of one atom.
func (w *writer) atom(a elfdiff.AtomID) {
	g := w.pp.Patched
	at := &g.Atoms[a]
	w.edges, _ = g.Edges(a, w.edges[:0])
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
	data := w.pp.sections[sec].data
	field := data[off : off+uint64(e.Size)]
	here := int64(w.pp.off[a]) - int64(g.Atoms[a].Off)
	if w.pp.sel.Has(t.Atom) {
		v := signed(field) + int64(w.pp.off[t.Atom]) - int64(g.Atoms[t.Atom].Off) - here
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
	t := g.Resolve(e)
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
	if w.pp.sel.Has(t.Atom) && !w.redirected(a, e, t) {
		if named && f.Symbols[e.Sym].Sec == at.Sec {
			r.sym = e.Sym
		} else {
			r.into = w.section(at.Sec) + 1
			r.addend = raw + int64(w.pp.off[t.Atom]) - int64(at.Off)
		}
		w.pp.relocs = append(w.pp.relocs, r)
		return
	}
	if named && f.Symbols[e.Sym].Bind() != elf.STB_LOCAL {
		w.global(a, e, r, f.Symbols[e.Sym].Name, f.Symbols[e.Sym].Type())
		return
	}
	x := w.pp.Delta.OrigOf[t.Atom]
	if x == 0 || w.pp.Orig.Atoms[x].Sym == 0 {
		w.fail(diag.UnnamedData, a, e.Off, "refers to %s, which has no symbol in the original", g.TargetText(t))
		return
	}
	sym := w.pp.Orig.Atoms[x].Sym
	s := &w.pp.Orig.File.Symbols[sym]
	r.addend = raw - int64(at.Off)
	if s.Bind() != elf.STB_LOCAL {
		w.global(a, e, r, s.Name, s.Type())
		return
	}
	pos, ok := w.position(sym)
	if !ok {
		w.fail(diag.SymposUnknown, a, e.Off, "refers to %s of the running kernel: %s", s.Name, w.why(sym))
		return
	}
	r.klp = &klp.Symbol{Object: w.pp.Object, Name: s.Name, Pos: pos, Type: s.Type()}
	r.gate = w.pp.Object
	w.pp.relocs = append(w.pp.relocs, r)
}

// redirected reports whether a reference to an included function has to lead to
// the original: its address is taken (not called), and the function replaces one
// of the original. The kernel redirects the original, so what keeps the address
// stays right when the patch is disabled and gone.
func (w *writer) redirected(a elfdiff.AtomID, e *elfdiff.Edge, t elfdiff.Target) bool {
	g := w.pp.Patched
	at := &g.Atoms[t.Atom]
	if at.Kind != elfdiff.AtomFunc || t.Disp != 0 || at.Unit == 0 || g.Units[at.Unit].Main != t.Atom || g.Atoms[a].Kind == elfdiff.AtomEntry || g.Atoms[a].Kind == elfdiff.AtomExcluded || a == 0 {
		return false
	}
	if w.pp.Delta.AtomStatus[t.Atom] != elfdiff.Changed || e.Kind == elfdiff.EdgeBranch {
		return false
	}
	if e.Kind == elfdiff.EdgeReloc && g.Atoms[a].Kind.Code() && w.branch(a, e) {
		return false
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

// undefined settles a reference to a symbol that the patched object does not define.
func (w *writer) undefined(a elfdiff.AtomID, e *elfdiff.Edge, r outReloc) {
	f := w.pp.Patched.File
	s := &f.Symbols[e.Sym]
	switch {
	case s.Sec != 0 && f.Sections[s.Sec].Alloc() && f.Sections[s.Sec].Size == 0:
		// Something without a size (an empty lock class): its address is all there is to it.
		r.into = w.section(s.Sec) + 1
		r.addend += int64(s.Value)
		w.pp.relocs = append(w.pp.relocs, r)
	case e.Sym == 0 || s.Type() == elf.STT_SECTION || s.Sec != 0:
		w.fail(diag.UnnamedData, a, e.Off, "refers to section %s, which holds nothing that could be named", f.SymName(e.Sym))
	case s.Shndx == elf.SHN_ABS, s.Shndx == elf.SHN_COMMON:
		w.fail(diag.RelocUnsupported, a, e.Off, "refers to %s, which is %v", s.Name, s.Shndx)
	default:
		w.global(a, e, r, s.Name, s.Type())
	}
}

// global settles a reference to a global symbol outside the patch.
func (w *writer) global(a elfdiff.AtomID, e *elfdiff.Edge, r outReloc, name string, typ elf.SymType) {
	f := w.pp.Patched.File
	defined := e.Sec != 0
	owner, exported := "", false
	if w.plan.opts.Exports != nil {
		owner, exported = w.plan.opts.Exports.Exporter(name)
	}
	switch {
	case exported && owner == klp.Vmlinux, w.plan.opts.Exports == nil && !defined:
		if e.Sym != 0 && f.Symbols[e.Sym].Name == name && !defined {
			r.sym = e.Sym
		} else {
			r.name = name
		}
		w.pp.relocs = append(w.pp.relocs, r)
		return
	case exported:
		r.klp = &klp.Symbol{Object: owner, Name: name, Type: typ}
		r.gate = w.pp.Object
	case defined:
		r.klp = &klp.Symbol{Object: w.pp.Object, Name: name, Type: typ}
		r.gate = w.pp.Object
	default:
		// Not exported and not in this object: the kernel itself, or another object of the same module.
		r.klp = &klp.Symbol{Object: w.pp.Object, Name: name, Type: typ}
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
	if t.Atom == 0 || !w.pp.sel.Has(t.Atom) || t.Disp < 2 {
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
		edge := elfdiff.Edge{Off: start + 3, Sym: sym, Sec: w.pp.Patched.File.Symbols[sym].Sec, Type: r.typ, Size: 4, Bias: 4, Kind: elfdiff.EdgeReloc}
		w.target(t.Atom, &edge, r, false)
		return
	}
	w.global(t.Atom, &elfdiff.Edge{Sym: sym}, r, name, elf.STT_NOTYPE)
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
