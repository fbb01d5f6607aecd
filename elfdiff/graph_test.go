package elfdiff_test

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/elfdiff/internal/testutil"
	"github.com/kdelta/kdelta/pkg/diag"
)

// members gives the names of the parts of the unit of a function; "+N" for N bytes of padding, "N" for N bytes of nameless code.
func members(t *testing.T, g *elfdiff.Graph, sec string) []string {
	t.Helper()
	for u := 1; u < len(g.Units); u++ {
		x := &g.Units[u]
		if g.File.Sections[g.Atoms[x.Main].Sec].Name != sec {
			continue
		}
		var out []string
		for _, m := range x.Members {
			at := &g.Atoms[m]
			n := g.File.SymName(at.Sym)
			switch {
			case at.Sym != 0:
			case at.Kind == elfdiff.AtomPad:
				n = "pad"
			default:
				n = at.Kind.String()
			}
			if at.Flag&elfdiff.FlagPrefix != 0 {
				n = "prefix " + n
			}
			if at.Flag&elfdiff.FlagCold != 0 {
				n = "cold " + n
			}
			out = append(out, n)
		}
		return out
	}
	return nil
}

func (a *asm) fn(name, sec string, bind elf.SymBind, body func()) {
	a.section(sec, text)
	body()
	a.whole(name, bind)
}

func TestColdParts(t *testing.T) {
	jump := func(a *asm, sym string, off int64) {
		a.raw(0xe9).field(elf.R_X86_64_PC32, sym, off-4)
	}
	t.Run("by name and reference", func(t *testing.T) {
		a := newAsm(t)
		a.fn("f", ".text.f", elf.STB_GLOBAL, func() { jump(a, ".text.unlikely.f", 0) })
		a.fn("f.cold", ".text.unlikely.f", elf.STB_LOCAL, func() { jump(a, ".text.f", 5) })
		if got := members(t, a.graph(), ".text.f"); !slices.Equal(got, []string{"f", "cold f.cold"}) {
			t.Errorf("%q", got)
		}
	})
	t.Run("by name alone", func(t *testing.T) {
		a := newAsm(t)
		a.fn("f", ".text.f", elf.STB_GLOBAL, func() { a.raw(0xc3) })
		a.fn("f.cold.3", ".text.unlikely.f", elf.STB_LOCAL, func() { a.raw(0xc3) })
		if got := members(t, a.graph(), ".text.f"); !slices.Equal(got, []string{"f", "cold f.cold.3"}) {
			t.Errorf("%q", got)
		}
	})
	t.Run("of a part", func(t *testing.T) {
		a := newAsm(t)
		a.fn("f.part.0", ".text.p", elf.STB_LOCAL, func() { jump(a, ".text.unlikely.p", 0) })
		a.fn("f.part.0.cold", ".text.unlikely.p", elf.STB_LOCAL, func() { jump(a, ".text.p", 5) })
		a.fn("f", ".text.f", elf.STB_GLOBAL, func() { a.raw(0xc3) })
		g := a.graph()
		if got := members(t, g, ".text.p"); !slices.Equal(got, []string{"f.part.0", "cold f.part.0.cold"}) {
			t.Errorf("%q", got)
		}
		if got := members(t, g, ".text.f"); !slices.Equal(got, []string{"f"}) {
			t.Errorf("%q", got)
		}
	})
	t.Run("two source files", func(t *testing.T) {
		// Equal names in both; the parts refer to the parents of their own files.
		a := newAsm(t)
		for i, n := range []string{"1", "2"} {
			a.fileSym([]string{"a.c", "b.c"}[i])
			delete(a.syms, "f")
			delete(a.syms, "f.cold")
			a.fn("f", ".text.f"+n, elf.STB_LOCAL, func() { a.raw(0xc3) })
			a.fn("f.cold", ".text.unlikely.f"+n, elf.STB_LOCAL, func() { jump(a, ".text.f"+n, 0) })
		}
		g := a.graph()
		for _, n := range []string{"1", "2"} {
			if got := members(t, g, ".text.f"+n); !slices.Equal(got, []string{"f", "cold f.cold"}) {
				t.Errorf("file %s: %q", n, got)
			}
		}
	})
	t.Run("no parent", func(t *testing.T) {
		a := newAsm(t)
		a.fn("f.cold", ".text.unlikely.f", elf.STB_LOCAL, func() { a.raw(0xc3) })
		g := a.graph()
		if got := members(t, g, ".text.unlikely.f"); !slices.Equal(got, []string{"f.cold"}) {
			t.Errorf("%q", got)
		}
		if !hasCode(g.Diags, diag.ColdParent) {
			t.Error("no diagnostic")
		}
	})
}

