package klp

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
)

func seeds(f testing.TB) [][]byte {
	l := DefaultLayout()
	l.ModuleInit, l.ModuleExit = 312, 1200
	x := newFixture("x").module()
	x.tables.Callbacks = []Callback{{Vmlinux, PrePatch, x.cb}, {"mod_a", PostPatch, x.fn}}
	x.tables.Force = []object.SymID{x.fn}
	x.tables.Arch = []KpatchArch{{x.data, "mod_a"}}
	kp := x.kpatch(f)
	up := newFixture("x").module().klp(f)
	return [][]byte{nil, up, kp, finalize(f, up, FinalizeOptions{}), finalize(f, kp, FinalizeOptions{}), finalize(f, up, FinalizeOptions{Layout: l})}
}

// typed holds of every error: it is a *diag.Error of our own codes, each with a place and a message.
func typed(t testing.TB, err error) {
	t.Helper()
	var de *diag.Error
	if !errors.As(err, &de) || len(de.Diagnostics) == 0 || len(de.Diagnostics) > maxProblems {
		t.Fatalf("error %v (%T)", err, err)
	}
	for _, d := range de.Diagnostics {
		// The Builder names sections without offset.
		if !d.Place.HasOffset && d.Code != diag.BuildInvalid || d.Message == "" || len(d.Message) > 1<<10 || diag.Lookup(d.Code).Remedy == "" {
			t.Fatalf("diagnostic %+v", d)
		}
	}
}

// holdsRead checks a reader: a patch or a typed error; what the patch refers to is there;
// the model written in either intermediate form reads back equal.
func holdsRead(t testing.TB, d []byte, read func(*object.File) (*Patch, error)) bool {
	t.Helper()
	f, err := object.Parse(d, object.Options{Name: "fuzz"})
	if err != nil {
		return false
	}
	p, err := read(f)
	if (p == nil) == (err == nil) {
		t.Fatalf("patch %v, error %v", p != nil, err)
	}
	if err != nil {
		typed(t, err)
		return false
	}
	tuples := p.Tuples()
	for _, tu := range tuples {
		_ = tu.String()
		if tu.Object == "" || len(tu.Object) > MaxObjectName || len(tu.SymbolObject) > MaxObjectName || len(tu.Symbol) > MaxSymbolName {
			t.Fatalf("tuple %+v", tu)
		}
		s, err := ParseSymbol(Symbol{Object: tu.SymbolObject, Name: tu.Symbol, Pos: tu.Pos}.String())
		if err != nil || s.Name != tu.Symbol || s.Pos != tu.Pos {
			t.Fatalf("tuple %+v: %v", tu, err)
		}
	}
	for _, o := range p.Objects {
		for _, fn := range o.Funcs {
			if f.Symbols[fn.New].Sec == 0 || fn.Name == "" {
				t.Fatalf("function %+v", fn)
			}
		}
	}
	rewritten(t, p, tuples)
	return true
}

// rewritten writes the model, without the rest of the file, in both forms.
func rewritten(t testing.TB, p *Patch, tuples []Tuple) {
	t.Helper()
	if slices.ContainsFunc(p.Objects, func(o Object) bool { return len(o.Funcs) == 0 }) && len(p.Callbacks) == 0 && p.Kpatch == nil {
		return // an object that replaces nothing is not in kpatch's form
	}
	for _, kpatch := range []bool{false, true} {
		b := object.NewBuilder(object.Header{})
		b.Name = "rewritten"
		secs := map[object.SecID]object.SecID{}
		sec := func(id object.SecID) object.SecID {
			if secs[id] == 0 {
				s := &p.File.Sections[id]
				secs[id] = b.AddSection(object.BuildSection{Name: s.Name, Type: s.Type, Flags: s.Flags &^ 0x240, Addralign: 1, Data: s.Data})
			}
			return secs[id]
		}
		if slices.ContainsFunc(p.Relocs, func(r Reloc) bool {
			return strings.HasPrefix(p.File.Sections[r.Sec].Name, ".kpatch") || strings.Contains(p.File.Sections[r.Sec].Name, "klp")
		}) {
			return // the tables themselves are patched: written again they would be others
		}
		var tables KpatchTables
		relocs := slices.Clone(p.Relocs)
		for i := range relocs {
			relocs[i].Sec = sec(relocs[i].Sec)
			tables.Relocs = append(tables.Relocs, KpatchReloc{Reloc: relocs[i]})
		}
		if kpatch {
			Kpatch(b, &tables, map[object.SecID]object.SymID{})
		} else {
			Intermediate(b, nil, relocs, nil, map[object.SecID]object.SymID{})
		}
		d, err := b.Bytes()
		if err != nil {
			typed(t, err)
			return
		}
		read := ReadIntermediate
		if kpatch {
			read = ReadKpatch
		}
		same(t, "rewritten", must(t, read, d).Tuples(), tuples)
	}
}

