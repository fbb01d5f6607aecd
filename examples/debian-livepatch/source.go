package main

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/bluekeyes/go-gitdiff/gitdiff"

	"github.com/kdelta/kdelta/pkg/diag"
)

// fileKind says what a changed file means for the objects of a kernel.
type fileKind uint8

const (
	kindC       fileKind = iota + 1 // its own object, or included by others
	kindHeader                      // objects that include it
	kindNothing                     // documents, tools, tests, other architectures
	kindRefused                     // assembly, linker scripts, the build itself
)

// classify judges a path of the kernel's source by where and what it is.
func classify(name string) (fileKind, string) {
	top, rest, _ := strings.Cut(name, "/")
	base, ext := path.Base(name), path.Ext(name)
	switch {
	case slices.Contains([]string{"Documentation", "tools", "samples", "LICENSES", "usr", "scripts", "rust"}, top), rest == "" && ext == "":
		if base == "Makefile" || base == "Kbuild" {
			break
		}
		return kindNothing, "is no part of the kernel's code"
	case top == "arch" && !strings.HasPrefix(rest, "x86/") && !strings.HasPrefix(rest, "Kconfig"):
		return kindNothing, "is for another architecture"
	case strings.Contains(name, "/vdso/") && top == "arch" && ext != ".h":
		return kindRefused, "the vDSO is code of programs: a livepatch does not reach it"
	}
	switch {
	case ext == ".c":
		return kindC, ""
	case ext == ".h":
		return kindHeader, ""
	case ext == ".S" || ext == ".s":
		return kindRefused, "assembly has no unit that a livepatch could replace"
	case ext == ".rst" || ext == ".txt" || ext == ".yaml" || ext == ".gitignore" || base == "MAINTAINERS":
		return kindNothing, "is no code"
	case base == "Makefile" || base == "Kbuild" || strings.HasPrefix(base, "Kconfig") || ext == ".mk":
		return kindRefused, "it changes how the kernel is built, which the running one was not"
	}
	return kindRefused, "its part in the build is unknown"
}

// change is what a patch makes of one file.
type change struct {
	name string
	kind fileKind
	file *gitdiff.File
	from string // the patch
}

// parsePatch reads a patch as git or diff -u write it, and cuts what patch -p1 cuts.
func parsePatch(name string, text []byte) ([]change, []diag.Diagnostic) {
	bad := func(code diag.Code, remedy, format string, args ...any) []diag.Diagnostic {
		return []diag.Diagnostic{failure(code, diag.Place{File: name}, remedy, format, args...)}
	}
	files, _, err := gitdiff.Parse(bytes.NewReader(text))
	switch {
	case err != nil:
		return nil, bad(codePatchFile, "Give a unified diff as git format-patch or diff -u writes it.", "cannot read the patch: %v", err)
	case len(files) == 0:
		return nil, bad(codePatchFile, "Give a unified diff as git format-patch or diff -u writes it.", "no change of a file in it")
	}
	var out []change
	var ds []diag.Diagnostic
	for _, f := range files {
		n := f.NewName
		if f.IsDelete || n == "" {
			n = f.OldName
		}
		n, ok := sourcePath(n)
		if !ok {
			ds = append(ds, bad(codePatchFile, "Make it relative to the top of the kernel's source, with one leading folder (a/, b/) or none.", "%q leads out of the source", n)...)
			continue
		}
		kind, why := classify(n)
		refuse := func(remedy, format string, args ...any) {
			d := failure(codePatchFile, diag.Place{File: n}, remedy, format, args...)
			d.Chain = []string{name}
			ds = append(ds, d)
		}
		switch {
		case kind == kindNothing:
			d := failure(codeNotes, diag.Place{File: n}, "", "left out: %s", why)
			d.Severity = diag.SevNote
			ds = append(ds, d)
			continue
		case f.IsBinary:
			refuse("Leave it out of the patch.", "a binary file")
		case f.IsRename || f.IsCopy:
			refuse("Write the patch against the file where it is.", "the patch renames or copies a file")
		case f.IsDelete:
			refuse("Leave the file in place, and empty what must not run.", "the patch removes a file")
		case f.IsNew && kind == kindC:
			refuse("Put what it defines into the file that uses it.", "the patch adds an object, which the kernel does not have")
		case kind == kindRefused:
			refuse("Leave it out if the rest is right without it.", "%s", why)
		}
		out = append(out, change{name: n, kind: kind, file: f, from: name})
	}
	return out, ds
}

