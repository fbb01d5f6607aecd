package elfdiff

import (
	"bytes"
	"slices"
	"sort"

	"github.com/kdelta/kdelta/x86"
)

// Constants without a name (array initialisers, jump tables) lie side by side in
// one .rodata, and nothing says where one ends. Cutting at the next reference is
// unsound: f may read all 64 bytes while g reads from the 32nd on. But sometimes
// the code itself proves how far it reads (rule G1, "evidence"):
//
//   - an access of known width at a fixed place reads that many bytes;
//   - a copy (rep movs) with a constant count reads count times width;
//   - a jump or load by index, behind a bound check (cmp $n,%r; ja), reads n+1 entries.
//
// Only these bytes are compared then, with the references in them. Everything
// else compares the whole stretch.

// readExtents gives, for references of a function's code by the offset of their
// field, how many bytes from the target on the code reads. One walk.
func (g *Graph) readExtents(id AtomID, edges []Edge) map[uint64]uint64 {
	at := &g.Atoms[id]
	code := g.Bytes(id)
	out := make(map[uint64]uint64)
	sorted := slices.Clone(edges)
	slices.SortFunc(sorted, func(a, b Edge) int { return int(int64(a.Off) - int64(b.Off)) })
	field := func(off int) *Edge {
		o := at.Off + uint64(off)
		i := sort.Search(len(sorted), func(i int) bool { return sorted[i].Off >= o })
		if i < len(sorted) && sorted[i].Off == o {
			return &sorted[i]
		}
		return nil
	}
	var enter []int // where control may come from elsewhere
	w := x86.Walker{Code: code}
	for w.Next() {
		if fo, _, v, ok := w.Inst.Rel(w.Bytes()); ok && w.Inst.IsBranch() && w.Inst.Flow != x86.FlowCall && field(w.Off+int(fo)) == nil {
			enter = append(enter, w.Off+int(w.Inst.Len)+int(v))
		}
	}
	if w.Err != nil {
		return out
	}
	slices.Sort(enter)
	entered := func(from, to int) bool { // somebody jumps to (from, to]
		i := sort.SearchInts(enter, from+1)
		return i < len(enter) && enter[i] <= to
	}
	const none = -1
	type copying struct { // what a straight piece of code has prepared for rep movs
		source, count int // offsets of the loads; none
		field         uint64
		n             uint64
	}
	c := copying{source: none, count: none}
	// Behind a bound check at since, registers hold at most these values; none: not known.
	var bounds [16]int64
	since := none
	unbound := func() {
		since = none
		for i := range bounds {
			bounds[i] = none
		}
	}
	unbound()
	cmp := struct {
		at  int
		reg x86.Reg
		n   uint64
	}{at: none}
	w = x86.Walker{Code: code}
	for w.Next() {
		in, b := w.Inst, w.Bytes()
		if e := field(w.Off + int(in.DispOff)); in.DispLen == 4 && e != nil {
			n := accessWidth(in)
			if in.Flow == x86.FlowJmpInd {
				n = 8
			}
			if index, scale, ok := tableIndex(in); e.Indexed && ok && n != 0 && since != none && bounds[index] != none && bounds[index] < 1<<16 && !entered(since, w.Off) {
				out[e.Off] = uint64(bounds[index])*scale + n
			} else if !e.Indexed && !e.Taken && n != 0 {
				out[e.Off] = n
			}
		}
		if in.Flow != x86.FlowNone {
			above := in.Map == x86.MapOne && in.Opcode == 0x77 || in.Map == x86.Map0F && in.Opcode == 0x87 // ja
			switch {
			case above && cmp.at != none && !entered(cmp.at, w.Off):
				unbound()
				since, bounds[cmp.reg] = cmp.at, int64(cmp.n)
			case in.Flow != x86.FlowCond:
				unbound()
			}
			cmp.at = none
			c = copying{source: none, count: none}
			continue
		}
		if r, n, ok := comparesImm(in, b); ok {
			cmp.at, cmp.reg, cmp.n = w.Off, r, n
		} else if cmp.at != none && !keepsFlags(in) {
			cmp.at = none
		}
		mask, known := in.Writes(b)
		if since != none {
			from, to, copied := copies(in)
			value := int64(none)
			if copied {
				value = bounds[from]
			}
			for r := range bounds {
				if !known || mask.Has(x86.Reg(r)) {
					bounds[r] = none
				}
			}
			if copied {
				bounds[to] = value
			}
		}
		switch {
		case in.Map == x86.MapOne && (in.Opcode == 0xa4 || in.Opcode == 0xa5) && c.source != none:
			width := uint64(4)
			switch {
			case in.Opcode == 0xa4:
				width = 1
			case in.Prefix&x86.RexW != 0:
				width = 8
			case in.Prefix&x86.OpSize != 0:
				width = 2
			}
			if in.Prefix&x86.Rep != 0 {
				if c.count == none || entered(min(c.source, c.count), w.Off) || c.n > 1<<20 {
					c = copying{source: none, count: none}
					continue
				}
				width *= c.n
				c.count = none
			} else if entered(c.source, w.Off) {
				c = copying{source: none, count: none}
				continue
			}
			out[c.field] += width
			continue
		}
		if r, v, ok := in.LoadsImm(b); ok {
			e := field(w.Off + int(in.ImmOff))
			switch {
			case r == x86.SI && e != nil:
				c.source, c.field = w.Off, e.Off
				delete(out, e.Off)
				continue
			case r == x86.CX && e == nil:
				c.count, c.n = w.Off, v
				continue
			}
		}
		if c.source != none && !keepsOff(in, b, x86.SI) {
			if _, _, load := in.LoadsImm(b); !load {
				delete(out, c.field) // the address goes elsewhere as well
			}
			c.source = none
		}
		if c.count != none && (!known || mask.Has(x86.CX)) {
			c.count = none
		}
	}
	return out
}

