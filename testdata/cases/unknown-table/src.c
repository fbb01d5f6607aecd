// A table that nobody knows, in the manner of the kernel's runtime constants: it points into functions.
#include "fake_kernel.h"
#ifdef PATCHED
#define N 2
#else
#define N 1
#endif
#define RUNTIME(name)                                                                            \
	({                                                                                       \
		unsigned long v_;                                                                \
		asm("movabsq $0x0123456789abcdef, %0\n1:\n"                                      \
		    "\t.pushsection fixture_table_" #name ",\"a\"\n\t.long 1b - . - 8\n\t.popsection\n" : "=r"(v_)); \
		v_;                                                                              \
	})
unsigned long one(int x) { return RUNTIME(size) + use(x) + N; }
unsigned long two(int x) { return RUNTIME(size) + use(x) + 7; }
