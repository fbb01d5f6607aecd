// Symbols without a size: FUNC, OBJECT, labels.
	.file "zero-size.c"
#ifdef PATCHED
#define N 2
#else
#define N 1
#endif
	.text
	.globl sizeless
	.type sizeless, @function
sizeless:
	movl $N, %eax
label_in_it:
	ret
	.balign 16
	.globl sizeless_same
	.type sizeless_same, @function
sizeless_same:
	movl $3, %eax
	jmp label_in_it
	.balign 16
	.globl sized
	.type sized, @function
sized:
	movl $5, %eax
	ret
	.size sized, . - sized
	.data
	.globl datum
	.type datum, @object
datum:
	.long N
	.globl datum_same
	.type datum_same, @object
datum_same:
	.long 7
	.section .note.GNU-stack, "", @progbits
