package module

import (
	"debug/elf"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/x86"
)

// Sections that objtool makes when it has seen an object, and what they list.
const (
	returnSites    = ".return_sites"
	retpolineSites = ".retpoline_sites"
	callSites      = ".static_call_sites"
	orcIP          = ".orc_unwind_ip"
	orcUnwind      = ".orc_unwind"
	jumpTable      = "__jump_table"
	ehFrame        = ".eh_frame"
)

const shtUnwind elf.SectionType = 0x70000001 // SHT_X86_64_UNWIND, the psABI's type for .eh_frame

const (
	returnThunk    = "__x86_return_thunk"
	indirectThunk  = "__x86_indirect_" // thunk_rax, call_thunk_rax, jump_thunk_rax
	staticCall     = "__SCT__"
	staticKey      = "__SCK__"
	jumpEntry      = 16 // struct jump_entry: s32 code, s32 target, s64 key
	jumpHack       = 2  // in the key's addend: compiled as a jump, to be a NOP (arch/x86/include/asm/jump_label.h)
	staticCallSize = 8  // struct static_call_site: s32 address, s32 key
	staticCallTail = 1  // in the key: a jump, not a call
)

// Completion says what Complete added to an object.
type Completion struct {
	Returns, Retpolines, StaticCalls int      // entries of site lists
	Branches                         int      // static branches that became NOPs
	Unwind                           int      // unwind entries
	Functions                        int      // that have unwind entries made from call frame information
	Opaque                           int      // rows of call frame information that unwind entries cannot say
	Skipped                          []string // static calls whose key the kernel does not show: they go through the trampoline
}

// Any reports whether the object was changed.
func (c *Completion) Any() bool { return c.Returns+c.Retpolines+c.StaticCalls+c.Branches+c.Unwind > 0 }

// CompleteOptions is what Complete has to know of the kernel.
type CompleteOptions struct {
	// Call is the last byte of an unwind entry of an ordinary frame: 0 up to Linux 6.3, 2 from 6.4 on (struct orc_entry).
	Call     byte
	NoUnwind bool // make no unwind entries
	// Has reports whether the kernel has a symbol, by which a static call's key can be named; nil: it has all.
	Has func(symbol string) bool
}

// Complete gives an object with what the kernel's objtool adds: the lists of
// return thunks, retpolines and static calls, NOPs for static branches that are
// off, unwind entries from call frame information. Kernels with indirect branch
// tracking or link-time optimisation run objtool on the linked object, so single
// objects lack all that. What an object has already stays as it is; one that
// lacks nothing is returned itself.
func Complete(f *object.File, opts CompleteOptions) (*object.File, *Completion, error) {
	c := &completer{f: f, opts: opts, done: &Completion{}}
	c.sections()
	if !c.seen {
		c.sites()
		c.branches()
	}
	var unwind []orcRow
	if c.names[orcIP] == 0 && !opts.NoUnwind {
		unwind = c.frames()
	}
	if !c.done.Any() && len(unwind) == 0 {
		return f, c.done, nil
	}
	return c.build(unwind)
}

type completer struct {
	f     *object.File
	opts  CompleteOptions
	done  *Completion
	names map[string]object.SecID // the first section of a name
	seen  bool                    // objtool was here
	lists map[string][]siteEntry
	nops  []nop
}

// siteEntry is an instruction to list, and for static calls the key.
type siteEntry struct {
	sec object.SecID
	off uint64
	key string
	add int64
}

// nop is a jump of size bytes that becomes a NOP.
type nop struct {
	sec  object.SecID
	off  uint64
	size int
}

func (c *completer) sections() {
	c.names = make(map[string]object.SecID)
	for i := range c.f.Sections {
		s := &c.f.Sections[i]
		if s.Type != elf.SHT_PROGBITS && s.Type != shtUnwind {
			continue
		}
		if _, ok := c.names[s.Name]; !ok {
			c.names[s.Name] = object.SecID(i)
		}
	}
	for _, n := range []string{returnSites, retpolineSites, callSites, orcIP, ".call_sites", ".ibt_endbr_seal"} {
		c.seen = c.seen || c.names[n] != 0
	}
}

