// Package cli is what programs with subcommands share: the table of commands,
// flags between arguments, help, and output that may not be writable.
package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/kdelta/kdelta/pkg/diag"
)

// ExitTrouble is the exit code of usage errors. It means success in no subcommand.
const ExitTrouble = 2

// Program is what one program has of its own in its help texts.
type Program struct {
	Name    string
	About   string // one sentence
	Exits   string // the exit codes of all subcommands, with a newline; empty: each has its own
	Width   int    // of the column with the names of subcommands
	FlagCol int    // of that with the names of flags
}

// Env is what a subcommand may touch of the world beside the files it is given.
type Env struct {
	*Program
	Out   *bufio.Writer
	Err   io.Writer
	Fault error // of a document, other than those of Out
}

// base is found in whatever Env is embedded in.
func (e *Env) base() *Env { return e }

// Surroundings are an Env, or what embeds one.
type Surroundings interface{ base() *Env }

// Command is one subcommand of a program with surroundings of type E. Its Run gives the exit
// code; errors of writing to Out need no attention there, since the writer keeps the first one.
type Command[E Surroundings] struct {
	Name  string
	Args  string // for the usage line
	Short string
	Long  string
	Run   func(e E, c *Command[E], args []string) int
}

// Dispatch runs the subcommand that args name, or prints help; commands are in the order of the help text.
func Dispatch[E Surroundings](e E, commands []*Command[E], args []string) int {
	b := e.base()
	if len(args) == 0 {
		usage(b.Err, b.Program, commands)
		return ExitTrouble
	}
	name, args := args[0], args[1:]
	switch name {
	case "help", "-h", "-help", "--help":
		if len(args) == 0 {
			usage(b.Out, b.Program, commands)
			return 0
		}
		name, args = args[0], []string{"--help"}
	}
	for _, c := range commands {
		if c.Name == name {
			return c.Run(e, c, args)
		}
	}
	fmt.Fprintf(b.Err, "%s: unknown command %q\n", b.Name, name)
	usage(b.Err, b.Program, commands)
	return ExitTrouble
}

func usage[E Surroundings](w io.Writer, p *Program, commands []*Command[E]) {
	fmt.Fprintf(w, "%s %s\n\nusage: %[1]s COMMAND [flags] [arguments]\n\n", p.Name, p.About)
	for _, c := range commands {
		fmt.Fprintf(w, "  %-*s %s\n", p.Width, c.Name, c.Short)
	}
	p.exits(w)
	fmt.Fprintf(w, "\n%s help COMMAND says more.\n", p.Name)
}

func (p *Program) exits(w io.Writer) {
	if p.Exits != "" {
		fmt.Fprint(w, "\n", p.Exits)
	}
}

// Flush ends the output. What could not be written is told, and is the error.
func (e *Env) Flush() error {
	err := e.Out.Flush()
	if err == nil {
		err = e.Fault
	}
	if err != nil {
		fmt.Fprintf(e.Err, "%s: write output: %v\n", e.Name, err)
	}
	return err
}

// errHelp is given by the parsers when they have answered a request for help.
var errHelp = errors.New("help")

// Fail gives the exit code for an error of Parse, ParseEach or UsageError.
func Fail(err error) int {
	if errors.Is(err, errHelp) {
		return 0
	}
	return ExitTrouble
}

// Flags gives an empty set of flags.
func (c *Command[E]) Flags() *flag.FlagSet {
	fs := flag.NewFlagSet(c.Name, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // ParseEach tells
	fs.Usage = func() {}
	return fs
}

// Parse reads flags, which may stand between and after the arguments, and gives the arguments, of
// which there are least to most. On error it has told the user; Fail gives the exit code.
func (c *Command[E]) Parse(e E, fs *flag.FlagSet, args []string, least, most int) ([]string, error) {
	var out []string
	err := c.ParseEach(e, fs, args, func(arg string) { out = append(out, arg) })
	if err == nil && (len(out) < least || len(out) > most) {
		want := fmt.Sprint(least)
		if most > least {
			want += fmt.Sprintf(" to %d", most)
		}
		err = c.UsageError(e, fmt.Sprintf("%d arguments, want %s", len(out), want))
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// ParseEach is Parse for commands in which it matters what flags stand before an
// argument: it gives arguments to f as they come.
func (c *Command[E]) ParseEach(e E, fs *flag.FlagSet, args []string, f func(arg string)) error {
	for {
		err := fs.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			c.help(e.base(), fs)
			return errHelp
		}
		if err != nil {
			return c.UsageError(e, err.Error())
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

// UsageError tells the user what is wrong with the command line.
func (c *Command[E]) UsageError(e E, msg string) error {
	b := e.base()
	fmt.Fprintf(b.Err, "%s %s: %s\nusage: %[1]s %[4]s\n%[1]s help %[2]s says more.\n", b.Name, c.Name, msg, c.line())
	return errors.New(msg)
}

func (c *Command[E]) line() string { return strings.TrimSpace(c.Name + " " + c.Args) }

func (c *Command[E]) help(e *Env, fs *flag.FlagSet) {
	fmt.Fprintf(e.Out, "usage: %s %s\n\n%s\n", e.Name, c.line(), strings.TrimSpace(c.Long))
	first := true
	fs.VisitAll(func(f *flag.Flag) {
		if first {
			fmt.Fprint(e.Out, "\nflags:\n")
			first = false
		}
		arg, text := flag.UnquoteUsage(f)
		fmt.Fprintf(e.Out, "  %-*s %s\n", e.FlagCol, strings.TrimSpace("--"+f.Name+" "+arg), text)
	})
	e.exits(e.Out)
}

// Diagnostics gives those that an error holds; nil: it is another one.
func Diagnostics(err error) []diag.Diagnostic {
	var refused *diag.Error
	var one diag.Diagnostic
	switch {
	case errors.As(err, &refused):
		return refused.Diagnostics
	case errors.As(err, &one):
		return []diag.Diagnostic{one}
	}
	return nil
}

// WriteJSON writes a document for people and programs.
func WriteJSON(w io.Writer, document any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(document)
}

// List gives a list for a document, which is never null.
func List[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
