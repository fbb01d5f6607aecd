package klp

import (
	"bytes"
	"cmp"
	"debug/elf"
	"slices"
	"strings"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/reloc"
)

// FinalizeOptions are the choices of Finalize. The zero value is useful.
type FinalizeOptions struct {
	Name    string // of the file, for diagnostics
	DropBTF bool   // leave .BTF and .BTF.base out, which do not fit the patch any more

	// Layout asks for static tables and the module's start, for kernels without
	// klp_find_section_by_name; nil: the patch is linked with upstream's init.c
	// or kpatch's hook, which read the tables.
	Layout      *Layout
	NoReplace   bool              // the patch adds to those that are active, instead of replacing them
	PlainReturn bool              // end the exit function with ret; the kernel has no __x86_return_thunk
	CRCs        map[string]uint32 // of the symbols that the start calls, where the module has __versions without them
}

// signed is how the file of a signed module ends (Documentation/admin-guide/module-signing.rst).
const signed = "~Module signature appended~\n"

// Finalize turns a linked module of either intermediate form into the final form:
//
//   - relocations for the livepatch core go to .klp.rela.OBJECT.SECTION sections
//     against .klp.sym.OBJECT.NAME,POSITION symbols;
//   - the ordinary relocations at these places, against placeholders, are left out,
//     and so are the placeholders: no place is relocated twice;
//   - __klp_relocs.* of upstream's form, .kpatch.symbols, .kpatch.relocations and .kpatch.arch
//     of kpatch's are left out. What init code reads stays (.init.klp_*, .kpatch.funcs,
//     .kpatch.strings, callbacks) unless opts.Layout asks for static tables.
//
// It must be the last step before signing: ld -r destroys the final form. Undefined
// symbols that remain are not judged. Everything else that would make the kernel
// reject or misread what is written here is refused with a *diag.Error; its codes are
// those of ReadIntermediate and of object.Parse, klp-access, klp-twice, klp-init and klp-module.
func Finalize(ko []byte, opts FinalizeOptions) ([]byte, error) {
	f, err := object.Parse(ko, object.Options{Name: opts.Name})
	if err != nil {
		return nil, err
	}
	z := finalizer{problems: problems{file: opts.Name}, opts: opts, f: f}
	for _, step := range []func(){z.form, z.read, z.access, z.places, z.remove, z.references, z.build} {
		step()
		if err := z.err(); err != nil {
			return nil, err
		}
		if z.fatal != nil {
			return nil, z.fatal
		}
	}
	return z.out, nil
}

type finalizer struct {
	problems
	opts   FinalizeOptions
	f      *object.File
	kpatch bool
	p      *Patch
	fatal  error // from a reader or the Builder
	b      *object.Builder
	out    []byte

	dropped map[object.SecID][]bool // ordinary relocations left out, by the section that they apply to and their index in the file
	noSec   []bool                  // sections and symbols left out
	noSym   []bool
	sym     map[string]object.SymID // klp symbols that the file has
}

// form settles which form the file is in.
func (z *finalizer) form() {
	if bytes.HasSuffix(z.f.Data, []byte(signed)) {
		z.fail(diag.KlpForm, "", uint64(len(z.f.Data)-len(signed)), "the module is signed")
		return
	}
	upstream := false
	for i := range z.f.Sections {
		s := &z.f.Sections[i]
		switch {
		case s.Flags&object.SHF_RELA_LIVEPATCH != 0, strings.HasPrefix(s.Name, RelaPrefix):
			z.fail(diag.KlpForm, s.Name, 0, "the module is in the final form already")
			return
		case s.Name == SecObjects, s.Name == SecFuncs, strings.HasPrefix(s.Name, SecRelocs):
			upstream = true
		case s.Name == KpatchFuncsSection, s.Name == KpatchSymbolsSection, s.Name == KpatchRelocsSection:
			z.kpatch = true
		}
	}
	for i := range z.f.Symbols {
		if z.f.Symbols[i].Shndx == object.SHN_LIVEPATCH {
			z.fail(diag.KlpForm, z.f.Sections[z.f.Symtab].Name, uint64(i)*24, "the module is in the final form already: %s is SHN_LIVEPATCH", quote(z.f.Symbols[i].Name))
			return
		}
	}
	switch {
	case upstream && z.kpatch:
		z.fail(diag.KlpForm, "", 0, "the module has tables of both intermediate forms")
	case !upstream && !z.kpatch:
		z.fail(diag.KlpForm, "", 0, "the module has no livepatch tables")
	}
}

