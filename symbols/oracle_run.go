package symbols

import (
	"debug/elf"
	"fmt"
	"slices"
	"strings"

	"github.com/kdelta/kdelta/pkg/object"
)

// special parts of .text, .data and so on that the kernel's link gathers apart.
var apart = [...]string{".text.unlikely", ".text.hot", ".text.startup", ".text.exit", ".text.unknown", ".text.fixup", ".data.once", ".data.unlikely"}

// region gives the input section that a section of an object stands for: -ffunction-sections and -fdata-sections cut
// .text into .text.f and so on; the link puts the parts where the whole would be.
func region(name string) string {
	for _, p := range apart {
		if rest, ok := strings.CutPrefix(name, p); ok && (rest == "" || rest[0] == '.') {
			return p
		}
	}
	for _, p := range [...]string{".text.", ".rodata.", ".data.", ".bss."} {
		if rest, ok := strings.CutPrefix(name, p); ok && !strings.HasPrefix(rest, ".") {
			return p[:len(p)-1]
		}
	}
	return name
}

// runWhy says why a run gave no answer.
type runWhy uint8

const (
	runNone     runWhy = iota // not asked
	runAnswer                 // it did
	runNoAnchor               // the object has no unique symbol in the section
	runNoRun                  // no unique symbol of the object's section on both sides of any namesake
	runSeveral                // several namesakes lie within
	runSelf                   // the object has several of that name itself
	runSize                   // the namesake is too small or large
)

// runs is where an object's symbols lie in a table without files.
type runs struct {
	to  []int32 // by the object's entry: place in the table's order, -1
	why []runWhy
	n   []int32 // runSeveral: how many
	gap [][2]int32
}

// stretch is an unbroken sequence of names that the object has too: between its first and last symbol that is unique
// in both, in one region.
type stretch struct {
	run    int32
	region int32
}

// findRuns places the object's duplicate symbols by the unique ones around them.
//
// Only names count: no name that the object does not have may lie in between. In vmlinux the unique ones must be
// of the same input section; in a module, where the order is that of the symbol table, they are the local ones.
func findRuns(f *object.File, ot *Table, x *index) *runs {
	r := &runs{to: make([]int32, len(ot.Entries)), why: make([]runWhy, len(ot.Entries)), n: make([]int32, len(ot.Entries)), gap: make([][2]int32, len(ot.Entries))}
	for i := range r.to {
		r.to[i] = -1
	}
	if x.t.Order == Unordered {
		return r
	}
	type ownName struct {
		entry int32
		n     int32
	}
	own := make(map[string]ownName, len(ot.Entries))
	for i := range ot.Entries {
		e := &ot.Entries[i]
		if e.Name == "" || e.Flags&(EntryMeta|EntryUndefined|EntryDiscarded) != 0 || x.module && !e.Local() {
			continue
		}
		o := own[e.Name]
		if o.n == 0 {
			o.entry = int32(i)
		}
		o.n++
		own[e.Name] = o
	}
	var places []int32
	for name := range own {
		if g, ok := x.names[name]; ok {
			for _, k := range x.members(g) {
				if !x.module || !x.entry(k).Global() {
					places = append(places, k)
				}
			}
		}
	}
	slices.Sort(places)
	regions := make(map[string]int32)
	regionOf := func(i int32) int32 {
		if x.module {
			return 0
		}
		sec := ot.Entries[i].Sec
		if sec == 0 || int(sec) >= len(f.Sections) {
			return -1
		}
		name := region(f.Sections[sec].Name)
		id, ok := regions[name]
		if !ok {
			id = int32(len(regions))
			regions[name] = id
		}
		return id
	}
	// through reports whether only names that come and go with the object's lie between two places.
	through := func(p, q int32) bool {
		if q-p > 8 {
			return false
		}
		for k := p + 1; k < q; k++ {
			e := x.entry(k)
			if x.module && (elf.SymType(e.Type) == elf.STT_FILE || discardable(e.Name)) {
				continue
			}
			if !x.pfx || len(e.Name) < 6 || e.Name[:6] != "__pfx_" && e.Name[:6] != "__cfi_" {
				return false
			}
			if _, ok := own[e.Name[6:]]; !ok {
				return false
			}
		}
		return true
	}
	runOf := make(map[int32]int32, len(places))
	ends := make(map[stretch][2]int32)
	anchored := make(map[int32]bool) // regions with a unique symbol
	run := int32(0)
	for i, k := range places {
		if i > 0 && !through(places[i-1], k) {
			run++
		}
		runOf[k] = run
		e := x.entry(k)
		o := own[e.Name]
		if o.n != 1 || x.count[x.group[k]] != 1 || !alike(&ot.Entries[o.entry], e) || elf.SymBind(ot.Entries[o.entry].Bind) == elf.STB_WEAK {
			continue
		}
		s := stretch{run, regionOf(o.entry)}
		if s.region < 0 {
			continue
		}
		anchored[s.region] = true
		if span, ok := ends[s]; ok {
			ends[s] = [2]int32{span[0], k}
		} else {
			ends[s] = [2]int32{k, k}
		}
	}
	for name, o := range own {
		g, ok := x.names[name]
		if !ok || x.count[g] < 2 || !ot.Entries[o.entry].Local() {
			continue
		}
		if o.n != 1 {
			r.why[o.entry], r.n[o.entry] = runSelf, o.n
			continue
		}
		i := o.entry
		reg := regionOf(i)
		r.why[i] = runNoRun
		if !anchored[reg] {
			r.why[i] = runNoAnchor
		}
		for _, k := range x.members(g) {
			n, isOwn := runOf[k]
			if !isOwn {
				continue
			}
			span, ok := ends[stretch{n, reg}]
			if !ok || k <= span[0] || k >= span[1] || !alike(&ot.Entries[i], x.entry(k)) {
				continue
			}
			r.n[i]++
			r.to[i], r.gap[i], r.why[i] = k, span, runAnswer
		}
		switch {
		case r.n[i] > 1:
			r.to[i], r.why[i] = -1, runSeveral
		case r.n[i] == 1 && !fits(&ot.Entries[i], x, r.to[i]):
			r.to[i], r.why[i] = -1, runSize
		}
	}
	return r
}

