//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kdelta/kdelta/examples/internal/clitest"
	"github.com/kdelta/kdelta/pkg/atomicfile"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel/image"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/pkg/synth"
)

// lastStep is the first argument of a process that does the last step only.
const lastStep = "last-step"

// TestMain is the program itself where a test starts it, or its last step.
func TestMain(m *testing.M) {
	clitest.Main(m, func() {
		if len(os.Args) == 4 && os.Args[1] == lastStep {
			ds, err := finished(os.Args[2], os.Args[3])
			os.Exit(exitCode(append(ds, findings(err)...)))
		}
		main()
	})
}

const caseDir = "../../testdata/cases/const-code/gcc."

// newCache makes a cache with what finished needs: the facts of a kernel.
func newCache(t *testing.T) (dir string) {
	t.Helper()
	data, err := os.ReadFile(caseDir + "ORIG.o")
	require.NoError(t, err)
	f, err := object.Parse(data, object.Options{Name: "orig.o"})
	require.NoError(t, err)
	data, err = synth.Kernel(f)
	require.NoError(t, err)
	k, err := image.Parse(data, image.Options{Name: "vmlinux"})
	require.NoError(t, err)
	dir = t.TempDir()
	require.NoError(t, store{dir}.put(fmt.Sprintf("facts-%d", image.EncodingVersion), k.Encode()))
	return dir
}

// finished makes the module of a fixture for the kernel of a cache.
func finished(cache, out string) ([]diag.Diagnostic, error) {
	t := &tools{cpu: make(map[string]float64)}
	w := &workspace{store: store{cache}, tools: t, prog: newProgress(os.Stderr, t)}
	k := &target{store: store{cache}, release: synth.Release}
	objs := []built{{Source: "fs/x.c", Object: klp.Vmlinux, orig: caseDir + "ORIG.o", patched: caseDir + "PATCHED.o"}}
	return (&options{out: out, name: "kd_test"}).finish(atomicfile.CancelOnSignal(), w, k, objs, nil, &document{})
}

// unwritten makes sure that a file which cannot be written is told, and nothing of it is there.
func unwritten(t *testing.T, cache, out, says string) {
	t.Helper()
	before, missing := os.ReadFile(out)
	ds, err := finished(cache, out)
	ds = append(ds, findings(err)...)
	require.Equal(t, exitTrouble, exitCode(ds))
	require.ErrorContains(t, err, says)
	if after, err := os.ReadFile(out); missing == nil {
		require.NoError(t, err)
		require.Equal(t, before, after)
	} else {
		require.Error(t, err)
	}
	clitest.Files(t, filepath.Dir(out))
}

// A disk that is full, and one that cannot be written; a directory that is gone, or none.
func TestFaultsOutput(t *testing.T) {
	cache := newCache(t)
	dir := t.TempDir()
	out := filepath.Join(dir, "x.ko")
	_, err := finished(cache, out)
	require.NoError(t, err)
	require.FileExists(t, out)
	unwritten(t, cache, filepath.Join(dir, "none", "x.ko"), "no such file or directory")
	unwritten(t, cache, filepath.Join(out, "x.ko"), "not a directory")
	unwritten(t, cache, dir, "is a directory")

	disk := t.TempDir()
	clitest.Disk(t, disk)
	old := filepath.Join(disk, "old.ko")
	require.NoError(t, os.WriteFile(old, []byte("old"), 0o600))
	filler := clitest.Fill(t, disk)
	for _, out := range []string{old, filepath.Join(disk, "new.ko")} {
		unwritten(t, cache, out, "no space left on device")
	}
	objs := []built{{Source: "fs/x.c", orig: caseDir + "ORIG.o", patched: caseDir + "PATCHED.o"}}
	require.ErrorContains(t, keepObjects(disk, objs), "no space left on device")
	require.ErrorContains(t, store{disk}.put("key", make([]byte, 4096)), "no space left on device")
	require.Error(t, keepObjects(filler, objs))
	require.ElementsMatch(t, []string{"old.ko", "filler"}, clitest.Files(t, disk))
	clitest.ReadOnly(t, disk)
	for _, out := range []string{old, filepath.Join(disk, "new.ko")} {
		unwritten(t, cache, out, "read-only file system")
	}
	code, _, errs := runCommand(t, "--release", synth.Release, "--patch", filepath.Join(dir, "p"), "-o", out, "--work", filepath.Join(disk, "work"))
	require.Equal(t, exitTrouble, code)
	require.Contains(t, errs, "read-only file system")
}

