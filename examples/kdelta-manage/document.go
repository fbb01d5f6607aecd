package main

import (
	_ "embed"
	"fmt"
	"strings"
	"time"

	"github.com/kdelta/kdelta/examples/internal/cli"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/livepatch"
)

// schemaName is the version of the documents. Within it members are only added.
const schemaName = "kdelta.manage/v1"

//go:embed manage-v1.json
var schemaText string

var schemaCommand = &command{
	Name:  "schema",
	Short: "print the JSON schema of what --json gives",
	Long:  "Prints the JSON Schema (draft 2020-12) of the document " + schemaName + ".",
	Run: func(e *env, c *command, args []string) int {
		if _, err := c.Parse(e, c.Flags(), args, 0, 0); err != nil {
			return cli.Fail(err)
		}
		_, e.Fault = e.Out.WriteString(schemaText)
		return exitDone
	},
}

// The members of the document, in the order in which they are written. Lists are
// always there, empty when there is nothing to say; objects are null then.

type jsonSystem struct {
	Release    string   `json:"release"`
	Supported  bool     `json:"supported"`
	Lockdown   string   `json:"lockdown"`
	Enforced   bool     `json:"signatures_enforced"`
	NoModules  bool     `json:"modules_disabled"`
	NoFtrace   bool     `json:"ftrace_disabled"`
	Tainted    uint64   `json:"tainted"`
	Taints     []string `json:"taint_flags"`
	Transition string   `json:"transition"`
}

type jsonFunc struct {
	Name   string `json:"name"`
	Pos    uint64 `json:"position"`
	Active bool   `json:"active"`
}

type jsonObject struct {
	Name      string     `json:"name"`
	Patched   bool       `json:"patched"`
	Functions []jsonFunc `json:"functions"`
}

type jsonModule struct {
	File     string       `json:"file"`
	Name     string       `json:"name"`
	Release  string       `json:"release"`
	Vermagic string       `json:"vermagic"`
	Signed   bool         `json:"signed"`
	Known    bool         `json:"contents_known"`
	Replace  *bool        `json:"replace"`
	Replaces []string     `json:"replaces"`
	Objects  []jsonObject `json:"objects"`
}

type jsonPatch struct {
	Name       string       `json:"name"`
	State      string       `json:"state"`
	StackOrder int          `json:"stack_order"`
	Replace    *bool        `json:"replace"`
	Refs       int          `json:"module_references"`
	Taint      string       `json:"module_taint"`
	Objects    []jsonObject `json:"objects"`
}

type jsonInstalled struct {
	Name    string `json:"name"`
	Release string `json:"release"`
	File    string `json:"file"`
	Replace *bool  `json:"replace"`
	Skipped bool   `json:"skipped"`
}

type jsonTask struct {
	PID    int      `json:"pid"`
	TID    int      `json:"tid"`
	Comm   string   `json:"comm"`
	Kernel bool     `json:"kernel_thread"`
	State  int      `json:"patch_state"`
	In     []string `json:"in"`
	Stack  []string `json:"stack"`
}

type jsonOutcome struct {
	Patch   string   `json:"patch"`
	Result  string   `json:"result"`
	State   string   `json:"state"`
	Seconds float64  `json:"seconds"`
	Removed []string `json:"removed"`
}

type jsonDiagnostic struct {
	Code     string `json:"code"`
	Severity string `json:"severity"`
	File     string `json:"file"`
	Symbol   string `json:"symbol"`
	Message  string `json:"message"`
	Remedy   string `json:"remedy"`
}

type document struct {
	Schema      string           `json:"schema"`
	Command     string           `json:"command"`
	Exit        int              `json:"exit"`
	DryRun      bool             `json:"dry_run"`
	System      *jsonSystem      `json:"system"`
	Module      *jsonModule      `json:"module"`
	Patches     []jsonPatch      `json:"patches"`
	Installed   []jsonInstalled  `json:"installed"`
	Outcomes    []jsonOutcome    `json:"outcomes"`
	Blockers    []jsonTask       `json:"blockers"`
	Removed     []string         `json:"removed"`
	Steps       []string         `json:"steps"`
	Diagnostics []jsonDiagnostic `json:"diagnostics"`
}

