package symbols

import (
	"strings"
)

// Flags says what [Parse] recognised in a name. The zero value is [Plain].
type Flags uint32

const (
	// Cold marks the unlikely half of a function: .cold and .cold.N of gcc,
	// .cold.N of clang's hot-cold splitting, .cold of its machine function
	// splitter.
	Cold Flags = 1 << iota
	// Part marks a piece that gcc's partial inlining (.part.N) or clang's
	// basic block sections (.__part.N) cut out of a function.
	Part
	// Isra marks a function whose parameters gcc changed (.isra.N). It is a
	// function of its own, not a part of another.
	Isra
	// Constprop marks a copy of a function for known arguments
	// (.constprop.N). It is a function of its own, not a part of another.
	Constprop
	// Prefix marks the padding before a function that carries its hash or
	// its call depth accounting: __pfx_f, __cfi_f and their __pi_ forms.
	// Flags of the function itself (Cold and so on) are not repeated here.
	Prefix
	// Content marks compiler-made data whose identity is its content: string
	// literals, constant pools, switch and jump tables, UBSAN records,
	// __func__. The number in such a name says nothing at all, not even
	// about order. Only .str-like and constant data are meant; a compound
	// literal may be writable, so it is not Content.
	Content
	// StaticLocal marks the shape of a function-scope static: var.N (gcc),
	// func.var and func.var.N (clang). The same shape is given to renamed
	// duplicates of file-scope names, so the caller checks that the symbol is
	// a local object. C++ and Rust spell such variables differently and do
	// not get the flag.
	StaticLocal
	// Disposable marks a static of a kernel macro that a patch may carry its
	// own fresh copy of: lock classes (__key), once-guards (__warned,
	// __already_done, __print_once), rate limits (_rs), printk index entries
	// (_entry, _entry_ptr), __func__ and CSWTCH. Names that other code also
	// gives to variables with real state (descriptor) are left out.
	Disposable
	// Numbered says that a counter was dropped from the key.
	Numbered
	// Hashed says that a hash was dropped from the key: a Rust crate
	// disambiguator, the hash of a legacy Rust name, of an anonymous
	// constant. For legacy Rust names it was also the only thing that told
	// instances of one generic function apart.
	Hashed
	// Promoted says that link-time optimisation made a local symbol global
	// (.llvm.N, .lto_priv.N): its binding may differ between two builds.
	Promoted
	// Unique says that clang's -funique-internal-linkage-names marked a local
	// symbol (.__uniq.N); the number is a hash of the path of the source.
	Unique
	// UniqueID says that the name, or a part of it between dots, starts with
	// __UNIQUE_ID_ or is one of its relatives (__addressable_, __BTF_ID__).
	UniqueID
	// Initcall marks __initcall__kmod_ and __initstub__kmod_ symbols.
	Initcall
	// Label marks assembler-local names, those that start with .L.
	Label
	// CFI marks the symbols of control flow integrity: f.cfi, f.cfi_jt (entry
	// of a jump table), __cfi_f and __kcfi_typeid_f.
	CFI
	// PI marks the prefix __pi_ of position independent startup code, which
	// is a second copy of ordinary objects under other names.
	PI
	// Rust marks Rust names, v0 and legacy.
	Rust
	// CXX marks other names of the Itanium C++ ABI. Their numbers (closures,
	// local entities) are part of the key.
	CXX
)

// Plain is the value of Flags for a name in which nothing was recognised.
const Plain Flags = 0

var flagNames = [...]string{
	"cold", "part", "isra", "constprop", "prefix", "content", "staticlocal", "disposable",
	"numbered", "hashed", "promoted", "unique", "uniqueid", "initcall", "label", "cfi", "pi",
	"rust", "cxx",
}

// Has reports whether all flags of g are set in f.
func (f Flags) Has(g Flags) bool { return f&g == g }

// Any reports whether at least one flag of g is set in f.
func (f Flags) Any(g Flags) bool { return f&g != 0 }

