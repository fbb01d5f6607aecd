package main

import (
	"context"
	"errors"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/examples/internal/cli"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/report"
)

// codeSymbol is the code of a name that neither object has.
const codeSymbol diag.Code = "symbol-unknown"

var explainCommand = &command{
	Name:  "explain",
	Args:  "[--json] [--no-lines] [--pin ORIG=PATCHED]... ORIG PATCHED SYMBOL",
	Short: "say why a function or variable has its verdict",
	Long: `
Compares two builds of one object as diff does and explains one function or
variable: what it was compared with and why, each cause with both disassemblies
around the first instruction that differs, table entries, old and new bytes, and
for what is equal what was proved. Where the objects have debug information it
adds source lines, inlined functions and structures whose layout differs.

SYMBOL is a name in either object, an alias, the name of a part (f.cold), the
readable form of a mangled name with or without parameters, or FILE:NAME where
several things have the name.

Exit code 0: the same, or line numbers only. 1: different. 2: trouble; there is
no such symbol, or the objects cannot be compared.`,
	Run: runExplain,
}

func runExplain(e *env, c *command, args []string) int {
	fs := c.Flags()
	asJSON := fs.Bool("json", false, "write the document "+report.ExplainSchema)
	noLines := fs.Bool("no-lines", false, "count line numbers like any other change")
	color := fs.Bool("color", false, "colour the text")
	var opts elfdiff.Options
	fs.Var((*pins)(&opts.Pins), "pin", "make two symbols a pair, by `ORIG=PATCHED`; may be repeated")
	names, err := c.Parse(e, fs, args, 3, 3)
	if err != nil {
		return cli.Fail(err)
	}
	opts.NoLines = *noLines

	text := report.TextOptions{Color: *color}
	x, r, err := explain(names, &opts)
	if err != nil {
		ds := findings(err, codeStopped, "")
		if *asJSON {
			e.Fault = report.WriteExplainDiagnosticsJSON(e.Out, ds)
		}
		_ = report.WriteDiagnosticsText(e.Err, ds, text) // nobody is left to tell
		return exitTrouble
	}
	if *asJSON {
		e.Fault = x.WriteJSON(e.Out)
	} else {
		e.Fault = x.WriteText(e.Out, text)
	}
	switch {
	case diag.HasErrors(r.Delta.Diagnostics):
		_ = report.WriteDiagnosticsText(e.Err, r.Delta.Diagnostics, text)
		return exitTrouble
	case !x.Same:
		return diffDifferent
	}
	return diffSame
}

// explain compares two files and explains a symbol.
func explain(names []string, opts *elfdiff.Options) (*report.Explanation, *report.Diff, error) {
	r, graphs, err := compareGraphs(context.Background(), names[0], names[1], opts)
	if err != nil {
		return nil, nil, err
	}
	a, b := debugInfos(graphs)
	if report.NeedsDebug(r.Delta) {
		r.AddDebug(graphs[0], graphs[1], a, b)
	}
	x := &report.Explain{Delta: r.Delta, Orig: graphs[0], Patched: graphs[1], OrigDebug: a, PatchedDebug: b}
	out, err := x.Symbol(names[2])
	var unknown *report.UnknownSymbol
	if errors.As(err, &unknown) {
		d := diag.New(codeSymbol, diag.Place{}, "%v", unknown)
		d.Remedy = "Give a name as kdelta diff --all lists it."
		return nil, nil, &diag.Error{Diagnostics: []diag.Diagnostic{d}}
	}
	return out, r, err
}
