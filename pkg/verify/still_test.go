package verify

import (
	"context"
	"debug/elf"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/pkg/object"
)

// What is taken for the same without a comparison is found equal by one, in every pair of objects there is, and the other way
// round something is left to compare wherever anything differs.
func TestStill(t *testing.T) {
	files, err := filepath.Glob("../../testdata/cases/*/*.ORIG.o")
	if err != nil {
		t.Fatal(err)
	}
	real, _ := filepath.Glob("../../../shared/pairs/*/*.ORIG.o")
	pairs, same, other := 0, 0, 0
	for _, name := range append(files, real...) {
		if _, err := os.Stat(strings.Replace(name, ".ORIG.", ".PATCHED.", 1)); err != nil {
			continue
		}
		open := func(name string) *view {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			f, err := object.Parse(data, object.Options{Name: name})
			if err != nil {
				t.Fatal(err)
			}
			v := newView(f, defaultRules())
			v.index()
			return v
		}
		pr := &pair{o: open(name), q: open(strings.Replace(name, ".ORIG.", ".PATCHED.", 1)), at: map[site]site{}}
		pr.named = sameSymbols(pr.o.f, pr.q.f)
		still := stillOf(pr)
		if still == nil {
			continue
		}
		pairs++
		p := &prover{checker: newChecker(context.Background(), pr.q.f, Options{})}
		for i := range pr.q.f.Sections {
			for _, sp := range pr.q.spansOf(object.SecID(i)) {
				s := &pr.q.f.Symbols[sp.sym]
				if s.Type() != elf.STT_FUNC || !pr.q.f.Sections[i].Exec() {
					continue
				}
				at := site{object.SecID(i), sp.lo}
				x, y := p.canonOf(pr, 0, at), p.canonOf(pr, 1, at)
				switch {
				case !still.same(pr.q, at.sec, sp):
					other++
				case !x.equal(y):
					t.Errorf("%s: %s differs and was not to be compared", name, s.Name)
				default:
					same++
				}
			}
		}
	}
	t.Logf("%d pairs with the same sections and symbols: %d functions need no comparison, %d do", pairs, same, other)
	if pairs < 20 || same < 50 || other < 20 {
		t.Errorf("%d pairs, %d and %d functions: too few to show anything", pairs, same, other)
	}
}