func TestPrefixes(t *testing.T) {
	nops := func(a *asm, n int) {
		for range n {
			a.raw(0x90)
		}
	}
	function := func(a *asm, name string, size int) {
		a.label(name, size, elf.STB_GLOBAL, elf.STT_FUNC)
		for range size - 1 {
			a.raw(0x50)
		}
		a.raw(0xc3)
	}
	t.Run("symbol", func(t *testing.T) {
		a := newAsm(t)
		a.section(".text.f", text)
		a.label("__pfx_f", 16, elf.STB_LOCAL, elf.STT_FUNC)
		nops(a, 16)
		function(a, "f", 5)
		if got := members(t, a.graph(), ".text.f"); !slices.Equal(got, []string{"prefix __pfx_f", "f"}) {
			t.Errorf("%q", got)
		}
	})
	t.Run("padding that opens the section", func(t *testing.T) {
		a := newAsm(t)
		a.section(".text.f", text)
		nops(a, 16)
		function(a, "f", 5)
		if got := members(t, a.graph(), ".text.f"); !slices.Equal(got, []string{"prefix pad", "f"}) {
			t.Errorf("%q", got)
		}
	})
	t.Run("alignment behind the function before", func(t *testing.T) {
		a := newAsm(t)
		a.section(".text", text)
		function(a, "f", 5)
		nops(a, 11)
		function(a, "g", 5)
		if got := members(t, a.graph(), ".text"); !slices.Equal(got, []string{"f", "pad"}) {
			t.Errorf("%q", got)
		}
	})
	t.Run("alignment and a listed prefix", func(t *testing.T) {
		a := newAsm(t)
		a.section(".text", text)
		function(a, "f", 5)
		nops(a, 11+16)
		function(a, "g", 5)
		a.section("__patchable_function_entries", rodata)
		a.field(elf.R_X86_64_64, ".text", 16)
		g := a.graph()
		if got := members(t, g, ".text"); !slices.Equal(got, []string{"f", "pad"}) {
			t.Errorf("%q", got)
		}
		if got := g.Units[2].Members; len(got) != 2 || g.Atoms[got[0]].Off != 16 || g.Atoms[got[0]].Size != 16 {
			t.Errorf("g has %d members", len(got))
		}
	})
	t.Run("a kCFI hash", func(t *testing.T) {
		a := newAsm(t)
		a.section(".text.f", text)
		a.label("__cfi_f", 16, elf.STB_LOCAL, elf.STT_FUNC)
		nops(a, 11)
		a.raw(0xb8).u32(0x12345678)
		function(a, "f", 5)
		if got := members(t, a.graph(), ".text.f"); !slices.Equal(got, []string{"prefix __cfi_f", "f"}) {
			t.Errorf("%q", got)
		}
	})
}