// String returns the names of the flags in lower case, joined by '|', in the
// order of their declaration; "plain" if there are none.
func (f Flags) String() string {
	if f == Plain {
		return "plain"
	}
	var b strings.Builder
	for i, n := range flagNames {
		if f&(1<<i) != 0 {
			if b.Len() > 0 {
				b.WriteByte('|')
			}
			b.WriteString(n)
		}
	}
	return b.String()
}

// Family is what a symbol name says about the thing it names. The strings are
// parts of the name where that is possible, so a Family keeps the name (and the
// string table under it) alive.
type Family struct {
	// Key is equal for two builds of the same thing. It is never empty
	// unless the name is.
	Key string
	// Parent is the name of the function that a Cold or Part symbol was
	// split from (one level: f.part.0.cold has the parent f.part.0), or of
	// the function that a Prefix symbol stands before. Otherwise it is empty.
	// It is a full name with its numbers, to be looked up in the same object
	// and, for local symbols, in the same source file.
	Parent string
	// Flags says what was recognised.
	Flags Flags
}

// Parse splits name into what is stable and what compilers renumber. It
// allocates nothing if the key is a part of the name, which holds for plain
// names and for numbers at the end; otherwise once, or a few times if the key is longer than 160 bytes.
func Parse(name string) Family {
	if isPlain(name) {
		return Family{Key: name}
	}
	return parse(name)
}

// Glance says at little cost whether Parse(name) recognises nothing (plain; false
// may be too careful), and which of Prefix and Cold it finds.
func Glance(name string) (plain bool, attached Flags) {
	switch {
	case isPlain(name):
		return true, 0
	case strings.HasPrefix(name, "__pfx_") && len(name) > len("__pfx_"):
		return false, Prefix
	case strings.HasPrefix(name, "__cfi_"), strings.HasPrefix(name, "__pi_"), strings.Contains(name, ".cold"):
		return false, parse(name).Flags & (Prefix | Cold)
	}
	return false, 0
}

// Key returns Parse(name).Key. It is the fast path for building an index.
func Key(name string) string {
	if isPlain(name) {
		return name
	}
	return parse(name).Key
}

// isPlain decides by the first bytes and the absence of dots that no rule can
// apply. Nine names of ten in a kernel end here, so it may be too careful but
// must be cheap.
func isPlain(name string) bool {
	if len(name) < 2 {
		return true
	}
	switch name[0] {
	case '_':
		switch name[1] {
		case '_':
			if special2(name) {
				return false
			}
		case 'R', 'Z':
			return false
		}
	case 'L', 'G', 'O', 'a': // L__unnamed_, GCC_except_table, OUTLINED_FUNCTION_, alloc_
		if strings.HasPrefix(name, "L__") || strings.HasPrefix(name, "GCC_") ||
			strings.HasPrefix(name, "OUTLINED_") || strings.HasPrefix(name, "alloc_") {
			return false
		}
	}
	return strings.IndexByte(name, '.') < 0
}

// special2 reports whether a name that starts with two underscores may be of a
// family that needs no dot.
func special2(name string) bool {
	if len(name) < 6 {
		return false
	}
	switch name[2] {
	case 'U', 'B', 'p', 'c', 'i', 'k', 'u', 'a', 'e':
		switch name[3] {
		case 'N', 'T', 'f', 'i', 'n', 'c', 's', 'd', 'r', 'x':
			// __UN __BT __pf __pi __in __cf __kc __ks __un __ad __cr __ex
			return true
		}
	}
	return false
}

// wrappers are prefixes that tools put before a complete symbol name. The rules
// then apply to what follows; the prefix stays in the key.
var wrappers = [...]struct {
	prefix string
	flags  Flags
}{
	{"__pfx_", Prefix},
	{"__cfi_", Prefix | CFI},
	{"__kcfi_typeid_", CFI},
	{"__ksymtab_", 0},
	{"__kstrtab_", 0},
	{"__kstrtabns_", 0},
	{"__crc_", 0},
	{"__export_symbol_", 0},
}

