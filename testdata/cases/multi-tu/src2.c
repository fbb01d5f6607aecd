#include "fake_kernel.h"
#ifdef PATCHED
#define N 21
#else
#define N 20
#endif
static int count = 2;
static noipa int helper(int x) { static int calls; calls++; count += x; return use(count) + N; }
int entry_two(int x) { return helper(x) + 2; }
