package elfdiff_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/elfdiff/internal/testutil"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/symbols"
)

// want is what want.json says of a case; testdata/README.md explains the fields.
type want struct {
	Why           string
	Changed       []string
	New           []string
	Removed       []string
	LineOnly      []string `json:"line_only"`
	TableLine     []string `json:"table_line"`
	DataChanged   []string `json:"data_changed"`
	DataNew       []string `json:"data_new"`
	DataRemoved   []string `json:"data_removed"`
	MustNotChange []string `json:"must_not_change"`
	MayBeLineOnly []string `json:"may_be_line_only"`
	Either        []string
	EitherData    []string `json:"either_data"`
	SomeOf        []string `json:"some_of"`
	Aliases       map[string][]string
	Diagnostic    diag.Code

	GCC     json.RawMessage `json:"gcc"`
	Clang   json.RawMessage `json:"clang"`
	As      json.RawMessage `json:"as"`
	GXX     json.RawMessage `json:"g++"`
	ClangXX json.RawMessage `json:"clang++"`
	Rustc   json.RawMessage `json:"rustc"`
}

func readWant(t *testing.T, p testutil.Pair) *want {
	t.Helper()
	w := &want{}
	path := filepath.Join(filepath.Dir(p.Orig), "want.json")
	testutil.ReadJSON(t, path, w)
	own := map[string]json.RawMessage{"gcc": w.GCC, "clang": w.Clang, "as": w.As, "g++": w.GXX, "clang++": w.ClangXX, "rustc": w.Rustc}[p.Tool]
	if own != nil {
		if err := json.Unmarshal(own, w); err != nil {
			t.Fatalf("%s, %s: %v", path, p.Tool, err)
		}
	}
	return w
}

// knownGaps are pairs that the differ gets wrong today, with the reason. A pair
// that is listed and passes fails the test: take it off the list.
var knownGaps = map[string]string{
	"riprel-text/as": "noise: what stands behind point in its section is glued to it; constants in .text are told by resolved operands, which Readers does not count",
}

func TestCases(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range testutil.FixturePairs(t) {
		seen[p.Name] = true
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			w := readWant(t, p)
			faults := judge(t, p, w)
			reason, gap := knownGaps[p.Name]
			switch {
			case gap && len(faults) == 0:
				t.Errorf("passes now: take it out of knownGaps (%s)", reason)
			case gap:
				t.Logf("known gap: %s\n\t%s", reason, strings.Join(faults, "\n\t"))
			default:
				for _, f := range faults {
					t.Error(f)
				}
			}
		})
	}
	for name := range knownGaps {
		if !seen[name] {
			t.Errorf("knownGaps names %s, which is no pair", name)
		}
	}
}

// judge compares a pair and gives what contradicts want.
func judge(t *testing.T, p testutil.Pair, w *want) (faults []string) {
	t.Helper()
	a, err := testutil.Load(t, p.Orig)
	if err != nil {
		t.Fatal(err)
	}
	b, err := testutil.Load(t, p.Patched)
	var d *elfdiff.Delta
	if err == nil {
		d, err = elfdiff.Diff(context.Background(), a, b, nil)
	}
	if err != nil {
		if e := (*diag.Error)(nil); w.Diagnostic != "" && errors.As(err, &e) && hasCode(e.Diagnostics, w.Diagnostic) {
			return nil
		}
		return []string{fmt.Sprintf("refused: %v", err)}
	}
	if w.Diagnostic != "" && !hasCode(d.Diagnostics, w.Diagnostic) {
		faults = append(faults, fmt.Sprintf("no diagnostic %s", w.Diagnostic))
	}
	if testing.Verbose() {
		t.Log("\n" + dump(d))
	}
	return append(faults, w.check(a, b, d)...)
}

func hasCode(ds []diag.Diagnostic, c diag.Code) bool {
	return slices.ContainsFunc(ds, func(d diag.Diagnostic) bool { return d.Code == c })
}

// ordinals gives each symbol's place among those of its name, from 1, and 0 for names that exist once.
func ordinals(f *object.File) []int {
	n, at := map[string]int{}, make([]int, len(f.Symbols))
	for i := range f.Symbols {
		if f.Symbols[i].Sec != 0 {
			n[f.Symbols[i].Name]++
			at[i] = n[f.Symbols[i].Name]
		}
	}
	for i := range at {
		if n[f.Symbols[i].Name] < 2 {
			at[i] = 0
		}
	}
	return at
}

// row is a function or datum of a Delta, under all the names by which want.json may mean it.
type row struct {
	names   []string // NAME#K, NAME, aliases
	glued   []string // functions that this one runs into
	orig    string   // in the original, where it differs
	status  elfdiff.Status
	causes  []elfdiff.Cause
	readers []string
	line    string // for messages
	free    bool   // compiler-made or nameless: belongs to its readers
}

