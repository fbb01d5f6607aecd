#include "fake_kernel.h"

static int alpha = 3;
static int beta = 4;
static int gamma_;

int f(int x)
{
	static int count = 5;
	static int last;
	count += x;
	last = count + alpha;
	return last;
}

int g(int x)
{
	static int count = 6;
	count -= x;
	beta += count;
	return beta + gamma_++;
}
