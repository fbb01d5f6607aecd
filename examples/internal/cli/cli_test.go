package cli_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kdelta/kdelta/examples/internal/cli"
	"github.com/kdelta/kdelta/pkg/diag"
)

// env is what programs embed an Env in.
type env struct {
	cli.Env
	greeting string
}

var program = cli.Program{Name: "prog", About: "greets.", Exits: "exit codes:\n  0  greeted\n", Width: 6, FlagCol: 10}

var commands = []*cli.Command[*env]{
	{Name: "greet", Args: "NAME [NAME]", Short: "greet somebody", Long: "\nGreets.", Run: func(e *env, c *cli.Command[*env], args []string) int {
		fs := c.Flags()
		loud := fs.Bool("loud", false, "shout")
		fs.Int("n", 1, "`N` times")
		names, err := c.Parse(e, fs, args, 1, 2)
		if err != nil {
			return cli.Fail(err)
		}
		fmt.Fprintln(e.Out, e.greeting, strings.Join(names, " "), *loud)
		return 0
	}},
	{Name: "order", Short: "tell what stands where", Run: func(e *env, c *cli.Command[*env], args []string) int {
		fs := c.Flags()
		of := fs.String("of", "", "what follows")
		if err := c.ParseEach(e, fs, args, func(arg string) { fmt.Fprintf(e.Out, "%s of %s\n", arg, *of) }); err != nil {
			return cli.Fail(err)
		}
		return 0
	}},
}

const all = `prog greets.

usage: prog COMMAND [flags] [arguments]

  greet  greet somebody
  order  tell what stands where

exit codes:
  0  greeted

prog help COMMAND says more.
`

const one = `usage: prog greet NAME [NAME]

Greets.

flags:
  --loud     shout
  --n N      N times

exit codes:
  0  greeted
`

const hint = "\nusage: prog greet NAME [NAME]\nprog help greet says more.\n"

func TestDispatch(t *testing.T) {
	for _, c := range []struct {
		args      string
		code      int
		out, errs string
	}{
		{"", 2, "", all},
		{"help", 0, all, ""},
		{"--help", 0, all, ""},
		{"nothing", 2, "", "prog: unknown command \"nothing\"\n" + all},
		{"help nothing", 2, "", "prog: unknown command \"nothing\"\n" + all},
		{"help greet", 0, one, ""},
		{"greet you -h", 0, one, ""},
		{"greet you", 0, "hello you false\n", ""},
		{"greet you --loud all", 0, "hello you all true\n", ""},
		{"greet you -- --loud", 0, "hello you --loud false\n", ""},
		{"greet", 2, "", "prog greet: 0 arguments, want 1 to 2" + hint},
		{"greet a b c", 2, "", "prog greet: 3 arguments, want 1 to 2" + hint},
		{"greet --n x a", 2, "", "prog greet: invalid value \"x\" for flag -n: parse error" + hint},
		{"order a --of x b --of=y c d", 0, "a of \nb of x\nc of y\nd of y\n", ""},
	} {
		var out, errs bytes.Buffer
		e := &env{cli.Env{Program: &program, Out: bufio.NewWriter(&out), Err: &errs}, "hello"}
		code := cli.Dispatch(e, commands, strings.Fields(c.args))
		require.NoError(t, e.Flush())
		require.Equal(t, c.code, code, c.args)
		require.Equal(t, c.out, out.String(), c.args)
		require.Equal(t, c.errs, errs.String(), c.args)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// Output that is not written is told, whoever noticed it.
func TestFlush(t *testing.T) {
	var errs bytes.Buffer
	e := cli.Env{Program: &program, Out: bufio.NewWriter(broken{}), Err: &errs}
	require.NoError(t, e.Flush())
	_, _ = e.Out.WriteString("x")
	require.ErrorIs(t, e.Flush(), syscall.ENOSPC)
	require.Equal(t, "prog: write output: no space left on device\n", errs.String())
	e.Out.Reset(&errs)
	e.Fault = errors.New("half a document")
	require.ErrorIs(t, e.Flush(), e.Fault)
}

func TestDiagnostics(t *testing.T) {
	one := diag.New(diag.ElfLimit, diag.Place{}, "many")
	require.Equal(t, []diag.Diagnostic{one}, cli.Diagnostics(fmt.Errorf("wrapped: %w", one)))
	require.Equal(t, []diag.Diagnostic{one, one}, cli.Diagnostics(&diag.Error{Diagnostics: []diag.Diagnostic{one, one}}))
	require.Nil(t, cli.Diagnostics(errors.New("another")))
}

func TestJSON(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, cli.WriteJSON(&out, map[string]any{"none": cli.List[int](nil), "one": cli.List([]string{"<"})}))
	require.Equal(t, "{\n  \"none\": [],\n  \"one\": [\n    \"<\"\n  ]\n}\n", out.String())
}
