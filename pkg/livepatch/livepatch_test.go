package livepatch

import (
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
)

// The trees in testdata/trees were recorded on stock Debian kernels under QEMU,
// with livepatch_one (cmdline_proc_show), livepatch_two (the same,
// __x64_sys_pause and fat_statfs of fat) and livepatch_cum (cmdline_proc_show,
// replace): a file is "-- NAME --" and its contents, a directory "-- NAME/ --".
// kallsyms and available_filter_functions hold the lines of some functions.
var kernels = map[string]string{"6.1": "6.1.0-50-amd64", "6.12": "6.12.117+deb12-amd64"}

// tree reads a recorded tree.
func tree(t testing.TB, name string) fstest.MapFS {
	t.Helper()
	data, err := os.ReadFile("testdata/trees/" + name + ".txt")
	require.NoError(t, err)
	m := fstest.MapFS{}
	file := ""
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "-- "); ok {
			if file, ok = strings.CutSuffix(rest, " --\n"); ok {
				if dir, ok := strings.CutSuffix(file, "/"); ok {
					m[dir] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
				} else {
					m[file] = &fstest.MapFile{Mode: 0o644}
				}
				continue
			}
		}
		require.NotEmpty(t, file)
		m[file].Data = append(m[file].Data, line...)
	}
	return m
}

// kernel is a running system that starts as a recorded tree and goes on by the
// rules of Documentation/livepatch/livepatch.rst.
type kernel struct {
	tree    fstest.MapFS
	now     time.Time
	blocked time.Duration // how long a transition towards a patch takes
	stuck   bool          // one that was reversed takes for ever
	began   time.Time
	moving  string // in transition
	up      bool   // towards the patch
	cum     bool   // it replaces the others

	refuse  map[string]error // by operation: load, unload, write
	log     []string
	ops     []string
	onSleep func()
	sticky  map[string]bool // modules whose reference never goes
}

func newKernel(t testing.TB, name string) *kernel {
	return &kernel{tree: tree(t, name), now: time.Unix(0, 0), refuse: map[string]error{}, sticky: map[string]bool{}}
}

func (k *kernel) system() *System {
	sub := func(d string) fs.FS {
		f, err := fs.Sub(k.tree, d)
		if err != nil {
			panic(err)
		}
		return f
	}
	return &System{Sys: sub("sys"), Proc: sub("proc"), Control: k, Clock: k}
}

func (k *kernel) set(name, text string) {
	k.tree[name] = &fstest.MapFile{Data: []byte(text + "\n"), Mode: 0o644}
}

func (k *kernel) Now() time.Time { return k.now }

func (k *kernel) Sleep(d time.Duration) {
	if d <= 0 {
		panic("a sleep without end in sight")
	}
	k.now = k.now.Add(d)
	if k.onSleep != nil {
		k.onSleep()
	}
	k.step()
}

// patchPath is where a patch's files are.
func patchPath(name, file string) string { return path.Join("sys/kernel/livepatch", name, file) }

func (k *kernel) step() {
	if k.moving == "" {
		return
	}
	took := k.now.Sub(k.began)
	if k.up && took < k.blocked || !k.up && (k.stuck || took < time.Second) {
		return
	}
	name := k.moving
	k.moving = ""
	k.tasks(-1, -1)
	if k.up {
		k.set(patchPath(name, "transition"), "0")
		if k.cum {
			for _, p := range k.patches() {
				if p != name {
					k.drop(p)
				}
			}
		}
		return
	}
	k.drop(name)
}

func (k *kernel) patches() []string {
	var out []string
	for n := range k.tree {
		if path.Base(n) == "enabled" && strings.HasPrefix(n, "sys/kernel/livepatch/") {
			out = append(out, path.Base(path.Dir(n)))
		}
	}
	slices.Sort(out)
	return out
}

func (k *kernel) drop(name string) {
	for n := range k.tree {
		if n == patchPath(name, "") || strings.HasPrefix(n, patchPath(name, "")+"/") {
			delete(k.tree, n)
		}
	}
	k.refs(name, 0)
}

// module changes the line of a module in /proc/modules; with "" it goes.
func (k *kernel) module(name, line string) {
	var out []string
	for l := range strings.Lines(string(k.tree["proc/modules"].Data)) {
		if !strings.HasPrefix(l, name+" ") {
			out = append(out, l)
		}
	}
	if line != "" {
		out = append([]string{line + "\n"}, out...)
	}
	k.tree["proc/modules"] = &fstest.MapFile{Data: []byte(strings.Join(out, ""))}
}

func (k *kernel) refs(name string, n int) {
	k.module(name, fmt.Sprintf("%s 16384 %d - Live 0xffffffffc0330000 (OEK)", name, n))
}

// tasks sets the state of init, and of pauser, which blocks.
func (k *kernel) tasks(others, blocker int) {
	k.set("proc/1/task/1/patch_state", fmt.Sprint(others))
	k.set("proc/2/task/2/patch_state", fmt.Sprint(others))
	for n, text := range map[string]string{"patch_state": fmt.Sprint(blocker), "comm": "pauser", "stack": "[<0>] __do_sys_pause+0x30/0x60\n[<0>] do_syscall_64+0x5d/0xb0", "status": "Name:\tpauser\nPPid:\t1"} {
		k.set("proc/257/task/257/"+n, text)
	}
}

