package main

import (
	"bytes"
	"cmp"
	"path"
	"slices"
	"strings"
)

// index says who includes what in a source, so that a question about one header costs
// little: strings are cut apart only when they are asked for.
type index struct {
	includers map[string]string // by base name of what is included: "INCLUDE\tFILE\tINCLUDE\tFILE...", as written: `"x.h"` or `<x.h>`
	files     map[string]string // by base name: "FILE\tFILE..."
	extra     map[string][]string
}

// makeIndex makes an index from what each file includes, in the form that parseIndex reads.
func makeIndex(includes map[string][]string) []byte {
	includers, files := make(map[string][]string), make(map[string][]string)
	for _, f := range sortedKeys(includes) {
		files[path.Base(f)] = append(files[path.Base(f)], f)
		for _, inc := range includes[f] {
			b := path.Base(inc[1 : len(inc)-1])
			includers[b] = append(includers[b], inc, f)
		}
	}
	var out bytes.Buffer
	for _, part := range []struct {
		kind byte
		of   map[string][]string
	}{{'F', files}, {'I', includers}} {
		for _, b := range sortedKeys(part.of) {
			out.WriteByte(part.kind)
			out.WriteString(b)
			for _, s := range part.of[b] {
				out.WriteByte('\t')
				out.WriteString(s)
			}
			out.WriteByte('\n')
		}
	}
	return out.Bytes()
}

func parseIndex(text string) *index {
	x := &index{includers: make(map[string]string), files: make(map[string]string), extra: make(map[string][]string)}
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		switch {
		case strings.HasPrefix(name, "F"):
			x.files[name[1:]] = rest
		case strings.HasPrefix(name, "I"):
			x.includers[name[1:]] = rest
		}
	}
	return x
}

// add makes a file known that a patch changes: what it included before counts still.
func (x *index) add(file string, includes []string) {
	x.extra[file] = includes
	if !x.has(file) {
		b := path.Base(file)
		x.files[b] = strings.TrimPrefix(x.files[b]+"\t"+file, "\t")
	}
}

func (x *index) has(file string) bool {
	for f := range strings.SplitSeq(x.files[path.Base(file)], "\t") {
		if f == file {
			return true
		}
	}
	return false
}

// users gives the files that include one.
func (x *index) users(file string) []string {
	var out []string
	type key struct{ dir, inc string }
	known := make(map[key]bool)
	check := func(inc, by string) {
		k := key{inc: inc}
		if inc[0] == '"' {
			k.dir = path.Dir(by)
		}
		is, ok := known[k]
		if !ok {
			is = slices.Contains(x.resolve(k.dir, inc), file)
			known[k] = is
		}
		if is {
			out = append(out, by)
		}
	}
	next := x.includers[path.Base(file)]
	for next != "" {
		var inc, by string
		inc, next, _ = strings.Cut(next, "\t")
		by, next, _ = strings.Cut(next, "\t")
		if inc != "" {
			check(inc, by)
		}
	}
	for by, list := range x.extra {
		for _, inc := range list {
			if path.Base(inc[1:len(inc)-1]) == path.Base(file) {
				check(inc, by)
			}
		}
	}
	return out
}