func (z *finalizer) read() {
	if z.kpatch {
		z.p, z.fatal = ReadKpatch(z.f)
	} else {
		z.p, z.fatal = ReadIntermediate(z.f)
	}
}

// late are tables that the kernel consumes when it loads the patch, before a module's relocations are applied.
var late = map[string]bool{
	".altinstructions": true, ".altinstr_replacement": true, ".parainstructions": true, ".smp_locks": true,
	"__jump_table": true, ".static_call_sites": true, "__ex_table": true, "__mcount_loc": true,
	".retpoline_sites": true, ".return_sites": true, ".call_sites": true, ".cfi_sites": true, ".ibt_endbr_seal": true,
	".orc_unwind_ip": true, ".orc_unwind": true, ".gnu.linkonce.this_module": true, "__versions": true, ".modinfo": true,
}

// access refuses relocations that the kernel refuses or applies too late.
func (z *finalizer) access() {
	for i := range z.p.Relocs {
		r := &z.p.Relocs[i]
		if r.Object == Vmlinux {
			continue
		}
		name := z.f.Sections[r.Sec].Name
		switch {
		case r.Symbol.Object == Vmlinux:
			z.fail(diag.KlpAccess, name, r.Off, "invalid access to vmlinux symbol %s from a relocation that waits for module %s", quote(r.Symbol.Name), r.Object)
		case strings.HasPrefix(name, ".init"):
			z.fail(diag.KlpAccess, name, r.Off, "a relocation that waits for module %s in a section that is freed after init", r.Object)
		case late[name]:
			z.fail(diag.KlpAccess, name, r.Off, "a relocation that waits for module %s in a table that the kernel uses before", r.Object)
		}
	}
}

// places finds the ordinary relocations that the klp ones stand for and sees that no byte is relocated twice.
func (z *finalizer) places() {
	bySec := make(map[object.SecID][]*Reloc)
	for i := range z.p.Relocs {
		r := &z.p.Relocs[i]
		bySec[r.Sec] = append(bySec[r.Sec], r)
	}
	z.dropped = make(map[object.SecID][]bool)
	for i := range z.f.Sections {
		sec := object.SecID(i)
		if klp := bySec[sec]; len(klp) > 0 || z.f.Sections[i].Alloc() && z.f.RelocsOf(sec).Len() > 1 {
			z.place(sec, klp)
		}
	}
}

