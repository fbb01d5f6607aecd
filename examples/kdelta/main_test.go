package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/pkg/report"
	"github.com/kdelta/kdelta/pkg/synth"
)

const cases = "../../testdata/cases/"

// result is what a run of the program leaves.
type result struct {
	code        int
	out, errOut string
}

func do(args ...string) result {
	var out, errOut bytes.Buffer
	code := run(args, &out, &errOut)
	return result{code, out.String(), errOut.String()}
}

// sides gives the two file names of a fixture.
func sides(name string) []string {
	return []string{cases + name + ".ORIG.o", cases + name + ".PATCHED.o"}
}

// fakeKernel makes up a kernel that has objects in it.
func fakeKernel(t *testing.T, objects ...string) []byte {
	t.Helper()
	var files []*object.File
	for _, name := range objects {
		f, err := object.Parse(readFile(t, name), object.Options{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	k, err := synth.Kernel(files...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func diff(name string, flags ...string) []string {
	return append(append([]string{"diff"}, flags...), sides(name)...)
}

// document is the part of kdelta.diff/v1 that the tests look at.
type document struct {
	Schema    string
	Functions []struct {
		ID, Name, Demangled, Status string
		Causes                      []struct{ Kind, Offset, Orig, Patched, Detail string }
	}
	Data        []struct{ Name, Status string }
	Diagnostics []struct{ Code, Severity, File, Section, Offset, Message, Remedy string }
	Summary     *struct {
		Same      bool
		Functions map[string]int
		Inputs    map[string]struct {
			Name string
			Size int
		}
	}
}

func decode(t *testing.T, s string) document {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(s))
	var d document
	if err := dec.Decode(&d); err != nil {
		t.Fatalf("%v in %s", err, s)
	}
	if dec.More() {
		t.Errorf("more than one document: %s", s)
	}
	if d.Schema != report.DiffSchema {
		t.Errorf("schema %q", d.Schema)
	}
	return d
}

func TestDiff(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		text []string // in the text, in this order
		fns  string   // "status name" of the JSON document
		data string
	}{
		{diff("same/gcc"), diffSame, []string{"same: functions 3 unchanged"}, "", ""},
		{diff("same/gcc", "--all"), diffSame, []string{"unchanged  ", "same:"}, "unchanged *", "unchanged *"},
		{diff("const-code/gcc"), diffDifferent, []string{"changed  changed_imm", "changed  changed_one", "different: functions 2 changed"}, "changed changed_imm, changed changed_one", ""},
		{diff("line-shift-call/gcc"), diffSame, []string{"line-only  rcu", "(lockdep_rcu_suspicious)", "same: functions 4 line-only", "line (4 used)"}, "line-only *", ""},
		{diff("line-shift-call/gcc", "--no-lines"), diffDifferent, []string{"changed  rcu", "different:", "line off"}, "changed *", ""},
		{diff("line-shift-call/clang"), diffSame, []string{"same:"}, "line-only *", ""},
		{diff("string-changed/gcc"), diffDifferent, []string{`changed  says  .text.says  29  string +0x10: "value was %d\n" -> "value is now %d\n"`}, "changed says", ""},
		{diff("data-changed/gcc"), diffDifferent, []string{"changed data  hook", "used by f", "data 3 changed"}, "", "changed hook, changed limit, changed low"},
		{diff("cxx/g++"), diffDifferent, []string{"_Z5twicei (twice(int))", "code +0x12: ", "_ZN5Shape4areaEi (Shape::area(int))"}, "changed _Z5twicei, changed _ZN5Shape4areaEi", ""},
		{append(sides("same/gcc"), "--all"), 2, nil, "", ""}, // no command
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			r := do(c.args...)
			if r.code != c.code {
				t.Fatalf("exit code %d, want %d; %s%s", r.code, c.code, r.out, r.errOut)
			}
			if c.text == nil {
				return
			}
			rest := r.out
			for _, s := range c.text {
				_, after, ok := strings.Cut(rest, s)
				if !ok {
					t.Errorf("no %q in order in\n%s", s, r.out)
				}
				rest = after
			}
			if r.errOut != "" {
				t.Errorf("on stderr: %s", r.errOut)
			}

			r = do(append(c.args, "--json")...)
			if r.code != c.code || r.errOut != "" {
				t.Errorf("with --json: exit code %d, %s", r.code, r.errOut)
			}
			d := decode(t, r.out)
			var fns, data []string
			for _, f := range d.Functions {
				fns = append(fns, f.Status+" "+f.Name)
			}
			for _, f := range d.Data {
				data = append(data, f.Status+" "+f.Name)
			}
			match(t, fns, c.fns)
			match(t, data, c.data)
			if d.Summary == nil || d.Summary.Same != (c.code == diffSame) {
				t.Errorf("summary %+v", d.Summary)
			}
		})
	}
}

// match compares a list of "status name" with what is wanted; "status *" stands for any number of them.
func match(t *testing.T, got []string, want string) {
	t.Helper()
	if status, ok := strings.CutSuffix(want, "*"); ok {
		if len(got) == 0 {
			t.Errorf("nothing, want %s", want)
		}
		for _, g := range got {
			if !strings.HasPrefix(g, status) {
				t.Errorf("%s, want %s", g, want)
			}
		}
	} else if s := strings.Join(got, ", "); s != want {
		t.Errorf("got %q, want %q", s, want)
	}
}

func TestDiffPin(t *testing.T) {
	if r := do(diff("string-changed/gcc", "--pin", "says=says")...); r.code != diffDifferent {
		t.Errorf("%+v", r)
	}
	r := do(diff("string-changed/gcc", "--json", "--pin", "says=nosuch")...)
	if r.code != exitTrouble {
		t.Errorf("%+v", r)
	}
	if d := decode(t, r.out); len(d.Diagnostics) != 1 || d.Diagnostics[0].Code != "pin-invalid" || d.Summary != nil {
		t.Errorf("%+v", d)
	}
}

// What is wrong with an input is a diagnostic and exit code 2, in text and in JSON.
func TestDiffTrouble(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := sides("const-code/gcc")
	object, err := os.ReadFile(good[0])
	if err != nil {
		t.Fatal(err)
	}
	locked := file("locked", object)
	if err := os.Chmod(locked, 0); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path, code, message string
	}{
		{"missing", filepath.Join(dir, "missing"), "file-unreadable", "no such file"},
		{"directory", dir, "file-unreadable", "is a directory"},
		{"locked", locked, "file-unreadable", "permission denied"},
		{"empty", file("empty", nil), "elf-malformed", ""},
		{"text", file("text", []byte("this is not an object file, but it is long enough to hold a header....")), "elf-malformed", ""},
		{"header alone", file("header", object[:64]), "elf-malformed", ""},
		{"half", file("half", object[:len(object)/2]), "elf-malformed", ""},
		{"one byte less", file("less", object[:len(object)-1]), "elf-malformed", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if f, err := os.Open(c.path); c.path == locked && err == nil {
				f.Close()
				t.Skip("this user reads everything")
			}
			for i := range good {
				args := []string{"diff", good[0], good[1]}
				args[1+i] = c.path
				r := do(args...)
				if r.code != exitTrouble || r.out != "" {
					t.Errorf("exit code %d, output %q", r.code, r.out)
				}
				if !strings.Contains(r.errOut, "["+c.code+"]") || !strings.Contains(r.errOut, c.path) || !strings.Contains(r.errOut, c.message) || !strings.Contains(r.errOut, "remedy: ") {
					t.Errorf("on stderr: %s", r.errOut)
				}
				r = do(append(args, "--json")...)
				d := decode(t, r.out)
				if r.code != exitTrouble || len(d.Diagnostics) == 0 || d.Summary != nil || d.Functions != nil {
					t.Errorf("exit code %d, %+v", r.code, d)
				} else if x := d.Diagnostics[0]; x.Code != c.code || x.Severity != "error" || x.File != c.path || x.Remedy == "" {
					t.Errorf("%+v", x)
				}
			}
		})
	}
	// Both sides are looked at before anything is said.
	r := do("diff", "--json", filepath.Join(dir, "missing"), dir)
	if d := decode(t, r.out); r.code != exitTrouble || len(d.Diagnostics) != 2 {
		t.Errorf("%+v", r)
	}
}

