#include "fake_kernel.h"
int old = 1;
#ifdef PATCHED
int fresh = 2;
static const int fresh_table[] = { 1, 2, 3 };
int f(int x) { return old + fresh + fresh_table[x % 3u]; }
#else
int f(int x) { return old; }
#endif
int g(int x) { return old - x; }
