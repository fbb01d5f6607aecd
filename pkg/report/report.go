// Package report renders a Delta and a patch: as text for people and as the JSON
// documents kdelta.diff/v1 and kdelta.patch/v1 for programs. Schema and
// SchemaOfPatch give the schemas of those.
//
// The output depends on the arguments alone: no clock, no paths but the names
// given, no order of maps. Nothing is buffered beyond one row, so the io.Writer
// should be a bufio.Writer where writes are expensive; the first error of the
// writer ends the report and is returned. Names come from the input and are not
// trusted: what could drive a terminal, or is not UTF-8, is shown as \xNN.
package report

import (
	_ "embed" // for Schema
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
)

// DiffSchema is the name and version in the JSON document of a diff. Within a
// version, members are added and never change their meaning.
const DiffSchema = "kdelta.diff/v1"

//go:embed schema/diff-v1.json
var diffSchema string

// Schema gives the JSON Schema (draft 2020-12) of the document DiffSchema.
func Schema() string { return diffSchema }

// Input names one side of a diff.
type Input struct {
	Name string
	Size int // of the file in bytes
}

// Diff is a Delta and what a report says beside it.
type Diff struct {
	Delta   *elfdiff.Delta
	Orig    Input
	Patched Input
	Rules   string // the version of the rules that the graphs were made with
	NoLines bool   // the relaxation "line" was off, as in elfdiff.Options
	All     bool   // list unchanged functions and data too
	Digests *Digests
	// Fingerprints gives those of both sides, "" where there is none; nil: JSON has none.
	Fingerprints func(*elfdiff.Function) (orig, patched string)
}

// Digests name by content what a result depends on, in whatever form the caller chose.
type Digests struct {
	Orig    string `json:"orig"`
	Patched string `json:"patched"`
	Rules   string `json:"rules"`
	Options string `json:"options"`
}

// statuses is the order in which text lists verdicts.
var statuses = [...]elfdiff.Status{elfdiff.Changed, elfdiff.New, elfdiff.Removed, elfdiff.LineOnly, elfdiff.Unchanged}

// counts says how many verdicts of each status there are, by elfdiff.Status.
type counts [256]int

// tally is what a summary adds up.
type tally struct {
	functions, data counts
	lines           int // differences accepted as line numbers
}

func (r *Diff) tally() tally {
	var t tally
	lines := func(causes []elfdiff.Cause) {
		for i := range causes {
			if causes[i].Kind == elfdiff.CauseLine {
				t.lines++
			}
		}
	}
	for i := range r.Delta.Functions {
		t.functions[r.Delta.Functions[i].Status]++
		lines(r.Delta.Functions[i].Causes)
	}
	t.functions[elfdiff.Unchanged] += r.Delta.Omitted.Functions
	t.data[elfdiff.Unchanged] += r.Delta.Omitted.Data
	for i := range r.Delta.Data {
		t.data[r.Delta.Data[i].Status]++
		lines(r.Delta.Data[i].Causes)
	}
	return t
}

// shown reports whether a verdict is listed.
func (r *Diff) shown(s elfdiff.Status) bool { return r.All || s != elfdiff.Unchanged }

// remedy gives what the reader can do about a diagnostic.
func remedy(d *diag.Diagnostic) string {
	if d.Remedy != "" {
		return d.Remedy
	}
	return diag.Lookup(d.Code).Remedy
}

func hex(v uint64) string { return "0x" + strconv.FormatUint(v, 16) }

// clean shows bytes that are not UTF-8, and runes that do not print, as \xNN.
func clean(s string) string {
	i := 0
	for i < len(s) && ' ' <= s[i] && s[i] < 0x7f {
		i++
	}
	if i == len(s) {
		return s
	}
	var b strings.Builder
	b.WriteString(s[:i])
	for i < len(s) {
		c, n := utf8.DecodeRuneInString(s[i:])
		if c == utf8.RuneError && n == 1 || !unicode.IsPrint(c) {
			for ; n > 0; n-- {
				const digits = "0123456789abcdef"
				b.WriteString(`\x`)
				b.WriteByte(digits[s[i]>>4])
				b.WriteByte(digits[s[i]&15])
				i++
			}
			continue
		}
		b.WriteString(s[i : i+n])
		i += n
	}
	return b.String()
}

// sink keeps the first error of a writer.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) print(parts ...string) {
	for _, p := range parts {
		if s.err == nil && p != "" {
			_, s.err = io.WriteString(s.w, p)
		}
	}
}
