package symbols

// How a duplicate name gets its position.
//
// The kernel finds what a livepatch names by name and position: 0 asks for a
// name that is unique in its object, n for the n-th of that name as kallsyms
// counts them. The position is counted in a finished kernel; the question comes from
// a single object, whose symbol has a name, a size and neighbours. Everything here is
// about finding the one entry of the kernel's table that this symbol became, and
// saying why; counting is the easy part (index, in oracle_table.go).
//
// There are four kinds of evidence.
//
// The FILE block (oracle_file.go). Linkers keep, for each object, its FILE symbol
// and behind it its local symbols. Blocks of the same source name are compared with
// the object's, by the names and sizes of functions and variables. The best one
// is taken if it is good and clearly better than the second.
//
// The run (oracle_run.go). Kallsyms and stock modules have no FILE symbols. But what an
// object puts into a section stays together when it is linked. So a namesake that lies
// between two unique symbols of the object's section, with nothing foreign in between, is
// the object's.
//
// The layout (oracle_layout.go). With addresses, one unique symbol tells where its section
// lies and so where everything else in it does, and the sections before and after.
//
// What somebody else proved (Located). The kernel's build can leave a list of
// final addresses (.klp.symid), and comparing an object with the running image gives
// addresses too.
//
// Where several kinds answer they must agree. Where none does there is no answer: a
// patch that names the wrong function corrupts the kernel that loads it, and a
// patch that was refused does not.

import (
	"fmt"
	"sort"
	"strings"
	"sync"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
)

// Source is something that knows the symbols of a kernel object: a *Table, a
// *Symvers or a *Located.
type Source interface{ source() }

func (*Table) source()   {}
func (*Symvers) source() {}
func (*Located) source() {}

// Located is evidence from outside about where symbols of one object lie in the
// kernel. SymIDs makes one from .klp.symid; whoever compares objects with a kernel's
// image can make another.
type Located struct {
	Source string                  // what the evidence is, for people
	File   *object.File            // the object whose symbols these are
	Addr   map[object.SymID]uint64 // where they lie
	Table  *Table                  // whose addresses these are; nil: those of any table in which the name is at that address
	// Entry is the same for objects whose symbols have no address, as those of modules: which entry of Table they are.
	Entry map[object.SymID]int32
}

// Method says what a position rests on.
type Method uint8

// The methods.
const (
	MethodNone    Method = iota // there is no answer
	MethodUnique                // the kernel object has one symbol of this name
	MethodGlobal                // one global symbol among local ones
	MethodFile                  // the block of the source file
	MethodLayout                // the place of its section
	MethodRun                   // the stretch of the object's own symbols
	MethodLocated               // evidence from outside
)

// String gives the word for a method.
func (m Method) String() string {
	switch m {
	case MethodUnique:
		return "unique"
	case MethodGlobal:
		return "global"
	case MethodFile:
		return "file-block"
	case MethodLayout:
		return "layout"
	case MethodRun:
		return "run"
	case MethodLocated:
		return "located"
	}
	return "none"
}

// Candidate is a symbol that an answer considered.
type Candidate struct {
	Source string
	Addr   uint64
	Pos    uint64 // its position, counted from 1
	File   string // the source file that its table gives, if any
}

// maxCandidates bounds the list in an Answer.
const maxCandidates = 8

// Answer says how the kernel calls a symbol.
type Answer struct {
	Known      bool
	Pos        uint64 // 0: the name is unique in the kernel object; n: the n-th
	Method     Method
	Code       diag.Code // why there is no answer: sympos-unknown, or sympos-conflict when the evidence disagrees
	Evidence   string    // what the answer rests on, or why there is none
	Addr, Size uint64    // as the source has them; 0 when it does not
	Candidates []Candidate
}

// Oracle knows what a running kernel calls the symbols of one kernel object
// (vmlinux or a module), and is the only owner of positions. It may be used by
// several goroutines.
type Oracle struct {
	object  string
	tables  []*index
	located []*Located
	symvers []*Symvers

	mu     sync.Mutex
	placed []*Placement // the last few, newest last
}

