package elfdiff

import (
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strconv"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
)

// Diff compares two graphs made with the same rules. A nil opts is the zero
// Options. The error is a *diag.Error when the objects cannot be compared, or
// that of the context, within a few milliseconds after it ended; differences are no error.
func Diff(ctx context.Context, orig, patched *Graph, opts *Options) (delta *Delta, err error) {
	defer catch(&err)
	if opts == nil {
		opts = &Options{}
	}
	if err := sameKind(orig, patched); err != nil {
		return nil, err
	}
	poll := &poller{ctx: ctx}
	c := correlate(orig, patched, opts.Pins, poll)
	if err := diag.Refuse(c.diags); err != nil {
		return nil, err
	}
	poll.look()
	k := newComparer(c, opts)
	k.entries()
	k.run()
	d := &Delta{Rules: orig.Rules.Version, OrigOf: c.ba, AtomStatus: make([]Status, len(patched.Atoms))}
	v := verdicts{k: k, c: c, a: orig, b: patched, d: d, sa: make([]Status, len(orig.Atoms)), sb: d.AtomStatus, ignoredFuncs: map[UnitID]bool{}, ignoredSecs: map[string]bool{}}
	v.directives()
	v.functions()
	v.data()
	v.commons()
	v.anonymous()
	v.merged()
	d.Orig, d.Patched = account(orig, v.sa), account(patched, v.sb)
	v.told()
	v.names()
	d.Diagnostics = slices.Concat(orig.Diags, patched.Diags, c.diags, v.sharedConstants())
	diag.Sort(d.Diagnostics)
	return d, nil
}

// Input is an object as a caller of Compare has it.
type Input struct {
	Name string // for diagnostics
	Data []byte
}

// Compare parses, analyzes and compares two objects. For more than the verdicts
// (a patch, an explanation), do the steps one by one.
func Compare(ctx context.Context, orig, patched Input, rules *Rules, opts *Options) (*Delta, error) {
	var graphs [2]*Graph
	var bad []diag.Diagnostic
	for i, in := range [2]Input{orig, patched} {
		f, err := object.Parse(in.Data, object.Options{Name: in.Name})
		if err == nil {
			graphs[i], err = Analyze(ctx, f, rules)
		}
		if e := (*diag.Error)(nil); errors.As(err, &e) {
			bad = append(bad, e.Diagnostics...)
		} else if err != nil {
			return nil, err
		}
	}
	if len(bad) > 0 {
		return nil, &diag.Error{Diagnostics: bad}
	}
	return Diff(ctx, graphs[0], graphs[1], opts)
}

func sameKind(a, b *Graph) error {
	var ds []diag.Diagnostic
	ha, hb := a.File.Header, b.File.Header
	if ha.Flags != hb.Flags {
		ds = append(ds, diag.New(diag.HeaderMismatch, diag.Place{File: b.File.Name}, "e_flags is 0x%x in the original and 0x%x in the patched object", ha.Flags, hb.Flags))
	}
	if ha.OSABI != hb.OSABI {
		ds = append(ds, diag.New(diag.HeaderMismatch, diag.Place{File: b.File.Name}, "OS ABI is %v in the original and %v in the patched object", ha.OSABI, hb.OSABI))
	}
	if a.Rules != b.Rules && !reflect.DeepEqual(a.Rules, b.Rules) {
		ds = append(ds, diag.New(diag.HeaderMismatch, diag.Place{File: b.File.Name}, "the objects were analyzed with different rules"))
	}
	return diag.Refuse(ds)
}

// entries makes nodes of the table entries of paired functions, pairwise by row and site, before the comparison runs.
func (k *comparer) entries() {
	for u := 1; u < len(k.a.Units); u++ {
		x := &k.a.Units[u]
		y := k.c.ab[x.Main]
		if y == 0 || len(x.Entries) == 0 {
			continue
		}
		v := &k.b.Units[k.b.Atoms[y].Unit]
		if len(x.Entries) != len(v.Entries) {
			continue // told apart by verdicts.functions
		}
		for i, e := range x.Entries {
			if k.a.Atoms[e].Row == k.b.Atoms[v.Entries[i]].Row {
				k.c.pair(e, v.Entries[i], ConfFamily)
			}
		}
	}
	// Entries that belong to no function: in order, when there are as many in the sections of one name together.
	free := func(g *Graph) map[string][]AtomID {
		var m map[string][]AtomID
		for sec := range g.rows {
			if g.rows[sec] == 0 || g.excluded[sec] != "" {
				continue
			}
			lo, hi := g.atomsOf(object.SecID(sec))
			for a := lo; a < hi; a++ {
				if g.Atoms[a].Unit == 0 {
					if m == nil {
						m = make(map[string][]AtomID)
					}
					n := g.File.Sections[sec].Name
					m[n] = append(m[n], a)
				}
			}
		}
		return m
	}
	ys := free(k.b)
	for name, xs := range free(k.a) {
		if other := ys[name]; len(other) == len(xs) {
			for i := range xs {
				k.c.pair(xs[i], other[i], ConfFamily)
			}
		}
	}
}

// verdicts turns the comparison into a Delta.
type verdicts struct {
	k            *comparer
	c            *correlation
	a, b         *Graph
	d            *Delta
	sa, sb       []Status                // by AtomID
	codeNames    map[string]object.SymID // global names of the original\'s code; made when needed
	ignoredFuncs map[UnitID]bool         // by directives of the patched source
	ignoredSecs  map[string]bool
	ignored      int // functions and data that a directive made equal
}

