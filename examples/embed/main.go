// Command embed shows the library in another program: it prints the functions that differ.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"slices"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/object"
)

// differing needs no files: bytes in, verdicts other than "unchanged" out.
func differing(ctx context.Context, orig, patched []byte) ([]elfdiff.Function, error) {
	rules := kernel.Rules()
	var graphs [2]*elfdiff.Graph
	for i, data := range [][]byte{orig, patched} {
		f, err := object.Parse(data, object.Options{})
		if err != nil {
			return nil, err
		}
		if graphs[i], err = elfdiff.Analyze(ctx, f, rules); err != nil {
			return nil, err
		}
	}
	delta, err := elfdiff.Diff(ctx, graphs[0], graphs[1], nil)
	if err != nil {
		return nil, err
	}
	same := func(f elfdiff.Function) bool { return f.Status == elfdiff.Unchanged }
	return slices.DeleteFunc(delta.Functions, same), nil
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: embed ORIG PATCHED")
	}
	orig, err := os.ReadFile(os.Args[1])
	check(err)
	patched, err := os.ReadFile(os.Args[2])
	check(err)
	fs, err := differing(context.Background(), orig, patched)
	check(err)
	for _, f := range fs {
		fmt.Println(f.Status, f.Name, f.OrigSize, f.PatchedSize)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
