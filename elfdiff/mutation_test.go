package elfdiff_test

import (
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/elfdiff/internal/testutil"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/reloc"
	"github.com/kdelta/kdelta/x86"
)

// The mutation test at full length:
//
//	go test ./elfdiff -run 'TestMutations$' -v -mutations 24000
var (
	mutations    = flag.Int("mutations", 0, "how many mutations TestMutations draws; 0: a few thousand")
	mutationSeed = flag.Uint64("mutationseed", 1, "the seed of TestMutations")
)

// What TestMutations changes.
const (
	mutCode     = iota // a byte of code
	mutData            // a byte of a named variable or constant
	mutString          // a character of a string
	mutConstant        // a byte of a constant without a name: mergeable, switch table, initialiser
	mutTable           // a byte of a table entry
	mutAddend          // of a relocation
	mutType            // of a relocation
	mutTarget          // the symbol of a relocation
	mutField           // a byte under a relocation
	mutLine            // a byte of the line field of a __bug_table entry
	mutExcluded        // any byte of a section that the rules exclude
	mutKinds
)

var mutNames = [mutKinds]string{"code byte", "data byte", "string character", "constant byte", "table field", "addend", "relocation type", "relocation target", "byte under a relocation", "line of a table entry", "excluded section"}

// In 256 draws, so many are of each kind. What is known to count for nothing is
// drawn rarely, often enough to see that each names itself: excluded sections
// (ORC, notes, lists derived from the code), which are large, and the line
// fields of __bug_table, which are a sixth of every small table. All other kinds
// draw from everything that is compared.
var mutWeight = [mutKinds]int{50, 30, 30, 30, 30, 30, 26, 25, 3, 1, 1}

// What became of a mutation.
const (
	outReported   = "reported: the owner"
	outRefused    = "refused"
	outLine       = "relaxation: line"
	outPadding    = "relaxation: padding"
	outEmpty      = "relaxation: empty-replacement"
	outCall       = "relaxation: PLT32 is PC32 in a static link (psABI 4.4.1)"
	outSame       = "no mutation: the reference means the same as before"
	outUnused     = "padding between data, nobody refers to it"
	outExcluded   = "exclusion"
	outUnread     = "reported: in the byte counts alone (nobody reads it)"
	outElsewhere  = "SURVIVOR: reported, but not the owner"
	outSilent     = "SURVIVOR: silent"
	outUntyped    = "SURVIVOR: untyped error"
	outUnattended = "reported: by its section (nobody refers to it)"
)

