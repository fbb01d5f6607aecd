package patch

import (
	"debug/elf"
	"encoding/binary"
	"strings"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
)

// Tables of which each entry belongs to a key.
const (
	jumpTable   = "__jump_table"
	staticCalls = ".static_call_sites"
)

// restrict leaves out the table entries of a patch whose key belongs to a
// module, and refuses what cannot do without: the kernel reads these tables when it
// loads the patch, and resolves symbols of modules later, when the module is there.
// A tracepoint or pr_debug without its entry stays off.
func (w *writer) restrict() {
	pp, g := w.pp, w.pp.Patched
	pp.in = make([]bool, len(g.Atoms))
	for _, a := range pp.sel.Atoms {
		pp.in[a] = true
	}
	for _, a := range pp.sel.Atoms {
		if pp.in[a] = g.Atoms[a].Kind != elfdiff.AtomEntry || w.keep(a); pp.in[a] {
			pp.atoms = append(pp.atoms, a)
		}
	}
}

// keep reports whether an entry travels.
func (w *writer) keep(a elfdiff.AtomID) bool {
	g, f := w.pp.Patched, w.pp.Patched.File
	at := &g.Atoms[a]
	sec := f.Sections[at.Sec].Name
	if sec != jumpTable && sec != staticCalls || at.Row == 0 {
		return true
	}
	row := &g.Rules.Tables[at.Row-1]
	var site, key *elfdiff.Edge
	w.edges, _ = g.Edges(a, w.edges[:0])
	for i := range w.edges {
		switch e := &w.edges[i]; int(e.Off - at.Off) {
		case row.Site:
			site = e
		case row.Refs[len(row.Refs)-1]:
			key = e
		}
	}
	if site == nil || key == nil || w.pp.sel.Has(g.Resolve(key).Atom) {
		return true
	}
	where := g.TargetText(g.Resolve(site))
	if t := &f.Symbols[key.Sym]; sec == staticCalls && t.Undefined() && w.unknown(t.Name) {
		d := w.diagnostic(diag.Undefined, a, at.Off, "%s makes a static call through its trampoline: the kernel has no symbol %s", where, t.Name)
		d.Severity = diag.SevNote
		w.diags = append(w.diags, d)
		return false
	}
	k := w.owner(a, *key)
	if k == nil || k.Object == klp.Vmlinux && !w.plan.opts.LateKlp {
		return true
	}
	t := f.Symbols[key.Sym]
	switch {
	case sec == staticCalls && strings.HasPrefix(k.Name, "__SCK__tp_func_"):
		d := w.diagnostic(diag.TracepointOff, a, at.Off, "%s calls tracepoint %s of %s through its ordinary trampoline", where, strings.TrimPrefix(k.Name, "__SCK__tp_func_"), k.Object)
		d.Severity = diag.SevNote
		w.diags = append(w.diags, d)
	case sec == staticCalls:
		w.fail(diag.StaticCall, a, at.Off, "%s makes a static call through %s of %s", where, k.Name, k.Object)
	case strings.HasPrefix(k.Name, "__tracepoint_"):
		w.fail(diag.TracepointOff, a, at.Off, "%s: tracepoint %s of %s is off in the replacement", where, strings.TrimPrefix(k.Name, "__tracepoint_"), k.Object)
		w.off = append(w.off, branchOff{a, *site, key.Disp})
	case strings.Contains(k.Name, "__UNIQUE_ID_ddebug") || t.Sec != 0 && (f.Sections[t.Sec].Name == "__dyndbg" || f.Sections[t.Sec].Name == "__verbose"):
		w.fail(diag.PrDebugOff, a, at.Off, "%s: a pr_debug of %s stays silent in the replacement", where, k.Object)
		w.off = append(w.off, branchOff{a, *site, key.Disp})
	default:
		w.fail(diag.StaticKey, a, at.Off, "%s branches on the static key %s of %s", where, k.Name, k.Object)
	}
	return false
}

// unknown reports whether nobody has a symbol: it is not exported, and the kernel object's own symbols are known and lack it.
func (w *writer) unknown(name string) bool {
	set := w.plan.opts.Symbols
	if _, ok := w.plan.defined[name]; ok || w.plan.opts.Partial {
		return false
	}
	_, exported := set.Export(name)
	o := set.Oracle(w.pp.Object)
	return !exported && o != nil && !o.Has(name)
}

