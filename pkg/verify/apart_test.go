package verify_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Of the differ the proof takes the rules, which are data, and nothing that decides.
// (That it links no writer of patches is checked in pkg/internal/depcheck.)
func TestApart(t *testing.T) {
	data := []string{"Rules", "Table", "Action", "Drop", "Constant", "NoField", "LineArg", "Ignored", "FormatKlp", "FormatKpatch", "FormatModule", "SizeCaller", "SizeTypes"}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "elfdiff" && !slices.Contains(data, s.Sel.Name) {
					t.Errorf("%s uses elfdiff.%s", name, s.Sel.Name)
				}
			}
			return true
		})
	}
}
