package testutil

import (
	"debug/elf"
	"math/rand/v2"
	"testing"

	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/reloc"
	"github.com/kdelta/kdelta/x86"
)

// Shuffled says what ShuffleStrings did.
type Shuffled struct {
	Sections int // sections of strings that were permuted
	Strings  int // pieces that were
	Refs     int // relocations that lead into them
	Indexed  int // sections left alone: an instruction indexes them, and may read more than one string
	Awkward  int // sections left alone: a reference leads before the section's start or behind its end
}

// ShuffleStrings gives the object with the strings of its SHF_MERGE|SHF_STRINGS
// sections in a random order that means the same. Whatever refers to a string,
// or into one (its tail), refers to the same characters afterwards: addends are
// counted from where the processor counts, which takes a look at the instructions,
// and symbols move with what they name.
//
// A piece reaches from an aligned place behind a terminator to the next, so
// zeros that align strings stay behind the string before them.
func ShuffleStrings(t testing.TB, f *object.File, seed uint64) ([]byte, Shuffled) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, uint64(len(f.Data))))
	n := len(f.Sections)
	wanted := make([]bool, n)
	for i := range f.Sections {
		s := &f.Sections[i]
		wanted[i] = s.Strings() && s.Alloc() && s.Entsize > 0 && uint64(len(s.Data)) > s.Entsize && s.Rela == 0 && terminated(s)
	}
	// How far it is from each relative field to the end of its instruction, and which fields are indexed.
	type field struct {
		bias    uint8
		indexed bool
	}
	fields := make([]map[uint64]field, n)
	cuts := make([][]uint64, n)
	for i := range f.Symbols {
		if y := &f.Symbols[i]; y.Sec != 0 && f.Sections[y.Sec].Exec() {
			cuts[y.Sec] = append(cuts[y.Sec], y.Value)
		}
	}
	for i := range f.Sections {
		s := &f.Sections[i]
		if !s.Exec() || s.Rela == 0 || len(s.Data) == 0 {
			continue
		}
		start := map[uint64]bool{}
		for _, c := range cuts[i] {
			start[c] = true
		}
		m := map[uint64]field{}
		for off := uint64(0); off < uint64(len(s.Data)); {
			in, err := x86.Decode(s.Data[off:])
			if err != nil { // go on behind the next symbol
				for off++; off < uint64(len(s.Data)) && !start[off]; off++ {
				}
				continue
			}
			end := off + uint64(in.Len)
			mem := in.ModOff != 0 && in.ModRM>>6 != 3 && !in.RIPRelative() && !(in.ModRM>>6 == 0 && in.ModRM&7 == 4 && in.SIB&7 == 5 && in.SIB>>3&7 == 4 && in.Prefix&x86.RexX == 0)
			for k := uint64(1); k < uint64(in.Len); k++ {
				m[off+k] = field{bias: uint8(uint64(in.Len) - k), indexed: mem && in.DispLen == 4 && k == uint64(in.DispOff)}
			}
			for k := off + 1; k < end; k++ { // an instruction does not run into the next function
				if start[k] {
					end = k
					break
				}
			}
			off = end
		}
		fields[i] = m
	}
	b := object.FromFile(f)
	var out Shuffled
	// A first look: where each reference leads, and which sections cannot be permuted.
	type ref struct {
		rela object.SecID
		i    int // in the file
		to   object.SecID
		bias int64
	}
	var refs []ref
	indexed, awkward := make([]bool, n), make([]bool, n)
	for i := range f.Sections {
		rela := &f.Sections[i]
		if rela.Type != elf.SHT_RELA {
			continue
		}
		target := object.SecID(rela.Info)
		rs := f.Relocs(object.SecID(i))
		for j := range rs.Len() {
			x := rs.File(j)
			y := &f.Symbols[x.Sym]
			if y.Sec == 0 || !wanted[y.Sec] || x.Type == elf.R_X86_64_NONE {
				continue
			}
			e := ref{rela: object.SecID(i), i: j, to: y.Sec}
			fd, known := fields[target][x.Off]
			if info, ok := reloc.Lookup(x.Type); ok && info.PCRel && f.Sections[target].Exec() {
				e.bias = int64(info.Size)
				if known {
					e.bias = int64(fd.bias)
				}
			}
			indexed[y.Sec] = indexed[y.Sec] || fd.indexed
			pos := int64(y.Value) + x.Addend + e.bias
			awkward[y.Sec] = awkward[y.Sec] || pos < 0 || pos >= int64(len(f.Sections[y.Sec].Data))
			refs = append(refs, e)
		}
	}
	moved := make([]func(uint64) uint64, n)
	for i := range f.Sections {
		switch {
		case !wanted[i]:
		case indexed[i]:
			out.Indexed++
		case awkward[i]:
			out.Awkward++
		default:
			data, where, pieces := permute(r, &f.Sections[i])
			if pieces < 2 {
				continue
			}
			s := b.Section(object.SecID(i))
			s.Data = data
			b.SetSection(object.SecID(i), s)
			moved[i] = where
			out.Sections++
			out.Strings += pieces
		}
	}
	place := func(id object.SymID) uint64 { // of a symbol, afterwards
		y := &f.Symbols[id]
		if y.Type() == elf.STT_SECTION || y.Value >= uint64(len(f.Sections[y.Sec].Data)) {
			return y.Value
		}
		return moved[y.Sec](y.Value)
	}
	for i := range f.Symbols {
		if y := &f.Symbols[i]; y.Sec != 0 && moved[y.Sec] != nil {
			s := b.Symbol(object.SymID(i))
			s.Value = place(object.SymID(i))
			b.SetSymbol(object.SymID(i), s)
		}
	}
	lists := map[object.SecID][]object.Reloc{}
	for _, e := range refs {
		if moved[e.to] == nil {
			continue
		}
		l := lists[e.rela]
		if l == nil {
			rs := f.Relocs(e.rela)
			for j := range rs.Len() {
				l = append(l, rs.File(j))
			}
			lists[e.rela] = l
		}
		x := &l[e.i]
		pos := uint64(int64(f.Symbols[x.Sym].Value) + x.Addend + e.bias)
		x.Addend = int64(moved[e.to](pos)) - int64(place(x.Sym)) - e.bias
		out.Refs++
	}
	for i := range f.Sections { // in order: the same bytes for the same seed
		if l := lists[object.SecID(i)]; l != nil {
			b.SetRelocs(object.SecID(i), l)
		}
	}
	data, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return data, out
}

