package verify_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/pkg/patch"
	"github.com/kdelta/kdelta/pkg/verify"
	"github.com/kdelta/kdelta/symbols"
)

const (
	cases  = "../../testdata/cases"
	shared = "../../../shared/pairs"
)

// written is a patch that pkg/patch wrote, with what it was made from.
type written struct {
	name  string
	patch *object.File
	pairs []verify.Pair
	names map[string]verify.Symbols
}

func (w *written) options() verify.Options { return verify.Options{Symbols: w.names} }

// under lists the pairs of a directory and of those in it: ORIG and PATCHED by name.
func under(t testing.TB, dir string) [][3]string {
	t.Helper()
	var out [][3]string
	for _, pattern := range []string{"/*.ORIG.o", "/*/*.ORIG.o"} {
		l, err := filepath.Glob(dir + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, orig := range l {
			base := strings.TrimSuffix(orig, ".ORIG.o")
			if _, err := os.Stat(base + ".PATCHED.o"); err == nil {
				out = append(out, [3]string{strings.TrimPrefix(base, dir+"/"), orig, base + ".PATCHED.o"})
			}
		}
	}
	return out
}

func parse(t testing.TB, path string) *object.File {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := object.Parse(data, object.Options{Name: filepath.Base(path)})
	if err != nil {
		return nil
	}
	return f
}

// write makes the patch for pairs of objects of the kernel; nil when they are refused.
func write(t testing.TB, name string, objects ...[2]*object.File) *written {
	t.Helper()
	ctx := context.Background()
	w := &written{name: name}
	var pairs []patch.Pair
	var tables []*symbols.Table
	for _, p := range objects {
		a, err := elfdiff.Analyze(ctx, p[0], kernel.Rules())
		if err != nil {
			return nil
		}
		b, err := elfdiff.Analyze(ctx, p[1], kernel.Rules())
		if err != nil {
			return nil
		}
		d, err := elfdiff.Diff(ctx, a, b, nil)
		if err != nil {
			return nil
		}
		pairs = append(pairs, patch.Pair{Object: "vmlinux", Orig: a, Patched: b, Delta: d})
		w.pairs = append(w.pairs, verify.Pair{Object: "vmlinux", Orig: p[0], Patched: p[1]})
		tables = append(tables, symbols.FromELF(p[0], "vmlinux"))
	}
	plan, err := patch.New(ctx, pairs, patch.Options{})
	if err != nil {
		var refused *diag.Error
		if !errors.As(err, &refused) {
			t.Fatal(err)
		}
		return nil
	}
	data, err := plan.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if w.patch, err = object.Parse(data, object.Options{Name: name}); err != nil {
		t.Fatal(err)
	}
	w.names = map[string]verify.Symbols{"vmlinux": known{verify.NamesOf("vmlinux", tables...), undefined(objects)}}
	return w
}

// known is what an object's own kernel would have: its symbols, and what it leaves undefined once each.
type known struct {
	verify.Names
	others map[string]bool
}

func (k known) Count(name string) int {
	if n := k.Names.Count(name); n > 0 || !k.others[name] {
		return n
	}
	return 1
}

func undefined(objects [][2]*object.File) map[string]bool {
	m := map[string]bool{}
	for _, p := range objects {
		for i := range p[1].Symbols {
			if s := &p[1].Symbols[i]; s.Undefined() {
				m[s.Name] = true
			}
		}
	}
	return m
}

// again writes a patch in another form; nil when that is refused.
func again(t testing.TB, w *written, format elfdiff.Format) *object.File {
	t.Helper()
	ctx := context.Background()
	var pairs []patch.Pair
	for _, p := range w.pairs {
		a, err := elfdiff.Analyze(ctx, p.Orig, kernel.Rules())
		if err != nil {
			t.Fatal(err)
		}
		b, err := elfdiff.Analyze(ctx, p.Patched, kernel.Rules())
		if err != nil {
			t.Fatal(err)
		}
		d, err := elfdiff.Diff(ctx, a, b, nil)
		if err != nil {
			t.Fatal(err)
		}
		pairs = append(pairs, patch.Pair{Object: p.Object, Orig: a, Patched: b, Delta: d})
	}
	plan, err := patch.New(ctx, pairs, patch.Options{Format: format})
	if err != nil {
		return nil
	}
	data, err := plan.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	f, err := object.Parse(data, object.Options{Name: w.name})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// kpatch's form of the same patches is proved as well.
func TestKpatchForm(t *testing.T) {
	n := 0
	for _, w := range all() {
		f := again(t, w, elfdiff.FormatKpatch)
		if f == nil {
			continue
		}
		r, err := verify.Verify(context.Background(), f, w.pairs, w.options())
		if err != nil {
			t.Fatal(err)
		}
		n++
		for _, d := range r.Findings {
			if d.Severity == diag.SevError {
				t.Errorf("%s: %v: %v", w.name, r.Format, d)
			}
		}
	}
	t.Logf("%d patches", n)
}

// all gives every patch that can be written from the pairs at hand, each made once.
var all = sync.OnceValue(func() []*written {
	var t testing.T
	var out []*written
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan bool, 4)
	for _, dir := range []string{cases, shared} {
		for _, p := range under(&t, dir) {
			wg.Go(func() {
				slots <- true
				defer func() { <-slots }()
				a, b := parse(&t, p[1]), parse(&t, p[2])
				if a == nil || b == nil {
					return
				}
				if w := write(&t, p[0], [2]*object.File{a, b}); w != nil {
					mu.Lock()
					out = append(out, w)
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	slices.SortFunc(out, func(a, b *written) int { return strings.Compare(a.name, b.name) })
	return out
})

// Every patch that the writer writes is proved at all levels.
func TestProvesWhatIsWritten(t *testing.T) {
	patches := all()
	if len(patches) < 100 {
		t.Fatalf("%d patches", len(patches))
	}
	if _, err := os.Stat(shared); err != nil {
		t.Log("no ../shared/pairs beside the project: only the cases")
	}
	unproved := 0
	for _, w := range patches {
		r, err := verify.Verify(context.Background(), w.patch, w.pairs, w.options())
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range r.Findings {
			if d.Severity == diag.SevError {
				t.Errorf("%s: %v", w.name, d)
			} else {
				unproved++
				t.Logf("%s: %v", w.name, d)
			}
		}
		for l := range r.Levels {
			if c := &r.Levels[l]; !c.Reached {
				t.Errorf("%s: %v is not reached: %s", w.name, c.Level, c.Why)
			}
		}
	}
	t.Logf("%d patches, %d warnings", len(patches), unproved)
}
