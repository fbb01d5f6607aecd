package runpre

import (
	"bytes"
	"cmp"
	"debug/elf"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/internal/checked"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/reloc"
	"github.com/kdelta/kdelta/symbols"
	"github.com/kdelta/kdelta/x86"
)

// vote says where a section lies.
type vote struct {
	sec  object.SecID
	base uint64
	off  uint64 // of the reference, in the function or section that votes
	// The symbol whose name was found at its place then, 0 for none.
	witness object.SymID
	item    int32 // what votes: a function, or ^section of data
}

// diff is a difference before it is put into words.
type diff struct {
	off    uint64 // in the object, from the start of what is compared
	at     uint64 // in the kernel
	ref    bool   // a reference differs
	blind  bool   // the object cannot be followed here
	object string // what the object has, where it is not the instruction
	kernel string
}

// candidate is a place of the kernel where a function may be.
type candidate struct {
	addr  uint64
	votes []vote
	diff  *diff // nil: equal
}

// anchor is where a section lies, by the first vote or by names.
type anchor struct {
	set   bool
	base  uint64
	votes int
	name  string // of a symbol that it rests on, when there are no votes
}

const (
	maxDiagnostics = 16
	maxCandidates  = 4096 // compared for one function
	maxPasses      = 4
	maxPlaces      = 1024 // looked at for a section that nothing refers to
)

type checker struct {
	f      *object.File
	w      world
	kernel string
	r      *Result

	code    [][]byte           // by section: contents with the NOPs of the build, nil: the file's
	dropped map[[2]uint64]bool // relocations of the jumps that became NOPs, by section and offset
	bySec   [][]object.SymID   // symbols that the kernel should have, by section and value

	cands   [][]candidate // by function; nil when it is settled
	pending [][]int32     // by section: functions that its anchor settles
	anchors []anchor      // by section
	dataAt  []int32       // by section: 1 + where its item is in r.Data
	queue   []object.SecID
	votes   []vote
	own     map[object.SymID]uint64 // tables of kallsyms
}

func run(f *object.File, w world, table *symbols.Table, kernel string) *Result {
	c := &checker{f: f, w: w, kernel: kernel, r: &Result{Unlocated: map[object.SymID]string{}}, own: map[object.SymID]uint64{}}
	c.r.Located = &symbols.Located{Source: "run-pre", File: f, Addr: map[object.SymID]uint64{}, Entry: map[object.SymID]int32{}, Table: table}
	c.anchors = make([]anchor, len(f.Sections))
	c.pending = make([][]int32, len(f.Sections))
	c.code = make([][]byte, len(f.Sections))
	c.dataAt = make([]int32, len(f.Sections))
	c.jumps()
	c.index()
	c.functions()
	c.propagate()
	c.byName()
	c.tables()
	c.settle()
	c.locate()
	c.report()
	return c.r
}

// hidden reports whether the kernel's table leaves names of this kind out, or the link drops what they name.
func hidden(name string) bool {
	if name == "" {
		return true
	}
	switch name[0] {
	case '.', '$':
		return true
	case '_', 'L':
		for _, p := range [...]string{"L0", "__UNIQUE_ID_", "__func_stack_frame_non_standard_", "__kcfi_typeid_", "__crc_", "__kstrtab", "__export_symbol_", "__mod_device_table__", "__exitcall_", "__ksymtab_", "__brk_reservation_fn_"} {
			if strings.HasPrefix(name, p) {
				return true
			}
		}
	}
	return strings.Contains(name, "__addressable_")
}

// discarded reports whether the link leaves the section out of the kernel.
func discarded(s *object.Section) bool {
	return !s.Alloc() || strings.HasPrefix(s.Name, ".discard") || strings.HasPrefix(s.Name, ".exitcall") || s.Name == ".modinfo" || strings.HasPrefix(s.Name, ".export_symbol")
}

// index lists the symbols by section.
func (c *checker) index() {
	f := c.f
	count := make([]int, len(f.Sections)+1)
	member := func(s *object.Symbol) bool {
		return s.Sec != 0 && s.Type() != elf.STT_SECTION && s.Type() != elf.STT_FILE && s.Bind() != elf.STB_WEAK && !hidden(s.Name) &&
			!discarded(&f.Sections[s.Sec]) && f.Sections[s.Sec].Flags&elf.SHF_MERGE == 0
	}
	total := 0
	for i := 1; i < len(f.Symbols); i++ {
		if s := &f.Symbols[i]; member(s) {
			count[s.Sec]++
			total++
		}
	}
	flat := make([]object.SymID, total)
	c.bySec = make([][]object.SymID, len(f.Sections))
	at := 0
	for i := range f.Sections {
		c.bySec[i] = flat[at : at : at+count[i]]
		at += count[i]
	}
	for i := 1; i < len(f.Symbols); i++ {
		if s := &f.Symbols[i]; member(s) {
			c.bySec[s.Sec] = append(c.bySec[s.Sec], object.SymID(i))
		}
	}
	for _, l := range c.bySec {
		slices.SortStableFunc(l, func(a, b object.SymID) int { return cmp.Compare(f.Symbols[a].Value, f.Symbols[b].Value) })
	}
}

