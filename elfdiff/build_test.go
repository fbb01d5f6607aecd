package elfdiff_test

import (
	"context"
	"debug/elf"
	"encoding/binary"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/elfdiff/internal/testutil"
	"github.com/kdelta/kdelta/pkg/object"
)

// asm makes an object section by section. Symbols are made when they are first
// named: undefined until a section defines them.
type asm struct {
	t    *testing.T
	b    *object.Builder
	syms map[string]object.SymID
	secs map[string]object.SecID
	sec  object.SecID
	buf  []byte
}

func newAsm(t *testing.T) *asm {
	return &asm{t: t, b: object.NewBuilder(object.Header{}), syms: map[string]object.SymID{}, secs: map[string]object.SecID{}}
}

const (
	text   = elf.SHF_ALLOC | elf.SHF_EXECINSTR
	rodata = elf.SHF_ALLOC
	data   = elf.SHF_ALLOC | elf.SHF_WRITE
	strs   = elf.SHF_ALLOC | elf.SHF_MERGE | elf.SHF_STRINGS
)

// section starts a new section, with a section symbol of its name.
func (a *asm) section(name string, flags elf.SectionFlag) {
	a.flush()
	s := object.BuildSection{Name: name, Type: elf.SHT_PROGBITS, Flags: flags, Addralign: 16}
	if flags&elf.SHF_STRINGS != 0 {
		s.Addralign, s.Entsize = 1, 1
	}
	a.sec, a.buf = a.b.AddSection(s), nil
	a.secs[name] = a.sec
	if _, ok := a.syms[name]; !ok {
		a.syms[name] = a.b.AddSymbol(object.BuildSymbol{})
	}
	a.b.SetSymbol(a.syms[name], object.BuildSymbol{Sec: a.sec, Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_SECTION)})
}

func (a *asm) flush() {
	if a.sec != 0 {
		s := a.b.Section(a.sec)
		s.Data = a.buf
		a.b.SetSection(a.sec, s)
	}
}

// fileSym starts the block of a source file: local symbols that follow belong to it.
func (a *asm) fileSym(name string) {
	a.b.AddSymbol(object.BuildSymbol{Name: name, Shndx: elf.SHN_ABS, Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_FILE)})
}

// ref gives the symbol of a name: an undefined one if nothing defines it later.
func (a *asm) ref(name string) object.SymID {
	id, ok := a.syms[name]
	if !ok {
		id = a.b.AddSymbol(object.BuildSymbol{Name: name, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_NOTYPE)})
		a.syms[name] = id
	}
	return id
}

// label defines a symbol here with a size (of what is still to come).
func (a *asm) label(name string, size int, bind elf.SymBind, typ elf.SymType) {
	s := object.BuildSymbol{Name: name, Value: uint64(len(a.buf)), Size: uint64(size), Sec: a.sec, Info: elf.ST_INFO(bind, typ)}
	if id, ok := a.syms[name]; ok && a.b.Symbol(id).Sec == 0 {
		a.b.SetSymbol(id, s)
		return
	}
	a.syms[name] = a.b.AddSymbol(s)
}

// whole makes the section up to here one function.
func (a *asm) whole(name string, bind elf.SymBind) {
	code := a.buf
	a.buf = nil
	a.label(name, len(code), bind, elf.STT_FUNC)
	a.buf = code
}

func (a *asm) raw(b ...byte) *asm { a.buf = append(a.buf, b...); return a }

func (a *asm) u32(v uint32) *asm { a.buf = binary.LittleEndian.AppendUint32(a.buf, v); return a }

func (a *asm) u16(v uint16) *asm { a.buf = binary.LittleEndian.AppendUint16(a.buf, v); return a }

// field is a relocated field of 4 or 8 zero bytes.
func (a *asm) field(typ elf.R_X86_64, sym string, addend int64) *asm {
	a.b.AddReloc(a.sec, object.Reloc{Off: uint64(len(a.buf)), Type: typ, Sym: a.ref(sym), Addend: addend})
	n := 4
	if typ == elf.R_X86_64_64 {
		n = 8
	}
	a.buf = append(a.buf, make([]byte, n)...)
	return a
}

func (a *asm) call(sym string) *asm { return a.raw(0xe8).field(elf.R_X86_64_PLT32, sym, -4) }

// lea loads the address of sym+off into rdi or rsi.
func (a *asm) lea(modrm byte, sym string, off int64) *asm {
	return a.raw(0x48, 0x8d, modrm).field(elf.R_X86_64_PC32, sym, off-4)
}

const (
	toRDI = 0x3d
	toRSI = 0x35
)

func (a *asm) movESI(v uint32) *asm { return a.raw(0xbe).u32(v) }
func (a *asm) movEDX(v uint32) *asm { return a.raw(0xba).u32(v) }

// str adds a string to a section and gives its offset.
func (a *asm) str(s string) int64 {
	n := int64(len(a.buf))
	a.raw([]byte(s)...)
	a.raw(0)
	return n
}

// bytes gives the object.
func (a *asm) bytes() []byte {
	a.t.Helper()
	a.flush()
	d, err := a.b.Bytes()
	if err != nil {
		a.t.Fatal(err)
	}
	return d
}

// file gives the object as it is read back.
func (a *asm) file() *object.File {
	a.t.Helper()
	f, err := object.Parse(a.bytes(), object.Options{Name: "t.o"})
	if err != nil {
		a.t.Fatal(err)
	}
	return f
}

// graphBy gives the graph by rules of the test's own.
func (a *asm) graphBy(tables ...elfdiff.Table) *elfdiff.Graph {
	a.t.Helper()
	g, err := elfdiff.Analyze(context.Background(), a.file(), &elfdiff.Rules{Tables: tables})
	if err != nil {
		a.t.Fatal(err)
	}
	return g
}

func (a *asm) graph() *elfdiff.Graph {
	a.t.Helper()
	g, err := testutil.Analyze(a.bytes(), "t.o")
	if err != nil {
		a.t.Fatal(err)
	}
	for _, f := range structure(g) {
		a.t.Error(f)
	}
	return g
}
