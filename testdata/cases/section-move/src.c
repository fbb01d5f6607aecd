// The section alone: with `cold` gcc would also optimise for size and the code would differ.
#include "fake_kernel.h"
#ifdef PATCHED
#define MAYBE section(".text.unlikely.mover")
#else
#define MAYBE
#endif
MAYBE int mover(int x) { return use(x) + 77; }
int stayer(int x) { return use(x) + 78; }
