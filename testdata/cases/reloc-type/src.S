// The bytes, symbols and addends are equal; the types of the relocations differ.
	.file "reloc-type.c"
	.macro func name
	.section .text.\name, "ax", @progbits
	.globl \name
	.type \name, @function
\name:
	call __fentry__
	.endm
	.macro endfunc name
	ret
	.size \name, . - \name
	.endm

	func load
#ifdef PATCHED
	movq somewhere@GOTPCREL(%rip), %rax
#else
	movq somewhere(%rip), %rax
#endif
	endfunc load

	func stays
	movq somewhere(%rip), %rax
	endfunc stays

	.section .data.offsets, "aw"
	.globl offsets
	.type offsets, @object
offsets:
#ifdef PATCHED
	.long somewhere
#else
	.long somewhere - .
#endif
	.size offsets, 4
	.section .note.GNU-stack, "", @progbits
