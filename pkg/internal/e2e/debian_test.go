package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kdelta/kdelta/pkg/internal/guest"
	"github.com/kdelta/kdelta/pkg/kernel/image"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if programDir != "" {
		os.RemoveAll(programDir)
	}
	os.Exit(code)
}

// fixesDir holds patches of real fixes between 6.1.176 and 6.1.192, and programs that see some of them.
const fixesDir = "../../../../shared/pairs/fixes"

// fixes are the patches by number, and what is to become of each.
var fixes = []struct {
	id       string
	exit     int
	code     string   // of an error
	says     string   // in its message
	module   string   // that has to be there first
	replaces []string // functions
	observer string   // program that prints FIXED or BUG
}{
	{id: "01", replaces: []string{"vmlinux:prctl_set_auxv"}, observer: "auxv"},
	{id: "02", replaces: []string{"vmlinux:do_fcntl"}, observer: "rwhint"},
	{id: "04", replaces: []string{"act_gact:tcf_gact_init"}, module: "act_gact", observer: "gact"},
	{id: "05", replaces: []string{"isofs:parse_rock_ridge_inode_internal", "isofs:rock_ridge_symlink_read_folio"}, module: "isofs"},
	{id: "07", exit: exitRefused, code: "no-ftrace-entry", says: "__x64_sys_swapon, __ia32_sys_swapon"},
	{id: "08", replaces: []string{"vmlinux:migrate_to_node"}},
	{id: "10", replaces: []string{"vmlinux:pipe_fasync"}},
	{id: "12", replaces: []string{"vmlinux:page_pool_alloc_frag"}},
	{id: "13", replaces: []string{"vmlinux:do_thaw_all_callback"}},
	{id: "14", exit: exitRefused, code: "no-ftrace-entry", says: "netlink_seq_start"},
	{id: "16", exit: exitRefused, code: "data-changed", says: "seg6_genl_policy"},
	{id: "17", exit: exitNothing, code: "nothing-changed"},
	{id: "18", replaces: []string{"vmlinux:tcp_sacktag_walk", "vmlinux:tcp_write_xmit", "vmlinux:__tcp_retransmit_skb.part.0"}},
}

// outcome is what the program's document says, as far as tests look.
type outcome struct {
	Exit     int
	Output   string
	Replaced []struct{ Object, Function string }
	Steps    []struct {
		Name  string
		CPU   float64            `json:"cpu_s"`
		Wall  float64            `json:"wall_s"`
		Tools map[string]float64 `json:"tools_cpu_s"`
	}
	Diagnostics []struct{ Code, Severity, Message string }
}

// Exit codes of the program.
const (
	exitWritten = 0
	exitRefused = 2
	exitNothing = 3
)

var programDir string

// build makes the program, once for all tests.
var build = sync.OnceValues(func() (string, error) {
	var err error
	if programDir, err = os.MkdirTemp("", "kdelta-e2e-"); err != nil {
		return "", err
	}
	path := filepath.Join(programDir, "debian-livepatch")
	msg, err := exec.Command("go", "build", "-o", path, "../../../examples/debian-livepatch").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, msg)
	}
	return path, err
})

// livepatch runs the program with the cache that tests keep.
func livepatch(t *testing.T, release, work, out string, patches ...string) (*outcome, []byte) {
	t.Helper()
	args := []string{"--release", release, "--packages", guest.Root(t), "--work", work, "-o", out, "--json"}
	for _, p := range patches {
		args = append(args, "--patch", p)
	}
	program, err := build()
	require.NoError(t, err)
	cmd := exec.Command(program, args...)
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	var failed *exec.ExitError
	if !errors.As(err, &failed) {
		require.NoError(t, err)
	}
	var o outcome
	require.NoError(t, json.Unmarshal(text, &o), "%s", text)
	require.Equal(t, cmd.ProcessState.ExitCode(), o.Exit)
	var ko []byte
	if o.Exit == exitWritten {
		ko, err = os.ReadFile(out)
		require.NoError(t, err)
	} else {
		require.NoFileExists(t, out)
	}
	return &o, ko
}

