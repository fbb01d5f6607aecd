package debuginfo

import (
	"bytes"
	"cmp"
	"compress/zlib"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/kdelta/kdelta/pkg/object"
)

const cases = "../../testdata/cases"

func load(tb testing.TB, path string) *Info {
	tb.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	in, err := Load(data, Options{})
	if err != nil {
		tb.Fatal(err)
	}
	return in
}

// symbol is a function in the symbol table.
type symbol struct {
	name string
	at   Place
	size uint64
}

func functions(tb testing.TB, path string) []symbol {
	tb.Helper()
	f, err := elf.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	syms, err := f.Symbols()
	if err != nil {
		tb.Fatal(err)
	}
	var out []symbol
	for _, s := range syms {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && int(s.Section) > 0 && int(s.Section) < len(f.Sections) {
			out = append(out, symbol{s.Name, Place{int(s.Section), s.Value}, s.Size})
		}
	}
	slices.SortFunc(out, func(a, b symbol) int { return cmp.Compare(a.name, b.name) })
	return out
}

// pairs gives the functions of two builds by name.
func pairs(tb testing.TB, orig, patched string) []Func {
	var out []Func
	for _, x := range functions(tb, orig) {
		for _, y := range functions(tb, patched) {
			if x.name == y.name {
				out = append(out, Func{x.name, x.at, y.at})
			}
		}
	}
	return out
}

// withDebug lists the objects of the fixtures that have DWARF, and of the real pairs where they are here.
func withDebug(tb testing.TB) []string {
	var out []string
	for _, glob := range []string{cases + "/*/*.o", "testdata/*.o", "../../../shared/pairs/*/*.o"} {
		list, err := filepath.Glob(glob)
		if err != nil {
			tb.Fatal(err)
		}
		for _, p := range list {
			if data, err := os.ReadFile(p); err == nil && bytes.Contains(data, []byte("debug_info")) {
				out = append(out, p)
			}
		}
	}
	if len(out) < 20 {
		tb.Fatalf("only %d objects with DWARF", len(out))
	}
	return out
}

