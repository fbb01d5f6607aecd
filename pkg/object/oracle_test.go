package object

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The oracle reads an object with debug/elf and decodes symbols, relocations and
// groups itself, from the raw bytes. It shares nothing with the package.

type oracleSym struct {
	name        string
	sec         uint32 // extended index resolved; special indices from 1<<31 on
	info, other byte
	value, size uint64
}

type oracleRel struct {
	off    uint64
	sym    uint32
	typ    uint32
	addend int64
}

type oracle struct {
	*elf.File
	data    [][]byte // by section
	syms    []oracleSym
	rels    map[int][]oracleRel // by relocation section
	symtab  int
	strtabs map[int]bool // of symbol and section names
}

const oracleSpecial = 1 << 31

func newOracle(d []byte) (*oracle, error) {
	ef, err := elf.NewFile(bytes.NewReader(d))
	if err != nil {
		return nil, err
	}
	o := &oracle{File: ef, data: make([][]byte, len(ef.Sections)), rels: map[int][]oracleRel{}, strtabs: map[int]bool{}}
	var shndx []byte
	for i, s := range ef.Sections {
		if s.Type == elf.SHT_NOBITS || s.Type == elf.SHT_NULL {
			continue
		}
		// Not s.Data: it inflates.
		o.data[i] = d[s.Offset : s.Offset+s.FileSize]
		switch s.Type {
		case elf.SHT_SYMTAB:
			o.symtab = i
		case elf.SHT_SYMTAB_SHNDX:
			shndx = o.data[i]
		}
	}
	names := int(binary.LittleEndian.Uint16(d[62:]))
	if names == 0xffff {
		names = int(binary.LittleEndian.Uint32(d[binary.LittleEndian.Uint64(d[40:])+40:]))
	}
	o.strtabs[names] = true
	if o.symtab != 0 {
		link := int(ef.Sections[o.symtab].Link)
		o.strtabs[link] = true
		for off := 0; off < len(o.data[o.symtab]); off += 24 {
			var e elf.Sym64
			if err := binary.Read(bytes.NewReader(o.data[o.symtab][off:]), binary.LittleEndian, &e); err != nil {
				return nil, err
			}
			name := o.data[link][e.Name:]
			s := oracleSym{name: string(name[:bytes.IndexByte(name, 0)]), sec: uint32(e.Shndx), info: e.Info, other: e.Other, value: e.Value, size: e.Size}
			switch {
			case e.Shndx == uint16(elf.SHN_XINDEX):
				s.sec = binary.LittleEndian.Uint32(shndx[off/6:])
			case e.Shndx >= uint16(elf.SHN_LORESERVE):
				s.sec |= oracleSpecial
			}
			o.syms = append(o.syms, s)
		}
	}
	for i, s := range ef.Sections {
		size := map[elf.SectionType]int{elf.SHT_RELA: 24, elf.SHT_REL: 16}[s.Type]
		if size == 0 {
			continue
		}
		b := o.data[i]
		rs := make([]oracleRel, 0, len(b)/size)
		for ; len(b) > 0; b = b[size:] {
			r := oracleRel{off: binary.LittleEndian.Uint64(b), typ: binary.LittleEndian.Uint32(b[8:]), sym: binary.LittleEndian.Uint32(b[12:])}
			if size == 24 {
				r.addend = int64(binary.LittleEndian.Uint64(b[16:]))
			}
			rs = append(rs, r)
		}
		o.rels[i] = rs
	}
	return o, nil
}

// perm maps indices of one object to those of another.
type perm struct{ sec, sym []uint32 }

func identity(secs, syms int) perm {
	p := perm{make([]uint32, secs), make([]uint32, syms)}
	for i := range p.sec {
		p.sec[i] = uint32(i)
	}
	for i := range p.sym {
		p.sym[i] = uint32(i)
	}
	return p
}