func (z *finalizer) place(sec object.SecID, klp []*Reloc) {
	type field struct{ off, end uint64 }
	rels := z.f.RelocsOf(sec)
	name := z.f.Sections[sec].Name
	var fields []field
	if !z.kpatch {
		z.dropped[sec] = make([]bool, rels.Len())
	}
	for _, r := range klp {
		info, _ := reloc.Lookup(r.Type)
		fields = append(fields, field{r.Off, r.Off + uint64(info.Size)})
		if z.kpatch {
			continue
		}
		lo, hi := rels.Range(r.Off, r.Off+1)
		found := false
		for i := lo; i < hi && !found; i++ {
			e := rels.At(i)
			if !strings.HasPrefix(z.f.Symbols[e.Sym].Name, Tombstone) {
				continue
			}
			found = true
			if e.Type != r.Type || e.Addend != r.Addend {
				z.fail(diag.KlpMalformed, name, r.Off, "the relocation at the place is %v%+d, but its record says %v%+d", e.Type, e.Addend, r.Type, r.Addend)
			}
			z.dropped[sec][rels.FileIndex(i)] = true
		}
		if !found {
			z.fail(diag.KlpMalformed, name, r.Off, "no relocation against a placeholder at the place of the one for %s", quote(r.Symbol.Name))
		}
	}
	for i := range rels.Len() {
		e := rels.File(i)
		if z.kpatch || !z.dropped[sec][i] {
			if info, ok := reloc.Lookup(e.Type); ok && info.Size > 0 {
				fields = append(fields, field{e.Off, e.Off + uint64(info.Size)})
			}
		}
	}
	slices.SortFunc(fields, func(a, b field) int { return cmp.Or(cmp.Compare(a.off, b.off), cmp.Compare(a.end, b.end)) })
	end := uint64(0)
	for _, fl := range fields {
		if fl.off < end {
			z.fail(diag.KlpTwice, name, fl.off, "a second relocation writes here")
		}
		end = max(end, fl.end)
	}
}

// remove settles which sections and symbols are left out.
func (z *finalizer) remove() {
	f := z.f
	z.noSec, z.noSym = make([]bool, len(f.Sections)), make([]bool, len(f.Symbols))
	for i := range f.Sections {
		switch name := f.Sections[i].Name; {
		case z.kpatch && (name == KpatchSymbolsSection || name == KpatchRelocsSection || name == KpatchArchSection),
			!z.kpatch && strings.HasPrefix(name, SecRelocs),
			z.opts.DropBTF && (name == ".BTF" || name == ".BTF.base"),
			z.opts.Layout != nil && z.tables(name):
			z.noSec[i] = true
		}
	}
	for i := range f.Sections {
		s := &f.Sections[i]
		if t := s.Type; (t == elf.SHT_RELA || t == elf.SHT_REL) && z.noSec[s.Info] {
			z.noSec[i] = true
		}
	}
	wanted := make(map[string]bool, len(z.p.Relocs))
	for i := range z.p.Relocs {
		r := &z.p.Relocs[i]
		wanted[r.Symbol.String()] = true
		if z.noSec[r.Sec] {
			z.fail(diag.KlpMalformed, f.Sections[r.Sec].Name, r.Off, "a relocation into a section that is left out")
		}
	}
	z.sym = make(map[string]object.SymID)
	for i := 1; i < len(f.Symbols); i++ {
		s := &f.Symbols[i]
		switch {
		case z.noSec[s.Sec]:
			z.noSym[i] = true
		case !s.Undefined():
			if strings.HasPrefix(s.Name, Tombstone) || strings.HasPrefix(s.Name, SymPrefix) {
				z.fail(diag.KlpMalformed, f.Sections[s.Sec].Name, s.Value, "the symbol %s is defined in the patch", quote(s.Name))
			}
		case strings.HasPrefix(s.Name, Tombstone):
			z.noSym[i] = true
		case strings.HasPrefix(s.Name, SymPrefix):
			if wanted[s.Name] && z.sym[s.Name] == 0 {
				z.sym[s.Name] = object.SymID(i)
			} else {
				z.noSym[i] = true // objtool makes one for every reference; or nothing refers to it
			}
		}
	}
}

// tables reports whether the static tables stand for a section.
func (z *finalizer) tables(name string) bool {
	return name == SecObjects || name == SecFuncs || name == KpatchFuncsSection || name == KpatchStringsSection ||
		name == KpatchForceSection || strings.HasPrefix(name, KpatchCallbacksSection)
}

