package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/patch"
)

func somePatch() *Patch {
	return &Patch{
		Contents: &patch.Contents{
			Functions: []patch.Function{
				{Object: "vmlinux", File: "b.o", Name: "f.isra.1", OrigName: "f.isra.0", Pos: 2, Section: ".text.f", Size: 42, Why: []string{"f.isra.1"}},
				{Object: "mod", File: "b.o", Name: "_Z1gv", Section: ".text.g", Size: 7, Why: []string{"f.isra.1", "_Z1gv"}},
			},
			Items: []patch.Item{
				{File: "b.o", Kind: elfdiff.AtomFunc, Name: "f.isra.1", Section: ".text.f", Size: 42, Why: []string{"f.isra.1"}},
				{File: "b.o", Kind: elfdiff.AtomString, Name: "s\x1b[31m", Section: ".rodata.str1.1", Off: 16, Size: 3, Why: []string{"f.isra.1", "s\x1b[31m"}},
			},
			Sections: []patch.Section{{File: "b.o", Name: ".text.f", Size: 42}},
		},
		Diagnostics: []diag.Diagnostic{diag.New(diag.ColdParent, diag.Place{File: "b.o"}, "f.cold has no parent")},
		Output:      Input{Name: "out.o", Size: 1234},
		Rules:       "rules/1",
	}
}

func TestPatchSchema(t *testing.T) {
	v := new(validator)
	if err := json.Unmarshal([]byte(SchemaOfPatch()), &v.root); err != nil {
		t.Fatal(err)
	}
	var refused Patch
	for _, e := range diag.Catalogue() {
		refused.Diagnostics = append(refused.Diagnostics, diag.New(e.Code, diag.Place{}, "x"))
	}
	for _, p := range []*Patch{somePatch(), {Contents: &patch.Contents{}}, {}, &refused} {
		if err := v.document(render(t, func(b *bytes.Buffer) error { return p.WriteJSON(b) })); err != nil {
			t.Error(err)
		}
	}
	for k := elfdiff.AtomFunc; k <= elfdiff.AtomEntry; k++ {
		p := somePatch()
		p.Contents.Items[0].Kind = k
		if err := v.document(render(t, func(b *bytes.Buffer) error { return p.WriteJSON(b) })); err != nil {
			t.Error(err)
		}
	}
}

func TestPatchText(t *testing.T) {
	p := somePatch()
	const head = "replaces  vmlinux:f.isra.0,2 by f.isra.1  .text.f  42\nnew       _Z1gv  .text.g  7  by f.isra.1\n"
	const items = "holds     func f.isra.1  .text.f+0x0  42\nholds     string s\\x1b[31m  .rodata.str1.1+0x10  3  by f.isra.1\n"
	const tail = "\nout.o: 1234 bytes; 1 function(s) replaced, 1 new; 1 section(s)\n"
	if got := string(render(t, func(b *bytes.Buffer) error { return p.WriteText(b) })); got != head+tail {
		t.Errorf("%s", got)
	}
	p.All = true
	if got := string(render(t, func(b *bytes.Buffer) error { return p.WriteText(b) })); got != head+items+tail {
		t.Errorf("%s", got)
	}
	if got := render(t, func(b *bytes.Buffer) error { return (&Patch{}).WriteText(b) }); len(got) != 0 {
		t.Errorf("%s", got)
	}
}

// closed is a writer that takes nothing.
type closed struct{}

var errClosed = errors.New("closed")

func (closed) Write([]byte) (int, error) { return 0, errClosed }

func TestPatchWriteErrors(t *testing.T) {
	p := somePatch()
	if err := p.WriteJSON(closed{}); !errors.Is(err, errClosed) {
		t.Error(err)
	}
	if err := p.WriteText(closed{}); !errors.Is(err, errClosed) {
		t.Error(err)
	}
	if !strings.Contains(SchemaOfPatch(), PatchSchema) {
		t.Error("the schema does not name the document")
	}
}
