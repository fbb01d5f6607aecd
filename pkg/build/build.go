// Package build goes the whole way from pairs of objects and the files of one
// kernel to a livepatch module that is proved: it says whether the original objects
// are what the kernel runs (pkg/kernel/runpre), which also tells symbols of one name
// apart, makes the module (pkg/module), reads it back and proves it (pkg/verify), and signs it.
//
// Bytes in, values out. The same input gives the same module, but for a signature with a random part (ECDSA).
package build

import (
	"context"
	"fmt"
	"slices"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/kernel/image"
	"github.com/kdelta/kdelta/pkg/kernel/runpre"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/module"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/pkg/verify"
	"github.com/kdelta/kdelta/symbols"
)

// Options of Module. Name is needed.
type Options struct {
	Name      string         // of the module
	NoReplace bool           // leave patches that are active in place
	Rules     *elfdiff.Rules // nil: pkg/kernel's, with the entry sizes of the kernel
	Describe  string         // the text of modinfo's description
	Signer    *module.Signer // nil: not signed
	// Unchecked leaves out the proof that the originals are what the kernel runs.
	Unchecked bool
}

// Result is a module and all that was found on the way. On an error it holds what was found before.
type Result struct {
	Module      []byte           // signed, if it was to be
	Checked     []*runpre.Result // by pair: of the original object and the kernel; nil where that was left out
	Made        *module.Result
	Proof       *verify.Result
	Diagnostics []diag.Diagnostic // of all steps, sorted
}

// Module makes a module for a kernel. modules are the files of those modules that pairs belong to. The error is a
// *diag.Error with every reason against the module, or that of the context.
func Module(ctx context.Context, k *image.Kernel, modules []*image.Module, pairs []module.Pair, opts Options) (*Result, error) {
	r := &Result{}
	for _, p := range pairs {
		if p.Object != klp.Vmlinux && !slices.ContainsFunc(modules, func(m *image.Module) bool { return m.Name == p.Object }) {
			return r, r.refuse(diag.New(diag.KlpInit, diag.Place{File: p.Orig.Name}, "the file of module %s, which the object belongs to, was not given", p.Object))
		}
	}
	rules, err := sized(opts.Rules, k)
	if err != nil {
		return r, r.refuse(diag.New(diag.TableShape, diag.Place{File: k.Name}, "%v", err))
	}
	known, err := tablesOf(k, modules)
	if err != nil {
		return r, r.fail(err)
	}
	sources, err := r.check(ctx, k, modules, pairs, known, opts.Unchecked)
	if err != nil {
		return r, err
	}
	facts, notes, err := module.Of(k, modules, sources)
	if r.Diagnostics = append(r.Diagnostics, notes...); err != nil || diag.HasErrors(notes) {
		return r, r.fail(err)
	}
	r.Made, err = module.Build(ctx, pairs, facts, module.Options{Name: opts.Name, NoReplace: opts.NoReplace, Rules: rules, Describe: opts.Describe})
	if err != nil {
		err = r.fail(err)
		callers(r.Diagnostics, k)
		return r, err
	}
	r.Diagnostics = append(r.Diagnostics, r.Made.Diagnostics...)
	f, err := object.Parse(r.Made.Module, object.Options{Name: opts.Name + ".ko"})
	if err != nil {
		return r, r.fail(err)
	}
	if err := r.prove(ctx, f, r.Made.Pairs, facts, known, rules); err != nil {
		return r, err
	}
	if r.Diagnostics = append(r.Diagnostics, r.Proof.Findings...); r.Proof.Refuted() {
		return r, r.fail(nil)
	}
	r.Module = r.Made.Module
	if opts.Signer != nil {
		if r.Module, err = module.Sign(r.Module, opts.Signer); err != nil {
			return r, fmt.Errorf("signing the module: %w", err)
		}
	}
	diag.Sort(r.Diagnostics)
	return r, nil
}

// sized gives rules that know the sizes of the kernel's own table entries.
func sized(r *elfdiff.Rules, k *image.Kernel) (*elfdiff.Rules, error) {
	if r == nil {
		r = kernel.Rules()
	}
	out := *r
	out.Tables, out.Sizes = slices.Clip(r.Tables), slices.Clip(r.Sizes)
	known, sizes := k.EntrySizes(), make(map[string]int)
	for i := range r.Tables {
		if n, ok := known[r.Tables[i].Section]; ok {
			sizes[r.Tables[i].Section] = n
		}
	}
	return &out, kernel.SetSizes(&out, elfdiff.SizeTypes, sizes)
}

