// KPATCH_IGNORE_FUNCTION(foo), and foo.cold changed too.
	.file "ignored-cold.c"
#ifdef PATCHED
#define N 2
#else
#define N 1
#endif
	.section .text.unlikely.foo, "ax", @progbits
	.type foo.cold, @function
foo.cold:
	movl $N, %edi
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
	.section .text.other, "ax", @progbits
	.globl other
	.type other, @function
other:
	call __fentry__
	movl $N, %eax
	ret
	.size other, . - other
#ifdef PATCHED
	.section .kpatch.ignore.functions, "aw"
	.globl __kpatch_ignore_func_foo
	.type __kpatch_ignore_func_foo, @object
__kpatch_ignore_func_foo:
	.quad foo
	.size __kpatch_ignore_func_foo, 8
#endif
	.section .note.GNU-stack, "", @progbits
