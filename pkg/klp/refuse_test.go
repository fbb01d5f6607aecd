package klp

import (
	"debug/elf"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
)

// secID gives the section of a name in the Builder.
func (x *fixture) secID(name string) object.SecID {
	for i := x.b.NumSections() - 1; i > 0; i-- {
		if x.b.Section(object.SecID(i)).Name == name {
			return object.SecID(i)
		}
	}
	panic("BUG: no section " + name)
}

// edit changes a copy of a section's contents.
func (x *fixture) edit(name string, change func(d []byte) []byte) {
	id := x.secID(name)
	s := x.b.Section(id)
	s.Data = change(append([]byte(nil), s.Data...))
	x.b.SetSection(id, s)
}

func (x *fixture) abs(name string, off uint64, sym object.SymID, addend int64) {
	x.b.AddReloc(x.secID(name), object.Reloc{Off: off, Type: elf.R_X86_64_64, Sym: sym, Addend: addend})
}

func (x *fixture) global(name string) object.SymID {
	return x.b.AddSymbol(object.BuildSymbol{Name: name, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_NOTYPE)})
}

func (x *fixture) strings(name, s string) object.SymID {
	id := x.b.AddSection(object.BuildSection{Name: name, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Addralign: 1, Data: []byte(s)})
	return x.b.AddSymbol(object.BuildSymbol{Sec: id, Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_SECTION)})
}

func put32(at int, v uint32) func([]byte) []byte {
	return func(d []byte) []byte { binary.LittleEndian.PutUint32(d[at:], v); return d }
}

func put64(at int, v uint64) func([]byte) []byte {
	return func(d []byte) []byte { binary.LittleEndian.PutUint64(d[at:], v); return d }
}

func grow(n int) func([]byte) []byte {
	return func(d []byte) []byte { return append(d, make([]byte, n)...) }
}

var long = strings.Repeat("n", 512)

