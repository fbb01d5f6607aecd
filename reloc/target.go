package reloc

import (
	"debug/elf"
	"math/bits"
)

// Place is where a relocated field lies. Both members count from the same
// start, usually that of the section.
type Place struct {
	// Field is the offset of the first byte of the field.
	Field uint64
	// End is the offset of the first byte behind the instruction that holds
	// the field, if the CPU adds the address of that byte to the field: a
	// RIP-relative operand or a relative branch. It is 0 for everything
	// else: data, and also immediate operands of instructions (mov $x-.,%eax
	// carries R_X86_64_PC32, but the CPU adds nothing).
	End uint64
}

// bias returns what the CPU adds between the field and the end of its
// instruction, in bytes: 0 for data, 1 to 8 otherwise.
func (p Place) bias(i Info, t elf.R_X86_64) (int64, error) {
	// The CPU never adds RIP to 64 bits: PC64 and its kind are operands of
	// movabs, read by the program, even if the caller gives an instruction.
	if p.End == 0 || !i.PCRel || i.Size == 8 {
		return 0, nil
	}
	d := p.End - p.Field
	// Behind a branch offset the instruction ends; behind a 32-bit displacement
	// up to 4 bytes of immediate may follow.
	limit := uint64(i.Size)
	if i.Size == 4 {
		limit += 4
	}
	if p.End < p.Field || d < uint64(i.Size) || d > limit {
		return 0, &Error{BadPlace, t, p.Field, int64(d)}
	}
	return int64(d), nil
}

// Displacement returns what the field really refers to, as a distance in bytes
// from the value of the symbol (or, for types of the classes GOT and TLS, from
// the slot that the linker makes for it):
//
//	absolute, data:      addend
//	PC-relative, code:   addend + (p.End - p.Field)
//
// PC-relative types of 8 bytes are never biased, since the CPU adds RIP to 1,
// 2 and 4 bytes only. R_X86_64_NONE has no field; its addend is returned.
// Displacements may lie outside the symbol: biased array bases, end pointers
// and addends of __pa_symbol (see [PhysOffset]) are legal.
func Displacement(t elf.R_X86_64, addend int64, p Place) (int64, error) {
	return shift(t, addend, p, 1)
}

// Addend is the inverse of [Displacement]: it returns the addend with which a
// field of type t at p refers to the symbol's value plus disp.
func Addend(t elf.R_X86_64, disp int64, p Place) (int64, error) {
	return shift(t, disp, p, -1)
}

func shift(t elf.R_X86_64, v int64, p Place, sign int64) (int64, error) {
	i, ok := Lookup(t)
	if !ok {
		return 0, &Error{Unknown, t, p.Field, v}
	}
	b, err := p.bias(i, t)
	if err != nil {
		return 0, err
	}
	r := v + sign*b // |b| <= 8
	if (r > v) != (sign*b > 0) && b != 0 {
		return 0, &Error{AddendOverflow, t, p.Field, v}
	}
	return r, nil
}

// Retarget returns the addend with which a field that refers to a symbol with
// value from refers to the same byte by a symbol with value to. Both values must
// count from the start of the same section, which is placed as one block.
//
// The byte is from + D, where D is addend plus a bias that depends on the
// instruction only. Demanding to + D' = from + D gives D' = D + from - to, and
// as the bias is the same on both sides,
//
//	addend' = addend + from - to
//
// whatever the type and wherever the field. The sum is exact; an error is
// returned if it does not fit the 64 bits of an addend. Whether S+A-P fits the
// field does not change, because S+A does not.
//
// Types whose value is made from the identity of the symbol rather than its
// address are refused: GOT, TLS, Size, Dynamic, Vtable. Class PLT is accepted:
// with both symbols defined in the same section no linkage table is needed. A
// caller must not use it to go from or to a symbol that is defined elsewhere.
func Retarget(t elf.R_X86_64, addend int64, from, to uint64) (int64, error) {
	i, ok := Lookup(t)
	if !ok {
		return 0, &Error{Code: Unknown, Type: t, Value: addend}
	}
	switch i.Class {
	case None, Absolute, PCRelative, PLT:
	default:
		return 0, &Error{Code: Unsupported, Type: t, Value: addend}
	}
	// 128 bits: from-to alone needs 65.
	lo, c := bits.Add64(uint64(addend), from, 0)
	hi := uint64(addend>>63) + c
	lo, c = bits.Sub64(lo, to, 0)
	hi -= c
	if hi != uint64(int64(lo)>>63) {
		return 0, &Error{Code: AddendOverflow, Type: t, Value: addend}
	}
	return int64(lo), nil
}

// PhysBias is what __pa_symbol(x) adds to the address of x: the kernel computes
// x - __START_KERNEL_map + phys_base, and subtracting 0xffffffff80000000 is
// adding 0x80000000 modulo 2^64. The assembler folds it into the addend.
const PhysBias = 1 << 31

// PhysOffset reports whether a displacement can be one of __pa_symbol, and then
// returns the part without [PhysBias], which points into the symbol again. The
// kernel's image is at most 1 GiB (KERNEL_IMAGE_SIZE), so displacements that
// are less than 1 GiB away from the bias cannot come from an ordinary reference.
//
// It explains a displacement, for a report or to find the symbol that is meant.
// It must not be used to change one: the bias is part of the value, and two
// references that differ in it differ.
func PhysOffset(disp int64) (int64, bool) {
	const limit = 1 << 30
	if disp <= PhysBias-limit || disp >= PhysBias+limit {
		return disp, false
	}
	return disp - PhysBias, true
}
