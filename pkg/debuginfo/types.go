package debuginfo

import (
	"cmp"
	"debug/dwarf"
	"slices"
	"strconv"
	"strings"
)

// Struct is a structure, union or class. Members of anonymous members, and of
// members whose type has no name, are listed as its own, the latter under "outer.inner".
type Struct struct {
	Kind    string // "struct", "union" or "class"
	Name    string // its tag, or the name of its typedef
	Size    uint64 // bytes
	Unit    string // source file of the unit
	Members []Member

	off      dwarf.Offset
	embedded []dwarf.Offset // structures that members are
	pointees []dwarf.Offset // structures that members point to
}

// Member is a member of a structure.
type Member struct {
	Name     string
	BitOff   uint64
	BitSize  uint64
	BitField bool
	Type     string // as in the source
	Resolved string // without typedefs and qualifiers
}

// Limits of what a type is taken to be; what lies beyond is "...".
const (
	maxTypeDepth = 24
	maxTypeText  = 240
	maxMembers   = 1 << 15 // of one structure, with those of anonymous members
	maxUses      = 4096    // structures that one function uses
)

// typ is what is known of a type.
type typ struct {
	pre, post   string       // as in the source, before and behind a name
	rpre, rpost string       // resolved
	size        uint64       // bytes
	agg         dwarf.Offset // the structure that it is, or an array of; 0 for none
	anon        bool         // agg has no name
	ptr         dwarf.Offset // the structure that it leads to through pointers
	fn, array   bool
}

func (t *typ) text() string     { return bounded(t.pre + t.post) }
func (t *typ) resolved() string { return bounded(t.rpre + t.rpost) }

func bounded(s string) string {
	if len(s) > maxTypeText {
		return s[:maxTypeText] + "..."
	}
	return s
}

func aggWord(t dwarf.Tag) string {
	switch t {
	case dwarf.TagUnionType:
		return "union"
	case dwarf.TagClassType:
		return "class"
	}
	return "struct"
}

func plain(s string) *typ { return &typ{pre: s, rpre: s} }

// typeAt gives the type at off. A type that is met inside itself other than through a structure is "...".
func (in *Info) typeAt(u *unit, off dwarf.Offset, depth int) *typ {
	if t := in.types[off]; t != nil {
		return t
	}
	if depth > maxTypeDepth {
		return plain("...")
	}
	in.types[off] = plain("...")
	t := in.readType(u, off, depth)
	for _, s := range []*string{&t.pre, &t.post, &t.rpre, &t.rpost} {
		*s = bounded(*s)
	}
	in.types[off] = t
	return t
}

