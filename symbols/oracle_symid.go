package symbols

import (
	"debug/elf"
	"encoding/binary"
	"fmt"

	"github.com/kdelta/kdelta/pkg/object"
)

// symidSection is the list that the build of livepatches leaves in vmlinux.o and
// vmlinux: {u64 id, u64 address}, in the .o with a relocation to the symbol.
const (
	symidSection = ".klp.symid"
	symidSize    = 16
)

// SymIDs joins the .klp.symid sections of an unlinked vmlinux.o and of the vmlinux
// that was linked from it: where the .o's duplicate symbols lie. The error names the
// section and offset where the two contradict each other.
func SymIDs(orig, linked *object.File) (*Located, error) {
	osec, lsec := orig.FindSection(symidSection, elf.SHT_PROGBITS), linked.FindSection(symidSection, elf.SHT_PROGBITS)
	switch {
	case osec == 0:
		return nil, malformed(orig.Name, 0, "no section %s", symidSection)
	case lsec == 0:
		return nil, malformed(linked.Name, 0, "no section %s", symidSection)
	}
	ids, addrs := orig.Sections[osec].Data, linked.Sections[lsec].Data
	if len(ids)%symidSize != 0 || len(addrs)%symidSize != 0 {
		return nil, malformed(orig.Name, len(ids), "%s is not a list of entries of %d bytes", symidSection, symidSize)
	}
	if len(ids) != len(addrs) {
		return nil, malformed(linked.Name, len(addrs), "%s has %d entries, that of %s has %d: the vmlinux was not linked from it", symidSection, len(addrs)/symidSize, orig.Name, len(ids)/symidSize)
	}
	at := make(map[uint64]uint64, len(addrs)/symidSize) // id to address
	for off := 0; off < len(addrs); off += symidSize {
		id := binary.LittleEndian.Uint64(addrs[off:])
		if _, dup := at[id]; dup {
			return nil, malformed(linked.Name, off, "%s: id %d stands twice", symidSection, id)
		}
		at[id] = binary.LittleEndian.Uint64(addrs[off+8:])
	}
	l := &Located{Source: symidSection, File: orig, Addr: make(map[object.SymID]uint64, len(at))}
	rel := orig.RelocsOf(osec)
	if rel.Len() != len(ids)/symidSize {
		return nil, malformed(orig.Name, 0, "%s has %d entries and %d relocations", symidSection, len(ids)/symidSize, rel.Len())
	}
	for i := range rel.Len() {
		r := rel.At(i)
		if r.Off != uint64(i*symidSize+8) || r.Type != elf.R_X86_64_64 || r.Addend != 0 || int(r.Sym) >= len(orig.Symbols) {
			return nil, malformed(orig.Name, int(r.Off), "%s: relocation %d is not the address of entry %d", symidSection, i, i)
		}
		id := binary.LittleEndian.Uint64(ids[i*symidSize:])
		addr, ok := at[id]
		if !ok {
			return nil, malformed(orig.Name, i*symidSize, "%s: %s lacks id %d", symidSection, linked.Name, id)
		}
		if _, dup := l.Addr[r.Sym]; dup {
			return nil, malformed(orig.Name, int(r.Off), "%s: symbol %d stands twice", symidSection, r.Sym)
		}
		l.Addr[r.Sym] = addr
	}
	return l, nil
}

// locate turns evidence from outside into votes.
func (o *Oracle) locate(f *object.File, sym object.SymID, votes []vote) ([]vote, string) {
	why := ""
	for _, l := range o.located {
		if l.File != f {
			continue
		}
		if entry, ok := l.Entry[sym]; ok {
			for _, x := range o.tables {
				if x.t == l.Table && entry >= 0 && int(entry) < len(x.at) && x.at[entry] >= 0 && x.t.Entries[entry].Name == f.Symbols[sym].Name {
					votes = append(votes, vote{x: x, k: x.at[entry], method: MethodLocated, evidence: fmt.Sprintf("%s makes it symbol %d", l.Source, entry)})
				}
			}
		}
		addr, ok := l.Addr[sym]
		if !ok {
			continue
		}
		found := false
		for _, x := range o.tables {
			if l.Table != nil && l.Table != x.t || !x.addrs || !x.rising || x.module || x.t.Order == Unordered {
				continue
			}
			if k := x.find(f.Symbols[sym].Name, addr); k >= 0 {
				found = true
				votes = append(votes, vote{x: x, k: k, method: MethodLocated, evidence: fmt.Sprintf("%s puts it at %#x", l.Source, addr)})
			}
		}
		if !found {
			why = fmt.Sprintf("%s puts it at %#x, where no source has it", l.Source, addr)
		}
	}
	return votes, why
}
