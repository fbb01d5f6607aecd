package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// step is what one part of the work took.
type step struct {
	Name   string             `json:"name"`
	Cached bool               `json:"cached"` // all of it was there
	Wall   float64            `json:"wall_s"`
	Own    float64            `json:"cpu_s"`       // of this program
	Tools  map[string]float64 `json:"tools_cpu_s"` // of programs that it started, by kind
	Detail string             `json:"detail"`
}

// progress shows what is being done: a line that changes on a terminal, nothing elsewhere.
type progress struct {
	w     io.Writer // nil: nobody looks
	tools *tools
	steps []step
	out   *mpb.Progress
	bar   *mpb.Bar
}

func newProgress(f *os.File, t *tools) *progress {
	p := &progress{tools: t}
	if term.IsTerminal(int(f.Fd())) {
		p.w = f
	}
	return p
}

// step runs one part. do says whether everything was cached, and what there is to tell.
func (p *progress) step(name string, do func() (cached bool, detail string, err error)) error {
	if p.w != nil {
		p.begin(name, -1)
	}
	p.tools.take()
	wall, own := time.Now(), ownCPU()
	cached, detail, err := do()
	s := step{Name: name, Cached: cached, Wall: time.Since(wall).Seconds(), Own: (ownCPU() - own).Seconds(), Detail: detail, Tools: p.tools.take()}
	p.steps = append(p.steps, s)
	p.end()
	return err
}

// begin shows a bar for n pieces; -1: unknown.
func (p *progress) begin(name string, n int) {
	if p.w == nil {
		return
	}
	p.end()
	p.out = mpb.New(mpb.WithOutput(p.w), mpb.WithWidth(24))
	title := mpb.PrependDecorators(decor.Name(name + " "))
	if n < 0 {
		p.bar = p.out.AddSpinner(0, title, mpb.BarWidth(1))
	} else {
		p.bar = p.out.AddBar(int64(n), title, mpb.AppendDecorators(decor.CountersNoUnit("%d of %d")))
	}
}

// end takes the bar away.
func (p *progress) end() {
	if p.bar != nil {
		p.bar.Abort(true)
		p.out.Wait()
		p.out, p.bar = nil, nil
	}
}

func (p *progress) add() {
	if p.bar != nil {
		p.bar.Increment()
	}
}

// writeSteps prints what each step took.
func writeSteps(w io.Writer, steps []step) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "step\twall s\town CPU s\tprograms CPU s\t")
	var wall, own float64
	all := make(map[string]float64)
	for _, s := range steps {
		note := s.Detail
		if s.Cached {
			note = strings.TrimPrefix(note+", cached", ", ")
		}
		fmt.Fprintf(t, "%s\t%.2f\t%.2f\t%s\t%s\n", s.Name, s.Wall, s.Own, kinds(s.Tools), note)
		wall, own = wall+s.Wall, own+s.Own
		for k, d := range s.Tools {
			all[k] += d
		}
	}
	fmt.Fprintf(t, "all\t%.2f\t%.2f\t%s\t\n", wall, own, kinds(all))
	return t.Flush()
}

func kinds(m map[string]float64) string {
	var out []string
	for _, k := range sortedKeys(m) {
		out = append(out, fmt.Sprintf("%s %.2f", k, m[k]))
	}
	if out == nil {
		return "-"
	}
	return strings.Join(out, ", ")
}
