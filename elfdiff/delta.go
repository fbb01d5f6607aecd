package elfdiff

import (
	"strconv"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/symbols"
)

// Status is the verdict on a function or datum.
type Status uint8

// The verdicts.
const (
	Unchanged Status = iota + 1 // proved equal
	LineOnly                    // equal but for line numbers, each proved to be one
	Changed
	New
	Removed
	Padding // a hole between data; of bytes only, never of a function or datum
)

var statusNames = [...]string{"none", "unchanged", "line-only", "changed", "new", "removed", "padding"}

// String gives the word used in text and JSON.
func (s Status) String() string { return word(statusNames[:], uint8(s)) }

// word gives a value's name, or its number when it has none.
func word(names []string, v uint8) string {
	if int(v) < len(names) {
		return names[v]
	}
	return strconv.Itoa(int(v))
}

// MarshalText makes a status its word in JSON.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// CauseKind is a reason for which two pieces differ.
type CauseKind uint8

// The reasons.
const (
	CauseCode        CauseKind = iota + 1 // instructions
	CauseImmediate                        // a number in an instruction
	CauseTarget                           // what a reference leads to
	CauseRelocType                        // a reference added, removed, moved or of another kind
	CauseString                           // the text of a string
	CauseConstant                         // a constant, switch table or other data without a name of its own
	CauseTable                            // an entry of a kernel table, or replacement code
	CauseLine                             // a line number (relaxation "line")
	CauseBytes                            // the contents of data
	CauseSize                             // the size of data
	CauseSection                          // where it lies: read-only, writable, zero-initialised
	CauseMember                           // a part (.cold, prefix) that only one side has
	CauseUndecodable                      // code that cannot be decoded, in a section that changed
	CauseAmbiguous                        // several matches, not all of which are equal
	CauseInlined                          // code of an inlined function
	CauseSymbol                           // a name that other objects can use: gone, new, moved, weak
	CauseAlign                            // alignment of data
	CauseIgnored                          // the source says that this function is not to be compared
)

var causeNames = [...]string{"none", "code", "immediate", "target", "reference", "string", "constant", "table-entry", "line", "bytes", "size", "section", "member", "undecodable", "ambiguous", "inlined", "symbol", "alignment", "ignored"}

// String gives the word used in text and JSON.
func (c CauseKind) String() string { return word(causeNames[:], uint8(c)) }

// MarshalText makes a kind its word in JSON.
func (c CauseKind) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Cause is one reason for a verdict.
type Cause struct {
	Kind    CauseKind
	Member  string // the part of the unit, when it is not the body; for table entries the table's section
	Off     uint64 // from the start of the part, or of the table
	Orig    string // what the original has there, as text for people
	Patched string
	Detail  string // callee, table or inlined function
	Proof   string // CauseLine: what makes the number a line
}

// Function is the verdict on one unit.
type Function struct {
	ID          string // unique in a Delta and equal in every run: the name, with its source file for local symbols, and a number where that repeats
	Name        string // of the patched object; of the original for removed ones
	OrigName    string // where it differs
	Demangled   string // where it differs from Name
	File        string // source file, by its FILE symbol; empty for globals
	Status      Status
	Confidence  Confidence
	Causes      []Cause // those of the body first, then of other parts, then of table entries
	Section     string
	OrigSize    uint64 // bytes of code, all parts
	PatchedSize uint64
	Members     []string // names of other parts
	Aliases     []string
	Orig        UnitID       // 0 for new ones
	Patched     UnitID       // 0 for removed ones
	OrigSym     object.SymID // the symbol by which the original has it
	Namesakes   bool         // other functions or data have this name
}

// Datum is the verdict on one variable or constant with a name of its own.
type Datum struct {
	ID          string
	Name        string
	OrigName    string
	Demangled   string
	File        string
	Status      Status
	Confidence  Confidence
	Causes      []Cause
	Section     string
	ReadOnly    bool
	OrigSize    uint64
	PatchedSize uint64
	Changes     []Change // where the bytes differ, the first of them
	Readers     []string // functions of the patched object that refer to it (of the original for removed ones)
	Orig        AtomID
	Patched     AtomID
	Namesakes   bool // other functions or data have this name
}

// Change is a stretch of bytes that differs.
type Change struct {
	Off     uint64 // from the start of the datum
	Orig    []byte
	Patched []byte
}

// Bytes says how many bytes of the allocated sections of one object have which status.
type Bytes struct {
	Unchanged, LineOnly, Changed, New, Removed uint64
	Padding                                    uint64 // compared under the relaxation "padding"
	Excluded                                   uint64 // table entries that the rules exclude from comparison
	Total                                      uint64 // the sum, and the sum of the sections' sizes
}

// Delta is what differs between two objects. It holds no reference to them.
type Delta struct {
	Rules       string     // the version of the rules that both objects were analyzed with
	Functions   []Function // by name, then source file
	Data        []Datum    // by name, then source file
	Omitted     Omitted    // what Options.Brief left out of both
	Diagnostics []diag.Diagnostic
	Orig        Bytes
	Patched     Bytes
	Excluded    []Excluded   // what was not compared, by section
	Relaxations []Relaxation // what may differ and still count as equal

	// Pairs, by AtomID of the patched graph: the original's atom; 0 for new ones, and for what has no name and equals something that is paired otherwise.
	OrigOf []AtomID
	// AtomStatus, by AtomID of the patched graph.
	AtomStatus []Status
}

// Omitted is the number of unchanged functions and data that are not listed.
type Omitted struct{ Functions, Data int }

// Excluded is a section that the rules took out of the comparison.
type Excluded struct {
	Section string
	Reason  string
	Orig    uint64 // bytes
	Patched uint64
}

// Relaxation is a difference that counts as equality.
type Relaxation struct {
	Name    string // "line", "padding", "text-move", "plt32", "empty-replacement", "ignored"
	Enabled bool
	Uses    int
}

// Options of a Diff. The zero value is useful.
type Options struct {
	Brief        bool  // list unchanged functions and data only where there is something to say of them; all others are counted
	NoLines      bool  // line numbers count like any other change
	NoDirectives bool  // what the source says to ignore (Rules.IgnoreFuncs, IgnoreSections) is compared all the same
	Pins         []Pin // pairs that the caller knows
}

// Same reports whether nothing differs but line numbers.
func (d *Delta) Same() bool {
	for i := range d.Functions {
		if s := d.Functions[i].Status; s != Unchanged && s != LineOnly {
			return false
		}
	}
	for i := range d.Data {
		if s := d.Data[i].Status; s != Unchanged && s != LineOnly {
			return false
		}
	}
	for _, n := range []Bytes{d.Orig, d.Patched} {
		if n.Changed+n.New+n.Removed != 0 {
			return false
		}
	}
	return true
}

// demangled gives the readable form of a name, "" when it is the name itself.
func demangled(name string) string {
	if d := symbols.Demangle(name); d != name {
		return d
	}
	return ""
}
