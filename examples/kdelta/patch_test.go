package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/pkg/report"
)

// patchDocument is the part of kdelta.patch/v1 that the tests look at.
type patchDocument struct {
	Schema    string
	Functions []struct {
		Object, File, Name, Status string
		OrigName                   string `json:"orig_name"`
		Position                   uint64
		Why                        []string
	}
	Items []struct {
		Kind, Name, Section, Offset string
		Size                        uint64
		Why                         []string
	}
	Sections    []struct{ Name string }
	Diagnostics []struct {
		Code, Severity, File, Message, Remedy string
		Chain                                 []string
	}
	Output *struct {
		Name string
		Size int
	}
}

func decodePatch(t *testing.T, s string) patchDocument {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(s))
	var d patchDocument
	if err := dec.Decode(&d); err != nil {
		t.Fatalf("%v in %s", err, s)
	}
	if dec.More() || d.Schema != report.PatchSchema {
		t.Errorf("schema %q, more %v", d.Schema, dec.More())
	}
	return d
}

func patchArgsOf(out string, parts ...string) []string {
	return append(append([]string{"patch"}, parts...), "-o", out)
}

// All exit codes, as text and as JSON. What is not written leaves the output as it was, there or not.
func TestPatch(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name  string
		args  []string
		code  int
		fns   string // "status object:name"
		text  string // of standard output
		diags string // codes of the errors, in order
	}{
		{"written", sides("static-local-new/gcc"), patchWritten, "changed vmlinux:f", "replaces  vmlinux:f,0  .text.f  42", ""},
		{"clang", sides("static-local-new/clang"), patchWritten, "changed vmlinux:f", "replaces  vmlinux:f,0", ""},
		{"new function", sides("func-new-static/gcc"), patchWritten, "changed vmlinux:caller, new vmlinux:clamp", "by caller\n", ""},
		{"object", append([]string{"--object", "snd-hda.ko"}, sides("const-code/gcc")...), patchWritten, "changed snd_hda:changed_one, changed snd_hda:changed_imm", "snd_hda:changed_one,0", ""},
		{"two pairs of two objects", slices.Concat(sides("const-code/gcc"), []string{"--object=mod"}, sides("static-local-new/gcc")), patchWritten,
			"changed vmlinux:changed_one, changed vmlinux:changed_imm, changed mod:f", "mod:f,0", ""},
		{"flags that say what is so anyway", append([]string{"--symbols", "none", "--format", "klp"}, sides("const-code/gcc")...), patchWritten, "changed vmlinux:changed_one, changed vmlinux:changed_imm", "2 function(s) replaced", ""},
		{"data changed", sides("data-changed/gcc"), patchRefused, "", "", "data-changed data-changed data-changed"},
		{"position", sides("multi-tu/gcc"), patchRefused, "", "", "sympos-unknown*"},
		{"dirty object", sides("dirty-reloc/as"), patchTrouble, "", "", "reloc-nonzero"},
		{"one of two refused", slices.Concat(sides("const-code/gcc"), sides("data-changed/gcc")), patchRefused, "", "", "data-changed data-changed data-changed"},
		{"nothing", sides("same/gcc"), patchNothing, "", "", "nothing-changed"},
		{"line numbers", sides("line-shift-call/gcc"), patchNothing, "", "", "nothing-changed"},
		{"nothing and something", slices.Concat(sides("same/gcc"), sides("static-local-new/gcc")), patchWritten, "changed vmlinux:f", "vmlinux:f,0", ""},
		{"missing", []string{"missing", "missing"}, patchTrouble, "", "", "file-unreadable file-unreadable"},
		{"no object file", []string{"patch.go", "patch.go"}, patchTrouble, "", "", "elf-malformed elf-malformed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, flags := range [][]string{nil, {"-v"}, {"--json"}} {
				for _, before := range []string{"", "what was there before\n"} {
					out := filepath.Join(dir, "out.o")
					os.Remove(out)
					if before != "" {
						if err := os.WriteFile(out, []byte(before), 0o600); err != nil {
							t.Fatal(err)
						}
					}
					r := do(patchArgsOf(out, append(flags, c.args...)...)...)
					if r.code != c.code {
						t.Fatalf("exit code %d, want %d; %s%s", r.code, c.code, r.out, r.errOut)
					}
					data, err := os.ReadFile(out)
					switch {
					case c.code == patchWritten:
						if _, perr := object.Parse(data, object.Options{}); err != nil || perr != nil {
							t.Errorf("output: %v, %v", err, perr)
						}
					case before == "" && !os.IsNotExist(err), before != "" && string(data) != before:
						t.Errorf("the output was touched: %v, %q", err, data)
					}
					if left, _ := filepath.Glob(filepath.Join(dir, ".kdelta-*")); len(left) > 0 {
						t.Errorf("left behind: %v", left)
					}
					if c.code != patchWritten && !strings.Contains(r.errOut, strings.TrimSuffix(strings.Fields(c.diags)[0], "*")) || c.code == patchWritten && r.errOut != "" && flags == nil {
						t.Errorf("on stderr: %s", r.errOut)
					}
					if c.code == patchRefused && !strings.Contains(r.errOut, "remedy: ") {
						t.Errorf("no remedy: %s", r.errOut)
					}
					if len(flags) == 0 || flags[0] != "--json" {
						if !strings.Contains(r.out, c.text) || c.code != patchWritten && r.out != "" {
							t.Errorf("output %q, want %q", r.out, c.text)
						}
						continue
					}
					d := decodePatch(t, r.out)
					var fns, codes []string
					for _, f := range d.Functions {
						fns = append(fns, f.Status+" "+f.Object+":"+f.Name)
						if len(f.Why) == 0 || f.Why[len(f.Why)-1] != f.Name {
							t.Errorf("why: %v", f.Why)
						}
					}
					for _, x := range d.Diagnostics {
						if x.Severity == "error" {
							codes = append(codes, x.Code)
						}
					}
					if got := strings.Join(fns, ", "); got != c.fns {
						t.Errorf("functions %q, want %q", got, c.fns)
					}
					got := strings.Join(codes, " ")
					if want, any := strings.CutSuffix(c.diags, "*"); any && !strings.HasPrefix(got, want) || !any && got != want {
						t.Errorf("diagnostics %q, want %q", got, c.diags)
					}
					if (d.Output != nil) != (c.code == patchWritten) || d.Output != nil && (d.Output.Size != len(data) || d.Output.Name != out || len(d.Items) == 0 || len(d.Sections) == 0) {
						t.Errorf("output %+v", d.Output)
					}
				}
			}
		})
	}
}

