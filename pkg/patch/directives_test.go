package patch

import (
	"context"
	"debug/elf"
	"slices"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/pkg/verify"
)

// prove has a patch proved.
func prove(t testing.TB, data []byte, pairs ...Pair) {
	t.Helper()
	f, err := object.Parse(data, object.Options{Name: "patch"})
	if err != nil {
		t.Fatal(err)
	}
	var vp []verify.Pair
	for _, p := range pairs {
		vp = append(vp, verify.Pair{Object: p.Object, Orig: p.Orig.File, Patched: p.Patched.File})
	}
	r, err := verify.Verify(context.Background(), f, vp, verify.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Err(); err != nil || !r.Levels[verify.Code].Proved() {
		t.Errorf("not proved: %v %+v", err, r.Levels)
	}
}

// written makes the patch of pairs in a form, has it proved and reads it back.
func written(t testing.TB, format elfdiff.Format, pairs ...Pair) (*Plan, *klp.Patch) {
	t.Helper()
	plan, err := New(context.Background(), pairs, Options{Format: format})
	if err != nil {
		t.Fatal(err)
	}
	data, err := plan.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	prove(t, data, pairs...)
	f, err := object.Parse(data, object.Options{Name: "patch"})
	if err != nil {
		t.Fatal(err)
	}
	read := klp.ReadIntermediate
	if format == elfdiff.FormatKpatch {
		read = klp.ReadKpatch
	}
	p, err := read(f)
	if err != nil {
		t.Fatal(err)
	}
	return plan, p
}

const pointer = "0000000000000000"

// kpatchCB is what KPATCH_*_CALLBACK leaves, klpCB what KLP_*_CALLBACK does.
func kpatchCB(kind, fn string) def {
	return static(datum("__kpatch_"+kind+"_data", ".kpatch.callbacks."+kind, pointer+pointer, rel{0, abs64, fn, 0}))
}

func klpCB(kind, obj, fn string) def {
	return datum("__klp_"+kind+"_callback_"+obj, ".discard.klp_callback_ptrs", pointer, rel{0, abs64, fn, 0})
}

// Callbacks of both macros go into both forms, with what they need; alone they are a patch too.
func TestCallbacks(t *testing.T) {
	orig := []def{fn("f", one), static(datum("v", ".data.v", word))}
	pre := static(fn("pre", "8b05 00000000 c3", rel{2, pc32, "v", -4}))
	post := static(fn("post", "e8 00000000 c3", rel{1, plt32, "helper", -4}))
	helper := static(fn("helper", two))
	for _, format := range []elfdiff.Format{elfdiff.FormatKlp, elfdiff.FormatKpatch} {
		for _, c := range []struct {
			name string
			defs []def
			want string
		}{
			{"kpatch", []def{pre, post, helper, kpatchCB("pre_patch", "pre"), kpatchCB("post_unpatch", "post")}, "post_unpatch=post pre_patch=pre"},
			{"upstream", []def{pre, post, helper, klpCB("pre_unpatch", "mod_a", "pre"), klpCB("post_patch", "mod_a", "post")}, "post_patch=post pre_unpatch=pre"},
			{"by its section", []def{pre, kpatchCB("pre_patch", "..text.pre")}, "pre_patch=pre"},
			{"a function that the kernel has", []def{kpatchCB("pre_patch", "f")}, "pre_patch=f"},
		} {
			for _, body := range []string{one, two} { // with and without a function that is replaced
				pair := pairOf(t, "mod_a", "a.c", orig, append([]def{fn("f", body), orig[1]}, c.defs...))
				plan, p := written(t, format, pair)
				var got []string
				for _, x := range p.Callbacks {
					if x.Object != "mod_a" {
						t.Errorf("%s: %+v", c.name, x)
					}
					got = append(got, x.Kind.String()+"="+p.File.SymName(x.Func))
				}
				slices.Sort(got)
				if strings.Join(got, " ") != c.want || len(plan.Contents().Callbacks) != len(got) {
					t.Errorf("%s, form %d: %v, want %s", c.name, format, got, c.want)
				}
				if len(p.Objects) != 1 || p.Objects[0].Name != "mod_a" || (len(p.Objects[0].Funcs) == 1) != (body == two) {
					t.Errorf("%s, form %d: %+v", c.name, format, p.Objects)
				}
			}
		}
	}
	for _, c := range []struct {
		name string
		defs []def
	}{
		{"twice", []def{pre, kpatchCB("pre_patch", "pre"), klpCB("pre_patch", "mod_a", "pre")}},
		{"of another object", []def{pre, klpCB("pre_patch", "vmlinux", "pre")}},
		{"unknown kind", []def{pre, kpatchCB("mid_patch", "pre")}},
		{"unknown name", []def{pre, klpCB("frob", "mod_a", "pre")}},
		{"not a function", []def{kpatchCB("pre_patch", "v")}},
		{"not here", []def{kpatchCB("pre_patch", "elsewhere")}},
		{"no pointer", []def{datum("x", ".kpatch.callbacks.pre_patch", pointer+pointer)}},
		{"half an entry", []def{pre, datum("x", ".kpatch.callbacks.pre_patch", pointer, rel{0, abs64, "pre", 0})}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := refused(t, Options{}, []Pair{pairOf(t, "mod_a", "a.c", orig, append([]def{fn("f", two), orig[1]}, c.defs...))}, "callback-invalid")
			if d := e.Diagnostics[0]; d.Place.Section == "" || d.Remedy == "" {
				t.Errorf("%+v", d)
			}
		})
	}
	// One of each kind for each object.
	pre = static(fn("pre", two))
	a := pairOf(t, "mod_a", "a.c", orig, append([]def{orig[0], orig[1]}, pre, kpatchCB("pre_patch", "pre")))
	b := pairOf(t, "mod_b", "b.c", orig, append([]def{orig[0], orig[1]}, pre, kpatchCB("pre_patch", "pre")))
	if _, p := written(t, elfdiff.FormatKlp, a, b); len(p.Objects) != 2 || len(p.Callbacks) != 2 || p.Callbacks[1].Object != "mod_b" {
		t.Errorf("%+v", p.Callbacks)
	}
	b.Object = "mod_a"
	refused(t, Options{}, []Pair{a, b}, "callback-invalid")
}

