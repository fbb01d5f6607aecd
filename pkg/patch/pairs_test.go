package patch

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/object"
)

var update = flag.Bool("update", false, "rewrite the golden tables")

const (
	cases  = "../../testdata/cases"
	shared = "../../../shared/pairs"
)

// files is a pair of object files on the disk.
type files struct{ name, orig, patched string }

// under lists the pairs of a directory and of those in it.
func under(t testing.TB, dir string) []files {
	t.Helper()
	var out []files
	for _, pattern := range []string{"/*.ORIG.o", "/*/*.ORIG.o"} {
		l, err := filepath.Glob(dir + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, orig := range l {
			base := strings.TrimSuffix(orig, ".ORIG.o")
			patched := base + ".PATCHED.o"
			if _, err := os.Stat(patched); err != nil {
				patched = base + ".PATCHED.FAIL.o"
			}
			out = append(out, files{strings.TrimPrefix(base, dir+"/"), orig, patched})
		}
	}
	return out
}

// sharedPairs lists the real pairs; the test is skipped where there are none.
func sharedPairs(t testing.TB) []files {
	if _, err := os.Stat(shared); err != nil {
		t.Skip("no ../shared/pairs beside the project")
	}
	return under(t, shared)
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func analyze(data []byte, name string) (*elfdiff.Graph, error) {
	f, err := object.Parse(data, object.Options{Name: name})
	if err != nil {
		return nil, err
	}
	return elfdiff.Analyze(context.Background(), f, kernel.Rules())
}

// planOf makes the plan for one pair of objects.
func planOf(name string, orig, patched []byte) (*Plan, error) {
	a, err := analyze(orig, name+".ORIG.o")
	if err != nil {
		return nil, err
	}
	b, err := analyze(patched, name+".PATCHED.o")
	if err != nil {
		return nil, err
	}
	return planOfGraphs(a, b)
}

func planOfGraphs(a, b *elfdiff.Graph) (*Plan, error) {
	d, err := elfdiff.Diff(context.Background(), a, b, nil)
	if err != nil {
		return nil, err
	}
	return New(context.Background(), []Pair{{Object: "vmlinux", Orig: a, Patched: b, Delta: d}}, Options{})
}

// codesOf gives the codes of the errors that err holds, each once, sorted.
func codesOf(t testing.TB, err error) []string {
	t.Helper()
	var refused *diag.Error
	if !errors.As(err, &refused) {
		t.Fatalf("not a refusal: %v", err)
	}
	var out []string
	for _, d := range refused.Diagnostics {
		if d.Severity == diag.SevError {
			out = append(out, string(d.Code))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// outcome is the line of a golden table.
func outcome(t testing.TB, p *Plan, err error) string {
	t.Helper()
	if err != nil {
		codes := codesOf(t, err)
		if slices.Equal(codes, []string{string(diag.NothingChanged)}) {
			return "nothing"
		}
		return "refused " + strings.Join(codes, " ")
	}
	var fns []string
	for _, f := range p.Contents().Functions {
		if f.Replaces() {
			fns = append(fns, f.Name)
		} else {
			fns = append(fns, "+"+f.Name)
		}
	}
	return "written " + strings.Join(fns, " ")
}

// golden compares a table with the committed one.
func golden(t *testing.T, name string, lines []string) {
	t.Helper()
	slices.Sort(lines)
	got := strings.Join(lines, "\n") + "\n"
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	want := strings.Split(string(read(t, path)), "\n")
	for _, l := range lines {
		if !slices.Contains(want, l) {
			t.Errorf("not in %s: %s", path, l)
		}
	}
	for _, l := range want {
		if l != "" && !slices.Contains(lines, l) {
			t.Errorf("only in %s: %s", path, l)
		}
	}
}

// Each pair is written, refused or left alone as the golden table says, and
// what is written holds what it must.
func TestCases(t *testing.T) { testPairs(t, "cases.txt", under(t, cases)) }

func TestSharedPairs(t *testing.T) { testPairs(t, "pairs.txt", sharedPairs(t)) }

func testPairs(t *testing.T, table string, pairs []files) {
	if len(pairs) == 0 {
		t.Fatal("no pairs")
	}
	lines := make([]string, len(pairs))
	t.Run("pairs", func(t *testing.T) {
		for i, p := range pairs {
			t.Run(p.name, func(t *testing.T) {
				t.Parallel()
				orig, patched := read(t, p.orig), read(t, p.patched)
				plan, err := planOf(p.name, orig, patched)
				lines[i] = p.name + ": " + outcome(t, plan, err)
				if err != nil {
					t.Log(err)
					for _, d := range err.(*diag.Error).Diagnostics {
						if d.Severity == diag.SevError && (d.Remedy == "" || d.Message == "") {
							t.Errorf("no remedy: %v", d)
						}
					}
					return
				}
				out, err := plan.Bytes()
				if err != nil {
					t.Fatal(err)
				}
				checkOutput(t, plan, out)
				checkTools(t, p.patched, out)
				checkSame(t, p, plan, out, orig, patched)
			})
		}
	})
	if !t.Failed() || *update {
		// Those cases are about debug information, of which a patch has none.
		golden(t, table, slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "dwarf-") }))
	}
}

// checkSame makes the patch again in other ways.
func checkSame(t *testing.T, p files, plan *Plan, out, orig, patched []byte) {
	t.Helper()
	if again, err := plan.Bytes(); err != nil || !bytes.Equal(again, out) {
		t.Errorf("the second time the bytes differ (%v)", err)
	}
	again, err := planOf(p.name, orig, patched)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := again.Bytes(); err != nil || !bytes.Equal(b, out) {
		t.Errorf("another plan gives other bytes (%v)", err)
	}
	r := rand.New(rand.NewPCG(1, uint64(len(out))))
	a, b := shuffled(t, orig, r), shuffled(t, patched, r)
	if again, err = planOf(p.name, a, b); err != nil {
		t.Errorf("with sections in another order: %v", err)
		return
	}
	if x, y := pieces(plan), pieces(again); !slices.Equal(x, y) {
		t.Errorf("with sections in another order:\n%s\nwant\n%s", strings.Join(y, "\n"), strings.Join(x, "\n"))
	}
	out, err = again.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	checkOutput(t, again, out)
}

func pieces(p *Plan) []string {
	c := p.Contents()
	var out []string
	for _, x := range c.Items {
		out = append(out, fmt.Sprintf("%v %s %s %d+%d", x.Kind, x.Name, x.Section, x.Off, x.Size))
	}
	for _, x := range c.Functions {
		out = append(out, fmt.Sprintf("%s %s %s,%d", x.Object, x.Name, x.OrigName, x.Pos))
	}
	slices.Sort(out)
	return out
}

// shuffled gives an object with its sections in another order. Groups stay before their members.
func shuffled(t testing.TB, data []byte, r *rand.Rand) []byte {
	t.Helper()
	f, err := object.Parse(data, object.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := object.FromFile(f)
	var order []object.SecID
	for i := 1; i < len(f.Sections); i++ {
		order = append(order, object.SecID(i))
	}
	if len(f.Groups) == 0 {
		r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	}
	b.SetSectionOrder(order)
	out, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestProcessors(t *testing.T) {
	p := files{orig: cases + "/cold-grow/gcc.ORIG.o", patched: cases + "/cold-grow/gcc.PATCHED.o"}
	orig, patched := read(t, p.orig), read(t, p.patched)
	var first []byte
	for _, n := range []int{1, 8} {
		old := runtime.GOMAXPROCS(n)
		plan, err := planOf("cold-grow", orig, patched)
		runtime.GOMAXPROCS(old)
		if err != nil {
			t.Fatal(err)
		}
		out, err := plan.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if first != nil && !bytes.Equal(first, out) {
			t.Error("the bytes depend on the number of processors")
		}
		first = out
	}
}

// recorder counts what a check complains about.
type recorder struct {
	testing.TB
	n int
}

func (r *recorder) Errorf(string, ...any) { r.n++ }
func (r *recorder) Error(...any)          { r.n++ }
func (r *recorder) Helper()               {}

// The check of a patch sees each single fault: an addend that is off by one, a
// reference to something else, a byte, a piece at another place.
func TestCheckSeesFaults(t *testing.T) {
	faults := 0
	for _, name := range []string{"cold-grow/gcc", "static-local-new/clang", "merged-grow/gcc", "jump-table/gcc", "string-tail/as", "func-pointer/gcc", "alt-two/gcc", "extable/gcc"} {
		plan, err := planOf(name, read(t, cases+"/"+name+".ORIG.o"), read(t, cases+"/"+name+".PATCHED.o"))
		if err != nil {
			t.Fatal(err)
		}
		pp := plan.pairs[0]
		seen := func(what string) {
			t.Helper()
			faults++
			data, err := plan.Bytes()
			if err != nil {
				return
			}
			r := &recorder{TB: t}
			checkOutput(r, plan, data)
			if r.n == 0 {
				t.Errorf("%s: %s is not seen", name, what)
			}
		}
		for i := range pp.relocs {
			r := &pp.relocs[i]
			old := *r
			for _, by := range []int64{1, -4, 16} {
				r.addend += by
				seen(fmt.Sprintf("relocation %+v with another addend", *r))
				*r = old
			}
			if r.klp != nil {
				k := *r.klp
				k.Name += "x"
				r.klp = &k
				seen("another name")
				*r = old
			}
		}
		for i := range pp.sections {
			d := pp.sections[i].data
			for k := range d {
				covered := slices.ContainsFunc(pp.relocs, func(r outReloc) bool { return r.sec == i && uint64(k) >= r.off && uint64(k) < r.off+8 })
				gap := !slices.ContainsFunc(pp.sel.Atoms, func(a elfdiff.AtomID) bool {
					at := &pp.Patched.Atoms[a]
					return at.Sec == pp.sections[i].src && uint64(k) >= pp.off[a] && uint64(k) < pp.off[a]+at.Size
				})
				if !covered && !gap {
					d[k] ^= 1
					seen(fmt.Sprintf("byte %d of section %d", k, i))
					d[k] ^= 1
				}
			}
		}
	}
	if faults < 100 {
		t.Errorf("%d faults tried", faults)
	}
}

// checkTools asks other people's programs.
func checkTools(t *testing.T, patched string, out []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out.o")
	if err := os.WriteFile(path, out, 0o600); err != nil {
		t.Fatal(err)
	}
	if tool, err := exec.LookPath("readelf"); err == nil {
		var errs bytes.Buffer
		cmd := exec.Command(tool, "-aW", path)
		cmd.Stderr = &errs
		text, err := cmd.Output()
		if err != nil || errs.Len() > 0 || bytes.Contains(text, []byte("<corrupt")) {
			t.Errorf("readelf: %v\n%s", err, errs.String())
		}
	}
	if tool, err := exec.LookPath("eu-elflint"); err == nil {
		lint := func(path string) []string {
			text, _ := exec.Command(tool, "--gnu-ld", path).CombinedOutput()
			return strings.Split(strings.TrimSpace(string(text)), "\n")
		}
		if got := lint(path); len(got) != 1 || got[0] != "No errors" {
			kinds := map[string]bool{}
			for _, l := range lint(patched) {
				kinds[kindOf(l)] = true
			}
			for _, l := range got {
				if !kinds[kindOf(l)] {
					t.Errorf("eu-elflint: %s", l)
				}
			}
		}
	}
	if tool, err := exec.LookPath("ld"); err == nil {
		if text, err := exec.Command(tool, "-r", "-o", path+".ld", path).CombinedOutput(); err != nil || len(text) > 0 {
			t.Errorf("ld -r: %v\n%s", err, text)
		}
	}
}

// kindOf is a message of eu-elflint without names and numbers.
func kindOf(line string) string {
	_, line, _ = strings.Cut(line, "]")
	var out []string
	for _, w := range strings.Fields(line) {
		if !strings.ContainsAny(w, "0123456789'") {
			out = append(out, w)
		}
	}
	return strings.Join(out, " ")
}