func (w *want) rows(a, b *elfdiff.Graph, d *elfdiff.Delta) (funcs, data []row) {
	oa, ob := ordinals(a.File), ordinals(b.File)
	names := func(name string, alias []string, x, y elfdiff.AtomID) []string {
		if x == 0 && y == 0 { // COMMON and absolute symbols stand nowhere
			return append([]string{name}, alias...)
		}
		g, at, o := b, y, ob
		if y == 0 {
			g, at, o = a, x, oa
		}
		out := []string{name}
		if sym := g.Atoms[at].Sym; sym == 0 {
			out = []string{"section:" + name}
		} else if o[sym] != 0 {
			out = append([]string{fmt.Sprintf("%s#%d", name, o[sym])}, out...)
		}
		out = append(out, alias...)
		for first, more := range w.Aliases {
			if slices.ContainsFunc(more, func(m string) bool { return slices.Contains(out, m) }) {
				out = append(out, first)
			}
		}
		return out
	}
	for i := range d.Functions {
		f := &d.Functions[i]
		r := row{names: names(f.Name, f.Aliases, a.Units[f.Orig].Main, b.Units[f.Patched].Main), orig: f.OrigName, status: f.Status, causes: f.Causes, line: functionLine(f)}
		for _, m := range b.Units[f.Patched].Members {
			if b.Atoms[m].Flag&elfdiff.FlagFallsIn != 0 {
				r.glued = append(r.glued, b.Name(m))
			}
		}
		funcs = append(funcs, r)
	}
	for i := range d.Data {
		x := &d.Data[i]
		r := row{names: names(x.Name, nil, x.Orig, x.Patched), orig: x.OrigName, status: x.Status, causes: x.Causes, readers: x.Readers, line: datumLine(x)}
		r.free = strings.HasPrefix(r.names[0], "section:") || symbols.Parse(x.Name).Flags.Has(symbols.Content)
		data = append(data, r)
	}
	return funcs, data
}

// expect is what one name must be.
type expect struct {
	status []elfdiff.Status // any of these; nil: free
	absent bool             // there need be no row
	line   bool             // with a cause of kind line
}

// removed marks names of the original in expectations: what is removed may have
// the name of what came instead.
const removed = "removed "

func prefixed(p string, names []string) []string {
	out := slices.Clone(names)
	for i := range out {
		out[i] = p + out[i]
	}
	return out
}

func (w *want) check(a, b *elfdiff.Graph, d *elfdiff.Delta) (faults []string) {
	fail := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	is := func(m map[string]expect, names []string, e expect) {
		for _, n := range names {
			if _, ok := m[n]; ok {
				fail("want.json names %s twice", n)
			}
			m[n] = e
		}
	}
	st := func(s ...elfdiff.Status) []elfdiff.Status { return s }
	wf, wd := map[string]expect{}, map[string]expect{}
	is(wf, w.Changed, expect{status: st(elfdiff.Changed)})
	is(wf, w.New, expect{status: st(elfdiff.New)})
	is(wf, prefixed(removed, w.Removed), expect{status: st(elfdiff.Removed)})
	is(wf, w.LineOnly, expect{status: st(elfdiff.LineOnly)})
	is(wf, w.TableLine, expect{status: st(elfdiff.Unchanged), line: true})
	is(wf, w.MayBeLineOnly, expect{status: st(elfdiff.Unchanged, elfdiff.LineOnly)})
	is(wf, w.Either, expect{absent: true})
	is(wf, prefixed(removed, w.Either), expect{absent: true})
	is(wd, w.DataChanged, expect{status: st(elfdiff.Changed)})
	is(wd, w.DataNew, expect{status: st(elfdiff.New)})
	is(wd, prefixed(removed, w.DataRemoved), expect{status: st(elfdiff.Removed)})
	is(wd, w.EitherData, expect{absent: true})
	is(wd, prefixed(removed, w.EitherData), expect{absent: true})

	funcs, data := w.rows(a, b, d)
	met := map[string]bool{}
	differs := map[string]bool{} // functions and data that are not unchanged, or may be so
	match := func(kind string, rows []row, m map[string]expect) {
		for i := range rows {
			r := &rows[i]
			e, ok := expect{status: st(elfdiff.Unchanged)}, false
			for _, n := range r.names {
				if r.status == elfdiff.Removed {
					n = removed + n
				}
				if e2, found := m[n]; found {
					e, ok = e2, true
					if met[kind+n] && e.status != nil {
						fail("%s %s: a second row for %s", kind, r.line, n)
					}
					met[kind+n] = true
					break
				}
			}
			if r.status != elfdiff.Unchanged || e.absent {
				for _, n := range r.names {
					differs[n] = true
				}
				differs[r.orig] = true
			}
			if !ok && r.free && slices.ContainsFunc(r.readers, func(n string) bool { return differs[n] }) {
				continue
			}
			if !ok && slices.ContainsFunc(r.names, func(n string) bool { return strings.HasPrefix(n, "section:") && slices.Contains(w.SomeOf, n) }) {
				continue
			}
			if e.status != nil && !slices.Contains(e.status, r.status) {
				fail("%s %s: want %v", kind, r.line, e.status)
			}
			if e.line && !slices.ContainsFunc(r.causes, func(c elfdiff.Cause) bool { return c.Kind == elfdiff.CauseLine }) {
				fail("%s %s: want a cause of kind line", kind, r.line)
			}
		}
		for n, e := range m {
			if !e.absent && !met[kind+n] {
				fail("%s %s is missing: want %v", kind, n, e.status)
			}
		}
	}
	match("function", funcs, wf)
	match("datum", data, wd)
	changed := map[string]bool{}
	for _, r := range slices.Concat(funcs, data) {
		if r.status != elfdiff.Unchanged {
			for _, n := range slices.Concat(r.names, r.glued) {
				changed[n] = true
			}
		}
	}
	if len(w.SomeOf) > 0 && !slices.ContainsFunc(w.SomeOf, func(n string) bool { return changed[n] }) {
		fail("none of %v differs", w.SomeOf)
	}
	for _, n := range w.MustNotChange {
		plain, _, _ := strings.Cut(n, "#")
		if !slices.ContainsFunc(b.File.Symbols, func(s object.Symbol) bool { return s.Name == plain }) {
			fail("must_not_change names %s, which is no symbol", n)
		}
		if changed[n] {
			fail("%s must not change", n)
		}
	}
	if d.Same() && (d.Patched.Changed+d.Patched.New+d.Orig.Changed+d.Orig.Removed > 0) && len(w.EitherData)+len(w.Either) == 0 {
		fail("nothing is listed, but the accounts are %+v, %+v", d.Orig, d.Patched)
	}
	slices.Sort(faults)
	return faults
}

