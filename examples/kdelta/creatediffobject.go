package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/examples/internal/cli"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/report"
)

// exitUsage is how create-diff-object says that its arguments are wrong (EX_USAGE).
const exitUsage = 64

var createDiffObjectCommand = &command{
	Name:  "create-diff-object",
	Args:  "[-d] [-a] [--no-verify] ORIG PATCHED PARENT SYMTAB SYMVERS NAME OUT",
	Short: "take the place of kpatch's program of that name",
	Long: `
Takes the arguments, prints the lines and gives the exit codes of kpatch's
create-diff-object, and writes kpatch's intermediate form.

PARENT is vmlinux or the name of the module that the objects belong to, SYMTAB
what readelf -s --wide prints of it (System.map, kallsyms text and the ELF file itself
are taken too), SYMVERS the Module.symvers (/dev/null: not known). NAME is not used.

The sizes of the kernel's structures come from the environment, as kpatch-build sets
them: ALT_STRUCT_SIZE, BUG_STRUCT_SIZE, EX_STRUCT_SIZE, JUMP_STRUCT_SIZE,
PARA_STRUCT_SIZE and STATIC_CALL_STRUCT_SIZE. Where they are not set, or do not fit
the objects, the sizes that kernels have had are tried.

Exit code 0: written. 1: error. 2: not patchable. 3: nothing changed, and there
is no OUT. 64: wrong usage.`,
	Run: runCreateDiffObject,
}

func runCreateDiffObject(e *env, c *command, args []string) int {
	e.trouble = patchTrouble
	fs := c.Flags()
	var debug, arch bool
	for _, name := range []string{"d", "debug"} {
		fs.BoolVar(&debug, name, false, "print notes too")
	}
	for _, name := range []string{"a", "klp-arch"} {
		fs.BoolVar(&arch, name, false, "for kernels before 5.8, which resolve symbols after they have read the patch's tables")
	}
	unproved := fs.Bool("no-verify", false, "write without the proof that kdelta verify gives")
	arg, err := c.Parse(e, fs, args, 7, 7)
	if err != nil {
		if cli.Fail(err) == 0 {
			return 0
		}
		return exitUsage
	}
	_, child, found := strings.Cut(arg[0], "/")
	if !found {
		child = arg[0]
	}
	parent := klp.ModuleName(arg[2])
	if what := unnamable(parent); what != "" {
		fmt.Fprintf(e.Err, "ERROR: %s: %s: %s\n", child, arg[2], what)
		return patchTrouble
	}
	rules, err := structSizes(kernel.Rules(), os.LookupEnv)
	if err != nil {
		fmt.Fprintf(e.Err, "ERROR: %s: %v\n", child, err)
		return patchTrouble
	}
	a := &patchArgs{
		pairs: []pairArgs{{object: parent, orig: arg[0], patched: arg[1]}}, out: arg[6], format: elfdiff.FormatKpatch,
		symbols: []symbolFile{{arg[3], parent}}, symvers: []string{arg[4]}, partial: true, late: arch, rules: rules, unproved: *unproved,
	}
	r := &report.Patch{}
	code := a.run(context.Background(), r)
	for _, l := range append(macroLines(a), functionLines(a)...) {
		fmt.Fprintf(e.Out, "%s: %s\n", child, l)
	}
	errs := 0
	for _, d := range r.Diagnostics {
		switch {
		case d.Severity == diag.SevError && d.Code != diag.NothingChanged:
			errs++
			fmt.Fprintf(e.Err, "ERROR: %s: %v\n", child, d)
			if d.Remedy != "" {
				fmt.Fprintf(e.Err, "    remedy: %s\n", d.Remedy)
			}
		case d.Severity == diag.SevWarning:
			fmt.Fprintf(e.Err, "WARNING: %s: %v\n", child, d)
		case debug:
			fmt.Fprintf(e.Out, "%s: %v\n", child, d)
		}
	}
	if code == patchRefused {
		fmt.Fprintf(e.Err, "ERROR: %s: %d unsupported change(s)\ncreate-diff-object: unreconcilable difference\n", child, errs)
	}
	return code
}

// macroLines gives the lines about callbacks and forced functions, in the order of their macros' sections.
func macroLines(a *patchArgs) []string {
	var out []string
	if a.plan == nil {
		return out
	}
	c := a.plan.Contents()
	for _, x := range c.Callbacks {
		out = append(out, "found callback: "+x.Name)
	}
	for _, name := range c.Forced {
		out = append(out, "function '"+name+"' marked with KPATCH_FORCE_UNSAFE!")
	}
	return out
}

// functionLines gives the lines about functions, in the order of the patched object's symbols.
func functionLines(a *patchArgs) []string {
	type line struct {
		order int
		text  string
	}
	var lines []line
	for _, pr := range a.compared {
		included := map[string]bool{}
		if a.plan != nil {
			for _, f := range a.plan.Contents().Functions {
				included[f.Name+" "+f.Section] = true
			}
		}
		for i := range pr.Delta.Functions {
			f := &pr.Delta.Functions[i]
			if f.Patched == 0 {
				continue
			}
			at := &pr.Patched.Atoms[pr.Patched.Units[f.Patched].Main]
			name := cmp.Or(f.OrigName, f.Name)
			switch {
			case slices.ContainsFunc(f.Causes, func(c elfdiff.Cause) bool { return c.Kind == elfdiff.CauseIgnored }):
				lines = append(lines, line{int(at.Sym), "ignoring function: " + name})
			case f.Status == elfdiff.Changed:
				lines = append(lines, line{int(at.Sym), "changed function: " + name})
			case f.Status == elfdiff.New && included[f.Name+" "+f.Section]:
				lines = append(lines, line{int(at.Sym), "new function: " + name})
			}
		}
	}
	slices.SortStableFunc(lines, func(x, y line) int { return cmp.Compare(x.order, y.order) })
	var out []string
	for _, l := range lines {
		out = append(out, l.text)
	}
	return out
}

// structSizes makes the sizes in kpatch's variables known to the rules.
func structSizes(r *elfdiff.Rules, lookup func(string) (string, bool)) (*elfdiff.Rules, error) {
	for _, v := range []struct{ name, section string }{
		{"ALT_STRUCT_SIZE", ".altinstructions"}, {"BUG_STRUCT_SIZE", "__bug_table"}, {"EX_STRUCT_SIZE", "__ex_table"},
		{"JUMP_STRUCT_SIZE", "__jump_table"}, {"PARA_STRUCT_SIZE", ".parainstructions"}, {"STATIC_CALL_STRUCT_SIZE", ".static_call_sites"},
	} {
		s, ok := lookup(v.name)
		if !ok || s == "" {
			continue
		}
		n, err := strconv.ParseUint(s, 10, 12)
		if err == nil {
			err = kernel.SetSizes(r, elfdiff.SizeCaller, map[string]int{v.section: int(n)})
		}
		if err != nil {
			return nil, fmt.Errorf("%s=%s is not a size", v.name, s)
		}
	}
	return r, nil
}
