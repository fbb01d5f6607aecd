// Two zero-size labels and a FUNC on one address, and an intra-function reference by name.
	.file "local-alias-label.c"
	.text
	.globl entry
	.type entry, @function
entry:
begin_label:
	call __fentry__
	testl %edi, %edi
	jz middle
	movl $1, %eax
	ret
middle:
#ifdef PATCHED
	movl $3, %eax
#else
	movl $2, %eax
#endif
	ret
	.size entry, . - entry
	.balign 16
	.globl other
	.type other, @function
other:
	movq $middle, %rax
	movq $begin_label, %rcx
	ret
	.size other, . - other
	.section .note.GNU-stack, "", @progbits
