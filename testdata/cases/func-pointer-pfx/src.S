	.file "func-pointer-pfx.c"
#ifdef PATCHED
#define N 2
#else
#define N 1
#endif
	.macro func name
	.section .text.\name, "ax", @progbits
	.balign 16
	.type __pfx_\name, @function
__pfx_\name:
	.fill 16, 1, 0x90
	.size __pfx_\name, 16
	.globl \name
	.type \name, @function
\name:
	call __fentry__
	.endm
	func cb
	movl $N, %eax
	ret
	.size cb, . - cb
	func user
	movl $N, %esi
	movq $cb, %rdi
	call ext
	leaq cb(%rip), %rdi
	call ext
	ret
	.size user, . - user
	func user_same
	movq $cb, %rdi
	call ext
	ret
	.size user_same, . - user_same
	.section .note.GNU-stack, "", @progbits
