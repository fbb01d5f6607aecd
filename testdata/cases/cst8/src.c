// The same from a compiler: doubles, with SSE allowed in this one case.
//# flags: -msse -msse2
double one(double x) { return x * 3.25; }
#ifdef PATCHED
double two(double x) { return x * 4.75 + 1.5; }
#else
double two(double x) { return x * 4.5 + 1.5; }
#endif
double three(double x) { return x + 1.5; }
