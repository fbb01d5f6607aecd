package report

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/debuginfo"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/object"
)

// explainerOf compares a fixture; nil when it is refused.
func explainerOf(tb testing.TB, name string) (*Explain, *Diff) {
	tb.Helper()
	rules := kernel.Rules()
	var graphs [2]*elfdiff.Graph
	var infos [2]*debuginfo.Info
	for i, side := range []string{"ORIG", "PATCHED"} {
		path := cases + "/" + name + "." + side + ".o"
		data, err := os.ReadFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		f, err := object.Parse(data, object.Options{Name: filepath.Base(path)})
		if err == nil {
			graphs[i], err = elfdiff.Analyze(context.Background(), f, rules)
		}
		if refused := (*diag.Error)(nil); errors.As(err, &refused) {
			return nil, nil
		}
		if err != nil {
			tb.Fatal(err)
		}
		if infos[i], err = debuginfo.Load(data, debuginfo.Options{}); err != nil {
			tb.Fatal(err)
		}
	}
	d, err := elfdiff.Diff(context.Background(), graphs[0], graphs[1], nil)
	if err != nil {
		return nil, nil
	}
	r := &Diff{Delta: d}
	r.AddDebug(graphs[0], graphs[1], infos[0], infos[1])
	return &Explain{Delta: r.Delta, Orig: graphs[0], Patched: graphs[1], OrigDebug: infos[0], PatchedDebug: infos[1]}, r
}

// Everything in every fixture can be explained under its name, its id and its
// aliases; the document follows the schema; a difference in code shows both sides.
func TestExplainEverything(t *testing.T) {
	v := newValidatorOf(t, SchemaOfExplain())
	origs, err := filepath.Glob(cases + "/*/*.ORIG.o")
	if err != nil || len(origs) < 100 {
		t.Fatalf("%d fixtures, %v", len(origs), err)
	}
	for _, orig := range origs {
		name := strings.TrimSuffix(strings.TrimPrefix(orig, cases+"/"), ".ORIG.o")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x, r := explainerOf(t, name)
			if x == nil {
				t.Skip("refused")
			}
			if err := newValidator(t).document(render(t, func(b *bytes.Buffer) error { return r.WriteJSON(b) })); err != nil {
				t.Error("with debug information:", err)
			}
			explain := func(symbol, id string) *Explanation {
				e, err := x.Symbol(symbol)
				if err != nil {
					t.Fatal(err)
				}
				if err := v.document(render(t, func(b *bytes.Buffer) error { return e.WriteJSON(b) })); err != nil {
					t.Errorf("%s: %v", symbol, err)
				}
				if text := render(t, func(b *bytes.Buffer) error { return e.WriteText(b, TextOptions{Color: true}) }); len(text) == 0 {
					t.Errorf("%s: no text", symbol)
				}
				found := slices.ContainsFunc(e.Functions, func(f FunctionExplanation) bool { return f.ID == clean(id) }) ||
					slices.ContainsFunc(e.Data, func(d DatumExplanation) bool { return d.ID == clean(id) })
				if !found && len(e.Functions)+len(e.Data) < maxMatches {
					t.Errorf("%s does not explain %s", symbol, id)
				}
				return e
			}
			for i := range r.Delta.Functions {
				f := &r.Delta.Functions[i]
				for _, n := range slices.Concat([]string{f.Name, f.OrigName, f.Demangled}, f.Aliases) {
					if n != "" {
						explain(n, f.ID)
					}
				}
				e := explain(f.Name, f.ID)
				for _, fe := range e.Functions {
					if fe.ID != clean(f.ID) {
						continue
					}
					equal := f.Status == elfdiff.Unchanged || f.Status == elfdiff.LineOnly
					if equal != (fe.Proof != "") {
						t.Errorf("%s is %v, proof %q", f.ID, f.Status, fe.Proof)
					}
					if len(fe.Reasons) != len(f.Causes) {
						t.Errorf("%s: %d reasons, %d causes", f.ID, len(fe.Reasons), len(f.Causes))
					}
					for k, reason := range fe.Reasons {
						marked := slices.ContainsFunc(reason.Listing, func(l Line) bool { return l.First })
						if k == 0 && f.Causes[0].Kind == elfdiff.CauseCode && !marked {
							t.Errorf("%s: nothing is marked in %+v", f.ID, reason)
						}
						if f.Causes[k].Kind == elfdiff.CauseCode && marked && !slices.ContainsFunc(reason.Listing, func(l Line) bool { return l.Side != "both" || l.Orig != l.Patched }) {
							t.Errorf("%s: the listing of %v shows no difference: %+v", f.ID, f.Causes[k], reason.Listing)
						}
					}
				}
			}
			for i := range r.Delta.Data {
				d := &r.Delta.Data[i]
				if d.Name == "" {
					continue
				}
				e := explain(d.Name, d.ID)
				for _, de := range e.Data {
					if de.ID == clean(d.ID) && d.Status == elfdiff.Changed && d.Orig != 0 && len(d.Causes) > 0 && d.Causes[0].Kind == elfdiff.CauseBytes && len(de.Bytes) == 0 {
						t.Errorf("%s: no bytes for %v", d.ID, d.Causes)
					}
				}
			}
		})
	}
}

