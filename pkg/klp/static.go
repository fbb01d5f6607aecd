package klp

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
)

// Names of the static form.
const (
	StaticSection = ".data.klp_patch"    // the tables
	StaticStrings = ".rodata.klp_names"  // the names in them
	StartSection  = ".text.klp_start"    // init and exit function
	PatchSymbol   = "__klp_patch"        // the struct klp_patch
	returnThunk   = "__x86_return_thunk" // what the exit function ends with
	enablePatch   = "klp_enable_patch"
	thisModule    = "__this_module"
	moduleSection = ".gnu.linkonce.this_module"
	returnSites   = ".return_sites"
)

// Layout is where a kernel has the members of its structures (BTF says so).
type Layout struct {
	Patch     uint64 // sizeof(struct klp_patch)
	PatchMod  uint64
	PatchObjs uint64
	Replace   uint64 // a bool

	Object    uint64 // sizeof(struct klp_object)
	Name      uint64
	Funcs     uint64
	Callbacks uint64

	Func      uint64 // sizeof(struct klp_func)
	OldName   uint64
	NewFunc   uint64
	OldSympos uint64

	CallbackSize uint64               // sizeof(struct klp_callbacks)
	Callback     [numCallbacks]uint64 // by CallbackKind

	// Of struct module, for modules whose struct module does not refer to
	// init_module and cleanup_module; 0: it does.
	ModuleInit, ModuleExit uint64
	ModuleSize, ModuleName uint64 // sizeof(struct module), its name; for whoever makes the struct module
}

// DefaultLayout gives the layout that 64-bit kernels from 6.1 to 7.2 have without
// LOCKDEP and DEBUG_KOBJECT_RELEASE. struct module differs between all kernels.
func DefaultLayout() *Layout {
	return &Layout{
		Patch: 200, PatchMod: 0, PatchObjs: 8, Replace: 24,
		Object: 168, Name: 0, Funcs: 8, Callbacks: 16,
		Func: 152, OldName: 0, NewFunc: 8, OldSympos: 16,
		CallbackSize: 40, Callback: [numCallbacks]uint64{0, 8, 16, 24},
	}
}

// Check says whether the members lie in their structures and apart from each other.
func (l *Layout) Check() error {
	type member struct {
		name      string
		off, size uint64
	}
	check := func(name string, size uint64, ms []member) error {
		if size == 0 || size > 1<<16 || size%8 != 0 {
			return fmt.Errorf("struct %s has %d bytes", name, size)
		}
		slices.SortFunc(ms, func(a, b member) int { return cmp.Compare(a.off, b.off) })
		end := uint64(0)
		for _, m := range ms {
			if m.off < end || m.off > size || m.size > size-m.off || m.size >= 8 && m.off%8 != 0 {
				return fmt.Errorf("struct %s of %d bytes with %s at %d", name, size, m.name, m.off)
			}
			end = m.off + m.size
		}
		return nil
	}
	var cbs []member
	for k, off := range l.Callback {
		cbs = append(cbs, member{CallbackKind(k).String(), off, 8})
	}
	if err := check("klp_callbacks", l.CallbackSize, cbs); err != nil {
		return err
	}
	if err := check("klp_patch", l.Patch, []member{{"mod", l.PatchMod, 8}, {"objs", l.PatchObjs, 8}, {"replace", l.Replace, 1}}); err != nil {
		return err
	}
	if err := check("klp_object", l.Object, []member{{"name", l.Name, 8}, {"funcs", l.Funcs, 8}, {"callbacks", l.Callbacks, l.CallbackSize}}); err != nil {
		return err
	}
	return check("klp_func", l.Func, []member{{"old_name", l.OldName, 8}, {"new_func", l.NewFunc, 8}, {"old_sympos", l.OldSympos, 8}})
}

// StaticTables is a livepatch as the kernel's structures describe it.
type StaticTables struct {
	Layout    *Layout // nil: DefaultLayout
	Objects   []Object
	Callbacks []Callback
	NoReplace bool
	Module    object.SymID // __this_module
}

