package livepatch

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kdelta/kdelta/pkg/diag"
)

var pause = map[string][]string{"vmlinux": {"__x64_sys_pause"}}

// summary is what tests compare of an outcome.
func summary(o *Outcome) string {
	return fmt.Sprintf("%s %s %q %v %v", o.Result, o.Patch, o.State, o.Removed, codes(o.Diagnostics))
}

func TestLoad(t *testing.T) {
	for v, release := range kernels {
		for _, c := range []struct {
			name, tree string
			cum        bool
			options    Options
			change     func(k *kernel)
			want       string
			ops        []string
			says       string
		}{
			{"done", "idle", true, Options{}, nil, `done p "enabled" [] []`, []string{"load p"}, ""},
			{"after ten seconds", "idle", true, Options{}, func(k *kernel) { k.blocked = 10 * time.Second }, `done p "enabled" [] []`, []string{"load p"}, ""},
			{"stalled", "idle", true, Options{Timeout: 5 * time.Second}, func(k *kernel) { k.blocked = time.Hour },
				`undone p "" [p] [error transition-stalled]`, []string{"load p", "write kernel/livepatch/p/enabled 0", "unload p"}, "pauser[257] in __x64_sys_pause"},
			{"stalled for ever", "idle", true, Options{Timeout: 5 * time.Second}, func(k *kernel) { k.blocked = time.Hour; k.stuck = true },
				`left p "disabling" [] [error transition-stalled error patch-left]`, []string{"load p", "write kernel/livepatch/p/enabled 0"}, "that does not end either"},
			{"stalled, module stays", "idle", true, Options{Timeout: 5 * time.Second, Interval: 6 * time.Second}, func(k *kernel) { k.blocked = time.Hour; k.sticky["p"] = true },
				`left p "inactive" [] [error transition-stalled error patch-left]`, []string{"load p", "write kernel/livepatch/p/enabled 0", "unload p", "unload p", "unload p"}, "module is still loaded"},
			{"stalled, no reversal", "idle", true, Options{Timeout: 5 * time.Second}, func(k *kernel) { k.blocked = time.Hour; k.refuse["write"] = syscall.EBUSY },
				`left p "enabling" [] [error transition-stalled error patch-left]`, []string{"load p", "write kernel/livepatch/p/enabled 0"}, "cannot be reversed"},
			{"signalled", "idle", true, Options{Signal: 3 * time.Second}, func(k *kernel) { k.blocked = time.Hour },
				`done p "enabled" [] []`, []string{"load p", "kill 257 19", "kill 257 18"}, ""},
			{"no wait", "idle", true, Options{NoWait: true}, func(k *kernel) { k.blocked = time.Hour }, `done p "enabling" [] []`, []string{"load p"}, ""},
			{"vanished", "idle", true, Options{}, func(k *kernel) {
				k.blocked = time.Hour
				k.onSleep = func() { k.drop("p"); k.moving = "" }
			}, `undone p "inactive" [p] [error patch-vanished]`, []string{"load p", "unload p"}, ""},
			{"stacked", "two", false, Options{}, nil, `done p "enabled" [] [warning already-patched]`, []string{"load p"}, ""},
			{"replaces two", "two", true, Options{Replace: true}, nil, `done p "enabled" [livepatch_one livepatch_two] [note already-patched]`,
				[]string{"load p", "unload livepatch_one", "unload livepatch_two"}, ""},
			{"replaces, modules stay", "two", true, Options{KeepReplaced: true}, nil, `done p "enabled" [] [note already-patched]`, []string{"load p"}, ""},
			{"replaces, one is busy", "two", true, Options{Interval: 6 * time.Second}, func(k *kernel) { k.sticky["livepatch_one"] = true },
				`done p "enabled" [livepatch_two] [note already-patched warning module-busy]`, []string{"load p", "unload livepatch_one", "unload livepatch_one", "unload livepatch_one", "unload livepatch_two"}, ""},
			{"not cumulative", "two", false, Options{Replace: true}, nil, `refused p "" [] [warning already-patched error not-cumulative]`, nil, ""},
			{"transition", "stalled", true, Options{}, nil, `refused p "" [] [error transition-running note already-patched]`, nil, ""},
			{"lockdown", "lockdown", true, Options{}, nil, `refused p "" [] [error lockdown]`, nil, ""},
			{"enforced", "enforced", true, Options{}, nil, `refused p "" [] [error signature-required]`, nil, ""},
			{"not supported", "idle", true, Options{}, func(k *kernel) { delete(k.tree, "sys/kernel/livepatch") }, `refused p "" [] [error livepatch-unsupported]`, nil, ""},
		} {
			t.Run(v+" "+c.name, func(t *testing.T) {
				k := newKernel(t, v+"-"+c.tree)
				if c.change != nil {
					c.change(k)
				}
				out, err := k.system().Load(mod(t, "p", release, c.cum, pause), c.options)
				require.Equal(t, c.want, summary(out))
				require.Equal(t, c.ops, k.ops)
				require.Equal(t, out.Result != Done, err != nil, "%v", err)
				if c.says != "" {
					require.Contains(t, fmt.Sprint(out.Diagnostics), c.says)
				}
				if out.Result == Undone {
					require.NotContains(t, string(k.tree["proc/modules"].Data), "p 16384")
					require.NotContains(t, k.patches(), "p")
				}
			})
		}
	}
}

