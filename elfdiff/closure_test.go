package elfdiff_test

import (
	"context"
	"debug/elf"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/elfdiff/internal/testutil"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
)

// closeCase is a function f that changes, and what there is beside it.
type closeCase struct {
	name    string
	before  func(a *asm, patched bool) // sections before f's
	entry   func(a *asm)               // of f; a call of __fentry__ when nil
	refs    []string                   // f loads their addresses
	body    func(a *asm)               // more of f
	section string
	bind    elf.SymBind
	after   func(a *asm, patched bool)
	want    string // codes of diagnostics, each with a part of its text in parentheses where that matters
	has     string // names of what travels, beside f
}

func (c *closeCase) graph(t *testing.T, patched bool) *elfdiff.Graph {
	a := newAsm(t)
	if c.before != nil {
		c.before(a, patched)
	}
	if c.section == "" {
		c.section = ".text.f"
	}
	a.section(c.section, text)
	if c.entry != nil {
		c.entry(a)
	} else {
		a.call("__fentry__")
	}
	a.raw(0xb8).u32(1)
	if patched {
		a.buf[len(a.buf)-4] = 2
	}
	for _, r := range c.refs {
		a.lea(toRDI, r, 0)
	}
	if c.body != nil {
		c.body(a)
	}
	a.raw(0xc3).whole("f", c.bind)
	if c.after != nil {
		c.after(a, patched)
	}
	return a.graph()
}

