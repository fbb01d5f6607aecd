package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/kdelta/kdelta/examples/internal/cli"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/livepatch"
)

// codeFile is the command's own; the library opens no files that users name.
const codeFile diag.Code = "file-unreadable"

const maxModule = 256 << 20

// readModule reads a module file; false: it could not, the report says why and the code is the exit code.
func readModule(r *report, file string) (*livepatch.Module, int) {
	data, err := readFile(file)
	if err != nil {
		d := diag.New(codeFile, diag.Place{File: file}, "cannot read: %v", err)
		d.Remedy = "Give the path of a file that can be read."
		r.diags = append(r.diags, d)
		return nil, exitTrouble
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		abs = file
	}
	m, err := livepatch.ReadModule(file, data)
	if err != nil {
		r.fault(err)
		return nil, exitTrouble
	}
	m.File = abs
	r.module = m
	return m, exitDone
}

func readFile(file string) ([]byte, error) {
	var pe *fs.PathError
	fi, err := os.Stat(file)
	switch {
	case errors.As(err, &pe):
		return nil, pe.Err
	case err != nil:
		return nil, err
	case !fi.Mode().IsRegular():
		return nil, errors.New("is not a regular file")
	case fi.Size() > maxModule:
		return nil, fmt.Errorf("%d bytes, more than the limit of %d", fi.Size(), maxModule)
	}
	data, err := os.ReadFile(file)
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return data, err
}

// root refuses who may not change the kernel; dry runs need not.
func (e *env) root(r *report, o *options) bool {
	if o.dryRun || e.privileged() {
		return true
	}
	r.diags = append(r.diags, diag.New(diag.NotPermitted, diag.Place{}, "%s changes the running kernel: it needs root", r.command))
	return false
}

var checkCommand = &command{
	Name:  "check",
	Args:  "MODULE.ko",
	Short: "say what stands against loading a patch",
	Long: `
Reads a livepatch module and the running system, and says what stands against
loading it: release, lockdown, signatures, functions that another patch replaces,
that cannot be traced or are not there, other users of ftrace, a running
transition. Changes nothing. Without root some of it cannot be seen.`,
	Run: func(e *env, c *command, args []string) int {
		fs, o := c.Flags(), options{}
		o.systemFlags(fs)
		args, err := c.Parse(e, fs, args, 1, 1)
		if err != nil {
			return cli.Fail(err)
		}
		r := &report{command: c.Name}
		m, code := readModule(r, args[0])
		if m != nil {
			code = check(e.host(o.sys, o.proc), r, m)
		}
		return e.print(r, &o, code)
	},
}

func check(s *livepatch.System, r *report, m *livepatch.Module) int {
	ck, err := s.Preflight(m)
	r.info, r.replaces = &ck.Info, ck.Replaces
	r.diags = append(r.diags, ck.Diagnostics...)
	if err != nil {
		r.fault(err)
		return exitTrouble
	}
	if ck.Err() != nil {
		return exitRefused
	}
	return exitDone
}

var loadCommand = &command{
	Name:  "load",
	Args:  "MODULE.ko | --installed",
	Short: "load a patch and wait until it is in effect everywhere",
	Long: `
Checks a livepatch module as check does, loads it and waits until every task runs
the patched functions. If that does not happen in time, the transition is
reversed, the module unloaded and the tasks that blocked it named. The modules of
patches that it replaced are unloaded.

--installed loads what install has put into the store for the running kernel, in
order, except what a later one replaces and what is loaded already.`,
	Run: func(e *env, c *command, args []string) int {
		fs, o, lo := c.Flags(), options{}, livepatch.Options{}
		o.systemFlags(fs)
		o.storeFlags(fs)
		o.changeFlags(fs)
		o.waitFlags(fs)
		installed := fs.Bool("installed", false, "load what is installed for the running kernel")
		fs.BoolVar(&lo.NoWait, "no-wait", false, "do not wait; nothing is undone then")
		fs.BoolVar(&lo.Replace, "replace", false, "refuse a patch that does not replace all active ones")
		fs.BoolVar(&lo.KeepReplaced, "keep-replaced", false, "leave the modules of replaced patches loaded")
		args, err := c.Parse(e, fs, args, 0, 1)
		if err == nil && (len(args) == 0) != *installed {
			err = c.UsageError(e, "give either a module or --installed")
		}
		if err != nil {
			return cli.Fail(err)
		}
		r := &report{command: c.Name, dryRun: o.dryRun}
		s := e.host(o.sys, o.proc)
		lo.Timeout, lo.Signal = o.timeout, o.signal
		if *installed {
			return e.print(r, &o, e.loadInstalled(s, r, &o, lo))
		}
		m, code := readModule(r, args[0])
		if m != nil {
			code = e.load(s, r, m, &o, lo)
		}
		return e.print(r, &o, code)
	},
}

