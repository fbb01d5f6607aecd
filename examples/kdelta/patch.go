package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/examples/internal/cli"
	"github.com/kdelta/kdelta/pkg/atomicfile"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/pkg/patch"
	"github.com/kdelta/kdelta/pkg/report"
	"github.com/kdelta/kdelta/pkg/verify"
	"github.com/kdelta/kdelta/symbols"
)

// Exit codes of kdelta patch.
const (
	patchWritten = 0
	patchTrouble = 1
	patchRefused = 2
	patchNothing = 3
)

var patchCommand = &command{
	Name:  "patch",
	Args:  "[--object vmlinux|NAME] [--symbols FILE|none] [--symvers FILE] [--format klp|kpatch] [--types FILE] [--entry-size SECTION=N]... [--no-verify] [--json] [-v] ORIG PATCHED [[--object NAME] ORIG PATCHED]... -o OUT",
	Short: "write a livepatch object with the functions that differ",
	Long: `
Compares pairs of objects, decides about all of them together and writes one
relocatable object that holds the functions that differ, what they bring along,
and livepatch metadata. OUT is written whole or not at all.

--object says which kernel object the pairs after it belong to. It may be given
again between pairs; before the first the object is vmlinux.

--symbols says what the running kernel calls its symbols: the linked vmlinux, a
module's .ko, what readelf -sW prints of either, System.map, or the text of
/proc/kallsyms; the kind is seen from the contents. It may be given several times;
what does not say itself which kernel object it is of belongs to that of the --object
before it. Sources that contradict each other are told. Without --symbols (or with
"none") a name has position 0 where the original object has it once, and is refused else.

--symvers is the kernel's Module.symvers: what it lists as exported by vmlinux stays an
ordinary reference, what modules export is left to the livepatch core, and what
nobody exports or defines is refused.

--format klp is the intermediate form of the kernel's own build (6.19 and later),
kpatch that of kpatch-build: link it with ld -r, then kdelta finalize.

What is about to be written is read back and proved, as kdelta verify does; what is
refuted is not written. --no-verify leaves that out.

--types gives the kernel's types: its vmlinuz or vmlinux with BTF, or any ELF file with DWARF
that has them. They tell how long the entries of the kernel's tables are; --entry-size says it by hand.

Exit code 0: written. 1: wrong usage, or a file that cannot be read or written.
2: not patchable; the diagnostics say why, and OUT is as it was. 3: nothing to
patch, and OUT is as it was.`,
	Run: runPatch,
}

// pairArgs is a pair of files as the command line has it.
type pairArgs struct {
	object        string
	orig, patched string
}

type patchArgs struct {
	pairs    []pairArgs
	out      string
	json     bool
	verbose  bool
	unproved bool // write without proof

	symbols []symbolFile
	symvers []string
	types   []string // files with the kernel's types
	format  elfdiff.Format
	partial bool
	late    bool
	rules   *elfdiff.Rules

	// What came of it.
	compared []patch.Pair
	plan     *patch.Plan // nil: there is no patch
}

func runPatch(e *env, c *command, args []string) int {
	e.trouble = patchTrouble
	a, err := parsePatch(e, c, args)
	if err != nil {
		if cli.Fail(err) == 0 {
			return patchWritten
		}
		return patchTrouble
	}
	r := &report.Patch{All: a.verbose}
	code := a.run(context.Background(), r)
	e.tell(r, a.json, code)
	return code
}

// tell reports a patch, or what stands against it.
func (e *env) tell(r *report.Patch, json bool, code int) {
	if json {
		e.Fault = r.WriteJSON(e.Out)
	} else {
		e.Fault = r.WriteText(e.Out)
	}
	ds := r.Diagnostics
	if !r.All {
		ds = slices.DeleteFunc(slices.Clone(ds), func(d diag.Diagnostic) bool { return d.Severity == diag.SevNote })
	}
	if !json || code != patchWritten {
		_ = report.WriteDiagnosticsText(e.Err, ds, report.TextOptions{}) // nobody is left to tell
	}
}

