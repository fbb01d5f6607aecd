package elfdiff

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"strconv"

	"github.com/kdelta/kdelta/x86"
)

func hex(v uint64) string { return "0x" + strconv.FormatUint(v, 16) }

func dec(v uint64) string { return strconv.FormatUint(v, 10) }

// hexBytes shows up to 16 bytes of b from i.
func hexBytes(b []byte, i int) string {
	if i >= len(b) {
		return ""
	}
	return fmt.Sprintf("% x", b[i:min(len(b), i+16)])
}

func quote(b []byte) string {
	if n := len(b); n > 0 && b[n-1] == 0 {
		b = b[:n-1]
	}
	if len(b) > 120 {
		return strconv.Quote(string(b[:120])) + "..."
	}
	return strconv.Quote(string(b))
}

func leUint(b []byte) uint64 {
	var v [8]byte
	copy(v[:], b)
	return binary.LittleEndian.Uint64(v[:])
}

func firstDiff(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		if d := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); d != 0 {
			return i + bits.TrailingZeros64(d)/8
		}
	}
	for ; i < n && a[i] == b[i]; i++ {
	}
	return i
}

// TargetText names what a target is: an atom's name, the text of a string.
func (g *Graph) TargetText(t Target) string {
	if t.Atom == 0 {
		if t.Sym == 0 {
			return plus("0", t.Disp)
		}
		return plus(g.File.SymName(t.Sym), t.Disp)
	}
	at := &g.Atoms[t.Atom]
	if at.Kind == AtomString {
		b := g.Bytes(t.Atom)
		if t.Disp >= 0 && uint64(t.Disp) < uint64(len(b)) {
			return quote(b[t.Disp:])
		}
	}
	if at.Sym == 0 {
		return plus(g.File.Sections[at.Sec].Name, int64(at.Off)+t.Disp)
	}
	return plus(g.Name(t.Atom), t.Disp)
}

// EdgeText names where an edge leads and how.
func (g *Graph) EdgeText(e *Edge) string {
	s := g.TargetText(g.Resolve(e))
	if e.Kind == EdgeReloc {
		return e.Type.String() + " " + s
	}
	return s
}

func plus(name string, disp int64) string {
	switch {
	case disp == 0:
		return name
	case disp < 0:
		return name + "-" + hex(uint64(-disp))
	}
	return name + "+" + hex(uint64(disp))
}

// instText gives the instruction at pos of an atom, with the targets of its references.
func (g *Graph) instText(at *Atom, pos int) string {
	d := g.File.Sections[at.Sec].Data[at.Off : at.Off+at.Size]
	if pos >= len(d) {
		return "(end)"
	}
	in, err := x86.Decode(d[pos:])
	if err != nil {
		return hexBytes(d, pos)
	}
	pc := at.Off + uint64(pos)
	text := x86.Text(d[pos:], in, pc, nil)
	edges, _ := g.edgesIn(at.Sec, pc, pc+uint64(in.Len), true, nil, nil)
	for i := range edges {
		text += " {" + g.TargetText(g.Resolve(&edges[i])) + "}"
	}
	return text
}