// text calls fn with every relocation of code, in the order of offsets.
func (c *completer) text(fn func(sec object.SecID, d []byte, r *object.Reloc)) {
	for i := range c.f.Sections {
		s := &c.f.Sections[i]
		if !s.Exec() || s.Rela == 0 {
			continue
		}
		rs := c.f.RelocsOf(object.SecID(i))
		for k := range rs.Len() {
			r := rs.At(k)
			fn(object.SecID(i), s.Data, &r)
		}
	}
}

// sites lists calls and jumps that the kernel rewrites when it loads a module.
func (c *completer) sites() {
	c.lists = make(map[string][]siteEntry)
	c.text(func(sec object.SecID, d []byte, r *object.Reloc) {
		if r.Type != elf.R_X86_64_PLT32 && r.Type != elf.R_X86_64_PC32 {
			return
		}
		name := c.f.Symbols[r.Sym].Name
		if !strings.HasPrefix(name, "__x86_") && !strings.HasPrefix(name, staticCall) {
			return
		}
		off, op, ok := branchAt(d, r.Off)
		if !ok {
			return
		}
		switch {
		case name == returnThunk && op != 0xe8:
			c.lists[returnSites] = append(c.lists[returnSites], siteEntry{sec: sec, off: off})
			c.done.Returns++
		case strings.HasPrefix(name, indirectThunk):
			off = withPrefix(d, off)
			c.lists[retpolineSites] = append(c.lists[retpolineSites], siteEntry{sec: sec, off: off})
			c.done.Retpolines++
		case strings.HasPrefix(name, staticCall):
			e := siteEntry{sec: sec, off: off, key: staticKey + name[len(staticCall):]}
			if op != 0xe8 {
				e.add = staticCallTail
			}
			if c.opts.Has != nil && !c.opts.Has(e.key) && !c.defines(e.key) {
				if !slices.Contains(c.done.Skipped, e.key) {
					c.done.Skipped = append(c.done.Skipped, e.key)
				}
				return
			}
			c.lists[callSites] = append(c.lists[callSites], e)
			c.done.StaticCalls++
		}
	})
}

func (c *completer) defines(name string) bool {
	return slices.ContainsFunc(c.f.Symbols, func(s object.Symbol) bool { return s.Name == name && s.Sec != 0 })
}

// branchAt gives the start and opcode of the branch whose rel32 operand lies at off.
func branchAt(d []byte, off uint64) (start uint64, op byte, ok bool) {
	switch {
	case off >= 1 && (d[off-1] == 0xe8 || d[off-1] == 0xe9):
		return off - 1, d[off-1], true
	case off >= 2 && d[off-2] == 0x0f && d[off-1]&0xf0 == 0x80:
		return off - 2, 0x0f, true
	}
	return 0, 0, false
}

// withPrefix gives the start of the instruction at off with the CS prefix that
// compilers put before calls of thunks, to make room for what the kernel writes
// there (-mindirect-branch-cs-prefix). The byte may be the end of another instruction as well.
func withPrefix(d []byte, off uint64) uint64 {
	if off == 0 || d[off-1] != 0x2e {
		return off
	}
	w := x86.Walker{Code: d}
	for w.Next() && uint64(w.Off) < off-1 {
	}
	if w.Err == nil && uint64(w.Off) == off-1 {
		return off - 1
	}
	return off
}

// branches finds static branches that the compiler wrote as jumps and that are off until their key says otherwise.
func (c *completer) branches() {
	sec := c.names[jumpTable]
	if sec == 0 {
		return
	}
	rs := c.f.RelocsOf(sec)
	for i := range rs.Len() {
		key := rs.At(i)
		if key.Off%jumpEntry != 8 || key.Type != elf.R_X86_64_PC64 || key.Addend&jumpHack == 0 {
			continue
		}
		lo, hi := rs.Range(key.Off-8, key.Off-7)
		if hi-lo != 1 {
			continue
		}
		code := rs.At(lo)
		s := &c.f.Symbols[code.Sym]
		if code.Type != elf.R_X86_64_PC32 || s.Sec == 0 {
			continue
		}
		d, off := c.f.Sections[s.Sec].Data, s.Value+uint64(code.Addend)
		switch {
		case off+2 <= uint64(len(d)) && d[off] == 0xeb:
			c.nops = append(c.nops, nop{s.Sec, off, 2})
		case off+5 <= uint64(len(d)) && d[off] == 0xe9:
			c.nops = append(c.nops, nop{s.Sec, off, 5})
		default:
			continue
		}
		c.done.Branches++
	}
}

