#include "fake_kernel.h"
int one(int x) { asm volatile(ALTERNATIVE("nop\n\tnop\n\tnop", "stac", 0x108)); return use(x) + 1; }
#ifdef PATCHED
int two(int x) { return use(x) + 2; }
#else
int two(int x) { asm volatile(ALTERNATIVE("nop\n\tnop\n\tnop", "clac", 0x109)); return use(x) + 2; }
#endif
int three(int x) { asm volatile(ALTERNATIVE("nop\n\tnop\n\tnop", "stac", 0x10a)); return use(x) + 3; }
