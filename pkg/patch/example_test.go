package patch_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/pkg/patch"
)

// pair makes the way from two files to a pair.
func pair(name string) (patch.Pair, error) {
	p := patch.Pair{Object: klp.Vmlinux}
	rules := kernel.Rules()
	for side, g := range map[string]**elfdiff.Graph{".ORIG.o": &p.Orig, ".PATCHED.o": &p.Patched} {
		data, err := os.ReadFile("../../testdata/cases/" + name + side)
		if err != nil {
			return p, err
		}
		f, err := object.Parse(data, object.Options{Name: name + side})
		if err != nil {
			return p, err
		}
		if *g, err = elfdiff.Analyze(context.Background(), f, rules); err != nil {
			return p, err
		}
	}
	var err error
	p.Delta, err = elfdiff.Diff(context.Background(), p.Orig, p.Patched, nil)
	return p, err
}

func ExampleNew() {
	for _, name := range []string{"func-new-static/gcc", "data-changed/gcc"} {
		p, err := pair(name)
		if err != nil {
			fmt.Println(err)
			return
		}
		plan, err := patch.New(context.Background(), []patch.Pair{p}, patch.Options{})
		var refused *diag.Error
		if errors.As(err, &refused) {
			fmt.Println(name, "refused:", refused.Diagnostics[0].Code)
			continue
		}
		for _, f := range plan.Contents().Functions {
			fmt.Println(name, f.Name, f.OrigName, f.Why)
		}
		if _, err := plan.Bytes(); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// func-new-static/gcc caller caller [caller]
	// func-new-static/gcc clamp  [caller clamp]
	// data-changed/gcc refused: data-changed
}