// unwrap returns the offset at which the wrapped name starts, the offset of the
// last wrapper, and the flags of the wrappers. A wrapper around nothing is an
// ordinary name.
func unwrap(name string) (body, last int, flags Flags) {
	if !strings.HasPrefix(name, "__") {
		return 0, 0, 0
	}
	if strings.HasPrefix(name, "__pi_") && len(name) > 5 {
		body, flags = 5, PI
	}
	for i := range wrappers {
		w := &wrappers[i]
		if strings.HasPrefix(name[body:], w.prefix) && len(name) > body+len(w.prefix) {
			return body + len(w.prefix), body, flags | w.flags
		}
	}
	return body, body, flags
}

// parse is the general case. It walks the name once, component by component
// (the pieces between dots), and copies what stays to a rewriter. Every decision
// looks only at the output so far and at the next component. That makes the
// result a fixed point: whatever could be dropped from the output would have
// been dropped when it was appended.
func parse(name string) Family {
	w := rewriter{name: name}
	f := Family{Key: name}

	body, wrapper, wflags := unwrap(name)
	w.keep(0, body)
	end := componentEnd(name, body)
	fl := w.head(body, end)

	var (
		split     = -1 // offset of the dot of the last .cold or .part
		numbers   = 0  // numeric components dropped
		idents    = 0  // components that may be the name of a variable
		other     = 0  // components that belong to a clone of a function
		lastStart = -1 // offset of the dot of the previous component
	)
	for end < len(name) {
		dot := end
		start := dot + 1
		end = componentEnd(name, start)
		c := name[start:end]
		switch {
		case isDigits(c):
			switch {
			case w.dropTail(body, ".llvm"), w.dropTail(body, ".lto_priv"):
				fl |= Promoted
			case w.dropTail(body, ".__uniq"):
				fl |= Unique
			case name[0] == '.' && w.stringSection():
				// .rodata.f.str1.8: the number is the alignment.
				w.keep(dot, end)
			default:
				fl |= Numbered
				numbers++
				switch {
				case w.ends(body, ".part"), w.ends(body, ".__part"):
					fl |= Part
					split = lastStart
					other++
				case w.ends(body, ".isra"):
					fl |= Isra
					other++
				case w.ends(body, ".constprop"):
					fl |= Constprop
					other++
				}
			}
		case isHex(c) && w.dropTail(body, ".llvm"):
			fl |= Promoted
		case isHash(c) && w.afterAnon(body):
			fl |= Hashed | Content
		case c == "cold":
			fl |= Cold
			split = dot
			w.keep(dot, end)
		case c == "cfi", c == "cfi_jt":
			fl |= CFI
			other++
			w.keep(dot, end)
		default:
			switch {
			case c == "", c == "llvm", c == "lto_priv", c == "__uniq":
			case isCloneSuffix(c):
				other++
			default:
				idents++
			}
			fl |= w.component(dot, start, end)
		}
		lastStart = dot
	}

	if k := w.result(); k != "" {
		f.Key = k
	}
	bare := name[body:]
	fl |= contentOf(bare)
	if fl&(Cold|Rust|CXX) == 0 && other == 0 && bare[0] != '.' {
		fl |= staticOf(bare, f.Key[min(body, len(f.Key)):], numbers, idents, fl)
	}
	if name[0] == '.' && strings.HasPrefix(name, ".L") {
		fl |= Label
	}
	if wflags&Prefix != 0 {
		// The padding is neither cold nor a part; the function it stands
		// before may be, and Parse(Parent) tells.
		fl &^= Cold | Part | Isra | Constprop | StaticLocal | Disposable | Content
		f.Parent = name[:wrapper] + bare // __pi_ of the padding is one of the function, too
	} else if split > 0 {
		f.Parent = name[:split]
	}
	f.Flags = fl | wflags
	return f
}

