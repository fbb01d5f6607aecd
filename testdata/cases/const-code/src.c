#include "fake_kernel.h"
#ifdef PATCHED
#define N 8
#else
#define N 7
#endif

int before(int x) { return use(x) + 1; }
int changed_one(int x) { return use(x) * N; }
int changed_imm(int x) { return use(x) + (N == 8 ? 0x1000 : 0x2000); }
int after(int x) { return use(x) + 2; }
