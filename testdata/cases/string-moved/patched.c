//# flags: -fno-function-sections -fno-data-sections
#include "fake_kernel.h"

int third(int x) { take2("third", "second\n"); return 0; }
int second(int x) { return _printk("second\n"); }
int first(int x) { return _printk("a somewhat longer first string\n"); }