// componentEnd returns the offset of the dot that ends the component at start,
// or the length of the name. Legacy Rust spells :: and other characters with
// dots inside its names, so such a name is one component.
func componentEnd(name string, start int) int {
	if strings.HasPrefix(name[start:], "_ZN") {
		if end := legacyEnd(name, start); end > 0 {
			return end
		}
	}
	if i := strings.IndexByte(name[start:], '.'); i >= 0 {
		return start + i
	}
	return len(name)
}

// contentOf recognises compiler-made constant data by the start of its name, which is not empty.
func contentOf(name string) Flags {
	switch name[0] {
	case '.':
		for _, p := range [...]string{".L.str", ".str", ".Lstr", ".L__const.", ".L__func__",
			".L__FUNCTION__", ".L__PRETTY_FUNCTION__", ".Lswitch.table", ".Lreltable."} {
			if strings.HasPrefix(name, p) {
				rest := name[len(p):]
				if p[len(p)-1] == '.' || rest == "" || rest[0] == '.' {
					return Content
				}
			}
		}
	case 'C':
		if strings.HasPrefix(name, "CSWTCH.") {
			return Content
		}
		// gcc's constant initialisers are C.<n>.<uid>.
		if strings.HasPrefix(name, "C.") && len(name) > 2 && isDigit(name[2]) {
			return Content
		}
	case 's':
		if strings.HasPrefix(name, "switch.table.") {
			return Content
		}
	case 'r':
		if strings.HasPrefix(name, "reltable.") {
			return Content
		}
	case 'v':
		// rustc before v0 names its vtables vtable.N.
		if strings.HasPrefix(name, "vtable.") && isDigits(name[len("vtable."):]) {
			return Content
		}
	case '_':
		if strings.HasPrefix(name, "__const.") {
			return Content
		}
	}
	return 0
}

// staticOf decides whether a name has the shape of a function-scope static.
func staticOf(name, key string, numbers, idents int, fl Flags) Flags {
	first := componentEnd(name, 0)
	head := name[:first]
	if first == len(name) || (numbers == 0 && idents == 0) || fl&UniqueID != 0 || strings.HasPrefix(name, "DW.ref.") {
		return 0
	}
	var out Flags
	if fl&Content == 0 {
		out = StaticLocal
	}
	if idents == 0 {
		// gcc: the variable comes first.
		if isFuncName(head) {
			return StaticLocal | Content | Disposable
		}
		if head == "CSWTCH" || isDisposable(head) {
			out |= Disposable
		}
		return out
	}
	// clang: any component after the function.
	for rest := key; ; {
		i := strings.IndexByte(rest, '.')
		if i < 0 {
			break
		}
		rest = rest[i+1:]
		c := rest
		if j := strings.IndexByte(rest, '.'); j >= 0 {
			c = rest[:j]
		}
		if isFuncName(c) {
			return StaticLocal | Content | Disposable
		}
		if isDisposable(c) {
			out |= Disposable
		}
	}
	if isFuncName(head) { // __func__.f
		return StaticLocal | Content | Disposable
	}
	return out
}

func isFuncName(s string) bool {
	return s == "__func__" || s == "__FUNCTION__" || s == "__PRETTY_FUNCTION__"
}

func isDisposable(s string) bool {
	switch s {
	case "__key", "__warned", "__already_done", "__print_once", "_rs", "_entry", "_entry_ptr":
		return true
	}
	return false
}

// isCloneSuffix recognises components by which compilers name variants of
// functions and that nobody would call a variable. What they belong to is a
// function, so the shape is not that of a static local.
func isCloneSuffix(s string) bool {
	switch s {
	case "localalias", "simdclone", "_omp_fn", "omp_outlined", "specialized":
		return true
	}
	return false
}

