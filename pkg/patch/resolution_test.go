package patch

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/reloc"
	"github.com/kdelta/kdelta/x86"
)

// ref is a reference of a piece, read from its bytes and relocations alone.
type ref struct {
	off  uint64 // of the field in the piece
	size uint64
	typ  elf.R_X86_64 // R_X86_64_NONE: an operand without a relocation
	sym  object.SymID // 0: a position in the piece's own section
	disp int64        // true displacement: from the symbol, or from the start of the section
	op   byte         // the byte before the field
}

// refsOf reads the references of data[from:to] of a section. It decodes the code
// itself, so that it shares nothing with the writer but the length of instructions.
func refsOf(f *object.File, sec object.SecID, from, to uint64, code bool) []ref {
	var out []ref
	bias := map[uint64]int64{} // by offset of the field: bytes to the end of the instruction
	rels := map[uint64]bool{}
	rs := f.RelocsOf(sec)
	lo, hi := rs.Range(from, to)
	for i := lo; i < hi; i++ {
		if r := rs.At(i); r.Type != elf.R_X86_64_NONE {
			rels[r.Off] = true
		}
	}
	if code {
		d := f.Sections[sec].Data[from:to]
		for at := 0; at < len(d); {
			in, err := x86.Decode(d[at:])
			if err != nil {
				break
			}
			end := from + uint64(at) + uint64(in.Len)
			for k := from + uint64(at); k < end; k++ {
				bias[k] = int64(end - k)
			}
			if off, size, v, ok := in.Rel(d[at:]); ok {
				field := from + uint64(at) + uint64(off)
				if pos := int64(end) + v; !rels[field] && (pos < int64(from) || pos >= int64(to)) {
					out = append(out, ref{off: field - from, size: uint64(size), disp: pos, op: d[at+int(off)-1]})
				}
			}
			at += int(in.Len)
		}
	}
	for i := lo; i < hi; i++ {
		r := rs.At(i)
		info, ok := reloc.Lookup(r.Type)
		if !ok || r.Type == elf.R_X86_64_NONE {
			continue
		}
		x := ref{off: r.Off - from, size: uint64(info.Size), typ: r.Type, sym: r.Sym, disp: r.Addend}
		if info.PCRel && code {
			x.disp += bias[r.Off]
		}
		if r.Off > from && code {
			x.op = f.Sections[sec].Data[r.Off-1]
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b ref) int { return int(a.off) - int(b.off) })
	return out
}

// placed is a piece of the patched object and where the plan says it lies in the patch.
type placed struct {
	atom     elfdiff.AtomID // 0 for pieces of excluded tables
	sec      object.SecID   // of the patched object
	off      uint64
	size     uint64
	code     bool
	outSec   object.SecID
	outOff   uint64
	referred bool
}

// checker compares a patch, read back from its bytes, with the patched object.
type checker struct {
	t      testing.TB
	out    *object.File
	pp     *pairPlan
	items  []placed
	klp    map[site]record
	consts map[site]bool // first byte of rewritten instructions, in the patched object
}

type site struct {
	sec object.SecID
	off uint64
}

// record is an entry of __klp_relocs.
type record struct {
	gate, object, name string
	pos                uint64
	addend             int64
	typ                elf.R_X86_64
	used               bool
}

