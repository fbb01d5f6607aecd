package image

import (
	"bytes"
	"debug/elf"
	"strings"
	"sync"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/reloc"
	"github.com/kdelta/kdelta/symbols"
)

// Module is the facts of one module's file.
type Module struct {
	Name     string       // as the kernel calls it
	Vermagic string       // of the kernel that it is made for
	Depends  []string     // modules that must be there before
	Info     []string     // all of .modinfo, KEY=VALUE, in the order of the file
	Exports  []Export     // sorted by name
	File     *object.File // decompressed
	Signed   bool         // a signature follows the file

	sites map[site]bool // calls of the tracer
	once  sync.Once
	table *symbols.Table
}

type site struct {
	sec object.SecID
	off uint64
}

const signatureMagic = "~Module signature appended~\n"

// ParseModule reads a module's .ko, plain or compressed (.xz, .zst, .gz).
func ParseModule(ko []byte, opts Options) (*Module, error) {
	data, err := Decompress(ko, opts)
	if err != nil {
		return nil, err
	}
	m := &Module{Signed: bytes.HasSuffix(data, []byte(signatureMagic))}
	f, err := object.Parse(data, object.Options{Name: opts.Name})
	if err != nil {
		return nil, err
	}
	at := diag.Place{File: opts.Name}
	if f.Header.Type != elf.ET_REL {
		return nil, problem(diag.ImageMalformed, at, "not a module: its type is %v", f.Header.Type)
	}
	m.File = f
	info := f.FindSection(".modinfo", elf.SHT_PROGBITS)
	if info == 0 {
		return nil, problem(diag.ImageMalformed, at, "not a module: no .modinfo")
	}
	for s := range bytes.SplitSeq(f.Sections[info].Data, []byte{0}) {
		if len(s) > 0 {
			m.Info = append(m.Info, string(s))
		}
	}
	m.Vermagic, _ = m.Value("vermagic")
	m.Name, _ = m.Value("name")
	if m.Name == "" {
		m.Name = moduleName(opts.Name)
	}
	m.Name = strings.ReplaceAll(m.Name, "-", "_")
	if d, _ := m.Value("depends"); d != "" {
		m.Depends = strings.Split(d, ",")
	}
	if err := m.readExports(); err != nil {
		return nil, err
	}
	m.sites = make(map[site]bool)
	rel := f.RelocsOf(f.FindSection("__mcount_loc", elf.SHT_PROGBITS))
	for i := range rel.Len() {
		r := rel.At(i)
		if s := &f.Symbols[r.Sym]; s.Sec != 0 {
			m.sites[site{s.Sec, s.Value + uint64(r.Addend)}] = true
		}
	}
	return m, nil
}

// moduleName gives the name of a module by its file's.
func moduleName(path string) string {
	path = path[strings.LastIndexByte(path, '/')+1:]
	name, _, _ := strings.Cut(path, ".ko")
	return name
}

// Value gives the first value of a key of .modinfo.
func (m *Module) Value(key string) (string, bool) {
	for _, s := range m.Info {
		if v, ok := strings.CutPrefix(s, key+"="); ok {
			return v, true
		}
	}
	return "", false
}

