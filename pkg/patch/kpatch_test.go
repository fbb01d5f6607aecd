package patch

import (
	"cmp"
	"context"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
)

var peers = flag.String("peers", cmp.Or(os.Getenv("KDELTA_PEERS"), "/tmp/peers"), "directory in whose bin other people's programs lie (KDELTA_PEERS)")

// formats makes the patch of one pair in both forms; nil where it is refused.
func formats(t *testing.T, p files) (k, kp *Plan) {
	t.Helper()
	a, err := analyze(read(t, p.orig), "a.o")
	if err != nil {
		return nil, nil
	}
	b, err := analyze(read(t, p.patched), "b.o")
	if err != nil {
		return nil, nil
	}
	d, err := elfdiff.Diff(context.Background(), a, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	pairs := []Pair{{Object: "vmlinux", Orig: a, Patched: b, Delta: d}}
	k, err1 := New(context.Background(), pairs, Options{})
	kp, err2 := New(context.Background(), pairs, Options{Format: elfdiff.FormatKpatch})
	if (err1 == nil) != (err2 == nil) {
		t.Errorf("one form is refused, the other is not: %v, %v", err1, err2)
		return nil, nil
	}
	return k, kp
}

// kpatchOut writes a plan and looks at what is special about kpatch's form.
func kpatchOut(t *testing.T, plan *Plan) (*klp.Patch, []byte) {
	t.Helper()
	data, err := plan.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	f, err := object.Parse(data, object.Options{Name: "patch"})
	if err != nil {
		t.Fatal(err)
	}
	structure(t, f)
	p, err := klp.ReadKpatch(f)
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]uint64{} // functions that call the tracer, and where
	for i := range f.Symbols {
		s := &f.Symbols[i]
		if s.Type() != elf.STT_FUNC || s.Sec == 0 {
			continue
		}
		rs := f.RelocsOf(s.Sec)
		lo, hi := rs.Range(s.Value, min(s.Value+s.Size, s.Value+16))
		for k := lo; k < hi; k++ {
			if r := rs.At(k); f.Symbols[r.Sym].Name == "__fentry__" {
				if r.Type == elf.R_X86_64_NONE || f.Sections[s.Sec].Data[r.Off-1] != 0xe8 {
					t.Errorf("%s: no call of the tracer at its site: %v", s.Name, r.Type)
				}
				calls[fmt.Sprint(s.Sec, s.Value)] = r.Off - 1 - s.Value
			}
		}
	}
	sites := 0
	for i := range f.Sections {
		if f.Sections[i].Name != "__mcount_loc" {
			continue
		}
		rs := f.RelocsOf(object.SecID(i))
		if uint64(rs.Len()*8) != f.Sections[i].Size {
			t.Errorf("__mcount_loc: %d bytes, %d relocations", f.Sections[i].Size, rs.Len())
		}
		for k := range rs.Len() {
			r := rs.At(k)
			s := &f.Symbols[r.Sym]
			if off, ok := calls[fmt.Sprint(s.Sec, s.Value)]; !ok || r.Addend != int64(off) || r.Type != elf.R_X86_64_64 {
				t.Errorf("__mcount_loc: entry %d is %v %s%+d", k, r.Type, s.Name, r.Addend)
			}
			sites++
		}
	}
	if sites != len(calls) {
		t.Errorf("__mcount_loc has %d entries for %d functions", sites, len(calls))
	}
	for _, fn := range p.Kpatch.Funcs {
		if s := &f.Symbols[fn.New]; s.Bind() != elf.STB_LOCAL || s.Size != fn.NewSize || fn.OldSize == 0 {
			t.Errorf("%s: %v, size %d; entry %+v", fn.Name, s.Bind(), s.Size, fn)
		}
	}
	return p, data
}

// own gives the tuples of sections that both forms carry.
func own(p *klp.Patch) []klp.Tuple {
	return slices.DeleteFunc(p.Tuples(), func(tu klp.Tuple) bool {
		return !strings.HasPrefix(tu.Section, ".text") && !strings.HasPrefix(tu.Section, ".data") && !strings.HasPrefix(tu.Section, ".rodata")
	})
}

