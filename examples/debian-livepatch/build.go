package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
)

// built is an object before and after.
type built struct {
	Source  string `json:"source"`
	Object  string `json:"object"` // the kernel object it belongs to: vmlinux, or a module's name
	ko      string // its module's file
	orig    string // file of the object
	patched string
	header  bool // it is here for a header that it includes
}

// patched is the source with the patches applied.
type patched struct {
	files  map[string][]byte // changed files, as they are afterwards
	before map[string][]byte
	kinds  map[string]fileKind
	notes  []diag.Diagnostic
}

// applyAll applies patches in order.
func applyAll(patches []change, read func(string) ([]byte, error)) (*patched, error) {
	p := &patched{files: make(map[string][]byte), before: make(map[string][]byte), kinds: make(map[string]fileKind)}
	var ds []diag.Diagnostic
	for _, c := range patches {
		text, ok := p.files[c.name]
		if !ok && !c.file.IsNew {
			var err error
			if text, err = read(c.name); err != nil {
				ds = append(ds, findings(err)...)
				continue
			}
			p.before[c.name] = text
		}
		after, moved, err := apply(c, text)
		if err != nil {
			ds = append(ds, findings(err)...)
			continue
		}
		p.files[c.name], p.kinds[c.name] = after, c.kind
		if slices.ContainsFunc(moved, func(n int) bool { return n != 0 }) {
			d := diag.New(codeNotes, diag.Place{File: c.name}, "%s applies with offsets of %v lines", c.from, moved)
			d.Severity = diag.SevNote
			p.notes = append(p.notes, d)
		}
	}
	return p, diag.Refuse(ds)
}

// selection is which objects to compile.
type selection struct {
	sources []string
	header  map[string]bool // those that no patch names: they include a changed file
	tried   int             // C files that include one
}

// choose finds the objects that the changed files can matter to.
func (w *workspace) choose(ctx context.Context, k *target, p *patched, limit int) (*selection, bool, error) {
	s := &selection{header: make(map[string]bool)}
	cached := true
	var headers, plain []string
	for _, f := range sortedKeys(p.files) {
		if p.kinds[f] == kindC {
			plain = append(plain, f)
		} else {
			headers = append(headers, f)
		}
	}
	cmds, hit, wants, err := k.commands(ctx, w.tools, plain)
	if err != nil {
		return nil, false, err
	}
	cached = cached && hit
	var ds []diag.Diagnostic
	included, hit, err := k.includedC()
	if err != nil {
		return nil, false, err
	}
	cached = cached && hit
	for _, f := range plain {
		switch _, ok := cmds[f]; {
		case ok:
			s.sources = append(s.sources, f)
			if included[f] {
				headers = append(headers, f)
			}
		case wants[f] != "":
			ds = append(ds, generated(f, wants[f]))
		default:
			headers = append(headers, f) // C without an object of its own: others include it
		}
	}
	if err := diag.Refuse(ds); err != nil {
		return nil, false, err
	}
	if len(headers) == 0 {
		return s, cached, nil
	}
	x, hit, err := k.index()
	if err != nil {
		return nil, false, err
	}
	cached = cached && hit
	for f, text := range p.files { // the patch may add includes
		x.add(f, scanIncludes(text))
	}
	text := func(f string) string {
		if t, ok := p.files[f]; ok {
			return string(t)
		}
		t, err := os.ReadFile(filepath.Join(k.source, f))
		if err != nil {
			return "" // it was there when the index was made; the compiler will say
		}
		return string(t)
	}
	texts := make(map[string]string)
	cachedText := func(f string) string {
		t, ok := texts[f]
		if !ok {
			t = text(f)
			texts[f] = t
		}
		return t
	}
	var candidates []string
	for _, h := range headers {
		all := x.closure(h)
		if _, own := cmds[h]; p.kinds[h] == kindC && len(all) == 1 && !own {
			return nil, false, failure(codeNotBuilt, diag.Place{File: h}, "Leave it out if the rest is right without it.",
				"the kernel's configuration makes no object of this file, and no other file includes it")
		}
		names, everything := changedNames(string(p.before[h]), string(p.files[h]))
		if !everything && len(names) == 0 {
			continue // comments and layout
		}
		everything = everything || p.kinds[h] == kindC // what it defines is code of whoever includes it
		if !everything {
			var some []string
			if some, everything = affected(all, names, cachedText); !everything {
				candidates = append(candidates, some...)
			}
		}
		if everything {
			candidates = append(candidates, all...)
		}
		for _, f := range all {
			if strings.HasSuffix(f, ".c") {
				s.tried++
			}
		}
	}
	// Which of them the kernel has, kbuild says.
	var ask []string
	for _, f := range candidates {
		if strings.HasSuffix(f, ".c") && !slices.Contains(s.sources, f) && !slices.Contains(ask, f) && !otherCode(f) {
			ask = append(ask, f)
		}
	}
	slices.Sort(ask)
	more, hit, wants, err := k.commands(ctx, w.tools, ask)
	if err != nil {
		return nil, false, err
	}
	cached = cached && hit
	for _, f := range ask {
		if _, ok := more[f]; ok {
			s.sources = append(s.sources, f)
			s.header[f] = true
		} else if wants[f] != "" {
			ds = append(ds, generated(f, wants[f]))
		}
	}
	if err := diag.Refuse(ds); err != nil {
		return nil, false, err
	}
	if len(s.sources) > limit {
		return nil, false, failure(codeTooMany, diag.Place{File: strings.Join(headers, ", ")},
			"Make the change where it is needed, or say --max-objects with a larger number.", "the change can matter to %d objects, more than %d", len(s.sources), limit)
	}
	return s, cached, nil
}

