// Two statics of one name in two blocks of one function; the increments change places.
#include "fake_kernel.h"
#ifdef PATCHED
#define A 2
#define B 1
#else
#define A 1
#define B 2
#endif
int f(int x)
{
	if (x > 9) {
		static int n = A;
		use(n++);
	} else {
		static int n = B;
		use(n--);
	}
	return x;
}
