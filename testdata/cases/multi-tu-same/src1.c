//# swap: yes
#include "fake_kernel.h"
static int count;
static noipa int helper(int x) { count += x; return use(count) + 10; }
int entry_one(int x) { return helper(x) + 1; }