// readExports reads the tables of exports, which relocations fill.
func (m *Module) readExports() error {
	f := m.File
	flags := f.FindSection("__kflagstab", elf.SHT_PROGBITS)
	str := func(s *object.Symbol, addend int64) (string, bool) {
		if s.Sec == 0 {
			return "", false
		}
		b := f.Sections[s.Sec].Data
		off := s.Value + uint64(addend)
		if off >= uint64(len(b)) {
			return "", false
		}
		b = b[off:]
		n := bytes.IndexByte(b[:min(len(b), maxString)], 0)
		if n < 0 {
			return "", false
		}
		return string(b[:n]), true
	}
	for _, t := range [...]struct {
		name, crc string
		gpl       bool
	}{{"__ksymtab", "__kcrctab", false}, {"__ksymtab_gpl", "__kcrctab_gpl", true}} {
		sec := f.FindSection(t.name, elf.SHT_PROGBITS)
		if sec == 0 || t.gpl && flags != 0 {
			continue
		}
		at := diag.Place{File: f.Name, Section: t.name}
		n := int(f.Sections[sec].Size) / ksymEntry
		rel := f.RelocsOf(sec)
		if int(f.Sections[sec].Size)%ksymEntry != 0 || rel.Len() != 3*n {
			return problem(diag.ImageMalformed, at, "%d bytes with %d relocations are not a table of exports", f.Sections[sec].Size, rel.Len())
		}
		var crcs, fl []byte
		if c := f.FindSection(t.crc, elf.SHT_PROGBITS); c != 0 && len(f.Sections[c].Data) == 4*n {
			crcs = f.Sections[c].Data
		}
		if flags != 0 && len(f.Sections[flags].Data) == n {
			fl = f.Sections[flags].Data
		}
		for i := range n {
			var field [3]object.Reloc
			for j := range field {
				field[j] = rel.At(3*i + j)
				if field[j].Off != uint64(i*ksymEntry+4*j) || field[j].Type != elf.R_X86_64_PC32 {
					return problem(diag.ImageMalformed, at.At(field[j].Off), "entry %d does not consist of three references (%s)", i, reloc.Name(field[j].Type))
				}
			}
			val := &f.Symbols[field[0].Sym]
			e := Export{Addr: val.Value + uint64(field[0].Addend), GPL: t.gpl}
			var ok, ok2 bool
			e.Name, ok = str(&f.Symbols[field[1].Sym], field[1].Addend)
			e.Namespace, ok2 = str(&f.Symbols[field[2].Sym], field[2].Addend)
			if !ok || !ok2 || e.Name == "" {
				return problem(diag.ImageMalformed, at.At(field[1].Off), "the name of export %d is not in the file", i)
			}
			if crcs != nil {
				e.CRC = le.Uint32(crcs[4*i:])
			}
			if fl != nil {
				e.GPL = fl[i]&flagGPL != 0
			}
			m.Exports = append(m.Exports, e)
		}
	}
	sortExports(m.Exports)
	return nil
}

// Export gives an exported symbol.
func (m *Module) Export(name string) (*Export, bool) { return findExport(m.Exports, name) }

// Table gives the module's symbols as a source for an Oracle: the same one each time.
func (m *Module) Table() *symbols.Table {
	m.once.Do(func() { m.table = symbols.FromELF(m.File, m.Name) })
	return m.table
}

// Symvers gives the module's exports as a source for an Oracle or a Set.
func (m *Module) Symvers() *symbols.Symvers { return symvers(m.File.Name, m.Name, m.Exports) }

// Find gives the defined symbols of a name, in the order of the file, which is the kernel's.
func (m *Module) Find(name string) []object.SymID {
	var out []object.SymID
	for i := range m.File.Symbols {
		if s := &m.File.Symbols[i]; s.Name == name && !s.Undefined() && s.Type() != elf.STT_SECTION && s.Type() != elf.STT_FILE {
			out = append(out, object.SymID(i))
		}
	}
	return out
}

// Ftrace reports whether a function of the module can be traced, and so replaced: a call of the tracer is listed at its start, or behind ENDBR64.
func (m *Module) Ftrace(sym object.SymID) bool {
	if int(sym) >= len(m.File.Symbols) {
		return false
	}
	s := &m.File.Symbols[sym]
	if s.Sec == 0 {
		return false
	}
	off, data := s.Value, m.File.Sections[s.Sec].Data
	if off < uint64(len(data)) && bytes.HasPrefix(data[off:], []byte(endbr64)) {
		off += uint64(len(endbr64))
	}
	return m.sites[site{s.Sec, off}]
}

// Fits says why the module is not one of kernel k; empty: it is, or the kernel's vermagic is unknown.
func (m *Module) Fits(k *Kernel) string {
	switch {
	case k.Vermagic == "" || m.Vermagic == k.Vermagic:
		return ""
	case m.Vermagic == "":
		return "it does not say for which kernel it is made"
	}
	return "it is made for " + strings.TrimSpace(m.Vermagic) + ", the kernel is " + strings.TrimSpace(k.Vermagic)
}
