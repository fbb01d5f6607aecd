package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
)

var peers = flag.String("peers", cmp.Or(os.Getenv("KDELTA_PEERS"), "/tmp/peers"), "directory in whose bin other people's programs lie (KDELTA_PEERS)")

const sharedPairs = "../../../shared/pairs"

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writeFile(t testing.TB, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// tool gives the output of another program; the test is skipped where it is not there.
func tool(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s", name)
	}
	cmd := exec.Command(path, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v %s", name, err, errs.String())
	}
	return out
}

func parsedFile(t testing.TB, path string) *object.File {
	t.Helper()
	f, err := object.Parse(readFile(t, path), object.Options{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// textSymbols counts the functions that an object defines.
func textSymbols(f *object.File) int {
	n := 0
	for i := range f.Symbols {
		if s := &f.Symbols[i]; s.Type() == elf.STT_FUNC && s.Sec != 0 {
			n++
		}
	}
	return n
}

// Where kpatch is wrong about a pair of its own corpus, by the hole's number in the digest of it. There is none.
var corpusHoles = map[string]string{}

// structSizeEnv sets kpatch's variables for a pair of its corpus.
func structSizeEnv(t *testing.T, dir, name string) {
	t.Helper()
	for _, v := range []string{"PARA=16", "EX=12", "BUG=12", "ALT=13", "JUMP=24", "ORC=6", "STATIC_CALL=8", "PRINTK_INDEX=44"} {
		k, n, _ := strings.Cut(v, "=")
		t.Setenv(k+"_STRUCT_SIZE", n)
	}
	if env, err := os.ReadFile(filepath.Join(dir, name+".env")); err == nil {
		for _, v := range strings.Fields(string(env)) {
			k, n, _ := strings.Cut(v, "=")
			t.Setenv(k, n)
		}
	}
}

// patchedOf gives the patched object of a pair.
func patchedOf(dir, name string) string {
	patched := filepath.Join(dir, name+".PATCHED.o")
	if _, err := os.Stat(patched); err != nil {
		patched = filepath.Join(dir, name+".PATCHED.FAIL.o")
	}
	return patched
}

// peer gives another program of the peers directory; empty when it is not there.
func peer(name string) string {
	path := filepath.Join(*peers, "bin", name)
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// convert links an object and has Debian's create-klp-module convert it.
func convert(t *testing.T, out string) {
	t.Helper()
	ko := out + ".ko"
	if msg := tool(t, "ld", "-r", "-o", ko, out); len(msg) > 0 {
		t.Errorf("ld: %s", msg)
	}
	if msg, err := exec.Command(peer("create-klp-module"), ko, ko+".final").CombinedOutput(); err != nil || len(msg) > 0 {
		t.Errorf("create-klp-module: %v %s", err, msg)
	}
}

// The pairs of kpatch's own tests: exit code, functions and number of text symbols as its create-diff-object gives
// them; what is written is linked and converted by create-klp-module, where that is there.
func TestCreateDiffObjectCorpus(t *testing.T) {
	dir := filepath.Join(sharedPairs, "kpatch")
	text, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err != nil {
		t.Skip("no ../shared/pairs beside the project")
	}
	var expected map[string]struct {
		Exit         int
		Changed, New []string
		TextSymbols  *int `json:"text_symbols"`
	}
	if err := json.Unmarshal(text, &expected); err != nil || len(expected) == 0 {
		t.Fatal(err)
	}
	written, converted := 0, 0
	for name, want := range expected {
		t.Run(name, func(t *testing.T) {
			if hole := corpusHoles[name]; hole != "" {
				t.Skip(hole)
			}
			structSizeEnv(t, dir, name)
			orig, patched := filepath.Join(dir, name+".ORIG.o"), patchedOf(dir, name)
			tmp := t.TempDir()
			symtab := writeFile(t, filepath.Join(tmp, "symtab"), tool(t, "readelf", "-s", "--wide", orig))
			out := filepath.Join(tmp, "out.o")
			r := do("create-diff-object", orig, patched, "vmlinux", symtab, "/dev/null", "livepatch-test", out)
			if r.code != want.Exit {
				t.Fatalf("exit code %d, want %d; %s", r.code, want.Exit, r.errOut)
			}
			if _, err := os.Stat(out); (err == nil) != (want.Exit == 0) {
				t.Errorf("output: %v", err)
			}
			if want.Exit != 0 {
				return
			}
			var lines []string
			_, child, _ := strings.Cut(orig, "/")
			for _, f := range want.Changed {
				lines = append(lines, child+": changed function: "+f)
			}
			for _, f := range want.New {
				lines = append(lines, child+": new function: "+f)
			}
			got := slices.DeleteFunc(strings.Split(strings.TrimSpace(r.out), "\n"), func(l string) bool { return strings.Contains(l, ": ignoring ") })
			slices.Sort(got)
			slices.Sort(lines)
			if !slices.Equal(got, lines) {
				t.Errorf("%q, want %q", got, lines)
			}
			f := parsedFile(t, out)
			if n := textSymbols(f); n != *want.TextSymbols {
				t.Errorf("%d text symbols, want %d", n, *want.TextSymbols)
			}
			p, err := klp.ReadKpatch(f)
			if err != nil || p.Kpatch.Parent != "vmlinux" || len(p.Kpatch.Funcs) != len(want.Changed) {
				t.Errorf("%v, %+v", err, p)
			}
			written++
			if peer("create-klp-module") != "" {
				convert(t, out)
				converted++
			}
		})
	}
	t.Logf("%d pairs, %d written, %d converted by create-klp-module", len(expected), written, converted)
}

// TestSizes prints, for each pair of kpatch's corpus and of fixes in a stock kernel, the bytes and
// symbols of what is written beside those of kpatch's own create-diff-object (-v shows the table). Ours
// is smaller in every pair and has no string or constant that nothing refers to.
func TestSizes(t *testing.T) {
	theirs := peer("create-diff-object")
	if theirs == "" {
		t.Skipf("no create-diff-object in %s/bin", *peers)
	}
	var table strings.Builder
	n, wins, bytes, symbols := 0, 0, [2]int64{}, [2]int{}
	for _, set := range []string{"kpatch", "fixes"} {
		dir := filepath.Join(sharedPairs, set)
		origs, err := filepath.Glob(filepath.Join(dir, "*.ORIG.o"))
		if err != nil || len(origs) == 0 {
			t.Skip("no ../shared/pairs beside the project")
		}
		for _, orig := range origs {
			name := strings.TrimSuffix(filepath.Base(orig), ".ORIG.o")
			t.Run(set+"/"+name, func(t *testing.T) {
				structSizeEnv(t, dir, name)
				if set == "fixes" { // of a 6.1 kernel
					t.Setenv("ALT_STRUCT_SIZE", "12")
					t.Setenv("JUMP_STRUCT_SIZE", "16")
				}
				tmp := t.TempDir()
				symtab := writeFile(t, filepath.Join(tmp, "symtab"), tool(t, "readelf", "-s", "--wide", orig))
				args := []string{orig, patchedOf(dir, name), "vmlinux", symtab, "/dev/null", "livepatch-test"}
				out := [2]string{filepath.Join(tmp, "ours.o"), filepath.Join(tmp, "theirs.o")}
				r := do(append(append([]string{"create-diff-object"}, args...), out[0])...)
				code := 0
				if msg, err := exec.Command(theirs, append(args, out[1])...).CombinedOutput(); err != nil {
					var exit *exec.ExitError
					if !errors.As(err, &exit) {
						t.Fatalf("%v: %s", err, msg)
					}
					code = exit.ExitCode()
				}
				if r.code != 0 || code != 0 {
					fmt.Fprintf(&table, "%-48s exit code %d, theirs %d\n", set+"/"+name, r.code, code)
					if r.code != code && r.code != patchWritten {
						t.Logf("%s", r.errOut)
					}
					return
				}
				var size [2]int64
				var count [2]int
				for i, path := range out {
					size[i] = int64(len(readFile(t, path)))
					count[i] = len(parsedFile(t, path).Symbols)
					bytes[i] += size[i]
					symbols[i] += count[i]
				}
				n++
				if size[0] < size[1] && count[0] <= count[1] {
					wins++
				} else {
					t.Errorf("%d bytes and %d symbols, theirs %d and %d", size[0], count[0], size[1], count[1])
				}
				fmt.Fprintf(&table, "%-48s %7d bytes %5d symbols, theirs %7d bytes %5d symbols\n", set+"/"+name, size[0], count[0], size[1], count[1])
			})
		}
	}
	t.Logf("\n%s%-48s %7d bytes %5d symbols, theirs %7d bytes %5d symbols; smaller in %d of %d", table.String(), "all that both write", bytes[0], symbols[0], bytes[1], symbols[1], wins, n)
}

func TestCreateDiffObject(t *testing.T) {
	dir := t.TempDir()
	none := writeFile(t, filepath.Join(dir, "none"), nil)
	for _, c := range []struct {
		name string
		args []string // in front
		pair []string
		env  string
		code int
		out  string
		err  string
	}{
		{name: "written", pair: sides("static-local-new/gcc"), out: "/testdata/cases/static-local-new/gcc.ORIG.o: changed function: f\n"},
		{name: "new and changed", pair: sides("func-new-static/gcc"), out: ": new function: clamp\n"},
		{name: "new global alone", pair: sides("func-new/gcc"), out: ": new function: "},
		{name: "refused", pair: sides("data-changed/gcc"), code: patchRefused, err: "create-diff-object: unreconcilable difference\n"},
		{name: "nothing", pair: sides("same/gcc"), code: patchNothing},
		{name: "flags", args: []string{"-d", "-a", "--no-verify"}, pair: sides("const-code/gcc"), out: ": changed function: changed_one\n"},
		{name: "no size", env: "x", pair: sides("const-code/gcc"), code: patchTrouble, err: "ERROR: "},
		{name: "no such file", pair: []string{"missing", "missing"}, code: patchTrouble, err: "ERROR: missing: "},
		{name: "unknown flag", args: []string{"--frob"}, pair: sides("const-code/gcc"), code: exitUsage, err: "frob"},
		{name: "too few", pair: nil, code: exitUsage, err: "want 7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.env != "" {
				t.Setenv("BUG_STRUCT_SIZE", c.env)
			}
			out := filepath.Join(t.TempDir(), "out.o")
			symtab := none
			if c.pair != nil && c.code != patchTrouble {
				symtab = writeFile(t, filepath.Join(t.TempDir(), "symtab"), tool(t, "readelf", "-sW", c.pair[0]))
			} else if c.pair != nil {
				symtab = cases + "const-code/gcc.ORIG.o"
			}
			r := do(append(append(append([]string{"create-diff-object"}, c.args...), c.pair...), "vmlinux", symtab, none, "test", out)...)
			if r.code != c.code || !strings.Contains(r.out, c.out) || !strings.Contains(r.errOut, c.err) {
				t.Errorf("%+v", r)
			}
			if _, err := os.Stat(out); (err == nil) != (c.code == 0) {
				t.Errorf("output: %v", err)
			}
		})
	}
	if r := do("help", "create-diff-object"); r.code != 0 || !strings.Contains(r.out, "Exit code 0: written") {
		t.Errorf("%+v", r)
	}
}

func TestStructSizes(t *testing.T) {
	said := func(env map[string]string, section string) int {
		r, err := structSizes(kernel.Rules(), func(k string) (string, bool) { v, ok := env[k]; return v, ok })
		if err != nil {
			t.Fatal(err)
		}
		for _, z := range r.Sizes {
			if z.Section == section && z.Source == elfdiff.SizeCaller && slices.ContainsFunc(r.Tables, func(row elfdiff.Table) bool { return row.Section == section && row.Entry == z.Entry }) {
				return z.Entry
			}
		}
		return 0
	}
	for _, c := range []struct {
		name, size, section string
		want                int
	}{
		{"ALT", "12", ".altinstructions", 12}, {"ALT", "13", ".altinstructions", 13}, {"BUG", "12", "__bug_table", 12}, {"BUG", "8", "__bug_table", 8},
		{"EX", "8", "__ex_table", 8}, {"JUMP", "24", "__jump_table", 24}, {"JUMP", "16", "__jump_table", 16}, {"PARA", "12", ".parainstructions", 12},
		{"STATIC_CALL", "8", ".static_call_sites", 8}, {"BUG", "20", "__bug_table", 20}, {"BUG", "", "__bug_table", 0},
	} {
		if got := said(map[string]string{c.name + "_STRUCT_SIZE": c.size}, c.section); got != c.want {
			t.Errorf("%s=%s: entries of %d bytes", c.name, c.size, got)
		}
	}
	for _, bad := range []string{"x", "0", "-1", "99999", "12 "} {
		if _, err := structSizes(kernel.Rules(), func(k string) (string, bool) { return bad, k == "EX_STRUCT_SIZE" }); err == nil {
			t.Errorf("%q taken", bad)
		}
	}
}

// Every kind of source of symbols is known by its contents, and all say the same.
func TestPatchSymbols(t *testing.T) {
	dir := t.TempDir()
	pair := sides("static-local-new/gcc") // has count.1 in .bss, and the other in .data before it
	vmlinux := filepath.Join(dir, "vmlinux")
	tool(t, "ld", "-o", vmlinux, "-e", "0", "--unresolved-symbols=ignore-all", "-Ttext=0xffffffff81000000", "-z", "max-page-size=4096", "-z", "muldefs", pair[0], sides("static-local-renumbered/gcc")[0])
	nm := tool(t, "nm", "-n", vmlinux)
	sources := map[string]string{
		"ELF":      vmlinux,
		"readelf":  writeFile(t, filepath.Join(dir, "symtab"), tool(t, "readelf", "-s", "--wide", vmlinux)),
		"map":      writeFile(t, filepath.Join(dir, "System.map"), nm),
		"kallsyms": writeFile(t, filepath.Join(dir, "kallsyms"), append(slices.Clone(nm), "ffffffffc0000000 t other\t[mod]\n"...)),
	}
	var first []byte
	for _, kind := range []string{"ELF", "readelf", "map", "kallsyms"} {
		out := filepath.Join(dir, kind+".o")
		r := do(patchArgsOf(out, append([]string{"--symbols", sources[kind]}, pair...)...)...)
		if nofile := kind == "map" || kind == "kallsyms"; nofile {
			// The two have nothing else by which to tell them apart there.
			if r.code != patchRefused || !strings.Contains(r.errOut, "sympos-unknown") || !strings.Contains(r.errOut, "number 1 at 0xffffffff") {
				t.Errorf("%s: %+v", kind, r)
			}
			continue
		}
		if r.code != patchWritten {
			t.Errorf("%s: %s", kind, r.errOut)
			continue
		}
		data := readFile(t, out)
		if first == nil {
			first = data
			p, err := klp.ReadIntermediate(parsedFile(t, out))
			if err != nil || len(p.Relocs) == 0 || p.Relocs[0].Symbol.Pos != 2 {
				t.Errorf("%v, %v", err, p.Tuples())
			}
		}
		if !bytes.Equal(first, data) {
			t.Errorf("%s gives other bytes", kind)
		}
	}
	out := filepath.Join(dir, "out.o")
	both := []string{"--symbols", sources["ELF"], "--symbols=" + sources["map"]}
	if r := do(patchArgsOf(out, append(both, pair...)...)...); r.code != patchWritten {
		t.Errorf("two sources: %s", r.errOut)
	}
	// The symbols of another kernel.
	if r := do(patchArgsOf(out, append(both[:2], sides("const-code/gcc")...)...)...); r.code != patchRefused || !strings.Contains(r.errOut, "sympos-unknown") {
		t.Errorf("%+v", r)
	}
	// A module that the sources do not have.
	if r := do(patchArgsOf(out, append(slices.Concat(both[:2], []string{"--object", "mod"}), pair...)...)...); r.code != patchRefused || !strings.Contains(r.errOut, "none of the sources has symbols of mod") {
		t.Errorf("%+v", r)
	}
	// A symbol source must not be the output.
	if r := do(patchArgsOf(sources["map"], append([]string{"--symbols", sources["map"]}, pair...)...)...); r.code != patchTrouble || !strings.Contains(r.errOut, "file-unwritable") {
		t.Errorf("%+v", r)
	}
}

// With Module.symvers what is exported stays an ordinary reference, in its namespace.
func TestPatchSymvers(t *testing.T) {
	dir := t.TempDir()
	symvers := writeFile(t, filepath.Join(dir, "Module.symvers"), []byte("0x0\t__fentry__\tvmlinux\tEXPORT_SYMBOL\t\n0x0\tprintk\tvmlinux\tEXPORT_SYMBOL\tLOG\n"))
	r := do(patchArgsOf(filepath.Join(dir, "out.o"), append([]string{"--symvers", symvers}, sides("static-local-new/gcc")...)...)...)
	if r.code != patchWritten {
		t.Fatalf("%+v", r)
	}
	// What nobody exports, and no source has.
	empty := writeFile(t, filepath.Join(dir, "other"), []byte("0x0\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n"))
	kallsyms := writeFile(t, filepath.Join(dir, "kallsyms"), []byte("ffffffff81000000 T f\nffffffff81000010 T g\nffffffff82000000 b count.0\nffffffff82000010 b count.1\n"))
	r = do(patchArgsOf(filepath.Join(dir, "out.o"), append([]string{"--symvers", empty, "--symbols", kallsyms}, sides("static-local-new/gcc")...)...)...)
	if r.code != patchRefused || !strings.Contains(r.errOut, "refers to __fentry__, which nobody exports and vmlinux does not have") || !strings.Contains(r.errOut, "undefined-symbol") {
		t.Errorf("%+v", r)
	}
}

// A patch of either form, linked, becomes the final form.
func TestFinalize(t *testing.T) {
	dir := t.TempDir()
	for _, format := range []string{"klp", "kpatch"} {
		obj, ko, out := filepath.Join(dir, format+".o"), filepath.Join(dir, format+".ko"), filepath.Join(dir, format+".final.ko")
		if r := do(patchArgsOf(obj, append([]string{"--format", format}, sides("static-local-new/gcc")...)...)...); r.code != patchWritten {
			t.Fatalf("%+v", r)
		}
		tool(t, "ld", "-r", "-o", ko, obj)
		r := do("finalize", ko, "-o", out)
		if r.code != patchWritten || !strings.Contains(r.out, out) {
			t.Fatalf("%+v", r)
		}
		p, err := klp.ReadFinal(parsedFile(t, out))
		if err != nil || len(p.Relocs) == 0 {
			t.Errorf("%s: %v, %d relocations", format, err, len(p.Relocs))
		}
		if r := do("finalize", out, "-o", out+"2"); r.code != patchRefused || !strings.Contains(r.errOut, "klp-form") {
			t.Errorf("%+v", r)
		}
	}
	ko := filepath.Join(dir, "klp.ko")
	for _, c := range []struct {
		args []string
		code int
		err  string
	}{
		{[]string{ko}, patchTrouble, "no -o"},
		{[]string{"-o", "x"}, patchTrouble, "want 1"},
		{[]string{"missing", "-o", "x"}, patchTrouble, "file-unreadable"},
		{[]string{"patch.go", "-o", filepath.Join(dir, "x")}, patchTrouble, "elf-malformed"},
		{[]string{ko, "-o", ko}, patchTrouble, "is the input"},
		{[]string{ko, "-o", filepath.Join(ko, "x")}, patchTrouble, "file-unwritable"},
		{[]string{"--static", ko, "-o", filepath.Join(dir, "x")}, patchRefused, "klp-init"},
		{[]string{"--symvers", "patch.go", ko, "-o", filepath.Join(dir, "x")}, patchTrouble, "symbols-malformed"},
		{[]string{cases + "same/gcc.ORIG.o", "-o", filepath.Join(dir, "x")}, patchRefused, "klp-form"},
	} {
		if r := do(append([]string{"finalize"}, c.args...)...); r.code != c.code || !strings.Contains(r.errOut, c.err) {
			t.Errorf("%v: %+v", c.args, r)
		}
	}
}

func TestKlpDiff(t *testing.T) {
	abs, err := filepath.Abs(cases)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Chdir(dir)
	for _, c := range []struct {
		name, fixture, file string
		code                int
		objects             string
		err                 string
	}{
		{"vmlinux", "const-code/gcc", "vmlinux.o", 0, "vmlinux", ""},
		{"module", "const-code/gcc", "snd-hda.o", 0, "snd_hda", ""},
		{"cut at the dot", "const-code/gcc", "a-b.c.o", 0, "a_b", ""},
		{"nothing", "same/gcc", "vmlinux.o", 0, "", ""},
		{"refused", "data-changed/gcc", "vmlinux.o", exitKlpDiff, "", "data-changed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			os.Remove("out.o")
			writeFile(t, c.file, readFile(t, filepath.Join(abs, c.fixture+".ORIG.o")))
			if r := do("klp-diff", "--no-verify", c.file, filepath.Join(abs, c.fixture+".PATCHED.o"), "unproved.o"); r.code != c.code {
				t.Errorf("%+v", r)
			}
			r := do("klp-diff", "--debug", c.file, filepath.Join(abs, c.fixture+".PATCHED.o"), "out.o")
			if r.code != c.code || !strings.Contains(r.errOut, c.err) {
				t.Fatalf("%+v", r)
			}
			if _, err := os.Stat("out.o"); (err == nil) != (c.objects != "") {
				t.Fatalf("output: %v", err)
			}
			if c.objects == "" {
				return
			}
			p, err := klp.ReadIntermediate(parsedFile(t, "out.o"))
			if err != nil || len(p.Objects) != 1 || p.Objects[0].Name != c.objects {
				t.Errorf("%v, %+v", err, p)
			}
		})
	}
	for _, args := range [][]string{{"missing.o", "x", "y"}, {"x"}, {"--frob", "a", "b", "c"}} {
		if r := do(append([]string{"klp-diff"}, args...)...); r.code != exitKlpDiff || r.errOut == "" {
			t.Errorf("%v: %+v", args, r)
		}
	}
}

// vmlinuxPair unpacks the pair of whole kernels.
func vmlinuxPair(t *testing.T, dir string) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes seconds to unpack")
	}
	archive := filepath.Join(sharedPairs, "vmlinux-pair.tar.zst")
	if _, err := os.Stat(archive); err != nil {
		t.Skip("no ../shared/pairs beside the project")
	}
	r := tar.NewReader(bytes.NewReader(tool(t, "zstd", "-dc", "--long=27", archive)))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		name := map[string]string{"vmlinux.ORIG.o": "vmlinux.o", "vmlinux.PATCHED.o": "PATCHED.o"}[filepath.Base(h.Name)]
		writeFile(t, filepath.Join(dir, cmp.Or(name, filepath.Base(h.Name))), data)
	}
}