func jsonObjects(os []livepatch.Object) []jsonObject {
	out := make([]jsonObject, 0, len(os))
	for _, o := range os {
		j := jsonObject{Name: o.Name, Patched: o.Patched, Functions: make([]jsonFunc, 0, len(o.Funcs))}
		for _, f := range o.Funcs {
			j.Functions = append(j.Functions, jsonFunc{f.Name, f.Pos, f.Active})
		}
		out = append(out, j)
	}
	return out
}

// report is what one run has to say, in either form.
type report struct {
	command   string
	dryRun    bool
	info      *livepatch.Info
	module    *livepatch.Module
	replaces  []string
	patches   []livepatch.Patch
	installed []livepatch.Installed
	outcomes  []*livepatch.Outcome
	blockers  []livepatch.Task
	steps     []string
	removed   []string // files
	diags     []diag.Diagnostic
}

// fault adds the diagnostics of an error.
func (r *report) fault(err error) {
	ds := cli.Diagnostics(err)
	if ds == nil {
		ds = []diag.Diagnostic{diag.New(diag.SystemUnreadable, diag.Place{}, "%v", err)}
	}
	r.diags = append(r.diags, ds...)
}

// outcome adds how an operation ended and gives its exit code.
func (r *report) outcome(o *livepatch.Outcome) int {
	r.outcomes = append(r.outcomes, o)
	r.diags = append(r.diags, o.Diagnostics...)
	r.blockers = append(r.blockers, o.Blockers...)
	switch o.Result {
	case livepatch.Done:
		return exitDone
	case livepatch.Refused:
		return exitRefused
	case livepatch.Undone:
		return exitUndone
	}
	return exitLeft
}

func (r *report) document(code int) *document {
	d := &document{Schema: schemaName, Command: r.command, Exit: code, DryRun: r.dryRun,
		Patches: []jsonPatch{}, Installed: []jsonInstalled{}, Outcomes: []jsonOutcome{}, Blockers: []jsonTask{}, Removed: cli.List(r.removed), Steps: cli.List(r.steps), Diagnostics: []jsonDiagnostic{}}
	if i := r.info; i != nil {
		d.System = &jsonSystem{i.Release, i.Supported, i.Lockdown, i.Enforced, i.NoModules, i.NoFtrace, i.Tainted, cli.List(livepatch.TaintNames(i.Tainted)), i.Transition}
	}
	if m := r.module; m != nil {
		d.Module = &jsonModule{m.File, m.Name, m.Release(), m.Vermagic, m.Signed, m.Known, m.Replace, cli.List(r.replaces), jsonObjects(m.Objects)}
	}
	for _, p := range r.patches {
		d.Patches = append(d.Patches, jsonPatch{p.Name, string(p.State), p.StackOrder, p.Replace, p.Refs, p.Taint, jsonObjects(p.Objects)})
	}
	for _, i := range r.installed {
		d.Installed = append(d.Installed, jsonInstalled{i.Name, i.Release, i.File, i.Replace, i.Skipped})
	}
	for _, o := range r.outcomes {
		d.Outcomes = append(d.Outcomes, jsonOutcome{o.Patch, string(o.Result), string(o.State), o.Took.Seconds(), cli.List(o.Removed)})
	}
	for _, t := range r.blockers {
		d.Blockers = append(d.Blockers, jsonTask{t.PID, t.TID, t.Comm, t.Kernel, t.State, cli.List(t.In), cli.List(t.Stack)})
	}
	for _, x := range r.diags {
		d.Diagnostics = append(d.Diagnostics, jsonDiagnostic{string(x.Code), x.Severity.String(), x.Place.File, x.Place.Symbol, x.Message, x.Remedy})
	}
	return d
}

