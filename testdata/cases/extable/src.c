#include "fake_kernel.h"
#ifdef PATCHED
#define GOES "4b"
#else
#define GOES "3b"
#endif
int guarded(int *p)
{
	int v = 0;
	asm volatile("1:\tmovl (%1), %0\n2:\tnop\n3:\tnop\n4:\tnop\n" EX_ENTRY("1b", GOES, 3) : "+r"(v) : "r"(p));
	return v;
}
int guarded_too(int *p)
{
	int v = 0;
	asm volatile("1:\tmovl (%1), %0\n2:\tnop\n3:\tnop\n4:\tnop\n" EX_ENTRY("1b", "3b", 3) : "+r"(v) : "r"(p));
	return v;
}