// Static branches (include/linux/jump_label.h): entries of code, target and key, where bit 1 of the key asks for a NOP.
const (
	jumpEntry   = 16
	jumpCode    = 0
	jumpKey     = 8
	jumpNop     = 2
	jmpShort    = 0xeb
	jmpNear     = 0xe9
	nopShort    = "\x66\x90"
	nopNear     = "\x0f\x1f\x44\x00\x00"
	relocWithin = 1 // where the field of a near jump is
)

// jumps makes the NOPs that the build makes of jumps after compiling.
func (c *checker) jumps() {
	f := c.f
	for i := range f.Sections {
		s := &f.Sections[i]
		if s.Name != "__jump_table" || s.Type != elf.SHT_PROGBITS {
			continue
		}
		rel := f.RelocsOf(object.SecID(i))
		for j := 0; j+2 < rel.Len(); j++ {
			code, key := rel.At(j), rel.At(j+2)
			if code.Off%jumpEntry != jumpCode || key.Off != code.Off+jumpKey || key.Addend&jumpNop == 0 || uint64(code.Sym) >= uint64(len(f.Symbols)) {
				continue
			}
			sym := &f.Symbols[code.Sym]
			if sym.Sec == 0 {
				continue
			}
			data := f.Sections[sym.Sec].Data
			off := sym.Value + uint64(code.Addend)
			if off >= uint64(len(data)) {
				continue
			}
			nop := ""
			switch data[off] {
			case jmpShort:
				nop = nopShort
			case jmpNear:
				nop = nopNear
			}
			if nop == "" || !checked.Within(off, uint64(len(nop)), uint64(len(data))) {
				continue
			}
			if c.code[sym.Sec] == nil {
				c.code[sym.Sec] = bytes.Clone(data)
			}
			copy(c.code[sym.Sec][off:], nop)
			if c.dropped == nil {
				c.dropped = make(map[[2]uint64]bool)
			}
			c.dropped[[2]uint64{uint64(sym.Sec), off + relocWithin}] = true
		}
	}
}

func (c *checker) data(sec object.SecID) []byte {
	if c.code[sec] != nil {
		return c.code[sec]
	}
	return c.f.Sections[sec].Data
}

// functions compares each function with those of its name, and settles what only one place can be.
func (c *checker) functions() {
	f := c.f
	for i := 1; i < len(f.Symbols); i++ {
		s := &f.Symbols[i]
		if s.Type() != elf.STT_FUNC || s.Sec == 0 {
			continue
		}
		it := Item{Sym: object.SymID(i), Sec: s.Sec}
		var cands []candidate
		sec := &f.Sections[s.Sec]
		switch {
		case discarded(sec):
			it.Status, it.Why = Absent, "the link discards its section"
		case s.Size == 0:
			it.Status, it.Why = Incomparable, "it has no size"
		case !checked.Within(s.Value, s.Size, uint64(len(sec.Data))):
			it.Status, it.Why = Incomparable, "it does not lie in its section"
		default:
			cands = c.compareAll(&it, s)
		}
		c.r.Funcs = append(c.r.Funcs, it)
		c.cands = append(c.cands, cands)
		n := int32(len(c.r.Funcs) - 1)
		if it.Status == Exact && it.Equal > 1 {
			c.pending[s.Sec] = append(c.pending[s.Sec], n)
		}
	}
	for n := range c.r.Funcs {
		it := &c.r.Funcs[n]
		if it.Status == Exact && it.Equal == 1 {
			c.take(int32(n), slices.IndexFunc(c.cands[n], func(x candidate) bool { return x.diff == nil }))
		}
	}
}

