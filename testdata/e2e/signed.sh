# A module with a signature whose key the kernel does not have: it is read, and the module taken as unsigned.
. /lib.sh
tail -c 28 /kd_string.ko
load kd_string && grep -c '^MemKdelta:' /proc/meminfo
unload kd_string
