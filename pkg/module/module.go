// Package module writes a loadable livepatch module: the .ko itself, from pairs of
// objects and the facts of one kernel, without kbuild, compiler, headers, modpost
// or objtool.
//
// Build completes each object with what the kernel's own objtool would have added
// (Complete), compares the pairs, plans the patch (pkg/patch), and writes it with
// what a module needs besides: the livepatch structures of that kernel, the code that
// registers them, struct module, checksums of the symbols that it imports, and the
// description that the loader reads. Sign appends a signature.
//
// A module that Build gives should be proved (pkg/verify) before it is loaded.
package module

import (
	"context"
	"debug/elf"
	"fmt"
	"slices"
	"strings"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/pkg/patch"
	"github.com/kdelta/kdelta/symbols"
)

// Kernel is what has to be known of the kernel that is to load the module.
type Kernel struct {
	Vermagic string       // whole, with its trailing space
	Layout   *klp.Layout  // of the livepatch structures and of struct module
	Symbols  *symbols.Set // of vmlinux and of every module that pairs belong to, with exports
	// CRC gives the checksum of an exported symbol; nil: the kernel has no CONFIG_MODVERSIONS.
	CRC func(symbol string) (uint32, bool)
	// Traceable reports whether ftrace can redirect the function of a kernel object
	// that has a name, an address (0: not known) and a position among those of that name; nil: the objects alone decide.
	Traceable func(object, name string, addr, pos uint64) bool

	UnwindCall   byte   // last byte of the unwind entry of an ordinary frame; see CompleteOptions
	UnwindOther  string // not empty: how unwind entries differ from those that Complete makes, so that it must not make any
	ReturnThunk  bool   // functions return through __x86_return_thunk
	KCFI         bool   // indirect calls check a hash before the function
	ClearsRelocs bool   // relocations that waited for a module are taken back when it goes (Linux 6.3 and later)
}

// Pair is one object before and after, and the kernel object that it belongs to.
type Pair struct {
	Object  string // klp.Vmlinux, or the module's name with '_' for '-'
	Orig    *object.File
	Patched *object.File
}

// Options of Build. Name is needed.
type Options struct {
	Name      string         // of the module: letters, digits and '_', at most 55
	NoReplace bool           // leave patches that are active in place, below this one
	Rules     *elfdiff.Rules // nil: pkg/kernel's
	// Describe is the text of modinfo's description; empty: "Livepatch module".
	Describe string
}

// Result is a module and what it was made of.
type Result struct {
	Module      []byte
	Pairs       []Pair // as given, completed
	Deltas      []*elfdiff.Delta
	Completed   [][2]*Completion // by pair: of the original and the patched object
	Contents    *patch.Contents
	Diagnostics []diag.Diagnostic
}

// Build makes a module. The error is a *diag.Error with every reason against it, or that of the context.
func Build(ctx context.Context, pairs []Pair, k *Kernel, opts Options) (*Result, error) {
	if err := check(k, opts); err != nil {
		return nil, err
	}
	rules := opts.Rules
	if rules == nil {
		rules = kernel.Rules()
	}
	r := &Result{}
	var plans []patch.Pair
	for i := range pairs {
		p, done, err := CompletePair(pairs[i], k)
		if err != nil {
			return nil, err
		}
		r.Pairs, r.Completed = append(r.Pairs, p), append(r.Completed, done)
		a, err := elfdiff.Analyze(ctx, p.Orig, rules)
		if err != nil {
			return nil, err
		}
		b, err := elfdiff.Analyze(ctx, p.Patched, rules)
		if err != nil {
			return nil, err
		}
		d, err := elfdiff.Diff(ctx, a, b, nil)
		if err != nil {
			return nil, err
		}
		r.Deltas = append(r.Deltas, d)
		plans = append(plans, patch.Pair{Object: p.Object, Orig: a, Patched: b, Delta: d})
	}
	plan, err := patch.New(ctx, plans, patch.Options{Format: elfdiff.FormatModule, Symbols: k.Symbols})
	if err != nil {
		return nil, err
	}
	r.Contents = plan.Contents()
	w := &writer{k: k, opts: opts, b: object.NewBuilder(object.Header{Type: elf.ET_REL}), undefined: make(map[string]object.SymID)}
	w.b.Name = opts.Name
	w.write(plan)
	w.traceable(r.Contents)
	w.skipped(r)
	r.Diagnostics = append(slices.Clone(plan.Diagnostics), w.diags...)
	diag.Sort(r.Diagnostics)
	if err := diag.Refuse(r.Diagnostics); err != nil {
		return nil, err
	}
	r.Module, err = w.b.Bytes()
	return r, err
}

