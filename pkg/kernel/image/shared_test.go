package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"testing"

	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/symbols"
	"github.com/klauspost/compress/zstd"
)

// shared reads a file below ../shared/pairs, and skips the test when it is not there.
func shared(t *testing.T, elem ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{"../../../../shared/pairs"}, elem...)...))
	if err != nil {
		t.Skipf("../shared/pairs/%s is not here; it is not part of the repository", filepath.Join(elem...))
	}
	return data
}

// A linked vmlinux of 7.2 with a symbol table: kallsyms, whose addresses are relative to their
// places there, has every name where that table has it, and the exports, of which there is one table with flags, are
// those of its Module.symvers.
func TestLinked(t *testing.T) {
	z, err := zstd.NewReader(bytes.NewReader(shared(t, "vmlinux-pair.tar.zst")))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	files := map[string][]byte{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if base := path.Base(h.Name); base == "vmlinux" || base == "Module.symvers" {
			if files[base], err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	k := mustParse(t, files["vmlinux"])
	f, err := object.Parse(files["vmlinux"], object.Options{Name: "vmlinux"})
	if err != nil {
		t.Fatal(err)
	}
	type place struct {
		name string
		addr uint64
	}
	has := make(map[place]bool, len(f.Symbols))
	for i := range f.Symbols {
		has[place{f.Symbols[i].Name, f.Symbols[i].Value}] = true
	}
	bad := 0
	for i := range k.Symbols {
		if s := &k.Symbols[i]; !has[place{s.Name, s.Addr}] {
			if bad++; bad < 5 {
				t.Errorf("kallsyms has %s at %#x", s.Name, s.Addr)
			}
		}
	}
	sv, err := symbols.ParseSymvers("Module.symvers", files["Module.symvers"])
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range sv.Exports {
		if e.Module != symbols.Vmlinux {
			continue
		}
		n++
		if x, ok := k.Export(e.Symbol); !ok || x.CRC != e.CRC || x.Namespace != e.Namespace || x.GPL != (e.Type == "EXPORT_SYMBOL_GPL") {
			t.Errorf("%+v: image has %+v", e, x)
		}
	}
	if n != len(k.Exports) || len(k.Symbols) < 80000 || bad > 0 {
		t.Errorf("%d exports of %d; %d symbols, %d wrong", len(k.Exports), n, len(k.Symbols), bad)
	}
	if k.ORC() != ORCTypeSignal || k.ORCStackPointer() != 3 || k.CallPadding() != 16 || !k.HasIBT() {
		t.Errorf("%+v", k.conv)
	}
	t.Logf("%d symbols, %d exports", len(k.Symbols), n)
}

// The image's kallsyms are what the running kernel showed (booted with nokaslr), symbol by symbol.
func TestBooted(t *testing.T) {
	const release = "6.1.0-50-amd64"
	text, err := Decompress(shared(t, "fixes", "kallsyms-"+release+".txt.xz"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	k := load(t, filepath.Join(kernels(t), "boot/vmlinuz-"+release))
	ts, err := symbols.ParseKallsyms("kallsyms", text)
	if err != nil {
		t.Fatal(err)
	}
	if len(ts[0].Entries) != len(k.Symbols) {
		t.Fatalf("%d symbols, the kernel shows %d", len(k.Symbols), len(ts[0].Entries))
	}
	for i := range k.Symbols {
		s, e := &k.Symbols[i], &ts[0].Entries[i]
		if s.Name != e.Name || s.Addr != e.Addr || s.Type != e.Kind {
			t.Fatalf("symbol %d is %+v, the kernel shows %+v", i, s, e)
		}
	}
	t.Logf("%d symbols are equal", len(k.Symbols))
}
