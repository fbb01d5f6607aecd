package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/examples/internal/cli"
	"github.com/kdelta/kdelta/pkg/debuginfo"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/digest"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/pkg/report"
)

// Exit codes of kdelta diff; exitTrouble is the third.
const (
	diffSame      = 0
	diffDifferent = 1
)

var diffCommand = &command{
	Name:  "diff",
	Args:  "[--json [--keys]] [--all] [--no-lines] [--pin ORIG=PATCHED]... ORIG PATCHED | --tree ORIGDIR PATCHEDDIR",
	Short: "say which functions and data differ between two builds of an object",
	Long: `
Compares two builds of one x86-64 ELF object and lists the functions and data
that are changed, new or removed, or differ by line numbers only, with causes.

Exit code 0: the same, or line numbers only. 1: different. 2: trouble; the
verdict is missing or cannot be relied on, and the diagnostics say why.

With --tree it compares the objects of two directories that have the same path
in both, several at a time, and writes a row for each as it comes, in the order
of paths, and a summary. An object that cannot be compared is a row, not the end
of the run; it makes the exit code 2.`,
	Run: runDiff,
}

// pins is the repeatable flag --pin.
type pins []elfdiff.Pin

func (p *pins) String() string { return "" }

func (p *pins) Set(s string) error {
	orig, patched, ok := strings.Cut(s, "=")
	if !ok || orig == "" || patched == "" {
		return fmt.Errorf("want ORIG=PATCHED, two symbol names")
	}
	*p = append(*p, elfdiff.Pin{Orig: orig, Patched: patched})
	return nil
}

func runDiff(e *env, c *command, args []string) int {
	fs := c.Flags()
	asJSON := fs.Bool("json", false, "write the document "+report.DiffSchema+" (kdelta schema prints its schema)")
	all := fs.Bool("all", false, "list unchanged functions and data too")
	noLines := fs.Bool("no-lines", false, "count line numbers like any other change")
	tree := fs.Bool("tree", false, "compare all objects (.o, .ko) of two directories; with --json as lines of "+report.TreeSchema)
	keys := fs.Bool("keys", false, "add to the JSON digests of the inputs, rules and options, and fingerprints of the listed functions")
	color := fs.Bool("color", false, "colour the text")
	var opts elfdiff.Options
	fs.Var((*pins)(&opts.Pins), "pin", "make two symbols a pair, by `ORIG=PATCHED`; may be repeated")
	names, err := c.Parse(e, fs, args, 2, 2)
	if err != nil {
		return cli.Fail(err)
	}
	opts.NoLines, opts.Brief = *noLines, !*all
	if *tree {
		opts.Brief = true
		return runTree(context.Background(), e, names[0], names[1], &opts, *asJSON, *all)
	}

	text := report.TextOptions{Color: *color}
	r, graphs, err := compare(context.Background(), names[0], names[1], &opts)
	if err != nil {
		ds := findings(err, codeStopped, "")
		if *asJSON {
			e.Fault = report.WriteDiagnosticsJSON(e.Out, ds)
		}
		_ = report.WriteDiagnosticsText(e.Err, ds, text) // nobody is left to tell
		return exitTrouble
	}
	r.All = *all
	if *keys && *asJSON {
		addKeys(r, graphs, &opts)
	}
	if *asJSON {
		e.Fault = r.WriteJSON(e.Out)
	} else {
		e.Fault = r.WriteText(e.Out, text)
	}
	switch {
	case diag.HasErrors(r.Delta.Diagnostics):
		return exitTrouble
	case !r.Delta.Same():
		return diffDifferent
	}
	return diffSame
}

// compare makes the whole way from two files to a report. Debug information is
// read when it has something to add, and both objects have it.
func compare(ctx context.Context, orig, patched string, opts *elfdiff.Options) (*report.Diff, [2]*elfdiff.Graph, error) {
	r, graphs, err := compareGraphs(ctx, orig, patched, opts)
	if err == nil && report.NeedsDebug(r.Delta) {
		a, b := debugInfos(graphs)
		r.AddDebug(graphs[0], graphs[1], a, b)
	}
	return r, graphs, err
}

// addKeys adds what a cache may be keyed on.
func addKeys(r *report.Diff, graphs [2]*elfdiff.Graph, opts *elfdiff.Options) {
	r.Digests = &report.Digests{Orig: digest.Bytes(graphs[0].File.Data), Patched: digest.Bytes(graphs[1].File.Data), Rules: digest.Rules(graphs[0].Rules), Options: digest.Options(opts)}
	r.Fingerprints = func(f *elfdiff.Function) (orig, patched string) {
		text := func(g *elfdiff.Graph, u elfdiff.UnitID) string {
			if u == 0 {
				return ""
			}
			p := g.Fingerprint(u)
			return hex.EncodeToString(p[:])
		}
		return text(graphs[0], f.Orig), text(graphs[1], f.Patched)
	}
}

// debugInfos gives the debug information of two objects; nil for both unless both have it.
func debugInfos(graphs [2]*elfdiff.Graph) (orig, patched *debuginfo.Info) {
	var infos [2]*debuginfo.Info
	for i, g := range graphs {
		if !report.HasDebug(g.File) {
			return nil, nil
		}
		info, err := debuginfo.Load(g.File.Data, debuginfo.Options{})
		if err != nil {
			return nil, nil // a kind of file that the comparison understands and this does not
		}
		infos[i] = info
	}
	return infos[0], infos[1]
}

// compareGraphs compares two files, and gives the graphs too.
func compareGraphs(ctx context.Context, orig, patched string, opts *elfdiff.Options) (*report.Diff, [2]*elfdiff.Graph, error) {
	rules := kernel.Rules()
	names := [2]string{orig, patched}
	var (
		graphs [2]*elfdiff.Graph
		errs   [2]error
		wg     sync.WaitGroup
	)
	for i := range names {
		wg.Go(func() { graphs[i], errs[i] = load(ctx, names[i], rules) })
	}
	wg.Wait()
	var ds []diag.Diagnostic
	for i, err := range errs {
		if err != nil {
			ds = append(ds, findings(err, codeStopped, names[i])...)
		}
	}
	if err := diag.Refuse(ds); err != nil {
		return nil, graphs, err
	}
	d, err := elfdiff.Diff(ctx, graphs[0], graphs[1], opts)
	if err != nil {
		return nil, graphs, err
	}
	input := func(g *elfdiff.Graph) report.Input {
		return report.Input{Name: g.File.Name, Size: len(g.File.Data)}
	}
	return &report.Diff{Delta: d, Orig: input(graphs[0]), Patched: input(graphs[1]), Rules: rules.Version, NoLines: opts.NoLines}, graphs, nil
}

// load reads and analyzes one object.
func load(ctx context.Context, name string, rules *elfdiff.Rules) (*elfdiff.Graph, error) {
	data, err := readInput(name)
	if err != nil {
		return nil, err
	}
	f, err := object.Parse(data, object.Options{Name: name, Alias: true}) // inputs stay until the program ends
	if err != nil {
		return nil, err
	}
	return elfdiff.Analyze(ctx, f, rules)
}
