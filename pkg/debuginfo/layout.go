package debuginfo

import (
	"cmp"
	"debug/dwarf"
	"fmt"
	"slices"
	"strings"
)

// Func is a function of two builds. A zero Place means that the build does not have it.
type Func struct {
	Name          string
	Orig, Patched Place
}

// ChangeKind says what became of a member.
type ChangeKind uint8

// What becomes of members.
const (
	Added ChangeKind = iota + 1
	Removed
	Moved   // another offset
	Retyped // another type or size, perhaps another offset too
	Renamed // another name for what lies there with the same type
)

var changeNames = [...]string{"none", "added", "removed", "moved", "retyped", "renamed"}

// String gives the kind's word.
func (k ChangeKind) String() string {
	if int(k) < len(changeNames) {
		return changeNames[k]
	}
	return fmt.Sprintf("change(%d)", uint8(k))
}

// MemberChange is a member that differs. Orig or Patched is zero where the build does not have it.
type MemberChange struct {
	Kind          ChangeKind
	Orig, Patched Member
}

// StructChange is a structure whose layout differs between two builds.
type StructChange struct {
	Kind        string // "struct", "union" or "class"
	Name        string
	Unit        string // source file of the unit
	OrigSize    uint64
	PatchedSize uint64
	Members     []MemberChange // in the order of the patched layout, removed ones by their old place
	Users       []string       // functions with parameters, variables or results of it, or inlined ones
	Reachable   []string       // functions that may reach it through a member of a structure that they use
}

// Layout compares the structures that functions use in either build. Two
// structures are the same one when they are of one kind and name and the same
// function uses them; where only one build's function does, the other build's
// structure of that name counts, from the same source file if there is one.
// Structures that only one build has are no change of layout. The result is in
// the order of names.
func Layout(orig, patched *Info, functions []Func) []StructChange {
	if !orig.Present() || !patched.Present() {
		return nil
	}
	type pair struct{ a, b *Struct }
	at := make(map[pair]int) // 1 + index into out; 0 for pairs that are equal
	same := make(map[string]int)
	var out []StructChange
	for _, f := range functions {
		var a, b *useSet
		orig.ask(func() { a = orig.usesAt(f.Orig) })
		patched.ask(func() { b = patched.usesAt(f.Patched) })
		var keys []string
		for _, s := range []*useSet{a, b} {
			if s != nil {
				keys = append(keys, s.keys...)
			}
		}
		slices.Sort(keys)
		for _, k := range slices.Compact(keys) {
			x, viaA := a.get(k)
			y, viaB := b.get(k)
			switch {
			case x == nil:
				x = orig.Struct(k, y.Unit)
			case y == nil:
				y = patched.Struct(k, x.Unit)
			}
			if x == nil || y == nil {
				continue
			}
			p := pair{x, y}
			n, known := at[p]
			if !known {
				if c, differs := compare(x, y); differs {
					// Units have copies of one structure: those that changed alike are told once.
					text := c.String()
					if n = same[text]; n == 0 {
						out = append(out, c)
						n = len(out)
						same[text] = n
					}
				}
				at[p] = n
			}
			if n == 0 {
				continue
			}
			list := &out[n-1].Users
			if viaA && viaB {
				list = &out[n-1].Reachable
			}
			if !slices.Contains(*list, f.Name) {
				*list = append(*list, f.Name)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b StructChange) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.String(), b.String()))
	})
	return out
}

// get gives the structure of a key, and whether it is only reached through another one.
func (s *useSet) get(key string) (*Struct, bool) {
	if s == nil {
		return nil, true
	}
	v := s.by[key]
	return v, v == nil || s.via[key] != ""
}

// compare compares two layouts by the names of members.
func compare(a, b *Struct) (StructChange, bool) {
	c := StructChange{Kind: b.Kind, Name: b.Name, Unit: b.Unit, OrigSize: a.Size, PatchedSize: b.Size}
	old := make(map[string]int, len(a.Members)) // 1 + index of the first member of a name that is not paired yet
	next := make([]int, len(a.Members))         // the same for the one after it: C has no second one, damaged files do
	for i := len(a.Members) - 1; i >= 0; i-- {
		name := a.Members[i].Name
		next[i], old[name] = old[name], i+1
	}
	met := make([]bool, len(a.Members))
	var added []Member
	for _, m := range b.Members {
		i := old[m.Name] - 1
		if i < 0 {
			added = append(added, m)
			continue
		}
		met[i], old[m.Name] = true, next[i]
		o := a.Members[i]
		switch {
		case o.Resolved != m.Resolved || o.BitSize != m.BitSize || o.BitField != m.BitField:
			c.Members = append(c.Members, MemberChange{Retyped, o, m})
		case o.BitOff != m.BitOff:
			c.Members = append(c.Members, MemberChange{Moved, o, m})
		}
	}
	type spot struct {
		off, size uint64
		typ       string
	}
	gone := make(map[spot]int) // 1 + index into a.Members
	for i, o := range a.Members {
		if !met[i] {
			gone[spot{o.BitOff, o.BitSize, o.Resolved}] = i + 1
		}
	}
	for _, m := range added {
		k := spot{m.BitOff, m.BitSize, m.Resolved}
		if i := gone[k]; i != 0 {
			met[i-1] = true
			delete(gone, k)
			c.Members = append(c.Members, MemberChange{Renamed, a.Members[i-1], m})
			continue
		}
		c.Members = append(c.Members, MemberChange{Kind: Added, Patched: m})
	}
	for i, o := range a.Members {
		if !met[i] {
			c.Members = append(c.Members, MemberChange{Kind: Removed, Orig: o})
		}
	}
	where := func(m *MemberChange) uint64 {
		if m.Kind == Removed {
			return m.Orig.BitOff
		}
		return m.Patched.BitOff
	}
	slices.SortStableFunc(c.Members, func(x, y MemberChange) int { return cmp.Compare(where(&x), where(&y)) })
	return c, a.Size != b.Size || len(c.Members) > 0
}

