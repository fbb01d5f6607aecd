//# tools: gcc
//# flags: -flto
//# link: gcclto
#include "fake_kernel.h"
static int count = 1;
static noipa int helper(int x) { count += use(x); return count; }
int entry_one(int x) { return helper(x) + 1; }