var nopBytes = map[int][]byte{2: {0x66, 0x90}, 5: {0x0f, 0x1f, 0x44, 0x00, 0x00}}

func (c *completer) build(unwind []orcRow) (*object.File, *Completion, error) {
	f := c.f
	b := object.FromFile(f)
	b.Name = f.Name
	syms := make(map[object.SecID]object.SymID)
	byName := make(map[string]object.SymID)
	for i := range f.Symbols {
		s := &f.Symbols[i]
		switch {
		case s.Type() == elf.STT_SECTION && s.Sec != 0 && syms[s.Sec] == 0:
			syms[s.Sec] = object.SymID(i)
		case strings.HasPrefix(s.Name, staticKey) && byName[s.Name] == 0:
			byName[s.Name] = object.SymID(i)
		}
	}
	section := func(sec object.SecID) object.SymID {
		if syms[sec] == 0 {
			syms[sec] = b.AddSymbol(object.BuildSymbol{Sec: sec, Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_SECTION)})
		}
		return syms[sec]
	}
	c.nop(b)
	pc32 := func(at object.SecID, off uint64, sym object.SymID, addend int64) {
		b.AddReloc(at, object.Reloc{Off: off, Type: elf.R_X86_64_PC32, Sym: sym, Addend: addend})
	}
	for _, name := range []string{returnSites, retpolineSites, callSites} {
		list := c.lists[name]
		if len(list) == 0 {
			continue
		}
		size, flags := uint64(4), elf.SHF_ALLOC
		if name == callSites {
			size, flags = staticCallSize, elf.SHF_ALLOC|elf.SHF_WRITE
		}
		id := b.AddSection(object.BuildSection{Name: name, Type: elf.SHT_PROGBITS, Flags: flags, Addralign: 4, Entsize: size, Data: make([]byte, size*uint64(len(list)))})
		for i, e := range list {
			pc32(id, size*uint64(i), section(e.sec), int64(e.off))
			if name != callSites {
				continue
			}
			key := byName[e.key]
			if key == 0 {
				key = b.AddSymbol(object.BuildSymbol{Name: e.key, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_NOTYPE)})
				byName[e.key] = key
			}
			pc32(id, size*uint64(i)+4, key, e.add)
		}
	}
	if n := len(unwind); n > 0 {
		c.done.Unwind = n
		ip := b.AddSection(object.BuildSection{Name: orcIP, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Addralign: 1, Data: make([]byte, 4*n)})
		d := make([]byte, 0, 6*n)
		for i, r := range unwind {
			d = append(d, r.entry[:]...)
			pc32(ip, uint64(4*i), section(r.sec), int64(r.off))
		}
		b.AddSection(object.BuildSection{Name: orcUnwind, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Addralign: 1, Data: d})
	}
	data, err := b.Bytes()
	if err != nil {
		return nil, nil, err
	}
	out, err := object.Parse(data, object.Options{Name: f.Name})
	return out, c.done, err
}

// nop overwrites static branches and takes their relocations away.
func (c *completer) nop(b *object.Builder) {
	slices.SortFunc(c.nops, func(x, y nop) int {
		if x.sec != y.sec {
			return int(x.sec) - int(y.sec)
		}
		return int(int64(x.off) - int64(y.off))
	})
	for i := 0; i < len(c.nops); {
		sec := c.nops[i].sec
		s := b.Section(sec)
		s.Data = slices.Clone(s.Data)
		gone := make(map[uint64]bool)
		for ; i < len(c.nops) && c.nops[i].sec == sec; i++ {
			n := c.nops[i]
			copy(s.Data[n.off:], nopBytes[n.size])
			if n.size == 5 {
				gone[n.off+1] = true
			}
		}
		b.SetSection(sec, s)
		rs := c.f.RelocsOf(sec)
		keep := make([]object.Reloc, 0, rs.Len())
		for k := range rs.Len() {
			if r := rs.File(k); !gone[r.Off] {
				keep = append(keep, r)
			}
		}
		if len(keep) != rs.Len() {
			b.SetRelocs(sec, keep)
		}
	}
}

var le = binary.LittleEndian
