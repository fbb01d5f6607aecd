package elfdiff

import (
	"cmp"
	"context"
	"debug/elf"
	"slices"
	"sort"
	"strings"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/reloc"
	"github.com/kdelta/kdelta/symbols"
	"github.com/kdelta/kdelta/x86"
)

// AtomID is the index of an atom in its graph; 0 is none.
type AtomID uint32

// UnitID is the index of a unit in its graph; 0 is none.
type UnitID uint32

// AtomKind says what an atom is.
type AtomKind uint8

// The kinds of atoms.
const (
	AtomFunc     AtomKind = iota + 1 // code with a name
	AtomCode                         // code without a name: glued to a function, or replacement code of a table entry
	AtomPad                          // padding, before (prefix) or after a function
	AtomObject                       // data with a name
	AtomAnon                         // data without a name: one atom per stretch, however many references point into it
	AtomString                       // a string of an SHF_MERGE|SHF_STRINGS section
	AtomConst                        // an entry of another SHF_MERGE section
	AtomEntry                        // a table entry, by a row of the rules
	AtomExcluded                     // a whole section that the rules take out of the comparison
)

var atomKindNames = [...]string{"none", "func", "code", "pad", "object", "anon", "string", "const", "entry", "excluded"}

// String gives the kind's name.
func (k AtomKind) String() string { return word(atomKindNames[:], uint8(k)) }

// Code reports whether atoms of this kind hold instructions.
func (k AtomKind) Code() bool { return k == AtomFunc || k == AtomCode || k == AtomPad }

// Atom is a piece of an allocated section that can be kept or dropped alone.
// The atoms of a section cover it without overlap.
type Atom struct {
	Off  uint64 // from the start of the section
	Size uint64
	Sec  object.SecID
	Sym  object.SymID // the name that stands for it; 0 for anonymous ones
	Unit UnitID       // the unit that it is a member of; the owner, for table entries and replacement code
	Row  uint16       // AtomEntry: 1 + index into Rules.Tables
	Kind AtomKind
	Flag AtomFlag
}

// AtomFlag holds facts about an atom.
type AtomFlag uint8

// Facts about atoms.
const (
	FlagNested      AtomFlag = 1 << iota // another sized symbol lies inside, or overlaps
	FlagUndecodable                      // code that does not decode to its end
	FlagFallsIn                          // the code before it runs into it
	FlagContent                          // compiler-made data whose identity is its content
	FlagPrefix                           // padding or signature bytes in front of a function's entry
	FlagCold                             // a split-off part of a function
	FlagBody                             // replacement code of a table entry; Unit is the function that it may be patched into
)

// Unit is what a verdict belongs to: a function with its parts.
type Unit struct {
	Main    AtomID   // the function's body
	Members []AtomID // its parts: the body's section in order, then parts elsewhere by name
	Entries []AtomID // table entries that belong to it, by row and site
	File    uint32   // the FILE scope; see Graph.Files
}

// Graph is one analyzed object. It is immutable and may be shared.
type Graph struct {
	File  *object.File
	Rules *Rules
	Atoms []Atom         // by AtomID, in section order; 0 is none
	Units []Unit         // by UnitID; 0 is none
	Files []object.SymID // the STT_FILE symbols that scope local symbols; scope n (1-based) is Files[n-1], 0 is none
	Diags []diag.Diagnostic

	first     []AtomID       // by SecID: the section's first atom; the atoms of section s are first[s] to first[s+1]-1
	symFile   []uint32       // by SymID: FILE scope of a local symbol; 0 none
	nameClass []uint8        // by SymID: what its name is, see the sym constants
	symAtom   []AtomID       // by SymID: the atom that the symbol lies in; 0 none
	rows      []uint16       // by SecID: 1 + index of the table row; 0 none
	excluded  []string       // by SecID: why the section takes no part in the comparison; empty when it does
	multi     []bool         // by SecID: more than one unit's code
	labels    []object.SymID // symbols of allocated sections except SECTION and FILE, by section and value
	labelLo   []uint32       // by SecID: range in labels
	entryOrd  []uint32       // by AtomID: place of a table entry among those of its unit and row; nil without entries
	reverse   reverseIndex
	poll      *poller                   // while Analyze runs
	marks     map[object.SecID][]uint64 // where the object says that entries start, sorted
	prefixLo  []uint32                  // by SecID: range in prefixes; nil before somebody asks
	prefixes  []uint64                  // offsets of prefixes that the compiler listed, sorted within a section
}