// checkOutput reads the patch and compares it with what it was made from.
func checkOutput(t testing.TB, plan *Plan, data []byte) {
	t.Helper()
	out, err := object.Parse(data, object.Options{Name: "patch"})
	if err != nil {
		t.Fatal(err)
	}
	structure(t, out)
	records := klpRecords(t, out)
	next := object.SecID(1)
	for _, pp := range plan.pairs {
		if len(pp.atoms) == 0 {
			continue
		}
		c := &checker{t: t, out: out, pp: pp, klp: records, consts: map[site]bool{}}
		g, f := pp.Patched, pp.Patched.File
		outSec := map[object.SecID]object.SecID{}
		for i := range pp.sections {
			outSec[pp.sections[i].src] = next
			s, o := &f.Sections[pp.sections[i].src], &out.Sections[next]
			if s.Name != o.Name || s.Type != o.Type || s.Flags&^(elf.SHF_GROUP|elf.SHF_LINK_ORDER) != o.Flags || s.Addralign != o.Addralign || s.Entsize != o.Entsize {
				t.Errorf("section %s became %+v", s.Name, o)
			}
			next++
		}
		for _, a := range pp.atoms {
			at := &g.Atoms[a]
			c.items = append(c.items, placed{atom: a, sec: at.Sec, off: at.Off, size: at.Size, code: at.Kind == elfdiff.AtomFunc || at.Kind == elfdiff.AtomCode, outSec: outSec[at.Sec], outOff: pp.off[a]})
		}
		for i, p := range pp.sel.Pieces {
			c.items = append(c.items, placed{sec: p.Sec, off: p.Off, size: p.Size, outSec: outSec[p.Sec], outOff: pp.pieces[i]})
		}
		for _, a := range pp.sel.Constants {
			for _, r := range refsOf(f, g.Atoms[a].Sec, g.Atoms[a].Off, g.Atoms[a].Off+g.Atoms[a].Size, false) {
				c.consts[site{f.Symbols[r.sym].Sec, uint64(int64(f.Symbols[r.sym].Value)+r.disp) - 2}] = true
			}
		}
		c.placement()
		for i := range c.items {
			c.item(&c.items[i])
		}
		c.purpose()
		c.tables()
	}
	functions(t, plan, out)
	for at, r := range records {
		if !r.used {
			t.Errorf("%s+0x%x: livepatch relocation for %s, where the patched object has no reference", out.Sections[at.sec].Name, at.off, r.name)
		}
	}
}

// structure checks what every patch has to keep.
func structure(t testing.TB, out *object.File) {
	t.Helper()
	secSyms := map[object.SecID]bool{}
	names := map[string]bool{}
	for i := 1; i < len(out.Symbols); i++ {
		s := &out.Symbols[i]
		switch {
		case s.Bind() == elf.STB_LOCAL && s.Sec == 0 && s.Type() != elf.STT_FILE:
			t.Errorf("undefined local symbol %q", s.Name)
		case s.Type() == elf.STT_SECTION && secSyms[s.Sec]:
			t.Errorf("two section symbols for %s", out.Sections[s.Sec].Name)
		case s.Type() == elf.STT_SECTION:
			secSyms[s.Sec] = true
		case s.Bind() != elf.STB_LOCAL && names[s.Name]:
			t.Errorf("two global symbols %s", s.Name)
		case s.Bind() != elf.STB_LOCAL:
			names[s.Name] = true
		}
		if s.Sec != 0 && s.Value+s.Size > out.Sections[s.Sec].Size {
			t.Errorf("%s reaches beyond its section", s.Name)
		}
	}
	for i := 1; i < len(out.Sections); i++ {
		s := &out.Sections[i]
		rs := out.RelocsOf(object.SecID(i))
		end := uint64(0)
		for k := range rs.Len() {
			r := rs.At(k)
			info, ok := reloc.Lookup(r.Type)
			if !ok || !info.Module || r.Off+uint64(info.Size) > s.Size || r.Off < end {
				t.Errorf("%s+0x%x: relocation %v at a place of its own? (the one before ends at 0x%x)", s.Name, r.Off, r.Type, end)
				continue
			}
			end = r.Off + uint64(info.Size)
			for _, b := range s.Data[r.Off:end] {
				if b != 0 {
					t.Errorf("%s+0x%x: bytes under a relocation are not zero", s.Name, r.Off)
				}
			}
		}
	}
}

