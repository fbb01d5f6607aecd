package livepatch

import (
	"errors"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/kdelta/kdelta/pkg/diag"
)

// Result is how an operation ended.
type Result string

// The results.
const (
	Done    Result = "done"    // the system is as it was asked to be
	Refused Result = "refused" // nothing was tried
	Undone  Result = "undone"  // it was tried, and the system is as it was
	Left    Result = "left"    // neither
)

// Outcome is what an operation did.
type Outcome struct {
	Result      Result
	Patch       string
	State       State         // of the patch at the end; "": it is gone
	Took        time.Duration // that was spent waiting
	Removed     []string      // modules that were unloaded
	Blockers    []Task        // at the deadline, or at the end
	Diagnostics []diag.Diagnostic
}

// Progress is told while a transition is waited for.
type Progress struct {
	Patch     string
	State     State
	Elapsed   time.Duration
	Deadline  time.Duration
	Remaining int // tasks that have not switched
	Tasks     int
}

// Options say how an operation waits.
type Options struct {
	Timeout  time.Duration // for the transition, and for its reversal, which gets 20 seconds at least; 0: DefaultTimeout
	Interval time.Duration // between looks; 0: DefaultInterval
	Progress func(Progress)

	// NoWait: return when the transition has begun. Then nothing is undone.
	NoWait bool
	// Signal the tasks that block the transition after this time, 0 never: with SIGSTOP and
	// SIGCONT, which makes them leave the kernel (Documentation/livepatch/livepatch.rst).
	// Their parents see that. The kernel itself wakes sleepers every 15 seconds without a signal.
	Signal time.Duration
	// Replace: refuse a module that would not replace all active patches.
	Replace bool
	// KeepReplaced: do not unload the modules of patches that were replaced.
	KeepReplaced bool
}

// Defaults of Options.
const (
	DefaultTimeout  = 60 * time.Second // the kernel wakes sleepers after 15
	DefaultInterval = 100 * time.Millisecond
	progressEvery   = time.Second
	unloadTimeout   = 10 * time.Second // for the last references of a disabled patch to go
	undoTimeout     = 20 * time.Second // at least, for a transition that was reversed: the kernel wakes sleepers after 15
)

func (o *Options) defaults() {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Interval <= 0 {
		o.Interval = DefaultInterval
	}
}

// end makes the outcome's error.
func (o *Outcome) end(r Result, ds ...diag.Diagnostic) (*Outcome, error) {
	o.Result = r
	o.Diagnostics = append(o.Diagnostics, ds...)
	return o, diag.Refuse(o.Diagnostics)
}

func (o *Outcome) fail(r Result, err error) (*Outcome, error) {
	var refused *diag.Error
	if errors.As(err, &refused) {
		return o.end(r, refused.Diagnostics...)
	}
	return o.end(r, diag.New(diag.SystemUnreadable, diag.Place{Symbol: o.Patch}, "%v", err))
}

func place(name string) diag.Place { return diag.Place{Symbol: name} }