// tableIndex gives the index register and scale of a memory operand disp32(,%index,scale).
func tableIndex(in x86.Inst) (x86.Reg, uint64, bool) {
	if in.ModOff == 0 || in.ModRM>>6 != 0 || in.ModRM&7 != 4 || in.SIB&7 != 5 {
		return 0, 0, false
	}
	r := x86.Reg(in.SIB >> 3 & 7)
	if in.Prefix&x86.RexX != 0 {
		r += 8
	}
	return r, 1 << (in.SIB >> 6), r != x86.SP
}

// comparesImm recognises cmp $imm,%reg of 32 or 64 bits.
func comparesImm(in x86.Inst, b []byte) (r x86.Reg, n uint64, ok bool) {
	if in.Map != x86.MapOne || in.Prefix&x86.OpSize != 0 {
		return 0, 0, false
	}
	imm := b[in.ImmOff : in.ImmOff+in.ImmLen]
	switch {
	case (in.Opcode == 0x83 || in.Opcode == 0x81) && in.ModRM>>6 == 3 && in.ModRM>>3&7 == 7:
		r = x86.Reg(in.ModRM & 7)
		if in.Prefix&x86.RexB != 0 {
			r += 8
		}
	case in.Opcode == 0x3d:
		r = x86.AX
	default:
		return 0, 0, false
	}
	n = leUint(imm)
	if imm[len(imm)-1]&0x80 != 0 {
		return 0, 0, false // negative: no bound
	}
	return r, n, true
}

// keepsFlags reports whether an instruction leaves the flags alone: moves do.
func keepsFlags(in x86.Inst) bool {
	if in.Map != x86.MapOne {
		return false
	}
	op := in.Opcode
	return op == 0x89 || op == 0x8b || op == 0x8d || op == 0xc7 || op >= 0xb8 && op <= 0xbf
}

// accessWidth gives the bytes that an instruction with a memory operand accesses
// there; 0 when that is not known here.
func accessWidth(in x86.Inst) uint64 {
	if in.Prefix&(x86.VEX|x86.EVEX|x86.XOP) != 0 || in.ModOff == 0 || in.ModRM>>6 == 3 {
		return 0
	}
	size := uint64(4)
	switch {
	case in.Prefix&x86.RexW != 0:
		size = 8
	case in.Prefix&x86.OpSize != 0:
		size = 2
	}
	op := in.Opcode
	switch in.Map {
	case x86.MapOne:
		switch {
		case op < 0x40 && op&7 < 4: // add, or, adc, sbb, and, sub, xor, cmp
			if op&1 == 0 {
				return 1
			}
			return size
		case op == 0x63:
			return 4 // movslq
		case op == 0x84, op == 0x86, op == 0x88, op == 0x8a, op == 0x80, op == 0xc6, op == 0xf6:
			return 1
		case op == 0x85, op == 0x87, op == 0x89, op == 0x8b, op == 0x81, op == 0x83, op == 0xc7, op == 0xf7, op == 0x69, op == 0x6b:
			return size
		}
	case x86.Map0F:
		switch {
		case op == 0xb6, op == 0xbe:
			return 1
		case op == 0xb7, op == 0xbf:
			return 2
		case op >= 0x40 && op <= 0x4f, op == 0xaf: // cmov, imul
			return size
		}
	}
	return 0
}

// narrowed compares two references into nameless constants by what the code
// proves to read. decided is false when it proves nothing.
func (k *comparer) narrowed(n nodeID, off uint64, ea, eb *Edge, tx, ty Target) (decided bool) {
	if k.inside || !k.a.Atoms[k.nodes[n].x].Kind.Code() {
		return false
	}
	if k.reads.node != n || k.reads.a == nil {
		k.reads.node = n
		k.reads.a = k.a.readExtents(k.nodes[n].x, k.ea)
		k.reads.b = k.b.readExtents(k.nodes[n].y, k.eb)
	}
	size := k.reads.a[ea.Off]
	if size == 0 || k.reads.b[eb.Off] != size {
		return false
	}
	dx, dy := k.a.rest(tx), k.b.rest(ty)
	if tx.Disp < 0 || ty.Disp < 0 || size > uint64(len(dx)) || size > uint64(len(dy)) {
		return false
	}
	if !bytes.Equal(dx[:size], dy[:size]) {
		k.fail(n, Cause{Kind: CauseConstant, Off: off, Orig: hexBytes(dx[:size], 0), Patched: hexBytes(dy[:size], 0)})
		return true
	}
	ax, ay := &k.a.Atoms[tx.Atom], &k.b.Atoms[ty.Atom]
	fx, fy := uint64(int64(ax.Off)+tx.Disp), uint64(int64(ay.Off)+ty.Disp)
	lx, _ := k.a.edgesIn(ax.Sec, fx, fx+size, false, nil, nil)
	ly, _ := k.b.edgesIn(ay.Sec, fy, fy+size, false, nil, nil)
	if len(lx) != len(ly) {
		k.fail(n, Cause{Kind: CauseConstant, Off: off, Orig: k.a.TargetText(tx), Patched: k.b.TargetText(ty)})
		return true
	}
	k.inside = true // references in what is read are not the code's own
	defer func() { k.inside = false }()
	for i := range lx {
		if lx[i].Off-fx != ly[i].Off-fy || lx[i].Type != ly[i].Type {
			k.fail(n, Cause{Kind: CauseConstant, Off: off, Orig: k.a.EdgeText(&lx[i]), Patched: k.b.EdgeText(&ly[i])})
			return true
		}
		k.target(n, off, &lx[i], &ly[i])
	}
	k.narrow++
	return true
}