// klpRecords reads the lists of livepatch relocations and matches each with one
// ordinary relocation against the placeholder of the same name.
func klpRecords(t testing.TB, out *object.File) map[site]record {
	t.Helper()
	m := map[site]record{}
	for i := 1; i < len(out.Sections); i++ {
		s := &out.Sections[i]
		gate, ok := strings.CutPrefix(s.Name, klp.SecRelocs)
		if !ok || s.Type == elf.SHT_RELA {
			continue
		}
		rs := out.RelocsOf(object.SecID(i))
		if s.Size%24 != 0 || rs.Len() != int(s.Size/24*2) {
			t.Errorf("%s: %d bytes, %d relocations", s.Name, s.Size, rs.Len())
			continue
		}
		for k := 0; k < rs.Len(); k += 2 {
			where, what := rs.At(k), rs.At(k+1)
			base := uint64(k/2) * 24
			if where.Off != base || what.Off != base+8 || where.Type != elf.R_X86_64_64 || what.Type != elf.R_X86_64_64 || out.Symbols[where.Sym].Type() != elf.STT_SECTION {
				t.Errorf("%s: entry %d: %+v %+v", s.Name, k/2, where, what)
			}
			sym := &out.Symbols[what.Sym]
			r := record{gate: gate, addend: what.Addend, typ: elf.R_X86_64(binary.LittleEndian.Uint32(s.Data[base+16:]))}
			rest, ok1 := strings.CutPrefix(sym.Name, klp.SymPrefix)
			comma := strings.LastIndexByte(rest, ',')
			dot := strings.IndexByte(rest, '.')
			if !ok1 || dot < 1 || comma < dot || sym.Sec != 0 || sym.Bind() != elf.STB_WEAK {
				t.Errorf("%s: symbol %+v", s.Name, sym)
				continue
			}
			r.object, r.name = rest[:dot], rest[dot+1:comma]
			var err error
			if r.pos, err = strconv.ParseUint(rest[comma+1:], 10, 64); err != nil {
				t.Error(err)
			}
			at := site{out.Symbols[where.Sym].Sec, uint64(where.Addend)}
			if _, twice := m[at]; twice {
				t.Errorf("%s: two entries for one place", s.Name)
			}
			m[at] = r
			ordinary := out.RelocsOf(at.sec)
			lo, hi := ordinary.Range(at.off, at.off+1)
			if hi-lo != 1 {
				t.Errorf("%s+0x%x: %d ordinary relocations", out.Sections[at.sec].Name, at.off, hi-lo)
				continue
			}
			o := ordinary.At(lo)
			ts := &out.Symbols[o.Sym]
			if o.Type != r.typ || o.Addend != r.addend || ts.Name != klp.Tombstone+r.name || ts.Sec != 0 || ts.Bind() != elf.STB_WEAK {
				t.Errorf("%s+0x%x: ordinary relocation %+v against %s for %+v", out.Sections[at.sec].Name, at.off, o, ts.Name, r)
			}
		}
	}
	for i := 1; i < len(out.Sections); i++ {
		rs := out.RelocsOf(object.SecID(i))
		for k := range rs.Len() {
			r := rs.At(k)
			if _, ok := m[site{object.SecID(i), r.Off}]; !ok && strings.HasPrefix(out.Symbols[r.Sym].Name, klp.Tombstone) {
				t.Errorf("%s+0x%x: a placeholder without an entry", out.Sections[i].Name, r.Off)
			}
		}
	}
	return m
}

func (c *checker) errorf(it *placed, off uint64, format string, args ...any) {
	c.t.Helper()
	c.t.Errorf("%s+0x%x (%s): %s", c.pp.Patched.File.Sections[it.sec].Name, it.off+off, c.pp.Patched.Name(it.atom), fmt.Sprintf(format, args...))
}

// placement checks that pieces lie apart, and that code keeps its alignment.
func (c *checker) placement() {
	c.t.Helper()
	last := map[object.SecID]uint64{}
	for i := range c.items {
		it := &c.items[i]
		s := &c.pp.Patched.File.Sections[it.sec]
		if it.outOff < last[it.outSec] || it.outOff+it.size > c.out.Sections[it.outSec].Size {
			c.errorf(it, 0, "placed at 0x%x, over another piece or outside the section", it.outOff)
		}
		last[it.outSec] = it.outOff + it.size
		if align := max(s.Addralign, 1); it.atom != 0 && c.pp.Patched.Atoms[it.atom].Kind != elfdiff.AtomEntry && it.outOff%align != it.off%align {
			c.errorf(it, 0, "placed at 0x%x: another place modulo %d", it.outOff, align)
		}
	}
}