// nodeStatus gives the verdict on a pair of atoms, and its causes.
func (v *verdicts) nodeStatus(x, y AtomID) (Status, []Cause) {
	if v.c.proved[x] && v.c.ab[x] == y {
		return Unchanged, nil
	}
	n, ok := v.k.index[uint64(x)<<32|uint64(y)]
	if !ok {
		return 0, nil
	}
	nd := &v.k.nodes[n]
	switch {
	case nd.failed:
		return Changed, nd.causes
	case nd.lines:
		return LineOnly, nd.causes
	}
	return Unchanged, nil
}

// settled reports whether all that belongs to two functions was proved equal, part by part and entry by entry.
func (v *verdicts) settled(o, u UnitID) bool {
	x, y := &v.a.Units[o], &v.b.Units[u]
	if len(x.Members) != len(y.Members) || len(x.Entries) != len(y.Entries) {
		return false
	}
	for i, m := range x.Members {
		if !v.c.proved[m] || v.c.ab[m] != y.Members[i] {
			return false
		}
	}
	for i, e := range x.Entries {
		if !v.c.proved[e] || v.c.ab[e] != y.Entries[i] {
			return false
		}
	}
	return true
}

func worse(a, b Status) Status {
	if b == 0 || a == Changed {
		return a
	}
	if b == Changed || b == LineOnly {
		return b
	}
	return a
}

// directives reads what the patched source itself takes out of the comparison.
func (v *verdicts) directives() {
	g := v.b
	for sec := range g.File.Sections {
		s := &g.File.Sections[sec]
		if v.k.opts.NoDirectives || s.Name == "" || s.Name != g.Rules.IgnoreFuncs && s.Name != g.Rules.IgnoreSections {
			continue
		}
		for _, e := range g.DataEdges(Piece{Sec: object.SecID(sec), Size: s.Size}, nil) {
			t := g.Resolve(&e)
			if t.Atom == 0 {
				continue
			}
			if s.Name == g.Rules.IgnoreFuncs {
				if u := g.Atoms[t.Atom].Unit; u != 0 && t.Disp == 0 {
					v.ignoredFuncs[u] = true
				}
			} else if b := g.stringBytes(t); len(b) > 1 && g.Atoms[t.Atom].Kind == AtomString {
				v.ignoredSecs[string(b[:len(b)-1])] = true
			}
		}
	}
}

// function gives what a row says of a unit of the patched object beside its verdict.
func (v *verdicts) function(u UnitID) Function {
	y := v.b.Units[u].Main
	return Function{Patched: u, Name: v.b.Name(y), Section: v.b.File.Sections[v.b.Atoms[y].Sec].Name, File: v.b.fileName(v.b.Units[u].File),
		PatchedSize: v.b.unitSize(u), Aliases: v.b.aliases(y), Members: v.b.memberNames(u)}
}

// paired adds what a row says of the unit of the original that u is paired with.
func (v *verdicts) paired(f *Function, x AtomID) {
	f.Orig = v.a.Atoms[x].Unit
	f.Confidence, f.OrigSize, f.OrigSym = v.c.conf[x], v.a.unitSize(f.Orig), v.a.Atoms[x].Sym
	if n := v.a.Name(x); n != f.Name {
		f.OrigName = n
	}
}

// functions gives every unit its verdict.
func (v *verdicts) functions() {
	if !v.k.opts.Brief {
		v.d.Functions = make([]Function, 0, len(v.b.Units)+4)
	}
	for u := 1; u < len(v.b.Units); u++ {
		v.c.poll.step()
		y := v.b.Units[u].Main
		x := v.c.ba[y]
		if x != 0 && v.c.proved[x] && v.a.Atoms[x].Unit != 0 && v.a.Units[v.a.Atoms[x].Unit].Main == x && v.settled(v.a.Atoms[x].Unit, UnitID(u)) {
			v.setUnit(v.a, v.sa, v.a.Atoms[x].Unit, Unchanged)
			v.setUnit(v.b, v.sb, UnitID(u), Unchanged)
			if v.k.opts.Brief {
				v.d.Omitted.Functions++
				continue
			}
			f := v.function(UnitID(u))
			v.paired(&f, x)
			f.Status = Unchanged
			v.d.Functions = append(v.d.Functions, f)
			continue
		}
		f := v.function(UnitID(u))
		if x == 0 || v.a.Atoms[x].Unit == 0 || v.a.Units[v.a.Atoms[x].Unit].Main != x {
			f.Status = New
			if sym := v.takenName(y); sym != 0 {
				// Other objects call it by a name that the original gave to another piece of code.
				f.Status, f.Orig, f.OrigSym = Changed, v.a.Atoms[v.a.symAtom[sym]].Unit, sym
				f.OrigSize, f.Confidence = v.a.unitSize(f.Orig), ConfName
				f.Causes = []Cause{{Kind: CauseSymbol, Orig: v.a.TargetText(Target{Atom: v.a.symAtom[sym]}), Patched: f.Name}}
			}
			v.setUnit(v.b, v.sb, UnitID(u), f.Status)
			v.d.Functions = append(v.d.Functions, f)
			continue
		}
		v.paired(&f, x)
		o := f.Orig
		f.Status = Unchanged
		add := func(st Status, causes []Cause, member string) {
			f.Status = worse(f.Status, st)
			for _, c := range causes {
				c.Member = member
				if len(f.Causes) < maxCauses {
					f.Causes = append(f.Causes, c)
				}
			}
		}
		for _, m := range v.b.Units[u].Members {
			if p := v.c.ba[m]; p != 0 && v.a.Atoms[p].Unit == o {
				st, causes := v.nodeStatus(p, m)
				name := ""
				if m != y {
					name = v.b.Name(m)
				}
				add(st, causes, name)
			} else if v.b.Atoms[m].Kind != AtomPad {
				add(Changed, []Cause{{Kind: CauseMember, Patched: v.b.Name(m)}}, "")
			}
		}
		for _, m := range v.a.Units[o].Members {
			if q := v.c.ab[m]; (q == 0 || v.b.Atoms[q].Unit != UnitID(u)) && v.a.Atoms[m].Kind != AtomPad {
				add(Changed, []Cause{{Kind: CauseMember, Orig: v.a.Name(m)}}, "")
			}
		}
		if !v.sameOrder(o) {
			add(Changed, []Cause{{Kind: CauseMember, Detail: "parts in another order"}}, "")
		}
		v.unitEntries(o, UnitID(u), add)
		if by := v.b.Rules.IgnoreFuncs; f.Status == Changed && (v.ignoredFuncs[UnitID(u)] || v.ignoredSecs[f.Section]) {
			if !v.ignoredFuncs[UnitID(u)] {
				by = v.b.Rules.IgnoreSections
			}
			f.Status = Unchanged
			f.Causes = append([]Cause{{Kind: CauseIgnored, Detail: by}}, f.Causes...)
			v.ignored++
		}
		v.setUnit(v.a, v.sa, o, f.Status)
		v.setUnit(v.b, v.sb, UnitID(u), f.Status)
		if f.Status == Unchanged {
			for _, e := range v.b.Units[u].Entries {
				if x := v.c.ba[e]; x != 0 {
					v.sb[e], _ = v.nodeStatus(x, e)
					v.sa[x] = v.sb[e]
				}
			}
		}
		v.d.Functions = append(v.d.Functions, f)
	}
	for u := 1; u < len(v.a.Units); u++ {
		x := v.a.Units[u].Main
		if v.sa[x] != 0 {
			continue
		}
		v.setUnit(v.a, v.sa, UnitID(u), Removed)
		v.d.Functions = append(v.d.Functions, Function{Orig: UnitID(u), Name: v.a.Name(x), Status: Removed, Section: v.a.File.Sections[v.a.Atoms[x].Sec].Name,
			File: v.a.fileName(v.a.Units[u].File), OrigSize: v.a.unitSize(UnitID(u)), Aliases: v.a.aliases(x), Members: v.a.memberNames(UnitID(u))})
	}
}

