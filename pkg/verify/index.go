package verify

import (
	"cmp"
	"debug/elf"
	"hash/maphash"
	"slices"
	"sort"
	"strings"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/reloc"
)

// A patch is about few of the things that the objects of a pair hold, which may be a whole
// kernel. So the indices of a view are flat slices by symbol or section, made when somebody asks.

// nameIndex finds symbols by name: chains of symbols in the order of the file.
type nameIndex struct {
	seed maphash.Seed // of this index; nothing but the shape of the chains depends on it
	head []object.SymID
	next []object.SymID // by SymID
}

// defined reports whether a symbol names something that the file defines.
func defined(s *object.Symbol) bool {
	return s.Sec != 0 && s.Name != "" && s.Type() != elf.STT_SECTION && s.Type() != elf.STT_FILE
}

func (x *nameIndex) slot(name string) uint64 {
	return maphash.String(x.seed, name) & uint64(len(x.head)-1)
}

// ids gives the symbols of a name that the file defines, in order.
func (v *view) ids(name string) []object.SymID {
	x := v.names
	if x.head == nil {
		n := 1
		for n < len(v.f.Symbols) {
			n *= 2
		}
		x.seed, x.head, x.next = maphash.MakeSeed(), make([]object.SymID, n), make([]object.SymID, len(v.f.Symbols))
		for i := len(v.f.Symbols) - 1; i > 0; i-- {
			if s := &v.f.Symbols[i]; defined(s) {
				h := x.slot(s.Name)
				x.next[i], x.head[h] = x.head[h], object.SymID(i)
			}
		}
	}
	var out []object.SymID
	for id := x.head[x.slot(name)]; id != 0; id = x.next[id] {
		if v.f.Symbols[id].Name == name {
			out = append(out, id)
		}
	}
	return out
}

// symsOf gives the symbols that lie in a section, by value.
func (v *view) symsOf(sec object.SecID) []object.SymID {
	syms := v.f.Symbols
	if v.symLo == nil {
		v.symLo = make([]uint32, len(v.f.Sections)+2)
		for i := 1; i < len(syms); i++ {
			v.symLo[syms[i].Sec+2]++
		}
		for i := 1; i < len(v.symLo); i++ {
			v.symLo[i] += v.symLo[i-1]
		}
		v.syms = make([]object.SymID, len(syms))
		for i := 1; i < len(syms); i++ {
			at := &v.symLo[syms[i].Sec+1]
			v.syms[*at] = object.SymID(i)
			*at++
		}
	}
	l := v.syms[v.symLo[sec]:v.symLo[sec+1]]
	byValue := func(a, b object.SymID) int {
		return cmp.Or(cmp.Compare(syms[a].Value, syms[b].Value), cmp.Compare(a, b))
	}
	if !slices.IsSortedFunc(l, byValue) {
		slices.SortFunc(l, byValue)
	}
	return l
}

// sized reports whether a symbol covers a stretch of its section.
func sized(s *object.Symbol) bool {
	return s.Sec != 0 && s.Size != 0 && s.Type() != elf.STT_SECTION && s.Type() != elf.STT_FILE
}

// spansOf gives the stretches of a section that symbols with sizes cover, in order.
func (v *view) spansOf(sec object.SecID) []span {
	if v.spans[sec] != nil {
		return v.spans[sec]
	}
	l := []span{}
	in := &v.f.Sections[sec]
	for _, id := range v.symsOf(sec) {
		if s := &v.f.Symbols[id]; sized(s) && s.Value < in.Size && in.Flags&elf.SHF_MERGE == 0 {
			l = append(l, span{s.Value, min(s.Value+s.Size, in.Size), id})
		}
	}
	if len(l) > 1 {
		slices.SortFunc(l, func(a, b span) int {
			return cmp.Or(cmp.Compare(a.lo, b.lo), cmp.Compare(b.hi, a.hi), cmp.Compare(v.rank(a.sym), v.rank(b.sym)), cmp.Compare(a.sym, b.sym))
		})
	}
	out := l[:0]
	for _, s := range l {
		if n := len(out); n > 0 && s.lo < out[n-1].hi {
			out[n-1].hi = max(out[n-1].hi, s.hi)
			continue
		}
		out = append(out, s)
	}
	v.spans[sec] = out
	return out
}

