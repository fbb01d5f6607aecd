package elfdiff_test

import (
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/elfdiff/internal/testutil"
	"github.com/kdelta/kdelta/pkg/diag"
)

// sourceFile is the local functions of one source file: each returns a number, which tells them apart, after nops.
type sourceFile struct {
	name string
	fns  []numberFn
}

type numberFn struct {
	name string
	v    uint32
	nops int
}

func filesObject(t *testing.T, files []sourceFile) *elfdiff.Graph {
	a := newAsm(t)
	for _, f := range files {
		if f.name != "" {
			a.fileSym(f.name)
		}
		for _, fn := range f.fns {
			a.fn(fn.name, ".text."+fn.name, elf.STB_LOCAL, func() {
				for range fn.nops {
					a.raw(0x90)
				}
				a.raw(0xb8).u32(fn.v).raw(0xc3)
			})
		}
	}
	return a.graph()
}

// number is what a function of a graph returns.
func number(g *elfdiff.Graph, u elfdiff.UnitID) uint32 {
	b := g.Bytes(g.Units[u].Main)
	return binary.LittleEndian.Uint32(b[len(b)-5:])
}

// TestSourceFiles: a local name means the function of that source file. Where several files have one name (as in a
// linked object), the names and contents that only one of them has tell which is which, then their order.
func TestSourceFiles(t *testing.T) {
	type files = []sourceFile
	core := func(fns ...numberFn) sourceFile { return sourceFile{"core.c", fns} }
	fn := func(name string, v uint32) numberFn { return numberFn{name, v, 0} }
	long := func(name string, v uint32, nops int) numberFn { return numberFn{name, v, nops} }
	for _, c := range []struct {
		name string
		a, b files
		want string // by numbers: the original's to the patched object's, and how it was found
	}{
		{"one file", files{core(fn("init", 1), fn("exit", 2))}, files{core(fn("init", 1), fn("exit", 3))}, "1-1 name, 2-3 name"},
		{"one file of another name", files{core(fn("init", 1))}, files{{"main.c", []numberFn{fn("init", 1)}}}, "1-1 name"},
		{"no file", files{{"", []numberFn{fn("init", 1)}}}, files{{"", []numberFn{fn("init", 1)}}}, "1-1 name"},
		{"other order", files{{"a.c", []numberFn{fn("init", 1)}}, {"b.c", []numberFn{fn("init", 2)}}}, files{{"b.c", []numberFn{fn("init", 2)}}, {"a.c", []numberFn{fn("init", 3)}}}, "1-3 name, 2-2 name"},
		{"one goes", files{{"a.c", []numberFn{fn("init", 1)}}, {"b.c", []numberFn{fn("init", 2)}}}, files{{"b.c", []numberFn{fn("init", 2)}}}, "1- none, 2-2 name"},
		{"one comes", files{{"b.c", []numberFn{fn("init", 2)}}}, files{{"a.c", []numberFn{fn("init", 1)}}, {"b.c", []numberFn{fn("init", 2)}}}, "-1 none, 2-2 name"},
		{"renamed", files{{"a.c", []numberFn{fn("f", 1)}}, {"b.c", []numberFn{fn("g", 2)}}}, files{{"z.c", []numberFn{fn("f", 3)}}, {"b.c", []numberFn{fn("g", 2)}}}, "1-3 loose, 2-2 name"},
		// Twice the same name.
		{"as before", files{core(fn("init", 1), fn("x", 2)), core(fn("init", 3), fn("y", 4))}, files{core(fn("init", 1), fn("x", 2)), core(fn("init", 5), fn("y", 4))}, "1-1 name, 2-2 name, 3-5 name, 4-4 name"},
		{"exchanged, told by names", files{core(fn("init", 1), fn("x", 2)), core(fn("init", 3), fn("y", 4))}, files{core(fn("init", 5), fn("y", 4)), core(fn("init", 1), fn("x", 2))}, "1-1 name, 2-2 name, 3-5 name, 4-4 name"},
		{"exchanged, told by contents", files{core(fn("init", 1), fn("run", 2)), core(fn("init", 3), long("run", 4, 1))}, files{core(fn("init", 3), long("run", 5, 1)), core(fn("init", 1), fn("run", 2))}, "1-1 name, 2-2 name, 3-3 name, 4-5 name"},
		{"nothing tells", files{core(long("init", 1, 1)), core(long("init", 2, 2))}, files{core(long("init", 3, 3)), core(long("init", 4, 4))}, "1-3 name, 2-4 name"},
		{"equal blocks", files{core(fn("init", 1)), core(fn("init", 2))}, files{core(fn("init", 1)), core(fn("init", 3))}, "1-1 name, 2-3 name"},
		{"the first goes", files{core(fn("init", 1), fn("x", 2)), core(fn("init", 3), fn("y", 4))}, files{core(fn("init", 3), fn("y", 5))}, "1- none, 2- none, 3-3 name, 4-5 name"},
		{"a new first", files{core(fn("init", 3), fn("y", 4))}, files{core(fn("init", 1), fn("x", 2)), core(fn("init", 3), fn("y", 5))}, "-1 none, -2 none, 3-3 name, 4-5 name"},
		{"the middle goes", files{core(fn("init", 1), fn("x", 2)), core(fn("init", 3), fn("y", 4)), core(fn("init", 5), fn("z", 6))}, files{core(fn("init", 1), fn("x", 2)), core(fn("init", 5), fn("z", 7))},
			"1-1 name, 2-2 name, 3- none, 4- none, 5-5 name, 6-7 name"},
		{"most names win", files{core(fn("p", 1), fn("q", 2), fn("r", 3)), core(fn("s", 4), fn("t", 5))}, files{core(fn("s", 4), fn("t", 5), fn("r", 6)), core(fn("p", 1), fn("q", 2))}, "1-1 name, 2-2 name, 3-6 loose, 4-4 name, 5-5 name"},
		{"the rest in order, behind what names tell", files{core(long("init", 1, 1)), core(long("init", 2, 2)), core(fn("init", 3), fn("z", 4))}, files{core(fn("init", 3), fn("z", 4)), core(long("init", 5, 3)), core(long("init", 6, 4))},
			"1-5 name, 2-6 name, 3-3 name, 4-4 name"},
		{"two of two names", files{core(fn("init", 1), fn("x", 2)), {"main.c", []numberFn{fn("init", 3), fn("x", 4)}}, core(fn("init", 5), fn("y", 6)), {"main.c", []numberFn{fn("init", 7), fn("y", 8)}}},
			files{{"main.c", []numberFn{fn("init", 7), fn("y", 8)}}, core(fn("init", 5), fn("y", 6)), {"main.c", []numberFn{fn("init", 3), fn("x", 4)}}, core(fn("init", 1), fn("x", 2))},
			"1-1 name, 2-2 name, 3-3 name, 4-4 name, 5-5 name, 6-6 name, 7-7 name, 8-8 name"},
		// One name twice in one file: contents tell, if they do.
		{"twice in a file", files{core(fn("f", 1), fn("f", 2), fn("g", 3))}, files{core(fn("f", 2), fn("f", 1), fn("g", 3))}, "1-1 loose, 2-2 loose, 3-3 name"},
		{"twice, then once", files{core(fn("f", 1), fn("f", 2), fn("g", 3))}, files{core(fn("f", 2), fn("g", 3))}, "1- none, 2-2 loose, 3-3 name"},
		{"once, then twice", files{core(fn("f", 2), fn("g", 3))}, files{core(fn("f", 1), fn("f", 2), fn("g", 3))}, "-1 none, 2-2 loose, 3-3 name"},
	} {
		x, y := filesObject(t, c.a), filesObject(t, c.b)
		d := testutil.Diff(t, x, y)
		var got []string
		for i := range d.Functions {
			f := &d.Functions[i]
			orig, patched := "", ""
			if f.Orig != 0 {
				orig = fmt.Sprint(number(x, f.Orig))
			}
			if f.Patched != 0 {
				patched = fmt.Sprint(number(y, f.Patched))
			}
			got = append(got, fmt.Sprintf("%s-%s %v", orig, patched, f.Confidence))
		}
		slices.Sort(got)
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%s: %s, want %s", c.name, strings.Join(got, ", "), c.want)
		}
		for _, f := range accounts(x, y, d) {
			t.Errorf("%s: %s", c.name, f)
		}
		// What is left out when it has nothing to say gives its namesakes their numbers all the same.
		ids := map[[2]elfdiff.UnitID]string{}
		for i := range d.Functions {
			ids[[2]elfdiff.UnitID{d.Functions[i].Orig, d.Functions[i].Patched}] = d.Functions[i].ID
		}
		brief := testutil.DiffOpts(t, x, y, &elfdiff.Options{Brief: true})
		for i := range brief.Functions {
			f := &brief.Functions[i]
			if id := ids[[2]elfdiff.UnitID{f.Orig, f.Patched}]; f.ID != id || f.Status == elfdiff.Unchanged {
				t.Errorf("%s: brief: %s, which is %v; in full %s", c.name, f.ID, f.Status, id)
			}
		}
	}
}

