#include "fake_kernel.h"
#ifdef PATCHED
#define A static
#define B
#else
#define A
#define B static
#endif
A noipa used int closes(int x) { return use(x) + 1; }
B noipa used int opens(int x) { return use(x) + 2; }
A int datum = 3;
int user(int x) { datum += x; return closes(x) + opens(x); }
