// RELA, and yet bytes under the relocations: they are masked in a comparison, so they must be seen and said.
	.file "dirty-reloc.c"
	.section .text.f, "ax", @progbits
	.globl f
	.type f, @function
f:
	call __fentry__
	.byte 0xb8
1:	.long 0
#ifdef PATCHED
	.reloc 1b + 4, R_X86_64_NONE
#endif
	.byte 0xb9
#ifdef PATCHED
2:	.long 0x1234
#else
2:	.long 0
#endif
	.reloc 2b, R_X86_64_32, thing + 8
	ret
	.size f, . - f
	.section .note.GNU-stack, "", @progbits
