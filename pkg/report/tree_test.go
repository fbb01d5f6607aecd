package report

import (
	"bytes"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
)

func treeRows() []TreeRow {
	d := &elfdiff.Delta{Functions: []elfdiff.Function{{ID: "a.c:f", Name: "f", Status: elfdiff.Changed}}, Omitted: elfdiff.Omitted{Functions: 3}}
	return []TreeRow{
		{Path: "a/same.o", Orig: 10, Patched: 10},
		{Path: "a/diff\x1b.o", Orig: 10, Patched: 11, Delta: d},
		{Path: "b/bad.o", Orig: 3, Patched: 10, Diagnostics: []diag.Diagnostic{diag.New(diag.ElfMalformed, diag.Place{File: "x/b/bad.o"}.At(0), "not an ELF file")}},
		{Path: "b/old.o", Orig: 10, Only: TreeOnlyOrig},
		{Path: "b/new.o", Patched: 10, Only: TreeOnlyPatched},
	}
}

func TestTreeText(t *testing.T) {
	var b bytes.Buffer
	w := NewTreeWriter(&b, false)
	for _, r := range treeRows() {
		if err := w.Row(&r); err != nil {
			t.Fatal(err)
		}
	}
	sum, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	want := "different  a/diff\\x1b.o  functions 1 changed; data none\n" +
		"refused  b/bad.o\n" +
		"    " + clean(treeRows()[2].Diagnostics[0].String()) + "\n" +
		"only-orig  b/old.o\n" +
		"only-patched  b/new.o\n" +
		"5 objects: 1 same, 1 different, 1 refused, 1 only-orig, 1 only-patched\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	if sum[TreeSame] != 1 || sum[TreeRefused] != 1 {
		t.Errorf("%v", sum)
	}
}

func TestTreeJSON(t *testing.T) {
	var b bytes.Buffer
	w := NewTreeWriter(&b, true)
	for _, r := range treeRows() {
		if err := w.Row(&r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	v := newValidatorOf(t, SchemaOfTree())
	lines := bytes.Split(bytes.TrimSuffix(b.Bytes(), []byte("\n")), []byte("\n"))
	if len(lines) != len(treeRows())+1 {
		t.Errorf("%d lines", len(lines))
	}
	for _, l := range lines {
		if err := v.document(l); err != nil {
			t.Errorf("%s\n%v", l, err)
		}
	}
	if !bytes.Contains(lines[1], []byte(`"functions":[{"id":"a.c:f","status":"changed"}]`)) {
		t.Errorf("%s", lines[1])
	}
}
