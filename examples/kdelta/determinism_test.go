//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/examples/internal/clitest"
)

// TestSameBytes: what is written does not depend on processors, directory, spelling of
// paths, environment, order in time, or the file that is replaced.
func TestSameBytes(t *testing.T) {
	dir := t.TempDir()
	copyOf := func(from string) string {
		return writeFile(t, filepath.Join(dir, "sub", strings.ReplaceAll(strings.TrimPrefix(from, cases), "/", "-")), readFile(t, from))
	}
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("sub", filepath.Join(dir, "link")); err != nil {
		t.Skip(err)
	}
	spell := func(name, cwd string, how int) string {
		base := filepath.Base(name)
		if how == 3 {
			return name
		}
		rel, err := filepath.Rel(cwd, filepath.Join(dir, "sub"))
		if err != nil {
			t.Fatal(err)
		}
		switch how {
		case 0:
			return filepath.Join(rel, base)
		case 1:
			return rel + "/.//" + base
		}
		return filepath.Join(dir, "link") + "/" + base
	}
	var pairs [][2]string
	for _, n := range []string{"const-code/gcc", "static-local-new/gcc", "jump-label-key/gcc", "cxx/g++"} {
		s := sides(n)
		pairs = append(pairs, [2]string{copyOf(s[0]), copyOf(s[1])})
	}
	kernel := writeFile(t, filepath.Join(dir, "sub", "vmlinux"), fakeKernel(t, pairs[0][0]))
	all := func(cwd string, how int, object bool, list [][2]string) (args []string) {
		for i, p := range list {
			if object {
				args = append(args, "--object", fmt.Sprintf("mod_%d", i))
			}
			args = append(args, spell(p[0], cwd, how), spell(p[1], cwd, how))
		}
		return args
	}
	first := map[string][]byte{}
	runs := 0
	for _, cpus := range []string{"1", "2", "8"} {
		for how, cwd := range []string{dir, filepath.Join(dir, "sub"), "/", os.TempDir()} {
			for what, args := range map[string][]string{
				"patch klp":    append([]string{"patch"}, all(cwd, how, true, pairs[:2])...),
				"patch kpatch": append([]string{"patch", "--format", "kpatch", "-v"}, all(cwd, how, false, pairs[:1])...),
				"diff json":    append([]string{"diff", "--json", "--all", "--keys"}, all(cwd, how, false, pairs[3:])...),
				"diff text":    append([]string{"diff", "--all"}, all(cwd, how, false, pairs[2:3])...),
				"explain":      append([]string{"explain", "--json"}, append(all(cwd, how, false, pairs[:1]), "changed_one")...),
				"module":       append([]string{"module", "-v", "--name", "kd_same", "--kernel", spell(kernel, cwd, how)}, all(cwd, how, false, pairs[:1])...),
				"tree":         {"diff", "--tree", "--json", filepath.Dir(spell(pairs[0][0], cwd, how)), filepath.Dir(spell(pairs[0][0], cwd, how))},
			} {
				out := filepath.Join(dir, "out.o")
				writes := args[0] == "patch" || args[0] == "module"
				if writes {
					args = append(args, "-o", out)
				}
				cmd := clitest.Program(t, args...)
				cmd.Dir = cwd
				cmd.Env = append(cmd.Env, "GOMAXPROCS="+cpus, "TZ=Asia/Tokyo", "LC_ALL=de_DE.UTF-8", "HOME=/nowhere")
				var stdout, stderr bytes.Buffer
				cmd.Stdout, cmd.Stderr = &stdout, &stderr
				err := cmd.Run()
				if code := clitest.ExitCode(t, err); code != 0 && (writes || code != diffDifferent) {
					t.Fatalf("%v: exit code %d, %s", args, code, stderr.String())
				}
				got := append(stdout.Bytes(), stderr.Bytes()...)
				for _, p := range append(flat(pairs), kernel) { // names are told as they were given
					got = bytes.ReplaceAll(got, []byte(spell(p, cwd, how)), []byte(filepath.Base(p)))
				}
				if writes {
					got = append(got, readFile(t, out)...)
				}
				if runs++; first[what] == nil {
					first[what] = got
				} else if !bytes.Equal(first[what], got) {
					t.Errorf("%s, %s processors, in %s, spelling %d: other bytes\n%.2000s\n%.2000s", what, cpus, cwd, how, first[what], got)
				}
			}
		}
	}
	t.Logf("%d runs", runs)
}

func flat(pairs [][2]string) (out []string) {
	for _, p := range pairs {
		out = append(out, p[:]...)
	}
	return out
}
