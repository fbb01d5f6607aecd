#include "fake_kernel.h"
extern int outer(int x);
#ifdef PATCHED
int entry(int x) { return use(x) + 1; }
#else
int entry(int x) { return outer(x) + 1; }
#endif