// tables has the symbols of kernel objects, by name.
type tables map[string]*symbols.Table

func tablesOf(k *image.Kernel, modules []*image.Module) (tables, error) {
	table, err := k.Table()
	if err != nil {
		return nil, err
	}
	out := tables{klp.Vmlinux: table}
	for _, m := range modules {
		out[m.Name] = m.Table()
	}
	return out, nil
}

// check holds the originals against the kernel, and gives what is known of symbols.
func (r *Result) check(ctx context.Context, k *image.Kernel, modules []*image.Module, pairs []module.Pair, known tables, skip bool) (map[string][]symbols.Source, error) {
	sources := make(map[string][]symbols.Source)
	for name, t := range known {
		sources[name] = []symbols.Source{t}
	}
	if skip {
		return sources, nil
	}
	done := make(map[*object.File]bool)
	for _, p := range pairs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if done[p.Orig] {
			r.Checked = append(r.Checked, nil)
			continue
		}
		done[p.Orig] = true
		var c *runpre.Result
		if p.Object == klp.Vmlinux {
			var err error
			if c, err = runpre.Check(p.Orig, k); err != nil {
				return nil, r.fail(err)
			}
		} else {
			i := slices.IndexFunc(modules, func(m *image.Module) bool { return m.Name == p.Object })
			c = runpre.CheckModule(p.Orig, modules[i])
		}
		r.Checked = append(r.Checked, c)
		r.Diagnostics = append(r.Diagnostics, c.Diagnostics...)
		sources[p.Object] = append(sources[p.Object], c.Located)
	}
	return sources, r.fail(nil)
}

// prove has a module proved at all levels. The pairs are complete.
func (r *Result) prove(ctx context.Context, f *object.File, pairs []module.Pair, facts *module.Kernel, known tables, rules *elfdiff.Rules) error {
	v := verify.Options{Symbols: make(map[string]verify.Symbols), Exports: facts.Symbols, Layout: facts.Layout, Vermagic: facts.Vermagic, CRC: facts.CRC}
	for name, t := range known {
		v.Symbols[name] = verify.Known{Names: verify.NamesOf(name, t), Oracle: facts.Symbols.Oracle(name)}
	}
	v.Rules = rules
	whole := make([]verify.Pair, len(pairs))
	for i, p := range pairs {
		whole[i] = verify.Pair(p)
	}
	var err error
	r.Proof, err = verify.Verify(ctx, f, whole, v)
	return err
}

// Verify proves a module, whoever made it, against a kernel and the pairs that it was made from (as the compiler
// left them, or complete). What was found is in the Result's Proof; the error is of a kernel or
// pair that cannot be used.
func Verify(ctx context.Context, k *image.Kernel, modules []*image.Module, f *object.File, pairs []module.Pair, opts Options) (*Result, error) {
	r := &Result{}
	rules, err := sized(opts.Rules, k)
	if err != nil {
		return r, r.refuse(diag.New(diag.TableShape, diag.Place{File: k.Name}, "%v", err))
	}
	known, err := tablesOf(k, modules)
	if err != nil {
		return r, r.fail(err)
	}
	sources, err := r.check(ctx, k, modules, pairs, known, opts.Unchecked)
	if err != nil {
		return r, err
	}
	facts, notes, err := module.Of(k, modules, sources)
	if r.Diagnostics = append(r.Diagnostics, notes...); err != nil || diag.HasErrors(notes) {
		return r, r.fail(err)
	}
	whole := make([]module.Pair, len(pairs))
	for i, p := range pairs {
		if whole[i], _, err = module.CompletePair(p, facts); err != nil {
			return r, r.fail(err)
		}
	}
	return r, r.prove(ctx, f, whole, facts, known, rules)
}

func (r *Result) refuse(d diag.Diagnostic) error {
	r.Diagnostics = append(r.Diagnostics, d)
	return r.fail(nil)
}

// fail adds an error to what was found, and gives all of it when there is an error in it.
func (r *Result) fail(err error) error {
	if e, ok := err.(*diag.Error); ok {
		r.Diagnostics = append(r.Diagnostics, e.Diagnostics...)
	} else if err != nil {
		return err
	}
	diag.Sort(r.Diagnostics)
	return diag.Refuse(r.Diagnostics)
}