// scanIncludes finds the #include lines of a file.
func scanIncludes(text []byte) []string {
	var out []string
	for {
		i := bytes.Index(text, []byte("include"))
		if i < 0 {
			return out
		}
		j := i
		for j > 0 && (text[j-1] == ' ' || text[j-1] == '\t') {
			j--
		}
		ok := j > 0 && text[j-1] == '#'
		text = text[i+len("include"):]
		if !ok {
			continue
		}
		line := text
		if k := bytes.IndexByte(text, '\n'); k >= 0 {
			line = text[:k]
		}
		line = bytes.TrimLeft(line, " \t")
		if len(line) == 0 {
			continue
		}
		end := byte('"')
		switch line[0] {
		case '"':
		case '<':
			end = '>'
		default:
			continue // by macro
		}
		if k := bytes.IndexByte(line[1:], end); k > 0 && !bytes.ContainsAny(line[:k+2], "\t\r") {
			out = append(out, string(line[:k+2]))
		}
	}
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	out := make([]K, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// searched are the folders that every object of an x86 kernel looks into, first to last.
var searched = []string{"arch/x86/include", "include", "arch/x86/include/uapi", "include/uapi"}

// resolve gives the files that an include may mean. One that names no file of the source
// by the rules of the compiler may mean any that ends so (the folders that single
// Makefiles add are not known here); <asm/x.h> may also be a generated file that
// includes <asm-generic/x.h>.
func (x *index) resolve(dir, inc string) []string {
	name := inc[1 : len(inc)-1]
	if inc[0] == '"' {
		if t := path.Join(dir, name); x.has(t) {
			return []string{t}
		}
	}
	var out []string
	for _, d := range searched {
		if t := path.Join(d, name); x.has(t) {
			out = append(out, t)
			break
		}
	}
	if rest, ok := strings.CutPrefix(name, "asm/"); ok {
		if t := "include/asm-generic/" + rest; x.has(t) {
			out = append(out, t)
		}
	}
	if len(out) == 0 {
		clean := path.Clean(name)
		for strings.HasPrefix(clean, "../") {
			clean = clean[3:]
		}
		for f := range strings.SplitSeq(x.files[path.Base(clean)], "\t") {
			if f != "" && (f == clean || strings.HasSuffix(f, "/"+clean)) {
				out = append(out, f)
			}
		}
	}
	return out
}

// includedC gives the C files that others include, sorted.
func (x *index) includedC() []string {
	seen := make(map[string]bool)
	for base, list := range x.includers {
		if !strings.HasSuffix(base, ".c") {
			continue
		}
		for list != "" {
			var inc, by string
			inc, list, _ = strings.Cut(list, "\t")
			by, list, _ = strings.Cut(list, "\t")
			for _, f := range x.resolve(path.Dir(by), inc) {
				seen[f] = true
			}
		}
	}
	return sortedKeys(seen)
}

// closure gives all files that include one, directly or not, with this one.
func (x *index) closure(file string) []string {
	seen := map[string]bool{file: true}
	work := []string{file}
	for len(work) > 0 {
		f := work[len(work)-1]
		work = work[:len(work)-1]
		for _, u := range x.users(f) {
			if !seen[u] {
				seen[u] = true
				work = append(work, u)
			}
		}
	}
	return sortedKeys(seen)
}

// affected gives the C files, among the given that include a changed header, in whose
// code the changed names can take part: they mention one of them, or a function or
// macro of a header that does, and so on. all: a name reaches something that is
// neither, so every C file counts. text gives a file's contents after the change.
// A name counts as mentioned also where a macro has a part of it next to ##; one that
// is put together from two arguments is not seen.
func affected(files []string, names []string, text func(string) string) (out []string, all bool) {
	want := make(map[string]bool)
	for _, n := range names {
		want[n] = true
	}
	parts := make(map[string][]item) // of files that were looked into
	mentioned := func(f string, each func(item)) {
		t := text(f)
		paste := strings.Contains(t, "##")
		if !paste && !mentions(t, want) {
			return
		}
		if parts[f] == nil {
			parts[f] = items(t)
		}
		for _, it := range parts[f] {
			if mentions(it.text, want) || paste && pastes(it, want) {
				each(it)
			}
		}
	}
	for grown := true; grown && !all; {
		grown = false
		for _, f := range files {
			if strings.HasSuffix(f, ".c") {
				continue
			}
			mentioned(f, func(it item) {
				switch {
				case it.name != "" && want[it.name]:
				case it.kind == itemOther: // a type, a variable, a conditional that asks for a macro
					all = true
				default:
					want[it.name] = true
					grown = true
				}
			})
		}
	}
	if all {
		return nil, true
	}
	for _, f := range files {
		if !strings.HasSuffix(f, ".c") {
			continue
		}
		found := false
		if mentions(text(f), want) {
			found = true
		} else if strings.Contains(text(f), "##") {
			mentioned(f, func(item) { found = true })
		}
		if found {
			out = append(out, f)
		}
	}
	return out, false
}
