// Package testutil serves tests only: it loads the fixtures of testdata and the
// pairs of ../shared (which are not in the repository), analyzes them once per
// test binary, and shuffles objects.
package testutil

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/object"
)

// Rules are the kernel's rules, one value for all tests: Diff wants both graphs made with the same.
var Rules = sync.OnceValue(kernel.Rules)

// root gives the repository's root directory.
var root = sync.OnceValue(func() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "..")
})

// Cases gives the directory of the fixtures.
func Cases() string { return filepath.Join(root(), "testdata", "cases") }

// Shared gives a path below ../shared/pairs, and skips the test when it is not there.
func Shared(t testing.TB, elem ...string) string {
	t.Helper()
	p := filepath.Join(append([]string{root(), "..", "shared", "pairs"}, elem...)...)
	if _, err := os.Stat(p); err != nil {
		t.Skipf("../shared/pairs/%s is not here; it is not part of the repository", filepath.Join(elem...))
	}
	return p
}

// Pair is two builds of one object.
type Pair struct {
	Name          string // CASE/TOOL for fixtures
	Case, Tool    string // fixtures
	Orig, Patched string // paths
}

// FixturePairs lists the pairs of testdata/cases in the order of their names.
func FixturePairs(t testing.TB) []Pair {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(Cases(), "*", "*.ORIG.o"))
	if err != nil || len(list) == 0 {
		t.Fatalf("no fixtures in %s", Cases())
	}
	var out []Pair
	for _, o := range list {
		tool := strings.TrimSuffix(filepath.Base(o), ".ORIG.o")
		name := filepath.Base(filepath.Dir(o))
		out = append(out, Pair{Name: name + "/" + tool, Case: name, Tool: tool, Orig: o, Patched: strings.TrimSuffix(o, "ORIG.o") + "PATCHED.o"})
	}
	return out
}

// SharedPairs lists the pairs of a directory below ../shared/pairs; nil when it is not here.
func SharedPairs(dir string) []Pair {
	list, _ := filepath.Glob(filepath.Join(root(), "..", "shared", "pairs", dir, "*.ORIG.o"))
	var out []Pair
	for _, o := range list {
		name := strings.TrimSuffix(filepath.Base(o), ".ORIG.o")
		p := strings.TrimSuffix(o, "ORIG.o") + "PATCHED.o"
		if _, err := os.Stat(p); err != nil {
			p = strings.TrimSuffix(o, "ORIG.o") + "PATCHED.FAIL.o"
		}
		out = append(out, Pair{Name: dir + "/" + name, Orig: o, Patched: p})
	}
	return out
}

// AllPairs lists the fixtures and, where they are, the shared pairs.
func AllPairs(t testing.TB) []Pair {
	t.Helper()
	out := FixturePairs(t)
	for _, d := range []string{"cve", "kpatch", "fixes"} {
		out = append(out, SharedPairs(d)...)
	}
	return out
}

type loaded struct {
	once sync.Once
	g    *elfdiff.Graph
	err  error
}

var cache sync.Map // path -> *loaded

// Load reads and analyzes an object, once per test binary. The error is that of Analyze.
func Load(t testing.TB, path string) (*elfdiff.Graph, error) {
	t.Helper()
	v, _ := cache.LoadOrStore(path, &loaded{})
	l := v.(*loaded)
	l.once.Do(func() {
		var data []byte
		if data, l.err = os.ReadFile(path); l.err == nil {
			l.g, l.err = Analyze(data, filepath.Base(path))
		}
	})
	return l.g, l.err
}

// Analyze parses and analyzes an object.
func Analyze(data []byte, name string) (*elfdiff.Graph, error) {
	f, err := object.Parse(data, object.Options{Name: name})
	if err != nil {
		return nil, err
	}
	return elfdiff.Analyze(context.Background(), f, Rules())
}

