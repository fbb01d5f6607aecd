package verify

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
)

// Names of what makes a patch a module.
const (
	secModule   = ".gnu.linkonce.this_module"
	secVersions = "__versions"
	thunk       = "__x86_return_thunk"
	versionSize = 64 // struct modversion_info: u64 crc, char name[56]
)

// loader checks what the module loader reads of a finished module beside code and data: .modinfo,
// checksums of imported symbols, the halves of the unwind table.
func (c *checker) loader() {
	f := c.p.f
	var info, mod, versions, ip, un object.SecID
	for i := range f.Sections {
		id := object.SecID(i)
		switch f.Sections[i].Name {
		case ".modinfo":
			info = id
		case secModule:
			mod = id
		case secVersions:
			versions = id
		case orcAddresses:
			ip = id
		case orcStates:
			un = id
		}
	}
	if ip != 0 || un != 0 {
		if a, b := f.Sections[ip].Size, f.Sections[un].Size; a/4 != b/6 || a%4 != 0 || b%6 != 0 {
			c.fail(diag.VerifyStructure, ip, 0, "0x%x bytes of places and 0x%x bytes of unwind entries, which are 4 and 6 bytes each", a, b)
		}
	}
	if mod == 0 {
		return // not linked yet
	}
	c.returns()
	values := map[string]string{}
	for _, s := range bytes.Split(f.Sections[info].Data, []byte{0}) {
		if k, v, ok := strings.Cut(string(s), "="); ok && values[k] == "" {
			values[k] = v
		}
	}
	for _, k := range []string{"livepatch", "license", "vermagic"} {
		if values[k] == "" {
			c.fail(diag.VerifyStructure, info, 0, ".modinfo does not say %s=", k)
		}
	}
	if want := c.opts.Vermagic; want != "" && values["vermagic"] != "" && values["vermagic"] != want {
		c.fail(diag.VerifyStructure, info, 0, "the vermagic is %q, that of the kernel %q", values["vermagic"], want)
	}
	if versions == 0 {
		if c.opts.CRC != nil {
			c.fail(diag.VerifyStructure, mod, 0, "no %s, in which the kernel wants the checksums of imported symbols", secVersions)
		}
		return
	}
	d := f.Sections[versions].Data
	if len(d)%versionSize != 0 {
		c.fail(diag.VerifyStructure, versions, 0, "0x%x bytes are not whole entries of %d", len(d), versionSize)
		return
	}
	crcs := make(map[string]uint64, len(d)/versionSize)
	for at := 0; at < len(d); at += versionSize {
		name, _, ok := bytes.Cut(d[at+8:at+versionSize], []byte{0})
		if !ok || len(name) == 0 {
			c.fail(diag.VerifyStructure, versions, uint64(at), "an entry without the end of a name")
			return
		}
		crcs[string(name)] = binary.LittleEndian.Uint64(d[at:])
	}
	wanted := []string{"module_layout"}
	for i := 1; i < len(f.Symbols); i++ {
		if s := &f.Symbols[i]; s.Undefined() && s.Name != "" {
			wanted = append(wanted, s.Name)
		}
	}
	for _, name := range wanted {
		crc, ok := crcs[name]
		if !ok {
			c.fail(diag.VerifyStructure, versions, 0, "no checksum of %s", name)
			continue
		}
		c.count("checksums", 1)
		if c.opts.CRC == nil {
			continue
		}
		if want, ok := c.opts.CRC(name); !ok || uint64(want) != crc {
			c.fail(diag.VerifyStructure, versions, 0, "the checksum of %s is 0x%x, that of the kernel 0x%x", name, crc, want)
		}
	}
}

