package debuginfo

import (
	"bytes"
	"compress/zlib"
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/kdelta/kdelta/pkg/internal/checked"
)

var le = binary.LittleEndian

// symtab is the symbol table as it stands in the file.
type symtab struct {
	data   []byte
	shndx  []byte // SHT_SYMTAB_SHNDX
	bases  []uint64
	loaded bool
}

const symSize, relaSize = 24, 24

// address gives what symbol i stands for when every section has its base. Undefined symbols have none.
func (s *symtab) address(i uint32) (uint64, bool) {
	if uint64(i) >= uint64(len(s.data)/symSize) {
		return 0, false
	}
	e := s.data[uint64(i)*symSize:]
	sec, value := uint32(le.Uint16(e[6:])), le.Uint64(e[8:])
	switch elf.SectionIndex(sec) {
	case elf.SHN_UNDEF, elf.SHN_COMMON:
		return 0, false
	case elf.SHN_ABS:
		return value, true
	case elf.SHN_XINDEX:
		if uint64(i)*4+4 > uint64(len(s.shndx)) {
			return 0, false
		}
		sec = le.Uint32(s.shndx[uint64(i)*4:])
	}
	if uint64(sec) >= uint64(len(s.bases)) {
		return 0, false
	}
	return s.bases[sec] + value, true
}

// readELF finds the sections. Their contents are read by open.
func (in *Info) readELF() error {
	f, err := elf.NewFile(bytes.NewReader(in.data))
	if err != nil {
		return err
	}
	if f.Class != elf.ELFCLASS64 || f.Data != elf.ELFDATA2LSB || f.Machine != elf.EM_X86_64 {
		return fmt.Errorf("%v %v %v is not understood", f.Class, f.Data, f.Machine)
	}
	in.file, in.kind = f, f.Type
	in.bases = make([]uint64, len(f.Sections))
	for i, s := range f.Sections {
		switch {
		case s.Flags&elf.SHF_ALLOC == 0: // offsets into debug sections count from their start
		case f.Type == elf.ET_REL:
			in.bases[i] = uint64(i) << 32
		default:
			in.bases[i] = s.Addr
		}
	}
	in.present = in.section("info") != 0
	return nil
}

// section gives the index of the debug section of a name without prefix. Of several, the one outside groups.
func (in *Info) section(name string) int {
	found := 0
	for i, s := range in.file.Sections {
		short, ok := strings.CutPrefix(s.Name, ".debug_")
		if !ok {
			short, ok = strings.CutPrefix(s.Name, ".zdebug_")
		}
		if !ok || short != name || s.Type == elf.SHT_NOBITS || s.Type == elf.SHT_RELA || s.Type == elf.SHT_REL || s.Size == 0 {
			continue
		}
		if s.Flags&elf.SHF_GROUP == 0 {
			return i
		}
		if found == 0 {
			found = i
		}
	}
	return found
}

// raw gives the bytes of a section in the file.
func (in *Info) raw(s *elf.Section) ([]byte, error) {
	b, ok := checked.Slice(in.data, s.Offset, s.FileSize)
	if s.Type == elf.SHT_NOBITS || !ok {
		return nil, fmt.Errorf("%s lies outside the file", s.Name)
	}
	return b, nil
}

