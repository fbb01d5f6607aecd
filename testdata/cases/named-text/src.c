#include "fake_kernel.h"
#ifdef PATCHED
#define N 2
#else
#define N 1
#endif
__sched int sched_one(int x) { return use(x) + 1; }
__sched int sched_two(int x) { return use(x) * 5 - N; }
__sched int sched_three(int x) { return sched_one(x) + 3; }
noinstr int noinstr_one(int x) { return use(x) + 6; }
noinstr int noinstr_two(int x) { return use(x) * 7 - N; }
section(".kprobes.text") int kprobes_one(int x) { return use(x) + 8; }
section(".kprobes.text") int kprobes_two(int x) { return use(x) + 9; }