// Atoms of a section, in order.
func (g *Graph) atomsOf(s object.SecID) (lo, hi AtomID) { return g.first[s], g.first[s+1] }

// AtomAt gives the atom of section sec that holds the byte at off; at the
// section's end, and beyond, its last atom. 0 when the section has none.
func (g *Graph) AtomAt(sec object.SecID, off uint64) AtomID {
	lo, hi := g.atomsOf(sec)
	if lo == hi {
		return 0
	}
	n := sort.Search(int(hi-lo), func(i int) bool { return g.Atoms[lo+AtomID(i)].Off > off })
	if n == 0 {
		return lo
	}
	return lo + AtomID(n-1)
}

// SymbolAtom gives the atom that a symbol lies in; 0 for symbols that are not in an allocated section.
func (g *Graph) SymbolAtom(s object.SymID) AtomID { return g.symAtom[s] }

// Name gives the name of an atom as people know it: its symbol, or its section and offset.
func (g *Graph) Name(a AtomID) string {
	at := &g.Atoms[a]
	if at.Sym != 0 {
		return g.File.Symbols[at.Sym].Name
	}
	return g.File.Sections[at.Sec].Name
}

// UnitName gives the name of a unit: that of its body.
func (g *Graph) UnitName(u UnitID) string { return g.Name(g.Units[u].Main) }

// Bytes gives the contents of an atom; nil for SHT_NOBITS.
func (g *Graph) Bytes(a AtomID) []byte {
	at := &g.Atoms[a]
	d := g.File.Sections[at.Sec].Data
	if d == nil {
		return nil
	}
	return d[at.Off : at.Off+at.Size]
}

// place names an offset in a section for a diagnostic.
func (g *Graph) place(sec object.SecID, off uint64) diag.Place {
	p := diag.Place{File: g.File.Name, Section: g.File.Sections[sec].Name}.At(off)
	if a := g.AtomAt(sec, off); a != 0 && g.Atoms[a].Sym != 0 {
		p.Symbol = g.Name(a)
	}
	return p
}

// Analyze makes the graph of an object. It refuses (a *diag.Error) an object
// whose relocations it could not compare; everything milder is in Graph.Diags.
// When the context ends, so does Analyze, with its error, within a few milliseconds.
func Analyze(ctx context.Context, f *object.File, rules *Rules) (graph *Graph, err error) {
	defer catch(&err)
	if rules == nil {
		rules = &Rules{}
	}
	g := &Graph{File: f, Rules: rules}
	if f.Header.Type != elf.ET_REL {
		return nil, &diag.Error{Diagnostics: []diag.Diagnostic{diag.New(diag.ElfUnsupported, diag.Place{File: f.Name}, "%v is not a relocatable object", f.Header.Type)}}
	}
	g.poll = &poller{ctx: ctx}
	for _, step := range []func() error{g.tables, g.checkRelocs, g.scopes, g.atoms, g.units} {
		g.poll.look()
		if err := step(); err != nil {
			return nil, err
		}
	}
	g.poll = nil
	return g, nil
}

const maxDiags = 256 // of one kind and one phase; what follows is summed up in one line

