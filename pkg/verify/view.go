package verify

import (
	"bytes"
	"cmp"
	"debug/elf"
	"slices"
	"sort"
	"strings"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/reloc"
	"github.com/kdelta/kdelta/x86"
)

func defaultRules() *elfdiff.Rules { return kernel.Rules() }

// site is a place in a file.
type site struct {
	sec object.SecID
	off uint64
}

// span is a stretch that a sized symbol covers, or several that overlap.
type span struct {
	lo, hi uint64
	sym    object.SymID // the first of the longest
}

// rel is a relocation with a field, whoever applies it.
type rel struct {
	off    uint64
	addend int64
	typ    elf.R_X86_64
	size   uint8
	sym    object.SymID // 0 when klp is set
	klp    *klp.Reloc
}

// ref is a reference of a piece: a relocation, or an operand that the assembler resolved.
type ref struct {
	off    uint64 // of the field, in the piece
	size   uint64
	typ    elf.R_X86_64 // R_X86_64_NONE: resolved
	sym    object.SymID // 0: disp is a position in the section itself
	klp    *klp.Reloc
	disp   int64 // true displacement from the symbol
	code   bool  // an operand of an instruction
	branch bool  // of a call or jump
}

// view is a file with what is needed to find one's way in it. Everything is made once, when it is asked for.
type view struct {
	f             *object.File
	rules         *elfdiff.Rules
	spans         [][]span // by section; nil: not made yet
	rels          [][]rel  // by section, sorted; nil: not made yet
	klp           map[site]*klp.Reloc
	files         []object.SymID // the FILE symbols; nil: not made yet
	names         *nameIndex     // perhaps that of another view with the same symbols
	symLo         []uint32       // by section: range in syms
	syms          []object.SymID
	tables        map[object.SecID]*elfdiff.Table // fitted rows; nil: none fits
	patterns      map[string]bool                 // names that rows have, and prefixes of names
	prefixes      []string
	second, third [256]bool // bytes that one of those has in that place
	sites         siteIndex
	tableList     []object.SecID       // see tableSecs; nil: not made yet
	consts        map[site]string      // movabs instructions that the kernel fills in: name of the symbol
	marked        map[object.SecID]int // starts of table entries that the object lists
}

func newView(f *object.File, rules *elfdiff.Rules) *view {
	return &view{f: f, rules: rules, names: new(nameIndex), spans: make([][]span, len(f.Sections)), rels: make([][]rel, len(f.Sections)), tables: make(map[object.SecID]*elfdiff.Table)}
}

// file gives the name of the source file that a local symbol belongs to.
func (v *view) file(id object.SymID) string {
	s := &v.f.Symbols[id]
	if s.Bind() != elf.STB_LOCAL || s.Type() == elf.STT_SECTION || s.Type() == elf.STT_FILE {
		return ""
	}
	if v.files == nil {
		v.files = []object.SymID{0}
		for i := 1; i < len(v.f.Symbols); i++ {
			if v.f.Symbols[i].Type() == elf.STT_FILE {
				v.files = append(v.files, object.SymID(i))
			}
		}
	}
	n, _ := slices.BinarySearch(v.files, id) // the last before it
	if n <= 1 {
		return ""
	}
	return v.f.Symbols[v.files[n-1]].Name
}

// rank prefers real names to labels, and global ones.
func (v *view) rank(id object.SymID) int {
	s := &v.f.Symbols[id]
	switch {
	case label(s.Name):
		return 2
	case s.Bind() == elf.STB_LOCAL:
		return 1
	}
	return 0
}

func label(name string) bool { return name == "" || strings.HasPrefix(name, ".L") }

// spanAt gives the span that holds a position, else the gap around it (sym 0).
func (v *view) spanAt(sec object.SecID, off uint64) span {
	l := v.spansOf(sec)
	n := sort.Search(len(l), func(i int) bool { return l[i].lo > off })
	lo := uint64(0)
	if n > 0 {
		if off < l[n-1].hi {
			return l[n-1]
		}
		lo = l[n-1].hi
	}
	hi := v.f.Sections[sec].Size
	if n < len(l) {
		hi = l[n].lo
	}
	return span{lo: lo, hi: hi}
}

