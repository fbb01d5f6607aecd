// A symbol with a size inside another: an entry into the middle of a function.
	.file "nested.c"
#ifdef PATCHED
#define N 2
#else
#define N 1
#endif
	.text
	.globl outer
	.type outer, @function
outer:
	xorl %eax, %eax
	.globl inner
	.type inner, @function
inner:
	addl $N, %eax
	ret
	.size inner, . - inner
	nop
	.size outer, . - outer
	.balign 16
	.globl outer_same
	.type outer_same, @function
outer_same:
	xorl %ecx, %ecx
	.globl inner_same
	.type inner_same, @function
inner_same:
	addl $7, %ecx
	ret
	.size inner_same, . - inner_same
	.size outer_same, . - outer_same
	.section .note.GNU-stack, "", @progbits
