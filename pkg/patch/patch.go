// Package patch turns the differences of one or more object pairs into a patch:
// it decides about all of them together (what travels, what is taken from the
// running kernel and how it is named there, what is refused) and writes one
// relocatable object with livepatch metadata.
package patch

import (
	"context"
	"debug/elf"
	"fmt"
	"slices"

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
	pairs   []*pairPlan
	opts    Options
	defined map[string]definition // global names that the patch defines
	// Diagnostics holds what is worth saying about a patch that is not refused.
	Diagnostics []diag.Diagnostic
}

// definition is where a patch defines a global name.
type definition struct {
	pp  *pairPlan
	sym object.SymID // of the patched object
}

// New decides about a patch. The error is a *diag.Error that holds every reason
// against it (with the warnings found beside them), or that of the context.
// Nothing to patch is such a reason: the code is nothing-changed.
func New(ctx context.Context, pairs []Pair, opts Options) (*Plan, error) {
	if opts.Format != elfdiff.FormatKlp {
		return nil, &diag.Error{Diagnostics: []diag.Diagnostic{diag.New(diag.NotImplemented, diag.Place{}, "patch format %d", opts.Format)}}
	}
	p := &Plan{opts: opts}
	for i := range pairs {
		p.pairs = append(p.pairs, &pairPlan{Pair: pairs[i]})
	}
	if err := p.selection(ctx); err != nil {
		return nil, err
	}
	changed := false
	for _, pp := range p.pairs {
		changed = changed || len(pp.sel.Changed) > 0
		p.Diagnostics = append(p.Diagnostics, pp.diags...)
		p.Diagnostics = append(p.Diagnostics, pp.Delta.Diagnostics...)
	}
	if !changed && !diag.HasErrors(p.Diagnostics) {
		d := diag.New(diag.NothingChanged, diag.Place{}, "no function differs in %d pair(s) of objects", len(pairs))
		d.Severity = diag.SevError
		ds := append(p.Diagnostics, d)
		diag.Sort(ds)
		return nil, &diag.Error{Diagnostics: ds}
	}
	for _, pp := range p.pairs {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		w := &writer{plan: p, pp: pp}
		w.place()
		w.resolve()
		p.Diagnostics = append(p.Diagnostics, w.diags...)
	}
	p.clashes()
	diag.Sort(p.Diagnostics)
	if err := diag.Refuse(p.Diagnostics); err != nil {
		return nil, err
	}
	return p, nil
}

// selection closes over all pairs together: what one object brings along may
// refer to something new that another one defines.
func (p *Plan) selection(ctx context.Context) error {
	owners := make(map[string]definition) // global names of all patched objects
	if len(p.pairs) > 1 {
		for _, pp := range p.pairs {
			for i := range pp.Patched.File.Symbols {
				if s := &pp.Patched.File.Symbols[i]; s.Sec != 0 && s.Bind() != elf.STB_LOCAL && pp.Patched.SymbolAtom(object.SymID(i)) != 0 {
					if _, ok := owners[s.Name]; !ok {
						owners[s.Name] = definition{pp, object.SymID(i)}
					}
				}
			}
		}
	}
	for again := true; again; {
		again = false
		for _, pp := range p.pairs {
			if pp.sel == nil || pp.stale {
				var err error
				if pp.sel, pp.diags, err = elfdiff.Close(ctx, pp.Orig, pp.Patched, pp.Delta, p.opts.Format, pp.roots); err != nil {
					return err
				}
				pp.stale = false
			}
		}
		if len(p.pairs) == 1 {
			break
		}
		for _, pp := range p.pairs {
			again = p.borrow(pp, owners) || again
		}
	}
	p.defined = make(map[string]definition)
	for _, pp := range p.pairs {
		for i := range pp.Patched.File.Symbols {
			s := &pp.Patched.File.Symbols[i]
			if s.Sec == 0 || s.Bind() == elf.STB_LOCAL || s.Type() == elf.STT_SECTION {
				continue
			}
			a := pp.Patched.SymbolAtom(object.SymID(i))
			if a == 0 || !pp.sel.Has(a) {
				continue
			}
			if _, ok := p.defined[s.Name]; ok {
				at := diag.Place{File: pp.Patched.File.Name, Section: pp.Patched.File.Sections[s.Sec].Name, Symbol: s.Name}
				p.Diagnostics = append(p.Diagnostics, diag.New(diag.NotImplemented, at, "two objects of the patch define %s", s.Name))
				continue
			}
			p.defined[s.Name] = definition{pp, object.SymID(i)}
		}
	}
	return nil
}

// borrow makes the new functions of other objects that the selection of pp refers
// to roots there, and reports whether there was one that was not included yet.
func (p *Plan) borrow(pp *pairPlan, owners map[string]definition) bool {
	f := pp.Patched.File
	found := false
	var edges []elfdiff.Edge
	for _, a := range pp.sel.Atoms {
		edges, _ = pp.Patched.Edges(a, edges[:0])
		for i := range edges {
			e := &edges[i]
			if e.Sym == 0 || e.Sec != 0 || f.Symbols[e.Sym].Shndx != elf.SHN_UNDEF {
				continue
			}
			d, ok := owners[f.Symbols[e.Sym].Name]
			if !ok || d.pp == pp {
				continue
			}
			at := d.pp.Patched.SymbolAtom(d.sym)
			u := d.pp.Patched.Atoms[at].Unit
			if d.pp.sel.Has(at) || u == 0 || d.pp.Delta.AtomStatus[at] != elfdiff.New || slices.Contains(d.pp.roots, u) {
				continue
			}
			d.pp.roots = append(d.pp.roots, u)
			d.pp.stale, found = true, true
		}
	}
	return found
}

