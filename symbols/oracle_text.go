package symbols

import (
	"debug/elf"
	"slices"
	"strconv"
	"strings"

	"github.com/kdelta/kdelta/pkg/diag"
)

// Options tells the parsers of texts how much to accept. The zero value is useful, and
// what the functions of the package take; the methods are those functions with other limits.
type Options struct {
	MaxEntries int // symbols or exports of one text, 2^28 at most; 0: 64 million
}

const (
	defaultMaxEntries = 64 << 20
	mostEntries       = 1 << 28 // indices are 32 bits wide
)

func (o Options) maxEntries() int {
	if o.MaxEntries <= 0 {
		return defaultMaxEntries
	}
	return min(o.MaxEntries, mostEntries)
}

// room refuses one entry more than the limit: it is the n-th, in the line at which l is.
func (o Options) room(name string, l *lines, n int) error {
	if limit := o.maxEntries(); n > limit {
		return problem(diag.SymbolsLimit, name, l.start, "line %d: more than %d entries", l.num, limit)
	}
	return nil
}

// lines iterates over text: each line without its end, its number from 1, and where it starts.
type lines struct {
	s          string
	pos        int
	line       string
	num, start int
}

func (l *lines) next() bool {
	if l.pos >= len(l.s) {
		return false
	}
	l.start = l.pos
	l.num++
	if i := strings.IndexByte(l.s[l.pos:], '\n'); i >= 0 {
		l.line, l.pos = l.s[l.pos:l.pos+i], l.pos+i+1
	} else {
		l.line, l.pos = l.s[l.pos:], len(l.s)
	}
	l.line = strings.TrimSuffix(l.line, "\r")
	return true
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// word cuts the first word off s.
func word(s string) (w, rest string) {
	for s != "" && blank(s[0]) {
		s = s[1:]
	}
	i := 0
	for i < len(s) && !blank(s[i]) {
		i++
	}
	return s[:i], s[i:]
}

func hexNumber(s string) (v uint64, ok bool) {
	if s == "" || len(s) > 16 {
		return 0, false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		v = v<<4 | uint64(c)
	}
	return v, true
}

// ParseReadelf reads what readelf -s --wide prints of one file: vmlinux (objectName
// Vmlinux), a module or a single object. Lines may have any length; a table
// .dynsym is skipped; sizes are decimal or 0x hexadecimal; notes like
// [<localentry>: 8] may stand before or after the name; types and bindings that
// it does not know stay words. A line that starts like a symbol and is none, names that
// readelf cut and a second symbol table are refused with the line.
func ParseReadelf(name, objectName string, text []byte) (*Table, error) {
	return Options{}.ParseReadelf(name, objectName, text)
}

// ParseReadelf is the function of that name, within the limits of o.
func (o Options) ParseReadelf(name, objectName string, text []byte) (*Table, error) {
	p := readelfParser{t: &Table{Name: name, Object: normal(objectName), Order: ByAddress}, file: -1}
	p.t.Entries = make([]Entry, 0, min(len(text)/72, o.maxEntries()))
	zero, funcs := 0, 0
	skip, seen := false, false
	for l := (lines{s: string(text)}); l.next(); {
		s := strings.TrimLeft(l.line, " \t")
		if rest, ok := strings.CutPrefix(s, "Symbol table '"); ok {
			tab, _, _ := strings.Cut(rest, "'")
			skip = tab == ".dynsym"
			if !skip && seen {
				return nil, malformed(name, l.start, "line %d: a second symbol table; give the text of one file", l.num)
			}
			seen = seen || !skip
			continue
		}
		if skip || !numbered(s) {
			continue
		}
		if what := p.symbol(s); what != "" {
			return nil, malformed(name, l.start, "line %d: %s", l.num, what)
		}
		if err := o.room(name, &l, len(p.t.Entries)); err != nil {
			return nil, err
		}
		if e := &p.t.Entries[len(p.t.Entries)-1]; elf.SymType(e.Type) == elf.STT_FUNC && e.Flags&EntryUndefined == 0 {
			funcs++
			if e.Addr < 1<<24 {
				zero++
			}
		}
	}
	t := p.t
	if len(t.Entries) == 0 {
		return nil, malformed(name, 0, "no symbol in it; is it the output of readelf -s --wide?")
	}
	t.closeBlock(len(t.Entries))
	// The text does not say what kind of file it is of. Functions of a linked kernel lie high.
	relocatable := 2*zero > funcs
	switch {
	case t.Object != Vmlinux:
		t.Order = AsListed
	case relocatable:
		t.Order = Unordered
	}
	for i := range t.Entries {
		e := &t.Entries[i]
		fl := p.secs[e.Sec]
		if !relocatable {
			fl &= EntryCode
		}
		if e.Flags&(EntryMeta|EntryUndefined) == 0 {
			e.Flags |= fl
			if elf.SymType(e.Type) == elf.STT_FUNC {
				e.Flags |= EntryCode
			}
		}
	}
	return t, nil
}

// numbered reports whether a line starts with a symbol's number and a colon.
func numbered(s string) bool {
	i := skipDigits(s, 0)
	return i > 0 && i < len(s) && s[i] == ':'
}

type readelfParser struct {
	t    *Table
	file int32
	secs map[uint32]EntryFlags
}

var (
	readelfTypes = map[string]elf.SymType{"NOTYPE": 0, "OBJECT": 1, "FUNC": 2, "SECTION": 3, "FILE": 4, "COMMON": 5, "TLS": 6, "IFUNC": 10}
	readelfBinds = map[string]elf.SymBind{"LOCAL": 0, "GLOBAL": 1, "WEAK": 2, "UNIQUE": 10}
)

// symbol reads one line; it says what is wrong with it.
func (p *readelfParser) symbol(s string) (what string) {
	_, s = word(s) // the number
	value, s := word(s)
	size, s := word(s)
	typ, s := special(s)
	bind, s := special(s)
	vis, s := word(s)
	for {
		rest, ok := note(s)
		if !ok {
			break
		}
		s = rest
	}
	ndx, s := word(s)
	e := Entry{File: -1}
	var ok bool
	if e.Addr, ok = hexNumber(value); !ok {
		return "the value " + quote(value) + " is no hexadecimal number"
	}
	if h, isHex := strings.CutPrefix(size, "0x"); isHex {
		e.Size, ok = hexNumber(h)
	} else {
		var err error
		e.Size, err = strconv.ParseUint(size, 10, 64)
		ok = err == nil
	}
	if !ok {
		return "the size " + quote(size) + " is no number"
	}
	if ndx == "" || vis == "" {
		return "it has fewer than seven columns"
	}
	switch ndx {
	case "UND":
		e.Flags |= EntryUndefined
	case "ABS":
		e.Flags |= EntryAbs | EntryInit
	case "COM", "LRG_COM", "SCOM", "ANSI_COM":
		e.Flags |= EntryInit
	default:
		if n, err := strconv.ParseUint(ndx, 10, 32); err == nil {
			e.Sec = uint32(n)
			break
		}
		// Words with the number in brackets: PRC[0xff01], OS [0xff20], RSV[0xff3f], bad section index[ ...
		if i := strings.IndexByte(s, ']'); !strings.Contains(ndx, "]") && i >= 0 {
			s = s[i+1:]
		}
		e.Flags |= EntryAbs | EntryInit
	}
	if s != "" && blank(s[0]) {
		s = s[1:]
	}
	s = strings.TrimLeft(s, " \t")
	for strings.HasSuffix(s, "]") {
		i := strings.LastIndexByte(s, '[')
		if i < 0 {
			break
		}
		if s[i:] == "[...]" {
			return "the name is cut; use readelf --wide"
		}
		if !strings.HasPrefix(s[i:], "[<localentry>") && !strings.HasPrefix(s[i:], "[<other>") {
			break
		}
		s = strings.TrimRight(s[:i], " \t")
	}
	e.Name = s
	t, known := readelfTypes[typ]
	e.Type = uint8(t)
	if !known {
		if e.Type, ok = p.word(typ); !ok {
			return "too many unknown words"
		}
	}
	b, known := readelfBinds[bind]
	e.Bind = uint8(b)
	if !known {
		if e.Bind, ok = p.word(bind); !ok {
			return "too many unknown words"
		}
	}
	switch {
	case typ == "FILE":
		e.Flags = EntryMeta
		p.file = p.t.block(e.Name, len(p.t.Entries))
	case typ == "SECTION":
		e.Flags = EntryMeta
		p.section(e.Sec, e.Name)
	case e.Name == "":
		e.Flags |= EntryMeta
	case e.Local():
		e.File = p.file
	}
	p.t.Entries = append(p.t.Entries, e)
	return ""
}

// section notes what a section's name, which newer versions of readelf print, says of its symbols.
func (p *readelfParser) section(sec uint32, name string) {
	var fl EntryFlags
	if strings.HasPrefix(name, ".init") || name == ".modinfo" {
		fl |= EntryInit
	}
	if strings.HasPrefix(name, ".text") || strings.HasPrefix(name, ".init.text") {
		fl |= EntryCode
	}
	if discardedSection(name) || strings.HasPrefix(name, ".debug") || name == ".comment" {
		fl |= EntryDiscarded | EntryInit
	}
	if fl == 0 {
		return
	}
	if p.secs == nil {
		p.secs = make(map[uint32]EntryFlags)
	}
	p.secs[sec] = fl
}

// word keeps a word of readelf's; words of the form <...>: N are numbers.
func (p *readelfParser) word(w string) (uint8, bool) {
	if i := strings.LastIndex(w, ">: "); i >= 0 {
		if n, err := strconv.ParseUint(w[i+3:], 10, 8); err == nil && n < 16 {
			return uint8(n), true
		}
	}
	i := slices.Index(p.t.Words, w)
	if i < 0 {
		i = len(p.t.Words)
		if i >= 200 {
			return 0, false
		}
		p.t.Words = append(p.t.Words, strings.Clone(w))
	}
	return uint8(16 + i), true
}

// special cuts a word that may be of the form <OS specific>: 10.
func special(s string) (w, rest string) {
	t := strings.TrimLeft(s, " \t")
	if !strings.HasPrefix(t, "<") {
		return word(s)
	}
	i := strings.Index(t, ">: ")
	if i < 0 || i > 40 {
		return word(s)
	}
	j := skipDigits(t, i+3)
	return t[:j], t[j:]
}

// note cuts a remark in brackets.
func note(s string) (rest string, ok bool) {
	s = strings.TrimLeft(s, " \t")
	if !strings.HasPrefix(s, "[") {
		return s, false
	}
	i := strings.IndexByte(s, ']')
	if i < 0 {
		return s, false
	}
	return s[i+1:], true
}

func quote(s string) string {
	if len(s) > 40 {
		s = s[:40] + "..."
	}
	return strconv.Quote(s)
}

// ParseKallsyms reads the text of /proc/kallsyms: one table for each kernel
// object, the kernel's own first. Addresses may all be zero, as users without privilege
// see them: the order of the lines is what counts. When addresses are there and do
// not rise the lines were sorted by something else, and the table is ByAddress.
func ParseKallsyms(name string, text []byte) ([]*Table, error) {
	return Options{}.ParseKallsyms(name, text)
}

// ParseKallsyms is the function of that name, within the limits of o.
func (o Options) ParseKallsyms(name string, text []byte) ([]*Table, error) {
	return o.parseNM(name, text, true)
}

// ParseSystemMap reads a System.map, or what nm -n prints of vmlinux.
func ParseSystemMap(name string, text []byte) (*Table, error) {
	return Options{}.ParseSystemMap(name, text)
}

// ParseSystemMap is the function of that name, within the limits of o.
func (o Options) ParseSystemMap(name string, text []byte) (*Table, error) {
	ts, err := o.parseNM(name, text, false)
	if err != nil {
		return nil, err
	}
	return ts[0], nil
}

func (o Options) parseNM(name string, text []byte, modules bool) ([]*Table, error) {
	vm := &Table{Name: name, Object: Vmlinux, Order: AsListed, Text: true, Entries: make([]Entry, 0, min(len(text)/40, o.maxEntries()))}
	ts := []*Table{vm}
	index := map[string]*Table{}
	t, last := vm, ""
	total := 0
	for l := (lines{s: string(text)}); l.next(); {
		if strings.TrimLeft(l.line, " \t") == "" {
			continue
		}
		e, mod, what := nmLine(l.line)
		if what == "" && mod != "" && !modules {
			what = "a System.map holds no module's symbols"
		}
		if what != "" {
			return nil, malformed(name, l.start, "line %d: %s", l.num, what)
		}
		total++
		if err := o.room(name, &l, total); err != nil {
			return nil, err
		}
		if mod != last {
			t, last = vm, mod
			if mod != "" {
				if t = index[mod]; t == nil {
					t = &Table{Name: name, Object: normal(mod), Order: AsListed, Core: true, Text: true}
					index[mod] = t
					ts = append(ts, t)
				}
			}
		}
		t.Entries = append(t.Entries, e)
	}
	if total == 0 {
		return nil, malformed(name, 0, "no symbol in it")
	}
	prev := uint64(0)
	for i := range vm.Entries {
		if vm.Entries[i].Addr < prev {
			vm.Order = ByAddress
			break
		}
		prev = vm.Entries[i].Addr
	}
	return ts, nil
}

// nmLine reads "address letter name" with a "[module]" behind it.
func nmLine(s string) (e Entry, mod, what string) {
	addr, s := word(s)
	kind, s := word(s)
	e.File = -1
	switch {
	case kind != "" && (addr == "U" || addr == "w" || addr == "v"): // no address
		e.Kind, e.Name, e.Flags = addr[0], kind, EntryUndefined
		return e, "", ""
	case len(kind) != 1:
		return e, "", "no letter in the second column"
	}
	var ok bool
	if e.Addr, ok = hexNumber(addr); !ok {
		return e, "", "the address " + quote(addr) + " is no hexadecimal number"
	}
	for s != "" && blank(s[0]) {
		s = s[1:]
	}
	if i := strings.IndexByte(s, '\t'); i >= 0 {
		mod = strings.TrimSpace(s[i:])
		s = s[:i]
	} else if i := strings.LastIndex(s, " ["); i >= 0 && strings.HasSuffix(s, "]") {
		mod = s[i+1:]
		s = s[:i]
	}
	e.Name = strings.TrimRight(s, " ")
	if e.Name == "" {
		return e, "", "no name"
	}
	if mod != "" {
		if len(mod) < 3 || mod[0] != '[' || mod[len(mod)-1] != ']' {
			return e, "", "the module " + quote(mod) + " is not in brackets"
		}
		mod = mod[1 : len(mod)-1]
	}
	if strings.HasPrefix(e.Name, "The real System.map is in") {
		return e, "", "a stub that the distribution installs in the place of the real System.map"
	}
	if strings.ContainsRune(e.Name, ' ') {
		return e, "", "more than three columns"
	}
	if e.Kind = kind[0]; !e.fromKind() {
		return e, "", "the letter " + quote(kind) + " is none of nm's"
	}
	return e, mod, ""
}

// fromKind fills in what the letter of nm says; ok is false for one that is none.
func (e *Entry) fromKind() (ok bool) {
	c := e.Kind
	switch c {
	case 't', 'T':
		e.Type, e.Flags = uint8(elf.STT_FUNC), EntryCode
	case 'A', 'a':
		e.Flags = EntryUnbound // per-CPU symbols of vmlinux, whatever their binding
	case 'U':
		e.Flags = EntryUndefined
	case 'W', 'w', 'V', 'v', 'u', 'i':
		// Code or data, the letter does not say which.
	default:
		if c|0x20 < 'a' || c|0x20 > 'z' {
			if c != '-' && c != '?' {
				return false
			}
			e.Flags = EntryUnbound
		} else {
			e.Type = uint8(elf.STT_OBJECT)
		}
	}
	switch {
	case c == 'W' || c == 'V' || c == 'w' || c == 'v':
		e.Bind = uint8(elf.STB_WEAK)
	case c == 'u' || c >= 'A' && c <= 'Z':
		e.Bind = uint8(elf.STB_GLOBAL)
	}
	return true
}

// FromKallsyms makes a Table of what kallsyms holds of one kernel object, given as
// n symbols in the kernel's order: address, letter of nm, name. It is what
// ParseKallsyms makes of the text.
func FromKallsyms(name, objectName string, n int, at func(i int) (addr uint64, kind byte, name string)) (*Table, error) {
	if n > defaultMaxEntries {
		return nil, problem(diag.SymbolsLimit, name, 0, "%d symbols, limit %d", n, defaultMaxEntries)
	}
	t := &Table{Name: name, Object: normal(objectName), Order: AsListed, Text: true, Entries: make([]Entry, n)}
	prev := uint64(0)
	for i := range t.Entries {
		e := &t.Entries[i]
		e.File = -1
		e.Addr, e.Kind, e.Name = at(i)
		if !e.fromKind() {
			return nil, malformed(name, i, "symbol %d: the letter %s is none of nm's", i, quote(string(rune(e.Kind))))
		}
		if e.Addr < prev {
			t.Order = ByAddress
		}
		prev = e.Addr
	}
	return t, nil
}
