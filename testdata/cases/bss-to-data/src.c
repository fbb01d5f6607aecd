#include "fake_kernel.h"
#ifdef PATCHED
#define START = 5
#else
#define START
#endif
int shown START;
static int hidden START;
int f(int x) { shown += x; return hidden++; }
