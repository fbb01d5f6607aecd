//# gcc: -mindirect-branch=thunk-extern -mindirect-branch-register -mfunction-return=thunk-extern
//# clang: -mretpoline-external-thunk -mfunction-return=thunk-extern
#include "fake_kernel.h"
extern int (*hook_a)(int), (*hook_b)(int);
#ifdef PATCHED
#define HOOK hook_b
#else
#define HOOK hook_a
#endif
int one(int x) { return HOOK(x) + 1; }
int two(int x) { return hook_a(x) + 2; }
int three(int x) { return hook_a(x); }