// checkRelocs holds rule G7: bytes under a relocation are zero, the field lies in its section, the type is known.
func (g *Graph) checkRelocs() error {
	f := g.File
	var bad []diag.Diagnostic
	fail := func(code diag.Code, sec object.SecID, off uint64, format string, args ...any) {
		if len(bad) < maxDiags {
			bad = append(bad, diag.New(code, diag.Place{File: f.Name, Section: f.Sections[sec].Name}.At(off), format, args...))
		}
	}
	seen := make([]bool, len(f.Sections))
	for i := range f.Sections {
		g.poll.step()
		s := &f.Sections[i]
		if s.Type == elf.SHT_REL && int(s.Info) < len(f.Sections) && f.Sections[s.Info].Alloc() {
			fail(diag.RelocUnsupported, object.SecID(i), 0, "relocations without addends (SHT_REL)")
		}
		if s.Type != elf.SHT_RELA || !f.Sections[s.Info].Alloc() {
			continue
		}
		target := object.SecID(s.Info)
		if seen[target] && s.Flags&object.SHF_RELA_LIVEPATCH == 0 {
			fail(diag.ElfMalformed, object.SecID(i), 0, "a second relocation section for %s", f.Sections[target].Name)
			continue
		}
		if s.Flags&object.SHF_RELA_LIVEPATCH != 0 {
			continue
		}
		seen[target] = true
		rs := f.Relocs(object.SecID(i))
		if g.excluded[target] != "" || rs.Common() {
			continue // not compared, or known to be in order
		}
		data := f.Sections[target].Data
		size := f.Sections[target].Size
		for j, n := 0, rs.Len(); j < n; j++ {
			r := rs.File(j)
			if r.Type == elf.R_X86_64_NONE {
				continue
			}
			info, ok := reloc.Lookup(r.Type)
			if !ok || info.Size == 0 || info.Class == reloc.Dynamic || info.Class == reloc.Vtable {
				fail(diag.RelocUnsupported, target, r.Off, "relocation type %v in an object", r.Type)
				continue
			}
			w := uint64(info.Size)
			if w > size || r.Off > size-w {
				fail(diag.RelocOutside, target, r.Off, "the %d-byte field of %v ends beyond the section's 0x%x bytes", w, r.Type, size)
				continue
			}
			if data == nil {
				fail(diag.ElfMalformed, target, r.Off, "a relocation in a section without contents")
				continue
			}
			for _, c := range data[r.Off : r.Off+w] {
				if c != 0 {
					fail(diag.RelocNonzero, target, r.Off, "% x under %v", data[r.Off:r.Off+w], r.Type)
					break
				}
			}
		}
	}
	for i := range f.Sections {
		if s := &f.Sections[i]; s.Alloc() && s.Exec() && s.Size > 0 && s.Data == nil {
			fail(diag.ElfMalformed, object.SecID(i), 0, "code without contents (%v)", s.Type)
		}
	}
	return diag.Refuse(bad)
}

// What is asked of the names of symbols over and over; the names themselves lie all over memory.
const (
	symNames  = 1 << iota // see namesTarget
	symPlain              // symbols.Parse has nothing to say of the name
	symPrefix             // Prefix is set
	symCold               // Cold is set
)

func classOf(s *object.Symbol) (c uint8) {
	if s.Name == "" {
		return symPlain
	}
	if s.Type() != elf.STT_SECTION && !(len(s.Name) > 1 && s.Name[0] == '.' && s.Name[1] == 'L') {
		c = symNames
	}
	plain, attached := symbols.Glance(s.Name)
	switch {
	case plain:
		c |= symPlain
	case attached.Has(symbols.Prefix):
		c |= symPrefix
	case attached.Has(symbols.Cold):
		c |= symCold
	}
	return c
}

// scopes numbers the FILE scopes: a local symbol belongs to the FILE symbol before it.
func (g *Graph) scopes() error {
	syms := g.File.Symbols
	g.symFile, g.nameClass = make([]uint32, max(len(syms), 1)), make([]uint8, max(len(syms), 1))
	cur := uint32(0)
	for i := 1; i < len(syms); i++ {
		s := &syms[i]
		g.nameClass[i] = classOf(s)
		if s.Bind() != elf.STB_LOCAL {
			continue
		}
		if s.Type() == elf.STT_FILE {
			// An unnamed FILE symbol ends the block before it (GNU ld).
			if s.Name == "" {
				cur = 0
			} else {
				g.Files = append(g.Files, object.SymID(i))
				cur = uint32(len(g.Files))
			}
			continue
		}
		g.symFile[i] = cur
	}
	return nil
}

// fits reports whether the row describes section s: its size is a multiple of
// the entry, no relocation lies elsewhere, every entry has its site.
func (g *Graph) fits(row *Table, sec object.SecID) bool {
	s := &g.File.Sections[sec]
	if row.Entry <= 0 {
		return false
	}
	if tail := s.Size % uint64(row.Entry); tail != 0 && tail != uint64(row.Tail) {
		return false
	}
	rs := g.File.RelocsOf(sec)
	sites := uint64(0)
	for i, n := 0, rs.Len(); i < n; i++ {
		r := rs.At(i)
		if r.Type == elf.R_X86_64_NONE {
			continue
		}
		at := int(r.Off % uint64(row.Entry))
		ref := slices.Index(row.Refs, at)
		if ref < 0 {
			return false
		}
		end := row.Entry // of the field: where the next one starts
		if ref+1 < len(row.Refs) {
			end = row.Refs[ref+1]
		}
		if info, ok := reloc.Lookup(r.Type); !ok || at+int(info.Size) > end {
			return false
		}
		if at == row.Site {
			if r.Off/uint64(row.Entry) != sites {
				return false // one site for each entry
			}
			sites++
		}
		if at == row.File && row.File != NoField && !sourceName(g.rawString(&r)) {
			return false
		}
	}
	return sites == (s.Size+uint64(row.Entry)-1)/uint64(row.Entry)
}

