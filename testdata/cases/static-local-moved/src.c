#include "fake_kernel.h"
#ifdef PATCHED
int f(int x) { return use(x); }
int g(int x) { static int state = 8; state += x; return use(state); }
#else
int f(int x) { static int state = 8; state += x; return use(state); }
int g(int x) { return use(x); }
#endif