// same compares two objects as the oracle sees them: index i of o is m of p.
func (o *oracle) same(p *oracle, m perm) error {
	if len(o.Sections) != len(p.Sections) || len(o.syms) != len(p.syms) {
		return fmt.Errorf("%d sections, %d symbols; were %d, %d", len(p.Sections), len(p.syms), len(o.Sections), len(o.syms))
	}
	if o.OSABI != p.OSABI || o.ABIVersion != p.ABIVersion || o.Type != p.Type || o.Machine != p.Machine || o.Entry != p.Entry {
		return fmt.Errorf("file header %v, was %v", p.FileHeader, o.FileHeader)
	}
	for i, s := range o.Sections {
		j := int(m.sec[i])
		want := s.SectionHeader
		got := p.Sections[j].SectionHeader
		want.Offset, got.Offset = 0, 0
		want.Link = m.sec[want.Link]
		switch {
		case s.Type == elf.SHT_RELA || s.Type == elf.SHT_REL || s.Flags&elf.SHF_INFO_LINK != 0:
			want.Info = m.sec[want.Info]
		case s.Type == elf.SHT_GROUP:
			want.Info = m.sym[want.Info]
		}
		d, e := o.data[i], p.data[j]
		addrsig := s.Type == 0x6fff4c03 && s.Link != 0
		if addrsig { // ULEB128 numbers may need more or fewer bytes
			want.Size, want.FileSize, got.Size, got.FileSize = 0, 0, 0, 0
		}
		if i == 0 {
			want, got = elf.SectionHeader{}, elf.SectionHeader{}
		}
		if want != got {
			return fmt.Errorf("section %d (now %d) is\n%+v, want\n%+v", i, j, got, want)
		}
		switch {
		case addrsig:
			for len(d) > 0 && len(e) > 0 {
				x, n := binary.Uvarint(d)
				y, k := binary.Uvarint(e)
				if m.sym[x] != uint32(y) {
					return fmt.Errorf("section %s: address of symbol %d, want %d", s.Name, y, m.sym[x])
				}
				d, e = d[n:], e[k:]
			}
			if len(d)+len(e) > 0 {
				return fmt.Errorf("section %s: a different number of entries", s.Name)
			}
		case s.Type == elf.SHT_GROUP:
			for off := 0; off < len(d); off += 4 {
				x, y := binary.LittleEndian.Uint32(d[off:]), binary.LittleEndian.Uint32(e[off:])
				if off > 0 {
					x = m.sec[x]
				}
				if x != y {
					return fmt.Errorf("group %s word %d: %d, want %d", s.Name, off/4, y, x)
				}
			}
		case s.Type == elf.SHT_RELA || s.Type == elf.SHT_REL:
			a, b := o.rels[i], p.rels[j]
			for k := range a {
				w := a[k]
				w.sym = m.sym[w.sym]
				if w != b[k] {
					return fmt.Errorf("section %s relocation %d: %+v, want %+v", s.Name, k, b[k], w)
				}
			}
		case s.Type == elf.SHT_SYMTAB || s.Type == elf.SHT_SYMTAB_SHNDX || o.strtabs[i]:
		default:
			if !bytes.Equal(d, e) {
				return fmt.Errorf("section %s: contents differ", s.Name)
			}
		}
	}
	for i, s := range o.syms {
		if s.sec < oracleSpecial {
			s.sec = m.sec[s.sec]
		}
		if got := p.syms[m.sym[i]]; got != s {
			return fmt.Errorf("symbol %d (now %d): %+v, want %+v", i, m.sym[i], got, s)
		}
	}
	return nil
}

// agrees compares what our reader says with what the oracle says of the same bytes.
func (o *oracle) agrees(f *File) error {
	if len(f.Sections) != len(o.Sections) || f.Header.OSABI != o.OSABI || f.Header.Type != o.Type || f.Header.Entry != o.Entry || f.Header.ABIVersion != o.ABIVersion {
		return fmt.Errorf("header %+v with %d sections, want %+v with %d", f.Header, len(f.Sections), o.FileHeader, len(o.Sections))
	}
	for i, s := range o.Sections {
		g := &f.Sections[i]
		got := elf.SectionHeader{Name: g.Name, Type: g.Type, Flags: g.Flags, Addr: g.Addr, Offset: g.Offset, Size: g.Size, Link: g.Link, Info: g.Info, Addralign: g.Addralign, Entsize: g.Entsize, FileSize: g.Size}
		want := s.SectionHeader
		want.Size = want.FileSize
		if s.Flags&elf.SHF_COMPRESSED != 0 { // debug/elf gives size and alignment of what it inflates to
			want.Addralign = got.Addralign
		}
		if want.Type == elf.SHT_NOBITS {
			want.FileSize, got.FileSize = 0, 0
		}
		if got != want && i > 0 {
			return fmt.Errorf("section %d is\n%+v, want\n%+v", i, got, want)
		}
		if !bytes.Equal(g.Data, o.data[i]) {
			return fmt.Errorf("section %d %s: contents differ", i, s.Name)
		}
		rs, rels := f.Relocs(SecID(i)), o.rels[i]
		if s.Type != elf.SHT_RELA || o.Type != elf.ET_REL {
			rels = nil
		}
		if rs.Len() != len(rels) {
			return fmt.Errorf("section %s has %d relocations, want %d", s.Name, rs.Len(), len(rels))
		}
		for k, w := range rels {
			if r := rs.File(k); (oracleRel{r.Off, uint32(r.Sym), uint32(r.Type), r.Addend}) != w {
				return fmt.Errorf("section %s relocation %d is %+v, want %+v", s.Name, k, r, w)
			}
		}
		if s.Type == elf.SHT_RELA && o.Type == elf.ET_REL && uint32(s.Flags)&0x00100000 == 0 && f.Sections[s.Info].Rela != SecID(i) {
			return fmt.Errorf("section %d has the relocations of section %d, which says %d", i, s.Info, f.Sections[s.Info].Rela)
		}
	}
	if len(f.Symbols) != len(o.syms) || int(f.Symtab) != o.symtab {
		return fmt.Errorf("%d symbols in section %d, want %d in %d", len(f.Symbols), f.Symtab, len(o.syms), o.symtab)
	}
	for i, w := range o.syms {
		s := &f.Symbols[i]
		got := oracleSym{s.Name, uint32(s.Sec), s.Info, s.Other, s.Value, s.Size}
		if s.Sec == 0 && s.Shndx != 0 {
			got.sec = uint32(s.Shndx) | oracleSpecial
		}
		if got != w {
			return fmt.Errorf("symbol %d is %+v, want %+v", i, got, w)
		}
	}
	// debug/elf's own symbols, as far as it has them.
	syms, err := o.Symbols()
	if err != nil {
		return nil // no symbol table
	}
	for i, w := range syms {
		s := &f.Symbols[i+1]
		if s.Name != w.Name || s.Shndx != w.Section || s.Value != w.Value || s.Size != w.Size || s.Info != w.Info || s.Other != w.Other {
			return fmt.Errorf("symbol %d is %+v, want %+v", i+1, s, w)
		}
	}
	return nil
}

