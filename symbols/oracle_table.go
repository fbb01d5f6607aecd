package symbols

import (
	"debug/elf"
	"strings"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
)

// Vmlinux is the name of the kernel itself among kernel objects; modules have their own names.
const Vmlinux = "vmlinux"

// Order says what the order of a Table's entries means.
type Order uint8

// The orders.
const (
	// ByAddress: the kernel's order is that of the addresses (a linked vmlinux).
	ByAddress Order = iota
	// AsListed: the kernel's order is that of the entries (kallsyms, System.map, the symbol table of a module).
	AsListed
	// Unordered: the kernel's order cannot be had from this table (vmlinux.o, which the final link
	// reorders). It still tells which names are unique.
	Unordered
)

// EntryFlags says what is special about an Entry.
type EntryFlags uint8

// The flags.
const (
	// EntryUndefined marks what another object defines, and the null symbol.
	EntryUndefined EntryFlags = 1 << iota
	// EntryMeta marks FILE and SECTION symbols, and those without a name.
	EntryMeta
	// EntryAbs marks absolute symbols.
	EntryAbs
	// EntryInit marks symbols that a module loses when its initialisation is
	// over: those of .init sections and of sections without memory.
	EntryInit
	// EntryDiscarded marks symbols of an object's sections that the final link or the module loader drops.
	EntryDiscarded
	// EntryCode marks symbols of executable sections.
	EntryCode
	// EntryUnbound marks symbols whose source does not tell local from global (the A of kallsyms).
	EntryUnbound
)

// Entry is one symbol as a source has it.
type Entry struct {
	Name  string
	Addr  uint64 // 0 when the source hides it; from the start of the section in relocatable objects
	Size  uint64 // 0 when the source does not know it
	Sec   uint32 // index of the section, 0 when unknown or none
	File  int32  // index into Table.Blocks, -1 when unknown or none
	Type  uint8  // elf.SymType, or 16 + index into Table.Words
	Bind  uint8  // elf.SymBind, or 16 + index into Table.Words
	Kind  byte   // the letter of nm (System.map, kallsyms), 0 elsewhere
	Flags EntryFlags
}

// Local reports whether the entry is known to be local.
func (e *Entry) Local() bool {
	return elf.SymBind(e.Bind) == elf.STB_LOCAL && e.Flags&EntryUnbound == 0
}

// Global reports whether the entry is known not to be local.
func (e *Entry) Global() bool {
	return elf.SymBind(e.Bind) != elf.STB_LOCAL && e.Flags&EntryUnbound == 0
}

// Block is what one FILE symbol stands for: the entries First to End-1, of which the local ones belong to that file.
type Block struct {
	Name  string // the source file's; empty for what belongs to none
	First int32
	End   int32
}

// Table is the symbols of one kernel object as one source has them. It is plain data: the
// parsers make it, callers may make their own. Treat one that an Oracle was built from as read-only.
type Table struct {
	Name    string // of the source, for diagnostics
	Object  string // the kernel object; empty when the source does not say
	Order   Order
	Core    bool // a module's symbols after its initialisation: without those of .init sections
	Text    bool // the source tells neither sizes nor sections (kallsyms, System.map)
	Entries []Entry
	Blocks  []Block
	Words   []string // types and bindings that have no number here
}

// TypeName gives the type of an entry as its source spells it.
func (t *Table) TypeName(e *Entry) string {
	return t.word(e.Type, "STT_", elf.SymType(e.Type).String())
}

// BindName gives the binding of an entry as its source spells it.
func (t *Table) BindName(e *Entry) string {
	return t.word(e.Bind, "STB_", elf.SymBind(e.Bind).String())
}

func (t *Table) word(v uint8, prefix, s string) string {
	if i := int(v) - 16; i >= 0 && i < len(t.Words) {
		return t.Words[i]
	}
	return strings.TrimPrefix(s, prefix)
}