// place gives a place of the file for diagnostics.
func (v *view) place(sec object.SecID, off uint64) diag.Place {
	p := diag.Place{File: v.f.Name}
	if sec == 0 || int(sec) >= len(v.f.Sections) {
		return p
	}
	p.Section = v.f.Sections[sec].Name
	if s := v.spanAt(sec, off); s.sym != 0 {
		p.Symbol = v.f.Symbols[s.sym].Name
	}
	return p.At(off)
}

// where names a place of the file in messages.
func (v *view) where(sec object.SecID, off int64) string {
	if off >= 0 {
		if s := v.spanAt(sec, uint64(off)); s.sym != 0 {
			return plus(v.f.Symbols[s.sym].Name, off-int64(s.lo))
		}
	}
	return plus(v.f.Sections[sec].Name, off)
}

func plus(name string, d int64) string {
	if d == 0 {
		return name
	}
	sign := "+"
	if d < 0 {
		sign, d = "-", -d
	}
	return name + sign + hex(uint64(d))
}

func hex(n uint64) string {
	const digits = "0123456789abcdef"
	var b [18]byte
	i := len(b)
	for {
		i--
		b[i] = digits[n&15]
		if n >>= 4; n == 0 {
			break
		}
	}
	return "0x" + string(b[i:])
}

// relocs gives the relocations of a section that have a field, by offset. In a
// patch those of the livepatch core stand in the place of what is left there for the linker.
func (v *view) relocs(sec object.SecID) []rel {
	if v.rels[sec] != nil {
		return v.rels[sec]
	}
	rs := v.f.RelocsOf(sec)
	out := make([]rel, 0, rs.Len())
	for i := range rs.Len() {
		r := rs.At(i)
		info, ok := reloc.Lookup(r.Type)
		if !ok || info.Size == 0 || v.klp[site{sec, r.Off}] != nil {
			continue
		}
		out = append(out, rel{off: r.Off, addend: r.Addend, typ: r.Type, size: info.Size, sym: r.Sym})
	}
	v.rels[sec] = out
	return out
}

// addKlp puts the relocations of the livepatch core among the others.
func (v *view) addKlp(rs []klp.Reloc) {
	v.klp = make(map[site]*klp.Reloc, len(rs))
	for i := range rs {
		v.klp[site{rs[i].Sec, rs[i].Off}] = &rs[i]
	}
	touched := map[object.SecID]bool{}
	for i := range rs {
		v.rels[rs[i].Sec] = nil
		touched[rs[i].Sec] = true
	}
	for sec := range touched {
		v.relocs(sec)
	}
	for i := range rs {
		if v.klp[site{rs[i].Sec, rs[i].Off}] != &rs[i] {
			continue
		}
		info, _ := reloc.Lookup(rs[i].Type)
		v.rels[rs[i].Sec] = append(v.rels[rs[i].Sec], rel{off: rs[i].Off, addend: rs[i].Addend, typ: rs[i].Type, size: info.Size, klp: &rs[i]})
	}
	for sec := range touched {
		slices.SortStableFunc(v.rels[sec], func(a, b rel) int { return cmp.Compare(a.off, b.off) })
	}
}

func (v *view) relocsIn(sec object.SecID, from, to uint64) []rel {
	l := v.relocs(sec)
	lo := sort.Search(len(l), func(i int) bool { return l[i].off >= from })
	hi := lo + sort.Search(len(l)-lo, func(i int) bool { return l[lo+i].off >= to })
	return l[lo:hi]
}

// data gives the contents of a stretch; nil for SHT_NOBITS.
func (v *view) data(sec object.SecID, from, to uint64) []byte {
	d := v.f.Sections[sec].Data
	if to > uint64(len(d)) || from > to {
		return nil
	}
	return d[from:to]
}

// insn is where an instruction lies in a piece, and its relative field.
type insn struct {
	off, end uint64
	field    uint64 // 0: none
	size     uint64
	value    int64
	branch   bool
	immOff   uint64
	endsFlow bool
	loads    bool // mov $imm,%reg
}