// Both forms say the same; what is written is linked and converted by Finalize and, where it
// is there, by kpatch's create-klp-module.
func TestKpatchForm(t *testing.T) {
	pairs := under(t, cases)
	if _, err := os.Stat(shared); err == nil {
		pairs = append(pairs, under(t, shared)...)
	}
	ckm := filepath.Join(*peers, "bin", "create-klp-module")
	if _, err := os.Stat(ckm); err != nil {
		t.Logf("no create-klp-module in %s", *peers)
		ckm = ""
	}
	ld, _ := exec.LookPath("ld")
	written, converted := 0, 0
	for _, p := range pairs {
		t.Run(p.name, func(t *testing.T) {
			k, kp := formats(t, p)
			if kp == nil {
				return
			}
			written++
			theirs, data := kpatchOut(t, kp)
			out, err := k.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			f, err := object.Parse(out, object.Options{})
			if err != nil {
				t.Fatal(err)
			}
			ours, err := klp.ReadIntermediate(f)
			if err != nil {
				t.Fatal(err)
			}
			if a, b := own(ours), own(theirs); !slices.Equal(a, b) {
				t.Errorf("%v\nand\n%v", a, b)
			}
			if ld == "" {
				return
			}
			dir := t.TempDir()
			in, ko, final := filepath.Join(dir, "in.o"), filepath.Join(dir, "in.ko"), filepath.Join(dir, "out.ko")
			if err := os.WriteFile(in, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if msg, err := exec.Command(ld, "-r", "-o", ko, in).CombinedOutput(); err != nil || len(msg) > 0 {
				t.Fatalf("ld: %v %s", err, msg)
			}
			linked := read(t, ko)
			fin, err := klp.Finalize(linked, klp.FinalizeOptions{Name: "in.ko"})
			if err != nil {
				t.Fatal(err)
			}
			if ckm == "" {
				return
			}
			if msg, err := exec.Command(ckm, ko, final).CombinedOutput(); err != nil || len(msg) > 0 {
				t.Fatalf("create-klp-module: %v %s", err, msg)
			}
			converted++
			if a, b := finalTuples(t, fin), finalTuples(t, read(t, final)); !slices.Equal(a, b) {
				t.Errorf("Finalize says\n%v\ncreate-klp-module\n%v", a, b)
			}
		})
	}
	t.Logf("%d of %d pairs written, %d converted by create-klp-module", written, len(pairs), converted)
}

func finalTuples(t *testing.T, data []byte) []klp.Tuple {
	t.Helper()
	f, err := object.Parse(data, object.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := klp.ReadFinal(f)
	if err != nil {
		t.Fatal(err)
	}
	return p.Tuples()
}

// Objects that recordmcount went over hold a NOP and a relocation of type NONE where the tracer was
// called: the call comes back, and nothing else in its place is taken for it.
func TestKpatchRestoresCall(t *testing.T) {
	nop := func(body, site string) []byte {
		data := make1(t, "a.c", fn("f", body))
		f, err := object.Parse(data, object.Options{})
		if err != nil {
			t.Fatal(err)
		}
		b := object.FromFile(f)
		sec := object.SecID(1)
		s := b.Section(sec)
		s.Data = slices.Clone(s.Data)
		bytes, err := hex.DecodeString(site)
		if err != nil {
			t.Fatal(err)
		}
		copy(s.Data, bytes)
		b.SetSection(sec, s)
		var rels []object.Reloc
		for i := range f.RelocsOf(sec).Len() {
			r := f.RelocsOf(sec).File(i)
			r.Type = elf.R_X86_64_NONE
			rels = append(rels, r)
		}
		b.SetRelocs(sec, rels)
		out, err := b.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	pair := func(site string) Pair {
		a, err := analyze(nop(one, site), "a.o")
		if err != nil {
			t.Fatal(err)
		}
		b, err := analyze(nop(two, site), "b.o")
		if err != nil {
			t.Fatal(err)
		}
		d, err := elfdiff.Diff(context.Background(), a, b, nil)
		if err != nil {
			t.Fatal(err)
		}
		return Pair{Object: "vmlinux", Orig: a, Patched: b, Delta: d}
	}
	plan, err := New(context.Background(), []Pair{pair("0f1f440000")}, Options{Format: elfdiff.FormatKpatch})
	if err != nil {
		t.Fatal(err)
	}
	p, _ := kpatchOut(t, plan)
	rs := p.File.RelocsOf(1)
	if d := p.File.Sections[1].Data; rs.Len() != 1 || d[0] != 0xe8 || binary.LittleEndian.Uint32(d[1:]) != 0 ||
		rs.At(0).Type != pc32 || rs.At(0).Off != 1 || rs.At(0).Addend != -4 {
		t.Errorf("% x, %d relocations", d, rs.Len())
	}
	refused(t, Options{Format: elfdiff.FormatKpatch}, []Pair{pair("6666666690")}, string(diag.MissingFtrace))
}
