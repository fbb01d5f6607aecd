// Package apicheck holds the exported names of the library: what is listed in
// testdata/api.txt must stay as it is.
package apicheck

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	root   = "../../.."
	golden = "testdata/api.txt"
)

// What was added or changed on purpose is written down by
//
//	go test ./pkg/internal/apicheck -update
var update = flag.Bool("update", false, "write testdata/api.txt")

// TestAPI fails when something that is listed is gone or has another form. What
// is new is told; it is promised from the next -update on.
func TestAPI(t *testing.T) {
	got := api(t)
	if len(got) < 500 {
		t.Fatalf("%d exported names", len(got))
	}
	if *update {
		if err := os.WriteFile(golden, []byte(strings.Join(got, "\n")+"\n"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	gone, added := compare(want, got)
	for _, l := range gone {
		t.Errorf("gone or changed: %s", l)
	}
	for _, l := range added {
		t.Logf("new: %s", l)
	}
	if len(gone) > 0 {
		t.Log("programs that use these do not build any more; if that is meant, write it into CHANGELOG.md and run: go test ./pkg/internal/apicheck -update")
	}
}

// compare gives the lines of either list that the other lacks.
func compare(want, got []string) (gone, added []string) {
	for _, l := range want {
		if !slices.Contains(got, l) {
			gone = append(gone, l)
		}
	}
	for _, l := range got {
		if !slices.Contains(want, l) {
			added = append(added, l)
		}
	}
	return gone, added
}

// What compare must see, by one change each.
func TestCompare(t *testing.T) {
	const before = `package p
const A, b = 1, 2
type T struct { X int; y int }
type I interface { M(a int) error }
func (t *T) Do(a, b int) {}
func (t *u) Not() {}
func F(x string) (n int) { return 0 }
`
	for _, c := range []struct {
		from, to    string
		gone, added int
	}{
		{"", "", 0, 0},
		{"y int", "z bool", 0, 0},
		{"a, b int", "c, d int", 0, 0}, // names of parameters are no part of it
		{"return 0", "return 1", 0, 0},
		{"A, b = 1, 2", "A, b = 3, 2", 1, 1},
		{"X int", "X int64", 1, 1},
		{"X int;", "X int; Z int;", 0, 1},
		{"func F", "func G", 1, 1},
		{"M(a int) error", "M(a int)", 1, 1},
		{"M(a int) error", "M(a int) error; N()", 1, 2}, // whoever implements I does not any more
		{"(t *T) Do", "(t T) Do", 1, 1},
		{"F(x string)", "F(x ...string)", 1, 1},
	} {
		var l [2][]string
		for i, src := range []string{before, strings.Replace(before, c.from, c.to, 1)} {
			f, err := parser.ParseFile(token.NewFileSet(), "p.go", src, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			l[i] = declared("p", f)
		}
		if gone, added := compare(l[0], l[1]); len(gone) != c.gone || len(added) != c.added {
			t.Errorf("%q to %q: gone %q, added %q", c.from, c.to, gone, added)
		}
	}
}

// api lists what the packages export, one line for each name, field and method.
func api(t *testing.T) (lines []string) {
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if name == "internal" || name == "testdata" || name == "examples" || strings.HasPrefix(name, ".") && name != ".." {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		lines = append(lines, declared(filepath.ToSlash(rel), f)...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// declared lists what one file exports.
func declared(pkg string, f *ast.File) (lines []string) {
	add := func(format string, args ...any) {
		lines = append(lines, pkg+": "+strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " "))
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			switch {
			case !d.Name.IsExported():
			case d.Recv == nil:
				add("func %s%s", d.Name.Name, signature(d.Type))
			case receiver(d.Recv.List[0].Type).IsExported():
				add("method (%s) %s%s", text(d.Recv.List[0].Type), d.Name.Name, signature(d.Type))
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					typeLines(s, add)
				case *ast.ValueSpec:
					for i, n := range s.Names {
						if !n.IsExported() {
							continue
						}
						l := d.Tok.String() + " " + n.Name
						if s.Type != nil {
							l += " " + text(s.Type)
						}
						if d.Tok == token.CONST && i < len(s.Values) {
							l += " = " + text(s.Values[i])
						}
						add("%s", l)
					}
				}
			}
		}
	}
	return lines
}

func typeLines(s *ast.TypeSpec, add func(string, ...any)) {
	name := s.Name.Name
	if !s.Name.IsExported() {
		return
	}
	if s.TypeParams != nil {
		name += "[" + types(s.TypeParams) + "]"
	}
	switch x := s.Type.(type) {
	case *ast.StructType:
		add("type %s struct", name)
		for _, f := range x.Fields.List {
			if len(f.Names) == 0 && receiver(f.Type).IsExported() {
				add("type %s struct, %s embedded", name, text(f.Type))
			}
			for _, n := range f.Names {
				if n.IsExported() {
					add("type %s struct, %s %s", name, n.Name, text(f.Type))
				}
			}
		}
	case *ast.InterfaceType:
		var ms []string
		for _, m := range x.Methods.List {
			if ft, ok := m.Type.(*ast.FuncType); ok && len(m.Names) > 0 {
				add("type %s interface, %s%s", name, m.Names[0].Name, signature(ft))
				ms = append(ms, m.Names[0].Name)
			} else {
				ms = append(ms, text(m.Type))
			}
		}
		slices.Sort(ms)
		add("type %s interface { %s }", name, strings.Join(ms, "; "))
	default:
		alias := ""
		if s.Assign.IsValid() {
			alias = "= "
		}
		add("type %s %s%s", name, alias, text(s.Type))
	}
}

// signature gives parameters and results by type.
func signature(f *ast.FuncType) string {
	out := "(" + types(f.Params) + ")"
	if f.TypeParams != nil {
		out = "[" + types(f.TypeParams) + "]" + out
	}
	if r := types(f.Results); r != "" {
		out += " (" + r + ")"
	}
	return out
}

func types(l *ast.FieldList) string {
	if l == nil {
		return ""
	}
	var out []string
	for _, f := range l.List {
		for range max(1, len(f.Names)) {
			out = append(out, text(f.Type))
		}
	}
	return strings.Join(out, ", ")
}

// receiver gives the name at the bottom of a type expression.
func receiver(x ast.Expr) *ast.Ident {
	for {
		switch y := x.(type) {
		case *ast.Ident:
			return y
		case *ast.StarExpr:
			x = y.X
		case *ast.IndexExpr:
			x = y.X
		case *ast.IndexListExpr:
			x = y.X
		case *ast.SelectorExpr:
			return y.Sel
		default:
			return ast.NewIdent("_")
		}
	}
}

func text(x ast.Node) string {
	var b bytes.Buffer
	if err := printer.Fprint(&b, token.NewFileSet(), x); err != nil {
		return err.Error()
	}
	return b.String()
}
