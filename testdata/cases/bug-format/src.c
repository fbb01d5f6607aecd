#include "fake_kernel.h"
#ifdef PATCHED
#define FORMAT "now %d\n"
#else
#define FORMAT "was %d\n"
#endif
int check(int x) { WARN_FMT(x > 7, FORMAT, x); return use(x) + 1; }
int stays(int x) { WARN_FMT(x > 7, "was %d\n", x); return use(x) + 3; }