// compareAll compares a function with all of its name.
func (c *checker) compareAll(it *Item, s *object.Symbol) []candidate {
	local := s.Bind() == elf.STB_LOCAL
	var cands []candidate
	for _, strict := range [...]bool{true, false} { // names that the link made local, and the like
		for i := c.w.first(s.Name); i >= 0 && len(cands) < maxCandidates; i = c.w.next(i) {
			addr, l := c.w.at(i)
			if strict && l != local || len(cands) > 0 && cands[len(cands)-1].addr == addr {
				continue
			}
			cands = append(cands, candidate{addr: addr})
		}
		if len(cands) > 0 {
			break
		}
	}
	it.Of = len(cands)
	name := c.f.Sections[s.Sec].Name
	switch {
	case len(cands) == 0 && s.Bind() == elf.STB_WEAK:
		it.Status, it.Why = Weak, "the kernel has no function of this name"
		return nil
	case len(cands) == 0 && (hidden(s.Name) || strings.HasPrefix(name, ".init") || strings.HasPrefix(name, ".exit") || strings.HasPrefix(s.Name, "__pfx_") || strings.HasPrefix(s.Name, "__cfi_")):
		it.Status, it.Why = Absent, "kallsyms does not have it"
		return nil
	case len(cands) == 0:
		it.Status, it.Why = Mismatch, "the kernel has no function of this name"
		it.Diff = &Difference{Object: fmt.Sprintf("%d bytes of code", s.Size), Kernel: "no function of this name"}
		return nil
	}
	for i := range cands {
		x := &cands[i]
		x.votes, x.diff = c.compare(s.Sec, s.Value, s.Size, x.addr)
		if x.diff == nil {
			it.Equal++
		}
	}
	if it.Equal == 0 {
		for i := range cands {
			x := &cands[i]
			votes, d := c.compareRelaxed(s.Sec, s.Value, s.Size, x.addr)
			if d == nil {
				x.votes, x.diff = votes, nil
				it.Equal++
				it.Relaxed = true
			} else if d.off > x.diff.off {
				x.diff = d
			}
		}
	}
	if it.Equal > 0 {
		it.Status = Exact
		return cands
	}
	far := -1 // the one that is equal for longest
	for i := range cands {
		if far < 0 || cands[i].diff.off > cands[far].diff.off {
			far = i
		}
	}
	x := &cands[far]
	if x.diff.blind {
		it.Status, it.Why = Incomparable, x.diff.object
		return nil
	}
	it.Status, it.Addr = Mismatch, x.addr
	it.Diff = c.words(s.Sec, s.Value, s.Size, x.addr, x.diff, true)
	if s.Bind() == elf.STB_WEAK {
		it.Status, it.Why = Weak, "the kernel runs another definition of it, which it has at "+c.w.describe(x.addr)
		it.Diff = nil
	}
	return nil
}

// compare holds n bytes of a section against the kernel at an address.
func (c *checker) compare(sec object.SecID, from, n, addr uint64) ([]vote, *diff) {
	img := c.w.bytes(addr, int(n))
	if img == nil {
		return nil, &diff{kernel: fmt.Sprintf("fewer than %d bytes", n)}
	}
	data := c.data(sec)[from : from+n]
	rel := c.f.RelocsOf(sec)
	lo, hi := rel.Range(from, from+n)
	exec := c.f.Sections[sec].Exec()
	var votes []vote
	pos, refs := uint64(0), 0
	lines := c.f.Sections[sec].Name == dyndbg
	bytesTo := func(end uint64) *diff {
		if bytes.Equal(data[pos:end], img[pos:end]) {
			return nil
		}
		for ; pos < end; pos++ {
			if d := data[pos] ^ img[pos]; d != 0 && !(lines && isLine(from+pos, d)) && (exec || !c.rewritten(sec, from+pos)) {
				return &diff{off: pos, at: pos}
			}
		}
		return nil
	}
	for ; lo < hi; lo++ {
		r := rel.At(lo)
		if r.Type == elf.R_X86_64_NONE || c.dropped[[2]uint64{uint64(sec), r.Off}] {
			continue
		}
		off := r.Off - from
		info, ok := followed(r.Type)
		if !ok || off < pos || off+uint64(info.Size) > n || uint64(r.Sym) >= uint64(len(c.f.Symbols)) {
			return nil, &diff{off: off, at: off, ref: true, blind: true, object: "a relocation that cannot be followed (" + reloc.Name(r.Type) + ")"}
		}
		if d := bytesTo(off); d != nil {
			return nil, d
		}
		pos = off + uint64(info.Size)
		refs++
		v, d := c.field(&r, info, addr+off, img[off:pos], exec)
		if d != nil {
			d.off, d.at, d.ref = off, off, true
			return nil, d
		}
		if v.sec != 0 {
			v.off = off
			votes = append(votes, v)
		}
	}
	if d := bytesTo(n); d != nil {
		return nil, d
	}
	if has := c.w.references(addr, int(n)); has > refs {
		return nil, &diff{kernel: fmt.Sprintf("%d references", has), object: fmt.Sprintf("%d references", refs)}
	}
	return votes, nil
}

// Line numbers are not compared: they do not change what code does. struct _ddebug has one in 18 bits (include/linux/dynamic_debug.h).
const (
	dyndbg     = "__dyndbg"
	dyndbgSize = 56
	dyndbgLine = 32
)

