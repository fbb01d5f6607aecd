package report

import (
	_ "embed" // for PatchSchema
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/patch"
	"github.com/kdelta/kdelta/symbols"
)

// PatchSchema is the name and version in the JSON document of a patch. Within a
// version, members are added and never change their meaning.
const PatchSchema = "kdelta.patch/v1"

//go:embed schema/patch-v1.json
var patchSchema string

// SchemaOfPatch gives the JSON Schema (draft 2020-12) of the document PatchSchema.
func SchemaOfPatch() string { return patchSchema }

// Patch is a patch, or what stands against it.
type Patch struct {
	Contents    *patch.Contents // nil: there is no patch
	Diagnostics []diag.Diagnostic
	Output      Input // where it was written; empty when it was not
	Rules       string
	All         bool // text: list every piece too
}

type jsonPatched struct {
	Object    string   `json:"object"`
	File      string   `json:"file"`
	Name      string   `json:"name"`
	Demangled string   `json:"demangled"`
	Status    string   `json:"status"`
	OrigName  string   `json:"orig_name"`
	Position  uint64   `json:"position"`
	Section   string   `json:"section"`
	Size      uint64   `json:"size"`
	Why       []string `json:"why"`
}

type jsonItem struct {
	File    string   `json:"file"`
	Kind    string   `json:"kind"`
	Name    string   `json:"name"`
	Section string   `json:"section"`
	Offset  string   `json:"offset"`
	Size    uint64   `json:"size"`
	Why     []string `json:"why"`
}

type jsonSection struct {
	File string `json:"file"`
	Name string `json:"name"`
	Size uint64 `json:"size"`
}

type jsonCallback struct {
	Object string `json:"object"`
	File   string `json:"file"`
	Kind   string `json:"kind"`
	Name   string `json:"name"`
}

// WriteJSON writes the document PatchSchema.
func (r *Patch) WriteJSON(w io.Writer) error {
	d := newDocumentOf(w, PatchSchema)
	if c := r.Contents; c != nil {
		d.list("functions")
		for i := range c.Functions {
			f := &c.Functions[i]
			name, status := symbols.Demangle(f.Name), "new"
			if name == f.Name {
				name = ""
			}
			if f.Replaces() {
				status = "changed"
			}
			d.row(jsonPatched{clean(f.Object), clean(f.File), clean(f.Name), clean(name), status, clean(f.OrigName), f.Pos, clean(f.Section), f.Size, cleanAll(f.Why)})
		}
		d.end()
		d.list("items")
		for i := range c.Items {
			x := &c.Items[i]
			d.row(jsonItem{clean(x.File), x.Kind.String(), clean(x.Name), clean(x.Section), hex(x.Off), x.Size, cleanAll(x.Why)})
		}
		d.end()
		d.list("sections")
		for i := range c.Sections {
			s := &c.Sections[i]
			d.row(jsonSection{clean(s.File), clean(s.Name), s.Size})
		}
		d.end()
		d.list("callbacks")
		for i := range c.Callbacks {
			x := &c.Callbacks[i]
			d.row(jsonCallback{clean(x.Object), clean(x.File), x.Kind.String(), clean(x.Name)})
		}
		d.end()
		d.member("output", jsonInput{clean(r.Output.Name), r.Output.Size})
		d.member("rules", clean(r.Rules))
	}
	d.diagnostics(r.Diagnostics)
	return d.close()
}

// WriteText says what a patch holds: its functions, with All every piece of it,
// and where it was written. Diagnostics are WriteDiagnosticsText's affair.
func (r *Patch) WriteText(w io.Writer) error {
	s := sink{w: w}
	if r.Contents == nil {
		return nil
	}
	replaced := 0
	for i := range r.Contents.Functions {
		f := &r.Contents.Functions[i]
		if !f.Replaces() {
			s.print("new       ", clean(f.Name), "  ", clean(f.Section), "  ", strconv.FormatUint(f.Size, 10), whyText(f.Why), "\n")
			continue
		}
		replaced++
		s.print("replaces  ", clean(f.Object), ":", clean(f.OrigName), ",", strconv.FormatUint(f.Pos, 10))
		if f.Name != f.OrigName {
			s.print(" by ", clean(f.Name))
		}
		s.print("  ", clean(f.Section), "  ", strconv.FormatUint(f.Size, 10), "\n")
	}
	for i := range r.Contents.Callbacks {
		x := &r.Contents.Callbacks[i]
		s.print("calls     ", clean(x.Object), " ", x.Kind.String(), "  ", clean(x.Name), "\n")
	}
	if r.All {
		for i := range r.Contents.Items {
			x := &r.Contents.Items[i]
			s.print("holds     ", x.Kind.String(), " ", clean(x.Name), "  ", clean(x.Section), "+", hex(x.Off), "  ", strconv.FormatUint(x.Size, 10), whyText(x.Why), "\n")
		}
	}
	s.print(fmt.Sprintf("\n%s: %d bytes; %d function(s) replaced, %d new; %d section(s)\n", clean(r.Output.Name), r.Output.Size, replaced, len(r.Contents.Functions)-replaced, len(r.Contents.Sections)))
	return s.err
}

// whyText gives the way from the function that changed to a piece.
func whyText(why []string) string {
	if len(why) < 2 {
		return ""
	}
	return "  by " + strings.Join(cleanAll(why[:len(why)-1]), " -> ")
}