// Everything that Finalize refuses. before runs on the model, after on the Builder with the tables in it.
func TestFinalizeRefuses(t *testing.T) {
	const u, k, both = "klp", "kpatch", "klp kpatch"
	withInit := func(l *Layout) *Layout { l.ModuleInit, l.ModuleExit = 312, 1200; return l }
	for _, w := range []struct {
		name          string
		forms         string
		before, after func(x *fixture)
		layout        *Layout
		code          diag.Code
		sec, part     string
	}{
		// The kernel's rules on relocations.
		{name: "module relocation into init", forms: both, before: func(x *fixture) {
			s := x.b.AddSection(object.BuildSection{Name: ".init.text", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, Data: make([]byte, 8)})
			x.relocs[2].Sec, x.relocs[2].Off = s, 0
			x.tables.Relocs[2].Reloc = x.relocs[2]
		}, code: diag.KlpAccess, sec: ".init.text", part: "mod_a in a section that is freed"},
		{name: "module relocation into a table", forms: both, before: func(x *fixture) {
			s := x.b.AddSection(object.BuildSection{Name: "__jump_table", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_WRITE, Data: make([]byte, 8)})
			x.relocs[2].Sec, x.relocs[2].Off = s, 0
			x.tables.Relocs[2].Reloc = x.relocs[2]
		}, code: diag.KlpAccess, sec: "__jump_table", part: "uses before"},
		{name: "vmlinux symbol from a module relocation", forms: both, before: func(x *fixture) {
			x.relocs[2].Symbol.Object = Vmlinux
			x.tables.Relocs[2].Reloc = x.relocs[2]
		}, code: diag.KlpAccess, sec: ".text", part: "invalid access to vmlinux symbol"},
		{name: "unsupported type", forms: both, before: func(x *fixture) {
			x.relocs[0].Type = elf.R_X86_64_GOTPCREL
			x.tables.Relocs[0].Reloc = x.relocs[0]
		}, code: diag.RelocUnsupported, part: "R_X86_64_GOTPCREL"},
		{name: "type none", forms: both, before: func(x *fixture) {
			x.relocs[0].Type = elf.R_X86_64_NONE
			x.tables.Relocs[0].Reloc = x.relocs[0]
		}, code: diag.RelocUnsupported, part: "R_X86_64_NONE"},
		{name: "unknown type", forms: both, before: func(x *fixture) {
			x.relocs[0].Type = 200
			x.tables.Relocs[0].Reloc = x.relocs[0]
		}, code: diag.RelocUnsupported, part: "(200)"},
		{name: "nonzero target", forms: both, before: func(x *fixture) { x.edit(".text", put32(16, 0x100)) }, code: diag.RelocNonzero, sec: ".text", part: "0x01"},
		{name: "two klp relocations", forms: k, before: func(x *fixture) {
			x.tables.Relocs[1].Off = 8
		}, code: diag.KlpTwice, sec: ".text", part: "second"},
		{name: "overlapping klp relocations", forms: both, before: func(x *fixture) {
			x.relocs[1].Off = 10
			x.tables.Relocs[1].Reloc = x.relocs[1]
		}, code: diag.KlpTwice, sec: ".text", part: "second"},
		{name: "ordinary relocation beside", forms: both, after: func(x *fixture) {
			x.b.AddReloc(x.text, object.Reloc{Off: 8, Type: elf.R_X86_64_PC32, Sym: x.cb})
		}, code: diag.KlpTwice, sec: ".text", part: "second"},
		{name: "placeholder twice", forms: u, after: func(x *fixture) {
			x.b.AddReloc(x.text, object.Reloc{Off: 8, Type: elf.R_X86_64_PLT32, Addend: -4, Sym: x.global(Tombstone + "helper")})
		}, code: diag.KlpTwice, sec: ".text", part: "second"},
		{name: "ordinary relocations alone", forms: both, after: func(x *fixture) {
			for range 2 {
				x.b.AddReloc(x.data, object.Reloc{Off: 24, Type: elf.R_X86_64_64, Sym: x.cb})
			}
		}, code: diag.KlpTwice, sec: ".data.rel", part: "second"},
		{name: "outside", forms: k, before: func(x *fixture) { x.tables.Relocs[0].Off = 61 }, code: diag.RelocOutside, part: ".text+0x3d"},
		{name: "not loaded", forms: both, before: func(x *fixture) {
			s := x.b.AddSection(object.BuildSection{Name: ".debug_info", Type: elf.SHT_PROGBITS, Data: make([]byte, 8)})
			x.relocs[0].Sec, x.relocs[0].Off = s, 0
			x.tables.Relocs[0].Reloc = x.relocs[0]
		}, code: diag.KlpMalformed, part: "not loaded"},
		{name: "into the tables", forms: k, before: func(x *fixture) {}, after: func(x *fixture) {
			x.edit(KpatchSymbolsSection, grow(40))
			s := x.secID(KpatchSymbolsSection)
			x.edit(KpatchRelocsSection, grow(40))
			x.edit(KpatchRelocsSection, put32(160+8, uint32(elf.R_X86_64_PC32)))
			x.abs(KpatchRelocsSection, 160, x.sections[s], 160)
			x.abs(KpatchRelocsSection, 184, x.sections[x.secID(KpatchStringsSection)], 0)
			x.abs(KpatchRelocsSection, 192, x.sections[s], 160)
			x.abs(KpatchSymbolsSection, 184, x.sections[x.secID(KpatchStringsSection)], 0)
			x.abs(KpatchSymbolsSection, 192, x.sections[x.secID(KpatchStringsSection)], 0)
		}, code: diag.KlpMalformed, sec: KpatchSymbolsSection, part: "left out"},

		// Names.
		{name: "long object", forms: both, before: func(x *fixture) {
			x.relocs[2].Symbol.Object = long[:56]
			x.tables.Relocs[2].Reloc = x.relocs[2]
		}, code: diag.KlpName, part: "56 bytes, limit 55"},
		{name: "long symbol", forms: u, before: func(x *fixture) { x.relocs[0].Symbol.Name = long }, code: diag.KlpName, part: "512 bytes, limit 511"},
		{name: "long symbol", forms: k, before: func(x *fixture) { x.tables.Relocs[0].Symbol.Name = long }, code: diag.KlpMalformed, sec: KpatchSymbolsSection, part: "at most 511 bytes"},
		{name: "comma", forms: u, before: func(x *fixture) { x.relocs[0].Symbol.Name = "a,b" }, code: diag.KlpName, part: "not a decimal number"},
		{name: "comma", forms: k, before: func(x *fixture) { x.tables.Relocs[0].Symbol.Name = "a,b" }, code: diag.KlpName, sec: KpatchSymbolsSection, part: "comma"},
		{name: "empty symbol", forms: both, before: func(x *fixture) {
			x.relocs[0].Symbol.Name = ""
			x.tables.Relocs[0].Symbol.Name = ""
		}, code: diag.KlpName, part: "empty"},
		{name: "object with dot", forms: k, before: func(x *fixture) { x.tables.Relocs[0].Object = "a.ko" }, code: diag.KlpName, sec: KpatchRelocsSection, part: "dot"},
		{name: "section with dot", forms: u, before: func(x *fixture) { x.relocs[0].Object = "a.ko" }, code: diag.KlpName, sec: SecRelocs + "a.ko", part: "dot"},
		{name: "function with comma", forms: both, before: func(x *fixture) {
			x.objects[0].Funcs[0].Name = "a,b"
			x.tables.Funcs[0].Name = "a,b"
		}, code: diag.KlpName, part: "comma"},
		{name: "no klp symbol", forms: u, after: func(x *fixture) {
			x.edit(SecRelocs+Vmlinux, grow(24))
			x.abs(SecRelocs+Vmlinux, 72, x.fn, 0)
			x.abs(SecRelocs+Vmlinux, 80, x.fn, 0)
		}, code: diag.KlpName, sec: SecRelocs + Vmlinux, part: "does not start with"},
		{name: "klp symbol without position", forms: u, after: func(x *fixture) {
			x.edit(SecRelocs+Vmlinux, grow(24))
			x.abs(SecRelocs+Vmlinux, 72, x.fn, 0)
			x.abs(SecRelocs+Vmlinux, 80, x.global(SymPrefix+"vmlinux.x"), 0)
		}, code: diag.KlpName, sec: SecRelocs + Vmlinux, part: "not of the form"},
		{name: "klp symbol with a position of two zeros", forms: u, after: func(x *fixture) {
			x.edit(SecRelocs+Vmlinux, grow(24))
			x.abs(SecRelocs+Vmlinux, 72, x.fn, 0)
			x.abs(SecRelocs+Vmlinux, 80, x.global(SymPrefix+"vmlinux.x,00"), 0)
		}, code: diag.KlpName, sec: SecRelocs + Vmlinux, part: "not a decimal number"},
		{name: "klp symbol that is defined", forms: u, after: func(x *fixture) {
			x.edit(SecRelocs+Vmlinux, grow(24))
			x.abs(SecRelocs+Vmlinux, 72, x.fn, 0)
			x.abs(SecRelocs+Vmlinux, 80, x.b.AddSymbol(object.BuildSymbol{Name: SymPrefix + "vmlinux.x,0", Sec: x.text, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC)}), 0)
		}, code: diag.KlpMalformed, sec: SecRelocs + Vmlinux, part: "is defined in the patch"},

		// Placeholders.
		{name: "no placeholder", forms: u, after: func(x *fixture) {
			x.edit(SecRelocs+Vmlinux, grow(24))
			x.edit(SecRelocs+Vmlinux, put32(72+16, uint32(elf.R_X86_64_PC32)))
			x.abs(SecRelocs+Vmlinux, 72, x.fn, 48)
			x.abs(SecRelocs+Vmlinux, 80, x.global(SymPrefix+"vmlinux.x,0"), 0)
		}, code: diag.KlpMalformed, sec: ".text", part: "no relocation against a placeholder"},
		{name: "placeholder of another addend", forms: u, after: func(x *fixture) {
			x.edit(SecRelocs+Vmlinux, grow(24))
			x.edit(SecRelocs+Vmlinux, put32(72+16, uint32(elf.R_X86_64_PC32)))
			x.abs(SecRelocs+Vmlinux, 72, x.fn, 48)
			x.abs(SecRelocs+Vmlinux, 80, x.global(SymPrefix+"vmlinux.x,0"), -4)
			x.b.AddReloc(x.text, object.Reloc{Off: 48, Type: elf.R_X86_64_PC32, Addend: -8, Sym: x.global(Tombstone + "x")})
		}, code: diag.KlpMalformed, sec: ".text", part: "its record says R_X86_64_PC32-4"},
		{name: "placeholder that is defined", forms: both, after: func(x *fixture) {
			x.b.AddSymbol(object.BuildSymbol{Name: Tombstone + "x", Sec: x.text, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC)})
		}, code: diag.KlpMalformed, sec: ".text", part: "is defined in the patch"},
		{name: "placeholder without record", forms: both, after: func(x *fixture) {
			x.b.AddReloc(x.text, object.Reloc{Off: 48, Type: elf.R_X86_64_PC32, Sym: x.global(Tombstone + "lost")})
		}, code: diag.KlpMalformed, sec: ".text", part: "that no entry of"},
		{name: "ordinary relocation against a klp symbol", forms: both, after: func(x *fixture) {
			x.b.AddReloc(x.text, object.Reloc{Off: 48, Type: elf.R_X86_64_PC32, Sym: x.global(SymPrefix + "vmlinux.helper,3")})
		}, code: diag.KlpMalformed, sec: ".text", part: "an ordinary relocation against"},
		{name: "reference to what is left out", forms: k, after: func(x *fixture) {
			x.abs(".data.rel", 16, x.sections[x.secID(KpatchSymbolsSection)], 0)
		}, code: diag.KlpMalformed, sec: ".data.rel", part: "left out"},
		{name: "reference to what is left out", forms: u, after: func(x *fixture) {
			x.abs(".data.rel", 16, x.b.AddSymbol(object.BuildSymbol{Name: "list", Sec: x.secID(SecRelocs + Vmlinux), Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_OBJECT)}), 0)
		}, code: diag.KlpMalformed, sec: ".data.rel", part: "left out"},
		{name: "link to what is left out", forms: k, after: func(x *fixture) {
			x.b.AddSection(object.BuildSection{Name: "ordered", Type: elf.SHT_PROGBITS, Flags: elf.SHF_LINK_ORDER, Link: x.secID(KpatchSymbolsSection)})
		}, code: diag.KlpMalformed, sec: "ordered", part: "sh_link"},
		{name: "info of what is left out", forms: k, after: func(x *fixture) {
			x.b.AddSection(object.BuildSection{Name: "about", Type: elf.SHT_PROGBITS, Flags: elf.SHF_INFO_LINK, Info: uint32(x.secID(KpatchSymbolsSection))})
		}, code: diag.KlpMalformed, sec: "about", part: "sh_info"},
		{name: "group of what is left out", forms: k, after: func(x *fixture) {
			g := x.b.AddSection(object.BuildSection{Name: ".group", Type: elf.SHT_GROUP})
			m := x.secID(KpatchSymbolsSection)
			s := x.b.Section(m)
			s.Flags |= elf.SHF_GROUP
			x.b.SetSection(m, s)
			x.b.SetGroup(g, object.BuildGroup{Sig: x.fn, Members: []object.SecID{m, x.secID(".rela" + KpatchSymbolsSection)}})
			r := x.secID(".rela" + KpatchSymbolsSection)
			rs := x.b.Section(r)
			rs.Flags |= elf.SHF_GROUP
			x.b.SetSection(r, rs)
			order := []object.SecID{g}
			for i := 1; i < x.b.NumSections(); i++ {
				if object.SecID(i) != g {
					order = append(order, object.SecID(i))
				}
			}
			x.b.SetSectionOrder(order)
		}, code: diag.KlpMalformed, sec: ".group", part: "is left out"},

		// Forms.
		{name: "no tables", code: diag.KlpForm, part: "no livepatch tables"},
		{name: "both forms", forms: u, after: func(x *fixture) { Kpatch(x.b, &KpatchTables{}, x.sections) }, code: diag.KlpForm, part: "both"},
		{name: "livepatch symbol", forms: both, after: func(x *fixture) {
			x.b.AddSymbol(object.BuildSymbol{Name: "x", Shndx: object.SHN_LIVEPATCH, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC)})
		}, code: diag.KlpForm, sec: ".symtab", part: "SHN_LIVEPATCH"},
		{name: "klp section", forms: both, after: func(x *fixture) { x.strings(".klp.rela.vmlinux.x", "") }, code: diag.KlpForm, sec: ".klp.rela.vmlinux.x", part: "already"},

		// The module loader's rules.
		{name: "sections of one name", forms: both, before: func(x *fixture) {
			for range 2 {
				x.b.AddSection(object.BuildSection{Name: ".text.unlikely", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, Data: make([]byte, 8)})
			}
		}, code: diag.KlpModule, sec: ".text.unlikely", part: "same name"},

		// Static tables and start.
		{name: "own init", forms: both, layout: withInit(DefaultLayout()), before: func(x *fixture) {
			x.b.AddSymbol(object.BuildSymbol{Name: "init_module", Sec: x.text, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC)})
		}, code: diag.KlpInit, sec: ".text", part: "its own init_module"},
		{name: "own exit", forms: both, layout: withInit(DefaultLayout()), before: func(x *fixture) {
			x.b.AddSymbol(object.BuildSymbol{Name: "cleanup_module", Sec: x.text, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC)})
		}, code: diag.KlpInit, sec: ".text", part: "its own cleanup_module"},
		{name: "own tables", forms: both, layout: withInit(DefaultLayout()), before: func(x *fixture) { x.strings(StaticSection, "") }, code: diag.KlpInit, sec: StaticSection, part: "of this name"},
		{name: "own table symbol", forms: both, layout: withInit(DefaultLayout()), before: func(x *fixture) {
			x.b.AddSymbol(object.BuildSymbol{Name: PatchSymbol, Sec: x.data, Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_OBJECT)})
		}, code: diag.KlpInit, sec: ".data.rel", part: "its own __klp_patch"},
		{name: "other init", forms: both, layout: withInit(DefaultLayout()), after: func(x *fixture) { x.abs(moduleSection, 312, x.fn, 0) }, code: diag.KlpInit, sec: moduleSection, part: `refers to "x_fn"`},
		{name: "init elsewhere", forms: both, layout: withInit(DefaultLayout()), after: func(x *fixture) { x.abs(moduleSection, 304, x.global("init_module"), 0) }, code: diag.KlpInit, sec: moduleSection, part: "not at 312"},
		{name: "nobody calls init", forms: both, layout: DefaultLayout(), code: diag.KlpInit, sec: moduleSection, part: "does not refer to init_module"},
		{name: "init outside", forms: both, layout: func() *Layout { l := DefaultLayout(); l.ModuleInit = 1280; return l }(), code: diag.KlpInit, sec: moduleSection, part: "0x500 bytes"},
		{name: "bytes at init", forms: both, layout: withInit(DefaultLayout()), before: func(x *fixture) { x.edit(moduleSection, put64(312, 1)) }, code: diag.RelocNonzero, sec: moduleSection, part: "init_module"},
		{name: "bad layout", forms: both, layout: &Layout{}, code: diag.KlpInit, part: "the layout given"},
		{name: "no functions", forms: both, layout: withInit(DefaultLayout()), before: func(x *fixture) { x.objects, x.tables.Funcs = nil, nil }, code: diag.KlpForm, part: "replaces nothing"},
		{name: "function twice", forms: both, layout: withInit(DefaultLayout()), before: func(x *fixture) {
			x.objects[0].Funcs[1] = Func{Name: "x_fn", Pos: 1, New: x.cb}
			x.tables.Funcs[1].Func = x.objects[0].Funcs[1]
		}, code: diag.KlpMalformed, part: "replaced twice"},
		{name: "callback twice", forms: k, layout: withInit(DefaultLayout()), before: func(x *fixture) {
			x.tables.Callbacks = []Callback{{Vmlinux, PrePatch, x.cb}, {Vmlinux, PrePatch, x.fn}}
		}, code: diag.KlpMalformed, part: "two pre_patch callbacks"},
		{name: "versions of an odd size", forms: both, layout: withInit(DefaultLayout()), before: func(x *fixture) { x.strings("__versions", "x") }, code: diag.KlpMalformed, sec: "__versions", part: "64 bytes"},
		{name: "return sites of an odd size", forms: both, layout: withInit(DefaultLayout()), before: func(x *fixture) { x.strings(returnSites, "x") }, code: diag.KlpMalformed, sec: returnSites, part: "4 bytes"},
	} {
		for _, form := range []string{u, k, ""} {
			if w.forms != "" && (form == "" || !strings.Contains(w.forms, form)) || w.forms == "" && form != "" {
				continue
			}
			t.Run(w.name+" "+form, func(t *testing.T) {
				x := newFixture("x").module()
				if w.before != nil {
					w.before(x)
				}
				switch form {
				case u:
					Intermediate(x.b, x.objects, x.relocs, nil, x.sections)
				case k:
					Kpatch(x.b, &x.tables, x.sections)
				}
				if w.after != nil {
					w.after(x)
				}
				out, err := Finalize(mustBytes(t, x.b), FinalizeOptions{Name: "in.ko", Layout: w.layout})
				if out != nil {
					t.Error("bytes as well as an error")
				}
				sec := w.sec
				if sec == "" {
					sec = place1(err)
				}
				refused(t, err, w.code, sec, w.part)
			})
		}
	}
}

