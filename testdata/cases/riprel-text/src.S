// Constants in .text, read through RIP: no relocation.
	.file "riprel-text.c"
	.text
	.globl mask
	.type mask, @function
mask:
	movq .Lconst(%rip), %rax
	andq %rdi, %rax
	ret
	.size mask, . - mask
	.balign 8
.Lconst:
#ifdef PATCHED
	.quad 0x00ff00ff00ff00ff
#else
	.quad 0x00ff00ff00ff0f0f
#endif
	.globl point
	.type point, @function
point:
#ifdef PATCHED
	leaq .Lsecond(%rip), %rax
#else
	leaq .Lfirst(%rip), %rax
#endif
	ret
	.balign 8
.Lfirst: .quad 1
.Lsecond: .quad 2
	.size point, . - point
	.globl stays
	.type stays, @function
stays:
	leaq point(%rip), %rax
	ret
	.size stays, . - stays
	.section .note.GNU-stack, "", @progbits
