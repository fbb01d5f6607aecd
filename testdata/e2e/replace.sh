# A patch that replaces two that are active.
. /lib.sh
show() { echo "$1: $(grep -c '^MemKdelta:' /proc/meminfo) $(grep -c kdelta /proc/loadavg) $(grep -c kdelta /proc/version)"; }
show before
load kd_string && show first
load kd_loadavg && show second
load kd_version && show third
gone kd_string
gone kd_loadavg
remove kd_string
remove kd_loadavg
show replaced
unload kd_version
show after
