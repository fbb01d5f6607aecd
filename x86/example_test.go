package x86_test

import (
	"fmt"

	"github.com/kdelta/kdelta/x86"
)

func ExampleDecode() {
	code := []byte{0x48, 0x8b, 0x05, 0x10, 0x00, 0x00, 0x00, 0xc3}
	in, err := x86.Decode(code)
	if err != nil {
		fmt.Println(err)
		return
	}
	off, size, v, ok := in.Rel(code)
	fmt.Println(in.Len, in.RIPRelative(), off, size, v, ok)
	fmt.Println(x86.Text(code, in, 0x1000, nil))
	// Output:
	// 7 true 3 4 16 true
	// mov 0x10(%rip),%rax
}

func ExampleWalk() {
	code := []byte{0xf3, 0x0f, 0x1e, 0xfa, 0x31, 0xf6, 0xe9, 0x10, 0x00, 0x00, 0x00}
	for off, in := range x86.Walk(code) {
		fmt.Printf("%d: %s (%v)\n", off, x86.Text(code[off:], in, uint64(off), nil), in.Flow)
	}
	// Output:
	// 0: endbr64 (none)
	// 4: xor %esi,%esi (none)
	// 6: jmp 0x1b (jmp)
}

func ExampleWalker() {
	w := x86.Walker{Code: []byte{0x55, 0x06}}
	for w.Next() {
		fmt.Println(w.Off, w.Inst.Len)
	}
	fmt.Println(w.Off, w.Err)
	// Output:
	// 0 1
	// 1 x86: invalid instruction
}
