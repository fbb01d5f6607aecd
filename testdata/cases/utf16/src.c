#include "fake_kernel.h"
#ifdef PATCHED
#define A L"value two"
#define B u"\u0100b"
#else
#define A L"value one"
#define B u"\u0100a"
#endif
int wide(int x) { take(A); return use(x) + 1; }
int low_zero(int x) { take(B); return use(x) + 2; }
int stays(int x) { take(L"stays"); return use(x) + 3; }
int narrow(int x) { take("narrow"); return use(x) + 4; }
