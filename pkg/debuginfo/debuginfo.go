// Package debuginfo answers questions about code from the DWARF of an object:
// the source line of an instruction, the functions that were inlined there, and
// the structures that a function uses. Layout compares the structures that
// functions of two builds use.
//
// Places are given by section and offset. In a relocatable object most sections
// have address 0, and with -ffunction-sections every function does, so an address
// alone says nothing there. The package therefore applies the relocations of the
// debug sections itself, with every section moved to an address of its own: section
// i starts at i<<32. In other kinds of files the section's own address counts.
//
// Load looks at headers alone. Everything else is read when somebody asks first:
// line programs and the entries of a unit one unit at a time. DWARF 2 to 5 is
// understood, compressed sections (zlib and zstd, SHF_COMPRESSED and .zdebug_)
// included; split DWARF (.dwo) and type units are not, and give no answers.
//
// # Trust
//
// Debug information decides nothing: it explains. An object without it gives an
// Info without answers, and so does one whose debug information is damaged, with
// the first problem in Info.Err. Input is not trusted: what is read is bounded by
// Options, panics of debug/elf and debug/dwarf are caught, nothing recurses
// deeply, and the work of all questions together is near-linear in the size of the
// debug sections.
//
// An Info may be shared by goroutines; the questions wait for one another.
package debuginfo

import (
	"debug/dwarf"
	"debug/elf"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Options are limits. The zero value means the defaults.
type Options struct {
	MaxBytes uint64 // of debug sections, uncompressed; 0 means 4 GB
	MaxSteps uint64 // of work: entries and attributes read; 0 means enough to read everything several times
}

// Place is a position in an object. Section is an ELF section index; 0 is no place.
type Place struct {
	Section int
	Off     uint64
}

// Pos is a position in source code, as the debug information names it.
type Pos struct {
	File string // relative to the directory of compilation where the compiler says so
	Line int
}

// String gives "file:line", "" when nothing is known.
func (p Pos) String() string {
	if p.File == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// Inline is a function whose code was inlined.
type Inline struct {
	Name string
	Call Pos // where it is called
}

// errLimit says that a limit of Options was reached.
var errLimit = errors.New("limit on the work for debug information reached")

// Info is the debug information of one object.
type Info struct {
	opts    Options
	data    []byte
	file    *elf.File
	kind    elf.Type
	bases   []uint64 // by section
	syms    symtab
	present bool

	mu     sync.Mutex
	err    error
	steps  uint64 // left
	bytes  uint64 // left
	opened bool
	dw     *dwarf.Data
	lines  []byte // .debug_line
	str    []byte // .debug_str
	lstr   []byte // .debug_line_str
	units  []*unit
	spans  []span // of units, by address
	types  map[dwarf.Offset]*typ
	aggs   map[dwarf.Offset]*Struct
	trees  map[dwarf.Offset]*tree
	sets   map[dwarf.Offset]*useSet // by the offset of a subprogram
}

// Load reads the headers of an ELF file. Data must not change afterwards. The
// error says that it is no ELF file of a kind that is understood (64 bits,
// little-endian, x86-64); an object without debug information is no error.
func Load(data []byte, opts Options) (in *Info, err error) {
	defer func() {
		if p := recover(); p != nil {
			in, err = nil, fmt.Errorf("read ELF: %v", p)
		}
	}()
	if opts.MaxBytes == 0 {
		opts.MaxBytes = 4 << 30
	}
	in = &Info{opts: opts, data: data}
	if err := in.readELF(); err != nil {
		return nil, fmt.Errorf("read ELF: %w", err)
	}
	return in, nil
}

// Present reports whether the object has DWARF.
func (in *Info) Present() bool { return in != nil && in.present }

// Err gives the first problem that was met while reading debug information. The
// answers up to then stand; later ones may be missing.
func (in *Info) Err() error {
	if in == nil {
		return nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.err
}

// ask runs f with the debug sections open. Whatever goes wrong ends in Err.
func (in *Info) ask(f func()) {
	if !in.Present() {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	defer func() {
		if p := recover(); p != nil {
			in.fail(fmt.Errorf("read DWARF: %v", p))
		}
	}()
	if !in.opened {
		in.opened = true
		if err := in.open(); err != nil {
			in.dw, in.units, in.spans = nil, nil, nil
			in.fail(fmt.Errorf("read DWARF: %w", err))
		}
	}
	if in.dw != nil {
		f()
	}
}

func (in *Info) fail(err error) {
	if in.err == nil {
		in.err = err
	}
}

// spend takes n steps from the budget; false when there are not as many.
func (in *Info) spend(n int) bool {
	if uint64(n) > in.steps {
		in.steps = 0
		in.fail(errLimit)
		return false
	}
	in.steps -= uint64(n)
	return true
}

// Line gives the source line of the instruction at a place.
func (in *Info) Line(p Place) (pos Pos, ok bool) {
	in.ask(func() {
		if addr, known := in.addr(p); known {
			if u := in.unitAt(addr); u != nil {
				pos, ok = in.lineTable(u).at(addr)
			}
		}
	})
	return pos, ok
}

// Inlined gives the functions of which an inlined copy holds the instruction at
// a place, the outermost first: the last one is where the code was written.
func (in *Info) Inlined(p Place) (chain []Inline) {
	in.ask(func() {
		addr, known := in.addr(p)
		if !known {
			return
		}
		u, fn := in.functionAt(addr)
		if fn == nil {
			return
		}
		t := in.tree(u, fn.off)
		for _, s := range t.inlined { // in the order of nesting
			if s.has(addr) {
				f := in.lineTable(u).file(s.callFile)
				chain = append(chain, Inline{Name: s.name, Call: Pos{f, s.callLine}})
			}
		}
	})
	return chain
}

// Function gives the name that the source has for the function at a place, and where it is declared.
func (in *Info) Function(p Place) (name string, decl Pos, ok bool) {
	in.ask(func() {
		if addr, known := in.addr(p); known {
			if u, fn := in.functionAt(addr); fn != nil {
				name, ok = fn.name, true
				decl = Pos{in.lineTable(u).file(fn.declFile), fn.declLine}
			}
		}
	})
	return name, decl, ok
}

// InlinedInto gives the names of all functions that were inlined anywhere in the
// function at a place, in the order in which they are met, each once.
func (in *Info) InlinedInto(p Place) (names []string) {
	in.ask(func() {
		addr, known := in.addr(p)
		if !known {
			return
		}
		u, fn := in.functionAt(addr)
		if fn == nil {
			return
		}
		for _, s := range in.tree(u, fn.off).inlined {
			if s.name != "" && !slices.Contains(names, s.name) {
				names = append(names, s.name)
			}
		}
	})
	return names
}
