// Bytes after a jump that are no code: a decoder that runs through them loses its step.
	.file "data-in-text.c"
	.text
	.globl entry
	.type entry, @function
entry:
	call __fentry__
	jmp 1f
	.byte 0x48, 0xb8
#ifdef PATCHED
	.byte 0x11
#else
	.byte 0x10
#endif
1:	movl $1, %eax
	call use
	ret
	.size entry, . - entry
	.balign 16
	.globl other
	.type other, @function
other:
	call __fentry__
	jmp 1f
	.byte 0x48, 0xb8
1:	movl $1, %eax
	call use
	ret
	.size other, . - other
	.section .note.GNU-stack, "", @progbits
