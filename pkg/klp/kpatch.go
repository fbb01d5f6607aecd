package klp

import (
	"debug/elf"
	"encoding/binary"
	"strings"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
)

// Names of kpatch's intermediate form.
const (
	KpatchFuncsSection     = ".kpatch.funcs"
	KpatchSymbolsSection   = ".kpatch.symbols"
	KpatchRelocsSection    = ".kpatch.relocations"
	KpatchStringsSection   = ".kpatch.strings"
	KpatchArchSection      = ".kpatch.arch"
	KpatchForceSection     = ".kpatch.force"
	KpatchCallbacksSection = ".kpatch.callbacks." // + kind

	kpatchFuncSize     = 56
	kpatchSymbolSize   = 40
	kpatchRelocSize    = 40
	kpatchArchSize     = 16
	kpatchCallbackSize = 16
	kpatchForceSize    = 8
)

// KpatchFunc is an entry of .kpatch.funcs.
type KpatchFunc struct {
	Func
	Object  string // that holds the function
	NewSize uint64 // st_size of the replacement
	OldAddr uint64 // st_value of the function in the object's symbol table: an address for vmlinux, an offset for modules
	OldSize uint64
}

// KpatchReloc is an entry of .kpatch.relocations with that of .kpatch.symbols that it leads to.
type KpatchReloc struct {
	Reloc
	Bind     elf.SymBind // that the symbol gets in the final form
	Src      uint64      // address of the symbol for vmlinux, 0 for modules
	External bool        // a module exports the symbol
}

// KpatchArch says that a section holds entries for an object that kernels before 5.8 apply when it is loaded.
type KpatchArch struct {
	Sec    object.SecID
	Object string
}

// KpatchTables is all that kpatch's intermediate form says.
type KpatchTables struct {
	Parent    string // the object that was compared; the first string
	Funcs     []KpatchFunc
	Relocs    []KpatchReloc
	Callbacks []Callback
	Force     []object.SymID // functions that the patch may replace though a task is in them
	Arch      []KpatchArch
}

// Kpatch adds the metadata of kpatch's intermediate form to b, as kpatch's own
// create-diff-object lays it out and create-klp-module takes it. The ordinary
// relocations that t.Relocs stand for must not be in b, and the functions that
// t.Funcs replace are best local. Sections for callbacks, .kpatch.force and
// .kpatch.arch are made only when there is something in them. sections is as for Intermediate.
//
// create-klp-module cuts names of more than 255 bytes (".klp.sym." and ".klp.rela."
// with what follows) without a word; Finalize does not.
func Kpatch(b *object.Builder, t *KpatchTables, sections map[object.SecID]object.SymID) {
	w := kpatchWriter{writer: writer{b: b, offsets: map[string]uint64{}, sections: sections}}
	w.strs = w.b.AddSection(object.BuildSection{Name: KpatchStringsSection, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Addralign: 1, Entsize: 1})
	if t.Parent != "" {
		w.string(t.Parent)
	}
	w.funcs(t.Funcs)
	w.kpatchRelocs(t.Relocs)
	if len(t.Arch) > 0 {
		sec, rela := w.table(KpatchArchSection, kpatchArchSize, elf.SHF_ALLOC)
		for i, a := range t.Arch {
			w.pointer(rela, i*kpatchArchSize, w.sectionSymbol(a.Sec), 0)
			w.name(rela, i*kpatchArchSize+8, a.Object)
		}
		w.fill(sec, make([]byte, kpatchArchSize*len(t.Arch)))
	}
	for k := range numCallbacks {
		w.callbacks(k, t.Callbacks)
	}
	if len(t.Force) > 0 {
		sec, rela := w.table(KpatchForceSection, 0, elf.SHF_ALLOC|elf.SHF_WRITE)
		for i, fn := range t.Force {
			w.pointer(rela, i*kpatchForceSize, fn, 0)
		}
		w.fill(sec, make([]byte, kpatchForceSize*len(t.Force)))
	}
	w.fill(w.strs, w.strings)
}

type kpatchWriter struct {
	writer
	strs object.SecID
}

// table makes a section with its relocation section beside it.
func (w *kpatchWriter) table(name string, entsize uint64, flags elf.SectionFlag) (sec, rela object.SecID) {
	sec = w.b.AddSection(object.BuildSection{Name: name, Type: elf.SHT_PROGBITS, Flags: flags, Addralign: 8, Entsize: entsize})
	rela = w.b.AddSection(object.BuildSection{Name: ".rela" + name, Type: elf.SHT_RELA, Flags: elf.SHF_INFO_LINK, Addralign: 8, Entsize: 24, Info: uint32(sec)})
	return sec, rela
}