// sameFile compares two objects as our reader sees them.
func sameFile(f, g *File, m perm) error {
	if len(f.Sections) != len(g.Sections) || len(f.Symbols) != len(g.Symbols) || len(f.Groups) != len(g.Groups) {
		return fmt.Errorf("%d sections, %d symbols, %d groups; were %d, %d, %d", len(g.Sections), len(g.Symbols), len(g.Groups), len(f.Sections), len(f.Symbols), len(f.Groups))
	}
	hf, hg := f.Header, g.Header
	hf.Shstrndx = SecID(m.sec[hf.Shstrndx])
	if hf != hg {
		return fmt.Errorf("header %+v, want %+v", hg, hf)
	}
	if m.sec[f.Symtab] != uint32(g.Symtab) {
		return fmt.Errorf("symbol table %d, want %d", g.Symtab, m.sec[f.Symtab])
	}
	for i := 1; i < len(f.Sections); i++ {
		s, t := &f.Sections[i], &g.Sections[m.sec[i]]
		info := s.Info
		switch {
		case s.Type == elf.SHT_RELA, s.Type == elf.SHT_REL, s.Flags&elf.SHF_INFO_LINK != 0 && s.Type != elf.SHT_SYMTAB && s.Type != elf.SHT_GROUP:
			info = m.sec[info]
		case s.Type == elf.SHT_GROUP:
			info = m.sym[info]
		}
		switch {
		case s.Name != t.Name, s.Type != t.Type, s.Flags != t.Flags, s.Addr != t.Addr, s.Addralign != t.Addralign, s.Entsize != t.Entsize, info != t.Info, m.sec[s.Link] != t.Link, m.sec[s.Rela] != uint32(t.Rela):
			return fmt.Errorf("section %d (now %d) is\n%+v, was\n%+v", i, m.sec[i], t, s)
		}
		if s.Type != SHT_LLVM_ADDRSIG && s.Size != t.Size {
			return fmt.Errorf("section %s has 0x%x bytes, want 0x%x", s.Name, t.Size, s.Size)
		}
		a, b := f.Relocs(SecID(i)), g.Relocs(SecID(m.sec[i]))
		for k := range a.Len() {
			r := a.File(k)
			r.Sym = SymID(m.sym[r.Sym])
			if r != b.File(k) {
				return fmt.Errorf("section %s relocation %d: %+v, want %+v", s.Name, k, b.File(k), r)
			}
		}
		switch {
		case s.Type == elf.SHT_RELA, s.Type == elf.SHT_REL, s.Type == elf.SHT_GROUP, s.Type == elf.SHT_SYMTAB, s.Type == elf.SHT_SYMTAB_SHNDX && SecID(s.Link) == f.Symtab, s.Type == SHT_LLVM_ADDRSIG:
		default: // string tables too: they keep their bytes
			if !bytes.Equal(s.Data, t.Data) {
				return fmt.Errorf("section %s: contents differ", s.Name)
			}
		}
	}
	for i := range f.Symbols {
		s, t := &f.Symbols[i], &g.Symbols[m.sym[i]]
		special := s.Sec == 0 && s.Shndx != t.Shndx
		if special || s.Name != t.Name || s.Value != t.Value || s.Size != t.Size || s.Info != t.Info || s.Other != t.Other || m.sec[s.Sec] != uint32(t.Sec) || s.NameOff != t.NameOff {
			return fmt.Errorf("symbol %d (now %d) is %+v, was %+v", i, m.sym[i], t, s)
		}
	}
	groups := map[SecID]Group{}
	for _, x := range g.Groups {
		groups[x.Sec] = x
	}
	for _, x := range f.Groups {
		y := groups[SecID(m.sec[x.Sec])]
		if x.Flags != y.Flags || m.sym[x.Sig] != uint32(y.Sig) || len(x.Members) != len(y.Members) {
			return fmt.Errorf("group %+v, was %+v", y, x)
		}
		for k := range x.Members {
			if m.sec[x.Members[k]] != uint32(y.Members[k]) {
				return fmt.Errorf("group %+v, was %+v", y, x)
			}
		}
	}
	return nil
}

