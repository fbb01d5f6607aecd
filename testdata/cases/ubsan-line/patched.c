//# flags: -fsanitize=shift
#include "fake_kernel.h"
int first(int x, int n) { return use(x) << n; }
/* One more line. */

int second(int x, int n) { return use(x) >> n; }
