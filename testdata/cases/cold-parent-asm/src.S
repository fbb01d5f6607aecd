	.file "cold-parent-asm.c"
#ifdef PATCHED
#define N 6
#else
#define N 5
#endif
	.section .text.unlikely.foo, "ax", @progbits
	.type foo.cold, @function
foo.cold:
	movl $3, %edi
	call ext
	jmp .Lback
	.size foo.cold, . - foo.cold
	.section .text.foo, "ax", @progbits
	.globl foo
	.type foo, @function
foo:
	call __fentry__
	testl %edi, %edi
	js foo.cold
.Lback:
	movl $N, %eax
	ret
	.size foo, . - foo
	.section .note.GNU-stack, "", @progbits
