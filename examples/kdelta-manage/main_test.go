package main

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kdelta/kdelta/examples/internal/cli"
	"github.com/kdelta/kdelta/examples/internal/clitest"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/livepatch"
	"github.com/kdelta/kdelta/pkg/object"
)

const release = "6.1.0-50-amd64"

// machine is a recorded system in a directory, and one run's surroundings.
type machine struct {
	t       *testing.T
	dir     string
	root    bool
	control bool
	width   int
	fail    error
	ops     []string
}

// newMachine unpacks a tree that pkg/livepatch recorded.
func newMachine(t *testing.T, name string) *machine {
	t.Helper()
	data, err := os.ReadFile("../../pkg/livepatch/testdata/trees/" + name + ".txt")
	require.NoError(t, err)
	m := &machine{t: t, dir: t.TempDir(), root: true, control: true}
	file, text := "", []byte(nil)
	flush := func() {
		if file != "" {
			m.write(file, string(text))
		}
		file, text = "", nil
	}
	for line := range strings.Lines(string(data)) {
		rest, ok1 := strings.CutPrefix(line, "-- ")
		rest, ok2 := strings.CutSuffix(rest, " --\n")
		if !ok1 || !ok2 {
			text = append(text, line...)
			continue
		}
		flush()
		if strings.HasSuffix(rest, "/") {
			require.NoError(t, os.MkdirAll(filepath.Join(m.dir, rest), 0o755))
		} else {
			file = rest
		}
	}
	flush()
	return m
}

func (m *machine) write(name, text string) {
	p := filepath.Join(m.dir, name)
	require.NoError(m.t, os.MkdirAll(filepath.Dir(p), 0o755))
	require.NoError(m.t, os.WriteFile(p, []byte(text), 0o600))
}

func (m *machine) read(name string) string {
	data, _ := os.ReadFile(filepath.Join(m.dir, name))
	return string(data)
}

// A machine's kernel ends transitions at once.
func (m *machine) LoadModule(mod *livepatch.Module) error {
	m.ops = append(m.ops, "load "+mod.Name)
	if m.fail != nil {
		return m.fail
	}
	for name, text := range map[string]string{"enabled": "1\n", "transition": "0\n", "vmlinux/patched": "1\n"} {
		m.write("sys/kernel/livepatch/"+mod.Name+"/"+name, text)
	}
	m.write("proc/modules", mod.Name+" 16384 1 - Live 0x0 (OEK)\n"+m.read("proc/modules"))
	return nil
}

func (m *machine) UnloadModule(name string) error {
	m.ops = append(m.ops, "unload "+name)
	if m.fail != nil {
		return m.fail
	}
	var out strings.Builder
	for line := range strings.Lines(m.read("proc/modules")) {
		if !strings.HasPrefix(line, name+" ") {
			out.WriteString(line)
		}
	}
	m.write("proc/modules", out.String())
	return nil
}

func (m *machine) WriteSys(name, value string) error {
	m.ops = append(m.ops, "write "+name+" "+value)
	switch {
	case m.fail != nil:
		return m.fail
	case strings.HasSuffix(name, "/force"):
		m.write(filepath.Join("sys", filepath.Dir(name), "transition"), "0\n")
	case value == "0":
		return os.RemoveAll(filepath.Join(m.dir, "sys", filepath.Dir(name)))
	}
	return nil
}

func (m *machine) Kill(pid int, sig syscall.Signal) error { return nil }
func (m *machine) KernelLog() func() []string             { return func() []string { return nil } }
func (m *machine) Now() time.Time                         { return time.Now() }
func (m *machine) Sleep(d time.Duration)                  { time.Sleep(d) }

// do runs the program; of the flags it adds those that lead to the machine.
func (m *machine) do(args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	env := &env{Env: cli.Env{Program: &program, Out: bufio.NewWriter(&o), Err: &e}, privileged: func() bool { return m.root }, program: func() (string, error) { return os.Executable() },
		host: func(sys, proc string) *livepatch.System {
			s := livepatch.Host(sys, proc)
			if m.control {
				s.Control, s.Clock = m, m
			}
			return s
		}}
	if m.width > 0 {
		env.width = func() int { return m.width }
	}
	if len(args) > 0 {
		switch args[0] {
		case "check", "load", "unload", "list", "status", "wait":
			args = append(args, "--sysfs", filepath.Join(m.dir, "sys"), "--proc", filepath.Join(m.dir, "proc"))
		}
		switch args[0] {
		case "load", "list", "install", "remove":
			args = append(args, "--store", filepath.Join(m.dir, "store"))
		}
		switch args[0] {
		case "install", "remove":
			args = append(args, "--unit-dir", filepath.Join(m.dir, "units"))
		}
	}
	code = env.run(args)
	return code, strings.ReplaceAll(o.String(), m.dir, "DIR"), strings.ReplaceAll(e.String(), m.dir, "DIR")
}

