//# flags: -fpatchable-function-entry=16,16
#include "fake_kernel.h"
#ifdef PATCHED
#define N 2
#else
#define N 1
#endif
int one(int x) { return use(x) + N; }
int two(int x) { return one(x) + 3; }
int (*pointer)(int) = two;
