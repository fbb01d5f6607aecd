#include "fake_kernel.h"

int cookie(int x)
{
	return use(x) + __LINE__;
}

int pass(int x)
{
	return use(__LINE__);
}
