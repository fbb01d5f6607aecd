package patch_test

import (
	"context"
	"testing"

	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/pkg/patch"
	"github.com/kdelta/kdelta/pkg/verify"
)

// BenchmarkPatch makes and proves a patch from a delta that is there; bytes are those of both objects.
func BenchmarkPatch(b *testing.B) {
	ctx := context.Background()
	p, err := pair("func-new-static/gcc")
	if err != nil {
		b.Fatal(err)
	}
	write := func() []byte {
		plan, err := patch.New(ctx, []patch.Pair{p}, patch.Options{})
		if err != nil {
			b.Fatal(err)
		}
		out, err := plan.Bytes()
		if err != nil {
			b.Fatal(err)
		}
		return out
	}
	f, err := object.Parse(write(), object.Options{Name: "patch.o"})
	if err != nil {
		b.Fatal(err)
	}
	run := func(name string, f func()) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(p.Orig.File.Data) + len(p.Patched.File.Data)))
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
	run("write", func() { write() })
	run("verify", func() {
		r, err := verify.Verify(ctx, f, []verify.Pair{{Object: p.Object, Orig: p.Orig.File, Patched: p.Patched.File}}, verify.Options{Rules: p.Orig.Rules})
		if err != nil || r.Refuted() {
			b.Fatal(err, r.Findings)
		}
	})
}
