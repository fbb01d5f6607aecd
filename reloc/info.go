package reloc

import (
	"debug/elf"
	"strconv"
)

// Class says against what a relocation is computed.
type Class uint8

const (
	// None has no field: R_X86_64_NONE and markers.
	None Class = iota
	// Absolute is S+A.
	Absolute
	// PCRelative is S+A-P.
	PCRelative
	// PLT is L+A-P or L-GOT+A, where L is the entry of the symbol in the
	// procedure linkage table. Linkers use S for L if the symbol is defined
	// in the output, and the kernel always does.
	PLT
	// GOT involves the global offset table: a slot of it or its base.
	GOT
	// TLS involves thread-local storage.
	TLS
	// Size is Z+A, where Z is the size of the symbol.
	Size
	// Dynamic is for the dynamic loader and does not occur in object files.
	Dynamic
	// Vtable is a marker for garbage collection of C++ vtables.
	Vtable
)

var classNames = [...]string{"none", "absolute", "pcrel", "plt", "got", "tls", "size", "dynamic", "vtable"}

// String returns the name of the class in lower case.
func (c Class) String() string { return nameOf(classNames[:], uint8(c)) }

// Check says which values fit the field.
type Check uint8

const (
	// Wrap takes all values: the field is as wide as an address (or there is
	// none), so arithmetic is modulo 2^64.
	Wrap Check = iota
	// Signed takes values that sign extension of the field restores.
	Signed
	// Unsigned takes values that zero extension of the field restores.
	Unsigned
	// Either takes what Signed or Unsigned takes. The psABI leaves the check
	// of R_X86_64_8 and R_X86_64_16 open; linkers accept both.
	Either
)

var checkNames = [...]string{"wrap", "signed", "unsigned", "either"}

// String returns the name of the check in lower case.
func (c Check) String() string { return nameOf(checkNames[:], uint8(c)) }

func nameOf(names []string, i uint8) string {
	if int(i) < len(names) {
		return names[i]
	}
	return strconv.Itoa(int(i))
}

// Types that debug/elf does not name. The numbers 43 to 51 are the psABI's for
// instructions of APX with a prefix of 4, 5 or 6 bytes of opcode.
const (
	R_X86_64_CODE_4_GOTPCRELX       elf.R_X86_64 = 43
	R_X86_64_CODE_4_GOTTPOFF        elf.R_X86_64 = 44
	R_X86_64_CODE_4_GOTPC32_TLSDESC elf.R_X86_64 = 45
	R_X86_64_CODE_5_GOTPCRELX       elf.R_X86_64 = 46
	R_X86_64_CODE_5_GOTTPOFF        elf.R_X86_64 = 47
	R_X86_64_CODE_5_GOTPC32_TLSDESC elf.R_X86_64 = 48
	R_X86_64_CODE_6_GOTPCRELX       elf.R_X86_64 = 49
	R_X86_64_CODE_6_GOTTPOFF        elf.R_X86_64 = 50
	R_X86_64_CODE_6_GOTPC32_TLSDESC elf.R_X86_64 = 51
	R_X86_64_GNU_VTINHERIT          elf.R_X86_64 = 250
	R_X86_64_GNU_VTENTRY            elf.R_X86_64 = 251
)

// Info describes a relocation type.
type Info struct {
	// Name is the psABI's name, R_X86_64_PC32.
	Name string
	// Size is the width of the field in bytes: 0, 1, 2, 4, 8, or 16 for
	// R_X86_64_TLSDESC.
	Size uint8
	// PCRel says that P, the address of the field, is subtracted.
	PCRel bool
	// Check says which values fit.
	Check Check
	// Class says against what the value is computed.
	Class Class
	// Module says that the kernel's module loader applies the type (Linux
	// 6.1 to 7.2). It rejects objects with any other.
	Module bool
}

// Lookup returns what is known of t; false if the psABI does not define it.
func Lookup(t elf.R_X86_64) (Info, bool) {
	if uint(t) < uint(len(infos)) {
		return infos[t], true
	}
	switch t {
	case R_X86_64_GNU_VTINHERIT:
		return Info{"R_X86_64_GNU_VTINHERIT", 0, false, Wrap, Vtable, false}, true
	case R_X86_64_GNU_VTENTRY:
		return Info{"R_X86_64_GNU_VTENTRY", 0, false, Wrap, Vtable, false}, true
	}
	return Info{}, false
}

// Name returns the name of t also where debug/elf does not know it, and
// R_X86_64_<number> if nobody does.
func Name(t elf.R_X86_64) string {
	if i, ok := Lookup(t); ok {
		return i.Name
	}
	return "R_X86_64_" + strconv.Itoa(int(t))
}