// The same relocations as objtool klp diff writes for two whole kernels, and the same functions.
func TestKlpDiffVmlinux(t *testing.T) {
	dir := t.TempDir()
	vmlinuxPair(t, dir)
	t.Chdir(dir)
	if r := do("klp-diff", "vmlinux.o", "PATCHED.o", "ours.o"); r.code != 0 || r.out != "vmlinux.o: changed function: meminfo_proc_show\n" || r.errOut != "" {
		t.Fatalf("%+v", r)
	}
	ours, err := klp.ReadIntermediate(parsedFile(t, "ours.o"))
	if err != nil {
		t.Fatal(err)
	}
	if len(ours.Relocs) < 40 || len(ours.Objects) != 1 || len(ours.Objects[0].Funcs) != 1 || ours.Objects[0].Funcs[0].Name != "meminfo_proc_show" {
		t.Errorf("%d relocations, %+v", len(ours.Relocs), ours.Objects)
	}
	objtool := filepath.Join(*peers, "bin", "objtool")
	if _, err := os.Stat(objtool); err != nil {
		t.Skipf("no objtool in %s/bin", *peers)
	}
	for _, d := range []string{"o", "p"} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{"vmlinux.o": "o/vmlinux.o", "PATCHED.o": "p/vmlinux.o", "vmlinux": "o/vmlinux"} {
		writeFile(t, to, readFile(t, from))
	}
	for _, args := range [][]string{{"klp", "checksum", "o/vmlinux.o"}, {"klp", "checksum", "p/vmlinux.o"}, {"klp", "diff", "o/vmlinux.o", "p/vmlinux.o", "theirs.o"}} {
		if msg, err := exec.Command(objtool, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v %s", args, err, msg)
		}
	}
	theirs, err := klp.ReadIntermediate(parsedFile(t, "theirs.o"))
	if err != nil {
		t.Fatal(err)
	}
	side := make(map[string]int)
	for _, x := range ours.Tuples() {
		side[x.String()]++
	}
	for _, x := range theirs.Tuples() {
		side[x.String()]--
	}
	for text, n := range side {
		key := map[bool]string{true: "+ ", false: "- "}[n > 0] + text
		if n != 0 {
			t.Errorf("%s: %+d", key, n)
		}
	}
	if a, b := ours.Objects[0].Funcs, theirs.Objects[0].Funcs; len(a) != len(b) || a[0].Name != b[0].Name || a[0].Pos != b[0].Pos {
		t.Errorf("%v, objtool %v", a, b)
	}
}

