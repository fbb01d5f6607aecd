// Package elfmut changes ELF objects the way a hostile or broken producer would: a
// field of a header, a section, a symbol, a relocation or a group at a time, with values
// that are near what is allowed, so that changes get past the first checks.
package elfmut

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"github.com/kdelta/kdelta/pkg/object"
)

var le = binary.LittleEndian

const (
	shdrSize, symSize, relaSize = 64, 24, 24
)

// Subject is an object that is well-formed, and where its parts lie.
type Subject struct {
	file   *object.File
	shoff  uint64
	relas  []object.SecID
	groups []object.SecID
	loaded []object.SecID // with contents
	strs   []object.SecID
}

// New parses the object that mutants are made of.
func New(name string, data []byte) (*Subject, error) {
	f, err := object.Parse(data, object.Options{Name: name})
	if err != nil {
		return nil, err
	}
	s := &Subject{file: f, shoff: le.Uint64(data[40:])}
	for i := range f.Sections {
		sec := &f.Sections[i]
		id := object.SecID(i)
		switch {
		case len(sec.Data) == 0:
		case sec.Type == elf.SHT_RELA:
			s.relas = append(s.relas, id)
		case sec.Type == elf.SHT_GROUP:
			s.groups = append(s.groups, id)
		case sec.Type == elf.SHT_STRTAB:
			s.strs = append(s.strs, id)
		case sec.Alloc():
			s.loaded = append(s.loaded, id)
		}
	}
	return s, nil
}

// Data is the object as it is.
func (s *Subject) Data() []byte { return s.file.Data }

// Mutant gives a copy with 1 to 4 changes, and what they are.
func (s *Subject) Mutant(r *rand.Rand) (data []byte, what string) {
	data = bytes.Clone(s.file.Data)
	for range 1 + r.IntN(4)*r.IntN(2) {
		k := kinds[r.IntN(len(kinds))]
		w := k(s, data, r)
		if w == "" {
			w = s.contents(data, r)
		}
		what += w + "; "
	}
	switch r.IntN(40) { // the file itself: cut short, or with something behind it
	case 0:
		n := r.IntN(len(data))
		data, what = data[:n], what+fmt.Sprintf("cut to %d; ", n)
	case 1:
		data, what = append(data, make([]byte, r.IntN(4096))...), what+"longer; "
	}
	return data, what
}

// kinds are listed as often as they shall be drawn; one that does not apply gives "".
var kinds = []func(*Subject, []byte, *rand.Rand) string{
	(*Subject).header, (*Subject).section, (*Subject).section, (*Subject).section, (*Subject).swapSections, (*Subject).copySection,
	(*Subject).symbol, (*Subject).symbol, (*Subject).symbol, (*Subject).swapSymbols,
	(*Subject).reloc, (*Subject).reloc, (*Subject).reloc, (*Subject).reloc, (*Subject).swapRelocs,
	(*Subject).group, (*Subject).str, (*Subject).contents, (*Subject).contents, (*Subject).move,
}

// value gives a number of so many bytes that is likely to matter where old stands and limit is the first that is too much.
func value(r *rand.Rand, size int, old, limit uint64) uint64 {
	var v uint64
	switch r.IntN(12) {
	case 0:
		v = 0
	case 1:
		v = 1
	case 2:
		v = limit
	case 3:
		v = limit - 1
	case 4:
		v = limit + 1
	case 5:
		v = ^uint64(0) - r.Uint64N(32)
	case 6:
		v = 1 << r.IntN(64)
	case 7:
		v = old ^ 1<<r.IntN(8*size)
	case 8:
		v = old + r.Uint64N(65) - 32
	case 9:
		v = old * 2
	case 10:
		v = r.Uint64N(limit + 1)
	default:
		v = 1<<(8*size-1) - 1 + r.Uint64N(3) // where the sign changes
	}
	return v
}

func get(b []byte, size int) uint64 {
	switch size {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(le.Uint16(b))
	case 4:
		return uint64(le.Uint32(b))
	}
	return le.Uint64(b)
}

func put(b []byte, size int, v uint64) {
	switch size {
	case 1:
		b[0] = byte(v)
	case 2:
		le.PutUint16(b, uint16(v))
	case 4:
		le.PutUint32(b, uint32(v))
	default:
		le.PutUint64(b, v)
	}
}

// field is a field of a structure: where it lies, its size and its name.
type field struct {
	off, size int
	name      string
}

