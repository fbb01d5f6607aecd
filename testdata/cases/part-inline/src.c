//# tools: gcc
#include "fake_kernel.h"
#ifdef PATCHED
#define N 6
#else
#define N 5
#endif
extern int busy;
int foo(int x)
{
	if (!busy)
		return 0;
	use(x); use(x + 1); use(x + 2); use(x + 3); use(x + 4); use(x + 5); use(x + 6); use(x + 7);
	return ext_a(x) * N;
}
int caller_one(int x) { return foo(x) + 1; }
int caller_two(int x) { return foo(x) + 2; }
