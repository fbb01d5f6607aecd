// clang's .L.str.N as OBJECT symbols with sizes, as kpatch met them.
	.file "lstr-renumber-asm.c"
	.macro func name
	.section .text.\name, "ax", @progbits
	.globl \name
	.type \name, @function
\name:
	call __fentry__
	.endm
	.macro say label
	movq $\label, %rdi
	call _printk
	.endm
	.macro str label text
	.type \label, @object
\label:
	.string "\text"
	.size \label, . - \label
	.endm
#ifdef PATCHED
	func first
	say .L.str
	say .L.str.1
	ret
	.size first, . - first
	func second
	say .L.str.2
	ret
	.size second, . - second
	.section .rodata.str1.1, "aMS", @progbits, 1
	str .L.str, "an inserted string"
	str .L.str.1, "first"
	str .L.str.2, "second one"
#else
	func first
	say .L.str
	ret
	.size first, . - first
	func second
	say .L.str.1
	ret
	.size second, . - second
	.section .rodata.str1.1, "aMS", @progbits, 1
	str .L.str, "first"
	str .L.str.1, "second one"
#endif
	.section .note.GNU-stack, "", @progbits
