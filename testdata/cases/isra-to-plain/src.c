//# tools: gcc
#include "fake_kernel.h"
struct pair { int a, b, c; };
static noinline int pick(const struct pair *p)
{
#ifdef PATCHED
	take(p);
#endif
	return use(p->b) + 3;
}
int caller(const struct pair *p) { return pick(p) + 1; }
int caller_two(const struct pair *p) { return pick(p) * 2; }
int other(int x) { return use(x); }