// TestMutations changes one thing in the loaded contents of an object, many
// times, and compares the result with the object as it was. The owner of the
// changed bytes must be reported, or the object refused, or the difference falls
// under a relaxation or exclusion that says so. Who the owner is follows from the
// symbol table and the relocations alone (see oracle), not from the differ's graph.
func TestMutations(t *testing.T) {
	total := *mutations
	if total == 0 {
		if total = 4000; testing.Short() {
			total = 2000
		}
	}
	var paths, fixtures []string
	for _, dir := range []string{"cve", "kpatch", "fixes"} {
		for _, p := range testutil.SharedPairs(dir) {
			paths = append(paths, p.Orig, p.Patched)
		}
	}
	for _, p := range testutil.FixturePairs(t) {
		fixtures = append(fixtures, p.Orig, p.Patched)
	}
	var subjects []*mutator
	has := [mutKinds][2][]*mutator{} // by kind: objects of kernels, fixtures
	for i, path := range slices.Concat(paths, fixtures) {
		m, err := newMutator(t, path)
		if err != nil {
			continue // refused as it is: TestCases judges it
		}
		subjects = append(subjects, m)
		which := 0
		if i >= len(paths) {
			which = 1
		}
		for kind := range has {
			if len(m.secs[kind]) > 0 {
				has[kind][which] = append(has[kind][which], m)
			}
		}
	}
	// First a kind, then objects of kernels or fixtures (which hold every kind of piece), then an object.
	r := rand.New(rand.NewPCG(*mutationSeed, 0))
	for range total {
		kind := 0
		for x := r.IntN(256); x >= mutWeight[kind]; kind++ {
			x -= mutWeight[kind]
		}
		list := has[kind][r.IntN(2)]
		if len(list) == 0 {
			list = slices.Concat(has[kind][:]...)
		}
		m := list[r.IntN(len(list))]
		m.draws = append(m.draws, kind)
	}
	var mu sync.Mutex
	counts := [mutKinds]map[string]int{}
	for i := range counts {
		counts[i] = map[string]int{}
	}
	excluded := map[string]int{}
	jobs := make(chan *mutator)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for m := range jobs {
				m.data = bytes.Clone(m.g.File.Data)
				r := rand.New(rand.NewPCG(*mutationSeed, uint64(len(m.data))))
				for _, kind := range m.draws {
					where, out, detail := m.mutate(kind, r)
					if reason := mutationGap(m, out, where); reason != "" {
						t.Logf("known gap: %s: %s (%s)", m.name, where, reason)
						out = "known gap"
					}
					mu.Lock()
					counts[kind][out]++
					if out == outExcluded {
						excluded[detail]++
					}
					mu.Unlock()
					if strings.HasPrefix(out, "SURVIVOR") {
						t.Errorf("%s: %s: %s: %s %s", m.name, mutNames[kind], where, out, detail)
					}
				}
				m.data = nil
			}
		})
	}
	for _, m := range subjects {
		jobs <- m
	}
	close(jobs)
	wg.Wait()
	drawn, relaxed := 0, 0
	sums := map[string]int{}
	for kind, m := range counts {
		n := 0
		for _, k := range m {
			n += k
		}
		drawn += n
		t.Logf("%-24s %6d drawn", mutNames[kind], n)
		for _, o := range outcomes(m) {
			sums[o] += m[o]
			t.Logf("    %6d %s", m[o], o)
		}
	}
	t.Logf("%-24s %6d drawn", "all", drawn)
	for _, o := range outcomes(sums) {
		t.Logf("    %6d %s", sums[o], o)
		switch o {
		case outLine, outPadding, outEmpty, outCall, outUnused, outExcluded:
			relaxed += sums[o]
		}
	}
	t.Logf("exclusions: %v", excluded)
	t.Logf("%d of %d (%.2f%%) under a relaxation or exclusion", relaxed, drawn, 100*float64(relaxed)/float64(drawn))
	most := 2
	if len(paths) == 0 {
		most = 3 // fixtures hold each relaxation on purpose
	}
	if relaxed*100 > drawn*most {
		t.Errorf("more than %d%% of the draws fall under relaxations and exclusions", most)
	}
}

// mutationGap gives the reason why the differ gets a mutation wrong today.
func mutationGap(m *mutator, out, where string) string {
	if out == outElsewhere && strings.HasPrefix(where, "__jump_table+") && (strings.Contains(m.name, "replace-section-references") || strings.Contains(m.name, "special-static-2")) {
		return "an even number of 24-byte entries is taken for entries of 16"
	}
	return ""
}

