package verify_test

import (
	"context"
	"os"
	"testing"

	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/pkg/verify"
)

// fuzzed are patches with much in them, made from cases of the project.
var fuzzed = []string{"cold-grow/gcc", "alt-two/gcc", "extable/gcc", "func-pointer/gcc", "string-tail/as", "static-local-new/gcc", "jump-table/gcc", "bug-flags/gcc"}

// FuzzVerify: whatever bytes of a patch change, Verify gives a result and does not panic.
func FuzzVerify(f *testing.F) {
	var seeds []*written
	for _, name := range fuzzed {
		a, b := parse(f, cases+"/"+name+".ORIG.o"), parse(f, cases+"/"+name+".PATCHED.o")
		if w := write(f, name, [2]*object.File{a, b}); w != nil {
			seeds = append(seeds, w)
		}
	}
	if len(seeds) < 6 {
		f.Fatalf("%d seeds", len(seeds))
	}
	for i := range seeds {
		f.Add(uint8(i), uint32(0), []byte{})
		for _, at := range []uint32{0x10, 0x80, 0x200, 0x400} {
			f.Add(uint8(i), at, []byte{0xff, 0x80})
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, at uint32, change []byte) {
		w := seeds[int(which)%len(seeds)]
		data := append([]byte(nil), w.patch.Data...)
		for i, c := range change {
			data[(int(at)+i)%len(data)] ^= c
		}
		p, err := object.Parse(data, object.Options{})
		if err != nil {
			return
		}
		check := func(p *object.File, pairs []verify.Pair) {
			r, err := verify.Verify(context.Background(), p, pairs, w.options())
			if err != nil {
				t.Fatal(err)
			}
			if r.Refuted() != (r.Err() != nil) {
				t.Errorf("refuted %v, error %v", r.Refuted(), r.Err())
			}
		}
		check(p, w.pairs)
		// The other way round: what it was made from is not what it was made from.
		check(w.patch, []verify.Pair{{Object: "vmlinux", Orig: w.pairs[0].Orig, Patched: p}})
		check(w.patch, []verify.Pair{{Object: "vmlinux", Orig: p, Patched: w.pairs[0].Patched}})
	})
}

// What is no patch at all is refuted, not believed.
func TestNoPatch(t *testing.T) {
	for _, p := range under(t, cases) {
		f := parse(t, p[2])
		if f == nil {
			continue
		}
		r, err := verify.Verify(context.Background(), f, []verify.Pair{{Object: "vmlinux", Orig: f, Patched: f}}, verify.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if !r.Refuted() {
			t.Errorf("%s is taken for a patch", p[0])
		}
	}
	if _, err := os.Stat(cases); err != nil {
		t.Fatal(err)
	}
	if _, err := verify.Verify(context.Background(), nil, nil, verify.Options{}); err == nil {
		t.Error("no patch, and no error")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	w := all()[0]
	if _, err := verify.Verify(ctx, w.patch, w.pairs, w.options()); err == nil {
		t.Error("a context that is done, and no error")
	}
	if _, err := verify.Verify(context.Background(), w.patch, []verify.Pair{{}}, w.options()); err == nil {
		t.Error("half a pair, and no error")
	}
}
