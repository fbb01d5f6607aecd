#include "fake_kernel.h"
/* One more line. */

int cookie(int x)
{
	return use(x) + __LINE__;
}

int pass(int x)
{
	return use(__LINE__);
}
