// Section groups made by hand: a COMDAT function, and one with data and relocations in its group.
	.file "asm-group.c"
#ifdef PATCHED
#define N 2
#else
#define N 1
#endif
	.section .text.thunk, "axG", @progbits, thunk, comdat
	.globl thunk
	.hidden thunk
	.type thunk, @function
thunk:
	movq %rax, (%rsp)
	movl $N, %ecx
	ret
	.size thunk, . - thunk
	.section .text.pair, "axG", @progbits, pair_group, comdat
	.weak pair
	.type pair, @function
pair:
	movl pair_data(%rip), %eax
	ret
	.size pair, . - pair
	.section .data.pair, "awG", @progbits, pair_group, comdat
	.weak pair_data
	.type pair_data, @object
pair_data:
	.long N + 4
	.size pair_data, 4
	.section .text.user, "ax", @progbits
	.globl user
	.type user, @function
user:
	call thunk
	call pair
	ret
	.size user, . - user
	.section .note.GNU-stack, "", @progbits
