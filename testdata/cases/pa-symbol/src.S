// Physical addresses of symbols: an addend of 0x80000000 on top.
	.file "pa-symbol.c"
	.section .text.one, "ax", @progbits
	.globl one
	.type one, @function
one:
	call __fentry__
	movl $table + 0x80000000, %eax
	ret
	.size one, . - one
	.section .text.two, "ax", @progbits
	.globl two
	.type two, @function
two:
	call __fentry__
#ifdef PATCHED
	movl $table_b + 0x80000000, %eax
#else
	movl $table + 0x80000000, %eax
#endif
	ret
	.size two, . - two
	.section .rodata.phys, "a"
	.balign 8
	.globl phys
	.type phys, @object
phys:	.quad table + 0x80000000, local + 0x80000000
	.size phys, 16
	.section .data.tables, "aw"
	.balign 16
	.type local, @object
local:	.zero 16
	.size local, 16
	.type table, @object
table:	.zero 16
	.size table, 16
	.type table_b, @object
table_b: .zero 16
	.size table_b, 16
	.section .note.GNU-stack, "", @progbits
