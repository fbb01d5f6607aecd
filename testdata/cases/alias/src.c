#include "fake_kernel.h"
#ifdef PATCHED
#define N 2
#else
#define N 1
#endif
static int real(int x) { return use(x) + N; }
int first_name(int x) alias(real);
int second_name(int x) weak alias(real);
int stays(int x) { return use(x) + 3; }
int stays_alias(int x) alias(stays);
int user(int x) { return first_name(x) + stays_alias(x); }
int datum = N + 4;
extern int datum_alias alias(datum);
