package module

import (
	"fmt"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel/image"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/symbols"
)

// Of gives what Build has to know of a kernel: from its image, and the modules that
// pairs belong to. sources are what is known of the symbols of vmlinux and of each module, by
// name: their tables, and evidence of where symbols of single objects lie (pkg/kernel/runpre). The
// diagnostics say where sources contradict each other. The error names what the image lacks.
func Of(k *image.Kernel, modules []*image.Module, sources map[string][]symbols.Source) (*Kernel, []diag.Diagnostic, error) {
	layout, err := k.KlpLayout()
	if err != nil {
		return nil, nil, err
	}
	var ds []diag.Diagnostic
	byName := make(map[string]*image.Module)
	o, notes := symbols.NewOracle(klp.Vmlinux, sources[klp.Vmlinux]...)
	ds = append(ds, notes...)
	oracles := []*symbols.Oracle{o}
	for _, m := range modules {
		if why := m.Fits(k); why != "" {
			ds = append(ds, diag.New(diag.KlpModule, diag.Place{File: m.File.Name}, "the module is not one of this kernel: %s", why))
		}
		if byName[m.Name] != nil {
			continue
		}
		byName[m.Name] = m
		o, notes := symbols.NewOracle(m.Name, append([]symbols.Source{m.Symvers()}, sources[m.Name]...)...)
		ds = append(ds, notes...)
		oracles = append(oracles, o)
	}
	major, minor := k.Version()
	out := &Kernel{
		Vermagic: k.Vermagic, Layout: layout,
		Symbols:      symbols.NewSet(k.Symvers(), oracles...),
		UnwindCall:   k.ORC().Call(),
		ReturnThunk:  k.ReturnThunk(),
		KCFI:         k.KCFI(),
		ClearsRelocs: major > 6 || major == 6 && minor >= 3,
	}
	if sp := k.ORCStackPointer(); sp != 0 && sp != orcSP {
		out.UnwindOther = fmt.Sprintf("number %d for the stack pointer", sp)
	}
	if k.HasModversions() {
		out.CRC = func(symbol string) (uint32, bool) {
			e, ok := k.Export(symbol)
			if !ok {
				return 0, false
			}
			return e.CRC, true
		}
	}
	out.Traceable = func(object, name string, addr, pos uint64) bool {
		if object == klp.Vmlinux {
			if all := k.Find(name); addr == 0 && len(all) == 1 {
				addr = k.Symbols[all[0]].Addr
			}
			return k.Ftrace(addr)
		}
		m := byName[object]
		if m == nil {
			return true
		}
		ids := m.Find(name)
		at := max(int(pos), 1) - 1
		return at < len(ids) && m.Ftrace(ids[at])
	}
	return out, ds, nil
}
