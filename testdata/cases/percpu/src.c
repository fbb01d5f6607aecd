#include "fake_kernel.h"
#ifdef PATCHED
#define START 7
#define WHICH "counter_b"
#else
#define START 3
#define WHICH "counter_a"
#endif
percpu int counter_a = 1;
percpu int counter_b = 2;
percpu int started = START;
static percpu int hidden = 4;
void bump(void) { asm volatile("incl %%gs:" WHICH "(%%rip)" ::: "memory"); }
void bump_a(void) { asm volatile("incl %%gs:counter_a(%%rip)" ::: "memory"); }
int read_it(void) { int v; asm volatile("movl %%gs:%1, %0" : "=r"(v) : "m"(hidden)); return v; }
int read_started(void) { int v; asm volatile("movl %%gs:%1, %0" : "=r"(v) : "m"(started)); return v; }
