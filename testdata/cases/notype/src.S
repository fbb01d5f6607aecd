// Code under NOTYPE symbols, as in old assembler files.
	.file "notype.c"
#ifdef PATCHED
#define N 2
#else
#define N 1
#endif
	.text
	.globl old_style
old_style:
	movl $N, %eax
	ret
	.size old_style, . - old_style
	.balign 16
	.globl older_style
older_style:
	movl $4, %eax
	ret
	.balign 16
	.globl proper
	.type proper, @function
proper:
	call old_style
	jmp older_style
	.size proper, . - proper
	.section .note.GNU-stack, "", @progbits