// TestClose: what a changed function brings along, and what speaks against a patch of it.
func TestClose(t *testing.T) {
	const global, weak, local = elf.STB_GLOBAL, elf.STB_WEAK, elf.STB_LOCAL
	fentry := func(a *asm) { a.call("__fentry__") }
	// variable makes a section with one variable.
	variable := func(a *asm, sec string, flags elf.SectionFlag, name string, bind elf.SymBind, b ...byte) {
		a.section(sec, flags)
		a.label(name, len(b), bind, elf.STT_OBJECT)
		a.raw(b...)
	}
	eight := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	changed := func(patched bool) []byte {
		b := slices.Clone(eight)
		if patched {
			b[3] = 9
		}
		return b
	}
	callee := func(name, sec string, bind elf.SymBind, entry func(*asm), refs ...string) func(*asm, bool) {
		return func(a *asm, _ bool) {
			a.fn(name, sec, bind, func() {
				if entry != nil {
					entry(a)
				}
				for _, r := range refs {
					a.lea(toRDI, r, 0)
				}
				a.raw(0xc3)
			})
		}
	}
	onlyNew := func(do func(*asm, bool)) func(*asm, bool) {
		return func(a *asm, patched bool) {
			if patched {
				do(a, patched)
			}
		}
	}
	both := func(dos ...func(*asm, bool)) func(*asm, bool) {
		return func(a *asm, patched bool) {
			for _, do := range dos {
				do(a, patched)
			}
		}
	}
	data_ := func(sec string, flags elf.SectionFlag, name string, bind elf.SymBind) func(*asm, bool) {
		return func(a *asm, _ bool) { variable(a, sec, flags, name, bind, eight...) }
	}
	changing := func(sec string, flags elf.SectionFlag, name string) func(*asm, bool) {
		return func(a *asm, patched bool) { variable(a, sec, flags, name, local, changed(patched)...) }
	}
	nameless := func(sec string, flags elf.SectionFlag) func(*asm, bool) {
		return func(a *asm, _ bool) {
			a.section(sec, flags)
			a.raw(eight...)
		}
	}
	aligned := func(orig, patched uint64) func(*asm, bool) {
		return func(a *asm, p bool) {
			variable(a, ".data.v", data, "v", global, eight...)
			a.flush()
			s := a.b.Section(a.sec)
			if s.Addralign = orig; p {
				s.Addralign = patched
			}
			a.b.SetSection(a.sec, s)
		}
	}
	strings_ := func(a *asm, _ bool) {
		a.section(".rodata.str", strs)
		for _, s := range []string{"aa", "bb", "cc", "dd"} {
			a.str(s)
		}
	}
	consts := func(a *asm, _ bool) {
		a.section(".rodata.cst8", elf.SHF_ALLOC|elf.SHF_MERGE)
		a.raw(make([]byte, 32)...)
		a.flush()
		s := a.b.Section(a.sec)
		s.Entsize, s.Data = 8, a.buf
		a.b.SetSection(a.sec, s)
	}
	pointer := func(sec string, flags elf.SectionFlag, to ...string) func(*asm, bool) {
		return func(a *asm, _ bool) {
			a.section(sec, flags)
			for _, s := range to {
				a.field(elf.R_X86_64_64, s, 0)
			}
		}
	}
	load := func(sym string, off int64) func(*asm) { // mov sym+off(%rax),%al
		return func(a *asm) { a.raw(0x8a, 0x80).field(elf.R_X86_64_32S, sym, off) }
	}
	for _, c := range []closeCase{
		{name: "plain"},
		// Can it be replaced?
		{name: "endbr64 first", entry: func(a *asm) { a.raw(0xf3, 0x0f, 0x1e, 0xfa).call("__fentry__") }},
		{name: "no call", entry: func(*asm) {}, want: "no-ftrace-entry(does not call __fentry__ at its entry; no function of this object)"},
		{name: "a call of something else", entry: func(a *asm) { a.call("fentry") }, want: "no-ftrace-entry"},
		{name: "a call behind something", entry: func(a *asm) { a.raw(0x90).call("__fentry__") }, want: "no-ftrace-entry"},
		{name: "a call behind much", entry: func(a *asm) { a.raw(0xb8, 0, 0, 0, 0).call("__fentry__") }, want: "no-ftrace-entry"},
		{name: "its caller instead", entry: func(*asm) {}, after: both(callee("g", ".text.g", global, fentry, "f"), callee("h", ".text.h", global, nil, "f")),
			want: "no-ftrace-entry(callers that can be replaced: g)"},
		{name: "the caller of its caller", entry: func(*asm) {}, after: both(callee("g", ".text.g", global, nil, "f"), callee("h", ".text.h", global, fentry, "g"), callee("i", ".init.text", global, fentry, "g")),
			want: "no-ftrace-entry(callers that can be replaced: h)"},
		{name: "many callers", entry: func(*asm) {}, after: func(a *asm, p bool) {
			for _, n := range strings.Fields("a b c d e g h i j k") {
				callee(n, ".text."+n, global, fentry, "f")(a, p)
			}
		}, want: "no-ftrace-entry(a, b, c, d, e, g, h, i and 2 more)"},
		{name: "init", section: ".init.text", want: "init-changed"},
		{name: "not for patches", section: ".noinstr.text", want: "unpatchable-section"},
		{name: "weak", bind: weak, want: "weak-changed"},
		// What travels.
		{name: "a function that is there", before: callee("g", ".text.g", local, fentry), refs: []string{"g"}},
		{name: "a new function, and what it needs", before: onlyNew(both(callee("g", ".text.g", local, fentry, "h"), callee("h", ".text.h", local, fentry), callee("i", ".text.i", local, fentry))), refs: []string{"g"}, has: "g h"},
		{name: "its parts, and no filling behind it", after: func(a *asm, p bool) {
			a.raw(0xcc, 0xcc, 0xcc, 0xcc)
			callee("g", ".text.g", global, fentry)(a, p)
			callee("f.cold", ".text.unlikely.f", local, nil)(a, p)
		}, has: "f.cold"},
		{name: "a string", before: strings_, refs: []string{".rodata.str"}, has: ".rodata.str+0"},
		{name: "a variable that is there", before: data_(".data.v", data, "v", local), refs: []string{"v"}},
		{name: "a new variable", before: onlyNew(data_(".data.v", data, "v", local)), refs: []string{"v"}, has: "v"},
		{name: "a new variable that nothing refers to", before: onlyNew(data_(".data.v", data, "v", local))},
		{name: "state of a macro", before: data_(".data.__key.1", data, "__key.1", local), refs: []string{"__key.1"}, has: "__key.1"},
		{name: "a global of that name", before: data_(".data.__key.1", data, "__key.1", global), refs: []string{"__key.1"}},
		{name: "a nameless constant", before: nameless(".rodata", rodata), refs: []string{".rodata"}, has: ".rodata+0"},
		{name: "a compiler's constant", before: data_(".rodata.CSWTCH.1", rodata, "CSWTCH.1", local), refs: []string{"CSWTCH.1"}, has: "CSWTCH.1"},
		{name: "nameless state", before: nameless(".data", data), refs: []string{".data"}, want: "unnamed-data"},
		{name: "new nameless state", before: onlyNew(nameless(".data", data)), refs: []string{".data"}, has: ".data+0"},
		{name: "the piece of an index", before: strings_, body: load(".rodata.str", 3), has: ".rodata.str+3"},
		{name: "what an index may reach", before: strings_, body: load(".rodata.str", 4), has: ".rodata.str+3 .rodata.str+6 .rodata.str+9"},
		{name: "a constant", before: consts, body: func(a *asm) { a.lea(toRDI, ".rodata.cst8", 8) }, has: ".rodata.cst8+8"},
		{name: "across two constants", before: consts, body: func(a *asm) { a.lea(toRDI, ".rodata.cst8", 12) }, has: ".rodata.cst8+8 .rodata.cst8+16"},
		{name: "in the last constant", before: consts, body: func(a *asm) { a.lea(toRDI, ".rodata.cst8", 28) }, has: ".rodata.cst8+24"},
		// Data that the kernel has already.
		{name: "changed state", before: changing(".data.v", data, "v"), refs: []string{"v"}, want: "data-changed"},
		{name: "changed state that nothing refers to", before: changing(".data.v", data, "v"), want: "data-changed"},
		{name: "a changed constant", before: changing(".rodata.v", rodata, "v"), refs: []string{"v"}, has: "v"},
		{name: "a changed constant that others read, too", before: both(changing(".rodata.v", rodata, "v"), callee("g", ".text.g", global, fentry, "v")), refs: []string{"v"}, has: "v", want: "data-changed(g, which does not, reads it)"},
		{name: "a changed constant that only others read", before: both(changing(".rodata.v", rodata, "v"), callee("g", ".text.g", global, fentry, "v")), want: "data-changed(read by g)"},
		{name: "less alignment", before: aligned(32, 8), refs: []string{"v"}},
		{name: "more alignment", before: aligned(8, 32), refs: []string{"v"}, want: "data-changed"},
		// Memory that is gone.
		{name: "init data", before: data_(".init.data", data, "v", local), refs: []string{"v"}, want: "init-reference"},
		{name: "new init data", before: onlyNew(data_(".init.data", data, "v", local)), refs: []string{"v"}, has: "v", want: "init-reference"},
		{name: "an init function", before: callee("g", ".init.text", local, fentry), refs: []string{"g"}, want: "init-reference"},
		// What refers to it.
		{name: "a table that no rule knows", after: pointer("mytable", rodata, "f"), want: "unknown-table"},
		{name: "told once", after: pointer("mytable", rodata, "f", "f"), want: "unknown-table"},
		{name: "a table of others", before: callee("g", ".text.g", global, fentry), after: pointer("mytable", rodata, "g")},
		{name: "a table that travels", refs: []string{"mytable"}, after: pointer("mytable", rodata, "f"), has: "mytable+0"},
		// Instrumentation.
		{name: "instrumented", body: func(a *asm) { a.call("__asan_load8").call("__asan_load8") }, want: "instrumented"},
		{name: "instrumented elsewhere", before: callee("g", ".text.g", global, func(a *asm) { a.call("__fentry__").call("__asan_load8") })},
		{name: "a function of that name", before: callee("__asan_load8", ".text.g", global, fentry), body: func(a *asm) { a.call("__asan_load8") }},
	} {
		if c.bind == 0 {
			c.bind = global
		}
		x, y := c.graph(t, false), c.graph(t, true)
		sel, ds, err := elfdiff.Close(context.Background(), x, y, testutil.Diff(t, x, y), elfdiff.FormatKlp, nil)
		if err != nil {
			t.Fatal(err)
		}
		code, part, _ := strings.Cut(strings.TrimSuffix(c.want, ")"), "(")
		var got []string
		for _, d := range ds {
			got = append(got, string(d.Code))
			if !strings.Contains(d.Message, part) {
				t.Errorf("%s: %s, want %s", c.name, d.Message, part)
			}
		}
		if strings.Join(got, " ") != code {
			t.Errorf("%s: %v, want %s", c.name, ds, code)
		}
		var has []string
		for _, a := range sel.Atoms {
			at := &y.Atoms[a]
			switch name := y.Name(a); {
			case name == "f":
			case at.Sym != 0:
				has = append(has, name)
			default:
				has = append(has, place(y, a))
			}
		}
		if strings.Join(has, " ") != c.has {
			t.Errorf("%s: %q travel, want %q", c.name, has, c.has)
		}
		if len(sel.Changed) != 1 || y.UnitName(sel.Changed[0]) != "f" {
			t.Errorf("%s: %v changed", c.name, sel.Changed)
		}
	}
}

