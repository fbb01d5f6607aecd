package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/kdelta/kdelta/pkg/diag"
)

// Codes of the command itself; the library opens no files.
const (
	codeFile    diag.Code = "file-unreadable"
	codeStopped diag.Code = "stopped"
)

// commandCodes describes the codes of the command itself.
func commandCodes() []diag.Entry {
	return []diag.Entry{
		{Code: codeFile, Severity: diag.SevError, Meaning: "A file cannot be read.", Remedy: "Give the path of a file that can be read.",
			Example: "fork.ORIG.o: error: cannot read: no such file or directory [file-unreadable]"},
		{Code: codeOutput, Severity: diag.SevError, Meaning: "The output cannot be written, or is one of the inputs.", Remedy: "Give another path.",
			Example: "fork.PATCHED.o: error: is the input fork.PATCHED.o [file-unwritable]"},
		{Code: codeSymbol, Severity: diag.SevError, Meaning: "Neither object has a function or variable of that name.", Remedy: "Give a name as readelf -s prints it, or the readable form of a mangled one.",
			Example: "error: no function or variable \"copy_proces\" in either object; near: copy_process [symbol-unknown]"},
		{Code: codeStopped, Severity: diag.SevError, Meaning: "The run ended before there was a result.", Remedy: "The message says why.",
			Example: "error: context canceled [stopped]"},
	}
}

// maxInput bounds what is read of one input. A vmlinux.o with debug information stays below.
const maxInput = 8 << 30

// mapFrom is the size from which a file is mapped rather than read: reading copies,
// and each page of the copy has to be made. What changes meanwhile is told by unchanged;
// a mapped file that is cut short may end the program before, by a fault, with exit code 2.
const mapFrom = 1 << 20

// readInput gives the contents of a file, which nobody may write to. The error is a *diag.Error.
func readInput(path string) ([]byte, error) { return readLimited(path, maxInput) }

func readLimited(path string, limit int64) ([]byte, error) {
	data, err := read(path, limit)
	if err == nil {
		return data, nil
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err // the place says which file
	}
	d := diag.New(codeFile, diag.Place{File: path}, "cannot read: %v", err)
	d.Remedy = "Give the path of a file that can be read."
	return nil, &diag.Error{Diagnostics: []diag.Diagnostic{d}}
}

// opened are the files that this run has read, as they were when they were opened.
var opened struct {
	sync.Mutex
	files map[string]fs.FileInfo // by path
}

// opening notes a regular file. Those of /proc have no size, and their times mean nothing.
func opening(path string, fi fs.FileInfo) {
	if !fi.Mode().IsRegular() || fi.Size() == 0 {
		return
	}
	opened.Lock()
	defer opened.Unlock()
	if opened.files == nil {
		opened.files = make(map[string]fs.FileInfo)
	}
	if _, ok := opened.files[path]; !ok { // read twice, it must be the same both times
		opened.files[path] = fi
	}
}

// forget starts anew: what is written holds, whatever becomes of the inputs.
func forget() {
	opened.Lock()
	defer opened.Unlock()
	clear(opened.files)
}

// unchanged refuses a result when an input is another file than the one that was opened, or was written to since. The error is a *diag.Error.
func unchanged() error {
	opened.Lock()
	defer opened.Unlock()
	var ds []diag.Diagnostic
	for _, path := range slices.Sorted(maps.Keys(opened.files)) {
		was := opened.files[path]
		now, err := os.Stat(path)
		if err == nil && os.SameFile(was, now) && was.Size() == now.Size() && was.ModTime().Equal(now.ModTime()) {
			continue
		}
		d := diag.New(codeFile, diag.Place{File: path}, "changed while it was read")
		d.Remedy = "Run again when nobody writes to it."
		ds = append(ds, d)
	}
	return diag.Refuse(ds)
}

func read(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch {
	case fi.IsDir():
		return nil, errors.New("is a directory")
	case fi.Size() > limit:
		return nil, fmt.Errorf("%d bytes, more than the limit of %d", fi.Size(), limit)
	}
	opening(path, fi)
	if fi.Mode().IsRegular() && fi.Size() >= mapFrom {
		if data := mapFile(f, fi.Size()); data != nil {
			return data, nil
		}
	}
	// Pipes and devices have no size: what they give is bounded as it comes.
	var b bytes.Buffer
	if fi.Mode().IsRegular() {
		b.Grow(int(fi.Size()) + bytes.MinRead)
	}
	n, err := b.ReadFrom(io.LimitReader(f, limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("more than the limit of %d bytes", limit)
	}
	return b.Bytes(), err
}
