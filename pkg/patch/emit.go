package patch

import (
	"bytes"
	"debug/elf"

	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/reloc"
)

// module reports whether the kernel's module loader applies relocations of a type.
func module(t elf.R_X86_64) bool {
	info, ok := reloc.Lookup(t)
	return ok && info.Module
}

// namesTarget reports whether a symbol names what it stands for, rather than a position.
func namesTarget(f *object.File, id object.SymID) bool {
	s := &f.Symbols[id]
	return s.Name != "" && s.Type() != elf.STT_SECTION && !(len(s.Name) > 1 && s.Name[0] == '.' && s.Name[1] == 'L')
}

// common is what the pairs of a patch share in the Builder.
type common struct {
	b         *object.Builder
	local     bool                          // functions that replace others are local
	merged    map[string]object.SecID       // sections by name, when pairs share them; nil: each has its own
	sections  map[object.SecID]object.SymID // section symbols
	undefined map[string]object.SymID
	defined   map[string]object.SymID // global names
}

// emitter puts what was decided about one pair into a Builder.
type emitter struct {
	*common
	pp   *pairPlan
	secs []object.SecID // by index into pp.sections
	base []uint64       // by index into pp.sections: where the pair's part of the section starts
	syms []object.SymID // by SymID of the patched object; 0: not in the patch
}

func (e *emitter) copySections() {
	f := e.pp.Patched.File
	e.secs, e.base = make([]object.SecID, len(e.pp.sections)), make([]uint64, len(e.pp.sections))
	for i := range e.pp.sections {
		o := &e.pp.sections[i]
		s := &f.Sections[o.src]
		bs := object.BuildSection{Name: s.Name, Type: s.Type, Flags: s.Flags &^ (elf.SHF_GROUP | elf.SHF_LINK_ORDER), Addralign: s.Addralign, Entsize: s.Entsize, Data: o.data}
		if s.Type == elf.SHT_NOBITS {
			bs.Size = o.size
		}
		if id, ok := e.merged[s.Name]; ok {
			e.secs[i], e.base[i] = id, e.extend(id, &bs)
			continue
		}
		e.secs[i] = e.b.AddSection(bs)
		if e.merged != nil {
			e.merged[s.Name] = e.secs[i]
		}
	}
}

// extend appends a section of one pair to that of the same name of the pairs
// before it and gives the place: the module loader wants one section of a name.
func (e *emitter) extend(id object.SecID, add *object.BuildSection) uint64 {
	s := e.b.Section(id)
	size := max(s.Size, uint64(len(s.Data)))
	align := max(add.Addralign, 1)
	base := (size + align - 1) &^ (align - 1)
	s.Addralign = max(s.Addralign, add.Addralign)
	s.Flags |= add.Flags & elf.SHF_WRITE
	if s.Type != add.Type || s.Entsize != add.Entsize || (s.Flags^add.Flags)&(elf.SHF_MERGE|elf.SHF_STRINGS) != 0 {
		s.Flags, s.Entsize = s.Flags&^(elf.SHF_MERGE|elf.SHF_STRINGS), 0
	}
	if s.Type == elf.SHT_NOBITS && add.Type == elf.SHT_NOBITS {
		s.Size = base + add.Size
		e.b.SetSection(id, s)
		return base
	}
	if s.Type == elf.SHT_NOBITS {
		s.Type, s.Size, s.Data = add.Type, 0, make([]byte, size)
	}
	fill := byte(0)
	if s.Flags&elf.SHF_EXECINSTR != 0 {
		fill = 0x90
	}
	data := append(make([]byte, 0, base+uint64(len(add.Data))+add.Size), s.Data...)
	for uint64(len(data)) < base {
		data = append(data, fill)
	}
	data = append(data, add.Data...)
	if add.Type == elf.SHT_NOBITS {
		data = append(data, make([]byte, add.Size)...)
	}
	s.Data = data
	e.b.SetSection(id, s)
	return base
}