// rewriter builds the key. As long as the output is a prefix of the name only
// its length is kept, so that the common case shares the memory of the name.
// After that it is in room, and in over when room is too small. (The array is a
// part of the struct, because appending through a pointer would move it to the
// heap.)
type rewriter struct {
	name  string
	n     int  // length of the output, unless it is in over
	split bool // the output is not name[:n]
	over  []byte
	room  [160]byte
}

// keep appends name[i:j].
func (w *rewriter) keep(i, j int) {
	if i == w.n && !w.split {
		w.n = max(i, j)
	} else if i < j {
		w.lit(w.name[i:j])
	}
}

// lit appends bytes that need not be in the name.
func (w *rewriter) lit(s string) {
	if !w.split {
		w.split = true
		if w.n <= len(w.room) {
			copy(w.room[:], w.name[:w.n])
		} else {
			w.over = append(make([]byte, 0, len(w.name)+16), w.name[:w.n]...)
		}
	}
	if w.over == nil {
		if w.n+len(s) <= len(w.room) {
			w.n += copy(w.room[w.n:], s)
			return
		}
		w.over = append(make([]byte, 0, len(w.name)+16), w.room[:w.n]...)
	}
	w.over = append(w.over, s...)
}

// bytes returns the output if split is set.
func (w *rewriter) bytes() []byte {
	if w.over != nil {
		return w.over
	}
	return w.room[:w.n]
}

func (w *rewriter) len() int {
	if w.over != nil {
		return len(w.over)
	}
	return w.n
}

// ends reports whether the output after the first body bytes ends with s and
// has something before it.
func (w *rewriter) ends(body int, s string) bool {
	n := w.len()
	if n-len(s) <= body {
		return false
	}
	if w.split {
		return string(w.bytes()[n-len(s):]) == s
	}
	return w.name[n-len(s):n] == s
}

// dropTail removes s from the end of the output if ends allows it.
func (w *rewriter) dropTail(body int, s string) bool {
	if !w.ends(body, s) {
		return false
	}
	if w.over != nil {
		w.over = w.over[:len(w.over)-len(s)]
	} else {
		w.n -= len(s)
	}
	return true
}

// openLabel reports whether the next component starts the name or follows an
// empty component: the places where .L names live (.LC0, .rodata..L.str).
func (w *rewriter) openLabel() bool {
	n := w.len()
	if n == 0 {
		return true
	}
	if w.split {
		return w.bytes()[n-1] == '.'
	}
	return w.name[n-1] == '.'
}

// stringSection reports whether the output ends with a component .strN, the
// name gcc and clang give to sections of strings N bytes wide.
func (w *rewriter) stringSection() bool {
	// Eight bytes are enough for any width.
	var t string
	if w.split {
		t = string(w.bytes()[max(0, w.len()-8):]) // does not escape
	} else {
		t = w.name[max(0, w.n-8):w.n]
	}
	i := strings.LastIndexByte(t, '.')
	return i >= 0 && strings.HasPrefix(t[i:], ".str") && isDigits(t[i+4:])
}

// afterAnon reports whether the output ends with the name rustc gives to
// anonymous constants, after which the hash of the crate follows.
func (w *rewriter) afterAnon(body int) bool {
	const anon = "anon"
	n := w.len()
	if n == body+len(anon) {
		if w.split {
			return string(w.bytes()[body:]) == anon
		}
		return w.name[body:n] == anon
	}
	if n == len(".Lanon") {
		return !w.split && w.name[:n] == ".Lanon"
	}
	return w.ends(body, ".Lanon")
}

// result returns the output.
func (w *rewriter) result() string {
	if w.split {
		return string(w.bytes())
	}
	return w.name[:w.n]
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// isDigits reports whether s is one or more decimal digits.
func isDigits(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isDigit(s[i]) {
			return false
		}
	}
	return s != ""
}

// isHex reports whether s is one or more hexadecimal digits.
func isHex(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !isDigit(c) && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return s != ""
}

// isHash reports whether s looks like a hash of 64 bits or more in hexadecimal.
func isHash(s string) bool { return len(s) >= 16 && isHex(s) }
