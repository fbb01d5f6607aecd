//go:build linux

package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kdelta/kdelta/examples/internal/clitest"
	"github.com/kdelta/kdelta/pkg/object"
)

// TestMain is the program itself where a test starts it.
func TestMain(m *testing.M) { clitest.Main(m, main) }

// bigPair writes objects that are mapped rather than read: nothing says that an ELF file ends with its sections.
func bigPair(t *testing.T, dir string) (orig, patched string) {
	t.Helper()
	s := sides("static-local-new/gcc")
	big := func(name, from string) string {
		return writeFile(t, filepath.Join(dir, name), append(readFile(t, from), make([]byte, mapFrom)...))
	}
	return big("big.ORIG.o", s[0]), big("big.PATCHED.o", s[1])
}

// whole checks that what a run has left is what was there before, or all of the result, and nothing else.
func whole(t *testing.T, out, before string, written bool) {
	t.Helper()
	data, err := os.ReadFile(out)
	switch {
	case written:
		if _, perr := object.Parse(data, object.Options{}); err != nil || perr != nil {
			t.Errorf("the output: %v, %v", err, perr)
		}
	case before == "" && !errors.Is(err, os.ErrNotExist), before != "" && string(data) != before:
		t.Errorf("the output was touched: %v, %d bytes", err, len(data))
	}
	clitest.Files(t, filepath.Dir(out))
}