// module writes a module file that replaces functions of vmlinux.
func (m *machine) module(name, release string, replace bool, funcs ...string) string {
	b := object.NewBuilder(object.Header{Type: elf.ET_REL})
	info := "license=GPL\x00livepatch=Y\x00vermagic=" + release + " SMP preempt mod_unload modversions \x00name=" + name + "\x00"
	b.AddSection(object.BuildSection{Name: ".modinfo", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Addralign: 1, Data: []byte(info)})
	text := b.AddSection(object.BuildSection{Name: ".text", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, Addralign: 16, Data: make([]byte, 64)})
	fn := b.AddSymbol(object.BuildSymbol{Name: "new", Sec: text, Size: 64, Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_FUNC)})
	this := b.AddSymbol(object.BuildSymbol{Name: "__this_module", Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_OBJECT)})
	o := klp.Object{Name: klp.Vmlinux}
	for _, f := range funcs {
		o.Funcs = append(o.Funcs, klp.Func{Name: f, New: fn})
	}
	klp.Static(b, &klp.StaticTables{Module: this, NoReplace: !replace, Objects: []klp.Object{o}}, map[object.SecID]object.SymID{})
	data, err := b.Bytes()
	require.NoError(m.t, err)
	file := filepath.Join(m.dir, name+".ko")
	require.NoError(m.t, os.WriteFile(file, data, 0o600))
	return file
}