// place1 gives the section of the first diagnostic, for rows that do not care.
func place1(err error) string {
	if de, ok := err.(*diag.Error); ok {
		return de.Diagnostics[0].Place.Section
	}
	return ""
}

func TestFinalizeRefusesFiles(t *testing.T) {
	_, err := Finalize(nil, FinalizeOptions{Name: "in.ko"})
	refused(t, err, diag.ElfMalformed, "", "not an ELF file")

	x := newFixture("x").module()
	_, err = Finalize(append(x.klp(t), "sig~Module signature appended~\n"...), FinalizeOptions{Name: "in.ko"})
	refused(t, err, diag.KlpForm, "", "signed")

	exe := newFixture("x").klp(t)
	exe[16] = byte(elf.ET_DYN)
	_, err = Finalize(exe, FinalizeOptions{Name: "in.ko"})
	refused(t, err, diag.KlpForm, "", "ET_DYN")

	// No struct module.
	l := DefaultLayout()
	l.ModuleInit = 312
	_, err = Finalize(newFixture("x").klp(t), FinalizeOptions{Name: "in.ko", Layout: l})
	refused(t, err, diag.KlpInit, moduleSection, "missing")

	// More sections than the loader can count.
	many := newFixture("x").module()
	for range 0xff00 {
		many.b.AddSection(object.BuildSection{Type: elf.SHT_PROGBITS, Name: "n"})
	}
	_, err = Finalize(many.klp(t), FinalizeOptions{Name: "in.ko"})
	refused(t, err, diag.KlpModule, "", "no extended numbers")

	// Names that do not start with NUL.
	raw := newFixture("x").module().klp(t)
	f := mustParse(t, raw)
	s := section(t, f, ".strtab")
	raw[s.Offset] = 'x'
	for i := range f.Symbols { // those without a name are at 0: point them at a NUL
		if f.Symbols[i].NameOff == 0 && i > 0 {
			binary.LittleEndian.PutUint32(raw[f.Sections[f.Symtab].Offset+uint64(i)*24:], uint32(s.Size-1))
		}
	}
	if _, err = Finalize(raw, FinalizeOptions{Name: "in.ko"}); err == nil {
		t.Error("a table of names without NUL at its start was taken")
	}
}