// place gives where a member lies, in bytes, and in bits for bit fields.
func (m *Member) place() string {
	s := fmt.Sprint(m.BitOff / 8)
	if m.BitField {
		s += fmt.Sprintf(" bit %d", m.BitOff%8)
	}
	return s
}

func (m *Member) width() string {
	if m.BitField {
		return fmt.Sprintf("%d bits", m.BitSize)
	}
	return fmt.Sprintf("%d bytes", m.BitSize/8)
}

// types gives the types of a member in both builds, resolved where they read the same.
func (c *MemberChange) types() (string, string) {
	if c.Orig.Type != c.Patched.Type {
		return c.Orig.Type, c.Patched.Type
	}
	if c.Orig.Resolved != c.Patched.Resolved {
		return c.Orig.Type + " (" + c.Orig.Resolved + ")", c.Patched.Type + " (" + c.Patched.Resolved + ")"
	}
	return c.Orig.Type + " of " + c.Orig.width(), c.Patched.Type + " of " + c.Patched.width()
}

// String says what became of a member: "b moved from 4 to 16".
func (c *MemberChange) String() string {
	switch c.Kind {
	case Added:
		return fmt.Sprintf("%s (%s) added at %s", c.Patched.Name, c.Patched.Type, c.Patched.place())
	case Removed:
		return fmt.Sprintf("%s (%s) removed from %s", c.Orig.Name, c.Orig.Type, c.Orig.place())
	case Renamed:
		return fmt.Sprintf("%s at %s renamed to %s", c.Orig.Name, c.Orig.place(), c.Patched.Name)
	case Retyped:
		from, to := c.types()
		s := fmt.Sprintf("%s retyped from %s to %s", c.Patched.Name, from, to)
		if c.Orig.BitOff != c.Patched.BitOff {
			s += fmt.Sprintf(" and moved from %s to %s", c.Orig.place(), c.Patched.place())
		}
		return s
	}
	return fmt.Sprintf("%s moved from %s to %s", c.Patched.Name, c.Orig.place(), c.Patched.place())
}

// String says what became of a structure, in one line, without the functions.
func (c *StructChange) String() string {
	const most = 8
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: ", c.Kind, c.Name)
	if c.OrigSize == c.PatchedSize {
		fmt.Fprintf(&b, "size %d as before", c.PatchedSize)
	} else {
		fmt.Fprintf(&b, "size %d -> %d", c.OrigSize, c.PatchedSize)
	}
	for i := range c.Members {
		if i == most {
			fmt.Fprintf(&b, "; %d more members", len(c.Members)-most)
			break
		}
		b.WriteString("; " + c.Members[i].String())
	}
	return b.String()
}

// StructSizes gives the sizes of structures by their names, of the first definition
// of each that the units have. Those that are not found are left out; see Err.
func (in *Info) StructSizes(names ...string) map[string]uint64 {
	out := make(map[string]uint64)
	in.ask(func() {
		r := in.dw.Reader()
		for len(out) < len(names) && in.spend(1) {
			e, err := r.Next()
			if err != nil {
				in.fail(fmt.Errorf("read DWARF: %w", err))
			}
			if err != nil || e == nil {
				return
			}
			switch e.Tag {
			case dwarf.TagCompileUnit, dwarf.TagPartialUnit:
				continue // what it holds comes next
			case dwarf.TagStructType:
				name, _ := e.Val(dwarf.AttrName).(string)
				size, ok := e.Val(dwarf.AttrByteSize).(int64)
				if _, have := out[name]; ok && !have && size >= 0 && slices.Contains(names, name) {
					out[name] = uint64(size)
				}
			}
			if e.Children {
				r.SkipChildren()
			}
		}
	})
	return out
}
