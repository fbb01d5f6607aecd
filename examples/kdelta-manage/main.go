// Command kdelta-manage checks, loads, watches, lists and removes live patches of
// the running kernel, and installs them for boot.
//
// Each subcommand prints text, or with --json a document; diagnostics go to
// standard error, and a line of progress does when that is a terminal.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/kdelta/kdelta/pkg/atomicfile"
	"github.com/kdelta/kdelta/pkg/livepatch"
)

func main() {
	atomicfile.ExitOnSignal()
	e := &env{out: bufio.NewWriter(os.Stdout), err: os.Stderr, host: livepatch.Host, privileged: livepatch.Privileged, program: os.Executable}
	if term.IsTerminal(int(os.Stderr.Fd())) {
		e.width = func() int {
			w, _, err := term.GetSize(int(os.Stderr.Fd()))
			if err != nil {
				return 80
			}
			return w
		}
	}
	os.Exit(e.run(os.Args[1:]))
}

// The exit codes of every subcommand.
const (
	exitDone    = 0
	exitRefused = 1 // something stands against it, and nothing was changed; of status: not in effect, or in transition
	exitTrouble = 2 // wrong usage, unreadable input, output that cannot be written
	exitUndone  = 3 // tried, and the system is as it was
	exitLeft    = 4 // tried, and the system is neither as it was nor as asked; the message says how
)

const exitText = `exit codes:
  0  done; check: nothing stands against loading; status: in effect, and no transition
  1  refused, nothing was changed; status: not in effect, or in transition
  2  wrong usage, a file that cannot be read, output that cannot be written
  3  tried and undone: the kernel refused, or a transition stalled and was reversed
  4  tried, and neither done nor undone: the message says what is left
`

// command is one subcommand. Its run gives the exit code; errors of writing to
// env.out need no attention there, since the writer keeps the first one.
type command struct {
	name  string
	args  string // for the usage line
	short string
	long  string
	run   func(e *env, c *command, args []string) int
}

// env is what a subcommand may touch of the world.
type env struct {
	out        *bufio.Writer
	err        io.Writer
	width      func() int // of the terminal that err is; nil: it is none
	host       func(sys, proc string) *livepatch.System
	privileged func() bool
	program    func() (string, error)
	fault      error // of a document
}

// commands lists the subcommands in the order of the help text.
func commands() []*command {
	return []*command{checkCommand, loadCommand, unloadCommand, listCommand, statusCommand, waitCommand, installCommand, removeCommand, schemaCommand}
}

// run is the whole program: it gives the exit code. Output that could not be written is trouble.
func (e *env) run(args []string) int {
	code := e.dispatch(args)
	err := e.out.Flush()
	if err == nil {
		err = e.fault
	}
	if err != nil {
		fmt.Fprintf(e.err, "kdelta-manage: write output: %v\n", err)
		if code == exitDone || code == exitRefused {
			return exitTrouble
		}
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
			return exitDone
		}
		name, args = args[0], []string{"--help"}
	}
	for _, c := range commands() {
		if c.name == name {
			return c.run(e, c, args)
		}
	}
	fmt.Fprintf(e.err, "kdelta-manage: unknown command %q\n", name)
	usage(e.err)
	return exitTrouble
}

func usage(w io.Writer) {
	fmt.Fprint(w, "kdelta-manage manages live patches of the running kernel.\n\nusage: kdelta-manage COMMAND [flags] [arguments]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-10s %s\n", c.name, c.short)
	}
	fmt.Fprint(w, "\n", exitText, "\nkdelta-manage help COMMAND says more.\n")
}

// errHelp is given by command.parse when it has answered a request for help.
var errHelp = errors.New("help")