func TestPrimaryName(t *testing.T) {
	for _, c := range []struct {
		name string
		add  func(*asm)
		want string
	}{
		{"global before local", func(a *asm) {
			a.label("local", 1, elf.STB_LOCAL, elf.STT_FUNC)
			a.label("global", 1, elf.STB_GLOBAL, elf.STT_FUNC)
		}, "global"},
		{"global before weak", func(a *asm) {
			a.label("weak", 1, elf.STB_WEAK, elf.STT_FUNC)
			a.label("global", 1, elf.STB_GLOBAL, elf.STT_FUNC)
		}, "global"},
		{"weak before local", func(a *asm) {
			a.label("local", 1, elf.STB_LOCAL, elf.STT_FUNC)
			a.label("weak", 1, elf.STB_WEAK, elf.STT_FUNC)
		}, "weak"},
		{"sized before unsized", func(a *asm) {
			a.label("unsized", 0, elf.STB_GLOBAL, elf.STT_NOTYPE)
			a.label("sized", 1, elf.STB_LOCAL, elf.STT_FUNC)
		}, "sized"},
		{"label last", func(a *asm) {
			a.label(".Ltmp0", 1, elf.STB_LOCAL, elf.STT_FUNC)
			a.label("local", 1, elf.STB_LOCAL, elf.STT_FUNC)
		}, "local"},
		{"first of equals", func(a *asm) {
			a.label("one", 1, elf.STB_GLOBAL, elf.STT_FUNC)
			a.label("two", 1, elf.STB_GLOBAL, elf.STT_FUNC)
		}, "one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAsm(t)
			a.section(".text", text)
			c.add(a)
			a.raw(0xc3)
			if got := a.graph().PrimaryName(c.want); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// datumObject is a function that refers to data in the given order, and more.
type datumSpec struct {
	name  string
	bytes []byte
	sec   string
	bind  elf.SymBind
}

func dataObject(t *testing.T, users map[string][]string, list []datumSpec) *elfdiff.Graph {
	a := newAsm(t)
	a.fileSym("t.c")
	for _, d := range list {
		sec := d.sec
		if sec == "" {
			sec = ".data." + d.name
		}
		a.section(sec, data)
		a.label(d.name, len(d.bytes), d.bind, elf.STT_OBJECT)
		a.raw(d.bytes...)
	}
	for _, f := range sortedKeys(users) {
		a.fn(f, ".text."+f, elf.STB_GLOBAL, func() {
			for _, d := range users[f] {
				a.raw(0x8b, 0x05).field(elf.R_X86_64_PC32, d, -4)
			}
			a.raw(0xc3)
		})
	}
	return a.graph()
}

func sortedKeys(m map[string][]string) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func TestCorrelation(t *testing.T) {
	one, two, three := []byte{1, 0, 0, 0}, []byte{2, 0, 0, 0}, []byte{3, 0, 0, 0}
	type side struct {
		users map[string][]string
		data  []datumSpec
	}
	for _, c := range []struct {
		name string
		a, b side
		pins []elfdiff.Pin
		want map[string]string // datum of the patched object: "original, status, confidence"
		gone []string
	}{
		{name: "exact name",
			a:    side{map[string][]string{"f": {"v"}}, []datumSpec{{name: "v", bytes: one}}},
			b:    side{map[string][]string{"f": {"v"}}, []datumSpec{{name: "v", bytes: two}}},
			want: map[string]string{"v": "v changed name"}},
		{name: "renumbered, told apart by users",
			a:    side{map[string][]string{"f": {"n.0"}, "g": {"n.1"}}, []datumSpec{{name: "n.0", bytes: one}, {name: "n.1", bytes: one}}},
			b:    side{map[string][]string{"f": {"n.1"}, "g": {"n.0"}}, []datumSpec{{name: "n.0", bytes: one}, {name: "n.1", bytes: one}}},
			want: map[string]string{"n.0": "n.1 unchanged content", "n.1": "n.0 unchanged content"}},
		{name: "renumbered, told apart by the place in the user",
			a:    side{map[string][]string{"f": {"n.0", "n.1"}}, []datumSpec{{name: "n.0", bytes: one}, {name: "n.1", bytes: one}}},
			b:    side{map[string][]string{"f": {"n.1", "n.0"}}, []datumSpec{{name: "n.0", bytes: one}, {name: "n.1", bytes: one}}},
			want: map[string]string{"n.0": "n.1 unchanged content", "n.1": "n.0 unchanged content"}},
		{name: "renumbered and changed",
			a:    side{map[string][]string{"f": {"n.0"}, "g": {"n.1"}}, []datumSpec{{name: "n.0", bytes: one}, {name: "n.1", bytes: two}}},
			b:    side{map[string][]string{"f": {"n.1"}, "g": {"n.0"}}, []datumSpec{{name: "n.0", bytes: three}, {name: "n.1", bytes: one}}},
			want: map[string]string{"n.0": "n.1 changed users", "n.1": "n.0 unchanged content"}},
		{name: "contents exchanged: position says the same, content does not",
			a:    side{map[string][]string{"f": {"n.0", "n.1"}}, []datumSpec{{name: "n.0", bytes: one}, {name: "n.1", bytes: two}}},
			b:    side{map[string][]string{"f": {"n.0", "n.1"}}, []datumSpec{{name: "n.0", bytes: two}, {name: "n.1", bytes: one}}},
			want: nil}, // at least something must differ; see below
		{name: "pinned",
			a:    side{map[string][]string{"f": {"n.0"}, "g": {"n.1"}}, []datumSpec{{name: "n.0", bytes: one}, {name: "n.1", bytes: two}}},
			b:    side{map[string][]string{"f": {"n.0"}, "g": {"n.1"}}, []datumSpec{{name: "n.0", bytes: one}, {name: "n.1", bytes: two}}},
			pins: []elfdiff.Pin{{Orig: "n.0", Patched: "n.1"}, {Orig: "n.1", Patched: "n.0"}},
			want: map[string]string{"n.0": "n.1 changed pinned", "n.1": "n.0 changed pinned"}},
		{name: "one more",
			a:    side{map[string][]string{"f": {"n.0"}}, []datumSpec{{name: "n.0", bytes: one}}},
			b:    side{map[string][]string{"f": {"n.1"}, "g": {"n.0"}}, []datumSpec{{name: "n.0", bytes: one}, {name: "n.1", bytes: one}}},
			want: map[string]string{"n.0": " new none", "n.1": "n.0 unchanged content"}},
		{name: "one less",
			a:    side{map[string][]string{"f": {"n.1"}, "g": {"n.0"}}, []datumSpec{{name: "n.0", bytes: one}, {name: "n.1", bytes: one}}},
			b:    side{map[string][]string{"f": {"n.0"}}, []datumSpec{{name: "n.0", bytes: one}}},
			want: map[string]string{"n.0": "n.1 unchanged content"}, gone: []string{"n.0"}},
		{name: "moved to another function that was there before",
			a:    side{map[string][]string{"f": {"n.0"}, "g": nil}, []datumSpec{{name: "n.0", bytes: one}}},
			b:    side{map[string][]string{"f": nil, "g": {"n.0"}}, []datumSpec{{name: "n.0", bytes: one}}},
			want: map[string]string{"n.0": " new none"}, gone: []string{"n.0"}},
		{name: "nobody refers to them: by number, then in order",
			a:    side{nil, []datumSpec{{name: "n.0", bytes: one}, {name: "n.1", bytes: one}, {name: "n.2", bytes: one}, {name: "n.10", bytes: one}}},
			b:    side{nil, []datumSpec{{name: "n.1", bytes: two}, {name: "n.2", bytes: two}, {name: "n.5", bytes: two}, {name: "n.10", bytes: two}}},
			want: map[string]string{"n.1": "n.1 changed tie", "n.2": "n.2 changed tie", "n.5": "n.0 changed tie", "n.10": "n.10 changed tie"}},
		{name: "one user less",
			a:    side{map[string][]string{"f": {"n.0"}, "g": {"n.0"}}, []datumSpec{{name: "n.0", bytes: one}}},
			b:    side{map[string][]string{"f": {"n.1"}, "g": nil}, []datumSpec{{name: "n.1", bytes: one}}},
			want: map[string]string{"n.1": "n.0 unchanged loose"}},
		{name: "one user instead of another",
			a:    side{map[string][]string{"f": {"n.0"}, "g": nil, "h": {"n.0"}}, []datumSpec{{name: "n.0", bytes: one}}},
			b:    side{map[string][]string{"f": nil, "g": {"n.1"}, "h": {"n.1"}}, []datumSpec{{name: "n.1", bytes: one}}},
			want: map[string]string{"n.1": "n.0 unchanged loose"}},
		{name: "the other one of two users",
			a:    side{map[string][]string{"f": {"n.0"}, "g": {"n.0"}, "h": nil, "i": nil}, []datumSpec{{name: "n.0", bytes: one}}},
			b:    side{map[string][]string{"f": nil, "g": nil, "h": {"n.1"}, "i": {"n.1"}}, []datumSpec{{name: "n.1", bytes: one}}},
			want: map[string]string{"n.1": " new none"}, gone: []string{"n.0"}},
		{name: "made global",
			a:    side{map[string][]string{"f": {"v"}}, []datumSpec{{name: "v", bytes: one, bind: elf.STB_LOCAL}}},
			b:    side{map[string][]string{"f": {"v"}}, []datumSpec{{name: "v", bytes: one, bind: elf.STB_GLOBAL}}},
			want: map[string]string{"v": "v unchanged loose"}},
		{name: "another section: its name says nothing",
			a:    side{map[string][]string{"f": {"v"}}, []datumSpec{{name: "v", bytes: one, sec: ".data"}}},
			b:    side{map[string][]string{"f": {"v"}}, []datumSpec{{name: "v", bytes: one, sec: ".data.v"}}},
			want: map[string]string{"v": "v unchanged name"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			x, y := dataObject(t, c.a.users, c.a.data), dataObject(t, c.b.users, c.b.data)
			d, err := elfdiff.Diff(context.Background(), x, y, &elfdiff.Options{Pins: c.pins})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range accounts(x, y, d) {
				t.Error(f)
			}
			if c.want == nil && d.Same() {
				t.Error("nothing differs")
			}
			var gone []string
			for i := range d.Data {
				dt := &d.Data[i]
				if dt.Status == elfdiff.Removed {
					gone = append(gone, dt.Name)
					continue
				}
				orig := dt.OrigName
				if orig == "" && dt.Orig != 0 {
					orig = dt.Name
				}
				if got := orig + " " + dt.Status.String() + " " + dt.Confidence.String(); c.want != nil && got != c.want[dt.Name] {
					t.Errorf("%s: %q, want %q", dt.Name, got, c.want[dt.Name])
				}
			}
			if c.want != nil && !slices.Equal(gone, c.gone) {
				t.Errorf("removed: %q, want %q", gone, c.gone)
			}
		})
	}
	t.Run("a pin that is none", func(t *testing.T) {
		g := dataObject(t, map[string][]string{"f": {"v"}}, []datumSpec{{name: "v", bytes: one}})
		for _, pins := range [][]elfdiff.Pin{{{Orig: "v", Patched: "w"}}, {{Orig: "w", Patched: "v"}}, {{Orig: "f", Patched: "v"}}, {{Orig: "v", Patched: "v"}, {Orig: "v", Patched: "v"}}} {
			_, err := elfdiff.Diff(context.Background(), g, g, &elfdiff.Options{Pins: pins})
			if e := (*diag.Error)(nil); !errors.As(err, &e) || !hasCode(e.Diagnostics, diag.PinInvalid) {
				t.Errorf("%v: %v", pins, err)
			}
		}
	})
}

// TestRenumbered: functions that are told apart by what they do tell their variables apart.
func TestRenumbered(t *testing.T) {
	build := func(swap int) *elfdiff.Graph {
		a := newAsm(t)
		for i := range 2 {
			n := fmt.Sprintf("n.%d", i)
			a.section(".data."+n, data)
			a.label(n, 4, elf.STB_LOCAL, elf.STT_OBJECT)
			a.u32(1)
		}
		for i := range 2 {
			f := fmt.Sprintf("f.%d", i)
			a.fn(f, ".text."+f, elf.STB_LOCAL, func() {
				a.raw(0xb9).u32(uint32(i^swap)).raw(0x8b, 0x05).field(elf.R_X86_64_PC32, fmt.Sprintf("n.%d", i), -4)
				a.raw(0xc3)
			})
		}
		return a.graph()
	}
	for swap := range 2 {
		d := testutil.Diff(t, build(0), build(swap))
		for i := range d.Data {
			if x := &d.Data[i]; x.Status != elfdiff.Unchanged || (x.OrigName == "") != (swap == 0) {
				t.Errorf("swapped %d: %s was %q, %v", swap, x.Name, x.OrigName, x.Status)
			}
		}
		if !d.Same() {
			t.Errorf("swapped %d:\n%s", swap, dump(d))
		}
	}
}

// TestPartsOfLater: a function without a pair does not keep the parts of the next ones from theirs.
func TestPartsOfLater(t *testing.T) {
	build := func(names ...string) *elfdiff.Graph {
		a := newAsm(t)
		for i, n := range names {
			a.fn(n, ".text."+n, elf.STB_GLOBAL, func() { a.raw(0xe9).field(elf.R_X86_64_PC32, ".text.unlikely."+n, -4) })
			a.fn(n+fmt.Sprintf(".cold.%d", i), ".text.unlikely."+n, elf.STB_LOCAL, func() { a.raw(0x0f, 0x0b) })
		}
		return a.graph()
	}
	d := testutil.Diff(t, build("gone", "f", "g"), build("f", "g"))
	if len(d.Functions) != 3 || statusOf(t, d, "f") != elfdiff.Unchanged || statusOf(t, d, "g") != elfdiff.Unchanged || statusOf(t, d, "gone") != elfdiff.Removed {
		t.Error(dump(d))
	}
}

// TestNamelessData: writable data without a name is that of the one section of its name, when there is one.
func TestNamelessData(t *testing.T) {
	build := func(uses int, sections ...string) *elfdiff.Graph {
		a := newAsm(t)
		for i, s := range sections {
			delete(a.syms, s)
			a.section(s, data)
			a.raw(make([]byte, 8)...)
			a.syms[fmt.Sprint(i)] = a.syms[s]
		}
		a.section(".text.f", text)
		a.lea(toRDI, fmt.Sprint(uses), 0).raw(0xc3).whole("f", elf.STB_GLOBAL)
		return a.graph()
	}
	for _, c := range []struct {
		name string
		x, y *elfdiff.Graph
		same bool
	}{
		{"one", build(0, ".data"), build(0, ".data"), true}, {"another", build(0, ".data", ".state"), build(1, ".data", ".state"), false},
		{"moved", build(0, ".data", ".state"), build(1, ".state", ".data"), true}, {"another name", build(0, ".data"), build(0, ".state"), false},
		{"two of the name", build(0, ".data"), build(1, ".data", ".data"), false}, {"two of the name, the first", build(0, ".data"), build(0, ".data", ".data"), false},
		{"three of the name", build(0, ".data"), build(2, ".data", ".data", ".data"), false},
	} {
		if d := testutil.Diff(t, c.x, c.y); (statusOf(t, d, "f") == elfdiff.Unchanged) != c.same {
			t.Errorf("%s: want same %v\n%s", c.name, c.same, dump(d))
		}
	}
}

// TestFunctionFamilies: what is a function's pair when its name changed.
func TestFunctionFamilies(t *testing.T) {
	object := func(names ...string) *elfdiff.Graph {
		a := newAsm(t)
		for i, n := range names {
			a.fn(n, ".text."+n, elf.STB_LOCAL, func() { a.raw(0xb8).u32(uint32(i)).raw(0xc3) })
		}
		return a.graph()
	}
	for _, c := range []struct {
		a, b       string
		orig, conf string
	}{
		{"f", "f", "", "name"},
		{"f.constprop.0", "f.constprop.1", "f.constprop.0", "family"},
		{"f.isra.0", "f.isra.3", "f.isra.0", "family"},
		{"f.part.0", "f.part.1", "f.part.0", "family"},
		{"f.llvm.123", "f.llvm.456", "f.llvm.123", "family"},
		{"f.lto_priv.0", "f.lto_priv.1", "f.lto_priv.0", "family"},
		{"f", "g", "", "none"},
		{"f.isra.0", "f.constprop.0", "", "none"},
	} {
		d := testutil.Diff(t, object(c.a), object(c.b))
		for i := range d.Functions {
			f := &d.Functions[i]
			if f.Status == elfdiff.Removed {
				continue
			}
			if f.OrigName != c.orig || f.Confidence.String() != c.conf {
				t.Errorf("%s to %s: was %q, %v", c.a, c.b, f.OrigName, f.Confidence)
			}
		}
	}
}

// TestFallsInto: code that runs into the next function is changed with it, and not without.
func TestFallsInto(t *testing.T) {
	for _, c := range []struct {
		name  string
		end   []byte
		falls bool
	}{
		{"ret", []byte{0xc3}, false}, {"jmp out of it", []byte{0xe9, 0, 1, 0, 0}, false}, {"jmp *", []byte{0xff, 0xe0}, false}, {"mov", []byte{0xb8, 1, 0, 0, 0}, true}, {"nop", []byte{0x90}, true}, {"je", []byte{0x74, 0}, true},
		{"hlt, which may be left", []byte{0xf4}, true}, {"call of what does not return", []byte{0xe8, 0, 1, 0, 0}, false}, {"call *", []byte{0xff, 0xd0}, false}, {"call, then something", []byte{0xe8, 0, 1, 0, 0, 0x90}, true},
		{"ud2", []byte{0x0f, 0x0b}, false}, {"int3", []byte{0xcc}, false}, {"ret and filling", []byte{0xc3, 0x90}, false}, {"ret and code", []byte{0xc3, 0xb8, 1, 0, 0, 0}, true},
		{"code that ends behind ret, and filling", []byte{0xc3, 0xb8, 1, 0, 0, 0, 0xc3, 0x90}, false}, {"what does not decode", []byte{0x06}, false}, {"nothing else", nil, true},
	} {
		a := newAsm(t)
		a.section(".text", text)
		a.label("f", len(c.end)+1, elf.STB_GLOBAL, elf.STT_FUNC)
		a.raw(0x90).raw(c.end...)
		a.label("g", 1, elf.STB_GLOBAL, elf.STT_FUNC)
		a.raw(0xc3)
		if got := len(members(t, a.graph(), ".text")) == 2; got != c.falls {
			t.Errorf("%s: %v, want %v", c.name, got, c.falls)
		}
	}
}