// maxPlaced bounds how many objects an Oracle remembers.
const maxPlaced = 64

// NewOracle makes the Oracle of a kernel object from sources that describe it.
// Tables of other kernel objects are passed over, so that all the tables of
// /proc/kallsyms may be given. The diagnostics say where the sources
// contradict each other (sympos-conflict) or do not belong together (symbols-mismatch);
// a contradicted position is refused when it is asked for.
func NewOracle(objectName string, sources ...Source) (*Oracle, []diag.Diagnostic) {
	o := &Oracle{object: normal(objectName)}
	var ds []diag.Diagnostic
	for _, s := range sources {
		switch s := s.(type) {
		case *Table:
			if s != nil && (s.Object == o.object || s.Object == "") {
				o.tables = append(o.tables, newIndex(s, o.object != Vmlinux))
			}
		case *Symvers:
			if s != nil {
				o.symvers = append(o.symvers, s)
			}
		case *Located:
			if s != nil {
				o.located = append(o.located, s)
			}
		}
	}
	if len(o.tables) == 0 {
		ds = append(ds, diag.New(diag.SymbolsMismatch, diag.Place{File: o.object}, "none of the sources has symbols of %s", o.object))
	}
	for i := 1; i < len(o.tables); i++ {
		ds = append(ds, disagreements(o.tables[0], o.tables[i])...)
	}
	for _, l := range o.located {
		ds = append(ds, o.checkLocated(l)...)
	}
	return o, ds
}

// counted gives how many symbols of a group the kernel counts, in the terms that two tables can share.
func counted(x *index, g int32, core bool) int32 {
	if core {
		return x.coreCount(g)
	}
	return x.count[g]
}

// disagreements compares how often names occur in two tables.
func disagreements(a, b *index) []diag.Diagnostic {
	core := a.t.Core || b.t.Core
	var differ []string
	ndiffer, common, named := 0, 0, 0
	for k := range b.order {
		if b.members(b.group[k])[0] != int32(k) {
			continue
		}
		named++
		name := b.entry(int32(k)).Name
		g, ok := a.names[name]
		if !ok {
			continue
		}
		common++
		if na, nb := counted(a, g, core), counted(b, b.group[k], core); na != nb && na != 0 && nb != 0 {
			if ndiffer++; len(differ) < 5 {
				differ = append(differ, fmt.Sprintf("%s (%d and %d)", name, na, nb))
			}
		}
	}
	var ds []diag.Diagnostic
	if small := min(named, len(a.count)); common*100 < small*95 {
		ds = append(ds, diag.New(diag.SymbolsMismatch, diag.Place{File: b.t.Name}, "only %d of %d names are in %s too; the two do not describe the same kernel", common, small, a.t.Name))
	}
	if ndiffer > 0 {
		d := diag.New(diag.SymposConflict, diag.Place{File: b.t.Name}, "%d names do not occur as often as in %s: %s", ndiffer, a.t.Name, strings.Join(differ, ", "))
		d.Severity = diag.SevWarning // only who needs one of them is refused
		ds = append(ds, d)
	}
	return ds
}

func (o *Oracle) checkLocated(l *Located) []diag.Diagnostic {
	if l.File == nil {
		return nil
	}
	bad, first := 0, object.SymID(0)
	for id, entry := range l.Entry {
		if int(id) < len(l.File.Symbols) && (l.Table == nil || entry < 0 || int(entry) >= len(l.Table.Entries) || l.Table.Entries[entry].Name != l.File.Symbols[id].Name) {
			if bad++; first == 0 || id < first {
				first = id
			}
		}
	}
	if bad > 0 {
		s := l.File.Symbols[first]
		return []diag.Diagnostic{diag.New(diag.SymbolsMismatch, diag.Place{File: l.File.Name, Symbol: s.Name},
			"%s makes %d of %d symbols entries of a table that has others there (%s is not entry %d); it is of another build", l.Source, bad, len(l.Entry), s.Name, l.Entry[first])}
	}
	for id, addr := range l.Addr {
		if int(id) >= len(l.File.Symbols) || o.hides(l.File, id) {
			continue
		}
		found := false
		for _, x := range o.tables {
			if l.Table == nil || l.Table == x.t {
				found = found || !x.addrs || !x.rising || x.module || x.t.Order == Unordered || x.find(l.File.Symbols[id].Name, addr) >= 0
			}
		}
		if !found {
			if bad++; first == 0 || id < first {
				first = id
			}
		}
	}
	if bad == 0 {
		return nil
	}
	s := l.File.Symbols[first]
	return []diag.Diagnostic{diag.New(diag.SymbolsMismatch, diag.Place{File: l.File.Name, Symbol: s.Name},
		"%s has %d of %d symbols at addresses where no source has them (%s at %#x); it is of another build", l.Source, bad, len(l.Addr), s.Name, l.Addr[first])}
}