// holding gives the included piece that holds a position.
func (c *checker) holding(sec object.SecID, pos int64) *placed {
	for i := range c.items {
		it := &c.items[i]
		if it.sec == sec && pos >= int64(it.off) && pos < int64(it.off+it.size) {
			return it
		}
	}
	return nil
}

// item compares one piece with its copy: bytes outside the fields of references,
// and every reference.
func (c *checker) item(it *placed) {
	c.t.Helper()
	f := c.pp.Patched.File
	want := refsOf(f, it.sec, it.off, it.off+it.size, it.code)
	got := refsOf(c.out, it.outSec, it.outOff, it.outOff+it.size, it.code)
	if f.Sections[it.sec].Type != elf.SHT_NOBITS {
		a := bytes.Clone(f.Sections[it.sec].Data[it.off : it.off+it.size])
		b := bytes.Clone(c.out.Sections[it.outSec].Data[it.outOff : it.outOff+it.size])
		for _, l := range [][]ref{want, got} {
			for _, r := range l {
				clear(a[r.off : r.off+r.size])
				clear(b[r.off : r.off+r.size])
			}
		}
		for at := range c.consts {
			if at.sec == it.sec && at.off >= it.off && at.off < it.off+it.size {
				clear(a[at.off-it.off : at.off-it.off+10])
				clear(b[at.off-it.off : at.off-it.off+10])
			}
		}
		if !bytes.Equal(a, b) {
			c.errorf(it, 0, "bytes differ\n% x\n% x", a, b)
		}
	}
	got = slices.DeleteFunc(got, func(r ref) bool {
		rewritten := c.consts[site{it.sec, it.off + r.off - 3}]
		if rewritten {
			at := site{it.outSec, it.outOff + r.off}
			if k, ok := c.klp[at]; ok {
				k.used = true
				c.klp[at] = k
			}
		}
		return rewritten
	})
	if at := &c.pp.Patched.Atoms[it.atom]; it.atom != 0 && at.Kind == elfdiff.AtomEntry && len(got) < len(want) {
		// Replacement code of no length need not be there.
		row := &c.pp.Patched.Rules.Tables[at.Row-1]
		if row.Body != elfdiff.NoField && f.Sections[it.sec].Data[it.off+uint64(row.BodyLen)] == 0 {
			want = slices.DeleteFunc(want, func(r ref) bool { return r.off == uint64(row.Body) })
		}
	}
	if len(got) != len(want) {
		c.errorf(it, 0, "%d references, want %d\n%+v\n%+v", len(got), len(want), got, want)
		return
	}
	for i := range want {
		c.reference(it, &want[i], &got[i])
	}
}

