package elfdiff_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/elfdiff/internal/testutil"
	"github.com/kdelta/kdelta/pkg/diag"
)

// fuzzBases are small fixtures that hold, together, every kind of atom and table.
var fuzzBases = []string{
	"line-shift-warn16/gcc", "line-shift-call/clang", "alt-body/gcc", "extable/gcc", "jump-label-key/gcc", "static-call-key/gcc", "cold-grow/gcc", "merged-swap/gcc",
	"merged-swap-asm/as", "riprel-text/as", "string-tail/as", "utf16/gcc", "cst16/as", "cswtch/gcc", "jump-table-order/as", "same-name-statics/gcc", "multi-tu/gcc",
	"static-local-renumbered/gcc", "nested/as", "zero-size/as", "fallthrough/as", "asm-group/as", "tls/gcc", "common/gcc", "kcfi/clang", "pfx-merged/as", "end-pointer/gcc",
	"unknown-table/gcc", "line-dyndbg/gcc", "ubsan-line/clang", "rust-comment/rustc", "biased-base/as", "alias/gcc", "cxx/g++",
}

// mutate applies edits of 5 bytes to a copy of data: a position and how to change the byte there.
func mutate(data, edits []byte) []byte {
	out := bytes.Clone(data)
	for ; len(edits) >= 5 && len(out) > 0; edits = edits[5:] {
		pos := binary.LittleEndian.Uint32(edits) % uint32(len(out))
		out[pos] ^= edits[4]
	}
	return out
}

// typed reports whether an error is one that kdelta gives for bad input.
func typed(err error) bool {
	e := (*diag.Error)(nil)
	return errors.As(err, &e) && diag.HasErrors(e.Diagnostics)
}

// FuzzAnalyzeDiff changes both builds of a fixture. Whatever comes in, there is
// no panic, errors are typed, the graph and the accounts hold, and what is called
// unchanged is so as far as it can be checked without the differ.
func FuzzAnalyzeDiff(f *testing.F) {
	type base struct{ orig, patched []byte }
	var bases []base
	for i, n := range fuzzBases {
		c, tool := filepath.Split(n)
		var b base
		for _, p := range []struct {
			name string
			into *[]byte
		}{{"ORIG", &b.orig}, {"PATCHED", &b.patched}} {
			d, err := os.ReadFile(filepath.Join(testutil.Cases(), c, tool+"."+p.name+".o"))
			if err != nil {
				f.Fatal(err)
			}
			*p.into = d
		}
		bases = append(bases, b)
		f.Add(uint8(i), []byte{}, []byte{})
		f.Add(uint8(i), []byte{}, []byte{0x40, 0, 0, 0, 1})
		f.Add(uint8(i), []byte{0x60, 0, 0, 0, 0xff, 0x80, 1, 0, 0, 2}, []byte{0x90, 0, 0, 0, 0x80})
	}
	f.Fuzz(func(t *testing.T, which uint8, ea, eb []byte) {
		if len(ea) > 200 || len(eb) > 200 {
			return
		}
		b := bases[int(which)%len(bases)]
		var g [2]*elfdiff.Graph
		for i, d := range [][]byte{mutate(b.orig, ea), mutate(b.patched, eb)} {
			var err error
			if g[i], err = testutil.Analyze(d, "fuzz.o"); err != nil {
				if !typed(err) {
					t.Fatalf("untyped error %T: %v", err, err)
				}
				return
			}
			for _, f := range structure(g[i]) {
				t.Error(f)
			}
		}
		d, err := elfdiff.Diff(context.Background(), g[0], g[1], nil)
		if err != nil {
			if !typed(err) {
				t.Fatalf("untyped error %T: %v", err, err)
			}
			return
		}
		for _, f := range accounts(g[0], g[1], d) {
			t.Error(f)
		}
		for _, f := range believed(g[0], g[1], d) {
			t.Error(f)
		}
	})
}

