package runpre

import (
	"bytes"
	"debug/elf"
	"fmt"
	"slices"
	"sort"

	"github.com/kdelta/kdelta/pkg/object"
)

// beside are the tables that change what code does without a trace in the code: which
// alternative is taken when, where an exception goes, which key a static branch has, what
// a WARN says. Their first field is the place in the code. sizes are those of an entry, lines
// where it has a line number of 16 bits, which is not compared.
var beside = [...]struct {
	section string
	sizes   []uint64
	lines   map[uint64]uint64 // by size
}{
	{".altinstructions", []uint64{14, 12, 13}, nil},
	{"__ex_table", []uint64{12, 8}, nil},
	{"__jump_table", []uint64{16}, nil},
	{"__bug_table", []uint64{16, 12, 8}, map[uint64]uint64{16: 12, 12: 8}},
}

// tables compares the entries about functions that are equal and whose place is known.
func (c *checker) tables() {
	f := c.f
	at := c.itemsBySection()
	for _, t := range beside {
		var sites map[uint64][]uint64 // where the kernel has entries for an address
		size := uint64(0)
		for i := range f.Sections {
			s := &f.Sections[i]
			if s.Name != t.section || s.Type != elf.SHT_PROGBITS || s.Size == 0 {
				continue
			}
			n := entrySize(f, object.SecID(i), t.sizes)
			if n == 0 {
				continue
			}
			if sites == nil || n != size {
				sites, size = c.sites(t.section, n), n
			}
			c.compareTable(object.SecID(i), n, t.lines[n], sites, at)
		}
	}
	c.propagate()
}

// itemsBySection gives the functions that are compared, by section and offset.
func (c *checker) itemsBySection() [][]int32 {
	out := make([][]int32, len(c.f.Sections))
	for n := range c.r.Funcs {
		if it := &c.r.Funcs[n]; it.Status == Exact && !it.Relaxed && it.Addr != 0 {
			out[it.Sec] = append(out[it.Sec], int32(n))
		}
	}
	for _, l := range out {
		slices.SortStableFunc(l, func(a, b int32) int {
			x, y := c.f.Symbols[c.r.Funcs[a].Sym].Value, c.f.Symbols[c.r.Funcs[b].Sym].Value
			switch {
			case x < y:
				return -1
			case x > y:
				return 1
			}
			return 0
		})
	}
	return out
}

// entrySize gives the size at which each entry starts with a relocation, 0 when there is none.
func entrySize(f *object.File, sec object.SecID, sizes []uint64) uint64 {
	rel := f.RelocsOf(sec)
	for _, n := range sizes {
		if f.Sections[sec].Size%n != 0 {
			continue
		}
		starts := uint64(0)
		for i := range rel.Len() {
			if rel.Off(i)%n == 0 {
				starts++
			}
		}
		if starts == f.Sections[sec].Size/n {
			return n
		}
	}
	return 0
}

// sites reads the kernel's table: addresses of entries by the place in the code, in the order of the table.
func (c *checker) sites(section string, n uint64) map[uint64][]uint64 {
	addr, size := c.w.table(section)
	out := make(map[uint64][]uint64, size/n)
	for ; size >= n; addr, size = addr+n, size-n {
		b := c.w.bytes(addr, 4)
		if b == nil {
			break
		}
		if to, ext, _, ok := c.w.target(addr, elf.R_X86_64_PC32, b); ok && ext == "" {
			out[to] = append(out[to], addr)
		}
	}
	return out
}

// compareTable compares the entries of one section.
func (c *checker) compareTable(sec object.SecID, n, line uint64, sites map[uint64][]uint64, at [][]int32) {
	f := c.f
	rel := f.RelocsOf(sec)
	seen := make(map[uint64]int) // entries of a place so far
	for off := uint64(0); off+n <= f.Sections[sec].Size; off += n {
		lo, hi := rel.Range(off, off+n)
		if lo == hi || rel.At(lo).Off != off {
			continue
		}
		r := rel.At(lo)
		if uint64(r.Sym) >= uint64(len(f.Symbols)) || f.Symbols[r.Sym].Sec == 0 {
			continue
		}
		code := f.Symbols[r.Sym].Sec
		place := f.Symbols[r.Sym].Value + uint64(r.Addend)
		l := at[code]
		i := sort.Search(len(l), func(i int) bool { return f.Symbols[c.r.Funcs[l[i]].Sym].Value > place }) - 1
		if i < 0 {
			continue
		}
		it := &c.r.Funcs[l[i]]
		fn := &f.Symbols[it.Sym]
		if place-fn.Value >= fn.Size || it.Status != Exact {
			continue
		}
		inside := place - fn.Value
		site := it.Addr + inside
		k := seen[site]
		seen[site]++
		fail := func(what, kernel string) {
			it.Status = Mismatch
			it.Diff = &Difference{Off: inside, Object: what, Kernel: kernel}
		}
		name := f.Sections[sec].Name
		if k >= len(sites[site]) {
			fail("an entry in "+name, "none")
			continue
		}
		votes, what, kernel := c.compareEntry(sec, off, n, line, sites[site][k])
		if what != "" {
			fail(fmt.Sprintf("an entry in %s with %s", name, what), kernel)
			continue
		}
		for _, v := range votes {
			v.off = inside
			c.vote(v, l[i])
		}
	}
}

// compareEntry compares the entry at an offset of a table with that which the kernel has at an address; what is empty when
// they are equal. line is where the line number is, 0 for none.
func (c *checker) compareEntry(sec object.SecID, off, n, line, addr uint64) (votes []vote, what, kernel string) {
	data := c.f.Sections[sec].Data
	img := c.w.bytes(addr, int(n))
	if img == nil || off+n > uint64(len(data)) {
		return nil, "contents", "none"
	}
	data = data[off : off+n]
	if line != 0 {
		img = bytes.Clone(img)
		copy(img[line:line+2], data[line:line+2])
	}
	rel := c.f.RelocsOf(sec)
	lo, hi := rel.Range(off, off+n)
	pos := uint64(0)
	for ; lo < hi; lo++ {
		r := rel.At(lo)
		info, ok := followed(r.Type)
		at := r.Off - off
		if r.Type == elf.R_X86_64_NONE {
			continue
		}
		if !ok || at < pos || at+uint64(info.Size) > n || uint64(r.Sym) >= uint64(len(c.f.Symbols)) {
			return nil, "a relocation that cannot be followed", "another"
		}
		if !bytes.Equal(data[pos:at], img[pos:at]) {
			return nil, fmt.Sprintf("% x", data[pos:at]), fmt.Sprintf("% x", img[pos:at])
		}
		pos = at + uint64(info.Size)
		v, d := c.field(&r, info, addr+at, img[at:pos], false)
		if d != nil {
			return nil, d.object, d.kernel
		}
		if v.sec != 0 {
			votes = append(votes, v)
		}
	}
	if !bytes.Equal(data[pos:], img[pos:]) {
		return nil, fmt.Sprintf("% x", data[pos:]), fmt.Sprintf("% x", img[pos:])
	}
	return votes, "", ""
}
