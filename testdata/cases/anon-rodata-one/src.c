#include "fake_kernel.h"
#ifdef PATCHED
#define V 1019
#else
#define V 1013
#endif
int differs(int i) { int b[] = { 7, 6, 5, 4, 3, 2, 1, 9, 9, 9, 9, V, 9, 8, 9, 31, 41, 59, 26, 53, 58, 97, 93, 23, 84, 62, 64, 33, 83, 27, 95, 2, 88, 41, 97, 16, 93, 99, 37, 51 }; take(b); return b[i & 7]; }
int plain(int i) { return use(i); }
