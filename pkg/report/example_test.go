package report_test

import (
	"context"
	"log"
	"os"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/pkg/report"
)

// A text report of two files.
func ExampleDiff_WriteText() {
	rules := kernel.Rules()
	var graphs [2]*elfdiff.Graph
	var inputs [2]report.Input
	for i, name := range []string{"gcc.ORIG.o", "gcc.PATCHED.o"} {
		data, err := os.ReadFile("../../testdata/cases/string-changed/" + name)
		if err != nil {
			log.Fatal(err)
		}
		f, err := object.Parse(data, object.Options{Name: name})
		if err != nil {
			log.Fatal(err)
		}
		if graphs[i], err = elfdiff.Analyze(context.Background(), f, rules); err != nil {
			log.Fatal(err)
		}
		inputs[i] = report.Input{Name: name, Size: len(data)}
	}
	delta, err := elfdiff.Diff(context.Background(), graphs[0], graphs[1], nil)
	if err != nil {
		log.Fatal(err)
	}
	r := &report.Diff{Delta: delta, Orig: inputs[0], Patched: inputs[1], Rules: rules.Version}
	if err := r.WriteText(os.Stdout, report.TextOptions{}); err != nil {
		log.Fatal(err)
	}
	// Output:
	// changed  says  .text.says  29  string +0x10: "value was %d\n" -> "value is now %d\n"
	//
	// different: functions 1 changed, 2 unchanged; data none
	// not compared: 0 bytes that follow from the rest (tables, notes, unwind data) and 0 of padding, of 122->125 in all; relaxations: line (0 used), padding; rules linux-x86-64/1
}

// What was found wrong, for people.
func ExampleWriteDiagnosticsText() {
	at := diag.Place{File: "igmp.o", Section: "__new_table", Symbol: "igmp_rcv"}.At(0x18)
	ds := []diag.Diagnostic{diag.New(diag.UnknownTable, at, "an entry refers to igmp_rcv, which is replaced")}
	if err := report.WriteDiagnosticsText(os.Stdout, ds, report.TextOptions{}); err != nil {
		log.Fatal(err)
	}
	// Output:
	// igmp.o: __new_table+0x18 (igmp_rcv): error: an entry refers to igmp_rcv, which is replaced [unknown-table]
	//     remedy: Add a row for the section to the rules (entry size, and keep or drop).
}
