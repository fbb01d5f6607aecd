//# flags: -fno-function-sections -fno-data-sections
#include "fake_kernel.h"
static noipa int first(int x) { return use(x) + 1; }
static noipa int middle(int x)
{
#ifdef PATCHED
	use(x + 1); use(x + 2); use(x + 3); use(x + 4); use(x + 5); use(x + 6);
#endif
	return use(x) + 2;
}
static noipa int last(int x) { return use(x) + 3; }
int user(int x) { return first(x) + middle(x) + last(x); }
int user_of_last(int x) { return last(x) * 2; }
