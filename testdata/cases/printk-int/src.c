#include "fake_kernel.h"
#ifdef PATCHED
#define N 64
#else
#define N 48
#endif
extern int printk(const char *fmt, ...);
int log_limit(int x) { _printk("limit is %d\n", N); return use(x) + 1; }
int log_old(int x) { printk("%d and %d\n", 5, N); return use(x) + 2; }
int warn_limit(int x) { __warn_printk("more than %d\n", N); return use(x) + 3; }
int log_line(int x) { _printk("%s: limit %d\n", __FILE__, N); return use(x) + 4; }
int stays(int x) { _printk("limit is %d\n", 48); return use(x) + 5; }
