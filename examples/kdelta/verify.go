package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/examples/internal/cli"
	"github.com/kdelta/kdelta/pkg/build"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/kernel/image"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/module"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/pkg/report"
	"github.com/kdelta/kdelta/pkg/verify"
	"github.com/kdelta/kdelta/symbols"
)

// Exit codes of kdelta verify.
const (
	verifyProved  = 0
	verifyTrouble = 1
	verifyRefuted = 2
)

var verifyCommand = &command{
	Name:  "verify",
	Args:  "PATCH [[--object vmlinux|NAME] --pair ORIG PATCHED]... [--symbols FILE]... [--symvers FILE]... [--kernel VMLINUZ [--target MOD.ko]... [--unchecked] [--cache DIR]] [--types FILE] [--entry-size SECTION=N]... [--json] [-v]",
	Short: "prove a finished livepatch object",
	Long: `
Reads a livepatch object or module back from its bytes and says what can be
proved of it, at three levels:

  structure   from the file alone: what the kernel's loader and livepatch core ask
  resolution  with --symbols and --symvers: each symbol that the patch asks for
              exists in its object at its position
  code        with --pair: all code, data, tables and references are those of the
              patched objects, and every function that differs is replaced

PATCH may be upstream's intermediate form, kpatch's, or a final module; the
original and the patched object of each pair are those it was made from. --object
says which kernel object the pairs and the symbols after it belong to.

For a finished module --kernel takes the place of --symbols and --symvers, and says
more: the image tells symbols, exports and their checksums, layouts and vermagic. Pairs
after --target belong to that module, whose file tells the same of it. Objects of kernels
that run objtool late are completed first, as kdelta module does, and the original ones
must be what the kernel runs (--unchecked leaves that out, also as there).

Exit code 0: nothing speaks against the patch, at the levels that were reached.
1: wrong usage, or a file that cannot be read. 2: refuted; the findings say why.`,
	Run: runVerify,
}

type verifyArgs struct {
	patch    string
	pairs    []pairArgs
	symbols  []symbolFile
	symvers  []string
	kernel   string
	cache    string
	opts     build.Options
	targets  []*image.Module
	json     bool
	verbose  bool
	types    []string // files with the kernel's types
	rules    *elfdiff.Rules
	findings []diag.Diagnostic
}

func parseVerify(e *env, c *command, args []string) (*verifyArgs, error) {
	a := &verifyArgs{}
	fs := c.Flags()
	fs.BoolVar(&a.json, "json", false, "write the document "+report.VerifySchema+" to standard output (kdelta schema --verify prints its schema)")
	fs.BoolVar(&a.verbose, "v", false, "print what each level covered")
	a.rules = kernel.Rules()
	entrySize(fs, a.rules)
	fs.Func("types", "the kernel's types, for the sizes of its tables' entries: `FILE` with BTF or DWARF", func(s string) error {
		a.types = append(a.types, s)
		return nil
	})
	fs.StringVar(&a.kernel, "kernel", "", "the image of the kernel that the module is for: `VMLINUZ`")
	fs.BoolVar(&a.opts.Unchecked, "unchecked", false, "do not hold the original objects against the kernel")
	fs.StringVar(&a.cache, "cache", "", "keep what images say in `DIR`")
	object, half := klp.Vmlinux, false // half: the PATCHED of the last pair is missing
	fs.Func("target", "the file of the module that the pairs after it belong to: `MOD.ko`", func(s string) error {
		if half {
			return errors.New("between ORIG and PATCHED of one pair")
		}
		m, err := readModule(s)
		if err != nil {
			return err
		}
		object, a.targets = m.Name, append(a.targets, m)
		return nil
	})
	fs.Func("object", "the kernel object that what comes after it belongs to: `vmlinux|NAME`", func(s string) error {
		if s = klp.ModuleName(s); s == "" || half {
			return fmt.Errorf("no name of a module, or between ORIG and PATCHED")
		}
		object = s
		return nil
	})
	fs.Func("pair", "an original object, `ORIG`, which the patched one follows", func(s string) error {
		if half {
			return fmt.Errorf("the pair before it has no PATCHED")
		}
		half = true
		a.pairs = append(a.pairs, pairArgs{object: object, orig: s})
		return nil
	})
	fs.Func("symbols", "what the kernel calls its symbols: `FILE` is a vmlinux, .ko, readelf -s, System.map or kallsyms", func(s string) error {
		a.symbols = append(a.symbols, symbolFile{s, object})
		return nil
	})
	fs.Func("symvers", "a Module.symvers, `FILE`", func(s string) error {
		a.symvers = append(a.symvers, s)
		return nil
	})
	extra := ""
	err := c.ParseEach(e, fs, args, func(arg string) {
		switch {
		case half:
			a.pairs[len(a.pairs)-1].patched, half = arg, false
		case a.patch == "":
			a.patch = arg
		default:
			extra = arg
		}
	})
	switch {
	case err != nil:
		return nil, err
	case a.patch == "":
		return nil, c.UsageError(e, "no PATCH")
	case half:
		return nil, c.UsageError(e, fmt.Sprintf("%s has no PATCHED", a.pairs[len(a.pairs)-1].orig))
	case a.kernel == "" && len(a.targets) > 0:
		return nil, c.UsageError(e, "--target without --kernel")
	case a.kernel == "" && a.opts.Unchecked:
		return nil, c.UsageError(e, "--unchecked without --kernel")
	case a.kernel != "" && len(a.symbols)+len(a.symvers) > 0:
		return nil, c.UsageError(e, "--kernel says what --symbols and --symvers say")
	case extra != "":
		return nil, c.UsageError(e, fmt.Sprintf("%s: objects are given with --pair ORIG PATCHED", extra))
	}
	return a, nil
}