// reference compares one reference with its copy by where they lead.
func (c *checker) reference(it *placed, want, got *ref) {
	c.t.Helper()
	f := c.pp.Patched.File
	// The type stays, and a resolved operand may become a relocation.
	if want.off != got.off || want.typ != got.typ && want.typ != elf.R_X86_64_NONE {
		c.errorf(it, want.off, "%+v became %+v", want, got)
		return
	}
	sec, pos := it.sec, want.disp
	var base int64 // what the position counts from, where a name says it
	named := false
	if want.typ != elf.R_X86_64_NONE {
		s := &f.Symbols[want.sym]
		sec = s.Sec
		if sec == 0 {
			// Not defined in this object: the name and the displacement say it all.
			g := &c.out.Symbols[got.sym]
			k, isKlp := c.klp[site{it.outSec, it.outOff + got.off}]
			switch {
			case isKlp:
				c.markUsed(it, got)
				if k.name != s.Name {
					c.errorf(it, want.off, "leads to %s, want %s", k.name, s.Name)
				}
			case g.Name != s.Name:
				c.errorf(it, want.off, "leads to %s, want %s", g.Name, s.Name)
			}
			if got.disp != want.disp {
				c.errorf(it, want.off, "%s%+d, want %+d", s.Name, got.disp, want.disp)
			}
			return
		}
		named = s.Type() != elf.STT_SECTION && !strings.HasPrefix(s.Name, ".L")
		base = int64(s.Value)
		pos += base
	}
	// Which piece is meant: that of the name, else that of the position.
	anchor := pos
	if named {
		anchor = base
	}
	target := c.holding(sec, anchor)
	_, isKlp := c.klp[site{it.outSec, it.outOff + got.off}]
	if isKlp {
		c.toKernel(it, want, got, sec, anchor, pos, target)
		return
	}
	if target == nil && f.Sections[sec].Size == 0 {
		g := &c.out.Symbols[got.sym]
		if g.Sec == 0 || c.out.Sections[g.Sec].Name != f.Sections[sec].Name || int64(g.Value)+got.disp != pos {
			c.errorf(it, want.off, "leads to %s%+d, want something empty in %s", g.Name, got.disp, f.Sections[sec].Name)
		}
		return
	}
	if g := &c.out.Symbols[got.sym]; target == nil && named && g.Undefined() && g.Name == f.Symbols[want.sym].Name && f.Symbols[want.sym].Bind() != elf.STB_LOCAL {
		if got.disp != want.disp { // exported by the kernel
			c.errorf(it, want.off, "%s%+d, want %+d", g.Name, got.disp, want.disp)
		}
		return
	}
	if target == nil {
		c.errorf(it, want.off, "leads to %s+0x%x, which is not in the patch, but the reference is", f.Sections[sec].Name, pos)
		return
	}
	target.referred = true
	if t := c.unitOf(target); t != nil && t.Main == target.atom && pos == int64(target.off) && c.pp.Delta.AtomStatus[target.atom] == elfdiff.Changed && c.takesAddress(it, want) {
		c.errorf(it, want.off, "takes the address of the replacement %s", c.pp.Patched.Name(target.atom))
	}
	outSec, outPos := it.outSec, got.disp
	if got.typ != elf.R_X86_64_NONE {
		s := &c.out.Symbols[got.sym]
		outSec, outPos = s.Sec, int64(s.Value)+got.disp
	}
	if w := int64(target.outOff) + pos - int64(target.off); outSec != target.outSec || outPos != w {
		c.errorf(it, want.off, "leads to %s+0x%x of the patch, want %s+0x%x", c.out.Sections[outSec].Name, outPos, c.out.Sections[target.outSec].Name, w)
	}
}

func (c *checker) unitOf(it *placed) *elfdiff.Unit {
	if it.atom == 0 || c.pp.Patched.Atoms[it.atom].Unit == 0 {
		return nil
	}
	return &c.pp.Patched.Units[c.pp.Patched.Atoms[it.atom].Unit]
}

// takesAddress reports whether a reference is neither a branch nor in a table.
func (c *checker) takesAddress(it *placed, r *ref) bool {
	if it.atom == 0 || c.pp.Patched.Atoms[it.atom].Kind == elfdiff.AtomEntry {
		return false
	}
	branch := r.op == 0xe8 || r.op == 0xe9 || r.op&0xf0 == 0x80 || r.size == 1 || r.op == 0xeb || r.op&0xf0 == 0x70
	return !it.code || r.typ == elf.R_X86_64_64 || r.typ == elf.R_X86_64_32 || r.typ == elf.R_X86_64_32S || !branch
}

func (c *checker) markUsed(it *placed, got *ref) record {
	at := site{it.outSec, it.outOff + got.off}
	k := c.klp[at]
	k.used = true
	c.klp[at] = k
	return k
}

