package elfdiff_test

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/elfdiff/internal/testutil"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/symbols"
)

// source is a translation unit in pieces that may stand in any order: statics and functions.
type source struct {
	head  string
	items []string
}

// shapes are functions as kernels have them. N is the function's number, M a smaller one that it calls.
var shapes = []string{
	// Static locals of one name, strings.
	"int fN(int x)\n{\n\tstatic int count, state = N;\n\tstatic const char *const names[] = { \"one N\", \"two\", \"three N\" };\n\tcount += x;\n\tif (count > N + 10)\n\t\t_printk(\"fN: %s %d of %d\\n\", names[x & 1], count, state);\n\tstate ^= count;\n\treturn count + state + fM(x);\n}\n",
	"static int noinline sN(int x)\n{\n\tstatic int count = 3;\n\tstatic int done;\n\tif (!done) {\n\t\tdone = 1;\n\t\t_printk(\"first call of sN\\n\");\n\t}\n\treturn count++ * x;\n}\nint fN(int x)\n{\n\tstatic int count;\n\treturn sN(x) + sN(count++) + vM;\n}\n",
	// Switches: one becomes a table of constants, one a table of jumps.
	"int fN(int x)\n{\n\tswitch (x) {\n\tcase 0: return 17 + N;\n\tcase 1: return 4;\n\tcase 2: return 99 * N;\n\tcase 3: return 23;\n\tcase 4: return -N;\n\tcase 5: return 1000;\n\tcase 6: return 3;\n\t}\n\treturn 0;\n}\n",
	"int fN(int x)\n{\n\tswitch (x) {\n\tcase 0: return ext_a(N);\n\tcase 1: return ext_b(N) + 1;\n\tcase 2: use(vN); return 5;\n\tcase 3: return ext_a(vN) ^ ext_b(2);\n\tcase 4: vN++; return fM(x);\n\tcase 5: return use(N * 3);\n\tcase 6: return ext_b(ext_a(x));\n\t}\n\treturn -1;\n}\n",
	// Inline helpers.
	"static inline int hN(int x, int y)\n{\n\tif (x > y)\n\t\treturn ext_a(x - y);\n\treturn x * N + y;\n}\nint fN(int x)\n{\n\treturn hN(x, 3) + hN(vM, x) + hN(x, x);\n}\n",
	// Warnings of both layouts, lines as arguments.
	"int fN(int x)\n{\n\tif (WARN16(x > N))\n\t\treturn -1;\n\t__might_sleep(__FILE__, __LINE__);\n\treturn fM(x);\n}\n",
	"int fN(int x)\n{\n\tstatic int warned;\n\tif (!warned && WARN16(x == N)) {\n\t\twarned = 1;\n\t\tWARN_FMT(x, \"RTNL: assertion failed at %s (%d)\\n\", __FILE__, __LINE__);\n\t}\n\treturn x + warned;\n}\n",
	// Alternatives, fixups.
	"int fN(int x)\n{\n\tasm volatile(ALTERNATIVE(\"nop; nop; nop\", \"lfence\", 100 + N) : : : \"memory\");\n\treturn use(x) + N;\n}\n",
	"int fN(int x)\n{\n\tint err = 0;\n\tasm volatile(\"1:\\tmovl (%1), %0\\n2:\\n\" EX_ENTRY(\"1b\", \"2b\", 3) : \"+r\"(err) : \"r\"(&vN) : \"memory\");\n\treturn err ? ext_b(err) : x;\n}\n",
	// Per-CPU data, keys, locks.
	"int fN(int x)\n{\n\tpN += x;\n\tif (pN > N)\n\t\tuse(pM);\n\treturn pN;\n}\n",
	"int fN(int x)\n{\n\tif (static_branch(&kN, 0))\n\t\treturn ext_a(x);\n\tif (static_branch(&kM, 1))\n\t\tuse(N);\n\treturn fM(x) + 1;\n}\n",
	"int fN(int x)\n{\n\tasm volatile(LOCK_PREFIX \"addl %1, %0\" : \"+m\"(vN) : \"r\"(x));\n\treturn vN;\n}\n",
	// Constant tables, callbacks, initialisers of arrays on the stack.
	"int fN(int x)\n{\n\treturn tN[x & 7] + tM[(x + 1) & 7];\n}\n",
	"static int oneN(int x) { return x + vN; }\nstatic int twoN(int x) { return ext_b(x) - N; }\nstatic const struct ops opsN = { oneN, twoN, \"ops of N\" };\nint fN(int x)\n{\n\ttake(&opsN);\n\treturn x ? oneN(x) : opsN.two(x);\n}\n",
	"int fN(int x)\n{\n\tint a[8] = { N, 1, 5, 7, 11, N + 2, 17, 19 };\n\ttake(a);\n\treturn a[x & 7];\n}\n",
	// Cold parts.
	"int fN(int x)\n{\n\tif (unlikely(x < 0)) {\n\t\t_printk(\"fN: bad %d\\n\", x);\n\t\tuse(vN);\n\t\tfatal(\"fN\");\n\t\treturn -N;\n\t}\n\tif (x > 100)\n\t\tfatal(\"too much for fN\");\n\treturn fM(x - 1);\n}\n",
	// Descriptors with lines.
	"int fN(int x)\n{\n\tPR_DEBUG(\"fN got %d\\n\", x);\n\tPR_PACKED(\"fN says N\\n\");\n\treturn x * vN;\n}\n",
	// Recursion, loops.
	"static int noinline rN(int x)\n{\n\tint i, sum = 0;\n\tfor (i = 0; i < x; i++)\n\t\tsum += i * vN + tN[i & 7];\n\treturn x > 1 ? rN(x / 2) + sum : sum;\n}\nint fN(int x)\n{\n\treturn rN(x) + rN(vM);\n}\n",
}

