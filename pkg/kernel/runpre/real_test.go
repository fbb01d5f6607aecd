package runpre

import (
	"debug/elf"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel/image"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/symbols"
)

func need(t testing.TB, env, what string) string {
	t.Helper()
	v := os.Getenv(env)
	if v == "" {
		t.Skip(env + " is not set to " + what)
	}
	return v
}

func loadKernel(t testing.TB, release string) *image.Kernel {
	t.Helper()
	path := filepath.Join(need(t, "KDELTA_KERNELS", "a folder with unpacked kernel packages"), "boot/vmlinuz-"+release)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Skip(err)
	}
	k, err := image.Parse(data, image.Options{Name: release})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Table(); err != nil {
		t.Fatal(err)
	}
	return k
}

func objects(t testing.TB, root string) []*object.File {
	t.Helper()
	var out []*object.File
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".o" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := object.Parse(data, object.Options{Name: path[len(root)+1:]})
		if err != nil {
			return err
		}
		out = append(out, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// releases gives the releases of which there are objects, as testdata/runpre/build makes them.
func releases(t *testing.T) (dir string, all []string) {
	t.Helper()
	dir = need(t, "KDELTA_RUNPRE", "a folder that testdata/runpre/build made")
	need(t, "KDELTA_KERNELS", "a folder with unpacked kernel packages")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return dir, all
}

// tally is what was found of many objects.
type tally struct {
	objects, full, refused       int
	funcs                        [numStatus]int // without weak definitions
	weak, relaxed, located, data int
	names, positions, byEvidence int // duplicate names, those with a position, those of which the comparison knows the place
	reasons                      map[string]int
	seconds, worst               float64
}

func (c *tally) log(t *testing.T) {
	t.Helper()
	t.Logf("%d objects: %d are what the kernel runs, %d are refused", c.objects, c.full, c.refused)
	t.Logf("functions without weak ones: %d exact (%d with other forms of branches), %d mismatch, %d absent, %d incomparable; weak: %d; sections of data: %d", c.funcs[Exact], c.relaxed, c.funcs[Mismatch], c.funcs[Absent], c.funcs[Incomparable], c.weak, c.data)
	t.Logf("%d symbols located; %d local symbols with namesakes: %d have a position, %d by this evidence", c.located, c.names, c.positions, c.byEvidence)
	for why, n := range c.reasons {
		t.Logf("%6d without a position: %s", n, why)
	}
	t.Logf("%.3f s CPU for the comparison, at most %.3f for one object", c.seconds, c.worst)
}

// add compares one object; oracle makes the Oracle with its evidence, nil to leave positions out.
func (c *tally) add(t *testing.T, f *object.File, compare func() (*Result, error), namesakes func(name string) int, oracle func(l *symbols.Located) *symbols.Oracle) *Result {
	t.Helper()
	start := cpu()
	r, err := compare()
	if err != nil {
		t.Fatal(err)
	}
	d := cpu() - start
	c.seconds += d
	c.worst = max(c.worst, d)
	c.objects++
	c.located += len(r.Located.Addr) + len(r.Located.Entry)
	c.data += len(r.Data)
	for i := range r.Funcs {
		it := &r.Funcs[i]
		if f.Symbols[it.Sym].Bind() == elf.STB_WEAK {
			c.weak++
			continue
		}
		c.funcs[it.Status]++
		if it.Relaxed {
			c.relaxed++
		}
	}
	if r.Refuse() == nil {
		c.full++
	} else {
		c.refused++
	}
	if oracle == nil {
		return r
	}
	o := oracle(r.Located)
	for i := range f.Symbols {
		id, s := object.SymID(i), &f.Symbols[i]
		if s.Bind() != elf.STB_LOCAL || s.Sec == 0 || s.Type() == elf.STT_SECTION || s.Type() == elf.STT_FILE || hidden(s.Name) || discarded(&f.Sections[s.Sec]) || namesakes(s.Name) < 2 {
			continue
		}
		c.names++
		a := o.Position(f, id)
		if !a.Known {
			if a.Code != diag.SymposUnknown {
				t.Errorf("%s: %s: %s: %s", f.Name, s.Name, a.Code, a.Evidence)
			}
			c.reasons[r.Unlocated[id]]++
			if r.Unlocated[id] == "" {
				t.Errorf("%s: %s has neither a position nor a reason: %+v", f.Name, s.Name, a)
			}
			continue
		}
		c.positions++
		if _, why := r.Unlocated[id]; !why {
			c.byEvidence++
		}
	}
	return r
}

// Built-in objects: all are what their kernel runs. Each local name that the kernel has several times gets a position,
// which is that of the kernel's own list at the place, or a reason. Other kernels of the same series refuse each
// object that differs, with the first difference.
func TestRealKernel(t *testing.T) {
	dir, all := releases(t)
	images, _ := filepath.Glob(filepath.Join(os.Getenv("KDELTA_KERNELS"), "boot/vmlinuz-*"))
	for _, release := range all {
		k := loadKernel(t, release)
		tab, _ := k.Table()
		for _, mode := range [...]string{"merged", "sections"} {
			objs := objects(t, filepath.Join(dir, release, "builtin", mode))
			t.Run(release+"/"+mode, func(t *testing.T) {
				c := tally{reasons: map[string]int{}}
				for _, f := range objs {
					r := c.add(t, f, func() (*Result, error) { return Check(f, k) }, func(name string) int { return len(k.Find(name)) }, func(l *symbols.Located) *symbols.Oracle {
						o, ds := symbols.NewOracle(symbols.Vmlinux, tab, l)
						if len(ds) > 0 {
							t.Errorf("%s: %v", f.Name, ds)
						}
						return o
					})
					for _, d := range r.Diagnostics {
						t.Error(d)
					}
					for id, addr := range r.Located.Addr {
						lo, hi := k.SymbolsAt(addr)
						ok := false
						for ; lo < hi; lo++ {
							ok = ok || k.Symbols[lo].Name == f.Symbols[id].Name
						}
						if !ok {
							t.Errorf("%s: kallsyms does not have %s at %#x", f.Name, f.Symbols[id].Name, addr)
						}
					}
				}
				c.log(t)
			})
			series, _, _ := strings.Cut(release, "-")
			for _, path := range images {
				other := strings.TrimPrefix(filepath.Base(path), "vmlinuz-")
				if other == release || !strings.HasPrefix(other, series+"-") {
					continue
				}
				t.Run(release+"/"+mode+" against "+other, func(t *testing.T) {
					k := loadKernel(t, other)
					c := tally{reasons: map[string]int{}}
					for _, f := range objs {
						r := c.add(t, f, func() (*Result, error) { return Check(f, k) }, nil, nil)
						differs := r.Count(Mismatch) > 0 || slices.ContainsFunc(r.Data, func(it Item) bool { return it.Status == Mismatch })
						var e *diag.Error
						if differs != errors.As(r.Refuse(), &e) || differs && (e.Diagnostics[0].Code != diag.RunPreMismatch || !e.Diagnostics[0].Place.HasOffset) {
							t.Errorf("%s: differs %v, %v", f.Name, differs, r.Refuse())
						}
						if differs && c.refused <= 8 {
							t.Log(r.Diagnostics[0])
						}
					}
					if c.refused == 0 {
						t.Error("nothing differs")
					}
					c.log(t)
				})
			}
		}
	}
}

// Objects of modules against the files of the modules.
func TestRealModule(t *testing.T) {
	dir, all := releases(t)
	for _, release := range all {
		mods, _ := filepath.Glob(filepath.Join(dir, release, "modules/*"))
		for _, path := range mods {
			name := filepath.Base(path)
			var file string
			_ = filepath.WalkDir(filepath.Join(os.Getenv("KDELTA_KERNELS"), "lib/modules", release), func(p string, _ os.DirEntry, err error) error {
				if base := filepath.Base(p); err == nil && (base == name+".ko" || base == name+".ko.xz") {
					file = p
				}
				return err
			})
			data, err := os.ReadFile(file)
			if err != nil {
				t.Logf("%s of %s: %v", name, release, err)
				continue
			}
			m, err := image.ParseModule(data, image.Options{Name: file})
			if err != nil {
				t.Fatal(err)
			}
			tab, ready := m.Table(), NewModule(m)
			for _, mode := range [...]string{"merged", "sections"} {
				t.Run(release+"/"+name+"/"+mode, func(t *testing.T) {
					c := tally{reasons: map[string]int{}}
					for _, f := range objects(t, filepath.Join(path, mode)) {
						r := c.add(t, f, func() (*Result, error) { return ready.Check(f), nil }, func(name string) int { return len(m.Find(name)) }, func(l *symbols.Located) *symbols.Oracle {
							o, ds := symbols.NewOracle(m.Name, tab, l)
							if len(ds) > 0 {
								t.Errorf("%s: %v", f.Name, ds)
							}
							return o
						})
						for _, d := range r.Diagnostics {
							t.Error(d)
						}
					}
					c.log(t)
				})
			}
		}
	}
}
