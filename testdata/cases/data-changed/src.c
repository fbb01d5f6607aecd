#include "fake_kernel.h"
#ifdef PATCHED
int limit = 20;
static int low = 2;
static void (*volatile hook)(const void *) = (void *)fatal;
#else
int limit = 10;
static int low = 1;
static void (*volatile hook)(const void *) = take;
#endif
int floor_ = 5;
int f(int x) { hook(0); return x > limit ? limit : x < low ? low++ : floor_; }
