#include "fake_kernel.h"
#ifdef PATCHED
static struct static_key fresh_key;
int user(int x) { if (static_branch(&fresh_key, 0)) return ext_a(x); return use(x); }
#else
int user(int x) { return use(x); }
#endif
int other(int x) { return use(x) + 1; }