// kpatch 16.14b: a forced function that did not change is said to be none of the patch's, and nothing crashes or stays behind.
func TestForce(t *testing.T) {
	force := datum("__kpatch_force_func_f", ".kpatch.force", pointer, rel{0, abs64, "f", 0})
	orig := []def{fn("f", one), fn("g", one)}
	for _, c := range []struct {
		format elfdiff.Format
		f      string
		forced int
		level  diag.Severity
	}{{elfdiff.FormatKpatch, two, 1, diag.SevNote}, {elfdiff.FormatKpatch, one, 0, diag.SevWarning}, {elfdiff.FormatKlp, two, 1, diag.SevWarning}, {elfdiff.FormatKlp, one, 0, diag.SevWarning}} {
		pair := pairOf(t, "vmlinux", "a.c", orig, []def{fn("f", c.f), fn("g", two), force})
		plan, p := written(t, c.format, pair)
		if ds := plan.Diagnostics; len(ds) != 1 || ds[0].Code != diag.ForceIgnored || ds[0].Severity != c.level || len(plan.Contents().Forced) != c.forced {
			t.Errorf("%+v: %v", c, ds)
		}
		if c.format == elfdiff.FormatKpatch && len(p.Kpatch.Force) != c.forced {
			t.Errorf("%+v: %d in .kpatch.force", c, len(p.Kpatch.Force))
		}
		for i := range p.File.Symbols {
			if p.File.Symbols[i].Name == "__kpatch_force_func_f" {
				t.Error("the macro's variable is in the patch")
			}
		}
	}
	// It is no new global for others either.
	refused(t, Options{Partial: true}, []Pair{pairOf(t, "vmlinux", "a.c", orig, append(slices.Clone(orig), force))}, "nothing-changed")
}