// newSource makes a unit of n functions, each with a variable, a table, a per-CPU variable and a key of its own.
func newSource(n int, seed uint64) source {
	r := rand.New(rand.NewPCG(seed, 42))
	var head strings.Builder
	head.WriteString("#include \"include/fake_kernel.h\"\nstruct ops { int (*one)(int); int (*two)(int); const char *name; };\n")
	// The kernel's struct pi_entry is packed.
	head.WriteString("struct __attribute__((__packed__)) packed_entry { const char *fmt, *func, *file; unsigned line; const char *level, *subsys; };\n" +
		"#define PR_PACKED(fmt_) ({ static const struct packed_entry _entry = { fmt_, __func__, __FILE__, __LINE__, NULL, NULL }; " +
		"static const struct packed_entry *_entry_ptr used section(\".printk_index\") = &_entry; _printk(fmt_); })\n")
	s := source{}
	for i := range n {
		fmt.Fprintf(&head, "int f%d(int);\nstatic int v%d;\nstatic const int t%d[8];\nextern int p%d;\nstatic struct static_key k%d;\n", i, i, i, i, i)
		s.items = append(s.items,
			fmt.Sprintf("static int v%d = %d;\n", i, i*7%5), // some are zero
			fmt.Sprintf("static const int t%d[8] = { %d, 2, 3, 5, 8, %d, 21, 34 };\n", i, i, i*i),
			fmt.Sprintf("int p%d percpu = %d;\n", i, i+1),
			fmt.Sprintf("static struct static_key k%d = { %d };\n", i, i&1))
		shape := shapes[i%len(shapes)]
		m := i
		if i > 0 {
			m = r.IntN(i)
		}
		f := regexp.MustCompile(`([a-z])N\b`).ReplaceAllString(shape, fmt.Sprintf("${1}%d", i))
		f = regexp.MustCompile(`([a-z])M\b`).ReplaceAllString(f, fmt.Sprintf("${1}%d", m))
		f = regexp.MustCompile(`\bN\b`).ReplaceAllString(f, fmt.Sprint(i))
		if strings.Contains(shape, "fM") && m == i {
			f = strings.ReplaceAll(f, fmt.Sprintf("+ f%d(x)", i), "")
			f = strings.ReplaceAll(f, fmt.Sprintf("return f%d(", i), "return ext_a(")
		}
		s.items = append(s.items, f)
	}
	s.head = head.String()
	return s
}

// text gives the unit; with a generator, in another order, with comments and blank lines.
func (s source) text(r *rand.Rand, reorder bool) string {
	items := slices.Clone(s.items)
	if reorder {
		r.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
	}
	var b strings.Builder
	b.WriteString(s.head)
	for _, it := range items {
		for _, line := range strings.SplitAfter(it, "\n") {
			if r != nil && r.IntN(4) == 0 && !strings.HasPrefix(line, "\tcase") {
				b.WriteString([]string{"\n", "/* a comment */\n", "\n/*\n * a longer one\n */\n"}[r.IntN(3)])
			}
			b.WriteString(line)
		}
	}
	return b.String()
}

