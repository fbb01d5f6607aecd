#include "fake_kernel.h"
#ifdef PATCHED
#define FEATURE 0x120
#else
#define FEATURE 0x108
#endif
int one(int x) { asm volatile(ALTERNATIVE("nop\n\tnop\n\tnop", "stac", 0x108)); return use(x) + 1; }
int two(int x) { asm volatile(ALTERNATIVE("nop\n\tnop\n\tnop", "stac", FEATURE)); return use(x); }