func place(g *elfdiff.Graph, a elfdiff.AtomID) string {
	at := &g.Atoms[a]
	return g.File.Sections[at.Sec].Name + "+" + fmt.Sprint(at.Off)
}

// TestCloseRoots: what somebody else refers to travels, too; the chain says what brought a thing.
func TestCloseRoots(t *testing.T) {
	build := func(patched bool) *elfdiff.Graph {
		a := newAsm(t)
		for _, n := range []string{"v", "w"} {
			if patched || n == "w" {
				a.section(".data."+n, data)
				a.label(n, 8, elf.STB_LOCAL, elf.STT_OBJECT)
				a.raw(make([]byte, 8)...)
			}
		}
		if patched {
			a.fn("h", ".text.h", elf.STB_LOCAL, func() { a.call("__fentry__").lea(toRDI, "v", 0).raw(0xc3) })
		}
		a.fn("g", ".text.g", elf.STB_GLOBAL, func() { a.call("__fentry__").raw(0xc3) })
		a.fn("f", ".text.f", elf.STB_GLOBAL, func() {
			if a.call("__fentry__"); patched {
				a.lea(toRDI, "h", 0)
			}
			a.raw(0xc3)
		})
		return a.graph()
	}
	x, y := build(false), build(true)
	root := func(name string) elfdiff.AtomID {
		for i := range y.File.Symbols {
			if y.File.Symbols[i].Name == name {
				return y.SymbolAtom(object.SymID(i))
			}
		}
		t.Fatal(name)
		return 0
	}
	sel, ds, err := elfdiff.Close(context.Background(), x, y, testutil.Diff(t, x, y), elfdiff.FormatKlp, []elfdiff.AtomID{root("g"), root("w")})
	if err != nil || diag.HasErrors(ds) {
		t.Fatal(err, ds)
	}
	for name, chain := range map[string]string{"f": "f", "h": "f h", "v": "f h v", "g": "g", "w": "w"} {
		if a := root(name); !sel.Has(a) || strings.Join(sel.Chain(y, a), " ") != chain {
			t.Errorf("%s: %v, brought by %q", name, sel.Has(a), sel.Chain(y, a))
		}
	}
	if len(sel.Changed) != 1 || len(sel.New) != 1 || y.UnitName(sel.New[0]) != "h" {
		t.Errorf("%+v", sel)
	}
	ctx, stop := context.WithCancel(context.Background())
	d := testutil.Diff(t, x, y)
	stop()
	if _, _, err := elfdiff.Close(ctx, x, y, d, elfdiff.FormatKlp, nil); err != context.Canceled {
		t.Error(err)
	}
}