// The checksums of exported symbols are what modules were built against.
func TestChecksumOfExport(t *testing.T) {
	sum := func(v string) def { return datum("sum", "___kcrctab+f", v) }
	refused(t, Options{}, []Pair{pairOf(t, "vmlinux", "a.c", []def{fn("f", one), sum("01000000")}, []def{fn("f", two), sum("02000000")})}, "export-changed")
	pair := pairOf(t, "vmlinux", "a.c", []def{fn("f", one)}, []def{fn("f", two)})
	for side, v := range []uint64{1, 2} {
		p := []*elfdiff.Graph{pair.Orig, pair.Patched}[side]
		b := object.FromFile(p.File)
		b.AddSymbol(object.BuildSymbol{Name: "__crc_f", Info: 0x10, Shndx: 0xfff1, Value: v})
		data, err := b.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		g, err := analyze(data, "x.o")
		if err != nil {
			t.Fatal(err)
		}
		if side == 0 {
			pair.Orig = g
		} else {
			pair.Patched = g
		}
	}
	d, err := elfdiff.Diff(context.Background(), pair.Orig, pair.Patched, nil)
	if err != nil {
		t.Fatal(err)
	}
	pair.Delta = d
	refused(t, Options{}, []Pair{pair}, "export-changed")
}

// The proof sees faults in what the metadata say of callbacks and forced functions, and in unwind entries.
func TestProofOfDirectives(t *testing.T) {
	orig := []def{fn("f", one), fn("g", one)}
	ips := def{sec: ".orc_unwind_ip", code: "00000000 00000000", typ: elf.STT_OBJECT, rels: []rel{{0, pc32, "f", 0}, {4, pc32, "f", 5}}}
	table := def{sec: ".orc_unwind", code: "080000000500 100000000500", typ: elf.STT_OBJECT}
	force := datum("__kpatch_force_func_f", ".kpatch.force", pointer, rel{0, abs64, "f", 0})
	pair := pairOf(t, "vmlinux", "a.c", append(slices.Clone(orig), ips, table),
		[]def{fn("f", two), fn("g", two), static(fn("pre", two)), kpatchCB("pre_patch", "pre"), force, ips, table})
	for _, c := range []struct {
		name   string
		format elfdiff.Format
		edit   func(b *object.Builder, f *object.File, sec object.SecID, name string) bool
		code   diag.Code
	}{
		{"callback of another function", elfdiff.FormatKpatch, func(b *object.Builder, f *object.File, sec object.SecID, name string) bool {
			return name == ".kpatch.callbacks.pre_patch" && redirect(b, f, sec, 0, "f")
		}, diag.VerifyCallback},
		{"callback of another function", elfdiff.FormatKlp, func(b *object.Builder, f *object.File, sec object.SecID, name string) bool {
			return name == klp.SecObjects && redirect(b, f, sec, 16, "f")
		}, diag.VerifyCallback},
		{"callback of another kind", elfdiff.FormatKpatch, func(b *object.Builder, f *object.File, sec object.SecID, name string) bool {
			s := b.Section(sec)
			s.Name = ".kpatch.callbacks.post_patch"
			b.SetSection(sec, s)
			return name == ".kpatch.callbacks.pre_patch"
		}, diag.VerifyCallback},
		{"no callback", elfdiff.FormatKlp, func(b *object.Builder, f *object.File, sec object.SecID, name string) bool {
			var keep []object.Reloc
			for _, r := range relocs(f, sec) {
				if r.Off != 16 {
					keep = append(keep, r)
				}
			}
			if name == klp.SecObjects {
				b.SetRelocs(sec, keep)
			}
			return name == klp.SecObjects
		}, diag.VerifyCallback},
		{"another function forced", elfdiff.FormatKpatch, func(b *object.Builder, f *object.File, sec object.SecID, name string) bool {
			return name == klp.KpatchForceSection && redirect(b, f, sec, 0, "g")
		}, diag.VerifyCallback},
		{"another unwind entry", elfdiff.FormatKpatch, func(b *object.Builder, f *object.File, sec object.SecID, name string) bool {
			if name != ".orc_unwind" {
				return false
			}
			s := b.Section(sec)
			s.Data = slices.Clone(s.Data)
			s.Data[6] ^= 8
			b.SetSection(sec, s)
			return true
		}, diag.VerifyEntry},
		{"half an unwind entry", elfdiff.FormatKpatch, func(b *object.Builder, f *object.File, sec object.SecID, name string) bool {
			if name != ".orc_unwind" {
				return false
			}
			s := b.Section(sec)
			s.Data = s.Data[:len(s.Data)-6]
			b.SetSection(sec, s)
			return true
		}, diag.VerifyEntry},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, p := written(t, c.format, pair)
			edited := false
			b := object.FromFile(p.File)
			for i := 1; i < len(p.File.Sections) && !edited; i++ {
				if p.File.Sections[i].Type == elf.SHT_PROGBITS && len(p.File.Sections[i].Data) > 0 {
					mutant := object.FromFile(p.File)
					if edited = c.edit(mutant, p.File, object.SecID(i), p.File.Sections[i].Name); edited {
						b = mutant
					}
				}
			}
			if !edited {
				t.Fatal("nothing to change")
			}
			data, err := b.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			f, err := object.Parse(data, object.Options{})
			if err != nil {
				t.Fatal(err)
			}
			r, err := verify.Verify(context.Background(), f, []verify.Pair{{Object: "vmlinux", Orig: pair.Orig.File, Patched: pair.Patched.File}}, verify.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(r.Findings, func(d diag.Diagnostic) bool { return d.Code == c.code && d.Severity == diag.SevError }) {
				t.Errorf("%v, want %s", r.Findings, c.code)
			}
		})
	}
}

