package main

import (
	"bytes"
	"cmp"
	"path"
	"slices"
	"strings"
)

// includes says for each file of the source what it includes, as written:
// `"x.h"` or `<x.h>`.
type includes map[string][]string

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
		if k := bytes.IndexByte(line[1:], end); k > 0 {
			out = append(out, string(line[:k+2]))
		}
	}
}

// encode writes the index: a line for each file, fields between tabs.
func (in includes) encode() []byte {
	var b bytes.Buffer
	for _, f := range sortedKeys(in) {
		b.WriteString(f)
		for _, i := range in[f] {
			b.WriteByte('\t')
			b.WriteString(i)
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

func decodeIncludes(text string) includes {
	in := make(includes)
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		in[f[0]] = f[1:]
	}
	return in
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

// resolveAll inverts the index: who includes a file. An include that names no file
// of the source by the rules of the compiler may mean any that ends so (the
// folders that single Makefiles add are not known here); <asm/x.h> may also be
// a generated file that includes <asm-generic/x.h>.
func (in includes) resolveAll() map[string][]string {
	bySuffix := make(map[string][]string) // by base name
	for f := range in {
		bySuffix[path.Base(f)] = append(bySuffix[path.Base(f)], f)
	}
	users := make(map[string][]string)
	type key struct{ dir, inc string }
	known := make(map[key][]string)
	for f, list := range in {
		for _, inc := range list {
			k := key{inc: inc}
			if inc[0] == '"' {
				k.dir = path.Dir(f)
			}
			targets, ok := known[k]
			if !ok {
				targets = in.resolve(k.dir, inc, bySuffix)
				known[k] = targets
			}
			for _, t := range targets {
				users[t] = append(users[t], f)
			}
		}
	}
	return users
}

func (in includes) resolve(dir, inc string, bySuffix map[string][]string) []string {
	name := inc[1 : len(inc)-1]
	if inc[0] == '"' {
		if t := path.Join(dir, name); in[t] != nil {
			return []string{t}
		}
	}
	var out []string
	for _, d := range searched {
		if t := path.Join(d, name); in[t] != nil {
			out = append(out, t)
			break
		}
	}
	if rest, ok := strings.CutPrefix(name, "asm/"); ok {
		if t := "include/asm-generic/" + rest; in[t] != nil {
			out = append(out, t)
		}
	}
	if len(out) == 0 {
		clean := path.Clean(name)
		for strings.HasPrefix(clean, "../") {
			clean = clean[3:]
		}
		for _, f := range bySuffix[path.Base(clean)] {
			if f == clean || strings.HasSuffix(f, "/"+clean) {
				out = append(out, f)
			}
		}
	}
	return out
}

// closure gives all files that include one of the given, directly or not, with these.
func closure(users map[string][]string, from []string) []string {
	seen := make(map[string]bool)
	work := slices.Clone(from)
	for _, f := range from {
		seen[f] = true
	}
	for len(work) > 0 {
		f := work[len(work)-1]
		work = work[:len(work)-1]
		for _, u := range users[f] {
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
func affected(files []string, names []string, text func(string) string) (out []string, all bool) {
	want := make(map[string]bool)
	for _, n := range names {
		want[n] = true
	}
	headers := make(map[string][]item)
	for _, f := range files {
		if !strings.HasSuffix(f, ".c") {
			headers[f] = nil
		}
	}
	for grown := true; grown; {
		grown = false
		for f := range headers {
			t := text(f)
			if !mentions(t, want) {
				continue
			}
			if headers[f] == nil {
				headers[f] = items(t)
			}
			for _, it := range headers[f] {
				switch {
				case want[it.name] && it.name != "", !mentions(it.text, want):
				case it.kind == itemOther: // a type, a variable, a conditional that asks for a macro
					return nil, true
				default:
					want[it.name] = true
					grown = true
				}
			}
		}
	}
	for _, f := range files {
		if strings.HasSuffix(f, ".c") && mentions(text(f), want) {
			out = append(out, f)
		}
	}
	return out, false
}
