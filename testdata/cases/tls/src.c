#include "fake_kernel.h"
#ifdef PATCHED
#define V 2
#define WHICH hidden
#else
#define V 1
#define WHICH shown
#endif
__thread int shown = 5;
static __thread int hidden = 6;
static __thread int start = V;
static __thread int zero;
int read_shown(void) { return shown; }
int read_either(void) { return WHICH + 1; }
int read_start(void) { return start++ + zero++; }
int read_hidden(void) { return hidden - 3; }
void set(int x) { hidden = x; }
