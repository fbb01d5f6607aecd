//go:build unix

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kdelta/kdelta/pkg/synth"
)

func TestMedian(t *testing.T) {
	got := median([]cost{{3 * time.Second, 1, 10, 0}, {1 * time.Second, 9, 30, 0}, {2 * time.Second, 5, 20, 0}})
	if got != (cost{2 * time.Second, 5, 20, 0}) {
		t.Errorf("%+v", got)
	}
}

// TestRun: the table has a row for each program; true stands for kdelta.
func TestRun(t *testing.T) {
	orig, patched, err := synth.Pair(synth.Shape{Functions: 3})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.o"), filepath.Join(dir, "b.o")
	for p, d := range map[string][]byte{a: orig, b: patched} {
		if err := os.WriteFile(p, d, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := run([]string{"-kdelta", "true", "-runs", "2", "-create-diff-object", "false", a, b}, &out); err != nil {
		t.Skip(err) // no such programs here
	}
	for _, want := range []string{"kdelta diff", "kdelta patch", "--no-verify", "sha256sum", "create-diff-object"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
	out.Reset()
	if err := run([]string{"-kdelta", "true", "-runs", "1", "-scale", "-max", "1000"}, &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "1000") {
		t.Errorf("%s", out.String())
	}
	for _, args := range [][]string{{}, {"-kdelta", "true"}, {"-kdelta", "true", a}, {"-kdelta", "no-such-program", a, b}} {
		if err := run(args, &out); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
