package main

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"

	"github.com/kdelta/kdelta/pkg/atomicfile"
)

// cacheVersion changes when what a key stands for does.
const cacheVersion = "4"

// key names what a step makes, by everything that it makes it from.
func key(kind string, parts ...string) string {
	h := sha256.New()
	for _, p := range append([]string{cacheVersion, kind}, parts...) {
		// Lengths in front: no two lists of parts run together.
		h.Write([]byte(strconv.Itoa(len(p)) + ":"))
		h.Write([]byte(p))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// store is a folder of results by name; each is there whole or not at all.
type store struct{ dir string }

func (s store) path(name string) string { return filepath.Join(s.dir, name) }

func (s store) has(name string) bool {
	_, err := os.Stat(s.path(name))
	return err == nil
}

func (s store) get(name string) ([]byte, bool) {
	data, err := os.ReadFile(s.path(name))
	return data, err == nil
}

func (s store) put(name string, data []byte) error {
	p := s.path(name)
	if err := os.MkdirAll(filepath.Dir(p), 0o777); err != nil {
		return err
	}
	return atomicfile.Write(p, data, 0o666)
}

// folder makes a folder of the store: fill is given an empty one beside it, which takes
// its name when fill has succeeded. What an interrupted run left is removed.
func (s store) folder(name string, fill func(dir string) error) (string, error) {
	final := s.path(name)
	if s.has(name) {
		return final, nil
	}
	tmp := final + ".part"
	if err := os.RemoveAll(tmp); err != nil {
		return "", err
	}
	if err := os.MkdirAll(tmp, 0o777); err != nil {
		return "", err
	}
	if err := fill(tmp); err != nil {
		os.RemoveAll(tmp)
		return "", err
	}
	return final, os.Rename(tmp, final)
}
