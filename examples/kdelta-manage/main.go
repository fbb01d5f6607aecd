// Command kdelta-manage checks, loads, watches, lists and removes live patches of
// the running kernel, and installs them for boot.
//
// Each subcommand prints text, or with --json a document; diagnostics go to
// standard error, and a line of progress does when that is a terminal.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/kdelta/kdelta/examples/internal/cli"
	"github.com/kdelta/kdelta/pkg/atomicfile"
	"github.com/kdelta/kdelta/pkg/livepatch"
)

func main() {
	atomicfile.ExitOnSignal()
	e := &env{Env: cli.Env{Program: &program, Out: bufio.NewWriter(os.Stdout), Err: os.Stderr}, host: livepatch.Host, privileged: livepatch.Privileged, program: os.Executable}
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
	exitRefused = 1               // something stands against it, and nothing was changed; of status: not in effect, or in transition
	exitTrouble = cli.ExitTrouble // wrong usage, unreadable input, output that cannot be written
	exitUndone  = 3               // tried, and the system is as it was
	exitLeft    = 4               // tried, and the system is neither as it was nor as asked; the message says how
)

const exitText = `exit codes:
  0  done; check: nothing stands against loading; status: in effect, and no transition
  1  refused, nothing was changed; status: not in effect, or in transition
  2  wrong usage, a file that cannot be read, output that cannot be written
  3  tried and undone: the kernel refused, or a transition stalled and was reversed
  4  tried, and neither done nor undone: the message says what is left
`

type command = cli.Command[*env]

// env is what a subcommand may touch of the world.
type env struct {
	cli.Env
	width      func() int // of the terminal that Err is; nil: it is none
	host       func(sys, proc string) *livepatch.System
	privileged func() bool
	program    func() (string, error)
}

var program = cli.Program{Name: "kdelta-manage", About: "manages live patches of the running kernel.", Exits: exitText, Width: 10, FlagCol: 20}

// commands lists the subcommands in the order of the help text.
func commands() []*command {
	return []*command{checkCommand, loadCommand, unloadCommand, listCommand, statusCommand, waitCommand, installCommand, removeCommand, schemaCommand}
}

// run is the whole program: it gives the exit code. Output that could not be written is trouble.
func (e *env) run(args []string) int {
	code := cli.Dispatch(e, commands(), args)
	if e.Flush() != nil && (code == exitDone || code == exitRefused) {
		return exitTrouble
	}
	return code
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
		fmt.Fprintf(e.Err, "\r\x1b[K%s", line)
		drawn = true
	}
	return show, func() {
		if drawn {
			fmt.Fprint(e.Err, "\r\x1b[K")
		}
	}
}