// MustLoad is Load for objects that must be good.
func MustLoad(t testing.TB, path string) *elfdiff.Graph {
	t.Helper()
	g, err := Load(t, path)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// LoadPair loads both sides; ok is false when either is refused, which is for TestCases to judge.
func LoadPair(t testing.TB, p Pair) (a, b *elfdiff.Graph, ok bool) {
	t.Helper()
	a, err := Load(t, p.Orig)
	if err != nil {
		return nil, nil, false
	}
	b, err = Load(t, p.Patched)
	return a, b, err == nil
}

// Diff compares two graphs that must be comparable.
func Diff(t testing.TB, a, b *elfdiff.Graph) *elfdiff.Delta {
	t.Helper()
	return DiffOpts(t, a, b, nil)
}

// DiffOpts is Diff with options.
func DiffOpts(t testing.TB, a, b *elfdiff.Graph, opts *elfdiff.Options) *elfdiff.Delta {
	t.Helper()
	d, err := elfdiff.Diff(context.Background(), a, b, opts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// ReadJSON reads a file of expectations and refuses fields that v does not have.
func ReadJSON(t testing.TB, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// VmlinuxPair unpacks the pair of vmlinux.o objects into memory; it skips the
// test when the archive or zstd is not here, or under -short.
func VmlinuxPair(t testing.TB) (orig, patched []byte) {
	t.Helper()
	if testing.Short() {
		t.Skip("objects of 36 MB; left out by -short")
	}
	archive := Shared(t, "vmlinux-pair.tar.zst")
	zstd, err := exec.LookPath("zstd")
	if err != nil {
		t.Skip("unpacking vmlinux-pair.tar.zst needs zstd")
	}
	var stderr bytes.Buffer
	cmd := exec.Command(zstd, "-dcq", "--long=27", archive)
	cmd.Stderr = &stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(pipe); orig == nil || patched == nil; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v %s", err, &stderr)
		}
		var into *[]byte
		switch filepath.Base(h.Name) {
		case "vmlinux.ORIG.o":
			into = &orig
		case "vmlinux.PATCHED.o":
			into = &patched
		default:
			continue
		}
		*into = make([]byte, h.Size)
		if _, err := io.ReadFull(r, *into); err != nil {
			t.Fatal(err)
		}
	}
	// What is left of the archive (the linked vmlinux) is of no use here.
	pipe.Close()
	_ = cmd.Wait()
	if orig == nil || patched == nil {
		t.Fatalf("vmlinux-pair.tar.zst does not hold both objects %s", &stderr)
	}
	return orig, patched
}

// Shuffle gives the object with its sections and symbols in a random order that
// means the same: groups before their members, local symbols behind their FILE symbol.
func Shuffle(t testing.TB, f *object.File, seed uint64) []byte {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, uint64(len(f.Data))))
	var secs []object.SecID
	for i := 1; i < len(f.Sections); i++ {
		secs = append(secs, object.SecID(i))
	}
	r.Shuffle(len(secs), func(i, j int) { secs[i], secs[j] = secs[j], secs[i] })
	slices.SortStableFunc(secs, func(a, b object.SecID) int {
		x, y := f.Sections[a].Type == elf.SHT_GROUP, f.Sections[b].Type == elf.SHT_GROUP
		switch {
		case x && !y:
			return -1
		case y && !x:
			return 1
		}
		return 0
	})
	var syms []object.SymID
	start, local := 0, true
	flush := func() {
		b := syms[start:]
		r.Shuffle(len(b), func(i, j int) { b[i], b[j] = b[j], b[i] })
		start = len(syms)
	}
	for i := 1; i < len(f.Symbols); i++ {
		s := &f.Symbols[i]
		if local && s.Bind() != elf.STB_LOCAL {
			flush()
			local = false
		}
		if s.Type() == elf.STT_FILE && s.Bind() == elf.STB_LOCAL {
			flush()
			syms = append(syms, object.SymID(i))
			start++
			continue
		}
		syms = append(syms, object.SymID(i))
	}
	flush()
	b := object.FromFile(f)
	b.SetSectionOrder(secs)
	b.SetSymbolOrder(syms)
	out, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return out
}
