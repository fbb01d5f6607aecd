	.file "part-child.c"
#ifdef PATCHED
#define N 6
#else
#define N 5
#endif
	.section .text.foo.part.0, "ax", @progbits
	.type foo.part.0, @function
foo.part.0:
	call __fentry__
	movl $N, %eax
	ret
	.size foo.part.0, . - foo.part.0
	.section .text.foo, "ax", @progbits
	.globl foo
	.type foo, @function
foo:
	call __fentry__
	testl %edi, %edi
	jne foo.part.0
	xorl %eax, %eax
	ret
	.size foo, . - foo
	.section .note.GNU-stack, "", @progbits
