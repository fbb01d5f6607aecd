package report

import (
	"bytes"
	"encoding/json"
	"io"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
)

// The members of the document, in the order in which they are written. Strings
// and lists are always there, empty when there is nothing to say.

type jsonCause struct {
	Kind    string `json:"kind"`
	Member  string `json:"member"`
	Offset  string `json:"offset"`
	Orig    string `json:"orig"`
	Patched string `json:"patched"`
	Detail  string `json:"detail"`
}

type jsonFunction struct {
	ID          string      `json:"id"`
	Name        string      `json:"name"`
	OrigName    string      `json:"orig_name"`
	Demangled   string      `json:"demangled"`
	File        string      `json:"file"`
	Status      string      `json:"status"`
	Confidence  string      `json:"confidence"`
	Section     string      `json:"section"`
	OrigSize    uint64      `json:"orig_size"`
	PatchedSize uint64      `json:"patched_size"`
	Members     []string    `json:"members"`
	Aliases     []string    `json:"aliases"`
	Causes      []jsonCause `json:"causes"`

	Fingerprints *jsonSides[string] `json:"fingerprints,omitempty"`
}

type jsonDatum struct {
	ID          string      `json:"id"`
	Name        string      `json:"name"`
	OrigName    string      `json:"orig_name"`
	Demangled   string      `json:"demangled"`
	File        string      `json:"file"`
	Status      string      `json:"status"`
	Confidence  string      `json:"confidence"`
	Section     string      `json:"section"`
	ReadOnly    bool        `json:"read_only"`
	OrigSize    uint64      `json:"orig_size"`
	PatchedSize uint64      `json:"patched_size"`
	Readers     []string    `json:"readers"`
	Causes      []jsonCause `json:"causes"`
}

type jsonDiagnostic struct {
	Code     string   `json:"code"`
	Severity string   `json:"severity"`
	File     string   `json:"file"`
	Symbol   string   `json:"symbol"`
	Section  string   `json:"section"`
	Offset   string   `json:"offset"`
	Message  string   `json:"message"`
	Remedy   string   `json:"remedy"`
	Chain    []string `json:"chain"`
}

type jsonInput struct {
	Name string `json:"name"`
	Size int    `json:"size"`
}

type jsonCounts struct {
	Changed   int `json:"changed"`
	LineOnly  int `json:"line-only"`
	New       int `json:"new"`
	Removed   int `json:"removed"`
	Unchanged int `json:"unchanged"`
}

type jsonBytes struct {
	Changed   uint64 `json:"changed"`
	LineOnly  uint64 `json:"line-only"`
	New       uint64 `json:"new"`
	Removed   uint64 `json:"removed"`
	Unchanged uint64 `json:"unchanged"`
	Padding   uint64 `json:"padding"`
	Excluded  uint64 `json:"excluded"`
	Total     uint64 `json:"total"`
}

type jsonRelaxation struct {
	Name    string `json:"name"`
	Enabled bool   `json:"enabled"`
	Count   uint64 `json:"count"`
	Unit    string `json:"unit"`
}

type jsonSides[T any] struct {
	Orig    T `json:"orig"`
	Patched T `json:"patched"`
}

type jsonSummary struct {
	Same        bool                 `json:"same"`
	Inputs      jsonSides[jsonInput] `json:"inputs"`
	Rules       string               `json:"rules"`
	Functions   jsonCounts           `json:"functions"`
	Data        jsonCounts           `json:"data"`
	Bytes       jsonSides[jsonBytes] `json:"bytes"`
	Relaxations []jsonRelaxation     `json:"relaxations"`
	Digests     *Digests             `json:"digests,omitempty"`
}

// WriteJSON writes the document DiffSchema, a row for each verdict and diagnostic.
func (r *Diff) WriteJSON(w io.Writer) error {
	d := newDocument(w)
	d.list("functions")
	for i := range r.Delta.Functions {
		f := &r.Delta.Functions[i]
		if !r.shown(f.Status) {
			continue
		}
		row := functionRow(f)
		if r.Fingerprints != nil {
			orig, patched := r.Fingerprints(f)
			row.Fingerprints = &jsonSides[string]{orig, patched}
		}
		d.row(row)
	}
	d.end()
	d.list("data")
	for i := range r.Delta.Data {
		v := &r.Delta.Data[i]
		if !r.shown(v.Status) {
			continue
		}
		d.row(datumRow(v))
	}
	d.end()
	d.diagnostics(r.Delta.Diagnostics)
	d.member("summary", r.summary())
	return d.close()
}

func functionRow(f *elfdiff.Function) jsonFunction {
	return jsonFunction{
		ID: clean(f.ID), Name: clean(f.Name), OrigName: clean(f.OrigName), Demangled: clean(f.Demangled), File: clean(f.File),
		Status: f.Status.String(), Confidence: confidence(f.Confidence), Section: clean(f.Section), OrigSize: f.OrigSize, PatchedSize: f.PatchedSize,
		Members: cleanAll(f.Members), Aliases: cleanAll(f.Aliases), Causes: causes(f.Causes),
	}
}