// hides reports whether the kernel leaves a symbol of the object out of its own table by rule.
func (o *Oracle) hides(f *object.File, id object.SymID) bool {
	e := Entry{Name: f.Symbols[id].Name}
	return e.Name == "" || o.object == Vmlinux && kallsymsHides(&e)
}

// find gives the place of a symbol by name and address, -1 when there is none.
func (x *index) find(name string, addr uint64) int32 {
	g, ok := x.names[name]
	if !ok {
		return -1
	}
	ks := x.from(g, addr)
	if len(ks) > 0 && x.entry(ks[0]).Addr == addr {
		return ks[0]
	}
	return -1
}

// from gives the symbols of a name from an address on. It is for tables in the order of addresses.
func (x *index) from(g int32, addr uint64) []int32 {
	ks := x.members(g)
	return ks[sort.Search(len(ks), func(i int) bool { return x.entry(ks[i]).Addr >= addr }):]
}

// Object gives the name of the kernel object.
func (o *Oracle) Object() string { return o.object }

// Has reports whether the kernel object has a symbol of that name.
func (o *Oracle) Has(name string) bool {
	for _, x := range o.tables {
		if _, ok := x.names[name]; ok {
			return true
		}
	}
	return false
}

// ksymtab is how the entries of a kernel's own list of exports are called (include/linux/export-internal.h).
const ksymtab = "__ksymtab_"

// Exports reports whether the kernel object itself exports a symbol, by the names
// that entries of its list of exports have. known is false where no source has any:
// what a Module.symvers says may be of another build.
func (o *Oracle) Exports(name string) (yes, known bool) {
	for _, x := range o.tables {
		if x.exports {
			if _, ok := x.names[ksymtab+name]; ok {
				return true, true
			}
			known = true
		}
	}
	return false, known
}

// Exporter gives the object that exports a symbol, as the Module.symvers among the sources have it: Vmlinux or a module's name.
func (o *Oracle) Exporter(name string) (objectName string, ok bool) { return exporter(o.symvers, name) }

func exporter(all []*Symvers, name string) (objectName string, ok bool) {
	for _, s := range all {
		if s.Ambiguous(name) {
			return "", false
		}
		if e, found := s.Lookup(name); found {
			if ok && e.Module != objectName {
				return "", false
			}
			objectName, ok = e.Module, true
		}
	}
	return objectName, ok
}

// vote is what one kind of evidence in one table says.
type vote struct {
	x        *index
	k        int32 // the place in x
	method   Method
	evidence string
}

// unknown makes an answer without a position.
func unknown(code diag.Code, format string, args ...any) Answer {
	return Answer{Code: code, Evidence: fmt.Sprintf(format, args...)}
}

// pos gives the position of place k of the table, or why it has none that always holds.
func (x *index) pos(k int32) (pos uint64, why string) {
	g := x.group[k]
	if x.t.Order == Unordered && x.count[g] > 1 {
		return 0, fmt.Sprintf("%s is not linked yet and does not tell the order of %d symbols", x.t.Name, x.count[g])
	}
	if x.module && x.core != nil {
		switch {
		case x.core[k] == 0:
			return 0, "the module loses it when its initialisation is over"
		case x.core[k] != x.rank[k]:
			return 0, fmt.Sprintf("while the module loads it is the %d-th of its name, later the %d-th, because init symbols have the same name", x.rank[k], x.core[k])
		}
	}
	if x.count[g] == 1 {
		return 0, ""
	}
	return uint64(x.rank[k]), ""
}

