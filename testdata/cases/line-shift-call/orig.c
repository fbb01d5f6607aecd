#include "fake_kernel.h"

int sleeper(int x)
{
	__might_sleep(__FILE__, __LINE__);
	return use(x);
}

int resched(int x)
{
	__might_resched(__FILE__, __LINE__, 0);
	return use(x);
}

int rcu(int x)
{
	if (x & 1)
		lockdep_rcu_suspicious(__FILE__, __LINE__, "suspicious use");
	return use(x);
}

int rtnl(int x)
{
	if (x & 2)
		__warn_printk("RTNL: assertion failed at %s (%d)\n", __FILE__, __LINE__);
	return use(x);
}
