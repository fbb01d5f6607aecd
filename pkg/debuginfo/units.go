package debuginfo

import (
	"cmp"
	"debug/dwarf"
	"slices"
)

// span is a range of addresses that belongs to item n of a list.
type span struct {
	lo, hi uint64
	n      int
}

// find gives the item of the last span that starts at or before addr and holds it.
func find(spans []span, addr uint64) (int, bool) {
	i, _ := slices.BinarySearchFunc(spans, addr, func(s span, a uint64) int {
		if s.lo <= a {
			return -1
		}
		return 1
	})
	for i--; i >= 0 && spans[i].lo <= addr; i-- {
		if addr < spans[i].hi {
			return spans[i].n, true
		}
		if spans[i].hi > spans[i].lo {
			break // spans do not overlap in what compilers make
		}
	}
	return 0, false
}

func sortSpans(spans []span) {
	slices.SortStableFunc(spans, func(a, b span) int { return cmp.Or(cmp.Compare(a.lo, b.lo), cmp.Compare(a.hi, b.hi)) })
}

// unit is a compilation unit.
type unit struct {
	off, end dwarf.Offset // of its entries
	name     string
	stmts    int64 // offset of its line table; -1 for none
	addrSize int
	table    *table

	read  bool
	deep  bool // functions inside others are read too
	funcs []function
	spans []span // of funcs
	named map[string]dwarf.Offset
}

// function is a subprogram with code.
type function struct {
	off      dwarf.Offset
	name     string
	declFile int
	declLine int
}

// entries reads entries one after the other within limits.
type entries struct {
	in  *Info
	r   *dwarf.Reader
	end dwarf.Offset
}

// at gives a reader of the entries of u from off on.
func (in *Info) at(u *unit, off dwarf.Offset) *entries {
	r := in.dw.Reader()
	r.Seek(off)
	return &entries{in: in, r: r, end: u.end}
}

// next gives the next entry; nil at the end of the unit, and when reading fails.
func (es *entries) next() *dwarf.Entry {
	e, err := es.r.Next()
	if err != nil {
		es.in.fail(err)
		return nil
	}
	if e == nil || e.Offset >= es.end {
		return nil
	}
	n := 1 + len(e.Field)
	for i := range e.Field {
		if s, ok := e.Field[i].Val.(string); ok {
			n += len(s) / 16
		}
	}
	if !es.in.spend(n) {
		return nil
	}
	return e
}

// skip leaves out the children of e.
func (es *entries) skip(e *dwarf.Entry) {
	if !e.Children {
		return
	}
	if to, ok := e.Val(dwarf.AttrSibling).(dwarf.Offset); ok && to > e.Offset && to < es.end {
		es.r.Seek(to)
		return
	}
	for depth := 1; depth > 0; {
		c := es.next()
		switch {
		case c == nil:
			return
		case c.Tag == 0:
			depth--
		case c.Children:
			depth++
		}
	}
}

// readUnits reads the first entry of each unit.
func (in *Info) readUnits(info []byte) error {
	hs, err := headers(info)
	if err != nil {
		return err
	}
	for _, h := range hs {
		if h.kind == 2 || h.kind == 6 || h.first == h.end {
			continue
		}
		u := &unit{off: dwarf.Offset(h.first), end: dwarf.Offset(h.end), stmts: -1, addrSize: h.addr}
		e := in.at(u, u.off).next()
		if e == nil {
			if in.err != nil {
				return in.err
			}
			continue
		}
		if e.Tag != dwarf.TagCompileUnit {
			continue
		}
		u.name, _ = e.Val(dwarf.AttrName).(string)
		if v, ok := e.Val(dwarf.AttrStmtList).(int64); ok && v >= 0 {
			u.stmts = v
		}
		for _, r := range in.ranges(e) {
			in.spans = append(in.spans, span{r[0], r[1], len(in.units)})
		}
		in.units = append(in.units, u)
	}
	sortSpans(in.spans)
	return nil
}