// Every byte of every function has the line, and the chain of inlined functions,
// that binutils' addr2line gives.
func TestAddr2line(t *testing.T) {
	tool, err := exec.LookPath("addr2line")
	if err != nil {
		t.Skip("no addr2line")
	}
	asked, lined, inlined := 0, 0, 0
	for _, path := range withDebug(t) {
		in := load(t, path)
		f, err := elf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		bySection := make(map[int][]Place)
		for _, s := range functions(t, path) {
			for off := range s.size {
				bySection[s.at.Section] = append(bySection[s.at.Section], Place{s.at.Section, s.at.Off + off})
			}
		}
		names := make(map[string]int)
		for _, s := range f.Sections {
			names[s.Name]++
		}
		for sec, places := range bySection {
			if names[f.Sections[sec].Name] > 1 {
				continue // addr2line takes sections by name
			}
			var addrs bytes.Buffer
			for _, p := range places {
				fmt.Fprintf(&addrs, "0x%x\n", p.Off)
			}
			cmd := exec.Command(tool, "-a", "-f", "-i", "-j", f.Sections[sec].Name, "-e", path)
			cmd.Stdin = &addrs
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			answers := strings.Split(string(out), "\n0x")
			if len(answers) != len(places) {
				t.Fatalf("%s: %d answers of addr2line for %d questions", path, len(answers), len(places))
			}
			for i, p := range places {
				lines := strings.Split(strings.TrimSpace(answers[i]), "\n")[1:] // function and line, innermost first
				want := filepath.Base(strings.Fields(lines[1])[0])
				if strings.HasSuffix(want, ":0") || strings.Contains(want, "?") {
					want = ""
				}
				pos, _ := in.Line(p)
				if got := filepath.Base(pos.String()); pos.File != "" && got != want || pos.File == "" && want != "" {
					t.Errorf("%s: %s+0x%x: %q, addr2line says %q", path, f.Sections[sec].Name, p.Off, pos, want)
				}
				var chain, says []string
				for _, x := range in.Inlined(p) {
					chain = append(chain, x.Name+"\x00"+filepath.Base(x.Call.String()))
				}
				for k := len(lines) - 4; k >= 0; k -= 2 {
					name := lines[k]
					if n := len(lines)/2 - 2 - k/2; strings.HasPrefix(name, "_Z") && n < len(chain) {
						name, _, _ = strings.Cut(chain[n], "\x00") // addr2line gives the linkage name
					}
					says = append(says, name+"\x00"+filepath.Base(strings.Fields(lines[k+3])[0]))
				}
				if !slices.Equal(chain, says) {
					t.Errorf("%s: %s+0x%x: inlined %q, addr2line says %q", path, f.Sections[sec].Name, p.Off, chain, says)
				}
				asked++
				if want != "" {
					lined++
				}
				if len(says) > 0 {
					inlined++
				}
			}
		}
		f.Close()
		if err := in.Err(); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	t.Logf("%d places, %d with a line, %d in inlined code", asked, lined, inlined)
}

func TestInlined(t *testing.T) {
	for _, tool := range []string{"gcc", "clang"} {
		path := cases + "/dwarf-inline/" + tool + ".PATCHED.o"
		in := load(t, path)
		seen := make(map[string]bool)
		for _, s := range functions(t, path) {
			if name, decl, ok := in.Function(s.at); !ok || name != s.name || decl.File != "dwarf-inline.c" {
				t.Errorf("%s: %s: %q %v %v", tool, s.name, name, decl, ok)
			}
			for off := range s.size {
				text := s.name
				for _, x := range in.Inlined(Place{s.at.Section, s.at.Off + off}) {
					text += " > " + x.Name + "@" + x.Call.String()
				}
				seen[text] = true
			}
		}
		for _, want := range []string{
			"nested > outer@dwarf-inline.c:19 > inner@dwarf-inline.c:13",
			"direct > inner@dwarf-inline.c:20", "direct > stays@dwarf-inline.c:20", "other > stays@dwarf-inline.c:21",
		} {
			if !seen[want] {
				t.Errorf("%s: no %s in %v", tool, want, seen)
			}
		}
	}
}

// layoutText writes a result for comparison; types are named by the compiler.
func layoutText(cs []StructChange) string {
	var b strings.Builder
	for i := range cs {
		c := &cs[i]
		fmt.Fprintf(&b, "%s", c)
		if len(c.Users) > 0 {
			fmt.Fprintf(&b, " <- %s", strings.Join(c.Users, " "))
		}
		if len(c.Reachable) > 0 {
			fmt.Fprintf(&b, " <~ %s", strings.Join(c.Reachable, " "))
		}
		b.WriteByte('\n')
	}
	return strings.NewReplacer("long long unsigned int", "unsigned long long", "long int", "long", "short int", "short").Replace(b.String())
}

const membersWant = `struct anonymous: size 16 as before; mid (short) added at 10; hi moved from 10 to 12 <- f_anonymous
struct array: size 16 -> 24; a retyped from int[4] to int[6] <- f_array
struct bits: size 4 as before; b retyped from unsigned int of 4 bits to unsigned int of 5 bits; c moved from 0 bit 7 to 1 bit 0 <- f_bits
struct by_typedef: size 8 -> 16; key retyped from key_t (unsigned int) to key_t (unsigned long long); tail moved from 4 to 8 <- f_by_typedef
union either: size 8 -> 24; buf (char[24]) added at 0 <- f_either
struct far_end: size 4 -> 8; b (int) added at 4 <~ f_reach
struct holder: size 24 -> 32; in retyped from struct inner of 8 bytes to struct inner of 16 bytes; last moved from 16 to 24 <- f_holder
struct inner: size 8 -> 16; b (long) added at 8 <- f_holder f_untouched
struct moved: size 12 as before; c moved from 8 to 4; b moved from 4 to 8 <- f_moved f_untouched
struct name_only: size 16 as before; reserved1 at 8 renamed to budget <- f_name_only
struct removed: size 16 as before; gone (int) removed from 4 <- f_removed
struct renamed: size 16 as before; hook (void (*)(int)) added at 8; reserved1 (long) removed from 8 <- f_renamed
struct retyped: size 16 as before; a retyped from int to unsigned int <- f_retyped
struct untagged_t: size 4 -> 8; y (int) added at 4 <- f_untagged
`

func TestLayout(t *testing.T) {
	for _, c := range []struct{ path, want string }{
		{cases + "/dwarf-members/gcc", membersWant},
		{cases + "/dwarf-members/clang", membersWant},
		{cases + "/dwarf-layout/gcc", "struct thing: size 16 -> 32; added (long) added at 8; b moved from 4 to 16; next moved from 8 to 24 <- first second third\n"},
		{cases + "/dwarf-layout/clang", "struct thing: size 16 -> 32; added (long) added at 8; b moved from 4 to 16; next moved from 8 to 24 <- first second third\n"},
		{cases + "/dwarf-v4/clang", "struct thing: size 16 as before; added (short) added at 4; low moved from 4 bit 0 to 6 bit 0; high moved from 4 bit 3 to 6 bit 3 <- first fourth second third\n"},
		{cases + "/dwarf-zstd/gcc", "struct thing: size 24 as before; flags (u32) added at 8; n moved from 8 to 12 <- first second\n"},
		{cases + "/dwarf-zstd/clang", "struct thing: size 24 as before; flags (u32) added at 8; n moved from 8 to 12 <- first second\n"},
		{"testdata/zdebug", "struct thing: size 24 as before; flags (u32) added at 8; n moved from 8 to 12 <- first second\n"},
		{cases + "/dwarf-lines/gcc", ""},
		{cases + "/gz/gcc", ""},
		{cases + "/gz/clang", ""},
		{cases + "/same/gcc", ""}, // no DWARF
	} {
		orig, patched := c.path+".ORIG.o", c.path+".PATCHED.o"
		a, b, fs := load(t, orig), load(t, patched), pairs(t, orig, patched)
		if got := layoutText(Layout(a, b, fs)); got != c.want {
			t.Errorf("%s:\n%swant:\n%s", c.path, got, c.want)
		}
		if got := Layout(a, a, fs); len(got) > 0 {
			t.Errorf("%s: differs from itself: %v", c.path, got)
		}
		if a.Err() != nil || b.Err() != nil {
			t.Errorf("%s: %v, %v", c.path, a.Err(), b.Err())
		}
	}
	// A function that only one build has: the other build's structure of that name counts.
	a, b := load(t, cases+"/dwarf-layout/gcc.ORIG.o"), load(t, cases+"/dwarf-layout/gcc.PATCHED.o")
	for _, f := range pairs(t, cases+"/dwarf-layout/gcc.ORIG.o", cases+"/dwarf-layout/gcc.PATCHED.o") {
		if f.Name != "third" {
			continue
		}
		for _, one := range []Func{{f.Name, Place{}, f.Patched}, {f.Name, f.Orig, Place{}}} {
			if got := Layout(a, b, []Func{one}); len(got) != 1 || got[0].Name != "thing" {
				t.Errorf("%+v: %v", one, got)
			}
		}
	}
}

func TestNone(t *testing.T) {
	in := load(t, cases+"/same/gcc.ORIG.o")
	at := functions(t, cases+"/same/gcc.ORIG.o")[0].at
	if in.Present() || in.Err() != nil {
		t.Error("DWARF where there is none")
	}
	var none *Info
	for _, x := range []*Info{in, none} {
		if _, ok := x.Line(at); ok || x.Inlined(at) != nil || x.Structs(at) != nil || x.Struct("struct thing", "") != nil || x.Err() != nil || x.Present() {
			t.Error("answers without DWARF")
		}
	}
	if _, err := Load([]byte("no object"), Options{}); err == nil {
		t.Error("no ELF file, no error")
	}
	if _, err := Load(nil, Options{}); err == nil {
		t.Error("nothing, no error")
	}
	with := load(t, cases+"/dwarf-layout/gcc.ORIG.o")
	for _, p := range []Place{{}, {Section: -1}, {Section: 1 << 20}, {Section: 1, Off: 1 << 40}, {Section: 1, Off: 1 << 20}} {
		if _, ok := with.Line(p); ok || with.Structs(p) != nil {
			t.Errorf("an answer for %v", p)
		}
	}
}

func TestLimits(t *testing.T) {
	path := cases + "/dwarf-layout/gcc.ORIG.o"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := functions(t, path)[0].at
	for _, o := range []Options{{MaxBytes: 10}, {MaxSteps: 5}, {MaxSteps: 60}} {
		in, err := Load(data, o)
		if err != nil {
			t.Fatal(err)
		}
		if got := in.Structs(at); len(got) > 0 || in.Err() == nil || !strings.Contains(in.Err().Error(), errLimit.Error()) {
			t.Errorf("%+v: %v, %v", o, got, in.Err())
		}
	}
}

// Compressed sections that claim, or are, more than their file can be about.
func TestLimitsCompressed(t *testing.T) {
	deflate := func(n int) []byte {
		var b bytes.Buffer
		w := zlib.NewWriter(&b)
		_, _ = w.Write(make([]byte, n))
		_ = w.Close()
		return b.Bytes()
	}
	bomb := deflate(64 << 20) // to 64 KB
	for _, c := range []struct {
		name  string
		claim uint64
		data  []byte
		limit bool
	}{
		{"honest and small", 1 << 16, deflate(1 << 16), false},
		{"a bomb", 64 << 20, bomb, true},
		{"a bomb that claims little", 1 << 10, bomb, false}, // no more is read
		{"a claim beyond memory", 1 << 62, deflate(16), true},
		{"a claim that wraps", math.MaxUint64, deflate(16), true},
	} {
		b := object.NewBuilder(object.Header{})
		chdr := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, 1), c.claim), 1)
		b.AddSection(object.BuildSection{Name: ".debug_info", Type: elf.SHT_PROGBITS, Flags: elf.SHF_COMPRESSED, Addralign: 8, Data: append(chdr, c.data...)})
		b.AddSection(object.BuildSection{Name: ".debug_abbrev", Type: elf.SHT_PROGBITS, Addralign: 1, Data: []byte{0}})
		data, err := b.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		in, err := Load(data, Options{})
		if err != nil {
			t.Fatal(err)
		}
		in.Structs(Place{Section: 1})
		runtime.ReadMemStats(&after)
		if got := in.Err() != nil && strings.Contains(in.Err().Error(), errLimit.Error()); got != c.limit {
			t.Errorf("%s: %v", c.name, in.Err())
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20 {
			t.Errorf("%s: %d bytes of memory", c.name, used)
		}
	}
}

