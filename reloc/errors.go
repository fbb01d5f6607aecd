package reloc

import (
	"debug/elf"
	"fmt"
)

// Code is the kind of an [Error]. Codes are errors themselves, so that
// errors.Is(err, reloc.Overflow) works.
type Code uint8

const (
	// Unknown is a type that the psABI does not define.
	Unknown Code = iota + 1
	// Unsupported is a type for which the operation has no meaning without a
	// linker: GOT, TLS, sizes, dynamic relocations.
	Unsupported
	// Overflow is a value that does not fit its field.
	Overflow
	// AddendOverflow is an addend or displacement beyond 64 bits signed.
	AddendOverflow
	// Occupied is a field that should be zero and is not.
	Occupied
	// Short is a field that reaches beyond the bytes given.
	Short
	// BadPlace is an instruction end that no instruction with such a field can have.
	BadPlace
)

var codeTexts = [...]string{
	Unknown:        "unknown relocation type",
	Unsupported:    "relocation type needs a linker",
	Overflow:       "value does not fit the relocated field",
	AddendOverflow: "addend out of range",
	Occupied:       "bytes under the relocation are not zero",
	Short:          "relocated field reaches beyond the data",
	BadPlace:       "relocated field and instruction do not match",
}

// Error returns a description of the kind.
func (c Code) Error() string {
	if int(c) < len(codeTexts) && codeTexts[c] != "" {
		return codeTexts[c]
	}
	return fmt.Sprintf("relocation error %d", uint8(c))
}

// Error says what is wrong with a relocation. The package does not know names
// of files, sections and symbols; callers that do wrap it.
type Error struct {
	Code Code
	Type elf.R_X86_64
	// Offset is the address or offset of the field as the caller gave it; 0
	// where the operation has none.
	Offset uint64
	// Value is the value, addend or content that was refused; for BadPlace
	// the distance from the field to the end of the instruction.
	Value int64
}

// Error describes the relocation.
func (e *Error) Error() string {
	return fmt.Sprintf("%s at %#x: %v (value %#x)", Name(e.Type), e.Offset, e.Code, e.Value)
}

// Unwrap returns the code.
func (e *Error) Unwrap() error { return e.Code }
