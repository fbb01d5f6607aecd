package elfdiff

import (
	"debug/elf"
	"encoding/binary"
	"slices"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
)

// How long an entry of a table is, is known from several sources. The strongest that
// there is decides among the rows of the section; sources that contradict it are
// told. Relocations only check: a size that they do not fit is not taken.

// SizeSource says who knows how long the entries of a table are, strongest first.
type SizeSource uint8

// The sources.
const (
	SizeCaller    SizeSource = iota + 1 // whoever asks
	SizeAnnotated                       // the object lists where entries start (Rules.Marks)
	SizeTypes                           // BTF or DWARF of the kernel
	SizeHeader                          // sh_entsize
)

var sizeSourceNames = [...]string{"nobody", "the caller", "the object's annotations", "the kernel's types", "sh_entsize"}

// String gives the source in words.
func (s SizeSource) String() string { return word(sizeSourceNames[:], uint8(s)) }

// EntrySize is what somebody knows of a table before it is seen.
type EntrySize struct {
	Section string // a name, or a prefix when it ends in '*'
	Entry   int    // bytes
	Source  SizeSource
}

// markSize is the size of a record of Rules.Marks: s32 label, u32 type.
const (
	markSize  = 8
	markEntry = 1 // ANNOTYPE_DATA_SPECIAL (include/linux/annotate.h)
)

// marks gives the places that the object lists as starts of entries, by section, sorted.
func (g *Graph) findMarks() {
	f := g.File
	for i := 1; i < len(f.Sections); i++ {
		s := &f.Sections[i]
		if g.Rules.Marks == "" || !isNamed(s, g.Rules.Marks) || s.Type != elf.SHT_PROGBITS {
			continue
		}
		rs := f.RelocsOf(object.SecID(i))
		for k, n := 0, rs.Len(); k < n; k++ {
			r := rs.At(k)
			if r.Off%markSize != 0 || r.Off >= uint64(len(s.Data)) || uint64(len(s.Data))-r.Off < markSize || r.Type != elf.R_X86_64_PC32 || binary.LittleEndian.Uint32(s.Data[r.Off+4:]) != markEntry {
				continue
			}
			to := &f.Symbols[r.Sym]
			at := to.Value + uint64(r.Addend)
			if to.Sec == 0 || at >= f.Sections[to.Sec].Size {
				continue
			}
			if g.marks == nil {
				g.marks = make(map[object.SecID][]uint64)
			}
			g.marks[to.Sec] = append(g.marks[to.Sec], at)
		}
	}
	for sec, l := range g.marks {
		slices.Sort(l)
		g.marks[sec] = slices.Compact(l)
	}
}

// markedSize gives the size of entries that starts are evidence of; 0 when they are not at equal distances over the whole section.
func markedSize(starts []uint64, size uint64) int {
	if len(starts) == 0 || starts[0] != 0 || size%uint64(len(starts)) != 0 {
		return 0
	}
	n := size / uint64(len(starts))
	for i, at := range starts {
		if at != uint64(i)*n {
			return 0
		}
	}
	return int(n)
}

// sizes lists what is known of a section's entries, strongest first.
func (g *Graph) sizes(sec object.SecID) (out [SizeHeader + 1]int) {
	s := &g.File.Sections[sec]
	for i := range g.Rules.Sizes {
		if z := &g.Rules.Sizes[i]; (z.Source == SizeCaller || z.Source == SizeTypes) && out[z.Source] == 0 && matchSection(z.Section, s.Name) {
			out[z.Source] = z.Entry
		}
	}
	out[SizeAnnotated] = markedSize(g.marks[sec], s.Size)
	if s.Entsize > 1 && s.Entsize <= s.Size {
		out[SizeHeader] = int(s.Entsize)
	}
	return out
}

// pick chooses the row of a section among those for its name: that of the size which
// the strongest source gives, if it fits the relocations; without one, the first that fits. tell, if not nil, hears of contradictions.
func (g *Graph) pick(rows []uint16, sec object.SecID, tell func(diag.Diagnostic)) uint16 {
	sizes := g.sizes(sec)
	chosen, by := uint16(0), SizeSource(0)
	for src := SizeCaller; src <= SizeHeader; src++ {
		n := sizes[src]
		if n == 0 {
			continue
		}
		if chosen != 0 {
			if have := g.Rules.Tables[chosen-1].Entry; n != have && tell != nil {
				tell(diag.New(diag.TableSize, g.place0(sec), "%s gives %d bytes for an entry, and %s gives %d, which is taken", src, n, by, have))
			}
			continue
		}
		for _, r := range rows {
			if g.Rules.Tables[r-1].Entry == n && g.fits(&g.Rules.Tables[r-1], sec) {
				chosen, by = r, src
				break
			}
		}
		if chosen == 0 && tell != nil {
			tell(diag.New(diag.TableSize, g.place0(sec), "%s gives %d bytes for an entry, which does not fit the section's 0x%x bytes and their relocations", src, n, g.File.Sections[sec].Size))
		}
	}
	for i := 0; chosen == 0 && i < len(rows); i++ {
		if g.fits(&g.Rules.Tables[rows[i]-1], sec) {
			chosen = rows[i]
		}
	}
	return chosen
}

// markAfter gives the first listed start behind from in a section, or to.
func (g *Graph) markAfter(sec object.SecID, from, to uint64) uint64 {
	l := g.marks[sec]
	if i, _ := slices.BinarySearch(l, from+1); i < len(l) && l[i] < to {
		return l[i]
	}
	return to
}
