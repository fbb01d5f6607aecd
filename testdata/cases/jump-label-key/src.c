#include "fake_kernel.h"
static struct static_key key_a, key_b;
struct static_key key_c;
#ifdef PATCHED
#define KEY key_b
#define DEFAULT 1
#else
#define KEY key_a
#define DEFAULT 0
#endif
int f(int x) { if (static_branch(&KEY, 0)) return ext_a(x); return use(x); }
int g(int x) { if (static_branch(&key_a, 0)) return ext_b(x); return use(x) + 1; }
int h(int x) { if (static_branch(&key_b, 0)) return ext_b(x); return use(x) + 2; }
int flag(int x) { if (static_branch(&key_c, DEFAULT)) return ext_b(x); return use(x) + 3; }
