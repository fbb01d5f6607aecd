package synth

import (
	"debug/elf"
	"encoding/binary"
	"slices"

	"github.com/cilium/ebpf/btf"

	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/reloc"
)

// Release is what the kernel of Kernel calls itself.
const Release = "6.1.0-fake"

// Where its parts lie.
const (
	textAt   = 0xffffffff81000000
	rodataAt = 0xffffffff82000000
	dataAt   = 0xffffffff83000000
	symtabAt = 0xffffffff84000000
	crctabAt = 0xffffffff84400000
	strtabAt = 0xffffffff84800000
	unwindAt = 0xffffffff85000000
	typesAt  = 0xffffffff85800000
)

// needed are exports that every module of a livepatch may use.
var needed = []string{"__fentry__", "__x86_return_thunk", "klp_enable_patch", "module_layout"}

// part is a section of a kernel.
type part struct {
	name  string
	flags elf.SectionFlag
	at    uint64
	data  []byte
	id    object.SecID
}

// kernel is one that is being linked.
type kernel struct {
	*object.Builder
	text, rodata, data part
	globals            map[string]uint64
}

// placed is an object whose sections have addresses; 0: it has none.
type placed struct {
	file  *object.File
	addrs []uint64
}

// Kernel makes up a kernel, as a vmlinux, for tests that may have no real one: objs are
// linked into it, and it exports what they lack.
func Kernel(objs ...*object.File) ([]byte, error) {
	k := &kernel{
		Builder: object.NewBuilder(object.Header{}),
		text:    part{name: ".text", at: textAt, flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR},
		rodata:  part{name: ".rodata", at: rodataAt, flags: elf.SHF_ALLOC},
		data:    part{name: ".data", at: dataAt, flags: elf.SHF_ALLOC | elf.SHF_WRITE},
		globals: make(map[string]uint64),
	}
	for _, p := range k.parts() {
		p.id = k.AddSection(object.BuildSection{})
	}
	k.rodata.data = []byte("Linux version " + Release + " (b@h) (gcc-12 (X 12) 12.2.0, GNU ld 2.40) #1 SMP\n\x00" + Release + " SMP preempt mod_unload modversions \x00")
	var all []placed
	for _, f := range objs {
		all = append(all, k.place(f))
	}
	exports := slices.Clone(needed)
	for _, o := range all {
		for i := range o.file.Symbols {
			s := &o.file.Symbols[i]
			if _, ok := k.globals[s.Name]; !ok && s.Undefined() && s.Name != "" && !slices.Contains(exports, s.Name) {
				exports = append(exports, s.Name)
			}
		}
	}
	for _, name := range append(slices.Clip(exports), "text_poke_set") {
		k.define(&k.text, name, k.text.add([]byte{0xc3}, 16), 1, elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC))
	}
	for _, o := range all {
		if err := k.relocate(o); err != nil {
			return nil, err
		}
	}
	for _, p := range k.parts() {
		k.SetSection(p.id, p.section())
	}
	k.export(exports)
	types, err := BTF()
	if err != nil {
		return nil, err
	}
	for _, p := range []part{
		{name: ".orc_unwind", flags: elf.SHF_ALLOC, at: unwindAt, data: []byte{8, 0, 0, 0, 5, 2}}, // of an ordinary call
		{name: ".BTF", flags: elf.SHF_ALLOC, at: typesAt, data: types},
	} {
		k.AddSection(p.section())
	}
	out, err := k.Bytes()
	if err != nil {
		return nil, err
	}
	binary.LittleEndian.PutUint16(out[16:], uint16(elf.ET_EXEC)) // e_type: the builder makes objects only
	return out, nil
}

func (k *kernel) parts() []*part { return []*part{&k.text, &k.rodata, &k.data} }

func (p *part) section() object.BuildSection {
	return object.BuildSection{Name: p.name, Type: elf.SHT_PROGBITS, Flags: p.flags, Addr: p.at, Addralign: 1, Data: p.data}
}

// add appends contents and gives their address.
func (p *part) add(data []byte, align uint64) uint64 {
	for uint64(len(p.data))%align != 0 {
		p.data = append(p.data, 0)
	}
	at := p.at + uint64(len(p.data))
	p.data = append(p.data, data...)
	return at
}

func (k *kernel) define(p *part, name string, at, size uint64, info uint8) {
	k.AddSymbol(object.BuildSymbol{Name: name, Sec: p.id, Value: at, Size: size, Info: info})
	if elf.ST_BIND(info) != elf.STB_LOCAL {
		k.globals[name] = at
	}
}

