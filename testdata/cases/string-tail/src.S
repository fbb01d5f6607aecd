// One string, referred to as a whole and at its tail.
	.file "string-tail.c"
	.macro func name label
	.section .text.\name, "ax", @progbits
	.globl \name
	.type \name, @function
\name:
	call __fentry__
	movq $\label, %rdi
	call _printk
	ret
	.size \name, . - \name
	.endm
	func whole .rodata.str1.1
	func tail .rodata.str1.1 + 3
	func whole_two .rodata.str1.1 + 7
	func tail_two .rodata.str1.1 + 10
	.section .rodata.str1.1, "aMS", @progbits, 1
#ifdef PATCHED
	.string "fuobar"
	.string "redgrass"
#else
	.string "foobar"
	.string "redgreen"
#endif
	.section .note.GNU-stack, "", @progbits
