package elfdiff

import (
	"encoding/binary"
	"math/bits"

	"github.com/kdelta/kdelta/symbols"
)

// A Fingerprint names what a function is made of, as far as one object shows it: a
// key under which a build system may keep what it knows of the function. It is never a
// verdict; Diff does not look at it.
//
// It is the same in every run and with every version of Go, on every machine, and does
// not depend on where the function lies in the object nor on the order of sections and
// symbols. Version is part of it: it changes when the definition does.
type Fingerprint [16]byte

const fingerprintVersion = 1

// Fingerprint hashes a unit: its parts in order (kind, size, bytes; the fields of
// operands that the assembler resolved and that lead out of the part count as zero), and
// where their references lead. A target with a name counts as its family (symbols.Key),
// with the displacement; a string as its text; other data without a name as its bytes and
// the names that it refers to, without what lies behind. The entries of tables that
// belong to the function count the same way, without their line numbers.
//
// Functions that Diff finds equal may have two fingerprints (numbers in names that mean
// nothing, line numbers in code), and functions with one may differ in what data without
// a name leads to at the second step, or in which of two static functions of one name they call.
func (g *Graph) Fingerprint(u UnitID) Fingerprint {
	h := newPrint()
	h.u64(fingerprintVersion)
	unit := &g.Units[u]
	var edges []Edge
	for _, m := range unit.Members {
		if g.Atoms[m].Kind == AtomPad && g.Atoms[m].Flag&FlagPrefix == 0 {
			continue
		}
		edges = g.printAtom(&h, m, true, edges)
	}
	for _, e := range unit.Entries {
		row := &g.Rules.Tables[g.Atoms[e].Row-1]
		h.string(row.Section)
		edges = g.printAtom(&h, e, true, edges)
	}
	return h.sum()
}

// printAtom hashes an atom; deep: the contents of what it refers to without a name as well.
func (g *Graph) printAtom(h *printer, a AtomID, deep bool, buf []Edge) []Edge {
	at := &g.Atoms[a]
	h.u64(uint64(at.Kind)<<56 | uint64(at.Flag&(FlagPrefix|FlagCold))<<48 | at.Size)
	data := g.Bytes(a)
	var edges []Edge
	if deep {
		buf, _ = g.Edges(a, buf[:0])
		edges = buf
	} else {
		edges, _ = g.Edges(a, nil)
	}
	if at.Kind == AtomEntry {
		if row := &g.Rules.Tables[at.Row-1]; row.Line != NoField && row.Line+row.LineSize <= len(data) {
			data = append([]byte(nil), data...)
			clear(data[row.Line : row.Line+row.LineSize])
		}
	}
	pos := 0
	for i := range edges { // what lies between the fields, and zeros for these
		e := &edges[i]
		off := int(e.Off - at.Off)
		if e.Kind == EdgeReloc || off < pos || off+int(e.Size) > len(data) {
			continue // zero already (rule G7)
		}
		h.bytes(data[pos:off])
		pos = off + int(e.Size)
	}
	h.bytes(data[min(pos, len(data)):])
	for i := range edges {
		e := &edges[i]
		h.u64((e.Off-at.Off)<<16 | uint64(e.Type)<<8 | uint64(e.Kind))
		t := g.Resolve(e)
		if t.Atom == 0 {
			if t.Sym != 0 {
				h.string(symbols.Key(g.File.SymName(t.Sym)))
			}
			h.u64(uint64(t.Disp))
			continue
		}
		ta := &g.Atoms[t.Atom]
		switch {
		case ta.Kind == AtomString && g.stringBytes(t) != nil:
			h.bytes(g.stringBytes(t))
		case ta.Sym != 0 && ta.Flag&FlagContent == 0:
			h.string(symbols.Key(g.File.Symbols[ta.Sym].Name))
			h.u64(uint64(t.Disp))
		case deep && ta.Kind != AtomEntry && ta.Kind != AtomExcluded:
			h.u64(uint64(t.Disp))
			g.printAtom(h, t.Atom, false, nil)
		default:
			h.u64(uint64(ta.Kind))
		}
	}
	return buf
}

// printer is a hash of 128 bits: two lanes of hasher with different multipliers. Like
// that one it is fast and the same everywhere, and does not withstand an adversary.
type printer struct {
	a hasher
	b uint64
}

func newPrint() printer { return printer{a: 0x6b64656c7461, b: 0x66696e6765727072} }

func (p *printer) u64(v uint64) {
	p.a.u64(v)
	hi, lo := bits.Mul64(p.b^bits.RotateLeft64(v, 29)^0xa0761d6478bd642f, 0xe7037ed1a0b428db)
	p.b = hi ^ lo
}

func (p *printer) bytes(b []byte) {
	p.u64(uint64(len(b)))
	for ; len(b) >= 8; b = b[8:] {
		p.u64(binary.LittleEndian.Uint64(b))
	}
	p.u64(leUint(b))
}

func (p *printer) string(s string) { p.bytes([]byte(s)) }

func (p *printer) sum() (f Fingerprint) {
	a, b := *p, *p
	a.u64(1)
	b.u64(2)
	binary.LittleEndian.PutUint64(f[:], uint64(a.a)^a.b)
	binary.LittleEndian.PutUint64(f[8:], uint64(b.a)+b.b)
	return f
}