// Every command in every kind of end: its exit code, what it says where, what it did.
func TestCommands(t *testing.T) {
	for _, c := range []struct {
		name, tree string
		set        func(m *machine)
		args       string // MODULE, OTHER, CUM: a stacking module, one for another kernel, a cumulative one
		code       int
		out, err   string // that must be in it; "-": nothing at all
		ops        []string
	}{
		{"check", "6.1-idle", nil, "check MODULE", 0, "p  for 6.1.0-50-amd64, not signed\n  vmlinux\n    cmdline_proc_show,1\n", "-", nil},
		{"check without root", "6.1-idle", func(m *machine) { m.root = false }, "check MODULE", 0, "p  for", "-", nil},
		{"check refuses", "6.1-idle", nil, "check OTHER", 1, "", "[wrong-release]", nil},
		{"check cumulative", "6.1-two", nil, "check CUM", 0, "takes the place of livepatch_one\n  takes the place of livepatch_two\n", "[already-patched]", nil},
		{"check no module", "6.1-idle", nil, "check nothing.ko", 2, "-", "[file-unreadable]", nil},
		{"check directory", "6.1-idle", nil, "check .", 2, "-", "not a regular file", nil},
		{"check text", "6.1-idle", nil, "check main.go", 2, "-", "[elf-malformed]", nil},
		{"no proc", "6.1-idle", func(m *machine) { _ = os.RemoveAll(m.dir + "/proc") }, "status", 2, "-", "[system-unreadable]", nil},

		{"load", "6.1-idle", nil, "load MODULE", 0, "p  enabled", "-", []string{"load p"}},
		{"load without root", "6.1-idle", func(m *machine) { m.root = false }, "load MODULE", 1, "-", "it needs root [not-permitted]", nil},
		{"load on a recording", "6.1-idle", func(m *machine) { m.control = false }, "load MODULE", 1, "-", "[not-permitted]", nil},
		{"load dry", "6.1-two", func(m *machine) { m.root = false }, "load --dry-run CUM", 0, "would load cum from DIR/cum.ko\nwould wait up to 1m0s", "", nil},
		{"load dry, refused", "6.1-idle", nil, "load --dry-run OTHER", 1, "", "[wrong-release]", nil},
		{"load refused", "6.1-lockdown", nil, "load MODULE", 1, "-", "[lockdown]", nil},
		{"load replaces", "6.1-idle", nil, "load --replace MODULE", 1, "-", "[not-cumulative]", nil},
		{"load, kernel refuses", "6.1-idle", func(m *machine) { m.fail = syscall.ENOEXEC }, "load MODULE", 3, "-", "exec format error", []string{"load p"}},
		{"load nothing", "6.1-idle", nil, "load", 2, "-", "either a module or --installed", nil},
		{"load both", "6.1-idle", nil, "load --installed MODULE", 2, "-", "either a module or --installed", nil},
		{"load none installed", "6.1-idle", nil, "load --installed", 0, "-", "-", nil},

		{"unload", "6.1-one", nil, "unload livepatch_one", 0, "livepatch_one  unloaded\n", "-", []string{"write kernel/livepatch/livepatch_one/enabled 0", "unload livepatch_one"}},
		{"unload by file", "6.1-one", nil, "unload /somewhere/livepatch-one.ko", 0, "livepatch_one  unloaded\n", "-", []string{"write kernel/livepatch/livepatch_one/enabled 0", "unload livepatch_one"}},
		{"disable", "6.1-one", nil, "unload --keep-module livepatch_one", 0, "livepatch_one  inactive\n", "-", []string{"write kernel/livepatch/livepatch_one/enabled 0"}},
		{"unload dry", "6.1-one", nil, "unload --dry-run livepatch_one", 0, "would disable livepatch_one\nwould wait", "-", nil},
		{"unload dry unknown", "6.1-one", nil, "unload --dry-run nobody", 1, "-", "[no-such-patch]", nil},
		{"unload unknown", "6.1-one", nil, "unload nobody", 1, "-", "[no-such-patch]", nil},
		{"unload without root", "6.1-one", func(m *machine) { m.root = false }, "unload livepatch_one", 1, "-", "[not-permitted]", nil},
		{"unload busy", "6.1-one", func(m *machine) { m.fail = syscall.EBUSY }, "unload livepatch_one", 1, "-", "[transition-running]", []string{"write kernel/livepatch/livepatch_one/enabled 0"}},

		{"list", "6.1-two", nil, "list", 0, "livepatch_one  enabled\n  vmlinux\n    cmdline_proc_show,1  not in effect\nlivepatch_two  enabled\n  fat\n    fat_statfs,1\n  vmlinux\n    __x64_sys_pause,1\n    cmdline_proc_show,1\n", "-", nil},
		{"list replaced", "6.12-replaced", nil, "list", 0, "livepatch_cum  enabled, replaces others\n  vmlinux\n    cmdline_proc_show,1\nlivepatch_one  inactive\nlivepatch_two  inactive\n", "-", nil},
		{"list nothing", "6.1-idle", nil, "list", 0, "-", "-", nil},
		{"list unsupported", "6.1-idle", func(m *machine) { _ = os.RemoveAll(m.dir + "/sys/kernel/livepatch") }, "list", 2, "-", "[livepatch-unsupported]", nil},

		{"status", "6.1-one", nil, "status", 0, "taint       45056 (out-of-tree module, unsigned module, live patch)\ntransition  none\nlivepatch_one  enabled\n", "-", nil},
		{"status stalled", "6.1-stalled", nil, "status", 1, "transition  livepatch_two\n", "-", nil},
		{"status of blockers", "6.1-stalled", nil, "status livepatch_two", 1, "] in __x64_sys_pause\n  __do_sys_pause+", "-", nil},
		{"status enabled", "6.1-two", nil, "status livepatch_one", 0, "livepatch_one  enabled", "-", nil},
		{"status inactive", "6.1-disabled", nil, "status livepatch_two", 1, "livepatch_two  inactive", "-", nil},
		{"status unknown", "6.1-two", nil, "status nobody", 1, "", "[no-such-patch]", nil},
		{"status unsupported", "6.1-idle", func(m *machine) { _ = os.RemoveAll(m.dir + "/sys/kernel/livepatch") }, "status", 1, "without live patching", "-", nil},

		{"wait for none", "6.1-two", nil, "wait", 0, "-", "-", nil},
		{"wait settled", "6.1-two", nil, "wait livepatch_two", 0, "livepatch_two  enabled\n", "-", nil},
		{"wait in vain", "6.1-stalled", nil, "wait --timeout 300ms", 4, "blocked by  pauser[", "the transition goes on [transition-stalled]", nil},
		{"wait and force", "6.1-stalled", nil, "wait --timeout 300ms --force", 0, "livepatch_two  enabled\n", "was ended by force", []string{"write kernel/livepatch/livepatch_two/force 1"}},
		{"wait and force, refused", "6.1-stalled", func(m *machine) { m.fail = syscall.EPERM }, "wait --timeout 300ms --force", 4, "", "[not-permitted]", []string{"write kernel/livepatch/livepatch_two/force 1"}},
		{"wait and force without root", "6.1-stalled", func(m *machine) { m.root = false }, "wait --timeout 300ms --force", 1, "-", "[not-permitted]", nil},
		{"wait dry", "6.1-stalled", nil, "wait --dry-run --force --signal 5s", 0, "would force the transition", "-", nil},
		{"wait unknown", "6.1-two", nil, "wait nobody", 1, "-", "[no-such-patch]", nil},

		{"install", "6.1-idle", nil, "install MODULE", 0, "p  installed for 6.1.0-50-amd64\n", "-", nil},
		{"install dry", "6.1-idle", nil, "install --dry-run MODULE", 0, "would write DIR/store/6.1.0-50-amd64/p.ko\n", "-", nil},
		{"install no patch", "6.1-idle", nil, "install main.go", 2, "-", "[elf-malformed]", nil},
		{"remove nothing", "6.1-idle", nil, "remove p", 1, "-", "[no-such-patch]", nil},

		{"nothing", "6.1-idle", nil, "", 2, "-", "usage:", nil},
		{"help", "6.1-idle", nil, "help", 0, "exit codes:\n", "-", nil},
		{"help of one", "6.1-idle", nil, "help load", 0, "--dry-run", "-", nil},
		{"unknown", "6.1-idle", nil, "frobnicate", 2, "-", "unknown command", nil},
		{"unknown flag", "6.1-idle", nil, "list --frobnicate", 2, "-", "frobnicate", nil},
		{"too many", "6.1-idle", nil, "unload a b", 2, "-", "2 arguments, want 1", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t, c.tree)
			args := m.args(c.args)
			if c.set != nil {
				c.set(m)
			}
			code, out, errs := m.do(args...)
			require.Equal(t, c.code, code, "%s%s", out, errs)
			has := func(want, got string) {
				if want == "-" {
					require.Empty(t, got)
				} else {
					require.Contains(t, got, want)
				}
			}
			has(c.out, out)
			has(c.err, errs)
			require.Equal(t, c.ops, m.ops)
		})
	}
}

