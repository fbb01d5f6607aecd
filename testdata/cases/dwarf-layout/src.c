//# flags: -g
#include "fake_kernel.h"
struct thing {
	int a;
#ifdef PATCHED
	long added;
#endif
	int b;
	struct thing *next;
};
int first(struct thing *t) { return use(t->a); }
int second(struct thing *t) { return use(t->b); }
struct thing *third(struct thing *t) { return t->next; }
unsigned long how_big(void) { return sizeof(struct thing); }
