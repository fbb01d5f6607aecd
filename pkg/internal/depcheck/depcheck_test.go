// Package depcheck holds the rules of imports: what the library links, and that imports run downwards.
package depcheck

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/kdelta/kdelta"

// layers is the order of the packages, lowest first: a package imports only
// packages of lower layers. A name that ends in /... stands for a folder.
var layers = [][]string{
	{"pkg/diag", "pkg/atomicfile"}, // and everything internal of the library
	{"pkg/object", "x86"},
	{"symbols", "reloc"},
	{"elfdiff", "pkg/synth"},
	{"pkg/klp", "pkg/kernel", "pkg/batch", "pkg/digest"},
	{"pkg/kernel/image", "pkg/livepatch"},
	{"pkg/patch", "pkg/debuginfo", "pkg/verify", "pkg/kernel/runpre"}, // nothing below pkg/report may know of debug information: it decides nothing
	{"pkg/report", "pkg/module"},
	{"pkg/build"},
	{"examples/internal/cli"},
	{"examples/..."},
}

// lean are the packages that other programs link: with what is in thirdParty
// and the standard library, nothing else.
var lean = []string{"elfdiff", "reloc", "symbols", "x86", "pkg/diag", "pkg/object", "pkg/kernel", "pkg/klp", "pkg/patch", "pkg/debuginfo", "pkg/report", "pkg/verify", "pkg/batch"}

var thirdParty = []string{"github.com/ianlancetaylor/demangle", "golang.org/x/arch"}

// separate are imports that the design rules out though they would run downwards: what proves a patch shares nothing with what makes it.
var separate = map[string][]string{
	"pkg/verify": {"pkg/patch", "pkg/module"},
}

// pkg is what go list says of a package.
type pkg struct {
	ImportPath string
	Standard   bool
	Imports    []string // without those of tests
	Deps       []string
}

func list(t *testing.T) map[string]pkg {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command")
	}
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Imports,Deps", "./...")
	cmd.Dir = "../../.."
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	pkgs := make(map[string]pkg)
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs[p.ImportPath] = p
	}
}

// local gives a path in this module, "" for other packages.
func local(path string) string {
	rest, ok := strings.CutPrefix(path, module+"/")
	if !ok {
		return ""
	}
	return rest
}

// serves reports whether a package is an internal one of the library.
func serves(name string) bool {
	return strings.Contains(name, "/internal/") && !strings.HasPrefix(name, "examples/")
}

func layer(name string) int {
	if serves(name) {
		return 0 // they serve their parent and lie below it
	}
	return slices.IndexFunc(layers, func(l []string) bool {
		return slices.ContainsFunc(l, func(p string) bool {
			folder, ok := strings.CutSuffix(p, "...")
			return p == name || ok && strings.HasPrefix(name, folder)
		})
	})
}

func TestImportsRunDownwards(t *testing.T) {
	for path, p := range list(t) {
		name := local(path)
		if name == "" {
			continue
		}
		at := layer(name)
		if at < 0 {
			t.Errorf("%s has no layer: put it into the list in this file", name)
			continue
		}
		for _, i := range p.Imports {
			to := local(i)
			if to == "" {
				continue
			}
			if layer(to) >= at && !serves(name) {
				t.Errorf("%s imports %s, which does not lie below it", name, to)
			}
		}
		for _, to := range separate[name] {
			if slices.Contains(p.Deps, module+"/"+to) {
				t.Errorf("%s links %s, from which it must stay apart", name, to)
			}
		}
	}
}

func TestWhatImportersLink(t *testing.T) {
	pkgs := list(t)
	for _, name := range lean {
		p, ok := pkgs[module+"/"+name]
		if !ok {
			t.Logf("%s does not exist yet", name)
			continue
		}
		for _, d := range p.Deps {
			ours := local(d) != ""
			allowed := slices.ContainsFunc(thirdParty, func(m string) bool { return d == m || strings.HasPrefix(d, m+"/") })
			if !ours && !allowed && !pkgs[d].Standard {
				t.Errorf("whoever imports %s links %s", name, d)
			}
			if d == "os/exec" || d == "net" || d == "plugin" {
				t.Errorf("whoever imports %s links %s: the library starts nothing and calls nobody", name, d)
			}
		}
	}
}
