package patch

import (
	"debug/elf"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
)

const mcountLoc = "__mcount_loc"

// replaces reports whether an atom is the body of a function that replaces one of the original.
func (pp *pairPlan) replaces(a elfdiff.AtomID) bool {
	u := pp.Patched.Atoms[a].Unit
	return u != 0 && pp.Patched.Units[u].Main == a && pp.Delta.AtomStatus[a] == elfdiff.Changed
}

// kpatch adds what kpatch's intermediate form has beside code and data. Functions
// that replace others are local, so that other objects of the patch's module reach
// the original, which the kernel redirects.
func (p *Plan) kpatch(b *object.Builder, parts []*emitter, sections map[object.SecID]object.SymID) {
	t := &klp.KpatchTables{Parent: p.pairs[0].Object}
	n := 0
	for _, e := range parts {
		e.relocs(func(r *outReloc) {
			t.Relocs = append(t.Relocs, klp.KpatchReloc{Reloc: e.klp(r), Bind: r.klp.bind, Src: vmlinuxAddr(r.klp.Object, r.klp.addr),
				External: r.klp.exported && r.klp.Object != klp.Vmlinux})
		})
		for _, f := range e.pp.funcs {
			size := f.answer.Size
			if size == 0 {
				size = e.pp.Orig.File.Symbols[f.orig].Size
			}
			t.Funcs = append(t.Funcs, klp.KpatchFunc{
				Func:    klp.Func{Name: f.name, Pos: f.answer.Pos, New: e.syms[f.sym]},
				Object:  e.pp.Object,
				NewSize: e.pp.Patched.File.Symbols[f.sym].Size,
				OldAddr: f.answer.Addr,
				OldSize: size,
			})
		}
		t.Callbacks = append(t.Callbacks, e.callbacks()...)
		for _, a := range e.pp.force {
			t.Force = append(t.Force, e.syms[e.pp.Patched.Atoms[a].Sym])
		}
		n += len(e.pp.sites)
		for i := range e.pp.sections {
			if p.opts.LateKlp && afterKlp(e.pp.Patched.File.Sections[e.pp.sections[i].src].Name) {
				t.Arch = append(t.Arch, klp.KpatchArch{Sec: e.secs[i], Object: e.pp.Object})
			}
		}
	}
	p.modinfo(b)
	klp.Kpatch(b, t, sections)
	if n == 0 {
		return
	}
	// One pointer for each function that calls the tracer, where it does.
	sec := b.AddSection(object.BuildSection{Name: mcountLoc, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Addralign: 8, Entsize: 8, Data: make([]byte, 8*n)})
	off := uint64(0)
	for _, e := range parts {
		for _, s := range e.pp.sites {
			b.AddReloc(sec, object.Reloc{Off: off, Type: elf.R_X86_64_64, Sym: e.syms[e.pp.Patched.Atoms[s.fn].Sym], Addend: int64(s.off)})
			off += 8
		}
	}
}

// afterKlp reports whether kernels before 5.8 can be made to read a table after they have resolved
// the patch's symbols: create-klp-module turns what .kpatch.arch lists into .klp.arch sections.
func afterKlp(section string) bool {
	return section == ".altinstructions" || section == ".parainstructions"
}

// vmlinuxAddr is an address as kpatch's form has it: those of modules mean nothing.
func vmlinuxAddr(object string, addr uint64) uint64 {
	if object != klp.Vmlinux {
		return 0
	}
	return addr
}
