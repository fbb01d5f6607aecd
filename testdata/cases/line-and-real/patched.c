#include "fake_kernel.h"
/* One more line. */

int check(int x)
{
	WARN12(x > 100);
	return use(x) + 4;
}

int check_only(int x)
{
	WARN12(x > 100);
	return use(x);
}