// rawString gives the string that a relocation in data leads to, "" when there is none; it needs no atoms.
func (g *Graph) rawString(r *object.Reloc) string {
	s := &g.File.Symbols[r.Sym]
	if s.Sec == 0 {
		return ""
	}
	b, ok := object.StringAt(g.File.Sections[s.Sec].Data, s.Value+uint64(r.Addend), 1)
	if !ok || len(b) > 4096 {
		return ""
	}
	return string(b[:len(b)-1])
}

// rowOf gives the row that fits an excluded table section; nil when none does.
func (g *Graph) rowOf(sec object.SecID) *Table {
	if g.File.Sections[sec].Type != elf.SHT_PROGBITS {
		return nil
	}
	var rows []uint16
	for i := range g.Rules.Tables {
		if matchSection(g.Rules.Tables[i].Section, g.File.Sections[sec].Name) {
			rows = append(rows, uint16(i+1))
		}
	}
	if r := g.pick(rows, sec, nil); r != 0 {
		return &g.Rules.Tables[r-1]
	}
	return nil
}

// tables finds the row of every table section.
func (g *Graph) tables() error {
	f := g.File
	g.rows = make([]uint16, len(f.Sections))
	g.excluded = make([]string, len(f.Sections))
	g.findMarks()
	var ignored, table matcher
	for i := range g.Rules.Ignore {
		ignored.add(g.Rules.Ignore[i].Section, uint16(i))
	}
	for prefix := range 2 { // rows of one name before those of many
		for i := range g.Rules.Tables {
			if n := g.Rules.Tables[i].Section; strings.HasSuffix(n, "*") == (prefix == 1) {
				table.add(n, uint16(i+1))
			}
		}
	}
	var rows []uint16
	for i := range f.Sections {
		g.poll.step()
		s := &f.Sections[i]
		if !s.Alloc() {
			continue
		}
		if m := ignored.find(s.Name, rows[:0]); len(m) > 0 {
			g.excluded[i] = g.Rules.Ignore[m[0]].Reason
		}
		if s.Size == 0 || s.Data == nil || s.Type != elf.SHT_PROGBITS {
			continue
		}
		rows = table.find(s.Name, rows[:0])
		if len(rows) > 0 && !slices.ContainsFunc(rows, func(r uint16) bool { return g.Rules.Tables[r-1].Exclude == "" }) {
			// Not compared whatever row fits; that is settled when a patch wants its entries.
			g.excluded[i] = g.Rules.Tables[rows[0]-1].Exclude
			continue
		}
		if len(rows) > 0 {
			if r := g.pick(rows, object.SecID(i), func(d diag.Diagnostic) { g.Diags = append(g.Diags, d) }); r != 0 {
				g.rows[i] = r
				g.excluded[i] = cmp.Or(g.Rules.Tables[r-1].Exclude, g.excluded[i])
			}
		}
		if len(rows) > 0 && g.rows[i] == 0 {
			g.Diags = append(g.Diags, diag.New(diag.TableShape, g.place0(object.SecID(i)), "no row for this section fits its 0x%x bytes and %d relocations", s.Size, f.RelocsOf(object.SecID(i)).Len()))
		}
	}
	return nil
}

// matcher finds which of many patterns match a section's name, in the order in which
// they were added. Two characters of the name choose the few that are worth a look:
// nearly all sections are .text, .data, .rodata or .bss of something.
type matcher struct {
	by  [64][]pattern
	all []pattern // too short for that
}

type pattern struct {
	section string
	id, seq uint16
}

func (m *matcher) add(section string, id uint16) {
	p := pattern{section, id, 0}
	for i := range m.by {
		p.seq += uint16(len(m.by[i]))
	}
	p.seq += uint16(len(m.all))
	if name := strings.TrimSuffix(section, "*"); len(name) >= 3 {
		b := &m.by[matchKey(name)]
		*b = append(*b, p)
		return
	}
	m.all = append(m.all, p)
}

func matchKey(name string) uint8 { return (name[1]*5 + name[2]) & 63 }