// settle makes an answer of what was found; votes without a place were dropped before.
func (o *Oracle) settle(name string, votes []vote) Answer {
	a := Answer{}
	var said []string
	var best *vote
	for i := range votes {
		v := &votes[i]
		pos, why := v.x.pos(v.k)
		if why != "" {
			if v.x.t.Order == Unordered {
				continue
			}
			return Answer{Code: diag.SymposUnknown, Evidence: why, Candidates: o.candidates(name)}
		}
		// A table of a loaded module lacks what others count; its votes are checked, and used when there is no other.
		if best == nil || best.x.t.Core && !v.x.t.Core {
			best, a.Pos, a.Method = v, pos, v.method
		}
	}
	if best == nil {
		if len(votes) > 0 {
			_, why := votes[0].x.pos(votes[0].k)
			return Answer{Code: diag.SymposUnknown, Evidence: why, Candidates: o.candidates(name)}
		}
		return unknown(diag.SymposUnknown, "nothing tells which of them it is")
	}
	for i := range votes {
		v := &votes[i]
		if v.x.t.Order == Unordered {
			if best == v {
				said = append(said, v.x.t.Name+": "+v.evidence)
			}
			continue
		}
		// Init symbols do not matter here: with them or without, a place has the same number, or had no vote.
		if best.x.rank[best.k] != v.x.rank[v.k] {
			return Answer{Code: diag.SymposConflict, Candidates: o.candidates(name),
				Evidence: fmt.Sprintf("%s: %s makes it number %d; %s: %s makes it number %d", best.x.t.Name, best.evidence, best.x.rank[best.k], v.x.t.Name, v.evidence, v.x.rank[v.k])}
		}
		said = append(said, v.x.t.Name+": "+v.evidence)
	}
	a.Known = true
	e := best.x.entry(best.k)
	a.Addr, a.Size = e.Addr, e.Size
	if best.x.t.Core && a.Pos != 0 {
		said = append(said, "counted in the loaded module, whose init symbols are gone")
	}
	a.Evidence = strings.Join(said, "; ")
	// Sources that have the name without saying which one is meant must at least count as many.
	for _, x := range o.tables {
		g, ok := x.names[name]
		if !ok || x == best.x {
			continue
		}
		core := x.t.Core || best.x.t.Core
		if n, m := counted(x, g, core), counted(best.x, best.x.group[best.k], core); n != m && n != 0 {
			return Answer{Code: diag.SymposConflict, Candidates: o.candidates(name),
				Evidence: fmt.Sprintf("%s has %d symbols of this name, %s has %d", best.x.t.Name, m, x.t.Name, n)}
		}
	}
	return a
}

// candidates lists the symbols of a name, those of the first source that has several.
func (o *Oracle) candidates(name string) []Candidate {
	var out []Candidate
	for _, x := range o.tables {
		g, ok := x.names[name]
		if !ok || x.t.Order == Unordered {
			continue
		}
		out = out[:0]
		for _, k := range x.members(g)[:min(x.count[g], maxCandidates)] {
			e := x.entry(k)
			c := Candidate{Source: x.t.Name, Addr: e.Addr, Pos: uint64(x.rank[k])}
			if e.File >= 0 {
				c.File = x.t.Blocks[e.File].Name
			}
			out = append(out, c)
		}
		if len(out) > 1 {
			break
		}
	}
	return out
}