// Load checks a module, loads it and waits until every task runs the patched
// functions. When they do not before the deadline, the transition is reversed and
// the module unloaded. Modules of patches that were replaced are unloaded too.
// The error is a *diag.Error that holds what is in Outcome.Diagnostics.
func (s *System) Load(m *Module, o Options) (*Outcome, error) {
	o.defaults()
	out := &Outcome{Patch: m.Name}
	c, err := s.Preflight(m)
	out.Diagnostics = c.Diagnostics
	if err != nil {
		return out.fail(Refused, err)
	}
	if o.Replace && (m.Replace == nil || !*m.Replace) {
		return out.end(Refused, diag.New(diag.NotCumulative, place(m.Name), "does not say that it replaces others"))
	}
	if c.Err() != nil {
		return out.end(Refused)
	}
	if s.Control == nil {
		return out.end(Refused, diag.New(diag.NotPermitted, place(m.Name), "nothing may be changed here"))
	}
	before := append(slices.Clone(c.Replaces), c.Stacks...)
	log := s.Control.KernelLog()
	if err := s.Control.LoadModule(m); err != nil {
		return out.end(Undone, loadRefused(m, c, err, about(m.Name, log())))
	}
	if o.NoWait {
		out.State, _ = s.state(m.Name)
		return out.end(Done)
	}
	st, err := s.settle(m.Name, Enabled, &o, out)
	out.State = st
	switch {
	case err == nil && st == Enabled:
		if !o.KeepReplaced {
			s.removeReplaced(before, o, out)
		}
		return out.end(Done)
	case err == nil:
		// Its directory is gone: the module is what is left.
		d := diag.New(diag.PatchVanished, place(m.Name), "it was not there any more after %v", out.Took)
		if err := s.removeModule(m.Name, o, out); err != nil {
			return out.end(Left, d, left(m.Name, "its module is still loaded: "+err.Error()))
		}
		return out.end(Undone, d)
	}
	out.Blockers = s.Blockers(m.Name)
	stalled := stalled(m.Name, out, o)
	if err := s.Control.WriteSys(path.Join(patchDir, m.Name, "enabled"), "0"); err != nil {
		if st, _ := s.state(m.Name); st == Enabled {
			out.State = Enabled // it ended while we made up our minds
			return out.end(Done)
		}
		return out.end(Left, stalled, left(m.Name, "it is in transition and cannot be reversed: "+err.Error()))
	}
	o.Timeout = max(o.Timeout, undoTimeout)
	st, err = s.settle(m.Name, Inactive, &o, out)
	out.State = st
	if err != nil {
		return out.end(Left, stalled, left(m.Name, "it was reversed, and that does not end either: blocked by "+names(s.Blockers(m.Name))))
	}
	if err := s.removeModule(m.Name, o, out); err != nil {
		return out.end(Left, stalled, left(m.Name, "it has no effect, but its module is still loaded: "+err.Error()))
	}
	out.State = ""
	stalled.Message += "; the load was reversed, and the module unloaded"
	return out.end(Undone, stalled)
}

func stalled(name string, out *Outcome, o Options) diag.Diagnostic {
	return diag.New(diag.TransitionStalled, place(name), "%d task(s) had not switched after %v: %s", len(out.Blockers), o.Timeout, names(out.Blockers))
}

func left(name, what string) diag.Diagnostic {
	return diag.New(diag.PatchLeft, place(name), "%s", what)
}

// errDeadline is given by settle.
var errDeadline = errors.New("the deadline has passed")

// settle waits until no transition of the patch runs and gives the state: Enabled, or Inactive
// when the directory is gone. want is what is hoped for; it is for the caller to compare.
func (s *System) settle(name string, want State, o *Options, out *Outcome) (State, error) {
	start := s.Clock.Now()
	told, signalled := time.Duration(-1), false
	for {
		st, ok := s.state(name)
		elapsed := s.Clock.Now().Sub(start)
		switch {
		case !ok:
			out.Took += elapsed
			return Inactive, nil
		case moving(st), st == Inactive:
		case st == Enabled && want == Inactive && elapsed < time.Second:
			// The write to "enabled" has returned, so a transition runs or has ended: wait for the directory.
		default:
			out.Took += elapsed
			return st, nil
		}
		if elapsed >= o.Timeout {
			out.Took += elapsed
			return st, errDeadline
		}
		if o.Signal > 0 && elapsed >= o.Signal && !signalled && moving(st) {
			signalled = true
			s.Signal(s.Blockers(name))
		}
		if o.Progress != nil && (told < 0 || elapsed-told >= progressEvery) {
			told = elapsed
			rest, all := s.remaining(st)
			o.Progress(Progress{name, st, elapsed, o.Timeout, rest, all})
		}
		s.Clock.Sleep(min(o.Interval, o.Timeout-elapsed))
	}
}

// Linux's numbers of signals and errors that other systems lack.
const (
	sigCont      = syscall.Signal(18)
	sigStop      = syscall.Signal(19)
	eNoPkg       = syscall.Errno(65)
	eNoKey       = syscall.Errno(126)
	eKeyRejected = syscall.Errno(129)
)

