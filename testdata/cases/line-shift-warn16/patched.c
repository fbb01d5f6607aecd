#include "fake_kernel.h"

int plain(int x)
{
	return use(x) + 1;
}

/* One more line. */
int check(int x)
{
	if (WARN16(x > 100))
		return -1;
	return use(x);
}

int check_rtnl(int x)
{
	WARN_FMT(x > 7, "RTNL: assertion failed at %s (%d)\n", __FILE__, __LINE__);
	return use(x);
}