// alike reports whether an entry of the kernel can be what a symbol of the object became.
func alike(o, k *Entry) bool {
	if o.Local() && k.Global() || !o.Local() && k.Local() {
		return false
	}
	if k.Kind == 0 {
		return elf.SymType(k.Type) == elf.SymType(o.Type) || elf.SymType(k.Type) == elf.STT_NOTYPE || elf.SymType(o.Type) == elf.STT_NOTYPE
	}
	switch k.Kind {
	case 't', 'T':
		return o.Flags&EntryCode != 0
	case 'b', 'B', 'd', 'D', 'r', 'R', 'g', 'G', 's', 'S':
		return o.Flags&EntryCode == 0
	}
	return true
}

// fits compares sizes, where the kernel's is known, or the room that the symbol has there.
func fits(o *Entry, x *index, k int32) bool {
	e := x.entry(k)
	if e.Size != 0 && o.Size != 0 {
		return e.Size == o.Size
	}
	room := x.room(k)
	return room == 0 || o.Size <= room
}

func (r *runs) evidence(i int32, x *index) string {
	span := r.gap[i]
	return fmt.Sprintf("it lies between %s and %s, and all %d symbols there are the object's", x.entry(span[0]).Name, x.entry(span[1]).Name, span[1]-span[0]+1)
}

func (r *runs) reason(i int32, x *index) string {
	switch r.why[i] {
	case runSeveral:
		return fmt.Sprintf("%d symbols of this name in %s lie among the object's own", r.n[i], x.t.Name)
	case runSelf:
		return fmt.Sprintf("the object itself has %d symbols of this name", r.n[i])
	case runSize:
		return fmt.Sprintf("the symbol of this name among the object's own in %s has another size", x.t.Name)
	case runNoAnchor:
		return fmt.Sprintf("the object has no symbol in this section that is unique in %s, to place it by", x.t.Name)
	case runNoRun:
		return fmt.Sprintf("no symbol of this name in %s lies between unique symbols of the object's section", x.t.Name)
	}
	return ""
}
