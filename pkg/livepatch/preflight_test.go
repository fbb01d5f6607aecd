package livepatch

import (
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var cmdline = map[string][]string{"vmlinux": {"cmdline_proc_show"}}

func TestPreflight(t *testing.T) {
	for v, release := range kernels {
		for _, c := range []struct {
			name, tree string
			change     func(k *kernel)
			module     *Module
			want       []string
			says       string
		}{
			{"clean", "idle", nil, mod(t, "p", release, true, cmdline), []string{}, ""},
			{"alias", "idle", nil, mod(t, "p", release, true, map[string][]string{"vmlinux": {"__x64_sys_pause"}}), []string{}, ""},
			{"in module", "idle", nil, mod(t, "p", release, true, map[string][]string{"fat": {"fat_statfs"}}), []string{}, ""},
			{"absent module", "idle", nil, mod(t, "p", release, true, map[string][]string{"ext4": {"ext4_sync_fs"}}), []string{"note target-absent"}, "ext4"},
			{"no livepatch", "idle", func(k *kernel) { delete(k.tree, "sys/kernel/livepatch") }, mod(t, "p", release, true, cmdline), []string{"error livepatch-unsupported"}, ""},
			{"wrong release", "idle", nil, mod(t, "p", "6.1.0-49-amd64", true, cmdline), []string{"error wrong-release"}, "6.1.0-49-amd64"},
			{"realtime kernel", "idle", func(k *kernel) { k.set("proc/version", "Linux version 6.1 #1 SMP PREEMPT_RT") }, mod(t, "p", release, true, cmdline), []string{"error wrong-release"}, "PREEMPT_RT"},
			{"lockdown", "lockdown", nil, mod(t, "p", release, true, cmdline), []string{"error lockdown"}, "integrity"},
			{"lockdown, signed", "lockdown", nil, signed(t, mod(t, "p", release, true, cmdline)), []string{}, ""},
			{"enforced", "enforced", nil, mod(t, "p", release, true, cmdline), []string{"error signature-required"}, ""},
			{"enforced, signed", "enforced", nil, signed(t, mod(t, "p", release, true, cmdline)), []string{}, ""},
			{"modules disabled", "idle", func(k *kernel) { k.set("proc/sys/kernel/modules_disabled", "1") }, mod(t, "p", release, true, cmdline), []string{"error modules-disabled"}, ""},
			{"ftrace off", "idle", func(k *kernel) { k.set("proc/sys/kernel/ftrace_enabled", "0") }, mod(t, "p", release, true, cmdline), []string{"error ftrace-disabled"}, ""},
			{"transition", "stalled", nil, mod(t, "p", release, true, map[string][]string{"vmlinux": {"meminfo_proc_show"}}), []string{"error transition-running"}, "livepatch_two"},
			{"loaded", "one", nil, mod(t, "livepatch_one", release, false, map[string][]string{"vmlinux": {"meminfo_proc_show"}}), []string{"error patch-loaded"}, "is active"},
			{"left", "disabled", nil, mod(t, "livepatch_two", release, false, map[string][]string{"vmlinux": {"meminfo_proc_show"}}), []string{"error patch-loaded"}, "not active"},
			{"stacked", "two", nil, mod(t, "p", release, false, cmdline), []string{"warning already-patched", "warning already-patched"}, "livepatch_two replaces it too"},
			{"replacing", "two", nil, mod(t, "p", release, true, cmdline), []string{"note already-patched", "note already-patched"}, "and goes"},
			{"alias patched", "two", nil, mod(t, "p", release, false, map[string][]string{"vmlinux": {"__ia32_sys_pause"}}), []string{"warning already-patched"}, "livepatch_two"},
			{"no such function", "idle", nil, mod(t, "p", release, true, map[string][]string{"vmlinux": {"cmdline_proc_shw"}}), []string{"error function-absent"}, ""},
			{"of another object", "idle", nil, mod(t, "p", release, true, map[string][]string{"fat": {"cmdline_proc_show"}}), []string{"error function-absent"}, "fat:cmdline_proc_show"},
			{"not traceable", "idle", nil, mod(t, "p", release, true, map[string][]string{"vmlinux": {"klp_ftrace_handler"}}), []string{"error not-traceable"}, ""},
			{"hidden addresses", "idle", func(k *kernel) { hide(k) }, mod(t, "p", release, true, map[string][]string{"vmlinux": {"__x64_sys_pause"}}), []string{"warning not-traceable"}, "under this name"},
			{"no kallsyms", "idle", func(k *kernel) { delete(k.tree, "proc/kallsyms") }, mod(t, "p", release, true, cmdline), []string{}, ""},
			{"no tracefs", "idle", func(k *kernel) { delete(k.tree, "sys/kernel/tracing/available_filter_functions") }, mod(t, "p", release, true, map[string][]string{"vmlinux": {"klp_ftrace_handler"}}), []string{}, ""},
			{"other user", "idle", func(k *kernel) {
				k.set("sys/kernel/tracing/enabled_functions", "cmdline_proc_show (1) R I     \ttramp: 0xffffffffc0331000 (kprobe_ftrace_handler+0x0/0x1b0) ->kprobe_ftrace_handler+0x0/0x1b0")
			}, mod(t, "p", release, true, cmdline), []string{"error ftrace-busy"}, "kprobe_ftrace_handler"},
			{"tracer only", "idle", func(k *kernel) {
				k.set("sys/kernel/tracing/enabled_functions", "cmdline_proc_show (1)           \ttramp: 0xffffffffc0331000 (function_trace_call+0x0/0x1b0) ->function_trace_call+0x0/0x1b0")
			}, mod(t, "p", release, true, cmdline), []string{}, ""},
			{"unknown contents", "idle", nil, mod(t, "p", release, true, nil), []string{"note contents-unknown"}, ""},
		} {
			t.Run(v+" "+c.name, func(t *testing.T) {
				k := newKernel(t, v+"-"+c.tree)
				// Recorded of this release; the others are the test's.
				if c.change != nil {
					c.change(k)
				}
				ck, err := k.system().Preflight(c.module)
				require.NoError(t, err)
				require.Equal(t, c.want, codes(ck.Diagnostics))
				if c.says != "" {
					require.ErrorContains(t, ck.Diagnostics[len(ck.Diagnostics)-1], c.says)
				}
				refused := strings.Contains(strings.Join(c.want, " "), "error")
				require.Equal(t, refused, ck.Err() != nil)
				require.Empty(t, k.ops)
			})
		}
	}
}

// hide makes kallsyms what users without CAP_SYSLOG see.
func hide(k *kernel) {
	var out []string
	for line := range strings.Lines(string(k.tree["proc/kallsyms"].Data)) {
		out = append(out, "0000000000000000"+line[16:])
	}
	k.tree["proc/kallsyms"].Data = []byte(strings.Join(out, ""))
}

func signed(t *testing.T, m *Module) *Module {
	t.Helper()
	s, err := ReadModule(m.File, sign(m.Data, 400))
	require.NoError(t, err)
	require.Equal(t, m.Objects, s.Objects)
	return s
}

func sign(ko []byte, size int) []byte {
	out := append(append([]byte{}, ko...), make([]byte, size)...)
	out = append(out, 0, 0, 2, 0, 0, 0, 0, 0)
	out = binary.BigEndian.AppendUint32(out, uint32(size))
	return append(out, sigMarker...)
}

func TestReplacesAndStacks(t *testing.T) {
	s := newKernel(t, "6.1-two").system()
	ck, err := s.Preflight(mod(t, "p", kernels["6.1"], true, cmdline))
	require.NoError(t, err)
	require.Equal(t, []string{"livepatch_one", "livepatch_two"}, ck.Replaces)
	require.Empty(t, ck.Stacks)
	ck, err = s.Preflight(mod(t, "p", kernels["6.1"], false, cmdline))
	require.NoError(t, err)
	require.Empty(t, ck.Replaces)
	require.Equal(t, []string{"livepatch_one", "livepatch_two"}, ck.Stacks)
}

func TestReadModule(t *testing.T) {
	data := ko(t, "live-patch", "6.1.0-50-amd64"+magic, true, map[string][]string{"vmlinux": {"a", "b"}, "ext4": {"c"}}, "depends=x,y")
	m, err := ReadModule("f.ko", data)
	require.NoError(t, err)
	require.Equal(t, "live_patch", m.Name)
	require.Equal(t, "6.1.0-50-amd64", m.Release())
	require.True(t, m.Livepatch && m.Known && *m.Replace && !m.Signed)
	require.Equal(t, []string{"x", "y"}, m.Depends)
	require.Equal(t, []Object{{Name: "ext4", Funcs: []Func{{Name: "c", Pos: 1}}}, {Name: "vmlinux", Funcs: []Func{{Name: "a", Pos: 1}, {Name: "b", Pos: 1}}}}, m.Objects)

	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":        {nil, "elf-malformed"},
		"text":         {[]byte("#!/bin/sh\n"), "elf-malformed"},
		"no modinfo":   {noModinfo(t), "not-livepatch"},
		"path as name": {ko(t, "../../etc/passwd", "6.1"+magic, true, nil), "not-livepatch"},
		"long name":    {ko(t, strings.Repeat("a", 56), "6.1"+magic, true, nil), "not-livepatch"},
		"cut":          {data[:len(data)/2], "elf-malformed"},
	} {
		_, err := ReadModule("f.ko", c.data)
		require.ErrorContains(t, err, c.want, name)
	}
	// Names that could do something to a terminal are none that a kernel has.
	m, err = ReadModule("f.ko", ko(t, "p", "6.1\x1b[2J"+magic, true, map[string][]string{"vmlinux": {"a\x1b[2J"}}))
	require.NoError(t, err)
	require.False(t, m.Known)
	require.NotContains(t, m.Vermagic, "\x1b")
	// A trailer that lies about its length is no signature; then it is junk behind the object.
	lie := sign(data, 16)
	binary.BigEndian.PutUint32(lie[len(lie)-len(sigMarker)-4:], 1<<31)
	m, err = ReadModule("f.ko", lie)
	require.NoError(t, err)
	require.False(t, m.Signed)
}

