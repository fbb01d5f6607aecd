// Package runpre proves that an object is what a kernel runs: function by function,
// its code is that of the kernel's image, or of a module's file.
//
// A livepatch is made of the difference between two builds of an object. It is right
// for a kernel only if the first of them is the build that this kernel was linked from.
// Names and sizes do not tell that; the code does.
//
// Code is equal when all bytes outside of relocated fields are, and every relocated
// field leads where the object says: to a symbol of that name, or to equal contents for
// strings and mergeable constants. A reference to a local section cannot be followed by
// name alone. It votes for the address of that section, at which the names of the
// section's symbols must be found; a section on which all agree is anchored.
//
// Anchors tell which of several symbols of one name is the object's, also for
// variables, and so give the Oracle evidence (symbols.Located).
//
// The image is that of a kernel before it boots, so nothing that the kernel does to its
// code shows. What the build does after compiling a single object, does: objtool
// makes NOPs of jumps that static branches disable. In objects that it has not seen
// (kernels with IBT or LTO run it on the linked vmlinux.o) this is taken into account.
//
// Tables beside the code count as parts of it: alternatives, exceptions, static branches, WARN. Not compared are line
// numbers, and the sizes of the kernel's functions, which kallsyms does not have.
//
// Pure: bytes in, values out. The result depends on the arguments alone.
package runpre

import (
	"fmt"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel/image"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/symbols"
)

// Status is what became of a function or datum in the comparison.
type Status uint8

// The statuses.
const (
	// Exact: the kernel has the same code.
	Exact Status = iota + 1
	// Mismatch: the kernel has other code, or none where it must have some.
	Mismatch
	// Weak: a weak definition whose code is not that of the kernel, which runs another definition.
	Weak
	// Absent: the link discards it, or kallsyms leaves it out.
	Absent
	// Incomparable: the object does not say where it ends, or has relocations that cannot be followed.
	Incomparable
	numStatus
)

// String gives the word for a status.
func (s Status) String() string {
	switch s {
	case Exact:
		return "exact"
	case Mismatch:
		return "mismatch"
	case Weak:
		return "weak"
	case Absent:
		return "absent"
	case Incomparable:
		return "incomparable"
	}
	return fmt.Sprintf("status(%d)", uint8(s))
}

// Difference is the first place where object and kernel differ.
type Difference struct {
	Off    uint64 // bytes from the start of the function or datum
	Object string // what the object has there
	Kernel string // what the kernel has
}

// Item is a function, or a section of data, of the object.
type Item struct {
	Sym    object.SymID // of a function
	Sec    object.SecID
	Status Status
	Addr   uint64 // in the kernel; 0 when it is not known (which of several equal ones)
	Equal  int    // of functions: how many of the kernel's of this name have the same code
	Of     int    // how many of this name there are
	// Relaxed: branches of the object have four bytes for their distance where the
	// kernel's have one, as they do when each function has a section of its own.
	Relaxed bool
	Diff    *Difference
	Why     string // what a status other than Exact rests on; for Exact without an address, why it has none
}

// Anchor is where a section of the object lies in the kernel.
type Anchor struct {
	Sec   object.SecID
	Addr  uint64
	Votes int // references and functions that say so
	// Name is set when nothing refers to the section: it lies where the symbols
	// of this and its other names lie, of which there is only one place, or one with its contents.
	Name string
}

// Result is what was found of one object.
type Result struct {
	Funcs   []Item // in the order of the symbol table
	Data    []Item // anchored sections of data, compared as a whole, in the order of the sections
	Counts  [numStatus]int
	Anchors []Anchor // in the order of the sections
	// Located has the address of each symbol that lies in an anchored section and
	// that the kernel has there under its name.
	Located *symbols.Located
	// Unlocated says of each other symbol that the kernel should have why it is not located.
	Unlocated map[object.SymID]string
	// Diagnostics has run-pre-mismatch for each difference, up to a limit.
	Diagnostics []diag.Diagnostic
}

// Count gives how many functions have a status.
func (r *Result) Count(s Status) int {
	if s >= numStatus {
		return 0
	}
	return r.Counts[s]
}

// Refuse gives an error (*diag.Error, run-pre-mismatch) unless all functions that can be compared are equal.
func (r *Result) Refuse() error { return diag.Refuse(r.Diagnostics) }

// Func gives the item of a function symbol.
func (r *Result) Func(sym object.SymID) (*Item, bool) {
	lo, hi := 0, len(r.Funcs)
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if r.Funcs[m].Sym < sym {
			lo = m + 1
		} else {
			hi = m
		}
	}
	if lo < len(r.Funcs) && r.Funcs[lo].Sym == sym {
		return &r.Funcs[lo], true
	}
	return nil, false
}

// Check compares an object with a kernel. The evidence is for an Oracle of the kernel's own table (Kernel.Table). The
// error is that of Kernel.Table.
func Check(f *object.File, k *image.Kernel) (*Result, error) {
	table, err := k.Table()
	if err != nil {
		return nil, err
	}
	return run(f, &vmlinux{k: k}, table, k.Name), nil
}

// CheckModule compares an object with a module's file. The evidence is for an Oracle of the module's own table (Module.Table).
func CheckModule(f *object.File, m *image.Module) *Result {
	return NewModule(m).Check(f)
}

// Module is a module's file, made ready for several objects.
type Module struct{ w *module }

// NewModule makes a module's file ready.
func NewModule(m *image.Module) *Module { return &Module{newModule(m)} }

// Check compares an object with the module.
func (m *Module) Check(f *object.File) *Result {
	return run(f, m.w, m.w.m.Table(), m.w.m.File.Name)
}