func runVerify(e *env, c *command, args []string) int {
	e.trouble = verifyTrouble
	a, err := parseVerify(e, c, args)
	if err != nil {
		if cli.Fail(err) == 0 {
			return verifyProved
		}
		return verifyTrouble
	}
	r, err := a.run(context.Background())
	if err != nil {
		a.findings = append(a.findings, findings(err, codeStopped, a.patch)...)
	}
	code := verifyTrouble
	if r != nil {
		code = verifyProved
		if a.findings = append(a.findings, r.Findings...); diag.HasErrors(a.findings) {
			code = verifyRefuted
		}
	}
	diag.Sort(a.findings)
	doc := report.Verify{Patch: a.patch, Result: r, Diagnostics: a.findings, All: a.verbose}
	if a.json {
		e.Fault = doc.WriteJSON(e.Out)
		return code
	}
	e.Fault = doc.WriteText(e.Out)
	_ = report.WriteDiagnosticsText(e.Err, a.findings, report.TextOptions{}) // nobody is left to tell
	return code
}

// run reads everything and has the patch checked.
func (a *verifyArgs) run(ctx context.Context) (*verify.Result, error) {
	for _, name := range a.types {
		if err := readTypes(a.rules, name); err != nil {
			return nil, err
		}
	}
	p, err := readObject(a.patch)
	if err != nil {
		return nil, err
	}
	var pairs []verify.Pair
	var originals []*object.File
	var objects []string
	for _, x := range a.pairs {
		o, err := readObject(x.orig)
		if err != nil {
			return nil, err
		}
		q, err := readObject(x.patched)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, verify.Pair{Object: x.object, Orig: o, Patched: q})
		originals, objects = append(originals, o), append(objects, x.object)
	}
	if a.kernel != "" {
		return a.against(ctx, p, pairs)
	}
	var k knowledge
	for _, s := range a.symbols {
		if err := k.readSymbols(s); err != nil {
			return nil, err
		}
	}
	for _, s := range a.symvers {
		if err := k.readSymvers(s); err != nil {
			return nil, err
		}
	}
	set, ds := k.set(objects, originals)
	a.findings = append(a.findings, ds...)
	return verify.Verify(ctx, p, pairs, k.verifyOptions(set, a.rules))
}

// verifyOptions gives what is known of the kernel as a proof takes it.
func (k *knowledge) verifyOptions(set *symbols.Set, rules *elfdiff.Rules) verify.Options {
	opts := verify.Options{Symbols: map[string]verify.Symbols{}, Rules: rules}
	if len(k.symvers) > 0 {
		opts.Exports = set
	}
	for _, t := range k.tables {
		if _, ok := opts.Symbols[t.Object]; ok || t.Object == "" {
			continue
		}
		var oracle *symbols.Oracle
		if set != nil {
			oracle = set.Oracle(t.Object)
		}
		opts.Symbols[t.Object] = verify.Known{Names: verify.NamesOf(t.Object, k.tables...), Oracle: oracle}
	}
	return opts
}

// against checks a finished module with what the image of its kernel says.
func (a *verifyArgs) against(ctx context.Context, p *object.File, pairs []verify.Pair) (*verify.Result, error) {
	k, err := readKernel(a.kernel, a.cache)
	if err != nil {
		return nil, err
	}
	made := make([]module.Pair, len(pairs))
	for i := range pairs {
		made[i] = module.Pair(pairs[i])
	}
	a.opts.Rules = a.rules
	r, err := build.Verify(ctx, k, a.targets, p, made, a.opts)
	if err != nil {
		return nil, err
	}
	a.findings = append(a.findings, r.Diagnostics...)
	return r.Proof, nil
}

func readModule(path string) (*image.Module, error) {
	data, err := readInput(path)
	if err != nil {
		return nil, err
	}
	return image.ParseModule(data, image.Options{Name: path})
}

func readObject(path string) (*object.File, error) {
	data, err := readInput(path)
	if err != nil {
		return nil, err
	}
	return object.Parse(data, object.Options{Name: path})
}
