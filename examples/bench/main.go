// Command bench measures what kdelta costs beside other programs on the same inputs.
//
//	bench -kdelta KDELTA [-runs N] [-create-diff-object PROGRAM] [-objtool PROGRAM -symvers FILE -vmlinux FILE] ORIG PATCHED [ORIG PATCHED]...
//	bench -kdelta KDELTA -scale [-max N]
//
// The programs take turns; each run is a process of its own, and the kernel says what
// it used. Printed are medians of processor time (user and system), wall time and peak
// memory, and how many times that of kdelta the others take. What sha256sum takes for the
// two files stands beside it: it is about the least that a program does that reads them.
// With -scale the objects are made (pkg/synth), from a thousand to a million sections.
//
// create-diff-object is given what its command line wants beside the two objects by
// -create-diff-object-args. objtool wants its own checksums in both objects: they are
// made on copies, and their time is part of its sum, as is that of a build with it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/kdelta/kdelta/pkg/synth"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type config struct {
	kdelta, cdo, cdoArgs, objtool, symvers, vmlinux string
	runs, most                                      int
	scale                                           bool
}

// program is one thing to measure: commands that run one after the other.
type program struct {
	name    string
	prepare func() error // before each run, not measured
	cmds    [][]string
	dir     string
}

// cost is what one run took.
type cost struct {
	cpu, wall time.Duration
	mem       int64 // bytes, the largest of the processes
	exit      int   // code of the last that did not end with 0
}

func run(args []string, out io.Writer) error {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	var c config
	fs.StringVar(&c.kdelta, "kdelta", "", "the kdelta `program`")
	fs.StringVar(&c.cdo, "create-diff-object", "", "kpatch's `program`, or the command that runs it (split at spaces)")
	fs.StringVar(&c.cdoArgs, "create-diff-object-args", "vmlinux SYMTAB SYMVERS mod", "its `arguments` behind the two objects, before the output")
	fs.StringVar(&c.objtool, "objtool", "", "the kernel build's `program`, for pairs of vmlinux.o")
	fs.StringVar(&c.symvers, "symvers", "", "Module.symvers, for objtool")
	fs.StringVar(&c.vmlinux, "vmlinux", "", "the linked vmlinux, for objtool")
	fs.IntVar(&c.runs, "runs", 5, "runs of each program")
	fs.BoolVar(&c.scale, "scale", false, "measure made objects of growing size")
	fs.IntVar(&c.most, "max", 1_000_000, "sections of the largest")
	if err := fs.Parse(args); err != nil {
		return err
	}
	files := fs.Args()
	if c.kdelta == "" || c.runs < 1 || len(files)%2 != 0 || len(files) == 0 && !c.scale {
		return errors.New("want -kdelta and pairs of objects, or -scale")
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if c.scale {
		return c.scaling(out, dir)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "pair\tprogram\tCPU ms\twall ms\tpeak MB\tCPU ratio\tmemory ratio\texit\t")
	for i := 0; i < len(files); i += 2 {
		if err := c.pair(w, dir, files[i], files[i+1]); err != nil {
			return err
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// programs lists what is measured on one pair.
func (c *config) programs(dir, orig, patched string) []program {
	out := []program{
		{name: "kdelta diff", cmds: [][]string{{c.kdelta, "diff", orig, patched}}},
		{name: "kdelta patch", cmds: [][]string{{c.kdelta, "patch", "--symbols", "none", "-o", filepath.Join(dir, "kdelta.o"), orig, patched}}},
		{name: "  --no-verify", cmds: [][]string{{c.kdelta, "patch", "--no-verify", "--symbols", "none", "-o", filepath.Join(dir, "kdelta.o"), orig, patched}}},
		{name: "sha256sum", cmds: [][]string{{"sha256sum", orig, patched}}},
	}
	if c.cdo != "" {
		cmd := append(strings.Fields(c.cdo), orig, patched)
		cmd = append(cmd, strings.Fields(c.cdoArgs)...)
		out = append(out, program{name: "create-diff-object", cmds: [][]string{append(cmd, filepath.Join(dir, "cdo.o"))}})
	}
	if c.objtool != "" {
		o, p := filepath.Join(dir, "vmlinux.o"), filepath.Join(dir, "patched.o")
		out = append(out, program{name: "objtool klp", dir: dir,
			prepare: func() error {
				return errors.Join(copyFile(o, orig), copyFile(p, patched), copyFile(filepath.Join(dir, "vmlinux"), c.vmlinux), copyFile(filepath.Join(dir, "Module.symvers"), c.symvers))
			},
			cmds: [][]string{{c.objtool, "klp", "checksum", o}, {c.objtool, "klp", "checksum", p}, {c.objtool, "klp", "diff", o, p, filepath.Join(dir, "out.o")}}})
	}
	return out
}

func (c *config) pair(w io.Writer, dir, orig, patched string) error {
	var err error
	for _, p := range []*string{&orig, &patched} {
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	programs := c.programs(dir, orig, patched)
	costs := make([][]cost, len(programs))
	for range c.runs {
		for i := range programs {
			k, err := programs[i].run()
			if err != nil {
				return fmt.Errorf("%s: %w", programs[i].name, err)
			}
			costs[i] = append(costs[i], k)
		}
	}
	base := median(costs[0])
	for i := range programs {
		k := median(costs[i])
		fmt.Fprintf(w, "%s\t%s\t%.1f\t%.1f\t%.1f\t%.2f\t%.2f\t%d\t\n", filepath.Base(orig), programs[i].name, ms(k.cpu), ms(k.wall), float64(k.mem)/(1<<20),
			float64(k.cpu)/float64(base.cpu), float64(k.mem)/float64(base.mem), costs[i][0].exit)
	}
	return nil
}

// scaling prints how the cost grows with the number of sections.
func (c *config) scaling(out io.Writer, dir string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "sections\tMB\tCPU ms\twall ms\tpeak MB\tCPU us per section\tpeak bytes per byte\t")
	for n := 1000; n <= c.most; n *= 10 {
		orig, patched, err := synth.Pair(synth.Shape{Functions: n * 10 / 26})
		if err != nil {
			return err
		}
		a, b := filepath.Join(dir, "orig.o"), filepath.Join(dir, "patched.o")
		if err := errors.Join(os.WriteFile(a, orig, 0o666), os.WriteFile(b, patched, 0o666)); err != nil {
			return err
		}
		p := program{name: "kdelta diff", cmds: [][]string{{c.kdelta, "diff", a, b}}}
		var costs []cost
		for range c.runs {
			k, err := p.run()
			if err != nil {
				return err
			}
			costs = append(costs, k)
		}
		k := median(costs)
		size := float64(len(orig) + len(patched))
		fmt.Fprintf(w, "%d\t%.1f\t%.1f\t%.1f\t%.1f\t%.2f\t%.2f\t\n", n, size/(1<<20), ms(k.cpu), ms(k.wall), float64(k.mem)/(1<<20), float64(k.cpu)/1000/float64(n), float64(k.mem)/size)
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// median gives the middle value of each quantity by itself.
func median(list []cost) cost {
	mid := func(f func(cost) int64) int64 {
		v := make([]int64, len(list))
		for i, k := range list {
			v[i] = f(k)
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	return cost{
		cpu:  time.Duration(mid(func(k cost) int64 { return int64(k.cpu) })),
		wall: time.Duration(mid(func(k cost) int64 { return int64(k.wall) })),
		mem:  mid(func(k cost) int64 { return k.mem }),
	}
}

func copyFile(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o666)
}
