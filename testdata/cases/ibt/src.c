// endbr64 first, the ftrace call behind it.
//# flags: -fcf-protection=branch
#include "fake_kernel.h"
#ifdef PATCHED
#define N 2
#else
#define N 1
#endif
int one(int x) { return use(x) + N; }
static noipa int two(int x) { return use(x) + 3; }
int (*pointer)(int) = two;
int three(int x) { return two(x) + 4; }
