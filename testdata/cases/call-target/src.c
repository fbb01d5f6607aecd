#include "fake_kernel.h"
static noipa int in_a(int x) { return use(x) + 1; }
static noipa int in_b(int x) { return use(x) + 2; }

#ifdef PATCHED
int outer(int x) { return ext_b(x) + 1; }
int inner(int x) { return in_b(x) + in_a(x + 1); }
#else
int outer(int x) { return ext_a(x) + 1; }
int inner(int x) { return in_a(x) + in_b(x + 1); }
#endif
int tail(int x) { return ext_a(x); }
