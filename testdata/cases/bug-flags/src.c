#include "fake_kernel.h"
#ifdef PATCHED
#define FLAGS (3 | 9 << 8)
#else
#define FLAGS (1 | 9 << 8)
#endif
int check(int x) { if (unlikely(x > 100)) BUG12(FLAGS); return use(x) + 1; }
int stays(int x) { if (unlikely(x > 100)) BUG12(1 | 9 << 8); return use(x) + 3; }
