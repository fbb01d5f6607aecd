package symbols

import "strings"

// head appends the first component, name[i:j], without its counters. It is
// empty for names that start with a dot.
func (w *rewriter) head(i, j int) Flags {
	c := w.name[i:j]
	if c == "" {
		return 0
	}
	switch c[0] {
	case '_':
		switch {
		case strings.HasPrefix(c, "_R"), strings.HasPrefix(c, "_Z"):
			return w.mangled(i, j)
		case strings.HasPrefix(c, "__initcall__kmod_"), strings.HasPrefix(c, "__initstub__kmod_"):
			return w.initcall(i, j)
		case strings.HasPrefix(c, "__BTF_ID__"):
			// The counter stands alone behind __. Sets have none, and their
			// names may well end in a digit.
			t := trimDigits(c)
			if len(t) > len("__BTF_ID__") && strings.HasSuffix(t, "__") {
				return w.trimmed(i, j, len(t)) | UniqueID
			}
			w.keep(i, j)
			return UniqueID
		case strings.HasPrefix(c, "__UNIQUE_ID_"), strings.HasPrefix(c, "__addressable_"):
			return w.uniqueID(i, j)
		case strings.HasPrefix(c, "__unnamed_"):
			return w.counter(i, j, len("__unnamed_"), Content)
		}
	case 'L':
		if strings.HasPrefix(c, "L__unnamed_") {
			return w.counter(i, j, len("L__unnamed_"), Content)
		}
	case 'G':
		if strings.HasPrefix(c, "GCC_except_table") {
			return w.counter(i, j, len("GCC_except_table"), Content)
		}
	case 'O':
		if strings.HasPrefix(c, "OUTLINED_FUNCTION_") {
			return w.counter(i, j, len("OUTLINED_FUNCTION_"), Content)
		}
	case 'a':
		if fl, ok := w.alloc(i, j, len("alloc_")); ok {
			return fl
		}
	}
	w.keep(i, j)
	return 0
}

// labels are the assembler-local names that carry a counter without a dot.
var labels = [...]struct {
	prefix string
	pair   bool // the counter is N_M: function and number within it
	flags  Flags
}{
	{"LC", false, Content},
	{"LCPI", true, Content},
	{"LJTI", true, Content},
	{"Lubsan_data", false, Content},
	{"Lubsan_type", false, Content},
	{"L__unnamed_", false, Content},
	{"LBB", true, 0},
	{"Ltmp", false, 0},
	{"Lfunc_begin", false, 0},
	{"Lfunc_end", false, 0},
	{"L", false, 0},
}

// component appends a component after a dot, without its counters.
func (w *rewriter) component(dot, start, end int) Flags {
	c := w.name[start:end]
	label := w.openLabel()
	w.keep(dot, start)
	if c == "" {
		return 0
	}
	switch c[0] {
	case '_':
		if strings.HasPrefix(c, "_R") || strings.HasPrefix(c, "_Z") {
			return w.mangled(start, end)
		}
		if strings.HasPrefix(c, "__UNIQUE_ID_") {
			return w.uniqueID(start, end)
		}
	case 'L':
		if label {
			for k := range labels {
				l := &labels[k]
				if strings.HasPrefix(c, l.prefix) {
					n := c[len(l.prefix):]
					if isDigits(n) && !l.pair || isDigitPair(n) && l.pair {
						w.keep(start, start+len(l.prefix))
						return Numbered | l.flags
					}
				}
			}
			if fl, ok := w.alloc(start, end, len("Lalloc_")); ok {
				return fl
			}
		}
	case 'a':
		if fl, ok := w.alloc(start, end, len("alloc_")); ok {
			return fl
		}
	}
	w.keep(start, end)
	return 0
}

// alloc handles rustc's names for constants, alloc_<hash of the content>.
func (w *rewriter) alloc(i, j, prefix int) (Flags, bool) {
	c := w.name[i:j]
	if len(c) == prefix+32 && c[prefix-6:prefix] == "alloc_" && isHex(c[prefix:]) {
		w.keep(i, i+prefix)
		return Hashed | Content, true
	}
	return 0, false
}

// counter drops the digits that are all that follows a prefix of n bytes.
func (w *rewriter) counter(i, j, n int, fl Flags) Flags {
	if !isDigits(w.name[i+n : j]) {
		w.keep(i, j)
		if i+n == j {
			return fl
		}
		return 0
	}
	w.keep(i, i+n)
	return fl | Numbered
}

// trimmed keeps the first n bytes of name[i:j].
func (w *rewriter) trimmed(i, j, n int) Flags {
	w.keep(i, i+n)
	if i+n < j {
		return Numbered
	}
	return 0
}

// uniqueID drops the digits at the end of a component. The kernel has pasted
// __COUNTER__ (or, for __addressable_, __LINE__) directly behind the name, and
// behind an underscore since; that underscore stays, because dropping it would
// make the rule eat into names such as cr4_513.
func (w *rewriter) uniqueID(i, j int) Flags {
	return w.trimmed(i, j, len(trimDigits(w.name[i:j]))) | UniqueID
}

// initcall turns __initcall__kmod_<mod>__<counter>_<line>_<fn> into the same
// with empty counter and line. The underscores around them stay: they mark the
// place, so that digits in the name of the function are never taken for them.
func (w *rewriter) initcall(i, j int) Flags {
	c := w.name[i:j]
	for p := len("__initcall__kmod_"); p+1 < len(c); p++ {
		if c[p] != '_' || c[p+1] != '_' {
			continue
		}
		a := p + 2
		b := skipDigits(c, a)
		if b == len(c) || c[b] != '_' {
			// The digits are no part of a match that starts later.
			p = max(p, b-2)
			continue
		}
		d := skipDigits(c, b+1)
		if d == len(c) || c[d] != '_' || (a == b) != (b+1 == d) {
			continue
		}
		w.keep(i, i+a)
		w.keep(i+b, i+b+1)
		w.keep(i+d, j)
		if a == b {
			return Initcall
		}
		return Initcall | Numbered
	}
	w.keep(i, j)
	return Initcall
}

func skipDigits(s string, i int) int {
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	return i
}

func trimDigits(s string) string {
	for s != "" && isDigit(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

// isDigitPair reports whether s is N_M in decimal.
func isDigitPair(s string) bool {
	i := strings.IndexByte(s, '_')
	return i > 0 && isDigits(s[:i]) && isDigits(s[i+1:])
}
