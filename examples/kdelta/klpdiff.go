package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kdelta/kdelta/examples/internal/cli"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/pkg/report"
)

// exitKlpDiff is how objtool says that something went wrong, whatever it is.
const exitKlpDiff = 255

var klpDiffCommand = &command{
	Name:  "klp-diff",
	Args:  "[-d] [--no-verify] ORIG PATCHED OUT",
	Short: "take the place of objtool klp diff",
	Long: `
Takes the arguments of objtool klp diff and writes the same intermediate form. The
objects need not have gone through objtool klp checksum.

The kernel object is that of the "name=" in ORIG's .modinfo, else of its file name
up to the first dot. For vmlinux.o the linked vmlinux beside ORIG says where symbols
lie; a module's symbols are counted in ORIG itself. Module.symvers is that of the
current directory.

Exit code 0: written, or nothing changed and there is no OUT. 255: anything else.`,
	Run: runKlpDiff,
}

func runKlpDiff(e *env, c *command, args []string) int {
	e.trouble = exitKlpDiff
	fs := c.Flags()
	var debug bool
	unproved := fs.Bool("no-verify", false, "write without the proof that kdelta verify gives")
	for _, name := range []string{"d", "debug", "debug-correlate", "debug-clone"} {
		fs.BoolVar(&debug, name, false, "print notes too")
	}
	arg, err := c.Parse(e, fs, args, 3, 3)
	if err != nil {
		if cli.Fail(err) == 0 {
			return 0
		}
		return exitKlpDiff
	}
	orig := arg[0]
	data, err := readInput(orig)
	if err == nil {
		var f *object.File
		if f, err = object.Parse(data, object.Options{Name: orig}); err == nil {
			return klpDiff(e, moduleOf(f, orig), arg, debug, *unproved)
		}
	}
	_ = report.WriteDiagnosticsText(e.Err, findings(err, codeStopped, orig), report.TextOptions{})
	return exitKlpDiff
}

func klpDiff(e *env, objectName string, arg []string, debug, unproved bool) int {
	a := &patchArgs{pairs: []pairArgs{{object: objectName, orig: arg[0], patched: arg[1]}}, out: arg[2], partial: true, rules: kernel.Rules(), unproved: unproved}
	a.symbols = []symbolFile{{arg[0], objectName}}
	if vmlinux := filepath.Join(filepath.Dir(arg[0]), klp.Vmlinux); objectName == klp.Vmlinux {
		if _, err := os.Stat(vmlinux); err == nil {
			a.symbols = []symbolFile{{vmlinux, objectName}}
		}
	}
	if _, err := os.Stat("Module.symvers"); err == nil {
		a.symvers = []string{"Module.symvers"}
	}
	r := &report.Patch{}
	code := a.run(context.Background(), r)
	for _, l := range functionLines(a) {
		fmt.Fprintf(e.Out, "%s: %s\n", arg[0], l)
	}
	var ds []diag.Diagnostic
	for _, d := range r.Diagnostics {
		if debug || d.Severity != diag.SevNote && d.Code != diag.NothingChanged {
			ds = append(ds, d)
		}
	}
	_ = report.WriteDiagnosticsText(e.Err, ds, report.TextOptions{})
	switch code {
	case patchWritten, patchNothing:
		return 0
	}
	return exitKlpDiff
}
