// Package synth makes pairs of objects that look like a kernel's, of any size and
// with one axis at a time stretched, for benchmarks and tests of how time grows.
// The same shape gives the same bytes. Kernel makes up a kernel that objects belong to.
package synth

import (
	"debug/elf"
	"encoding/binary"
	"fmt"

	"github.com/kdelta/kdelta/pkg/object"
)

// Shape says how much of what an object holds. The zero value of a field stands for
// none of it; every object has at least one function.
type Shape struct {
	// Functions, each in a section of its own with a relocation section, a string and an entry of __bug_table; every
	// fourth has a variable that points at it. 20 of them make a source file. An object has about 2.6 sections for each.
	Functions int
	// Statics are variables of one name in one source file, each in a section of its own and used by a function of its own.
	Statics int
	// Relocs are references of one function.
	Relocs int
	// Entries are entries of __bug_table that belong to one function.
	Entries int
}

const perFile = 20

// Pair makes the original and the patched object: a number in one function differs
// (function_0, or big where that has references or entries).
func Pair(s Shape) (orig, patched []byte, err error) {
	if orig, err = build(s, 1); err != nil {
		return nil, nil, err
	}
	patched, err = build(s, 2)
	return orig, patched, err
}

type builder struct {
	*object.Builder
	strings, table object.SecID
	stringsSym     object.SymID
	text, bugs     []byte // contents of strings and table
	callee         []object.SymID
}

func build(s Shape, version uint32) ([]byte, error) {
	b := &builder{Builder: object.NewBuilder(object.Header{})}
	b.strings = b.AddSection(object.BuildSection{Name: ".rodata.str1.1", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_MERGE | elf.SHF_STRINGS, Addralign: 1, Entsize: 1})
	b.stringsSym = b.sectionSym(b.strings)
	b.table = b.AddSection(object.BuildSection{Name: "__bug_table", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_WRITE, Addralign: 1})
	b.text = append(b.text, "kernel/synth.c\x00"...)
	for i := range 16 {
		b.callee = append(b.callee, b.AddSymbol(object.BuildSymbol{Name: fmt.Sprintf("callee_%d", i), Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_NOTYPE)}))
	}
	n := max(s.Functions, 1)
	for i := range n {
		if i%perFile == 0 {
			b.file(fmt.Sprintf("dir%d/file%d.c", i/perFile%64, i/perFile))
		}
		number := uint32(i)
		if i == 0 && s.Relocs+s.Entries == 0 {
			number = version << 20
		}
		b.function(i, number)
	}
	if s.Statics > 0 {
		b.file("statics.c")
		for i := range s.Statics {
			b.static(i)
		}
	}
	if s.Relocs+s.Entries > 0 {
		b.file("big.c")
		b.big(s.Relocs, s.Entries, version)
	}
	for sec, data := range map[object.SecID][]byte{b.strings: b.text, b.table: b.bugs} {
		with := b.Section(sec)
		with.Data = data
		b.SetSection(sec, with)
	}
	return b.Bytes()
}

func (b *builder) sectionSym(sec object.SecID) object.SymID {
	return b.AddSymbol(object.BuildSymbol{Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_SECTION), Sec: sec})
}

func (b *builder) file(name string) {
	b.AddSymbol(object.BuildSymbol{Name: name, Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_FILE), Shndx: elf.SHN_ABS})
}

// code adds a section with a function that is all of it.
func (b *builder) code(name string, data []byte, bind elf.SymBind) object.SecID {
	sec := b.AddSection(object.BuildSection{Name: ".text." + name, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, Addralign: 16, Data: data})
	b.AddSymbol(object.BuildSymbol{Name: name, Info: elf.ST_INFO(bind, elf.STT_FUNC), Sec: sec, Size: uint64(len(data))})
	return sec
}

func (b *builder) reloc(sec object.SecID, off int, typ elf.R_X86_64, sym object.SymID, addend int64) {
	b.AddReloc(sec, object.Reloc{Off: uint64(off), Type: typ, Sym: sym, Addend: addend})
}

