#include "fake_kernel.h"

static int gamma_;
static int beta = 4;
static int alpha = 3;

int g(int x)
{
	static int count = 6;
	count -= x;
	beta += count;
	return beta + gamma_++;
}

int f(int x)
{
	static int last;
	static int count = 5;
	count += x;
	last = count + alpha;
	return last;
}