// isLine reports whether bits that differ in a byte of __dyndbg belong to a line number.
func isLine(off uint64, bits byte) bool {
	switch off % dyndbgSize {
	case dyndbgLine, dyndbgLine + 1:
		return true
	case dyndbgLine + 2:
		return bits&^3 == 0
	}
	return false
}

// sortNeeded is a variable that the build clears in the linked kernel when it has sorted the exception table (scripts/sorttable.c).
const sortNeeded = "main_extable_sort_needed"

// rewritten reports whether the build writes to the data at an offset after the link.
func (c *checker) rewritten(sec object.SecID, off uint64) bool {
	l := c.bySec[sec]
	i := sort.Search(len(l), func(i int) bool { return c.f.Symbols[l[i]].Value > off }) - 1
	if i < 0 {
		return false
	}
	s := &c.f.Symbols[l[i]]
	return s.Name == sortNeeded && off-s.Value < s.Size
}

// ownTable reports whether a symbol is one of the tables of kallsyms, which are made after the symbols are known and are not among them.
func ownTable(name string) bool { return strings.HasPrefix(name, "kallsyms_") }

// followed gives what is known of a relocation type; false for those that do not say where they lead.
func followed(t elf.R_X86_64) (reloc.Info, bool) {
	i, ok := reloc.Lookup(t)
	switch i.Class {
	case reloc.Absolute, reloc.PCRelative, reloc.PLT:
		return i, ok && i.Size > 0
	}
	return i, false
}

// field compares a reference whose field the kernel has at an address.
func (c *checker) field(r *object.Reloc, info reloc.Info, at uint64, field []byte, code bool) (vote, *diff) {
	to, ext, addend, ok := c.w.target(at, r.Type, field)
	switch {
	case !ok:
		return vote{}, &diff{object: c.refText(r, code), kernel: "no such reference"}
	case ext == "":
		return c.reference(r, info, to, code)
	}
	// What is defined elsewhere.
	if sym := &c.f.Symbols[r.Sym]; sym.Sec != 0 || sym.Name != ext || r.Addend != addend {
		if info.PCRel && code {
			addend += int64(info.Size)
		}
		return vote{}, &diff{object: c.refText(r, code), kernel: signed(ext, addend)}
	}
	return vote{}, nil
}

// reference compares where one leads, addend included.
func (c *checker) reference(r *object.Reloc, info reloc.Info, to uint64, code bool) (vote, *diff) {
	sym := &c.f.Symbols[r.Sym]
	bias := uint64(0) // what the processor adds: the field is at the end of nearly all instructions
	if code && info.PCRel {
		bias = uint64(info.Size)
	}
	differ := func(kernel string) (vote, *diff) {
		return vote{}, &diff{object: c.refText(r, code), kernel: kernel}
	}
	s := to - uint64(r.Addend)
	switch {
	case sym.Sec == 0 && sym.Shndx == elf.SHN_ABS && c.w.first(sym.Name) < 0:
		if s != sym.Value {
			return differ(fmt.Sprintf("%#x", s))
		}
		return vote{}, nil
	case sym.Sec == 0:
		if c.w.named(sym.Name, s) || sym.Bind() == elf.STB_WEAK && uint32(s) == 0 {
			return vote{}, nil
		}
		if ownTable(sym.Name) && c.w.first(sym.Name) < 0 {
			// All that can be said: it is always the same place.
			if at, ok := c.own[r.Sym]; !ok || c.w.same(at, s) {
				c.own[r.Sym] = s
				return vote{}, nil
			}
		}
		return differ(c.w.describe(to + bias))
	}
	sec := &c.f.Sections[sym.Sec]
	if sec.Flags&elf.SHF_MERGE != 0 {
		off := sym.Value
		if sym.Type() == elf.STT_SECTION {
			off += uint64(r.Addend) + bias
			s = to + bias
		}
		if have, want, ok := c.constant(sec, off, s); !ok {
			return vote{}, &diff{object: want, kernel: have}
		}
		return vote{}, nil
	}
	if sym.Bind() == elf.STB_WEAK {
		if !c.w.named(sym.Name, s) {
			return differ(c.w.describe(to + bias))
		}
		return vote{}, nil
	}
	base := s - sym.Value
	near := sym.Value
	if sym.Type() == elf.STT_SECTION {
		near += uint64(r.Addend) + bias
	}
	if discarded(sec) {
		return vote{}, nil
	}
	witness, ok := c.there(sym.Sec, base, near)
	if !ok {
		return differ(c.w.describe(to + bias))
	}
	return vote{sec: sym.Sec, base: base, witness: witness}, nil
}

