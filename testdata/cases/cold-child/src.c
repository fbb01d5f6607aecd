//# tools: gcc
#include "fake_kernel.h"
#ifdef PATCHED
#define N 6
#else
#define N 5
#endif
int foo(int x)
{
	if (x < 0) {
		fatal("negative");
		x = use(N);
	}
	return use(x) * 3;
}
int other(int x)
{
	if (x < 0) {
		fatal("also negative");
		x = use(8);
	}
	return use(x) - 5;
}
