//# flags: -fno-function-sections -fno-data-sections
#include "fake_kernel.h"
#ifdef PATCHED
int first(int x) { take(L"a new one before"); take(L"first"); return use(x) + 1; }
#else
int first(int x) { take(L"first"); return use(x) + 1; }
#endif
int second(int x) { take(L"second"); return use(x) + 2; }
int third(int x) { take(u"\u3000third"); return use(x) + 3; }
