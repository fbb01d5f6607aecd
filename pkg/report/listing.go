package report

import (
	"fmt"
	"strconv"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/debuginfo"
	"github.com/kdelta/kdelta/x86"
)

// instruction is one line of a listing.
type instruction struct {
	off   uint64 // from the start of the atom
	size  int
	text  string
	key   string // equal in both builds when the instructions are: bytes without references, and what these lead to
	shape string // as key, but with the opcode alone: registers and numbers that the compiler chose are left out
}

// lister makes listings of two graphs whose keys can be compared.
type lister struct {
	delta   *elfdiff.Delta
	a, b    *elfdiff.Graph
	patched []elfdiff.AtomID // by AtomID of a: its pair in b

	info    *debuginfo.Info // of b
	inlined map[string]bool // see stable
}

func newLister(d *elfdiff.Delta, a, b *elfdiff.Graph) *lister {
	l := &lister{delta: d, a: a, b: b, patched: make([]elfdiff.AtomID, len(a.Atoms))}
	for y, x := range d.OrigOf {
		if x != 0 && int(x) < len(l.patched) {
			l.patched[x] = elfdiff.AtomID(y)
		}
	}
	return l
}

// identity names a target so that equal targets of both sides have one name.
func (l *lister) identity(g *elfdiff.Graph, t elfdiff.Target) string {
	if t.Atom != 0 && g.Atoms[t.Atom].Sym != 0 {
		switch {
		case g == l.a && l.patched[t.Atom] != 0:
			return "=" + strconv.FormatUint(uint64(t.Atom), 10) + "+" + strconv.FormatInt(t.Disp, 10)
		case g == l.b && int(t.Atom) < len(l.delta.OrigOf) && l.delta.OrigOf[t.Atom] != 0:
			return "=" + strconv.FormatUint(uint64(l.delta.OrigOf[t.Atom]), 10) + "+" + strconv.FormatInt(t.Disp, 10)
		}
	}
	return g.TargetText(t)
}

// listing gives the instructions of an atom. What does not decode is one line at the end.
func (l *lister) listing(g *elfdiff.Graph, a elfdiff.AtomID) []instruction {
	at := &g.Atoms[a]
	code := g.Bytes(a)
	edges, _ := g.Edges(a, nil)
	out := make([]instruction, 0, len(code)/4)
	w := x86.Walker{Code: code}
	var masked [16]byte
	for w.Next() {
		start, end := at.Off+uint64(w.Off), at.Off+uint64(w.Off)+uint64(w.Inst.Len)
		in := instruction{off: uint64(w.Off), size: int(w.Inst.Len)}
		raw := masked[:copy(masked[:], w.Bytes())]
		targets, text := "", ""
		for len(edges) > 0 && edges[0].Off < end {
			if e := &edges[0]; e.Off >= start {
				t := g.Resolve(e)
				targets += "|" + strconv.Itoa(int(e.Kind)) + l.identity(g, t)
				if text == "" {
					text = g.TargetText(t)
				} else {
					text += ", " + g.TargetText(t)
				}
				for i := e.Off - start; i < e.Off-start+uint64(e.Size) && i < uint64(len(raw)); i++ {
					raw[i] = 0
				}
			}
			edges = edges[1:]
		}
		off, size, rel, relative := w.Inst.Rel(w.Bytes())
		switch {
		case w.Inst.IsBranch() && text != "":
			in.text = branchText(&w, text)
		case w.Inst.IsBranch() && relative:
			for i := off; i < off+size; i++ {
				raw[i] = 0 // where it leads inside the function moves with the code between
			}
			in.text = branchText(&w, place("", int64(w.Off)+int64(w.Inst.Len)+rel))
		default:
			in.text = x86.Text(w.Bytes(), w.Inst, start, nil)
			if text != "" {
				in.text += " {" + text + "}"
			}
		}
		in.key = string(raw) + targets
		reg := byte(0)
		if op := w.Inst.Opcode; w.Inst.ModOff != 0 && w.Inst.Map == 0 && (op == 0x80 || op == 0x81 || op == 0x83 || op == 0xc1 || op == 0xd1 || op == 0xd3 || op == 0xf6 || op == 0xf7 || op == 0xff) {
			reg = w.Inst.ModRM >> 3 & 7 // part of the opcode
		}
		op := w.Inst.Opcode
		if w.Inst.Map == 0 && op >= 0x50 && op < 0x60 {
			op &^= 7
		}
		in.shape = string([]byte{byte(w.Inst.Map), op, reg}) + targets
		out = append(out, in)
	}
	if w.Err != nil {
		rest := code[w.Off:]
		text := fmt.Sprintf("%d bytes that do not decode: % x", len(rest), rest[:min(len(rest), 16)])
		out = append(out, instruction{off: uint64(w.Off), size: len(rest), text: text, key: string(rest), shape: string(rest)})
	}
	return out
}

