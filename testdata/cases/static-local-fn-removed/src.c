#include "fake_kernel.h"
int kept(int x) { static int count = 2; return count -= x; }
#ifndef PATCHED
int gone(int x) { static int count = 1; return count += x; }
#endif