// What the kernel refuses at the last moment, by its error and what it logs.
func TestLoadRefused(t *testing.T) {
	for _, c := range []struct {
		err  syscall.Errno
		log  string
		want diag.Code
	}{
		{syscall.EPERM, "", diag.NotPermitted},
		{syscall.EPERM, "Lockdown: insmod: unsigned module loading is restricted; see man kernel_lockdown.7", diag.Lockdown},
		{eKeyRejected, "Loading of unsigned module is rejected", diag.SignatureRequired},
		{eNoKey, "", diag.SignatureRequired},
		{syscall.EBADMSG, "", diag.SignatureRequired},
		{syscall.ENOEXEC, "p: version magic '6.1.0-49-amd64 SMP' should be '6.1.0-50-amd64 SMP'", diag.WrongRelease},
		{syscall.ENOEXEC, "p: disagrees about version of symbol module_layout", diag.WrongRelease},
		{syscall.ENOEXEC, "", diag.ModuleRejected},
		{syscall.EBUSY, "", diag.TransitionRunning},
		{syscall.EBUSY, "livepatch: failed to register ftrace handler for function 'x' (-16)", diag.FtraceBusy},
		{syscall.EEXIST, "", diag.PatchLoaded},
		{syscall.ENODEV, "", diag.LivepatchUnsupported},
		{syscall.ENOENT, "p: Unknown symbol x (err -2)", diag.ModuleRejected},
		{syscall.EINVAL, "livepatch: symbol 'no_such_function' not found in symbol table", diag.FunctionAbsent},
		{syscall.EINVAL, "livepatch: failed to find location for function 'x'", diag.NotTraceable},
		{syscall.EINVAL, "livepatch: Livepatch patch (p) is not compatible with the already installed livepatches.", diag.ModuleRejected},
		{syscall.ENOMEM, "", diag.ModuleRejected},
	} {
		k := newKernel(t, "6.1-idle")
		k.refuse["load"] = c.err
		k.log = []string{"usb 1-1: new device", c.log}
		out, err := k.system().Load(mod(t, "p", kernels["6.1"], true, pause), Options{})
		require.Equal(t, Undone, out.Result)
		require.ErrorContains(t, err, "["+string(c.want)+"]")
		require.ErrorContains(t, err, c.err.Error())
		require.ErrorContains(t, err, c.log)
		require.NotContains(t, err.Error(), "usb")
		require.Equal(t, []string{"load p"}, k.ops)
	}
}

