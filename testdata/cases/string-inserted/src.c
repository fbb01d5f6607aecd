// No -ffunction-sections: every string lies in one section, and one put before them moves all the others.
//# flags: -fno-function-sections -fno-data-sections
#include "fake_kernel.h"

int first(int x)
{
	_printk("first\n");
#ifdef PATCHED
	_printk("and one more than there was\n");
#endif
	return x;
}
int second(int x) { return _printk("second\n"); }
int third(int x) { take2("third", "3"); return 0; }
