// Command kdelta finds which functions differ between two builds of an ELF object.
//
// Each subcommand is a file of this package; kdelta help lists them.
package main

import (
	"bufio"
	"io"
	"os"
	"runtime/debug"

	"github.com/kdelta/kdelta/examples/internal/cli"
	"github.com/kdelta/kdelta/pkg/atomicfile"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/report"
)

func main() {
	// A run is short and makes little garbage: collecting it below some hundred megabytes costs more than it
	// gives. The limit bounds what that adds for large inputs.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(3200)
		if os.Getenv("GOMEMLIMIT") == "" {
			debug.SetMemoryLimit(2 << 30)
		}
	}
	atomicfile.ExitOnSignal()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// exitTrouble is the exit code of usage errors and of output that cannot be
// written, in every subcommand that does not set env.trouble to another; neither
// means success in any of them.
const exitTrouble = cli.ExitTrouble

type command = cli.Command[*env]

// env is what a subcommand may touch of the world beside the files it is given.
type env struct {
	cli.Env
	trouble int // exit code when output cannot be written
}

var program = cli.Program{Name: "kdelta", About: "finds which functions differ between two builds of an ELF object.", Width: 18, FlagCol: 22}

// commands lists the subcommands in the order of the help text.
func commands() []*command {
	return []*command{diffCommand, explainCommand, patchCommand, moduleCommand, finalizeCommand, verifyCommand, kernelCommand, runPreCommand, klpDiffCommand, createDiffObjectCommand, schemaCommand, versionCommand}
}

// run is the whole program: it gives the exit code. Output that could not be
// written is trouble, and so are inputs that changed meanwhile. One case cannot be seen: the Go runtime opens /dev/null in
// the place of a standard output that was closed before the program started.
func run(args []string, stdout, stderr io.Writer) int {
	e := &env{cli.Env{Program: &program, Out: bufio.NewWriter(stdout), Err: stderr}, exitTrouble}
	forget()
	code := cli.Dispatch(e, commands(), args)
	if err := unchanged(); err != nil {
		_ = report.WriteDiagnosticsText(e.Err, findings(err, codeFile, ""), report.TextOptions{}) // nobody is left to tell
		code = e.trouble
	}
	if e.Flush() != nil {
		return e.trouble
	}
	return code
}

// findings gives the diagnostics that an error holds, or one of the given code that says what it says.
func findings(err error, code diag.Code, file string) []diag.Diagnostic {
	if ds := cli.Diagnostics(err); ds != nil {
		return ds
	}
	return []diag.Diagnostic{diag.New(code, diag.Place{File: file}, "%v", err)}
}
