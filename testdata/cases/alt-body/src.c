#include "fake_kernel.h"
#ifdef PATCHED
#define BODY "clac"
#define CALLEE "ext_b"
#else
#define BODY "stac"
#define CALLEE "ext_a"
#endif
int one(int x) { asm volatile(ALTERNATIVE("nop\n\tnop\n\tnop", "stac", 0x108)); return use(x) + 1; }
int two(int x) { asm volatile(ALTERNATIVE("nop\n\tnop\n\tnop", BODY, 0x108)); return use(x); }
int three(int x) { asm volatile(ALTERNATIVE("nop\n\tnop\n\tnop\n\tnop\n\tnop", "call " CALLEE, 0x109)); return use(x) + 3; }
int four(int x) { asm volatile(ALTERNATIVE("nop\n\tnop\n\tnop\n\tnop\n\tnop", "call ext_a", 0x109)); return use(x) + 4; }
int five(int x) { asm volatile(ALTERNATIVE("nop\n\tnop\n\tnop", "", 0x10a)); return use(x) + 5; }