func (m *machine) args(line string) []string {
	args := strings.Fields(line)
	for i, a := range args {
		switch a {
		case "MODULE":
			args[i] = m.module("p", release, false, "cmdline_proc_show")
		case "OTHER":
			args[i] = m.module("p", "6.1.0-49-amd64", false, "cmdline_proc_show")
		case "CUM":
			args[i] = m.module("cum", release, true, "cmdline_proc_show")
		}
	}
	return args
}

// What is installed is loaded, once, in order, without what is replaced.
func TestInstalled(t *testing.T) {
	m := newMachine(t, "6.1-idle")
	for _, name := range []string{"zz", "aa"} {
		code, _, errs := m.do("install", m.module(name, release, false, "cmdline_proc_show"))
		require.Equal(t, 0, code, errs)
	}
	code, out, errs := m.do("load", "--installed")
	require.Equal(t, 0, code, errs)
	require.Contains(t, out, "aa  enabled")
	require.Equal(t, []string{"load zz", "load aa"}, m.ops)
	code, _, _ = m.do("load", "--installed")
	require.Equal(t, 0, code)
	require.Len(t, m.ops, 2, "they are loaded")

	m.ops = nil
	code, _, errs = m.do("install", m.module("cum", release, true, "cmdline_proc_show"))
	require.Equal(t, 0, code, errs)
	code, out, _ = m.do("list", "--installed")
	require.Equal(t, 0, code)
	require.Equal(t, "zz  installed for 6.1.0-50-amd64, not loaded: a later one replaces it\naa  installed for 6.1.0-50-amd64, not loaded: a later one replaces it\ncum  installed for 6.1.0-50-amd64\n", out)
	code, _, _ = m.do("load", "--installed", "--keep-replaced")
	require.Equal(t, 0, code)
	require.Equal(t, []string{"load cum"}, m.ops)

	// One that fails does not keep the others away, and the exit code is the worst.
	m = newMachine(t, "6.1-idle")
	for _, name := range []string{"first", "second"} {
		code, _, errs := m.do("install", m.module(name, release, false, "cmdline_proc_show"))
		require.Equal(t, 0, code, errs)
	}
	m.write("store/"+release+"/first.ko", "?")
	code, _, errs = m.do("load", "--installed")
	require.Equal(t, 2, code)
	require.Contains(t, errs, "elf-malformed")
	require.Equal(t, []string{"load second"}, m.ops)

	code, out, errs = m.do("remove", "--dry-run", "first")
	require.Equal(t, 0, code, errs)
	require.Equal(t, "would remove DIR/store/6.1.0-50-amd64/first.ko\n", out)
	code, out, _ = m.do("remove", "first")
	require.Equal(t, 0, code)
	require.Equal(t, "DIR/store/6.1.0-50-amd64/first.ko  removed\n", out)
	code, _, _ = m.do("remove", "second")
	require.Equal(t, 0, code)
	require.NoFileExists(t, filepath.Join(m.dir, "units", livepatch.UnitName))
}

