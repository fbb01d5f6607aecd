//# flags: -g
//# symbols: --compress-debug-sections=zstd
#include "fake_kernel.h"
struct thing {
	const char *name;
#ifdef PATCHED
	u32 flags;
#endif
	u32 n;
	struct thing *next;
};
static always_inline int count(struct thing *t) { return use(t->n); }
int first(struct thing *t) { take(t->name); return 1; }
int second(struct thing *t) { return count(t) + 1; }