// there reports whether the kernel has the symbol of a section that is nearest to an offset at its place,
// when the section lies at base; true, with no symbol, where the section has none that the kernel should have.
func (c *checker) there(sec object.SecID, base, off uint64) (object.SymID, bool) {
	l := c.bySec[sec]
	if len(l) == 0 {
		return 0, true
	}
	i := sort.Search(len(l), func(i int) bool { return c.f.Symbols[l[i]].Value > off }) - 1
	id := l[max(i, 0)]
	s := &c.f.Symbols[id]
	return id, c.w.named(s.Name, base+s.Value)
}

// constant compares a string, or a constant, at an offset of a mergeable section.
func (c *checker) constant(sec *object.Section, off, addr uint64) (have, want string, ok bool) {
	if off >= uint64(len(sec.Data)) {
		return "", "a reference beyond " + sec.Name, false
	}
	b := sec.Data[off:]
	ent := max(sec.Entsize, 1)
	if sec.Strings() {
		n := uint64(0)
		for ; n+ent <= uint64(len(b)); n += ent {
			if zero(b[n : n+ent]) {
				break
			}
		}
		b = b[:min(n+ent, uint64(len(b)))]
	} else {
		b = b[:min(ent-off%ent, uint64(len(b)))]
	}
	img := c.w.bytes(addr, len(b))
	if bytes.Equal(img, b) {
		return "", "", true
	}
	if !sec.Strings() {
		return fmt.Sprintf("% x", img), fmt.Sprintf("% x", b), false
	}
	text := c.w.bytes(addr, 64)
	if text == nil {
		text = img
	}
	if i := bytes.IndexByte(text, 0); i >= 0 {
		text = text[:i]
	}
	if !printable(text) {
		return c.w.describe(addr), quote(b), false
	}
	return quote(text), quote(b), false
}

func zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

func printable(b []byte) bool {
	for _, x := range b {
		if x >= 0x7f || x < 0x20 && x != '\n' && x != '\t' && x != 1 {
			return false
		}
	}
	return len(b) > 0
}

func quote(b []byte) string {
	b = bytes.TrimRight(b, "\x00")
	if len(b) > 48 {
		return fmt.Sprintf("%q...", b[:48])
	}
	return fmt.Sprintf("%q", b)
}

func signed(name string, v int64) string {
	if v == 0 {
		return name
	}
	if v < 0 {
		return fmt.Sprintf("%s-%#x", name, -v)
	}
	return fmt.Sprintf("%s+%#x", name, v)
}

// refText says where the object's reference leads.
func (c *checker) refText(r *object.Reloc, code bool) string {
	a := r.Addend
	if i, _ := reloc.Lookup(r.Type); i.PCRel && code {
		a += int64(i.Size)
	}
	sym := &c.f.Symbols[r.Sym]
	if sym.Type() == elf.STT_SECTION && sym.Sec != 0 && a >= 0 {
		l := c.bySec[sym.Sec]
		if i := sort.Search(len(l), func(i int) bool { return c.f.Symbols[l[i]].Value > uint64(a) }) - 1; i >= 0 {
			s := &c.f.Symbols[l[i]]
			return plus(s.Name, uint64(a)-s.Value)
		}
	}
	return signed(c.f.SymName(r.Sym), a)
}

// words puts a difference into words.
func (c *checker) words(sec object.SecID, from, n, addr uint64, d *diff, code bool) *Difference {
	out := &Difference{Off: d.off, Object: d.object, Kernel: d.kernel}
	img := c.w.bytes(addr, int(n))
	if img == nil {
		out.Object = fmt.Sprintf("%d bytes", n)
		return out
	}
	if !code {
		if !d.ref && out.Object == "" {
			end := min(d.off+8, n)
			out.Object, out.Kernel = fmt.Sprintf("% x", c.data(sec)[from+d.off:from+end]), fmt.Sprintf("% x", img[d.off:end])
		}
		return out
	}
	if out.Object == "" && out.Kernel == "" || d.ref {
		data := c.data(sec)[from : from+n]
		for at, in := range x86.Walk(data) {
			end := uint64(at) + uint64(in.Len)
			if d.off >= end {
				continue
			}
			there := d.at - (d.off - uint64(at)) // the same instruction; what is before it is equal
			if there > n {
				break
			}
			a := x86.Text(data[at:], in, from+uint64(at), func(to uint64) (string, uint64) { return c.here(sec, to), to })
			b := "undecodable"
			if theirs, err := x86.Decode(img[there:]); err == nil {
				b = x86.Text(img[there:], theirs, addr+there, func(to uint64) (string, uint64) { return c.w.describe(to), to })
				if d.ref && (!theirs.IsBranch() || c.w.references(addr, 0) >= 0) {
					b = x86.Text(img[there:], theirs, there, nil) + " {" + d.kernel + "}"
				}
			}
			rel := c.f.RelocsOf(sec)
			lo, hi := rel.Range(from+uint64(at), from+end)
			switch {
			case d.ref:
				a = x86.Text(data[at:], in, uint64(at), nil) + " {" + d.object + "}"
			case lo < hi:
				r := rel.At(lo)
				a = x86.Text(data[at:], in, uint64(at), nil) + " {" + c.refText(&r, true) + "}"
			}
			out.Off, out.Object, out.Kernel = uint64(at), a, b
			return out
		}
		end := min(d.off+8, n)
		if out.Object == "" {
			out.Object, out.Kernel = fmt.Sprintf("% x", data[d.off:end]), fmt.Sprintf("% x", img[d.off:end])
		}
	}
	return out
}

