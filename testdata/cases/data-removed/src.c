#include "fake_kernel.h"
int old = 1;
#ifndef PATCHED
int gone = 2;
int f(int x) { return old + gone; }
#else
int f(int x) { return old + 2; }
#endif
int g(int x) { return old - x; }
