package livepatch

import (
	"bytes"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
)

// Check is what Preflight found.
type Check struct {
	Info        Info
	Module      *Module
	Replaces    []string // active patches that would go
	Stacks      []string // active patches under the new one
	Diagnostics []diag.Diagnostic
}

// Err gives a *diag.Error when something stands against loading the module.
func (c *Check) Err() error { return diag.Refuse(c.Diagnostics) }

func (c *Check) add(code diag.Code, at diag.Place, format string, args ...any) *diag.Diagnostic {
	c.Diagnostics = append(c.Diagnostics, diag.New(code, at, format, args...))
	return &c.Diagnostics[len(c.Diagnostics)-1]
}

// Preflight says what stands against loading a module, as far as can be seen
// without trying. What the kernel will not show to this process (tracefs and
// addresses need root) is left out. The error is that of Info.
func (s *System) Preflight(m *Module) (*Check, error) {
	info, err := s.Info()
	c := &Check{Info: info, Module: m}
	if err != nil {
		return c, err
	}
	at := diag.Place{Symbol: m.Name}
	if !m.Livepatch {
		c.add(diag.NotLivepatch, at, "the module does not say livepatch=Y")
	}
	if why := foreign(m.Vermagic, info.Release, text(s.Proc, "version")); why != "" {
		c.add(diag.WrongRelease, at, "%s", why)
	}
	if !info.Supported {
		c.Diagnostics = append(c.Diagnostics, unsupported())
		return c, nil
	}
	if info.NoModules {
		c.add(diag.ModulesDisabled, at, "kernel.modules_disabled is 1")
	}
	if !m.Signed && info.Lockdown != "" && info.Lockdown != "none" {
		c.add(diag.Lockdown, at, "lockdown is %s, and the module has no signature", info.Lockdown)
	} else if !m.Signed && info.Enforced {
		c.add(diag.SignatureRequired, at, "module.sig_enforce is on, and the module has no signature")
	}
	if info.NoFtrace {
		c.add(diag.FtraceDisabled, at, "kernel.ftrace_enabled is 0")
	}
	if info.Transition != "" {
		c.add(diag.TransitionRunning, at, "%s is in transition", info.Transition)
	}
	patches, err := s.List()
	if err != nil {
		return c, err
	}
	mods := s.modules()
	loaded := func(name string) bool {
		return name == klp.Vmlinux || slices.ContainsFunc(mods, func(x module) bool { return x.name == name })
	}
	for _, p := range patches {
		switch {
		case p.State == Inactive:
		case m.Replace != nil && *m.Replace:
			c.Replaces = append(c.Replaces, p.Name)
		default:
			c.Stacks = append(c.Stacks, p.Name)
		}
	}
	if loaded(strings.ReplaceAll(m.Name, "-", "_")) {
		how := "its patch is not active"
		if slices.ContainsFunc(patches, func(p Patch) bool { return p.Name == m.Name && p.State != Inactive }) {
			how = "its patch is active"
		}
		c.add(diag.PatchLoaded, at, "a module of this name is loaded; %s", how)
	}
	if !m.Known {
		c.add(diag.ContentsUnknown, at, "the file has no tables of functions that kdelta knows")
		return c, nil
	}
	var want []ref
	for _, o := range m.Objects {
		if !loaded(o.Name) {
			c.add(diag.TargetAbsent, diag.Place{Symbol: o.Name}, "module %s is not loaded", o.Name)
			continue
		}
		for _, f := range o.Funcs {
			want = append(want, ref{o.Name, f.Name, f.Pos})
		}
	}
	c.functions(s, want, patches)
	return c, nil
}

// foreign says why a module does not belong to a kernel; "" if it may.
func foreign(vermagic, release, version string) string {
	if vermagic == "" {
		return "the module does not say which kernel it is for"
	}
	words := strings.Fields(vermagic)
	if words[0] != release {
		return "the module is for " + words[0] + ", and " + release + " runs"
	}
	if version == "" {
		return ""
	}
	for _, f := range []struct{ magic, banner string }{{"SMP", "SMP"}, {"preempt_rt", "PREEMPT_RT"}} {
		module, kernel := slices.Contains(words, f.magic), slices.Contains(strings.Fields(version), f.banner)
		switch {
		case module && !kernel:
			return "the module is for a kernel with " + f.banner + ", which the running one is not"
		case kernel && !module:
			return "the running kernel is one with " + f.banner + ", for which the module is not"
		}
	}
	return ""
}

// ref names a function: the pos-th symbol of the name in the object, from 1.
type ref struct {
	object, name string
	pos          uint64
}

func (r ref) String() string {
	s := r.object + ":" + r.name
	if r.pos > 1 {
		s += "," + strconv.FormatUint(r.pos, 10)
	}
	return s
}

