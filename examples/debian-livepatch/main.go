// Command debian-livepatch makes a loadable livepatch for a Debian kernel from source patches.
//
//	debian-livepatch --release 6.1.0-50-amd64 --patch fix.patch -o fix.ko
//
// It needs the kernel's packages (fetched with apt, nothing is installed), make and
// the compiler that the kernel was built with. Only the files that the patch
// can matter to are compiled, before and after. The module is written without kbuild's
// link steps, from the distribution's image and the objects.
package main

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/kdelta/kdelta/examples/internal/cli"
	"github.com/kdelta/kdelta/pkg/atomicfile"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/report"
)

// Exit codes, those of kdelta patch.
const (
	exitWritten = 0
	exitTrouble = 1
	exitRefused = 2
	exitNothing = 3
)

const help = `usage: debian-livepatch --release RELEASE --patch FILE [--patch FILE]... -o OUT.ko [flags]

Makes one livepatch module for a Debian kernel from patches of its source.

RELEASE is what uname -r prints where the module is to be loaded. The packages of
that kernel come from apt, or from a folder (--packages). Nothing is
installed; what is fetched, unpacked and compiled stays in --work, and an
interrupted run goes on where it was.

Exit code 0: written. 1: wrong usage, a missing package or program, a file that
cannot be read or written. 2: no patch can be made; the diagnostics say why. 3: the
change makes no difference to the kernel's code.

flags:
`

// options are the command line.
type options struct {
	release  string
	patches  []string
	out      string
	name     string
	work     string
	packages string
	signKey  string
	signCert string
	json     bool
	schema   bool
	quiet    bool
	keep     string
	jobs     int
	limit    int
}

// schema describes what --json prints.
//
//go:embed debian-livepatch-v1.json
var schema []byte

// document is what --json prints.
type document struct {
	Schema      string          `json:"schema"`
	Release     string          `json:"release"`
	Version     string          `json:"version"`
	Patches     []string        `json:"patches"`
	Objects     []built         `json:"objects"`
	Replaced    []replaced      `json:"replaced"`
	Output      string          `json:"output"`
	Size        int             `json:"size"`
	Signed      bool            `json:"signed"`
	Exit        int             `json:"exit"`
	Steps       []step          `json:"steps"`
	Diagnostics json.RawMessage `json:"diagnostics"`
}

// replaced is a function that the module replaces.
type replaced struct {
	Object   string `json:"object"`
	Function string `json:"function"`
	Position uint64 `json:"position"`
}

func main() {
	os.Exit(run(atomicfile.CancelOnSignal(), os.Args[1:], os.Stdout, os.Stderr))
}

