//# tools: clang
//# flags: -fsanitize=kcfi
#include "fake_kernel.h"
#ifdef PATCHED
#define N 2
#else
#define N 1
#endif
int target(int x) { return use(x) + N; }
int other(int x) { return use(x) + 7; }
int (*hook)(int) = target;
int call_hook(int x) { return hook(x) + 3; }
