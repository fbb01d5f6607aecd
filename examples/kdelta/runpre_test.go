package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/examples/internal/clitest"
)

func TestRunPreRefused(t *testing.T) {
	no := filepath.Join(t.TempDir(), "vmlinuz")
	if err := os.WriteFile(no, []byte(strings.Repeat("no kernel ", 100)), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--kernel", no, "x.o"}, "image-malformed"},
		{[]string{"--kernel", no + "x", "x.o"}, "file-unreadable"},
		{[]string{"x.o"}, "no --kernel"},
		{[]string{"--kernel", no}, "no OBJECT"},
	} {
		if r := do(append([]string{"run-pre"}, c.args...)...); r.code != verifyTrouble || r.out != "" || !strings.Contains(r.errOut, c.want) {
			t.Errorf("%v: %+v", c.args, r)
		}
		if r := do(append([]string{"run-pre", "--json"}, c.args...)...); r.code != verifyTrouble {
			t.Errorf("%v with --json: %+v", c.args, r)
		}
	}
}

func TestRunPreDocument(t *testing.T) {
	dir := t.TempDir()
	s := sides("static-local-new/gcc")
	kernel := writeFile(t, filepath.Join(dir, "vmlinux"), fakeKernel(t, s[0], s[0])) // local names are there twice
	schema := do("schema", "--run-pre").out
	all := ""
	for _, c := range []struct {
		args []string
		code int
		has  []string
	}{
		{[]string{s[0]}, verifyProved, []string{`"same": true`, `"position": 0`}},
		{[]string{s[0], s[1]}, verifyRefuted, []string{`"same": true`, `"same": false`, `"code": "run-pre-mismatch"`}},
		{[]string{s[0], filepath.Join(dir, "none")}, verifyTrouble, []string{`"same": true`, `"code": "file-unreadable"`}},
	} {
		r := do(append([]string{"run-pre", "--json", "--kernel", kernel}, c.args...)...)
		if r.code != c.code || r.errOut != "" {
			t.Errorf("%v: %+v", c.args, r)
		}
		if err := clitest.Validate(schema, r.out); err != nil {
			t.Errorf("%v: %v", c.args, err)
		}
		for _, text := range c.has {
			if !strings.Contains(r.out, text) {
				t.Errorf("%v: no %s in\n%s", c.args, text, r.out)
			}
		}
		all = r.out
	}
	for _, c := range [][2]string{{"kdelta.run-pre/v1", "kdelta.run-pre/v2"}, {`"severity": "error"`, `"severity": "fatal"`}, {`"mismatch"`, `"difference"`}, {`"located": `, `"located": -1`}} {
		if bad := strings.Replace(all, c[0], c[1], 1); bad == all || clitest.Validate(schema, bad) == nil {
			t.Errorf("%s for %s is accepted, or not in\n%s", c[1], c[0], all)
		}
	}
}

func TestRunPre(t *testing.T) {
	kernels, objects := os.Getenv("KDELTA_KERNELS"), os.Getenv("KDELTA_RUNPRE")
	if kernels == "" || objects == "" {
		t.Skip("KDELTA_KERNELS and KDELTA_RUNPRE are not set to folders with kernel packages and with what testdata/runpre/build makes")
	}
	folders, _ := filepath.Glob(filepath.Join(objects, "*"))
	for _, dir := range folders {
		release := filepath.Base(dir)
		args := []string{"run-pre", "--kernel", filepath.Join(kernels, "boot/vmlinuz-"+release), "--cache", t.TempDir()}
		some, _ := filepath.Glob(filepath.Join(dir, "builtin/sections/mm/*.o"))
		args = append(args, some...)
		mods, _ := filepath.Glob(filepath.Join(dir, "modules/*"))
		for _, m := range mods {
			files, _ := filepath.Glob(filepath.Join(kernels, "lib/modules", release, "kernel/fs", filepath.Base(m), filepath.Base(m)+".ko*"))
			if len(files) == 1 {
				more, _ := filepath.Glob(filepath.Join(m, "sections/*.o"))
				args = append(append(args, "--target", files[0]), more...)
			}
		}
		for range 2 { // the second time from the cache
			r := do(append(args, "--json")...)
			var d runPreDoc
			if err := json.Unmarshal([]byte(r.out), &d); r.code != verifyProved || err != nil || d.Schema != runPreSchema || d.Release != release || len(d.Objects) < len(some) {
				t.Fatalf("%s: %v, %d, %s", release, err, r.code, r.errOut)
			}
			for _, o := range d.Objects {
				if !o.Same || o.Functions["mismatch"] != 0 {
					t.Errorf("%+v", o)
				}
				for _, n := range o.Names {
					if n.Evidence == "" {
						t.Errorf("%s: %+v", o.File, n)
					}
				}
			}
		}
		if r := do(append(args, "-v")...); r.code != verifyProved || strings.Count(r.out, "\nsame ") < len(some)-1 {
			t.Errorf("%s: %d %s", release, r.code, r.errOut)
		}
	}
}