func TestPatchUsage(t *testing.T) {
	good := sides("const-code/gcc")
	out := filepath.Join(t.TempDir(), "out.o")
	for _, c := range []struct {
		name string
		args []string
		code int
		err  string
	}{
		{"nothing", []string{"patch"}, 1, "no pair of objects"},
		{"no output", append([]string{"patch"}, good...), 1, "no -o OUT"},
		{"output alone", []string{"patch", "-o", out}, 1, "no pair of objects"},
		{"half a pair", patchArgsOf(out, good[0]), 1, "has no PATCHED"},
		{"three", patchArgsOf(out, good[0], good[1], good[0]), 1, "has no PATCHED"},
		{"object inside a pair", patchArgsOf(out, good[0], "--object", "m", good[1]), 1, "between ORIG and PATCHED"},
		{"object without a name", patchArgsOf(out, "--object", "", good[0], good[1]), 1, "no name of a module"},
		{"object with a comma", patchArgsOf(out, "--object", "a,b", good[0], good[1]), 1, "no name of a module"},
		{"object too long", patchArgsOf(out, "--object", strings.Repeat("m", 56), good[0], good[1]), 1, "longer than the kernel's limit"},
		{"no symbols", patchArgsOf(out, "--symbols", "System.map", good[0], good[1]), 1, "file-unreadable"},
		{"none and some", patchArgsOf(out, "--symbols", "none", "--symbols", "System.map", good[0], good[1]), 1, "none, and a file"},
		{"symbols that are none", patchArgsOf(out, "--symbols", "patch.go", good[0], good[1]), 1, "symbols-malformed"},
		{"no symvers", patchArgsOf(out, "--symvers", "Module.symvers", good[0], good[1]), 1, "file-unreadable"},
		{"symvers that are none", patchArgsOf(out, "--symvers", "patch.go", good[0], good[1]), 1, "symbols-malformed"},
		{"format", patchArgsOf(out, "--format", "module", good[0], good[1]), 1, "neither klp nor kpatch"},
		{"unknown flag", patchArgsOf(out, "--frob", good[0], good[1]), 1, "-frob"},
		{"output is the input", patchArgsOf(good[1], good...), 1, "file-unwritable"},
		{"output in no directory", patchArgsOf(filepath.Join(out, "x", "y.o"), good...), 1, "file-unwritable"},
		{"output is a directory", patchArgsOf(filepath.Dir(out), good...), 1, "file-unwritable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, err := os.ReadFile(good[1])
			if err != nil {
				t.Fatal(err)
			}
			r := do(c.args...)
			if r.code != c.code || !strings.Contains(r.errOut, c.err) || r.out != "" {
				t.Errorf("exit code %d, output %q, on stderr %q", r.code, r.out, r.errOut)
			}
			if _, err := os.Stat(out); err == nil {
				t.Error("written")
			}
			if after, err := os.ReadFile(good[1]); err != nil || !bytes.Equal(before, after) {
				t.Error("the input was written to")
			}
		})
	}
	if r := do("help", "patch"); r.code != 0 || !strings.Contains(r.out, "Exit code 0: written") || !strings.Contains(r.out, "--object vmlinux|NAME") {
		t.Errorf("%+v", r)
	}
	if r := do(append([]string{"patch", "-o", out, "--"}, good...)...); r.code != patchWritten {
		t.Errorf("%+v", r)
	}
}

