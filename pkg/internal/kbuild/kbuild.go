// Package kbuild compiles single files of Debian's kernels for tests, as they are
// and with edits, with the distribution's own flags: linux-source and the headers
// packages are enough (make -C HEADERS M=DIR FILE.o). Tests that use it skip where
// compiler or packages are missing. Objects are kept in the user's cache.
package kbuild

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/kdelta/kdelta/pkg/atomicfile"
	"github.com/kdelta/kdelta/pkg/internal/guest"
	"github.com/kdelta/kdelta/pkg/object"
)

// Edit replaces text of a source file that is there exactly once.
type Edit struct{ Old, New string }

// flags are what a livepatch needs beside the kernel's own.
const flags = "-ffunction-sections -fdata-sections -g0 -fasynchronous-unwind-tables"

// version is part of the key of what is kept.
const version = "1"

var mu sync.Mutex // make must not run twice in one directory

// source gives the directory of the kernel's sources, with the given one unpacked.
func source(t testing.TB, release, dir string) string {
	t.Helper()
	major, _, _ := strings.Cut(strings.TrimPrefix(release, "6."), ".")
	name := "linux-source-6." + major
	top := filepath.Join(cache(t), name)
	if _, err := os.Stat(filepath.Join(top, dir, "Makefile")); err == nil {
		return top
	}
	archive := filepath.Join(guest.Root(t), "usr/src", name+".tar.xz")
	if _, err := os.Stat(archive); err != nil {
		t.Skipf("no %s", archive)
	}
	cmd := exec.Command("tar", "-xJf", archive, "--wildcards", name+"/"+dir+"/*")
	cmd.Dir = cache(t)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("unpacking %s of %s: %v\n%s", dir, archive, err, out)
	}
	return top
}

func cache(t testing.TB) string {
	t.Helper()
	base, err := os.UserCacheDir()
	if err != nil {
		t.Skip(err)
	}
	dir := filepath.Join(base, "kdelta-ci", "kbuild")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Object compiles one file of a kernel ("fs/pipe.c") after edits, with further options of the compiler.
func Object(t testing.TB, release, file string, edits []Edit, options ...string) *object.File {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	headers := "/usr/src/linux-headers-" + release
	if _, err := os.Stat(headers); err != nil {
		t.Skipf("no %s: install the package", headers)
	}
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("no make")
	}
	if _, err := exec.LookPath("gcc-12"); err != nil {
		t.Skip("no gcc-12, which Debian's kernels are built with")
	}
	dir := filepath.Dir(file)
	top := source(t, release, dir)
	path := filepath.Join(top, file)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	edited := string(text)
	for _, e := range edits {
		if n := strings.Count(edited, e.Old); n != 1 {
			t.Fatalf("%s has %d times %q", file, n, e.Old)
		}
		edited = strings.Replace(edited, e.Old, e.New, 1)
	}
	all := strings.Join(append([]string{flags, "-fmacro-prefix-map=" + top + "/="}, options...), " ")
	key := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\n%s\n%s", version, release, file, all, edited))
	kept := filepath.Join(cache(t), fmt.Sprintf("%x.o", key[:12]))
	data, err := os.ReadFile(kept)
	if err != nil {
		if err := os.WriteFile(path, []byte(edited), 0o600); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.WriteFile(path, text, 0o600) }()
		made := strings.TrimSuffix(path, ".c") + ".o"
		cmd := exec.Command("make", "-s", "-C", headers, "M="+filepath.Join(top, dir), "KCFLAGS="+all, filepath.Base(made))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s of %s: %v\n%s", file, release, err, out)
		}
		if data, err = os.ReadFile(made); err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(made)
		if err := atomicfile.Write(kept, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := object.Parse(data, object.Options{Name: strings.TrimSuffix(file, ".c") + ".o"})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Pair compiles a file as it is and after edits.
func Pair(t testing.TB, release, file string, edits ...Edit) (orig, patched *object.File) {
	t.Helper()
	return Object(t, release, file, nil), Object(t, release, file, edits)
}