// A patch of several objects, linked with what modpost makes, gets its tables and its start from finalize --static.
func TestFinalizeStatic(t *testing.T) {
	dir := t.TempDir()
	b := object.NewBuilder(object.Header{})
	const size, initAt, exitAt = 1280, 312, 1200
	mod := b.AddSection(object.BuildSection{Name: ".gnu.linkonce.this_module", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_WRITE, Addralign: 64, Data: make([]byte, size)})
	b.AddSymbol(object.BuildSymbol{Name: "__this_module", Sec: mod, Size: size, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_OBJECT)})
	b.AddSection(object.BuildSection{Name: ".modinfo", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Addralign: 1,
		Data: []byte("license=GPL\x00livepatch=Y\x00name=fix\x00vermagic=6.1.0-50-amd64 SMP preempt mod_unload modversions \x00")})
	for off, name := range map[uint64]string{initAt: "init_module", exitAt: "cleanup_module"} {
		b.AddReloc(mod, object.Reloc{Off: off, Type: elf.R_X86_64_64, Sym: b.AddSymbol(object.BuildSymbol{Name: name, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_NOTYPE)})})
	}
	data, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	modpost := writeFile(t, filepath.Join(dir, "mod.o"), data)
	symvers := writeFile(t, filepath.Join(dir, "Module.symvers"), []byte("0x11111111\tklp_enable_patch\tvmlinux\tEXPORT_SYMBOL_GPL\t\n0x22222222\t__x86_return_thunk\tvmlinux\tEXPORT_SYMBOL\t\n"))
	first, second := sides("const-code/gcc"), sides("static-local-new/gcc")
	for _, format := range []string{"klp", "kpatch"} {
		obj, ko, out := filepath.Join(dir, format+".o"), filepath.Join(dir, format+".ko"), filepath.Join(dir, format+".final.ko")
		if r := do(patchArgsOf(obj, slices.Concat([]string{"--format", format}, first, []string{"--object", "ext4"}, second)...)...); r.code != patchWritten {
			t.Fatalf("%+v", r)
		}
		tool(t, "ld", "-r", "-o", ko, obj, modpost)
		for _, extra := range [][]string{nil, {"--no-replace"}, {"--plain-return"}} {
			if r := do(append(append([]string{"finalize", "--static", "--symvers", symvers}, extra...), ko, "-o", out)...); r.code != patchWritten {
				t.Fatalf("%v: %+v", extra, r)
			}
			f := parsedFile(t, out)
			p, replace, err := klp.ReadStatic(f, nil)
			if err != nil || len(p.Objects) != 2 || p.Objects[0].Name != "vmlinux" || len(p.Objects[0].Funcs) != 2 || p.Objects[1].Name != "ext4" || len(p.Objects[1].Funcs) != 1 {
				t.Fatalf("%s %v: %v, %+v", format, extra, err, p)
			}
			if replace == slices.Contains(extra, "--no-replace") {
				t.Errorf("%s %v: replace is %v", format, extra, replace)
			}
			thunk := false
			for i := range f.Symbols {
				s := &f.Symbols[i]
				thunk = thunk || s.Name == "__x86_return_thunk"
				if (s.Name == "init_module" || s.Name == "cleanup_module" || s.Name == klp.PatchSymbol) && s.Sec == 0 {
					t.Errorf("%s %v: %s is not defined", format, extra, s.Name)
				}
			}
			if thunk == slices.Contains(extra, "--plain-return") {
				t.Errorf("%s %v: the return thunk is used: %v", format, extra, thunk)
			}
			args := slices.Concat([]string{"verify", out}, []string{"--pair"}, first, []string{"--object", "ext4", "--pair"}, second)
			if r := do(args...); r.code != verifyProved || !strings.Contains(r.out, "form final") || !strings.Contains(r.out, "code        proved") {
				t.Errorf("%s %v: %+v", format, extra, r)
			}
		}
	}
}