// believed checks verdicts that say "equal" by what they must mean: an unchanged
// datum has the bytes and references of its pair, unchanged code has its bytes but
// for operands that the assembler resolved to places outside of it, and as many
// references of each type.
func believed(a, b *elfdiff.Graph, d *elfdiff.Delta) (faults []string) {
	lines := map[elfdiff.AtomID]bool{} // a cause says which number differs
	for i := range d.Functions {
		if f := &d.Functions[i]; len(f.Causes) > 0 && f.Patched != 0 {
			for _, m := range b.Units[f.Patched].Entries {
				lines[m] = true
			}
		}
	}
	var ex, ey []elfdiff.Edge
	for i := 1; i < len(b.Atoms); i++ {
		y, x := elfdiff.AtomID(i), d.OrigOf[i]
		at := &b.Atoms[y]
		if x == 0 || d.AtomStatus[y] != elfdiff.Unchanged || lines[y] || at.Kind == elfdiff.AtomPad || at.Kind == elfdiff.AtomExcluded {
			continue
		}
		fail := func(format string, args ...any) {
			faults = append(faults, fmt.Sprintf("%v %s is unchanged, but ", at.Kind, b.Name(y))+fmt.Sprintf(format, args...))
		}
		if a.Atoms[x].Size != at.Size {
			fail("its size was %d and is %d", a.Atoms[x].Size, at.Size)
			continue
		}
		dx, dy := a.Bytes(x), b.Bytes(y)
		ex, _ = a.Edges(x, ex[:0])
		ey, _ = b.Edges(y, ey[:0])
		if at.Kind.Code() && bytes.Equal(dx, dy) {
			if like, _, ok := elfdiff.WalkLike(a, b, x, y); ok && !slices.Equal(like, ey) {
				fail("what is made of the original's references is not what it has")
			}
		}
		free := make([]bool, min(len(dx), len(dy))) // there may be no bytes, whatever the size
		n := [2]map[string]int{{}, {}}
		for side, es := range [][]elfdiff.Edge{ex, ey} {
			off := a.Atoms[x].Off
			if side == 1 {
				off = at.Off
			}
			for j := range es {
				e := &es[j]
				if e.Kind != elfdiff.EdgeReloc {
					for k := range uint64(e.Size) {
						if p := e.Off - off + k; p < uint64(len(free)) {
							free[p] = true
						}
					}
					continue
				}
				if at.Kind == elfdiff.AtomEntry {
					// The reference to replacement code of no length leads anywhere (relaxation "empty-replacement").
					g, y := a, x
					if side == 1 {
						g, y = b, elfdiff.AtomID(i)
					}
					if row := &g.Rules.Tables[g.Atoms[y].Row-1]; row.Body != elfdiff.NoField && e.Off-off == uint64(row.Body) && g.Bytes(y)[row.BodyLen] == 0 {
						continue
					}
				}
				typ := e.Type.String()
				if typ == "R_X86_64_PLT32" {
					typ = "R_X86_64_PC32" // the same in a static link
				}
				n[side][fmt.Sprint(e.Off-off, typ)]++
			}
		}
		if fmt.Sprint(n[0]) != fmt.Sprint(n[1]) {
			fail("its references were %v and are %v", n[0], n[1])
		}
		for j := range free {
			if dx[j] != dy[j] && !free[j] {
				fail("byte 0x%x was %02x and is %02x", j, dx[j], dy[j])
				break
			}
		}
	}
	return faults
}

// TestBelieved is the check of FuzzAnalyzeDiff on every pair there is.
func TestBelieved(t *testing.T) {
	for _, p := range testutil.AllPairs(t) {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			if a, b, ok := testutil.LoadPair(t, p); ok {
				for _, f := range believed(a, b, testutil.DiffOpts(t, a, b, &elfdiff.Options{NoDirectives: true})) {
					t.Error(f)
				}
			}
		})
	}
}
