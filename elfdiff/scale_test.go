//go:build unix

package elfdiff_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/elfdiff/internal/testutil"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/pkg/synth"
)

var scale = flag.Bool("scale", false, "measure how time and memory grow up to a million pieces (minutes)")

func synthPair(t testing.TB, s synth.Shape) (a, b elfdiff.Input) {
	t.Helper()
	x, y, err := synth.Pair(s)
	if err != nil {
		t.Fatal(err)
	}
	return elfdiff.Input{Name: "ORIG", Data: x}, elfdiff.Input{Name: "PATCHED", Data: y}
}

// changedOnly checks that one function differs and nothing else.
func changedOnly(t *testing.T, d *elfdiff.Delta, name string) {
	t.Helper()
	var got []string
	for i := range d.Functions {
		if f := &d.Functions[i]; f.Status != elfdiff.Unchanged {
			got = append(got, f.Name+" "+f.Status.String())
		}
	}
	for i := range d.Data {
		if x := &d.Data[i]; x.Status != elfdiff.Unchanged {
			got = append(got, x.Name+" "+x.Status.String())
		}
	}
	if want := name + " changed"; len(got) != 1 || got[0] != want {
		t.Errorf("got %v, want %s alone", got[:min(len(got), 8)], want)
	}
}

// TestCancelSoon: a comparison ends soon after its context does, whatever it is at.
func TestCancelSoon(t *testing.T) {
	functions := 20_000 // as many sections as a small vmlinux.o
	if testing.Short() {
		functions = 4000
	}
	a, b := synthPair(t, synth.Shape{Functions: functions, Statics: functions / 20, Relocs: 50_000, Entries: 20_000})
	rules := kernel.Rules()
	start := cpuTime(t)
	if _, err := elfdiff.Compare(context.Background(), a, b, rules, nil); err != nil {
		t.Fatal(err)
	}
	whole := cpuTime(t) - start
	limit := max(50*time.Millisecond, whole/6) // more with the race detector
	late := 0
	const points = 24
	for i := range points {
		ctx, cancel := context.WithCancel(context.Background())
		var at time.Duration
		timer := time.AfterFunc(whole*time.Duration(i)/points, func() { at = cpuTime(t); cancel() })
		_, err := elfdiff.Compare(ctx, a, b, rules, nil)
		end := cpuTime(t)
		if timer.Stop() || err == nil {
			continue // it was done before
		}
		<-ctx.Done()
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("%v", err)
		}
		if d := end - at; d > limit {
			late++
			t.Logf("ended %v after the context, which ended after %v of %v", d, whole*time.Duration(i)/points, whole)
		}
	}
	if late > 2 { // a garbage collection of somebody else's rubbish
		t.Errorf("%d of %d times later than %v", late, points, limit)
	}
}

