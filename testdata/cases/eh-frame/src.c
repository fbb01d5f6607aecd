//# flags: -fasynchronous-unwind-tables
#include "fake_kernel.h"
#ifdef PATCHED
int one(int x) { use(x + 1); return use(x) + 1; }
#else
int one(int x) { return use(x) + 1; }
#endif
int two(int x) { return use(x) + 2; }
#ifdef PATCHED
int fresh(int x) { return use(x) + 3; }
#endif
int three(int x) { return use(x) + 4; }
