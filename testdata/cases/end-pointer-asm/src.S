// As end-pointer, through the section symbol: .data + 20 may be the end of `table` or the start of `next`.
	.file "end-pointer-asm.c"
	.section .text.sum, "ax", @progbits
	.globl sum
	.type sum, @function
sum:
	call __fentry__
	movq $.data, %rbx
1:	movl (%rbx), %edi
	call use
	addq $4, %rbx
	cmpq $.data + 20, %rbx
	jne 1b
	ret
	.size sum, . - sum
	.section .text.head, "ax", @progbits
	.globl head
	.type head, @function
head:
	call __fentry__
	movl next(%rip), %eax
	ret
	.size head, . - head
	.data
	.type table, @object
table:	.long 1, 2, 3, 4, 5
	.size table, 20
#ifdef PATCHED
	.type inserted, @object
inserted: .long 7, 8, 9
	.size inserted, 12
#endif
	.type next, @object
next:	.long 6, 6, 6, 6
	.size next, 16
	.section .note.GNU-stack, "", @progbits