// here gives the name of what lies at an offset of a section, for people.
func (c *checker) here(sec object.SecID, off uint64) string {
	l := c.bySec[sec]
	i := sort.Search(len(l), func(i int) bool { return c.f.Symbols[l[i]].Value > off }) - 1
	if i < 0 {
		return ""
	}
	s := &c.f.Symbols[l[i]]
	return plus(s.Name, off-s.Value)
}

// take settles a function at its i-th candidate.
func (c *checker) take(n int32, i int) {
	it := &c.r.Funcs[n]
	x := &c.cands[n][i]
	it.Addr = x.addr
	s := &c.f.Symbols[it.Sym]
	votes := x.votes
	c.cands[n] = nil
	if s.Bind() != elf.STB_WEAK {
		c.vote(vote{sec: it.Sec, base: x.addr - s.Value, witness: it.Sym}, n)
	}
	for _, v := range votes {
		c.vote(v, n)
	}
}

// vote counts one of function n, or of the data of section ^n.
func (c *checker) vote(v vote, n int32) {
	v.item = n
	c.votes = append(c.votes, v)
	if a := &c.anchors[v.sec]; !a.set {
		*a = anchor{set: true, base: v.base}
		c.queue = append(c.queue, v.sec)
	}
}

// propagate follows from what is anchored to what that tells.
func (c *checker) propagate() {
	for len(c.queue) > 0 {
		sec := c.queue[0]
		c.queue = c.queue[1:]
		base := c.anchors[sec].base
		for _, n := range c.pending[sec] {
			it := &c.r.Funcs[n]
			if c.cands[n] == nil {
				continue
			}
			want := base + c.f.Symbols[it.Sym].Value
			for i := range c.cands[n] {
				if x := &c.cands[n][i]; c.w.same(x.addr, want) && x.diff == nil {
					c.take(n, i)
					break
				}
			}
		}
		c.pending[sec] = nil
		c.compareData(sec)
	}
}

// isData reports whether the kernel has the contents of a section as the object has
// them: the build sorts some tables after the link, and fills others.
func isData(s *object.Section) bool {
	if s.Type != elf.SHT_PROGBITS || s.Flags&elf.SHF_MERGE != 0 || s.Size == 0 {
		return false
	}
	if s.Exec() {
		// Code without names, which the kernel puts into functions at boot, or jumps to from there.
		return s.Name == ".altinstr_replacement" || s.Name == ".altinstr_aux"
	}
	for _, p := range [...]string{"__ex_table", "__mcount_loc", ".BTF", ".orc_", "__ksymtab", "___ksymtab", "__kcrctab", "___kcrctab"} {
		if strings.HasPrefix(s.Name, p) {
			return false
		}
	}
	return true
}

// compareData compares a section of data that was found, and counts its votes.
func (c *checker) compareData(sec object.SecID) {
	s := &c.f.Sections[sec]
	if !isData(s) || uint64(len(s.Data)) != s.Size {
		return
	}
	it := Item{Sec: sec, Addr: c.anchors[sec].base, Status: Exact, Equal: 1, Of: 1}
	votes, d := c.compare(sec, 0, s.Size, it.Addr)
	if d != nil {
		it.Status, it.Equal = Mismatch, 0
		it.Diff = c.words(sec, 0, s.Size, it.Addr, d, false)
	}
	c.r.Data = append(c.r.Data, it)
	c.dataAt[sec] = int32(len(c.r.Data))
	for _, v := range votes {
		c.vote(v, ^int32(sec))
	}
}