// Callbacks, forced functions and .kpatch.arch as kpatch's own program writes them, where that is there.
func TestCreateDiffObjectMacros(t *testing.T) {
	dir := t.TempDir()
	cc := func(name, source string, flags ...string) string {
		out := filepath.Join(dir, name+".o")
		args := []string{"-O2", "-ffunction-sections", "-fdata-sections", "-mcmodel=kernel", "-fno-pic", "-fno-asynchronous-unwind-tables", "-fcf-protection=none", "-pg", "-mfentry", "-c", "-o", out}
		tool(t, "gcc", append(append(args, flags...), writeFile(t, filepath.Join(dir, "a.c"), []byte(source)))...)
		return out
	}
	const source = `
int ext(int);
#ifdef PATCHED
struct cb { int (*fn)(void *); char *objname; };
static int pre(void *o) { return ext(7); }
static int post(void *o) { return ext(8); }
static struct cb __attribute__((used)) a __attribute__((section(".kpatch.callbacks.pre_patch"))) = { pre, 0 };
static struct cb __attribute__((used)) b __attribute__((section(".kpatch.callbacks.post_unpatch"))) = { post, 0 };
int f(int x) { return ext(x) + 2; }
void *__kpatch_force_func_f __attribute__((section(".kpatch.force"))) = f;
#else
int f(int x) { return ext(x) + 1; }
#endif
int g(int x) { return ext(x) + 3; }
`
	structSizeEnv(t, dir, "")
	orig, patched := cc("orig", source), cc("patched", source, "-DPATCHED")
	symtab := writeFile(t, filepath.Join(dir, "symtab"), tool(t, "readelf", "-sW", orig))
	args := []string{orig, patched, "vmlinux", symtab, "/dev/null", "x"}
	ours := filepath.Join(dir, "ours.o")
	r := do(append(append([]string{"create-diff-object"}, args...), ours)...)
	if r.code != 0 {
		t.Fatalf("%+v", r)
	}
	macros := func(path string) (out []string) {
		p, err := klp.ReadKpatch(parsedFile(t, path))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range p.Callbacks {
			out = append(out, c.Object+" "+c.Kind.String()+" "+p.File.SymName(c.Func))
		}
		for _, s := range p.Kpatch.Force {
			out = append(out, "force "+p.File.SymName(s))
		}
		for _, a := range p.Kpatch.Arch {
			out = append(out, "arch "+a.Object+" "+p.File.Sections[a.Sec].Name)
		}
		slices.Sort(out)
		return out
	}
	if got := strings.Join(macros(ours), ", "); got != "force f, vmlinux post_unpatch post, vmlinux pre_patch pre" {
		t.Errorf("%s", got)
	}
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(r.out, filepath.Base(orig), "")), "\n")
	for i := range lines {
		_, lines[i], _ = strings.Cut(lines[i], ": ")
	}
	slices.Sort(lines)
	theirs := peer("create-diff-object")
	if theirs == "" {
		t.Skipf("no create-diff-object in %s/bin", *peers)
	}
	out := filepath.Join(dir, "theirs.o")
	text, err := exec.Command(theirs, append(args, out)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(string(text)), "\n")
	for i := range want {
		_, want[i], _ = strings.Cut(want[i], ": ")
	}
	slices.Sort(want)
	if !slices.Equal(lines, want) {
		t.Errorf("%q, theirs %q", lines, want)
	}
	if a, b := macros(ours), macros(out); !slices.Equal(a, b) {
		t.Errorf("%q, theirs %q", a, b)
	}
	if peer("create-klp-module") != "" {
		convert(t, ours)
	}
	// Alternatives, for kernels before 5.8.
	pairs := filepath.Join(sharedPairs, "kpatch")
	if _, err := os.Stat(pairs); err != nil {
		t.Skip("no ../shared/pairs beside the project")
	}
	for _, name := range []string{"fixup-section", "gcc-constprop", "special-static-2", "static-call-pr-1315", "replace-section-references"} {
		structSizeEnv(t, pairs, name)
		orig := filepath.Join(pairs, name+".ORIG.o")
		symtab := writeFile(t, filepath.Join(dir, "symtab"), tool(t, "readelf", "-sW", orig))
		args := []string{"-a", orig, patchedOf(pairs, name), "vmlinux", symtab, "/dev/null", "x"}
		_, err := exec.Command(theirs, append(args, out)...).Output()
		r := do(append(append([]string{"create-diff-object"}, args...), ours)...)
		if (err == nil) != (r.code == 0) {
			t.Logf("%s: ours %d, theirs %v; %s", name, r.code, err, r.errOut)
			continue
		}
		if err != nil {
			continue
		}
		if a, b := macros(ours), macros(out); !slices.Equal(a, b) {
			t.Errorf("%s: %q, theirs %q", name, a, b)
		}
		if peer("create-klp-module") != "" {
			convert(t, ours)
		}
	}
}