func datumRow(v *elfdiff.Datum) jsonDatum {
	return jsonDatum{
		ID: clean(v.ID), Name: clean(v.Name), OrigName: clean(v.OrigName), Demangled: clean(v.Demangled), File: clean(v.File),
		Status: v.Status.String(), Confidence: confidence(v.Confidence), Section: clean(v.Section), ReadOnly: v.ReadOnly,
		OrigSize: v.OrigSize, PatchedSize: v.PatchedSize, Readers: cleanAll(v.Readers), Causes: causes(v.Causes),
	}
}

// WriteDiagnosticsJSON writes a document DiffSchema that holds diagnostics
// alone: that of a comparison which could not be made.
func WriteDiagnosticsJSON(w io.Writer, ds []diag.Diagnostic) error {
	d := newDocument(w)
	d.diagnostics(ds)
	return d.close()
}

func (r *Diff) summary() jsonSummary {
	t := r.tally()
	return jsonSummary{
		Same:      r.Delta.Same(),
		Inputs:    jsonSides[jsonInput]{jsonInput{clean(r.Orig.Name), r.Orig.Size}, jsonInput{clean(r.Patched.Name), r.Patched.Size}},
		Rules:     clean(r.Rules),
		Functions: countsOf(&t.functions),
		Data:      countsOf(&t.data),
		Bytes:     jsonSides[jsonBytes]{bytesOf(r.Delta.Orig), bytesOf(r.Delta.Patched)},
		Digests:   r.Digests,
		Relaxations: []jsonRelaxation{
			{Name: "line", Enabled: !r.NoLines, Count: uint64(t.lines), Unit: "differences"},
			{Name: "padding", Enabled: true, Count: r.Delta.Orig.Padding + r.Delta.Patched.Padding, Unit: "bytes"},
		},
	}
}

func countsOf(c *counts) jsonCounts {
	return jsonCounts{Changed: c[elfdiff.Changed], LineOnly: c[elfdiff.LineOnly], New: c[elfdiff.New], Removed: c[elfdiff.Removed], Unchanged: c[elfdiff.Unchanged]}
}

func bytesOf(b elfdiff.Bytes) jsonBytes {
	return jsonBytes{Changed: b.Changed, LineOnly: b.LineOnly, New: b.New, Removed: b.Removed, Unchanged: b.Unchanged, Padding: b.Padding, Excluded: b.Excluded, Total: b.Total}
}

// confidence gives the word for how a pair was found, "" when there is no pair.
func confidence(c elfdiff.Confidence) string {
	if c == 0 {
		return ""
	}
	return c.String()
}

func causes(cs []elfdiff.Cause) []jsonCause {
	out := make([]jsonCause, len(cs))
	for i := range cs {
		c := &cs[i]
		out[i] = jsonCause{Kind: c.Kind.String(), Member: clean(c.Member), Offset: hex(c.Off), Orig: clean(c.Orig), Patched: clean(c.Patched), Detail: clean(c.Detail)}
	}
	return out
}

func cleanAll(ss []string) []string {
	out := make([]string, len(ss))
	for i, s := range ss {
		out[i] = clean(s)
	}
	return out
}

// document writes one JSON object, a member or a list of rows at a time.
type document struct {
	sink
	buf  bytes.Buffer
	enc  *json.Encoder
	rows int // in the list that is open
}

func newDocument(w io.Writer) *document { return newDocumentOf(w, DiffSchema) }

func newDocumentOf(w io.Writer, schema string) *document {
	d := &document{sink: sink{w: w}}
	d.enc = json.NewEncoder(&d.buf)
	d.enc.SetEscapeHTML(false)
	d.print("{\n \"schema\": \"", schema, "\"")
	return d
}

func (d *document) value(v any) string {
	d.buf.Reset()
	if err := d.enc.Encode(v); err != nil && d.err == nil {
		d.err = err
	}
	return string(bytes.TrimSuffix(d.buf.Bytes(), []byte("\n")))
}

func (d *document) member(name string, v any) { d.print(",\n \"", name, "\": ", d.value(v)) }

func (d *document) list(name string) {
	d.print(",\n \"", name, "\": [")
	d.rows = 0
}

func (d *document) row(v any) {
	if d.rows++; d.rows > 1 {
		d.print(",")
	}
	d.print("\n  ", d.value(v))
}

func (d *document) end() {
	if d.rows > 0 {
		d.print("\n ")
	}
	d.print("]")
}

func (d *document) diagnostics(ds []diag.Diagnostic) {
	d.list("diagnostics")
	for i := range ds {
		d.row(diagnosticRow(&ds[i]))
	}
	d.end()
}

func (d *document) close() error {
	d.print("\n}\n")
	return d.err
}
