//# tools: clang
//# flags: -fsanitize=kcfi
#include "fake_kernel.h"
#ifdef PATCHED
typedef unsigned arg;
#else
typedef int arg;
#endif
int target(arg x) { return use((int)x) + 1; }
int other(int x) { return use(x) + 7; }
extern int (*hook)(arg);
int call_hook(int x) { return hook(x) + 3; }
int set(void) { hook = target; return 0; }
