package elfdiff_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/elfdiff/internal/testutil"
)

// noise gives every row that is not unchanged, and bytes that have such a status.
func noise(d *elfdiff.Delta) (out []string) {
	for i := range d.Functions {
		if f := &d.Functions[i]; f.Status != elfdiff.Unchanged || len(f.Causes) > 0 {
			out = append(out, "function "+functionLine(f))
		}
	}
	for i := range d.Data {
		if x := &d.Data[i]; x.Status != elfdiff.Unchanged || len(x.Causes) > 0 {
			out = append(out, "datum "+datumLine(x))
		}
	}
	for _, n := range []elfdiff.Bytes{d.Orig, d.Patched} {
		if n.LineOnly+n.Changed+n.New+n.Removed > 0 {
			out = append(out, fmt.Sprintf("accounts %+v", n))
		}
	}
	return out
}

// TestNoiseShuffled: an object and the same object with sections, symbols
// (within their FILE block) and the strings of its string sections in another
// order do not differ in anything.
func TestNoiseShuffled(t *testing.T) {
	for _, p := range testutil.AllPairs(t) {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			for i, path := range []string{p.Orig, p.Patched} {
				if i > 0 && testing.Short() {
					break
				}
				g, err := testutil.Load(t, path)
				if err != nil {
					continue // TestCases judges it
				}
				for seed := range uint64(2) {
					shuffled(t, g, seed)
				}
			}
		})
	}
}

// TestNoiseShuffledVmlinux is TestNoiseShuffled for the objects of a whole kernel.
func TestNoiseShuffledVmlinux(t *testing.T) {
	a, _ := testutil.VmlinuxPair(t)
	g, err := testutil.Analyze(a, "vmlinux.ORIG.o")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", shuffled(t, g, 1))
}

func shuffled(t *testing.T, g *elfdiff.Graph, seed uint64) testutil.Shuffled {
	t.Helper()
	data, what := testutil.ShuffleStrings(t, g.File, seed)
	h, err := testutil.Analyze(data, g.File.Name+" with its strings shuffled")
	if err != nil {
		t.Fatal(err)
	}
	again, err := testutil.Analyze(testutil.Shuffle(t, h.File, seed), g.File.Name+" shuffled")
	if err != nil {
		t.Fatal(err)
	}
	for what, x := range map[string]*elfdiff.Graph{"strings": h, "strings, sections and symbols": again} {
		if out := noise(testutil.Diff(t, g, x)); len(out) > 0 {
			t.Errorf("%s, seed %d, %s in another order:\n%s", g.File.Name, seed, what, strings.Join(out[:min(len(out), 12)], "\n"))
		}
	}
	return what
}