// generated tells of an object that cannot be compiled alone.
func generated(f, why string) diag.Diagnostic {
	d := failure(codeNotBuilt, diag.Place{File: f}, "Make the change elsewhere: where it is needed, if it is one of a header.",
		"the change can matter to it, and it cannot be compiled alone: it needs a file that only a whole build generates")
	d.Chain = []string{why}
	return d
}

// otherCode reports whether a C file is of another architecture or of no kernel at all.
func otherCode(f string) bool {
	kind, _ := classify(f)
	return kind == kindNothing || kind == kindRefused
}

// place finds the kernel object of each source.
func (k *target) place(cmds map[string]command, sources []string) ([]built, error) {
	var out []built
	var order []byte
	var ds []diag.Diagnostic
	for _, s := range sources {
		b := built{Source: s, Object: klp.Vmlinux}
		if m := cmds[s].Module; m != "" {
			if order == nil {
				var err error
				if order, err = k.file("modules.order"); err != nil {
					return nil, err
				}
			}
			ko, err := moduleFile(string(order), s, m)
			if err == nil {
				b.ko, err = k.modulePath(ko)
			}
			if err != nil {
				ds = append(ds, findings(err)...)
				continue
			}
			b.Object = klp.ModuleName(strings.TrimSuffix(path.Base(ko), ".ko"))
		}
		out = append(out, b)
	}
	return out, diag.Refuse(ds)
}

// compileAll makes the objects before and after, side by side.
func (w *workspace) compileAll(ctx context.Context, k *target, objs []built, cmds map[string]command, p *patched) (cached bool, err error) {
	trees := &treeMaker{k: k, files: p.files}
	defer trees.remove()
	type job struct {
		at    int
		after bool
	}
	jobs := make(chan job)
	errs := make([]error, 2*len(objs))
	hits := make([]bool, 2*len(objs))
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for range w.jobs {
		wg.Go(func() {
			for j := range jobs {
				o := &objs[j.at]
				cmd := cmds[o.Source]
				if !j.after {
					o.orig, hits[2*j.at], errs[2*j.at] = w.compile(ctx, k, &cmd, nil, nil)
				} else {
					o.patched, hits[2*j.at+1], errs[2*j.at+1] = w.compile(ctx, k, &cmd, p, trees)
				}
				w.prog.add()
			}
		})
	}
	for i := range objs {
		jobs <- job{i, true} // it is the one that can fail
		jobs <- job{i, false}
	}
	close(jobs)
	wg.Wait()
	var ds []diag.Diagnostic
	for i, err := range errs {
		if err == nil || i%2 == 1 && errs[i-1] != nil { // the original says it all
			continue
		}
		var one diag.Diagnostic
		if !errors.As(err, &one) {
			return false, err
		}
		if i%2 == 1 && errs[i-1] == nil {
			one = w.explain(k, objs[i/2].Source, one)
		}
		ds = append(ds, one)
	}
	return !slices.Contains(hits, false), diag.Refuse(ds)
}

