#include "fake_kernel.h"

static int total;

static noipa int add(int x)
{
	static int calls;
	calls++;
	total += x;
	return calls;
}

int entry(int x)
{
	static const char *const names[] = { "zero", "one", "two" };
	take(names[x % 3u]);
	_printk("entry %d\n", x);
	return add(x);
}
