package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/examples/internal/clitest"
)

func TestKernelRefused(t *testing.T) {
	no := filepath.Join(t.TempDir(), "vmlinuz")
	if err := os.WriteFile(no, []byte(strings.Repeat("no kernel ", 100)), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{no}, "image-malformed"},
		{[]string{no + "x"}, "file-unreadable"},
		{nil, "0 arguments, want 1"},
	} {
		if r := do(append([]string{"kernel"}, c.args...)...); r.code != exitTrouble || r.out != "" || !strings.Contains(r.errOut, c.want) {
			t.Errorf("%v: %+v", c.args, r)
		}
	}
}

func TestKernelDocument(t *testing.T) {
	kernel := writeFile(t, filepath.Join(t.TempDir(), "vmlinux"), fakeKernel(t, sides("const-code/gcc")[0]))
	schema := do("schema", "--kernel").out
	r := do("kernel", "--json", kernel)
	if r.code != 0 {
		t.Fatal(r)
	}
	if err := clitest.Validate(schema, r.out); err != nil {
		t.Error(err)
	}
	for _, c := range [][2]string{{"kdelta.kernel/v1", "kdelta.kernel/v2"}, {`"traceable": `, `"traceable": -`}, {`"size"`, `"size": "x", "y"`}, {`"ibt"`, `"lbt"`}} {
		if bad := strings.Replace(r.out, c[0], c[1], 1); bad == r.out || clitest.Validate(schema, bad) == nil {
			t.Errorf("%s for %s is accepted, or not in\n%s", c[1], c[0], r.out)
		}
	}
}

func TestKernel(t *testing.T) {
	images, _ := filepath.Glob(filepath.Join(os.Getenv("KDELTA_KERNELS"), "boot/vmlinuz-*"))
	if os.Getenv("KDELTA_KERNELS") == "" || len(images) == 0 {
		t.Skip("KDELTA_KERNELS is not set to a folder with unpacked kernel packages")
	}
	for _, path := range images {
		r := do("kernel", path)
		if r.code != 0 || !strings.HasPrefix(r.out, "release        ") || !strings.Contains(r.out, "\nstruct module ") {
			t.Errorf("%s: %+v", path, r)
		}
		var d kernelDoc
		if r = do("kernel", "--json", path); r.code != 0 || json.Unmarshal([]byte(r.out), &d) != nil || d.Schema != kernelSchema || d.Symbols == 0 || d.Livepatch != "" {
			t.Errorf("%s: %+v", path, r)
		}
	}
}
