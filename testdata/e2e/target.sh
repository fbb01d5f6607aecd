# A function of a module: patched before the module is there, after, and across unload and reload.
. /lib.sh
show() { echo "$1: $(cat /sys/fs/ext4/features/lazy_itable_init 2>/dev/null || echo no ext4)"; }
up() { for m in $(cat /order); do grep -q "^$m " /proc/modules || insmod "/target/$m.ko" || echo "insmod $m: $?"; done; }
down() { rmmod ext4; echo "rmmod ext4: $?"; }
show none
load kd_target
up
show "patch first"
down
up
show again
down
up
show "and again"
unload kd_target
show unpatched
load kd_target && show "module first"
unload kd_target
show after
down
up
show fresh
