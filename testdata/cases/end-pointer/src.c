//# tools: gcc
// table + 64 is the end of `table` and the start of what follows; the patch puts something else there.
//# flags: -fno-data-sections
//# gcc: -fno-toplevel-reorder
#include "fake_kernel.h"
int table[64] = { 1, 2, 3, 4, 5 };
#ifdef PATCHED
int inserted[3] = { 7, 8, 9 };
#endif
int next[4] = { 6, 6, 6, 6 };
int sum(void)
{
	int *p, s = 0;
	for (p = table; p != table + 64; p++)
		s += use(*p);
	return s;
}
int head(void) { return next[0]; }