// references sees that nothing that stays refers to what goes.
func (z *finalizer) references() {
	f := z.f
	for i := range f.Sections {
		s := &f.Sections[i]
		if z.noSec[i] {
			continue
		}
		if z.noSec[s.Link] {
			z.fail(diag.KlpMalformed, s.Name, 0, "sh_link is %s, which is left out", quote(f.Sections[s.Link].Name))
		}
		if s.Flags&elf.SHF_INFO_LINK != 0 && s.Type != elf.SHT_SYMTAB && z.noSec[s.Info] {
			z.fail(diag.KlpMalformed, s.Name, 0, "sh_info is %s, which is left out", quote(f.Sections[s.Info].Name))
		}
		if s.Type != elf.SHT_RELA {
			continue
		}
		drop := z.dropped[object.SecID(s.Info)]
		rels := f.Relocs(object.SecID(i))
		for j := 0; j < rels.Len() && !z.full(); j++ {
			e := rels.File(j)
			name := f.Symbols[e.Sym].Name
			switch {
			case drop != nil && drop[j]:
			case strings.HasPrefix(name, Tombstone) && f.Symbols[e.Sym].Undefined():
				z.fail(diag.KlpMalformed, f.Sections[s.Info].Name, e.Off, "a relocation against %s that no entry of %s* describes", quote(name), SecRelocs)
			case strings.HasPrefix(name, SymPrefix) && f.Symbols[e.Sym].Undefined():
				z.fail(diag.KlpMalformed, f.Sections[s.Info].Name, e.Off, "an ordinary relocation against %s", quote(name))
			case z.noSym[e.Sym]:
				z.fail(diag.KlpMalformed, f.Sections[s.Info].Name, e.Off, "a reference to %s, which is left out", quote(f.SymName(e.Sym)))
			}
		}
	}
	for _, g := range f.Groups {
		if z.noSec[g.Sec] {
			continue
		}
		if uint64(g.Sig) < uint64(len(z.noSym)) && z.noSym[g.Sig] {
			z.fail(diag.KlpMalformed, f.Sections[g.Sec].Name, 0, "the group's signature is left out")
		}
		for _, m := range g.Members {
			if z.noSec[m] {
				z.fail(diag.KlpMalformed, f.Sections[g.Sec].Name, 0, "its member %s is left out", quote(f.Sections[m].Name))
			}
		}
	}
}

func (z *finalizer) build() {
	f := z.f
	z.b = object.FromFile(f)
	for i, no := range z.noSec {
		if no {
			z.b.RemoveSection(object.SecID(i))
		}
	}
	for i, no := range z.noSym {
		if no {
			z.b.RemoveSymbol(object.SymID(i))
		}
	}
	z.ordinary()
	z.relocs()
	if z.opts.Layout != nil {
		z.static()
	}
	if len(z.diags) > 0 {
		return
	}
	if z.out, z.fatal = z.b.Bytes(); z.fatal == nil {
		z.rules()
	}
}

// ordinary leaves the relocations against placeholders out.
func (z *finalizer) ordinary() {
	for i := range z.f.Sections { // in the order of the file, as all that is written
		drop := z.dropped[object.SecID(i)]
		if !slices.Contains(drop, true) {
			continue
		}
		rels := z.f.RelocsOf(object.SecID(i))
		var keep []object.Reloc
		for j := range rels.Len() {
			if !drop[j] {
				keep = append(keep, rels.File(j))
			}
		}
		if len(keep) == 0 && z.f.Sections[z.f.Sections[i].Rela].Group == 0 {
			z.b.RemoveSection(z.f.Sections[i].Rela)
			continue
		}
		z.b.SetRelocs(object.SecID(i), keep)
	}
}