// Global says how the kernel calls its global symbol of a name. Position 0 asks
// for a name that nothing else has, whatever its binding: where a local symbol
// shares the name, the position of the global one is given.
func (o *Oracle) Global(name string) Answer {
	var votes []vote
	why := ""
	for _, x := range o.tables {
		g, ok := x.names[name]
		if !ok {
			continue
		}
		v := vote{x: x, k: -1, method: MethodGlobal}
		switch {
		case x.count[g] == 1:
			v.k, v.method, v.evidence = x.members(g)[0], MethodUnique, "the only symbol of this name"
		default:
			n, unbound := x.globals[g], x.unbound[g]
			v.k = x.global[g]
			if n != 1 || unbound > 0 {
				why = fmt.Sprintf("%s has %d symbols of this name and does not tell which one is global (%d are, %d may be)", x.t.Name, x.count[g], n, unbound)
				continue
			}
			v.evidence = fmt.Sprintf("the only global one of %d symbols of this name", x.count[g])
		}
		votes = append(votes, v)
	}
	switch {
	case len(votes) == 0 && why != "":
		a := unknown(diag.SymposUnknown, "%s", why)
		a.Candidates = o.candidates(name)
		return a
	case len(votes) == 0:
		return unknown(diag.SymposUnknown, "%s has no symbol of this name", o.object)
	}
	return o.settle(name, votes)
}

// Place finds where an object went. It is remembered, so that Position costs a
// look-up; ask for it directly to see its diagnostics.
func (o *Oracle) Place(f *object.File) *Placement {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.placed {
		if p.f == f {
			return p
		}
	}
	p := o.place(f)
	if len(o.placed) == maxPlaced {
		o.placed = append(o.placed[:0], o.placed[1:]...)
	}
	o.placed = append(o.placed, p)
	return p
}

// Position says how the kernel calls symbol sym of an object that it was built from.
func (o *Oracle) Position(f *object.File, sym object.SymID) Answer { return o.Place(f).Position(sym) }

// Set is the Oracles of all the kernel objects that a patch concerns, by name,
// with what the kernel and its modules export.
type Set struct {
	oracles map[string]*Oracle
	symvers []*Symvers
}

// NewSet makes a Set. Exports are looked up in the Symvers given here and in those of the oracles.
func NewSet(exports *Symvers, oracles ...*Oracle) *Set {
	s := &Set{oracles: make(map[string]*Oracle, len(oracles))}
	if exports != nil {
		s.symvers = append(s.symvers, exports)
	}
	for _, o := range oracles {
		s.oracles[o.object] = o
		s.symvers = append(s.symvers, o.symvers...)
	}
	return s
}

// Oracle gives the Oracle of a kernel object, nil when there is none. A nil Set has none.
func (s *Set) Oracle(objectName string) *Oracle {
	if s == nil {
		return nil
	}
	return s.oracles[normal(objectName)]
}

// Answer says how the kernel calls a symbol of an object that belongs to a kernel object.
func (s *Set) Answer(objectName string, f *object.File, sym object.SymID) Answer {
	o := s.Oracle(objectName)
	if o == nil {
		return unknown(diag.SymposUnknown, "no source has the symbols of %s", objectName)
	}
	return o.Position(f, sym)
}

// Exporter gives the object that exports a symbol. It is not known when two say that they do: see Ambiguous.
func (s *Set) Exporter(name string) (objectName string, ok bool) {
	if s == nil {
		return "", false
	}
	return exporter(s.symvers, name)
}

// Export gives what is known of an exported symbol, of the first source that has it.
func (s *Set) Export(name string) (e Export, ok bool) {
	if _, ok := s.Exporter(name); !ok {
		return Export{}, false
	}
	for _, v := range s.symvers {
		if e, ok := v.Lookup(name); ok {
			return e, true
		}
	}
	return Export{}, false
}

// Ambiguous reports whether two objects are said to export the symbol.
func (s *Set) Ambiguous(name string) bool {
	if s == nil {
		return false
	}
	first := ""
	for _, v := range s.symvers {
		e, ok := v.Lookup(name)
		if v.Ambiguous(name) || ok && first != "" && e.Module != first {
			return true
		}
		if ok {
			first = e.Module
		}
	}
	return false
}

// HasExports reports whether the Set knows of any exported symbol at all: then what it does not know is not exported.
func (s *Set) HasExports() bool {
	if s == nil {
		return false
	}
	for _, v := range s.symvers {
		if v != nil && len(v.Exports) > 0 {
			return true
		}
	}
	return false
}
