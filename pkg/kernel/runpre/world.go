package runpre

import (
	"debug/elf"
	"fmt"
	"sort"
	"strings"

	"github.com/kdelta/kdelta/pkg/internal/checked"
	"github.com/kdelta/kdelta/pkg/kernel/image"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/reloc"
	"github.com/kdelta/kdelta/symbols"
)

// world is what an object is compared with: symbols and contents at addresses.
type world interface {
	first(name string) int // a symbol of that name, -1
	next(i int) int
	at(i int) (addr uint64, local bool)
	same(a, b uint64) bool               // whether two addresses are one
	named(name string, addr uint64) bool // whether a symbol of that name lies there
	bytes(addr uint64, n int) []byte
	// target reads the reference at an address: where it leads, addend included, or
	// the name and addend of what is defined elsewhere.
	target(addr uint64, t elf.R_X86_64, field []byte) (to uint64, name string, addend int64, ok bool)
	// references gives how many references are within n bytes, -1 when the world is linked and has none.
	references(addr uint64, n int) int
	describe(addr uint64) string
	table(section string) (addr, size uint64)            // of a table that the link makes of those of all objects
	evidence(l *symbols.Located, id object.SymID, i int) // that symbol id of the object is symbol i
}

// manyNames is how many symbols of one name are gone through before an address is looked up instead.
const manyNames = 16

// vmlinux is the kernel's image.
type vmlinux struct{ k *image.Kernel }

func (v *vmlinux) first(name string) int { return v.k.First(name) }
func (v *vmlinux) next(i int) int        { return v.k.Next(i) }
func (v *vmlinux) at(i int) (uint64, bool) {
	s := &v.k.Symbols[i]
	return s.Addr, s.Type >= 'a' && s.Type != 'w' && s.Type != 'v' && s.Type != 'u'
}
func (v *vmlinux) bytes(addr uint64, n int) []byte { return v.k.Bytes(addr, n) }
func (v *vmlinux) references(uint64, int) int      { return -1 }

// same compares the low halves: the others follow from where the kernel is, except for per-CPU symbols, which code refers to in either way.
func (v *vmlinux) same(a, b uint64) bool { return uint32(a) == uint32(b) }

func (v *vmlinux) named(name string, addr uint64) bool {
	n := 0
	for i := v.k.First(name); i >= 0; i = v.k.Next(i) {
		if v.same(v.k.Symbols[i].Addr, addr) {
			return true
		}
		if n++; n == manyNames {
			// The kernel is in the highest 2 GiB, the per-CPU area in the lowest where it is not in the kernel.
			lo, hi := v.k.SymbolsAt(uint64(int64(int32(addr))))
			for ; lo < hi; lo++ {
				if v.k.Symbols[lo].Name == name {
					return true
				}
			}
			return false
		}
	}
	return false
}

func (v *vmlinux) evidence(l *symbols.Located, id object.SymID, i int) {
	l.Addr[id] = v.k.Symbols[i].Addr
}

func (v *vmlinux) target(addr uint64, t elf.R_X86_64, field []byte) (uint64, string, int64, bool) {
	to, err := reloc.Target(field, t, addr)
	if err != nil {
		return 0, "", 0, false
	}
	if to>>32 == 0 && to >= 1<<31 { // zero-extended: the kernel lies in the highest 2 GiB
		to |= 0xffffffff << 32
	}
	return to, "", 0, true
}

func (v *vmlinux) table(section string) (uint64, uint64) {
	if s := v.k.Section(section); s != nil {
		return s.Addr, s.Size
	}
	name := strings.TrimPrefix(section, ".")
	from, ok := v.k.Addr("__start_" + name)
	to, ok2 := v.k.Addr("__stop_" + name)
	if !ok || !ok2 || to < from {
		return 0, 0
	}
	return from, to - from
}

func (v *vmlinux) describe(addr uint64) string {
	i := v.k.Nearest(addr)
	if i < 0 {
		return fmt.Sprintf("%#x", addr)
	}
	// The first of those at one address is as good as any, and does not depend on the search.
	lo, _ := v.k.SymbolsAt(v.k.Symbols[i].Addr)
	return plus(v.k.Symbols[lo].Name, addr-v.k.Symbols[lo].Addr)
}

func plus(name string, off uint64) string {
	if off == 0 {
		return name
	}
	return fmt.Sprintf("%s+%#x", name, off)
}

// module is a module's file. Its sections get addresses far apart, so that what lies at an address is never in doubt.
type module struct {
	m      *image.Module
	byName map[string]int32
	chain  []int32
	sorted []object.SymID // by address
}

// sectionShift is the bits of an address that count within a section.
const sectionShift = 40

func newModule(m *image.Module) *module {
	f := m.File
	w := &module{m: m, byName: make(map[string]int32, len(f.Symbols)), chain: make([]int32, len(f.Symbols))}
	for i := len(f.Symbols) - 1; i > 0; i-- {
		s := &f.Symbols[i]
		w.chain[i] = -1
		if s.Sec == 0 || s.Name == "" || s.Type() == elf.STT_SECTION || s.Type() == elf.STT_FILE {
			continue
		}
		if j, ok := w.byName[s.Name]; ok {
			w.chain[i] = j
		}
		w.byName[s.Name] = int32(i)
		w.sorted = append(w.sorted, object.SymID(i))
	}
	sort.Slice(w.sorted, func(a, b int) bool {
		x, y := w.addr(w.sorted[a]), w.addr(w.sorted[b])
		if x != y {
			return x < y
		}
		return w.sorted[a] < w.sorted[b]
	})
	return w
}

