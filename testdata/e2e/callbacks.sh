# Callbacks, and a shadow variable that they free.
. /lib.sh
show() { echo "$1: $(sed -n 's/.*\(shadow.*\)/\1/p' /proc/loadavg)"; }
show before
load kd_callbacks
show one
show two
unload kd_callbacks
dmesg | sed -n 's/.*\(kdelta: [a-z_]* of.*\)/\1/p'
show after
load kd_callbacks
show "from the start"
unload kd_callbacks
