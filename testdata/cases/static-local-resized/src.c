#include "fake_kernel.h"
#ifdef PATCHED
#define N 8
#else
#define N 4
#endif
int f(int x) { static int ring[N]; take(ring); return ring[x & 3]; }
int g(int x) { return use(x); }