// relocs writes the relocations for the livepatch core.
func (z *finalizer) relocs() {
	bind := make(map[string]elf.SymBind)
	if z.p.Kpatch != nil {
		for i := range z.p.Kpatch.Relocs {
			r := &z.p.Kpatch.Relocs[i]
			if name := r.Symbol.String(); !has(bind, name) {
				bind[name] = r.Bind
			}
		}
	}
	done := make(map[string]bool)
	Relas(z.b, z.p.Relocs, func(symbol *Symbol) object.SymID {
		name := symbol.String()
		if done[name] {
			return z.sym[name]
		}
		done[name] = true
		bs := object.BuildSymbol{Name: name, Shndx: object.SHN_LIVEPATCH, Info: elf.ST_INFO(elf.STB_WEAK, symbol.Type)}
		if bd, ok := bind[name]; ok {
			bs.Info = elf.ST_INFO(bd, symbol.Type)
		}
		id := z.sym[name]
		if id == 0 {
			id = z.b.AddSymbol(bs)
			z.sym[name] = id
			return id
		}
		if z.p.Kpatch == nil {
			bs = z.b.Symbol(id)
			bs.Shndx = object.SHN_LIVEPATCH
		}
		z.b.SetSymbol(id, bs)
		return id
	})
}

// Relas adds relocations for the livepatch core in the final form: a .klp.rela
// section for each object and section that they apply to, in the order of the
// sections and then of the objects' first relocation. symbol gives the symbol of b,
// whose section index is SHN_LIVEPATCH, for one of the kernel.
func Relas(b *object.Builder, relocs []Reloc, symbol func(*Symbol) object.SymID) {
	type key struct {
		sec object.SecID
		obj string
	}
	lists := make(map[key][]object.Reloc)
	var keys []key
	for i := range relocs {
		r := &relocs[i]
		k := key{r.Sec, r.Object}
		if lists[k] == nil {
			keys = append(keys, k)
		}
		lists[k] = append(lists[k], object.Reloc{Off: r.Off, Type: r.Type, Sym: symbol(&r.Symbol), Addend: r.Addend})
	}
	slices.SortStableFunc(keys, func(a, b key) int { return cmp.Compare(a.sec, b.sec) })
	for _, k := range keys {
		id := b.AddSection(object.BuildSection{
			Name: RelaPrefix + k.obj + "." + b.Section(k.sec).Name, Type: elf.SHT_RELA,
			Flags: elf.SHF_ALLOC | elf.SHF_INFO_LINK | object.SHF_RELA_LIVEPATCH, Addralign: 8, Entsize: 24, Info: uint32(k.sec),
		})
		b.SetRelocs(id, lists[k])
	}
}

func has[K comparable, V any](m map[K]V, k K) bool { _, ok := m[k]; return ok }

// rules holds the object against what the module loader asks of every file, as far as Finalize answers for it.
func (z *finalizer) rules() {
	f, err := object.Parse(z.out, object.Options{Name: z.opts.Name})
	if err != nil {
		z.fatal = err
		return
	}
	if n := len(f.Sections); n >= int(elf.SHN_LORESERVE) {
		z.fail(diag.KlpModule, "", 60, "%d sections, but the loader reads no extended numbers", n)
	}
	if f.Symtab == 0 {
		z.fail(diag.KlpModule, "", 0, "no symbol table")
		return
	}
	strs := &f.Sections[f.Sections[f.Symtab].Link]
	if d := strs.Data; len(d) == 0 || d[0] != 0 || d[len(d)-1] != 0 {
		z.fail(diag.KlpModule, strs.Name, 0, "the table of symbol names does not start and end with NUL")
	}
	if f.Header.Shstrndx == 0 {
		z.fail(diag.KlpModule, "", 62, "no section names")
		return
	}
	if d := f.Sections[f.Header.Shstrndx].Data; len(d) == 0 || d[len(d)-1] != 0 {
		z.fail(diag.KlpModule, f.Sections[f.Header.Shstrndx].Name, 0, "the table of section names does not end with NUL")
	}
	seen := make(map[string]int)
	for i := range f.Sections {
		s := &f.Sections[i]
		if !s.Alloc() || s.Size == 0 {
			continue
		}
		if j, ok := seen[s.Name]; ok {
			z.fail(diag.KlpModule, s.Name, 0, "sections %d and %d, both loaded, have the same name", j, i)
		}
		seen[s.Name] = i
	}
}
