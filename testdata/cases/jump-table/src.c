//# flags: -fjump-tables
#include "fake_kernel.h"
#ifdef PATCHED
#define ONE 1
#define TWO 0
#else
#define ONE 0
#define TWO 1
#endif
int swapped(int x)
{
	switch (x) {
	case ONE: return ext_a(x) + 1;
	case TWO: return ext_b(x) - 9;
	case 2: return use(2) * 3;
	case 3: take(0); return 4;
	case 4: return use(x) ^ 5;
	case 5: return ext_a(77);
	}
	return -1;
}
int stays(int x)
{
	switch (x) {
	case 0: return ext_a(x) + 2;
	case 1: return ext_b(x) - 3;
	case 2: return use(2) * 5;
	case 3: take(0); return 6;
	case 4: return use(x) ^ 7;
	}
	return -1;
}
