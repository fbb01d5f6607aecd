//# flags: -g
#include "fake_kernel.h"
int first(int x) { return use(x) + 1; }
int second(int x) { return use(x) + 2; }