// TestFaults: what happens to files and directories between reading and writing. The
// program stands at a pipe that it reads after its objects, while the fault is made.
func TestFaults(t *testing.T) {
	type place struct{ dir, orig, patched, outDir, out string }
	rewrite := func(path string, change func([]byte) []byte) func(*testing.T, *place) {
		return func(t *testing.T, p *place) {
			name := map[string]string{"orig": p.orig, "patched": p.patched}[path]
			data := readFile(t, name)
			time.Sleep(20 * time.Millisecond) // a tick of the clock that file systems use
			if err := os.WriteFile(name, change(bytes.Clone(data)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	flip := func(d []byte) []byte { d[len(d)/2] ^= 1; return d }
	for _, c := range []struct {
		name  string
		fault func(t *testing.T, p *place)
		text  string // on standard error; of mapped objects only when the program could still say it
	}{
		{"truncated", rewrite("patched", func(d []byte) []byte { return d[:len(d)/3] }), "changed while it was read"},
		{"emptied", rewrite("orig", func(d []byte) []byte { return nil }), "changed while it was read"},
		{"written to", rewrite("orig", flip), "changed while it was read"},
		{"grown", rewrite("patched", func(d []byte) []byte { return append(d, 0) }), "changed while it was read"},
		{"replaced", func(t *testing.T, p *place) {
			if err := os.Rename(writeFile(t, filepath.Join(p.dir, "other"), readFile(t, p.orig)), p.patched); err != nil {
				t.Fatal(err)
			}
		}, "changed while it was read"},
		{"removed", func(t *testing.T, p *place) {
			if err := os.Remove(p.orig); err != nil {
				t.Fatal(err)
			}
		}, "changed while it was read"},
		{"output directory gone", func(t *testing.T, p *place) {
			if err := os.RemoveAll(p.outDir); err != nil {
				t.Fatal(err)
			}
		}, "no such file or directory"},
		{"output directory replaced by a file", func(t *testing.T, p *place) {
			if err := os.RemoveAll(p.outDir); err != nil {
				t.Fatal(err)
			}
			writeFile(t, p.outDir, nil)
		}, "not a directory"},
	} {
		for _, kind := range []string{"read", "mapped"} {
			t.Run(c.name+"/"+kind, func(t *testing.T) {
				p := &place{dir: t.TempDir()}
				if kind == "mapped" {
					p.orig, p.patched = bigPair(t, p.dir)
				} else {
					s := sides("static-local-new/gcc")
					p.orig, p.patched = writeFile(t, filepath.Join(p.dir, "a.o"), readFile(t, s[0])), writeFile(t, filepath.Join(p.dir, "b.o"), readFile(t, s[1]))
				}
				p.outDir = filepath.Join(p.dir, "out")
				if err := os.Mkdir(p.outDir, 0o755); err != nil {
					t.Fatal(err)
				}
				p.out = filepath.Join(p.outDir, "p.o")
				pipe := filepath.Join(p.dir, "pipe")
				if err := syscall.Mkfifo(pipe, 0o600); err != nil {
					t.Skip(err)
				}
				cmd := clitest.Program(t, "patch", "--symvers", pipe, p.orig, p.patched, "-o", p.out)
				var errOut bytes.Buffer
				cmd.Stderr = &errOut
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				w, err := os.OpenFile(pipe, os.O_WRONLY, 0) // waits until the program has come so far
				if err != nil {
					t.Fatal(err)
				}
				c.fault(t, p)
				_, _ = io.WriteString(w, "0x00000000\tnothing\tvmlinux\tEXPORT_SYMBOL\t\n")
				w.Close()
				code := clitest.ExitCode(t, cmd.Wait())
				fault := strings.Contains(errOut.String(), "unexpected fault address") // the page is not there any more
				if code <= 0 || code != patchTrouble && !fault || fault && kind == "read" {
					t.Errorf("exit code %d: %.300s", code, errOut.String())
				}
				if !fault && !strings.Contains(errOut.String(), c.text) {
					t.Errorf("on stderr: %.300s", errOut.String())
				}
				if _, err := os.Stat(p.out); err == nil {
					t.Error("written in spite of it")
				}
			})
		}
	}
}

// A report of files that change has no exit code of a verdict.
func TestFaultsDiff(t *testing.T) {
	dir := t.TempDir()
	s := sides("same/gcc")
	orig := writeFile(t, filepath.Join(dir, "a.o"), readFile(t, s[0]))
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	for _, change := range []bool{false, true} {
		cmd := clitest.Program(t, "verify", orig, "--symvers", pipe)
		var errOut bytes.Buffer
		cmd.Stderr = &errOut
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		w, err := os.OpenFile(pipe, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if change {
			if err := os.Truncate(orig, 100); err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		if code := clitest.ExitCode(t, cmd.Wait()); code == 0 || change != strings.Contains(errOut.String(), "changed while it was read") {
			t.Errorf("changed %v: exit code %d: %s", change, code, errOut.String())
		}
	}
}

// A disk that is full, and one that cannot be written.
func TestFaultsDisk(t *testing.T) {
	disk := t.TempDir()
	clitest.Disk(t, disk)
	s := sides("static-local-new/gcc")
	commands := map[string][]string{
		"patch":               append([]string{"patch", "-o", "OUT"}, s...),
		"kpatch":              append([]string{"patch", "--format", "kpatch", "-o", "OUT"}, s...),
		"klp-diff":            {"klp-diff", s[0], s[1], "OUT"},
		"patch with a report": append([]string{"patch", "-v", "--json", "-o", "OUT"}, s...),
	}
	check := func(what, text string) {
		for name, args := range commands {
			for _, before := range []string{"", "old"} {
				out := filepath.Join(disk, strings.ReplaceAll(name, " ", "-")+before)
				args := strings.Split(strings.ReplaceAll(strings.Join(args, "\x00"), "OUT", out), "\x00")
				r := do(args...)
				if r.code == 0 || !strings.Contains(r.errOut, text) {
					t.Errorf("%s, %s: exit code %d, %s", what, name, r.code, r.errOut)
				}
				whole(t, out, before, false)
			}
		}
	}
	for name := range commands {
		writeFile(t, filepath.Join(disk, strings.ReplaceAll(name, " ", "-")+"old"), []byte("old"))
	}
	clitest.Fill(t, disk)
	check("full", "no space left on device")
	clitest.ReadOnly(t, disk)
	check("read-only", "read-only file system")
}

// A signal at any time leaves the old file or the new one.
func TestFaultsInterrupt(t *testing.T) {
	dir := t.TempDir()
	orig, patched := bigPair(t, dir)
	out := filepath.Join(dir, "p.o")
	n := 40
	if testing.Short() {
		n = 10
	}
	clitest.Interrupt(t, n, 0, func() *exec.Cmd {
		writeFile(t, out, []byte("old"))
		return clitest.Program(t, "patch", orig, patched, "-o", out)
	}, func(code int) {
		old := string(readFile(t, out)) == "old"
		whole(t, out, "old", code == 0 || !old)
		if code == 0 && old {
			t.Error("exit code 0 and nothing written")
		}
	})
}

// A signal while a pipe is written: the write ends first, unless the signal comes again.
func TestFaultsInterruptWrite(t *testing.T) {
	dir := t.TempDir()
	args := append([]string{"patch", "--format", "kpatch"}, sides("dwarf-members/gcc")...)
	plain := filepath.Join(dir, "plain.o")
	if r := do(append(args, "-o", plain)...); r.code != 0 {
		t.Fatal(r.errOut)
	}
	want := readFile(t, plain)
	if len(want) < 5000 { // more than the pipe takes and the test reads at first
		t.Fatalf("%d bytes", len(want))
	}
	for _, again := range []bool{false, true} {
		pipe := filepath.Join(dir, "pipe")
		_ = os.Remove(pipe)
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Skip(err)
		}
		r, err := os.OpenFile(pipe, os.O_RDWR|syscall.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.FcntlInt(r.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
			t.Skip(err)
		}
		cmd := clitest.Program(t, append(args, "-o", pipe)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_ = r.SetReadDeadline(time.Now().Add(time.Minute))
		got := make([]byte, len(want))
		if _, err := io.ReadFull(r, got[:10]); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Process.Signal(syscall.SIGINT)
		if again {
			time.Sleep(200 * time.Millisecond)
			_ = cmd.Process.Signal(syscall.SIGINT)
		} else if _, err := io.ReadFull(r, got[10:]); err != nil || !bytes.Equal(got, want) {
			t.Errorf("another file, %v", err)
		}
		if code := clitest.ExitCode(t, cmd.Wait()); code != 130 && (again || code != 0) { // 0: it was done before the signal was heard
			t.Errorf("exit code %d", code)
		}
		r.Close()
	}
}

// Nobody reads standard output any more.
func TestFaultsStdout(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{
		diff("const-code/gcc"), diff("same/gcc", "--json"), {"schema"}, {"version"}, {"help"},
		append([]string{"patch", "-v", "-o", filepath.Join(dir, "p.o")}, sides("const-code/gcc")...),
		append([]string{"explain"}, append(sides("const-code/gcc"), "changed_one")...),
	} {
		if code := clitest.Unread(t, clitest.Program(t, args...)); code == 0 || code == diffDifferent && args[0] != "patch" {
			t.Errorf("%v: exit code %d", args, code)
		}
	}
	whole(t, filepath.Join(dir, "p.o"), "", true) // it was written before the report
}
