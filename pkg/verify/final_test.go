package verify_test

import (
	"bytes"
	"context"
	"debug/elf"
	"slices"
	"testing"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/pkg/verify"
)

// kernelModule adds what the link of a module adds, as far as Finalize asks for it.
func kernelModule(t testing.TB, f *object.File) []byte {
	t.Helper()
	b := object.FromFile(f)
	b.AddSection(object.BuildSection{Name: ".modinfo", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Addralign: 1, Data: []byte("license=GPL\x00livepatch=Y\x00")})
	seen := map[string]bool{}
	for i := 1; i < b.NumSections(); i++ {
		s := b.Section(object.SecID(i))
		if s.Flags&elf.SHF_ALLOC == 0 || s.Type == elf.SHT_RELA {
			continue
		}
		switch s.Name {
		case "__jump_table", ".static_call_sites", "__bug_table":
			s.Flags |= elf.SHF_WRITE
			b.SetSection(object.SecID(i), s)
		}
		if seen[s.Name] {
			return nil // the linker would merge them
		}
		seen[s.Name] = true
	}
	data, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The final form of what the writer writes is proved as well, and its mutants are refuted.
func TestFinalForm(t *testing.T) {
	n := 0
	for _, w := range all() {
		ko := kernelModule(t, w.patch)
		if ko == nil {
			continue
		}
		data, err := klp.Finalize(ko, klp.FinalizeOptions{})
		if err != nil {
			t.Logf("%s: %v", w.name, err)
			continue
		}
		f, err := object.Parse(data, object.Options{Name: w.name + ".ko"})
		if err != nil {
			t.Fatal(err)
		}
		check := func(f *object.File) *verify.Result {
			opts := w.options()
			opts.Format = verify.Final // without livepatch relocations nothing tells
			r, err := verify.Verify(context.Background(), f, w.pairs, opts)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		r := check(f)
		if err := r.Err(); err != nil {
			t.Errorf("%s: %v", w.name, err)
			continue
		}
		n++
		for i := range f.Sections {
			if f.Sections[i].Flags&object.SHF_RELA_LIVEPATCH == 0 {
				continue
			}
			b := object.FromFile(f)
			s := b.Section(object.SecID(i))
			if len(s.Data) < 24 {
				break
			}
			s.Data = bytes.Clone(s.Data)
			s.Data[16] ^= 0x20 // the addend
			b.SetSection(object.SecID(i), s)
			data, err := b.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			g, err := object.Parse(data, object.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if r := check(g); !slices.ContainsFunc(r.Findings, func(d diag.Diagnostic) bool { return d.Code == diag.VerifyAddend || d.Code == diag.VerifyUnaccounted }) {
				t.Errorf("%s: a wrong addend is not named: %v", w.name, r.Findings)
			}
			break
		}
	}
	t.Logf("%d final modules proved", n)
	if n < 100 {
		t.Errorf("only %d", n)
	}
}
