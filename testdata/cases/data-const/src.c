#include "fake_kernel.h"
#ifdef PATCHED
#define MAYBE const
#else
#define MAYBE
#endif
MAYBE int table[] = { 1, 2, 3, 4 };
int f(int x) { return table[x & 3]; }