// symbols defines the names of everything included: those that lie in an included
// atom, with the FILE symbol of their scope before them.
func (e *emitter) symbols() {
	g, f := e.pp.Patched, e.pp.Patched.File
	e.syms = make([]object.SymID, len(f.Symbols))
	used := make([]bool, len(f.Symbols))
	for i := range e.pp.relocs {
		used[e.pp.relocs[i].sym] = true
	}
	file := object.SymID(0) // the FILE symbol before the present one
	wrote := object.SymID(0)
	for i := 1; i < len(f.Symbols); i++ {
		s := &f.Symbols[i]
		if s.Type() == elf.STT_FILE {
			file = object.SymID(i)
			continue
		}
		if s.Sec == 0 || s.Type() == elf.STT_SECTION {
			continue
		}
		a := g.SymbolAtom(object.SymID(i))
		if a == 0 || !e.pp.has(a) || !namesTarget(f, object.SymID(i)) && !used[i] {
			continue
		}
		info := s.Info
		if e.local && s.Type() == elf.STT_FUNC && e.pp.replaces(a) {
			info = elf.ST_INFO(elf.STB_LOCAL, s.Type())
		}
		if elf.ST_BIND(info) == elf.STB_LOCAL && file != wrote {
			wrote = file
			fs := &f.Symbols[file]
			e.b.AddSymbol(object.BuildSymbol{Name: fs.Name, Info: fs.Info, Shndx: elf.SHN_ABS})
		}
		o := e.pp.bySec[s.Sec] - 1
		id := e.b.AddSymbol(object.BuildSymbol{Name: s.Name, Info: info, Other: s.Other, Size: s.Size,
			Sec: e.secs[o], Value: s.Value - g.Atoms[a].Off + e.pp.off[a] + e.base[o]})
		e.syms[i] = id
		if s.Bind() != elf.STB_LOCAL {
			e.defined[s.Name] = id
		}
	}
}

func (e *emitter) sectionSymbol(i int) object.SymID {
	id, ok := e.sections[e.secs[i]]
	if !ok {
		id = e.b.AddSymbol(object.BuildSymbol{Sec: e.secs[i], Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_SECTION)})
		e.sections[e.secs[i]] = id
	}
	return id
}

// named gives the symbol of a global name that is not this object's: what another
// object of the patch defines, else the one undefined symbol of that name.
func (e *emitter) named(name string, info, other uint8) object.SymID {
	if id, ok := e.defined[name]; ok {
		return id
	}
	id, ok := e.undefined[name]
	if !ok {
		id = e.b.AddSymbol(object.BuildSymbol{Name: name, Info: info, Other: other})
		e.undefined[name] = id
	} else if s := e.b.Symbol(id); elf.ST_BIND(s.Info) == elf.STB_WEAK && elf.ST_BIND(info) != elf.STB_WEAK {
		s.Info = info // one object can do without it, another cannot
		e.b.SetSymbol(id, s)
	}
	return id
}

// relocs adds the ordinary relocations and hands those for the livepatch core to late.
func (e *emitter) relocs(late func(*outReloc)) {
	f := e.pp.Patched.File
	for i := range e.pp.relocs {
		r := &e.pp.relocs[i]
		nr := object.Reloc{Off: r.off + e.base[r.sec], Type: r.typ, Addend: r.addend}
		switch {
		case r.klp != nil:
			late(r)
			continue
		case r.into != 0:
			nr.Sym = e.sectionSymbol(r.into - 1)
			nr.Addend += int64(e.base[r.into-1])
		case r.name != "":
			nr.Sym = e.named(r.name, elf.ST_INFO(elf.STB_GLOBAL, elf.STT_NOTYPE), 0)
		case e.syms[r.sym] != 0:
			nr.Sym = e.syms[r.sym]
		default:
			s := &f.Symbols[r.sym]
			nr.Sym = e.named(s.Name, s.Info, s.Other)
		}
		e.b.AddReloc(e.secs[r.sec], nr)
	}
}

func (e *emitter) klp(r *outReloc) klp.Reloc {
	return klp.Reloc{Object: r.gate, Sec: e.secs[r.sec], Off: r.off + e.base[r.sec], Type: r.typ, Addend: r.addend, Symbol: r.klp.Symbol}
}

// imports gives the namespaces that the objects import ("import_ns=..." strings
// of .modinfo), and those in which what the patch refers to is exported: code of
// the kernel itself need not say so, a module must. Each is a string of .modinfo.
func (p *Plan) imports() []string {
	var out []string
	seen := make(map[string]bool)
	add := func(s string) {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	for _, pp := range p.pairs {
		if len(pp.atoms) == 0 {
			continue
		}
		f := pp.Patched.File
		for i := range f.Sections {
			if f.Sections[i].Name != ".modinfo" {
				continue
			}
			for _, str := range bytes.Split(f.Sections[i].Data, []byte{0}) {
				if at := bytes.Index(str, []byte("import_ns=")); at >= 0 {
					add(string(str[at:]))
				}
			}
		}
		for i := range pp.relocs {
			if ns := pp.relocs[i].ns; ns != "" {
				add("import_ns=" + ns)
			}
		}
	}
	return out
}

// modinfo adds a section with the namespaces that the patch imports.
func (p *Plan) modinfo(b *object.Builder) {
	var data []byte
	for _, s := range p.imports() {
		data = append(append(data, s...), 0)
	}
	if len(data) > 0 {
		b.AddSection(object.BuildSection{Name: ".modinfo", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Addralign: 1, Data: data})
	}
}