func (in *Info) readType(u *unit, off dwarf.Offset, depth int) *typ {
	e := in.entry(u, off)
	if e == nil {
		return plain("?")
	}
	name, _ := e.Val(dwarf.AttrName).(string)
	size, _ := e.Val(dwarf.AttrByteSize).(int64)
	if size < 0 {
		size = 0
	}
	below := func() *typ {
		if to, ok := e.Val(dwarf.AttrType).(dwarf.Offset); ok {
			return in.typeAt(u, to, depth+1)
		}
		return plain("void")
	}
	switch e.Tag {
	case dwarf.TagBaseType:
		t := plain(name)
		t.size = uint64(size)
		return t
	case dwarf.TagStructType, dwarf.TagUnionType, dwarf.TagClassType:
		word := aggWord(e.Tag)
		t := &typ{size: uint64(size), agg: off, anon: name == ""}
		if t.anon {
			t.pre = word + " {...}"
		} else {
			t.pre = word + " " + name
			if e.Val(dwarf.AttrDeclaration) != nil {
				if t.agg = in.named(u, t.pre); t.agg != 0 {
					if d := in.entry(u, t.agg); d != nil {
						n, _ := d.Val(dwarf.AttrByteSize).(int64)
						t.size = uint64(max(n, 0))
					}
				}
			}
		}
		t.rpre = t.pre
		return t
	case dwarf.TagEnumerationType:
		t := plain("enum " + cmp.Or(name, "{...}"))
		t.size = uint64(size)
		return t
	case dwarf.TagTypedef:
		b := below()
		t := *b
		t.pre, t.post = name, ""
		if b.agg != 0 && b.anon && !b.array {
			t.rpre, t.rpost, t.anon = name, "", false // the typedef's name is the structure's
		}
		return &t
	case dwarf.TagConstType, dwarf.TagVolatileType, dwarf.TagRestrictType, dwarf.TagAtomicType:
		t := *below()
		word := map[dwarf.Tag]string{dwarf.TagConstType: "const", dwarf.TagVolatileType: "volatile", dwarf.TagRestrictType: "restrict", dwarf.TagAtomicType: "_Atomic"}[e.Tag]
		if strings.HasSuffix(t.pre, "*") {
			t.pre += " " + word
		} else {
			t.pre = word + " " + t.pre
		}
		return &t
	case dwarf.TagPointerType, dwarf.TagReferenceType, dwarf.TagRvalueReferenceType:
		b := below()
		sign := "*"
		switch e.Tag {
		case dwarf.TagReferenceType:
			sign = "&"
		case dwarf.TagRvalueReferenceType:
			sign = "&&"
		}
		if size == 0 {
			size = int64(u.addrSize)
		}
		t := &typ{size: uint64(size), ptr: cmp.Or(b.agg, b.ptr)}
		t.pre, t.post = point(b.pre, b.post, sign)
		t.rpre, t.rpost = point(b.rpre, b.rpost, sign)
		return t
	case dwarf.TagArrayType:
		b := below()
		t := *b
		t.array, t.fn = true, false
		dims, count := in.dimensions(u, e)
		t.post, t.rpost = dims+b.post, dims+b.rpost
		t.size = b.size * count
		if size > 0 {
			t.size = uint64(size)
		}
		return &t
	case dwarf.TagSubroutineType:
		b := below()
		t := &typ{fn: true}
		var args, rargs []string
		if e.Children {
			es := in.at(u, off)
			es.next()
			for c := es.next(); c != nil && c.Tag != 0; c = es.next() {
				switch c.Tag {
				case dwarf.TagFormalParameter:
					p := plain("?")
					if to, ok := c.Val(dwarf.AttrType).(dwarf.Offset); ok {
						p = in.typeAt(u, to, depth+1)
					}
					if len(args) < 32 {
						args, rargs = append(args, p.text()), append(rargs, p.resolved())
					}
				case dwarf.TagUnspecifiedParameters:
					args, rargs = append(args, "..."), append(rargs, "...")
				}
				es.skip(c)
			}
		}
		t.pre, t.rpre = b.pre, b.rpre
		t.post = "(" + strings.Join(args, ", ") + ")" + b.post
		t.rpost = "(" + strings.Join(rargs, ", ") + ")" + b.rpost
		return t
	case dwarf.TagUnspecifiedType:
		return plain(cmp.Or(name, "void"))
	}
	return plain(cmp.Or(name, "?"))
}

// point makes a pointer to a type of the given text.
func point(pre, post, sign string) (string, string) {
	switch {
	case post != "":
		return pre + " (" + sign, ")" + post
	case strings.HasSuffix(pre, "*"):
		return pre + sign, ""
	}
	return pre + " " + sign, ""
}

// dimensions gives the brackets of an array and how many elements it has.
func (in *Info) dimensions(u *unit, e *dwarf.Entry) (string, uint64) {
	text, total := "", uint64(1)
	if e.Children {
		es := in.at(u, e.Offset)
		es.next()
		for c := es.next(); c != nil && c.Tag != 0; c = es.next() {
			if c.Tag == dwarf.TagSubrangeType {
				n, ok := c.Val(dwarf.AttrCount).(int64)
				if !ok {
					if hi, isConst := c.Val(dwarf.AttrUpperBound).(int64); isConst {
						n, ok = hi+1, true
					}
				}
				if ok && n >= 0 {
					text += "[" + strconv.FormatInt(n, 10) + "]"
					total *= uint64(n)
				} else {
					text += "[]"
					total = 0
				}
			}
			es.skip(c)
		}
	}
	if text == "" {
		return "[]", 0
	}
	return text, total
}

