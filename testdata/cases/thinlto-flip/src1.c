//# tools: clang
//# flags: -flto=thin
//# link: thinlto
#include "fake_kernel.h"
static int seen;
static noinline int helper(int x)
{
	seen += use(x);
	return seen - 3;
}
int outer(int x) { return helper(x) + helper(x * 3); }
