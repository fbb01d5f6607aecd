//# tools: clang
//# flags: -flto=thin
//# link: thinlto
#include "fake_kernel.h"
static int seen;
static noinline int helper(int x)
{
	seen += use(x);
#ifdef PATCHED
	return seen - 4;
#else
	return seen - 3;
#endif
}
int outer(int x) { return helper(x) + helper(x * 3); }
int outer_same(int x) { return use(x) + 2; }