func (w *module) addr(id object.SymID) uint64 {
	s := &w.m.File.Symbols[id]
	return sectionAddr(s.Sec) + s.Value
}

func sectionAddr(sec object.SecID) uint64 { return uint64(sec) << sectionShift }

// split gives the section and offset of an address; off may lie outside the section.
func split(addr uint64) (object.SecID, int64) {
	sec := (addr + 1<<(sectionShift-1)) >> sectionShift
	return object.SecID(sec), int64(addr - sec<<sectionShift)
}

func (w *module) first(name string) int {
	if i, ok := w.byName[name]; ok {
		return int(i)
	}
	return -1
}
func (w *module) next(i int) int { return int(w.chain[i]) }
func (w *module) at(i int) (uint64, bool) {
	return w.addr(object.SymID(i)), w.m.File.Symbols[i].Bind() == elf.STB_LOCAL
}

func (w *module) same(a, b uint64) bool { return a == b }

func (w *module) section(addr uint64) (sec *object.Section, id object.SecID, off uint64, ok bool) {
	id, o := split(addr)
	if id == 0 || uint64(id) >= uint64(len(w.m.File.Sections)) || o < 0 {
		return nil, 0, 0, false
	}
	sec = &w.m.File.Sections[id]
	return sec, id, uint64(o), sec.Alloc()
}

func (w *module) named(name string, addr uint64) bool {
	n := 0
	for i := w.first(name); i >= 0; i = w.next(i) {
		if w.addr(object.SymID(i)) == addr {
			return true
		}
		if n++; n == manyNames {
			k := sort.Search(len(w.sorted), func(i int) bool { return w.addr(w.sorted[i]) >= addr })
			for ; k < len(w.sorted) && w.addr(w.sorted[k]) == addr; k++ {
				if w.m.File.Symbols[w.sorted[k]].Name == name {
					return true
				}
			}
			return false
		}
	}
	return false
}

func (w *module) evidence(l *symbols.Located, id object.SymID, i int) { l.Entry[id] = int32(i) }

func (w *module) bytes(addr uint64, n int) []byte {
	s, _, off, ok := w.section(addr)
	if !ok || n < 0 {
		return nil
	}
	b, _ := checked.Slice(s.Data, off, uint64(n))
	return b
}

func (w *module) references(addr uint64, n int) int {
	_, id, off, ok := w.section(addr)
	if !ok {
		return 0
	}
	rel := w.m.File.RelocsOf(id)
	lo, hi := rel.Range(off, off+uint64(n))
	count := 0
	for i := lo; i < hi; i++ {
		if rel.At(i).Type != elf.R_X86_64_NONE {
			count++
		}
	}
	return count
}

func (w *module) target(addr uint64, t elf.R_X86_64, field []byte) (uint64, string, int64, bool) {
	_, id, off, ok := w.section(addr)
	if !ok {
		return 0, "", 0, false
	}
	rel := w.m.File.RelocsOf(id)
	lo, hi := rel.Range(off, off+1)
	for ; lo < hi; lo++ {
		r := rel.At(lo)
		if r.Type == elf.R_X86_64_NONE {
			continue
		}
		if !sameField(r.Type, t) || uint64(r.Sym) >= uint64(len(w.m.File.Symbols)) {
			return 0, "", 0, false
		}
		s := &w.m.File.Symbols[r.Sym]
		if s.Sec == 0 {
			return 0, s.Name, r.Addend, true
		}
		return sectionAddr(s.Sec) + s.Value + uint64(r.Addend), "", 0, true
	}
	// What was one section when the module was built needs no relocation within it.
	if i, ok := reloc.Lookup(t); !ok || !i.PCRel {
		return 0, "", 0, false
	}
	to, err := reloc.Target(field, t, addr)
	return to, "", 0, err == nil
}

// sameField reports whether two relocation types mean the same where the symbol is known: compilers choose between PC32 and PLT32 by binding.
func sameField(a, b elf.R_X86_64) bool {
	if a == elf.R_X86_64_PLT32 {
		a = elf.R_X86_64_PC32
	}
	if b == elf.R_X86_64_PLT32 {
		b = elf.R_X86_64_PC32
	}
	return a == b
}

func (w *module) table(section string) (uint64, uint64) {
	for i := range w.m.File.Sections {
		if s := &w.m.File.Sections[i]; s.Name == section && s.Type == elf.SHT_PROGBITS {
			return sectionAddr(object.SecID(i)), s.Size
		}
	}
	return 0, 0
}

func (w *module) describe(addr uint64) string {
	id, off := split(addr)
	i := sort.Search(len(w.sorted), func(i int) bool { return w.addr(w.sorted[i]) > addr }) - 1
	if i >= 0 {
		if s := &w.m.File.Symbols[w.sorted[i]]; s.Sec == id {
			return plus(s.Name, addr-w.addr(w.sorted[i]))
		}
	}
	if id != 0 && uint64(id) < uint64(len(w.m.File.Sections)) {
		return fmt.Sprintf("%s%+#x", w.m.File.Sections[id].Name, off)
	}
	return fmt.Sprintf("%#x", addr)
}