func (k *kernel) partOf(s *object.Section) *part {
	switch {
	case s.Exec():
		return &k.text
	case s.Flags&elf.SHF_WRITE != 0:
		return &k.data
	}
	return &k.rodata
}

// place gives the sections of an object, and the symbols in them, addresses.
func (k *kernel) place(f *object.File) placed {
	o := placed{f, make([]uint64, len(f.Sections))}
	for i := range f.Sections {
		if s := &f.Sections[i]; s.Alloc() {
			data := s.Data
			if s.Type == elf.SHT_NOBITS {
				data = make([]byte, s.Size)
			}
			o.addrs[i] = k.partOf(s).add(data, max(s.Addralign, 1))
		}
	}
	for i := range f.Symbols {
		if s := &f.Symbols[i]; s.Name != "" && s.Sec != 0 && o.addrs[s.Sec] != 0 && s.Type() != elf.STT_SECTION {
			k.define(k.partOf(&f.Sections[s.Sec]), s.Name, o.addrs[s.Sec]+s.Value, s.Size, s.Info)
		}
	}
	return o
}

// relocate writes the references of an object.
func (k *kernel) relocate(o placed) error {
	for i := range o.file.Sections {
		if o.addrs[i] == 0 {
			continue
		}
		p := k.partOf(&o.file.Sections[i])
		rs := o.file.RelocsOf(object.SecID(i))
		for j := range rs.Len() {
			r := rs.At(j)
			s := &o.file.Symbols[r.Sym]
			to := o.addrs[s.Sec] + s.Value
			if s.Undefined() {
				to = k.globals[s.Name]
			}
			at := o.addrs[i] + r.Off
			if err := reloc.Apply(p.data[at-p.at:], r.Type, to, r.Addend, at, reloc.Overwrite); err != nil {
				return err
			}
		}
	}
	return nil
}

// export adds the tables of what modules may use.
func (k *kernel) export(names []string) {
	table, crcs := part{name: "__ksymtab_gpl", at: symtabAt}, part{name: "__kcrctab_gpl", at: crctabAt}
	strings := part{name: "__ksymtab_strings", at: strtabAt, data: []byte{0}} // and the empty namespace
	for i, name := range names {
		for _, to := range []uint64{k.globals[name], strings.add([]byte(name+"\x00"), 1), strtabAt} {
			table.data = binary.LittleEndian.AppendUint32(table.data, uint32(to-(symtabAt+uint64(len(table.data)))))
		}
		crcs.data = binary.LittleEndian.AppendUint32(crcs.data, uint32(i+1))
	}
	for _, p := range []*part{&table, &crcs, &strings} {
		p.flags = elf.SHF_ALLOC
		k.AddSection(p.section())
	}
}

// BTF gives the types of a kernel: the structures that livepatches need, bug_entry, and
// one called nested that has a union without a name in it.
func BTF() ([]byte, error) {
	ptr := &btf.Pointer{Target: &btf.Void{}}
	b, err := btf.NewBuilder(nil, nil)
	if err != nil {
		return nil, err
	}
	m := func(name string, off uint32) btf.Member {
		return btf.Member{Name: name, Type: ptr, Offset: btf.Bits(8 * off)}
	}
	cb := &btf.Struct{Name: "klp_callbacks", Size: 40, Members: []btf.Member{m("pre_patch", 0), m("post_patch", 8), m("pre_unpatch", 16), m("post_unpatch", 24)}}
	anon := &btf.Union{Size: 16, Members: []btf.Member{m("a", 0), m("b", 8)}}
	for _, s := range []*btf.Struct{
		{Name: "klp_patch", Size: 200, Members: []btf.Member{m("mod", 0), m("objs", 8), m("replace", 24)}},
		{Name: "klp_object", Size: 168, Members: []btf.Member{m("name", 0), m("funcs", 8), {Name: "callbacks", Type: cb, Offset: 8 * 16}}},
		{Name: "klp_func", Size: 152, Members: []btf.Member{m("old_name", 0), m("new_func", 8), m("old_sympos", 16)}},
		{Name: "module", Size: 896, Members: []btf.Member{m("name", 24), m("init", 312), m("exit", 848)}},
		{Name: "nested", Size: 32, Members: []btf.Member{{Type: anon, Offset: 8 * 8}}},
		{Name: "bug_entry", Size: 12, Members: []btf.Member{m("x", 0)}},
	} {
		if _, err := b.Add(s); err != nil {
			return nil, err
		}
	}
	return b.Marshal(nil, nil)
}