// Static adds the structures to b and gives the symbol of the struct klp_patch. An
// object that has callbacks alone must be among t.Objects as well. sections is as for Intermediate.
func Static(b *object.Builder, t *StaticTables, sections map[object.SecID]object.SymID) object.SymID {
	l := t.Layout
	if l == nil {
		l = DefaultLayout()
	}
	w := writer{b: b, offsets: map[string]uint64{}, sections: sections}
	data := b.AddSection(object.BuildSection{Name: StaticSection, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_WRITE, Addralign: 16})
	strs := b.AddSection(object.BuildSection{Name: StaticStrings, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Addralign: 1})
	abs := func(off uint64, sym object.SymID, addend uint64) {
		b.AddReloc(data, object.Reloc{Off: off, Type: elf.R_X86_64_64, Sym: sym, Addend: int64(addend)})
	}
	objs := l.Patch
	funcs := objs + l.Object*uint64(len(t.Objects)+1)
	n := funcs
	for i := range t.Objects {
		n += l.Func * uint64(len(t.Objects[i].Funcs)+1)
	}
	d := make([]byte, n)
	abs(l.PatchMod, t.Module, 0)
	abs(l.PatchObjs, w.sectionSymbol(data), objs)
	if !t.NoReplace {
		d[l.Replace] = 1
	}
	for i := range t.Objects {
		o, at := &t.Objects[i], objs+l.Object*uint64(i)
		if o.Name != Vmlinux {
			abs(at+l.Name, w.sectionSymbol(strs), uint64(w.string(o.Name)))
		}
		abs(at+l.Funcs, w.sectionSymbol(data), funcs)
		for _, c := range t.Callbacks {
			if c.Object == o.Name && c.Kind < numCallbacks {
				abs(at+l.Callbacks+l.Callback[c.Kind], c.Func, 0)
			}
		}
		for _, f := range o.Funcs {
			abs(funcs+l.OldName, w.sectionSymbol(strs), uint64(w.string(f.Name)))
			abs(funcs+l.NewFunc, f.New, 0)
			binary.LittleEndian.PutUint64(d[funcs+l.OldSympos:], f.Pos)
			funcs += l.Func
		}
		funcs += l.Func // an empty one ends the list
	}
	w.fill(data, d)
	w.fill(strs, w.strings)
	return b.AddSymbol(object.BuildSymbol{Name: PatchSymbol, Sec: data, Size: l.Patch, Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_OBJECT)})
}

// Offsets of the functions in StartSection. Before each are 16 NOPs, as kernels
// with call padding ask.
const (
	initAt, initSize = 16, 17
	exitAt           = 64
)

// start gives the code and its relocations against patch, enable and thunk; without thunk it returns by itself.
func start(patch, enable, thunk object.SymID) (code []byte, rels []object.Reloc, exitSize uint64) {
	nops := bytes.Repeat([]byte{0x90}, 16)
	endbr := []byte{0xf3, 0x0f, 0x1e, 0xfa}
	code = append(code, nops...)
	code = append(append(code, endbr...), 0x48, 0xc7, 0xc7, 0, 0, 0, 0) // mov $patch, %rdi
	rels = append(rels, object.Reloc{Off: initAt + 7, Type: elf.R_X86_64_32S, Sym: patch})
	code = append(code, 0xe9, 0, 0, 0, 0, 0xcc) // jmp klp_enable_patch; int3
	rels = append(rels, object.Reloc{Off: initAt + 12, Type: elf.R_X86_64_PLT32, Sym: enable, Addend: -4})
	for len(code) < exitAt-16 {
		code = append(code, 0xcc)
	}
	code = append(append(code, nops...), endbr...)
	if thunk == 0 {
		code = append(code, 0xc3, 0xcc)
	} else {
		code = append(code, 0xe9, 0, 0, 0, 0, 0xcc)
		rels = append(rels, object.Reloc{Off: exitAt + 5, Type: elf.R_X86_64_PLT32, Sym: thunk, Addend: -4})
	}
	return code, rels, uint64(len(code) - exitAt)
}

