package livepatch

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// line gives a patch in one line: what tests compare.
func (p Patch) line() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %d refs %d %s", p.Name, p.State, p.StackOrder, p.Refs, p.Taint)
	if p.Replace != nil {
		fmt.Fprintf(&b, " replace %v", *p.Replace)
	}
	for _, o := range p.Objects {
		fmt.Fprintf(&b, "; %s %v", o.Name, o.Patched)
		for _, f := range o.Funcs {
			fmt.Fprintf(&b, " %s,%d %v", f.Name, f.Pos, f.Active)
		}
	}
	return b.String()
}

// Every state, as the two kernels show it.
func TestList(t *testing.T) {
	const (
		oneAlone  = "livepatch_one enabled 1 refs 1 OEK%s; vmlinux true cmdline_proc_show,1 true"
		oneUnder  = "livepatch_one enabled 1 refs 1 OEK%s; vmlinux true cmdline_proc_show,1 false"
		twoOnTop  = "livepatch_two %s 2 refs 1 OEK%%s; fat true fat_statfs,1 true; vmlinux true __x64_sys_pause,1 true cmdline_proc_show,1 true"
		oneLeft   = "livepatch_one inactive 0 refs 0 OEK"
		twoLeft   = "livepatch_two inactive 0 refs 0 OEK"
		onReplace = "livepatch_cum enabled 1 refs 1 OEK%s; vmlinux true cmdline_proc_show,1 true"
	)
	two := func(state string) string { return fmt.Sprintf(twoOnTop, state) }
	for _, c := range []struct {
		tree string
		want []string
		cum  bool
	}{
		{"idle", nil, false},
		{"lockdown", nil, false},
		{"enforced", nil, false},
		{"one", []string{oneAlone}, false},
		{"stalled", []string{oneUnder, two("enabling")}, false},
		{"two", []string{oneUnder, two("enabled")}, false},
		{"disabling", []string{oneUnder, two("disabling")}, false},
		{"disabled", []string{oneAlone, twoLeft}, false},
		{"replaced", []string{onReplace, oneLeft, twoLeft}, true},
	} {
		for v := range kernels {
			t.Run(v+"-"+c.tree, func(t *testing.T) {
				ps, err := newKernel(t, v+"-"+c.tree).system().List()
				require.NoError(t, err)
				var got []string
				for _, p := range ps {
					got = append(got, p.line())
				}
				replace := ""
				if v == "6.12" {
					replace = fmt.Sprintf(" replace %v", c.cum)
				}
				var want []string
				for _, w := range c.want {
					if strings.Contains(w, "%s") {
						w = fmt.Sprintf(w, replace)
					}
					want = append(want, w)
				}
				require.Equal(t, want, got)
			})
		}
	}
}

// Kernels from 6.14 on say the stack order themselves.
func TestStackOrder(t *testing.T) {
	k := newKernel(t, "6.12-two")
	k.set(patchPath("livepatch_one", "stack_order"), "2")
	k.set(patchPath("livepatch_two", "stack_order"), "1")
	ps, err := k.system().List()
	require.NoError(t, err)
	require.Len(t, ps, 2)
	require.Equal(t, "livepatch_two", ps[0].Name)
	require.Equal(t, "livepatch_one", ps[1].Name)
	require.True(t, ps[1].Objects[0].Funcs[0].Active)
	require.False(t, ps[0].Objects[1].Funcs[1].Active)
}

func TestInfo(t *testing.T) {
	for v, release := range kernels {
		for name, want := range map[string]Info{
			"idle":      {Lockdown: "none"},
			"one":       {Lockdown: "none", Tainted: 45056},
			"stalled":   {Lockdown: "none", Tainted: 45056, Transition: "livepatch_two"},
			"disabling": {Lockdown: "none", Tainted: 45056, Transition: "livepatch_two"},
			"lockdown":  {Lockdown: "integrity"},
			"enforced":  {Lockdown: "none", Enforced: true},
		} {
			got, err := newKernel(t, v+"-"+name).system().Info()
			require.NoError(t, err)
			require.NotNil(t, got.traceSource)
			got.traceSource = nil
			want.Release, want.Supported = release, true
			require.Equal(t, want, got, "%s-%s", v, name)
		}
	}
	_, err := (&System{}).Info()
	require.ErrorContains(t, err, "system-unreadable")
	require.Equal(t, []string{"out-of-tree module", "unsigned module", "live patch"}, TaintNames(45056))
}

