package main

import (
	"cmp"
	"debug/elf"
	"fmt"
	"slices"

	"github.com/kdelta/kdelta/examples/internal/cli"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel/image"
	"github.com/kdelta/kdelta/pkg/kernel/runpre"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/pkg/report"
	"github.com/kdelta/kdelta/symbols"
)

// runPreSchema is the name and version of the JSON document of kdelta run-pre.
const runPreSchema = "kdelta.run-pre/v1"

var runPreCommand = &command{
	Name:  "run-pre",
	Args:  "--kernel VMLINUZ [--cache DIR] [--target vmlinux|MOD.ko] OBJECT... [--json] [-v]",
	Short: "prove that objects are what a kernel runs",
	Long: `
Holds each object against the kernel's image, or against the file of the module that
the last --target before it names: the code of every function, where its references
lead, strings and data. Says for each whether it is what the kernel runs, and where
it first differs. A livepatch is right for a kernel only when the originals are.

-v lists the local names that the kernel has several times, with the position that a
livepatch needs and what it rests on, or why there is none.

Exit code 0: all objects are what the kernel runs. 1: wrong usage, or a file that
cannot be read. 2: an object is not; the findings say where.`,
	Run: runRunPre,
}

type runPreDoc struct {
	Schema      string            `json:"schema"`
	Kernel      string            `json:"kernel"`
	Release     string            `json:"release"`
	Objects     []runPreObject    `json:"objects"`
	Diagnostics []diag.Diagnostic `json:"-"`
	Findings    []runPreFinding   `json:"diagnostics"`
}

type runPreObject struct {
	File      string          `json:"file"`
	Object    string          `json:"object"`
	Same      bool            `json:"same"`
	Functions map[string]int  `json:"functions"` // by status
	Data      int             `json:"data_sections"`
	Located   int             `json:"located"`
	Names     []runPreName    `json:"names"` // local ones that the kernel has several times
	Others    []runPreProblem `json:"not_compared"`
}

type runPreName struct {
	Symbol   string `json:"symbol"`
	Section  string `json:"section"`
	Position uint64 `json:"position"` // 0: none
	Evidence string `json:"evidence"`
}

type runPreProblem struct {
	Symbol string `json:"symbol"`
	Status string `json:"status"`
	Why    string `json:"why"`
}

type runPreFinding struct {
	Code     diag.Code     `json:"code"`
	Severity diag.Severity `json:"severity"`
	Place    string        `json:"place"`
	Message  string        `json:"message"`
}

func runRunPre(e *env, c *command, args []string) int {
	e.trouble = verifyTrouble
	fs := c.Flags()
	kernelPath := fs.String("kernel", "", "the image of the kernel: `VMLINUZ`")
	cache := fs.String("cache", "", "keep what images say in `DIR`")
	asJSON := fs.Bool("json", false, "write the document "+runPreSchema+" to standard output (kdelta schema --run-pre prints its schema)")
	verbose := fs.Bool("v", false, "list names that the kernel has several times, and functions that are not compared")
	target := ""
	fs.Func("target", "what the objects after it belong to: `vmlinux|MOD.ko`", func(s string) error {
		if target = s; s == klp.Vmlinux {
			target = ""
		}
		return nil
	})
	var in []pairArgs
	err := c.ParseEach(e, fs, args, func(arg string) { in = append(in, pairArgs{object: target, orig: arg}) })
	switch {
	case err != nil:
	case *kernelPath == "":
		err = c.UsageError(e, "no --kernel VMLINUZ")
	case len(in) == 0:
		err = c.UsageError(e, "no OBJECT")
	}
	if err != nil {
		if cli.Fail(err) == 0 {
			return verifyProved
		}
		return verifyTrouble
	}
	doc, err := runPre(*kernelPath, *cache, in, *asJSON || *verbose)
	code := verifyProved
	switch {
	case err != nil:
		doc.Diagnostics = append(doc.Diagnostics, findings(err, codeStopped, *kernelPath)...)
		code = verifyTrouble
	case diag.HasErrors(doc.Diagnostics):
		code = verifyRefuted
	}
	if *asJSON {
		doc.Findings = make([]runPreFinding, 0, len(doc.Diagnostics))
		for _, d := range doc.Diagnostics {
			doc.Findings = append(doc.Findings, runPreFinding{d.Code, d.Severity, d.Place.String(), d.Message})
		}
		e.Fault = cli.WriteJSON(e.Out, doc)
		return code
	}
	doc.text(e, *verbose)
	_ = report.WriteDiagnosticsText(e.Err, doc.Diagnostics, report.TextOptions{}) // nobody is left to tell
	return code
}

// compared is the result of one object.
type compared struct {
	f       *object.File
	of      string
	r       *runpre.Result
	several func(name string) bool // whether the kernel has several symbols of a name
}

