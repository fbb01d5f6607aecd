package patch

import (
	"cmp"
	"debug/elf"
	"strings"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
)

// What the source says about the patch itself, by macros that leave pointers to
// functions in sections of their own: kpatch's KPATCH_*_CALLBACK and KPATCH_FORCE_UNSAFE
// (kpatch-macros.h), upstream's KLP_*_CALLBACK (include/linux/livepatch_helpers.h).

// callback is a function that the livepatch core calls for the object of its pair.
type callback struct {
	kind klp.CallbackKind
	fn   elfdiff.AtomID
	sec  object.SecID // the pointer to it in the patched object
	off  uint64
}

// Layouts of the sections: struct { int (*callback)(...); char *objname; } of kpatch, whose objname is filled in later; pointers.
const (
	kpatchCallback = 16
	pointerSize    = 8
)

func (pp *pairPlan) directive(sec object.SecID, off uint64) diag.Place {
	f := pp.Patched.File
	return diag.Place{File: f.Name, Section: f.Sections[sec].Name}.At(off)
}

// directives reads the callbacks and forced functions of a pair. Callbacks travel
// with what they need, whether the running kernel has such a function or not.
func (p *Plan) directives(pp *pairPlan) {
	f := pp.Patched.File
	for i := 1; i < len(f.Sections); i++ {
		s, sec := &f.Sections[i], object.SecID(i)
		if s.Type != elf.SHT_PROGBITS || s.Size == 0 {
			continue
		}
		switch word, kpatch := strings.CutPrefix(s.Name, klp.KpatchCallbacksSection); {
		case kpatch:
			kind, ok := klp.ParseCallbackKind(word)
			if !ok {
				p.invalid(pp, sec, 0, "no callback of the kernel is called %s", word)
				continue
			}
			p.pointers(pp, sec, kpatchCallback, func(off uint64, fn elfdiff.AtomID) {
				pp.callbacks = append(pp.callbacks, callback{kind, fn, sec, off})
				pp.roots = append(pp.roots, fn)
			})
		case s.Name == klp.SecCallbacks:
			names := variables(f, sec)
			p.pointers(pp, sec, pointerSize, func(off uint64, fn elfdiff.AtomID) {
				kind, object, ok := callbackName(names[off])
				switch {
				case !ok:
					p.invalid(pp, sec, off, "%s is not the name of a callback", cmp.Or(names[off], "a pointer without symbol"))
				case object != pp.Object:
					p.invalid(pp, sec, off, "%s is a callback of %s, in an object of %s", names[off], object, pp.Object)
				default:
					pp.callbacks = append(pp.callbacks, callback{kind, fn, sec, off})
					pp.roots = append(pp.roots, fn)
				}
			})
		case s.Name == klp.KpatchForceSection:
			p.pointers(pp, sec, pointerSize, func(_ uint64, fn elfdiff.AtomID) { pp.force = append(pp.force, fn) })
		}
	}
}

func (p *Plan) invalid(pp *pairPlan, sec object.SecID, off uint64, format string, args ...any) {
	p.Diagnostics = append(p.Diagnostics, diag.New(diag.CallbackInvalid, pp.directive(sec, off), format, args...))
}

// pointers gives the functions that entries of n bytes start with pointers to.
func (p *Plan) pointers(pp *pairPlan, sec object.SecID, n uint64, each func(off uint64, fn elfdiff.AtomID)) {
	g := pp.Patched
	s := &g.File.Sections[sec]
	if s.Size%n != 0 {
		p.invalid(pp, sec, 0, "0x%x bytes, not entries of %d", s.Size, n)
		return
	}
	rs := g.File.RelocsOf(sec)
	for off := uint64(0); off < s.Size; off += n {
		lo, hi := rs.Range(off, off+n)
		if hi-lo != 1 || rs.At(lo).Off != off || rs.At(lo).Type != elf.R_X86_64_64 {
			p.invalid(pp, sec, off, "not one pointer of 8 bytes with a relocation")
			continue
		}
		r := rs.At(lo)
		if g.File.Symbols[r.Sym].Sec == 0 {
			p.invalid(pp, sec, off, "%s is not a function of this object", g.File.SymName(r.Sym))
			continue
		}
		edges := g.DataEdges(elfdiff.Piece{Sec: sec, Off: off, Size: n}, nil)
		if len(edges) != 1 {
			p.invalid(pp, sec, off, "not a pointer")
			continue
		}
		t := g.Resolve(&edges[0])
		at := &g.Atoms[t.Atom]
		if t.Atom == 0 || t.Disp != 0 || at.Unit == 0 || g.Units[at.Unit].Main != t.Atom || at.Sym == 0 {
			p.invalid(pp, sec, off, "%s is not the start of a function", g.EdgeText(&edges[0]))
			continue
		}
		each(off, t.Atom)
	}
}

// variables gives the names of the variables of a section by their places.
func variables(f *object.File, sec object.SecID) map[uint64]string {
	m := make(map[uint64]string)
	for i := range f.Symbols {
		if s := &f.Symbols[i]; s.Sec == sec && s.Type() == elf.STT_OBJECT {
			m[s.Value] = s.Name
		}
	}
	return m
}

// callbackName takes __klp_KIND_callback_OBJECT apart.
func callbackName(name string) (kind klp.CallbackKind, object string, ok bool) {
	rest, ok1 := strings.CutPrefix(name, "__klp_")
	word, object, ok2 := strings.Cut(rest, "_callback_")
	kind, ok3 := klp.ParseCallbackKind(word)
	return kind, object, ok1 && ok2 && ok3
}

// forced keeps the forced functions that the patch holds, and says what becomes of
// them: the kernel's livepatch core knows no such thing, kpatch's old core module did.
func (p *Plan) forced() {
	for _, pp := range p.pairs {
		keep := pp.force[:0]
		for _, fn := range pp.force {
			at := &pp.Patched.Atoms[fn]
			place := diag.Place{File: pp.Patched.File.Name, Section: pp.Patched.File.Sections[at.Sec].Name, Symbol: pp.Patched.Name(fn)}
			switch {
			case !pp.sel.Has(fn):
				p.Diagnostics = append(p.Diagnostics, diag.New(diag.ForceIgnored, place, "%s is not in the patch", pp.Patched.Name(fn)))
				continue
			case p.opts.Format == elfdiff.FormatKpatch:
				d := diag.New(diag.ForceIgnored, place, "only kpatch's own core module forces %s; the kernel's livepatch core does not", pp.Patched.Name(fn))
				d.Severity = diag.SevNote
				p.Diagnostics = append(p.Diagnostics, d)
			default:
				p.Diagnostics = append(p.Diagnostics, diag.New(diag.ForceIgnored, place, "%s is replaced as any other function", pp.Patched.Name(fn)))
			}
			keep = append(keep, fn)
		}
		pp.force = keep
	}
}

// callbacks gives the callbacks of a pair with their symbols in the Builder.
func (e *emitter) callbacks() []klp.Callback {
	var out []klp.Callback
	for _, c := range e.pp.callbacks {
		out = append(out, klp.Callback{Object: e.pp.Object, Kind: c.kind, Func: e.syms[e.pp.Patched.Atoms[c.fn].Sym]})
	}
	return out
}
