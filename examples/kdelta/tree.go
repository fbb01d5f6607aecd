package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/batch"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/report"
)

// runTree compares the objects of two directories and gives the exit code of diff.
func runTree(ctx context.Context, e *env, orig, patched string, opts *elfdiff.Options, asJSON, all bool) int {
	left, err := objectsIn(orig)
	var right []string
	if err == nil {
		right, err = objectsIn(patched)
	}
	if err != nil {
		_ = report.WriteDiagnosticsText(e.Err, findings(err, codeFile, ""), report.TextOptions{}) // nobody is left to tell
		return exitTrouble
	}
	paths := slices.Compact(slices.Sorted(slices.Values(slices.Concat(left, right))))
	has := func(list []string, p string) bool { _, ok := slices.BinarySearch(list, p); return ok }
	var pairs []batch.Pair
	var inBoth []int // of paths, by pair
	for i, p := range paths {
		if !has(left, p) || !has(right, p) {
			continue
		}
		names := [2]string{filepath.Join(orig, filepath.FromSlash(p)), filepath.Join(patched, filepath.FromSlash(p))}
		var data [2][]byte
		pairs = append(pairs, batch.Pair{Name: p,
			Load: func() (a, b elfdiff.Input, err error) {
				var errs [2]error
				for i, n := range names {
					data[i], errs[i] = readInput(n)
				}
				return elfdiff.Input{Name: names[0], Data: data[0]}, elfdiff.Input{Name: names[1], Data: data[1]}, errors.Join(errs[0], errs[1])
			},
			Free: func() {
				for i := range data {
					unmapFile(data[i])
					data[i] = nil
				}
			}})
		inBoth = append(inBoth, i)
	}

	w := report.NewTreeWriter(e.Out, asJSON)
	w.All = all
	bar := newBar(e.Err, len(paths))
	row := func(r *report.TreeRow) error {
		bar.add()
		return w.Row(r)
	}
	next := 0 // of paths
	lone := func(until int) error {
		for ; next < until; next++ {
			r := report.TreeRow{Path: paths[next], Only: report.TreeOnlyOrig}
			root, size := orig, &r.Orig
			if !has(left, paths[next]) {
				r.Only, root, size = report.TreeOnlyPatched, patched, &r.Patched
			}
			if fi, err := os.Stat(filepath.Join(root, filepath.FromSlash(paths[next]))); err == nil {
				*size = int(fi.Size())
			}
			if err := row(&r); err != nil {
				return err
			}
		}
		return nil
	}
	err = batch.Run(ctx, pairs, batch.Options{Rules: kernel.Rules(), Diff: *opts}, func(res batch.Result) error {
		at := inBoth[res.Pair]
		if err := lone(at); err != nil {
			return err
		}
		next = at + 1
		r := report.TreeRow{Path: res.Name, Orig: res.Orig, Patched: res.Patched, Delta: res.Delta}
		if res.Err != nil {
			r.Diagnostics = findings(res.Err, codeStopped, res.Name)
		} else if res.Delta != nil {
			r.Diagnostics = res.Delta.Diagnostics
		}
		if err := row(&r); err != nil {
			return err
		}
		if asJSON {
			return e.Out.Flush() // a line is there when its object is done
		}
		return nil
	})
	if err == nil {
		err = lone(len(paths))
	}
	bar.clear()
	if err != nil {
		_ = report.WriteDiagnosticsText(e.Err, findings(err, codeStopped, ""), report.TextOptions{}) // nobody is left to tell
		return exitTrouble
	}
	sum, err := w.Close()
	e.Fault = err
	switch {
	case sum[report.TreeRefused] > 0:
		return exitTrouble
	case sum[report.TreeDifferent]+sum[report.TreeOnlyOrig]+sum[report.TreeOnlyPatched] > 0:
		return diffDifferent
	}
	return diffSame
}

// objectsIn lists the regular files of a tree whose names end in .o or .ko, with slashes, sorted.
func objectsIn(root string) ([]string, error) {
	var out []string
	fi, err := os.Stat(root)
	if err == nil && !fi.IsDir() {
		err = &fs.PathError{Op: "walk", Path: root, Err: errors.New("is not a directory")}
	}
	if err == nil { // WalkDir does not follow the root, and would find nothing
		root, err = filepath.EvalSymlinks(root)
	}
	if err != nil {
		return nil, err
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if n := d.Name(); d.Type().IsRegular() && (strings.HasSuffix(n, ".o") || strings.HasSuffix(n, ".ko")) {
			rel, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			out = append(out, filepath.ToSlash(rel))
		}
		return nil
	})
	slices.Sort(out)
	return out, err
}

// bar shows how far a run is: on a terminal, and nothing elsewhere.
type bar struct {
	out *mpb.Progress
	b   *mpb.Bar
}

func newBar(w io.Writer, n int) *bar {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return &bar{}
	}
	out := mpb.New(mpb.WithOutput(f), mpb.WithWidth(32))
	return &bar{out, out.AddBar(int64(n), mpb.AppendDecorators(decor.CountersNoUnit("%d of %d objects, "), decor.AverageSpeed(0, "%.0f/s")))}
}

func (b *bar) add() {
	if b.b != nil {
		b.b.Increment()
	}
}

func (b *bar) clear() {
	if b.b != nil {
		b.b.Abort(true)
		b.out.Wait()
	}
}