// takenName gives a symbol of the original's code that has one of the names of atom y, which has no pair.
func (v *verdicts) takenName(y AtomID) object.SymID {
	if v.codeNames == nil {
		v.codeNames = make(map[string]object.SymID)
		for _, l := range v.a.labels {
			s, x := &v.a.File.Symbols[l], v.a.symAtom[l]
			if s.Bind() != elf.STB_LOCAL && x != 0 && v.a.Atoms[x].Kind == AtomFunc && v.a.Atoms[x].Unit != 0 && v.a.Atoms[x].Off == s.Value {
				v.codeNames[s.Name] = l
			}
		}
	}
	for _, l := range v.b.Labels(y) {
		if s := &v.b.File.Symbols[l]; s.Bind() != elf.STB_LOCAL && s.Value == v.b.Atoms[y].Off {
			if sym := v.codeNames[s.Name]; sym != 0 {
				return sym
			}
		}
	}
	return 0
}

// sameOrder reports whether code that runs from one part into the next still does so in the same order.
func (v *verdicts) sameOrder(o UnitID) bool {
	last := AtomID(0)
	for _, m := range v.a.Units[o].Members {
		if v.a.Atoms[m].Flag&FlagFallsIn == 0 {
			continue
		}
		y := v.c.ab[m]
		if y == 0 || y < last {
			return y == 0 // a missing part is told elsewhere
		}
		last = y
	}
	return true
}

// unitEntries compares the table entries of two functions: the same number for each row, each pair equal.
func (v *verdicts) unitEntries(o, u UnitID, add func(Status, []Cause, string)) {
	count := func(g *Graph, id UnitID) map[string]int {
		m := make(map[string]int)
		for _, e := range g.Units[id].Entries {
			m[g.File.Sections[g.Atoms[e].Sec].Name]++
		}
		return m
	}
	if len(v.a.Units[o].Entries)+len(v.b.Units[u].Entries) == 0 {
		return
	}
	na, nb := count(v.a, o), count(v.b, u)
	for s, n := range nb {
		if na[s] == n {
			delete(na, s)
		} else if _, ok := na[s]; !ok {
			na[s] = 0
		}
	}
	for _, s := range slices.Sorted(maps.Keys(na)) {
		add(Changed, []Cause{{Kind: CauseTable, Orig: strconv.Itoa(na[s]) + " entries", Patched: strconv.Itoa(nb[s]) + " entries"}}, s)
	}
	for _, e := range v.b.Units[u].Entries {
		x := v.c.ba[e]
		if x == 0 {
			add(Changed, []Cause{{Kind: CauseTable, Off: v.b.Atoms[e].Off, Patched: hexBytes(v.b.Bytes(e), 0)}}, v.b.Name(e))
			continue
		}
		st, causes := v.nodeStatus(x, e)
		if st == LineOnly {
			st = Unchanged // the line is in the table, not in the function; the cause stays visible
		}
		causes = slices.Clone(causes)
		for i := range causes {
			causes[i].Off += v.b.Atoms[e].Off
		}
		add(st, causes, v.b.Name(e))
	}
	for _, e := range v.a.Units[o].Entries {
		if v.c.ab[e] == 0 {
			add(Changed, []Cause{{Kind: CauseTable, Off: v.a.Atoms[e].Off, Orig: hexBytes(v.a.Bytes(e), 0)}}, v.a.Name(e))
		}
	}
}

// setUnit gives the atoms of a unit a status.
func (v *verdicts) setUnit(g *Graph, st []Status, u UnitID, s Status) {
	for _, m := range g.Units[u].Members {
		st[m] = s
	}
	for _, e := range g.Units[u].Entries {
		st[e] = s
	}
}