// A report that cannot be written is trouble, whatever became of the patch.
func TestPatchClosedOutput(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	out := filepath.Join(t.TempDir(), "out.o")
	for _, args := range [][]string{patchArgsOf(out, sides("const-code/gcc")...), patchArgsOf(out, append(sides("same/gcc"), "--json")...), {"patch", "--help"}} {
		var errOut bytes.Buffer
		if code := run(args, w, &errOut); code != patchTrouble || !strings.Contains(errOut.String(), "write output: ") {
			t.Errorf("%v: exit code %d, %s", args, code, errOut.String())
		}
	}
}

func TestPatchDeterminism(t *testing.T) {
	dir := t.TempDir()
	var first []byte
	for range 5 {
		out := filepath.Join(dir, "out.o")
		if r := do(patchArgsOf(out, slices.Concat(sides("const-code/gcc"), []string{"--object", "m"}, sides("string-changed/gcc"))...)...); r.code != 0 {
			t.Fatal(r.errOut)
		}
		data, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		if first != nil && !bytes.Equal(first, data) {
			t.Fatal("the bytes differ")
		}
		first = data
	}
}

// The caller's word on the size of entries comes first, and is checked against the object.
func TestEntrySizeFlag(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.o")
	pair := sides("bug-flags/gcc")
	for _, c := range []struct {
		size string
		code int
		err  string
	}{
		{"__bug_table=12", -1, ""},
		{"__bug_table=16", -1, "table-size"},
		{"__bug_table", patchTrouble, "want SECTION=N"},
		{"nothing=8", patchTrouble, "no row for nothing"},
	} {
		r := do(patchArgsOf(out, append([]string{"--entry-size", c.size}, pair...)...)...)
		if c.code >= 0 && r.code != c.code || !strings.Contains(r.errOut, c.err) || c.err == "" && strings.Contains(r.errOut, "table-size") {
			t.Errorf("%s: %+v", c.size, r)
		}
	}
}

// What is written was proved; what is refuted is not written.
func TestPatchProves(t *testing.T) {
	dir := t.TempDir()
	pair := sides("static-local-new/gcc")
	a := &patchArgs{pairs: []pairArgs{{object: "vmlinux", orig: pair[0], patched: pair[1]}}, out: filepath.Join(dir, "out.o"), rules: kernel.Rules()}
	if code := a.run(context.Background(), &report.Patch{}); code != patchWritten {
		t.Fatal(code)
	}
	data := readFile(t, a.out)
	ds, err := a.prove(context.Background(), data, a.compared, &knowledge{}, nil)
	if err != nil || diag.HasErrors(ds) {
		t.Fatal(err, ds)
	}
	f := parsedFile(t, a.out)
	for i := range f.Sections {
		if f.Sections[i].Name != ".text.f" {
			continue
		}
		bad := slices.Clone(data)
		bad[int(f.Sections[i].Offset)+len(f.Sections[i].Data)-1] ^= 1
		if ds, err = a.prove(context.Background(), bad, a.compared, &knowledge{}, nil); err != nil || !diag.HasErrors(ds) || ds[0].Code != diag.VerifyCode {
			t.Errorf("%v, %v", err, ds)
		}
	}
	for _, args := range [][]string{{"--no-verify"}, {}} {
		out := filepath.Join(dir, "again.o")
		if r := do(patchArgsOf(out, append(args, pair...)...)...); r.code != patchWritten || !slices.Equal(readFile(t, out), data) {
			t.Errorf("%v: %+v", args, r)
		}
	}
}

// The kernel's types come from DWARF where there is no BTF, and are checked against the object.
func TestTypesFlag(t *testing.T) {
	dir := t.TempDir()
	src := writeFile(t, filepath.Join(dir, "types.c"), []byte("struct bug_entry { int addr, file; unsigned short line, flags; } b;\nstruct alt_instr { int a, b; short c; char d, e; } a;\n"))
	types := filepath.Join(dir, "types.o")
	tool(t, "gcc", "-g", "-c", "-o", types, src)
	rules := kernel.Rules()
	if err := readTypes(rules, types); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, z := range rules.Sizes {
		if z.Source == elfdiff.SizeTypes {
			got[z.Section] = z.Entry
		}
	}
	if len(got) != 2 || got["__bug_table"] != 12 || got[".altinstructions"] != 12 {
		t.Errorf("%v", got)
	}
	out := filepath.Join(dir, "out.o")
	for _, c := range []struct {
		file string
		code int
		err  string
	}{{types, -1, ""}, {"patch.go", patchTrouble, "image-lacks"}, {sides("const-code/gcc")[0], patchTrouble, "image-lacks"}, {"missing", patchTrouble, "file-unreadable"}, {out, patchTrouble, ""}} {
		r := do(patchArgsOf(out, append([]string{"--types", c.file}, sides("bug-flags/gcc")...)...)...)
		if c.code >= 0 && r.code != c.code || !strings.Contains(r.errOut, c.err) || c.file == types && strings.Contains(r.errOut, "table-size") {
			t.Errorf("%s: %+v", c.file, r)
		}
	}
}
