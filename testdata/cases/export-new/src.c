#include "fake_kernel.h"
#define EXPORT(fn)                                                                                \
	asm(".section \".export_symbol\",\"a\"\n__export_symbol_" #fn ":\n\t.asciz \"GPL\"\n"     \
	    "\t.balign 8\n\t.quad " #fn "\n\t.previous\n")
int one(int x) { return use(x) + 1; }
EXPORT(one);
int two(int x) { return use(x) + 2; }
#ifdef PATCHED
EXPORT(two);
#endif
