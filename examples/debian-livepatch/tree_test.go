package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTree(t *testing.T) {
	base, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	src, dst := filepath.Join(base, "source"), filepath.Join(base, "tree")
	for f, text := range map[string]string{"fs/a.c": "a", "fs/internal.h": "old", "fs/ext/b.c": "b", "fs/ext/b.h": "bh", "mm/c.c": "c"} {
		require.NoError(t, store{src}.put(f, []byte(text)))
	}
	files := map[string][]byte{"fs/internal.h": []byte("new"), "include/new/n.h": []byte("n")}
	require.NoError(t, makeTree(src, dst, files, nil))
	read := func(f string) string {
		data, err := os.ReadFile(filepath.Join(dst, f))
		require.NoError(t, err, f)
		return string(data)
	}
	require.Equal(t, "new", read("fs/internal.h"))
	require.Equal(t, "n", read("include/new/n.h"))
	require.Equal(t, "a", read("fs/a.c"))
	require.Equal(t, "c", read("mm/c.c"))
	old, err := os.ReadFile(filepath.Join(src, "fs/internal.h"))
	require.NoError(t, err)
	require.Equal(t, "old", string(old))

	// Through a link to a folder ".." leads past the patched file, which is seen, and mended by making that folder real.
	deps := []string{dst + "/fs/ext/b.c", dst + "/fs/ext/../internal.h"}
	require.Equal(t, []string{"fs/internal.h"}, strays(deps, src, files))
	require.Equal(t, []string{"fs", "fs/ext"}, depFolders(deps, dst))
	require.NoError(t, makeTree(src, dst+"2", files, depFolders(deps, dst)))
	deps = []string{dst + "2/fs/ext/b.c", dst + "2/fs/ext/../internal.h", "/usr/include/internal.h"}
	require.Empty(t, strays(deps, src, files))
}

func TestDepFolders(t *testing.T) {
	require.Equal(t, []string{"arch", "arch/x86", "arch/x86/kvm", "virt", "virt/kvm"}, depFolders([]string{"/t/arch/x86/kvm/../../../virt/kvm/kvm_main.c", "/u/x/y.h", "/t/top.h"}, "/t"))
}

func TestKey(t *testing.T) {
	require.Equal(t, key("a", "b", "c"), key("a", "b", "c"))
	require.NotEqual(t, key("a", "b", "c"), key("a", "bc"))
	require.NotEqual(t, key("a", "b", "c"), key("a", "bc", ""))
	require.NotEqual(t, key("a", "b"), key("b", "a"))
	require.Len(t, key(""), 32)
}

func TestStoreFolder(t *testing.T) {
	s := store{t.TempDir()}
	require.NoError(t, s.put("x.part/left", nil)) // of an interrupted run
	_, err := s.folder("x", func(dir string) error { return os.ErrClosed })
	require.ErrorIs(t, err, os.ErrClosed)
	require.False(t, s.has("x"))
	require.False(t, s.has("x.part"))
	for range 2 { // the second finds it
		dir, err := s.folder("x", func(dir string) error { return os.Mkdir(filepath.Join(dir, "y"), 0o777) })
		require.NoError(t, err)
		require.Equal(t, s.path("x"), dir)
		require.True(t, s.has("x/y"))
	}
}
