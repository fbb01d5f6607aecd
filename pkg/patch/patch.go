// Package patch turns the differences of one or more object pairs into a patch:
// it decides about all of them together (what travels, what is taken from the
// running kernel and how it is named there, what is refused) and writes one
// relocatable object with livepatch metadata.
package patch

import (
	"context"
	"debug/elf"
	"fmt"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
)

// Pair is one object before and after, and where it belongs.
type Pair struct {
	Object  string // klp.Vmlinux, or the module's name with '_' for '-'
	Orig    *elfdiff.Graph
	Patched *elfdiff.Graph
	Delta   *elfdiff.Delta
}

// Options of a Plan. The zero value writes upstream's intermediate form and
// knows nothing of the running kernel's symbols.
type Options struct {
	Format elfdiff.Format
	// Positions tells which of several symbols of one name is meant. Nil: a
	// name that is unique in the original object has position 0, any other is refused.
	Positions Positions
	// Exports knows what the kernel and its modules export. Nil: undefined
	// symbols stay undefined, for the linker to resolve.
	Exports Exports
}

// Positions tells how the running kernel counts symbols of one name.
type Positions interface {
	// Position gives the position of symbol sym of the original object f, which
	// belongs to the named kernel object: 0 when the name is unique there, n for the
	// n-th. When it is not known, why says so.
	Position(object string, f *object.File, sym object.SymID) (pos uint64, known bool, why string)
}

// Exports knows exported symbols.
type Exports interface {
	// Exporter gives the object that exports a symbol: klp.Vmlinux or a module's name.
	Exporter(name string) (object string, ok bool)
}

// Plan is a patch that can be written.
type Plan struct {
	pairs []*pairPlan
	opts  Options
	// Diagnostics holds what is worth saying about a patch that is not refused.
	Diagnostics []diag.Diagnostic
}

// New decides about a patch. The error is a *diag.Error that holds every reason
// against it (with the warnings found beside them), or that of the context.
// Nothing to patch is such a reason: the code is nothing-changed.
func New(ctx context.Context, pairs []Pair, opts Options) (*Plan, error) {
	p := &Plan{opts: opts}
	changed := false
	for i := range pairs {
		pp := &pairPlan{Pair: pairs[i]}
		sel, ds, err := elfdiff.Close(ctx, pp.Orig, pp.Patched, pp.Delta, opts.Format, nil)
		if err != nil {
			return nil, err
		}
		pp.sel = sel
		changed = changed || len(sel.Changed) > 0
		p.Diagnostics = append(p.Diagnostics, ds...)
		p.Diagnostics = append(p.Diagnostics, pp.Delta.Diagnostics...)
		p.pairs = append(p.pairs, pp)
	}
	if !changed && !diag.HasErrors(p.Diagnostics) {
		d := diag.New(diag.NothingChanged, diag.Place{}, "no function differs in %d object(s)", len(pairs))
		d.Severity = diag.SevError
		return nil, &diag.Error{Diagnostics: append(p.Diagnostics, d)}
	}
	for _, pp := range p.pairs {
		w := &writer{plan: p, pp: pp}
		w.place()
		w.resolve()
		p.Diagnostics = append(p.Diagnostics, w.diags...)
	}
	diag.Sort(p.Diagnostics)
	if err := diag.Refuse(p.Diagnostics); err != nil {
		return nil, err
	}
	return p, nil
}

// pairPlan is what was decided about one pair.
type pairPlan struct {
	Pair
	sel      *elfdiff.Selection
	sections []outSection
	bySec    []int32  // by SecID of the patched object: 1 + index into sections
	off      []uint64 // by AtomID: where an included atom lies in its section
	relocs   []outReloc
	funcs    []outFunc
}

// outSection is a section of the patch that comes from one of the patched object.
type outSection struct {
	src  object.SecID
	data []byte // nil for SHT_NOBITS
	size uint64
}

// outReloc is a relocation of the patch. Exactly one of the targets is used.
type outReloc struct {
	sec    int // index into sections
	off    uint64
	typ    elf.R_X86_64
	addend int64

	sym  object.SymID // a symbol of the patched object that is defined in the patch, or stays undefined
	into int          // 1 + index into sections: the section itself
	name string       // an undefined symbol that the patched object does not have
	klp  *klp.Symbol  // a symbol of the running kernel
	gate string       // klp: the object whose loading makes it possible to resolve
}

type outFunc struct {
	sym  object.SymID // of the patched object
	name string       // of the original
	pos  uint64
}

// Bytes gives the patch object. The same plan gives the same bytes.
func (p *Plan) Bytes() ([]byte, error) {
	if p.opts.Format != elfdiff.FormatKlp {
		return nil, &diag.Error{Diagnostics: []diag.Diagnostic{diag.New(diag.NotImplemented, diag.Place{}, "patch format %d", p.opts.Format)}}
	}
	b := object.NewBuilder(object.Header{Type: elf.ET_REL, Flags: p.pairs[0].Patched.File.Header.Flags, OSABI: p.pairs[0].Patched.File.Header.OSABI})
	b.Name = "patch"
	var objects []klp.Object
	var relocs []klp.Reloc
	index := make(map[string]int)
	undefined, secSyms := make(map[string]object.SymID), make(map[object.SecID]object.SymID)
	for _, pp := range p.pairs {
		if len(pp.sel.Atoms) == 0 {
			continue
		}
		e := emitter{b: b, pp: pp, undefined: undefined, secSyms: secSyms}
		e.sections()
		e.symbols()
		relocs = append(relocs, e.relocs()...)
		e.imports()
		i, ok := index[pp.Object]
		if !ok {
			i = len(objects)
			index[pp.Object] = i
			objects = append(objects, klp.Object{Name: pp.Object})
		}
		for _, f := range pp.funcs {
			objects[i].Funcs = append(objects[i].Funcs, klp.Func{Name: f.name, Pos: f.pos, New: e.syms[f.sym]})
		}
	}
	klp.Intermediate(b, objects, relocs, secSyms)
	return b.Bytes()
}

// Functions names what the patch replaces, per object in the order of the pairs.
func (p *Plan) Functions() []klp.Object {
	var out []klp.Object
	for _, pp := range p.pairs {
		o := klp.Object{Name: pp.Object}
		for _, f := range pp.funcs {
			o.Funcs = append(o.Funcs, klp.Func{Name: f.name, Pos: f.pos})
		}
		out = append(out, o)
	}
	return out
}

// unique is the knowledge of a caller that gives no symbols.
func unique(f *object.File, sym object.SymID) (pos uint64, known bool, why string) {
	name, n := f.Symbols[sym].Name, 0
	for i := range f.Symbols {
		s := &f.Symbols[i]
		if s.Name == name && s.Sec != 0 && s.Type() != elf.STT_SECTION && s.Type() != elf.STT_FILE {
			n++
		}
	}
	if n > 1 {
		return 0, false, fmt.Sprintf("%d symbols of the original object have this name, and no symbols of the kernel were given", n)
	}
	return 0, true, ""
}
