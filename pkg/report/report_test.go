package report

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/object"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const cases = "../../testdata/cases"

// ofFiles makes the report of two files, or gives the error that prevents it.
func ofFiles(tb testing.TB, orig, patched string) (*Diff, error) {
	tb.Helper()
	rules := kernel.Rules()
	r := &Diff{Rules: rules.Version}
	var graphs [2]*elfdiff.Graph
	for i, path := range []string{orig, patched} {
		data, err := os.ReadFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		name := filepath.Base(path)
		*[]*Input{&r.Orig, &r.Patched}[i] = Input{Name: name, Size: len(data)}
		f, err := object.Parse(data, object.Options{Name: name})
		if err != nil {
			return nil, err
		}
		if graphs[i], err = elfdiff.Analyze(context.Background(), f, rules); err != nil {
			return nil, err
		}
	}
	var err error
	r.Delta, err = elfdiff.Diff(context.Background(), graphs[0], graphs[1], nil)
	return r, err
}

func ofCase(tb testing.TB, name string) *Diff {
	tb.Helper()
	r, err := ofFiles(tb, cases+"/"+name+".ORIG.o", cases+"/"+name+".PATCHED.o")
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// everything is a Delta that has one of each thing that a report can show.
func everything() *Diff {
	place := diag.Place{File: "b.o", Section: "__new_table", Symbol: "f"}
	withChain := diag.New(diag.UnknownTable, place.At(0x18), "the section refers to f")
	withChain.Chain = []string{"f", "__new_table+0x18"}
	bare := diag.Diagnostic{Code: diag.AmbiguousMatch, Severity: diag.SevNote, Message: "two pieces match x"}
	warning := diag.New(diag.DataStructure, diag.Place{Symbol: "struct s"}, "8 bytes more")
	warning.Remedy = "Use a shadow variable."
	return &Diff{
		Orig: Input{"a.o", 1000}, Patched: Input{"b.o", 1010}, Rules: "test/1",
		Delta: &elfdiff.Delta{
			Functions: []elfdiff.Function{
				{ID: "_Z1fv", Name: "_Z1fv", Demangled: "f()", Status: elfdiff.Changed, Confidence: 2, Section: ".text._Z1fv", OrigSize: 100, PatchedSize: 111, Orig: 1, Patched: 1,
					Members: []string{"_Z1fv.cold"}, Aliases: []string{"g"},
					Causes: []elfdiff.Cause{
						{Kind: elfdiff.CauseCode, Member: "_Z1fv.cold", Off: 5, Orig: "push %rbx", Patched: "push %rbp"},
						{Kind: elfdiff.CauseLine, Off: 0x27, Orig: "5", Patched: "6", Detail: "__might_sleep"},
					}},
				{ID: "h", Name: "h", Namesakes: true, OrigName: "h.isra.0", Status: elfdiff.LineOnly, Confidence: 3, Section: ".text", OrigSize: 8, PatchedSize: 8, Orig: 2, Patched: 2,
					Causes: []elfdiff.Cause{{Kind: elfdiff.CauseLine, Off: 3, Orig: "1", Patched: "2", Detail: "__might_sleep"}}},
				{ID: "b.c:h", Name: "h", Namesakes: true, File: "b.c", Status: elfdiff.New, Section: ".text", PatchedSize: 16, Patched: 3},
				{ID: "old", Name: "old", Status: elfdiff.Removed, Section: ".text", OrigSize: 20, Orig: 3},
				{ID: "same", Name: "same", Status: elfdiff.Unchanged, Confidence: 2, Section: ".text", OrigSize: 4, PatchedSize: 4, Orig: 4, Patched: 4},
				{ID: "split", Name: "split", Status: elfdiff.Changed, Confidence: 7, Section: ".text", OrigSize: 4, PatchedSize: 4, Orig: 5, Patched: 5,
					Causes: []elfdiff.Cause{{Kind: elfdiff.CauseMember, Patched: "split.cold"}}},
			},
			Data: []elfdiff.Datum{
				{ID: "limit", Name: "limit", Status: elfdiff.Changed, Confidence: 2, Section: ".data", OrigSize: 4, PatchedSize: 8, Orig: 6, Patched: 6,
					Readers: []string{"a", "b", "c", "d"}, Causes: []elfdiff.Cause{{Kind: elfdiff.CauseSize, Orig: "0x4", Patched: "0x8"}}},
				{ID: "hostile\x1b[31m\xff", Name: "hostile\x1b[31m\xff", Status: elfdiff.New, Section: ".data.é\u202e", ReadOnly: true, PatchedSize: 1, Patched: 7},
				{ID: "quiet", Name: "quiet", Status: elfdiff.Unchanged, Confidence: 2, Section: ".bss", OrigSize: 1, PatchedSize: 1, Orig: 8, Patched: 8},
			},
			Diagnostics: []diag.Diagnostic{withChain, warning, bare},
			Orig:        elfdiff.Bytes{Unchanged: 4, LineOnly: 8, Changed: 108, Removed: 20, Padding: 7, Excluded: 24, Total: 171},
			Patched:     elfdiff.Bytes{Unchanged: 4, LineOnly: 8, Changed: 123, New: 17, Padding: 9, Excluded: 24, Total: 185},
		},
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (go test ./pkg/report -update rewrites it); got:\n%s", path, got)
	}
}

func render(t *testing.T, write func(*bytes.Buffer) error) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestGolden(t *testing.T) {
	for _, c := range []struct {
		name string
		r    *Diff
	}{
		{"everything", everything()},
		{"same", ofCase(t, "same/gcc")},
		{"const-code", ofCase(t, "const-code/gcc")},
		{"line-shift-call", ofCase(t, "line-shift-call/gcc")},
		{"string-changed", ofCase(t, "string-changed/gcc")},
		{"data-changed", ofCase(t, "data-changed/gcc")},
		{"multi-tu", ofCase(t, "multi-tu/gcc")},
		{"cxx", ofCase(t, "cxx/g++")},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, all := range []bool{false, true} {
				if all && c.name != "everything" && c.name != "cxx" {
					continue // one list of what is equal is enough
				}
				r := *c.r
				r.All = all
				name := c.name
				if all {
					name += ".all"
				}
				golden(t, name+".txt", render(t, func(b *bytes.Buffer) error { return r.WriteText(b, TextOptions{}) }))
				golden(t, name+".json", render(t, func(b *bytes.Buffer) error { return r.WriteJSON(b) }))
			}
		})
	}
	r := everything()
	r.NoLines = true
	golden(t, "everything.color.txt", render(t, func(b *bytes.Buffer) error { return r.WriteText(b, TextOptions{Color: true}) }))
	golden(t, "diagnostics.json", render(t, func(b *bytes.Buffer) error { return WriteDiagnosticsJSON(b, r.Delta.Diagnostics) }))
	golden(t, "diagnostics.txt", render(t, func(b *bytes.Buffer) error {
		return WriteDiagnosticsText(b, r.Delta.Diagnostics, TextOptions{})
	}))
}