// What debug/dwarf would take for granted is refused.
func TestAbbrevs_Errors(t *testing.T) {
	unit := func(abbrev uint32) []byte { // version 4, no entries
		b := binary.LittleEndian.AppendUint32(nil, 7)
		b = append(b, 4, 0)
		return append(binary.LittleEndian.AppendUint32(b, abbrev), 8)
	}
	wide := []byte{1, 0x11, 0}
	for range maxAttrs + 1 {
		wide = append(wide, 3, 0x19)
	}
	long := bytes.Repeat([]byte{1, 0x11, 0, 3, 8, 0, 0}, 4000) // one table without an end
	var many []byte
	for i := range uint32(2000) {
		many = append(many, unit(7*i)...)
	}
	for _, c := range []struct {
		name         string
		info, abbrev []byte
		want         string
	}{
		{"attributes", unit(0), append(wide, 0, 0, 0), "too many attributes"},
		{"overlap", many, long, "overlap"},
		{"header", []byte{7, 0, 0, 0, 4}, nil, "damaged"},
		{"version", append([]byte{7, 0, 0, 0, 9, 0}, 0, 0, 0, 0, 8), nil, "damaged"},
		{"fine", unit(0), []byte{1, 0x11, 0, 3, 8, 0, 0, 0}, ""},
	} {
		err := checkAbbrevs(c.info, c.abbrev)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// Questions may be asked at once, and have the same answers in every order.
func TestConcurrent(t *testing.T) {
	path := cases + "/dwarf-inline/gcc.PATCHED.o"
	fs := functions(t, path)
	ask := func(in *Info, s symbol) string {
		line, _ := in.Line(s.at)
		out := s.name + line.String()
		for off := range s.size {
			out += fmt.Sprint(in.Inlined(Place{s.at.Section, s.at.Off + off}))
		}
		return out
	}
	want := make([]string, len(fs))
	one := load(t, path)
	for i := len(fs) - 1; i >= 0; i-- {
		want[i] = ask(one, fs[i])
	}
	shared := load(t, path)
	var wg sync.WaitGroup
	for i, s := range fs {
		wg.Go(func() {
			if got := ask(shared, s); got != want[i] {
				t.Errorf("%s, want %s", got, want[i])
			}
		})
	}
	wg.Wait()
}

// probe asks everything of an object; any bytes will do.
func probe(in *Info, most uint64) {
	for sec := range min(len(in.bases), 64) {
		for off := uint64(0); off < most; off += 3 {
			p := Place{sec, off}
			in.Line(p)
			in.Inlined(p)
			in.Structs(p)
			in.Function(p)
		}
	}
	in.Struct("struct thing", "")
}

// FuzzLoad: no input makes it panic, and an object never differs from itself.
func FuzzLoad(f *testing.F) {
	for _, n := range []string{"dwarf-layout/gcc.ORIG.o", "dwarf-v4/gcc.PATCHED.o", "dwarf-v4/clang.PATCHED.o", "dwarf-inline/clang.PATCHED.o", "gz/gcc.ORIG.o", "dwarf-zstd/clang.ORIG.o", "same/gcc.ORIG.o"} {
		data, err := os.ReadFile(cases + "/" + n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in, err := Load(data, Options{MaxBytes: 1 << 24})
		if err != nil {
			return
		}
		probe(in, 32)
		var fs []Func
		for sec := range min(len(in.bases), 64) {
			fs = append(fs, Func{fmt.Sprint(sec), Place{sec, 0}, Place{sec, 0}})
		}
		if cs := Layout(in, in, fs); len(cs) > 0 && in.Err() == nil {
			t.Errorf("differs from itself: %v", cs)
		}
	})
}

// Random damage to the debug sections of real objects never panics, and takes no more than the budget allows.
func TestDamage(t *testing.T) {
	for _, n := range []string{"dwarf-members/gcc.ORIG.o", "dwarf-members/clang.ORIG.o", "dwarf-v4/gcc.ORIG.o"} {
		data, err := os.ReadFile(cases + "/" + n)
		if err != nil {
			t.Fatal(err)
		}
		f, err := elf.NewFile(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		state := uint32(1)
		for _, s := range f.Sections {
			if !strings.HasPrefix(s.Name, ".debug_") {
				continue
			}
			for range 80 {
				state = state*1664525 + 1013904223
				bad := bytes.Clone(data)
				bad[s.Offset+uint64(state>>8)%s.FileSize] ^= byte(state>>3) | 1
				if in, err := Load(bad, Options{}); err == nil {
					probe(in, 16)
				}
			}
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	data, err := os.ReadFile(cases + "/dwarf-members/gcc.ORIG.o")
	if err != nil {
		b.Fatal(err)
	}
	at := functions(b, cases+"/dwarf-members/gcc.ORIG.o")[0].at
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		in, err := Load(data, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if len(in.Structs(at)) == 0 {
			b.Fatal(in.Err())
		}
	}
}

// StructSizes finds structures by name, in every version of DWARF that is read.
func TestStructSizes(t *testing.T) {
	for name, want := range map[string]uint64{"dwarf-layout/gcc.ORIG.o": 16, "dwarf-layout/gcc.PATCHED.o": 32, "dwarf-layout/clang.PATCHED.o": 32} {
		data, err := os.ReadFile("../../testdata/cases/" + name)
		if err != nil {
			t.Fatal(err)
		}
		in, err := Load(data, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := in.StructSizes("thing", "nothing"); len(got) != 1 || got["thing"] != want || in.Err() != nil {
			t.Errorf("%s: %v, %v", name, got, in.Err())
		}
	}
	if got := (&Info{}).StructSizes("thing"); len(got) != 0 {
		t.Errorf("%v", got)
	}
}
