package report

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
)

// TextOptions are the choices of a text report.
type TextOptions struct {
	Color bool // ANSI colours
}

// Widths beyond which a column no longer pushes the next one.
const (
	maxName    = 36
	maxSection = 32
	maxOperand = 64 // runes of either side of a cause
	maxReaders = 3
)

// WriteText writes the report for people: a line for each function and datum that
// is listed, the diagnostics with their remedies, and a summary that also says
// what was not compared.
func (r *Diff) WriteText(w io.Writer, opts TextOptions) error {
	t := table{sink: sink{w: w}, color: opts.Color}
	r.rows(t.measure)
	r.rows(t.write)
	rows := t.n
	if len(r.Delta.Diagnostics) > 0 {
		if rows > 0 {
			t.print("\n")
		}
		t.diagnostics(r.Delta.Diagnostics)
	}
	if rows+len(r.Delta.Diagnostics) > 0 {
		t.print("\n")
	}
	r.total(&t)
	return t.err
}

// WriteDiagnosticsText writes diagnostics, each with what the reader can do about it.
func WriteDiagnosticsText(w io.Writer, ds []diag.Diagnostic, opts TextOptions) error {
	t := table{sink: sink{w: w}, color: opts.Color}
	t.diagnostics(ds)
	return t.err
}

// row is a line of the table: status, name, section, sizes, reason.
type row struct {
	status elfdiff.Status
	cells  [4]string
	why    string
}

// rows gives every line of the table to f: functions by status, then data by status.
func (r *Diff) rows(f func(*row)) {
	for _, s := range statuses {
		if !r.shown(s) {
			continue
		}
		for i := range r.Delta.Functions {
			if v := &r.Delta.Functions[i]; v.Status == s {
				name := nameText(v.ID, v.Name, v.OrigName, v.Demangled, v.Namesakes)
				f(&row{s, [4]string{s.String(), name, clean(v.Section), sizeText(s, v.OrigSize, v.PatchedSize)}, causeText(v.Causes)})
			}
		}
	}
	for _, s := range statuses {
		if !r.shown(s) {
			continue
		}
		for i := range r.Delta.Data {
			v := &r.Delta.Data[i]
			if v.Status != s {
				continue
			}
			why := causeText(v.Causes)
			if u := readersText(v.Readers); u != "" {
				if why != "" {
					why += "; "
				}
				why += u
			}
			name := nameText(v.ID, v.Name, v.OrigName, v.Demangled, v.Namesakes)
			f(&row{s, [4]string{s.String() + " data", name, clean(v.Section), sizeText(s, v.OrigSize, v.PatchedSize)}, why})
		}
	}
}

// nameText gives the name, its readable form and what it was called before. A
// name that several things have is replaced by the id.
func nameText(id, name, orig, demangled string, namesakes bool) string {
	s := clean(name)
	if namesakes {
		s = clean(id)
	}
	if demangled != "" {
		s += " (" + clean(demangled) + ")"
	}
	if orig != "" {
		s += " (was " + clean(orig) + ")"
	}
	return s
}

func sizeText(s elfdiff.Status, orig, patched uint64) string {
	o, p := strconv.FormatUint(orig, 10), strconv.FormatUint(patched, 10)
	switch {
	case s == elfdiff.New:
		return "+" + p
	case s == elfdiff.Removed:
		return "-" + o
	case orig == patched:
		return p
	}
	return o + "->" + p
}

// causeText explains a verdict by its first cause.
func causeText(cs []elfdiff.Cause) string {
	if len(cs) == 0 {
		return ""
	}
	c := &cs[0]
	var b strings.Builder
	b.WriteString(c.Kind.String())
	switch {
	case c.Member != "":
		b.WriteString(" " + clean(c.Member) + "+" + hex(c.Off))
	case !whole(c.Kind):
		b.WriteString(" +" + hex(c.Off))
	}
	switch {
	case c.Orig != "" && c.Patched != "":
		b.WriteString(": " + cut(c.Orig) + " -> " + cut(c.Patched))
	case c.Patched != "":
		b.WriteString(": only in patched: " + cut(c.Patched))
	case c.Orig != "":
		b.WriteString(": only in original: " + cut(c.Orig))
	}
	if c.Detail != "" {
		b.WriteString(" (" + cut(c.Detail) + ")")
	}
	var inlined []string
	for i := range cs[1:] {
		if d := &cs[1+i]; d.Kind == elfdiff.CauseInlined {
			name, _, _ := strings.Cut(d.Detail, ", called at ")
			inlined = append(inlined, clean(name))
		}
	}
	if n := len(cs) - 1 - len(inlined); n > 0 {
		b.WriteString(fmt.Sprintf(" (+%d more)", n))
	}
	if len(inlined) > 0 {
		b.WriteString("; inlined " + someOf(inlined, maxReaders))
	}
	return b.String()
}