// holdsFinalize checks Finalize: bytes or a typed error; the final form says what the intermediate one did.
func holdsFinalize(t testing.TB, d []byte, opts FinalizeOptions) bool {
	t.Helper()
	opts.Name = "fuzz"
	out, err := Finalize(d, opts)
	if (out == nil) == (err == nil) {
		t.Fatalf("bytes %v, error %v", out != nil, err)
	}
	if err != nil {
		typed(t, err)
		return false
	}
	f, err := object.Parse(d, object.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := ReadIntermediate(f)
	if err != nil || len(want.Objects)+len(want.Relocs) == 0 {
		want, err = ReadKpatch(f)
	}
	if err != nil {
		t.Fatal(err)
	}
	got := checkFinal(t, out)
	same(t, "tuples", got.Tuples(), want.Tuples())
	if opts.Layout != nil {
		if got, _, err = ReadStatic(got.File, opts.Layout); err != nil {
			t.Fatal(err)
		}
	}
	same(t, "functions", funcs(got), funcs(want))
	if _, err = Finalize(out, opts); err == nil && len(want.Relocs) > 0 {
		t.Error("the final form was finalized again")
	}
	return true
}

func FuzzReadIntermediate(f *testing.F) { fuzzRead(f, ReadIntermediate) }
func FuzzReadKpatch(f *testing.F)       { fuzzRead(f, ReadKpatch) }
func FuzzReadFinal(f *testing.F)        { fuzzRead(f, ReadFinal) }

func fuzzRead(f *testing.F, read func(*object.File) (*Patch, error)) {
	for _, d := range seeds(f) {
		f.Add(d)
	}
	f.Fuzz(func(t *testing.T, d []byte) { holdsRead(t, d, read) })
}

func FuzzReadStatic(f *testing.F) {
	for _, d := range seeds(f) {
		f.Add(d)
	}
	f.Fuzz(func(t *testing.T, d []byte) {
		file, err := object.Parse(d, object.Options{})
		if err != nil {
			return
		}
		p, _, err := ReadStatic(file, nil)
		if (p == nil) == (err == nil) {
			t.Fatalf("patch %v, error %v", p != nil, err)
		}
		if err != nil {
			typed(t, err)
		}
	})
}

func FuzzFinalize(f *testing.F) {
	for _, d := range seeds(f) {
		f.Add(d, uint8(0))
		f.Add(d, uint8(7))
	}
	f.Fuzz(func(t *testing.T, d []byte, how uint8) { holdsFinalize(t, d, options(how)) })
}

func options(how uint8) FinalizeOptions {
	opts := FinalizeOptions{DropBTF: how&1 != 0, NoReplace: how&8 != 0, PlainReturn: how&4 != 0}
	if how&2 != 0 {
		opts.Layout = DefaultLayout()
		opts.Layout.ModuleInit, opts.Layout.ModuleExit = 312, 1200
	}
	return opts
}

// One byte of everything, changed in several ways: nothing panics, and what is taken is still true.
func TestMutations(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	taken, refused := 0, 0
	for _, d := range seeds(t)[1:] {
		step := 1
		if testing.Short() {
			step = 7
		}
		for at := 16; at < len(d); at += step {
			if zeros(d, at) && rng.IntN(16) != 0 {
				continue // inside a run of zeros all bytes are the same
			}
			old := d[at]
			for _, v := range []byte{old ^ 1, old ^ 0x80, 0xff} {
				d[at] = v
				for _, read := range []func(*object.File) (*Patch, error){ReadIntermediate, ReadKpatch, ReadFinal} {
					if holdsRead(t, d, read) {
						taken++
					} else {
						refused++
					}
				}
				if holdsFinalize(t, d, options(uint8(rng.IntN(16)))) {
					taken++
				} else {
					refused++
				}
				if t.Failed() {
					t.Fatalf("byte 0x%x is 0x%x instead of 0x%x", at, v, old)
				}
			}
			d[at] = old
		}
	}
	t.Logf("%d taken, %d refused", taken, refused)
}

func zeros(d []byte, at int) bool {
	for i := max(0, at-8); i < min(len(d), at+8); i++ {
		if d[i] != 0 {
			return false
		}
	}
	return true
}
