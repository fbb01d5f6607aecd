package module

import (
	"bytes"
	"debug/elf"
	"slices"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/pkg/patch"
	"github.com/kdelta/kdelta/reloc"
)

// Kernels before 6.3 leave the relocations of a patch as they are when the module
// that they waited for is unloaded, and then refuse to load that module again,
// since the fields are not zero any more. There the patch zeroes them itself, in
// the callback that the livepatch core makes when the module has gone.
const (
	unrelocText = ".text.klp_unrelocate"
	unrelocData = ".data.klp_unrelocate"
	pokeSet     = "text_poke_set" // writes to read-only code; takes the lock itself
)

// unrelocCode is the callback: for each entry {address, length} of a table, text_poke_set(address, 0, length).
// Where the patch has a callback of its own it is called first. late is the place of the relocation to
// text_poke_set, exit that of the jump to the return thunk (0: none).
func unrelocCode(table, own, thunk object.SymID) (code []byte, rels []object.Reloc, late uint64, exit uint64, rows []frameRow) {
	put := func(b ...byte) { code = append(code, b...) }
	rel := func(t elf.R_X86_64, sym object.SymID, addend int64) {
		rels = append(rels, object.Reloc{Off: uint64(len(code)), Type: t, Sym: sym, Addend: addend})
		put(0, 0, 0, 0)
	}
	rows = append(rows, frameRow{0, 8})
	put(0xf3, 0x0f, 0x1e, 0xfa) // endbr64
	put(0x53)                   // push %rbx
	rows = append(rows, frameRow{uint64(len(code)), 16})
	if own != 0 {
		put(0xe8) // call own; the object is still in %rdi
		rel(elf.R_X86_64_PLT32, own, -4)
	}
	put(0x48, 0xc7, 0xc3) // mov $table, %rbx
	rel(elf.R_X86_64_32S, table, 0)
	loop := len(code)
	put(0x48, 0x8b, 0x3b)       // mov (%rbx), %rdi
	put(0x48, 0x85, 0xff)       // test %rdi, %rdi
	put(0x74, 0x11)             // je end
	put(0x31, 0xf6)             // xor %esi, %esi
	put(0x48, 0x8b, 0x53, 0x08) // mov 8(%rbx), %rdx
	put(0xe8)                   // call text_poke_set
	late = uint64(len(code))
	put(0, 0, 0, 0)
	put(0x48, 0x83, 0xc3, 0x10)         // add $16, %rbx
	put(0xeb, byte(loop-(len(code)+2))) // jmp loop
	put(0x5b)                           // end: pop %rbx
	rows = append(rows, frameRow{uint64(len(code)), 8})
	if thunk == 0 {
		put(0xc3, 0xcc)
		return code, rels, late, 0, rows
	}
	exit = uint64(len(code))
	put(0xe9) // jmp __x86_return_thunk
	rel(elf.R_X86_64_PLT32, thunk, -4)
	put(0xcc)
	return code, rels, late, exit, rows
}

// frameRow says how far the caller's frame is from the stack pointer, from an offset on.
type frameRow struct{ off, size uint64 }