// The summary counts what is not listed, and its bytes add up.
func TestSummary(t *testing.T) {
	for _, all := range []bool{false, true} {
		r := everything()
		r.All = all
		var doc struct {
			Functions, Data []struct{ ID string }
			Summary         jsonSummary
		}
		if err := json.Unmarshal(render(t, func(b *bytes.Buffer) error { return r.WriteJSON(b) }), &doc); err != nil {
			t.Fatal(err)
		}
		s := doc.Summary
		if want := (jsonCounts{Changed: 2, LineOnly: 1, New: 1, Removed: 1, Unchanged: 1}); s.Functions != want {
			t.Errorf("functions %+v, want %+v", s.Functions, want)
		}
		if want := (jsonCounts{Changed: 1, New: 1, Unchanged: 1}); s.Data != want {
			t.Errorf("data %+v, want %+v", s.Data, want)
		}
		for _, b := range []jsonBytes{s.Bytes.Orig, s.Bytes.Patched} {
			if sum := b.Changed + b.LineOnly + b.New + b.Removed + b.Unchanged + b.Padding + b.Excluded; sum != b.Total {
				t.Errorf("%+v adds up to %d", b, sum)
			}
		}
		wantF, wantD := 5, 2
		if all {
			wantF, wantD = 6, 3
		}
		if len(doc.Functions) != wantF || len(doc.Data) != wantD {
			t.Errorf("all=%v: %d functions and %d data, want %d and %d", all, len(doc.Functions), len(doc.Data), wantF, wantD)
		}
		if s.Same || s.Relaxations[0].Count != 2 || s.Relaxations[1].Count != 16 {
			t.Errorf("summary %+v", s)
		}
	}
}

// full fails when more than n bytes are written to it.
type full struct{ n int }

var errFull = errors.New("full")

func (f *full) Write(p []byte) (int, error) {
	if len(p) > f.n {
		n := f.n
		f.n = 0
		return n, errFull
	}
	f.n -= len(p)
	return len(p), nil
}

func TestWriteErrors(t *testing.T) {
	r := everything()
	for _, write := range []func(f *full) error{
		func(f *full) error { return r.WriteText(f, TextOptions{Color: true}) },
		func(f *full) error { return r.WriteJSON(f) },
		func(f *full) error { return WriteDiagnosticsText(f, r.Delta.Diagnostics, TextOptions{}) },
		func(f *full) error { return WriteDiagnosticsJSON(f, r.Delta.Diagnostics) },
	} {
		for n := 0; ; n++ {
			err := write(&full{n})
			if err == nil {
				if n < 100 {
					t.Errorf("all written to %d bytes", n)
				}
				break
			}
			if !errors.Is(err, errFull) {
				t.Fatal(err)
			}
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"":                    "",
		"plain_name.cold":     "plain_name.cold",
		"naïve\u00a0x":        `naïve\xc2\xa0x`,
		"\x1b]0;title\a":      `\x1b]0;title\x07`,
		"a\xffb":              `a\xffb`,
		"a\nb":                `a\x0ab`,
		"right\u202eleft":     `right\xe2\x80\xaeleft`,
		"\xed\xa0\x80":        `\xed\xa0\x80`,
		"replacement \ufffd!": "replacement \ufffd!",
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	long := strings.Repeat("é", maxOperand+1)
	if got, want := cut(long), strings.Repeat("é", maxOperand)+"..."; got != want {
		t.Errorf("got %q", got)
	}
	if s := strings.Repeat("é", maxOperand); cut(s) != s {
		t.Error("a string of the limit's length was cut")
	}
}
