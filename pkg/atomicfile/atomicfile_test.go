package atomicfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// entries gives the names in dir; a temporary file left behind shows up here.
func entries(t *testing.T, dir string) string {
	t.Helper()
	es, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range es {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func content(t *testing.T, path string) string {
	t.Helper()
	d, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(d)
}

// refused checks that the error is a PathError for path.
func refused(t *testing.T, path string, err error) {
	t.Helper()
	var pe *fs.PathError
	if !errors.As(err, &pe) || pe.Path != path || pe.Op != "write" {
		t.Fatalf("error %v (%T), want a PathError of %q", err, err, path)
	}
	if strings.Contains(err.Error(), ".kdelta-") {
		t.Fatalf("error %v names the temporary file", err)
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "out.o")
	for _, data := range []string{"first", "", strings.Repeat("long", 1<<16)} {
		if err := Write(p, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := content(t, p); got != data {
			t.Fatalf("%d bytes, want %d", len(got), len(data))
		}
	}
	if got := entries(t, dir); got != "out.o" {
		t.Fatalf("directory holds %q", got)
	}
	t.Chdir(dir)
	if err := Write("rel.o", []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("n", 255)
	if err := Write(long, []byte("x"), 0o644); err != nil && runtime.GOOS != "windows" {
		t.Fatal(err)
	}
}

func TestWritePermissions(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no permission bits")
	}
	dir := t.TempDir()
	want := filepath.Join(dir, "want")
	if err := os.WriteFile(want, nil, 0o664); err != nil { // umask applies as it does for everybody
		t.Fatal(err)
	}
	p := filepath.Join(dir, "p")
	if err := Write(p, nil, 0o664); err != nil {
		t.Fatal(err)
	}
	mode := func(p string) fs.FileMode {
		fi, err := os.Lstat(p)
		if err != nil {
			t.Fatal(err)
		}
		return fi.Mode()
	}
	if mode(p) != mode(want) {
		t.Fatalf("new file %v, want %v", mode(p), mode(want))
	}
	if err := os.Chmod(p, 0o751); err != nil {
		t.Fatal(err)
	}
	if err := Write(p, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if mode(p) != 0o751 {
		t.Fatalf("replaced file %v, want the old one's bits", mode(p))
	}
}

func TestWriteHardLink(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if err := os.WriteFile(a, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(a, b); err != nil {
		t.Skip(err)
	}
	if err := Write(a, []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	if content(t, a) != "new" || content(t, b) != "old" {
		t.Fatalf("a %q, b %q", content(t, a), content(t, b))
	}
}

func TestWriteSymlink(t *testing.T) {
	dir := t.TempDir()
	sub := filepath.Join(dir, "sub", "deep")
	if err := os.MkdirAll(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	link := func(target, name string) string {
		p := filepath.Join(dir, name)
		if err := os.Symlink(target, p); err != nil {
			t.Skip(err)
		}
		return p
	}
	link("sub/deep", "d")
	tests := []struct{ name, target, ends string }{
		{"relative", "sub/file", "sub/file"},
		{"absolute", filepath.Join(dir, "abs"), "abs"},
		{"chain", "relative", "sub/file"},
		{"through-dir", "d/../up", "sub/up"}, // d is sub/deep: its parent is sub
		{"dangling", "sub/deep/none", "sub/deep/none"},
	}
	for _, tt := range tests {
		p := link(tt.target, tt.name)
		for _, data := range []string{"one " + tt.name, "two " + tt.name} { // absent, then present
			if err := Write(p, []byte(data), 0o644); err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			if fi, err := os.Lstat(p); err != nil || fi.Mode()&fs.ModeSymlink == 0 {
				t.Fatalf("%s: the link is gone: %v %v", tt.name, fi, err)
			}
			if got := content(t, filepath.Join(dir, tt.ends)); got != data {
				t.Fatalf("%s: %q, want %q", tt.name, got, data)
			}
		}
	}
	if got := entries(t, filepath.Join(dir, "sub")); got != "deep file up" {
		t.Fatalf("sub holds %q", got)
	}

	loop := link("loop", "loop")
	refused(t, loop, Write(loop, nil, 0o644))
	todir := link("sub", "todir")
	refused(t, todir, Write(todir, nil, 0o644))
}

func TestWrite_Errors(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("keep"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{
		"",
		dir,
		filepath.Join(dir, "d"),
		filepath.Join(dir, "d") + string(filepath.Separator),
		filepath.Join(dir, "new") + string(filepath.Separator),
		filepath.Join(dir, "vanished", "x"),
		filepath.Join(dir, "f", "x"),
		filepath.Join(dir, strings.Repeat("n", 4096)),
	} {
		err := Write(p, []byte("x"), 0o644)
		if err == nil {
			t.Errorf("Write(%q) works", p)
			continue
		}
		refused(t, p, err)
	}
	if got := entries(t, dir); got != "d f" {
		t.Fatalf("directory holds %q", got)
	}
	if got := content(t, filepath.Join(dir, "f")); got != "keep" {
		t.Fatalf("f holds %q", got)
	}
}

func TestWriteConcurrent(t *testing.T) {
	p := filepath.Join(t.TempDir(), "p")
	a, b := bytes.Repeat([]byte("a"), 100_000), bytes.Repeat([]byte("b"), 50_000)
	if err := Write(p, a, 0o644); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, d := range [][]byte{a, b, a, b} {
		wg.Go(func() {
			for range 10 {
				if err := Write(p, d, 0o644); err != nil && runtime.GOOS != "windows" { // Windows refuses while a reader has it open
					t.Error(err)
				}
			}
		})
	}
	stop := make(chan struct{})
	go func() { wg.Wait(); close(stop) }()
	for {
		select {
		case <-stop:
			if got := entries(t, filepath.Dir(p)); got != "p" {
				t.Fatalf("directory holds %q", got)
			}
			return
		default:
		}
		if d, err := os.ReadFile(p); err == nil && !bytes.Equal(d, a) && !bytes.Equal(d, b) {
			t.Fatalf("a part of a file: %d bytes", len(d))
		}
	}
}