func (e *env) load(s *livepatch.System, r *report, m *livepatch.Module, o *options, lo livepatch.Options) int {
	if o.dryRun {
		code := check(s, r, m)
		if code == exitDone {
			r.steps = append(r.steps, "load "+m.Name+" from "+m.File, fmt.Sprintf("wait up to %v for its transition, and reverse it if that is not enough", o.timeout))
			if !lo.KeepReplaced {
				for _, p := range r.replaces {
					r.steps = append(r.steps, "unload "+p+", which it replaces")
				}
			}
		}
		return code
	}
	r.module = nil // nobody has asked what is in it
	if !e.root(r, o) {
		return exitRefused
	}
	return e.operate(r, lo, func(lo livepatch.Options) (*livepatch.Outcome, error) { return s.Load(m, lo) })
}

// operate has an operation shown while it runs, and reported; it gives its exit code.
func (e *env) operate(r *report, lo livepatch.Options, do func(livepatch.Options) (*livepatch.Outcome, error)) int {
	show, wipe := e.progress()
	lo.Progress = show
	out, _ := do(lo) // the error is in the outcome, too
	wipe()
	return r.outcome(out)
}

func (e *env) loadInstalled(s *livepatch.System, r *report, o *options, lo livepatch.Options) int {
	info, err := s.Info()
	if err != nil {
		r.fault(err)
		return exitTrouble
	}
	r.info = &info
	st := livepatch.Store{Dir: o.store}
	ins, err := st.Installed(info.Release)
	if err != nil {
		r.fault(err)
		return exitTrouble
	}
	r.installed = ins
	worst := exitDone
	for _, in := range ins {
		if in.Skipped {
			continue
		}
		if s.Loaded(in.Name) {
			continue
		}
		m, code := readModule(r, in.File)
		if m != nil {
			code = e.load(s, r, m, o, lo)
		}
		r.module = nil
		worst = max(worst, code)
	}
	return worst
}

var unloadCommand = &command{
	Name:  "unload",
	Args:  "NAME",
	Short: "take a patch out of effect and unload its module",
	Long: `
Disables the patch, waits until no task runs its functions any more, and unloads
its module. If that does not happen in time, the patch is enabled again. A patch
that has no effect any more is unloaded only.`,
	Run: func(e *env, c *command, args []string) int {
		fs, o := c.Flags(), options{}
		o.systemFlags(fs)
		o.changeFlags(fs)
		o.waitFlags(fs)
		keep := fs.Bool("keep-module", false, "only disable the patch")
		args, err := c.Parse(e, fs, args, 1, 1)
		if err != nil {
			return cli.Fail(err)
		}
		r := &report{command: c.Name, dryRun: o.dryRun}
		s := e.host(o.sys, o.proc)
		name := klp.ModuleName(args[0])
		if o.dryRun {
			p, err := s.Get(name)
			if err != nil {
				r.fault(err)
				return e.print(r, &o, exitRefused)
			}
			if p.State != livepatch.Inactive {
				r.steps = append(r.steps, "disable "+name, fmt.Sprintf("wait up to %v for its transition, and enable it again if that is not enough", o.timeout))
			}
			if !*keep {
				r.steps = append(r.steps, "unload the module "+name)
			}
			return e.print(r, &o, exitDone)
		}
		if !e.root(r, &o) {
			return e.print(r, &o, exitRefused)
		}
		do := s.Unload
		if *keep {
			do = s.Disable
		}
		lo := livepatch.Options{Timeout: o.timeout, Signal: o.signal}
		return e.print(r, &o, e.operate(r, lo, func(lo livepatch.Options) (*livepatch.Outcome, error) { return do(name, lo) }))
	},
}

var listCommand = &command{
	Name:  "list",
	Short: "list patches, what they replace, and what is in effect",
	Long: `
Lists the live patches in the order of the stack, the oldest first, with the
functions that they replace. "not in effect": a newer patch has the function too.
Modules of patches that were disabled or replaced are listed as inactive.`,
	Run: func(e *env, c *command, args []string) int {
		fs, o := c.Flags(), options{}
		o.systemFlags(fs)
		o.storeFlags(fs)
		installed := fs.Bool("installed", false, "list what is installed for boot, for all kernels")
		if _, err := c.Parse(e, fs, args, 0, 0); err != nil {
			return cli.Fail(err)
		}
		r := &report{command: c.Name}
		if *installed {
			st := livepatch.Store{Dir: o.store}
			rs, err := st.Releases()
			for _, rel := range rs {
				ins, e := st.Installed(rel)
				err = errors.Join(err, e)
				r.installed = append(r.installed, ins...)
			}
			if err != nil {
				r.fault(err)
				return e.print(r, &o, exitTrouble)
			}
			return e.print(r, &o, exitDone)
		}
		var err error
		if r.patches, err = e.host(o.sys, o.proc).List(); err != nil {
			r.fault(err)
			return e.print(r, &o, exitTrouble)
		}
		return e.print(r, &o, exitDone)
	},
}

