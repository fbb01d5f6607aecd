#include "fake_kernel.h"
#ifdef PATCHED
#define count total
#endif
int f(int x)
{
	static int count = 3;
	return count += x;
}
int g(int x) { static int other = 4; return other -= x; }