func (c *Check) functions(s *System, want []ref, patches []Patch) {
	names, known := s.aliases(want)
	for _, r := range want {
		if known && names[r] == nil {
			c.add(diag.FunctionAbsent, diag.Place{Symbol: r.String()}, "is not in /proc/kallsyms")
		}
	}
	for _, r := range want {
		for _, p := range patches {
			if p.State == Inactive || !p.holds(r, names[r]) {
				continue
			}
			d := c.add(diag.AlreadyPatched, diag.Place{Symbol: r.String()}, "%s replaces it too", p.Name)
			if c.Module.Replace != nil && *c.Module.Replace {
				d.Severity, d.Message, d.Remedy = diag.SevNote, p.Name+" replaces it now, and goes", ""
			}
		}
	}
	if c.Info.traceSource == nil {
		return
	}
	if avail, err := traceLines(c.Info.traceSource, "available_filter_functions"); err == nil {
		for _, r := range want {
			if known && names[r] == nil {
				continue // said above
			}
			if _, ok := find(avail, r, names[r]); ok {
				continue
			}
			d := c.add(diag.NotTraceable, diag.Place{Symbol: r.String()}, "is not in available_filter_functions")
			if len(names[r]) == 0 {
				// It may be there under another name of the same address, which this process cannot see.
				d.Severity, d.Message = diag.SevWarning, d.Message+" under this name"
			}
		}
	}
	if users, err := traceLines(c.Info.traceSource, "enabled_functions"); err == nil {
		for _, r := range want {
			line, ok := find(users, r, names[r])
			if !ok || !ipmodify(line) || strings.Contains(line, "klp_ftrace_handler") {
				continue
			}
			if slices.ContainsFunc(patches, func(p Patch) bool { return p.holds(r, names[r]) }) {
				continue // several users: the handler is not named
			}
			c.add(diag.FtraceBusy, diag.Place{Symbol: r.String()}, "ftrace has a user that changes where it leads: %s", strings.Join(strings.Fields(line), " "))
		}
	}
}

// holds reports whether the patch replaces the function, under its name or an alias.
func (p *Patch) holds(r ref, names []string) bool {
	return slices.ContainsFunc(p.Objects, func(o Object) bool {
		return o.Name == r.object && slices.ContainsFunc(o.Funcs, func(f Func) bool {
			return f.Name == r.name && f.Pos == r.pos || f.Name != r.name && slices.Contains(names, f.Name)
		})
	})
}

// ipmodify reports whether a line of enabled_functions has the flag I: NAME (COUNT) FLAGS TAB CALLBACKS.
func ipmodify(line string) bool {
	_, rest, ok := strings.Cut(line, ") ")
	flags, _, _ := strings.Cut(rest, "\t")
	return ok && strings.Contains(flags, "I")
}

// aliases gives the names of the symbols at the address of each function, itself
// included: the kernel's lists name each address once, by whichever it likes
// (__do_sys_pause for __x64_sys_pause). A function that is not in the kernel
// has none. known is false when /proc/kallsyms cannot be read; where it hides the
// addresses, the names of a function are an empty list.
func (s *System) aliases(want []ref) (names map[ref][]string, known bool) {
	names = make(map[ref][]string)
	data, err := read(s.Proc, "kallsyms")
	if err != nil || len(data) == 0 {
		return names, false
	}
	type name struct{ object, name string }
	type addr struct {
		object string
		addr   uint64
	}
	byName := make(map[name][]ref)
	for _, r := range want {
		k := name{r.object, r.name}
		byName[k] = append(byName[k], r)
	}
	seen := make(map[name]uint64)
	byAddr := make(map[addr][]ref)
	symbols(data, func(a uint64, object, n []byte) {
		k := name{string(object), string(n)}
		rs := byName[k]
		if rs == nil {
			return
		}
		seen[k]++
		for _, r := range rs {
			if r.pos == seen[k] {
				names[r] = []string{}
				if a != 0 {
					byAddr[addr{r.object, a}] = append(byAddr[addr{r.object, a}], r)
				}
			}
		}
	})
	if len(byAddr) > 0 {
		symbols(data, func(a uint64, object, n []byte) {
			for _, r := range byAddr[addr{string(object), a}] {
				names[r] = append(names[r], string(n))
			}
		})
	}
	return names, true
}

// symbols goes through /proc/kallsyms: ADDRESS TYPE NAME [TAB [MODULE]].
func symbols(data []byte, f func(addr uint64, object, name []byte)) {
	vmlinux := []byte(klp.Vmlinux)
	for line := range bytes.Lines(data) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		a, rest, ok1 := bytes.Cut(line, []byte(" "))
		_, name, ok2 := bytes.Cut(rest, []byte(" "))
		if !ok1 || !ok2 {
			continue
		}
		object := vmlinux
		if n, m, ok := bytes.Cut(name, []byte("\t[")); ok {
			name, object = n, bytes.TrimSuffix(m, []byte("]"))
		}
		v, err := strconv.ParseUint(string(a), 16, 64)
		if err == nil {
			f(v, object, name)
		}
	}
}

// function is a name as ftrace's lists have it.
type function struct{ object, name string }

// traceLines reads a list of ftrace: NAME or NAME [MODULE], and more.
func traceLines(f fs.FS, name string) (map[function]string, error) {
	data, err := read(f, name)
	if err != nil {
		return nil, err
	}
	out := make(map[function]string)
	for line := range strings.Lines(string(data)) {
		w := strings.Fields(line)
		if len(w) == 0 {
			continue
		}
		k := function{klp.Vmlinux, w[0]}
		if len(w) > 1 && strings.HasPrefix(w[1], "[") {
			k.object = strings.Trim(w[1], "[]")
		}
		out[k] = strings.TrimRight(line, "\n")
	}
	return out, nil
}

// find looks a function up under its name and its aliases.
func find(lines map[function]string, r ref, names []string) (string, bool) {
	if line, ok := lines[function{r.object, r.name}]; ok {
		return line, true
	}
	for _, n := range names {
		if line, ok := lines[function{r.object, n}]; ok {
			return line, true
		}
	}
	return "", false
}