// Everything that the readers refuse beyond what TestFinalizeRefuses has.
func TestReadRefuses(t *testing.T) {
	type reads = func(*object.File) (*Patch, error)
	for _, w := range []struct {
		name      string
		kpatch    bool
		change    func(x *fixture)
		code      diag.Code
		sec, part string
	}{
		{"odd objects", false, func(x *fixture) { x.edit(SecObjects, grow(8)) }, diag.KlpMalformed, SecObjects, "64 bytes each"},
		{"klp symbol of type file", false, func(x *fixture) {
			x.edit(SecRelocs+Vmlinux, grow(24))
			x.abs(SecRelocs+Vmlinux, 72, x.fn, 48)
			x.abs(SecRelocs+Vmlinux, 80, x.b.AddSymbol(object.BuildSymbol{Name: SymPrefix + "vmlinux.x,0", Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FILE)}), 0)
		}, diag.KlpMalformed, SecRelocs + Vmlinux, "STT_FILE"},
		{"odd functions", false, func(x *fixture) { x.edit(SecFuncs, grow(8)) }, diag.KlpMalformed, SecFuncs, "24 bytes each"},
		{"odd relocations", false, func(x *fixture) { x.edit(SecRelocs+Vmlinux, grow(8)) }, diag.KlpMalformed, SecRelocs + Vmlinux, "24 bytes each"},
		{"too many functions", false, func(x *fixture) { x.edit(SecObjects, put32(64+56, 2)) }, diag.KlpMalformed, SecObjects, "2 functions at"},
		{"too few functions", false, func(x *fixture) { x.edit(SecObjects, put32(56, 1)) }, diag.KlpMalformed, SecFuncs, "no entry of"},
		{"function claimed twice", false, func(x *fixture) { x.edit(SecObjects, put32(56, 3)) }, diag.KlpMalformed, SecFuncs, "two entries"},
		{"functions nowhere", false, func(x *fixture) {
			x.edit(SecObjects, grow(64))
			x.edit(SecObjects, put32(128+56, 1))
		}, diag.KlpMalformed, SecObjects, "no relocation says"},
		{"functions elsewhere", false, func(x *fixture) {
			x.edit(SecObjects, grow(64))
			x.abs(SecObjects, 128+8, x.fn, 0)
		}, diag.KlpMalformed, SecObjects, "which is not a part of"},
		{"vmlinux by name", false, func(x *fixture) {
			x.edit(SecObjects, grow(64))
			x.abs(SecObjects, 128, x.strings(".rodata.s", "vmlinux\x00"), 0)
		}, diag.KlpMalformed, SecObjects, "has no name here"},
		{"object's name without end", false, func(x *fixture) {
			x.edit(SecObjects, grow(64))
			x.abs(SecObjects, 128, x.strings(".rodata.s", "vm"), 0)
		}, diag.KlpMalformed, SecObjects, "no string"},
		{"object without name", false, func(x *fixture) {
			x.edit(SecObjects, grow(64))
			x.abs(SecObjects, 128, x.strings(".rodata.s", "\x00"), 0)
		}, diag.KlpName, SecObjects, "empty"},
		{"function without pointers", false, func(x *fixture) {
			x.edit(SecFuncs, grow(24))
			x.edit(SecObjects, put32(64+56, 2))
		}, diag.KlpMalformed, SecFuncs, "without name or replacement"},
		{"relocation without pointers", false, func(x *fixture) { x.edit(SecRelocs+Vmlinux, grow(24)) }, diag.KlpMalformed, SecRelocs + Vmlinux, "without place or symbol"},
		{"padding", false, func(x *fixture) { x.edit(SecRelocs+Vmlinux, put32(20, 1)) }, diag.KlpMalformed, SecRelocs + Vmlinux, "padding"},
		{"relocation where no pointer is", false, func(x *fixture) { x.abs(SecRelocs+Vmlinux, 16, x.fn, 0) }, diag.KlpMalformed, SecRelocs + Vmlinux, "no pointer"},
		{"pointer of 32 bits", false, func(x *fixture) {
			x.edit(SecRelocs+Vmlinux, grow(24))
			x.b.AddReloc(x.secID(SecRelocs+Vmlinux), object.Reloc{Off: 72, Type: elf.R_X86_64_32, Sym: x.fn})
		}, diag.KlpMalformed, SecRelocs + Vmlinux, "type R_X86_64_32"},
		{"pointer twice", false, func(x *fixture) { x.abs(SecRelocs+Vmlinux, 0, x.fn, 0) }, diag.KlpMalformed, SecRelocs + Vmlinux, "two relocations for one pointer"},
		{"pointer with bytes", false, func(x *fixture) { x.edit(SecRelocs+Vmlinux, put64(0, 1)) }, diag.RelocNonzero, SecRelocs + Vmlinux, "not zero"},
		{"place in no section", false, func(x *fixture) {
			x.edit(SecRelocs+Vmlinux, grow(24))
			x.abs(SecRelocs+Vmlinux, 72, x.global("nowhere"), 0)
			x.abs(SecRelocs+Vmlinux, 80, x.global(SymPrefix+"vmlinux.x,0"), 0)
		}, diag.KlpMalformed, SecRelocs + Vmlinux, "not defined here"},
		{"place outside", false, func(x *fixture) {
			x.edit(SecRelocs+Vmlinux, grow(24))
			x.abs(SecRelocs+Vmlinux, 72, x.fn, 65)
			x.abs(SecRelocs+Vmlinux, 80, x.global(SymPrefix+"vmlinux.x,0"), 0)
		}, diag.KlpMalformed, SecRelocs + Vmlinux, "0x40 bytes"},
		{"replacement is data", true, func(x *fixture) {
			x.edit(KpatchFuncsSection, grow(56))
			x.abs(KpatchFuncsSection, 168, x.sections[x.data], 0)
			x.abs(KpatchFuncsSection, 208, x.sections[x.secID(KpatchStringsSection)], 0)
			x.abs(KpatchFuncsSection, 216, x.sections[x.secID(KpatchStringsSection)], 0)
		}, diag.KlpMalformed, KpatchFuncsSection, "holds no code"},
		{"replacement without symbol", true, func(x *fixture) {
			x.edit(KpatchFuncsSection, grow(56))
			x.abs(KpatchFuncsSection, 168, x.sections[x.text], 4)
			x.abs(KpatchFuncsSection, 208, x.sections[x.secID(KpatchStringsSection)], 0)
			x.abs(KpatchFuncsSection, 216, x.sections[x.secID(KpatchStringsSection)], 0)
		}, diag.KlpMalformed, KpatchFuncsSection, "where no function has its symbol"},
		{"odd kpatch functions", true, func(x *fixture) { x.edit(KpatchFuncsSection, grow(8)) }, diag.KlpMalformed, KpatchFuncsSection, "56 bytes each"},
		{"odd symbols", true, func(x *fixture) { x.edit(KpatchSymbolsSection, grow(8)) }, diag.KlpMalformed, KpatchSymbolsSection, "40 bytes each"},
		{"odd kpatch relocations", true, func(x *fixture) { x.edit(KpatchRelocsSection, grow(8)) }, diag.KlpMalformed, KpatchRelocsSection, "40 bytes each"},
		{"pointer without relocation", true, func(x *fixture) { x.edit(KpatchRelocsSection, grow(40)) }, diag.KlpMalformed, KpatchRelocsSection, "a pointer without relocation"},
		{"external", true, func(x *fixture) { x.edit(KpatchRelocsSection, put32(12, 2)) }, diag.KlpMalformed, KpatchRelocsSection, "neither 0 nor 1"},
		{"binding", true, func(x *fixture) {
			x.edit(KpatchSymbolsSection, func(d []byte) []byte { d[16] = 77; return d })
		}, diag.KlpMalformed, KpatchSymbolsSection, "binding"},
		{"symbol of type section", true, func(x *fixture) {
			x.edit(KpatchSymbolsSection, func(d []byte) []byte { d[17] = byte(elf.STT_SECTION); return d })
		}, diag.KlpMalformed, KpatchSymbolsSection, "STT_SECTION"},
		{"unused symbol", true, func(x *fixture) {
			x.edit(KpatchSymbolsSection, grow(40))
			x.abs(KpatchSymbolsSection, 184, x.sections[x.secID(KpatchStringsSection)], 0)
			x.abs(KpatchSymbolsSection, 192, x.sections[x.secID(KpatchStringsSection)], 0)
		}, diag.KlpMalformed, KpatchSymbolsSection, "that no entry of"},
		{"symbol elsewhere", true, func(x *fixture) {
			x.edit(KpatchRelocsSection, grow(40))
			x.abs(KpatchRelocsSection, 160, x.fn, 0)
			x.abs(KpatchRelocsSection, 184, x.sections[x.secID(KpatchStringsSection)], 0)
			x.abs(KpatchRelocsSection, 192, x.sections[x.secID(KpatchSymbolsSection)], 8)
		}, diag.KlpMalformed, KpatchRelocsSection, "not an entry of"},
		{"unknown callback", true, func(x *fixture) { x.strings(".kpatch.callbacks.sometimes", "") }, diag.KlpMalformed, ".kpatch.callbacks.sometimes", "sometimes"},
		{"callback without function", true, func(x *fixture) { x.strings(".kpatch.callbacks.pre_patch", string(make([]byte, 16))) }, diag.KlpMalformed, ".kpatch.callbacks.pre_patch", "without relocation"},
		{"odd force", true, func(x *fixture) { x.strings(KpatchForceSection, "x") }, diag.KlpMalformed, KpatchForceSection, "8 bytes each"},
		{"odd arch", true, func(x *fixture) { x.strings(KpatchArchSection, "x") }, diag.KlpMalformed, KpatchArchSection, "16 bytes each"},
	} {
		t.Run(w.name, func(t *testing.T) {
			x := newFixture("x")
			read := reads(ReadIntermediate)
			if w.kpatch {
				read = ReadKpatch
				Kpatch(x.b, &x.tables, x.sections)
			} else {
				Intermediate(x.b, x.objects, x.relocs, nil, x.sections)
			}
			w.change(x)
			p, err := read(mustParse(t, mustBytes(t, x.b)))
			if p != nil {
				t.Error("a patch as well as an error")
			}
			refused(t, err, w.code, w.sec, w.part)
		})
	}
}

