# A function of which the kernel has many of the same name.
. /lib.sh
show() { echo "$1: $(cat /sys/class/net/lo/type), others $(cat /sys/bus/event_source/devices/*/type 2>/dev/null | grep -c kd)"; }
show before
load kd_duplicate && show loaded
ls -1 /sys/kernel/livepatch/kd_duplicate/vmlinux
unload kd_duplicate
show after
