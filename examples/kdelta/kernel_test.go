package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
