package image

import (
	"cmp"
	"slices"

	"github.com/kdelta/kdelta/pkg/diag"
)

const (
	ksymEntry = 12 // struct kernel_symbol: value, name, namespace, each s32 relative to its own place
	flagGPL   = 1  // in __kflagstab
)

// readExports reads __ksymtab and __ksymtab_gpl with the checksums beside them;
// since 7.0 there is one table, with flags.
func (k *Kernel) readExports() error {
	flags := k.Section("__kflagstab")
	for _, t := range [...]struct {
		name, crc string
		gpl       bool
	}{{"__ksymtab", "__kcrctab", false}, {"__ksymtab_gpl", "__kcrctab_gpl", true}} {
		s := k.Section(t.name)
		if s == nil || t.gpl && flags != nil {
			continue
		}
		at := diag.Place{File: k.Name, Section: t.name}
		n := len(s.Data) / ksymEntry
		if len(s.Data)%ksymEntry != 0 {
			return problem(diag.ImageMalformed, at, "%d bytes, not a list of entries of %d", len(s.Data), ksymEntry)
		}
		var crcs []byte
		if c := k.Section(t.crc); c != nil {
			if len(c.Data) != 4*n {
				return problem(diag.ImageMalformed, diag.Place{File: k.Name, Section: t.crc}, "%d bytes for %d exports", len(c.Data), n)
			}
			crcs = c.Data
			k.conv.modversions = true
		}
		if flags != nil && len(flags.Data) != n {
			return problem(diag.ImageMalformed, diag.Place{File: k.Name, Section: flags.Name}, "%d bytes for %d exports", len(flags.Data), n)
		}
		rel := func(off int) uint64 {
			return s.Addr + uint64(off) + uint64(int64(int32(le.Uint32(s.Data[off:]))))
		}
		for i := range n {
			off := i * ksymEntry
			e := Export{Addr: rel(off), GPL: t.gpl}
			var ok bool
			if e.Name, ok = k.String(rel(off + 4)); !ok || e.Name == "" {
				return problem(diag.ImageMalformed, at.At(uint64(off+4)), "the name of export %d is not in the image", i)
			}
			if e.Namespace, ok = k.String(rel(off + 8)); !ok {
				return problem(diag.ImageMalformed, at.At(uint64(off+8)), "the namespace of %s is not in the image", e.Name)
			}
			if crcs != nil {
				e.CRC = le.Uint32(crcs[4*i:])
			}
			if flags != nil {
				e.GPL = flags.Data[i]&flagGPL != 0
			}
			k.Exports = append(k.Exports, e)
		}
	}
	sortExports(k.Exports)
	return nil
}

func sortExports(all []Export) {
	slices.SortStableFunc(all, func(a, b Export) int { return cmp.Compare(a.Name, b.Name) })
}
