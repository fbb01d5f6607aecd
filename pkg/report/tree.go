package report

import (
	"bytes"
	_ "embed" // for SchemaOfTree
	"encoding/json"
	"io"
	"strconv"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
)

// TreeSchema is the name and version in the lines that describe the comparison of two trees.
const TreeSchema = "kdelta.tree/v1"

//go:embed schema/tree-v1.json
var treeSchema string

// SchemaOfTree gives the JSON Schema (draft 2020-12) of one line of the document TreeSchema.
func SchemaOfTree() string { return treeSchema }

// TreeStatus is what a comparison of two trees says of one object.
type TreeStatus uint8

// The statuses.
const (
	TreeSame TreeStatus = iota + 1
	TreeDifferent
	TreeRefused // it could not be compared, or the verdict cannot be relied on
	TreeOnlyOrig
	TreeOnlyPatched
)

var treeStatusNames = [...]string{"", "same", "different", "refused", "only-orig", "only-patched"}

// String gives the word used in text and JSON.
func (s TreeStatus) String() string {
	if int(s) < len(treeStatusNames) {
		return treeStatusNames[s]
	}
	return strconv.Itoa(int(s))
}

// TreeRow is one object of two trees.
type TreeRow struct {
	Path          string // from the root of either tree
	Orig, Patched int    // bytes
	Delta         *elfdiff.Delta
	Only          TreeStatus // TreeOnlyOrig or TreeOnlyPatched where one tree has it; 0 else
	Diagnostics   []diag.Diagnostic
}

// Status gives the verdict on the object; identical files have no Delta.
func (r *TreeRow) Status() TreeStatus {
	switch {
	case r.Only != 0:
		return r.Only
	case diag.HasErrors(r.Diagnostics):
		return TreeRefused
	case r.Delta == nil || r.Delta.Same():
		return TreeSame
	}
	return TreeDifferent
}

// TreeSummary counts rows by status.
type TreeSummary [len(treeStatusNames)]int

// Add counts a row.
func (s *TreeSummary) Add(r *TreeRow) { s[r.Status()]++ }

type jsonTreeChange struct {
	ID     string `json:"id"`
	Status string `json:"status"`
}

type jsonTreeRow struct {
	Schema      string           `json:"schema"`
	Path        string           `json:"path"`
	Status      string           `json:"status"`
	OrigSize    int              `json:"orig_size"`
	PatchedSize int              `json:"patched_size"`
	Functions   []jsonTreeChange `json:"functions"`
	Data        []jsonTreeChange `json:"data"`
	Diagnostics []jsonDiagnostic `json:"diagnostics"`
}

type jsonTreeSummary struct {
	Schema  string         `json:"schema"`
	Summary map[string]int `json:"summary"`
}

// TreeWriter writes the rows of a tree as they come, for people or as JSON lines, and then their summary.
type TreeWriter struct {
	sink
	JSON bool
	All  bool // rows of objects that are the same too; JSON has them always
	sum  TreeSummary
}

// NewTreeWriter makes a writer.
func NewTreeWriter(w io.Writer, json bool) *TreeWriter {
	return &TreeWriter{sink: sink{w: w}, JSON: json}
}

// Row writes the row of one object.
func (t *TreeWriter) Row(r *TreeRow) error {
	t.sum.Add(r)
	if t.JSON {
		row := jsonTreeRow{Schema: TreeSchema, Path: clean(r.Path), Status: r.Status().String(), OrigSize: r.Orig, PatchedSize: r.Patched,
			Functions: []jsonTreeChange{}, Data: []jsonTreeChange{}, Diagnostics: []jsonDiagnostic{}}
		if r.Delta != nil {
			for i := range r.Delta.Functions {
				if f := &r.Delta.Functions[i]; f.Status != elfdiff.Unchanged {
					row.Functions = append(row.Functions, jsonTreeChange{clean(f.ID), f.Status.String()})
				}
			}
			for i := range r.Delta.Data {
				if d := &r.Delta.Data[i]; d.Status != elfdiff.Unchanged {
					row.Data = append(row.Data, jsonTreeChange{clean(d.ID), d.Status.String()})
				}
			}
		}
		for i := range r.Diagnostics {
			row.Diagnostics = append(row.Diagnostics, diagnosticRow(&r.Diagnostics[i]))
		}
		t.line(row)
		return t.err
	}
	st := r.Status()
	if st == TreeSame && !t.All {
		return t.err
	}
	t.print(st.String(), "  ", clean(r.Path))
	if r.Delta != nil && st != TreeRefused {
		n := (&Diff{Delta: r.Delta}).tally()
		n.functions[elfdiff.Unchanged], n.data[elfdiff.Unchanged] = 0, 0
		t.print("  functions ", countsText(&n.functions), "; data ", countsText(&n.data))
	}
	t.print("\n")
	for i := range r.Diagnostics {
		if d := &r.Diagnostics[i]; d.Severity == diag.SevError {
			t.print("    ", clean(d.String()), "\n")
		}
	}
	return t.err
}

// Close writes the summary, and gives it.
func (t *TreeWriter) Close() (TreeSummary, error) {
	n := 0
	for _, v := range t.sum {
		n += v
	}
	if t.JSON {
		m := map[string]int{"objects": n}
		for st := TreeSame; int(st) < len(t.sum); st++ {
			m[st.String()] = t.sum[st]
		}
		t.line(jsonTreeSummary{TreeSchema, m})
		return t.sum, t.err
	}
	t.print(strconv.Itoa(n), " objects:")
	sep := " "
	for st := TreeSame; int(st) < len(t.sum); st++ {
		if t.sum[st] > 0 {
			t.print(sep, strconv.Itoa(t.sum[st]), " ", st.String())
			sep = ", "
		}
	}
	t.print("\n")
	return t.sum, t.err
}

func (t *TreeWriter) line(v any) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil && t.err == nil {
		t.err = err
	}
	t.print(b.String())
}
