package main

import (
	"fmt"

	"github.com/kdelta/kdelta/examples/internal/cli"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/report"
)

var finalizeCommand = &command{
	Name:  "finalize",
	Args:  "[--static] [--no-replace] [--drop-btf] [--symvers FILE] IN.ko -o OUT.ko",
	Short: "turn a linked module of either intermediate form into the final one",
	Long: `
IN.ko is a module as the link made it, of objects that kdelta patch (either
format), objtool klp diff or kpatch's create-diff-object wrote. OUT.ko has
.klp.rela sections and .klp.sym symbols, which the kernel's livepatch core reads. It must be the last
step before signing: ld -r and strip destroy the form.

--static adds the tables and the start of the module itself, for kernels that
lack klp_find_section_by_name (before 6.19): then the module is linked without init.c or hook.

Exit code 0: written. 1: wrong usage, or a file that cannot be read or written.
2: refused; the diagnostics say why, and OUT.ko is as it was.`,
	Run: runFinalize,
}

func runFinalize(e *env, c *command, args []string) int {
	e.trouble = patchTrouble
	fs := c.Flags()
	out := fs.String("o", "", "write the module to `OUT.ko`")
	static := fs.Bool("static", false, "add static tables and the module's start")
	noReplace := fs.Bool("no-replace", false, "with --static: the patch adds to active ones instead of replacing them")
	plain := fs.Bool("plain-return", false, "with --static: the kernel has no __x86_return_thunk")
	dropBTF := fs.Bool("drop-btf", false, "leave .BTF out, which does not fit the patch any more")
	symvers := fs.String("symvers", "", "with --static: the Module.symvers with the checksums of what the start calls: `FILE`")
	arg, err := c.Parse(e, fs, args, 1, 1)
	if err == nil && *out == "" {
		err = c.UsageError(e, "no -o OUT.ko")
	}
	if err != nil {
		if cli.Fail(err) == 0 {
			return patchWritten
		}
		return patchTrouble
	}
	opts := klp.FinalizeOptions{Name: arg[0], DropBTF: *dropBTF, NoReplace: *noReplace, PlainReturn: *plain}
	if *static {
		opts.Layout = klp.DefaultLayout()
	}
	code := patchTrouble
	var data []byte
	if err = overwrites(*out, arg[0], *symvers); err == nil {
		if data, code, err = finalize(arg[0], *symvers, opts); err == nil {
			code = patchTrouble
			err = writeOutput(*out, data)
		}
	}
	if err != nil {
		_ = report.WriteDiagnosticsText(e.Err, findings(err, codeStopped, arg[0]), report.TextOptions{})
		return code
	}
	fmt.Fprintf(e.Out, "%s: %d bytes\n", *out, len(data))
	return patchWritten
}

func finalize(in, symvers string, opts klp.FinalizeOptions) ([]byte, int, error) {
	data, err := readInput(in)
	if err != nil {
		return nil, patchTrouble, err
	}
	if symvers != "" {
		var k knowledge
		if err := k.readSymvers(symvers); err != nil {
			return nil, patchTrouble, err
		}
		opts.CRCs = make(map[string]uint32)
		for _, x := range k.symvers[0].Exports {
			opts.CRCs[x.Symbol] = x.CRC
		}
	}
	out, err := klp.Finalize(data, opts)
	if err != nil {
		code := patchRefused
		for _, d := range findings(err, codeStopped, in) {
			switch d.Code {
			case diag.ElfMalformed, diag.ElfUnsupported, diag.ElfLimit, codeStopped:
				code = patchTrouble
			}
		}
		return nil, code, err
	}
	return out, 0, nil
}