// hidden are names that the kernel's build leaves out of kallsyms: exact
// prefixes, from the list that every kernel since 5.x has parts of. Names that
// only one version hides are listed too: they are names of tables and
// fragments that no patch refers to by position.
var hidden = [...]string{
	"$", ".L", "L0", "__crc_", "__kstrtab_", "__kstrtabns_", "__kcfi_typeid_", "__mod_device_table__",
	"__efistub_", "__kvm_nvhe_$", "__kvm_nvhe_.L", "__pi_$", "__pi_.L", "__AArch64ADRPThunk_", "__ARMV5PILongThunk_",
	"__ARMV7PILongThunk_", "__ThumbV7PILongThunk_", "__LA25Thunk_", "__microLA25Thunk_", "__tagsym_",
}

// kallsymsHides reports whether the kernel's build leaves a symbol of vmlinux out of kallsyms.
func kallsymsHides(e *Entry) bool {
	if e.Flags&(EntryUndefined|EntryMeta|EntryDiscarded|EntryAbs) != 0 {
		return true
	}
	n := e.Name
	switch n[0] {
	case '$', '.', '_', 'L':
	default:
		return false
	}
	for _, p := range hidden {
		if strings.HasPrefix(n, p) {
			return p != "L0" // only the module loader knows that one
		}
	}
	if rest, ok := strings.CutPrefix(n, "__UNIQUE_ID_modinfo"); ok {
		return isDigits(strings.TrimPrefix(rest, "_"))
	}
	return n == "_SDA_BASE_" || n == "_SDA2_BASE_"
}

// discardable reports whether a local symbol may be in an object and not in the
// kernel that was linked from it, by its name: markers that the link drops,
// records that a tool renumbers, labels of literals.
func discardable(name string) bool {
	if name == "" {
		return true
	}
	switch name[0] {
	case '.':
		return strings.HasPrefix(name, ".L")
	case '$':
		return true
	case '_':
		for _, p := range [...]string{"__exitcall_", "__brk_reservation_fn_", "__func_stack_frame_non_standard_", "__trace_check",
			"__ksymtab_", "__kstrtab", "__crc_", "__export_symbol_", "__mod_device_table__", "__pfx_", "__cfi_", "__initcall__kmod_"} {
			if strings.HasPrefix(name, p) {
				return true
			}
		}
	}
	return strings.Contains(name, "__addressable_") || strings.Contains(name, "__UNIQUE_ID_") || ubsan(name)
}

// ubsan reports whether gcc or clang made the symbol for a record of UBSAN.
func ubsan(name string) bool {
	rest, ok := strings.CutPrefix(strings.TrimPrefix(name, "."), "Lubsan_")
	return ok && (strings.HasPrefix(rest, "data") || strings.HasPrefix(rest, "type"))
}

// FromELF makes a Table of an ELF file's symbols: of the linked vmlinux, of a
// module's .ko, of a single object. Entry i is the file's symbol i. The final
// link decides about the order of a relocatable vmlinux.o, so its table is
// Unordered; objectName says what the file is.
func FromELF(f *object.File, objectName string) *Table {
	t := &Table{Name: f.Name, Object: normal(objectName), Order: AsListed, Entries: make([]Entry, len(f.Symbols))}
	linked := f.Header.Type != elf.ET_REL
	switch {
	case linked:
		t.Order = ByAddress
	case t.Object == Vmlinux:
		t.Order = Unordered
	}
	secs := make([]EntryFlags, len(f.Sections))
	for i := range f.Sections {
		secs[i] = sectionFlags(&f.Sections[i], linked)
	}
	file := int32(-1)
	for i := range f.Symbols {
		s := &f.Symbols[i]
		e := &t.Entries[i]
		*e = Entry{Name: s.Name, Addr: s.Value, Size: s.Size, Sec: uint32(s.Sec), File: -1, Type: s.Info & 0xf, Bind: s.Info >> 4}
		switch {
		case s.Type() == elf.STT_FILE:
			e.Flags = EntryMeta
			file = t.block(s.Name, i)
			continue
		case s.Type() == elf.STT_SECTION || s.Name == "":
			e.Flags = EntryMeta
		case s.Sec != 0 && int(s.Sec) < len(secs):
			e.Flags = secs[s.Sec]
		case s.Shndx == elf.SHN_ABS:
			e.Flags = EntryAbs | EntryInit
		case s.Shndx == elf.SHN_COMMON:
			e.Flags = EntryInit
		default:
			e.Flags = EntryUndefined
		}
		if e.Local() {
			e.File = file
		}
	}
	t.closeBlock(len(t.Entries))
	return t
}

