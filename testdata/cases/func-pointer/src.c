#include "fake_kernel.h"
#ifdef PATCHED
#define N 2
#else
#define N 1
#endif
static noipa int cb(int x) { return use(x) + N; }
int user(int x) { take(cb); return use(x) - N; }
int user_same(int x) { take(cb); return use(x) - 7; }
int (*const ops[])(int) = { cb, ext_a };