// returns checks that a module which lists jumps to the return thunk lists all of them: a kernel that patches them
// warns of each one that it meets and does not know.
func (c *checker) returns() {
	list := 0
	c.p.places(".return_sites", func(_ site, l []sited) { list += len(l) })
	if list == 0 {
		return
	}
	f := c.p.f
	for i := 1; i < len(f.Sections); i++ {
		sec := object.SecID(i)
		if s := &f.Sections[i]; !s.Alloc() || !s.Exec() {
			continue
		}
		for _, r := range c.p.relocs(sec) {
			d := f.Sections[i].Data
			if f.Symbols[r.sym].Name != thunk || r.klp != nil || r.off == 0 || r.off > uint64(len(d)) || d[r.off-1] != 0xe9 {
				continue
			}
			c.count("returns listed", 1)
			if len(c.p.entriesAt(".return_sites", site{sec, r.off - 1})) == 0 {
				c.fail(diag.VerifyEntryMissing, sec, r.off-1, "a return that .return_sites does not list")
			}
		}
	}
}

// machinery proves what a module has that comes from no object: the structures that
// describe the patch, the code that registers it, and callbacks that take relocations back.
func (p *prover) machinery() {
	if p.res.Format != Final {
		return
	}
	p.ours, p.takers = make(map[object.SymID]bool), make(map[object.SymID]site)
	f := p.p.f
	for i := 1; i < len(f.Symbols); i++ {
		s := &f.Symbols[i]
		switch {
		case s.Type() == elf.STT_OBJECT && s.Name == klp.PatchSymbol && s.Sec != 0 && p.static:
			p.structures(s)
		case s.Type() != elf.STT_FUNC || s.Sec == 0 || glue(f.Sections[s.Sec].Name):
		case s.Name == "init_module", s.Name == "cleanup_module":
			p.startCode(object.SymID(i))
		case slices.ContainsFunc(p.klp.Callbacks, func(c klp.Callback) bool { return c.Func == object.SymID(i) && c.Kind == klp.PostUnpatch }):
			p.takeBack(object.SymID(i))
		}
	}
	if p.static {
		p.registered()
	}
}

// registered checks struct module: it refers to the functions that start and end the module.
func (p *prover) registered() {
	f := p.p.f
	for i := range f.Sections {
		if f.Sections[i].Name != secModule {
			continue
		}
		var names []string
		for _, r := range p.p.relocsIn(object.SecID(i), 0, f.Sections[i].Size) {
			if r.klp == nil && r.typ == elf.R_X86_64_64 && r.addend == 0 {
				names = append(names, f.Symbols[r.sym].Name)
			}
		}
		if !slices.Equal(names, []string{"init_module", "cleanup_module"}) {
			p.fail(diag.VerifyStructure, object.SecID(i), 0, "struct module refers to %q, not to init_module and cleanup_module", names)
		}
		return
	}
	p.fail(diag.VerifyStructure, 0, 0, "no %s", secModule)
}

// structures checks that everything in the section of struct klp_patch was read as part of it.
func (p *prover) structures(s *object.Symbol) {
	want := 2 // the module and the list of objects
	for _, o := range p.klp.Objects {
		want += 1 + 2*len(o.Funcs)
		if o.Name != klp.Vmlinux {
			want++
		}
	}
	want += len(p.klp.Callbacks)
	sec := &p.p.f.Sections[s.Sec]
	got := p.p.relocsIn(s.Sec, 0, sec.Size)
	if len(got) != want {
		p.fail(diag.VerifyStructure, s.Sec, s.Value, "%d pointers, but what the patch says of itself has %d", len(got), want)
		return
	}
	if len(got) == 0 || got[0].klp != nil || p.p.f.Symbols[got[0].sym].Name != "__this_module" {
		p.fail(diag.VerifyStructure, s.Sec, s.Value, "the patch does not name its module first")
	}
	p.covered(site{s.Sec, 0}, sec.Size)
	for _, r := range got {
		if r.klp != nil {
			continue
		}
		if t := &p.p.f.Symbols[r.sym]; t.Sec != 0 && p.p.f.Sections[t.Sec].Name == klp.StaticStrings {
			p.covered(site{t.Sec, 0}, p.p.f.Sections[t.Sec].Size)
		}
	}
}

// operand is a reference that code of the machinery has to have.
type operand struct {
	off    uint64
	typ    elf.R_X86_64
	addend int64
	is     func(*rel) bool
}