// Progress is drawn on a terminal only, in its width, and wiped.
func TestProgress(t *testing.T) {
	m := newMachine(t, "6.1-stalled")
	m.width = 40
	code, out, errs := m.do("wait", "--timeout", "300ms")
	require.Equal(t, 4, code)
	require.NotContains(t, out, "\x1b")
	line, rest, ok := strings.Cut(strings.TrimPrefix(errs, "\r\x1b[K"), "\r\x1b[K")
	require.True(t, ok)
	require.Equal(t, "livepatch_two: enabling, 1 of ", line[:30])
	require.LessOrEqual(t, len(line), 39)
	require.NotContains(t, rest, "\x1b")
}

// Every document follows the schema, and says the exit code.
func TestDocuments(t *testing.T) {
	require.Contains(t, schemaText, schemaName)
	for _, c := range []struct{ tree, args string }{
		{"6.1-idle", "check MODULE"}, {"6.1-two", "check CUM"}, {"6.1-idle", "check OTHER"}, {"6.1-idle", "check main.go"}, {"6.1-idle", "check no.ko"},
		{"6.1-two", "load MODULE"}, {"6.1-two", "load CUM"}, {"6.1-two", "load --dry-run CUM"}, {"6.1-lockdown", "load MODULE"}, {"6.1-idle", "load --installed"},
		{"6.1-one", "unload livepatch_one"}, {"6.1-one", "unload nobody"}, {"6.12-two", "unload --dry-run livepatch_two"},
		{"6.1-idle", "list"}, {"6.1-two", "list"}, {"6.12-replaced", "list"}, {"6.12-stalled", "list"}, {"6.1-idle", "list --installed"},
		{"6.1-stalled", "status"}, {"6.12-disabling", "status"}, {"6.12-lockdown", "status"}, {"6.12-enforced", "status"}, {"6.12-two", "status livepatch_two"},
		{"6.12-stalled", "wait --timeout 200ms"}, {"6.12-stalled", "wait --timeout 200ms --force"}, {"6.1-idle", "wait"},
		{"6.1-idle", "install MODULE"}, {"6.1-idle", "install --dry-run MODULE"}, {"6.1-idle", "remove p"},
	} {
		m := newMachine(t, c.tree)
		m.width = 80
		code, out, errs := m.do(append(m.args(c.args), "--json")...)
		var doc map[string]any
		require.NoError(t, json.Unmarshal([]byte(out), &doc), "%s: %s", c.args, errs)
		require.NoError(t, clitest.Validate(schemaText, out), "%s on %s", c.args, c.tree)
		require.EqualValues(t, code, doc["exit"])
		require.Equal(t, strings.Fields(c.args)[0], doc["command"])
		if i := strings.LastIndex(errs, "\x1b[K"); i >= 0 {
			errs = errs[i+3:]
		}
		require.Empty(t, errs, "diagnostics are in the document")
	}
	m := newMachine(t, "6.1-idle")
	code, out, _ := m.do("schema")
	require.Equal(t, 0, code)
	require.Equal(t, schemaText, out)
	require.Error(t, clitest.Validate(schemaText, `{"schema": "kdelta.manage/v2"}`))
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// Output that cannot be written is no success.
func TestOutputFails(t *testing.T) {
	m := newMachine(t, "6.1-two")
	for _, more := range [][]string{nil, {"--json"}} {
		var e bytes.Buffer
		env := &env{Env: cli.Env{Program: &program, Out: bufio.NewWriter(broken{}), Err: &e}, host: livepatch.Host, privileged: func() bool { return true }}
		code := env.run(append([]string{"list", "--sysfs", m.dir + "/sys", "--proc", m.dir + "/proc"}, more...))
		require.Equal(t, exitTrouble, code)
		require.Contains(t, e.String(), "no space left")
	}
}