// Start adds the functions with which a module registers the patch: init and exit
// are symbols of b that it defines (0: it makes them), with the names that the
// kernel's build uses. It calls enable (klp_enable_patch). The exit function ends
// with a jump to thunk (__x86_return_thunk), which is listed in .return_sites, or
// with a plain return when thunk is 0.
func Start(b *object.Builder, patch, enable, thunk, initFn, exitFn object.SymID, sections map[object.SecID]object.SymID) (object.SymID, object.SymID) {
	w := writer{b: b, sections: sections}
	code, rels, exitSize := start(patch, enable, thunk)
	text := b.AddSection(object.BuildSection{Name: StartSection, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, Addralign: 16, Data: code})
	for _, r := range rels {
		b.AddReloc(text, r)
	}
	define := func(id object.SymID, name string, at, size uint64) object.SymID {
		s := object.BuildSymbol{Name: name, Sec: text, Value: at, Size: size, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC)}
		if id == 0 {
			return b.AddSymbol(s)
		}
		b.SetSymbol(id, s)
		return id
	}
	initFn = define(initFn, "init_module", initAt, initSize)
	exitFn = define(exitFn, "cleanup_module", exitAt, exitSize)
	if thunk == 0 {
		return initFn, exitFn
	}
	sites := object.SecID(0)
	for i := 1; i < b.NumSections() && sites == 0; i++ {
		if s := b.Section(object.SecID(i)); s.Name == returnSites && s.Type == elf.SHT_PROGBITS {
			sites = object.SecID(i)
		}
	}
	if sites == 0 {
		sites = b.AddSection(object.BuildSection{Name: returnSites, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Addralign: 4})
	}
	s := b.Section(sites)
	at := uint64(len(s.Data))
	s.Data = append(slices.Clone(s.Data), 0, 0, 0, 0)
	b.SetSection(sites, s)
	b.AddReloc(sites, object.Reloc{Off: at, Type: elf.R_X86_64_PC32, Sym: w.sectionSymbol(text), Addend: exitAt + 4})
	return initFn, exitFn
}

// ReadStatic reads the structures that Static wrote, by the symbol of the struct
// klp_patch, and whether the patch replaces those that are active. l is the layout;
// nil is DefaultLayout. The Patch has no relocations. A file without the symbol
// gives an empty Patch.
func ReadStatic(f *object.File, l *Layout) (p *Patch, replace bool, err error) {
	if l == nil {
		l = DefaultLayout()
	}
	r := newReader(f)
	if err := l.Check(); err != nil {
		r.fail(diag.KlpInit, "", 0, "%v", err)
	} else if r.relocatable() {
		for i := range f.Symbols {
			if s := &f.Symbols[i]; s.Name == PatchSymbol && s.Sec != 0 && s.Type() == elf.STT_OBJECT {
				replace = r.static(l, s.Sec, s.Value)
				break
			}
		}
	}
	p, err = r.result()
	return p, replace, err
}

// word gives the pointer at off of sec: a relocation, or nil.
func (r *reader) word(sec object.SecID, off uint64) (*object.Reloc, bool) {
	s, ok := r.slots(sec, off, 8, 0)
	return s[0], ok
}

func (r *reader) inside(sec object.SecID, off, size uint64) bool {
	if n := uint64(len(r.f.Sections[sec].Data)); off > n || size > n-off {
		r.fail(diag.KlpMalformed, r.name(sec), off, "a structure of %d bytes reaches beyond the end", size)
		return false
	}
	return true
}

// follow gives the place in sec that the pointer at off leads to.
func (r *reader) follow(sec object.SecID, off uint64) (uint64, bool) {
	e, ok := r.word(sec, off)
	if !ok {
		return 0, false
	}
	if e != nil {
		if tsec, to, ok := r.target(sec, e); !ok || tsec == sec {
			return to, ok
		}
	}
	r.fail(diag.KlpMalformed, r.name(sec), off, "no pointer into the same section")
	return 0, false
}

func (r *reader) static(l *Layout, sec object.SecID, at uint64) (replace bool) {
	if !r.inside(sec, at, l.Patch) {
		return false
	}
	data := r.f.Sections[sec].Data
	replace = data[at+l.Replace] != 0
	obj, ok := r.follow(sec, at+l.PatchObjs)
	if !ok {
		return false
	}
	budget := len(data) // structures; lists that share their ends would be read again and again
	for ; r.inside(sec, obj, l.Object) && budget > 0; obj += l.Object {
		budget--
		name, ok1 := r.word(sec, obj+l.Name)
		funcs, ok2 := r.word(sec, obj+l.Funcs)
		if !ok1 || !ok2 || name == nil && funcs == nil {
			return replace
		}
		on := Vmlinux
		if name != nil {
			if on, ok = r.objectName(sec, name); !ok {
				return replace
			}
		}
		o := r.object(on)
		for k := range numCallbacks {
			if e, ok := r.word(sec, obj+l.Callbacks+l.Callback[k]); ok && e != nil {
				if fn, ok := r.function(sec, e); ok {
					r.p.Callbacks = append(r.p.Callbacks, Callback{Object: on, Kind: k, Func: fn})
				}
			}
		}
		fn, ok := r.follow(sec, obj+l.Funcs)
		if !ok {
			return replace
		}
		for ; r.inside(sec, fn, l.Func) && budget > 0; fn += l.Func {
			budget--
			n, ok1 := r.word(sec, fn+l.OldName)
			to, ok2 := r.word(sec, fn+l.NewFunc)
			pos := binary.LittleEndian.Uint64(data[fn+l.OldSympos:])
			if !ok1 || !ok2 || n == nil && to == nil && pos == 0 {
				break
			}
			if n == nil || to == nil {
				r.fail(diag.KlpMalformed, r.name(sec), fn, "a function without name or replacement")
				break
			}
			s, ok1 := r.symbolName(sec, n)
			id, ok2 := r.function(sec, to)
			if ok1 && ok2 {
				r.p.Objects[o].Funcs = append(r.p.Objects[o].Funcs, Func{Name: s, Pos: pos, New: id})
			}
		}
	}
	if budget == 0 {
		r.fail(diag.KlpMalformed, r.name(sec), 0, "lists that overlap")
	}
	return replace
}