// datum gives what a row says of a datum of the patched object beside its verdict.
func (v *verdicts) datum(y AtomID) Datum {
	at := &v.b.Atoms[y]
	dt := Datum{Patched: y, Name: v.b.Name(y), Section: v.b.File.Sections[at.Sec].Name, File: v.b.fileName(v.b.symFile[at.Sym]), ReadOnly: v.b.readOnly(at.Sec), PatchedSize: at.Size}
	if x := v.c.ba[y]; x != 0 {
		dt.Orig, dt.Confidence, dt.OrigSize = x, v.c.conf[x], v.a.Atoms[x].Size
		if n := v.a.Name(x); n != dt.Name {
			dt.OrigName = n
		}
	}
	return dt
}

// data gives every named datum its verdict.
func (v *verdicts) data() {
	if !v.k.opts.Brief {
		n := 0
		for i := range v.b.Atoms {
			if v.b.Atoms[i].Kind == AtomObject {
				n++
			}
		}
		v.d.Data = make([]Datum, 0, n+16)
	}
	for i := 1; i < len(v.b.Atoms); i++ {
		y := AtomID(i)
		if v.b.Atoms[y].Kind != AtomObject {
			continue
		}
		v.c.poll.step()
		x := v.c.ba[y]
		if v.k.opts.Brief && x != 0 && v.c.proved[x] {
			v.sa[x], v.sb[y] = Unchanged, Unchanged
			v.d.Omitted.Data++
			continue
		}
		dt := v.datum(y)
		if x == 0 {
			dt.Status = New
		} else {
			dt.Status, dt.Causes = v.nodeStatus(x, y)
			if dt.Status == Changed && v.ignoredSecs[dt.Section] {
				dt.Status = Unchanged
				dt.Causes = append([]Cause{{Kind: CauseIgnored, Detail: v.b.Rules.IgnoreSections}}, dt.Causes...)
				v.ignored++
			}
			if dt.Status == Changed {
				dt.Changes = changes(v.a.Bytes(x), v.b.Bytes(y))
			}
			v.sa[x] = dt.Status
		}
		v.sb[y] = dt.Status
		v.d.Data = append(v.d.Data, dt)
	}
	for i := 1; i < len(v.a.Atoms); i++ {
		x := AtomID(i)
		at := &v.a.Atoms[x]
		if at.Kind != AtomObject || v.sa[x] != 0 {
			continue
		}
		v.sa[x] = Removed
		v.d.Data = append(v.d.Data, Datum{Orig: x, Name: v.a.Name(x), Status: Removed, Section: v.a.File.Sections[at.Sec].Name, File: v.a.fileName(v.a.symFile[at.Sym]),
			ReadOnly: v.a.readOnly(at.Sec), OrigSize: at.Size})
	}
}

// changes lists where two contents differ: at most 16 stretches of at most 32 bytes.
func changes(x, y []byte) []Change {
	var out []Change
	n := min(len(x), len(y))
	for i := 0; i < n && len(out) < 16; {
		if x[i] == y[i] {
			i++
			continue
		}
		j := i
		for j < n && j-i < 32 && !bytes.Equal(x[j:min(n, j+8)], y[j:min(n, j+8)]) {
			j++
		}
		out = append(out, Change{uint64(i), bytes.Clone(x[i:j]), bytes.Clone(y[i:j])})
		i = j
	}
	if len(x) != len(y) && len(out) < 16 {
		out = append(out, Change{uint64(n), bytes.Clone(x[n:min(len(x), n+32)]), bytes.Clone(y[n:min(len(y), n+32)])})
	}
	return out
}

// commons compares what has a symbol but no section: COMMON storage and absolute values.
func (v *verdicts) commons() {
	special := func(s *object.Symbol) bool {
		return (s.Shndx == elf.SHN_COMMON || s.Shndx == elf.SHN_ABS) && s.Type() != elf.STT_FILE && s.Name != ""
	}
	var back map[object.SymID]object.SymID
	for i := range v.a.File.Symbols {
		s := &v.a.File.Symbols[i]
		j := v.c.symAB[i]
		switch {
		case !special(s):
		case j == 0:
			v.d.Data = append(v.d.Data, Datum{Name: s.Name, Status: Removed, Section: s.Shndx.String(), OrigSize: s.Size})
		default:
			if back == nil {
				back = make(map[object.SymID]object.SymID)
			}
			back[j] = object.SymID(i)
		}
	}
	for i := range v.b.File.Symbols {
		s := &v.b.File.Symbols[i]
		if !special(s) {
			continue
		}
		dt := Datum{Name: s.Name, Status: New, Section: s.Shndx.String(), PatchedSize: s.Size}
		if x := back[object.SymID(i)]; x != 0 {
			o := &v.a.File.Symbols[x]
			dt.Status, dt.OrigSize, dt.Confidence = Unchanged, o.Size, ConfName
			if o.Shndx != s.Shndx || o.Size != s.Size || o.Value != s.Value {
				dt.Status = Changed
				dt.Causes = []Cause{{Kind: CauseSymbol, Orig: o.Shndx.String() + " " + hex(o.Value), Patched: s.Shndx.String() + " " + hex(s.Value)}}
			}
		}
		v.d.Data = append(v.d.Data, dt)
	}
}

