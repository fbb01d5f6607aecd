package elfdiff

import (
	"bytes"
	"debug/elf"
	"math/bits"
	"slices"
)

// startWords is how many words hold a bit for each byte of code.
func startWords(size uint64) int { return int(size/64) + 1 }

// walk is what a walk over a piece of code found.
type walk struct {
	edges   []Edge
	starts  []uint64 // bit i: an instruction starts at i
	decoded bool     // see Edges
}

// walk goes over code, into the memory of w.
func (g *Graph) walk(a AtomID, w *walk) {
	at := &g.Atoms[a]
	n := startWords(at.Size)
	w.starts = slices.Grow(w.starts[:0], n)[:n]
	clear(w.starts)
	w.edges, w.decoded = g.edgesIn(at.Sec, at.Off, at.Off+at.Size, true, w.edges[:0], w.starts)
}

// walkLike makes the walk over atom y of g from that over atom x of h, which has the same bytes, into the memory of w: where
// relocations are at the same places and of the same types, only where they lead is another matter. Nobody asks it for starts.
func (g *Graph) walkLike(y AtomID, h *Graph, x AtomID, like, w *walk) bool {
	ax, ay := &h.Atoms[x], &g.Atoms[y]
	rs := g.File.RelocsOf(ay.Sec)
	lo, hi := rs.Range(ay.Off, ay.Off+ay.Size)
	w.edges = append(w.edges[:0], like.edges...)
	w.starts, w.decoded = nil, like.decoded
	for i := range w.edges {
		e := &w.edges[i]
		e.Off += ay.Off - ax.Off
		if e.Kind != EdgeReloc {
			e.Sec = ay.Sec
			e.Disp += int64(ay.Off - ax.Off)
			continue
		}
		for lo < hi && rs.At(lo).Type == elf.R_X86_64_NONE {
			lo++
		}
		if lo == hi {
			return false
		}
		r := rs.At(lo)
		if lo++; r.Off != e.Off || r.Type != e.Type {
			return false
		}
		e.Sym, e.Sec, e.Disp = r.Sym, g.File.Symbols[r.Sym].Sec, r.Addend+int64(e.Bias)
	}
	for ; lo < hi; lo++ {
		if rs.At(lo).Type != elf.R_X86_64_NONE {
			return false
		}
	}
	return true
}

// start gives the offset of the instruction that holds byte i.
func (w *walk) start(i int) int {
	n := i >> 6
	word := w.starts[n] & (2<<(i&63) - 1)
	for word == 0 && n > 0 {
		n--
		word = w.starts[n]
	}
	return n<<6 + max(bits.Len64(word)-1, 0)
}

// walks keeps what was found in code that is looked at again, up to a number of edges.
type walks struct {
	at     []int32 // by AtomID: 1 + index into list, 0: none
	list   []walk
	edges  []Edge   // memory that is left
	starts []uint64 // likewise
	room   int      // edges that may still be kept

	// Code on the other side that is likely the same: walks over it, whose they are, and partners by AtomID.
	other   *walks
	h       *Graph
	partner []AtomID
}

// keptEdges bounds what walks keep: 2.6 MB.
const keptEdges = 1 << 16

// of gives the walk over code that is kept, or nil.
func (k *walks) of(a AtomID) *walk {
	if k.at == nil || k.at[a] == 0 {
		return nil
	}
	return &k.list[k.at[a]-1]
}

// walk gives the walk over code, from memory or by going; nil when it is not there and there is no room to keep it.
func (k *walks) walk(g *Graph, a AtomID) *walk {
	if w := k.of(a); w != nil {
		return w
	}
	if k.at == nil {
		k.at, k.room = make([]int32, len(g.Atoms)), keptEdges
	}
	if k.room <= 0 {
		return nil
	}
	if len(k.edges) < 64 {
		k.edges = make([]Edge, 512)
	}
	w := walk{edges: k.edges[:0]}
	if !k.likeOther(g, a, &w) {
		if n := startWords(g.Atoms[a].Size); len(k.starts) < n {
			k.starts = make([]uint64, max(n, 512))
		}
		w.starts = k.starts
		g.walk(a, &w)
		k.starts = k.starts[len(w.starts):]
		w.starts = slices.Clip(w.starts)
	}
	n := len(w.edges)
	k.edges = w.edges[n:cap(w.edges)] // the old memory, or what it outgrew that for
	w.edges = w.edges[:n:n]
	k.room -= n
	k.list = append(k.list, w)
	k.at[a] = int32(len(k.list))
	return &k.list[len(k.list)-1]
}

// likeOther makes the walk over code from that over its partner on the other side.
func (k *walks) likeOther(g *Graph, y AtomID, w *walk) bool {
	if k.other == nil || k.partner[y] == 0 {
		return false
	}
	x := k.partner[y]
	like := k.other.of(x)
	return like != nil && like.starts != nil && bytes.Equal(k.h.Bytes(x), g.Bytes(y)) && g.walkLike(y, k.h, x, like, w)
}
