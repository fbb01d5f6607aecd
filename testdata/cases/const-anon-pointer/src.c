// A named table of pointers to strings: the strings are its content.
#include "fake_kernel.h"
static const char *const names[] = {
	"zero", "one",
#ifdef PATCHED
	"deux",
#else
	"two",
#endif
	"three",
};
static const char *const others[] = { "one", "three" };
int f(int x) { take(names[x & 3]); return 0; }
int g(int x) { take(others[x & 1]); return 0; }