// merged compares the strings and constants that have a name for other objects. Within
// the object such a piece is part of whoever refers to it, and where it lies says nothing;
// who reads it from outside shows nowhere.
func (v *verdicts) merged() {
	named := func(g *Graph, i int) (AtomID, []byte) {
		s := &g.File.Symbols[i]
		if s.Bind() == elf.STB_LOCAL || s.Sec == 0 || s.Name == "" {
			return 0, nil
		}
		a := g.symAtom[i]
		if k := g.Atoms[a].Kind; a == 0 || k != AtomString && k != AtomConst {
			return 0, nil
		}
		// What the symbol says that it holds, and all of the piece.
		d := g.File.Sections[s.Sec].Data
		from, to := s.Value, g.Atoms[a].Off+g.Atoms[a].Size
		if n := uint64(len(d)); from < n {
			to = max(min(to, n), from+min(s.Size, n-from))
			return a, d[from:max(from, to)]
		}
		return a, nil
	}
	was := make(map[string]int)
	for i := range v.a.File.Symbols {
		if x, _ := named(v.a, i); x != 0 {
			was[v.a.File.Symbols[i].Name] = i
		}
	}
	for j := range v.b.File.Symbols {
		y, dy := named(v.b, j)
		if y == 0 {
			continue
		}
		s := &v.b.File.Symbols[j]
		sec := &v.b.File.Sections[s.Sec]
		dt := Datum{Patched: y, Status: New, Name: s.Name, Section: sec.Name, ReadOnly: v.b.readOnly(s.Sec), PatchedSize: uint64(len(dy))}
		if i, ok := was[s.Name]; ok {
			delete(was, s.Name)
			x, dx := named(v.a, i)
			if bytes.Equal(dx, dy) && v.a.File.RelocsOf(v.a.Atoms[x].Sec).Len() == 0 && v.b.File.RelocsOf(s.Sec).Len() == 0 {
				continue
			}
			dt.Status, dt.Orig, dt.OrigSize, dt.Confidence, dt.Changes = Changed, x, uint64(len(dx)), ConfName, changes(dx, dy)
			dt.Causes = []Cause{{Kind: CauseConstant, Orig: v.a.TargetText(Target{Atom: x}), Patched: v.b.TargetText(Target{Atom: y})}}
			v.sa[x] = Changed
		}
		v.sb[y] = dt.Status
		v.d.Data = append(v.d.Data, dt)
	}
	for i := range v.a.File.Symbols {
		s := &v.a.File.Symbols[i]
		if _, ok := was[s.Name]; !ok {
			continue
		}
		if x, dx := named(v.a, i); x != 0 && was[s.Name] == i {
			v.sa[x] = Removed
			v.d.Data = append(v.d.Data, Datum{Orig: x, Status: Removed, Name: s.Name, Section: v.a.File.Sections[s.Sec].Name, ReadOnly: v.a.readOnly(s.Sec), OrigSize: uint64(len(dx))})
		}
	}
}

// anonymous gives what has no name its status: equal to its pair, or to anything
// of the same content on the other side. What is changed and was not met through
// a reference is listed as data.
func (v *verdicts) anonymous() {
	for n := range v.k.nodes {
		nd := &v.k.nodes[n]
		if !nd.failed {
			st := Unchanged
			if nd.lines {
				st = LineOnly
			}
			if v.sa[nd.x] == 0 {
				v.sa[nd.x] = st
			}
			if v.sb[nd.y] == 0 {
				v.sb[nd.y] = st
			}
		}
	}
	v.equals()
	for x, y := range v.c.ab {
		switch {
		case !v.c.proved[x]:
		case v.sa[x] == 0 && v.sb[y] == 0:
			v.sa[x], v.sb[y] = Unchanged, Unchanged
		case v.sa[x] == 0: // part of a function on one side only
			v.sa[x] = v.sb[y]
		case v.sb[y] == 0:
			v.sb[y] = v.sa[x]
		}
	}
	v.strings()
	v.holes()
	for y := range v.b.openAtoms(v.c.doneB) {
		at := &v.b.Atoms[y]
		if v.sb[y] != 0 || at.Kind == AtomExcluded {
			continue
		}
		v.sb[y] = New
		x := v.c.ba[y]
		if x != 0 && v.sa[x] == 0 {
			v.sa[x], v.sb[y] = Changed, Changed
		}
		if v.c.readB[y] || !listed(v.b, v.usersOf(true, y), y) {
			continue
		}
		dt := Datum{Patched: y, Status: v.sb[y], Name: v.b.File.Sections[at.Sec].Name, Section: v.b.File.Sections[at.Sec].Name, ReadOnly: v.b.readOnly(at.Sec), PatchedSize: at.Size}
		if dt.Status == Changed {
			dt.Orig, dt.OrigSize, dt.Confidence = x, v.a.Atoms[x].Size, v.c.conf[x]
			_, dt.Causes = v.nodeStatus(x, y)
			dt.Changes = changes(v.a.Bytes(x), v.b.Bytes(y))
		}
		v.d.Data = append(v.d.Data, dt)
	}
	for x := range v.a.openAtoms(v.c.doneA) {
		at := &v.a.Atoms[x]
		if v.sa[x] != 0 || at.Kind == AtomExcluded {
			continue
		}
		v.sa[x] = Removed
		if !v.c.readA[x] && listed(v.a, v.usersOf(false, x), x) {
			v.d.Data = append(v.d.Data, Datum{Orig: x, Status: Removed, Name: v.a.File.Sections[at.Sec].Name, Section: v.a.File.Sections[at.Sec].Name, ReadOnly: v.a.readOnly(at.Sec), OrigSize: at.Size})
		}
	}
}

// equals takes the pair from what has no name and is equal to something else than its pair: which piece of the
// original an unchanged one comes from is not known then, and another may be paired with it.
func (v *verdicts) equals() {
	var own []bool // by patched atom: equal to its pair
	for n := range v.k.nodes {
		nd := &v.k.nodes[n]
		if nd.failed || v.c.ba[nd.y] == nd.x || v.b.Atoms[nd.y].Sym != 0 || v.sb[nd.y] != Unchanged {
			continue
		}
		if own == nil {
			own = make([]bool, len(v.b.Atoms))
			for k := range v.k.nodes {
				if x := &v.k.nodes[k]; !x.failed && v.c.ba[x.y] == x.x {
					own[x.y] = true
				}
			}
		}
		if x := v.c.ba[nd.y]; !own[nd.y] && (x == 0 || !v.c.proved[x]) {
			v.c.ba[nd.y], own[nd.y] = 0, true
		}
	}
}