func TestDisableAndUnload(t *testing.T) {
	for v := range kernels {
		for _, c := range []struct {
			name, tree, patch string
			keep              bool
			change            func(k *kernel)
			want              string
			ops               []string
		}{
			{"unload", "one", "livepatch_one", false, nil, `done livepatch_one "" [livepatch_one] []`, []string{"write kernel/livepatch/livepatch_one/enabled 0", "unload livepatch_one"}},
			{"disable", "one", "livepatch_one", true, nil, `done livepatch_one "inactive" [] []`, []string{"write kernel/livepatch/livepatch_one/enabled 0"}},
			{"below another", "two", "livepatch_one", false, nil, `done livepatch_one "" [livepatch_one] []`, []string{"write kernel/livepatch/livepatch_one/enabled 0", "unload livepatch_one"}},
			{"inactive", "disabled", "livepatch_two", false, nil, `done livepatch_two "" [livepatch_two] []`, []string{"unload livepatch_two"}},
			{"disable inactive", "disabled", "livepatch_two", true, nil, `done livepatch_two "inactive" [] []`, nil},
			{"module went", "disabled", "livepatch_two", false, func(k *kernel) { k.refuse["unload"] = syscall.ENOENT }, `done livepatch_two "" [] []`, []string{"unload livepatch_two"}},
			{"unknown", "one", "other", false, nil, `refused other "" [] [error no-such-patch]`, nil},
			{"stalled", "two", "livepatch_two", false, func(k *kernel) { k.stuck = true }, `undone livepatch_two "enabled" [] [error transition-stalled]`,
				[]string{"write kernel/livepatch/livepatch_two/enabled 0", "write kernel/livepatch/livepatch_two/enabled 1"}},
			{"stalled both ways", "two", "livepatch_two", false, func(k *kernel) { k.stuck = true; k.blocked = time.Hour }, `left livepatch_two "enabling" [] [error transition-stalled error patch-left]`,
				[]string{"write kernel/livepatch/livepatch_two/enabled 0", "write kernel/livepatch/livepatch_two/enabled 1"}},
			{"busy", "two", "livepatch_one", false, func(k *kernel) { k.moving, k.up, k.blocked = "livepatch_two", true, time.Hour }, `refused livepatch_one "enabled" [] [error transition-running]`,
				[]string{"write kernel/livepatch/livepatch_one/enabled 0"}},
			{"not permitted", "one", "livepatch_one", false, func(k *kernel) { k.refuse["write"] = syscall.EACCES }, `refused livepatch_one "enabled" [] [error not-permitted]`,
				[]string{"write kernel/livepatch/livepatch_one/enabled 0"}},
			{"went away", "one", "livepatch_one", false, func(k *kernel) { k.refuse["write"] = syscall.ENODEV }, `refused livepatch_one "enabled" [] [error patch-vanished]`,
				[]string{"write kernel/livepatch/livepatch_one/enabled 0"}},
			{"somebody enables it", "two", "livepatch_two", false, func(k *kernel) {
				k.stuck = true
				k.onSleep = func() {
					if k.moving != "" {
						k.moving = ""
						k.set(patchPath("livepatch_two", "enabled"), "1")
						k.set(patchPath("livepatch_two", "transition"), "0")
					}
				}
			}, `undone livepatch_two "enabled" [] [error patch-vanished]`, []string{"write kernel/livepatch/livepatch_two/enabled 0"}},
			{"module busy", "disabled", "livepatch_two", false, func(k *kernel) { k.refuse["unload"] = syscall.EBUSY }, `undone livepatch_two "inactive" [] [error module-busy]`, nil},
			{"module busy after", "one", "livepatch_one", false, func(k *kernel) { k.sticky["livepatch_one"] = true }, `left livepatch_one "inactive" [] [error module-busy]`, nil},
		} {
			t.Run(v+" "+c.name, func(t *testing.T) {
				k := newKernel(t, v+"-"+c.tree)
				if c.change != nil {
					c.change(k)
				}
				o := Options{Timeout: 5 * time.Second}
				f := k.system().Unload
				if c.keep {
					f = k.system().Disable
				}
				out, err := f(c.patch, o)
				require.Equal(t, c.want, summary(out))
				require.Equal(t, out.Result != Done, err != nil)
				if !strings.HasPrefix(c.name, "module busy") { // they try often
					require.Equal(t, c.ops, k.ops)
				}
			})
		}
	}
}

