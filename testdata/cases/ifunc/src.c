#include "fake_kernel.h"
extern int feature;
static int fast(int x) { return use(x) + 1; }
static int slow(int x) { return use(x) + 2; }
typedef int fn(int);
#ifdef PATCHED
static fn *pick(void) { return feature > 2 ? fast : slow; }
#else
static fn *pick(void) { return feature > 1 ? fast : slow; }
#endif
int work(int x) __attribute__((ifunc("pick")));
int user(int x) { return work(x) + 3; }