// listed reports whether what has no name and is not proved equal is listed as
// data of its own. Strings and constants are part of whoever refers to them, and so
// is code and read-only data without a name as long as a function refers to it.
func listed(g *Graph, users func() []user, a AtomID) bool {
	at := &g.Atoms[a]
	switch at.Kind {
	case AtomPad:
		return false
	case AtomString, AtomConst:
		// Nobody refers to its first byte: whatever changed in front of what is used shows nowhere else.
		return !slices.ContainsFunc(users(), func(u user) bool { return u.pos <= 0 }) && !g.outside(a)
	case AtomEntry:
		return at.Unit == 0
	case AtomAnon:
		if !g.readOnly(at.Sec) && at.Flag&FlagContent == 0 {
			return true
		}
	}
	return !slices.ContainsFunc(users(), func(u user) bool { return g.Atoms[g.speaker(u.atom)].Kind == AtomFunc })
}

// holes finds gaps between data that are nothing but alignment: zeros, smaller
// than the alignment of their section, that nobody refers to.
func (v *verdicts) holes() {
	find := func(g *Graph, st []Status, done, read []bool, second bool) {
		for i := range g.openAtoms(done) {
			at := &g.Atoms[i]
			small := at.Kind == AtomAnon && at.Size < g.File.Sections[at.Sec].Addralign || at.Kind == AtomString
			if small && st[i] == 0 && !read[i] && !g.relocated(at.Sec, at.Off, at.Off+at.Size) && zeros(g.Bytes(i)) && len(v.usersOf(second, i)()) == 0 {
				st[i] = Padding
			}
		}
	}
	find(v.a, v.sa, v.c.doneA, v.c.readA, false)
	find(v.b, v.sb, v.c.doneB, v.c.readB, true)
}

// usersOf gives the references from what is not proved to an atom without a verdict. What
// else has none is likely to be asked for as well.
func (v *verdicts) usersOf(second bool, a AtomID) func() []user {
	return func() []user {
		v.c.indexOpen()
		g, st, done, users := v.a, v.sa, v.c.doneA, v.c.usersA
		if second {
			g, st, done, users = v.b, v.sb, v.c.doneB, v.c.usersB
		}
		if !users.covers(g.Atoms[a].Sec) {
			users.cover(func(yield func(object.SecID) bool) {
				for i := range g.openAtoms(done) {
					if (st[i] == 0 || i == a) && !yield(g.Atoms[i].Sec) {
						return
					}
				}
			})
		}
		return users.of(a)
	}
}

// strings gives strings and constants without a verdict theirs by content: unchanged where the other side has the same.
func (v *verdicts) strings() {
	piece := func(a *Atom) bool { return a.Kind == AtomString || a.Kind == AtomConst }
	open := func(g *Graph, st []Status, done []bool) (out []AtomID) {
		for a := range g.openAtoms(done) {
			if piece(&g.Atoms[a]) && st[a] == 0 {
				out = append(out, a)
			}
		}
		return out
	}
	mark := func(g *Graph, st []Status, list []AtomID, h *Graph) {
		if len(list) == 0 {
			return
		}
		want := make(map[string]bool, len(list)) // whether the other side has it
		sizes := make(map[uint64]bool)
		for _, a := range list {
			want[string(g.Bytes(a))] = false
			sizes[g.Atoms[a].Size] = true
		}
		for i := 1; i < len(h.Atoms); i++ {
			if a := &h.Atoms[i]; piece(a) && sizes[a.Size] && h.File.RelocsOf(a.Sec).Len() == 0 {
				b := h.Bytes(AtomID(i))
				if _, ok := want[string(b)]; ok {
					want[string(b)] = true
				}
			}
		}
		for _, a := range list {
			if want[string(g.Bytes(a))] {
				st[a] = Unchanged
			}
		}
	}
	la, lb := open(v.a, v.sa, v.c.doneA), open(v.b, v.sb, v.c.doneB)
	mark(v.a, v.sa, la, v.b)
	mark(v.b, v.sb, lb, v.a)
}

// sharedConstants warns of read-only data that changed while code that reads it did not.
func (v *verdicts) sharedConstants() []diag.Diagnostic {
	var out []diag.Diagnostic
	for i := range v.d.Data {
		dt := &v.d.Data[i]
		if dt.Status != Changed || !dt.ReadOnly || dt.Patched == 0 {
			continue
		}
		for _, u := range v.b.users(dt.Patched, v.c.poll) {
			r := v.b.speaker(u.atom)
			if st := v.sb[r]; v.b.Atoms[r].Kind == AtomFunc && (st == Unchanged || st == LineOnly) {
				at := &v.b.Atoms[dt.Patched]
				out = append(out, diag.New(diag.ConstantShared, v.b.place(at.Sec, at.Off), "%s changed, and %s, which does not, reads it", dt.Name, v.b.Name(r)))
				break
			}
		}
	}
	return out
}