// static writes tables and start into the module.
func (z *finalizer) static() {
	f, l := z.f, z.opts.Layout
	if err := l.Check(); err != nil {
		z.fail(diag.KlpInit, "", 0, "the layout given: %v", err)
		return
	}
	if len(z.p.Objects) == 0 {
		z.fail(diag.KlpForm, "", 0, "the patch replaces nothing")
		return
	}
	seen := make(map[string]bool)
	for _, c := range z.p.Callbacks {
		if k := c.Object + "," + c.Kind.String(); seen[k] {
			z.fail(diag.KlpMalformed, "", 0, "two %v callbacks for %s", c.Kind, c.Object)
		} else {
			seen[k] = true
		}
	}
	for i := range z.p.Objects {
		funcs := make(map[string]bool)
		for _, fn := range z.p.Objects[i].Funcs {
			// 0 and 1 mean the same place in sysfs, where the second one clashes.
			if k := fmt.Sprintf("%s,%d", fn.Name, max(fn.Pos, 1)); funcs[k] {
				z.fail(diag.KlpMalformed, "", 0, "%s of %s is replaced twice", quote(k), z.p.Objects[i].Name)
			} else {
				funcs[k] = true
			}
		}
	}
	t := StaticTables{Layout: l, Objects: z.p.Objects, Callbacks: z.p.Callbacks, NoReplace: z.opts.NoReplace}
	named := make(map[string]object.SymID) // what the start refers to or defines
	sections := make(map[object.SecID]object.SymID)
	for i := 1; i < len(f.Symbols); i++ {
		s := &f.Symbols[i]
		if z.noSym[i] {
			continue
		}
		switch {
		case s.Type() == elf.STT_SECTION && s.Sec != 0 && s.Value == 0 && sections[s.Sec] == 0:
			sections[s.Sec] = object.SymID(i)
		case s.Name == "init_module", s.Name == "cleanup_module":
			if !s.Undefined() {
				z.fail(diag.KlpInit, f.Sections[s.Sec].Name, s.Value, "the module has its own %s", s.Name)
			}
			named[s.Name] = object.SymID(i)
		case (s.Name == enablePatch || s.Name == returnThunk) && s.Undefined(), s.Name == thisModule && s.Sec != 0:
			named[s.Name] = object.SymID(i)
		case s.Name == PatchSymbol:
			z.fail(diag.KlpInit, f.Sections[s.Sec].Name, s.Value, "the module has its own %s", s.Name)
		}
	}
	mod := object.SecID(0)
	for i := range f.Sections {
		switch s := &f.Sections[i]; s.Name {
		case moduleSection:
			mod = object.SecID(i)
		case StaticSection, StaticStrings, StartSection:
			z.fail(diag.KlpInit, s.Name, 0, "the module has a section of this name")
		case returnSites:
			if s.Type != elf.SHT_PROGBITS || len(s.Data)%4 != 0 {
				z.fail(diag.KlpMalformed, s.Name, 0, "type %v and 0x%x bytes, not entries of 4 bytes each", s.Type, s.Size)
			}
		}
	}
	if mod == 0 || named[thisModule] == 0 || f.Symbols[named[thisModule]].Sec != mod {
		z.fail(diag.KlpInit, moduleSection, 0, "the section or its symbol %s is missing", thisModule)
	}
	if len(z.diags) > 0 {
		return
	}
	t.Module = named[thisModule]
	undefined := func(name string) object.SymID {
		if named[name] == 0 {
			named[name] = z.b.AddSymbol(object.BuildSymbol{Name: name, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_NOTYPE)})
		}
		return named[name]
	}
	thunk := object.SymID(0)
	calls := []string{enablePatch}
	if !z.opts.PlainReturn {
		thunk = undefined(returnThunk)
		calls = append(calls, returnThunk)
	}
	patch := Static(z.b, &t, sections)
	initFn, exitFn := Start(z.b, patch, undefined(enablePatch), thunk, named["init_module"], named["cleanup_module"], sections)
	z.hook(mod, "init_module", initFn, l.ModuleInit, true)
	z.hook(mod, "cleanup_module", exitFn, l.ModuleExit, false)
	z.versions(calls)
	z.livepatch()
}

