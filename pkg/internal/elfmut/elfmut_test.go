package elfmut

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/pkg/patch"
	"github.com/kdelta/kdelta/pkg/verify"
)

// At full length, and one mutant again:
//
//	go test ./pkg/internal/elfmut -run '^TestMutants$' -v -timeout 3h -mutants 100000
//	go test ./pkg/internal/elfmut -run '^TestMutants$' -v -mutantseed 1 -mutantfrom 4711 -mutants 1
var (
	mutants    = flag.Int("mutants", 0, "how many mutants; 0: a thousand")
	mutantSeed = flag.Uint64("mutantseed", 1, "the seed")
	mutantFrom = flag.Int("mutantfrom", 0, "the number of the first")
)

// Bounds on one run through everything.
const (
	maxTime   = 5 * time.Second
	maxFactor = 16
	maxBase   = 64 << 20
)

// subject is a pair of objects.
type subject struct {
	name          string
	orig, patched *Subject
}

// subjects are objects of real kernels where they are at hand, and else the fixtures.
func subjects(t *testing.T) (out []subject, real bool) {
	t.Helper()
	add := func(pattern string) {
		list, _ := filepath.Glob(pattern)
		for _, o := range list {
			p := strings.TrimSuffix(o, "ORIG.o") + "PATCHED.o"
			a, err := os.ReadFile(o)
			if err != nil {
				continue
			}
			b, err := os.ReadFile(p)
			if err != nil {
				continue
			}
			sa, erra := New(o, a)
			sb, errb := New(p, b)
			if erra == nil && errb == nil {
				out = append(out, subject{strings.TrimSuffix(o, ".ORIG.o"), sa, sb})
			}
		}
	}
	add("../../../../shared/pairs/*/*.ORIG.o")
	if real = len(out) > 0; !real || *mutants == 0 {
		add("../../../testdata/cases/*/*.ORIG.o")
	}
	slices.SortFunc(out, func(a, b subject) int { return strings.Compare(a.name, b.name) })
	return out, real
}

// stage is how far a mutant came.
type stage int

const (
	refusedParse stage = iota
	refusedAnalyze
	refusedDiff
	refusedPatch
	written
	refuted // written, and taken back by the proof
	stages
)

var stageNames = [stages]string{"refused by object.Parse", "refused by Analyze", "refused by Diff", "refused by the plan", "a patch written and proved", "a patch written, its proof refused it"}

// typed fails for an error that is not a list of diagnostics with a message each.
func typed(err error) error {
	var de *diag.Error
	if !errors.As(err, &de) || len(de.Diagnostics) == 0 {
		return fmt.Errorf("untyped error %T: %w", err, err)
	}
	for _, d := range de.Diagnostics {
		if d.Code == "" || d.Message == "" {
			return fmt.Errorf("empty diagnostic %+v", d)
		}
	}
	return nil
}

// through takes a pair all the way. The error is a fault of the project.
func through(rules *elfdiff.Rules, a, b []byte, format elfdiff.Format) (stage, error) {
	ctx := context.Background()
	var graphs [2]*elfdiff.Graph
	for i, d := range [][]byte{a, b} {
		f, err := object.Parse(d, object.Options{Name: "mutant.o"})
		if err != nil {
			return refusedParse, typed(err)
		}
		if graphs[i], err = elfdiff.Analyze(ctx, f, rules); err != nil {
			return refusedAnalyze, typed(err)
		}
	}
	delta, err := elfdiff.Diff(ctx, graphs[0], graphs[1], nil)
	if err != nil {
		return refusedDiff, typed(err)
	}
	pairs := []patch.Pair{{Object: klp.Vmlinux, Orig: graphs[0], Patched: graphs[1], Delta: delta}}
	plan, err := patch.New(ctx, pairs, patch.Options{Format: format})
	if err != nil {
		return refusedPatch, typed(err)
	}
	plan.Contents()
	data, err := plan.Bytes()
	if err != nil {
		return refusedPatch, typed(err)
	}
	f, err := object.Parse(data, object.Options{Name: "patch.o"})
	if err != nil {
		return written, fmt.Errorf("the patch cannot be read: %w", err)
	}
	r, err := verify.Verify(ctx, f, []verify.Pair{{Object: klp.Vmlinux, Orig: graphs[0].File, Patched: graphs[1].File}}, verify.Options{})
	if err != nil {
		return written, err
	}
	if r.Refuted() {
		return refuted, nil
	}
	return written, nil
}