// kernelFlags are those of testdata/build.sh without the ones that the test chooses.
var kernelFlags = strings.Fields(`-g0 -mcmodel=kernel -fno-pic -fno-pie -m64 -march=x86-64 -mno-red-zone -mno-mmx -mno-sse -mno-sse2 -mno-80387 -fno-stack-protector
	-fno-asynchronous-unwind-tables -fno-unwind-tables -fcf-protection=none -fno-strict-aliasing -fno-strict-overflow -fno-delete-null-pointer-checks -fno-common -fshort-wchar
	-falign-functions=16 -w -std=gnu11 -pg -mfentry`)

// compile makes an object of a text; the unit has one name whatever it holds.
func compile(t *testing.T, cc, text string, flags ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	_, self, _, _ := runtime.Caller(0)
	include := filepath.Join(filepath.Dir(self), "..", "testdata", "include")
	if err := os.Symlink(include, filepath.Join(dir, "include")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "unit.c"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	args := slices.Concat([]string{"-c"}, kernelFlags, flags, []string{"-o", "unit.o", "unit.c"})
	if strings.HasPrefix(cc, "gcc") {
		args = append(args, "-frandom-seed=kdelta")
	}
	cmd := exec.Command(cc, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cc, err, out[:min(len(out), 3000)])
	}
	data, err := os.ReadFile(filepath.Join(dir, "unit.o"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// More and larger units (some 3,000 lines each):
//
//	go test ./elfdiff -run 'TestNoiseSource$' -v -noise
var noiseFull = flag.Bool("noise", false, "TestNoiseSource with more and larger sources")

// TestNoiseSource: comments, blank lines, and functions and statics in another
// order change nothing. A function may be called changed only where the compiler
// made other code of it, by the word of objdump; data never.
func TestNoiseSource(t *testing.T) {
	objdump, err := exec.LookPath("objdump")
	if err != nil {
		t.Skip("needs objdump")
	}
	sizes, seeds := 54, 1
	switch {
	case *noiseFull:
		sizes, seeds = 180, 3
	case testing.Short():
		sizes = 18
	}
	for _, cc := range []string{"gcc-12", "clang-19"} {
		if _, err := exec.LookPath(cc); err != nil {
			t.Logf("%s is not installed", cc)
			continue
		}
		for _, opt := range []string{"-O2", "-Os"} {
			for _, split := range []bool{true, false} {
				for _, jump := range []string{"-fno-jump-tables", "-fjump-tables"} {
					flags := []string{opt, jump}
					if split {
						flags = append(flags, "-ffunction-sections", "-fdata-sections")
					}
					t.Run(fmt.Sprintf("%s %s", cc, strings.Join(flags, " ")), func(t *testing.T) {
						t.Parallel()
						for seed := range uint64(seeds) {
							src := newSource(sizes, seed)
							orig := src.text(nil, false)
							a := analyzed(t, compile(t, cc, orig, flags...), "ORIG.o")
							for _, how := range []string{"comments", "order"} {
								r := rand.New(rand.NewPCG(seed, 7))
								b := analyzed(t, compile(t, cc, src.text(r, how == "order"), flags...), "PATCHED.o")
								noiseIn(t, objdump, how, a, b)
							}
							if seed == 0 {
								t.Logf("%d lines of source", strings.Count(orig, "\n"))
							}
						}
					})
				}
			}
		}
	}
}

func analyzed(t *testing.T, data []byte, name string) *elfdiff.Graph {
	t.Helper()
	g, err := testutil.Analyze(data, name)
	if err != nil {
		t.Fatalf("refused: %v", err)
	}
	return g
}

func noiseIn(t *testing.T, objdump, how string, a, b *elfdiff.Graph) {
	t.Helper()
	d := testutil.Diff(t, a, b)
	var la, lb map[string]string
	proved, faults := 0, 0
	for i := range d.Functions {
		f := &d.Functions[i]
		if f.Status == elfdiff.Unchanged || f.Status == elfdiff.LineOnly {
			continue
		}
		if la == nil {
			la, lb = normalised(t, objdump, a.File), normalised(t, objdump, b.File)
		}
		orig := f.OrigName
		if orig == "" {
			orig = f.Name
		}
		x, y := la[orig], lb[f.Name]
		for _, m := range f.Members { // of a function with cold parts: all of them
			x, y = x+la[m], y+lb[m]
		}
		if x != y {
			proved++
			continue
		}
		if faults++; faults <= 5 {
			t.Errorf("%s: %s\nobjdump has no difference:\n%s", how, functionLine(f), x)
		}
	}
	for i := range d.Data {
		if x := &d.Data[i]; x.Status != elfdiff.Unchanged && x.Status != elfdiff.LineOnly {
			if faults++; faults <= 10 {
				t.Errorf("%s: %s", how, datumLine(x))
			}
		}
	}
	t.Logf("%s: %d functions, %d data, %d functions that objdump finds changed too", how, len(d.Functions), len(d.Data), proved)
}

var (
	asmLine   = regexp.MustCompile(`^\s*([0-9a-f]+):\t(.*)$`)
	asmTarget = regexp.MustCompile(`\b(0x)?[0-9a-f]+ <[^>]*>`)
)

// normalised gives the disassembly of each function without addresses, names of targets without compilers' numbers, and what has no name by content.
func normalised(t *testing.T, objdump string, f *object.File) map[string]string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.o")
	if err := os.WriteFile(path, f.Data, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(objdump, "-d", "--no-show-raw-insn", "-w", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	o := newOracle(f)
	insts := map[string]map[uint64]string{} // section, address
	sec := ""
	for _, line := range strings.Split(string(out), "\n") {
		if s, ok := strings.CutPrefix(line, "Disassembly of section "); ok {
			sec = strings.TrimSuffix(s, ":")
			insts[sec] = map[uint64]string{}
		} else if m := asmLine.FindStringSubmatch(line); m != nil {
			var at uint64
			fmt.Sscanf(m[1], "%x", &at)
			insts[sec][at] = m[2]
		}
	}
	res := map[string]string{}
	for i := range f.Symbols {
		y := &f.Symbols[i]
		if y.Sec == 0 || y.Size == 0 || !f.Sections[y.Sec].Exec() {
			continue
		}
		var b bytes.Buffer
		rs := f.RelocsOf(y.Sec)
		for at := y.Value; at < y.Value+y.Size; at++ {
			if in, ok := insts[f.Sections[y.Sec].Name][at]; ok {
				in, _, _ = strings.Cut(in, "#") // what a RIP-relative operand would be without its relocation
				in = asmTarget.ReplaceAllStringFunc(in, func(s string) string {
					var to uint64
					fmt.Sscanf(strings.TrimPrefix(s, "0x"), "%x", &to)
					if to >= y.Value && to < y.Value+y.Size {
						return fmt.Sprintf("+%#x", to-y.Value)
					}
					return o.called(y.Sec, int64(to))
				})
				fmt.Fprintf(&b, "%4x %s\n", at-y.Value, in)
			}
			lo, hi := rs.Range(at, at+1)
			for ; lo < hi; lo++ {
				r := rs.At(lo)
				z := &f.Symbols[r.Sym]
				if z.Sec == 0 {
					fmt.Fprintf(&b, "     %s%+d\n", z.Name, r.Addend)
				} else {
					fmt.Fprintf(&b, "     %s\n", o.called(z.Sec, o.position(y.Sec, r)))
				}
			}
		}
		res[y.Name] = b.String()
	}
	return res
}

// called names a place for comparison across builds.
func (o *oracle) called(sec object.SecID, pos int64) string {
	s := &o.f.Sections[sec]
	if s.Strings() {
		if b, ok := object.StringAt(s.Data, uint64(pos), int(s.Entsize)); ok {
			return fmt.Sprintf("%q", b)
		}
	}
	if c := o.covering(sec, uint64(max(pos, 0))); len(c) > 0 {
		y := &o.f.Symbols[c[0]]
		return fmt.Sprintf("%s%+d", symbols.Key(y.Name), pos-int64(y.Value))
	}
	if pos >= 0 && pos < int64(len(s.Data)) && !o.relocated(sec, uint64(pos)) {
		return fmt.Sprintf("% x", s.Data[pos:min(pos+32, int64(len(s.Data)))])
	}
	return fmt.Sprintf("something in %s", s.Name)
}
