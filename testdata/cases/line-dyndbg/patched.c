#include "fake_kernel.h"
/* One more line. */

int debugged(int x)
{
	PR_DEBUG("x is %d\n", x);
	return use(x);
}

int indexed(int x)
{
	PR_INDEXED("x is %d\n", x);
	return use(x);
}

static int start(void)
{
	return use(9);
}
INITCALL(start);
