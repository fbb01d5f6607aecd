package elfdiff_test

import (
	"encoding/hex"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/elfdiff/internal/testutil"
	"github.com/kdelta/kdelta/pkg/synth"
)

func prints(g *elfdiff.Graph) map[string]elfdiff.Fingerprint {
	out := make(map[string]elfdiff.Fingerprint)
	for u := 1; u < len(g.Units); u++ {
		out[g.UnitName(elfdiff.UnitID(u))] = g.Fingerprint(elfdiff.UnitID(u))
	}
	return out
}

// TestFingerprint: of two builds of one object the functions that differ have different
// fingerprints, and the others the same, in whatever order the objects have things.
func TestFingerprint(t *testing.T) {
	x, y, err := synth.Pair(synth.Shape{Functions: 60, Relocs: 10, Entries: 10})
	if err != nil {
		t.Fatal(err)
	}
	a, err := testutil.Analyze(x, "ORIG")
	if err != nil {
		t.Fatal(err)
	}
	b, err := testutil.Analyze(y, "PATCHED")
	if err != nil {
		t.Fatal(err)
	}
	strings, _ := testutil.ShuffleStrings(t, a.File, 1)
	c, err := testutil.Analyze(strings, "ORIG")
	if err != nil {
		t.Fatal(err)
	}
	d, err := testutil.Analyze(testutil.Shuffle(t, c.File, 1), "ORIG")
	if err != nil {
		t.Fatal(err)
	}
	want, patched := prints(a), prints(b)
	distinct := make(map[elfdiff.Fingerprint]bool)
	for name, f := range want {
		if (patched[name] == f) == (name == "big") {
			t.Errorf("%s: %x, patched %x", name, f, patched[name])
		}
		distinct[f] = true
	}
	if len(distinct) != len(want) {
		t.Errorf("%d fingerprints of %d functions", len(distinct), len(want))
	}
	for name, f := range prints(d) {
		if want[name] != f {
			t.Errorf("%s: %x, shuffled %x", name, want[name], f)
		}
	}
	// The definition is part of the interface: it does not change without fingerprintVersion.
	for name, text := range map[string]string{"function_0": "99990bd9d08ac8c4e5b3c73265afac42", "big": "ab17d8a4a4acfd82e58a9eaef5500b10"} {
		f := want[name]
		if got := hex.EncodeToString(f[:]); got != text {
			t.Errorf("%s: %s, want %s", name, got, text)
		}
	}
}

// TestFingerprintPairs: on real pairs, a function without a difference has one fingerprint.
func TestFingerprintPairs(t *testing.T) {
	same, other, missed := 0, 0, 0
	for _, p := range testutil.AllPairs(t) {
		a, b, ok := testutil.LoadPair(t, p)
		if !ok {
			continue
		}
		d := testutil.Diff(t, a, b)
		for i := range d.Functions {
			f := &d.Functions[i]
			if f.Orig == 0 || f.Patched == 0 {
				continue
			}
			equal := a.Fingerprint(f.Orig) == b.Fingerprint(f.Patched)
			switch {
			case f.Status == elfdiff.Unchanged && equal:
				same++
			case f.Status == elfdiff.Unchanged:
				other++
			case equal && f.Status == elfdiff.Changed:
				missed++
				t.Logf("%s: %s changed under one fingerprint: %v", p.Name, f.Name, f.Causes)
			}
		}
	}
	t.Logf("unchanged functions: %d with one fingerprint, %d with two; changed with one: %d", same, other, missed)
	if other*20 > same {
		t.Errorf("%d of %d unchanged functions have two fingerprints", other, same+other)
	}
}