// ranges gives the addresses of an entry.
func (in *Info) ranges(e *dwarf.Entry) [][2]uint64 {
	if e.Val(dwarf.AttrLowpc) == nil && e.Val(dwarf.AttrRanges) == nil {
		return nil
	}
	rs, err := in.dw.Ranges(e)
	if err != nil {
		in.fail(err)
		return nil
	}
	if !in.spend(4 * len(rs)) {
		return nil
	}
	rs = slices.DeleteFunc(rs, func(r [2]uint64) bool { return r[0] >= r[1] })
	return rs
}

func (in *Info) unitAt(addr uint64) *unit {
	if n, ok := find(in.spans, addr); ok {
		return in.units[n]
	}
	return nil
}

// functionAt gives the subprogram of which addr is code.
func (in *Info) functionAt(addr uint64) (*unit, *function) {
	u := in.unitAt(addr)
	if u == nil {
		return nil, nil
	}
	in.readUnit(u)
	n, ok := find(u.spans, addr)
	if !ok && !u.deep {
		in.readNested(u)
		n, ok = find(u.spans, addr)
	}
	if ok {
		return u, &u.funcs[n]
	}
	return u, nil
}

// addFunction lists a subprogram if it has code.
func (in *Info) addFunction(u *unit, e *dwarf.Entry) {
	rs := in.ranges(e)
	if len(rs) == 0 {
		return
	}
	f := function{off: e.Offset}
	f.name, _ = in.nameOf(u, e)
	f.declFile, f.declLine = in.declOf(u, e)
	for _, r := range rs {
		u.spans = append(u.spans, span{r[0], r[1], len(u.funcs)})
	}
	u.funcs = append(u.funcs, f)
}

// readNested lists functions that are declared inside others (lambdas, methods of
// local classes), once. It reads every entry of the unit.
func (in *Info) readNested(u *unit) {
	u.deep = true
	seen := make(map[dwarf.Offset]bool, len(u.funcs))
	for i := range u.funcs {
		seen[u.funcs[i].off] = true
	}
	es := in.at(u, u.off)
	for e := es.next(); e != nil; e = es.next() {
		if e.Tag == dwarf.TagSubprogram && !seen[e.Offset] {
			in.addFunction(u, e)
		}
	}
	sortSpans(u.spans)
}

// readUnit lists the functions with code and the named structures of a unit, once.
func (in *Info) readUnit(u *unit) {
	if u.read {
		return
	}
	u.read = true
	u.named = make(map[string]dwarf.Offset)
	es := in.at(u, u.off)
	for e := es.next(); e != nil; e = es.next() {
		switch e.Tag {
		case dwarf.TagCompileUnit, dwarf.TagNamespace, dwarf.TagModule:
			continue // their children are of interest
		case dwarf.TagSubprogram:
			in.addFunction(u, e)
		case dwarf.TagStructType, dwarf.TagUnionType, dwarf.TagClassType:
			if name, _ := e.Val(dwarf.AttrName).(string); name != "" && e.Val(dwarf.AttrDeclaration) == nil {
				if key := aggWord(e.Tag) + " " + name; u.named[key] == 0 {
					u.named[key] = e.Offset
				}
			}
		case dwarf.TagTypedef: // of a structure without a tag
			name, _ := e.Val(dwarf.AttrName).(string)
			if to, ok := e.Val(dwarf.AttrType).(dwarf.Offset); ok && name != "" && u.named["typedef "+name] == 0 {
				u.named["typedef "+name] = to
			}
		}
		es.skip(e)
	}
	sortSpans(u.spans)
}

// entry reads one entry.
func (in *Info) entry(u *unit, off dwarf.Offset) *dwarf.Entry {
	if off < u.off || off >= u.end {
		if u = in.unitOf(off); u == nil {
			return nil
		}
	}
	return in.at(u, off).next()
}

// unitOf gives the unit that an entry lies in.
func (in *Info) unitOf(off dwarf.Offset) *unit {
	i, found := slices.BinarySearchFunc(in.units, off, func(u *unit, o dwarf.Offset) int { return cmp.Compare(u.off, o) })
	if !found {
		i--
	}
	if i < 0 || off >= in.units[i].end {
		return nil
	}
	return in.units[i]
}

