package main

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// A patched tree is the source with some files replaced, made of links: real are only
// the folders on the way to a replaced file, in which every other entry is a link to
// the source. The source stays as it is, and both can be compiled at once.
//
// "x/../y.h" through a link leads into the source, past a replaced x/../y.h; folders
// names those from which objects include, so that they are real too. What the
// compiler has read in the end is checked (strays).

// makeTree builds the tree in dir, which must not exist.
func makeTree(source, dir string, replaced map[string][]byte, folders []string) error {
	real := map[string]bool{".": true}
	addDir := func(d string) {
		for ; d != "."; d = path.Dir(d) {
			real[d] = true
		}
	}
	for f := range replaced {
		addDir(path.Dir(f))
	}
	for _, d := range folders {
		addDir(path.Clean(d))
	}
	for _, d := range sortedKeys(real) {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o777); err != nil {
			return err
		}
		entries, err := os.ReadDir(filepath.Join(source, d))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a new header may come in a new folder
			return err
		}
		for _, e := range entries {
			name := path.Join(d, e.Name())
			if _, ok := replaced[name]; ok || real[name] {
				continue
			}
			from, to := filepath.Join(source, name), filepath.Join(dir, name)
			// A second name for a file costs less than a symbolic link, which is a file itself.
			if e.Type().IsRegular() && os.Link(from, to) == nil {
				continue
			}
			if err := os.Symlink(from, to); err != nil {
				return err
			}
		}
	}
	for f, text := range replaced {
		if err := os.WriteFile(filepath.Join(dir, f), text, 0o666); err != nil {
			return err
		}
	}
	return nil
}

// strays gives the files, among those that a compiler read, that are the source's
// version of a replaced one.
func strays(deps []string, source string, replaced map[string][]byte) []string {
	base := make(map[string]bool)
	for f := range replaced {
		base[path.Base(f)] = true
	}
	var out []string
	for _, d := range deps {
		if !base[path.Base(d)] {
			continue
		}
		p, err := filepath.EvalSymlinks(d)
		if err != nil {
			continue
		}
		if rel, ok := strings.CutPrefix(p, source+"/"); ok {
			if _, ok := replaced[rel]; ok {
				out = append(out, rel)
			}
		}
	}
	return out
}

// depFolders gives the folders through which a compiler went in a tree to files whose
// names have a "..", relative to the tree. Other names end where they say.
func depFolders(deps []string, tree string) []string {
	seen := make(map[string]bool)
	for _, d := range deps {
		if rel, ok := strings.CutPrefix(d, tree+"/"); ok && strings.Contains(rel, "../") {
			// Each folder that the name walks through counts, also "a" of a/../b.h.
			for p := parent(rel); p != "."; p = parent(p) {
				if c := path.Clean(p); c != "." && !strings.HasPrefix(c, "..") {
					seen[c] = true
				}
			}
		}
	}
	return sortedKeys(seen)
}

// parent cuts the last element off. It does not clean the rest, as path.Dir does.
func parent(p string) string {
	i := strings.LastIndexByte(p, '/')
	if i < 0 {
		return "."
	}
	return p[:i]
}