// byName anchors sections that nothing refers to where their symbols lie, if there is one such place only, or one with their contents.
func (c *checker) byName() {
	// What one section refers to can tell about the next.
	for pass, found := 0, true; found && pass < maxPasses; pass++ {
		found = false
		for i := range c.f.Sections {
			if l := c.bySec[i]; !c.anchors[i].set && len(l) > 0 && !c.f.Sections[i].Exec() {
				if base, ok := c.place(object.SecID(i), l); ok {
					c.anchors[i] = anchor{set: true, base: base, name: c.f.Symbols[l[0]].Name}
					c.queue = append(c.queue, object.SecID(i))
					c.propagate()
					found = true
				}
			}
		}
	}
}

// place finds the one base from which all symbols of a section lie where the kernel has symbols of their names.
func (c *checker) place(sec object.SecID, l []object.SymID) (uint64, bool) {
	// The rarest name has the fewest places.
	rare, few := l[0], maxPlaces+1
	for _, id := range l {
		n := 0
		for k := c.w.first(c.f.Symbols[id].Name); k >= 0 && n < few; k = c.w.next(k) {
			n++
		}
		if n < few {
			rare, few = id, n
		}
	}
	if few > maxPlaces {
		return 0, false
	}
	var bases []uint64
	s := &c.f.Symbols[rare]
	for k := c.w.first(s.Name); k >= 0; k = c.w.next(k) {
		addr, local := c.w.at(k)
		at := addr - s.Value
		if local == (s.Bind() == elf.STB_LOCAL) && !slices.ContainsFunc(l, func(id object.SymID) bool { return !c.w.named(c.f.Symbols[id].Name, at+c.f.Symbols[id].Value) }) {
			bases = append(bases, at)
		}
	}
	if x := &c.f.Sections[sec]; len(bases) > 1 && isData(x) && uint64(len(x.Data)) == x.Size {
		bases = slices.DeleteFunc(bases, func(base uint64) bool {
			votes, d := c.compare(sec, 0, x.Size, base)
			return d != nil || slices.ContainsFunc(votes, func(v vote) bool { return c.anchors[v.sec].set && !c.w.same(c.anchors[v.sec].base, v.base) })
		})
	}
	if len(bases) != 1 {
		return 0, false
	}
	return bases[0], true
}

// settle decides where votes contradict each other, and says what is left open.
func (c *checker) settle() {
	slices.SortStableFunc(c.votes, func(a, b vote) int { return cmp.Compare(a.sec, b.sec) })
	for from := 0; from < len(c.votes); {
		to := from
		for to < len(c.votes) && c.votes[to].sec == c.votes[from].sec {
			to++
		}
		c.count(c.votes[from:to])
		from = to
	}
	for n := range c.r.Funcs {
		it := &c.r.Funcs[n]
		if it.Status == Exact && it.Addr == 0 && c.cands[n] != nil {
			it.Why = fmt.Sprintf("%d of %d functions of this name have the same code, and nothing that was found tells which", it.Equal, it.Of)
			if a := &c.anchors[it.Sec]; a.set {
				// The place is known, and another one of the name is there, or none.
				it.Status = Mismatch
				it.Addr = a.base + c.f.Symbols[it.Sym].Value
				it.Diff = &Difference{Object: "this function", Kernel: "at the place that references give it: " + c.w.describe(it.Addr)}
				it.Why = ""
			}
		}
	}
}

// count decides where a section lies, by the votes for it.
func (c *checker) count(votes []vote) {
	sec := votes[0].sec
	a := &c.anchors[sec]
	first := votes[0].base
	if !slices.ContainsFunc(votes, func(v vote) bool { return !c.w.same(v.base, first) }) {
		a.base, a.votes = first, len(votes)
		return
	}
	by := make(map[uint64]int)
	for _, v := range votes {
		by[v.base]++
	}
	best := first
	for _, v := range votes {
		if by[v.base] > by[best] {
			best = v.base
		}
	}
	a.base, a.votes = best, by[best]
	witness := make(map[object.SymID]bool)
	for _, v := range votes {
		if v.base == best {
			witness[v.witness] = true
		}
	}
	moved := false
	for _, v := range votes {
		it := c.item(v.item)
		switch {
		case c.w.same(v.base, best):
		case v.witness != 0 && !witness[v.witness]:
			// Both are right about their symbols: these are at another distance from each other.
			if !moved {
				moved = true
				s := &c.f.Symbols[v.witness]
				c.r.Data = append(c.r.Data, Item{Sec: sec, Addr: best, Status: Mismatch, Of: 1, Diff: &Difference{Off: s.Value,
					Object: s.Name, Kernel: fmt.Sprintf("%s there, and %s %#x bytes from it", c.w.describe(best+s.Value), s.Name, distance(v.base, best))}})
			}
		case it.Status == Exact:
			it.Status = Mismatch
			at := uint64(0)
			name := c.f.Sections[sec].Name
			if v.witness != 0 {
				name, at = c.f.Symbols[v.witness].Name, c.f.Symbols[v.witness].Value
			}
			it.Diff = &Difference{Off: v.off, Object: "a reference to " + name, Kernel: fmt.Sprintf("one to %s, where other code of the object has %s", c.w.describe(v.base+at), c.w.describe(best+at))}
		}
	}
}

