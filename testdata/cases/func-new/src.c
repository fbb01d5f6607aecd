#include "fake_kernel.h"
int old(int x) { return use(x) + 1; }
#ifdef PATCHED
int fresh(int x) { return use(x) + 2; }
#endif
int other(int x) { return use(x) + 3; }
