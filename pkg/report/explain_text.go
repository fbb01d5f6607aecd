package report

import (
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/kdelta/kdelta/pkg/diag"
)

// WriteJSON writes the explanation as the document ExplainSchema.
func (x *Explanation) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	return enc.Encode(x)
}

// WriteExplainDiagnosticsJSON writes a document ExplainSchema that holds
// diagnostics alone: that of an explanation which could not be made.
func WriteExplainDiagnosticsJSON(w io.Writer, ds []diag.Diagnostic) error {
	d := newDocumentOf(w, ExplainSchema)
	d.diagnostics(ds)
	return d.close()
}

// WriteText writes the explanation for people.
func (x *Explanation) WriteText(w io.Writer, opts TextOptions) error {
	t := table{sink: sink{w: w}, color: opts.Color}
	for i := range x.Functions {
		if i > 0 {
			t.print("\n")
		}
		t.function(&x.Functions[i])
	}
	for i := range x.Data {
		if i+len(x.Functions) > 0 {
			t.print("\n")
		}
		t.datum(&x.Data[i])
	}
	for i := range x.Diagnostics {
		d := &x.Diagnostics[i]
		t.print("\n", d.Severity, ": ", d.Message, " [", d.Code, "]\n    remedy: ", d.Remedy, "\n")
	}
	return t.err
}

// head writes the first lines: what it is, its verdict, its pair.
func (t *table) head(what, id, name, demangled, status, section, size string, p *Pairing) {
	t.print(id)
	if demangled != "" {
		t.print(" (", demangled, ")")
	}
	t.print(": ", what, " in ", section, ", ", size, " bytes: ", t.paint(wordColor(status), status), "\n")
	t.print("  pair: ", p.Why)
	if p.Confidence != "" {
		t.print(" [", p.Confidence, "]")
		if p.OrigName != name {
			t.print("; the original calls it ", p.OrigName)
		}
	}
	t.print("\n")
	if len(p.Candidates) > 0 {
		t.print("  others of that family of names: ", strings.Join(p.Candidates, ", "), "\n")
	}
}

func wordColor(status string) string {
	for _, s := range statuses {
		if s.String() == status {
			return statusColor(s)
		}
	}
	return ""
}

func sizes(status string, orig, patched uint64) string {
	o, p := strconv.FormatUint(orig, 10), strconv.FormatUint(patched, 10)
	switch {
	case status == "new" || status != "removed" && orig == patched:
		return p
	case status == "removed":
		return o
	}
	return o + "->" + p
}

func (t *table) function(f *FunctionExplanation) {
	t.head("function", f.ID, f.Name, f.Demangled, f.Status, f.Section, sizes(f.Status, f.OrigSize, f.PatchedSize), &f.Pairing)
	if len(f.Aliases) > 0 {
		t.print("  other names: ", strings.Join(f.Aliases, ", "), "\n")
	}
	if len(f.Members) > 0 {
		t.print("  other parts: ", strings.Join(f.Members, ", "), "\n")
	}
	t.print(sourcePair("  declared at ", f.OrigDecl, f.Decl))
	if f.Proof != "" {
		t.print("  proof: ", f.Proof, "\n")
	}
	for i := range f.Reasons {
		t.reason(i+1, &f.Reasons[i])
	}
	if len(f.Structures) > 0 {
		t.print("\n  structures that it uses have another layout:\n")
		for _, s := range f.Structures {
			t.print("    ", s, "\n")
		}
	}
}

// sourcePair gives a line with the source positions of both sides; nothing when neither is known.
func sourcePair(lead, orig, patched string) string {
	switch {
	case orig == "" && patched == "":
		return ""
	case orig == patched:
		return lead + patched + "\n"
	case orig == "":
		return lead + patched + " (patched)\n"
	case patched == "":
		return lead + orig + " (original)\n"
	}
	return lead + orig + " (original), " + patched + " (patched)\n"
}