// unrelocate adds the callbacks, and the relocations that they need from the livepatch core.
func (w *writer) unrelocate(parts *patch.Parts, callbacks []klp.Callback) ([]klp.Callback, []klp.Reloc) {
	var names []string
	for i := range parts.Relocs {
		if o := parts.Relocs[i].Object; o != klp.Vmlinux && !slices.Contains(names, o) {
			names = append(names, o)
		}
	}
	if len(names) == 0 {
		return callbacks, nil
	}
	answer := w.k.Symbols.Oracle(klp.Vmlinux).Global(pokeSet)
	if !answer.Known {
		w.fail(diag.NotImplemented, pokeSet, "the kernel keeps relocations of unloaded modules, and has no %s with which a patch could take them back", pokeSet)
		return callbacks, nil
	}
	b := w.b
	data := b.AddSection(object.BuildSection{Name: unrelocData, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_WRITE, Addralign: 8})
	text := b.AddSection(object.BuildSection{Name: unrelocText, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, Addralign: 16})
	sym := func(sec object.SecID) object.SymID {
		if parts.Sections[sec] == 0 {
			parts.Sections[sec] = b.AddSymbol(object.BuildSymbol{Sec: sec, Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_SECTION)})
		}
		return parts.Sections[sec]
	}
	var table, code []byte
	var late []klp.Reloc
	for _, name := range names {
		start := uint64(len(table))
		for i := range parts.Relocs {
			r := &parts.Relocs[i]
			if r.Object != name {
				continue
			}
			info, _ := reloc.Lookup(r.Type)
			b.AddReloc(data, object.Reloc{Off: uint64(len(table)), Type: elf.R_X86_64_64, Sym: sym(r.Sec), Addend: int64(r.Off)})
			table = append(table, make([]byte, 8)...)
			table = le.AppendUint64(table, uint64(info.Size))
		}
		table = append(table, make([]byte, 16)...) // the end
		own := object.SymID(0)
		at := slices.IndexFunc(callbacks, func(c klp.Callback) bool { return c.Object == name && c.Kind == klp.PostUnpatch })
		if at >= 0 {
			own = callbacks[at].Func
		}
		thunk := object.SymID(0)
		if w.k.ReturnThunk {
			thunk = w.undef(returnThunk)
		}
		// NOPs before each, as kernels with call padding ask.
		code = append(code, bytes.Repeat([]byte{0x90}, 16+-len(code)&15)...)
		base := uint64(len(code))
		c, rels, poke, exit, rows := unrelocCode(sym(data), own, thunk)
		for _, r := range rels {
			if r.Type == elf.R_X86_64_32S {
				r.Addend += int64(start)
			}
			r.Off += base
			b.AddReloc(text, r)
		}
		code = append(code, c...)
		late = append(late, klp.Reloc{Object: klp.Vmlinux, Sec: text, Off: base + poke, Type: elf.R_X86_64_PLT32, Addend: -4,
			Symbol: klp.Symbol{Object: klp.Vmlinux, Name: pokeSet, Pos: answer.Pos, Type: elf.STT_FUNC}})
		fn := b.AddSymbol(object.BuildSymbol{Name: "klp_unrelocate_" + name, Sec: text, Value: base, Size: uint64(len(c)), Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_FUNC)})
		if exit != 0 {
			w.entry(returnSites, make([]byte, 4), 4, sym(text), int64(base+exit))
		}
		for i, row := range append(rows, frameRow{uint64(len(c)), 0}) {
			e := make([]byte, 6)
			if i < len(rows) {
				le.PutUint16(e, uint16(row.size))
				e[4], e[5] = orcSP, w.k.UnwindCall
			}
			w.entry(orcIP, make([]byte, 4), 1, sym(text), int64(base+row.off))
			w.entry(orcUnwind, e, 1, 0, 0)
		}
		cb := klp.Callback{Object: name, Kind: klp.PostUnpatch, Func: fn}
		if at >= 0 {
			callbacks = slices.Clone(callbacks)
			callbacks[at] = cb
		} else {
			callbacks = append(callbacks, cb)
		}
	}
	for id, d := range map[object.SecID][]byte{data: table, text: code} {
		s := b.Section(id)
		s.Data = d
		b.SetSection(id, s)
	}
	return callbacks, late
}

// entry appends to a table of the module, which is made when it is not there; sym != 0 puts a PC-relative reference at its start.
func (w *writer) entry(name string, e []byte, align uint64, sym object.SymID, addend int64) {
	id := object.SecID(0)
	for i := 1; i < w.b.NumSections() && id == 0; i++ {
		if w.b.Section(object.SecID(i)).Name == name {
			id = object.SecID(i)
		}
	}
	if id == 0 {
		id = w.b.AddSection(object.BuildSection{Name: name, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Addralign: align})
	}
	s := w.b.Section(id)
	if sym != 0 {
		w.b.AddReloc(id, object.Reloc{Off: uint64(len(s.Data)), Type: elf.R_X86_64_PC32, Sym: sym, Addend: addend})
	}
	s.Data = append(slices.Clone(s.Data), e...)
	w.b.SetSection(id, s)
}
