// No -fdata-sections: a variable grows and the others move in .data and .bss.
//# flags: -fno-data-sections
//# gcc: -fno-toplevel-reorder
#include "fake_kernel.h"
#ifdef PATCHED
#define N 24
#else
#define N 8
#endif
static int first = 3;
static int grown[N] = { 1, 2 };
static int last = 4;
static int zero_grown[N];
static int zero_last;
int f(int x) { first += x; return use(first) + 1; }
int g(int x) { last += x; return use(last) + zero_last++; }
int h(int x) { take2(grown, zero_grown); return grown[x & 7]; }