// namesAt gives the names of a place: that of what it lies in, then all that start there.
func (v *view) namesAt(at site) []string {
	s := v.spanAt(at.sec, at.off)
	if s.sym == 0 {
		return nil
	}
	out := []string{v.f.Symbols[s.sym].Name}
	l := v.symsOf(at.sec)
	i := sort.Search(len(l), func(i int) bool { return v.f.Symbols[l[i]].Value >= at.off })
	for ; i < len(l) && v.f.Symbols[l[i]].Value == at.off; i++ {
		if s := &v.f.Symbols[l[i]]; defined(s) {
			out = append(out, s.Name)
		}
	}
	return out
}

// tableRule reports whether some row may describe a section of this name.
func (v *view) tableRule(name string) bool {
	if v.patterns == nil {
		v.patterns = map[string]bool{}
		for i := range v.rules.Tables {
			p, prefix := strings.CutSuffix(v.rules.Tables[i].Section, "*")
			if prefix {
				v.prefixes = append(v.prefixes, p)
			} else {
				v.patterns[p] = true
			}
			for k := range v.second {
				v.second[k] = v.second[k] || len(p) < 2 || p[1] == byte(k)
				v.third[k] = v.third[k] || len(p) < 3 || p[2] == byte(k)
			}
		}
	}
	if len(name) > 2 && !(v.second[name[1]] && v.third[name[2]]) { // as most names, .text.* and .data.*
		return false
	}
	return v.patterns[name] || slices.ContainsFunc(v.prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// entry is an entry of a table.
type entry struct {
	sec object.SecID
	off uint64
	row *elfdiff.Table
}

func (e *entry) size(v *view) uint64 {
	return min(uint64(e.row.Entry), v.f.Sections[e.sec].Size-e.off)
}

// sited is an entry with the name of its table and the place of the code that it belongs to.
type sited struct {
	table string
	at    uint64
	entry
}

// siteIndex is which entries belong to the code of which section.
type siteIndex struct {
	of     []bool   // by SecID: sections of code that were asked for; nil: all
	times  int      // of indexMore
	lo     []uint32 // by SecID: range in list
	list   []siteRef
	placed map[object.SecID][]sited // what was asked for
}

// siteRef is the relocation of an entry that says what the entry belongs to.
type siteRef struct {
	sec object.SecID // of the table
	rel uint32       // of its relocations by offset
}

// index finds the entries of all tables by the section of the code that they belong to.
func (v *view) index() {
	if x := &v.sites; x.lo == nil || x.of != nil {
		v.indexOf(nil)
	}
}

// known reports whether the entries for the code of a section were found already.
func (v *view) known(sec object.SecID) bool {
	x := &v.sites
	return x.lo != nil && (x.of == nil || x.of[sec])
}

// indexMore finds the entries for the code of some more sections, by SecID; after a few times those for all.
func (v *view) indexMore(of []bool) {
	x := &v.sites
	if x.times++; x.times > 4 || x.lo != nil && x.of == nil {
		v.index()
		return
	}
	for i := range x.of {
		of[i] = of[i] || x.of[i]
	}
	v.indexOf(of)
}

// tableSecs gives the sections that are tables, in order.
func (v *view) tableSecs() []object.SecID {
	if v.tableList == nil {
		v.tableList = []object.SecID{}
		for i := 1; i < len(v.f.Sections); i++ {
			if row, _ := v.row(object.SecID(i)); row != nil {
				v.tableList = append(v.tableList, object.SecID(i))
			}
		}
	}
	return v.tableList
}

// indexOf finds the entries that belong to the code of some sections, by SecID; nil: of all.
func (v *view) indexOf(of []bool) {
	x := &v.sites
	x.of = of
	x.placed = make(map[object.SecID][]sited)
	secOf := make([]object.SecID, len(v.f.Symbols)) // 0: nobody asks
	for i := range v.f.Symbols {
		if sec := v.f.Symbols[i].Sec; of == nil || of[sec] {
			secOf[i] = sec
		}
	}
	type found struct {
		to object.SecID
		siteRef
	}
	var all []found
	for _, sec := range v.tableSecs() {
		row, _ := v.row(sec)
		rs := v.f.RelocsOf(sec)
		for k := range rs.Len() {
			to := secOf[rs.Sym(k)]
			if to == 0 {
				continue
			}
			r := rs.At(k)
			if int(r.Off%uint64(row.Entry)) != row.Site || v.klp != nil && v.klp[site{sec, r.Off}] != nil {
				continue
			}
			if info, ok := reloc.Lookup(r.Type); !ok || info.Size == 0 {
				continue
			}
			all = append(all, found{to, siteRef{sec, uint32(k)}})
		}
	}
	x.lo = make([]uint32, len(v.f.Sections)+2)
	for i := range all {
		x.lo[all[i].to+2]++
	}
	for i := 1; i < len(x.lo); i++ {
		x.lo[i] += x.lo[i-1]
	}
	x.list = make([]siteRef, len(all))
	for i := range all {
		at := &x.lo[all[i].to+1]
		x.list[*at] = all[i].siteRef
		*at++
	}
}

// constAt gives the symbol whose value the kernel fills in to the instruction at a place.
func (v *view) constAt(at site) (name string, ok bool) {
	if v.consts == nil {
		v.consts = make(map[site]string)
		for _, sec := range v.tableSecs() {
			row, _ := v.row(sec)
			if row.Emit[0] != elfdiff.Constant {
				continue
			}
			for _, r := range v.relocs(sec) {
				if s := &v.f.Symbols[r.sym]; s.Sec != 0 && int(r.off%uint64(row.Entry)) == row.Site {
					v.consts[site{s.Sec, s.Value + uint64(r.addend) - 2}] = v.f.Sections[sec].Name
				}
			}
		}
	}
	name, ok = v.consts[at]
	return name, ok
}

// sitesIn gives the entries that belong to the code of a section, by table and place.
func (v *view) sitesIn(sec object.SecID) []sited {
	if !v.known(sec) {
		v.index()
	}
	x := &v.sites
	refs := x.list[x.lo[sec]:x.lo[sec+1]]
	if len(refs) == 0 {
		return nil
	}
	l, ok := x.placed[sec]
	if ok {
		return l
	}
	l = make([]sited, len(refs))
	for i, ref := range refs {
		r := v.f.RelocsOf(ref.sec).At(int(ref.rel))
		row, _ := v.row(ref.sec)
		l[i] = sited{v.f.Sections[ref.sec].Name, v.f.Symbols[r.Sym].Value + uint64(r.Addend), entry{ref.sec, r.Off - uint64(row.Site), row}}
	}
	slices.SortStableFunc(l, func(a, b sited) int { return cmp.Or(strings.Compare(a.table, b.table), cmp.Compare(a.at, b.at)) })
	x.placed[sec] = l
	return l
}

// sitesOf calls use for the entries that belong to a stretch of code: those of one table and place together.
func (v *view) sitesOf(sec object.SecID, lo, hi uint64, use func(entries []sited)) {
	l := v.sitesIn(sec)
	for len(l) > 0 {
		name := l[0].table
		n := sort.Search(len(l), func(i int) bool { return l[i].table > name })
		t := l[:n]
		l = l[n:]
		t = t[sort.Search(n, func(i int) bool { return t[i].at >= lo }):]
		for len(t) > 0 && t[0].at < hi {
			k := 1
			for k < len(t) && t[k].at == t[0].at {
				k++
			}
			use(t[:k])
			t = t[k:]
		}
	}
}

// entriesAt gives the entries of the tables of one name that belong to a place.
func (v *view) entriesAt(table string, at site) []sited {
	l := v.sitesIn(at.sec)
	find := func(table string, off uint64) int {
		return sort.Search(len(l), func(i int) bool {
			return cmp.Or(strings.Compare(l[i].table, table), cmp.Compare(l[i].at, off)) >= 0
		})
	}
	lo := find(table, at.off)
	hi := lo
	for hi < len(l) && l[hi].table == table && l[hi].at == at.off {
		hi++
	}
	return l[lo:hi]
}

// tableNames lists the names of the tables whose entries belong to code.
func (v *view) tableNames() []string {
	v.index()
	var out []string
	last := object.SecID(0)
	for _, ref := range v.sites.list {
		if ref.sec != last {
			last = ref.sec
			out = append(out, v.f.Sections[ref.sec].Name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// places calls use for each place that tables of one name have entries for, in order.
func (v *view) places(table string, use func(at site, entries []sited)) {
	v.index()
	for i := range v.f.Sections {
		sec := object.SecID(i)
		l := v.sitesIn(sec)
		if len(l) == 0 {
			continue
		}
		lo := sort.Search(len(l), func(i int) bool { return l[i].table >= table })
		for lo < len(l) && l[lo].table == table {
			hi := lo + 1
			for hi < len(l) && l[hi].table == table && l[hi].at == l[lo].at {
				hi++
			}
			use(site{sec, l[lo].at}, l[lo:hi])
			lo = hi
		}
	}
}