// named gives the complete structure that a unit has under "struct name"; 0 for none.
func (in *Info) named(u *unit, key string) dwarf.Offset {
	in.readUnit(u)
	return u.named[key]
}

// structAt reads the structure at off, once; name is what its typedef calls it. Nil when it is incomplete.
func (in *Info) structAt(u *unit, off dwarf.Offset, name string) *Struct {
	if s, ok := in.aggs[off]; ok {
		return s
	}
	in.aggs[off] = nil
	e := in.entry(u, off)
	if e == nil || e.Val(dwarf.AttrDeclaration) != nil {
		return nil
	}
	switch e.Tag {
	case dwarf.TagStructType, dwarf.TagUnionType, dwarf.TagClassType:
	default:
		return nil
	}
	size, ok := e.Val(dwarf.AttrByteSize).(int64)
	if !ok || size < 0 {
		return nil
	}
	s := &Struct{Kind: aggWord(e.Tag), Name: name, Size: uint64(size), off: off}
	if uu := in.unitOf(off); uu != nil {
		u = uu
	}
	s.Unit = u.name
	if n, _ := e.Val(dwarf.AttrName).(string); n != "" {
		s.Name = n
	}
	in.members(u, s, e, "", 0, 0)
	slices.SortStableFunc(s.Members, func(a, b Member) int { return cmp.Compare(a.BitOff, b.BitOff) })
	in.aggs[off] = s
	return s
}

// members appends the members of the structure e, which lies at bit base of s, under prefix.
func (in *Info) members(u *unit, s *Struct, e *dwarf.Entry, prefix string, base uint64, depth int) {
	if !e.Children {
		return
	}
	es := in.at(u, e.Offset)
	if es.next() == nil {
		return
	}
	for c := es.next(); c != nil && c.Tag != 0; c = es.next() {
		if (c.Tag == dwarf.TagMember || c.Tag == dwarf.TagInheritance) && c.Val(dwarf.AttrExternal) == nil && len(s.Members) < maxMembers {
			in.member(u, s, c, prefix, base, depth)
		}
		es.skip(c)
	}
}

func (in *Info) member(u *unit, s *Struct, c *dwarf.Entry, prefix string, base uint64, depth int) {
	to, ok := c.Val(dwarf.AttrType).(dwarf.Offset)
	if !ok {
		return
	}
	t := in.typeAt(u, to, 0)
	name, _ := c.Val(dwarf.AttrName).(string)
	if c.Tag == dwarf.TagInheritance {
		name = "(base " + t.text() + ")"
	}
	m := Member{Name: prefix + name, BitSize: 8 * t.size, Type: t.text(), Resolved: t.resolved()}
	switch v := c.Val(dwarf.AttrDataMemberLoc).(type) {
	case int64:
		m.BitOff = 8 * uint64(v)
	case []byte: // DW_OP_plus_uconst, of DWARF 2
		if len(v) > 1 && v[0] == 0x23 {
			b := cursor{b: v, at: 1}
			m.BitOff = 8 * b.uleb()
		}
	}
	if bits, isField := c.Val(dwarf.AttrBitSize).(int64); isField {
		m.BitField, m.BitSize = true, uint64(bits)
		if at, isOff := c.Val(dwarf.AttrDataBitOffset).(int64); isOff {
			m.BitOff = uint64(at)
		} else if at, isOff := c.Val(dwarf.AttrBitOffset).(int64); isOff { // counted from the other end
			n, isSize := c.Val(dwarf.AttrByteSize).(int64)
			if !isSize {
				n = int64(t.size)
			}
			m.BitOff += uint64(8*n - at - bits)
		}
	}
	m.BitOff += base
	if t.agg != 0 && t.anon && depth < 8 {
		if inner := in.entry(u, t.agg); inner != nil {
			p := prefix
			if name != "" {
				p += name
				if t.array {
					p += "[]"
				}
				p += "."
			}
			in.members(u, s, inner, p, m.BitOff, depth+1)
			if name == "" {
				return
			}
		}
	} else if name == "" {
		return // padding
	}
	if t.agg != 0 && !t.anon {
		s.embedded = append(s.embedded, t.agg)
	} else if t.ptr != 0 {
		s.pointees = append(s.pointees, t.ptr)
	}
	s.Members = append(s.Members, m)
}

