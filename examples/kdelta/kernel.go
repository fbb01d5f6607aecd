package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kdelta/kdelta/examples/internal/cli"
	"github.com/kdelta/kdelta/pkg/kernel/image"
	"github.com/kdelta/kdelta/pkg/report"
)

// kernelSchema is the name and version of the JSON document of kdelta kernel.
const kernelSchema = "kdelta.kernel/v1"

var kernelCommand = &command{
	Name:  "kernel",
	Args:  "VMLINUZ [--json]",
	Short: "print what a kernel's image says of itself",
	Long: `
VMLINUZ is the image that is booted (a bzImage, compressed with xz, zstd, gzip
or lz4) or the vmlinux in it. What livepatches need is in it: release and vermagic,
symbols, exports with checksums, layouts, the conventions of its code.

Exit code 0: read. 2: wrong usage, or a file that is no kernel.`,
	Run: runKernel,
}

type kernelDoc struct {
	Schema     string            `json:"schema"`
	File       string            `json:"file"`
	Release    string            `json:"release"`
	Banner     string            `json:"banner"`
	Compiler   string            `json:"compiler"`
	Vermagic   string            `json:"vermagic"`
	Symbols    int               `json:"symbols"`
	Shared     sharedDoc         `json:"shared_names"`
	Exports    exportsDoc        `json:"exports"`
	Traceable  int               `json:"traceable"`
	Modversion bool              `json:"modversions"`
	ORC        string            `json:"orc"`
	Padding    int               `json:"call_padding"`
	IBT        bool              `json:"ibt"`
	KCFI       bool              `json:"kcfi"`
	Thunk      bool              `json:"return_thunk"`
	Runtime    []string          `json:"runtime_constants"`
	Entries    map[string]int    `json:"entry_sizes"`
	Module     map[string]uint64 `json:"struct_module"`
	Livepatch  string            `json:"livepatch"` // why its structures are not known; empty: they are
}

type sharedDoc struct {
	Names   int `json:"names"`
	Symbols int `json:"symbols"`
}

type exportsDoc struct {
	All        int `json:"all"`
	GPL        int `json:"gpl"`
	Namespaces int `json:"namespaces"`
}

func runKernel(e *env, c *command, args []string) int {
	fs := c.Flags()
	asJSON := fs.Bool("json", false, "write the document "+kernelSchema+" to standard output (kdelta schema --kernel prints its schema)")
	arg, err := c.Parse(e, fs, args, 1, 1)
	if err != nil {
		return cli.Fail(err)
	}
	var k *image.Kernel
	data, err := readInput(arg[0])
	if err == nil {
		k, err = image.Parse(data, image.Options{Name: arg[0]})
	}
	if err != nil {
		_ = report.WriteDiagnosticsText(e.Err, findings(err, codeStopped, arg[0]), report.TextOptions{})
		return exitTrouble
	}
	doc := kernelFacts(k)
	if *asJSON {
		e.Fault = cli.WriteJSON(e.Out, doc)
		return 0
	}
	doc.text(e)
	return 0
}

func kernelFacts(k *image.Kernel) *kernelDoc {
	d := &kernelDoc{
		Schema: kernelSchema, File: k.Name, Release: k.Release, Banner: k.Banner, Compiler: k.Compiler, Vermagic: k.Vermagic,
		Symbols: len(k.Symbols), Modversion: k.HasModversions(), ORC: k.ORC().String(), Padding: k.CallPadding(), IBT: k.HasIBT(), KCFI: k.KCFI(),
		Thunk: k.ReturnThunk(), Runtime: cli.List(k.RuntimeConsts()), Entries: k.EntrySizes(), Module: map[string]uint64{},
	}
	count := make(map[string]int, len(k.Symbols))
	for i := range k.Symbols {
		s := &k.Symbols[i]
		count[s.Name]++
		if s.Type|0x20 == 't' && k.Ftrace(s.Addr) {
			d.Traceable++
		}
	}
	for _, n := range count {
		if n > 1 {
			d.Shared.Names++
			d.Shared.Symbols += n
		}
	}
	spaces := make(map[string]bool)
	for i := range k.Exports {
		d.Exports.All++
		if k.Exports[i].GPL {
			d.Exports.GPL++
		}
		if ns := k.Exports[i].Namespace; ns != "" {
			spaces[ns] = true
		}
	}
	d.Exports.Namespaces = len(spaces)
	l, err := k.KlpLayout()
	if err != nil {
		d.Livepatch = err.Error()
	} else {
		d.Module = map[string]uint64{"size": l.ModuleSize, "name": l.ModuleName, "init": l.ModuleInit, "exit": l.ModuleExit}
	}
	return d
}

func (d *kernelDoc) text(e *env) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(e.Out, "%-14s %s\n", name, fmt.Sprintf(format, args...))
	}
	yes := func(v bool) string {
		if v {
			return "yes"
		}
		return "no"
	}
	line("release", "%s", d.Release)
	line("banner", "%s", d.Banner)
	line("compiler", "%s", d.Compiler)
	line("vermagic", "%q", d.Vermagic)
	line("symbols", "%d, of which %d share %d names; %d functions can be traced", d.Symbols, d.Shared.Symbols, d.Shared.Names, d.Traceable)
	line("exports", "%d, of which %d for GPL modules; %d namespaces; checksums: %s", d.Exports.All, d.Exports.GPL, d.Exports.Namespaces, yes(d.Modversion))
	line("code", "call padding %d bytes; IBT: %s; kCFI: %s; return thunk: %s; ORC: %s", d.Padding, yes(d.IBT), yes(d.KCFI), yes(d.Thunk), d.ORC)
	if len(d.Runtime) > 0 {
		line("runtime", "%s", strings.Join(d.Runtime, " "))
	}
	var sizes []string
	for _, name := range slices.Sorted(maps.Keys(d.Entries)) {
		sizes = append(sizes, fmt.Sprintf("%s %d", name, d.Entries[name]))
	}
	line("entries", "%s", strings.Join(sizes, ", "))
	if d.Livepatch != "" {
		line("livepatch", "%s", d.Livepatch)
		return
	}
	line("struct module", "%d bytes, name at %d, init at %d, exit at %d", d.Module["size"], d.Module["name"], d.Module["init"], d.Module["exit"])
}
