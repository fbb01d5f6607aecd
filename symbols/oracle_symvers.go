package symbols

import (
	"strings"
)

// Export is one line of Module.symvers.
type Export struct {
	Symbol    string
	Module    string // Vmlinux, or the module's name with '_' for '-'
	Type      string // EXPORT_SYMBOL, EXPORT_SYMBOL_GPL ...; empty when the file has no such column
	Namespace string
	CRC       uint32
	Line      int32
}

// Symvers is a Module.symvers: which object exports a symbol, with which checksum.
type Symvers struct {
	Name    string
	Exports []Export // in the order of the file
	names   map[string]int32
	twice   map[string]bool
}

// ParseSymvers reads a Module.symvers in any of its forms:
//
//	CRC symbol module
//	CRC symbol module type
//	CRC symbol namespace module type
//	CRC symbol module type namespace
//
// The module's column is the one in which vmlinux stands, else the first that holds
// a path; the file of an external module may have only those of modules. An empty
// file is fine.
func ParseSymvers(name string, text []byte) (*Symvers, error) {
	return Options{}.ParseSymvers(name, text)
}

// ParseSymvers is the function of that name, within the limits of o.
func (o Options) ParseSymvers(name string, text []byte) (*Symvers, error) {
	s := &Symvers{Name: name, names: make(map[string]int32)}
	all := string(text)
	col := moduleColumn(all)
	var cols [5]string
	for l := (lines{s: all}); l.next(); {
		if strings.TrimSpace(l.line) == "" {
			continue
		}
		n := split(l.line, &cols)
		if n < 3 || n > 5 {
			return nil, malformed(name, l.start, "line %d: %d columns, 3 to 5 are known", l.num, n)
		}
		crc, ok := hexNumber(strings.TrimPrefix(cols[0], "0x"))
		if !ok || crc>>32 != 0 {
			return nil, malformed(name, l.start, "line %d: the checksum %s is no 32-bit hexadecimal number", l.num, quote(cols[0]))
		}
		if col == 0 {
			return nil, malformed(name, l.start, "line %d: no column holds vmlinux or the path of a module", l.num)
		}
		if col >= n {
			return nil, malformed(name, l.start, "line %d: no column %d, in which other lines have the module", l.num, col+1)
		}
		e := Export{CRC: uint32(crc), Symbol: cols[1], Module: normal(cols[col]), Line: int32(l.num)}
		if e.Symbol == "" || e.Module == "" {
			return nil, malformed(name, l.start, "line %d: the symbol or its module is empty", l.num)
		}
		if col == 3 {
			e.Namespace = cols[2]
			if n > 4 {
				e.Type = cols[4]
			}
		} else {
			if n > 3 {
				e.Type = cols[3]
			}
			if n > 4 {
				e.Namespace = cols[4]
			}
		}
		s.add(e)
		if err := o.room(name, &l, len(s.Exports)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// NewSymvers makes a Symvers of exports that were found elsewhere, for example in a kernel's image.
func NewSymvers(name string, exports []Export) *Symvers {
	s := &Symvers{Name: name, Exports: make([]Export, 0, len(exports)), names: make(map[string]int32, len(exports))}
	for _, e := range exports {
		s.add(e)
	}
	return s
}

func (s *Symvers) add(e Export) {
	if i, dup := s.names[e.Symbol]; dup {
		if s.Exports[i].Module != e.Module {
			if s.twice == nil {
				s.twice = make(map[string]bool)
			}
			s.twice[e.Symbol] = true
		}
	} else {
		s.names[e.Symbol] = int32(len(s.Exports))
	}
	s.Exports = append(s.Exports, e)
}

// split cuts a line at its tabs (at blanks where there is none) and gives the number of columns.
func split(line string, cols *[5]string) int {
	clear(cols[:])
	if !strings.Contains(line, "\t") {
		n := 0
		for {
			w, rest := word(line)
			if w == "" {
				return n
			}
			if n < len(cols) {
				cols[n] = w
			}
			line = rest
			n++
		}
	}
	for n := 0; ; n++ {
		w, rest, more := strings.Cut(line, "\t")
		if n < len(cols) {
			cols[n] = w
		}
		if !more {
			// A last column that is empty is the namespace of a symbol without one.
			return n + 1
		}
		line = rest
	}
}

// moduleColumn finds the column of modules, counted from 0; 0 when there is none.
func moduleColumn(text string) int {
	var cols [5]string
	path := 0
	for l := (lines{s: text}); l.next(); {
		n := min(split(l.line, &cols), len(cols))
		for c := n - 1; c >= 2; c-- {
			if cols[c] == Vmlinux {
				return c
			}
		}
		for c := 2; c < n && path == 0; c++ {
			if strings.Contains(cols[c], "/") || strings.HasSuffix(cols[c], ".ko") {
				path = c
			}
		}
	}
	if path != 0 {
		return path
	}
	// An external module in its own directory: a bare name. Types are the words that start with EXPORT_.
	for l := (lines{s: text}); l.next(); {
		n := min(split(l.line, &cols), len(cols))
		for c := 3; c < n; c++ {
			if strings.HasPrefix(cols[c], "EXPORT_") {
				return c - 1
			}
		}
	}
	return 0
}

// Lookup gives the exports of a symbol: ok is false when there is none, or when two objects export it.
func (s *Symvers) Lookup(symbol string) (e Export, ok bool) {
	if s == nil {
		return Export{}, false
	}
	i, ok := s.names[symbol]
	if !ok || s.twice[symbol] {
		return Export{}, false
	}
	return s.Exports[i], true
}

// Exporter gives the object that exports a symbol: Vmlinux or a module's name.
func (s *Symvers) Exporter(symbol string) (objectName string, ok bool) {
	e, ok := s.Lookup(symbol)
	return e.Module, ok
}

// Ambiguous reports whether two objects are said to export the symbol.
func (s *Symvers) Ambiguous(symbol string) bool { return s != nil && s.twice[symbol] }

// ModulesOnly reports whether the symbol is exported to named modules alone
// (EXPORT_SYMBOL_FOR_MODULES, Linux 6.16 and later), which a livepatch is not one of.
func (e *Export) ModulesOnly() bool { return strings.HasPrefix(e.Namespace, "module:") }
