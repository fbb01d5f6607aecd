#include "fake_kernel.h"
#ifdef PATCHED
#define N 128
#else
#define N 64
#endif
char buffer[N];
static char scratch[N];
int same;
int f(int x) { take(scratch); return buffer[x & 15] + same; }
