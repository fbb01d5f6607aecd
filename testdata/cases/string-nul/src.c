// A string with a zero in it is no C string: compilers keep it out of the mergeable sections, nameless.
#include "fake_kernel.h"
#ifdef PATCHED
#define TAIL "two"
#else
#define TAIL "one"
#endif
int pair(int x) { take("head\0" TAIL); return use(x) + 1; }
int stays(int x) { take("head"); return use(x) + 2; }
