package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestModuleUsage(t *testing.T) {
	s := sides("call-target/gcc")
	out := filepath.Join(t.TempDir(), "x.ko")
	for _, c := range []struct {
		name string
		args []string
		code int
		err  string
	}{
		{"no kernel", []string{s[0], s[1], "-o", out}, 1, "no --kernel"},
		{"no pair", []string{"--kernel", s[0], "-o", out}, 1, "no pair"},
		{"half a pair", []string{"--kernel", s[0], s[0], "-o", out}, 1, "has no PATCHED"},
		{"no output", []string{"--kernel", s[0], s[0], s[1]}, 1, "no -o"},
		{"half a key", []string{"--kernel", s[0], "--sign-key", "k", s[0], s[1], "-o", out}, 1, "go together"},
		{"target within a pair", []string{"--kernel", s[0], s[0], "--target", "x.ko", s[1], "-o", out}, 1, "between ORIG and PATCHED"},
		{"kernel not there", []string{"--kernel", "/nowhere", s[0], s[1], "-o", out}, 1, "file-unreadable"},
		{"no kernel in it", []string{"--kernel", s[0], s[0], s[1], "-o", out}, 1, "a relocatable object, which nothing boots"},
		{"output is an input", []string{"--kernel", s[0], s[0], s[1], "-o", s[1]}, 1, "is the input"},
		{"bad size", []string{"--kernel", s[0], "--entry-size", "x", s[0], s[1], "-o", out}, 1, "SECTION=N"},
	} {
		r := do(append([]string{"module"}, c.args...)...)
		if r.code != c.code || !strings.Contains(r.errOut, c.err) {
			t.Errorf("%s: %v", c.name, r)
		}
		if _, err := os.Stat(out); err == nil {
			t.Fatalf("%s: written", c.name)
		}
	}
}

// A module for a stock kernel, proved again by the other command, refuted when it is damaged.
func TestModuleCommand(t *testing.T) {
	root := os.Getenv("KDELTA_KERNELS")
	kernel, other := filepath.Join(root, "boot/vmlinuz-6.1.0-50-amd64"), filepath.Join(root, "boot/vmlinuz-6.12.117+deb12-amd64")
	orig, patched := "../../../shared/pairs/fixes/10-pipe-fasync-undo.ORIG.o", "../../../shared/pairs/fixes/10-pipe-fasync-undo.PATCHED.o"
	for _, name := range []string{kernel, other, orig, patched} {
		if _, err := os.Stat(name); root == "" || err != nil {
			t.Skipf("KDELTA_KERNELS does not name a directory of unpacked kernel packages, or no %s", name)
		}
	}
	dir := t.TempDir()
	out := filepath.Join(dir, "kd_test.ko")
	cache := filepath.Join(dir, "cache")
	for range 2 { // the second time from the cache
		r := do("module", "--kernel", kernel, "--cache", cache, orig, patched, "-o", out)
		if r.code != 0 || !strings.Contains(r.out, "replaces  vmlinux:pipe_fasync,0") {
			t.Fatal(r)
		}
	}
	if kept, err := os.ReadDir(cache); err != nil || len(kept) != 1 {
		t.Errorf("%v, %v", kept, err)
	}
	verify := []string{"verify", out, "--kernel", kernel, "--cache", cache, "--pair", orig, patched}
	if r := do(verify...); r.code != 0 || strings.Count(r.out, "proved") != 3 {
		t.Error(r)
	}
	good, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(out, bytes.ReplaceAll(good, []byte("pipe_fasync\x00"), []byte("pipe_fasymc\x00")), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := do(verify...); r.code != 2 {
		t.Error(r)
	}
	if r := do("module", "--kernel", kernel, "--cache", cache, patched, orig, "-o", out); r.code != 2 || !strings.Contains(r.errOut, "run-pre-mismatch") {
		t.Errorf("the patched object for the original one: %v", r)
	}
	if r := do("module", "--kernel", kernel, "--cache", cache, orig, orig, "-o", out); r.code != 3 {
		t.Error(r)
	}
	if r := do("module", "--kernel", other, orig, patched, "-o", out); r.code != 2 {
		t.Errorf("another kernel: %v", r)
	}
}