// branchText gives a branch with its target in words instead of an address.
func branchText(w *x86.Walker, target string) string {
	text := x86.Text(w.Bytes(), w.Inst, 0, nil)
	for i := range text {
		if text[i] == ' ' {
			return text[:i+1] + target
		}
	}
	return text + " " + target
}

// place gives a position in a part: "f+0x10", or "+0x10".
func place(name string, off int64) string {
	if off < 0 {
		return name + "-" + hex(uint64(-off))
	}
	return name + "+" + hex(uint64(off))
}

// step is a line of two listings laid side by side: indices into them, -1 where a side has nothing.
type step struct{ a, b int }

// maxCells bounds the work of laying out two listings; beyond it, what lies
// between their common ends counts as different.
const maxCells = 4 << 20

// align lays two lists of keys side by side, with as many equal pairs as possible.
func align(a, b []string) []step {
	out := make([]step, 0, max(len(a), len(b)))
	lo := 0
	for lo < len(a) && lo < len(b) && a[lo] == b[lo] {
		out = append(out, step{lo, lo})
		lo++
	}
	tail := 0
	for tail < len(a)-lo && tail < len(b)-lo && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	x, y := a[lo:len(a)-tail], b[lo:len(b)-tail]
	n, m := len(x), len(y)
	if n > 0 && m > 0 && n*m <= maxCells {
		// best[i][j]: the longest common subsequence of x[i:] and y[j:].
		best := make([]uint16, (n+1)*(m+1))
		for i := n - 1; i >= 0; i-- {
			for j := m - 1; j >= 0; j-- {
				if x[i] == y[j] {
					best[i*(m+1)+j] = best[(i+1)*(m+1)+j+1] + 1
				} else {
					best[i*(m+1)+j] = max(best[(i+1)*(m+1)+j], best[i*(m+1)+j+1])
				}
			}
		}
		i, j := 0, 0
		for i < n && j < m {
			switch {
			case x[i] == y[j]:
				out = append(out, step{lo + i, lo + j})
				i++
				j++
			case best[(i+1)*(m+1)+j] >= best[i*(m+1)+j+1]:
				out = append(out, step{lo + i, -1})
				i++
			default:
				out = append(out, step{-1, lo + j})
				j++
			}
		}
		x, y = x[i:], y[j:]
		for k := range x {
			out = append(out, step{lo + i + k, -1})
		}
		for k := range y {
			out = append(out, step{-1, lo + j + k})
		}
	} else {
		for k := range x {
			out = append(out, step{lo + k, -1})
		}
		for k := range y {
			out = append(out, step{-1, lo + k})
		}
	}
	for k := range tail {
		out = append(out, step{len(a) - tail + k, len(b) - tail + k})
	}
	return out
}

func keys(list []instruction, f func(*instruction) string) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = f(&list[i])
	}
	return out
}

func keyOf(i *instruction) string   { return i.key }
func shapeOf(i *instruction) string { return i.shape }
