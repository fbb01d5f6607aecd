package patch_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/pkg/patch"
)

func TestScratch(t *testing.T) {
	pat := os.Getenv("PAIRS")
	if pat == "" {
		t.Skip()
	}
	files, _ := filepath.Glob(pat)
	rules := kernel.Rules()
	for _, n := range files {
		load := func(n string) *elfdiff.Graph {
			b, err := os.ReadFile(n)
			if err != nil {
				t.Fatal(err)
			}
			f, err := object.Parse(b, object.Options{Name: filepath.Base(n)})
			if err != nil {
				t.Fatal(err)
			}
			g, err := elfdiff.Analyze(context.Background(), f, rules)
			if err != nil {
				t.Fatal(err)
			}
			return g
		}
		q := strings.Replace(n, ".ORIG.o", ".PATCHED.o", 1)
		if _, err := os.Stat(q); err != nil {
			q = strings.Replace(n, ".ORIG.o", ".PATCHED.FAIL.o", 1)
		}
		a, b := load(n), load(q)
		d, err := elfdiff.Diff(context.Background(), a, b, nil)
		if err != nil {
			t.Fatal(err)
		}
		p, err := patch.New(context.Background(), []patch.Pair{{Object: "vmlinux", Orig: a, Patched: b, Delta: d}}, patch.Options{})
		if err != nil {
			t.Log("==", filepath.Base(n))
			for _, x := range err.(interface{ Unwrap() []error }).Unwrap() {
				t.Log("    ", x)
			}
			continue
		}
		out, err := p.Bytes()
		if err != nil {
			t.Error(n, err)
			continue
		}
		os.WriteFile("/tmp/out/"+strings.TrimSuffix(filepath.Base(n), ".ORIG.o")+".o", out, 0o644)
		t.Log("==", filepath.Base(n), len(out))
	}
}