func parseArgs(args []string, stderr io.Writer) (*options, error) {
	o := &options{}
	fs := flag.NewFlagSet("debian-livepatch", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() { fmt.Fprint(stderr, help); fs.PrintDefaults() }
	fs.StringVar(&o.release, "release", "", "the kernel's `RELEASE` (uname -r)")
	fs.Func("patch", "a patch of its source: `FILE` (repeatable, applied in order)", func(s string) error {
		o.patches = append(o.patches, s)
		return nil
	})
	fs.StringVar(&o.out, "o", "", "write the module to `OUT.ko`")
	fs.StringVar(&o.name, "name", "", "the module's `NAME` (default: that of OUT.ko)")
	fs.StringVar(&o.work, "work", "", "the cache's `DIR` (default: in the user's cache folder)")
	fs.StringVar(&o.packages, "packages", "", "take the kernel's packages, or what was unpacked of them, from `DIR` instead of apt")
	fs.StringVar(&o.signKey, "sign-key", "", "sign with this private key: `FILE` (PEM)")
	fs.StringVar(&o.signCert, "sign-cert", "", "and this certificate: `FILE` (PEM or DER)")
	fs.BoolVar(&o.json, "json", false, "write a document "+documentSchema+" to standard output")
	fs.BoolVar(&o.schema, "schema", false, "print the schema of that document, and do nothing else")
	fs.BoolVar(&o.quiet, "q", false, "say nothing of steps and their time")
	fs.StringVar(&o.keep, "objects", "", "copy the objects before and after to `DIR`")
	fs.IntVar(&o.jobs, "j", runtime.NumCPU(), "compile `N` objects at once")
	fs.IntVar(&o.limit, "max-objects", 500, "refuse a change of a header that can matter to more than `N` objects")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if o.schema {
		return o, nil
	}
	bad := ""
	switch {
	case fs.NArg() > 0:
		bad = fmt.Sprintf("unexpected argument %q", fs.Arg(0))
	case o.release == "":
		bad = "no --release"
	case len(o.patches) == 0:
		bad = "no --patch"
	case o.out == "":
		bad = "no -o OUT.ko"
	case (o.signKey == "") != (o.signCert == ""):
		bad = "--sign-key and --sign-cert go together"
	case o.jobs < 1 || o.limit < 1:
		bad = "-j and --max-objects count from 1"
	}
	if bad == "" {
		if err := checkRelease(o.release); err != nil {
			bad = err.Error()
		}
	}
	if bad != "" {
		fmt.Fprintf(stderr, "debian-livepatch: %s\nusage: debian-livepatch --release RELEASE --patch FILE... -o OUT.ko\ndebian-livepatch --help says more.\n", bad)
		return nil, errors.New(bad)
	}
	if o.name == "" {
		o.name = klp.ModuleName(o.out)
	}
	return o, nil
}

const documentSchema = "kdelta.debian-livepatch/v1"

func run(ctx context.Context, args []string, stdout, stderr *os.File) int {
	o, err := parseArgs(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitWritten
	case err == nil && o.schema:
		if _, err := stdout.Write(schema); err != nil {
			fmt.Fprintf(stderr, "debian-livepatch: write output: %v\n", err)
			return exitTrouble
		}
		return exitWritten
	case err != nil:
		return exitTrouble
	}
	doc := &document{Schema: documentSchema, Release: o.release, Patches: o.patches}
	t := &tools{cpu: make(map[string]float64)}
	prog := newProgress(stderr, t)
	ds, err := o.run(ctx, doc, t, prog)
	ds = append(ds, findings(err)...)
	diag.Sort(ds)
	doc.Exit, doc.Steps = exitCode(ds), prog.steps
	if doc.Exit == exitWritten && doc.Output == "" {
		doc.Exit = exitTrouble
	}
	out := bufio.NewWriter(stdout)
	if o.json {
		err = doc.write(out, ds)
	} else {
		err = doc.text(out, o.quiet)
		_ = report.WriteDiagnosticsText(stderr, ds, report.TextOptions{Color: prog.w != nil}) // nobody is left to tell
	}
	if err = errors.Join(err, out.Flush()); err != nil {
		fmt.Fprintf(stderr, "debian-livepatch: write output: %v\n", err)
		return exitTrouble
	}
	return doc.Exit
}

// exitCode is what the diagnostics come to.
func exitCode(ds []diag.Diagnostic) int {
	nothing, refused := false, false
	for _, d := range ds {
		switch {
		case d.Severity != diag.SevError:
		case d.Code == diag.NothingChanged:
			nothing = true
		case slices.Contains(trouble, d.Code):
			return exitTrouble
		default:
			refused = true
		}
	}
	switch {
	case refused:
		return exitRefused
	case nothing:
		return exitNothing
	}
	return exitWritten
}

// run does everything; what it finds out goes into doc as it is known.
func (o *options) run(ctx context.Context, doc *document, t *tools, prog *progress) ([]diag.Diagnostic, error) {
	var notes []diag.Diagnostic
	w, unlock, err := o.workspace(ctx, t, prog)
	if err != nil {
		return nil, err
	}
	defer unlock()
	sign, err := o.signer()
	if err != nil {
		return nil, err
	}
	var changes []change
	for _, name := range o.patches {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, failure(codeFile, diag.Place{File: name}, "Give the path of a file that can be read.", "cannot read the patch: %v", err)
		}
		cs, ds := parsePatch(name, text)
		changes, notes = append(changes, cs...), append(notes, ds...)
	}
	if diag.HasErrors(notes) {
		return notes, nil
	}
	if len(changes) == 0 {
		return notes, failure(diag.NothingChanged, diag.Place{}, "", "no patch changes a file of the kernel's code")
	}

	var k *target
	err = prog.step("packages", func() (bool, string, error) {
		version := w.unpacked(o.release)
		cached := version != ""
		if !cached {
			p, files, err := w.fetch(ctx, o.release)
			if err != nil {
				return false, "", err
			}
			version = p.Version
			if err := w.unpack(ctx, p, files); err != nil {
				return false, "", err
			}
		}
		var err error
		k, err = w.open(ctx, o.release, version)
		return cached, "linux " + version, err
	})
	if err != nil {
		return notes, err
	}
	doc.Version = k.version

	var p *patched
	var sel *selection
	err = prog.step("affected files", func() (bool, string, error) {
		var err error
		if p, err = applyAll(changes, k.read); err != nil {
			return false, "", err
		}
		var cached bool
		sel, cached, err = w.choose(ctx, k, p, o.limit)
		if err != nil {
			return false, "", err
		}
		detail := fmt.Sprintf("%d", len(sel.sources))
		if sel.tried > 0 {
			detail += fmt.Sprintf(" of %d C files that include the change", sel.tried)
		}
		return cached, detail, nil
	})
	if err != nil {
		return notes, err
	}
	notes = append(notes, p.notes...)
	if len(sel.sources) == 0 {
		return notes, failure(diag.NothingChanged, diag.Place{}, "", "no object of the kernel uses what the patch changes")
	}

	var objs []built
	var cmds map[string]command
	err = prog.step("commands", func() (cached bool, detail string, err error) {
		cmds, cached, _, err = k.commands(ctx, t, sel.sources)
		if err != nil {
			return false, "", err
		}
		for _, s := range sel.sources {
			if _, ok := cmds[s]; !ok {
				return false, "", failure(codeNotBuilt, diag.Place{File: s}, "", "kbuild has no command for it")
			}
		}
		objs, err = k.place(cmds, sel.sources)
		return cached, "", err
	})
	if err != nil {
		return notes, err
	}
	for i := range objs {
		objs[i].header = sel.header[objs[i].Source]
	}

	err = prog.step("compile", func() (bool, string, error) {
		prog.begin("compile", 2*len(objs))
		cached, err := w.compileAll(ctx, k, objs, cmds, p)
		return cached, fmt.Sprintf("%d objects", 2*len(objs)), err
	})
	if err != nil {
		return notes, err
	}
	doc.Objects = objs
	if o.keep != "" {
		if err := keepObjects(o.keep, objs); err != nil {
			return notes, err
		}
	}
	more, err := o.finish(ctx, w, k, objs, sign, doc)
	return append(notes, more...), err
}

