#include "fake_kernel.h"
#ifdef PATCHED
#define V 44
#else
#define V 43
#endif
const int string_tbl[] = { 41, 42, V };
static const int struct_ops[] = { 7, V, 9 };
int f(int x) { return string_tbl[x % 3u]; }
int g(int x) { return struct_ops[x % 3u]; }