// shuffle gives random orders of sections and symbols for a Builder that keep
// what an order means: groups come before their members, local symbols stay
// behind their FILE symbol, except section symbols, which move anywhere among
// the local symbols when far is set.
func shuffle(f *File, r *rand.Rand, far bool) (secs []SecID, syms []SymID, m perm) {
	m = identity(len(f.Sections), len(f.Symbols))
	for i := 1; i < len(f.Sections); i++ {
		secs = append(secs, SecID(i))
	}
	r.Shuffle(len(secs), func(i, j int) { secs[i], secs[j] = secs[j], secs[i] })
	slices.SortStableFunc(secs, func(a, b SecID) int {
		x, y := f.Sections[a].Type == elf.SHT_GROUP, f.Sections[b].Type == elf.SHT_GROUP
		switch {
		case x && !y:
			return -1
		case y && !x:
			return 1
		}
		return 0
	})
	for i, s := range secs {
		m.sec[s] = uint32(i + 1)
	}

	start := 0
	flush := func() {
		b := syms[start:]
		r.Shuffle(len(b), func(i, j int) { b[i], b[j] = b[j], b[i] })
		start = len(syms)
	}
	var moved []SymID
	locals := 0
	for i := 1; i < len(f.Symbols); i++ {
		s := &f.Symbols[i]
		if s.Bind() != elf.STB_LOCAL && locals == 0 {
			flush()
			locals = len(syms)
			for _, id := range moved {
				syms = slices.Insert(syms, r.IntN(locals+1), id)
				locals++
			}
			start = len(syms)
		}
		switch {
		case s.Type() == elf.STT_FILE && s.Bind() == elf.STB_LOCAL:
			flush()
			syms = append(syms, SymID(i))
			start++
		case far && s.Type() == elf.STT_SECTION && r.IntN(8) == 0 && len(moved) < 100:
			moved = append(moved, SymID(i))
		default:
			syms = append(syms, SymID(i))
		}
	}
	flush()
	if len(syms) < len(f.Symbols)-1 { // no global symbol came
		syms = append(moved, syms...)
	}
	for i, s := range syms {
		m.sym[s] = uint32(i + 1)
	}
	return secs, syms, m
}

// corpus calls fn for every object there is: those of the pairs, which are not
// in the repository, and those of testdata/cases.
func corpus(t *testing.T, fn func(t *testing.T, path string, data []byte)) {
	t.Helper()
	for _, dir := range []string{"../../../shared/pairs", "../../testdata/cases"} {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			n := 0
			err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
				if err != nil || e.IsDir() || !strings.HasSuffix(p, ".o") {
					return err
				}
				n++
				d, err := os.ReadFile(p)
				if err != nil {
					return err
				}
				if len(d) == 0 {
					return nil // being written
				}
				rel, _ := filepath.Rel(dir, p)
				t.Run(rel, func(t *testing.T) { fn(t, p, d) })
				return nil
			})
			if os.IsNotExist(err) {
				t.Skipf("no objects in %s", dir)
			}
			if err != nil {
				t.Error(err)
			}
			t.Logf("%d objects", n)
		})
	}
}

func mustParse(t testing.TB, d []byte) *File {
	t.Helper()
	f, err := Parse(d, Options{Name: "t.o"})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func mustOracle(t testing.TB, d []byte) *oracle {
	t.Helper()
	o, err := newOracle(d)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func mustBytes(t testing.TB, b *Builder) []byte {
	t.Helper()
	d, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return d
}