// whole reports whether a cause concerns a thing as a whole, so that an offset says nothing.
func whole(k elfdiff.CauseKind) bool {
	switch k {
	case elfdiff.CauseMember, elfdiff.CauseSize, elfdiff.CauseSection, elfdiff.CauseSymbol, elfdiff.CauseAlign:
		return true
	}
	return false
}

func readersText(names []string) string {
	if len(names) == 0 {
		return ""
	}
	n := min(len(names), maxReaders)
	s := "used by " + strings.Join(cleanAll(names[:n]), ", ")
	if n < len(names) {
		s += fmt.Sprintf(" and %d more", len(names)-n)
	}
	return s
}

// cut shortens an operand to maxOperand runes.
func cut(s string) string {
	s = clean(s)
	if utf8.RuneCountInString(s) <= maxOperand {
		return s
	}
	n := 0
	for i := range s {
		if n == maxOperand {
			return s[:i] + "..."
		}
		n++
	}
	return s
}

// table writes aligned rows.
type table struct {
	sink
	color bool
	width [4]int
	n     int // rows written
}

func (t *table) measure(r *row) {
	for i, limit := range [4]int{maxName, maxName, maxSection, 16} {
		if n := utf8.RuneCountInString(r.cells[i]); n <= limit {
			t.width[i] = max(t.width[i], n)
		}
	}
}

func (t *table) write(r *row) {
	t.n++
	last := len(r.cells) - 1
	for i, c := range r.cells {
		text := c
		if i == 0 {
			text = t.paint(statusColor(r.status), c)
		}
		t.print(text)
		if i < last || r.why != "" {
			t.print(strings.Repeat(" ", max(0, t.width[i]-utf8.RuneCountInString(c))), "  ")
		}
	}
	t.print(r.why, "\n")
}

func (t *table) diagnostics(ds []diag.Diagnostic) {
	for i := range ds {
		d := &ds[i]
		if p := d.Place.String(); p != "" {
			t.print(clean(p), ": ")
		}
		t.print(t.paint(severityColor(d.Severity), d.Severity.String()), ": ", clean(d.Message), " [", string(d.Code), "]\n")
		for _, c := range d.Chain {
			t.print("    from ", clean(c), "\n")
		}
		if s := remedy(d); s != "" {
			t.print("    remedy: ", s, "\n")
		}
	}
}

// total writes the summary.
func (r *Diff) total(t *table) {
	n := r.tally()
	d := r.Delta
	if r.Delta.Same() {
		t.print("same: ")
	} else {
		t.print("different: ")
	}
	t.print("functions ", countsText(&n.functions), "; data ", countsText(&n.data), "\n")
	t.print("not compared: ", pair(d.Orig.Excluded, d.Patched.Excluded), " bytes that follow from the rest (tables, notes, unwind data) and ",
		pair(d.Orig.Padding, d.Patched.Padding), " of padding, of ", pair(d.Orig.Total, d.Patched.Total), " in all")
	t.print("; relaxations: ")
	if r.NoLines {
		t.print("line off")
	} else {
		t.print("line (", strconv.Itoa(n.lines), " used)")
	}
	t.print(", padding")
	if r.Rules != "" {
		t.print("; rules ", clean(r.Rules))
	}
	t.print("\n")
}

func countsText(c *counts) string {
	var b strings.Builder
	for _, s := range statuses {
		if c[s] > 0 {
			if b.Len() > 0 {
				b.WriteString(", ")
			}
			b.WriteString(strconv.Itoa(c[s]) + " " + s.String())
		}
	}
	if b.Len() == 0 {
		return "none"
	}
	return b.String()
}

// pair shows a number of both sides, once when they agree.
func pair(orig, patched uint64) string {
	if orig == patched {
		return strconv.FormatUint(orig, 10)
	}
	return strconv.FormatUint(orig, 10) + "->" + strconv.FormatUint(patched, 10)
}

const (
	red    = "31"
	green  = "32"
	yellow = "33"
	blue   = "34"
)

func statusColor(s elfdiff.Status) string {
	switch s {
	case elfdiff.Changed:
		return yellow
	case elfdiff.New:
		return green
	case elfdiff.Removed:
		return red
	case elfdiff.LineOnly:
		return blue
	}
	return ""
}

func severityColor(s diag.Severity) string {
	switch s {
	case diag.SevError:
		return red
	case diag.SevWarning:
		return yellow
	}
	return blue
}

func (t *table) paint(color, s string) string {
	if !t.color || color == "" {
		return s
	}
	return "\x1b[" + color + "m" + s + "\x1b[0m"
}
