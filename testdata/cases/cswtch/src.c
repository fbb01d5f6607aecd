//# clang: -fjump-tables
#include "fake_kernel.h"
#ifdef PATCHED
#define V 30
#else
#define V 29
#endif
int name_of(int x)
{
	switch (x) {
	case 0: return 11;
	case 1: return 7;
	case 2: return V;
	case 3: return 3;
	case 4: return 101;
	case 5: return 17;
	}
	return -1;
}
int other_of(int x)
{
	switch (x) {
	case 0: return 5;
	case 1: return 77;
	case 2: return 12;
	case 3: return 4;
	case 4: return 51;
	}
	return -2;
}
