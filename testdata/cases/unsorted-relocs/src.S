// .reloc lines come after the instruction's own relocations in the file, at lower offsets.
	.file "unsorted-relocs.c"
	.section .text.f, "ax", @progbits
	.globl f
	.type f, @function
f:
1:	.byte 0xe8
	.long 0
#ifdef PATCHED
2:	.byte 0xe8
	.long 0
	call third
	.reloc 2b + 1, R_X86_64_PLT32, second - 4
	.reloc 1b + 1, R_X86_64_PLT32, first - 4
#else
	call second
2:	.byte 0xe8
	.long 0
	.reloc 2b + 1, R_X86_64_PLT32, third - 4
	.reloc 1b + 1, R_X86_64_PLT32, first - 4
#endif
	ret
	.size f, . - f
	.section .note.GNU-stack, "", @progbits