func noModinfo(t *testing.T) []byte {
	data := ko(t, "p", "x", true, nil)
	return []byte(strings.Replace(string(data), ".modinfo", ".nodinfo", 1))
}

func FuzzReadModule(f *testing.F) {
	data := ko(f, "p", "6.1.0-50-amd64"+magic, true, cmdline)
	f.Add(data)
	f.Add(sign(data, 32))
	f.Add([]byte(sigMarker))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ReadModule("f.ko", data)
		if (m == nil) != (err != nil) {
			t.Fatal("neither a module nor an error, or both")
		}
		if m != nil && (!validName(m.Name) || strings.ContainsAny(m.Name, "/.-")) {
			t.Fatalf("name %q", m.Name)
		}
	})
}

// Whatever /proc and /sys hold, it is read without panic.
func FuzzView(f *testing.F) {
	for _, n := range []string{"6.1-stalled", "6.12-two"} {
		data, err := os.ReadFile("testdata/trees/" + n + ".txt")
		require.NoError(f, err)
		f.Add(string(data), string(data), "1")
	}
	f.Fuzz(func(t *testing.T, modules, kallsyms, flag string) {
		k := newKernel(t, "6.1-stalled")
		k.set("proc/modules", modules)
		k.set("proc/kallsyms", kallsyms)
		k.set("sys/kernel/tracing/enabled_functions", modules)
		k.set("sys/kernel/security/lockdown", kallsyms)
		k.set(patchPath("livepatch_two", "enabled"), flag)
		s := k.system()
		if _, err := s.List(); err != nil {
			t.Fatal(err)
		}
		s.Blockers("livepatch_two")
		if _, err := s.Preflight(mod(t, "p", "6.1.0-50-amd64", false, cmdline)); err != nil {
			t.Fatal(err)
		}
	})
}

// Of several functions of one name, the position says which.
func TestPosition(t *testing.T) {
	for v, release := range kernels {
		s := newKernel(t, v+"-idle").system()
		m := mod(t, "p", release, true, map[string][]string{"vmlinux": {"type_show"}})
		for pos, want := range map[uint64]string{1: "error not-traceable", 17: "error not-traceable", 99: "error function-absent"} {
			m.Objects[0].Funcs[0].Pos = pos
			ck, err := s.Preflight(m)
			require.NoError(t, err)
			require.Equal(t, []string{want}, codes(ck.Diagnostics), "%s %d", v, pos)
		}
	}
}