// contents gives the bytes of a debug section, uncompressed and with relocations applied.
func (in *Info) contents(name string) ([]byte, error) {
	id := in.section(name)
	if id == 0 {
		return nil, nil
	}
	s := in.file.Sections[id]
	raw, err := in.raw(s)
	if err != nil {
		return nil, err
	}
	size := s.Size
	old := strings.HasPrefix(s.Name, ".z") && len(raw) >= 12 && string(raw[:4]) == "ZLIB"
	if old {
		size = binary.BigEndian.Uint64(raw[4:])
	}
	if size > in.bytes {
		return nil, fmt.Errorf("%s: %w", s.Name, errLimit)
	}
	in.bytes -= size
	var data []byte
	switch {
	case old:
		r, err := zlib.NewReader(bytes.NewReader(raw[12:]))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
		if data, err = io.ReadAll(io.LimitReader(r, int64(size))); err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
	case s.Flags&elf.SHF_COMPRESSED != 0:
		if data, err = s.Data(); err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
	default:
		data = raw
	}
	if in.kind != elf.ET_REL {
		return data, nil
	}
	copied := old || s.Flags&elf.SHF_COMPRESSED != 0
	for _, r := range in.file.Sections {
		if r.Type != elf.SHT_RELA || int(r.Info) != id {
			continue
		}
		if !copied { // once, however many sections of relocations there are
			data, copied = bytes.Clone(data), true
		}
		if err := in.relocate(data, r); err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	return data, nil
}

// relocate applies the relocations of r to data. What leads to nothing in this object stays as it is.
func (in *Info) relocate(data []byte, r *elf.Section) error {
	if !in.syms.loaded {
		if err := in.readSymbols(int(r.Link)); err != nil {
			return err
		}
	}
	rela, err := in.raw(r)
	if err != nil {
		return err
	}
	n := uint64(len(data))
	for ; len(rela) >= relaSize; rela = rela[relaSize:] {
		off, info, addend := le.Uint64(rela), le.Uint64(rela[8:]), le.Uint64(rela[16:])
		width := uint64(0)
		switch elf.R_X86_64(uint32(info)) {
		case elf.R_X86_64_64:
			width = 8
		case elf.R_X86_64_32, elf.R_X86_64_32S:
			width = 4
		default:
			continue // of thread-local variables and the like: no code, no offset into a debug section
		}
		if !checked.Within(off, width, n) {
			return fmt.Errorf("a relocation at 0x%x lies outside", off)
		}
		v, ok := in.syms.address(uint32(info >> 32))
		if !ok {
			continue
		}
		if v += addend; width == 8 {
			le.PutUint64(data[off:], v)
		} else {
			le.PutUint32(data[off:], uint32(v))
		}
	}
	return nil
}

func (in *Info) readSymbols(link int) error {
	if link <= 0 || link >= len(in.file.Sections) || in.file.Sections[link].Type != elf.SHT_SYMTAB {
		return errors.New("relocations without a symbol table")
	}
	data, err := in.raw(in.file.Sections[link])
	if err != nil {
		return err
	}
	in.syms = symtab{data: data, bases: in.bases, loaded: true}
	for _, s := range in.file.Sections {
		if s.Type == elf.SHT_SYMTAB_SHNDX && int(s.Link) == link {
			if in.syms.shndx, err = in.raw(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// addr gives the address of a place.
func (in *Info) addr(p Place) (uint64, bool) {
	if p.Section <= 0 || p.Section >= len(in.bases) || in.kind == elf.ET_REL && p.Off >= 1<<32 {
		return 0, false
	}
	return in.bases[p.Section] + p.Off, true
}

// The longest string and the most attributes of one kind of entry that are taken for real.
const (
	maxString = 1 << 18
	maxAttrs  = 256
)

// open reads the debug sections, and the first entry of every unit.
func (in *Info) open() error {
	// A compressed section may claim any size; none that a compiler makes shrinks by more than this.
	in.bytes = min(in.opts.MaxBytes, 1<<20+256*uint64(len(in.data)))
	left := in.bytes
	names := []string{"abbrev", "info", "str", "ranges", "addr", "line_str", "str_offsets", "rnglists", "line"}
	sec := make(map[string][]byte, len(names))
	for _, n := range names {
		data, err := in.contents(n)
		if err != nil {
			return err
		}
		sec[n] = data
	}
	if in.steps = in.opts.MaxSteps; in.steps == 0 {
		in.steps = 1<<20 + 32*(left-in.bytes)
	}
	for _, n := range []string{"str", "line_str"} {
		if longest(sec[n]) > maxString {
			return fmt.Errorf(".debug_%s: a string of more than %d bytes", n, maxString)
		}
	}
	if err := checkAbbrevs(sec["info"], sec["abbrev"]); err != nil {
		return err
	}
	dw, err := dwarf.New(sec["abbrev"], nil, nil, sec["info"], nil, nil, sec["ranges"], sec["str"])
	if err != nil {
		return err
	}
	for _, n := range []string{"addr", "line_str", "str_offsets", "rnglists"} {
		if err := dw.AddSection(".debug_"+n, sec[n]); err != nil {
			return err
		}
	}
	in.dw, in.lines, in.str, in.lstr = dw, sec["line"], sec["str"], sec["line_str"]
	in.types = make(map[dwarf.Offset]*typ)
	in.aggs = make(map[dwarf.Offset]*Struct)
	in.trees = make(map[dwarf.Offset]*tree)
	in.sets = make(map[dwarf.Offset]*useSet)
	return in.readUnits(sec["info"])
}

// longest gives the length of the longest string.
func longest(b []byte) int {
	most := 0
	for len(b) > 0 {
		i := bytes.IndexByte(b, 0)
		if i < 0 {
			i = len(b) - 1
		}
		most, b = max(most, i), b[i+1:]
	}
	return most
}

// header is the start of a unit in .debug_info.
type header struct {
	off    uint64 // of the unit
	first  uint64 // of its first entry
	end    uint64
	abbrev uint64
	addr   int // size of an address
	kind   byte
}

// headers reads the headers of all units.
func headers(info []byte) ([]header, error) {
	var out []header
	bad := errors.New(".debug_info: a unit's header is damaged")
	for off := uint64(0); off < uint64(len(info)); {
		c := cursor{b: info, at: off}
		n, wide := c.length()
		if c.bad || !checked.Within(c.at, n, uint64(len(info))) {
			return nil, bad
		}
		h := header{off: off, end: c.at + n}
		if off = h.end; n == 0 {
			continue
		}
		version := c.u16()
		if version >= 5 {
			h.kind = c.u8()
			h.addr = int(c.u8())
		}
		h.abbrev = c.offset(wide)
		if version < 5 {
			h.addr = int(c.u8())
		}
		switch h.kind {
		case 4, 5: // skeleton, split
			c.skip(8)
		case 2, 6: // type units
			c.skip(8)
			c.offset(wide)
		}
		if h.first = c.at; c.bad || c.at > h.end || version < 2 || version > 5 {
			return nil, bad
		}
		out = append(out, h)
	}
	return out, nil
}

// checkAbbrevs holds what debug/dwarf takes for granted: that tables of
// abbreviations do not overlap much, so that reading the table of each unit is
// linear work, and that no entry has attributes without end.
func checkAbbrevs(info, abbrev []byte) error {
	hs, err := headers(info)
	if err != nil {
		return err
	}
	offs := make([]uint64, 0, len(hs))
	for _, h := range hs {
		offs = append(offs, h.abbrev)
	}
	slices.Sort(offs)
	budget := 4*len(abbrev) + 1<<16
	for _, off := range slices.Compact(offs) {
		c := cursor{b: abbrev, at: off}
		for !c.bad && c.at < uint64(len(abbrev)) && c.uleb() != 0 {
			c.uleb()
			c.u8()
			for n := 0; ; n++ {
				attr, form := c.uleb(), c.uleb()
				if form == 0x21 { // DW_FORM_implicit_const
					c.uleb()
				}
				if c.bad || attr == 0 && form == 0 {
					break
				}
				if n == maxAttrs {
					return errors.New(".debug_abbrev: an abbreviation with too many attributes")
				}
			}
		}
		if c.at > off {
			if budget -= int(c.at - off); budget < 0 {
				return errors.New(".debug_abbrev: the tables of many units overlap")
			}
		}
	}
	return nil
}

// cursor reads numbers. Beyond the end everything is 0, and bad is set.
type cursor struct {
	b   []byte
	at  uint64
	bad bool
}

func (c *cursor) take(n uint64) []byte {
	if c.bad || !checked.Within(c.at, n, uint64(len(c.b))) {
		c.bad = true
		return nil
	}
	c.at += n
	return c.b[c.at-n : c.at]
}

func (c *cursor) skip(n uint64) { c.take(n) }

func (c *cursor) u8() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) uint(n uint64) uint64 {
	var v [8]byte
	copy(v[:], c.take(n))
	return le.Uint64(v[:])
}

func (c *cursor) u16() uint16 { return uint16(c.uint(2)) }

// length reads the length that a unit starts with, and whether it is of the 64-bit format.
func (c *cursor) length() (uint64, bool) {
	if n := c.uint(4); n != 0xffffffff {
		return n, false
	}
	return c.uint(8), true
}

func (c *cursor) offset(wide bool) uint64 {
	if wide {
		return c.uint(8)
	}
	return c.uint(4)
}

func (c *cursor) uleb() uint64 {
	v := uint64(0)
	for shift := 0; ; shift += 7 {
		b := c.u8()
		if shift < 64 {
			v |= uint64(b&0x7f) << shift
		}
		if b < 0x80 {
			return v
		}
	}
}

func (c *cursor) sleb() int64 {
	v := int64(0)
	for shift := 0; ; shift += 7 {
		b := c.u8()
		if shift < 64 {
			v |= int64(b&0x7f) << shift
		}
		if b < 0x80 {
			if shift < 57 && b&0x40 != 0 {
				v |= -1 << (shift + 7)
			}
			return v
		}
	}
}

func (c *cursor) str() string {
	if c.bad || c.at >= uint64(len(c.b)) {
		c.bad = true
		return ""
	}
	return string(c.take(uint64(max(bytes.IndexByte(c.b[c.at:], 0), 0))))
}
