// The first function runs into the second.
	.file "fallthrough.c"
#ifdef PATCHED
#define N 2
#else
#define N 1
#endif
	.text
	.globl first
	.type first, @function
first:
	movl $7, %edi
	.size first, . - first
	.globl second
	.type second, @function
second:
	movl $N, %eax
	ret
	.size second, . - second
	.balign 16
	.globl third
	.type third, @function
third:
	movl $8, %edi
	.size third, . - third
	.globl fourth
	.type fourth, @function
fourth:
	movl $9, %eax
	ret
	.size fourth, . - fourth
	.section .note.GNU-stack, "", @progbits
