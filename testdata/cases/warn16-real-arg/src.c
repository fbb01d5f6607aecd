// The shape of line-shift-warn16's check_rtnl, but the immediate is a genuine argument of another format.
#include "fake_kernel.h"

#ifdef PATCHED
#define LIMIT 64
#else
#define LIMIT 48
#endif

int check_limit(int x)
{
	WARN_FMT(x > 7, "%s: more than %d entries\n", "table", LIMIT);
	return use(x);
}
