package main

import (
	"context"
	"os"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/object"
)

func (o *options) finish(ctx context.Context, w *workspace, k *target, objs []built, doc *document) ([]diag.Diagnostic, error) {
	return nil, w.prog.step("diff", func() (bool, string, error) {
		for _, b := range objs {
			var g [2]*elfdiff.Graph
			for i, f := range []string{b.orig, b.patched} {
				data, err := os.ReadFile(f)
				if err != nil {
					return false, "", err
				}
				of, err := object.Parse(data, object.Options{Name: b.Source})
				if err != nil {
					return false, "", err
				}
				if g[i], err = elfdiff.Analyze(ctx, of, kernel.Rules()); err != nil {
					return false, "", err
				}
			}
			d, err := elfdiff.Diff(ctx, g[0], g[1], nil)
			if err != nil {
				return false, "", err
			}
			_ = d
		}
		return false, "", nil
	})
}
