// Nothing but an assembled displacement: two functions of one size change places, the caller's bytes are equal.
	.file "merged-swap-asm.c"
	.text
	.macro func name value
	.type \name, @function
\name:
	movl $\value, %eax
	ret
	.size \name, . - \name
	.balign 16, 0x90
	.endm
#ifdef PATCHED
	func two 2
	func one 1
#else
	func one 1
	func two 2
#endif
	.globl caller
	.type caller, @function
caller:
	call .text
	ret
	.size caller, . - caller
	.balign 16, 0x90
	.globl user
	.type user, @function
user:
	jmp one
	.size user, . - user
	.section .note.GNU-stack, "", @progbits
