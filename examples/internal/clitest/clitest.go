// Package clitest is what tests of the programs share: the program as a process, and disks that fail.
package clitest

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const env = "KDELTA_TEST_PROGRAM"

// Main is for TestMain: it runs main where Program has started the test's binary, else the tests.
func Main(m *testing.M, main func()) {
	if os.Getenv(env) == "1" {
		main()
	}
	os.Exit(m.Run())
}

// Program prepares the program under test as a process of its own.
func Program(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), env+"=1")
	return cmd
}

// ExitCode gives that of a process that has ended; signals are their number below 0.
func ExitCode(t testing.TB, err error) int {
	t.Helper()
	var ee *exec.ExitError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &ee):
		t.Fatal(err)
	}
	if s := ee.Sys().(syscall.WaitStatus); s.Signaled() {
		return -int(s.Signal())
	}
	return ee.ExitCode()
}

// Unread runs a program whose standard output nobody reads any more, and gives its exit code.
func Unread(t testing.TB, cmd *exec.Cmd) int {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	cmd.Stdout = w
	err = cmd.Run()
	w.Close()
	return ExitCode(t, err)
}

// Interrupt runs a program n times, with SIGINT and SIGTERM in turn at times that are spread over a
// whole run; prepare makes each of them, and check gets its exit code, which is 0 or own; own 0 stands
// for 128 and the number of the signal.
func Interrupt(t *testing.T, n, own int, prepare func() *exec.Cmd, check func(code int)) {
	t.Helper()
	start := time.Now()
	if out, err := prepare().CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	takes := time.Since(start)
	check(0)
	codes := make(map[int]int)
	for i := range n {
		cmd := prepare()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(takes * time.Duration(i) / time.Duration(n))
		sig := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}[i%2]
		_ = cmd.Process.Signal(sig) // it may have ended
		code, want := ExitCode(t, cmd.Wait()), own
		if own == 0 {
			want = 128 + int(sig)
		}
		if codes[code]++; code != 0 && code != want && code != -int(sig) { // before main has set it up, the signal itself ends it
			t.Errorf("exit code %d", code)
		}
		check(code)
	}
	t.Logf("exit codes: %v; %v", codes, takes)
}

// Disk gives a small file system of its own, or skips the test.
func Disk(t testing.TB, dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a tmpfs needs root")
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("mount: %s", bytes.TrimSpace(out))
	}
	t.Cleanup(func() { _ = exec.Command("umount", dir).Run() })
}

// Fill leaves no space on a disk, in the file that it gives.
func Fill(t testing.TB, disk string) string {
	t.Helper()
	f, err := os.Create(filepath.Join(disk, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	f.Close()
	return f.Name()
}

// ReadOnly lets nobody write to a disk any more.
func ReadOnly(t testing.TB, disk string) {
	t.Helper()
	if out, err := exec.Command("mount", "-o", "remount,ro", disk).CombinedOutput(); err != nil {
		t.Skipf("remount: %s", out)
	}
}

// Files lists the files below a directory, and fails for those that a write has left behind.
func Files(t testing.TB, root string) (out []string) {
	t.Helper()
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(root, path)
			out = append(out, rel)
			if strings.Contains(filepath.Base(path), ".kdelta-") {
				t.Errorf("left behind: %s", path)
			}
		}
		return nil
	})
	return out
}