// e2e gives the folder of the tests' cache, or skips.
func e2e(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("compiles parts of a kernel")
	}
	guest.Root(t)
	for _, p := range []string{"gcc-12", "make", "tar"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("no %s", p)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skip(err)
	}
	return filepath.Join(cache, "kdelta-test", "debian-livepatch")
}

func patchFile(t *testing.T, id string) string {
	t.Helper()
	if _, err := os.Stat(fixesDir); err != nil {
		t.Skipf("no %s", fixesDir)
	}
	all, err := filepath.Glob(filepath.Join(fixesDir, id+"-*.patch"))
	require.NoError(t, err)
	require.Len(t, all, 1)
	return all[0]
}

// TestFixes makes modules of real fixes, one by one and all of the kernel's image
// together, and loads them into the stock kernel: each acts and is taken back.
func TestFixes(t *testing.T) {
	patchFile(t, "01")
	work, dir := e2e(t), t.TempDir()
	files := map[string][]byte{}
	lib, err := os.ReadFile("../../../testdata/e2e/lib.sh")
	require.NoError(t, err)
	files["/lib.sh"] = lib
	script := ". /lib.sh\nmount -t tmpfs tmpfs /tmp\n"
	var want strings.Builder
	var together, observers []string
	for _, f := range fixes {
		t.Run(f.id, func(t *testing.T) {
			name := "fix_" + f.id
			o, ko := livepatch(t, guest.Debian61, work, filepath.Join(dir, name+".ko"), patchFile(t, f.id))
			require.Equal(t, f.exit, o.Exit, "%v", o.Diagnostics)
			if f.code != "" {
				var codes []string
				for _, d := range o.Diagnostics {
					if d.Severity == "error" {
						codes = append(codes, d.Code)
						assert.Contains(t, d.Message, f.says)
					}
				}
				require.Equal(t, []string{f.code}, codes)
				return
			}
			var replaced []string
			for _, r := range o.Replaced {
				replaced = append(replaced, r.Object+":"+r.Function)
			}
			require.ElementsMatch(t, f.replaces, replaced)
			for _, s := range o.Steps {
				t.Logf("%-16s wall %.2f s, own CPU %.2f s, programs %v", s.Name, s.Wall, s.CPU, s.Tools)
			}

			files["/"+name+".ko"] = ko
			if f.module != "" {
				for _, m := range modules(t, f.module, nil) {
					if files["/target/"+m.Name+".ko"] == nil {
						files["/target/"+m.Name+".ko"] = m.File.Data
						script += "insmod /target/" + m.Name + ".ko\n"
					}
				}
			} else {
				together = append(together, patchFile(t, f.id))
			}
			see := ""
			if f.observer != "" {
				files["/"+f.observer] = compileStatic(t, filepath.Join(fixesDir, "observers", f.observer+".c"))
				see = "/" + f.observer + " | grep -o 'BUG\\|FIXED'\n"
				if f.module == "" {
					observers = append(observers, f.observer)
				}
			}
			script += see + "load " + name + " && echo " + name + "\n" + see + "unload " + name + "\n" + see
			said := func(s string) string {
				if see == "" {
					return ""
				}
				return s + "\n"
			}
			fmt.Fprintf(&want, "%s%s\n%srmmod %s: 0\n%s", said("BUG"), name, said("FIXED"), name, said("BUG"))
		})
	}
	if t.Failed() {
		return
	}
	o, ko := livepatch(t, guest.Debian61, work, filepath.Join(dir, "fix_all.ko"), together...)
	require.Equal(t, exitWritten, o.Exit, "%v", o.Diagnostics)
	require.Len(t, o.Replaced, 9)
	files["/fix_all.ko"] = ko
	script += "load fix_all && echo fix_all\n"
	want.WriteString("fix_all\n")
	for _, w := range observers {
		script += "/" + w + " | grep -o 'BUG\\|FIXED'\n"
		want.WriteString("FIXED\n")
	}
	script += "unload fix_all\n"
	want.WriteString("rmmod fix_all: 0\n")
	r := guest.Run(t, guest.Config{Release: guest.Debian61, Files: files, Script: script})
	assert.Equal(t, want.String(), r.Out)
	assert.Equal(t, "45056", r.Taint) // livepatch, out of tree, unsigned
	assert.Empty(t, r.Troubles())
	if t.Failed() {
		t.Log(r.Dmesg)
	}
}

