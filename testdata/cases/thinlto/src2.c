#include "fake_kernel.h"
extern int outer(int x);
extern int outer_same(int x);
int entry(int x) { return outer(x) + 1; }
int entry_same(int x) { return outer_same(x) * 3; }
