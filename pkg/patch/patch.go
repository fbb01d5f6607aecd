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
	"github.com/kdelta/kdelta/symbols"
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
	// Symbols is what is known of the running kernel. Nil, or without an Oracle for
	// an object: there a name that is unique in the original object has position 0, any other is
	// refused. Without exports undefined symbols that the Oracle does not have stay
	// undefined, for the linker to resolve.
	Symbols *symbols.Set
	// Partial says that there are other objects of the same patch. They may refer to
	// what is new here, so every new global is included; and they may define what nobody else does.
	Partial bool
	// LateKlp is for kernels before 5.8, which apply relocations for the livepatch core
	// after they have read the patch's tables: a table entry must not need one.
	LateKlp bool
}

// Plan is a patch that can be written.
type Plan struct {
	pairs   []*pairPlan
	opts    Options
	defined map[string]definition     // global names that the patch defines
	counts  map[string]map[string]int // by object: how many symbols of the originals have a name
	asked   int                       // of count
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
	if opts.Format > elfdiff.FormatModule {
		return nil, &diag.Error{Diagnostics: []diag.Diagnostic{diag.New(diag.NotImplemented, diag.Place{}, "patch format %d", opts.Format)}}
	}
	p := &Plan{opts: opts, counts: make(map[string]map[string]int)}
	for i := range pairs {
		p.pairs = append(p.pairs, &pairPlan{Pair: pairs[i]})
	}
	if err := p.selection(ctx); err != nil {
		return nil, err
	}
	changed := false
	for _, pp := range p.pairs {
		changed = changed || len(pp.sel.Changed) > 0 || len(pp.callbacks) > 0 || p.opts.Partial && len(pp.roots) > 0
		p.Diagnostics = append(p.Diagnostics, pp.diags...)
		p.Diagnostics = append(p.Diagnostics, pp.Delta.Diagnostics...)
		if o := opts.Symbols.Oracle(pp.Object); o != nil && len(pp.sel.Atoms) > 0 {
			p.Diagnostics = append(p.Diagnostics, o.Place(pp.Orig.File).Diagnostics...)
		}
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
		w := &writer{plan: p, pp: pp, named: make(map[symRef]symbols.Answer)}
		pp.bySec = make([]int32, len(pp.Patched.File.Sections))
		w.restrict()
		w.place()
		w.resolve()
		p.Diagnostics = append(p.Diagnostics, w.diags...)
	}
	p.forced()
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
	for _, pp := range p.pairs {
		p.directives(pp)
		if p.opts.Partial {
			p.publish(pp)
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

// publish makes everything global that is new a root. What is freed after init stays
// away: the kernel's init has run, and what travels must not refer to it.
func (p *Plan) publish(pp *pairPlan) {
	g := pp.Patched
	add := func(a elfdiff.AtomID) {
		at := &g.Atoms[a]
		if at.Sym == 0 || g.File.Symbols[at.Sym].Bind() != elf.STB_GLOBAL {
			return
		}
		sec := g.File.Sections[at.Sec].Name
		if g.Rules.Freed(sec) {
			d := diag.New(diag.InitChanged, diag.Place{File: g.File.Name, Section: sec, Symbol: g.Name(a)}.At(at.Off), "%s is new and left out: its section is for init", g.Name(a))
			d.Severity = diag.SevWarning
			p.Diagnostics = append(p.Diagnostics, d)
			return
		}
		pp.roots = append(pp.roots, a)
	}
	for i := range pp.Delta.Functions {
		if fn := &pp.Delta.Functions[i]; fn.Status == elfdiff.New {
			add(g.Units[fn.Patched].Main)
		}
	}
	for i := range pp.Delta.Data {
		if dt := &pp.Delta.Data[i]; dt.Status == elfdiff.New && dt.Patched != 0 {
			add(dt.Patched)
		}
	}
}

// borrow makes the new functions and data of other objects that the selection of pp refers
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
			if u := d.pp.Patched.Atoms[at].Unit; u != 0 {
				at = d.pp.Patched.Units[u].Main
			}
			if d.pp.sel.Has(at) || d.pp.Delta.AtomStatus[at] != elfdiff.New || slices.Contains(d.pp.roots, at) {
				continue
			}
			d.pp.roots = append(d.pp.roots, at)
			d.pp.stale, found = true, true
		}
	}
	return found
}

