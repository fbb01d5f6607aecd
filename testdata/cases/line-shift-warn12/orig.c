#include "fake_kernel.h"

int plain(int x)
{
	return use(x) + 1;
}

int check(int x)
{
	if (WARN12(x > 100))
		return -1;
	return use(x);
}

int check_twice(int x)
{
	WARN12(x == 5);
	use(x);
	WARN12(x == 6);
	return x;
}