const maxChain = 8 // of origins and specifications

// nameOf gives the name of an entry, its own or that of what it is an instance
// of, and the last entry of that chain.
func (in *Info) nameOf(u *unit, e *dwarf.Entry) (string, *dwarf.Entry) {
	for range maxChain {
		if s, ok := e.Val(dwarf.AttrName).(string); ok {
			return s, e
		}
		o := in.origin(u, e)
		if o == nil {
			break
		}
		e = o
	}
	return "", e
}

// origin gives what an entry is an instance or the definition of.
func (in *Info) origin(u *unit, e *dwarf.Entry) *dwarf.Entry {
	for _, a := range []dwarf.Attr{dwarf.AttrAbstractOrigin, dwarf.AttrSpecification} {
		if off, ok := e.Val(a).(dwarf.Offset); ok {
			return in.entry(u, off)
		}
	}
	return nil
}

func (in *Info) declOf(u *unit, e *dwarf.Entry) (file, line int) {
	for range maxChain {
		if l, ok := e.Val(dwarf.AttrDeclLine).(int64); ok {
			f, _ := e.Val(dwarf.AttrDeclFile).(int64)
			return int(f), int(l)
		}
		o := in.origin(u, e)
		if o == nil {
			break
		}
		e = o
	}
	return 0, 0
}

// scope is an inlined copy of a function.
type scope struct {
	ranges   [][2]uint64
	name     string
	callFile int
	callLine int
}

func (s *scope) has(addr uint64) bool {
	return slices.ContainsFunc(s.ranges, func(r [2]uint64) bool { return r[0] <= addr && addr < r[1] })
}

// tree is what stands below a subprogram.
type tree struct {
	inlined []scope        // parents before children
	types   []dwarf.Offset // of the result, parameters and variables
	origins []dwarf.Offset // of subprograms that it is an instance of, or holds copies of
}

// tree reads a subprogram with all that stands below it, once.
func (in *Info) tree(u *unit, off dwarf.Offset) *tree {
	if t := in.trees[off]; t != nil {
		return t
	}
	t := &tree{}
	in.trees[off] = t
	if off < u.off || off >= u.end {
		if u = in.unitOf(off); u == nil {
			return t
		}
	}
	es := in.at(u, off)
	seen := make(map[dwarf.Offset]bool)
	add := func(list *[]dwarf.Offset, e *dwarf.Entry, a dwarf.Attr) {
		if o, ok := e.Val(a).(dwarf.Offset); ok && !seen[o] {
			seen[o] = true
			*list = append(*list, o)
		}
	}
	depth := 0
	for e := es.next(); e != nil; e = es.next() {
		switch e.Tag {
		case 0:
			depth--
		case dwarf.TagSubprogram:
			if depth > 0 { // a nested function, or the declaration of a callee
				es.skip(e)
				continue
			}
			add(&t.types, e, dwarf.AttrType)
			add(&t.origins, e, dwarf.AttrAbstractOrigin)
			add(&t.origins, e, dwarf.AttrSpecification)
		case dwarf.TagFormalParameter, dwarf.TagVariable:
			add(&t.types, e, dwarf.AttrType)
		case dwarf.TagInlinedSubroutine:
			add(&t.origins, e, dwarf.AttrAbstractOrigin)
			if rs := in.ranges(e); len(rs) > 0 {
				s := scope{ranges: rs}
				s.name, _ = in.nameOf(u, e)
				f, _ := e.Val(dwarf.AttrCallFile).(int64)
				l, _ := e.Val(dwarf.AttrCallLine).(int64)
				s.callFile, s.callLine = int(f), int(l)
				t.inlined = append(t.inlined, s)
			}
		case dwarf.TagStructType, dwarf.TagUnionType, dwarf.TagClassType, dwarf.TagEnumerationType, dwarf.TagSubroutineType, dwarf.TagCallSite:
			es.skip(e)
			continue
		}
		if e.Tag != 0 && e.Children {
			depth++
		}
		if depth <= 0 {
			break
		}
	}
	return t
}