// matches checks a function of the machinery: its bytes, and that it has these operands and no other.
func (p *prover) matches(id object.SymID, code []byte, ops []operand) bool {
	s := &p.p.f.Symbols[id]
	d := p.p.data(s.Sec, s.Value, s.Value+s.Size)
	// What follows the last transfer of control is never run.
	if !bytes.HasPrefix(d, code) || slices.ContainsFunc(d[len(code):], func(b byte) bool { return b != 0xcc && b != 0x90 }) {
		p.fail(diag.VerifyCode, s.Sec, s.Value, "%s is not the code that it should be", s.Name)
		return false
	}
	rs := p.p.relocsIn(s.Sec, s.Value, s.Value+s.Size)
	ok := len(rs) == len(ops)
	for i := 0; ok && i < len(ops); i++ {
		r, o := &rs[i], &ops[i]
		ok = r.off-s.Value == o.off && r.typ == o.typ && r.addend == o.addend && o.is(r)
	}
	if !ok {
		p.fail(diag.VerifyTarget, s.Sec, s.Value, "%s does not refer to what it should", s.Name)
		return false
	}
	p.ours[id] = true
	p.covered(site{s.Sec, s.Value}, s.Size)
	p.prefix(s)
	return true
}

// prefix accepts the NOPs before a function of the machinery.
func (p *prover) prefix(s *object.Symbol) {
	lo := s.Value
	for d := p.p.f.Sections[s.Sec].Data; lo > 0 && (d[lo-1] == 0x90 || d[lo-1] == 0xcc); lo-- {
	}
	p.covered(site{s.Sec, lo}, s.Value-lo)
}

// named accepts an ordinary reference to an undefined symbol.
func (p *prover) named(name string) func(*rel) bool {
	return func(r *rel) bool {
		s := &p.p.f.Symbols[r.sym]
		return r.klp == nil && s.Name == name && s.Undefined()
	}
}

// listed says that a jump at off of a function belongs into .return_sites.
func (p *prover) listed(s *object.Symbol, off uint64) {
	at := site{s.Sec, s.Value + off}
	got := p.p.entriesAt(".return_sites", at)
	if len(got) != 1 {
		p.fail(diag.VerifyEntryMissing, at.sec, at.off, "%d entries of .return_sites for the end of %s, want 1", len(got), s.Name)
		return
	}
	p.entries[site{got[0].sec, got[0].off}] = true
}

var endbr = []byte{0xf3, 0x0f, 0x1e, 0xfa}

// startCode checks init_module (klp_enable_patch with the structure) and cleanup_module (nothing).
func (p *prover) startCode(id object.SymID) {
	s := &p.p.f.Symbols[id]
	if s.Name == "init_module" {
		p.matches(id, append(bytes.Clone(endbr), 0x48, 0xc7, 0xc7, 0, 0, 0, 0, 0xe9, 0, 0, 0, 0), []operand{
			{7, elf.R_X86_64_32S, 0, func(r *rel) bool { return r.klp == nil && p.p.f.Symbols[r.sym].Name == klp.PatchSymbol }},
			{12, elf.R_X86_64_PLT32, -4, p.named("klp_enable_patch")},
		})
		return
	}
	if d := p.p.data(s.Sec, s.Value, s.Value+s.Size); len(d) > 4 && d[4] == 0xc3 {
		p.matches(id, append(bytes.Clone(endbr), 0xc3), nil)
		return
	}
	if p.matches(id, append(bytes.Clone(endbr), 0xe9, 0, 0, 0, 0), []operand{{5, elf.R_X86_64_PLT32, -4, p.named(thunk)}}) {
		p.listed(s, 4)
	}
}

