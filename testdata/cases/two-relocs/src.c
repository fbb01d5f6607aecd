#include "fake_kernel.h"
static noipa used int fa(int x) { return use(x) + 1; }
static noipa used int fb(int x) { return use(x) + 2; }
int (*cb)(int);
int (*cb2)(int);
#ifdef PATCHED
void set(void) { cb = fb; }
void place(void) { cb2 = ext_a; }
#else
void set(void) { cb = fa; }
void place(void) { cb = ext_a; }
#endif
void keep(void) { cb = fa; cb2 = fb; }
