// Package guest boots a stock Debian kernel under QEMU for a test, with an
// initramfs of busybox and the test's files, runs one shell script in it and
// gives back what it printed. Tests that use it skip where QEMU, busybox or the
// kernel are missing.
package guest

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Env names the directory that holds unpacked kernel packages (boot, lib/modules ...).
const Env = "KDELTA_KERNELS"

// Releases that tests run on.
const (
	Debian61  = "6.1.0-50-amd64"
	Debian612 = "6.12.117+deb12-amd64"
)

// Root gives the directory of unpacked kernel packages, or skips the test.
func Root(t testing.TB) string {
	t.Helper()
	root := os.Getenv(Env)
	if root == "" {
		t.Skipf("%s does not name a directory of unpacked kernel packages", Env)
	}
	return root
}

// Vmlinuz gives the path of a kernel, or skips the test.
func Vmlinuz(t testing.TB, release string) string {
	t.Helper()
	p := filepath.Join(Root(t), "boot", "vmlinuz-"+release)
	if _, err := os.Stat(p); err != nil {
		t.Skipf("no kernel %s in $%s", release, Env)
	}
	return p
}

// Module gives the path of a module of a kernel by its file name without suffix, or skips the test.
func Module(t testing.TB, release, name string) string {
	t.Helper()
	dir := filepath.Join(Root(t), "lib", "modules", release, "kernel")
	found := ""
	_ = filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		base, _, _ := strings.Cut(filepath.Base(p), ".ko")
		if err == nil && !d.IsDir() && strings.Contains(p, ".ko") && strings.ReplaceAll(base, "-", "_") == strings.ReplaceAll(name, "-", "_") {
			found = p
			return filepath.SkipAll
		}
		return nil
	})
	if found == "" {
		t.Skipf("no module %s of %s in $%s", name, release, Env)
	}
	return found
}

// Config is one run.
type Config struct {
	Release string
	Files   map[string][]byte // by path in the guest; all can be executed
	Script  string            // for busybox sh, in an environment where /proc, /sys, debugfs and tracefs are mounted
	Append  string            // more of the kernel's command line
	Timeout time.Duration     // 0: three minutes
	Disk    string            // path of a raw image that becomes the IDE disk; empty: none
}

// Result is what the guest printed.
type Result struct {
	Out   string // of the script
	Dmesg string
	Taint string // /proc/sys/kernel/tainted at the end
}

const (
	begin = "=====guest-script-begin====="
	end   = "=====guest-script-end====="
	taint = "=====guest-taint====="
	done  = "=====guest-done====="
)

const initScript = `#!/bin/sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /sbin /usr/bin /usr/sbin /root /mnt
/bin/busybox --install -s
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
mount -t tmpfs tmp /tmp
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
echo 1 > /proc/sys/kernel/printk
dmesg -c >/dev/null
stty -onlcr 2>/dev/null
echo ` + begin + `
sh /script
echo ` + end + `
dmesg
echo ` + taint + `
cat /proc/sys/kernel/tainted
echo ` + done + `
sync
poweroff -f
`

// Run boots the kernel and runs the script.
func Run(t testing.TB, c Config) *Result {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a kernel")
	}
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Skip("no qemu-system-x86_64")
	}
	busybox, err := staticBusybox()
	if err != nil {
		t.Skip(err)
	}
	kernel := Vmlinuz(t, c.Release)
	files := maps.Clone(c.Files)
	if files == nil {
		files = make(map[string][]byte)
	}
	files["/init"] = []byte(initScript)
	files["/bin/sh"] = busybox
	files["/bin/busybox"] = busybox
	files["/script"] = []byte(c.Script)
	initrd := filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(initrd, Archive(files), 0o600); err != nil {
		t.Fatal(err)
	}
	if c.Timeout == 0 {
		c.Timeout = 3 * time.Minute
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	defer cancel()
	// Multi-threaded TCG crashes a stock 6.12 while it rewrites its own code.
	args := []string{
		"-m", "1024", "-smp", "2", "-cpu", "max", "-accel", "tcg,thread=single", "-nographic", "-no-reboot",
		"-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 panic=-1 quiet " + c.Append,
	}
	if c.Disk != "" {
		args = append(args, "-drive", "format=raw,if=ide,file="+c.Disk)
	}
	out, err := exec.CommandContext(ctx, qemu, args...).CombinedOutput()
	log := strings.ReplaceAll(string(out), "\r", "")
	if ctx.Err() != nil {
		t.Fatalf("the guest did not end within %v:\n%s", c.Timeout, tail(log))
	}
	if err != nil {
		t.Fatalf("qemu: %v\n%s", err, tail(log))
	}
	r, err := parse(log)
	if err != nil {
		t.Fatalf("%v:\n%s", err, tail(log))
	}
	return r
}

func tail(s string) string { return s[max(0, len(s)-8000):] }

func parse(log string) (*Result, error) {
	_, rest, ok1 := strings.Cut(log, begin+"\n")
	script, rest, ok2 := strings.Cut(rest, end+"\n")
	dmesg, rest, ok3 := strings.Cut(rest, taint+"\n")
	t, _, ok4 := strings.Cut(rest, done)
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return nil, errors.New("the guest crashed or printed no result")
	}
	return &Result{Out: script, Dmesg: dmesg, Taint: strings.TrimSpace(t)}, nil
}

// Troubles gives the lines of the kernel's log that a sound patch does not cause:
// warnings, oopses and what the livepatch core or the module loader complain of.
func (r *Result) Troubles() []string {
	var bad []string
	for line := range strings.Lines(r.Dmesg) {
		for _, s := range []string{"WARNING:", "BUG:", "Oops", "Call Trace", "invalid opcode", "ftrace bug", "general protection", "livepatch: failed", "unresolvable", "not found in symbol table",
			"Unknown symbol", "disagrees about", "Unpatched return thunk", "missing return thunk", "Invalid relocation", "Skipping invalid", "cannot create duplicate", "x86/modules:", "rcu_sched", "soft lockup"} {
			if strings.Contains(line, s) {
				bad = append(bad, strings.TrimSpace(line))
				break
			}
		}
	}
	return bad
}

// staticBusybox gives the program that all commands of the guest are.
func staticBusybox() ([]byte, error) {
	for _, p := range []string{"/bin/busybox", "/usr/bin/busybox"} {
		data, err := os.ReadFile(p)
		if err != nil {
			continue
		}
		f, err := elf.NewFile(bytes.NewReader(data))
		if err != nil {
			continue
		}
		if !slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
			return data, nil
		}
	}
	return nil, errors.New("no static busybox (package busybox-static)")
}

// Archive gives files as the kernel reads them at boot: a cpio archive in the
// "newc" form (Documentation/driver-api/early-userspace/buffer-format.rst).
func Archive(files map[string][]byte) []byte {
	var b bytes.Buffer
	ino := 0
	entry := func(name string, mode int, data []byte) {
		ino++
		fmt.Fprintf(&b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
		b.WriteString(name)
		b.WriteByte(0)
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
		b.Write(data)
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
	}
	dirs := make(map[string]bool)
	var mkdir func(string)
	mkdir = func(d string) {
		if d == "." || d == "/" || dirs[d] {
			return
		}
		mkdir(path.Dir(d))
		dirs[d] = true
		entry(d, 0o040755, nil)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		rel := strings.TrimPrefix(path.Clean(name), "/")
		mkdir(path.Dir(rel))
		entry(rel, 0o100755, files[name])
	}
	entry("TRAILER!!!", 0, nil)
	return b.Bytes()
}