// TestPinFile: a pin names the source file where the name alone is not enough.
func TestPinFile(t *testing.T) {
	fns := func(v uint32) []numberFn { return []numberFn{{"init", v, 0}, {"only" + fmt.Sprint(v), v + 10, 0}} }
	g := filesObject(t, []sourceFile{{"a.c", fns(1)}, {"b.c", fns(2)}})
	for _, c := range []struct {
		orig, patched string
		ok            bool
	}{
		{"a.c:init", "b.c:init", true}, {"b.c:init", "a.c:init", true}, {"a.c:init", "a.c:init", true}, {"only1", "only2", true}, {"a.c:only1", "only1", true},
		{"init", "init", false}, {"init", "a.c:init", false}, {"a.c:init", "init", false}, {"c.c:init", "a.c:init", false}, {"a.c:only2", "only2", false}, {":only1", "only1", false},
	} {
		d, err := elfdiff.Diff(context.Background(), g, g, &elfdiff.Options{Pins: []elfdiff.Pin{{Orig: c.orig, Patched: c.patched}}})
		if e := (*diag.Error)(nil); !c.ok {
			if !errors.As(err, &e) || !hasCode(e.Diagnostics, diag.PinInvalid) {
				t.Errorf("%s and %s: %v", c.orig, c.patched, err)
			}
			continue
		}
		if err != nil {
			t.Error(err)
			continue
		}
		pinned := 0
		for i := range d.Functions {
			if d.Functions[i].Confidence == elfdiff.ConfPinned {
				pinned++
			}
		}
		if pinned != 1 {
			t.Errorf("%s and %s: %d pinned\n%s", c.orig, c.patched, pinned, dump(d))
		}
	}
}