// loadavg changes what /proc/loadavg says.
const loadavg = `--- a/fs/proc/loadavg.c
+++ b/fs/proc/loadavg.c
@@ -20 +20 @@
-	seq_printf(m, "%lu.%02lu %lu.%02lu %lu.%02lu %u/%d %d\n",
+	seq_printf(m, "%lu.%02lu %lu.%02lu %lu.%02lu %u/%d %d kdelta\n",
`

// TestReleases goes from a patch to a loaded module on both releases.
func TestReleases(t *testing.T) {
	for _, release := range []string{guest.Debian61, guest.Debian612} {
		t.Run(release, func(t *testing.T) {
			work, dir := e2e(t), t.TempDir()
			lib, err := os.ReadFile("../../../testdata/e2e/lib.sh")
			require.NoError(t, err)
			file := filepath.Join(dir, "loadavg.patch")
			require.NoError(t, os.WriteFile(file, []byte(loadavg), 0o666))
			o, ko := livepatch(t, release, work, filepath.Join(dir, "kd_loadavg.ko"), file)
			require.Equal(t, exitWritten, o.Exit, "%v", o.Diagnostics)
			r := guest.Run(t, guest.Config{Release: release, Files: map[string][]byte{"/lib.sh": lib, "/kd_loadavg.ko": ko},
				Script: ". /lib.sh\nsee() { grep -c kdelta /proc/loadavg; }\nsee\nload kd_loadavg && see\nunload kd_loadavg\nsee\n"})
			assert.Equal(t, "0\n1\nrmmod kd_loadavg: 0\n0\n", r.Out)
			assert.Equal(t, "45056", r.Taint)
			assert.Empty(t, r.Troubles())
			if t.Failed() {
				t.Log(r.Dmesg)
			}
		})
	}
}

// TestAgain holds what the cache promises: the second run compiles nothing, asks make nothing, and gives the same module.
func TestAgain(t *testing.T) {
	work, out := e2e(t), filepath.Join(t.TempDir(), "again.ko")
	_, first := livepatch(t, guest.Debian61, work, out, patchFile(t, "18"))
	o, second := livepatch(t, guest.Debian61, work, out, patchFile(t, "18"))
	require.Equal(t, first, second)
	own := 0.0
	for _, s := range o.Steps {
		own += s.CPU
		for tool, cpu := range s.Tools {
			require.Equal(t, "compiler", tool, "%s: %s", s.Name, tool) // it is asked for its version
			require.Less(t, cpu, 0.1)
		}
	}
	t.Logf("own CPU %.2f s", own)
}

// modules gives a module and all that it needs, which come first.
func modules(t *testing.T, name string, have []*image.Module) []*image.Module {
	t.Helper()
	for _, m := range have {
		if m.Name == name {
			return have
		}
	}
	data, err := os.ReadFile(guest.Module(t, guest.Debian61, name))
	require.NoError(t, err)
	m, err := image.ParseModule(data, image.Options{Name: name})
	require.NoError(t, err)
	for _, d := range m.Depends {
		have = modules(t, d, have)
	}
	return append(have, m)
}

// compileStatic compiles a program for the guest.
func compileStatic(t *testing.T, source string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "x")
	msg, err := exec.Command("gcc-12", "-O1", "-static", "-o", out, source).CombinedOutput()
	require.NoError(t, err, "%s", msg)
	data, err := os.ReadFile(out)
	require.NoError(t, err)
	return data
}