// print gives the report in the form that was asked for, and passes the exit code on.
func (e *env) print(r *report, o *options, code int) int {
	if o.json {
		e.Fault = cli.WriteJSON(e.Out, r.document(code))
		return code
	}
	e.text(r)
	for _, d := range r.diags {
		fmt.Fprintf(e.Err, "kdelta-manage: %s\n", d)
		if d.Remedy != "" && d.Severity > diag.SevNote {
			fmt.Fprintf(e.Err, "  %s\n", d.Remedy)
		}
	}
	return code
}

func (e *env) text(r *report) {
	if m := r.module; m != nil {
		signed := "not signed"
		if m.Signed {
			signed = "signed"
		}
		fmt.Fprintf(e.Out, "%s  for %s, %s%s\n", m.Name, m.Release(), signed, replaceText(m.Replace))
		e.objects(m.Objects, false)
		for _, p := range r.replaces {
			fmt.Fprintf(e.Out, "  takes the place of %s\n", p)
		}
	}
	if i := r.info; i != nil && r.command == "status" {
		fmt.Fprintf(e.Out, "kernel      %s%s\n", i.Release, map[bool]string{false: ", without live patching"}[i.Supported])
		lockdown := i.Lockdown
		if lockdown == "" {
			lockdown = "unknown"
		}
		fmt.Fprintf(e.Out, "lockdown    %s; signatures of modules %s\n", lockdown, map[bool]string{true: "required", false: "not required"}[i.Enforced])
		fmt.Fprintf(e.Out, "taint       %d", i.Tainted)
		if t := livepatch.TaintNames(i.Tainted); len(t) > 0 {
			fmt.Fprintf(e.Out, " (%s)", strings.Join(t, ", "))
		}
		fmt.Fprintln(e.Out)
		if i.NoModules {
			fmt.Fprintln(e.Out, "modules     none can be loaded until the next boot")
		}
		if i.NoFtrace {
			fmt.Fprintln(e.Out, "ftrace      off")
		}
		transition := i.Transition
		if transition == "" {
			transition = "none"
		}
		fmt.Fprintf(e.Out, "transition  %s\n", transition)
	}
	for _, p := range r.patches {
		fmt.Fprintf(e.Out, "%s  %s%s\n", p.Name, p.State, replaceText(p.Replace))
		e.objects(p.Objects, true)
	}
	for _, i := range r.installed {
		skipped := ""
		if i.Skipped {
			skipped = ", not loaded: a later one replaces it"
		}
		fmt.Fprintf(e.Out, "%s  installed for %s%s\n", i.Name, i.Release, skipped)
	}
	for _, f := range r.removed {
		fmt.Fprintf(e.Out, "%s  removed\n", f)
	}
	for _, s := range r.steps {
		fmt.Fprintf(e.Out, "would %s\n", s)
	}
	for _, o := range r.outcomes {
		if o.Result != livepatch.Done {
			continue // the diagnostics say it
		}
		state := string(o.State)
		if state == "" {
			state = "unloaded"
		}
		fmt.Fprintf(e.Out, "%s  %s", o.Patch, state)
		if o.Took >= 50*time.Millisecond {
			fmt.Fprintf(e.Out, " after %.1f s", o.Took.Seconds())
		}
		fmt.Fprintln(e.Out)
		for _, m := range o.Removed {
			if m != o.Patch {
				fmt.Fprintf(e.Out, "  %s was replaced, and unloaded\n", m)
			}
		}
	}
	for _, t := range r.blockers {
		fmt.Fprintf(e.Out, "blocked by  %s\n", t)
		for _, f := range t.Stack {
			fmt.Fprintf(e.Out, "  %s\n", f)
		}
	}
}

func replaceText(r *bool) string {
	if r != nil && *r {
		return ", replaces others"
	}
	return ""
}

func (e *env) objects(os []livepatch.Object, running bool) {
	for _, o := range os {
		note := ""
		if running && !o.Patched {
			note = "  not loaded"
		}
		fmt.Fprintf(e.Out, "  %s%s\n", o.Name, note)
		for _, f := range o.Funcs {
			note := ""
			if running && !f.Active {
				note = "  not in effect"
			}
			fmt.Fprintf(e.Out, "    %s,%d%s\n", f.Name, f.Pos, note)
		}
	}
}