// redirect lets the relocation at off of a section lead to another function.
func redirect(b *object.Builder, f *object.File, sec object.SecID, off uint64, to string) bool {
	rs, done := relocs(f, sec), false
	for i := range rs {
		for id := range f.Symbols {
			if rs[i].Off == off && f.Symbols[id].Name == to {
				rs[i].Sym, rs[i].Addend, done = object.SymID(id), 0, true
			}
		}
	}
	b.SetRelocs(sec, rs)
	return done
}

// An object that is one of several of a patch may replace nothing; alone it would be none.
func TestProofOfPart(t *testing.T) {
	pair := pairOf(t, "vmlinux", "a.c", []def{fn("f", one)}, []def{fn("f", one), fn("n", "e8 00000000 c3", rel{1, plt32, "elsewhere", -4}), datum("v", ".data.v", word)})
	for _, format := range []elfdiff.Format{elfdiff.FormatKlp, elfdiff.FormatKpatch} {
		plan, err := New(context.Background(), []Pair{pair}, Options{Format: format, Partial: true})
		if err != nil {
			t.Fatal(err)
		}
		data, err := plan.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		f, err := object.Parse(data, object.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []bool{true, false} {
			r, err := verify.Verify(context.Background(), f, []verify.Pair{{Object: "vmlinux", Orig: pair.Orig.File, Patched: pair.Patched.File}},
				verify.Options{Part: part, Exports: known(t, nil, "__fentry__=vmlinux")})
			if err != nil {
				t.Fatal(err)
			}
			if r.Refuted() == part {
				t.Errorf("form %d, part %v: %v", format, part, r.Findings)
			}
		}
	}
}
