// 16-byte mergeable constants: .LC labels (no size) in .rodata.cst16, as gcc writes them.
	.file "cst16.c"
	.section .text.one, "ax", @progbits
	.globl one
	.type one, @function
one:
	movdqa .LC0(%rip), %xmm0
	ret
	.size one, . - one
	.section .text.two, "ax", @progbits
	.globl two
	.type two, @function
two:
	movdqa .LC1(%rip), %xmm0
	pxor .LC2(%rip), %xmm0
	ret
	.size two, . - two
	.section .text.half, "ax", @progbits
	.globl half
	.type half, @function
half:
	movq .LC1 + 8(%rip), %xmm0
	ret
	.size half, . - half
	.section .rodata.cst16, "aM", @progbits, 16
	.balign 16
#ifdef PATCHED
.LC2:	.quad 5, 6
.LC0:	.quad 1, 2
.LC1:	.quad 3, 44
#else
.LC0:	.quad 1, 2
.LC1:	.quad 3, 4
.LC2:	.quad 5, 6
#endif
	.section .note.GNU-stack, "", @progbits