func (t *table) reason(n int, r *Reason) {
	t.print("\n  ", strconv.Itoa(n), ". ", r.Kind)
	if r.Member != "" {
		t.print(" in ", r.Member)
	}
	if r.Offset != "" && (len(r.Listing) > 0 || r.OrigEntry != nil || r.PatchedEntry != nil || r.Offset != "0x0") {
		t.print(" at +", r.Offset)
	}
	switch {
	case r.Orig != "" && r.Patched != "":
		t.print(": ", cut(r.Orig), " -> ", cut(r.Patched))
	case r.Patched != "":
		t.print(": only in patched: ", cut(r.Patched))
	case r.Orig != "":
		t.print(": only in original: ", cut(r.Orig))
	}
	if r.Detail != "" {
		t.print(" (", r.Detail, ")")
	}
	t.print("\n")
	if r.Note != "" {
		t.print("     proof: ", r.Note, "\n")
	}
	t.print(sourcePair("     source: ", r.OrigSource, r.Source))
	chains := [2]string{strings.Join(r.OrigInlined, ", in it "), strings.Join(r.Inlined, ", in it ")}
	t.print(sourcePair("     inlined: ", chains[0], chains[1]))
	t.entries(r)
	width := 0
	for i := range r.Listing {
		width = max(width, len(r.Listing[i].OrigOff), len(r.Listing[i].PatchedOff))
	}
	off := func(s string) string { return strings.Repeat(" ", width-len(s)) + s }
	for i := range r.Listing {
		l := &r.Listing[i]
		mark := " "
		if l.First {
			mark = ">"
		}
		switch l.Side {
		case "orig":
			t.print("   ", mark, t.paint(red, "- "+off(l.OrigOff)+"  "+off("")+"  "+l.Orig), "\n")
		case "patched":
			t.print("   ", mark, t.paint(green, "+ "+off("")+"  "+off(l.PatchedOff)+"  "+l.Patched), "\n")
		default:
			if l.Orig == l.Patched {
				t.print("   ", mark, "  ", off(l.OrigOff), "  ", off(l.PatchedOff), "  ", l.Orig, "\n")
				continue
			}
			t.print("   ", mark, "  ", off(l.OrigOff), "  ", off(""), "  ", l.Orig, "\n")
			t.print("   ", " ", "  ", off(""), "  ", off(l.PatchedOff), "  ", l.Patched, "\n")
		}
	}
}

// entries writes table entries.
func (t *table) entries(r *Reason) {
	for _, side := range []struct {
		mark, color string
		e           *Entry
	}{{"-", red, r.OrigEntry}, {"+", green, r.PatchedEntry}} {
		if side.e == nil {
			continue
		}
		t.print("     ", t.paint(side.color, side.mark+" entry at "+side.e.Offset+": "+side.e.Bytes), "\n")
		for _, ref := range side.e.Refs {
			t.print("         ", ref, "\n")
		}
	}
}

func (t *table) datum(d *DatumExplanation) {
	what := "data"
	if d.ReadOnly {
		what = "read-only data"
	}
	t.head(what, d.ID, d.Name, d.Demangled, d.Status, d.Section, sizes(d.Status, d.OrigSize, d.PatchedSize), &d.Pairing)
	if len(d.Readers) > 0 {
		t.print("  used by ", someOf(d.Readers, 16), "\n")
	}
	if d.Proof != "" {
		t.print("  proof: ", d.Proof, "\n")
	}
	for i := range d.Causes {
		c := &d.Causes[i]
		t.print("  ", strconv.Itoa(i+1), ". ", c.Kind, " at +", c.Offset, ": ", cut(c.Orig), " -> ", cut(c.Patched), "\n")
	}
	width := 0
	for i := range d.Bytes {
		width = max(width, utf8.RuneCountInString(d.Bytes[i].Offset))
	}
	for i := range d.Refs {
		width = max(width, utf8.RuneCountInString(d.Refs[i].Offset))
	}
	two := func(off, orig, patched string) {
		pad := strings.Repeat(" ", width-len(off))
		if orig != "" {
			t.print("    ", t.paint(red, "- +"+off+pad+"  "+orig), "\n")
		}
		if patched != "" {
			t.print("    ", t.paint(green, "+ +"+off+pad+"  "+patched), "\n")
		}
	}
	for _, b := range d.Bytes {
		two(b.Offset, b.Orig, b.Patched)
	}
	for _, r := range d.Refs {
		two(r.Offset, r.Orig, r.Patched)
	}
	if d.More > 0 {
		t.print("    and ", strconv.Itoa(d.More), " more rows\n")
	}
}
