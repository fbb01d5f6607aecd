//# flags: -g
#include "fake_kernel.h"
static always_inline int inner(int x)
{
#ifdef PATCHED
	if (x > 1000)
		return 0;
#endif
	return use(x) + 5;
}
static always_inline int outer(int x)
{
	return inner(x + 1) * 3;
}
static always_inline int stays(int x)
{
	return use(x) - 7;
}
int nested(int x) { return outer(x); }
int direct(int x) { return stays(x) + inner(x); }
int other(int x) { return stays(x); }
