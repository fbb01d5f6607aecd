package main

import (
	"slices"
	"strings"
)

// itemKind says what a piece of a C file at its outermost level is.
type itemKind uint8

const (
	itemOther     itemKind = iota // types, variables, other functions, conditionals
	itemFunction                  // the definition of an inline function: it is code only where it is used
	itemMacro                     // #define, #undef
	itemPrototype                 // a declaration of a function
)

// item is one piece: text without comments and with single spaces.
type item struct {
	kind itemKind
	name string // of a function or macro
	text string
}

// items cuts C at its outermost level: preprocessor lines, and what ends in ';' or
// in a body. It needs no knowledge of types; where the text is not C that it
// understands, the piece is itemOther, which callers must take as anything.
func items(text string) []item {
	var out []item
	var cur strings.Builder
	depth, parens := 0, 0
	flush := func() {
		if t := strings.TrimSpace(cur.String()); t != "" {
			out = append(out, newItem(t))
		}
		cur.Reset()
		depth, parens = 0, 0
	}
	line := true // only blanks so far in this line
	space := func() {
		if s := cur.String(); s != "" && s[len(s)-1] != ' ' {
			cur.WriteByte(' ')
		}
	}
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case strings.HasPrefix(text[i:], "//"):
			for i < len(text) && text[i] != '\n' {
				i++
			}
			continue
		case strings.HasPrefix(text[i:], "/*"):
			end := strings.Index(text[i+2:], "*/")
			if end < 0 {
				end = len(text) - i - 2
			}
			i = min(len(text), i+2+end+2)
			space()
			continue
		case c == '"' || c == '\'':
			j := i + 1
			for j < len(text) && text[j] != c && text[j] != '\n' {
				if text[j] == '\\' {
					j++
				}
				j++
			}
			j = min(j+1, len(text))
			cur.WriteString(text[i:j])
			line = false
			i = j
			continue
		case c == '#' && line:
			j := i
			for j < len(text) && text[j] != '\n' {
				if text[j] == '\\' {
					j++
				}
				j++
			}
			j = min(j, len(text))
			directive := strings.Join(strings.Fields(strings.ReplaceAll(stripComments(text[i:j]), "\\\n", " ")), " ")
			if depth == 0 && parens == 0 && strings.TrimSpace(cur.String()) == "" {
				out = append(out, newItem(directive))
			} else { // inside a body: part of it, on a line of its own
				cur.WriteString("\n" + directive + "\n")
			}
			i = j
			continue
		case c == '\n' || c == ' ' || c == '\t' || c == '\r' || c == '\f':
			if c == '\n' {
				line = true
			}
			space()
			i++
			continue
		}
		line = false
		cur.WriteByte(c)
		i++
		switch c {
		case '(':
			parens++
		case ')':
			parens--
		case '{':
			depth++
		case '}':
			depth--
			if depth <= 0 && parens <= 0 && isBody(cur.String()) {
				flush()
			}
		case ';':
			if depth <= 0 && parens <= 0 {
				flush()
			}
		}
	}
	flush()
	return out
}

func stripComments(s string) string {
	for {
		i := strings.Index(s, "/*")
		if i < 0 {
			return s
		}
		j := strings.Index(s[i+2:], "*/")
		if j < 0 {
			return s[:i]
		}
		s = s[:i] + " " + s[i+2+j+2:]
	}
}

// isBody reports whether text that ends in '}' is a function: what comes before the
// first brace ends in the parenthesis of parameters, or in attributes behind it.
func isBody(text string) bool {
	head, _, _ := strings.Cut(text, "{")
	return strings.Contains(head, "(") && !strings.Contains(head, "=") || strings.HasPrefix(strings.TrimSpace(head), `extern "C"`)
}

func newItem(text string) item {
	it := item{text: text}
	if rest, ok := strings.CutPrefix(text, "#"); ok {
		f := strings.FieldsFunc(rest, func(r rune) bool { return r == ' ' || r == '(' })
		if len(f) >= 2 && (f[0] == "define" || f[0] == "undef") {
			it.kind, it.name = itemMacro, f[1]
		}
		return it
	}
	head, _, body := strings.Cut(text, "{")
	first := strings.Fields(head)
	switch {
	case len(first) == 0, !strings.Contains(head, "("), strings.Contains(head, "="):
	case first[0] == "typedef", !body && strings.HasPrefix(first[0], "struct") && !strings.Contains(head, "("):
	case body && !strings.HasSuffix(text, "}"):
	default:
		// A name in first place, or in capitals, is a macro that declares something else.
		it.name = declared(head)
		if it.name == first[0] || strings.HasPrefix(first[0], it.name+"(") || it.name == strings.ToUpper(it.name) {
			it.name = ""
		}
		if it.name != "" {
			switch {
			case !body:
				it.kind = itemPrototype
			case strings.Contains(head, "inline"): // with underscores too
				it.kind = itemFunction
			}
		}
	}
	return it
}