func outcomes[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// mutator changes one object in place, again and again.
type mutator struct {
	name  string
	g     *elfdiff.Graph
	data  []byte // the copy that is changed; as the original between two mutations
	o     *oracle
	draws []int
	// By kind: the sections drawn from, with the running sum of bytes (or relocations).
	secs [mutKinds][]object.SecID
	ends [mutKinds][]uint64
}

func newMutator(t testing.TB, path string) (*mutator, error) {
	g, err := testutil.Load(t, path)
	if err != nil {
		return nil, err
	}
	dir, base := filepath.Split(path)
	m := &mutator{name: filepath.Base(dir) + "/" + base, g: g, o: newOracle(g.File)}
	f := g.File
	for i := range f.Sections {
		s := &f.Sections[i]
		if !s.Alloc() || len(s.Data) == 0 {
			continue
		}
		id := object.SecID(i)
		add := func(kind int, n int) {
			if n > 0 {
				sum := uint64(0)
				if k := len(m.ends[kind]); k > 0 {
					sum = m.ends[kind][k-1]
				}
				m.secs[kind] = append(m.secs[kind], id)
				m.ends[kind] = append(m.ends[kind], sum+uint64(n))
			}
		}
		if m.o.excluded[i] != "" {
			add(mutExcluded, len(s.Data))
			continue
		}
		n, free := f.RelocsOf(id).Len(), len(s.Data)
		real := 0 // relocations that mean anything
		for j := range n {
			if r := f.RelocsOf(id).At(j); r.Type != elf.R_X86_64_NONE {
				info, _ := reloc.Lookup(r.Type)
				free -= int(info.Size)
				real++
			}
		}
		if real == 0 {
			n = 0
		}
		for _, kind := range []int{mutAddend, mutType, mutTarget, mutField} {
			add(kind, n)
		}
		switch {
		case free <= 0:
		case m.o.entry[i] != 0:
			add(mutTable, len(s.Data))
			if lo, _ := m.o.lineField(id); lo > 0 {
				add(mutLine, len(s.Data))
			}
		case s.Exec():
			add(mutCode, len(s.Data))
		case s.Strings():
			add(mutString, len(s.Data))
		case s.Flags&elf.SHF_MERGE != 0 || !m.o.hasObjects(id):
			add(mutConstant, len(s.Data))
		default:
			add(mutData, len(s.Data))
		}
	}
	return m, nil
}

// mutate draws one mutation of a kind, compares, and takes it back.
func (m *mutator) mutate(kind int, r *rand.Rand) (where, out, detail string) {
	f := m.g.File
	ends := m.ends[kind]
	x := r.Uint64N(ends[len(ends)-1])
	i := sort.Search(len(ends), func(i int) bool { return ends[i] > x })
	if r.IntN(2) == 0 { // every other draw: all sections alike, so that small ones have their turn
		i = r.IntN(len(ends))
		lo := uint64(0)
		if i > 0 {
			lo = ends[i-1]
		}
		x = lo + r.Uint64N(ends[i]-lo)
	}
	sec := m.secs[kind][i]
	s := &f.Sections[sec]
	at := x // in the section: a byte, or a relocation
	if i > 0 {
		at -= ends[i-1]
	}
	rs := f.RelocsOf(sec)
	var pos uint64 // in the file
	var field []byte
	off := at // of the mutated byte in the section
	var old, cur object.Reloc
	switch kind {
	case mutAddend, mutType, mutTarget, mutField:
		old = rs.At(int(at))
		cur, off = old, old.Off
		pos = f.Sections[s.Rela].Offset + uint64(rs.FileIndex(int(at)))*24
		field = binary.LittleEndian.AppendUint64(nil, old.Off)
		switch kind {
		case mutField:
			info, ok := reloc.Lookup(old.Type)
			if !ok || info.Size == 0 {
				return m.mutate(kind, r)
			}
			pos = s.Offset + old.Off + r.Uint64N(uint64(info.Size))
			field = []byte{m.data[pos] ^ byte(1+r.IntN(255))}
		case mutAddend:
			switch r.IntN(3) {
			case 0:
				cur.Addend ^= 1 << r.IntN(7)
			case 1:
				cur.Addend ^= 1 << r.IntN(64)
			default:
				cur.Addend += int64(r.IntN(129) - 64)
			}
		case mutType:
			cur.Type = objTypes[r.IntN(len(objTypes))]
		case mutTarget:
			cur.Sym = object.SymID(1 + r.IntN(len(f.Symbols)-1))
		}
		if kind != mutField {
			if cur == old || old.Type == elf.R_X86_64_NONE {
				return m.mutate(kind, r)
			}
			field = binary.LittleEndian.AppendUint64(field, uint64(cur.Sym)<<32|uint64(cur.Type))
			field = binary.LittleEndian.AppendUint64(field, uint64(cur.Addend))
		}
		where = fmt.Sprintf("%s+0x%x %v %s%+d -> %v %s%+d", s.Name, old.Off, old.Type, f.SymName(old.Sym), old.Addend, cur.Type, f.SymName(cur.Sym), cur.Addend)
	default:
		if kind != mutExcluded && m.o.relocated(sec, at) {
			return m.mutate(kind, r) // a kind of its own
		}
		if lo, n := m.o.lineField(sec); (kind == mutLine) != (lo > 0 && at%n >= lo && at%n < lo+2) {
			return m.mutate(kind, r)
		}
		pos = s.Offset + at
		c := m.data[pos]
		switch r.IntN(3) {
		case 0:
			c ^= 1 << r.IntN(8)
		case 1:
			c += byte(1 + r.IntN(255))
		default:
			c ^= byte(1 + r.IntN(255))
		}
		field = []byte{c}
		where = fmt.Sprintf("%s+0x%x %02x -> %02x", s.Name, at, m.data[pos], c)
	}
	keep := bytes.Clone(m.data[pos : pos+uint64(len(field))])
	copy(m.data[pos:], field)
	out, detail = m.judge(kind, sec, off, old, cur)
	copy(m.data[pos:], keep)
	return where, out, detail
}

// objTypes are relocation types that a mutation may come to.
var objTypes = []elf.R_X86_64{elf.R_X86_64_NONE, elf.R_X86_64_64, elf.R_X86_64_PC32, elf.R_X86_64_PLT32, elf.R_X86_64_GOTPCREL, elf.R_X86_64_32, elf.R_X86_64_32S, elf.R_X86_64_16, elf.R_X86_64_PC16,
	elf.R_X86_64_8, elf.R_X86_64_PC8, elf.R_X86_64_PC64, elf.R_X86_64_TPOFF32, elf.R_X86_64_COPY, elf.R_X86_64_SIZE32, elf.R_X86_64_REX_GOTPCRELX, 200}

// judge compares the mutated object and says what became of the mutation.
func (m *mutator) judge(kind int, sec object.SecID, off uint64, old, cur object.Reloc) (out, detail string) {
	refused := func(err error) (string, string) {
		if typed(err) {
			return outRefused, ""
		}
		return outUntyped, err.Error()
	}
	h, err := testutil.Analyze(m.data, "mutated.o")
	if err != nil {
		return refused(err)
	}
	d, err := elfdiff.Diff(context.Background(), m.g, h, &elfdiff.Options{NoDirectives: true}) // what a source asks to ignore is drawn like everything else
	if err != nil {
		return refused(err)
	}
	f := m.g.File
	if kind == mutExcluded {
		name := f.Sections[sec].Name
		for _, x := range d.Excluded {
			if x.Section == name && x.Orig > 0 && x.Reason != "" {
				return outExcluded, name + " (" + x.Reason + ")"
			}
		}
		return outSilent, "excluded sections do not name themselves"
	}
	rows := rowsOf(m.g, h, d)
	owners := m.o.owners(sec, off)
	missing := []string{}
	byLine, bySection := false, false
	for _, o := range owners {
		ok, line, section := rows.tell(f, o)
		if !ok {
			missing = append(missing, o.text(f))
		}
		byLine = byLine || line
		bySection = bySection || section
	}
	switch {
	case len(missing) == 0 && byLine:
		return outLine, ""
	case len(missing) == 0 && bySection:
		return outUnattended, ""
	case len(missing) == 0:
		return outReported, ""
	}
	uses := func(name string) bool {
		return slices.ContainsFunc(d.Relaxations, func(r elfdiff.Relaxation) bool { return r.Name == name && r.Enabled && r.Uses > 0 })
	}
	same := d.Same()
	unread := len(rows.rows) == 0 && f.Sections[sec].Strings() && len(owners) == 1 && len(owners[0].syms) == 0 // the head of a string of which only the tail is used
	switch {
	case cur != old && m.o.means(sec, old) == m.o.means(sec, cur) && old.Type == cur.Type:
		return outSame, ""
	case cur != old && m.o.call(old) && m.o.call(cur) && old.Type != cur.Type && old.Sym == cur.Sym && old.Addend == cur.Addend:
		return outCall, ""
	case same && m.o.emptyBody(sec, off) && uses("empty-replacement"):
		return outEmpty, ""
	case same && f.Sections[sec].Exec() && m.o.filler(sec, off) && uses("padding"):
		return outPadding, ""
	case !same && unread:
		return outUnread, ""
	case same:
		return outSilent, fmt.Sprintf("owners: %v", missing)
	}
	return outElsewhere, fmt.Sprintf("owners without a report: %v\n%s", missing, dump(d))
}

// reported are the functions and data that a Delta calls different, with the places they have on either side.
type reported struct {
	rows     []reportedRow
	sections map[string]bool // nameless data that is listed
}

type reportedRow struct {
	names []string
	line  bool
	at    [][3]uint64 // section, from, to
}

func rowsOf(g, h *elfdiff.Graph, d *elfdiff.Delta) *reported {
	out := &reported{sections: map[string]bool{}}
	place := func(r *reportedRow, g *elfdiff.Graph, ids ...elfdiff.AtomID) {
		for _, a := range ids {
			if a != 0 {
				at := &g.Atoms[a]
				r.at = append(r.at, [3]uint64{uint64(at.Sec), at.Off, at.Off + at.Size})
			}
		}
	}
	differs := func(s elfdiff.Status, causes []elfdiff.Cause) (differs, line bool) {
		lines := len(causes) > 0 && !slices.ContainsFunc(causes, func(c elfdiff.Cause) bool { return c.Kind != elfdiff.CauseLine })
		line = lines && (s == elfdiff.LineOnly || s == elfdiff.Unchanged)
		return line || s != elfdiff.Unchanged && s != elfdiff.LineOnly, line
	}
	for i := range d.Functions {
		f := &d.Functions[i]
		yes, line := differs(f.Status, f.Causes)
		if !yes {
			continue
		}
		r := reportedRow{names: slices.Concat([]string{f.Name, f.OrigName}, f.Aliases, f.Members), line: line}
		place(&r, g, g.Units[f.Orig].Members...)
		place(&r, h, h.Units[f.Patched].Members...)
		out.rows = append(out.rows, r)
	}
	for i := range d.Data {
		x := &d.Data[i]
		yes, line := differs(x.Status, x.Causes)
		if !yes {
			continue
		}
		r := reportedRow{names: []string{x.Name, x.OrigName}, line: line}
		place(&r, g, x.Orig)
		place(&r, h, x.Patched)
		// A datum has one name of several.
		for _, y := range g.File.Symbols {
			if x.Orig != 0 && y.Sec == g.Atoms[x.Orig].Sec && y.Value == g.Atoms[x.Orig].Off {
				r.names = append(r.names, y.Name)
			}
		}
		out.rows = append(out.rows, r)
		if !line && x.Name == x.Section {
			out.sections[x.Section] = true
		}
	}
	return out
}

// tell reports whether one of an owner's names is reported, at its place.
func (r *reported) tell(f *object.File, o owner) (ok, line, section bool) {
	for _, id := range o.syms {
		s := &f.Symbols[id]
		for i := range r.rows {
			row := &r.rows[i]
			if slices.Contains(row.names, s.Name) && slices.ContainsFunc(row.at, func(p [3]uint64) bool { return p[0] == uint64(s.Sec) && s.Value >= p[1] && s.Value < p[2] }) {
				return true, row.line, false
			}
		}
	}
	for _, id := range o.section {
		if r.sections[f.Sections[id].Name] {
			return true, false, true
		}
	}
	return false, false, false
}

// oracle attributes bytes to functions and data by the symbol table and the
// relocations. It knows nothing of atoms and units. Its rules: a byte belongs to
// the symbols that cover it; under no symbol, in code to the symbol before or
// behind, in data to whoever refers to the nearest place before it (of a string,
// to all who refer to it up to there); an entry of a table belongs to the function
// that its first reference leads to, replacement code to that of its entry.
type oracle struct {
	f        *object.File
	excluded []string            // by section: why it is not compared
	entry    []uint64            // by section: bytes of a table's entry, 0 for other sections
	syms     [][]object.SymID    // by section: names, by value
	refs     [][]reference       // by section: references into it, by position
	bias     map[[2]uint64]uint8 // section and offset of a PC-relative field -> bytes to the end of its instruction
	seen     map[[2]uint64]bool  // against circles
}

type reference struct {
	pos  int64
	sec  object.SecID // of the field
	off  uint64
	name bool // by a symbol's name, not by a position
}

// owner is one function or datum, under any of its names.
type owner struct {
	syms    []object.SymID
	section []object.SecID // nameless data: a row of one of these sections will do
}

func (o owner) text(f *object.File) string {
	var out []string
	for _, s := range o.syms {
		out = append(out, f.Symbols[s].Name)
	}
	for _, s := range o.section {
		out = append(out, "section "+f.Sections[s].Name)
	}
	return strings.Join(out, " or ")
}

// entrySizes are the sizes that the entries of tables may have, by section. The first that fits is it: the
// section is a multiple of it, every entry's first field has a relocation.
var entrySizes = map[string][]uint64{
	"__bug_table": {16, 12, 8}, ".altinstructions": {14, 12, 13}, "__ex_table": {12, 8}, "__jump_table": {16, 24}, ".static_call_sites": {8}, ".smp_locks": {4}, ".parainstructions": {16, 12},
	"runtime_ptr_": {4}, "runtime_shift_": {4},
}

func newOracle(f *object.File) *oracle {
	n := len(f.Sections)
	o := &oracle{f: f, excluded: make([]string, n), entry: make([]uint64, n), syms: make([][]object.SymID, n), refs: make([][]reference, n), bias: map[[2]uint64]uint8{}}
	for i := range f.Symbols {
		s := &f.Symbols[i]
		if s.Sec != 0 && s.Type() != elf.STT_SECTION && s.Type() != elf.STT_FILE && s.Name != "" && !strings.HasPrefix(s.Name, ".L") {
			o.syms[s.Sec] = append(o.syms[s.Sec], object.SymID(i))
		}
	}
	rules := testutil.Rules()
	for i := range f.Sections {
		s := &f.Sections[i]
		slices.SortStableFunc(o.syms[i], func(x, y object.SymID) int { return cmp.Compare(f.Symbols[x].Value, f.Symbols[y].Value) })
		if !s.Alloc() || len(s.Data) == 0 {
			continue
		}
		for _, x := range rules.Ignore {
			if p, ok := strings.CutSuffix(x.Section, "*"); s.Name == x.Section || ok && strings.HasPrefix(s.Name, p) {
				o.excluded[i] = x.Reason
			}
		}
		for _, x := range rules.Tables {
			if x.Exclude != "" && x.Section == s.Name {
				o.excluded[i] = x.Exclude
			}
		}
		name := s.Name
		if strings.HasPrefix(name, "runtime_") {
			name = name[:strings.IndexByte(name[8:], '_')+9]
		}
		for _, size := range entrySizes[name] {
			if name == "__jump_table" && size == 16 && f.RelocsOf(object.SecID(i)).Len() > 0 && f.RelocsOf(object.SecID(i)).At(0).Type == elf.R_X86_64_64 {
				continue // three absolute addresses
			}
			last := (uint64(len(s.Data))+size-1)/size*size - size
			fits := uint64(len(s.Data))%size == 0 || name == ".parainstructions" && uint64(len(s.Data))%size == 12
			for at := uint64(0); fits && at <= last; at += size {
				fits = o.relocAt(object.SecID(i), at)
			}
			if fits {
				o.entry[i] = size
				break
			}
		}
		if s.Exec() {
			o.decode(object.SecID(i))
		}
	}
	for i := range f.Sections {
		s := &f.Sections[i]
		if !s.Alloc() || o.excluded[i] != "" {
			continue
		}
		rs := f.RelocsOf(object.SecID(i))
		for j := range rs.Len() {
			r := rs.At(j)
			if y := &f.Symbols[r.Sym]; y.Sec != 0 && r.Type != elf.R_X86_64_NONE {
				o.refs[y.Sec] = append(o.refs[y.Sec], reference{o.position(object.SecID(i), r), object.SecID(i), r.Off, y.Type() != elf.STT_SECTION && !strings.HasPrefix(y.Name, ".L")})
			}
		}
	}
	for i := range o.refs {
		slices.SortStableFunc(o.refs[i], func(x, y reference) int { return cmp.Compare(x.pos, y.pos) })
	}
	return o
}

func (o *oracle) relocAt(sec object.SecID, off uint64) bool {
	rs := o.f.RelocsOf(sec)
	lo, hi := rs.Range(off, off+1)
	return lo < hi
}

// decode notes how far it is from each relative field to the end of its instruction, and the references that the assembler resolved.
func (o *oracle) decode(sec object.SecID) {
	f := o.f
	d := f.Sections[sec].Data
	cuts := []uint64{0}
	for _, y := range o.syms[sec] {
		if v := f.Symbols[y].Value; v < uint64(len(d)) {
			cuts = append(cuts, v)
		}
	}
	cuts = append(slices.Compact(cuts), uint64(len(d)))
	for i := 1; i < len(cuts); i++ {
		w := x86.Walker{Code: d[cuts[i-1]:cuts[i]]}
		for w.Next() {
			start := cuts[i-1] + uint64(w.Off)
			for k := uint8(1); k < w.Inst.Len; k++ {
				o.bias[[2]uint64{uint64(sec), start + uint64(k)}] = w.Inst.Len - k
			}
			if fo, _, v, ok := w.Inst.Rel(w.Bytes()); ok && !o.relocAt(sec, start+uint64(fo)) {
				if t := int64(start) + int64(w.Inst.Len) + v; t < int64(cuts[i-1]) || t >= int64(cuts[i]) {
					o.refs[sec] = append(o.refs[sec], reference{t, sec, start + uint64(fo), false})
				}
			}
		}
	}
}

// position gives where a relocation leads, in its symbol's section.
func (o *oracle) position(sec object.SecID, r object.Reloc) int64 {
	v := int64(o.f.Symbols[r.Sym].Value) + r.Addend
	if info, ok := reloc.Lookup(r.Type); ok && info.PCRel && o.f.Sections[sec].Exec() {
		if b, ok := o.bias[[2]uint64{uint64(sec), r.Off}]; ok {
			return v + int64(b)
		}
		return v + int64(info.Size)
	}
	return v
}

// means gives what a relocation leads to, as text: equal texts, equal meaning.
func (o *oracle) means(sec object.SecID, r object.Reloc) string {
	y := &o.f.Symbols[r.Sym]
	if y.Sec == 0 || !o.f.Sections[y.Sec].Alloc() || y.Bind() == elf.STB_WEAK {
		return fmt.Sprintf("symbol %d%+d", r.Sym, r.Addend)
	}
	pos := o.position(sec, r)
	s := &o.f.Sections[y.Sec]
	if n := o.entry[sec]; n != 0 && o.f.Sections[sec].Name == ".altinstructions" && r.Off%n == 4 && pos >= 0 {
		if size := int64(o.f.Sections[sec].Data[r.Off-4+o.bodyLen(sec)]); pos+size <= int64(len(s.Data)) && !o.relocated(y.Sec, uint64(pos)) {
			return fmt.Sprintf("replacement % x", s.Data[pos:pos+size])
		}
	}
	if !s.Strings() && s.Flags&elf.SHF_MERGE != 0 && s.Entsize > 0 && pos >= 0 && uint64(pos)%s.Entsize == 0 && uint64(pos) < uint64(len(s.Data)) {
		return fmt.Sprintf("constant % x", s.Data[pos:uint64(pos)+s.Entsize])
	}
	if s.Strings() && pos >= 0 {
		if b, ok := object.StringAt(s.Data, uint64(pos), int(s.Entsize)); ok {
			return fmt.Sprintf("string %q of width %d", b, s.Entsize)
		}
	}
	return fmt.Sprintf("section %d%+d", y.Sec, pos)
}

// call reports whether a relocation is one that branches have, to code of this object.
func (o *oracle) call(r object.Reloc) bool {
	y := &o.f.Symbols[r.Sym]
	return (r.Type == elf.R_X86_64_PC32 || r.Type == elf.R_X86_64_PLT32) && y.Sec != 0 && o.f.Sections[y.Sec].Exec()
}

func (o *oracle) relocated(sec object.SecID, off uint64) bool {
	rs := o.f.RelocsOf(sec)
	lo, hi := rs.Range(max(off, 7)-7, off+1)
	for ; lo < hi; lo++ {
		r := rs.At(lo)
		if info, ok := reloc.Lookup(r.Type); ok && off < r.Off+uint64(info.Size) {
			return true
		}
	}
	return false
}

// lineField gives the offset of the line in the entries of __bug_table, and their size; 0 when there is none.
func (o *oracle) lineField(sec object.SecID) (lo, size uint64) {
	size = o.entry[sec]
	if o.f.Sections[sec].Name != "__bug_table" || size < 12 {
		return 0, 1
	}
	return size - 4, size
}

func (o *oracle) hasObjects(sec object.SecID) bool { return len(o.syms[sec]) > 0 }

// emptyBody reports whether an offset is that of the reference to replacement code of no length.
func (o *oracle) emptyBody(sec object.SecID, off uint64) bool {
	if o.f.Sections[sec].Name != ".altinstructions" || o.entry[sec] == 0 || off%o.entry[sec] != 4 {
		return false
	}
	return o.f.Sections[sec].Data[off-4+o.bodyLen(sec)] == 0
}

// bodyLen gives the offset of the length of the replacement in an entry of .altinstructions.
func (o *oracle) bodyLen(sec object.SecID) uint64 {
	if o.entry[sec] == 14 {
		return 13
	}
	return 11
}

// filler reports whether a byte of code lies under no symbol with a size, or behind the code of one without.
func (o *oracle) filler(sec object.SecID, off uint64) bool {
	return len(o.covering(sec, off)) == 0
}

// covering gives the symbols whose extent holds an offset.
func (o *oracle) covering(sec object.SecID, off uint64) (out []object.SymID) {
	for _, id := range o.syms[sec] {
		s := &o.f.Symbols[id]
		if s.Value > off {
			break
		}
		if off-s.Value < s.Size {
			out = append(out, id)
		}
	}
	return out
}

// around gives the symbols nearest before and behind an offset that none covers: those that end last before it,
// those without a size since, and the next ones.
func (o *oracle) around(sec object.SecID, off uint64) (out []object.SymID) {
	end, next := uint64(0), ^uint64(0)
	for _, id := range o.syms[sec] {
		s := &o.f.Symbols[id]
		if s.Value <= off {
			end = max(end, s.Value+s.Size)
		} else {
			next = min(next, s.Value)
		}
	}
	for _, id := range o.syms[sec] {
		if s := &o.f.Symbols[id]; s.Value == next || s.Value <= off && (s.Value+s.Size == end || s.Size == 0 && s.Value >= o.gapStart(sec, off)) {
			out = append(out, id)
		}
	}
	return out
}

// gapStart gives where the symbols with a size before an offset end.
func (o *oracle) gapStart(sec object.SecID, off uint64) (end uint64) {
	for _, id := range o.syms[sec] {
		if s := &o.f.Symbols[id]; s.Value <= off && s.Size > 0 {
			end = max(end, s.Value+s.Size)
		}
	}
	return end
}

// owners gives all who must be reported when the byte at off changes.
func (o *oracle) owners(sec object.SecID, off uint64) []owner {
	o.seen = map[[2]uint64]bool{}
	out := o.find(sec, off)
	if len(out) == 0 {
		out = []owner{{section: []object.SecID{sec}}}
	}
	return out
}

func (o *oracle) find(sec object.SecID, off uint64) []owner {
	key := [2]uint64{uint64(sec), off}
	if o.seen[key] {
		return nil
	}
	o.seen[key] = true
	f := o.f
	s := &f.Sections[sec]
	if n := o.entry[sec]; n != 0 {
		rs := f.RelocsOf(sec)
		lo, hi := rs.Range(off-off%n, off-off%n+1)
		if lo < hi {
			if r := rs.At(lo); f.Symbols[r.Sym].Sec != 0 {
				out := o.find(f.Symbols[r.Sym].Sec, uint64(o.position(sec, r)))
				for i := range out {
					if len(o.covering(f.Symbols[r.Sym].Sec, uint64(o.position(sec, r)))) == 0 { // code without a name: the entry may be nobody's
						out[i].section = append(out[i].section, sec)
					}
				}
				return out
			}
		}
		return []owner{{section: []object.SecID{sec}}}
	}
	if c := o.covering(sec, off); len(c) > 0 {
		if s.Strings() { // a name for a string (clang): its users are what counts
			return o.readers(sec, off)
		}
		return []owner{{syms: c}}
	}
	switch {
	case s.Name == ".altinstr_replacement":
		return o.replaced(sec, off)
	case s.Exec() && len(o.syms[sec]) > 0:
		return []owner{{syms: o.around(sec, off), section: []object.SecID{sec}}}
	}
	return o.readers(sec, off)
}

// replaced gives the functions whose alternatives bring the code at off.
func (o *oracle) replaced(sec object.SecID, off uint64) (out []owner) {
	for _, r := range o.refs[sec] {
		if n := o.entry[r.sec]; n != 0 && o.f.Sections[r.sec].Name == ".altinstructions" && r.off%n == 4 {
			size := o.f.Sections[r.sec].Data[r.off-4+o.bodyLen(r.sec)]
			if int64(off) >= r.pos && int64(off) < r.pos+int64(size) {
				out = append(out, o.find(r.sec, r.off-4)...)
			}
		}
	}
	return out
}

// readers gives the owners of the references to the nearest place before off that anything refers to; of a string, of all up to there.
func (o *oracle) readers(sec object.SecID, off uint64) (out []owner) {
	s := &o.f.Sections[sec]
	list := o.refs[sec]
	hi := sort.Search(len(list), func(i int) bool { return list[i].pos > int64(off) })
	from, read := int64(0), false
	// A name means what it names; the site of a table entry is where something happens, not where control comes from.
	skip := func(r *reference) bool {
		return r.name && !s.Strings() || s.Exec() && o.entry[r.sec] != 0 && r.off%o.entry[r.sec] == 0
	}
	switch {
	case s.Strings():
		w := s.Entsize
		at := off - off%w
		for at >= w && !zeroAt(s.Data, at-w, w) {
			at -= w
		}
		from = int64(at)
	case s.Flags&elf.SHF_MERGE != 0 && s.Entsize > 0:
		from = int64(off - off%s.Entsize)
	default:
		// From the nearest reference on, but not across a name.
		for _, id := range o.syms[sec] {
			if y := &o.f.Symbols[id]; y.Value <= off {
				from = max(from, int64(y.Value+y.Size))
			}
		}
		for i := hi - 1; i >= 0; i-- {
			if !skip(&list[i]) {
				from = max(from, list[i].pos)
				break
			}
		}
	}
	for i := hi - 1; i >= 0 && list[i].pos >= from; i-- {
		if skip(&list[i]) {
			continue
		}
		read = true
		out = append(out, o.find(list[i].sec, list[i].off)...)
	}
	if !read {
		own := owner{section: []object.SecID{sec}}
		for _, id := range o.syms[sec] {
			if o.f.Symbols[id].Size == 0 {
				own.syms = append(own.syms, id)
			}
		}
		return []owner{own}
	}
	return out
}

func zeroAt(d []byte, at, w uint64) bool {
	for _, c := range d[at : at+w] {
		if c != 0 {
			return false
		}
	}
	return true
}