// loadRefused says why the kernel refused a module.
func loadRefused(m *Module, c *Check, err error, log []string) diag.Diagnostic {
	code, what := diag.ModuleRejected, ""
	said := strings.Join(log, "\n")
	switch e := errno(err); e {
	case syscall.EPERM, syscall.EACCES:
		switch {
		case strings.Contains(said, "Lockdown:"):
			code, what = diag.Lockdown, "the kernel is locked down"
		case c.Info.Lockdown != "" && c.Info.Lockdown != "none" && !m.Signed:
			code, what = diag.Lockdown, "lockdown is "+c.Info.Lockdown
		default:
			code, what = diag.NotPermitted, "loading modules is not permitted"
		}
	case eKeyRejected, eNoKey, eNoPkg, syscall.EBADMSG:
		code, what = diag.SignatureRequired, "the signature is missing, broken or by an unknown key"
	case syscall.ENOEXEC:
		what = "the module does not fit this kernel"
		if strings.Contains(said, "version magic") || strings.Contains(said, "disagrees about version") {
			code = diag.WrongRelease
		}
	case syscall.EBUSY:
		code, what = diag.TransitionRunning, "a transition runs"
		if strings.Contains(said, "failed to register ftrace handler") {
			code, what = diag.FtraceBusy, "somebody else redirects one of its functions"
		}
	case syscall.EEXIST:
		code, what = diag.PatchLoaded, "a module of this name is loaded"
	case syscall.ENODEV:
		code, what = diag.LivepatchUnsupported, "live patching is not there"
	case syscall.ENOENT:
		what = "a symbol is missing"
	case syscall.EINVAL:
		what = "a symbol, a position, a state or a version does not fit"
		switch {
		case strings.Contains(said, "failed to find location for function"):
			code, what = diag.NotTraceable, "a function cannot be redirected"
		case strings.Contains(said, "not found in symbol table"), strings.Contains(said, "unresolvable ambiguity"):
			code, what = diag.FunctionAbsent, "a symbol is not there, or not unique"
		}
	}
	msg := "the kernel refused it"
	if what != "" {
		msg += ": " + what
	}
	msg += " (" + errText(err) + ")"
	if len(log) > 0 {
		msg += "; it logged: " + strings.Join(log, " | ")
	}
	return diag.New(code, place(m.Name), "%s", msg)
}

// about picks the lines of the kernel's log that have to do with loading a module.
func about(name string, log []string) []string {
	const most = 6
	var out []string
	for _, line := range log {
		for _, word := range []string{"livepatch:", name, "module", "Lockdown:", "ftrace"} {
			if strings.Contains(line, word) && !slices.Contains(out, line) {
				out = append(out, line)
				break
			}
		}
	}
	return out[:min(len(out), most)]
}

// errText gives the text of the system call's error alone where there is one.
func errText(err error) string {
	if e := errno(err); e != 0 {
		return e.Error()
	}
	return err.Error()
}

// removeModule unloads a module without effect; its last reference goes a moment after its patch.
func (s *System) removeModule(name string, o Options, out *Outcome) error {
	start := s.Clock.Now()
	for {
		err := s.Control.UnloadModule(name)
		switch e := errno(err); {
		case err == nil:
			out.Removed = append(out.Removed, name)
			return nil
		case e == syscall.ENOENT:
			return nil
		case e != syscall.EAGAIN && e != syscall.EBUSY:
			return errors.New(errText(err))
		}
		if s.Clock.Now().Sub(start) >= unloadTimeout {
			return errors.New(errText(err))
		}
		s.Clock.Sleep(o.Interval)
	}
}

// removeReplaced unloads the modules of those patches that were active before and are not now.
func (s *System) removeReplaced(before []string, o Options, out *Outcome) {
	for _, name := range before {
		if exists(s.Sys, path.Join(patchDir, name)) && !s.gone(name, o) {
			continue // it was not replaced
		}
		if err := s.removeModule(name, o, out); err != nil {
			d := diag.New(diag.ModuleBusy, place(name), "was replaced, but its module stays: %v", err)
			d.Severity = diag.SevWarning
			out.Diagnostics = append(out.Diagnostics, d)
		}
	}
}

// gone waits a moment for the directory of a patch, which the kernel removes some time after a replacing one is complete.
func (s *System) gone(name string, o Options) bool {
	st, ok := s.state(name)
	for n := 0; ok && st == Inactive && n < 50; n++ {
		s.Clock.Sleep(o.Interval)
		st, ok = s.state(name)
	}
	return !ok
}

// Wait waits for a transition that runs. It changes nothing unless o.Signal says
// so; the result is Done or, with transition-stalled, Left.
func (s *System) Wait(name string, o Options) (*Outcome, error) {
	o.defaults()
	out := &Outcome{Patch: name}
	p, err := s.Get(name)
	if err != nil {
		return out.fail(Refused, err)
	}
	want := Enabled
	if p.State == Disabling || p.State == Inactive {
		want = Inactive
	}
	out.State, err = s.settle(name, want, &o, out)
	switch {
	case err != nil:
		out.Blockers = s.Blockers(name)
		d := stalled(name, out, o)
		d.Message += "; the transition goes on"
		return out.end(Left, d)
	case out.State != want:
		return out.end(Left, diag.New(diag.PatchVanished, place(name), "it is %s now", out.State))
	}
	return out.end(Done)
}

