#include "fake_kernel.h"
#ifdef PATCHED
static noipa int clamp(int x) { return use(x) > 9 ? 9 : x; }
#else
#define clamp(x) (x)
#endif
int caller(int x) { return use(clamp(x)) + 1; }
int other(int x) { return use(x) + 3; }