// terminated reports whether the last string of a section ends.
func terminated(s *object.Section) bool {
	n, w := uint64(len(s.Data)), s.Entsize
	return n%w == 0 && blank(s.Data[n-w:])
}

func blank(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// permute gives the contents of a section of strings in another order, where each offset went, and the number of pieces.
func permute(r *rand.Rand, s *object.Section) (data []byte, where func(uint64) uint64, pieces int) {
	w := s.Entsize
	align := max(s.Addralign, w)
	n := uint64(len(s.Data))
	var starts []uint64
	for p := uint64(0); p < n; p += align {
		if p == 0 || blank(s.Data[p-w:p]) && !blank(s.Data[p:p+w]) {
			starts = append(starts, p)
		}
	}
	order := r.Perm(len(starts))
	to := make([]uint64, len(starts))
	for _, k := range order {
		for uint64(len(data))%align != 0 {
			data = append(data, 0)
		}
		end := n
		if k+1 < len(starts) {
			end = starts[k+1]
		}
		to[k] = uint64(len(data))
		data = append(data, s.Data[starts[k]:end]...)
	}
	index := make(map[uint64]int, len(starts))
	for k, p := range starts {
		index[p] = k
	}
	return data, func(off uint64) uint64 {
		p := off - off%align
		for {
			if k, ok := index[p]; ok {
				return to[k] + off - starts[k]
			}
			p -= align
		}
	}, len(starts)
}
