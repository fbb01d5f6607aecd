// .smp_locks and .discard entries: they come and go with the code they point at, and change nobody else.
#include "fake_kernel.h"
int counter;
int one(void) { asm volatile(LOCK_PREFIX "incl %0" : "+m"(counter)); return counter; }
#ifdef PATCHED
int two(void) { asm volatile(LOCK_PREFIX "incl %0\n" LOCK_PREFIX "decl %0" : "+m"(counter)); DISCARD_HERE(extra); return 2; }
#else
int two(void) { asm volatile(LOCK_PREFIX "incl %0" : "+m"(counter)); return 2; }
#endif
int three(void) { asm volatile(LOCK_PREFIX "decl %0" : "+m"(counter)); DISCARD_HERE(extra); return 3; }