// told says what was not compared, and which relaxations were used how often.
func (v *verdicts) told() {
	at := make(map[[2]string]int)
	add := func(g *Graph, f func(*Excluded, uint64)) {
		for sec, reason := range g.excluded {
			if reason == "" {
				continue
			}
			s := &g.File.Sections[sec]
			k := [2]string{s.Name, reason}
			i, ok := at[k]
			if !ok {
				i = len(v.d.Excluded)
				at[k] = i
				v.d.Excluded = append(v.d.Excluded, Excluded{Section: s.Name, Reason: reason})
			}
			f(&v.d.Excluded[i], s.Size)
		}
	}
	add(v.a, func(e *Excluded, n uint64) { e.Orig += n })
	add(v.b, func(e *Excluded, n uint64) { e.Patched += n })
	slices.SortFunc(v.d.Excluded, func(x, y Excluded) int { return cmp.Compare(x.Section, y.Section) })
	lines := 0
	for i := range v.k.nodes {
		for _, c := range v.k.nodes[i].causes {
			if c.Kind == CauseLine {
				lines++
			}
		}
	}
	v.d.Relaxations = []Relaxation{
		{Name: "line", Enabled: !v.k.opts.NoLines, Uses: lines},
		{Name: "padding", Enabled: true, Uses: v.k.pads},
		{Name: "text-move", Enabled: true, Uses: v.k.moves},
		{Name: "plt32", Enabled: true, Uses: v.k.plts},
		{Name: "empty-replacement", Enabled: true, Uses: v.k.empty},
		{Name: "ignored", Enabled: !v.k.opts.NoDirectives, Uses: v.ignored},
	}
}

// names gives readers, demangled names and ids, and puts the lists in an order that does not depend on the files' order.
func (v *verdicts) names() {
	d := v.d
	for i := range d.Data {
		dt := &d.Data[i]
		switch {
		case dt.Status == Unchanged:
		case dt.Patched != 0:
			dt.Readers = v.b.readerNames(dt.Patched, v.c.poll)
		case dt.Orig != 0:
			dt.Readers = v.a.readerNames(dt.Orig, v.c.poll)
		}
	}
	if v.k.opts.Brief {
		v.namesakes()
	}
	order(v.c.poll, d.Functions, func(f *Function) string { return f.Name }, func(x, y *Function) int {
		return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.File, y.File), cmp.Compare(x.Status, y.Status), cmp.Compare(x.Section, y.Section), cmp.Compare(x.PatchedSize, y.PatchedSize))
	})
	order(v.c.poll, d.Data, func(d *Datum) string { return d.Name }, func(x, y *Datum) int {
		return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.File, y.File), cmp.Compare(x.Status, y.Status), cmp.Compare(x.Section, y.Section), cmp.Compare(x.PatchedSize, y.PatchedSize))
	})
	// Rows of one name and file follow one another. All ids lie in one string.
	size := 0
	for i := range d.Functions {
		size += len(d.Functions[i].File) + 1 + len(d.Functions[i].Name)
	}
	for i := range d.Data {
		size += len(d.Data[i].File) + 1 + len(d.Data[i].Name)
	}
	arena := make([]byte, 0, size+size/8)
	type span struct{ lo, hi uint32 }
	spans := make([]span, 0, len(d.Functions)+len(d.Data)) // of arena; empty where the name alone is the id
	var prev struct {
		file, name string
		n          int
	}
	id := func(file, name string, data bool) {
		if prev.n == 0 || prev.name != name || prev.file != file {
			prev.file, prev.name, prev.n = file, name, 0
		}
		prev.n++
		lo := uint32(len(arena))
		if file != "" || prev.n > 1 || data {
			if file != "" {
				arena = append(append(arena, file...), ':')
			}
			arena = append(arena, name...)
			if prev.n > 1 {
				arena = strconv.AppendInt(append(arena, '#'), int64(prev.n), 10)
			}
			if data {
				arena = append(arena, "#data"...) // a function of one build became data in the other
			}
		}
		spans = append(spans, span{lo, uint32(len(arena))})
	}
	for i := range d.Functions {
		f := &d.Functions[i]
		id(f.File, f.Name, false)
		f.Demangled = demangled(f.Name)
		f.Namesakes = i > 0 && d.Functions[i-1].Name == f.Name || i+1 < len(d.Functions) && d.Functions[i+1].Name == f.Name
	}
	prev.n = 0
	j, k := 0, 0 // both lists are in the order of names
	for i := range d.Data {
		dt := &d.Data[i]
		for j < len(d.Functions) && cmp.Or(cmp.Compare(d.Functions[j].Name, dt.Name), cmp.Compare(d.Functions[j].File, dt.File)) < 0 {
			j++
		}
		id(dt.File, dt.Name, j < len(d.Functions) && d.Functions[j].Name == dt.Name && d.Functions[j].File == dt.File)
		dt.Demangled = demangled(dt.Name)
		for k < len(d.Functions) && d.Functions[k].Name < dt.Name {
			k++
		}
		dt.Namesakes = i > 0 && d.Data[i-1].Name == dt.Name || i+1 < len(d.Data) && d.Data[i+1].Name == dt.Name
		for n := k; n < len(d.Functions) && d.Functions[n].Name == dt.Name; n++ {
			if dt.Namesakes && d.Functions[n].Namesakes {
				break // all of this name are marked already
			}
			dt.Namesakes, d.Functions[n].Namesakes = true, true
		}
	}
	ids := string(arena)
	of := func(s span, name string) string {
		if s.lo == s.hi {
			return name
		}
		return ids[s.lo:s.hi]
	}
	for i := range d.Functions {
		d.Functions[i].ID = of(spans[i], d.Functions[i].Name)
	}
	for i := range d.Data {
		d.Data[i].ID = of(spans[len(d.Functions)+i], d.Data[i].Name)
	}
	if v.k.opts.Brief {
		n := len(d.Functions)
		d.Functions = slices.DeleteFunc(d.Functions, func(f Function) bool { return f.Status == Unchanged && len(f.Causes) == 0 })
		d.Omitted.Functions += n - len(d.Functions)
		n = len(d.Data)
		d.Data = slices.DeleteFunc(d.Data, func(dt Datum) bool { return dt.Status == Unchanged && len(dt.Causes) == 0 })
		d.Omitted.Data += n - len(d.Data)
	}
}

