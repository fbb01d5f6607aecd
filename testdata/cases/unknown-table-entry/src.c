// The same, and only the entry's plain bytes differ.
#include "fake_kernel.h"
#ifdef PATCHED
#define KIND 5
#else
#define KIND 4
#endif
#define SITE(kind) asm volatile("1:\tnop\n\t.pushsection fixture_sites,\"a\"\n\t.long 1b - .\n\t.long %c0\n\t.popsection\n" : : "i"(kind))
int one(int x) { SITE(KIND); return use(x) + 1; }
int two(int x) { SITE(4); return use(x) + 2; }
