// Package klp writes the livepatch metadata of a patch object.
//
// The form is the intermediate one of the kernel's own build (Linux 6.19 and
// later: scripts/livepatch, Documentation/livepatch): the object holds ordinary
// relocations against placeholder symbols, tables of what the patch replaces, and
// lists of relocations for the livepatch core; the build links it and turns the
// lists into .klp.rela sections.
package klp

import (
	"debug/elf"
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/kdelta/kdelta/pkg/object"
)

// Vmlinux is the name of the kernel itself among objects.
const Vmlinux = "vmlinux"

// Names of the intermediate form (include/linux/livepatch_external.h).
const (
	SecObjects = ".init.klp_objects"
	SecFuncs   = ".init.klp_funcs"
	SecStrings = ".rodata.klp.str1.1"
	SecRelocs  = "__klp_relocs." // + object
	// SecCallbacks holds the pointers that the macros of include/linux/livepatch_helpers.h leave in the objects
	// that a patch is made from: __klp_KIND_callback_OBJECT.
	SecCallbacks = ".discard.klp_callback_ptrs"
	SymPrefix    = ".klp.sym."
	Tombstone    = ".klp.tombstone."

	objectSize = 64 // struct klp_object_ext
	funcSize   = 24 // struct klp_func_ext
	relocSize  = 24 // struct klp_reloc
)

// Func is a function that a patch replaces.
type Func struct {
	Name string       // as the running kernel has it
	Pos  uint64       // among symbols of that name in the object: 0 the name is unique, n the n-th
	New  object.SymID // the replacement, in the Builder
}

// Object is what a patch replaces in the kernel or one module.
type Object struct {
	Name  string // Vmlinux, or a module's name with '_' for '-'
	Funcs []Func
}

// Reloc is a relocation that the livepatch core resolves.
type Reloc struct {
	Object string       // whose loading makes it possible to resolve: Vmlinux or a module
	Sec    object.SecID // section of the patch that it applies to
	Off    uint64
	Type   elf.R_X86_64
	Addend int64
	Symbol Symbol
}

// Symbol is a symbol of the running kernel.
type Symbol struct {
	Object string // that has it
	Name   string
	Pos    uint64
	Type   elf.SymType
}

// String gives the symbol's name in a patch, for example ".klp.sym.vmlinux.foo,0"
// (Documentation/livepatch/module-elf-format.rst).
func (s Symbol) String() string {
	return SymPrefix + s.Object + "." + s.Name + "," + strconv.FormatUint(s.Pos, 10)
}

// Intermediate adds the metadata of upstream's intermediate form to b: for each
// relocation the one against a placeholder and the record of what it means, for
// each object the functions and callbacks. Symbols are shared between relocations. An
// object that has callbacks alone must be among objects as well. sections
// holds the section symbols that b already has, by section; those made here are added.
func Intermediate(b *object.Builder, objects []Object, relocs []Reloc, callbacks []Callback, sections map[object.SecID]object.SymID) {
	w := writer{b: b, strings: []byte{0}, offsets: map[string]uint64{}, symbols: map[string]object.SymID{}, sections: sections}
	w.relocs(relocs)
	w.objects(objects, callbacks)
}

type writer struct {
	b        *object.Builder
	strings  []byte
	offsets  map[string]uint64
	symbols  map[string]object.SymID
	sections map[object.SecID]object.SymID // section symbols
}

func (w *writer) sectionSymbol(s object.SecID) object.SymID {
	if id, ok := w.sections[s]; ok {
		return id
	}
	id := w.b.AddSymbol(object.BuildSymbol{Sec: s, Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_SECTION)})
	w.sections[s] = id
	return id
}

func (w *writer) weak(name string, t elf.SymType) object.SymID {
	if id, ok := w.symbols[name]; ok {
		return id
	}
	id := w.b.AddSymbol(object.BuildSymbol{Name: name, Info: elf.ST_INFO(elf.STB_WEAK, t)})
	w.symbols[name] = id
	return id
}