// decode splits code into instructions; ok is false when it does not decode to its end.
func decode(code []byte) (out []insn, ok bool) { return decodeTo(nil, code) }

// decodeTo is decode into a slice that is used again.
func decodeTo(out []insn, code []byte) ([]insn, bool) {
	w := x86.Walker{Code: code}
	for w.Next() {
		in := insn{off: uint64(w.Off), end: uint64(w.Off) + uint64(w.Inst.Len), branch: w.Inst.IsBranch(), endsFlow: w.Inst.EndsFlow(), immOff: uint64(w.Off) + uint64(w.Inst.ImmOff)}
		if off, size, v, ok := w.Inst.Rel(w.Bytes()); ok {
			in.field, in.size, in.value = in.off+uint64(off), uint64(size), v
		}
		_, _, in.loads = w.Inst.LoadsImm(w.Bytes())
		out = append(out, in)
	}
	return out, w.Err == nil
}

// flowEnd gives how far control runs from the start of code: to the end of the first instruction that ends flow.
func flowEnd(code []byte) uint64 {
	w := x86.Walker{Code: code}
	for w.Next() {
		if w.Inst.EndsFlow() {
			return uint64(w.Off) + uint64(w.Inst.Len)
		}
	}
	return uint64(len(code))
}

// refs gives the references of a piece. insns is nil for data. Operands that
// stay inside [from, to) are no references.
func (v *view) refs(sec object.SecID, from, to uint64, insns []insn) []ref {
	rels := v.relocsIn(sec, from, to)
	out := make([]ref, 0, len(rels))
	k := 0
	add := func(r *rel) *ref {
		out = append(out, ref{off: r.off - from, size: uint64(r.size), typ: r.typ, sym: r.sym, klp: r.klp, disp: r.addend})
		return &out[len(out)-1]
	}
	for i := range insns {
		in := &insns[i]
		relocated := false
		for ; k < len(rels) && rels[k].off < from+in.end; k++ {
			x := add(&rels[k])
			x.code = rels[k].off >= from+in.off
			info, _ := reloc.Lookup(x.typ)
			if in.field != 0 && x.off == in.field {
				relocated = true
				x.branch = in.branch
				if info.PCRel && x.size <= 4 {
					x.disp += int64(in.end - in.field)
				}
			}
		}
		if in.field != 0 && !relocated {
			if t := int64(from+in.end) + in.value; t < int64(from) || t >= int64(to) {
				out = append(out, ref{off: in.field, size: in.size, disp: t, code: true, branch: in.branch})
			}
		}
	}
	for ; k < len(rels); k++ {
		x := add(&rels[k])
		x.code = len(insns) > 0
	}
	return out
}

// target gives where a reference leads in this file: the section, the position
// that names what is meant, and the position itself. ok is false for what the file does not define.
func (v *view) target(sec object.SecID, r *ref) (tsec object.SecID, anchor, pos int64, ok bool) {
	if r.typ == elf.R_X86_64_NONE {
		return sec, r.disp, r.disp, true
	}
	if r.klp != nil || r.sym == 0 {
		return 0, 0, 0, false
	}
	s := &v.f.Symbols[r.sym]
	if s.Sec == 0 {
		return 0, 0, 0, false
	}
	pos = int64(s.Value) + r.disp
	anchor = pos
	if s.Type() != elf.STT_SECTION && !label(s.Name) {
		anchor = int64(s.Value)
	}
	return s.Sec, anchor, pos, true
}

// matches reports whether a section name is what a row names.
func matches(pattern, name string) bool {
	if p, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, p)
	}
	return pattern == name
}

// row gives the row that fits a table section: the size is a multiple of the entry's and
// every relocation lies where entries have one. known says that the section is a table by its name.
func (v *view) row(sec object.SecID) (row *elfdiff.Table, known bool) {
	if r, ok := v.tables[sec]; ok {
		return r, true
	}
	s := &v.f.Sections[sec]
	if s.Type == elf.SHT_RELA || s.Size == 0 || !v.tableRule(s.Name) {
		return nil, false
	}
	// A size that somebody knows comes before the order of the rows.
	for _, n := range append(v.sizes(sec), 0) {
		for i := range v.rules.Tables {
			t := &v.rules.Tables[i]
			if !matches(t.Section, s.Name) {
				continue
			}
			known = true
			if row == nil && (n == 0 || t.Entry == n) && v.fits(sec, t) {
				row = t
			}
		}
	}
	if known {
		v.tables[sec] = row
	}
	return row, known
}

