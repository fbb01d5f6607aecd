//# flags: -g -gz
#include "fake_kernel.h"
#ifdef PATCHED
#define N 2
#else
#define N 1
#endif
struct thing { int a, b; const char *name; struct thing *next; };
int changed_one(struct thing *t) { return use(t->a) + N; }
int stays(struct thing *t) { take(t->name); return use(t->b); }
const char *const long_names[] = { "a name", "another name" };
