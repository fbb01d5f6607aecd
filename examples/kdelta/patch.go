package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/atomicfile"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/patch"
	"github.com/kdelta/kdelta/pkg/report"
)

// Exit codes of kdelta patch.
const (
	patchWritten = 0
	patchTrouble = 1
	patchRefused = 2
	patchNothing = 3
)

var patchCommand = &command{
	name:  "patch",
	args:  "[--object vmlinux|NAME] [--symbols none] [--format klp] [--json] [-v] ORIG PATCHED [[--object NAME] ORIG PATCHED]... -o OUT",
	short: "write a livepatch object with the functions that differ",
	long: `
Compares pairs of objects, decides about all of them together and writes one
relocatable object that holds the functions that differ, what they bring along,
and livepatch metadata in the kernel build's own intermediate form (6.19 and
later). OUT is written whole or not at all.

--object says which kernel object the pairs after it belong to. It may be given
again between pairs; before the first the object is vmlinux.

Exit code 0: written. 1: wrong usage, or a file that cannot be read or written.
2: not patchable; the diagnostics say why, and OUT is as it was. 3: nothing to
patch, and OUT is as it was.`,
	run: runPatch,
}

// pairArgs is a pair of files as the command line has it.
type pairArgs struct {
	object        string
	orig, patched string
}

type patchArgs struct {
	pairs   []pairArgs
	out     string
	json    bool
	verbose bool
}

func runPatch(e *env, c *command, args []string) int {
	e.trouble = patchTrouble
	a, err := parsePatch(e, c, args)
	if err != nil {
		if fail(err) == 0 {
			return patchWritten
		}
		return patchTrouble
	}
	r := &report.Patch{All: a.verbose}
	code := a.run(context.Background(), r)
	if a.json {
		e.fault = r.WriteJSON(e.out)
	} else {
		e.fault = r.WriteText(e.out)
	}
	ds := r.Diagnostics
	if !a.verbose {
		ds = slices.DeleteFunc(slices.Clone(ds), func(d diag.Diagnostic) bool { return d.Severity == diag.SevNote })
	}
	if !a.json || code != patchWritten {
		_ = report.WriteDiagnosticsText(e.err, ds, report.TextOptions{}) // nobody is left to tell
	}
	return code
}

func parsePatch(e *env, c *command, args []string) (*patchArgs, error) {
	a := &patchArgs{}
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.StringVar(&a.out, "o", "", "write the patch object to `OUT`")
	fs.BoolVar(&a.json, "json", false, "write the document "+report.PatchSchema+" to standard output (kdelta schema --patch prints its schema)")
	fs.BoolVar(&a.verbose, "v", false, "list every piece that the patch holds, and notes")
	only := func(name, value, text string) {
		fs.Func(name, text, func(s string) error {
			if s != value {
				return fmt.Errorf("not supported yet: only %q is", value)
			}
			return nil
		})
	}
	only("symbols", "none", "what is known of the running kernel's symbols: `none` (a name that is not unique in the original objects is refused)")
	only("format", "klp", "the form of the output: `klp`, upstream's intermediate")
	object, half := klp.Vmlinux, false // half: the PATCHED of the last pair is missing
	fs.Func("object", "the kernel object that the pairs after it belong to: `vmlinux|NAME`", func(s string) error {
		name := klp.ModuleName(s)
		switch {
		case name == "" || strings.ContainsAny(name, ", \t\n") || len(name) > 55:
			return fmt.Errorf("no name of a module")
		case half:
			return fmt.Errorf("between ORIG and PATCHED of one pair")
		}
		object = name
		return nil
	})
	err := c.parseEach(e, fs, args, func(arg string) {
		if half = !half; half {
			a.pairs = append(a.pairs, pairArgs{object: object, orig: arg})
		} else {
			a.pairs[len(a.pairs)-1].patched = arg
		}
	})
	switch {
	case err != nil:
		return nil, err
	case len(a.pairs) == 0:
		return nil, c.usageError(e, "no pair of objects")
	case half:
		return nil, c.usageError(e, fmt.Sprintf("%s has no PATCHED", a.pairs[len(a.pairs)-1].orig))
	case a.out == "":
		return nil, c.usageError(e, "no -o OUT")
	}
	return a, nil
}

// run makes the patch, fills in the report and gives the exit code.
func (a *patchArgs) run(ctx context.Context, r *report.Patch) int {
	trouble := func(err error, file string) int {
		r.Diagnostics = append(r.Diagnostics, findings(err, codeStopped, file)...)
		return patchTrouble
	}
	if err := a.overwrites(); err != nil {
		return trouble(err, a.out)
	}
	rules := kernel.Rules()
	r.Rules = rules.Version
	pairs := make([]patch.Pair, len(a.pairs))
	errs := make([][2]error, len(a.pairs))
	var wg sync.WaitGroup
	for i, p := range a.pairs {
		pairs[i].Object = p.object
		wg.Go(func() { pairs[i].Orig, errs[i][0] = load(ctx, p.orig, rules) })
		wg.Go(func() { pairs[i].Patched, errs[i][1] = load(ctx, p.patched, rules) })
	}
	wg.Wait()
	for i, p := range a.pairs {
		for side, name := range []string{p.orig, p.patched} {
			if errs[i][side] != nil {
				trouble(errs[i][side], name)
			}
		}
	}
	if len(r.Diagnostics) > 0 {
		return patchTrouble
	}
	for i := range pairs {
		d, err := elfdiff.Diff(ctx, pairs[i].Orig, pairs[i].Patched, nil)
		if err != nil {
			return trouble(err, a.pairs[i].patched)
		}
		pairs[i].Delta = d
	}
	plan, err := patch.New(ctx, pairs, patch.Options{})
	if err != nil {
		trouble(err, "")
		return verdict(r.Diagnostics)
	}
	r.Diagnostics = plan.Diagnostics
	data, err := plan.Bytes()
	if err != nil {
		return trouble(err, a.out)
	}
	if err := atomicfile.Write(a.out, data, 0o666); err != nil {
		d := diag.New(codeOutput, diag.Place{File: a.out}, "%v", err)
		d.Remedy = "Give a path that can be written."
		return trouble(d, a.out)
	}
	r.Contents, r.Output = plan.Contents(), report.Input{Name: a.out, Size: len(data)}
	return patchWritten
}

// codeOutput is the code of an output file that cannot be written.
const codeOutput diag.Code = "file-unwritable"

// overwrites refuses an output that is one of the inputs.
func (a *patchArgs) overwrites() error {
	out, err := os.Stat(a.out)
	if err != nil {
		return nil // not there, or writing it will say why
	}
	for _, p := range a.pairs {
		for _, name := range []string{p.orig, p.patched} {
			if in, err := os.Stat(name); err == nil && os.SameFile(in, out) {
				d := diag.New(codeOutput, diag.Place{File: a.out}, "is the input %s", name)
				d.Remedy = "Give another path to -o."
				return d
			}
		}
	}
	return nil
}

// verdict gives the exit code of a patch that was not made.
func verdict(ds []diag.Diagnostic) int {
	nothing := false
	for _, d := range ds {
		switch {
		case d.Severity != diag.SevError:
		case d.Code == diag.NothingChanged:
			nothing = true
		case d.Code == codeStopped:
			return patchTrouble
		default:
			return patchRefused
		}
	}
	if nothing {
		return patchNothing
	}
	return patchTrouble
}
