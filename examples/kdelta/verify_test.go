package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/pkg/report"
)

func TestVerify(t *testing.T) {
	dir := t.TempDir()
	patch := filepath.Join(dir, "p.o")
	s := sides("call-target/gcc")
	if r := do("patch", s[0], s[1], "-o", patch); r.code != 0 {
		t.Fatal(r)
	}
	data, err := os.ReadFile(patch)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(dir, "bad.o")
	i := bytes.Index(data, []byte(".klp.sym.vmlinux."))
	if i < 0 {
		t.Fatal("no livepatch symbol in the fixture")
	}
	broken := bytes.Clone(data)
	copy(broken[i:], ".klp.sym.vmlinuz.")
	if err := os.WriteFile(bad, broken, 0o600); err != nil {
		t.Fatal(err)
	}
	pair := []string{"--pair", s[0], s[1]}
	for _, c := range []struct {
		name string
		args []string
		code int
		want []string // parts of the output
		err  string   // a part of standard error
	}{
		{"alone", []string{patch}, 0, []string{"form klp", "structure   proved", "resolution  not reached", "code        not reached: no pair"}, ""},
		{"pair", append([]string{patch}, pair...), 0, []string{"structure   proved", "code        proved"}, ""},
		{"verbose", append([]string{"-v", patch}, pair...), 0, []string{"references", "functions compared"}, ""},
		{"flags after", append(append([]string{"--object", "vmlinux"}, pair...), patch), 0, []string{"code        proved"}, ""},
		{"wrong object", append([]string{bad}, pair...), 2, []string{"refuted"}, "verify-object"},
		{"other module", append([]string{"--object", "some_module"}, append(pair, patch)...), 2, []string{"refuted"}, "verify-function"},
		{"no patch", nil, 1, nil, "no PATCH"},
		{"half a pair", []string{patch, "--pair", s[0]}, 1, nil, "has no PATCHED"},
		{"two patches", []string{patch, patch}, 1, nil, "--pair"},
		{"not there", []string{filepath.Join(dir, "none.o")}, 1, nil, "file-unreadable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := do(append([]string{"verify"}, c.args...)...)
			if r.code != c.code {
				t.Fatalf("exit code %d, want %d\n%s%s", r.code, c.code, r.out, r.errOut)
			}
			for _, w := range c.want {
				if !strings.Contains(r.out, w) {
					t.Errorf("no %q in\n%s", w, r.out)
				}
			}
			if !strings.Contains(r.errOut, c.err) {
				t.Errorf("no %q in\n%s", c.err, r.errOut)
			}
		})
	}
	r := do(append([]string{"verify", "--json", bad}, pair...)...)
	var doc struct {
		Schema, Format string
		Levels         []struct {
			Level, Verdict string
			Counts         map[string]int
		}
		Diagnostics []struct{ Code, Severity, Offset, Remedy string }
	}
	if err := json.Unmarshal([]byte(r.out), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Schema != report.VerifySchema || doc.Format != "klp" || len(doc.Levels) != 3 || doc.Levels[2].Verdict != "refuted" || len(doc.Diagnostics) == 0 || doc.Diagnostics[0].Remedy == "" {
		t.Errorf("%s", r.out)
	}
}

// A module that was made without a look at what the kernel runs is proved in the same way, and refused in the other.
func TestVerifyUnchecked(t *testing.T) {
	dir := t.TempDir()
	s := sides("const-code/gcc")
	kernel := writeFile(t, filepath.Join(dir, "vmlinux"), fakeKernel(t, s[1])) // it runs the patched object
	out := filepath.Join(dir, "kd_test.ko")
	made := []string{"module", "--kernel", kernel, s[0], s[1], "-o", out}
	if r := do(made...); r.code != patchRefused || !strings.Contains(r.errOut, "run-pre-mismatch") {
		t.Fatal(r)
	}
	if r := do(append(made, "--unchecked")...); r.code != patchWritten {
		t.Fatal(r)
	}
	proof := []string{"verify", out, "--kernel", kernel, "--pair", s[0], s[1]}
	if r := do(proof...); r.code == verifyProved || !strings.Contains(r.errOut, "run-pre-mismatch") {
		t.Error(r)
	}
	if r := do(append(proof, "--unchecked")...); r.code != verifyProved || strings.Count(r.out, "proved") != 3 {
		t.Error(r)
	}
	if r := do("verify", out, "--unchecked"); r.code != verifyTrouble || !strings.Contains(r.errOut, "--unchecked without --kernel") {
		t.Error(r)
	}
}
