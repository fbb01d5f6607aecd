// Package opmut asks whether tests would see a mistake: it changes one operator or
// constant of a package at a time and runs its tests, which should fail.
package opmut

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const root = "../../.."

// A package, by a sample of its mutants, or by those of one file:
//
//	go test ./pkg/internal/opmut -run '^TestOperators$' -v -timeout 10h -package ./reloc
//	go test ./pkg/internal/opmut -run '^TestOperators$' -v -timeout 10h -package ./elfdiff -operators 100 -file compare.go -with ./elfdiff,./pkg/patch
var (
	pkg  = flag.String("package", "", "the package whose source is changed; without it the test is skipped")
	n    = flag.Int("operators", 0, "how many mutants, drawn at random; 0: all")
	seed = flag.Uint64("seed", 1, "of the draw")
	file = flag.String("file", "", "only those of this file")
	with = flag.String("with", "", "the packages whose tests are run, separated by commas; empty: the package itself")
)

// change is an edit of one place.
type change struct {
	file     string
	off, end int
	with     string
	text     string // where and what, for people
}

var swaps = map[token.Token]string{
	token.LSS: "<=", token.LEQ: "<", token.GTR: ">=", token.GEQ: ">", token.EQL: "!=", token.NEQ: "==",
	token.LAND: "||", token.LOR: "&&", token.ADD: "-", token.SUB: "+", token.AND: "|", token.OR: "&", token.SHL: ">>", token.SHR: "<<",
	token.AND_NOT: "&", token.MUL: "+", token.QUO: "*", token.REM: "*",
}

// changes lists what can be changed in one file.
func changes(name string, src []byte) ([]change, error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var out []change
	add := func(pos token.Pos, old, with string) {
		p := fset.Position(pos)
		line := string(bytes.TrimSpace(bytes.Split(src, []byte("\n"))[p.Line-1]))
		out = append(out, change{file: name, off: p.Offset, end: p.Offset + len(old), with: with,
			text: fmt.Sprintf("%s:%d:%d: %s -> %s in: %s", filepath.Base(name), p.Line, p.Column, old, with, line)})
	}
	ast.Inspect(f, func(node ast.Node) bool {
		switch x := node.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.Field:
			return x.Tag == nil
		case *ast.BinaryExpr:
			if isText(x.X) || isText(x.Y) { // strings are messages and names
				return true
			}
			if to, ok := swaps[x.Op]; ok {
				add(x.OpPos, x.Op.String(), to)
			}
		case *ast.IncDecStmt:
			return true
		case *ast.BasicLit:
			if x.Kind == token.INT {
				v, err := strconv.ParseUint(x.Value, 0, 64)
				if err == nil {
					add(x.Pos(), x.Value, fmt.Sprint(v+1))
				}
			}
		case *ast.Ident:
			switch x.Name {
			case "true":
				add(x.Pos(), x.Name, "false")
			case "false":
				add(x.Pos(), x.Name, "true")
			}
		case *ast.UnaryExpr:
			if x.Op == token.NOT {
				add(x.OpPos, "!", "")
			}
		case *ast.BranchStmt:
			if x.Label == nil && x.Tok == token.CONTINUE {
				add(x.Pos(), "continue", "break")
			}
		}
		return true
	})
	return out, nil
}

func isText(x ast.Expr) bool {
	l, ok := x.(*ast.BasicLit)
	return ok && l.Kind == token.STRING
}

// Every kind of change, and that each still parses.
func TestChanges(t *testing.T) {
	src := []byte("package p\nimport \"fmt\"\nfunc f(a, b int) bool {\n\tfor a < b {\n\t\tif !(a == 3) && b<<2 > 0x10 { continue }\n\t\tfmt.Print(\"a\" + \"b\")\n\t}\n\treturn true\n}\n")
	cs, err := changes("p.go", src)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range cs {
		m := slices.Concat(src[:c.off], []byte(c.with), src[c.end:])
		if _, err := parser.ParseFile(token.NewFileSet(), "p.go", m, 0); err != nil {
			t.Errorf("%s: %v", c.text, err)
		}
		got = append(got, string(src[c.off:c.end])+" "+c.with)
	}
	slices.Sort(got)
	if want := "! ,&& ||,0x10 17,2 3,3 4,< <=,<< >>,== !=,> >=,continue break,true false"; strings.Join(got, ",") != want {
		t.Errorf("%q\nwant %q", strings.Join(got, ","), want)
	}
}

// TestOperators lists the mutants that no test notices. They are not failures: some
// change nothing that can be seen, and CONTRIBUTING.md says what is known of them.
func TestOperators(t *testing.T) {
	if *pkg == "" {
		t.Skip("no -package")
	}
	dir, err := filepath.Abs(filepath.Join(root, *pkg))
	if err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var all []change
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") || *file != "" && filepath.Base(name) != *file {
			continue
		}
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		cs, err := changes(name, src)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, cs...)
	}
	total := len(all)
	if *n > 0 && *n < len(all) {
		rand.New(rand.NewPCG(*seed, 0)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:*n]
	}
	tests := []string{*pkg}
	if *with != "" {
		tests = strings.Split(*with, ",")
	}
	start := time.Now()
	if what, out := try(t, tests, ""); what != "survived" {
		t.Fatalf("as it is: %s\n%s", what, out)
	}
	limit := 3*time.Since(start) + 20*time.Second
	tmp := t.TempDir()
	counts := map[string]int{}
	for i, c := range all {
		src, err := os.ReadFile(c.file)
		if err != nil {
			t.Fatal(err)
		}
		mutant := filepath.Join(tmp, "mutant.go")
		if err := os.WriteFile(mutant, slices.Concat(src[:c.off], []byte(c.with), src[c.end:]), 0o666); err != nil {
			t.Fatal(err)
		}
		overlay, err := json.Marshal(map[string]map[string]string{"Replace": {c.file: mutant}})
		if err != nil {
			t.Fatal(err)
		}
		list := filepath.Join(tmp, "overlay.json")
		if err := os.WriteFile(list, overlay, 0o666); err != nil {
			t.Fatal(err)
		}
		what, _ := tryFor(t, limit, tests, list)
		counts[what]++
		if what == "survived" {
			fmt.Printf("SURVIVOR %d: %s\n", i, c.text)
		}
	}
	t.Logf("%s: %d of %d mutants: %v", *pkg, len(all), total, counts)
}

func try(t *testing.T, tests []string, overlay string) (string, string) {
	return tryFor(t, 20*time.Minute, tests, overlay)
}

// tryFor runs tests and says what became of a mutant.
func tryFor(t *testing.T, limit time.Duration, tests []string, overlay string) (what, out string) {
	ctx, cancel := context.WithTimeout(context.Background(), limit+time.Minute) // the test ends itself before
	defer cancel()
	args := append([]string{"test", "-short", "-failfast", "-count=1", "-vet=off", "-timeout=" + limit.String()}, tests...)
	if overlay != "" {
		args = slices.Insert(args, 1, "-overlay="+overlay)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	cmd.WaitDelay = time.Second
	b, err := cmd.CombinedOutput()
	switch ee := (*exec.ExitError)(nil); {
	case ctx.Err() != nil || bytes.Contains(b, []byte("panic: test timed out")):
		return "killed: endless", ""
	case err == nil:
		return "survived", string(b)
	case !errors.As(err, &ee):
		t.Fatal(err)
	case bytes.Contains(b, []byte("[build failed]")):
		return "does not build", string(b)
	}
	return "killed", string(b)
}
