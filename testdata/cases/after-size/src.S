// Code after st_size, before the next symbol; and mere padding there.
	.file "after-size.c"
	.text
	.globl short_size
	.type short_size, @function
short_size:
	testl %edi, %edi
	jz 1f
	movl $1, %eax
	ret
	.size short_size, . - short_size
1:
#ifdef PATCHED
	movl $3, %eax
#else
	movl $2, %eax
#endif
	ret
	.balign 16, 0xcc
	.globl padded
	.type padded, @function
padded:
	movl $4, %eax
	ret
	.size padded, . - padded
#ifdef PATCHED
	.fill 16, 1, 0xcc
#else
	.fill 16, 1, 0x90
#endif
	.globl last
	.type last, @function
last:
	movl $5, %eax
	ret
	.size last, . - last
	.section .note.GNU-stack, "", @progbits
