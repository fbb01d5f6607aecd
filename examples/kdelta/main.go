// Command kdelta finds which functions differ between two builds of an ELF object.
//
// Each subcommand is a file of this package; kdelta help lists them.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

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
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// exitTrouble is the exit code of usage errors and of output that cannot be
// written, in every subcommand that does not set env.trouble to another; neither
// means success in any of them.
const exitTrouble = 2

// command is one subcommand. Its run gives the exit code; errors of writing to
// env.out need no attention there, since the writer keeps the first one.
type command struct {
	name  string
	args  string // for the usage line
	short string
	long  string
	run   func(e *env, c *command, args []string) int
}

// env is what a subcommand may touch of the world beside the files it is given.
type env struct {
	in    io.Reader
	out   *bufio.Writer
	err   io.Writer
	fault error // of a report, other than those of out

	trouble int // exit code when output cannot be written
}

// commands lists the subcommands in the order of the help text.
func commands() []*command {
	return []*command{diffCommand, explainCommand, patchCommand, moduleCommand, finalizeCommand, verifyCommand, kernelCommand, runPreCommand, klpDiffCommand, createDiffObjectCommand, schemaCommand, versionCommand}
}

// run is the whole program: it gives the exit code. Output that could not be
// written is trouble, and so are inputs that changed meanwhile. One case cannot be seen: the Go runtime opens /dev/null in
// the place of a standard output that was closed before the program started.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	e := &env{in: stdin, out: bufio.NewWriter(stdout), err: stderr, trouble: exitTrouble}
	forget()
	code := e.dispatch(args)
	if err := unchanged(); err != nil {
		_ = report.WriteDiagnosticsText(e.err, findings(err, codeFile, ""), report.TextOptions{}) // nobody is left to tell
		code = e.trouble
	}
	err := e.out.Flush()
	if err == nil {
		err = e.fault
	}
	if err != nil {
		fmt.Fprintf(stderr, "kdelta: write output: %v\n", err)
		return e.trouble
	}
	return code
}

func (e *env) dispatch(args []string) int {
	if len(args) == 0 {
		usage(e.err)
		return exitTrouble
	}
	name, args := args[0], args[1:]
	switch name {
	case "help", "-h", "-help", "--help":
		if len(args) == 0 {
			usage(e.out)
			return 0
		}
		name, args = args[0], []string{"--help"}
	}
	for _, c := range commands() {
		if c.name == name {
			return c.run(e, c, args)
		}
	}
	fmt.Fprintf(e.err, "kdelta: unknown command %q\n", name)
	usage(e.err)
	return exitTrouble
}

func usage(w io.Writer) {
	fmt.Fprint(w, "kdelta finds which functions differ between two builds of an ELF object.\n\nusage: kdelta COMMAND [flags] [arguments]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-18s %s\n", c.name, c.short)
	}
	fmt.Fprint(w, "\nkdelta help COMMAND says more.\n")
}

// errHelp is given by command.parse when it has answered a request for help.
var errHelp = errors.New("help")

// parse reads flags, which may stand between and after the arguments, and gives
// the arguments. On error it has told the user; fail gives the exit code.
func (c *command) parse(e *env, fs *flag.FlagSet, args []string, want int) ([]string, error) {
	var out []string
	err := c.parseEach(e, fs, args, func(arg string) { out = append(out, arg) })
	if err == nil && len(out) != want {
		err = c.usageError(e, fmt.Sprintf("%d arguments, want %d", len(out), want))
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// parseEach is parse for commands in which it matters what flags stand before an
// argument: it gives arguments to f as they come.
func (c *command) parseEach(e *env, fs *flag.FlagSet, args []string, f func(arg string)) error {
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	for {
		err := fs.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			c.help(e.out, fs)
			return errHelp
		}
		if err != nil {
			return c.usageError(e, err.Error())
		}
		rest := fs.Args()
		if n := len(args) - len(rest); len(rest) == 0 || n > 0 && args[n-1] == "--" {
			for _, arg := range rest {
				f(arg)
			}
			return nil
		}
		f(rest[0])
		args = rest[1:]
	}
}

func (c *command) usageError(e *env, msg string) error {
	fmt.Fprintf(e.err, "kdelta %s: %s\nusage: kdelta %s\nkdelta help %s says more.\n", c.name, msg, c.line(), c.name)
	return errors.New(msg)
}

// fail gives the exit code for an error of parse.
func fail(err error) int {
	if errors.Is(err, errHelp) {
		return 0
	}
	return exitTrouble
}

func (c *command) line() string { return strings.TrimSpace(c.name + " " + c.args) }

func (c *command) help(w io.Writer, fs *flag.FlagSet) {
	fmt.Fprintf(w, "usage: kdelta %s\n\n%s\n", c.line(), strings.TrimSpace(c.long))
	first := true
	fs.VisitAll(func(f *flag.Flag) {
		if first {
			fmt.Fprint(w, "\nflags:\n")
			first = false
		}
		arg, text := flag.UnquoteUsage(f)
		fmt.Fprintf(w, "  %-22s %s\n", strings.TrimSpace("--"+f.Name+" "+arg), text)
	})
}

// findings gives the diagnostics that an error holds, or one of the given code that says what it says.
func findings(err error, code diag.Code, file string) []diag.Diagnostic {
	var refused *diag.Error
	if errors.As(err, &refused) {
		return refused.Diagnostics
	}
	var one diag.Diagnostic
	if errors.As(err, &one) {
		return []diag.Diagnostic{one}
	}
	d := diag.New(code, diag.Place{File: file}, "%v", err)
	return []diag.Diagnostic{d}
}
