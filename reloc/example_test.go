package reloc_test

import (
	"debug/elf"
	"errors"
	"fmt"

	"github.com/kdelta/kdelta/reloc"
)

// movl $1, x(%rip): the field lies 8 bytes before the end of the instruction.
func ExampleDisplacement() {
	code, _ := reloc.Displacement(elf.R_X86_64_PC32, -8, reloc.Place{Field: 2, End: 10})
	data, _ := reloc.Displacement(elf.R_X86_64_PC32, -8, reloc.Place{Field: 2})
	fmt.Println("code: x +", code)
	fmt.Println("data: x +", data)
	// Output:
	// code: x + 0
	// data: x + -8
}

// call .text.foo+12 is a call of foo, which lies 16 bytes into its section.
func ExampleRetarget() {
	a, _ := reloc.Retarget(elf.R_X86_64_PLT32, 12, 0, 16)
	fmt.Println(a)
	// Output: -4
}

func ExampleApply() {
	field := make([]byte, 4)
	err := reloc.Apply(field, elf.R_X86_64_32, 0xffffffff81000000, 0, 0, reloc.MustBeZero)
	var e *reloc.Error
	fmt.Println(errors.As(err, &e), errors.Is(err, reloc.Overflow))
	fmt.Println(err)
	err = reloc.Apply(field, elf.R_X86_64_32S, 0xffffffff81000000, 0, 0, reloc.MustBeZero)
	fmt.Printf("% x %v\n", field, err)
	// Output:
	// true true
	// R_X86_64_32 at 0x0: value does not fit the relocated field (value -0x7f000000)
	// 00 00 00 81 <nil>
}
