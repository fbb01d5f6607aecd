#include "fake_kernel.h"
#ifdef PATCHED
#define N 2
#else
#define N 1
#endif
weak int weak_changed(int x) { return use(x) + N; }
weak int weak_same(int x) { return use(x) + 3; }
weak int weak_data = N;
extern weak int maybe(int x);
int user(int x) { if (maybe) return maybe(x); return weak_changed(x) + weak_same(x) + weak_data; }
