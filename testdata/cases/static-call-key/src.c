#include "fake_kernel.h"
extern int __SCK__one, __SCK__two;
#ifdef PATCHED
#define WHICH two
#else
#define WHICH one
#endif
#define SITE(tramp, key) asm volatile("1:\tcall __SCT__" #tramp "\n\t.pushsection .static_call_sites,\"aw\"\n\t.balign 4\n" \
	"\t.long 1b - .\n\t.long __SCK__" STR(key) " - .\n\t.popsection\n" ::: "memory")
int f(int x) { SITE(one, WHICH); return use(x); }
int g(int x) { SITE(one, one); return use(x) + 1; }
int h(int x) { asm volatile(STATIC_CALL_SITE(two) ::: "memory"); return use(x) + 2; }