// find appends the ids of the patterns that match.
func (m *matcher) find(name string, out []uint16) []uint16 {
	var some []pattern
	if len(name) >= 3 {
		some = m.by[matchKey(name)]
	}
	all := m.all
	for len(some)+len(all) > 0 {
		var p *pattern
		if len(all) == 0 || len(some) > 0 && some[0].seq < all[0].seq {
			p, some = &some[0], some[1:]
		} else {
			p, all = &all[0], all[1:]
		}
		if matchSection(p.section, name) {
			out = append(out, p.id)
		}
	}
	return out
}

// matchSection reports whether a section's name is the pattern, or starts with it when it ends in '*'.
func matchSection(pattern, name string) bool {
	if p, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, p)
	}
	return name == pattern
}

// place0 names a section before atoms exist.
func (g *Graph) place0(sec object.SecID) diag.Place {
	return diag.Place{File: g.File.Name, Section: g.File.Sections[sec].Name}
}

// extent is a stretch of a section that something separable covers.
type extent struct {
	off, end uint64
	sym      object.SymID // 0: replacement code of a table entry
	nested   bool
}

// atoms cuts every allocated section (rule G1): an atom ends only where a
// separable thing begins; what lies between is one atom.
func (g *Graph) atoms() error {
	f := g.File
	nsec := len(f.Sections)
	// Symbols by section: counting sort by section, then by value within each.
	count := make([]uint32, nsec+1)
	alloc := make([]bool, nsec)
	for i := 1; i < nsec; i++ {
		alloc[i] = f.Sections[i].Alloc()
	}
	isLabel := func(s *object.Symbol) bool {
		t := s.Type()
		return alloc[s.Sec] && t != elf.STT_SECTION && t != elf.STT_FILE
	}
	for i := range f.Symbols {
		if s := &f.Symbols[i]; isLabel(s) {
			count[s.Sec+1]++
		}
	}
	for i := 1; i <= nsec; i++ {
		count[i] += count[i-1]
	}
	g.labelLo = count
	g.labels = make([]object.SymID, count[nsec])
	next := slices.Clone(count)
	for i := range f.Symbols {
		if s := &f.Symbols[i]; isLabel(s) {
			g.labels[next[s.Sec]] = object.SymID(i)
			next[s.Sec]++
		}
	}
	g.symAtom = make([]AtomID, max(len(f.Symbols), 1))
	g.first = make([]AtomID, nsec+1)
	g.multi = make([]bool, nsec)
	g.Atoms = make([]Atom, 1, len(g.labels)*5/4+nsec+1)
	bodies := g.bodyExtents()
	var ext []extent
	for sec := 1; sec < nsec; sec++ {
		g.poll.step()
		g.first[sec] = AtomID(len(g.Atoms))
		s := &f.Sections[sec]
		if s.Size == 0 || !s.Alloc() {
			continue
		}
		labels := g.labels[count[sec]:count[sec+1]]
		before := func(a, b object.SymID) bool {
			x, y := &f.Symbols[a], &f.Symbols[b]
			if x.Value != y.Value {
				return x.Value < y.Value
			}
			if x.Size != y.Size {
				return x.Size > y.Size
			}
			return a < b
		}
		if len(labels) < 2 {
			// in order
		} else if len(labels) <= 12 {
			for i := 1; i < len(labels); i++ {
				for j := i; j > 0 && before(labels[j], labels[j-1]); j-- {
					labels[j], labels[j-1] = labels[j-1], labels[j]
				}
			}
		} else {
			slices.SortFunc(labels, func(a, b object.SymID) int {
				g.poll.step()
				if before(a, b) {
					return -1
				}
				return 1
			})
		}
		id := object.SecID(sec)
		switch {
		case g.excluded[sec] != "":
			g.Atoms = append(g.Atoms, Atom{Sec: id, Size: s.Size, Kind: AtomExcluded})
		case g.rows[sec] != 0:
			g.cutEntries(id)
		case s.Strings() && s.Data != nil && (s.Entsize == 1 || s.Entsize == 2 || s.Entsize == 4):
			g.cutStrings(id)
		case s.Flags&elf.SHF_MERGE != 0 && s.Entsize >= 4 && s.Size%s.Entsize == 0 && s.Data != nil && s.Size/s.Entsize <= uint64(len(f.Data)):
			g.cutConsts(id)
		default:
			var in []extent
			if bodies != nil {
				in = bodies[id]
			}
			if in == nil && g.cutTiles(id, labels) {
				break
			}
			ext = g.extents(ext[:0], id, labels, in)
			g.cutExtents(id, ext, labels)
		}
		cur, hi := g.first[sec], AtomID(len(g.Atoms))
		for _, l := range labels { // in the order of values
			for v := f.Symbols[l].Value; cur+1 < hi && g.Atoms[cur+1].Off <= v; cur++ {
			}
			g.symAtom[l] = cur
		}
	}
	g.first[nsec] = AtomID(len(g.Atoms))
	g.first[0] = 1
	// Sections that were skipped start where the next one does; first was set for each, nothing to mend.
	return nil
}

