#include "fake_kernel.h"
static int count = 1;
static noipa int helper(int x) { static int calls; calls++; count += x; return use(count) + 10; }
int entry_one(int x) { return helper(x) + 1; }
