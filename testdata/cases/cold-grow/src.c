// The parent grows before the point that its .cold part jumps back to.
//# tools: gcc
#include "fake_kernel.h"
int foo(int x)
{
#ifdef PATCHED
	x += ext_a(x);
#endif
	if (x < 0) {
		fatal("negative");
		x = use(7);
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
