// Initialisers of stack arrays: gcc's lie nameless in .rodata, clang's in .rodata..L__const.FN.VAR.
#include "fake_kernel.h"
#ifdef PATCHED
#define V 1019
#else
#define V 1013
#endif
int stays(int i) { int a[] = { 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597, 2584, 4181, 6765, 1, 22, 333, 4444, 55555, 6, 77, 888, 9999, 10, 11, 12, 13, 1, 5, 9, 14, 4, 8, 3, 2 }; take(a); return a[i & 7]; }
int differs(int i) { int b[] = { 7, 6, 5, 4, 3, 2, 1, 9, 9, 9, 9, V, 9, 8, 9, 31, 41, 59, 26, 53, 58, 97, 93, 23, 84, 62, 64, 33, 83, 27, 95, 2, 88, 41, 97, 16, 93, 99, 37, 51 }; take(b); return b[i & 7]; }
