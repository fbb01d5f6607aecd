//# flags: -fno-function-sections -fno-data-sections
#include "fake_kernel.h"

int first(int x) { return _printk("a somewhat longer first string\n"); }
int second(int x) { return _printk("second\n"); }
int third(int x) { take2("third", "second\n"); return 0; }
