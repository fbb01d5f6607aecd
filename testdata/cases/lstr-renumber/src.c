// -Wa,-L keeps the compiler's own labels: .L.str.N of clang, .LCN of gcc. A string put before the others renumbers them.
//# flags: -Wa,-L
#include "fake_kernel.h"
int first(int x)
{
#ifdef PATCHED
	_printk("an inserted string that is longer\n");
#endif
	return _printk("first\n");
}
int second(int x) { return _printk("second one\n"); }
int third(int x) { return _printk("third\n"); }
