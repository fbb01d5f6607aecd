package livepatch

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Task is a thread, as far as a transition depends on it.
type Task struct {
	PID    int // of its process
	TID    int
	Comm   string
	Kernel bool     // a kernel thread
	State  int      // /proc/TID/patch_state: 0 it runs the old functions, 1 the new ones
	Stack  []string // innermost first; empty when it may not be read (only root may)
	In     []string // functions of live patches that are on the stack
}

// String gives "comm[tid] in function".
func (t Task) String() string {
	s := fmt.Sprintf("%s[%d]", t.Comm, t.TID)
	if len(t.In) > 0 {
		s += " in " + strings.Join(t.In, ", ")
	}
	return s
}

// names gives a list of tasks for messages, cut to a length that people read.
func names(ts []Task) string {
	if len(ts) == 0 {
		return "none that /proc shows (idle tasks are not there)"
	}
	var out []string
	for i, t := range ts {
		if i == 5 {
			out = append(out, "...")
			break
		}
		out = append(out, t.String())
	}
	return strings.Join(out, ", ")
}

// eachTask calls f with the directory of every thread of /proc.
func (s *System) eachTask(f func(pid, tid int, dir string)) {
	for _, d := range dirs(s.Proc, ".") {
		pid, err := strconv.Atoi(d)
		if err != nil {
			continue
		}
		for _, t := range dirs(s.Proc, d+"/task") {
			if tid, err := strconv.Atoi(t); err == nil {
				f(pid, tid, path.Join(d, "task", t))
			}
		}
	}
}

// goal is the patch_state that a transition brings tasks to.
func goal(st State) int {
	if st == Disabling {
		return 0
	}
	return 1
}

func (s *System) patchState(dir string) (int, bool) {
	n, err := strconv.Atoi(text(s.Proc, dir+"/patch_state"))
	return n, err == nil
}

// remaining counts the tasks that a transition still waits for, and all.
func (s *System) remaining(st State) (rest, all int) {
	s.eachTask(func(_, _ int, dir string) {
		if n, ok := s.patchState(dir); ok {
			all++
			if n >= 0 && n != goal(st) {
				rest++
			}
		}
	})
	return rest, all
}

// Blockers gives the tasks that the transition of a patch waits for, in order of
// their numbers; none when it is not in transition. Per-CPU idle tasks take part
// in transitions, but are not in /proc.
func (s *System) Blockers(name string) []Task {
	st, ok := s.state(name)
	if !ok || !moving(st) {
		return nil
	}
	var out []Task
	s.eachTask(func(pid, tid int, dir string) {
		n, ok := s.patchState(dir)
		if !ok || n < 0 || n == goal(st) {
			return
		}
		t := Task{PID: pid, TID: tid, State: n, Comm: printable(text(s.Proc, dir+"/comm"))}
		t.Kernel = pid == 2 || strings.Contains(text(s.Proc, dir+"/status"), "\nPPid:\t2\n")
		for line := range strings.Lines(text(s.Proc, dir+"/stack")) {
			if frame := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "[<0>]")); frame != "" {
				t.Stack = append(t.Stack, frame)
			}
		}
		out = append(out, t)
	})
	slices.SortFunc(out, func(a, b Task) int { return cmp.Compare(a.TID, b.TID) })
	if slices.ContainsFunc(out, func(t Task) bool { return len(t.Stack) > 0 }) {
		s.where(out)
	}
	return out
}

// where fills in which functions of patches the tasks are in.
func (s *System) where(tasks []Task) {
	patches, err := s.List()
	if err != nil {
		return
	}
	var all []ref
	for _, p := range patches {
		for _, o := range p.Objects {
			for _, f := range o.Funcs {
				all = append(all, ref{o.Name, f.Name, f.Pos})
			}
		}
	}
	names, _ := s.aliases(all)
	// A stack says NAME+OFFSET/SIZE, with [MODULE] for those of modules.
	byName := make(map[function]string)
	for _, r := range all {
		byName[function{r.object, r.name}] = r.name
		for _, n := range names[r] {
			byName[function{r.object, n}] = r.name
		}
	}
	for i := range tasks {
		t := &tasks[i]
		for _, frame := range t.Stack {
			name, rest, _ := strings.Cut(frame, "+")
			object := "vmlinux"
			if _, m, ok := strings.Cut(rest, "["); ok {
				object = strings.TrimSuffix(m, "]")
			}
			if fn, ok := byName[function{object, name}]; ok && !slices.Contains(t.In, fn) {
				t.In = append(t.In, fn)
			} else if !ok && slices.ContainsFunc(patches, func(p Patch) bool { return p.Name == object }) {
				t.In = append(t.In, name+" ["+object+"]") // a replacement
			}
		}
	}
}

// printable makes a task's name, which may hold anything, fit for output.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\ufffd' {
			return '?'
		}
		return r
	}, s)
}
