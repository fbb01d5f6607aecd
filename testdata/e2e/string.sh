# A string of a function that refers to dozens of symbols that are not exported.
. /lib.sh
show() { echo "$1: $(grep -c '^MemTotal:' /proc/meminfo) $(grep -c '^MemKdelta:' /proc/meminfo) of $(wc -l </proc/meminfo | tr -d ' ')"; }
show before
load kd_string && show loaded
unload kd_string
show after