// cutTiles makes the atoms of a section that its symbols cover without gap, overlap or alias, as nearly all are; false when they do not.
func (g *Graph) cutTiles(sec object.SecID, labels []object.SymID) bool {
	size, pos := g.File.Sections[sec].Size, uint64(0)
	for _, l := range labels {
		s := &g.File.Symbols[l]
		if s.Value != pos || s.Size == 0 || s.Size > size-pos {
			return false
		}
		pos += s.Size
	}
	if pos != size {
		return false
	}
	for _, l := range labels {
		s := &g.File.Symbols[l]
		g.Atoms = append(g.Atoms, g.symbolAtomOf(sec, s.Value, s.Size, l))
	}
	return true
}

// symbolAtomOf makes the atom of a symbol with an extent.
func (g *Graph) symbolAtomOf(sec object.SecID, off, size uint64, sym object.SymID) Atom {
	a := Atom{Sec: sec, Off: off, Size: size, Sym: sym, Kind: g.kindOf(sec, sym)}
	if a.Kind == AtomObject && !g.namesTarget(a.Sym) {
		// Data under an assembler-local label has an extent, but no name.
		if g.content(a.Sym) { // writable ones too: UBSAN's records
			a.Flag |= FlagContent
		}
		a.Kind, a.Sym = AtomAnon, 0
	}
	return a
}

// bodyExtents finds replacement code that table entries refer to, by section: each
// body is an atom of its own unless another overlaps it.
func (g *Graph) bodyExtents() map[object.SecID][]extent {
	var out map[object.SecID][]extent
	f := g.File
	for sec := range g.rows {
		if g.rows[sec] == 0 {
			continue
		}
		row := &g.Rules.Tables[g.rows[sec]-1]
		if row.Body == NoField {
			continue
		}
		rs := f.RelocsOf(object.SecID(sec))
		data := f.Sections[sec].Data
		for i, n := 0, rs.Len(); i < n; i++ {
			r := rs.At(i)
			if int(r.Off%uint64(row.Entry)) != row.Body || r.Type == elf.R_X86_64_NONE {
				continue
			}
			entry := r.Off - uint64(row.Body)
			size := uint64(data[entry+uint64(row.BodyLen)])
			sym := &f.Symbols[r.Sym]
			if size == 0 || sym.Sec == 0 {
				continue
			}
			at := sym.Value + uint64(r.Addend)
			if limit := f.Sections[sym.Sec].Size; at > limit || size > limit-at {
				continue
			}
			if out == nil {
				out = make(map[object.SecID][]extent)
			}
			out[sym.Sec] = append(out[sym.Sec], extent{off: at, end: at + size})
		}
	}
	return out
}

// extents lists what is separable in a section: sized symbols that are not nested in another, and bodies.
func (g *Graph) extents(ext []extent, sec object.SecID, labels []object.SymID, bodies []extent) []extent {
	f := g.File
	size := f.Sections[sec].Size
	for _, l := range labels {
		s := &f.Symbols[l]
		if s.Size == 0 || s.Value >= size {
			continue
		}
		end := s.Value + s.Size
		if end > size || end < s.Value {
			end = size
		}
		if n := len(ext); n > 0 && s.Value < ext[n-1].end {
			p := &ext[n-1]
			if s.Value == p.off && end == p.end {
				continue // an alias
			}
			p.nested = true
			if end > p.end {
				g.Diags = append(g.Diags, diag.New(diag.OverlappingSymbols, diag.Place{File: f.Name, Section: f.Sections[sec].Name, Symbol: s.Name}.At(s.Value),
					"overlaps %s, which ends at 0x%x", f.Symbols[p.sym].Name, p.end))
				p.end = end
			}
			continue
		}
		ext = append(ext, extent{off: s.Value, end: end, sym: l})
	}
	if len(bodies) == 0 {
		return ext
	}
	slices.SortFunc(bodies, func(a, b extent) int {
		return cmp.Or(cmp.Compare(a.off, b.off), cmp.Compare(b.end, a.end))
	})
	ext = append(ext, bodies...)
	slices.SortStableFunc(ext, func(a, b extent) int { return cmp.Compare(a.off, b.off) })
	out := ext[:1]
	for _, e := range ext[1:] {
		p := &out[len(out)-1]
		if e.off >= p.end {
			out = append(out, e)
			continue
		}
		if e.end > p.end { // overlapping bodies are one atom
			p.end = e.end
		}
		if p.sym == 0 {
			p.sym = e.sym
		}
	}
	return out
}