func TestReadLimited(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ten")
	if err := os.WriteFile(path, make([]byte, 10), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := readLimited(path, 10); err != nil || len(data) != 10 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	if _, err := readLimited(path, 9); err == nil || !strings.Contains(err.Error(), "limit of 9") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat("/dev/zero"); err == nil { // has no size and no end
		if _, err := readLimited("/dev/zero", 1<<20); err == nil || !strings.Contains(err.Error(), "limit of 1048576") {
			t.Errorf("%v", err)
		}
	}
}

func TestUsage(t *testing.T) {
	good := sides("same/gcc")
	for _, c := range []struct {
		name     string
		args     []string
		code     int
		out, err string
	}{
		{"nothing", nil, 2, "", "usage: kdelta COMMAND"},
		{"unknown command", []string{"frobnicate"}, 2, "", `unknown command "frobnicate"`},
		{"help", []string{"help"}, 0, "usage: kdelta COMMAND", ""},
		{"--help", []string{"--help"}, 0, "usage: kdelta COMMAND", ""},
		{"help diff", []string{"help", "diff"}, 0, "--pin ORIG=PATCHED", ""},
		{"help of nothing", []string{"help", "frobnicate"}, 2, "", "unknown command"},
		{"diff --help", []string{"diff", "--help"}, 0, "Exit code 0", ""},
		{"diff of nothing", []string{"diff"}, 2, "", "0 arguments, want 2"},
		{"diff of one", []string{"diff", good[0]}, 2, "", "1 arguments, want 2"},
		{"diff of three", []string{"diff", good[0], good[1], good[1]}, 2, "", "3 arguments, want 2"},
		{"unknown flag", []string{"diff", "--frob", good[0], good[1]}, 2, "", "-frob"},
		{"bad pin", []string{"diff", "--pin", "x", good[0], good[1]}, 2, "", "want ORIG=PATCHED"},
		{"flag at the end", []string{"diff", good[0], good[1], "--all"}, 0, "unchanged  ", ""},
		{"flag between", []string{"diff", good[0], "--all", good[1]}, 0, "unchanged  ", ""},
		{"end of flags", []string{"diff", "--", good[0], good[1]}, 0, "same:", ""},
		{"end of flags between", []string{"diff", good[0], "--", good[1]}, 0, "same:", ""},
		{"a file called like a flag", []string{"diff", "--", good[0], "--all"}, 2, "", "--all: error: cannot read"},
		{"version", []string{"version"}, 0, "kdelta ", ""},
		{"version of something", []string{"version", "x"}, 2, "", "1 arguments, want 0"},
		{"schema", []string{"schema"}, 0, `"kdelta.diff/v1"`, ""},
		{"colour", append([]string{"diff", "--color"}, sides("const-code/gcc")...), 1, "\x1b[33mchanged\x1b[0m", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := do(c.args...)
			if r.code != c.code {
				t.Errorf("exit code %d, want %d", r.code, c.code)
			}
			if !strings.Contains(r.out, c.out) || c.out == "" && r.out != "" {
				t.Errorf("output %q, want %q", r.out, c.out)
			}
			if !strings.Contains(r.errOut, c.err) || c.err == "" && r.errOut != "" {
				t.Errorf("on stderr %q, want %q", r.errOut, c.err)
			}
		})
	}
	if got := do("schema").out; got != report.Schema() {
		t.Error("schema is not the schema")
	}
}

