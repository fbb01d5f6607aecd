#include "fake_kernel.h"
static always_inline int step(int x)
{
#ifdef PATCHED
	if (x > 1000)
		return 0;
#endif
	return use(x) + 5;
}
int caller_one(int x) { return step(x) * 3; }
int caller_two(int x) { return step(x) - 1; }
int other(int x) { return use(x); }