// clashes refuses what one patch cannot hold: a function that is replaced twice, and
// two callbacks of one kind for one object.
func (p *Plan) clashes() {
	seen := make(map[klp.Symbol]bool)
	type call struct {
		object string
		kind   klp.CallbackKind
	}
	calls := make(map[call]string)
	for _, pp := range p.pairs {
		for _, f := range pp.funcs {
			s := klp.Symbol{Object: pp.Object, Name: f.name, Pos: f.answer.Pos}
			if seen[s] {
				at := diag.Place{File: pp.Patched.File.Name, Symbol: f.name}
				p.Diagnostics = append(p.Diagnostics, diag.New(diag.SymposUnknown, at, "two objects of the patch replace %s of %s", f.name, pp.Object))
			}
			seen[s] = true
		}
		for _, c := range pp.callbacks {
			k, name := call{pp.Object, c.kind}, pp.Patched.Name(c.fn)
			if other, ok := calls[k]; ok {
				p.Diagnostics = append(p.Diagnostics, diag.New(diag.CallbackInvalid, pp.directive(c.sec, c.off),
					"%s is a second %s callback of %s, beside %s", name, c.kind, pp.Object, other))
			}
			calls[k] = name
		}
	}
}

// pairPlan is what was decided about one pair.
type pairPlan struct {
	Pair
	sel      *elfdiff.Selection
	diags    []diag.Diagnostic // of the selection
	roots    []elfdiff.AtomID  // what travels for somebody else's sake: other objects, the livepatch core
	stale    bool              // roots were added
	atoms    []elfdiff.AtomID  // of the selection, without table entries that are left out
	in       []bool            // by AtomID: among atoms
	sections []outSection
	bySec    []int32  // by SecID of the patched object: 1 + index into sections
	off      []uint64 // by AtomID: where an included atom lies in its section
	pieces   []uint64 // where the selection's pieces lie in their sections
	relocs   []outReloc
	funcs    []outFunc
	sites    []mcountSite

	callbacks []callback
	force     []elfdiff.AtomID // functions that the source lets replace though a task is in them
}

// has reports whether the patch holds an atom.
func (pp *pairPlan) has(a elfdiff.AtomID) bool { return pp.in[a] }

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
	ns     string // the namespace in which the symbol is exported

	sym  object.SymID // a symbol of the patched object that is defined in the patch, or stays undefined
	into int          // 1 + index into sections: the section itself
	name string       // an undefined symbol that the patched object does not have
	klp  *klpSymbol   // a symbol of the running kernel
	gate string       // klp: the object whose loading makes it possible to resolve
}

type outFunc struct {
	unit elfdiff.UnitID
	sym  object.SymID // of the patched object
	name string       // of the original
	orig object.SymID // by which the original has it

	answer symbols.Answer
}

// Bytes gives the patch object. The same plan gives the same bytes. A plan for
// FormatModule has none: a module needs more than the plan knows, see Into.
func (p *Plan) Bytes() ([]byte, error) {
	if p.opts.Format == elfdiff.FormatModule {
		return nil, &diag.Error{Diagnostics: []diag.Diagnostic{diag.New(diag.NotImplemented, diag.Place{}, "the patch is to become a module, which is not written from the plan alone")}}
	}
	h := p.pairs[0].Patched.File.Header
	b := object.NewBuilder(object.Header{Type: elf.ET_REL, Flags: h.Flags, OSABI: h.OSABI})
	b.Name = "patch"
	if p.opts.Format == elfdiff.FormatKpatch {
		shared := newCommon(b)
		shared.local = true
		p.kpatch(b, p.emit(shared), shared.sections)
		return b.Bytes()
	}
	x := p.into(newCommon(b))
	p.modinfo(b)
	klp.Intermediate(b, x.Objects, x.Relocs, x.Callbacks, x.Sections)
	return b.Bytes()
}

