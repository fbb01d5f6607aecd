// Package reloc knows the relocations of x86-64: what every type means, which
// place a relocated field really refers to, how to refer to the same place by
// another symbol, and how to write the value.
//
// Facts are from the x86-64 psABI 1.0, section 4.4 and table 4.9; which of the types the
// Linux kernel's module loader applies is marked in [Info.Module].
//
// # What a field refers to
//
// A relocation writes S+A (absolute types) or S+A-P (PC-relative types) into a
// field, where S is the value of the symbol, A the addend and P the address of
// the field. Who reads the field decides what that means:
//
//   - Data (a table entry such as .long x - .) is read by software that adds
//     the address of the field: P + (S+A-P) = S+A. The entry refers to S+A.
//   - An instruction with a RIP-relative operand or a relative branch is read
//     by the CPU, which adds the address of the END of the instruction, E:
//     E + (S+A-P) = S + A + (E-P). Therefore call f has the addend -4,
//     movb $1,x(%rip) has -5 and movl $1,x(%rip) has -8, all with the
//     displacement 0.
//   - An absolute field is read as it is: S+A, wherever it lies.
//
// [Displacement] computes what is added to S in each case and [Addend] is its
// inverse. The difference E-P depends on the instruction alone, not on the symbol, so
// going from one symbol to another never needs the instruction: see [Retarget].
//
// # Trust
//
// All arithmetic that could leave its range is checked, and an error says so.
// A result is never clipped. Functions panic on no input.
package reloc