// Who blocks, in which function, under whichever of its names the stack has it.
func TestBlockers(t *testing.T) {
	for v := range kernels {
		for _, name := range []string{"stalled", "disabling"} {
			s := newKernel(t, v+"-"+name).system()
			ts := s.Blockers("livepatch_two")
			require.Len(t, ts, 1, name)
			b := ts[0]
			require.Equal(t, "pauser", b.Comm)
			require.False(t, b.Kernel)
			require.NotEmpty(t, b.Stack)
			if name == "stalled" {
				require.Equal(t, 0, b.State)
				require.Equal(t, []string{"__x64_sys_pause"}, b.In)
				require.Equal(t, fmt.Sprintf("pauser[%d] in __x64_sys_pause", b.TID), b.String())
			} else {
				require.Equal(t, 1, b.State)
				require.Equal(t, []string{"lp_pause [livepatch_two]"}, b.In)
			}
			require.Empty(t, s.Blockers("livepatch_one"))
			require.Empty(t, s.Blockers("nobody"))
		}
	}
	k := newKernel(t, "6.1-stalled")
	k.set("proc/300/task/300/patch_state", "0")
	k.set("proc/300/task/300/comm", "evil\x1b[2J")
	k.set("proc/300/task/300/status", "Name:\tevil\nPPid:\t2\nKthread:\t1")
	ts := k.system().Blockers("livepatch_two")
	require.Len(t, ts, 2)
	require.Equal(t, "evil?[2J", ts[1].Comm)
	require.True(t, ts[1].Kernel)
}

func TestGet(t *testing.T) {
	s := newKernel(t, "6.1-two").system()
	p, err := s.Get("livepatch_two")
	require.NoError(t, err)
	require.Equal(t, Enabled, p.State)
	_, err = s.Get("other")
	require.ErrorContains(t, err, "no-such-patch")
	require.True(t, s.Loaded("fat"))
	require.False(t, s.Loaded("vfat"))
}

// A patch of a module that is not loaded is not in effect there.
func TestTargetGone(t *testing.T) {
	k := newKernel(t, "6.1-two")
	k.set(patchPath("livepatch_two", "fat/patched"), "0")
	p, err := k.system().Get("livepatch_two")
	require.NoError(t, err)
	require.Equal(t, "livepatch_two enabled 2 refs 1 OEK; fat false fat_statfs,1 false; vmlinux true __x64_sys_pause,1 true cmdline_proc_show,1 true", p.line())
}

// Tasks that no transition concerns are not waited for.
func TestRemaining(t *testing.T) {
	k := newKernel(t, "6.1-stalled")
	_, before := k.system().remaining(Enabling)
	k.set("proc/2/task/2/patch_state", "-1")
	rest, all := k.system().remaining(Enabling)
	require.Equal(t, 1, rest)
	require.Equal(t, before, all)
}

// The kernel begins a transition before it says that the patch is enabled; the module's start still runs then.
func TestStarting(t *testing.T) {
	k := newKernel(t, "6.1-stalled")
	k.set(patchPath("livepatch_two", "enabled"), "0")
	p, err := k.system().Get("livepatch_two")
	require.NoError(t, err)
	require.Equal(t, Disabling, p.State)
	k.set("sys/module/livepatch_two/initstate", "coming")
	p, err = k.system().Get("livepatch_two")
	require.NoError(t, err)
	require.Equal(t, Enabling, p.State)
	require.Len(t, k.system().Blockers("livepatch_two"), 1)
}