func (t *Table) block(name string, at int) int32 {
	t.closeBlock(at)
	t.Blocks = append(t.Blocks, Block{Name: name, First: int32(at) + 1})
	return int32(len(t.Blocks) - 1)
}

func (t *Table) closeBlock(end int) {
	if n := len(t.Blocks); n > 0 && t.Blocks[n-1].End == 0 {
		t.Blocks[n-1].End = int32(end)
	}
}

func sectionFlags(s *object.Section, linked bool) EntryFlags {
	var fl EntryFlags
	if s.Exec() {
		fl |= EntryCode
	}
	if linked {
		if !s.Alloc() && s.Addr == 0 { // an empty one loses its flags and keeps its address
			fl |= EntryDiscarded
		}
		return fl
	}
	if !s.Alloc() || strings.HasPrefix(s.Name, ".init") || s.Name == ".modinfo" {
		fl |= EntryInit
	}
	if !s.Alloc() || discardedSection(s.Name) {
		fl |= EntryDiscarded
	}
	return fl
}

// discardedSection reports whether the link of vmlinux drops an allocated section.
func discardedSection(name string) bool {
	for _, p := range [...]string{".discard", ".exitcall.exit", ".modinfo", ".no_trim_symbol", "__tracepoint_check", ".export_symbol"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// normal gives a kernel object's name as the kernel spells it: the base name, with '_' for '-'.
func normal(name string) string {
	name = baseName(name)
	for _, ext := range [...]string{".ko", ".o"} {
		name = strings.TrimSuffix(name, ext)
	}
	return strings.ReplaceAll(name, "-", "_")
}

func baseName(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// index is a Table as the kernel counts it.
type index struct {
	t      *Table
	order  []int32          // entries that count, in the kernel's order
	at     []int32          // by entry: where in order, -1 for entries that do not count
	group  []int32          // by place in order: its name
	rank   []int32          // by place in order: 1 + how many of its name come before, those at the same address not counted
	core   []int32          // the same without init symbols; nil when there are none, 0 for an init symbol itself
	names  map[string]int32 // name to group
	places []int32          // places in order, by group
	start  []int32          // by group: where its places start, and the end of the last
	count  []int32          // by group
	// By group: how many are global, one of them, how many may be.
	globals, global, unbound []int32
	ncore                    []int32 // by group, without init symbols; nil when core is
	addrs                    bool    // addresses are known
	rising                   bool    // addresses rise in the order
	module                   bool
	exports                  bool               // has __ksymtab_ symbols
	pfx                      bool               // has __pfx_ or __cfi_ symbols
	blocks                   map[string][]int32 // by the base name of the file
}

func newIndex(t *Table, module bool) *index {
	x := &index{t: t, module: module}
	n := len(t.Entries)
	x.at = make([]int32, n)
	x.order = make([]int32, 0, n)
	sorted, init, prev := true, false, uint64(0)
	for i := range t.Entries {
		e := &t.Entries[i]
		x.at[i] = -1
		if module {
			// The loader's own table: everything that is defined, whatever it is.
			if e.Flags&EntryUndefined != 0 || e.Name == "" || elf.SymType(e.Type) == elf.STT_SECTION {
				continue
			}
			init = init || e.Flags&EntryInit != 0
		} else if e.Flags&EntryMeta != 0 || e.Name == "" || kallsymsHides(e) {
			continue
		}
		x.addrs = x.addrs || e.Addr != 0
		sorted = sorted && e.Addr >= prev
		prev = e.Addr
		x.order = append(x.order, int32(i))
	}
	if t.Order == ByAddress && !sorted {
		x.sort()
	}
	m := len(x.order)
	ints := make([]int32, 3*m)
	x.group, x.rank, x.places = ints[:m:m], ints[m:2*m:2*m], ints[2*m:]
	for k, i := range x.order {
		x.at[i] = int32(k)
	}
	// Names in the order of the table, which is that of memory; then counting in the kernel's order.
	x.names = make(map[string]int32, m)
	for i, k := range x.at {
		if k < 0 {
			continue
		}
		name := t.Entries[i].Name
		g, ok := x.names[name]
		if !ok {
			g = int32(len(x.names))
			x.names[name] = g
		}
		x.group[k] = g
		x.exports = x.exports || len(name) > len(ksymtab) && name[0] == '_' && name[:len(ksymtab)] == ksymtab
		x.pfx = x.pfx || len(name) > 6 && name[0] == '_' && (name[:6] == "__pfx_" || name[:6] == "__cfi_")
	}
	n = len(x.names)
	x.rising = sorted || t.Order == ByAddress
	groups := make([]int32, 5*n+1)
	x.count, x.globals, x.global, x.unbound = groups[:n:n], groups[n:2*n:2*n], groups[2*n:3*n:3*n], groups[3*n:4*n:4*n]
	x.start = groups[4*n:]
	if init {
		x.core, x.ncore = make([]int32, m), make([]int32, n)
	}
	for _, g := range x.group {
		x.start[g+1]++
	}
	for g := range n {
		x.start[g+1] += x.start[g]
	}
	for k := range x.order {
		g, e := x.group[k], x.entry(int32(k))
		at := x.start[g] + x.count[g]
		x.places[at] = int32(k)
		x.count[g]++
		x.rank[k] = x.count[g]
		if x.count[g] > 1 && x.addrs && !module {
			if before := x.places[at-1]; x.entry(before).Addr == e.Addr {
				x.rank[k] = x.rank[before]
			}
		}
		switch {
		case e.Flags&EntryUnbound != 0:
			x.unbound[g]++
		case e.Global():
			x.globals[g]++
			x.global[g] = int32(k)
		}
		if init && e.Flags&EntryInit == 0 {
			x.ncore[g]++
			x.core[k] = x.ncore[g]
		}
	}
	if len(t.Blocks) > 0 {
		x.blocks = make(map[string][]int32, len(t.Blocks))
		for i := range t.Blocks {
			name := baseName(t.Blocks[i].Name)
			x.blocks[name] = append(x.blocks[name], int32(i))
		}
	}
	return x
}

// sort orders by address; entries of equal address keep the order of the table. It
// goes over the addresses byte by byte, lowest first, and skips bytes that are all the same.
func (x *index) sort() {
	type key struct {
		addr uint64
		i    int32
	}
	keys, tmp := make([]key, len(x.order)), make([]key, len(x.order))
	all, any := ^uint64(0), uint64(0)
	for k, i := range x.order {
		a := x.t.Entries[i].Addr
		keys[k] = key{a, i}
		all &= a
		any |= a
	}
	for shift := 0; shift < 64; shift += 8 {
		if byte(all>>shift) == byte(any>>shift) {
			continue
		}
		var start [257]int
		for k := range keys {
			start[int(byte(keys[k].addr>>shift))+1]++
		}
		for b := range 256 {
			start[b+1] += start[b]
		}
		for k := range keys {
			b := byte(keys[k].addr >> shift)
			tmp[start[b]] = keys[k]
			start[b]++
		}
		keys, tmp = tmp, keys
	}
	for k := range keys {
		x.order[k] = keys[k].i
	}
}

// members gives the places of a name, in the kernel's order.
func (x *index) members(g int32) []int32 { return x.places[x.start[g]:x.start[g+1]] }

func (x *index) entry(k int32) *Entry { return &x.t.Entries[x.order[k]] }

// coreCount counts as the kernel does when a module's initialisation is over.
func (x *index) coreCount(g int32) int32 {
	if x.ncore == nil {
		return x.count[g]
	}
	return x.ncore[g]
}

// room gives the bytes up to the next address, 0 when unknown.
func (x *index) room(k int32) uint64 {
	if !x.addrs || x.module {
		return 0
	}
	a := x.entry(k).Addr
	for j := int(k) + 1; j < len(x.order) && j < int(k)+64; j++ {
		if b := x.entry(int32(j)).Addr; b > a {
			return b - a
		}
	}
	return 0
}

func malformed(name string, off int, format string, args ...any) error {
	return problem(diag.SymbolsMalformed, name, off, format, args...)
}

func problem(code diag.Code, name string, off int, format string, args ...any) error {
	return &diag.Error{Diagnostics: []diag.Diagnostic{diag.New(code, diag.Place{File: name}.At(uint64(off)), format, args...)}}
}
