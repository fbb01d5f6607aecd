package diag_test

import (
	"errors"
	"fmt"

	"github.com/kdelta/kdelta/pkg/diag"
)

// A refusal holds everything that was found, not the first thing alone.
func ExampleRefuse() {
	at := diag.Place{File: "b.o", Section: ".text"}
	ds := []diag.Diagnostic{
		diag.New(diag.RelocNonzero, at.At(0x10), "34 12 00 00 under R_X86_64_32"),
		diag.New(diag.NothingChanged, diag.Place{File: "b.o"}, "all functions are equal"),
	}
	err := diag.Refuse(ds)
	fmt.Println(err)

	var refused *diag.Error
	if errors.As(err, &refused) {
		fmt.Println(len(refused.Diagnostics), "diagnostics")
	}
	fmt.Println(diag.Refuse(ds[1:]))
	// Output:
	// b.o: .text+0x10: error: 34 12 00 00 under R_X86_64_32 [reloc-nonzero]
	// 2 diagnostics
	// <nil>
}

// Codes are stable; the catalogue says what each means and what to do.
func ExampleLookup() {
	e := diag.Lookup(diag.UnknownTable)
	fmt.Println(e.Severity)
	fmt.Println(e.Meaning)
	fmt.Println(e.Remedy)
	// Output:
	// error
	// A section without a rule refers to a function that is replaced; its entries would be lost.
	// Add a row for the section to the rules (entry size, and keep or drop).
}