func (k *kernel) op(format string, args ...any) { k.ops = append(k.ops, fmt.Sprintf(format, args...)) }

func (k *kernel) LoadModule(m *Module) error {
	k.op("load %s", m.Name)
	if err := k.refuse["load"]; err != nil {
		return os.NewSyscallError("finit_module", err)
	}
	k.refs(m.Name, 1)
	k.tree[patchPath(m.Name, "")] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
	k.set(patchPath(m.Name, "enabled"), "1")
	k.set(patchPath(m.Name, "transition"), "1")
	for _, o := range m.Objects {
		k.set(patchPath(m.Name, o.Name+"/patched"), "1")
		for _, f := range o.Funcs {
			k.tree[patchPath(m.Name, fmt.Sprintf("%s/%s,%d", o.Name, f.Name, f.Pos))] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
		}
	}
	k.moving, k.up, k.began, k.cum = m.Name, true, k.now, m.Replace != nil && *m.Replace
	k.tasks(1, 0)
	return nil
}

func (k *kernel) UnloadModule(name string) error {
	k.op("unload %s", name)
	if err := k.refuse["unload"]; err != nil {
		return err
	}
	line := ""
	for l := range strings.Lines(string(k.tree["proc/modules"].Data)) {
		if strings.HasPrefix(l, name+" ") {
			line = l
		}
	}
	switch {
	case line == "":
		return syscall.ENOENT
	case k.sticky[name] || strings.Fields(line)[2] != "0":
		return syscall.EAGAIN
	}
	k.module(name, "")
	return nil
}

func (k *kernel) WriteSys(name, value string) error {
	k.op("write %s %s", name, value)
	if err := k.refuse["write"]; err != nil {
		return &fs.PathError{Op: "write", Path: name, Err: err}
	}
	p := path.Base(path.Dir(name))
	if k.tree["sys/"+name] == nil && path.Base(name) == "enabled" {
		return &fs.PathError{Op: "open", Path: name, Err: syscall.ENOENT}
	}
	switch path.Base(name) {
	case "enabled":
		if strings.TrimSpace(string(k.tree["sys/"+name].Data)) == value {
			return &fs.PathError{Op: "write", Path: name, Err: syscall.EINVAL}
		}
		if k.moving != "" && k.moving != p {
			return &fs.PathError{Op: "write", Path: name, Err: syscall.EBUSY}
		}
		k.set("sys/"+name, value)
		k.set(patchPath(p, "transition"), "1")
		k.moving, k.up, k.began = p, value == "1", k.now
		if k.up {
			k.tasks(1, 1)
		} else {
			k.tasks(0, 1)
		}
	case "force":
		k.stuck, k.blocked = false, 0
		k.began = k.began.Add(-time.Hour)
		k.sticky[p] = !k.up
	}
	return nil
}

func (k *kernel) Kill(pid int, sig syscall.Signal) error {
	k.op("kill %d %d", pid, sig)
	if sig == sigCont {
		k.blocked = 0
	}
	return nil
}

func (k *kernel) KernelLog() func() []string { return func() []string { return k.log } }

// ko makes a module file: what kdelta's own writer makes of the tables, with the given .modinfo.
func ko(t testing.TB, name, vermagic string, replace bool, objects map[string][]string, more ...string) []byte {
	t.Helper()
	b := object.NewBuilder(object.Header{Type: elf.ET_REL})
	info := append([]string{"license=GPL", "livepatch=Y", "vermagic=" + vermagic, "name=" + name}, more...)
	b.AddSection(object.BuildSection{Name: ".modinfo", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Addralign: 1, Data: []byte(strings.Join(info, "\x00") + "\x00")})
	text := b.AddSection(object.BuildSection{Name: ".text", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, Addralign: 16, Data: make([]byte, 64)})
	mod := b.AddSection(object.BuildSection{Name: ".gnu.linkonce.this_module", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_WRITE, Addralign: 64, Data: make([]byte, 64)})
	this := b.AddSymbol(object.BuildSymbol{Name: "__this_module", Sec: mod, Size: 64, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_OBJECT)})
	fn := b.AddSymbol(object.BuildSymbol{Name: "new", Sec: text, Size: 64, Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_FUNC)})
	tables := &klp.StaticTables{Module: this, NoReplace: !replace}
	for _, on := range slices.Sorted(func(yield func(string) bool) {
		for n := range objects {
			if !yield(n) {
				return
			}
		}
	}) {
		o := klp.Object{Name: on}
		for _, f := range objects[on] {
			o.Funcs = append(o.Funcs, klp.Func{Name: f, New: fn})
		}
		tables.Objects = append(tables.Objects, o)
	}
	if len(objects) > 0 {
		klp.Static(b, tables, map[object.SecID]object.SymID{})
	}
	data, err := b.Bytes()
	require.NoError(t, err)
	return data
}

const magic = " SMP preempt mod_unload modversions "

func mod(t testing.TB, name, release string, replace bool, objects map[string][]string, more ...string) *Module {
	t.Helper()
	m, err := ReadModule(name+".ko", ko(t, name, release+magic, replace, objects, more...))
	require.NoError(t, err)
	return m
}

func codes(ds []diag.Diagnostic) []string {
	out := []string{}
	for _, d := range ds {
		out = append(out, fmt.Sprintf("%s %s", d.Severity, d.Code))
	}
	return out
}
