package patch

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
)

// fuzzCases are fixtures that bring tables, cold parts, statics, strings and pointers.
var fuzzCases = []string{"cold-grow/gcc", "alt-two/gcc", "extable/gcc", "func-pointer/gcc", "string-tail/as", "static-local-new/gcc", "jump-table/gcc", "bug-flags/gcc", "static-key-new/gcc", "pfx-merged/as", "unknown-table/gcc", "alias/gcc", "merged-grow/gcc"}

// FuzzPatch changes both builds of an object. Whatever comes in, there is no
// panic, a patch is refused with diagnostics or written in every form, and what is written can be read.
func FuzzPatch(f *testing.F) {
	type base struct{ orig, patched []byte }
	var bases []base
	for _, n := range fuzzCases {
		var b base
		var err error
		if b.orig, err = os.ReadFile(cases + "/" + n + ".ORIG.o"); err != nil {
			f.Fatal(err)
		}
		if b.patched, err = os.ReadFile(cases + "/" + n + ".PATCHED.o"); err != nil {
			f.Fatal(err)
		}
		bases = append(bases, b)
	}
	ips := def{sec: ".orc_unwind_ip", code: "00000000 00000000", typ: elf.STT_OBJECT, rels: []rel{{0, pc32, "f", 0}, {4, pc32, "f", 5}}}
	orc := def{sec: ".orc_unwind", code: "080000000500 100000000500", typ: elf.STT_OBJECT}
	force := datum("__kpatch_force_func_f", ".kpatch.force", pointer, rel{0, abs64, "f", 0})
	sites := def{sec: ".static_call_sites", code: "00000000 00000000", typ: elf.STT_OBJECT, rels: []rel{{0, pc32, "f", 5}, {4, pc32, "__SCK__go", 1}}}
	bases = append(bases, base{
		make1(f, "a.c", fn("f", call, rel{1, plt32, "g", -4}), ips, orc, sites),
		make1(f, "a.c", fn("f", call+"90", rel{1, plt32, "g", -4}), ips, orc, sites, static(fn("pre", two)), kpatchCB("pre_patch", "pre"), klpCB("post_patch", "vmlinux", "pre"), force)})
	for i := range bases {
		f.Add(uint8(i), []byte{}, []byte{})
		f.Add(uint8(i), []byte{}, []byte{0x40, 0, 0, 0, 1})
		f.Add(uint8(i), []byte{0x60, 0, 0, 0, 0xff}, []byte{0x90, 0, 0, 0, 0x80})
	}
	mutate := func(data, edits []byte) []byte {
		out := bytes.Clone(data)
		for ; len(edits) >= 5; edits = edits[5:] {
			out[binary.LittleEndian.Uint32(edits)%uint32(len(out))] ^= edits[4]
		}
		return out
	}
	f.Fuzz(func(t *testing.T, which uint8, ea, eb []byte) {
		if len(ea) > 100 || len(eb) > 100 {
			return
		}
		b := bases[int(which)%len(bases)]
		orig, err := analyze(mutate(b.orig, ea), "a.o")
		if err != nil {
			return
		}
		patched, err := analyze(mutate(b.patched, eb), "b.o")
		if err != nil {
			return
		}
		d, err := elfdiff.Diff(context.Background(), orig, patched, nil)
		if err != nil {
			return
		}
		pairs := []Pair{{Object: "vmlinux", Orig: orig, Patched: patched, Delta: d}}
		for _, opts := range []Options{{}, {Format: elfdiff.FormatKpatch, Partial: true, LateKlp: true}, {Format: elfdiff.FormatModule}} {
			plan, err := New(context.Background(), pairs, opts)
			if err != nil {
				if e := (*diag.Error)(nil); !errors.As(err, &e) || !diag.HasErrors(e.Diagnostics) {
					t.Fatalf("%T: %v", err, err)
				}
				continue
			}
			plan.Contents()
			if opts.Format == elfdiff.FormatModule {
				plan.Into(object.NewBuilder(object.Header{}))
				continue
			}
			data, err := plan.Bytes()
			if err != nil {
				continue // names and flags that an object cannot have twice
			}
			out, err := object.Parse(data, object.Options{})
			if err != nil {
				t.Fatal(err)
			}
			read := klp.ReadIntermediate
			if opts.Format == elfdiff.FormatKpatch {
				read = klp.ReadKpatch
			}
			if _, err := read(out); err != nil {
				t.Logf("%v", err) // a name that the kernel could not read
			}
		}
	})
}
