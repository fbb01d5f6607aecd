package image

import (
	"cmp"
	"slices"
	"strings"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/symbols"
)

// Parts is what a running kernel, or the package of its headers, tells without its image. What is nil is unknown.
type Parts struct {
	Name     string // for diagnostics
	Kallsyms []byte // /proc/kallsyms
	Symvers  []byte // Module.symvers
	BTF      []byte // /sys/kernel/btf/vmlinux
	Banner   string // /proc/version
	Vermagic string // modinfo -F vermagic of any module of the kernel
}

// FromParts makes the facts of a kernel from other sources than its image. There is no code
// or data in it: Bytes gives nil and Ftrace false. Addresses are those of kallsyms, with
// the offset of this boot, or 0 where the reader was not privileged; the order holds.
func FromParts(p Parts) (*Kernel, error) {
	k := &Kernel{Name: p.Name, Banner: strings.TrimSuffix(p.Banner, "\n"), Vermagic: p.Vermagic, btfRaw: p.BTF}
	k.readBanner()
	if k.Release == "" {
		k.Release, _, _ = strings.Cut(p.Vermagic, " ")
	}
	if k.Release == "" {
		return nil, problem(diag.ImageLacks, diag.Place{File: p.Name}, "neither banner nor vermagic tell which kernel it is")
	}
	if p.Kallsyms != nil {
		ts, err := symbols.ParseKallsyms(p.Name, p.Kallsyms)
		if err != nil {
			return nil, err
		}
		k.Symbols = make([]Symbol, len(ts[0].Entries))
		for i := range ts[0].Entries {
			e := &ts[0].Entries[i]
			k.Symbols[i] = Symbol{Name: e.Name, Addr: e.Addr, Type: e.Kind}
		}
		if ts[0].Order == symbols.ByAddress {
			slices.SortStableFunc(k.Symbols, func(a, b Symbol) int { return cmp.Compare(a.Addr, b.Addr) })
		}
	}
	if p.Symvers != nil {
		s, err := symbols.ParseSymvers(p.Name, p.Symvers)
		if err != nil {
			return nil, err
		}
		k.symvers = s
		for i := range s.Exports {
			e := &s.Exports[i]
			if e.Module == symbols.Vmlinux {
				x := Export{Name: e.Symbol, Namespace: e.Namespace, CRC: e.CRC, GPL: strings.HasPrefix(e.Type, "EXPORT_SYMBOL_GPL")}
				x.Addr, _ = k.Addr(e.Symbol)
				k.Exports = append(k.Exports, x)
			}
		}
		sortExports(k.Exports)
	}
	k.readStructs()
	k.readConventions()
	return k, nil
}