// clashes refuses what one patch cannot hold: a function that is replaced twice,
// and new data that another object than the one that refers to it defines.
func (p *Plan) clashes() {
	seen := make(map[klp.Symbol]bool)
	owners := make(map[string]*pairPlan)
	for _, pp := range p.pairs {
		for _, f := range pp.funcs {
			s := klp.Symbol{Object: pp.Object, Name: f.name, Pos: f.pos}
			if seen[s] {
				at := diag.Place{File: pp.Patched.File.Name, Symbol: f.name}
				p.Diagnostics = append(p.Diagnostics, diag.New(diag.SymposUnknown, at, "two objects of the patch replace %s of %s", f.name, pp.Object))
			}
			seen[s] = true
		}
		for i := range pp.Delta.Data {
			if d := &pp.Delta.Data[i]; d.Status == elfdiff.New && d.Patched != 0 && !pp.sel.Has(d.Patched) {
				owners[d.Name] = pp
			}
		}
	}
	for _, pp := range p.pairs {
		for i := range pp.relocs {
			r := &pp.relocs[i]
			if r.sym == 0 || pp.Patched.File.Symbols[r.sym].Sec != 0 {
				continue
			}
			if o := owners[pp.Patched.File.Symbols[r.sym].Name]; o != nil && o != pp {
				name := pp.Patched.File.Symbols[r.sym].Name
				at := diag.Place{File: pp.Patched.File.Name, Section: pp.Patched.File.Sections[pp.sections[r.sec].src].Name}
				p.Diagnostics = append(p.Diagnostics, diag.New(diag.NotImplemented, at, "refers to %s, which is new data of %s", name, o.Patched.File.Name))
			}
		}
	}
}

// pairPlan is what was decided about one pair.
type pairPlan struct {
	Pair
	sel      *elfdiff.Selection
	diags    []diag.Diagnostic // of the selection
	roots    []elfdiff.UnitID  // new functions that other objects refer to
	stale    bool              // roots were added
	sections []outSection
	bySec    []int32  // by SecID of the patched object: 1 + index into sections
	off      []uint64 // by AtomID: where an included atom lies in its section
	pieces   []uint64 // where the selection's pieces lie in their sections
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
	unit elfdiff.UnitID
	sym  object.SymID // of the patched object
	name string       // of the original
	pos  uint64
}

// Bytes gives the patch object. The same plan gives the same bytes.
func (p *Plan) Bytes() ([]byte, error) {
	h := p.pairs[0].Patched.File.Header
	b := object.NewBuilder(object.Header{Type: elf.ET_REL, Flags: h.Flags, OSABI: h.OSABI})
	b.Name = "patch"
	shared := &common{b: b, sections: make(map[object.SecID]object.SymID), undefined: make(map[string]object.SymID), defined: make(map[string]object.SymID)}
	var parts []*emitter
	for _, pp := range p.pairs {
		if len(pp.sel.Atoms) == 0 {
			continue
		}
		e := &emitter{common: shared, pp: pp}
		parts = append(parts, e)
		e.copySections()
		e.symbols()
	}
	var objects []klp.Object
	var relocs []klp.Reloc
	index := make(map[string]int)
	for _, e := range parts {
		relocs = append(relocs, e.relocs()...)
		e.imports()
		for _, f := range e.pp.funcs {
			i, ok := index[e.pp.Object]
			if !ok {
				i = len(objects)
				index[e.pp.Object] = i
				objects = append(objects, klp.Object{Name: e.pp.Object})
			}
			objects[i].Funcs = append(objects[i].Funcs, klp.Func{Name: f.name, Pos: f.pos, New: e.syms[f.sym]})
		}
	}
	klp.Intermediate(b, objects, relocs, shared.sections)
	return b.Bytes()
}

// unique is the knowledge of a caller that gives no symbols: what the originals of one kernel object hold.
func (p *Plan) unique(of *pairPlan, sym object.SymID) (pos uint64, known bool, why string) {
	name, n := of.Orig.File.Symbols[sym].Name, 0
	seen := make(map[*object.File]bool)
	for _, pp := range p.pairs {
		f := pp.Orig.File
		if pp.Object != of.Object || seen[f] {
			continue
		}
		seen[f] = true
		for i := range f.Symbols {
			s := &f.Symbols[i]
			if s.Name == name && s.Sec != 0 && s.Type() != elf.STT_SECTION && s.Type() != elf.STT_FILE {
				n++
			}
		}
	}
	if n > 1 {
		return 0, false, fmt.Sprintf("%d symbols of the original objects have this name, and no symbols of the kernel were given", n)
	}
	return 0, true, ""
}
