package atomicfile

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestWriteDevice(t *testing.T) {
	for range 2 {
		if err := Write("/dev/null", []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if fi, err := os.Lstat("/dev/null"); err != nil || fi.Mode()&os.ModeCharDevice == 0 {
		t.Fatalf("/dev/null is now %v, %v", fi, err)
	}
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip(err)
	}
	err := Write("/dev/full", []byte("x"), 0o644)
	refused(t, "/dev/full", err)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

func TestWritePipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/proc/self/fd/"+strconv.Itoa(int(w.Fd())), link); err != nil {
		t.Fatal(err)
	}
	if err := Write(link, []byte("through"), 0o644); err != nil {
		t.Skip(err) // no /proc
	}
	w.Close()
	if d, err := io.ReadAll(r); err != nil || string(d) != "through" {
		t.Fatalf("%q, %v", d, err)
	}
}

// An open file that is reached through /proc is written, not replaced: the one
// who opened it would never see what replaced it.
func TestWriteOpenFile(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.WriteString("before ")
	if err := Write("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), []byte("after"), 0o644); err != nil {
		t.Skip(err)
	}
	if fi, err := os.Stat(f.Name()); err != nil {
		t.Fatal(err)
	} else if fi2, err := f.Stat(); err != nil || !os.SameFile(fi, fi2) {
		t.Fatalf("the file was replaced: %v", err)
	}
	if got := content(t, f.Name()); got != "before after" {
		t.Fatalf("%q", got)
	}
}

func TestWriteUnwritableDir(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "p")
	if err := os.WriteFile(p, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(dir, 0o755)
	if os.Getuid() != 0 {
		refused(t, p, Write(p, []byte("new"), 0o644))
	} else {
		// Root passes permission bits; a read-only mount stops it.
		m := mount(t, "size=64k")
		p = filepath.Join(m, "p")
		if err := os.WriteFile(p, []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("mount", "-o", "remount,ro", m).CombinedOutput(); err != nil {
			t.Skipf("remount: %s", out)
		}
		refused(t, p, Write(p, []byte("new"), 0o644))
		dir = m
	}
	if content(t, p) != "old" || entries(t, dir) != "p" {
		t.Fatalf("%q in %q", content(t, p), entries(t, dir))
	}
}

func TestWriteFullDisk(t *testing.T) {
	m := mount(t, "size=64k")
	p := filepath.Join(m, "p")
	if err := Write(p, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := Write(p, make([]byte, 1<<20), 0o644)
	refused(t, p, err)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if content(t, p) != "old" || entries(t, m) != "p" {
		t.Fatalf("%q in %q", content(t, p), entries(t, m))
	}
}

// mount gives a small file system of its own, or skips.
func mount(t *testing.T, opts string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a tmpfs needs root")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", opts, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("mount: %s", strings.TrimSpace(string(out)))
	}
	t.Cleanup(func() { exec.Command("umount", dir).Run() })
	return dir
}