// Callbacks of upstream's macros as objtool klp diff writes them, where that is there, and the same lines.
func TestKlpDiffCallbacks(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	writeFile(t, "Module.symvers", nil)
	source := writeFile(t, "a.c", []byte(`
static const char __attribute__((used, section(".modinfo"))) license[] = "license=GPL";
static const char __attribute__((used, section(".modinfo"))) name[] = "name=mod_a";
int ext(int);
#ifdef PATCHED
static int pre(void *o) { return ext(7); }
static void post(void *o) { ext(8); }
void *__klp_pre_patch_callback_mod_a __attribute__((section(".discard.klp_callback_ptrs"))) = pre;
void *__klp_post_unpatch_callback_mod_a __attribute__((section(".discard.klp_callback_ptrs"))) = post;
int f(int x) { return ext(x) + 2; }
#else
int f(int x) { return ext(x) + 1; }
#endif
`))
	for side, flag := range map[string]string{"o": "-UPATCHED", "p": "-DPATCHED"} {
		if err := os.Mkdir(side, 0o700); err != nil {
			t.Fatal(err)
		}
		tool(t, "gcc", "-O2", "-ffunction-sections", "-fdata-sections", "-mcmodel=kernel", "-fno-pic", "-fno-asynchronous-unwind-tables", "-fcf-protection=none", "-pg", "-mfentry", flag, "-c", "-o", side+"/mod-a.o", source)
	}
	said := func(path string) (out []string) {
		p, err := klp.ReadIntermediate(parsedFile(t, path))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range p.Callbacks {
			out = append(out, c.Object+" "+c.Kind.String()+" "+p.File.SymName(c.Func))
		}
		for _, o := range p.Objects {
			for _, f := range o.Funcs {
				out = append(out, o.Name+" replaces "+f.Name)
			}
		}
		slices.Sort(out)
		return out
	}
	r := do("klp-diff", "o/mod-a.o", "p/mod-a.o", "ours.o")
	if r.code != 0 {
		t.Fatalf("%+v", r)
	}
	if got := strings.Join(said("ours.o"), ", "); got != "mod_a post_unpatch post, mod_a pre_patch pre, mod_a replaces f" {
		t.Errorf("%s", got)
	}
	objtool := peer("objtool")
	if objtool == "" {
		t.Skipf("no objtool in %s/bin", *peers)
	}
	for _, side := range []string{"o", "p"} {
		if msg, err := exec.Command(objtool, "klp", "checksum", side+"/mod-a.o").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, msg)
		}
	}
	text, err := exec.Command(objtool, "klp", "diff", "o/mod-a.o", "p/mod-a.o", "theirs.o").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if string(text) != r.out {
		t.Errorf("%q, objtool %q", r.out, text)
	}
	if a, b := said("ours.o"), said("theirs.o"); !slices.Equal(a, b) {
		t.Errorf("%q, objtool %q", a, b)
	}
}