// A transition that somebody else began is waited for, in either direction, and changed by nobody.
func TestWait(t *testing.T) {
	begin := func(k *kernel, up bool, d time.Duration) {
		k.moving, k.up, k.blocked, k.began = "livepatch_two", up, d, k.now
	}
	for v := range kernels {
		k := newKernel(t, v+"-stalled")
		begin(k, true, 10*time.Second)
		var seen []Progress
		out, err := k.system().Wait("livepatch_two", Options{Progress: func(p Progress) { seen = append(seen, p) }})
		require.NoError(t, err)
		require.Equal(t, `done livepatch_two "enabled" [] []`, summary(out))
		require.Len(t, seen, 10)
		require.Equal(t, 1, seen[0].Remaining)
		require.Equal(t, Enabling, seen[0].State)
		require.Equal(t, 9*time.Second, seen[9].Elapsed)

		k = newKernel(t, v+"-stalled")
		begin(k, true, time.Hour)
		out, err = k.system().Wait("livepatch_two", Options{Timeout: 3 * time.Second})
		require.ErrorContains(t, err, "the transition goes on")
		require.Equal(t, `left livepatch_two "enabling" [] [error transition-stalled]`, summary(out))
		require.Len(t, out.Blockers, 1)
		require.Equal(t, 3*time.Second, out.Took)

		k = newKernel(t, v+"-disabling")
		begin(k, false, 0)
		out, err = k.system().Wait("livepatch_two", Options{})
		require.NoError(t, err)
		require.Equal(t, `done livepatch_two "inactive" [] []`, summary(out))

		k = newKernel(t, v+"-two")
		out, err = k.system().Wait("livepatch_two", Options{})
		require.NoError(t, err)
		require.Equal(t, Enabled, out.State)
		_, err = k.system().Wait("other", Options{})
		require.ErrorContains(t, err, "no-such-patch")
		require.Empty(t, k.ops)
	}
}

// The module of a patch that was removed by force is never unloaded.
func TestForce(t *testing.T) {
	k := newKernel(t, "6.1-disabling")
	k.moving, k.stuck, k.began = "livepatch_two", true, k.now
	s := k.system()
	require.NoError(t, s.Force("livepatch_two"))
	out, err := s.Wait("livepatch_two", Options{})
	require.NoError(t, err)
	require.Equal(t, Inactive, out.State)
	out, err = s.Unload("livepatch_two", Options{})
	require.ErrorContains(t, err, "module-busy")
	require.Equal(t, Undone, out.Result)

	require.ErrorContains(t, s.Force("livepatch_one"), "not in transition")
	require.ErrorContains(t, s.Force("other"), "no-such-patch")
	k = newKernel(t, "6.1-stalled")
	k.refuse["write"] = syscall.EPERM
	require.ErrorContains(t, k.system().Force("livepatch_two"), "not-permitted")
}

// Kernel threads and init are never signalled, and no process twice.
func TestSignal(t *testing.T) {
	k := newKernel(t, "6.1-stalled")
	k.system().Signal([]Task{{PID: 1, TID: 1}, {PID: 20, TID: 20, Kernel: true}, {PID: 5, TID: 5}, {PID: 5, TID: 6}})
	require.Equal(t, []string{"kill 5 19", "kill 5 18"}, k.ops)
}

// A system without Control is only looked at.
func TestReadOnly(t *testing.T) {
	k := newKernel(t, "6.1-stalled")
	s := k.system()
	s.Control = nil
	require.ErrorContains(t, s.Force("livepatch_two"), "not-permitted")
	out, err := s.Unload("livepatch_one", Options{})
	require.ErrorContains(t, err, "not-permitted")
	require.Equal(t, Refused, out.Result)
	s.Signal([]Task{{PID: 5}})
	s = newKernel(t, "6.1-idle").system()
	s.Control = nil
	_, err = s.Load(mod(t, "p", kernels["6.1"], true, pause), Options{})
	require.ErrorContains(t, err, "not-permitted")
}