// TestProcessors: the result does not depend on the number of processors.
func TestProcessors(t *testing.T) {
	a, b := synthPair(t, synth.Shape{Functions: 3000, Statics: 300, Relocs: 2000, Entries: 2000})
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var want *elfdiff.Delta
	for _, n := range []int{1, 2, 8} {
		runtime.GOMAXPROCS(n)
		d, err := elfdiff.Compare(context.Background(), a, b, kernel.Rules(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = d
			changedOnly(t, d, "big")
		} else if !reflect.DeepEqual(d, want) {
			t.Errorf("another result with %d processors", n)
		}
	}
}

// cpuTime gives the processor time of this process, which a busy machine disturbs less than the clock.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// axes are the ways in which an object grows.
var axes = []struct {
	name  string
	most  int
	shape func(n int) synth.Shape
	want  string
}{
	{"sections", 1_000_000, func(n int) synth.Shape { return synth.Shape{Functions: n * 10 / 26} }, "function_0"},
	{"statics", 100_000, func(n int) synth.Shape { return synth.Shape{Statics: n} }, "function_0"},
	{"relocs", 1_000_000, func(n int) synth.Shape { return synth.Shape{Relocs: n} }, "big"},
	{"entries", 1_000_000, func(n int) synth.Shape { return synth.Shape{Entries: n} }, "big"},
}

// TestScale: ten times the input takes ten times the memory, and little more than ten times the time.
func TestScale(t *testing.T) {
	for _, ax := range axes {
		t.Run(ax.name, func(t *testing.T) {
			var base struct{ time, mem float64 }
			sizes := []int{2000, 20_000}
			if *scale {
				sizes = []int{10_000, 1000, 100_000}
				if ax.most > 100_000 {
					sizes = append(sizes, ax.most)
				}
			}
			for i, n := range sizes {
				a, b := synthPair(t, ax.shape(n))
				best, mem := time.Hour, uint64(0)
				for range 3 {
					runtime.GC()
					var before, after runtime.MemStats
					runtime.ReadMemStats(&before)
					start := cpuTime(t)
					d, err := elfdiff.Compare(context.Background(), a, b, kernel.Rules(), nil)
					if err != nil {
						t.Fatal(err)
					}
					best = min(best, cpuTime(t)-start)
					runtime.ReadMemStats(&after)
					mem = after.TotalAlloc - before.TotalAlloc
					changedOnly(t, d, ax.want)
				}
				each, per := float64(best)/float64(n), float64(mem)/float64(len(a.Data)+len(b.Data))
				t.Logf("%8d: %6.0f ns each, %5.2f bytes for each of the input", n, each, per)
				if i == 0 {
					base.time, base.mem = each, per
					continue
				}
				if per > 2.5*base.mem || *scale && each > 2.5*base.time {
					t.Errorf("%d: %.0f ns and %.2f bytes, at %d %.0f and %.2f", n, each, per, sizes[0], base.time, base.mem)
				}
			}
		})
	}
}

// The benchmarks give bytes of both objects for each second.

func BenchmarkSynth(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		x, y := synthPair(b, synth.Shape{Functions: n})
		rules := kernel.Rules()
		parse := func(in elfdiff.Input) *object.File {
			f, err := object.Parse(in.Data, object.Options{Name: in.Name})
			if err != nil {
				b.Fatal(err)
			}
			return f
		}
		analyze := func(f *object.File) *elfdiff.Graph {
			g, err := elfdiff.Analyze(context.Background(), f, rules)
			if err != nil {
				b.Fatal(err)
			}
			return g
		}
		fx, fy := parse(x), parse(y)
		gx, gy := analyze(fx), analyze(fy)
		run := func(name string, f func()) {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.SetBytes(int64(len(x.Data) + len(y.Data)))
				b.ReportAllocs()
				for b.Loop() {
					f()
				}
			})
		}
		diff := func(opts *elfdiff.Options) func() {
			return func() {
				if _, err := elfdiff.Diff(context.Background(), gx, gy, opts); err != nil {
					b.Fatal(err)
				}
			}
		}
		run("parse", func() { parse(x); parse(y) })
		run("analyze", func() { analyze(fx); analyze(fy) })
		run("diff", diff(nil))
		run("brief", diff(&elfdiff.Options{Brief: true}))
		run("compare", func() {
			if _, err := elfdiff.Compare(context.Background(), x, y, rules, nil); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkPairs compares objects of kernels, where they are.
func BenchmarkPairs(b *testing.B) {
	rules := kernel.Rules()
	for _, p := range testutil.SharedPairs("kpatch") {
		x, errX := os.ReadFile(p.Orig)
		y, errY := os.ReadFile(p.Patched)
		if err := errors.Join(errX, errY); err != nil {
			b.Fatal(err)
		}
		b.Run(filepath.Base(p.Name), func(b *testing.B) {
			b.SetBytes(int64(len(x) + len(y)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := elfdiff.Compare(context.Background(), elfdiff.Input{Name: "ORIG", Data: x}, elfdiff.Input{Name: "PATCHED", Data: y}, rules, &elfdiff.Options{Brief: true}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