// hook sees that struct module refers to fn.
func (z *finalizer) hook(mod object.SecID, name string, fn object.SymID, off uint64, must bool) {
	rels := z.f.RelocsOf(mod)
	for i := range rels.Len() {
		e := rels.File(i)
		switch {
		case z.f.Symbols[e.Sym].Name == name && e.Type == elf.R_X86_64_64 && e.Addend == 0:
			if off != 0 && off != e.Off {
				z.fail(diag.KlpInit, moduleSection, e.Off, "%s is here, not at %d as the layout says", name, off)
			}
			return
		case off != 0 && e.Off > off-min(off, 8) && e.Off < off+8 && e.Type != elf.R_X86_64_NONE:
			z.fail(diag.KlpInit, moduleSection, e.Off, "where the layout has %s the module refers to %s", name, quote(z.f.SymName(e.Sym)))
			return
		}
	}
	if off == 0 {
		if must {
			z.fail(diag.KlpInit, moduleSection, 0, "struct module does not refer to %s, and the layout does not say where it is", name)
		}
		return
	}
	d := z.f.Sections[mod].Data
	if n := uint64(len(d)); off%8 != 0 || n < 8 || off > n-8 {
		z.fail(diag.KlpInit, moduleSection, off, "struct module has 0x%x bytes", n)
		return
	}
	if binary.LittleEndian.Uint64(d[off:]) != 0 {
		z.fail(diag.RelocNonzero, moduleSection, off, "bytes that are not zero where %s belongs", name)
		return
	}
	z.b.AddReloc(mod, object.Reloc{Off: off, Type: elf.R_X86_64_64, Sym: fn})
}

// versions sees that a module with checksums has those of the symbols that the start calls.
func (z *finalizer) versions(names []string) {
	const entry = 64
	for i := range z.f.Sections {
		s := &z.f.Sections[i]
		if s.Name != "__versions" {
			continue
		}
		if s.Type != elf.SHT_PROGBITS || len(s.Data)%entry != 0 {
			z.fail(diag.KlpMalformed, s.Name, 0, "type %v and 0x%x bytes, not entries of %d bytes each", s.Type, s.Size, entry)
			return
		}
		data := slices.Clone(s.Data)
		for _, name := range names {
			found := false
			for at := 0; at < len(s.Data) && !found; at += entry {
				n, _, _ := bytes.Cut(s.Data[at+8:at+entry], []byte{0})
				found = string(n) == name
			}
			if found {
				continue
			}
			crc, ok := z.opts.CRCs[name]
			if !ok {
				z.fail(diag.KlpInit, s.Name, uint64(len(s.Data)), "the checksum of %s is not known", name)
				continue
			}
			var e [entry]byte
			binary.LittleEndian.PutUint64(e[:], uint64(crc))
			copy(e[8:], name)
			data = append(data, e[:]...)
		}
		bs := z.b.Section(object.SecID(i))
		bs.Data = data
		z.b.SetSection(object.SecID(i), bs)
		return
	}
}

// livepatch marks the module as a livepatch, which init.c would have done.
func (z *finalizer) livepatch() {
	const mark = "livepatch=Y\x00"
	for i := range z.f.Sections {
		s := &z.f.Sections[i]
		if s.Name != ".modinfo" || s.Type != elf.SHT_PROGBITS {
			continue
		}
		for _, str := range bytes.Split(s.Data, []byte{0}) {
			if bytes.HasPrefix(str, []byte("livepatch=")) {
				return
			}
		}
		data := slices.Clone(s.Data)
		if n := len(data); n > 0 && data[n-1] != 0 {
			data = append(data, 0)
		}
		bs := z.b.Section(object.SecID(i))
		bs.Data = append(data, mark...)
		z.b.SetSection(object.SecID(i), bs)
		return
	}
	z.b.AddSection(object.BuildSection{Name: ".modinfo", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Addralign: 1, Data: []byte(mark)})
}
