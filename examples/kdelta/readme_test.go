package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/pkg/diag"
)

var update = flag.Bool("update", false, "rewrite the generated parts of README.md")

// The README shows what the command really prints, and every code that there is.
func TestReadme(t *testing.T) {
	t.Chdir("../..")
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	want := codes(t, string(data))
	want = consoles(want)
	if want == string(data) {
		return
	}
	if !*update {
		have := strings.Split(string(data), "\n")
		for i, line := range strings.Split(want, "\n") {
			if i >= len(have) || have[i] != line {
				t.Fatalf("README.md is out of date (go test ./examples/kdelta -run Readme -update rewrites it); line %d should be:\n%s", i+1, line)
			}
		}
		t.Fatal("README.md is too long")
	}
	if err := os.WriteFile("README.md", []byte(want), 0o666); err != nil {
		t.Fatal(err)
	}
}

// codes fills in the table of diagnostics.
func codes(t *testing.T, text string) string {
	const begin, end = "<!-- codes: written by go test ./examples/kdelta -run Readme -update -->\n", "<!-- end of codes -->"
	head, rest, ok1 := strings.Cut(text, begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatal("README.md has no place for the codes")
	}
	var b strings.Builder
	b.WriteString("| code | severity | what it says | what to do |\n|---|---|---|---|\n")
	for _, e := range diag.Catalogue() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", e.Code, e.Severity, e.Meaning, e.Remedy)
	}
	return head + begin + b.String() + end + tail
}

// consoles fills in the output of the commands in console blocks that run kdelta.
func consoles(text string) string {
	const program = "$ go run ./examples/kdelta "
	var b strings.Builder
	replacing := false
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, program):
			b.WriteString(line)
			b.WriteString(do(strings.Fields(line[len(program):])...).out)
			replacing = true
			continue
		case strings.HasPrefix(line, "```"), strings.HasPrefix(line, "$ "):
			replacing = false
		}
		if !replacing {
			b.WriteString(line)
		}
	}
	return b.String()
}