var statusCommand = &command{
	Name:  "status",
	Args:  "[NAME]",
	Short: "show the system, its patches and who blocks a transition",
	Long: `
Shows what concerns live patching: the kernel, lockdown, taint, the patches, and
the tasks that a transition waits for, with their stacks (for root). With NAME
the exit code is 0 when that patch is in effect, else 1; without it, 1 when a
transition runs.`,
	Run: func(e *env, c *command, args []string) int {
		fs, o := c.Flags(), options{}
		o.systemFlags(fs)
		args, err := c.Parse(e, fs, args, 0, 1)
		if err != nil {
			return cli.Fail(err)
		}
		r := &report{command: c.Name}
		s := e.host(o.sys, o.proc)
		info, err := s.Info()
		if err != nil {
			r.fault(err)
			return e.print(r, &o, exitTrouble)
		}
		r.info = &info
		code := exitDone
		if info.Supported {
			if r.patches, err = s.List(); err != nil {
				r.fault(err)
				return e.print(r, &o, exitTrouble)
			}
		} else {
			code = exitRefused
		}
		if info.Transition != "" {
			r.blockers = s.Blockers(info.Transition)
			code = exitRefused
		}
		if len(args) == 1 {
			name := klp.ModuleName(args[0])
			r.patches = slices.DeleteFunc(r.patches, func(p livepatch.Patch) bool { return p.Name != name })
			code = exitRefused
			switch {
			case len(r.patches) == 0:
				r.diags = append(r.diags, diag.New(diag.NoSuchPatch, diag.Place{Symbol: name}, "no live patch of this name is loaded"))
			case r.patches[0].State == livepatch.Enabled:
				code = exitDone
			}
			if info.Transition != name {
				r.blockers = nil
			}
		}
		return e.print(r, &o, code)
	},
}

var waitCommand = &command{
	Name:  "wait",
	Args:  "[NAME]",
	Short: "wait for a transition",
	Long: `
Waits until the patch NAME, or the one in transition, is in effect everywhere or
nowhere. When time runs out the transition goes on (exit code 4), except with
--force, which ends it then: tasks that are in the middle of a function go on in
it, which is unsafe where the patch relies on the kernel's consistency model, and
the modules of patches that this takes out of effect can never be unloaded.`,
	Run: func(e *env, c *command, args []string) int {
		fs, o := c.Flags(), options{}
		o.systemFlags(fs)
		o.changeFlags(fs)
		o.waitFlags(fs)
		force := fs.Bool("force", false, "end the transition by force when time has run out")
		args, err := c.Parse(e, fs, args, 0, 1)
		if err != nil {
			return cli.Fail(err)
		}
		r := &report{command: c.Name, dryRun: o.dryRun}
		s := e.host(o.sys, o.proc)
		name := ""
		if len(args) == 1 {
			name = klp.ModuleName(args[0])
		} else if info, err := s.Info(); err != nil {
			r.fault(err)
			return e.print(r, &o, exitTrouble)
		} else if name = info.Transition; name == "" {
			return e.print(r, &o, exitDone)
		}
		if o.dryRun {
			r.steps = append(r.steps, fmt.Sprintf("wait up to %v for %s", o.timeout, name))
			if o.signal > 0 {
				r.steps = append(r.steps, fmt.Sprintf("after %v signal the tasks that block it", o.signal))
			}
			if *force {
				r.steps = append(r.steps, "force the transition if that is not enough")
			}
			return e.print(r, &o, exitDone)
		}
		if (*force || o.signal > 0) && !e.root(r, &o) {
			return e.print(r, &o, exitRefused)
		}
		lo := livepatch.Options{Timeout: o.timeout, Signal: o.signal}
		return e.print(r, &o, e.operate(r, lo, func(lo livepatch.Options) (*livepatch.Outcome, error) {
			out, err := s.Wait(name, lo)
			if err == nil || !*force || out.Result != livepatch.Left || len(out.Blockers) == 0 {
				return out, err
			}
			if err := s.Force(name); err != nil {
				r.fault(err)
				return out, err
			}
			forced := diag.New(diag.TransitionStalled, diag.Place{Symbol: name}, "was ended by force")
			forced.Severity, forced.Remedy = diag.SevWarning, "Boot the machine anew when you can."
			r.diags = append(r.diags, forced)
			lo.Timeout = max(lo.Timeout, livepatch.DefaultTimeout) // the kernel looks every second or so
			return s.Wait(name, lo)
		}))
	},
}

