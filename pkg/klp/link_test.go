package klp

import (
	"debug/elf"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kdelta/kdelta/pkg/object"
)

// moduleScript merges sections as the kernel's module linker script does.
const moduleScript = `SECTIONS {
	.init.klp_funcs 0 : ALIGN(8) { KEEP(*(.init.klp_funcs)) }
	.init.klp_objects 0 : ALIGN(8) { KEEP(*(.init.klp_objects)) }
	.text 0 : { *(.text .text.[0-9a-zA-Z_]*) }
	.data 0 : { *(.data .data.[0-9a-zA-Z_]*) }
	.rodata 0 : { *(.rodata .rodata.[0-9a-zA-Z_]*) }
	/DISCARD/ : { *(.discard .discard.*) }
}`

// Objects of upstream's form, compiled with a section for each function, linked as the kernel's build links modules.
func TestModuleLinkerScript(t *testing.T) {
	ld := tool(t, "ld")
	dir := t.TempDir()
	write(t, filepath.Join(dir, "module.lds"), []byte(moduleScript))
	args := []string{"-r", "-T", filepath.Join(dir, "module.lds"), "-o", filepath.Join(dir, "out.ko")}
	var want []Tuple
	for i, prefix := range []string{"x", "y", "z"} {
		x := newFixture(prefix)
		if i == 0 {
			x.module()
		}
		s := x.b.Section(x.text)
		s.Name = ".text." + prefix + "_fn"
		x.b.SetSection(x.text, s)
		name := filepath.Join(dir, prefix+".o")
		write(t, name, x.klp(t))
		args = append(args, name)
		for _, tu := range modelTuples(x) {
			switch tu.Section {
			case ".data.rel":
				tu.Section, tu.Off = ".data", tu.Off+32*uint64(i)
			default:
				tu.Section, tu.Off = ".text", tu.Off+64*uint64(i)
			}
			want = append(want, tu)
		}
	}
	slices.SortFunc(want, compareTuples)
	run(t, ld, args...)
	d, err := os.ReadFile(filepath.Join(dir, "out.ko"))
	if err != nil {
		t.Fatal(err)
	}
	linked := must(t, ReadIntermediate, d)
	same(t, "linked", linked.Tuples(), want)
	if n := len(linked.Objects); n != 2 {
		t.Errorf("%d objects, want vmlinux and mod_a, each once", n)
	}
	l := DefaultLayout()
	l.ModuleInit, l.ModuleExit = 312, 1200
	for _, opts := range []FinalizeOptions{{}, {Layout: l}} {
		p := checkFinal(t, finalize(t, d, opts))
		same(t, "final", p.Tuples(), want)
		if n := len(section(t, p.File, ".klp.rela.vmlinux..text").Data); n != 3*2*24 {
			t.Errorf("%d bytes of relocations", n)
		}
	}
}

// kpatchScript keeps empty sections with a null pointer, as kpatch's linker script for the module does.
const kpatchScript = `SECTIONS {
	.kpatch.funcs : { *(.kpatch.funcs) }
	.kpatch.callbacks.pre_patch : { start = . ; *(.kpatch.callbacks.pre_patch) stop = . ; QUAD(0); }
	.kpatch.callbacks.post_patch : { *(.kpatch.callbacks.post_patch) QUAD(0); }
	.kpatch.force : { *(.kpatch.force) QUAD(0); }
}`

func TestKpatchLinkerScript(t *testing.T) {
	ld := tool(t, "ld")
	dir := t.TempDir()
	write(t, filepath.Join(dir, "kpatch.lds"), []byte(kpatchScript))
	args := []string{"-r", "-T", filepath.Join(dir, "kpatch.lds"), "-o", filepath.Join(dir, "out.ko")}
	for _, prefix := range []string{"x", "y"} {
		x := newFixture(prefix)
		x.tables.Callbacks = []Callback{{Vmlinux, PrePatch, x.cb}}
		x.tables.Force = []object.SymID{x.fn, x.cb}
		name := filepath.Join(dir, prefix+".o")
		write(t, name, x.kpatch(t))
		args = append(args, name)
	}
	run(t, ld, args...)
	d, err := os.ReadFile(filepath.Join(dir, "out.ko"))
	if err != nil {
		t.Fatal(err)
	}
	p := must(t, ReadKpatch, d)
	if len(p.Callbacks) != 2 || len(p.Kpatch.Force) != 4 || len(p.Relocs) != 8 {
		t.Errorf("%d callbacks, %d forced, %d relocations", len(p.Callbacks), len(p.Kpatch.Force), len(p.Relocs))
	}
	same(t, "final", checkFinal(t, finalize(t, d, FinalizeOptions{})).Tuples(), p.Tuples())
}

// Ordinary relocations that have nothing to do with the livepatch core stay as they are, in their order.
func TestOrdinaryRelocsStay(t *testing.T) {
	d := newFixture("x").module().klp(t)
	before := must(t, ReadIntermediate, d)
	after := must(t, ReadFinal, finalize(t, d, FinalizeOptions{}))
	list := func(f *object.File) (out []object.Reloc, names []string) {
		rels := f.Relocs(section(t, f, ".text").Rela)
		for i := range rels.Len() {
			e := rels.File(i)
			if s := &f.Symbols[e.Sym]; s.Sec != 0 {
				names = append(names, f.SymName(e.Sym))
				e.Sym = 0
				out = append(out, e)
			}
		}
		return out, names
	}
	r1, n1 := list(before.File)
	r2, n2 := list(after.File)
	same(t, "relocations", r2, r1)
	same(t, "symbols", n2, n1)
	if len(r1) != 1 || r1[0].Type != elf.R_X86_64_PC32 {
		t.Errorf("%v", r1)
	}
}

// Position 0 and objects without functions survive; a patch without relocations for the livepatch core is a patch.
func TestNoRelocs(t *testing.T) {
	for _, kpatch := range []bool{false, true} {
		x := newFixture("x").module()
		x.relocs, x.tables.Relocs = nil, nil
		var d []byte
		if kpatch {
			d = x.kpatch(t)
		} else {
			d = x.klp(t)
		}
		p := checkFinal(t, finalize(t, d, FinalizeOptions{}))
		if len(p.Relocs) != 0 || len(p.Objects) != 2 {
			t.Errorf("%+v", p)
		}
	}
}

func BenchmarkFinalize(b *testing.B) {
	x := newFixture("x").module()
	const n = 20000
	big := x.b.AddSection(object.BuildSection{Name: ".text.big", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, Data: make([]byte, 16*n)})
	for i := range n {
		x.relocs = append(x.relocs, Reloc{Object: Vmlinux, Sec: big, Off: 16 * uint64(i), Type: elf.R_X86_64_PC32, Addend: -4,
			Symbol: Symbol{Object: Vmlinux, Name: "s" + string(rune('a'+i%26)) + string(rune('a'+i/26%26)), Pos: uint64(i % 7)}})
	}
	d := x.klp(b)
	b.SetBytes(int64(len(d)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Finalize(d, FinalizeOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