func (w *writer) string(s string) int64 {
	off, ok := w.offsets[s]
	if !ok {
		off = uint64(len(w.strings))
		w.offsets[s] = off
		w.strings = append(append(w.strings, s...), 0)
	}
	return int64(off)
}

// relocs writes one __klp_relocs section per object, in the order in which objects first appear.
func (w *writer) relocs(relocs []Reloc) {
	type list struct {
		sec  object.SecID
		data []byte
	}
	var lists []*list
	byObject := make(map[string]*list)
	for _, r := range relocs {
		l := byObject[r.Object]
		if l == nil {
			l = &list{sec: w.b.AddSection(object.BuildSection{Name: SecRelocs + r.Object, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Addralign: 8})}
			byObject[r.Object] = l
			lists = append(lists, l)
		}
		w.b.AddReloc(r.Sec, object.Reloc{Off: r.Off, Type: r.Type, Addend: r.Addend, Sym: w.weak(Tombstone+r.Symbol.Name, elf.STT_NOTYPE)})
		at := uint64(len(l.data))
		l.data = append(l.data, make([]byte, relocSize)...)
		binary.LittleEndian.PutUint32(l.data[at+16:], uint32(r.Type))
		w.b.AddReloc(l.sec, object.Reloc{Off: at, Type: elf.R_X86_64_64, Sym: w.sectionSymbol(r.Sec), Addend: int64(r.Off)})
		w.b.AddReloc(l.sec, object.Reloc{Off: at + 8, Type: elf.R_X86_64_64, Sym: w.weak(r.Symbol.String(), r.Symbol.Type), Addend: r.Addend})
	}
	for _, l := range lists {
		w.fill(l.sec, l.data)
	}
}

func (w *writer) objects(objects []Object, callbacks []Callback) {
	strs := w.b.AddSection(object.BuildSection{Name: SecStrings, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_MERGE | elf.SHF_STRINGS, Addralign: 1, Entsize: 1})
	objs := w.b.AddSection(object.BuildSection{Name: SecObjects, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Addralign: 1, Entsize: objectSize})
	funcs := w.b.AddSection(object.BuildSection{Name: SecFuncs, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Addralign: 1, Entsize: funcSize})
	od := make([]byte, objectSize*len(objects))
	var fd []byte
	abs := func(sec object.SecID, off int, sym object.SymID, addend int64) {
		w.b.AddReloc(sec, object.Reloc{Off: uint64(off), Type: elf.R_X86_64_64, Sym: sym, Addend: addend})
	}
	for i, o := range objects {
		at := i * objectSize
		if o.Name != Vmlinux {
			abs(objs, at, w.sectionSymbol(strs), w.string(o.Name))
		}
		abs(objs, at+8, w.sectionSymbol(funcs), int64(len(fd)))
		for _, c := range callbacks {
			if c.Object == o.Name {
				abs(objs, at+16+8*int(c.Kind), c.Func, 0)
			}
		}
		binary.LittleEndian.PutUint32(od[at+56:], uint32(len(o.Funcs)))
		for _, f := range o.Funcs {
			at := len(fd)
			fd = append(fd, make([]byte, funcSize)...)
			abs(funcs, at, w.sectionSymbol(strs), w.string(f.Name))
			abs(funcs, at+8, f.New, 0)
			binary.LittleEndian.PutUint64(fd[at+16:], f.Pos)
		}
	}
	w.fill(strs, w.strings)
	w.fill(objs, od)
	w.fill(funcs, fd)
}

func (w *writer) fill(sec object.SecID, data []byte) {
	s := w.b.Section(sec)
	s.Data = data
	w.b.SetSection(sec, s)
}

// ModuleName gives the name by which the kernel knows a module: the file's base name without suffix, with '_' for '-'.
func ModuleName(file string) string {
	if i := strings.LastIndexByte(file, '/'); i >= 0 {
		file = file[i+1:]
	}
	if i := strings.IndexByte(file, '.'); i > 0 {
		file = file[:i]
	}
	return strings.ReplaceAll(file, "-", "_")
}