// owner gives the symbol of the running kernel that a reference would need; nil: none, or it is refused anyway.
func (w *writer) owner(a elfdiff.AtomID, e elfdiff.Edge) *klpSymbol {
	if s := w.pp.Patched.File.Symbols[e.Sym]; s.Sec != 0 && w.pp.Patched.Resolve(&e).Atom == 0 {
		return nil
	}
	diags, relocs := len(w.diags), len(w.pp.relocs)
	edges := w.edges
	w.asked, w.edges = new(klpSymbol), nil
	w.target(a, &e, outReloc{typ: e.Type, addend: e.Disp - int64(e.Bias)}, false)
	k := w.asked
	w.asked, w.edges = nil, edges
	w.diags, w.pp.relocs = w.diags[:diags], w.pp.relocs[:relocs]
	if k.Object == "" {
		return nil
	}
	return k
}

// branchOff is a static branch whose table entry is left out.
type branchOff struct {
	entry elfdiff.AtomID
	site  elfdiff.Edge
	key   int64 // what is added to the key's address
}

// keyHack marks a branch that compilers write as a jump and objtool makes a NOP (arch/x86/include/asm/jump_label.h).
const keyHack = 2

// silence makes NOPs of branches that lost their entry, so that they stay off.
func (w *writer) silence() {
	g := w.pp.Patched
	for _, b := range w.off {
		t := g.Resolve(&b.site)
		if b.key&keyHack == 0 || t.Atom == 0 || !w.pp.has(t.Atom) || t.Disp < 0 {
			continue
		}
		sec := w.section(g.Atoms[t.Atom].Sec)
		d, at := w.pp.sections[sec].data, w.pp.off[t.Atom]+uint64(t.Disp)
		nop := []byte{0x66, 0x90}
		switch {
		case at+2 <= uint64(len(d)) && d[at] == 0xeb:
		case at+5 <= uint64(len(d)) && d[at] == 0xe9:
			nop = []byte{0x0f, 0x1f, 0x44, 0x00, 0x00}
		default:
			continue // objtool was here
		}
		copy(d[at:], nop)
		keep := w.pp.relocs[:0]
		for _, r := range w.pp.relocs {
			if r.sec != sec || r.off < at || r.off >= at+uint64(len(nop)) {
				keep = append(keep, r)
			}
		}
		w.pp.relocs = keep
	}
}

const callSize = 5 // bytes of a call of the tracer

// fentry gives the relocation of the call of the tracer at the entry of a function: nil when there is none.
func (w *writer) fentry(a elfdiff.AtomID) (off uint64, typ elf.R_X86_64, name string, ok bool) {
	g := w.pp.Patched
	at := &g.Atoms[a]
	rs := g.File.RelocsOf(at.Sec)
	lo, hi := rs.Range(at.Off, min(at.Off+at.Size, at.Off+16))
	for i := lo; i < hi; i++ {
		r := rs.At(i)
		n := g.File.Symbols[r.Sym].Name
		if d := r.Off - at.Off; d != 1 && d != 5 {
			continue
		}
		for _, want := range g.Rules.Entry {
			if n == want {
				return r.Off - at.Off - 1, r.Type, n, true
			}
		}
	}
	return 0, 0, "", false
}

// restore puts the call of the tracer back where recordmcount has made it a NOP,
// and notes where the calls are: the build of the patch's module looks for them, and
// the kernel that loads the module expects calls.
func (w *writer) restore() {
	g := w.pp.Patched
	for _, a := range w.pp.atoms {
		at := &g.Atoms[a]
		if at.Kind != elfdiff.AtomFunc || at.Unit == 0 || g.Units[at.Unit].Main != a {
			continue
		}
		off, typ, name, ok := w.fentry(a)
		if !ok {
			continue
		}
		w.pp.sites = append(w.pp.sites, mcountSite{a, off})
		if typ != elf.R_X86_64_NONE {
			continue
		}
		sec := w.section(at.Sec)
		pos := w.pp.off[a] + off
		d := w.pp.sections[sec].data
		if pos+callSize > uint64(len(d)) || binary.LittleEndian.Uint32(d[pos:]) != 0x00441f0f || d[pos+4] != 0 {
			w.fail(diag.MissingFtrace, a, at.Off+off, "the NOP of 5 bytes is not there")
			continue
		}
		copy(d[pos:], []byte{0xe8, 0, 0, 0, 0})
		r := outReloc{sec: sec, off: pos + 1, typ: elf.R_X86_64_PC32, addend: -4, name: name}
		w.global(a, &elfdiff.Edge{Off: at.Off + off + 1, Size: 4, Bias: 4, Type: r.typ, Kind: elfdiff.EdgeReloc}, r, name, elf.STT_NOTYPE)
	}
}

// mcountSite is where a function of the patch calls the tracer.
type mcountSite struct {
	fn  elfdiff.AtomID
	off uint64 // from its start
}