// Output that cannot be written never ends in success.
func TestClosedOutput(t *testing.T) {
	outputs := map[string]*os.File{}
	if f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0); err == nil {
		outputs["/dev/full"] = f
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	outputs["pipe without reader"] = w
	closed, err := os.Create(filepath.Join(t.TempDir(), "closed"))
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	outputs["closed file"] = closed
	for name, f := range outputs {
		for _, args := range [][]string{
			diff("same/gcc"), diff("same/gcc", "--json"), diff("const-code/gcc"), diff("const-code/gcc", "--json", "--all"),
			{"diff", "--json", "missing", "missing"}, {"diff", "--help"}, {"help"}, {"version"}, {"schema"},
		} {
			var errOut bytes.Buffer
			if code := run(args, f, &errOut); code != exitTrouble {
				t.Errorf("%s, %v: exit code %d", name, args, code)
			}
			if !strings.Contains(errOut.String(), "write output: ") {
				t.Errorf("%s, %v: on stderr %q", name, args, errOut.String())
			}
		}
		if err := f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	}
}

// The same inputs give the same bytes.
func TestDeterminism(t *testing.T) {
	for _, args := range [][]string{diff("cxx/g++", "--all"), diff("multi-tu/gcc", "--all", "--json")} {
		first := do(args...)
		for range 20 {
			if r := do(args...); r != first {
				t.Fatalf("%v gave\n%+v, then\n%+v", args, first, r)
			}
		}
	}
}