// takeBack checks a callback that zeroes the relocations of a module that has gone,
// if it is one: the entries of its table must be those relocations.
func (p *prover) takeBack(id object.SymID) {
	f := p.p.f
	s := &f.Symbols[id]
	d := p.p.data(s.Sec, s.Value, s.Value+s.Size)
	head := append(bytes.Clone(endbr), 0x53) // push %rbx
	if !bytes.HasPrefix(d, head) {
		return
	}
	var ops []operand
	code := head
	if len(d) > 5 && d[5] == 0xe8 { // a callback of the patch's own first
		code = append(code, 0xe8, 0, 0, 0, 0)
		ops = append(ops, operand{6, elf.R_X86_64_PLT32, -4, func(r *rel) bool { return r.klp == nil && f.Symbols[r.sym].Sec != 0 }})
	}
	at := uint64(len(code))
	body := []byte{0x48, 0xc7, 0xc3, 0, 0, 0, 0, // mov $table, %rbx
		0x48, 0x8b, 0x3b, 0x48, 0x85, 0xff, 0x74, 0x11, // next: mov (%rbx), %rdi; test; je done
		0x31, 0xf6, 0x48, 0x8b, 0x53, 0x08, 0xe8, 0, 0, 0, 0, // xor %esi, %esi; mov 8(%rbx), %rdx; call text_poke_set
		0x48, 0x83, 0xc3, 0x10, 0xeb, 0xe7, 0x5b} // add $16, %rbx; jmp next; done: pop %rbx
	if !bytes.HasPrefix(d[at:], body) {
		return
	}
	code = append(code, body...)
	rs := p.p.relocsIn(s.Sec, s.Value+at, s.Value+s.Size)
	if len(rs) == 0 || rs[0].klp != nil || f.Symbols[rs[0].sym].Sec == 0 {
		return
	}
	t := &f.Symbols[rs[0].sym]
	table := site{t.Sec, t.Value + uint64(rs[0].addend)}
	ops = append(ops,
		operand{at + 3, elf.R_X86_64_32S, rs[0].addend, func(r *rel) bool { return r.sym == rs[0].sym }},
		operand{at + 22, elf.R_X86_64_PLT32, -4, func(r *rel) bool {
			return r.klp != nil && r.klp.Symbol.Name == "text_poke_set" && r.klp.Symbol.Object == klp.Vmlinux
		}})
	end := uint64(len(code))
	plain := uint64(len(d)) > end && d[end] == 0xc3
	if plain {
		code = append(code, 0xc3)
	} else {
		code = append(code, 0xe9, 0, 0, 0, 0)
		ops = append(ops, operand{end + 1, elf.R_X86_64_PLT32, -4, p.named(thunk)})
	}
	if !p.matches(id, code, ops) {
		return
	}
	if !plain {
		p.listed(s, end)
	}
	p.takers[id] = site{}
	if at > uint64(len(head)) {
		r := p.p.relocsIn(s.Sec, s.Value+6, s.Value+7)[0]
		own := &f.Symbols[r.sym]
		p.takers[id] = site{own.Sec, own.Value}
	}
	owner := ""
	for _, c := range p.klp.Callbacks {
		if c.Func == id {
			owner = c.Object
		}
	}
	want := make(map[site]uint64)
	for i := range p.klp.Relocs {
		if r := &p.klp.Relocs[i]; r.Object == owner {
			size := uint64(4)
			if r.Type == elf.R_X86_64_64 || r.Type == elf.R_X86_64_PC64 {
				size = 8
			}
			want[site{r.Sec, r.Off}] = size
		}
	}
	n := uint64(0)
	data := f.Sections[table.sec].Data
	for ; table.off+16*n+16 <= uint64(len(data)); n++ {
		off := table.off + 16*n
		rs := p.p.relocsIn(table.sec, off, off+8)
		if len(rs) == 0 {
			break
		}
		to := &f.Symbols[rs[0].sym]
		place := site{to.Sec, to.Value + uint64(rs[0].addend)}
		if size, ok := want[place]; rs[0].klp != nil || rs[0].typ != elf.R_X86_64_64 || !ok || size != binary.LittleEndian.Uint64(data[off+8:]) {
			p.fail(diag.VerifyEntryExtra, table.sec, off, "%s zeroes a place that no relocation for %s writes to", s.Name, owner)
		}
		delete(want, place)
	}
	if len(want) > 0 {
		p.fail(diag.VerifyEntryMissing, table.sec, table.off, "%s leaves %d relocations for %s as they are", s.Name, len(want), owner)
	}
	if stop := table.off + 16*n; stop+16 > uint64(len(data)) || !sameZero(data[stop:stop+16]) {
		p.fail(diag.VerifyEntryMissing, table.sec, table.off, "the list of places of %s does not end", s.Name)
	}
	p.covered(table, 16*n+16)
	p.count("relocations taken back", int(n))
}