func TestReadFinalRefuses(t *testing.T) {
	good := finalize(t, newFixture("x").module().klp(t), FinalizeOptions{})
	const rela = ".klp.rela.vmlinux..text"
	for _, w := range []struct {
		name      string
		change    func(b *object.Builder, id object.SecID, s *object.BuildSection)
		code      diag.Code
		sec, part string
	}{
		{"flag", func(_ *object.Builder, _ object.SecID, s *object.BuildSection) {
			s.Flags &^= object.SHF_RELA_LIVEPATCH
			s.Info = 2 // another target, which has no ordinary relocations left
		}, diag.KlpMalformed, rela, "SHF_RELA_LIVEPATCH is missing"},
		{"alloc", func(_ *object.Builder, _ object.SecID, s *object.BuildSection) { s.Flags &^= elf.SHF_ALLOC }, diag.KlpMalformed, rela, "would not keep it"},
		{"name", func(_ *object.Builder, _ object.SecID, s *object.BuildSection) { s.Name = ".rela.klp" }, diag.KlpName, ".rela.klp", "not of the form"},
		{"object", func(_ *object.Builder, _ object.SecID, s *object.BuildSection) {
			s.Name = RelaPrefix + long[:56] + "..text"
		}, diag.KlpName, RelaPrefix + long[:56] + "..text", "limit 55"},
		{"target", func(_ *object.Builder, _ object.SecID, s *object.BuildSection) { s.Name = ".klp.rela.vmlinux..data" }, diag.KlpMalformed, ".klp.rela.vmlinux..data", "sh_info leads to"},
		{"symbol", func(b *object.Builder, id object.SecID, _ *object.BuildSection) {
			b.AddReloc(id, object.Reloc{Off: 48, Type: elf.R_X86_64_PC32, Sym: 1})
		}, diag.KlpMalformed, rela, "not SHN_LIVEPATCH"},
		{"symbol's name", func(b *object.Builder, id object.SecID, _ *object.BuildSection) {
			b.AddReloc(id, object.Reloc{Off: 48, Type: elf.R_X86_64_PC32, Sym: b.AddSymbol(object.BuildSymbol{Name: "x", Shndx: object.SHN_LIVEPATCH, Info: elf.ST_INFO(elf.STB_GLOBAL, 0)})})
		}, diag.KlpName, rela, "does not start with"},
		{"symbol's type", func(b *object.Builder, id object.SecID, _ *object.BuildSection) {
			b.AddReloc(id, object.Reloc{Off: 48, Type: elf.R_X86_64_PC32, Sym: b.AddSymbol(object.BuildSymbol{Name: ".klp.sym.vmlinux.x,0", Shndx: object.SHN_LIVEPATCH, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_SECTION)})})
		}, diag.KlpMalformed, rela, "STT_SECTION"},
		{"type", func(b *object.Builder, id object.SecID, _ *object.BuildSection) {
			b.AddReloc(id, object.Reloc{Off: 48, Type: elf.R_X86_64_GOTPCRELX, Sym: b.AddSymbol(object.BuildSymbol{Name: ".klp.sym.vmlinux.x,0", Shndx: object.SHN_LIVEPATCH, Info: elf.ST_INFO(elf.STB_GLOBAL, 0)})})
		}, diag.RelocUnsupported, rela, "GOTPCRELX"},
	} {
		t.Run(w.name, func(t *testing.T) {
			b := object.FromFile(mustParse(t, good))
			for i := 1; i < b.NumSections(); i++ {
				if s := b.Section(object.SecID(i)); s.Name == rela {
					before := s
					w.change(b, object.SecID(i), &s)
					if s.Name != before.Name || s.Flags != before.Flags || s.Info != before.Info {
						b.SetSection(object.SecID(i), s)
					}
				}
			}
			_, err := ReadFinal(mustParse(t, mustBytes(t, b)))
			refused(t, err, w.code, w.sec, w.part)
		})
	}
}