// Parts is a patch without the metadata of a form. Sections and symbols are handles of the Builder that holds it.
type Parts struct {
	Objects   []klp.Object                  // what is replaced, in the order of the pairs; those with callbacks alone too
	Callbacks []klp.Callback                // as klp.StaticTables takes them
	Relocs    []klp.Reloc                   // for the livepatch core
	Imports   []string                      // "import_ns=NAMESPACE", for .modinfo
	Sections  map[object.SecID]object.SymID // section symbols that the Builder has
}

// Into puts sections, symbols and ordinary relocations of the patch into b, where
// sections of one name become one, and gives what has to be told to the livepatch core.
func (p *Plan) Into(b *object.Builder) *Parts {
	shared := newCommon(b)
	shared.merged = make(map[string]object.SecID)
	x := p.into(shared)
	x.Imports = p.imports()
	return x
}

func newCommon(b *object.Builder) *common {
	return &common{b: b, sections: make(map[object.SecID]object.SymID), undefined: make(map[string]object.SymID), defined: make(map[string]object.SymID)}
}

// emit copies the sections and symbols of all pairs.
func (p *Plan) emit(shared *common) []*emitter {
	var parts []*emitter
	for _, pp := range p.pairs {
		if len(pp.atoms) == 0 {
			continue
		}
		e := &emitter{common: shared, pp: pp}
		parts = append(parts, e)
		e.copySections()
		e.symbols()
	}
	return parts
}

func (p *Plan) into(shared *common) *Parts {
	x := &Parts{Sections: shared.sections}
	index := make(map[string]int)
	for _, e := range p.emit(shared) {
		e.relocs(func(r *outReloc) { x.Relocs = append(x.Relocs, e.klp(r)) })
		if len(e.pp.funcs) == 0 && len(e.pp.callbacks) == 0 {
			continue
		}
		i, ok := index[e.pp.Object]
		if !ok {
			i = len(x.Objects)
			index[e.pp.Object] = i
			x.Objects = append(x.Objects, klp.Object{Name: e.pp.Object})
		}
		for _, f := range e.pp.funcs {
			x.Objects[i].Funcs = append(x.Objects[i].Funcs, klp.Func{Name: f.name, Pos: f.answer.Pos, New: e.syms[f.sym]})
		}
		x.Callbacks = append(x.Callbacks, e.callbacks()...)
	}
	return x
}

// answer says how the running kernel calls a symbol of the original of pp.
func (p *Plan) answer(pp *pairPlan, sym object.SymID) symbols.Answer {
	if o := p.opts.Symbols.Oracle(pp.Object); o != nil {
		return o.Position(pp.Orig.File, sym)
	}
	return p.unique(pp, sym)
}

// count says how many symbols of the originals of one kernel object have a name. Few questions are answered by a look at
// all symbols, which an index would cost several times over.
func (p *Plan) count(of, name string) (n int) {
	counted, few := p.counts[of], p.asked < 16
	if p.asked++; counted != nil {
		return counted[name]
	}
	counted = make(map[string]int)
	seen := make(map[*object.File]bool)
	for _, pp := range p.pairs {
		f := pp.Orig.File
		if pp.Object != of || seen[f] {
			continue
		}
		seen[f] = true
		for i := range f.Symbols {
			s := &f.Symbols[i]
			if few && s.Name != name || s.Sec == 0 || s.Type() == elf.STT_SECTION || s.Type() == elf.STT_FILE {
				continue
			}
			counted[s.Name]++
		}
	}
	if !few {
		p.counts[of] = counted
	}
	return counted[name]
}

// unique is the knowledge of a caller that gives no symbols: what the originals of one kernel object hold.
func (p *Plan) unique(of *pairPlan, sym object.SymID) symbols.Answer {
	n := p.count(of.Object, of.Orig.File.Symbols[sym].Name)
	if n > 1 {
		return symbols.Answer{Code: diag.SymposUnknown, Evidence: fmt.Sprintf("%d symbols of the original objects have this name, and no symbols of the kernel were given", n)}
	}
	return symbols.Answer{Known: true, Method: symbols.MethodUnique, Evidence: "unique in the original object"}
}
