//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// files lists what a tree holds, and fails for files that a write left behind.
func files(t *testing.T, root string) (out []string) {
	t.Helper()
	_ = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(root, path)
			out = append(out, rel)
			require.NotContains(t, filepath.Base(path), ".kdelta-")
		}
		return nil
	})
	return out
}

// An installation onto a disk that is full or read-only is refused, and what was installed stays.
func TestFaultsInstall(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a tmpfs needs root")
	}
	m := newMachine(t, "6.1-idle")
	disk := filepath.Join(m.dir, "store")
	require.NoError(t, os.Mkdir(disk, 0o755))
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", disk).CombinedOutput(); err != nil {
		t.Skipf("mount: %s", out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", disk).Run() })
	code, _, errs := m.do("install", m.module("first", release, false, "cmdline_proc_show"))
	require.Equal(t, 0, code, errs)
	was := files(t, disk)
	order := m.read("store/" + release + "/order")

	f, err := os.Create(filepath.Join(disk, "filler"))
	require.NoError(t, err)
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	require.NoError(t, f.Close())
	second := m.module("second", release, false, "cmdline_proc_show")
	code, _, errs = m.do("install", second)
	require.NotEqual(t, 0, code)
	require.Contains(t, errs, "no space left on device")
	require.Equal(t, append([]string{}, was...), without(files(t, disk), "filler"))
	require.Equal(t, order, m.read("store/"+release+"/order"))

	require.NoError(t, os.Remove(filepath.Join(disk, "filler")))
	if out, err := exec.Command("mount", "-o", "remount,ro", disk).CombinedOutput(); err != nil {
		t.Skipf("remount: %s", out)
	}
	for _, args := range [][]string{{"install", second}, {"remove", "first"}} {
		code, _, errs = m.do(args...)
		require.NotEqual(t, 0, code)
		require.Contains(t, errs, "read-only file system")
	}
	require.Equal(t, was, files(t, disk))
	code, _, errs = m.do("load", "--installed")
	require.Equal(t, 0, code, errs)
	require.Equal(t, []string{"load first"}, m.ops)
}

func without(list []string, name string) (out []string) {
	for _, l := range list {
		if l != name {
			out = append(out, l)
		}
	}
	return out
}

// A module file that is cut short, empty or a directory is never loaded or installed.
func TestFaultsModule(t *testing.T) {
	m := newMachine(t, "6.1-idle")
	file := m.module("cut", release, false, "cmdline_proc_show")
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	for _, n := range []int{0, 1, 63, len(data) / 3, len(data) - 100} {
		require.NoError(t, os.WriteFile(file, data[:n], 0o600))
		for _, what := range []string{"check", "load", "install"} {
			code, _, errs := m.do(what, file)
			require.NotEqual(t, 0, code, "%s of %d bytes", what, n)
			require.NotEmpty(t, errs)
		}
	}
	code, _, _ := m.do("install", m.dir)
	require.NotEqual(t, 0, code)
	require.Empty(t, m.ops)
	require.Empty(t, files(t, filepath.Join(m.dir, "store")))
}