// useSet is what a function uses, by key: the kind and name of the structure.
type useSet struct {
	keys  []string
	by    map[string]*Struct
	via   map[string]string // the structure through whose member it is reached; "" for its own
	unit  *unit
	limit bool
}

// uses gives the structures that the subprogram at off uses.
func (in *Info) uses(u *unit, off dwarf.Offset) *useSet {
	if s := in.sets[off]; s != nil {
		return s
	}
	set := &useSet{by: make(map[string]*Struct), via: make(map[string]string), unit: u}
	in.sets[off] = set
	type item struct {
		off  dwarf.Offset
		name string
		via  string
	}
	var queue []item
	queued := make(map[dwarf.Offset]bool)
	put := func(it item) {
		if it.off == 0 || queued[it.off] {
			return
		}
		if len(queue) >= maxUses {
			set.limit = true
			return
		}
		queued[it.off] = true
		queue = append(queue, it)
	}
	// Its own entries, and those of the functions that were inlined into it: there stand variables that were optimized away too.
	roots := []dwarf.Offset{off}
	rooted := map[dwarf.Offset]bool{off: true}
	for i := 0; i < len(roots); i++ {
		t := in.tree(u, roots[i])
		for _, o := range t.origins {
			if !rooted[o] && len(roots) < maxUses {
				rooted[o] = true
				roots = append(roots, o)
			}
		}
		for _, o := range t.types {
			if ty := in.typeAt(u, o, 0); ty.agg != 0 || ty.ptr != 0 {
				put(item{off: cmp.Or(ty.agg, ty.ptr), name: typedefName(ty)})
			}
		}
	}
	for i := 0; i < len(queue); i++ {
		it := queue[i]
		s := in.structAt(u, it.off, it.name)
		if s == nil || s.Name == "" {
			continue
		}
		if key := s.key(); set.by[key] == nil {
			set.by[key], set.via[key] = s, it.via
			set.keys = append(set.keys, key)
		}
		for _, o := range s.embedded {
			put(item{off: o, via: it.via})
		}
		if it.via == "" { // one step from what the function names itself
			for _, o := range s.pointees {
				put(item{off: o, via: s.key()})
			}
		}
	}
	return set
}

// typedefName gives the name that a typedef gives a structure without a tag.
func typedefName(t *typ) string {
	s := strings.TrimRight(t.rpre, " *&(")
	for _, w := range [...]string{"struct ", "union ", "class "} {
		if strings.HasPrefix(s, w) {
			return ""
		}
	}
	return s
}

func (s *Struct) key() string { return s.Kind + " " + s.Name }

// Structs gives the structures that the function at a place uses: those of its
// parameters, variables and result, by value or through pointers, with what is
// embedded in them and what their members point to, and the same for functions
// that were inlined into it. It is more than what the code touches, in the order
// in which they are met.
func (in *Info) Structs(p Place) (out []*Struct) {
	in.ask(func() {
		if set := in.usesAt(p); set != nil {
			for _, k := range set.keys {
				out = append(out, set.by[k])
			}
		}
	})
	return out
}

func (in *Info) usesAt(p Place) *useSet {
	if addr, ok := in.addr(p); ok {
		if u, fn := in.functionAt(addr); fn != nil {
			return in.uses(u, fn.off)
		}
	}
	return nil
}

// Struct gives the first structure of a name such as "struct file", in the unit
// of the given source file when there is one. Nil when there is none.
func (in *Info) Struct(key, unitName string) (s *Struct) {
	in.ask(func() { s = in.lookup(key, unitName) })
	return s
}

func (in *Info) lookup(key, unitName string) *Struct {
	name := key[strings.IndexByte(key, ' ')+1:]
	for pass := range 2 {
		for _, u := range in.units {
			if (u.name == unitName) != (pass == 0) {
				continue
			}
			if off := in.named(u, key); off != 0 {
				if s := in.structAt(u, off, name); s != nil {
					return s
				}
			}
			if off := in.named(u, "typedef "+name); off != 0 {
				if s := in.structAt(u, off, name); s != nil && s.key() == key {
					return s
				}
			}
		}
	}
	return nil
}