func read(name string) uint64 {
	s := []metrics.Sample{{Name: name}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// peak runs f and gives how much the heap grew at most, with a collector that
// keeps garbage small.
func peak(f func()) uint64 {
	const objects = "/memory/classes/heap/objects:bytes"
	runtime.GC()
	base := read(objects)
	var most atomic.Uint64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			most.Store(max(most.Load(), read(objects)))
			select {
			case <-stop:
				return
			default:
				time.Sleep(50 * time.Microsecond)
			}
		}
	}()
	f()
	close(stop)
	<-stopped
	return max(most.Load(), base) - base
}

// TestMutants takes mutants of objects through diff, patch and proof. None may
// panic, take more than 5 seconds, or more memory than 16 times the input and 64 MB. All that a
// run allocates is a bound on its peak; where that is too much the peak is measured.
func TestMutants(t *testing.T) {
	subs, real := subjects(t)
	n := *mutants
	if n == 0 {
		if n = 1000; testing.Short() {
			n = 300
		}
	}
	if !real {
		t.Log("no ../shared/pairs: mutants of the fixtures")
	}
	current, err := os.Create(filepath.Join(os.TempDir(), fmt.Sprintf("kdelta-mutant-%d", os.Getpid())))
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(current.Name())
	defer current.Close()
	t.Logf("%d pairs; the number of the mutant that is run stands in %s", len(subs), current.Name())

	rules := kernel.Rules()
	allocs := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	var counts [stages]int
	var slowest time.Duration
	var most, measured uint64
	i := *mutantFrom
	defer func() {
		if p := recover(); p != nil {
			fmt.Printf("mutant %d, seed %d\n", i, *mutantSeed)
			panic(p)
		}
	}()
	for ; i < *mutantFrom+n; i++ {
		fmt.Fprintf(current, "\r%10d", i)
		r := rand.New(rand.NewPCG(*mutantSeed, uint64(i)))
		s := subs[r.IntN(len(subs))]
		a, b, what := s.orig.Data(), s.patched.Data(), ""
		switch r.IntN(3) {
		case 0:
			a, what = s.orig.Mutant(r)
			what = "ORIG: " + what
		case 1:
			b, what = s.patched.Mutant(r)
			what = "PATCHED: " + what
		default:
			var x, y string
			a, x = s.orig.Mutant(r)
			b, y = s.patched.Mutant(r)
			what = "ORIG: " + x + " PATCHED: " + y
		}
		format := []elfdiff.Format{elfdiff.FormatKlp, elfdiff.FormatKpatch}[r.IntN(2)]
		limit := uint64(maxFactor*(len(a)+len(b)) + maxBase)
		metrics.Read(allocs)
		before, start := allocs[0].Value.Uint64(), time.Now()
		at, err := through(rules, a, b, format)
		took := time.Since(start)
		metrics.Read(allocs)
		used := allocs[0].Value.Uint64() - before
		if took > maxTime { // the machine may have had other things to do
			start = time.Now()
			_, _ = through(rules, a, b, format)
			took = min(took, time.Since(start))
		}
		if used > limit {
			measured++
			used = peak(func() { _, _ = through(rules, a, b, format) })
		}
		counts[at]++
		slowest, most = max(slowest, took), max(most, used)
		if err != nil || took > maxTime || used > limit {
			t.Errorf("mutant %d of %s: %v; %v, %d bytes of memory (limit %d)\n%s", i, s.name, err, took, used, limit, what)
		}
	}
	for i, c := range counts {
		t.Logf("%7d %s", c, stageNames[i])
	}
	t.Logf("%d mutants; slowest %v; largest bound on memory %d KB; measured closely %d", n, slowest, most>>10, measured)
}

// The same number makes the same mutant, and mutants differ from what they are made of.
func TestMutant(t *testing.T) {
	subs, _ := subjects(t)
	for i := range 200 {
		s := subs[i%len(subs)].orig
		a, what := s.Mutant(rand.New(rand.NewPCG(7, uint64(i))))
		b, again := s.Mutant(rand.New(rand.NewPCG(7, uint64(i))))
		if !bytes.Equal(a, b) || what != again || what == "" {
			t.Fatalf("mutant %d: %q, %q", i, what, again)
		}
	}
}
