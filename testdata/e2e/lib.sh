# What the scenarios share. Each prints its steps; the test compares them.

# load NAME: loads /NAME.ko and waits for the transition.
load() {
	insmod "/$1.ko" || { echo "insmod $1: $?"; dmesg | tail -n 20; return 1; }
	wait_for "$1" 0
}

# wait_for NAME: until the transition is over, at most a minute.
wait_for() {
	n=0
	while [ -d "/sys/kernel/livepatch/$1" ] && [ "$(cat "/sys/kernel/livepatch/$1/transition" 2>/dev/null)" != 0 ]; do
		[ $n -lt 300 ] || { echo "$1: the transition does not end"; return 1; }
		n=$((n + 1))
		usleep 200000
	done
}

# unload NAME: disables the patch, waits until it is gone, removes the module.
unload() {
	echo 0 >"/sys/kernel/livepatch/$1/enabled"
	gone "$1"
	remove "$1"
}

# gone NAME: until the livepatch core has let go of the patch.
gone() {
	n=0
	while [ -d "/sys/kernel/livepatch/$1" ]; do
		[ $n -lt 300 ] || { echo "$1 does not go"; return 1; }
		n=$((n + 1))
		usleep 200000
	done
}

remove() {
	rmmod "$1"
	echo "rmmod $1: $?"
}