var (
	headerFields = []field{{4, 1, "class"}, {5, 1, "data"}, {16, 2, "type"}, {18, 2, "machine"}, {24, 8, "entry"}, {32, 8, "phoff"}, {40, 8, "shoff"},
		{48, 4, "flags"}, {52, 2, "ehsize"}, {54, 2, "phentsize"}, {56, 2, "phnum"}, {58, 2, "shentsize"}, {60, 2, "shnum"}, {62, 2, "shstrndx"}}
	sectionFields = []field{{0, 4, "name"}, {4, 4, "type"}, {8, 8, "flags"}, {16, 8, "addr"}, {24, 8, "offset"}, {32, 8, "size"}, {40, 4, "link"}, {44, 4, "info"},
		{48, 8, "addralign"}, {56, 8, "entsize"}}
	symbolFields = []field{{0, 4, "name"}, {4, 1, "info"}, {5, 1, "other"}, {6, 2, "shndx"}, {8, 8, "value"}, {16, 8, "size"}}
	relocFields  = []field{{0, 8, "offset"}, {8, 4, "type"}, {12, 4, "symbol"}, {16, 8, "addend"}}
)

// set changes one field of the structure at an offset of the file.
func set(data []byte, at uint64, f field, v uint64, of string) string {
	b := data[at+uint64(f.off):]
	old := get(b, f.size)
	put(b, f.size, v)
	return fmt.Sprintf("%s: %s 0x%x -> 0x%x", of, f.name, old, get(b, f.size))
}

func (s *Subject) header(data []byte, r *rand.Rand) string {
	f := headerFields[r.IntN(len(headerFields))]
	limit := uint64(len(s.file.Sections))
	if f.name == "shoff" {
		limit = uint64(len(data))
	}
	return set(data, 0, f, value(r, f.size, get(data[f.off:], f.size), limit), "header")
}

// shdr gives where the header of a section lies.
func (s *Subject) shdr(id object.SecID) uint64 { return s.shoff + uint64(id)*shdrSize }

func (s *Subject) anySection(r *rand.Rand) object.SecID {
	return object.SecID(r.IntN(len(s.file.Sections)))
}

func (s *Subject) section(data []byte, r *rand.Rand) string {
	id := s.anySection(r)
	f := sectionFields[r.IntN(len(sectionFields))]
	at := s.shdr(id)
	old, limit := get(data[at+uint64(f.off):], f.size), uint64(len(data))
	sec := &s.file.Sections[id]
	v := uint64(0)
	switch f.name {
	case "link", "info":
		limit = uint64(len(s.file.Sections))
	case "type":
		limit = 20
	case "name":
		limit = s.file.Sections[s.file.Header.Shstrndx].Size
	case "addralign", "entsize":
		limit = sec.Size
	case "flags":
		v = old ^ 1<<r.IntN(12)
	}
	switch {
	case f.name == "flags" && r.IntN(4) != 0:
	case r.IntN(4) == 0: // what another section has there
		v = get(data[s.shdr(s.anySection(r))+uint64(f.off):], f.size)
	default:
		v = value(r, f.size, old, limit)
	}
	return set(data, at, f, v, "section "+sec.Name)
}

func swap(data []byte, a, b uint64, n int) {
	x := bytes.Clone(data[a : a+uint64(n)])
	copy(data[a:a+uint64(n)], data[b:b+uint64(n)])
	copy(data[b:], x)
}

func (s *Subject) swapSections(data []byte, r *rand.Rand) string {
	a, b := s.anySection(r), s.anySection(r)
	swap(data, s.shdr(a), s.shdr(b), shdrSize)
	return fmt.Sprintf("sections %d and %d swapped", a, b)
}

func (s *Subject) copySection(data []byte, r *rand.Rand) string {
	a, b := s.anySection(r), s.anySection(r)
	copy(data[s.shdr(a):s.shdr(a)+shdrSize], data[s.shdr(b):])
	return fmt.Sprintf("section %d a copy of %d", a, b)
}

// sym gives where a symbol lies.
func (s *Subject) sym(i int) uint64 {
	return s.file.Sections[s.file.Symtab].Offset + uint64(i)*symSize
}

func (s *Subject) symbol(data []byte, r *rand.Rand) string {
	n := len(s.file.Symbols)
	if n == 0 {
		return ""
	}
	i := r.IntN(n)
	f := symbolFields[r.IntN(len(symbolFields))]
	at := s.sym(i)
	old, limit := get(data[at+uint64(f.off):], f.size), uint64(256)
	switch f.name {
	case "name":
		limit = s.file.Sections[s.file.Sections[s.file.Symtab].Link].Size
	case "shndx":
		limit = uint64(len(s.file.Sections))
	case "value", "size":
		limit = s.file.Sections[s.file.Symbols[i].Sec].Size
	}
	v := value(r, f.size, old, limit)
	if r.IntN(4) == 0 { // what another symbol has there
		v = get(data[s.sym(r.IntN(n))+uint64(f.off):], f.size)
	}
	return set(data, at, f, v, "symbol "+s.file.Symbols[i].Name)
}

