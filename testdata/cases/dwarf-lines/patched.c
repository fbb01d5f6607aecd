//# flags: -g
#include "fake_kernel.h"
int first(int x) { return use(x) + 1; }

/* More lines. */

int second(int x) { return use(x) + 2; }
