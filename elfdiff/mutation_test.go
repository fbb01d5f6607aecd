package elfdiff_test

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/elfdiff/internal/testutil"
	"github.com/kdelta/kdelta/pkg/object"
)

// mutationGaps are survivors, with the reason.
var mutationGaps = map[string]string{
	"byte at .rodata.ddebug_exec_query.str1.8+0xbe (string .rodata.ddebug_exec_query.str1.8+0x0)": "zeros that align strings; nothing refers to them, but no relaxation is named",
	"addend of the relocation at .altinstructions+0x368 (entry .altinstructions+0x4)":             "the body of an alternative without replacement (length 0), or one that another entry covers",
}

// TestMutations changes one byte, addend or relocation type in the loaded
// contents of an object. The differ reports it, refuses the object, or the byte
// lies under a relaxation or exclusion that says so. There are no silent survivors.
func TestMutations(t *testing.T) {
	pairs := testutil.FixturePairs(t)
	pairs = append(pairs, testutil.SharedPairs("cve")...)
	total := map[string]int{}
	for _, p := range pairs {
		g, err := testutil.Load(t, p.Orig)
		if err != nil {
			continue
		}
		n := 12
		if p.Case == "" {
			n = 60
		}
		if testing.Short() {
			n /= 4
		}
		r := rand.New(rand.NewPCG(1, uint64(len(g.File.Data))))
		for range n {
			kind, where, how, ok := mutation(g, r)
			if !ok {
				continue
			}
			h, err := testutil.Analyze(how, "mutated.o")
			if err != nil {
				total["refused"]++
				continue
			}
			d, err := elfdiff.Diff(context.Background(), g, h, nil)
			if err != nil {
				total["refused"]++
				continue
			}
			line := slices.ContainsFunc(d.Functions, func(f elfdiff.Function) bool { return len(f.Causes) > 0 }) ||
				slices.ContainsFunc(d.Data, func(x elfdiff.Datum) bool { return len(x.Causes) > 0 })
			switch {
			case !d.Same():
				total["reported"]++
			case line:
				total["line"]++
			case kind == "pad" || kind == "excluded":
				total[kind]++
			case mutationGaps[where] != "":
				total["known gap"]++
			default:
				total["silent"]++
				t.Errorf("%s: %s", p.Name, where)
			}
		}
	}
	t.Logf("%v", total)
}

// mutation draws a place in a loaded section and gives the object with it changed.
func mutation(g *elfdiff.Graph, r *rand.Rand) (kind, where string, out []byte, ok bool) {
	f := g.File
	var secs []object.SecID
	var ends []uint64
	sum := uint64(0)
	for i := range f.Sections {
		if s := &f.Sections[i]; s.Alloc() && s.Data != nil && len(s.Data) > 0 {
			sum += uint64(len(s.Data))
			secs, ends = append(secs, object.SecID(i)), append(ends, sum)
		}
	}
	if sum == 0 {
		return
	}
	x := r.Uint64N(sum)
	i := sort.Search(len(ends), func(i int) bool { return ends[i] > x })
	s := &f.Sections[secs[i]]
	off := x - (ends[i] - uint64(len(s.Data)))
	a := g.AtomAt(secs[i], off)
	kind = g.Atoms[a].Kind.String()
	out = bytes.Clone(f.Data)
	rs := f.RelocsOf(secs[i])
	lo, hi := rs.Range(max(off, 3)-3, off+1)
	if lo < hi && rs.At(lo).Type != elf.R_X86_64_NONE { // under a relocation: change its addend
		at := f.Sections[s.Rela].Offset + uint64(rs.FileIndex(lo))*24 + 16
		out[at] ^= byte(1 << r.IntN(7))
		return kind, fmt.Sprintf("addend of the relocation at %s+0x%x (%v %s+0x%x)", s.Name, rs.At(lo).Off, kind, g.Name(a), rs.At(lo).Off-g.Atoms[a].Off), out, true
	}
	out[s.Offset+off] ^= byte(1 << r.IntN(8))
	return kind, fmt.Sprintf("byte at %s+0x%x (%v %s+0x%x)", s.Name, off, kind, g.Name(a), off-g.Atoms[a].Off), out, true
}
