// Package diag holds the diagnostics of kdelta: values with a stable code, a
// severity, a place, the chain of references that led there and a remedy.
//
// A Diagnostic says one thing about one place. Analysis collects all of them;
// a caller that must stop wraps them in an *Error, which is the one error type
// that kdelta returns for input it cannot accept or a patch it refuses.
// Codes never change their meaning; see Catalogue for every one of them.
package diag

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity grades a diagnostic. Only SevError refuses.
type Severity uint8

// The severities, mildest first.
const (
	SevNote    Severity = iota + 1 // a fact that explains a verdict
	SevWarning                     // works, but somebody should look
	SevError                       // refused
)

// String gives the word used in text and JSON output.
func (s Severity) String() string {
	switch s {
	case SevNote:
		return "note"
	case SevWarning:
		return "warning"
	case SevError:
		return "error"
	}
	return fmt.Sprintf("severity(%d)", uint8(s))
}

// MarshalText makes a severity its word in JSON.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Place is where a diagnostic applies. Empty fields are unknown; Offset counts
// bytes from the start of Section, or of the file when Section is empty, and
// means something only when HasOffset is set.
type Place struct {
	File      string
	Section   string
	Symbol    string
	Offset    uint64
	HasOffset bool
}

// At gives a copy of p with an offset.
func (p Place) At(off uint64) Place {
	p.Offset, p.HasOffset = off, true
	return p
}

// String gives "file: section+0x10 (symbol)", leaving out what is unknown.
func (p Place) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Section != "" || p.HasOffset {
		if b.Len() > 0 {
			b.WriteString(": ")
		}
		b.WriteString(p.Section)
		if p.HasOffset {
			if p.Section != "" {
				b.WriteByte('+')
			}
			fmt.Fprintf(&b, "0x%x", p.Offset)
		}
	}
	if p.Symbol != "" {
		if b.Len() > 0 {
			fmt.Fprintf(&b, " (%s)", p.Symbol)
		} else {
			b.WriteString(p.Symbol)
		}
	}
	return b.String()
}

// Diagnostic is one finding.
type Diagnostic struct {
	Code     Code
	Severity Severity
	Place    Place
	Message  string   // what is the case, without the place
	Remedy   string   // what the reader can do; empty: what Catalogue says
	Chain    []string // references that led here, outermost first
}

// New makes a diagnostic with the severity and remedy that the catalogue has for code.
func New(code Code, at Place, format string, args ...any) Diagnostic {
	e := Lookup(code)
	return Diagnostic{Code: code, Severity: e.Severity, Place: at, Message: fmt.Sprintf(format, args...), Remedy: e.Remedy}
}

// Error makes a Diagnostic usable as an error.
func (d Diagnostic) Error() string { return d.String() }

// String gives "place: severity: message [code]".
func (d Diagnostic) String() string {
	var b strings.Builder
	if p := d.Place.String(); p != "" {
		b.WriteString(p)
		b.WriteString(": ")
	}
	fmt.Fprintf(&b, "%s: %s [%s]", d.Severity, d.Message, d.Code)
	return b.String()
}

// Error is the refusal: at least one diagnostic of severity SevError, and
// whatever else was found in the same run.
type Error struct {
	Diagnostics []Diagnostic
}

// Error gives the first error and how many more there are.
func (e *Error) Error() string {
	n := 0
	var first *Diagnostic
	for i := range e.Diagnostics {
		if e.Diagnostics[i].Severity == SevError {
			n++
			if first == nil {
				first = &e.Diagnostics[i]
			}
		}
	}
	if first == nil {
		return "refused"
	}
	if n > 1 {
		return fmt.Sprintf("%s (and %d more)", first, n-1)
	}
	return first.String()
}

// Unwrap gives the diagnostics as errors, for errors.As.
func (e *Error) Unwrap() []error {
	out := make([]error, len(e.Diagnostics))
	for i, d := range e.Diagnostics {
		out[i] = d
	}
	return out
}

// Refuse gives an *Error when any of ds is of severity SevError, else nil.
func Refuse(ds []Diagnostic) error {
	if HasErrors(ds) {
		return &Error{Diagnostics: ds}
	}
	return nil
}

// HasErrors reports whether any diagnostic refuses.
func HasErrors(ds []Diagnostic) bool {
	return slices.ContainsFunc(ds, func(d Diagnostic) bool { return d.Severity == SevError })
}

// Sort orders diagnostics by severity (errors first), place, code and message:
// an order that does not depend on how they were found.
func Sort(ds []Diagnostic) {
	slices.SortStableFunc(ds, func(a, b Diagnostic) int {
		return cmp.Or(
			cmp.Compare(b.Severity, a.Severity),
			cmp.Compare(a.Place.File, b.Place.File),
			cmp.Compare(a.Place.Section, b.Place.Section),
			cmp.Compare(a.Place.Offset, b.Place.Offset),
			cmp.Compare(a.Place.Symbol, b.Place.Symbol),
			cmp.Compare(a.Code, b.Code),
			cmp.Compare(a.Message, b.Message),
		)
	})
}
