// A reference into a stretch that no symbol covers, behind a named one; only the gap's bytes differ.
	.file "anon-gap-ref.c"
#ifdef PATCHED
#define V 4
#else
#define V 3
#endif
	.section .mydata, "aw", @progbits
	.type a, @object
a:	.quad 1
	.size a, 8
	.quad V
	.section .text.foo, "ax", @progbits
	.globl foo
	.type foo, @function
foo:
	call __fentry__
	movq a(%rip), %rax
	addq .mydata + 8(%rip), %rax
	ret
	.size foo, . - foo
	.section .text.bar, "ax", @progbits
	.globl bar
	.type bar, @function
bar:
	call __fentry__
	movq a(%rip), %rax
	ret
	.size bar, . - bar
	.section .note.GNU-stack, "", @progbits
