//# tools: gcc
//# flags: -mrecord-mcount -mnop-mcount
#include "fake_kernel.h"
int one(int x) { return use(x) + 1; }
#ifdef PATCHED
int two(int x) { return use(x) + 22; }
int new_one(int x) { return use(x) - 1; }
#else
int two(int x) { return use(x) + 2; }
#endif
int three(int x) { return use(x) + 3; }
notrace int quiet(int x) { return use(x) + 4; }