func (s *Subject) swapSymbols(data []byte, r *rand.Rand) string {
	n := len(s.file.Symbols)
	if n < 3 {
		return ""
	}
	a, b := 1+r.IntN(n-1), 1+r.IntN(n-1)
	swap(data, s.sym(a), s.sym(b), symSize)
	return fmt.Sprintf("symbols %d and %d swapped", a, b)
}

// rela draws a relocation and gives its section and where it lies.
func (s *Subject) rela(r *rand.Rand) (*object.Section, uint64) {
	if len(s.relas) == 0 {
		return nil, 0
	}
	sec := &s.file.Sections[s.relas[r.IntN(len(s.relas))]]
	return sec, sec.Offset + uint64(r.IntN(len(sec.Data)/relaSize))*relaSize
}

func (s *Subject) reloc(data []byte, r *rand.Rand) string {
	sec, at := s.rela(r)
	if sec == nil {
		return ""
	}
	f := relocFields[r.IntN(len(relocFields))]
	old, limit := get(data[at+uint64(f.off):], f.size), s.file.Sections[sec.Info].Size
	switch f.name {
	case "symbol":
		limit = uint64(len(s.file.Symbols))
	case "type":
		limit = 43
	}
	v := value(r, f.size, old, limit)
	if r.IntN(4) == 0 { // what another relocation has there
		_, other := s.rela(r)
		v = get(data[other+uint64(f.off):], f.size)
	}
	return set(data, at, f, v, "relocation in "+sec.Name)
}

func (s *Subject) swapRelocs(data []byte, r *rand.Rand) string {
	sec, a := s.rela(r)
	if sec == nil {
		return ""
	}
	other, b := s.rela(r)
	swap(data, a, b, relaSize)
	return "relocations of " + sec.Name + " and " + other.Name + " swapped"
}

func (s *Subject) group(data []byte, r *rand.Rand) string {
	if len(s.groups) == 0 {
		return ""
	}
	sec := &s.file.Sections[s.groups[r.IntN(len(s.groups))]]
	f := field{4 * r.IntN(len(sec.Data)/4), 4, "word"}
	return set(data, sec.Offset, f, value(r, 4, get(data[sec.Offset+uint64(f.off):], 4), uint64(len(s.file.Sections))), "group")
}

// str changes a byte of a string table: names run into each other, end early, or are those of other things.
func (s *Subject) str(data []byte, r *rand.Rand) string {
	if len(s.strs) == 0 {
		return ""
	}
	sec := &s.file.Sections[s.strs[r.IntN(len(s.strs))]]
	f := field{r.IntN(len(sec.Data)), 1, "byte"}
	return set(data, sec.Offset, f, []uint64{0, '.', 'x', '_', 0xff, '0'}[r.IntN(6)], "names in "+sec.Name)
}

// contents changes a byte or a number of what is loaded.
func (s *Subject) contents(data []byte, r *rand.Rand) string {
	if len(s.loaded) == 0 {
		return "nothing"
	}
	sec := &s.file.Sections[s.loaded[r.IntN(len(s.loaded))]]
	size := 1 << r.IntN(4)
	if len(sec.Data) < size {
		size = 1
	}
	f := field{r.IntN(len(sec.Data)-size+1) &^ (size - 1), size, "contents"}
	return set(data, sec.Offset, f, value(r, size, get(data[sec.Offset+uint64(f.off):], size), uint64(len(data))), fmt.Sprintf("%s+0x%x", sec.Name, f.off))
}

// move copies a piece of one section over another.
func (s *Subject) move(data []byte, r *rand.Rand) string {
	if len(s.loaded) == 0 {
		return ""
	}
	a, b := &s.file.Sections[s.loaded[r.IntN(len(s.loaded))]], &s.file.Sections[s.loaded[r.IntN(len(s.loaded))]]
	n := 1 + r.IntN(min(len(a.Data), len(b.Data)))
	copy(data[a.Offset:a.Offset+uint64(n)], b.Data[len(b.Data)-n:])
	return fmt.Sprintf("%d bytes of %s over %s", n, b.Name, a.Name)
}