// parse reads flags, which may stand between and after the arguments, and gives
// the arguments. On error it has told the user; fail gives the exit code.
func (c *command) parse(e *env, fs *flag.FlagSet, args []string, least, most int) ([]string, error) {
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	var out []string
	for {
		err := fs.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			c.help(e.out, fs)
			return nil, errHelp
		}
		if err != nil {
			return nil, c.usageError(e, err.Error())
		}
		rest := fs.Args()
		if n := len(args) - len(rest); len(rest) == 0 || n > 0 && args[n-1] == "--" {
			out = append(out, rest...)
			break
		}
		out = append(out, rest[0])
		args = rest[1:]
	}
	if len(out) < least || len(out) > most {
		want := fmt.Sprint(least)
		if most > least {
			want += fmt.Sprintf(" to %d", most)
		}
		return nil, c.usageError(e, fmt.Sprintf("%d arguments, want %s", len(out), want))
	}
	return out, nil
}

func (c *command) usageError(e *env, msg string) error {
	fmt.Fprintf(e.err, "kdelta-manage %s: %s\nusage: kdelta-manage %s\nkdelta-manage help %s says more.\n", c.name, msg, c.line(), c.name)
	return errors.New(msg)
}

// fail gives the exit code for an error of parse.
func fail(err error) int {
	if errors.Is(err, errHelp) {
		return exitDone
	}
	return exitTrouble
}

func (c *command) line() string { return strings.TrimSpace(c.name + " " + c.args) }

func (c *command) help(w io.Writer, fs *flag.FlagSet) {
	fmt.Fprintf(w, "usage: kdelta-manage %s\n\n%s\n", c.line(), strings.TrimSpace(c.long))
	first := true
	fs.VisitAll(func(f *flag.Flag) {
		if first {
			fmt.Fprint(w, "\nflags:\n")
			first = false
		}
		arg, text := flag.UnquoteUsage(f)
		fmt.Fprintf(w, "  %-20s %s\n", strings.TrimSpace("--"+f.Name+" "+arg), text)
	})
	fmt.Fprint(w, "\n", exitText)
}

// options are the flags that several commands have.
type options struct {
	sys, proc string
	store     string
	units     string
	release   string
	json      bool
	dryRun    bool
	timeout   time.Duration
	signal    time.Duration
}

func (o *options) systemFlags(fs *flag.FlagSet) {
	fs.StringVar(&o.sys, "sysfs", "/sys", "`DIR` where sysfs is; another than /sys is a recorded system, which is only read")
	fs.StringVar(&o.proc, "proc", "/proc", "`DIR` where procfs is")
	fs.BoolVar(&o.json, "json", false, "print a document (kdelta-manage schema) instead of text")
}

func (o *options) storeFlags(fs *flag.FlagSet) {
	fs.StringVar(&o.store, "store", livepatch.DefaultStore, "`DIR` with what is installed, a directory per kernel release")
	fs.StringVar(&o.units, "unit-dir", livepatch.DefaultUnitDir, "`DIR` of systemd's units; empty: none is made")
}

func (o *options) changeFlags(fs *flag.FlagSet) {
	fs.BoolVar(&o.dryRun, "dry-run", false, "say what would be done, and check what can be checked")
}

func (o *options) waitFlags(fs *flag.FlagSet) {
	fs.DurationVar(&o.timeout, "timeout", livepatch.DefaultTimeout, "`TIME` that a transition may take, as in 90s")
	fs.DurationVar(&o.signal, "signal", 0, "`TIME` after which tasks that block it get SIGSTOP and SIGCONT; 0: never")
}

// progress gives the function that draws the line of progress, and the one that wipes it.
func (e *env) progress() (show func(livepatch.Progress), wipe func()) {
	if e.width == nil {
		return nil, func() {}
	}
	drawn := false
	show = func(p livepatch.Progress) {
		line := fmt.Sprintf("%s: %s, %d of %d tasks left, %ds of %ds", p.Patch, p.State, p.Remaining, p.Tasks, int(p.Elapsed.Seconds()), int(p.Deadline.Seconds()))
		if w := e.width() - 1; w > 0 && len(line) > w {
			line = line[:w]
		}
		fmt.Fprintf(e.err, "\r\x1b[K%s", line)
		drawn = true
	}
	return show, func() {
		if drawn {
			fmt.Fprint(e.err, "\r\x1b[K")
		}
	}
}
