#include "fake_kernel.h"
__sched int sched_one(int x) { return use(x) + 1; }
#ifdef PATCHED
__sched int sched_new(int x) { return use(x) + 2; }
#endif
__sched int sched_two(int x) { return sched_one(x) + 3; }
