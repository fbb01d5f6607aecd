#include "fake_kernel.h"
#ifdef PATCHED
#define N 9
#else
#define N 8
#endif
static int count = 2;
static noipa int helper(int x) { count -= use(x) * N; return count; }
int entry_two(int x) { return helper(x) + 2; }
