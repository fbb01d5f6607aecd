#include "fake_kernel.h"
int first(int x)
{
#ifdef PATCHED
	PR_DEBUG("new %d\n", x);
#endif
	PR_DEBUG("first %d\n", x);
	return use(x);
}
int second(int x) { PR_DEBUG("second %d\n", x); return use(x) + 1; }