func (w *kpatchWriter) pointer(rela object.SecID, off int, sym object.SymID, addend int64) {
	w.b.AddReloc(rela, object.Reloc{Off: uint64(off), Type: elf.R_X86_64_64, Sym: sym, Addend: addend})
}

func (w *kpatchWriter) name(rela object.SecID, off int, s string) {
	w.pointer(rela, off, w.sectionSymbol(w.strs), w.string(s))
}

func (w *kpatchWriter) funcs(funcs []KpatchFunc) {
	sec, rela := w.table(KpatchFuncsSection, kpatchFuncSize, elf.SHF_ALLOC)
	data := make([]byte, kpatchFuncSize*len(funcs))
	for i := range funcs {
		f, at := &funcs[i], i*kpatchFuncSize
		for j, v := range []uint64{f.NewSize, f.OldAddr, f.OldSize, f.Pos} {
			binary.LittleEndian.PutUint64(data[at+8+8*j:], v)
		}
		w.pointer(rela, at, f.New, 0)
		w.name(rela, at+40, f.Name)
		w.name(rela, at+48, f.Object)
	}
	w.fill(sec, data)
}

func (w *kpatchWriter) kpatchRelocs(relocs []KpatchReloc) {
	ksec, krela := w.table(KpatchRelocsSection, kpatchRelocSize, elf.SHF_ALLOC)
	ssec, srela := w.table(KpatchSymbolsSection, kpatchSymbolSize, elf.SHF_ALLOC)
	kdata, sdata := make([]byte, kpatchRelocSize*len(relocs)), make([]byte, kpatchSymbolSize*len(relocs))
	for i := range relocs {
		r, at := &relocs[i], i*kpatchRelocSize // the sizes are equal, and so are the indices
		binary.LittleEndian.PutUint64(sdata[at:], r.Src)
		binary.LittleEndian.PutUint64(sdata[at+8:], r.Symbol.Pos)
		sdata[at+16], sdata[at+17] = byte(r.Bind), byte(r.Symbol.Type)
		w.name(srela, at+24, r.Symbol.Name)
		w.name(srela, at+32, r.Symbol.Object)

		binary.LittleEndian.PutUint32(kdata[at+8:], uint32(r.Type))
		if r.External {
			binary.LittleEndian.PutUint32(kdata[at+12:], 1)
		}
		binary.LittleEndian.PutUint64(kdata[at+16:], uint64(r.Addend))
		w.pointer(krela, at, w.sectionSymbol(r.Sec), int64(r.Off))
		w.name(krela, at+24, r.Object)
		w.pointer(krela, at+32, w.sectionSymbol(ssec), int64(at))
	}
	w.fill(ksec, kdata)
	w.fill(ssec, sdata)
}

func (w *kpatchWriter) callbacks(k CallbackKind, all []Callback) {
	var sec, rela object.SecID
	n := 0
	for _, c := range all {
		if c.Kind != k {
			continue
		}
		if n == 0 {
			// As the compiler makes it of the macro's variable.
			sec, rela = w.table(KpatchCallbacksSection+k.String(), 0, elf.SHF_ALLOC|elf.SHF_WRITE)
		}
		w.pointer(rela, n, c.Func, 0)
		w.name(rela, n+8, c.Object)
		n += kpatchCallbackSize
	}
	if n > 0 {
		w.fill(sec, make([]byte, n))
	}
}

// ReadKpatch reads kpatch's intermediate form, from what was written as an object
// or from a module linked of several. What only this form says is in Patch.Kpatch.
// A file without any of it gives an empty Patch. The error is as that of ReadIntermediate.
func ReadKpatch(f *object.File) (*Patch, error) {
	r := newReader(f)
	if r.relocatable() {
		r.kpatchObjects()
		r.kpatchRelocs()
		r.kpatchArch()
	}
	return r.result()
}

func (r *reader) kpatchTables() *KpatchTables {
	if r.p.Kpatch == nil {
		r.p.Kpatch = &KpatchTables{}
	}
	return r.p.Kpatch
}

