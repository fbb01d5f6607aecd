package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/pkg/report"
	"github.com/kdelta/kdelta/pkg/synth"
)

// TestTree: objects are paired by path; a bad one is a row; lines come in the order of paths.
func TestTree(t *testing.T) {
	orig, patched, err := synth.Pair(synth.Shape{Functions: 9})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for path, data := range map[string][]byte{
		"a/x/same.o": orig, "b/x/same.o": orig, "a/x/other.ko": orig, "b/x/other.ko": patched, "a/bad.o": orig, "b/bad.o": patched[:70],
		"a/gone.o": orig, "b/y/new.o": orig, "a/note.txt": nil,
	} {
		p := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(p), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	var out, errs bytes.Buffer
	if code := run([]string{"diff", "--tree", "--json", a, b}, &out, &errs); code != exitTrouble {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
	want := []string{"bad.o refused", "gone.o only-orig", "x/other.ko different", "x/same.o same", "y/new.o only-patched", " "}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%s", out.String())
	}
	for i, l := range lines {
		var row struct {
			Schema, Path, Status string
			Summary              map[string]int
		}
		if err := json.Unmarshal([]byte(l), &row); err != nil {
			t.Fatal(err)
		}
		if row.Schema != report.TreeSchema || row.Path+" "+row.Status != want[i] {
			t.Errorf("%s, want %s", l, want[i])
		}
		if i == len(lines)-1 && (row.Summary["objects"] != 5 || row.Summary["refused"] != 1) {
			t.Errorf("%v", row.Summary)
		}
	}
	if errs.Len() > 0 {
		t.Errorf("on standard error: %s", errs.String())
	}
	if err := os.RemoveAll(filepath.Join(a, "bad.o")); err != nil {
		t.Fatal(err)
	}
	for args, code := range map[string]int{a + " " + b: diffDifferent, a + " " + a: diffSame, a + " " + filepath.Join(dir, "no"): exitTrouble} {
		out.Reset()
		if got := run(append([]string{"diff", "--tree"}, strings.Fields(args)...), &out, &errs); got != code {
			t.Errorf("%s: exit code %d, want %d\n%s", args, got, code, out.String())
		}
	}
}

// TestKeys: on request the JSON has digests and fingerprints.
func TestKeys(t *testing.T) {
	orig, patched, err := synth.Pair(synth.Shape{Functions: 9})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.o"), filepath.Join(dir, "b.o")
	for p, d := range map[string][]byte{a: orig, b: patched} {
		if err := os.WriteFile(p, d, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	var out, errs bytes.Buffer
	if code := run([]string{"diff", "--json", "--keys", a, b}, &out, &errs); code != diffDifferent {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	var doc struct {
		Functions []struct {
			Fingerprints struct{ Orig, Patched string }
		}
		Summary struct{ Digests report.Digests }
	}
	if err := json.Unmarshal(out.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	d := doc.Summary.Digests
	if len(doc.Functions) != 1 || len(doc.Functions[0].Fingerprints.Orig) != 32 || doc.Functions[0].Fingerprints.Orig == doc.Functions[0].Fingerprints.Patched ||
		!strings.HasPrefix(d.Orig, "xxh64x2:") || d.Orig == d.Patched || d.Rules == "" || d.Options == "" {
		t.Errorf("%s", out.String())
	}
}