// Disable takes a patch out of effect and waits for it; its module stays loaded.
// When the transition does not end before the deadline it is reversed: the patch is in effect again.
func (s *System) Disable(name string, o Options) (*Outcome, error) {
	o.defaults()
	out := &Outcome{Patch: name}
	p, err := s.Get(name)
	if err != nil {
		return out.fail(Refused, err)
	}
	if s.Control == nil {
		return out.end(Refused, diag.New(diag.NotPermitted, place(name), "nothing may be changed here"))
	}
	file := path.Join(patchDir, name, "enabled")
	out.State = p.State
	switch p.State {
	case Inactive:
		return out.end(Done)
	case Disabling: // somebody has begun
	default:
		if err := s.Control.WriteSys(file, "0"); err != nil {
			return out.end(Refused, writeRefused(name, err))
		}
	}
	if o.NoWait {
		out.State = Disabling
		return out.end(Done)
	}
	st, err := s.settle(name, Inactive, &o, out)
	out.State = st
	switch {
	case err == nil && st == Inactive:
		return out.end(Done)
	case err == nil:
		return out.end(Undone, diag.New(diag.PatchVanished, place(name), "somebody enabled it again"))
	}
	out.Blockers = s.Blockers(name)
	stalled := stalled(name, out, o)
	if err := s.Control.WriteSys(file, "1"); err != nil {
		if _, ok := s.state(name); !ok {
			out.State = Inactive
			return out.end(Done)
		}
		return out.end(Left, stalled, left(name, "it is in transition and cannot be reversed: "+errText(err)))
	}
	o.Timeout = max(o.Timeout, undoTimeout)
	st, err = s.settle(name, Enabled, &o, out)
	out.State = st
	if err != nil {
		return out.end(Left, stalled, left(name, "it was reversed, and that does not end either: blocked by "+names(s.Blockers(name))))
	}
	stalled.Message += "; it is enabled again"
	return out.end(Undone, stalled)
}

func writeRefused(name string, err error) diag.Diagnostic {
	switch errno(err) {
	case syscall.EBUSY:
		return diag.New(diag.TransitionRunning, place(name), "the kernel does not begin another transition (%s)", errText(err))
	case syscall.EPERM, syscall.EACCES:
		return diag.New(diag.NotPermitted, place(name), "the kernel refused (%s)", errText(err))
	case syscall.ENOENT, syscall.ENODEV:
		return diag.New(diag.PatchVanished, place(name), "it went away (%s)", errText(err))
	}
	return diag.New(diag.ModuleRejected, place(name), "the kernel refused to disable it (%s)", errText(err))
}

// Unload disables a patch where it is active, and removes its module.
func (s *System) Unload(name string, o Options) (*Outcome, error) {
	o.defaults()
	o.NoWait = false
	before, _ := s.Get(name)
	out, err := s.Disable(name, o)
	if err != nil || out.State != Inactive {
		return out, err
	}
	if err := s.removeModule(name, o, out); err != nil {
		result := Left
		if before.State == Inactive {
			result = Undone // there was nothing to disable
		}
		return out.end(result, diag.New(diag.ModuleBusy, place(name), "it has no effect any more, but its module stays: %v", err))
	}
	out.State = ""
	return out.end(Done)
}

// Force ends a transition whatever the tasks are doing (see RULES.md for what that
// costs): nothing does so but this call. It does not wait.
func (s *System) Force(name string) error {
	p, err := s.Get(name)
	switch {
	case err != nil:
		return err
	case !p.Transition:
		return refuse(diag.New(diag.NoSuchPatch, place(name), "it is not in transition"))
	case s.Control == nil:
		return refuse(diag.New(diag.NotPermitted, place(name), "nothing may be changed here"))
	}
	if err := s.Control.WriteSys(path.Join(patchDir, name, "force"), "1"); err != nil {
		return refuse(writeRefused(name, err))
	}
	return nil
}

// Signal stops and continues the processes of tasks, so that they leave the kernel. Kernel threads cannot be signalled.
func (s *System) Signal(tasks []Task) {
	done := make(map[int]bool)
	for _, t := range tasks {
		if t.Kernel || t.PID <= 1 || done[t.PID] || s.Control == nil {
			continue
		}
		done[t.PID] = true
		if s.Control.Kill(t.PID, sigStop) == nil {
			_ = s.Control.Kill(t.PID, sigCont) // it may have ended
		}
	}
}
