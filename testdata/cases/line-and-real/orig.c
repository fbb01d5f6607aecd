#include "fake_kernel.h"

int check(int x)
{
	WARN12(x > 100);
	return use(x) + 3;
}

int check_only(int x)
{
	WARN12(x > 100);
	return use(x);
}
