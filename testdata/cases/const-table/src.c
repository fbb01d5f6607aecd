#include "fake_kernel.h"
#ifdef PATCHED
#define V 6
#else
#define V 5
#endif
static const int table[] = { 1, 2, 3, V, 7 };
const unsigned char exported_table[] = { 9, V, 9 };
int f(int x) { return table[x % 5u]; }
int g(int x) { return exported_table[x % 3u]; }
