#include "fake_kernel.h"
int b(int x) { static int mode = 2; mode ^= x; return use(mode) + 2; }
int a(int x) { static int mode = 1; mode ^= x; return use(mode) + 1; }
