#include "fake_kernel.h"
#ifdef PATCHED
#define MSG "value is now %d\n"
#else
#define MSG "value was %d\n"
#endif

int before(int x) { return _printk("before %d\n", x); }
int says(int x) { return _printk(MSG, x); }
int after(int x) { return _printk("after %d\n", x); }
