// Nothing changes: strings, static locals, tables, a switch, a warning.
#include "fake_kernel.h"

static int hits;
static const int table[] = { 4, 8, 15, 16, 23, 42 };

static noipa int helper(int x)
{
	static int calls;
	calls += x;
	return table[calls % 6];
}

int name_of(int x)
{
	switch (x) {
	case 0: return 11;
	case 1: return 7;
	case 2: return 29;
	case 3: return 3;
	case 4: return 101;
	}
	return -1;
}

int entry(int x)
{
	WARN12(x > 100);
	if (x < 0)
		fatal("negative");
	hits++;
	_printk("entry %d\n", x);
	return helper(x) + name_of(x);
}
