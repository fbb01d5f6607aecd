	.file "func-undef.c"
	.type ext, @function
	.section .text.f, "ax", @progbits
	.globl f
	.type f, @function
f:
	call __fentry__
#ifdef PATCHED
	movl $2, %eax
#else
	movl $1, %eax
#endif
	call ext
	ret
	.size f, . - f
	.section .note.GNU-stack, "", @progbits
