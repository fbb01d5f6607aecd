package opmut

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The other half of the package: all changes of a package in one program, each behind a switch. A program for each takes
// seconds to build, and most tests never come by the place.

// source is a package as the compiler sees it.
type source struct {
	dir, path, name string
	files           map[string][]byte // by path
	fset            *token.FileSet
	imp             types.Importer
}

func readSource(dir, pkg string) (*source, error) {
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Name,Dir,GoFiles,Export", pkg)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	b, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	exports := map[string]string{}
	var p struct {
		ImportPath, Name, Dir, Export string
		GoFiles                       []string
	}
	for d := json.NewDecoder(bytes.NewReader(b)); ; { // the package itself comes last
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		exports[p.ImportPath] = p.Export
	}
	s := &source{dir: p.Dir, path: p.ImportPath, name: p.Name, files: map[string][]byte{}, fset: token.NewFileSet()}
	s.imp = importer.ForCompiler(s.fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	for _, f := range p.GoFiles {
		f = filepath.Join(p.Dir, f)
		if s.files[f], err = os.ReadFile(f); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// check parses and checks the package with some files in other words, or more files.
func (s *source) check(other map[string][]byte, onError func(error)) ([]*ast.File, *types.Package, *types.Info, error) {
	all := maps.Clone(s.files)
	maps.Copy(all, other)
	var files []*ast.File
	for _, name := range slices.Sorted(maps.Keys(all)) {
		f, err := parser.ParseFile(s.fset, name, all[name], parser.SkipObjectResolution)
		if err != nil {
			return nil, nil, nil, err
		}
		files = append(files, f)
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	cfg := types.Config{Importer: s.imp, Error: onError}
	p, err := cfg.Check(s.path, s.fset, files, info)
	return files, p, info, err
}

// change is an edit of one place.
type change struct {
	file     string
	off, end int
	with     string
	text     string // where and what, for people
	wrap     []edit // puts it behind a switch; nil: it takes another build
}

// edit inserts text at an offset, or has it instead of a token there. § stands for the number of the change.
type edit struct {
	off  int
	kind byte // '(': before what starts there; ')': behind what ends there; else instead of del bytes
	del  int
	text string
}

var swaps = map[token.Token]string{
	token.LSS: "<=", token.LEQ: "<", token.GTR: ">=", token.GEQ: ">", token.EQL: "!=", token.NEQ: "==",
	token.LAND: "||", token.LOR: "&&", token.ADD: "-", token.SUB: "+", token.AND: "|", token.OR: "&", token.SHL: ">>", token.SHR: "<<",
	token.AND_NOT: "&", token.MUL: "+", token.QUO: "*", token.REM: "*",
}

// changes lists what can be changed.
func (s *source) changes() ([]change, error) {
	files, p, info, err := s.check(nil, nil)
	if err != nil {
		return nil, err
	}
	var out []change
	for _, f := range files {
		name := s.fset.Position(f.Pos()).Filename
		l := lister{s: s, p: p, info: info, name: name, src: s.files[name]}
		l.list(f, nil, true)
		out = append(out, l.out...)
	}
	return out, nil
}

type lister struct {
	s    *source
	p    *types.Package
	info *types.Info
	name string
	src  []byte
	out  []change
}

func (l *lister) at(pos token.Pos) int { return l.s.fset.Position(pos).Offset }

// list lists the changes under root. whole is the constant expression that root is a part of; what is not free
// has to be a constant.
func (l *lister) list(root ast.Node, whole ast.Expr, free bool) {
	add := func(pos token.Pos, old, with string, wrap ...edit) {
		p := l.s.fset.Position(pos)
		line := string(bytes.TrimSpace(bytes.Split(l.src, []byte("\n"))[p.Line-1]))
		c := change{file: l.name, off: p.Offset, end: p.Offset + len(old), with: with,
			text: fmt.Sprintf("%s:%d:%d: %s -> %s in: %s", filepath.Base(l.name), p.Line, p.Column, old, with, line)}
		switch {
		case !free:
		case whole != nil:
			from, to := l.at(whole.Pos()), l.at(whole.End())
			is := string(l.src[from:c.off]) + with + string(l.src[c.end:to])
			c.wrap = []edit{{off: from, kind: '(', text: "opmutPick[" + l.typeOf(whole) + "](§, " + is + ", "}, {off: to, kind: ')', text: ")"}}
		default:
			c.wrap = wrap
		}
		l.out = append(l.out, c)
	}
	ast.Inspect(root, func(node ast.Node) bool {
		if e, ok := node.(ast.Expr); ok && whole == nil && free && l.info.Types[e].Value != nil {
			l.list(e, e, true)
			return false
		}
		switch x := node.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.GenDecl:
			if x.Tok == token.CONST && free {
				l.list(x, nil, false)
				return false
			}
		case *ast.ArrayType:
			if x.Len != nil && free {
				l.list(x.Len, nil, false)
				l.list(x.Elt, nil, true)
				return false
			}
		case *ast.CompositeLit:
			if t := l.info.TypeOf(x); t != nil && free {
				switch t.Underlying().(type) {
				case *types.Array, *types.Slice:
					for _, e := range x.Elts {
						if kv, ok := e.(*ast.KeyValueExpr); ok {
							l.list(kv.Key, nil, false)
							l.list(kv.Value, nil, true)
						} else {
							l.list(e, nil, true)
						}
					}
					if x.Type != nil {
						l.list(x.Type, nil, true)
					}
					return false
				}
			}
		case *ast.Field:
			return x.Tag == nil
		case *ast.BinaryExpr:
			if to, ok := swaps[x.Op]; ok && (x.Op != token.ADD || !l.isText(x)) {
				add(x.OpPos, x.Op.String(), to, l.binary(x)...)
			}
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
				add(x.OpPos, "!", "", edit{l.at(x.OpPos), '(', 0, "(("}, edit{l.at(x.OpPos), 0, 1, ""}, edit{l.at(x.X.End()), ')', 0, ") == opmutOn(§))"})
			}
		case *ast.BranchStmt:
			if x.Label == nil && x.Tok == token.CONTINUE {
				add(x.Pos(), "continue", "break", edit{l.at(x.Pos()), '(', 0, "{ if opmutOn(§) { break }; "}, edit{l.at(x.End()), ')', 0, " }"})
			}
		}
		return true
	})
}

func (l *lister) isText(x ast.Expr) bool {
	t := l.info.TypeOf(x)
	if t == nil {
		return false
	}
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&types.IsString != 0
}

func (l *lister) typeOf(x ast.Expr) string {
	return types.TypeString(types.Default(l.info.TypeOf(x)), func(p *types.Package) string {
		if p == l.p {
			return ""
		}
		return p.Name()
	})
}

// binary puts an operator behind a switch; both operands are still evaluated as often and in the same order as before. Operands
// are those of the tree, whatever binds closer afterwards: a && b && c becomes (a || b) && c.
func (l *lister) binary(x *ast.BinaryExpr) []edit {
	from, mid, op, next, to := l.at(x.X.Pos()), l.at(x.X.End()), l.at(x.OpPos), l.at(x.Y.Pos()), l.at(x.Y.End())
	comma := edit{op, 0, len(x.Op.String()), ","}
	switch x.Op {
	case token.EQL, token.NEQ:
		return []edit{{from, '(', 0, "(("}, {to, ')', 0, ") != opmutOn(§))"}}
	case token.LAND, token.LOR: // x || y is !(!x && !y)
		return []edit{{from, '(', 0, "(((("}, {mid, ')', 0, ") != opmutOn(§))"}, {next, '(', 0, "(("}, {to, ')', 0, ") != opmutOn(§))) != opmutOn(§))"}}
	case token.LSS, token.LEQ, token.GTR, token.GEQ:
		return []edit{{from, '(', 0, fmt.Sprintf("opmutOp%d(§, ", x.Op)}, comma, {to, ')', 0, ")"}}
	}
	return []edit{{from, '(', 0, fmt.Sprintf("opmutOp%d[%s](§, ", x.Op, l.typeOf(x))}, comma, {to, ')', 0, ")"}}
}

// switched is the package with all changes that have a wrap, each behind the switch of its number, as files by path.
// A wrap that does not build is taken from its change.
func (s *source) switched(cs []change) (map[string][]byte, error) {
	helpers := filepath.Join(s.dir, "opmut_switches.go")
	for {
		out := map[string][]byte{helpers: switches(s.name, len(cs))}
		for name, src := range s.files {
			out[name] = wrapped(name, src, cs)
		}
		var errs []error
		files, _, _, err := s.check(out, func(err error) { errs = append(errs, err) })
		if err == nil {
			return out, nil
		}
		some := false
		for _, err := range errs {
			e := err.(types.Error)
			if i := enclosing(files, e.Pos); i >= 0 {
				cs[i].wrap, some = nil, true
			}
		}
		if !some {
			return nil, fmt.Errorf("behind switches: %w", errs[0])
		}
	}
}

// enclosing is the number of the innermost switch around a place, or -1.
func enclosing(files []*ast.File, pos token.Pos) int {
	got := -1
	for _, f := range files {
		if pos < f.FileStart || pos >= f.FileEnd {
			continue
		}
		ast.Inspect(f, func(node ast.Node) bool {
			if node == nil || pos < node.Pos() || pos >= node.End() {
				return false
			}
			if c, ok := node.(*ast.CallExpr); ok {
				fun := c.Fun
				if x, ok := fun.(*ast.IndexExpr); ok {
					fun = x.X
				}
				if id, ok := fun.(*ast.Ident); ok && strings.HasPrefix(id.Name, "opmut") {
					got, _ = strconv.Atoi(c.Args[0].(*ast.BasicLit).Value)
				}
			}
			return true
		})
	}
	return got
}

// wrapped is a file with its switches.
func wrapped(name string, src []byte, cs []change) []byte {
	type spot struct {
		before, behind string
		instead        *edit
	}
	spots := map[int]*spot{}
	for i, c := range cs {
		if c.file != name {
			continue
		}
		for _, e := range c.wrap {
			s := spots[e.off]
			if s == nil {
				s = &spot{}
				spots[e.off] = s
			}
			t := strings.ReplaceAll(e.text, "§", strconv.Itoa(i))
			switch e.kind { // the changes come from the outer to the inner
			case '(':
				s.before += t
			case ')':
				s.behind = t + s.behind
			default:
				s.instead = &e
			}
		}
	}
	var out []byte
	last := 0
	for _, off := range slices.Sorted(maps.Keys(spots)) {
		s := spots[off]
		out = append(out, src[last:off]...)
		out = append(out, s.behind+s.before...)
		last = off
		if s.instead != nil {
			out = append(out, s.instead.text...)
			last += s.instead.del
		}
	}
	return append(out, src[last:]...)
}

// switches is the file with the switches of n changes. The one whose number is in OPMUT is on; a byte of the file
// OPMUT_SEEN tells for each whether it was asked when it would have made a difference (as far as one sees there).
func switches(name string, n int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `package %s

import (
	"cmp"
	"os"
	"strconv"
	"syscall"
)

var opmutActive, opmutSeen = func() (int, []byte) {
	// No mutant takes the machine.
	syscall.Setrlimit(syscall.RLIMIT_DATA, &syscall.Rlimit{Cur: 4 << 30, Max: 4 << 30})
	if s, err := strconv.ParseUint(os.Getenv("OPMUT_SECONDS"), 10, 64); err == nil {
		syscall.Setrlimit(syscall.RLIMIT_CPU, &syscall.Rlimit{Cur: s, Max: s})
	}
	active, err := strconv.Atoi(os.Getenv("OPMUT"))
	if err != nil {
		active = -1
	}
	seen := make([]byte, %d)
	if f, err := os.OpenFile(os.Getenv("OPMUT_SEEN"), os.O_RDWR, 0); err == nil {
		if seen, err = syscall.Mmap(int(f.Fd()), 0, len(seen), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED); err != nil {
			panic(err)
		}
	}
	return active, seen
}()

type opmutInt interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~uintptr
}
type opmutNum interface{ opmutInt | ~float32 | ~float64 }

func opmutOn(i int) bool { opmutSeen[i] = 1; return i == opmutActive }

func opmutPick[T comparable](i int, is, was T) T {
	if was != is {
		opmutSeen[i] = 1
	}
	if i == opmutActive {
		return is
	}
	return was
}
`, name, max(n, 1))
	for _, op := range slices.Sorted(maps.Keys(swaps)) {
		types, result := "T opmutInt", "T"
		y := "T"
		switch op {
		case token.EQL, token.NEQ, token.LAND, token.LOR:
			continue
		case token.LSS, token.LEQ, token.GTR, token.GEQ:
			types, result = "T cmp.Ordered", "bool"
		case token.ADD, token.SUB, token.MUL, token.QUO:
			types = "T opmutNum"
		case token.SHL, token.SHR:
			types, y = "T, S opmutInt", "S"
		}
		fmt.Fprintf(&b, "func opmutOp%d[%s](i int, x T, y %s) %s { return opmutPick(i, x %s y, x %s y) }\n", op, types, y, result, swaps[op], op)
	}
	return b.Bytes()
}
