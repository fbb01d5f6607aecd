//# flags: -gdwarf-4
#include "fake_kernel.h"
struct thing {
	int a;
#ifdef PATCHED
	short added;
#endif
	unsigned low : 3, high : 5;
	struct thing *next;
};
static always_inline int step(struct thing *t)
{
	return use(t->low) + use(t->high);
}
int first(struct thing *t) { return use(t->a); }
int second(struct thing *t) { return step(t); }
static int cold noinline third(struct thing *t) { return use((long)t->next); }
int fourth(struct thing *t) { return third(t) + first(t); }