func distance(a, b uint64) uint64 {
	if a < b {
		return b - a
	}
	return a - b
}

// item gives what a vote was of.
func (c *checker) item(n int32) *Item {
	if n >= 0 {
		return &c.r.Funcs[n]
	}
	return &c.r.Data[c.dataAt[^n]-1]
}

// locate makes the evidence for the Oracle.
func (c *checker) locate() {
	f := c.f
	for i := range c.anchors {
		if a := &c.anchors[i]; a.set {
			c.r.Anchors = append(c.r.Anchors, Anchor{Sec: object.SecID(i), Addr: a.base, Votes: a.votes, Name: a.name})
		}
	}
	funcs := make(map[object.SymID]*Item, len(c.r.Funcs))
	for i := range c.r.Funcs {
		funcs[c.r.Funcs[i].Sym] = &c.r.Funcs[i]
	}
	for i := 1; i < len(f.Symbols); i++ {
		s, id := &f.Symbols[i], object.SymID(i)
		if s.Sec == 0 || s.Type() == elf.STT_SECTION || s.Type() == elf.STT_FILE || hidden(s.Name) || discarded(&f.Sections[s.Sec]) || f.Sections[s.Sec].Flags&elf.SHF_MERGE != 0 {
			continue
		}
		it := funcs[id]
		a := &c.anchors[s.Sec]
		addr := a.base + s.Value
		switch {
		case c.w.first(s.Name) < 0:
			c.r.Unlocated[id] = "the kernel has no symbol of this name"
		case it != nil && it.Status != Exact && it.Status != Incomparable:
			c.r.Unlocated[id] = "its code is not that of the kernel"
			if it.Why != "" {
				c.r.Unlocated[id] = it.Why
			}
		case it != nil && it.Addr != 0:
			c.found(id, it.Addr)
		case !a.set && it != nil && it.Why != "":
			c.r.Unlocated[id] = it.Why
		case !a.set:
			c.r.Unlocated[id] = "nothing that was found refers to its section, and its names and contents are in several places of the kernel, or in none"
		case !c.w.named(s.Name, addr):
			c.r.Unlocated[id] = "where its section lies, the kernel has " + c.w.describe(addr) + " in its place"
		default:
			c.found(id, addr)
		}
	}
}

// found puts a symbol into the evidence.
func (c *checker) found(id object.SymID, addr uint64) {
	for i := c.w.first(c.f.Symbols[id].Name); i >= 0; i = c.w.next(i) {
		if a, _ := c.w.at(i); c.w.same(a, addr) {
			c.w.evidence(c.r.Located, id, i)
			return
		}
	}
}

func (c *checker) report() {
	r := c.r
	slices.SortStableFunc(r.Data, func(a, b Item) int { return cmp.Compare(a.Sec, b.Sec) })
	more := 0
	add := func(it *Item, name string) {
		if it.Status != Mismatch {
			return
		}
		if len(r.Diagnostics) >= maxDiagnostics {
			more++
			return
		}
		at := diag.Place{File: c.f.Name, Section: c.f.Sections[it.Sec].Name, Symbol: name}
		if it.Sym != 0 {
			at = at.At(c.f.Symbols[it.Sym].Value + it.Diff.Off)
			name = plus(name, it.Diff.Off)
		} else {
			at = at.At(it.Diff.Off)
		}
		r.Diagnostics = append(r.Diagnostics, diag.New(diag.RunPreMismatch, at, "not what %s runs: at %s the object has %s, the kernel %s", c.kernel, name, it.Diff.Object, it.Diff.Kernel))
	}
	for i := range r.Funcs {
		r.Counts[r.Funcs[i].Status]++
		add(&r.Funcs[i], c.f.Symbols[r.Funcs[i].Sym].Name)
	}
	for i := range r.Data {
		name := c.f.Sections[r.Data[i].Sec].Name
		if l := c.bySec[r.Data[i].Sec]; len(l) > 0 && r.Data[i].Diff != nil {
			j := sort.Search(len(l), func(j int) bool { return c.f.Symbols[l[j]].Value > r.Data[i].Diff.Off }) - 1
			name = c.f.Symbols[l[max(j, 0)]].Name
		}
		add(&r.Data[i], name)
	}
	if more > 0 {
		r.Diagnostics = append(r.Diagnostics, diag.New(diag.RunPreMismatch, diag.Place{File: c.f.Name}, "%d more functions and data differ from what %s runs", more, c.kernel))
	}
}
