package klp

import (
	"cmp"
	"debug/elf"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kdelta/kdelta/pkg/object"
)

// Limits of the kernel (spec: struct klp_object and klp_func, include/linux/module.h, include/linux/kallsyms.h).
const (
	MaxObjectName = 55  // bytes of an object's name: MODULE_NAME_LEN with its NUL is 56
	MaxSymbolName = 511 // bytes of a symbol's name: KSYM_NAME_LEN with its NUL is 512
)

// Names of the final form (Documentation/livepatch/module-elf-format.rst).
const RelaPrefix = ".klp.rela."

// CallbackKind says when the kernel calls a callback.
type CallbackKind uint8

// The callbacks of an object, in the order of struct klp_callbacks.
const (
	PrePatch CallbackKind = iota
	PostPatch
	PreUnpatch
	PostUnpatch
	numCallbacks
)

// String gives the kind as section and field names spell it, for example "pre_patch".
func (k CallbackKind) String() string {
	switch k {
	case PrePatch:
		return "pre_patch"
	case PostPatch:
		return "post_patch"
	case PreUnpatch:
		return "pre_unpatch"
	case PostUnpatch:
		return "post_unpatch"
	}
	return "callback(" + strconv.Itoa(int(k)) + ")"
}

// ParseCallbackKind is the inverse of CallbackKind.String.
func ParseCallbackKind(s string) (CallbackKind, bool) {
	for k := range numCallbacks {
		if k.String() == s {
			return k, true
		}
	}
	return 0, false
}

// Callback is a function of the patch that the kernel calls when it patches or unpatches an object.
type Callback struct {
	Object string
	Kind   CallbackKind
	Func   object.SymID
}

// Patch is what the livepatch metadata of a file says, whatever its form. The
// handles in it are indices of File.
type Patch struct {
	File      *object.File
	Objects   []Object // in the order of their first function or entry
	Relocs    []Reloc  // in the order of the sections and entries that say so
	Callbacks []Callback
	Kpatch    *KpatchTables // what only kpatch's form says; nil in other forms
}

// Tuple is a relocation for the livepatch core in a form that can be compared between files and forms.
type Tuple struct {
	Object       string // whose loading makes it possible to resolve
	Section      string // that it applies to
	Off          uint64
	Type         elf.R_X86_64
	SymbolObject string
	Symbol       string
	Pos          uint64
	Addend       int64
}

// String gives "vmlinux .text+0x10 R_X86_64_PC32 vmlinux:name,0 -4".
func (t Tuple) String() string {
	return fmt.Sprintf("%s %s+0x%x %v %s:%s,%d %+d", t.Object, t.Section, t.Off, t.Type, t.SymbolObject, t.Symbol, t.Pos, t.Addend)
}

func compareTuples(a, b Tuple) int {
	return cmp.Or(
		cmp.Compare(a.Object, b.Object),
		cmp.Compare(a.Section, b.Section),
		cmp.Compare(a.Off, b.Off),
		cmp.Compare(a.Type, b.Type),
		cmp.Compare(a.SymbolObject, b.SymbolObject),
		cmp.Compare(a.Symbol, b.Symbol),
		cmp.Compare(a.Pos, b.Pos),
		cmp.Compare(a.Addend, b.Addend),
	)
}

// Tuples lists the relocations, sorted.
func (p *Patch) Tuples() []Tuple {
	out := make([]Tuple, 0, len(p.Relocs))
	for i := range p.Relocs {
		r := &p.Relocs[i]
		out = append(out, Tuple{r.Object, p.File.Sections[r.Sec].Name, r.Off, r.Type, r.Symbol.Object, r.Symbol.Name, r.Symbol.Pos, r.Addend})
	}
	slices.SortFunc(out, compareTuples)
	return out
}

// ParseSymbol is the inverse of Symbol.String. The type is not in a name.
func ParseSymbol(name string) (Symbol, error) {
	rest, ok := strings.CutPrefix(name, SymPrefix)
	if !ok {
		return Symbol{}, fmt.Errorf("the name %s does not start with %s", quote(name), SymPrefix)
	}
	obj, rest, dot := strings.Cut(rest, ".")
	sym, num, comma := strings.Cut(rest, ",")
	if !dot || !comma {
		return Symbol{}, fmt.Errorf("the name %s is not of the form %sOBJECT.NAME,POSITION", quote(name), SymPrefix)
	}
	pos, err := strconv.ParseUint(num, 10, 64)
	if err != nil || len(num) > 1 && num[0] == '0' {
		return Symbol{}, fmt.Errorf("the position in %s is not a decimal number", quote(name))
	}
	s := Symbol{Object: obj, Name: sym, Pos: pos}
	return s, s.check()
}

// check says what keeps the kernel from reading the symbol out of its name.
func (s Symbol) check() error {
	if err := checkObject(s.Object); err != nil {
		return err
	}
	return checkName(s.Name)
}

func checkObject(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("the name of an object is empty")
	case len(name) > MaxObjectName:
		return fmt.Errorf("the object's name %s has %d bytes, limit %d", quote(name), len(name), MaxObjectName)
	case strings.ContainsAny(name, ".,"):
		return fmt.Errorf("the object's name %s holds a dot or comma", quote(name))
	}
	return nil
}

func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("the name of a symbol is empty")
	case len(name) > MaxSymbolName:
		return fmt.Errorf("the symbol's name %s has %d bytes, limit %d", quote(name), len(name), MaxSymbolName)
	case strings.Contains(name, ","):
		return fmt.Errorf("the symbol's name %s holds a comma", quote(name))
	}
	return nil
}

// quote gives a name for messages, cut to a length that people read.
func quote(s string) string {
	if len(s) > 80 {
		return strconv.Quote(s[:80]) + "..."
	}
	return strconv.Quote(s)
}