func causeList(cs []elfdiff.Cause) string {
	var b strings.Builder
	for i, c := range cs {
		if i == 4 {
			fmt.Fprintf(&b, "\n\t    and %d more", len(cs)-i)
			break
		}
		fmt.Fprintf(&b, "\n\t    %v %s+0x%x: %s | %s %s", c.Kind, c.Member, c.Off, c.Orig, c.Patched, c.Detail)
	}
	return b.String()
}

func functionLine(f *elfdiff.Function) string {
	return fmt.Sprintf("%s is %v (was %q, %v, %s, %d -> %d bytes)%s", f.ID, f.Status, f.OrigName, f.Confidence, f.Section, f.OrigSize, f.PatchedSize, causeList(f.Causes))
}

func datumLine(x *elfdiff.Datum) string {
	return fmt.Sprintf("%s is %v (was %q, %v, %s, %d -> %d bytes, read by %v)%s", x.ID, x.Status, x.OrigName, x.Confidence, x.Section, x.OrigSize, x.PatchedSize, x.Readers, causeList(x.Causes))
}

// dump gives what is not unchanged, the causes of what is, and the accounts.
func dump(d *elfdiff.Delta) string {
	var b strings.Builder
	for i := range d.Functions {
		if f := &d.Functions[i]; f.Status != elfdiff.Unchanged || len(f.Causes) > 0 {
			fmt.Fprintf(&b, "function %s\n", functionLine(f))
		}
	}
	for i := range d.Data {
		if x := &d.Data[i]; x.Status != elfdiff.Unchanged || len(x.Causes) > 0 {
			fmt.Fprintf(&b, "datum %s\n", datumLine(x))
		}
	}
	for i, x := range d.Diagnostics {
		if i == 10 {
			fmt.Fprintf(&b, "and %d more diagnostics\n", len(d.Diagnostics)-i)
			break
		}
		fmt.Fprintln(&b, x)
	}
	fmt.Fprintf(&b, "orig    %+v\npatched %+v\n", d.Orig, d.Patched)
	return b.String()
}

// TestPair prints what differs between any two objects:
//
//	PAIR=a.o,b.o go test ./elfdiff -run 'TestPair$' -v
func TestPair(t *testing.T) {
	v := os.Getenv("PAIR")
	if v == "" {
		t.Skip("an aid for people: PAIR=ORIG.o,PATCHED.o")
	}
	x, y, _ := strings.Cut(v, ",")
	a, b := testutil.MustLoad(t, x), testutil.MustLoad(t, y)
	t.Logf("%d atoms, %d units; %d atoms, %d units\n%s", len(a.Atoms), len(a.Units), len(b.Atoms), len(b.Units), dump(testutil.Diff(t, a, b)))
}
