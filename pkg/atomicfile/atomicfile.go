// Package atomicfile writes a file whole or not at all.
package atomicfile

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Write makes data the contents of the file path. Whoever opens path, also
// after a crash, finds the old contents or the new, never a part: data goes to a
// new file in the same directory, is flushed to the disk and renamed to path.
// Whatever fails, the old file stays as it was and the new one is removed; only
// a process that is killed leaves it behind, as ".kdelta-<random>.tmp".
//
// A new file has the permissions perm before umask. One that is replaced keeps
// its permission bits, but it is another file: hard links to the old one keep
// the old contents, and the owner is who writes.
//
// A symbolic link is followed and stays a link; its target need not exist. A
// directory is refused. What is neither a regular file nor a directory, such as
// /dev/null or a pipe, is written in place, and so is anything reached through
// /proc, such as /dev/stdout: there "whole or not at all" cannot be had, and a
// regular file is appended to.
//
// The error is an *fs.PathError with path as it was given.
func Write(path string, data []byte, perm fs.FileMode) error {
	writing.RLock()
	defer writing.RUnlock()
	if err := write(path, data, perm.Perm()); err != nil {
		var pe *fs.PathError
		var le *os.LinkError
		switch {
		case errors.As(err, &pe): // it may name the temporary file, which says nothing to anybody
			err = pe.Err
		case errors.As(err, &le):
			err = le.Err
		}
		return &fs.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}

func write(path string, data []byte, perm fs.FileMode) error {
	switch fi, err := os.Stat(path); {
	case path == "":
		return fs.ErrNotExist
	case err == nil && fi.IsDir():
		return syscall.EISDIR
	case err == nil && !fi.Mode().IsRegular():
		return writeInPlace(path, data)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	dir, base, inPlace, err := resolve(path)
	if err != nil {
		return err
	}
	if inPlace {
		return writeInPlace(path, data)
	}
	return replace(dir, base, data, perm)
}

// maxLinks is how many links in a row are followed; systems stop at 40 and fewer.
const maxLinks = 40

// resolve gives the directory and name of what path leads to when the last
// element and what it points to are followed, which need not exist.
// filepath.EvalSymlinks wants it to exist. inPlace says that a link of /proc was
// met: it leads to an open file, whatever its text.
func resolve(path string) (dir, base string, inPlace bool, err error) {
	for range maxLinks {
		// Not filepath.Dir: it would clean "link/../x" without looking at link.
		dir, base = filepath.Split(path)
		if base == "" {
			return "", "", false, syscall.EISDIR // "x/" where there is no directory x
		}
		if dir == "" {
			dir = "."
		}
		if dir, err = filepath.EvalSymlinks(dir); err != nil {
			return "", "", false, err
		}
		full := filepath.Join(dir, base)
		fi, err := os.Lstat(full)
		if errors.Is(err, fs.ErrNotExist) {
			return dir, base, false, nil
		}
		if err != nil {
			return "", "", false, err
		}
		if fi.Mode()&fs.ModeSymlink == 0 {
			return dir, base, false, nil
		}
		if strings.HasPrefix(filepath.ToSlash(dir)+"/", "/proc/") {
			return dir, base, true, nil
		}
		target, err := os.Readlink(full)
		if err != nil {
			return "", "", false, err
		}
		if filepath.IsAbs(target) {
			path = target
		} else {
			path = dir + string(filepath.Separator) + target
		}
	}
	return "", "", false, syscall.ELOOP
}

func writeInPlace(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

func replace(dir, base string, data []byte, perm fs.FileMode) error {
	f, err := create(dir, perm)
	if err != nil {
		return err
	}
	done := false
	defer func() {
		if !done {
			f.Close() // it may be closed already
			os.Remove(f.Name())
		}
	}()
	path := filepath.Join(dir, base)
	if old, err := os.Lstat(path); err == nil {
		if err := f.Chmod(old.Mode().Perm()); err != nil {
			return err
		}
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil { // before the rename: Windows wants it, and so does NFS, whose Close reports a full disk
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	done = true
	// The new name is on the disk when the directory is. Not every system can flush one; the file is good either way.
	if d, err := os.Open(dir); err == nil {
		d.Sync()
		d.Close()
	}
	return nil
}

// create makes a file in dir that nobody else can have made or foreseen.
func create(dir string, perm fs.FileMode) (*os.File, error) {
	for {
		var r [12]byte
		rand.Read(r[:]) // never fails
		name := filepath.Join(dir, ".kdelta-"+hex.EncodeToString(r[:])+".tmp")
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
}