// sizes lists what is known of the entries of a table, strongest first: what the caller says, the starts that the
// object lists, the kernel's types, sh_entsize.
func (v *view) sizes(sec object.SecID) []int {
	s := &v.f.Sections[sec]
	caller, types := 0, 0
	for _, z := range v.rules.Sizes {
		switch {
		case !matches(z.Section, s.Name):
		case z.Source == elfdiff.SizeCaller && caller == 0:
			caller = z.Entry
		case z.Source == elfdiff.SizeTypes && types == 0:
			types = z.Entry
		}
	}
	marked := 0
	if n := v.marks()[sec]; n > 0 && s.Size%uint64(n) == 0 {
		marked = int(s.Size) / n
	}
	return slices.DeleteFunc([]int{caller, marked, types, int(min(s.Entsize, s.Size))}, func(n int) bool { return n < 2 })
}

// marks counts the starts of entries that the object lists, by section.
func (v *view) marks() map[object.SecID]int {
	if v.marked == nil {
		v.marked = map[object.SecID]int{}
		for i := range v.f.Sections {
			if v.rules.Marks == "" || v.f.Sections[i].Name != v.rules.Marks {
				continue
			}
			for _, r := range v.relocs(object.SecID(i)) {
				if r.sym != 0 && v.f.Symbols[r.sym].Sec != 0 {
					v.marked[v.f.Symbols[r.sym].Sec]++
				}
			}
		}
	}
	return v.marked
}

func (v *view) fits(sec object.SecID, t *elfdiff.Table) bool {
	n, e := v.f.Sections[sec].Size, uint64(t.Entry)
	if tail := n % e; tail != 0 && (t.Tail == 0 || tail != uint64(t.Tail)) {
		return false
	}
	entries := (n + e - 1) / e
	owned, files := uint64(0), uint64(0)
	fits := func(off uint64) bool {
		at := int(off % e)
		if !slices.Contains(t.Refs, at) {
			return false
		}
		if at == t.Site {
			owned++
		}
		if t.File != elfdiff.NoField && at == t.File {
			files++
		}
		return true
	}
	if v.klp == nil { // as relocs has them
		rs := v.f.RelocsOf(sec)
		for i := range rs.Len() {
			r := rs.At(i)
			if info, ok := reloc.Lookup(r.Type); ok && info.Size > 0 && !fits(r.Off) {
				return false
			}
		}
	} else {
		for _, r := range v.relocs(sec) {
			if !fits(r.off) {
				return false
			}
		}
	}
	return owned == entries && (t.File == elfdiff.NoField || files == entries)
}

// str gives the string of w-byte characters at a position, with its terminator.
func (v *view) str(sec object.SecID, pos int64) ([]byte, bool) {
	s := &v.f.Sections[sec]
	if pos < 0 || pos > int64(len(s.Data)) {
		return nil, false
	}
	return object.StringAt(s.Data, uint64(pos), max(int(s.Entsize), 1))
}

// formatOf says which form a patch has.
func formatOf(f *object.File) Format {
	form := Intermediate
	for i := range f.Sections {
		n := f.Sections[i].Name
		switch {
		case f.Sections[i].Flags&object.SHF_RELA_LIVEPATCH != 0 || strings.HasPrefix(n, klp.RelaPrefix) || n == klp.StaticSection:
			return Final
		case n == klp.KpatchFuncsSection || n == klp.KpatchRelocsSection:
			form = Kpatch
		}
	}
	return form
}

// sameZero reports whether b holds nothing but zeros.
func sameZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

func compareSites(a, b site) int { return cmp.Or(cmp.Compare(a.sec, b.sec), cmp.Compare(a.off, b.off)) }