// infos is indexed by type. Every number from 0 to 51 is defined.
var infos = [...]Info{
	0:  {"R_X86_64_NONE", 0, false, Wrap, None, true},
	1:  {"R_X86_64_64", 8, false, Wrap, Absolute, true},
	2:  {"R_X86_64_PC32", 4, true, Signed, PCRelative, true},
	3:  {"R_X86_64_GOT32", 4, false, Signed, GOT, false},
	4:  {"R_X86_64_PLT32", 4, true, Signed, PLT, true},
	5:  {"R_X86_64_COPY", 0, false, Wrap, Dynamic, false},
	6:  {"R_X86_64_GLOB_DAT", 8, false, Wrap, Dynamic, false},
	7:  {"R_X86_64_JMP_SLOT", 8, false, Wrap, Dynamic, false},
	8:  {"R_X86_64_RELATIVE", 8, false, Wrap, Dynamic, false},
	9:  {"R_X86_64_GOTPCREL", 4, true, Signed, GOT, false},
	10: {"R_X86_64_32", 4, false, Unsigned, Absolute, true},
	11: {"R_X86_64_32S", 4, false, Signed, Absolute, true},
	12: {"R_X86_64_16", 2, false, Either, Absolute, false},
	13: {"R_X86_64_PC16", 2, true, Signed, PCRelative, false},
	14: {"R_X86_64_8", 1, false, Either, Absolute, false},
	15: {"R_X86_64_PC8", 1, true, Signed, PCRelative, false},
	16: {"R_X86_64_DTPMOD64", 8, false, Wrap, TLS, false},
	17: {"R_X86_64_DTPOFF64", 8, false, Wrap, TLS, false},
	18: {"R_X86_64_TPOFF64", 8, false, Wrap, TLS, false},
	19: {"R_X86_64_TLSGD", 4, true, Signed, TLS, false},
	20: {"R_X86_64_TLSLD", 4, true, Signed, TLS, false},
	21: {"R_X86_64_DTPOFF32", 4, false, Signed, TLS, false},
	22: {"R_X86_64_GOTTPOFF", 4, true, Signed, TLS, false},
	23: {"R_X86_64_TPOFF32", 4, false, Signed, TLS, false},
	24: {"R_X86_64_PC64", 8, true, Wrap, PCRelative, true},
	25: {"R_X86_64_GOTOFF64", 8, false, Wrap, GOT, false},
	26: {"R_X86_64_GOTPC32", 4, true, Signed, GOT, false},
	27: {"R_X86_64_GOT64", 8, false, Wrap, GOT, false},
	28: {"R_X86_64_GOTPCREL64", 8, true, Wrap, GOT, false},
	29: {"R_X86_64_GOTPC64", 8, true, Wrap, GOT, false},
	30: {"R_X86_64_GOTPLT64", 8, false, Wrap, GOT, false},
	31: {"R_X86_64_PLTOFF64", 8, false, Wrap, PLT, false},
	32: {"R_X86_64_SIZE32", 4, false, Unsigned, Size, false},
	33: {"R_X86_64_SIZE64", 8, false, Wrap, Size, false},
	34: {"R_X86_64_GOTPC32_TLSDESC", 4, true, Signed, TLS, false},
	35: {"R_X86_64_TLSDESC_CALL", 0, false, Wrap, TLS, false},
	36: {"R_X86_64_TLSDESC", 16, false, Wrap, TLS, false},
	37: {"R_X86_64_IRELATIVE", 8, false, Wrap, Dynamic, false},
	38: {"R_X86_64_RELATIVE64", 8, false, Wrap, Dynamic, false},
	39: {"R_X86_64_PC32_BND", 4, true, Signed, PCRelative, false}, // MPX, withdrawn
	40: {"R_X86_64_PLT32_BND", 4, true, Signed, PLT, false},       // MPX, withdrawn
	41: {"R_X86_64_GOTPCRELX", 4, true, Signed, GOT, false},
	42: {"R_X86_64_REX_GOTPCRELX", 4, true, Signed, GOT, false},
	43: {"R_X86_64_CODE_4_GOTPCRELX", 4, true, Signed, GOT, false},
	44: {"R_X86_64_CODE_4_GOTTPOFF", 4, true, Signed, TLS, false},
	45: {"R_X86_64_CODE_4_GOTPC32_TLSDESC", 4, true, Signed, TLS, false},
	46: {"R_X86_64_CODE_5_GOTPCRELX", 4, true, Signed, GOT, false},
	47: {"R_X86_64_CODE_5_GOTTPOFF", 4, true, Signed, TLS, false},
	48: {"R_X86_64_CODE_5_GOTPC32_TLSDESC", 4, true, Signed, TLS, false},
	49: {"R_X86_64_CODE_6_GOTPCRELX", 4, true, Signed, GOT, false},
	50: {"R_X86_64_CODE_6_GOTTPOFF", 4, true, Signed, TLS, false},
	51: {"R_X86_64_CODE_6_GOTPC32_TLSDESC", 4, true, Signed, TLS, false},
}
