package elfdiff_test

import (
	"slices"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/elfdiff/internal/testutil"
	"github.com/kdelta/kdelta/x86"
)

// Equal code with relocations at the same places is decoded once: what that gives is what decoding the other gives.
func TestWalkLike(t *testing.T) {
	made, refused := 0, 0
	for _, p := range testutil.AllPairs(t) {
		a, b, ok := testutil.LoadPair(t, p)
		if !ok {
			continue
		}
		byBytes := make(map[string][]elfdiff.AtomID)
		for x := range a.Atoms {
			if a.Atoms[x].Kind.Code() {
				k := string(a.Bytes(elfdiff.AtomID(x)))
				byBytes[k] = append(byBytes[k], elfdiff.AtomID(x))
			}
		}
		for y := range b.Atoms {
			if !b.Atoms[y].Kind.Code() {
				continue
			}
			want, decoded := b.Edges(elfdiff.AtomID(y), nil)
			l := byBytes[string(b.Bytes(elfdiff.AtomID(y)))]
			for _, x := range l[:min(len(l), 8)] { // any with these bytes, not only its counterpart
				got, dec, ok := elfdiff.WalkLike(a, b, x, elfdiff.AtomID(y))
				switch {
				case !ok:
					refused++
				case dec != decoded || !slices.Equal(got, want):
					t.Errorf("%s: %s like %s: %v %v, want %v %v", p.Name, b.Name(elfdiff.AtomID(y)), a.Name(x), got, dec, want, decoded)
				default:
					made++
				}
			}
		}
	}
	if made < 500 || refused == 0 {
		t.Errorf("%d made, %d refused", made, refused)
	}
}

// The instruction that holds a byte.
func TestWalkStart(t *testing.T) {
	seen := 0
	for _, p := range testutil.FixturePairs(t) {
		g, _, ok := testutil.LoadPair(t, p)
		if !ok {
			continue
		}
		for a := range g.Atoms {
			if !g.Atoms[a].Kind.Code() {
				continue
			}
			w := x86.Walker{Code: g.Bytes(elfdiff.AtomID(a))}
			for w.Next() {
				for i := range int(w.Inst.Len) {
					seen++
					if got := g.Start(elfdiff.AtomID(a), w.Off+i); got != w.Off {
						t.Fatalf("%s: %s+%d: instruction at %d, want %d", p.Name, g.Name(elfdiff.AtomID(a)), w.Off+i, got, w.Off)
					}
				}
			}
		}
	}
	if seen < 1000 {
		t.Errorf("%d bytes", seen)
	}
}