// kpatchObjects reads what stays in the final form: functions, callbacks, force.
func (r *reader) kpatchObjects() {
	for sec := range r.f.Named(KpatchStringsSection) {
		d := r.f.Sections[sec].Data
		t := r.kpatchTables()
		if s, ok := object.StringAt(d[:min(len(d), MaxObjectName+1)], 0, 1); ok {
			if name := string(s[:len(s)-1]); checkObject(name) == nil {
				t.Parent = name
			}
		}
		break // the first one counts
	}
	for sec := range r.f.Named(KpatchFuncsSection) {
		n, _ := r.entries(sec, kpatchFuncSize)
		data := r.f.Sections[sec].Data
		for i := 0; i < n && !r.full(); i++ {
			at := uint64(i) * kpatchFuncSize
			s, ok := r.pointers(sec, at, kpatchFuncSize, 0, 40, 48)
			if !ok {
				continue
			}
			fn, ok1 := r.function(sec, s[0])
			name, ok2 := r.symbolName(sec, s[1])
			obj, ok3 := r.objectName(sec, s[2])
			if !ok1 || !ok2 || !ok3 {
				continue
			}
			word := func(off uint64) uint64 { return binary.LittleEndian.Uint64(data[at+off:]) }
			kf := KpatchFunc{Func: Func{Name: name, Pos: word(32), New: fn}, Object: obj, NewSize: word(8), OldAddr: word(16), OldSize: word(24)}
			o := r.object(obj)
			r.p.Objects[o].Funcs = append(r.p.Objects[o].Funcs, kf.Func)
			t := r.kpatchTables()
			t.Funcs = append(t.Funcs, kf)
		}
	}
	for k := range numCallbacks {
		for sec := range r.f.Named(KpatchCallbacksSection + k.String()) {
			n := r.closed(sec, kpatchCallbackSize)
			for i := 0; i < n && !r.full(); i++ {
				s, ok := r.pointers(sec, uint64(i)*kpatchCallbackSize, kpatchCallbackSize, 0, 8)
				if !ok {
					continue
				}
				fn, ok1 := r.function(sec, s[0])
				obj, ok2 := r.objectName(sec, s[1])
				if ok1 && ok2 {
					r.object(obj)
					r.p.Callbacks = append(r.p.Callbacks, Callback{Object: obj, Kind: k, Func: fn})
				}
			}
		}
	}
	for i := range r.f.Sections {
		name := r.f.Sections[i].Name
		if kind, ok := strings.CutPrefix(name, KpatchCallbacksSection); ok {
			if _, known := ParseCallbackKind(kind); !known {
				r.fail(diag.KlpMalformed, name, 0, "no callback of the kernel is called %s", quote(kind))
			}
		}
	}
	for sec := range r.f.Named(KpatchForceSection) {
		n := r.closed(sec, kpatchForceSize)
		for i := 0; i < n && !r.full(); i++ {
			if s, ok := r.pointers(sec, uint64(i)*kpatchForceSize, kpatchForceSize, 0); ok {
				if fn, ok := r.function(sec, s[0]); ok {
					t := r.kpatchTables()
					t.Force = append(t.Force, fn)
				}
			}
		}
	}
	if len(r.p.Callbacks) > 0 && r.p.Kpatch != nil {
		r.p.Kpatch.Callbacks = r.p.Callbacks
	}
}

// closed is entries for sections that kpatch's linker script ends with a null
// pointer, so that the linker keeps them where nothing is in them.
func (r *reader) closed(sec object.SecID, size uint64) int {
	s := &r.f.Sections[sec]
	n := uint64(len(s.Data))
	if s.Type == elf.SHT_PROGBITS && n >= 8 && (n-8)%size == 0 && binary.LittleEndian.Uint64(s.Data[n-8:]) == 0 {
		if lo, hi := r.f.RelocsOf(sec).Range(n-8, n); lo == hi {
			return int((n - 8) / size)
		}
	}
	c, _ := r.entries(sec, size)
	return c
}

// pointers is slots for entries of which every pointer must be there.
func (r *reader) pointers(sec object.SecID, at, size uint64, offs ...uint64) ([8]*object.Reloc, bool) {
	s, ok := r.slots(sec, at, size, offs...)
	for i := 0; ok && i < len(offs); i++ {
		if s[i] == nil {
			r.fail(diag.KlpMalformed, r.name(sec), at+offs[i], "a pointer without relocation")
			ok = false
		}
	}
	return s, ok
}

// ksym is an entry of .kpatch.symbols.
type ksym struct {
	Symbol
	bind elf.SymBind
	src  uint64
	used bool
}