// store gives the store of the flags, with the program that its unit runs.
func (e *env) store(o *options) (*livepatch.Store, error) {
	st := &livepatch.Store{Dir: o.store, UnitDir: o.units}
	if o.units == "" {
		return st, nil
	}
	program, err := e.program()
	if err == nil {
		program, err = filepath.EvalSymlinks(program)
	}
	st.Program = program
	return st, err
}

var installCommand = &command{
	Name:  "install",
	Args:  "MODULE.ko",
	Short: "have a patch loaded at every boot of its kernel",
	Long: `
Puts the module into the store, under the kernel release that it is for, and makes
the systemd unit ` + livepatch.UnitName + `, which loads what is there before the
network comes up, unless the kernel's command line says kdelta.livepatch=0.
Loads nothing now.`,
	Run: func(e *env, c *command, args []string) int {
		fs, o := c.Flags(), options{}
		fs.BoolVar(&o.json, "json", false, "print a document (kdelta-manage schema) instead of text")
		o.storeFlags(fs)
		o.changeFlags(fs)
		args, err := c.Parse(e, fs, args, 1, 1)
		if err != nil {
			return cli.Fail(err)
		}
		r := &report{command: c.Name, dryRun: o.dryRun}
		m, code := readModule(r, args[0])
		if m == nil {
			return e.print(r, &o, code)
		}
		st, err := e.store(&o)
		if err != nil {
			r.fault(err)
			return e.print(r, &o, exitTrouble)
		}
		r.module = nil
		if o.dryRun {
			r.steps = append(r.steps, fmt.Sprintf("write %s", filepath.Join(o.store, m.Release(), m.Name+".ko")))
			if o.units != "" {
				r.steps = append(r.steps, fmt.Sprintf("write and enable %s", filepath.Join(o.units, livepatch.UnitName)))
			}
			return e.print(r, &o, exitDone)
		}
		in, _, err := st.Install(m)
		if err != nil {
			r.fault(err)
			return e.print(r, &o, exitRefused)
		}
		r.installed = []livepatch.Installed{in}
		return e.print(r, &o, exitDone)
	},
}

var removeCommand = &command{
	Name:  "remove",
	Args:  "NAME",
	Short: "undo install",
	Long: `
Takes the module out of the store, and the systemd unit away with the last one.
Unloads nothing now.`,
	Run: func(e *env, c *command, args []string) int {
		fs, o := c.Flags(), options{}
		fs.StringVar(&o.release, "release", "", "kernel `RELEASE` that it is installed for; without it all")
		fs.BoolVar(&o.json, "json", false, "print a document (kdelta-manage schema) instead of text")
		o.storeFlags(fs)
		o.changeFlags(fs)
		args, err := c.Parse(e, fs, args, 1, 1)
		if err != nil {
			return cli.Fail(err)
		}
		r := &report{command: c.Name, dryRun: o.dryRun}
		name := klp.ModuleName(args[0])
		st := &livepatch.Store{Dir: o.store, UnitDir: o.units}
		rs, err := st.Releases()
		if err != nil {
			r.fault(err)
			return e.print(r, &o, exitTrouble)
		}
		var found []livepatch.Installed
		for _, rel := range rs {
			if o.release != "" && rel != o.release {
				continue
			}
			ins, err := st.Installed(rel)
			if err != nil {
				r.fault(err)
				return e.print(r, &o, exitTrouble)
			}
			for _, in := range ins {
				if in.Name == name {
					found = append(found, in)
				}
			}
		}
		if len(found) == 0 {
			r.diags = append(r.diags, diag.New(diag.NoSuchPatch, diag.Place{Symbol: name}, "is not installed"))
			return e.print(r, &o, exitRefused)
		}
		for i, in := range found {
			if o.dryRun {
				r.steps = append(r.steps, "remove "+in.File)
				continue
			}
			if _, err := st.Remove(in.Release, in.Name); err != nil {
				r.fault(err)
				if i > 0 {
					return e.print(r, &o, exitLeft)
				}
				return e.print(r, &o, exitRefused)
			}
			r.removed = append(r.removed, in.File)
		}
		return e.print(r, &o, exitDone)
	},
}
