package object

import (
	"bytes"
	"debug/elf"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/kdelta/kdelta/pkg/diag"
)

// FuzzParse holds for every input: no panic; a file or an error, never both or
// neither; errors are *diag.Error with a place; and what parses as ET_REL is
// written and read back equal.
func FuzzParse(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte("\x7fELF"))
	f.Add(tiny(f).d)
	f.Add(mustBytes(f, everything()))
	f.Add(mustBytes(f, NewBuilder(Header{})))
	exec := tiny(f)
	exec.hdr(16, 2, 2)
	f.Add(exec.d)
	f.Fuzz(func(t *testing.T, d []byte) { holds(t, d) })
}

// holds checks the invariants of FuzzParse and reports whether d parses.
func holds(t testing.TB, d []byte) bool {
	t.Helper()
	before := bytes.Clone(d)
	file, err := Parse(d, Options{Name: "fuzz"})
	if (file == nil) == (err == nil) {
		t.Fatalf("file %v, error %v", file != nil, err)
	}
	if err != nil {
		var de *diag.Error
		if !errors.As(err, &de) || len(de.Diagnostics) == 0 || len(de.Diagnostics) > maxProblems {
			t.Fatalf("error %v (%T)", err, err)
		}
		for _, g := range de.Diagnostics {
			if g.Place.File != "fuzz" || !g.Place.HasOffset || g.Severity != diag.SevError || g.Message == "" {
				t.Fatalf("diagnostic %+v", g)
			}
		}
		return false
	}
	for i := range file.Sections {
		r := file.Relocs(SecID(i))
		for k := range r.Len() {
			if k > 0 && r.Off(k-1) > r.Off(k) {
				t.Fatalf("section %d is not sorted at %d", i, k)
			}
			_ = file.SymName(r.At(k).Sym)
		}
		StringAt(file.Sections[i].Data, uint64(i), 1+i%4)
	}
	if file.Header.Type != elf.ET_REL {
		return true
	}
	out, err := FromFile(file).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(out, Options{Name: "again"})
	if err != nil {
		t.Fatal(err)
	}
	if err := sameFile(file, again, identity(len(file.Sections), max(1, len(file.Symbols)))); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(d, before) {
		t.Fatal("the input has changed")
	}
	return true
}

// TestParseMutations changes a few header fields, symbols, relocations and other
// words of an object at a time: that gets further into the reader and the
// Builder than random bytes do.
func TestParseMutations(t *testing.T) {
	n := 20_000
	if testing.Short() {
		n = 2000
	}
	seeds := [][]byte{tiny(t).d, mustBytes(t, everything())}
	r := rand.New(rand.NewPCG(5, 6))
	good := 0
	for range n {
		d := bytes.Clone(seeds[r.IntN(len(seeds))])
		shoff := int(le.Uint64(d[40:]))
		secs := (len(d) - shoff) / shdrSize
		for range 1 + r.IntN(3) {
			v := []uint64{0, 1, 2, 3, 4, 8, 16, 24, 0x800, 0xff00, 0xffff, 0x100000, 1 << 32, math.MaxUint32, math.MaxUint64, uint64(len(d)), uint64(r.IntN(secs + 1)), uint64(r.IntN(len(d)))}[r.IntN(18)]
			f := []field{shName, shType, shFlags, shAddr, shOffset, shSize, shLink, shInfo, shAlign, shEnt}[r.IntN(10)]
			switch r.IntN(8) {
			case 0:
				put(d[16+r.IntN(47):], v, 1)
			case 1:
				put(d[64+r.IntN(shoff-72):], v, 1<<r.IntN(4))
			case 2: // in the contents of a section, at a whole entry
				h := d[shoff+r.IntN(secs)*shdrSize:]
				off, size := int(le.Uint64(h[24:])), int(le.Uint32(h[32:]))
				if off >= 64 && size >= 8 && off < shoff && size <= shoff-off {
					put(d[off+r.IntN(size/4)/2*8:], v, 1<<r.IntN(3))
				}
			default:
				put(d[shoff+r.IntN(secs)*shdrSize+f.off:], v, f.width)
			}
		}
		if holds(t, d) {
			good++
		}
	}
	t.Logf("%d of %d parse", good, n)
	if good < n/20 {
		t.Error("too few to mean anything")
	}
}
