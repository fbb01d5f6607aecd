	.file "reloc-none.c"
	.section .text.f, "ax", @progbits
	.globl f
	.type f, @function
f:
	.byte 0xb8
#ifdef PATCHED
1:	.long 0x1235
#else
1:	.long 0x1234
#endif
	.reloc 1b, R_X86_64_NONE
	ret
	.size f, . - f
	.section .text.g, "ax", @progbits
	.globl g
	.type g, @function
g:
	movl $7, %eax
#ifdef PATCHED
	.reloc ., R_X86_64_NONE
#endif
	ret
	.size g, . - g
	.section .note.GNU-stack, "", @progbits
