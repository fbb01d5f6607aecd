	.file "secsym-gone.c"
	.section .text.callee, "ax", @progbits
	.type callee, @function
callee:
	call __fentry__
	movl $1, %eax
	ret
	.size callee, . - callee
	.section .text.user, "ax", @progbits
	.globl user
	.type user, @function
user:
	call __fentry__
#ifdef PATCHED
	movl $2, %eax
#else
	call callee
#endif
	ret
	.size user, . - user
	.section .note.GNU-stack, "", @progbits
