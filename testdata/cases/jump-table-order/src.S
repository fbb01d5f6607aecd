// The text is the same byte for byte; two entries of the jump table in .rodata change places.
	.file "jump-table-order.c"
	.section .text.f, "ax", @progbits
	.globl f
	.type f, @function
f:
	call __fentry__
	cmpl $3, %edi
	ja .Lother
	movl %edi, %eax
	jmp *.Ltable(, %rax, 8)
.Lzero:	movl $10, %eax
	ret
.Lone:	movl $10, %eax
	addl %edi, %eax
	ret
.Ltwo:	movl $12, %eax
	ret
.Lother:
	xorl %eax, %eax
	ret
	.size f, . - f
	.section .rodata, "a"
	.balign 8
.Ltable:
#ifdef PATCHED
	.quad .Lone, .Lzero, .Ltwo, .Ltwo
#else
	.quad .Lzero, .Lone, .Ltwo, .Ltwo
#endif
	.section .note.GNU-stack, "", @progbits
