//# flags: -fsanitize=shift -Wa,-L
#include "fake_kernel.h"
int first(int x, int n)
{
#ifdef PATCHED
	if (n > 50) return (x + 1) << n;
#endif
	return x << n;
}
int second(int x, int n) { return x >> n; }
