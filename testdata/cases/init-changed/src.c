#include "fake_kernel.h"
#ifdef PATCHED
#define N 5
#else
#define N 4
#endif
static __initdata int setup = 1;
__init int setup_one(void) { return use(1) + setup; }
__init int setup_two(void) { return use(2) * N; }
__init int setup_three(void) { return use(3); }
int run(int x) { return use(x); }
