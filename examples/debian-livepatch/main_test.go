package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kdelta/kdelta/examples/internal/clitest"
	"github.com/kdelta/kdelta/pkg/diag"
)

func TestDocument(t *testing.T) {
	d := &document{Schema: documentSchema, Patches: []string{"p"}, Objects: []built{{Source: "fs/x.c", Object: "vmlinux", orig: "hidden"}},
		Replaced: []replaced{{Object: "vmlinux", Function: "f"}}, Steps: []step{{Name: "s", Tools: map[string]float64{toolMake: 1}}}}
	one := failure(codeHelper, diag.Place{File: "fs/x.c"}, "remedy", "message")
	one.Chain = []string{"chain"}
	var b strings.Builder
	require.NoError(t, d.write(&b, []diag.Diagnostic{one}))
	require.NoError(t, clitest.Validate(string(schema), b.String()))
	require.NotContains(t, b.String(), "hidden")

	// Lists are there when empty, too.
	b.Reset()
	require.NoError(t, (&document{Patches: []string{}}).write(&b, nil))
	require.NotContains(t, b.String(), "null")
}

func runCommand(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	dir := t.TempDir()
	var files []*os.File
	for _, n := range []string{"out", "err"} {
		f, err := os.Create(filepath.Join(dir, n))
		require.NoError(t, err)
		defer f.Close()
		files = append(files, f)
	}
	code = run(t.Context(), args, files[0], files[1])
	out, err := os.ReadFile(files[0].Name())
	require.NoError(t, err)
	errs, err := os.ReadFile(files[1].Name())
	require.NoError(t, err)
	return code, string(out), string(errs)
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, "no --release"},
		{[]string{"--release", "6.1", "-o", "x.ko"}, "no --patch"},
		{[]string{"--release", "6.1", "--patch", "p"}, "no -o"},
		{[]string{"--release", "../6", "--patch", "p", "-o", "x.ko"}, "is no kernel release"},
		{[]string{"--release", "6.1", "--patch", "p", "-o", "x.ko", "--sign-key", "k"}, "go together"},
		{[]string{"--release", "6.1", "--patch", "p", "-o", "x.ko", "-j", "0"}, "count from 1"},
		{[]string{"--release", "6.1", "--patch", "p", "-o", "x.ko", "more"}, "unexpected argument"},
		{[]string{"--nonsense"}, "nonsense"},
	} {
		code, _, errs := runCommand(t, c.args...)
		require.Equal(t, exitTrouble, code, c.says)
		require.Contains(t, errs, c.says)
	}
	code, out, _ := runCommand(t, "--schema")
	require.Equal(t, exitWritten, code)
	require.Equal(t, string(schema), out)
	code, _, errs := runCommand(t, "--help")
	require.Equal(t, exitWritten, code)
	require.Contains(t, errs, "--release RELEASE")
}

// TestWithoutKernel runs what comes before any package is needed, and what a folder lacks.
func TestWithoutKernel(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		p := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(p, []byte(text), 0o666))
		return p
	}
	out := filepath.Join(dir, "x.ko")
	for _, c := range []struct {
		name string
		args []string
		exit int
		code diag.Code
	}{
		{"no such patch", []string{"--patch", filepath.Join(dir, "none")}, exitTrouble, codeFile},
		{"no patch", []string{"--patch", file("text", "hello\n")}, exitRefused, codePatchFile},
		{"documents only", []string{"--patch", file("doc", strings.ReplaceAll(fix, "fs/x.c", "Documentation/x.rst"))}, exitNothing, diag.NothingChanged},
		{"no key", []string{"--patch", file("p", fix), "--sign-key", filepath.Join(dir, "none"), "--sign-cert", filepath.Join(dir, "none")}, exitTrouble, codeFile},
		{"no packages", []string{"--patch", file("p", fix), "--packages", dir}, exitTrouble, codePackage},
		{"a folder that kbuild refuses", []string{"--patch", file("p", fix), "--work", filepath.Join(dir, "a b")}, exitTrouble, codeUsage},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, text, _ := runCommand(t, append([]string{"--json", "--release", "6.1.0-50-amd64", "-o", out, "--work", filepath.Join(dir, "work")}, c.args...)...)
			require.Equal(t, c.exit, code)
			var doc struct {
				Exit        int
				Diagnostics []struct{ Code diag.Code }
			}
			require.NoError(t, json.Unmarshal([]byte(text), &doc), text)
			require.Equal(t, c.exit, doc.Exit)
			require.True(t, slices.ContainsFunc(doc.Diagnostics, func(d struct{ Code diag.Code }) bool { return d.Code == c.code }), text)
			require.NoFileExists(t, out)
		})
	}
}