func parsePatch(e *env, c *command, args []string) (*patchArgs, error) {
	a := &patchArgs{}
	fs := c.Flags()
	fs.StringVar(&a.out, "o", "", "write the patch object to `OUT`")
	fs.BoolVar(&a.json, "json", false, "write the document "+report.PatchSchema+" to standard output (kdelta schema --patch prints its schema)")
	fs.BoolVar(&a.unproved, "no-verify", false, "write without the proof that kdelta verify gives")
	fs.BoolVar(&a.verbose, "v", false, "list every piece that the patch holds, and notes")
	a.rules = kernel.Rules()
	entrySize(fs, a.rules)
	fs.Func("types", "the kernel's types, for the sizes of its tables' entries: `FILE` with BTF or DWARF", func(s string) error {
		a.types = append(a.types, s)
		return nil
	})
	object, half := klp.Vmlinux, false // half: the PATCHED of the last pair is missing
	none := false
	fs.Func("symbols", "what is known of the running kernel's symbols: `FILE|none` (repeatable)", func(s string) error {
		if s == "none" {
			none = true
		} else {
			a.symbols = append(a.symbols, symbolFile{s, object})
		}
		if none && len(a.symbols) > 0 {
			return errors.New("none, and a file")
		}
		return nil
	})
	fs.Func("symvers", "the kernel's Module.symvers: `FILE` (repeatable)", func(s string) error {
		a.symvers = append(a.symvers, s)
		return nil
	})
	fs.Func("format", "the form of the output: `klp|kpatch`, upstream's intermediate (default) or kpatch's", func(s string) error {
		switch s {
		case "klp":
			a.format = elfdiff.FormatKlp
		case "kpatch":
			a.format = elfdiff.FormatKpatch
		default:
			return errors.New("neither klp nor kpatch")
		}
		return nil
	})
	fs.Func("object", "the kernel object that the pairs after it belong to: `vmlinux|NAME`", func(s string) error {
		name := klp.ModuleName(s)
		switch what := unnamable(name); {
		case what != "":
			return errors.New(what)
		case half:
			return fmt.Errorf("between ORIG and PATCHED of one pair")
		}
		object = name
		return nil
	})
	err := c.ParseEach(e, fs, args, func(arg string) {
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
		return nil, c.UsageError(e, "no pair of objects")
	case half:
		return nil, c.UsageError(e, fmt.Sprintf("%s has no PATCHED", a.pairs[len(a.pairs)-1].orig))
	case a.out == "":
		return nil, c.UsageError(e, "no -o OUT")
	}
	return a, nil
}

// run makes the patch, fills in the report and gives the exit code.
func (a *patchArgs) run(ctx context.Context, r *report.Patch) int {
	trouble := func(err error, file string) int {
		r.Diagnostics = append(r.Diagnostics, findings(err, codeStopped, file)...)
		return patchTrouble
	}
	if err := overwrites(a.out, a.inputs()...); err != nil {
		return trouble(err, a.out)
	}
	r.Rules = a.rules.Version
	for _, name := range a.types {
		if err := readTypes(a.rules, name); err != nil {
			return trouble(err, name)
		}
	}
	pairs := make([]patch.Pair, len(a.pairs))
	errs := make([][2]error, len(a.pairs))
	var wg sync.WaitGroup
	for i, p := range a.pairs {
		pairs[i].Object = p.object
		wg.Go(func() { pairs[i].Orig, errs[i][0] = load(ctx, p.orig, a.rules) })
		wg.Go(func() { pairs[i].Patched, errs[i][1] = load(ctx, p.patched, a.rules) })
	}
	wg.Wait()
	for i, p := range a.pairs {
		for side, name := range []string{p.orig, p.patched} {
			if errs[i][side] != nil {
				trouble(errs[i][side], name)
			}
		}
	}
	var k knowledge
	for _, s := range a.symbols {
		if err := k.readSymbols(s); err != nil {
			trouble(err, s.path)
		}
	}
	for _, s := range a.symvers {
		if err := k.readSymvers(s); err != nil {
			trouble(err, s)
		}
	}
	if len(r.Diagnostics) > 0 {
		return patchTrouble
	}
	var objects []string
	var originals []*object.File
	for i := range pairs {
		if !slices.Contains(objects, pairs[i].Object) {
			objects = append(objects, pairs[i].Object)
		}
		originals = append(originals, pairs[i].Orig.File)
	}
	set, notes := k.set(objects, originals)
	if diag.HasErrors(notes) {
		r.Diagnostics = notes
		return patchTrouble
	}
	for i := range pairs {
		d, err := elfdiff.Diff(ctx, pairs[i].Orig, pairs[i].Patched, &elfdiff.Options{Brief: true})
		if err != nil {
			return trouble(err, a.pairs[i].patched)
		}
		pairs[i].Delta = d
	}
	a.compared = pairs
	plan, err := patch.New(ctx, pairs, patch.Options{Format: a.format, Symbols: set, Partial: a.partial, LateKlp: a.late})
	r.Diagnostics = notes
	if err != nil {
		trouble(err, "")
		return verdict(r.Diagnostics)
	}
	a.plan = plan
	r.Diagnostics = append(r.Diagnostics, plan.Diagnostics...)
	data, err := plan.Bytes()
	if err != nil {
		return trouble(err, a.out)
	}
	if !a.unproved {
		ds, err := a.prove(ctx, data, pairs, &k, set)
		if err != nil {
			return trouble(err, a.out)
		}
		if r.Diagnostics = append(r.Diagnostics, ds...); diag.HasErrors(ds) {
			return patchRefused
		}
	}
	if err := writeOutput(a.out, data); err != nil {
		return trouble(err, a.out)
	}
	r.Contents, r.Output = plan.Contents(), report.Input{Name: a.out, Size: len(data)}
	return patchWritten
}

// prove reads the patch back from its bytes and gives what speaks against it. Objects
// of the same patch that are not seen may define what this one leaves undefined.
func (a *patchArgs) prove(ctx context.Context, data []byte, pairs []patch.Pair, k *knowledge, set *symbols.Set) ([]diag.Diagnostic, error) {
	f, err := object.Parse(data, object.Options{Name: a.out})
	if err != nil {
		return nil, err
	}
	opts := k.verifyOptions(set, a.rules)
	opts.Part = a.partial
	vp := make([]verify.Pair, len(pairs))
	for i, p := range pairs {
		vp[i] = verify.Pair{Object: p.Object, Orig: p.Orig.File, Patched: p.Patched.File}
	}
	r, err := verify.Verify(ctx, f, vp, opts)
	if err != nil {
		return nil, err
	}
	for i := range r.Findings {
		if r.Findings[i].Severity != diag.SevError {
			r.Findings[i].Severity = diag.SevNote // kdelta verify warns of what it cannot prove
		}
	}
	return r.Findings, nil
}

// entrySize makes the repeatable flag --entry-size, which adds to rules.
func entrySize(fs *flag.FlagSet, rules *elfdiff.Rules) {
	fs.Func("entry-size", "how many bytes an entry of a kernel table has: `SECTION=N` (repeatable)", func(s string) error {
		section, num, _ := strings.Cut(s, "=")
		n, err := strconv.ParseUint(num, 10, 16)
		if err != nil || section == "" {
			return errors.New("want SECTION=N, such as __bug_table=12")
		}
		return kernel.SetSizes(rules, elfdiff.SizeCaller, map[string]int{section: int(n)})
	})
}

// codeOutput is the code of an output file that cannot be written.
const codeOutput diag.Code = "file-unwritable"

// inputs lists all files that are read.
func (a *patchArgs) inputs() []string {
	names := slices.Concat(a.symvers, a.types)
	for _, p := range a.pairs {
		names = append(names, p.orig, p.patched)
	}
	for _, s := range a.symbols {
		names = append(names, s.path)
	}
	return names
}

// overwrites refuses an output that is one of the inputs.
func overwrites(path string, inputs ...string) error {
	out, err := os.Stat(path)
	if err != nil {
		return nil // not there, or writing it will say why
	}
	for _, name := range inputs {
		if in, err := os.Stat(name); err == nil && os.SameFile(in, out) {
			return unwritable(path, "Give another path.", fmt.Errorf("is the input %s", name))
		}
	}
	return nil
}

// writeOutput writes a file whole or not at all, and only when the inputs are still what was read.
func writeOutput(path string, data []byte) error {
	if err := unchanged(); err != nil {
		return err
	}
	if err := atomicfile.Write(path, data, 0o666); err != nil {
		return unwritable(path, "Give a path that can be written.", err)
	}
	forget()
	return nil
}

func unwritable(path, remedy string, err error) error {
	d := diag.New(codeOutput, diag.Place{File: path}, "%v", err)
	d.Remedy = remedy
	return d
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
