package batch_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/batch"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/synth"
)

var errMissing = errors.New("missing")

func pairs(t *testing.T, n int) []batch.Pair {
	t.Helper()
	var out []batch.Pair
	for i := range n {
		orig, patched, err := synth.Pair(synth.Shape{Functions: 1 + i*7%40})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, batch.Pair{Name: fmt.Sprint(i), Load: func() (a, b elfdiff.Input, err error) {
			switch i % 5 {
			case 1:
				return a, b, errMissing
			case 2:
				return elfdiff.Input{Name: "a", Data: orig}, elfdiff.Input{Name: "b", Data: orig}, nil
			case 3:
				return elfdiff.Input{Name: "a", Data: orig}, elfdiff.Input{Name: "b", Data: patched[:60]}, nil
			}
			return elfdiff.Input{Name: "a", Data: orig}, elfdiff.Input{Name: "b", Data: patched}, nil
		}})
	}
	return out
}

// TestRun: the same results in the same order for any number of workers; what is bad stays alone.
func TestRun(t *testing.T) {
	const n = 43
	var want []batch.Result
	for _, workers := range []int{1, 2, 8, 100} {
		var got []batch.Result
		err := batch.Run(context.Background(), pairs(t, n), batch.Options{Rules: kernel.Rules(), Workers: workers}, func(r batch.Result) error {
			got = append(got, r)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = got
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%d workers: other results", workers)
		}
	}
	for i, r := range want {
		if r.Pair != i || r.Name != fmt.Sprint(i) {
			t.Fatalf("result %d is that of %d", i, r.Pair)
		}
		switch i % 5 {
		case 1:
			if !errors.Is(r.Err, errMissing) {
				t.Errorf("%d: %v", i, r.Err)
			}
		case 2:
			if !r.Identical || r.Err != nil {
				t.Errorf("%d: %+v", i, r)
			}
		case 3:
			if r.Err == nil {
				t.Errorf("%d: not refused", i)
			}
		default:
			if r.Delta == nil || r.Delta.Same() {
				t.Errorf("%d: %+v", i, r)
			}
		}
	}
}

func TestRunEnds(t *testing.T) {
	stop := errors.New("stop")
	n := 0
	err := batch.Run(context.Background(), pairs(t, 60), batch.Options{Workers: 3}, func(batch.Result) error {
		if n++; n == 7 {
			return stop
		}
		return nil
	})
	if err != stop || n != 7 {
		t.Errorf("%v after %d", err, n)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n = 0
	err = batch.Run(ctx, pairs(t, 60), batch.Options{Workers: 3}, func(batch.Result) error {
		if n++; n == 7 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || n != 7 {
		t.Errorf("%v after %d", err, n)
	}
	if err := batch.Run(context.Background(), nil, batch.Options{}, nil); err != nil {
		t.Error(err)
	}
}