// namesakes puts back what Options.Brief left out where it shares a name with
// something that is listed: ids depend on it.
func (v *verdicts) namesakes() {
	d := v.d
	want := make(map[string]bool)
	var lens [256]bool // of the names, to look up few
	listed := make(map[UnitID]bool)
	for i := range d.Functions {
		n := d.Functions[i].Name
		want[n], lens[len(n)&255] = true, true
		listed[d.Functions[i].Patched] = true
	}
	for i := range d.Data {
		n := d.Data[i].Name
		want[n], lens[len(n)&255] = true, true
	}
	if len(want) == 0 {
		return
	}
	for i := range v.b.File.Symbols {
		n := v.b.File.Symbols[i].Name
		y := v.b.symAtom[i]
		if !lens[len(n)&255] || y == 0 || v.b.Atoms[y].Sym != object.SymID(i) || v.sb[y] != Unchanged || !want[n] {
			continue
		}
		switch at := &v.b.Atoms[y]; {
		case at.Kind == AtomObject && v.c.proved[v.c.ba[y]]:
			dt := v.datum(y)
			dt.Status = Unchanged
			d.Data = append(d.Data, dt)
			d.Omitted.Data--
		case at.Unit != 0 && v.b.Units[at.Unit].Main == y && !listed[at.Unit]:
			f := v.function(at.Unit)
			v.paired(&f, v.c.ba[y])
			f.Status = Unchanged
			d.Functions = append(d.Functions, f)
			d.Omitted.Functions--
		}
	}
}

// order sorts rows, which are large, by sorting what their names start with; equal rows keep their order.
func order[T any](poll *poller, rows []T, name func(*T) string, less func(x, y *T) int) {
	type key struct {
		start uint64 // the first eight bytes of the name
		row   int32
	}
	keys := make([]key, len(rows))
	for i := range rows {
		var b [8]byte
		copy(b[:], name(&rows[i]))
		keys[i] = key{binary.BigEndian.Uint64(b[:]), int32(i)}
	}
	slices.SortFunc(keys, func(x, y key) int {
		poll.step()
		if x.start != y.start {
			if x.start < y.start {
				return -1
			}
			return 1
		}
		return cmp.Or(less(&rows[x.row], &rows[y.row]), cmp.Compare(x.row, y.row))
	})
	// Put the rows in place, cycle by cycle.
	for i := range keys {
		if int(keys[i].row) == i {
			continue
		}
		first := rows[i]
		at := int32(i)
		for int(keys[at].row) != i {
			next := keys[at].row
			rows[at], keys[at].row = rows[next], at
			at = next
		}
		rows[at], keys[at].row = first, at
	}
}

// readerNames names who refers to an atom, at most 32 of them in the order of names.
func (g *Graph) readerNames(a AtomID, poll *poller) []string {
	us := g.users(a, poll)
	ids := make([]AtomID, 0, len(us))
	for _, u := range us {
		ids = append(ids, g.speaker(u.atom))
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	out := make([]string, 0, len(ids))
	for _, u := range ids {
		out = append(out, g.Name(u))
	}
	slices.Sort(out)
	out = slices.Compact(out)
	return slices.Clone(out[:min(len(out), 32)])
}

func (g *Graph) fileName(scope uint32) string {
	if scope == 0 {
		return ""
	}
	return g.File.Symbols[g.Files[scope-1]].Name
}

func (g *Graph) readOnly(sec object.SecID) bool {
	return g.File.Sections[sec].Flags&elf.SHF_WRITE == 0
}

// unitSize gives the bytes of a unit's code without padding.
func (g *Graph) unitSize(u UnitID) uint64 {
	n := uint64(0)
	for _, m := range g.Units[u].Members {
		if g.Atoms[m].Kind != AtomPad {
			n += g.Atoms[m].Size
		}
	}
	return n
}

// aliases gives the other names of an atom's start.
func (g *Graph) aliases(a AtomID) []string {
	at := &g.Atoms[a]
	lo, hi := g.labelLo[at.Sec], g.labelLo[at.Sec+1]
	if hi-lo < 2 {
		return nil
	}
	labels := g.labels[lo:hi]
	i, _ := slices.BinarySearchFunc(labels, at.Off, func(l object.SymID, off uint64) int { return cmp.Compare(g.File.Symbols[l].Value, off) })
	var out []string
	for ; i < len(labels) && g.File.Symbols[labels[i]].Value == at.Off; i++ {
		if l := labels[i]; l != at.Sym && g.namesTarget(l) {
			out = append(out, g.File.Symbols[l].Name)
		}
	}
	slices.Sort(out)
	return out
}

// memberNames gives the names of a unit's parts other than its body.
func (g *Graph) memberNames(u UnitID) []string {
	var out []string
	for _, m := range g.Units[u].Members {
		if m != g.Units[u].Main && g.Atoms[m].Sym != 0 {
			out = append(out, g.Name(m))
		}
	}
	return out
}

// account adds up the bytes of all allocated sections by status.
func account(g *Graph, st []Status) Bytes {
	var n Bytes
	for i := 1; i < len(g.Atoms); i++ {
		a := &g.Atoms[i]
		n.Total += a.Size
		switch {
		case a.Kind == AtomPad || st[i] == Padding:
			n.Padding += a.Size
		case a.Kind == AtomExcluded:
			n.Excluded += a.Size
		case st[i] == Unchanged:
			n.Unchanged += a.Size
		case st[i] == LineOnly:
			n.LineOnly += a.Size
		case st[i] == Changed:
			n.Changed += a.Size
		case st[i] == New:
			n.New += a.Size
		case st[i] == Removed:
			n.Removed += a.Size
		}
	}
	return n
}
