// Section symbols and named ones with a displacement before the start; another variable lies there.
	.file "biased-base.c"
	.macro func name base
	.section .text.\name, "ax", @progbits
	.globl \name
	.type \name, @function
\name:
	call __fentry__
	movl \base(, %rdi, 4), %eax
	ret
	.size \name, . - \name
	.endm
	func get "arr - 32"
	func get_global "shown - 32"
#ifdef PATCHED
	func user "shown - 16"
#else
	func user "arr - 16"
#endif
	.section .bss.before, "aw", @nobits
	.globl before
	.type before, @object
before:	.zero 64
	.size before, 64
	.section .bss.arr, "aw", @nobits
	.type arr, @object
arr:	.zero 64
	.size arr, 64
	.section .bss.shown, "aw", @nobits
	.globl shown
	.type shown, @object
shown:	.zero 64
	.size shown, 64
	.section .note.GNU-stack, "", @progbits
