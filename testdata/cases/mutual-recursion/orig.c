#include "fake_kernel.h"
static int even(int x);
static noipa int odd(int x) { static int seen; seen++; return x ? even(x - 1) + seen : 3; }
static noipa int even(int x) { static int seen; seen--; return x ? odd(x - 1) - seen : 4; }
static noipa int self(int x) { static int seen; seen ^= x; return x > 9 ? self(use(x)) + seen : 2; }
static int ping(int x);
static noipa int pong(int x) { return x ? ping(x - 1) + 1 : 5; }
static noipa int ping(int x) { return x ? pong(x - 1) + 2 : 6; }
int entry(int x) { return odd(x) + even(x) + self(x) + ping(x); }