// A signal at any time leaves the old module or the new one.
func TestFaultsInterrupt(t *testing.T) {
	cache := newCache(t)
	out := filepath.Join(t.TempDir(), "x.ko")
	_, err := finished(cache, out)
	require.NoError(t, err)
	module, err := os.ReadFile(out)
	require.NoError(t, err)
	n := 30
	if testing.Short() {
		n = 8
	}
	clitest.Interrupt(t, n, exitTrouble, func() *exec.Cmd {
		require.NoError(t, os.WriteFile(out, []byte("old"), 0o600))
		return clitest.Program(t, lastStep, cache, out)
	}, func(code int) {
		got, err := os.ReadFile(out)
		require.NoError(t, err)
		if string(got) == "old" {
			require.NotZero(t, code)
		} else {
			require.True(t, bytes.Equal(module, got))
		}
		require.Equal(t, []string{"x.ko"}, clitest.Files(t, filepath.Dir(out)))
	})
}

// A signal while the program waits: for another run, for a patch from a pipe, where only the second one is heard.
func TestFaultsInterruptWait(t *testing.T) {
	dir := t.TempDir()
	pipe, out := filepath.Join(dir, "pipe"), filepath.Join(dir, "x.ko")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	start := func(errs *bytes.Buffer) *exec.Cmd {
		cmd := clitest.Program(t, "--release", "6.1.0-50-amd64", "--patch", pipe, "-o", out, "--work", filepath.Join(dir, "work"), "--packages", dir)
		cmd.Stderr = errs
		require.NoError(t, cmd.Start())
		return cmd
	}
	var errs, otherErrs bytes.Buffer
	first := start(&errs)
	w, err := os.OpenFile(pipe, os.O_WRONLY, 0) // waits until the program reads it: it has locked its cache
	require.NoError(t, err)
	other := start(&otherErrs)
	waits := func() bool { // for a lock
		locks, err := os.ReadFile("/proc/locks")
		return err != nil || bytes.Contains(locks, fmt.Appendf(nil, "-> FLOCK  ADVISORY  WRITE %d ", other.Process.Pid))
	}
	require.Eventually(t, waits, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, other.Process.Signal(syscall.SIGINT))
	require.Equal(t, exitTrouble, clitest.ExitCode(t, other.Wait()))
	require.Contains(t, otherErrs.String(), "interrupted")

	require.NoError(t, first.Process.Signal(syscall.SIGINT))
	_, err = w.WriteString(fix)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.Equal(t, exitTrouble, clitest.ExitCode(t, first.Wait()), errs.String())

	first = start(&errs)
	w, err = os.OpenFile(pipe, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer w.Close()
	require.NoError(t, first.Process.Signal(syscall.SIGINT))
	time.Sleep(100 * time.Millisecond) // signals that wait for a process are one
	require.NoError(t, first.Process.Signal(syscall.SIGINT))
	require.Equal(t, 130, clitest.ExitCode(t, first.Wait()))
	require.NoFileExists(t, out)
}

// Nobody reads standard output any more.
func TestFaultsStdout(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{{"--schema"}, {"--json", "--release", "6.1.0-50-amd64", "--patch", filepath.Join(dir, "none"), "-o", filepath.Join(dir, "x.ko"), "--work", dir}} {
		require.NotZero(t, clitest.Unread(t, clitest.Program(t, args...)), args)
	}
}