// runPre reads and compares everything, and looks positions up if they are wanted; on an error the document has what was compared before.
func runPre(kernelPath, cache string, in []pairArgs, positions bool) (*runPreDoc, error) {
	doc := &runPreDoc{Schema: runPreSchema, Kernel: kernelPath, Objects: []runPreObject{}}
	k, err := readKernel(kernelPath, cache)
	if err != nil {
		return doc, err
	}
	doc.Release = k.Release
	type module struct {
		m     *image.Module
		ready *runpre.Module
	}
	modules := map[string]module{}
	var all []compared
	defer func() { doc.finish(all, positions) }()
	for _, x := range in {
		f, err := readObject(x.orig)
		if err != nil {
			return doc, err
		}
		if x.object == "" {
			r, err := runpre.Check(f, k)
			if err != nil {
				return doc, err
			}
			all = append(all, compared{f, klp.Vmlinux, r, func(name string) bool { i := k.First(name); return i >= 0 && k.Next(i) >= 0 }})
			continue
		}
		m, ok := modules[x.object]
		if !ok {
			data, err := readInput(x.object)
			if err != nil {
				return doc, err
			}
			if m.m, err = image.ParseModule(data, image.Options{Name: x.object}); err != nil {
				return doc, err
			}
			if why := m.m.Fits(k); why != "" {
				return doc, &diag.Error{Diagnostics: []diag.Diagnostic{diag.New(diag.KlpModule, diag.Place{File: x.object}, "the module is not one of this kernel: %s", why)}}
			}
			m.ready = runpre.NewModule(m.m)
			modules[x.object] = m
		}
		all = append(all, compared{f, m.m.Name, m.ready.Check(f), func(name string) bool { return len(m.m.Find(name)) > 1 }})
	}
	return doc, nil
}

// finish puts the results into the document.
func (d *runPreDoc) finish(all []compared, positions bool) {
	oracles := map[string]*symbols.Oracle{}
	for i := range all {
		x := &all[i]
		d.Objects = append(d.Objects, describe(x))
		d.Diagnostics = append(d.Diagnostics, x.r.Diagnostics...)
		if !positions {
			continue
		}
		if oracles[x.of] == nil {
			sources := []symbols.Source{x.r.Located.Table}
			for j := range all {
				if all[j].of == x.of {
					sources = append(sources, all[j].r.Located)
				}
			}
			o, ds := symbols.NewOracle(x.of, sources...)
			oracles[x.of] = o
			d.Diagnostics = append(d.Diagnostics, ds...)
		}
		d.Objects[i].Names = names(x, oracles[x.of])
	}
}

// describe gives what the document says of one object, without positions.
func describe(x *compared) runPreObject {
	o := runPreObject{
		File: x.f.Name, Object: x.of, Same: x.r.Refuse() == nil, Functions: map[string]int{}, Data: len(x.r.Data),
		Located: len(x.r.Located.Addr) + len(x.r.Located.Entry), Names: []runPreName{}, Others: []runPreProblem{},
	}
	for s := runpre.Exact; s <= runpre.Incomparable; s++ {
		o.Functions[s.String()] = x.r.Count(s)
	}
	for i := range x.r.Funcs {
		if it := &x.r.Funcs[i]; it.Status != runpre.Exact && it.Status != runpre.Mismatch {
			o.Others = append(o.Others, runPreProblem{x.f.Symbols[it.Sym].Name, it.Status.String(), it.Why})
		}
	}
	return o
}

// names gives the positions of local names that the kernel has several times.
func names(x *compared, oracle *symbols.Oracle) []runPreName {
	out := []runPreName{}
	for i := range x.f.Symbols {
		s, id := &x.f.Symbols[i], object.SymID(i)
		_, unlocated := x.r.Unlocated[id]
		_, there := x.r.Located.Addr[id]
		_, entry := x.r.Located.Entry[id]
		if s.Bind() != elf.STB_LOCAL || !unlocated && !there && !entry || !x.several(s.Name) {
			continue
		}
		n := runPreName{Symbol: s.Name, Section: x.f.Sections[s.Sec].Name}
		if a := oracle.Position(x.f, id); a.Known {
			n.Position, n.Evidence = max(a.Pos, 1), a.Evidence
		} else if n.Evidence = x.r.Unlocated[id]; n.Evidence == "" {
			n.Evidence = a.Evidence
		}
		out = append(out, n)
	}
	slices.SortStableFunc(out, func(a, b runPreName) int { return cmp.Compare(a.Symbol, b.Symbol) })
	return out
}

func (d *runPreDoc) text(e *env, verbose bool) {
	for i := range d.Objects {
		o := &d.Objects[i]
		word := "same"
		if !o.Same {
			word = "differs"
		}
		n := o.Functions
		fmt.Fprintf(e.Out, "%-8s %s  %s: functions %d exact, %d mismatch, %d weak, %d absent, %d incomparable; %d sections of data; %d symbols located\n", word, o.File, o.Object,
			n["exact"], n["mismatch"], n["weak"], n["absent"], n["incomparable"], o.Data, o.Located)
		if !verbose {
			continue
		}
		for _, p := range o.Others {
			fmt.Fprintf(e.Out, "  %-12s %s: %s\n", p.Status, p.Symbol, p.Why)
		}
		for _, p := range o.Names {
			if p.Position == 0 {
				fmt.Fprintf(e.Out, "  no position  %s (%s): %s\n", p.Symbol, p.Section, p.Evidence)
				continue
			}
			fmt.Fprintf(e.Out, "  %-12d %s (%s): %s\n", p.Position, p.Symbol, p.Section, p.Evidence)
		}
	}
}