// bug adds an entry of __bug_table for a place in a section of code: address, file, line, flags.
func (b *builder) bug(code object.SymID, at int64, line uint16) {
	off := len(b.bugs)
	b.bugs = append(b.bugs, 0, 0, 0, 0, 0, 0, 0, 0)
	b.bugs = binary.LittleEndian.AppendUint16(b.bugs, line)
	b.bugs = binary.LittleEndian.AppendUint16(b.bugs, 0x901)
	b.reloc(b.table, off, elf.R_X86_64_PC32, code, at)
	b.reloc(b.table, off+4, elf.R_X86_64_PC32, b.stringsSym, 0)
}

func (b *builder) function(i int, number uint32) {
	d := []byte{0x55, // push %rbp
		0xe8, 0, 0, 0, 0, // call
		0x48, 0xc7, 0xc7, 0, 0, 0, 0, // mov $string,%rdi
		0xb8, 0, 0, 0, 0, // mov $number,%eax
		0x0f, 0x0b, // ud2
		0x5d, 0xc3} // pop %rbp; ret
	binary.LittleEndian.PutUint32(d[14:], number)
	name := fmt.Sprintf("function_%d", i)
	bind := elf.STB_LOCAL
	if i%4 == 0 {
		bind = elf.STB_GLOBAL
	}
	sec := b.code(name, d, bind)
	b.reloc(sec, 2, elf.R_X86_64_PLT32, b.callee[i%len(b.callee)], -4)
	b.reloc(sec, 9, elf.R_X86_64_32S, b.stringsSym, int64(len(b.text)))
	b.text = fmt.Appendf(b.text, "function %d says %%d\n\x00", i)
	sym := b.sectionSym(sec)
	b.bug(sym, 18, uint16(i))
	if i%4 == 0 {
		ops := b.AddSection(object.BuildSection{Name: fmt.Sprintf(".data.ops_%d", i), Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_WRITE, Addralign: 8, Data: make([]byte, 16)})
		b.AddSymbol(object.BuildSymbol{Name: fmt.Sprintf("ops_%d", i), Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_OBJECT), Sec: ops, Size: 16})
		b.reloc(ops, 8, elf.R_X86_64_64, sym, 0)
	}
}

func (b *builder) static(i int) {
	sec := b.AddSection(object.BuildSection{Name: ".bss.state", Type: elf.SHT_NOBITS, Flags: elf.SHF_ALLOC | elf.SHF_WRITE, Addralign: 8, Size: 8})
	state := b.AddSymbol(object.BuildSymbol{Name: "state", Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_OBJECT), Sec: sec, Size: 8})
	d := []byte{0x48, 0x8b, 0x05, 0, 0, 0, 0, // mov state(%rip),%rax
		0xc3}
	f := b.code(fmt.Sprintf("user_%d", i), d, elf.STB_LOCAL)
	b.reloc(f, 3, elf.R_X86_64_PC32, state, -4)
}

// big adds one function with many calls and many entries, and a number at its end that differs between the versions.
func (b *builder) big(calls, entries int, version uint32) {
	d := make([]byte, 0, 5*calls+2*entries+6)
	for range calls {
		d = append(d, 0xe8, 0, 0, 0, 0)
	}
	for range entries {
		d = append(d, 0x0f, 0x0b)
	}
	d = append(d, 0xb8)
	d = binary.LittleEndian.AppendUint32(d, version)
	d = append(d, 0xc3)
	sec := b.code("big", d, elf.STB_GLOBAL)
	for i := range calls {
		b.reloc(sec, 5*i+1, elf.R_X86_64_PLT32, b.callee[i%len(b.callee)], -4)
	}
	sym := b.sectionSym(sec)
	for i := range entries {
		b.bug(sym, int64(5*calls+2*i), uint16(i))
	}
}
