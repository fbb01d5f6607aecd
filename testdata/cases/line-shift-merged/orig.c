//# flags: -fno-function-sections
#include "fake_kernel.h"
int plain(int x) { return use(x) + 1; }
int check(int x)
{
	WARN12(x > 100);
	return use(x) + 2;
}
int grows(int x) { return use(x) + 3; }
int check_late(int x)
{
	WARN12(x > 100);
	return use(x) + 4;
}
