//# flags: -fpatchable-function-entry=16,16 -fno-function-sections
#include "fake_kernel.h"
int one(int x) { return use(x) + 1; }
#ifdef PATCHED
int two(int x) { use(x + 1); use(x + 2); use(x + 3); return use(x) + 2; }
#else
int two(int x) { return use(x) + 2; }
#endif
int three(int x) { return one(x) + 3; }
