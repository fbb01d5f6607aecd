//# tools: gcc
//# flags: -fipa-cp-clone --param ipa-cp-eval-threshold=1 --param ipa-cp-unit-growth=1000 -fno-inline
#include "fake_kernel.h"
extern int mode_a, mode_b;
noinline int work(int x, int mode)
{
	int i, r = x;
	for (i = 0; i < mode; i++)
		r = use(r * mode + i);
	if (mode == 3)
		r = ext_a(r);
	if (mode == 5)
		r = ext_b(r);
	return r;
}
int user_three(int x) { return work(x, 3) + 1; }
#ifdef PATCHED
int user_nine(int x) { return work(x, 9) + 9; }
#endif
int user_five(int x) { return work(x, 5) + 2; }
int user_any(int x) { return work(x, mode_a) + 3; }