func TestExplainUnknown(t *testing.T) {
	x, _ := explainerOf(t, "const-code/gcc")
	for _, c := range []struct{ symbol, near string }{
		{"change_one", "changed_one"},
		{"changed_on", "changed_one"},
		{"nothing_like_it_at_all", ""},
		{"", ""},
	} {
		_, err := x.Symbol(c.symbol)
		var unknown *UnknownSymbol
		if !errors.As(err, &unknown) {
			t.Errorf("%q: %v", c.symbol, err)
		} else if c.near != "" && (len(unknown.Near) == 0 || unknown.Near[0] != c.near) || c.near == "" && len(unknown.Near) > 0 {
			t.Errorf("%q: near %q, want %q", c.symbol, unknown.Near, c.near)
		}
	}
}

// Structures with another layout are warnings, inlined functions are causes; verdicts stay.
func TestAddDebug(t *testing.T) {
	for _, c := range []struct {
		name       string
		structures int
		inlined    string // "function: names", of each with any
	}{
		{"dwarf-inline/gcc", 0, "direct: inner; nested: inner"},
		{"dwarf-inline/clang", 0, "direct: inner; nested: inner outer"},
		{"dwarf-layout/gcc", 1, ""},
		{"dwarf-layout/clang", 1, ""},
		{"dwarf-members/gcc", 14, ""},
		{"dwarf-members/clang", 14, ""},
		{"dwarf-v4/gcc", 1, ""},
		{"dwarf-v4/clang", 1, ""},
		{"dwarf-zstd/gcc", 1, ""},
		{"dwarf-zstd/clang", 1, ""},
		{"gz/gcc", 0, ""},
		{"same/gcc", 0, ""},
	} {
		_, r := explainerOf(t, c.name)
		plain := ofCase(t, c.name)
		structures := 0
		for _, d := range r.Delta.Diagnostics {
			if d.Code == diag.DataStructure {
				structures++
				if d.Severity != diag.SevWarning {
					t.Errorf("%s: %v", c.name, d)
				}
			}
			if d.Code == diag.DebugInfo {
				t.Errorf("%s: %v", c.name, d)
			}
		}
		if structures != c.structures {
			t.Errorf("%s: %d structures, want %d: %v", c.name, structures, c.structures, r.Delta.Diagnostics)
		}
		var inlined []string
		for i := range r.Delta.Functions {
			f := &r.Delta.Functions[i]
			if f.Status != plain.Delta.Functions[i].Status {
				t.Errorf("%s: %s is %v with debug information, %v without", c.name, f.Name, f.Status, plain.Delta.Functions[i].Status)
			}
			var names []string
			for _, k := range f.Causes {
				if k.Kind == elfdiff.CauseInlined {
					n, _, _ := strings.Cut(k.Detail, ", called at ")
					names = append(names, n)
				}
			}
			if len(names) > 0 {
				slices.Sort(names)
				inlined = append(inlined, f.Name+": "+strings.Join(names, " "))
			}
		}
		if got := strings.Join(inlined, "; "); got != c.inlined {
			t.Errorf("%s: inlined %q, want %q", c.name, got, c.inlined)
		}
	}
}

func TestAlign(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{"", "", ""},
		{"abc", "abc", "==="},
		{"abc", "axc", "=-+="},
		{"abcd", "acd", "=-=="},
		{"abc", "abxc", "==+="},
		{"", "ab", "++"},
		{"aabb", "bb", "--=="},
	} {
		var got strings.Builder
		i, j := 0, 0
		for _, s := range align(strings.Split(c.a, "")[:len(c.a)], strings.Split(c.b, "")[:len(c.b)]) {
			switch {
			case s.a >= 0 && s.b >= 0:
				got.WriteByte('=')
			case s.a >= 0:
				got.WriteByte('-')
			default:
				got.WriteByte('+')
			}
			if s.a >= 0 && s.a != i || s.b >= 0 && s.b != j {
				t.Errorf("%q %q: out of order", c.a, c.b)
			}
			if s.a >= 0 {
				i++
			}
			if s.b >= 0 {
				j++
			}
		}
		if got.String() != c.want || i != len(c.a) || j != len(c.b) {
			t.Errorf("%q %q: %s, want %s", c.a, c.b, got.String(), c.want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b  string
		limit int
		want  int
	}{{"", "", 2, 0}, {"abc", "abc", 2, 0}, {"abc", "abd", 2, 1}, {"abc", "bc", 2, 1}, {"abc", "xyz", 2, 3}, {"abc", "abcdefgh", 2, 3}, {"kitten", "sitting", 5, 3}} {
		if got := distance(c.a, c.b, c.limit); got != c.want {
			t.Errorf("%q %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