// CompletePair completes both objects of a pair for a kernel.
func CompletePair(p Pair, k *Kernel) (Pair, [2]*Completion, error) {
	vmlinux, own := k.Symbols.Oracle(klp.Vmlinux), k.Symbols.Oracle(p.Object)
	opts := CompleteOptions{Call: k.UnwindCall, NoUnwind: k.UnwindOther != "", Has: func(s string) bool {
		_, exported := k.Symbols.Export(s)
		return exported || vmlinux.Has(s) || own != nil && own.Has(s)
	}}
	var done [2]*Completion
	var err error
	if p.Orig, done[0], err = Complete(p.Orig, opts); err == nil {
		p.Patched, done[1], err = Complete(p.Patched, opts)
	}
	return p, done, err
}

// check refuses what cannot be done right whatever the pairs are.
func check(k *Kernel, opts Options) error {
	var ds []diag.Diagnostic
	fail := func(code diag.Code, format string, args ...any) {
		ds = append(ds, diag.New(code, diag.Place{}, format, args...))
	}
	bad := func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}
	if n := opts.Name; n == "" || len(n) > klp.MaxObjectName || strings.ContainsFunc(n, bad) {
		fail(diag.KlpName, "the name of the module is %q: 1 to %d letters, digits and '_' are possible", n, klp.MaxObjectName)
	}
	if k.KCFI {
		fail(diag.NotImplemented, "the kernel checks the types of indirect calls (CONFIG_CFI_CLANG); the hashes before the functions cannot be carried yet")
	}
	if k.Layout == nil || k.Symbols.Oracle(klp.Vmlinux) == nil || k.Vermagic == "" {
		fail(diag.KlpInit, "the kernel's structures, symbols or vermagic are not known")
	} else if err := k.Layout.Check(); err != nil {
		fail(diag.KlpInit, "%v", err)
	} else if l := k.Layout; l.ModuleInit == 0 || l.ModuleInit+8 > l.ModuleSize || l.ModuleExit+8 > l.ModuleSize || l.ModuleName+klp.MaxObjectName+1 > l.ModuleSize || l.ModuleSize > 1<<16 {
		fail(diag.KlpInit, "struct module of %d bytes with name at %d, init at %d and exit at %d", l.ModuleSize, l.ModuleName, l.ModuleInit, l.ModuleExit)
	}
	if strings.ContainsRune(opts.Describe, 0) {
		fail(diag.KlpInit, "the description holds a NUL")
	}
	return diag.Refuse(ds)
}

// traceable refuses to replace what the kernel cannot redirect.
func (w *writer) traceable(c *patch.Contents) {
	if w.k.Traceable == nil {
		return
	}
	for i := range c.Functions {
		f := &c.Functions[i]
		if f.Replaces() && !w.k.Traceable(f.Object, f.OrigName, f.Addr, f.Pos) {
			w.diags = append(w.diags, diag.New(diag.NoFtraceEntry, diag.Place{File: f.File, Section: f.Section, Symbol: f.OrigName},
				"%s of the running kernel does not call the tracer at its entry", f.OrigName))
		}
	}
}

// skipped tells of static calls that stay calls of their trampolines, and of code that the unwinder will not know.
func (w *writer) skipped(r *Result) {
	for i := range r.Pairs {
		f, done := r.Pairs[i].Patched, r.Completed[i][1]
		for _, key := range done.Skipped {
			d := diag.New(diag.StaticCall, diag.Place{File: f.Name, Symbol: key}, "static calls through %s stay calls of the trampoline: the kernel does not show the key", key)
			d.Severity = diag.SevNote
			w.diags = append(w.diags, d)
		}
		if !slices.ContainsFunc(f.Sections, func(s object.Section) bool { return s.Name == orcUnwind }) {
			w.diags = append(w.diags, diag.New(diag.NoUnwind, diag.Place{File: f.Name}, "the object has neither unwind entries nor call frame information"))
		} else if done.Opaque > 0 {
			d := diag.New(diag.NoUnwind, diag.Place{File: f.Name}, "%d places of the object have call frame information that the kernel's unwinder cannot use", done.Opaque)
			d.Severity = diag.SevNote
			w.diags = append(w.diags, d)
		}
	}
}

// Names of what a module is made of.
const (
	thisModule    = "__this_module"
	moduleSection = ".gnu.linkonce.this_module"
	enablePatch   = "klp_enable_patch"
	moduleLayout  = "module_layout"
	versionSize   = 64 // struct modversion_info: u64 crc, char name[56]
	versionName   = 56
)

type writer struct {
	k         *Kernel
	opts      Options
	b         *object.Builder
	undefined map[string]object.SymID
	diags     []diag.Diagnostic
}

func (w *writer) fail(code diag.Code, symbol, format string, args ...any) {
	w.diags = append(w.diags, diag.New(code, diag.Place{File: w.opts.Name, Symbol: symbol}, format, args...))
}

