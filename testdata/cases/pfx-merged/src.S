// Call padding under __pfx_ symbols, merged text, entry alignment 16: the prefix belongs to the function after it.
	.file "pfx-merged.c"
	.text
	.macro func name
	.balign 16, 0x90
	.type __pfx_\name, @function
__pfx_\name:
	.fill 16, 1, 0x90
	.size __pfx_\name, 16
	.globl \name
	.type \name, @function
\name:
	call __fentry__
	.endm
	func one
	movl $1, %eax
	ret
	.size one, . - one
	func two
#ifdef PATCHED
	movl $2, %ecx
	movl $3, %edx
	movl $4, %esi
#endif
	movl $2, %eax
	ret
	.size two, . - two
	func three
	call one
	call two
	ret
	.size three, . - three
	.section .note.GNU-stack, "", @progbits
