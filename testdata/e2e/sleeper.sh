# The patch is disabled while a task sleeps in the replacement.
. /lib.sh
mkfifo /tmp/p
count() { dmesg | grep -c 'kdelta: pipe_read'; }
load kd_sleeper
cat /tmp/p >/tmp/got &
reader=$!
exec 3>/tmp/p
usleep 1000000
echo "entered: $(count)"
cat /proc/$reader/stack | sed -n 's/.*\(pipe_read\)+.*\(\[.*\]\).*/\1 \2/p' | sed 's/pipe_read.*kd_sleeper.*/pipe_read of kd_sleeper/'
echo 0 >/sys/kernel/livepatch/kd_sleeper/enabled
usleep 3000000
echo "transition $(cat /sys/kernel/livepatch/kd_sleeper/transition), reader $(cat /proc/$reader/patch_state)"
rmmod kd_sleeper 2>/dev/null && echo "removed too early"
echo data >&3
exec 3>&-
wait $reader
cat /tmp/got
gone kd_sleeper
remove kd_sleeper
before=$(count)
echo quiet | cat
echo "after: $(($(count) - before))"