func (w *writer) write(plan *patch.Plan) {
	b := w.b
	parts := plan.Into(b)
	for i := 1; i < b.NumSections(); i++ {
		// The kernel writes to these tables when the rest of their kind is read-only already.
		if s := b.Section(object.SecID(i)); s.Name == "__bug_table" || s.Name == jumpTable || s.Name == callSites {
			s.Flags |= elf.SHF_WRITE
			b.SetSection(object.SecID(i), s)
		}
	}
	for i := 1; i < b.NumSymbols(); i++ {
		if s := b.Symbol(object.SymID(i)); s.Sec == 0 && s.Shndx == elf.SHN_UNDEF && s.Name != "" {
			w.undefined[s.Name] = object.SymID(i)
		}
	}
	relocs, callbacks := parts.Relocs, parts.Callbacks
	if !w.k.ClearsRelocs {
		var extra []klp.Reloc
		callbacks, extra = w.unrelocate(parts, callbacks)
		relocs = append(relocs, extra...)
	}
	mod := w.module()
	patchSym := klp.Static(b, &klp.StaticTables{Layout: w.k.Layout, Objects: parts.Objects, Callbacks: callbacks, NoReplace: w.opts.NoReplace, Module: mod}, parts.Sections)
	thunk := object.SymID(0)
	if w.k.ReturnThunk {
		thunk = w.undef(returnThunk)
	}
	initFn, exitFn := klp.Start(b, patchSym, w.undef(enablePatch), thunk, 0, 0, parts.Sections)
	modSec := b.Symbol(mod).Sec
	b.AddReloc(modSec, object.Reloc{Off: w.k.Layout.ModuleInit, Type: elf.R_X86_64_64, Sym: initFn})
	b.AddReloc(modSec, object.Reloc{Off: w.k.Layout.ModuleExit, Type: elf.R_X86_64_64, Sym: exitFn})
	named := make(map[string]object.SymID)
	klp.Relas(b, relocs, func(s *klp.Symbol) object.SymID {
		name := s.String()
		if named[name] == 0 {
			named[name] = b.AddSymbol(object.BuildSymbol{Name: name, Shndx: object.SHN_LIVEPATCH, Info: elf.ST_INFO(elf.STB_GLOBAL, s.Type)})
		}
		return named[name]
	})
	w.modinfo(parts.Imports)
	w.versions()
}

// undef gives the undefined symbol of a name.
func (w *writer) undef(name string) object.SymID {
	if w.undefined[name] == 0 {
		w.undefined[name] = w.b.AddSymbol(object.BuildSymbol{Name: name, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_NOTYPE)})
	}
	return w.undefined[name]
}

// module adds struct module, which the loader moves about with everything in it that is not a section.
func (w *writer) module() object.SymID {
	d := make([]byte, w.k.Layout.ModuleSize)
	copy(d[w.k.Layout.ModuleName:], w.opts.Name)
	sec := w.b.AddSection(object.BuildSection{Name: moduleSection, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_WRITE, Addralign: 64, Data: d})
	return w.b.AddSymbol(object.BuildSymbol{Name: thisModule, Sec: sec, Size: w.k.Layout.ModuleSize, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_OBJECT)})
}

// modinfo adds what the loader reads before anything else.
func (w *writer) modinfo(imports []string) {
	text := w.opts.Describe
	if text == "" {
		text = "Livepatch module"
	}
	list := []string{"license=GPL", "description=" + text}
	list = append(list, imports...)
	list = append(list, "depends=", "retpoline=Y", "livepatch=Y", "name="+w.opts.Name, "vermagic="+w.k.Vermagic)
	w.b.AddSection(object.BuildSection{Name: ".modinfo", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Addralign: 1, Data: []byte(strings.Join(list, "\x00") + "\x00")})
}

// versions adds the checksums of everything that the module imports.
func (w *writer) versions() {
	if w.k.CRC == nil {
		return
	}
	names := []string{moduleLayout}
	for name := range w.undefined {
		names = append(names, name)
	}
	slices.Sort(names[1:])
	d := make([]byte, 0, versionSize*len(names))
	for _, name := range names {
		crc, ok := w.k.CRC(name)
		switch {
		case !ok:
			w.fail(diag.Undefined, name, "%s is left undefined, and the kernel does not export it", name)
			continue
		case len(name) >= versionName:
			w.fail(diag.KlpName, name, "the name of %s is too long for the list of checksums: %d bytes, limit %d", name, len(name), versionName-1)
			continue
		}
		var e [versionSize]byte
		le.PutUint64(e[:], uint64(crc))
		copy(e[8:], name)
		d = append(d, e[:]...)
	}
	w.b.AddSection(object.BuildSection{Name: "__versions", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Addralign: 32, Data: d})
}

// String says in a line what was completed.
func (c *Completion) String() string {
	return fmt.Sprintf("%d return sites, %d retpoline sites, %d static calls, %d static branches made NOPs, %d unwind entries of %d functions", c.Returns, c.Retpolines, c.StaticCalls, c.Branches, c.Unwind, c.Functions)
}