// declared gives the name of the function that a declarator is of: the word before
// the last outermost parenthesis that is no attribute.
func declared(head string) string {
	name, depth, start := "", 0, 0
	for i := 0; i < len(head); i++ {
		switch head[i] {
		case '(':
			if depth == 0 {
				w := lastWord(head[start:i])
				if w != "" && !strings.HasPrefix(w, "__attribute") && !isAttribute(w) && name == "" {
					name = w
				}
			}
			depth++
		case ')':
			depth--
			start = i + 1
		}
	}
	return name
}

// isAttribute knows macros with arguments that stand before a function's name or behind its parameters.
func isAttribute(w string) bool {
	return slices.Contains([]string{"__printf", "__scanf", "__acquires", "__releases", "__must_hold", "__alloc_size", "__aligned", "__section", "__diag_push",
		"__malloc", "__cond_acquires", "__no_sanitize", "__counted_by", "__assume_aligned", "__cold", "typeof", "__typeof__", "noinstr"}, w)
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func lastWord(s string) string {
	s = strings.TrimRight(s, " \n")
	i := len(s)
	for i > 0 && isWord(s[i-1]) {
		i--
	}
	return s[i:]
}

// changedNames gives the functions and macros in which two versions of a header
// differ. all: something else differs too (a type, a conditional), which may
// matter to whoever includes it. Neither: comments and layout only.
func changedNames(before, after string) (names []string, all bool) {
	count := make(map[item]int)
	for _, it := range items(before) {
		count[it]++
	}
	for _, it := range items(after) {
		count[it]--
	}
	for it, n := range count {
		switch {
		case n == 0:
		case it.kind == itemOther:
			all = true
		case !slices.Contains(names, it.name):
			names = append(names, it.name)
		}
	}
	slices.Sort(names)
	return names, all
}

// mentions reports whether text has one of the names as a word.
func mentions(text string, names map[string]bool) bool {
	if len(names) <= 8 { // looking for each is faster than cutting the text into words
		for n := range names {
			for at := 0; n != ""; at++ {
				i := strings.Index(text[at:], n)
				if i < 0 {
					break
				}
				at += i
				end := at + len(n)
				if (at == 0 || !isWord(text[at-1])) && (end == len(text) || !isWord(text[end])) {
					return true
				}
			}
		}
		return false
	}
	for i := 0; i < len(text); {
		if !isWord(text[i]) {
			i++
			continue
		}
		j := i
		for j < len(text) && isWord(text[j]) {
			j++
		}
		if names[text[i:j]] {
			return true
		}
		i = j
	}
	return false
}

// pastes reports whether a piece may put one of the names together with ##: what stands
// before it begins a name, or what stands behind it ends one. Parameters of the macro are
// no words of their own.
func pastes(it item, names map[string]bool) bool {
	var params []string
	for rest := it.text; ; {
		before, after, ok := strings.Cut(rest, "##")
		if !ok {
			return false
		}
		if params == nil && it.kind == itemMacro {
			params = append(parameters(it.text), "")
		}
		a, b := lastWord(before), firstWord(after)
		if slices.Contains(params, a) {
			a = ""
		}
		if slices.Contains(params, b) {
			b = ""
		}
		for n := range names {
			if a != "" && len(a) < len(n) && strings.HasPrefix(n, a) || b != "" && len(b) < len(n) && strings.HasSuffix(n, b) {
				return true
			}
		}
		rest = after
	}
}

// parameters gives those of a macro.
func parameters(text string) []string {
	_, rest, ok := strings.Cut(text, "(")
	list, _, closed := strings.Cut(rest, ")")
	if !ok || !closed {
		return nil
	}
	var out []string
	for p := range strings.SplitSeq(list, ",") {
		out = append(out, strings.TrimSuffix(strings.TrimSpace(p), "..."))
	}
	return out
}

func firstWord(s string) string {
	s = strings.TrimLeft(s, " \n")
	i := 0
	for i < len(s) && isWord(s[i]) {
		i++
	}
	return s[:i]
}
