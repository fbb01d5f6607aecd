#include "fake_kernel.h"
int f(int x)
{
	static int count;
#ifndef PATCHED
	static int limit = 5;
	if (count > limit)
		return limit--;
#endif
	return count += x;
}
int g(int x) { static int count; return count -= x; }
