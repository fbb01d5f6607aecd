package symbols_test

import (
	"debug/elf"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/symbols"
)

// TestLetters: what a letter of nm says of binding and kind, and which are none. FromKallsyms reads them as ParseKallsyms does.
func TestLetters(t *testing.T) {
	const (
		locals  = "tdbrsginp"
		globals = "TDBRSGCNuWwVvI"
		unbound = "Aa-?"
		code    = "tT"
	)
	for c := byte(' ') + 1; c < 127; c++ {
		ts, err := symbols.ParseKallsyms("k", fmt.Appendf(nil, "5 %c f\n", c))
		u, err2 := symbols.FromKallsyms("k", symbols.Vmlinux, 1, func(int) (uint64, byte, string) { return 5, c, "f" })
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '?'
		if (err == nil) != letter || (err2 == nil) != letter {
			t.Errorf("%c: %v, %v", c, err, err2)
		}
		if err != nil || err2 != nil {
			continue
		}
		e := ts[0].Entries[0]
		if e != u.Entries[0] || u.Order != symbols.AsListed || !u.Text || !ts[0].Text {
			t.Errorf("%c: %+v and %+v", c, e, u.Entries[0])
		}
		is := func(letters string) bool { return strings.IndexByte(letters, c) >= 0 }
		if is(locals) && !e.Local() || is(globals) && !e.Global() || is(unbound) && (e.Local() || e.Global()) || is(code) != (e.Flags&symbols.EntryCode != 0) || (c == 'U') != (e.Flags&symbols.EntryUndefined != 0) {
			t.Errorf("%c: %+v, local %v, global %v", c, e, e.Local(), e.Global())
		}
	}
	// Out of order: somebody sorted them.
	for _, addrs := range [][]uint64{{1, 2, 2, 3}, {1, 3, 2, 4}} {
		u, err := symbols.FromKallsyms("k", "m", len(addrs), func(i int) (uint64, byte, string) { return addrs[i], 't', "f" })
		if err != nil || (u.Order == symbols.ByAddress) == slices.IsSorted(addrs) {
			t.Errorf("%v: %v %v", addrs, u.Order, err)
		}
	}
	// Symbols that the file does not define have no address.
	ts, err := symbols.ParseKallsyms("k", []byte("                 U a\n                 w b\n                 v c\n5 t d\n"))
	if err != nil || len(symbols.Sequence(ts[0])) != 1 {
		t.Error(ts, err)
	}
	for text, module := range map[string]string{"5 t f\t[m]": "m", "5 t f [m]": "m", "5 t f": "", "5 t f[m]": "", "5 t f[m": ""} {
		ts, err := symbols.ParseKallsyms("k", []byte(text+"\n"))
		if err != nil || len(ts) != map[bool]int{true: 2, false: 1}[module != ""] || ts[len(ts)-1].Object != map[bool]string{true: module, false: symbols.Vmlinux}[module != ""] {
			t.Errorf("%q: %v, %v", text, ts, err)
		}
	}
	for _, text := range []string{"5 t f\tm]", "5 t f\t[m", "5 t f\t[]", "5 t f\tm"} {
		if _, err := symbols.ParseKallsyms("k", []byte(text+"\n")); err == nil || !strings.Contains(err.Error(), "not in brackets") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestReadelfKind: a vmlinux whose functions lie low is not linked, so that its order says nothing.
func TestReadelfKind(t *testing.T) {
	const low, high = "0000000000ffffff", "0000000001000000"
	for _, c := range []struct {
		object string
		funcs  []string // value, and section
		want   symbols.Order
	}{
		{"vmlinux", []string{high + " 1"}, symbols.ByAddress}, {"vmlinux", []string{low + " 1"}, symbols.Unordered}, {"vmlinux", []string{low + " 1", high + " 1"}, symbols.ByAddress},
		{"vmlinux", []string{low + " 1", low + " 1", high + " 1"}, symbols.Unordered}, {"vmlinux", []string{low + " UND", low + " UND", high + " 1"}, symbols.ByAddress},
		{"vmlinux", []string{low + " 1", high + " UND", high + " UND"}, symbols.Unordered}, {"m", []string{low + " 1"}, symbols.AsListed}, {"m", []string{high + " 1"}, symbols.AsListed},
	} {
		var text strings.Builder
		for i, f := range c.funcs {
			value, sec, _ := strings.Cut(f, " ")
			fmt.Fprintf(&text, "%d: %s 16 FUNC LOCAL DEFAULT %s f%d\n", i, value, sec, i)
		}
		tab, err := symbols.ParseReadelf("t", c.object, []byte(text.String()))
		if err != nil || tab.Order != c.want {
			t.Errorf("%s %v: %v %v, want %v", c.object, c.funcs, tab.Order, err, c.want)
		}
	}
}

// TestReadelfWords: numbers and words in the forms that versions of readelf write them, and what is none.
func TestReadelfWords(t *testing.T) {
	for _, c := range []struct {
		line string
		want string // address, size, type, binding, flags and name; or a part of the error
	}{
		{"1: ffffffff81000000 10 FUNC LOCAL DEFAULT 1 f", "ffffffff81000000 10 FUNC LOCAL 32 f"},
		{"1: FFFFFFFF8100000A 0x1F OBJECT GLOBAL DEFAULT 1 f", "ffffffff8100000a 31 OBJECT GLOBAL 0 f"},
		{"1: a 1 TLS WEAK DEFAULT 1 f", "a 1 TLS WEAK 0 f"},
		{"1: a 1 COMMON GLOBAL DEFAULT COM f", "a 1 COMMON GLOBAL 8 f"},
		{"1: a 1 IFUNC UNIQUE DEFAULT 1 f", "a 1 " + strings.TrimPrefix(elf.SymType(10).String(), "STT_") + " " + strings.TrimPrefix(elf.SymBind(10).String(), "STB_") + " 0 f"},
		{"1: a 1 OBJECT LOCAL DEFAULT ABS f", "a 1 OBJECT LOCAL 12 f"},
		{"1: a 1 OBJECT LOCAL DEFAULT PRC[0xff01] f", "a 1 OBJECT LOCAL 12 f"},
		{"1: a 1 OBJECT LOCAL DEFAULT OS [0xff20] f", "a 1 OBJECT LOCAL 12 f"},
		{"1: a 1 OBJECT LOCAL DEFAULT UND f", "a 1 OBJECT LOCAL 1 f"},
		{"1: a 1 OBJECT LOCAL DEFAULT [<other>: 88] 1 f [<other>: 88]", "a 1 OBJECT LOCAL 0 f"},
		{"1: a 1 OBJECT LOCAL DEFAULT 1 f[3]", "a 1 OBJECT LOCAL 0 f[3]"},
		{"1: a 1 FILE LOCAL DEFAULT ABS a.c", "a 1 FILE LOCAL 2 a.c"},
		{"1: a 1 SECTION LOCAL DEFAULT 1 .text", "a 1 SECTION LOCAL 2 .text"},
		{"1: a 1 NOTYPE LOCAL DEFAULT 1", "a 1 NOTYPE LOCAL 2 "},
		{"1: 11111111111111111 1 FUNC LOCAL DEFAULT 1 f", "the value"},
		{"1: g 1 FUNC LOCAL DEFAULT 1 f", "the value"},
		{"1: a 0x FUNC LOCAL DEFAULT 1 f", "the size"},
		{"1: a f FUNC LOCAL DEFAULT 1 f", "the size"},
		{"1: a 99999999999999999999 FUNC LOCAL DEFAULT 1 f", "the size"},
		{"1: a 1 FUNC LOCAL", "fewer than seven"},
		{"1: a 1 FUNC LOCAL DEFAULT 1 f[...]", "the name is cut"},
		{"x: a 1 FUNC LOCAL DEFAULT 1 f", "no symbol in it"},
		{"1 a 1 FUNC LOCAL DEFAULT 1 f", "no symbol in it"},
		{": a 1 FUNC LOCAL DEFAULT 1 f", "no symbol in it"},
		{"1", "no symbol in it"},
	} {
		tab, err := symbols.ParseReadelf("t", "m", []byte(c.line+"\n"))
		if err != nil {
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %s", c.line, err, c.want)
			}
			continue
		}
		e := &tab.Entries[0]
		if got := fmt.Sprintf("%x %d %s %s %d %s", e.Addr, e.Size, tab.TypeName(e), tab.BindName(e), e.Flags, e.Name); got != c.want {
			t.Errorf("%s: %s, want %s", c.line, got, c.want)
		}
	}
	// What names of sections say of their symbols in a module.
	for section, want := range map[string]symbols.EntryFlags{
		".text": symbols.EntryCode, ".text.f": symbols.EntryCode, ".data": 0, ".init.data": symbols.EntryInit, ".init.text": symbols.EntryInit | symbols.EntryCode, ".modinfo": symbols.EntryInit | symbols.EntryDiscarded,
		".discard.x": symbols.EntryInit | symbols.EntryDiscarded, ".debug_info": symbols.EntryInit | symbols.EntryDiscarded, ".comment": symbols.EntryInit | symbols.EntryDiscarded,
	} {
		tab, err := symbols.ParseReadelf("t", "m", fmt.Appendf(nil, "1: 0 0 SECTION LOCAL DEFAULT 1 %s\n2: 0 0 SECTION LOCAL DEFAULT 2 .data\n3: 0 8 OBJECT LOCAL DEFAULT 1 v\n4: 0 8 OBJECT LOCAL DEFAULT 2 w\n5: 0 8 FUNC LOCAL DEFAULT 2 f\n6: 0 8 FUNC LOCAL DEFAULT 2 g\n", section))
		if err != nil || tab.Entries[2].Flags != want || tab.Entries[3].Flags != 0 || tab.Entries[4].Flags != symbols.EntryCode {
			t.Errorf("%s: %+v %v, want %d", section, tab.Entries, err, want)
		}
	}
	// Too many words that nobody knows.
	var text strings.Builder
	for i := range 201 {
		fmt.Fprintf(&text, "%d: a 1 TYPE%d LOCAL DEFAULT 1 f\n", i, i)
		if _, err := symbols.ParseReadelf("t", "m", []byte(text.String())); (err == nil) != (i < 200) {
			t.Fatalf("%d words: %v", i+1, err)
		}
	}
}
