//# flags: -fcommon
#include "fake_kernel.h"
#ifdef PATCHED
#define N 16
#else
#define N 8
#endif
int ring[N];
int same;
int f(int x) { return ring[x & 7] + same; }
