// The two callees have the same size and change places. call_one's bytes are equal in both builds and reach another function.
//# flags: -fno-function-sections -fno-data-sections
//# gcc: -fno-toplevel-reorder
#include "fake_kernel.h"
#ifdef PATCHED
static noipa used int two(int x) { return use(x) + 2; }
static noipa used int one(int x) { return use(x) + 1; }
int moved_call(int x) { return two(x) - 5; }
int same_call(int x) { return two(x) * 9; }
#else
static noipa used int one(int x) { return use(x) + 1; }
static noipa used int two(int x) { return use(x) + 2; }
int moved_call(int x) { return one(x) - 5; }
int same_call(int x) { return two(x) * 9; }
#endif