func TestReadStaticRefuses(t *testing.T) {
	l := DefaultLayout()
	l.ModuleInit = 312
	good := finalize(t, newFixture("x").module().klp(t), FinalizeOptions{Layout: l})
	if _, _, err := ReadStatic(mustParse(t, good), &Layout{}); err == nil {
		t.Error("a layout of nothing was taken")
	}
	if p, _, err := ReadStatic(mustParse(t, newFixture("x").klp(t)), nil); err != nil || len(p.Objects) != 0 {
		t.Error(p, err)
	}
	for _, w := range []struct {
		part   string
		change func(rels []object.Reloc) []object.Reloc
	}{
		{"no pointer into the same section", func(rels []object.Reloc) []object.Reloc { return append(rels[:1:1], rels[2:]...) }},
		{"no pointer into the same section", func(rels []object.Reloc) []object.Reloc { rels[1].Sym = rels[0].Sym; rels[1].Addend = 0; return rels }},
		{"reaches beyond the end", func(rels []object.Reloc) []object.Reloc {
			rels[1].Addend = 200 + 3*168 + 5*152 - 8
			return rels
		}},
		{"without name or replacement", func(rels []object.Reloc) []object.Reloc { return append(rels[:3:3], rels[4:]...) }},
		{"two relocations", func(rels []object.Reloc) []object.Reloc { return append(rels, rels[3]) }},
	} {
		f := mustParse(t, good)
		b := object.FromFile(f)
		for i := range f.Sections {
			if f.Sections[i].Name != StaticSection {
				continue
			}
			var rels []object.Reloc
			for j := range f.RelocsOf(object.SecID(i)).Len() {
				rels = append(rels, f.RelocsOf(object.SecID(i)).File(j))
			}
			b.SetRelocs(object.SecID(i), w.change(rels))
		}
		_, _, err := ReadStatic(mustParse(t, mustBytes(t, b)), nil)
		refused(t, err, diag.KlpMalformed, StaticSection, w.part)
	}
}

func TestLayoutCheck(t *testing.T) {
	if err := DefaultLayout().Check(); err != nil {
		t.Fatal(err)
	}
	for i, change := range []func(*Layout){
		func(l *Layout) { l.Patch = 0 },
		func(l *Layout) { l.Patch = 1 << 40 },
		func(l *Layout) { l.Patch = 201 },
		func(l *Layout) { l.PatchMod = 8 },
		func(l *Layout) { l.PatchObjs = 196 },
		func(l *Layout) { l.Replace = 200 },
		func(l *Layout) { l.Replace = 9 },
		func(l *Layout) { l.Object = 48 },
		func(l *Layout) { l.Name = 1 << 63 },
		func(l *Layout) { l.Callbacks = 8 },
		func(l *Layout) { l.Func = 16 },
		func(l *Layout) { l.OldSympos = 12 },
		func(l *Layout) { l.CallbackSize = 24 },
		func(l *Layout) { l.Callback[1] = 0 },
	} {
		l := DefaultLayout()
		change(l)
		if l.Check() == nil {
			t.Errorf("row %d was taken", i)
		}
	}
}
