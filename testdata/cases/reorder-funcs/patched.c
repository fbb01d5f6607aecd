#include "fake_kernel.h"

static noipa int three(int x) { return use(x) + 3; }
static noipa int one(int x) { return use(x) + 1; }
static noipa int two(int x) { return use(x) + 2; }

int third(int x) { _printk("third %d\n", x); return three(x) - one(x); }
int first(int x) { _printk("first %d\n", x); return one(x) - two(x); }
int second(int x) { _printk("second %d\n", x); return two(x) - three(x); }
