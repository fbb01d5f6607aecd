// Classes, a template, inline functions in COMDAT groups, a virtual table.
#include "fake_kernel.h"
#ifdef PATCHED
#define N 7
#else
#define N 6
#endif

template <int K> noinline int add(int x) { return use(x) + K; }
inline noinline int twice(int x) { return use(x) * (N - 4); }
inline noinline int same(int x) { return use(x) * 11; }

struct Shape {
	virtual int area(int x) { return use(x) - N; }
	virtual int edge(int x) { return use(x) - 77; }
	int side;
};

namespace {
struct Square : Shape {
	int area(int x) override { return use(x) * side; }
};
Square square;
}

static Shape plain;
Shape *make() { return &square; }
Shape *make_plain() { return &plain; }
int user(int x) { return add<3>(x) + add<4>(x) + twice(x) + same(x); }
static int counter() { static int n = 3; return n++; }
int count() { return counter() + counter(); }