// toKernel checks a reference that became one to the running kernel: the named
// symbol of the original and the displacement must give the place that
// corresponds to where the patched object's reference leads.
func (c *checker) toKernel(it *placed, want, got *ref, sec object.SecID, anchor, pos int64, target *placed) {
	c.t.Helper()
	k := c.markUsed(it, got)
	g := c.pp.Patched
	atom := g.AtomAt(sec, uint64(max(anchor, 0)))
	if target != nil {
		u := c.unitOf(target)
		if u == nil || u.Main != target.atom || !c.takesAddress(it, want) || pos != int64(target.off) {
			c.errorf(it, want.off, "leads to the running kernel's %s, though the patch holds the target", k.name)
		}
	}
	x := c.pp.Delta.OrigOf[atom]
	if x == 0 {
		c.errorf(it, want.off, "leads to the running kernel's %s, and the original has no such thing", k.name)
		return
	}
	o := c.pp.Orig
	ok := false
	for i := range o.File.Symbols {
		s := &o.File.Symbols[i]
		if s.Name == k.name && s.Sec == o.Atoms[x].Sec && int64(s.Value)+got.disp == int64(o.Atoms[x].Off)+pos-int64(g.Atoms[atom].Off) {
			ok = true
		}
	}
	if !ok {
		c.errorf(it, want.off, "leads to the running kernel's %s%+d, want what was at %s%+d", k.name, got.disp, o.Name(x), pos-int64(g.Atoms[atom].Off))
	}
	if k.object != c.pp.Object {
		c.errorf(it, want.off, "symbol of %s", k.object)
	}
}

// purpose checks that nothing is in the patch without a reason: what is not part
// of a function, and no entry of one, must be referred to.
func (c *checker) purpose() {
	c.t.Helper()
	for i := range c.items {
		it := &c.items[i]
		if it.atom == 0 || it.referred {
			continue
		}
		at := &c.pp.Patched.Atoms[it.atom]
		if at.Unit != 0 && at.Flag&elfdiff.FlagBody == 0 || at.Kind == elfdiff.AtomEntry || slices.Contains(c.pp.roots, it.atom) {
			continue
		}
		if at.Kind == elfdiff.AtomConst && i > 0 && c.items[i-1].atom == it.atom-1 {
			continue // the second half of a wide constant
		}
		c.errorf(it, 0, "nothing refers to this %v", at.Kind)
	}
}

// functions checks that the patch defines no function but those of included units.
func functions(t testing.TB, plan *Plan, out *object.File) {
	t.Helper()
	names := map[string]bool{}
	for _, pp := range plan.pairs {
		for i := range pp.Delta.Functions {
			f := &pp.Delta.Functions[i]
			if f.Status != elfdiff.Changed && f.Status != elfdiff.New {
				continue
			}
			for _, n := range slices.Concat([]string{f.Name}, f.Members, f.Aliases) {
				names[n] = true
			}
		}
	}
	for i := range out.Symbols {
		s := &out.Symbols[i]
		if s.Type() != elf.STT_FUNC || s.Sec == 0 {
			continue
		}
		n := strings.TrimPrefix(strings.TrimPrefix(s.Name, "__pfx_"), "__cfi_")
		if !names[s.Name] && !names[n] && !strings.HasPrefix(out.Sections[s.Sec].Name, ".altinstr") {
			t.Errorf("the patch defines %s, which neither changed nor is new", s.Name)
		}
	}
}

// tables checks that no entry of an included function is lost: as many sites lead
// into included code as in the patched object.
func (c *checker) tables() {
	c.t.Helper()
	f := c.pp.Patched.File
	for i := 1; i < len(f.Sections); i++ {
		s := &f.Sections[i]
		if !slices.Contains([]string{"__bug_table", ".altinstructions", "__ex_table", "__jump_table", "__mcount_loc"}, s.Name) || s.Size == 0 {
			continue
		}
		entry := uint64(8)
		if a := c.pp.Patched.AtomAt(object.SecID(i), 0); c.pp.Patched.Atoms[a].Kind == elfdiff.AtomEntry {
			entry = c.pp.Patched.Atoms[a].Size
		}
		want, got := 0, 0
		for _, r := range refsOf(f, object.SecID(i), 0, s.Size, false) {
			if r.off%entry == 0 && f.Symbols[r.sym].Sec != 0 {
				if it := c.holding(f.Symbols[r.sym].Sec, int64(f.Symbols[r.sym].Value)+r.disp); it != nil && it.code {
					want++
				}
			}
		}
		for k := range c.items {
			if it := &c.items[k]; it.sec == object.SecID(i) {
				for _, r := range refsOf(c.out, it.outSec, it.outOff, it.outOff+it.size, false) {
					if r.off%entry == 0 {
						got++
					}
				}
			}
		}
		if got != want {
			c.t.Errorf("%s: %d entries, want %d", s.Name, got, want)
		}
	}
}
