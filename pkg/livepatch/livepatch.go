// Package livepatch shows and changes the live patches of a running system.
//
// What is read comes from two file systems, /sys and /proc (Linux 6.1 to 7.2;
// Documentation/ABI/testing/sysfs-kernel-livepatch), given as fs.FS; what is
// changed goes through Control; time passes through Clock. Nothing here knows of
// the real ones but Host, so everything can be tested on recorded trees without root.
//
// An operation leaves the system either as it was asked to be or as it was: a
// transition that does not end before its deadline is reversed. Where not even
// that works, the error says what was left behind (code patch-left).
//
// RULES.md beside this file says what the kernel guarantees about a live patch and what it does not.
package livepatch

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kdelta/kdelta/pkg/diag"
)

// System is a running system. It is safe for concurrent use as far as its parts are.
type System struct {
	Sys     fs.FS   // /sys
	Proc    fs.FS   // /proc
	Control Control // nil: whatever changes the system is refused
	Clock   Clock   // needed by whatever waits
}

// Control changes the running kernel. Errors are those of the system calls
// (syscall.Errno inside), which the kernel uses to say why it refuses.
type Control interface {
	// LoadModule gives a module to the kernel (finit_module(2) for what is in a file,
	// else init_module(2)). It returns when the module's start has run, which for a
	// livepatch begins the transition.
	LoadModule(m *Module) error
	// UnloadModule removes a module without waiting for its users (delete_module(2) with O_NONBLOCK).
	UnloadModule(name string) error
	// WriteSys writes to a file below /sys.
	WriteSys(name, value string) error
	// Kill sends a signal to a process.
	Kill(pid int, sig syscall.Signal) error
	// KernelLog gives a function that returns what the kernel has logged since this call, a line each, oldest first.
	KernelLog() func() []string
}

// Clock is how time passes. Monotonic.
type Clock interface {
	Now() time.Time
	Sleep(d time.Duration)
}

// Directories below /sys and /proc.
const (
	patchDir   = "kernel/livepatch"
	moduleDir  = "module"
	tracingDir = "kernel/tracing"       // tracefs
	oldTracing = "kernel/debug/tracing" // its mount point before 4.1, and where only debugfs is mounted
)

// State is where a patch stands.
type State string

// The states. A patch that was disabled or replaced leaves a module without effect.
const (
	Enabling  State = "enabling"  // in transition towards the patch
	Enabled   State = "enabled"   // every task runs the patched functions
	Disabling State = "disabling" // in transition away from the patch
	Inactive  State = "inactive"  // only the module is left
)

// Patch is a live patch of the running system.
type Patch struct {
	Name       string // of its module
	State      State
	Transition bool  // State is Enabling or Disabling
	Replace    *bool // whether it replaced all others; nil: the kernel does not say (before 6.11)
	StackOrder int   // 1 the oldest; the newest one decides about a function. 0: not in the stack
	Objects    []Object
	Refs       int    // of the module; -1: unknown
	Taint      string // letters of the module
}

// Object is what a patch replaces in one kernel object.
type Object struct {
	Name    string // vmlinux, or a module
	Patched bool   // the object is loaded and its functions are redirected
	Funcs   []Func
}

// Func is a replaced function.
type Func struct {
	Name string
	Pos  uint64 // among symbols of that name in the object, from 1
	// Active reports whether this patch is the one whose code runs: it is the newest
	// one that holds the function, and the object is loaded. During a transition,
	// whose code runs depends on the task.
	Active bool
}

// Info is what a system says of itself.
type Info struct {
	Release     string
	Supported   bool   // there is a /sys/kernel/livepatch
	Lockdown    string // none, integrity, confidentiality; "": unknown (no securityfs, or no lockdown)
	Enforced    bool   // modules need a signature
	NoModules   bool   // no module can be loaded any more (kernel.modules_disabled)
	NoFtrace    bool   // kernel.ftrace_enabled is 0
	Tainted     uint64
	Transition  string // the patch that is in transition, "" none
	traceSource fs.FS  // tracefs, nil when it is not mounted
}

// maxFile bounds what is read of one file of /sys or /proc. kallsyms of a big kernel has 20 MB.
const maxFile = 256 << 20