// topFolders are those of the kernel's source.
var topFolders = []string{"Documentation", "LICENSES", "arch", "block", "certs", "crypto", "drivers", "fs", "include", "init", "io_uring", "ipc", "kernel",
	"lib", "mm", "net", "rust", "samples", "scripts", "security", "sound", "tools", "usr", "virt"}

// sourcePath cleans a name, cuts a leading folder that is not the source's (a/, b/,
// linux-6.1.176/) and says whether it stays in the source.
func sourcePath(name string) (string, bool) {
	c := path.Clean(strings.TrimSpace(name))
	if top, rest, ok := strings.Cut(c, "/"); ok && top != "" && top != ".." && !slices.Contains(topFolders, top) {
		c = rest
	}
	return c, c != "." && c != ".." && !strings.HasPrefix(c, "../") && !path.IsAbs(c) && !strings.ContainsAny(c, "\x00\n")
}

// apply makes the change to a file's text: every fragment where its lines are,
// which may be other line numbers than it says; context must fit in full. It gives the
// offsets of the fragments in lines.
func apply(c change, text []byte) ([]byte, []int, error) {
	lines := splitLines(text)
	var out bytes.Buffer
	var moved []int
	at, shift := 0, 0 // lines copied; how far the last fragment lay from where it said
	for i, f := range c.file.TextFragments {
		var old []string
		for _, l := range f.Lines {
			if l.Old() {
				old = append(old, l.Line)
			}
		}
		want := int(f.OldPosition) - 1
		if f.OldLines == 0 {
			want++ // "@@ -5,0 +6,2 @@" adds behind line 5
		}
		pos := find(lines, old, want+shift, at)
		if pos < 0 {
			if done := find(lines, newLines(f), int(f.NewPosition)-1, 0); done >= 0 && f.LinesAdded > 0 {
				return nil, nil, failure(codeApply, diag.Place{File: c.name}, "Leave it out: this kernel has the fix.",
					"fragment %d (%s) of %s is in the source already, at line %d", i+1, f.Header(), c.from, done+1)
			}
			return nil, nil, failure(codeApply, diag.Place{File: c.name}, "Take the version of the patch that is made for this kernel's series, or adapt it.",
				"fragment %d (%s) of %s fits nowhere%s", i+1, f.Header(), c.from, firstMisfit(lines, old, want+shift))
		}
		shift = pos - want
		moved = append(moved, shift)
		for ; at < pos; at++ {
			out.WriteString(lines[at])
		}
		for _, l := range f.Lines {
			if l.New() {
				out.WriteString(l.Line)
			}
		}
		at += len(old)
	}
	for ; at < len(lines); at++ {
		out.WriteString(lines[at])
	}
	return out.Bytes(), moved, nil
}

// splitLines cuts text behind its newlines; the last line may have none.
func splitLines(text []byte) []string { return slices.Collect(strings.Lines(string(text))) }

func newLines(f *gitdiff.TextFragment) []string {
	var out []string
	for _, l := range f.Lines {
		if l.New() {
			out = append(out, l.Line)
		}
	}
	return out
}

// find gives the place of old in lines that is nearest to want and not before from, or -1.
func find(lines, old []string, want, from int) int {
	last := len(lines) - len(old)
	for d := 0; ; d++ {
		lo, hi := want-d, want+d
		if lo < from && hi > last {
			return -1
		}
		if hi >= from && hi <= last && slices.Equal(lines[hi:hi+len(old)], old) {
			return hi
		}
		if lo >= from && lo <= last && slices.Equal(lines[lo:lo+len(old)], old) {
			return lo
		}
	}
}

// firstMisfit says which line does not fit where most of the fragment's lines do; of
// such places the one nearest to at.
func firstMisfit(lines, old []string, at int) string {
	best, most := 0, 0
	for i := 0; i+len(old) <= len(lines); i++ {
		n := 0
		for j, l := range old {
			if lines[i+j] == l {
				n++
			}
		}
		if n > most || n == most && abs(i-at) < abs(best-at) {
			best, most = i, n
		}
	}
	if 2*most < len(old) {
		return ", not even nearly"
	}
	for i, l := range old {
		if got := lines[best+i]; got != l {
			return fmt.Sprintf(": best at line %d, but there line %d is %q, not %q", best+1, best+i+1, strings.TrimRight(got, "\n"), strings.TrimRight(l, "\n"))
		}
	}
	return ": its place lies before that of the fragment before it"
}

func abs(n int) int { return max(n, -n) }
