#include "fake_kernel.h"
static int count;
static noipa int helper(int x) { count += x; return use(count) + 10; }
int entry_two(int x) { return helper(x) + 2; }