func (r *reader) ksyms() map[object.SecID][]*ksym {
	all := make(map[object.SecID][]*ksym)
	for sec := range r.f.Named(KpatchSymbolsSection) {
		n, _ := r.entries(sec, kpatchSymbolSize)
		list := make([]*ksym, n) // nil: faulty, which was said
		data := r.f.Sections[sec].Data
		for i := 0; i < n && !r.full(); i++ {
			at := uint64(i) * kpatchSymbolSize
			s, ok := r.pointers(sec, at, kpatchSymbolSize, 24, 32)
			if !ok {
				continue
			}
			name, ok1 := r.symbolName(sec, s[0])
			obj, ok2 := r.objectName(sec, s[1])
			if !ok1 || !ok2 {
				continue
			}
			k := &ksym{Symbol: Symbol{Object: obj, Name: name, Pos: binary.LittleEndian.Uint64(data[at+8:]), Type: elf.SymType(data[at+17])},
				bind: elf.SymBind(data[at+16]), src: binary.LittleEndian.Uint64(data[at:])}
			if k.bind > elf.STB_WEAK || !namable(k.Type) {
				r.fail(diag.KlpMalformed, r.name(sec), at+16, "a symbol of binding %v and type %v", k.bind, k.Type)
				continue
			}
			list[i] = k
		}
		all[sec] = list
	}
	return all
}

func (r *reader) kpatchRelocs() {
	ksyms := r.ksyms()
	for sec := range r.f.Named(KpatchRelocsSection) {
		n, _ := r.entries(sec, kpatchRelocSize)
		data := r.f.Sections[sec].Data
		for i := 0; i < n && !r.full(); i++ {
			at := uint64(i) * kpatchRelocSize
			s, ok := r.pointers(sec, at, kpatchRelocSize, 0, 24, 32)
			if !ok {
				continue
			}
			tsec, off, ok1 := r.target(sec, s[0])
			obj, ok2 := r.objectName(sec, s[1])
			ksec, koff, ok3 := r.target(sec, s[2])
			if !ok1 || !ok2 || !ok3 {
				continue
			}
			list, isSyms := ksyms[ksec]
			if !isSyms || koff%kpatchSymbolSize != 0 || koff/kpatchSymbolSize >= uint64(len(list)) {
				r.fail(diag.KlpMalformed, r.name(sec), at+32, "a pointer to %s+0x%x, which is not an entry of %s", r.name(ksec), koff, KpatchSymbolsSection)
				continue
			}
			k := list[koff/kpatchSymbolSize]
			if k == nil {
				continue
			}
			k.used = true
			ext := binary.LittleEndian.Uint32(data[at+12:])
			if ext > 1 {
				r.fail(diag.KlpMalformed, r.name(sec), at+12, "external is 0x%x, neither 0 nor 1", ext)
				continue
			}
			rel := KpatchReloc{
				Reloc: Reloc{Object: obj, Sec: tsec, Off: off, Type: elf.R_X86_64(binary.LittleEndian.Uint32(data[at+8:])),
					Addend: int64(binary.LittleEndian.Uint64(data[at+16:])), Symbol: k.Symbol},
				Bind: k.bind, Src: k.src, External: ext == 1,
			}
			if r.checkReloc(sec, at, &rel.Reloc) {
				t := r.kpatchTables()
				t.Relocs = append(t.Relocs, rel)
				r.p.Relocs = append(r.p.Relocs, rel.Reloc)
			}
		}
	}
	for sec := range r.f.Named(KpatchSymbolsSection) {
		for i, k := range ksyms[sec] {
			if k != nil && !k.used {
				r.fail(diag.KlpMalformed, r.name(sec), uint64(i)*kpatchSymbolSize, "a symbol (%s) that no entry of %s leads to", quote(k.Name), KpatchRelocsSection)
			}
		}
	}
}

func (r *reader) kpatchArch() {
	for sec := range r.f.Named(KpatchArchSection) {
		n, _ := r.entries(sec, kpatchArchSize)
		for i := 0; i < n && !r.full(); i++ {
			s, ok := r.pointers(sec, uint64(i)*kpatchArchSize, kpatchArchSize, 0, 8)
			if !ok {
				continue
			}
			tsec, _, ok1 := r.target(sec, s[0])
			obj, ok2 := r.objectName(sec, s[1])
			if ok1 && ok2 {
				t := r.kpatchTables()
				t.Arch = append(t.Arch, KpatchArch{Sec: tsec, Object: obj})
			}
		}
	}
}