// cutExtents makes the atoms of a section from its extents and the gaps between.
func (g *Graph) cutExtents(sec object.SecID, ext []extent, labels []object.SymID) {
	f := g.File
	s := &f.Sections[sec]
	pos := uint64(0)
	li := 0
	// Code in a section without functions (.altinstr_aux, .fixup) consists of snippets that end where control
	// leaves for good; each is an atom, since nothing runs from one into the next.
	byLabel := slices.ContainsFunc(g.Rules.Labels, func(p string) bool { return matchSection(p, s.Name) })
	nameless := !slices.ContainsFunc(ext, func(e extent) bool { return e.sym != 0 })
	gap := func(end uint64) {
		// A gap that begins with labels but no size is named by the first of them (asm without .size);
		// what lies before the first label stays anonymous.
		for pos < end {
			for li < len(labels) && f.Symbols[labels[li]].Value < pos {
				li++
			}
			first := li // the first label in the gap that names anything
			for first < len(labels) && f.Symbols[labels[first]].Value < end && !g.namesTarget(labels[first]) {
				first++
			}
			a := Atom{Sec: sec, Off: pos, Size: end - pos, Kind: AtomAnon}
			if s.Exec() {
				a.Kind = AtomCode
			}
			if first < len(labels) && f.Symbols[labels[first]].Value < end {
				v := f.Symbols[labels[first]].Value
				if v == pos {
					a.Sym = g.pickName(labels, first)
					a.Kind = g.kindOf(sec, a.Sym)
				} else if s.Exec() {
					a.Size = v - pos // padding or glued code in front of an unsized function
				} else if byLabel {
					a.Size = v - pos
				} else {
					a.Sym = 0 // data: one anonymous atom, never cut at labels (G1)
				}
				if next := first + 1; byLabel && v == pos {
					for next < len(labels) && f.Symbols[labels[next]].Value == v {
						next++
					}
					if next < len(labels) && f.Symbols[labels[next]].Value < end {
						a.Size = f.Symbols[labels[next]].Value - pos
					}
				}
			}
			if a.Kind == AtomCode && x86.IsPadding(s.Data[a.Off:a.Off+a.Size]) && !g.relocated(sec, a.Off, a.Off+a.Size) {
				a.Kind = AtomPad
				if cut := g.cutBefore(sec, a.Off, a.Off+a.Size); cut != 0 {
					a.Size = cut - a.Off
				}
			}
			if a.Kind == AtomCode && nameless {
				a.Size = min(flowEnd(s.Data[a.Off:a.Off+a.Size]), g.markAfter(sec, a.Off, a.Off+a.Size)-a.Off)
			}
			g.Atoms = append(g.Atoms, a)
			pos += a.Size
		}
	}
	for i := range ext {
		g.poll.step()
		e := &ext[i]
		gap(e.off)
		a := Atom{Sec: sec, Off: e.off, Size: e.end - e.off, Sym: e.sym, Kind: AtomCode}
		if e.sym != 0 {
			for li < len(labels) && f.Symbols[labels[li]].Value < e.off {
				li++
			}
			if f.Symbols[labels[li]].Value == e.off {
				a.Sym = g.pickName(labels, li)
			}
			a = g.symbolAtomOf(sec, a.Off, a.Size, a.Sym)
		}
		if e.nested {
			a.Flag |= FlagNested
		}
		g.Atoms = append(g.Atoms, a)
		pos = e.end
	}
	gap(s.Size)
}