// workspace opens the cache and keeps other runs out of it.
func (o *options) workspace(ctx context.Context, t *tools, prog *progress) (*workspace, func(), error) {
	dir := o.work
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return nil, nil, failure(codeUsage, diag.Place{}, "Give one with --work.", "no cache folder: %v", err)
		}
		dir = filepath.Join(base, "debian-livepatch")
	}
	fail := func(err error) (*workspace, func(), error) {
		return nil, nil, failure(codeOutput, diag.Place{File: dir}, "Give a folder that can be written with --work.", "cannot use the cache: %v", err)
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fail(err)
	}
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir) // what the compiler read is compared with it
	}
	if err != nil {
		return fail(err)
	}
	if err := checkPath(dir); err != nil {
		return nil, nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return fail(err)
	}
	err = lockFile(ctx, lock, func() { prog.begin("waiting for another run in "+dir, -1) })
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	if err != nil {
		return fail(err)
	}
	given := o.packages
	if given != "" {
		if given, err = filepath.Abs(given); err != nil {
			return fail(err)
		}
	}
	w := &workspace{store: store{dir}, tools: t, prog: prog, jobs: o.jobs, given: given}
	return w, func() { lock.Close() }, nil
}

// keepObjects copies the objects under names that say what they are.
func keepObjects(dir string, objs []built) error {
	for _, b := range objs {
		name := strings.ReplaceAll(strings.TrimSuffix(b.Source, ".c"), "/", "_")
		for ext, from := range map[string]string{".ORIG.o": b.orig, ".PATCHED.o": b.patched} {
			data, err := os.ReadFile(from)
			if err == nil {
				err = store{dir}.put(name+ext, data)
			}
			if err != nil {
				return failure(codeOutput, diag.Place{File: dir}, "Give a folder that can be written.", "%v", err)
			}
		}
	}
	return nil
}

func (d *document) write(w io.Writer, ds []diag.Diagnostic) error {
	var b strings.Builder
	if err := report.WriteDiagnosticsJSON(&b, ds); err != nil {
		return err
	}
	var list struct{ Diagnostics json.RawMessage }
	if err := json.Unmarshal([]byte(b.String()), &list); err != nil {
		return err
	}
	d.Diagnostics = list.Diagnostics
	d.Objects, d.Steps, d.Replaced = cli.List(d.Objects), cli.List(d.Steps), cli.List(d.Replaced)
	return cli.WriteJSON(w, d)
}

func (d *document) text(w io.Writer, quiet bool) error {
	for _, r := range d.Replaced {
		fmt.Fprintf(w, "replaces  %s:%s,%d\n", r.Object, r.Function, r.Position)
	}
	if d.Output != "" {
		signed := "unsigned"
		if d.Signed {
			signed = "signed"
		}
		fmt.Fprintf(w, "%s: %d bytes, %s, for %s (linux %s)\n", d.Output, d.Size, signed, d.Release, d.Version)
	}
	if quiet {
		return nil
	}
	fmt.Fprintln(w)
	return writeSteps(w, d.Steps)
}