// compile makes one object, of the source or of the patched one.
func (w *workspace) compile(ctx context.Context, k *target, cmd *command, p *patched, trees *treeMaker) (object string, cached bool, err error) {
	parts := []string{k.release, k.version, k.compilerID, string(cmd.encode()), strings.Join(extraFlags, " ")}
	if p != nil {
		included, _, err := k.includedC()
		if err != nil {
			return "", false, err
		}
		for _, f := range sortedKeys(p.files) {
			if p.kinds[f] != kindC || f == cmd.Source || included[f] { // another object's own source does not matter
				parts = append(parts, f, string(p.files[f]))
			}
		}
	}
	out := w.path("objects/" + key("object", parts...) + ".o")
	if _, err := os.Stat(out); err == nil {
		return out, true, nil
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o777); err != nil {
		return "", false, err
	}
	tmp, deps := out+".part", out+".d"
	defer os.Remove(tmp)
	defer os.Remove(deps)
	tree := k.source
	var folders []string
	if cmd.Path != "" {
		folders = depFolders([]string{"/" + cmd.Path}, "")
	}
	for try := 0; ; try++ {
		if p != nil {
			if tree, err = trees.get(folders); err != nil {
				return "", false, err
			}
		}
		if _, stderr, err := w.tools.run(ctx, toolCompiler, k.headers, cmd.Compiler, cmd.compileArgs(tree, tmp, deps)...); err != nil {
			return "", false, compileError(cmd.Source, tree, stderr, err)
		}
		if p == nil {
			break
		}
		text, err := os.ReadFile(deps)
		if err != nil {
			return "", false, err
		}
		read := parseDeps(string(text))
		missed := strays(read, k.source, p.files)
		if len(missed) == 0 {
			break
		}
		if try == 1 {
			return "", false, failure(codeCompile, diag.Place{File: cmd.Source}, "", "it still includes the unpatched %s", missed[0])
		}
		folders = append(folders, depFolders(read, tree)...)
	}
	if cmd.perObject() {
		if _, _, err := w.tools.run(ctx, toolObjtool, k.headers, "env", append([]string{"SRCARCH=x86", "./tools/objtool/objtool"}, append(slices.Clone(cmd.Objtool), tmp)...)...); err != nil {
			return "", false, err
		}
	}
	return out, false, os.Rename(tmp, out)
}

// treeMaker makes the patched trees of one run.
type treeMaker struct {
	k     *target
	files map[string][]byte
	mu    sync.Mutex
	dir   string
	made  map[string]string
}

func (t *treeMaker) get(folders []string) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id := key("tree", folders...)
	if d := t.made[id]; d != "" {
		return d, nil
	}
	if t.dir == "" {
		var err error
		if t.dir, err = os.MkdirTemp(t.k.dir, "patched-"); err != nil {
			return "", err
		}
		t.made = make(map[string]string)
	}
	d := filepath.Join(t.dir, id)
	t.made[id] = d
	return d, makeTree(t.k.source, d, t.files, folders)
}

func (t *treeMaker) remove() {
	if t.dir != "" {
		os.RemoveAll(t.dir)
	}
}

// compileError turns what the compiler said into a diagnostic.
func compileError(source, tree, stderr string, err error) error {
	var one diag.Diagnostic
	if !errors.As(err, &one) || one.Code != codeTool || strings.Contains(one.Message, "no program") {
		return err
	}
	lines := compilerErrors(strings.ReplaceAll(stderr, tree+"/", ""))
	what := "it does not compile"
	if len(lines) > 0 {
		what += ": " + lines[0]
	}
	d := failure(codeCompile, diag.Place{File: source}, "", "%s", what)
	d.Chain = lines
	return d
}

// compilerErrors gives the lines of errors.
func compilerErrors(stderr string) []string {
	var out []string
	for line := range strings.Lines(stderr) {
		if strings.Contains(line, "error: ") && len(out) < 10 {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

var unknownName = regexp.MustCompile("(?:implicit declaration of function|undeclared|has no member named|unknown type name) ['‘]([A-Za-z_0-9]+)['’]|['‘]([A-Za-z_0-9]+)['’] undeclared")

// missingNames gives the names that the compiler did not know.
func missingNames(lines []string) []string {
	var out []string
	for _, l := range lines {
		for _, m := range unknownName.FindAllStringSubmatch(l, -1) {
			if n := m[1] + m[2]; !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	return out
}

// explain says more of a patched file that does not compile though the original does:
// names that this kernel's source does not declare there.
func (w *workspace) explain(k *target, source string, d diag.Diagnostic) diag.Diagnostic {
	names := missingNames(d.Chain)
	if d.Code != codeCompile || len(names) == 0 {
		if d.Code == codeCompile {
			d.Remedy = "The original compiles: take the version of the patch that is made for this kernel's series, or adapt it."
		}
		return d
	}
	out := failure(codeHelper, d.Place, "Add the change that brings it, from the same series of patches, with another --patch; or write out what it does.",
		"the patched file uses %s, which this kernel does not declare there", strings.Join(names, ", "))
	out.Chain = d.Chain
	if at := k.defined(source, names[0]); at != "" {
		out.Message += "; " + names[0] + " occurs in " + at
	}
	return out
}

// defined looks for a name in the headers and in the part of the source that a file is of.
func (k *target) defined(source, name string) string {
	want := map[string]bool{name: true}
	top, _, _ := strings.Cut(source, "/")
	found := ""
	for _, dir := range []string{path.Dir(source), "include", top} {
		_ = filepath.WalkDir(filepath.Join(k.source, dir), func(p string, d fs.DirEntry, err error) error {
			rel := strings.TrimPrefix(p, k.source+"/")
			if err != nil || found != "" || !d.Type().IsRegular() || rel == source || filepath.Ext(p) != ".c" && filepath.Ext(p) != ".h" {
				return err
			}
			if text, err := os.ReadFile(p); err == nil && mentions(string(text), want) {
				found = rel
			}
			return nil
		})
	}
	return found
}