func read(f fs.FS, name string) ([]byte, error) {
	if f == nil {
		return nil, fs.ErrNotExist
	}
	file, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var b bytes.Buffer
	n, err := b.ReadFrom(io.LimitReader(file, maxFile+1))
	if err == nil && n > maxFile {
		err = &fs.PathError{Op: "read", Path: name, Err: syscall.EFBIG}
	}
	return b.Bytes(), err
}

// text gives a file's contents without space around; "" when it cannot be read.
func text(f fs.FS, name string) string {
	b, err := read(f, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func exists(f fs.FS, name string) bool {
	if f == nil {
		return false
	}
	_, err := fs.Stat(f, name)
	return err == nil
}

func dirs(f fs.FS, name string) []string {
	if f == nil {
		return nil
	}
	es, err := fs.ReadDir(f, name)
	if err != nil {
		return nil // it went while we looked
	}
	var out []string
	for _, e := range es {
		if e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out
}

// Info reads what concerns live patching as a whole. The error is a *diag.Error.
func (s *System) Info() (Info, error) {
	i := Info{
		Release:   text(s.Proc, "sys/kernel/osrelease"),
		Supported: exists(s.Sys, patchDir),
		Enforced:  text(s.Sys, moduleDir+"/module/parameters/sig_enforce") == "Y",
		NoModules: text(s.Proc, "sys/kernel/modules_disabled") == "1",
		NoFtrace:  text(s.Proc, "sys/kernel/ftrace_enabled") == "0",
	}
	if i.Release == "" {
		return i, refuse(diag.New(diag.SystemUnreadable, diag.Place{File: "/proc/sys/kernel/osrelease"}, "cannot be read: is /proc mounted?"))
	}
	for _, w := range strings.Fields(text(s.Sys, "kernel/security/lockdown")) {
		if w, ok := strings.CutPrefix(w, "["); ok {
			i.Lockdown = strings.TrimSuffix(w, "]")
		}
	}
	i.Tainted, _ = strconv.ParseUint(text(s.Proc, "sys/kernel/tainted"), 10, 64)
	for _, d := range []string{tracingDir, oldTracing} {
		if exists(s.Sys, d+"/available_filter_functions") {
			i.traceSource, _ = fs.Sub(s.Sys, d)
			break
		}
	}
	for _, p := range dirs(s.Sys, patchDir) {
		if text(s.Sys, path.Join(patchDir, p, "transition")) == "1" {
			i.Transition = p
		}
	}
	return i, nil
}

// TaintNames spells the taint flags that have to do with modules and patches (Documentation/admin-guide/tainted-kernels.rst).
func TaintNames(t uint64) []string {
	var out []string
	for _, f := range []struct {
		bit  uint
		name string
	}{{1, "module forced"}, {9, "warned"}, {7, "died"}, {12, "out-of-tree module"}, {13, "unsigned module"}, {15, "live patch"}} {
		if t>>f.bit&1 != 0 {
			out = append(out, f.name)
		}
	}
	return out
}

// module is a line of /proc/modules.
type module struct {
	name  string
	refs  int
	users []string
	state string
	taint string
}

// modules gives what is loaded, newest first, which is the order of /proc/modules.
func (s *System) modules() []module {
	var out []module
	b, _ := read(s.Proc, "modules")
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 6 {
			continue
		}
		m := module{name: f[0], refs: -1, state: f[4]}
		if n, err := strconv.Atoi(f[2]); err == nil {
			m.refs = n
		}
		for u := range strings.SplitSeq(f[3], ",") {
			if u != "" && u != "-" {
				m.users = append(m.users, u)
			}
		}
		if len(f) > 6 {
			m.taint = strings.Trim(f[6], "()")
		}
		out = append(out, m)
	}
	return out
}

// Loaded reports whether a module is loaded, whatever its patch does.
func (s *System) Loaded(name string) bool {
	return slices.ContainsFunc(s.modules(), func(m module) bool { return m.name == name })
}

// List gives the patches, in stack order, the oldest first, then the inactive ones by name.
//
// Kernels before 6.14 do not tell the stack order; it is that of loading then,
// since a patch is enabled as it is loaded and cannot be enabled again.
func (s *System) List() ([]Patch, error) {
	if !exists(s.Sys, patchDir) {
		return nil, refuse(unsupported())
	}
	mods := s.modules()
	age := make(map[string]int, len(mods)) // from 1, the oldest
	for i, m := range mods {
		age[m.name] = len(mods) - i
	}
	var out []Patch
	active := make(map[string]bool)
	for _, name := range dirs(s.Sys, patchDir) {
		p, ok := s.patch(name)
		if !ok {
			continue
		}
		active[name] = true
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Patch) int {
		return cmp.Or(cmp.Compare(a.StackOrder, b.StackOrder), cmp.Compare(age[a.Name], age[b.Name]), cmp.Compare(a.Name, b.Name))
	})
	type key struct {
		object, name string
		pos          uint64
	}
	newest := make(map[key]*Func)
	for i := range out {
		p := &out[i]
		p.StackOrder = i + 1
		if p.State == Inactive {
			continue
		}
		for j := range p.Objects {
			for k := range p.Objects[j].Funcs {
				o, f := &p.Objects[j], &p.Objects[j].Funcs[k]
				at := key{o.Name, f.Name, f.Pos}
				if old := newest[at]; old != nil {
					old.Active = false
				}
				newest[at] = f
				f.Active = o.Patched
			}
		}
	}
	var left []Patch
	for _, m := range mods {
		if i := slices.IndexFunc(out, func(p Patch) bool { return p.Name == m.name }); i >= 0 {
			out[i].Refs, out[i].Taint = m.refs, m.taint
		} else if strings.Contains(m.taint, "K") {
			left = append(left, Patch{Name: m.name, State: Inactive, Refs: m.refs, Taint: m.taint})
		}
	}
	slices.SortFunc(left, func(a, b Patch) int { return cmp.Compare(a.Name, b.Name) })
	return append(out, left...), nil
}

// state says where a patch stands; false when it has no directory (any more).
// Inactive means that the directory is about to go.
func (s *System) state(name string) (State, bool) {
	dir := path.Join(patchDir, name)
	enabled := text(s.Sys, dir+"/enabled")
	if enabled == "" {
		return "", false
	}
	switch transition := text(s.Sys, dir+"/transition") == "1"; {
	case transition && (enabled == "1" || text(s.Sys, path.Join(moduleDir, name, "initstate")) == "coming"):
		// The kernel sets "enabled" last, while the module's start still runs.
		return Enabling, true
	case transition:
		return Disabling, true
	case enabled == "1":
		return Enabled, true
	}
	return Inactive, true
}

func moving(st State) bool { return st == Enabling || st == Disabling }

// patch reads a patch's directory; false when there is none (any more).
func (s *System) patch(name string) (Patch, bool) {
	dir := path.Join(patchDir, name)
	st, ok := s.state(name)
	if !ok {
		return Patch{}, false
	}
	p := Patch{Name: name, State: st, Transition: moving(st), Refs: -1}
	if r := text(s.Sys, dir+"/replace"); r != "" {
		is := r == "1"
		p.Replace = &is
	}
	p.StackOrder, _ = strconv.Atoi(text(s.Sys, dir+"/stack_order"))
	for _, on := range dirs(s.Sys, dir) {
		o := Object{Name: on, Patched: text(s.Sys, path.Join(dir, on, "patched")) == "1"}
		for _, fn := range dirs(s.Sys, path.Join(dir, on)) {
			// A name may hold commas no more than a position can.
			if i := strings.LastIndexByte(fn, ','); i > 0 {
				pos, err := strconv.ParseUint(fn[i+1:], 10, 64)
				if err == nil {
					o.Funcs = append(o.Funcs, Func{Name: fn[:i], Pos: pos})
				}
			}
		}
		p.Objects = append(p.Objects, o)
	}
	return p, true
}

// Get gives one patch, among them what List would give as inactive. The error is a *diag.Error (no-such-patch).
func (s *System) Get(name string) (Patch, error) {
	ps, err := s.List()
	if err != nil {
		return Patch{}, err
	}
	for _, p := range ps {
		if p.Name == name {
			return p, nil
		}
	}
	return Patch{}, refuse(diag.New(diag.NoSuchPatch, diag.Place{Symbol: name}, "no live patch of this name is loaded"))
}

func unsupported() diag.Diagnostic {
	return diag.New(diag.LivepatchUnsupported, diag.Place{File: "/sys/" + patchDir}, "does not exist")
}

func refuse(ds ...diag.Diagnostic) error { return &diag.Error{Diagnostics: ds} }

// errno gives the system call's error in err, 0 none.
func errno(err error) syscall.Errno {
	var e syscall.Errno
	if errors.As(err, &e) {
		return e
	}
	return 0
}
