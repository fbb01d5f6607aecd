# Alternatives, exception tables, a warning, a static branch, a static call, new data, a new helper, a cold part.
. /lib.sh
mkdir /tmp/d
: >/tmp/d/kdmagic
: >/tmp/d/other
show() { echo "$1: $(ls /tmp/d | tr '\n' ' ')"; }
show before
load kd_features && show loaded
echo 1 >/proc/sys/kernel/sched_schedstats
show branch
echo 0 >/proc/sys/kernel/sched_schedstats
show back
/observe /tmp/d
grep -q kd_helper /proc/kallsyms && echo "helper there"
unload kd_features
show after
