package elfdiff_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/object"
)

// graph reads and analyzes a fixture.
func graph(rules *elfdiff.Rules, path string) *elfdiff.Graph {
	data, err := os.ReadFile("../testdata/cases/" + path)
	if err != nil {
		log.Fatal(err)
	}
	f, err := object.Parse(data, object.Options{Name: path})
	if err != nil {
		log.Fatal(err)
	}
	g, err := elfdiff.Analyze(context.Background(), f, rules)
	if err != nil {
		log.Fatal(err)
	}
	return g
}

// Two builds of a kernel object: which functions differ, and why.
func ExampleDiff() {
	rules := kernel.Rules()
	orig, patched := graph(rules, "string-changed/gcc.ORIG.o"), graph(rules, "string-changed/gcc.PATCHED.o")
	delta, err := elfdiff.Diff(context.Background(), orig, patched, nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range delta.Functions {
		fmt.Println(f.Status, f.Name)
		for _, c := range f.Causes {
			fmt.Printf("  %s at 0x%x: %s, was %s\n", c.Kind, c.Off, c.Patched, c.Orig)
		}
	}
	// Output:
	// unchanged after
	// unchanged before
	// changed says
	//   string at 0x10: "value is now %d\n", was "value was %d\n"
}

// Line numbers are a relaxation: they show, and they can be switched off.
func ExampleOptions() {
	rules := kernel.Rules()
	orig, patched := graph(rules, "line-shift-call/gcc.ORIG.o"), graph(rules, "line-shift-call/gcc.PATCHED.o")
	for _, opts := range []elfdiff.Options{{}, {NoLines: true}} {
		delta, err := elfdiff.Diff(context.Background(), orig, patched, &opts)
		if err != nil {
			log.Fatal(err)
		}
		f := delta.Functions[len(delta.Functions)-1]
		fmt.Println(delta.Same(), f.Name, f.Status, f.Causes[0].Kind, f.Causes[0].Orig, f.Causes[0].Patched)
	}
	// Output:
	// true sleeper line-only line 5 6
	// false sleeper changed immediate 5 6
}

// An ordinary object needs no rules.
func ExampleAnalyze() {
	g := graph(&elfdiff.Rules{}, "string-changed/gcc.ORIG.o")
	for _, u := range g.Units[1:] {
		fmt.Println(g.Name(u.Main))
	}
	// Output:
	// before
	// says
	// after
}
