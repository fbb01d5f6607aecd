#include "fake_kernel.h"
int b(int x) { static int count = 3; return count += x; }
int c(int x) { static int count = 4; return count -= x; }
int a(int x)
{
#ifdef PATCHED
	static int count = 9;
	x += count++;
#endif
	return use(x);
}