// relocated reports whether a relocation other than R_X86_64_NONE lies in a stretch of a section.
func (g *Graph) relocated(sec object.SecID, from, to uint64) bool {
	rs := g.File.RelocsOf(sec)
	lo, hi := rs.Range(from, to)
	for ; lo < hi; lo++ {
		if rs.At(lo).Type != elf.R_X86_64_NONE {
			return true
		}
	}
	return false
}

// flowEnd gives the length of the code up to and with the first instruction that
// control does not pass; all of it when it does not decode so far.
func flowEnd(code []byte) uint64 {
	w := x86.Walker{Code: code}
	for w.Next() {
		if w.Inst.EndsFlow() {
			return uint64(w.Off + int(w.Inst.Len))
		}
	}
	return uint64(len(code))
}

// cutBefore gives the last listed prefix inside (from, to), 0 when there is none: padding
// before it belongs to the function before, the rest to the one behind.
func (g *Graph) cutBefore(sec object.SecID, from, to uint64) uint64 {
	if from == 0 {
		return 0 // what opens a section is the first function's
	}
	cuts := g.patchableEntries(sec)
	i, _ := slices.BinarySearch(cuts, to)
	if i > 0 && cuts[i-1] > from {
		return cuts[i-1]
	}
	return 0
}

// pickName chooses which of the symbols at one place stands for it: a global
// before a weak one before a local one, then the order of the symbol table;
// sized before unsized, and assembler-local labels last.
func (g *Graph) pickName(labels []object.SymID, li int) object.SymID {
	f := g.File
	best := labels[li]
	if li+1 == len(labels) || f.Symbols[labels[li+1]].Value != f.Symbols[best].Value {
		return best
	}
	rank := func(id object.SymID) int {
		s := &f.Symbols[id]
		r := 0
		if s.Size == 0 {
			r += 8
		}
		if len(s.Name) == 0 || s.Name[0] == '.' && len(s.Name) > 1 && s.Name[1] == 'L' {
			r += 16
		}
		switch s.Bind() {
		case elf.STB_GLOBAL:
		case elf.STB_WEAK:
			r++
		default:
			r += 2
		}
		return r
	}
	v, size := f.Symbols[best].Value, f.Symbols[best].Size
	br := rank(best)
	for _, l := range labels[li+1:] {
		s := &f.Symbols[l]
		if s.Value != v || size != 0 && s.Size != size {
			break
		}
		if r := rank(l); r < br || r == br && f.Symbols[l].Name < f.Symbols[best].Name {
			best, br = l, r
		}
	}
	return best
}

func (g *Graph) kindOf(sec object.SecID, sym object.SymID) AtomKind {
	if g.File.Sections[sec].Exec() && g.File.Symbols[sym].Type() != elf.STT_OBJECT {
		return AtomFunc
	}
	return AtomObject
}

func (g *Graph) cutEntries(sec object.SecID) {
	n := uint64(g.Rules.Tables[g.rows[sec]-1].Entry)
	for off, size := uint64(0), g.File.Sections[sec].Size; off < size; off += n {
		g.Atoms = append(g.Atoms, Atom{Sec: sec, Off: off, Size: min(n, size-off), Kind: AtomEntry, Row: g.rows[sec]})
	}
}

func (g *Graph) cutStrings(sec object.SecID) {
	s := &g.File.Sections[sec]
	for off := uint64(0); off < s.Size; {
		str, ok := object.StringAt(s.Data, off, int(s.Entsize))
		if !ok { // nothing terminates it: an anonymous atom
			g.Atoms = append(g.Atoms, Atom{Sec: sec, Off: off, Size: s.Size - off, Kind: AtomAnon})
			return
		}
		size := uint64(len(str))
		if len(str) == int(s.Entsize) && zeros(s.Data[off+size:min(s.Size, off+size+64)]) {
			// A run of empty strings is one piece (hostile files hold millions).
			more := uint64(0)
			for off+size+more < s.Size && s.Data[off+size+more] == 0 {
				more++
			}
			size += more - more%s.Entsize
		}
		g.Atoms = append(g.Atoms, Atom{Sec: sec, Off: off, Size: size, Kind: AtomString})
		off += size
	}
}

func zeros(b []byte) bool { return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) }

func (g *Graph) cutConsts(sec object.SecID) {
	s := &g.File.Sections[sec]
	for off := uint64(0); off < s.Size; off += s.Entsize {
		g.Atoms = append(g.Atoms, Atom{Sec: sec, Off: off, Size: s.Entsize, Kind: AtomConst})
	}
}
