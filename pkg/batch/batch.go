// Package batch compares many pairs of objects, several at a time, and gives the
// results in the order of the pairs, whatever the number of workers.
package batch

import (
	"bytes"
	"context"
	"runtime"
	"sync"

	"github.com/kdelta/kdelta/elfdiff"
)

// Pair is two builds of one object. Load is called once, by the worker that compares
// them; Free, when not nil, after that: nothing refers to the inputs then.
type Pair struct {
	Name string
	Load func() (orig, patched elfdiff.Input, err error)
	Free func()
}

// Result is what became of one pair.
type Result struct {
	Pair          int // its place among the pairs
	Name          string
	Orig, Patched int            // bytes
	Identical     bool           // byte by byte; nothing was parsed, and Delta is nil
	Delta         *elfdiff.Delta // nil when Err is not
	Err           error          // of Load, or of elfdiff.Compare
}

// Options of a Run. The zero value compares with no rules, on all processors.
type Options struct {
	Rules   *elfdiff.Rules
	Diff    elfdiff.Options // Brief keeps results small
	Workers int             // 0: GOMAXPROCS
}

// Run compares pairs and calls each for every one, in their order, from the calling
// goroutine. A pair that cannot be compared is a Result with an error and does not end
// the run. Run ends with the error of each, or with that of the context; then some
// pairs have no result. At most two results for each worker wait for their turn.
func Run(ctx context.Context, pairs []Pair, opts Options, each func(Result) error) error {
	workers := opts.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	done := make([]chan Result, 2*workers) // result of pair i: done[i % len(done)]
	for i := range done {
		done[i] = make(chan Result, 1)
	}
	next := make(chan int)
	for range min(workers, len(pairs)) {
		wg.Go(func() {
			for i := range next {
				done[i%len(done)] <- one(ctx, i, &pairs[i], &opts)
			}
		})
	}
	turn := make(chan struct{}, len(done)) // results that are under way or wait
	wg.Go(func() {
		defer close(next)
		for i := range pairs {
			select {
			case turn <- struct{}{}:
			case <-ctx.Done():
				return
			}
			select {
			case next <- i:
			case <-ctx.Done():
				return
			}
		}
	})
	for i := range pairs {
		select {
		case r := <-done[i%len(done)]:
			<-turn
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := each(r); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return ctx.Err()
}

func one(ctx context.Context, i int, p *Pair, opts *Options) Result {
	r := Result{Pair: i, Name: p.Name}
	orig, patched, err := p.Load()
	if p.Free != nil {
		defer p.Free()
	}
	if err != nil {
		r.Err = err
		return r
	}
	r.Orig, r.Patched = len(orig.Data), len(patched.Data)
	if bytes.Equal(orig.Data, patched.Data) {
		r.Identical = true
		return r
	}
	r.Delta, r.Err = elfdiff.Compare(ctx, orig, patched, opts.Rules, &opts.Diff)
	return r
}
