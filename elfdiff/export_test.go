package elfdiff

// For tests of single steps, where a table says more than a whole comparison.
var (
	FlowEnd  = flowEnd
	KeepsOff = keepsOff
)

// PrimaryName gives the name that stands for the place of a symbol.
func (g *Graph) PrimaryName(name string) string {
	for _, l := range g.labels {
		if g.File.Symbols[l].Name == name {
			return g.Name(g.symAtom[l])
		}
	}
	return ""
}

// WalkLike gives what a walk over code finds when it is made from that over equal code of the other side.
func WalkLike(h, g *Graph, x, y AtomID) (edges []Edge, decoded, ok bool) {
	var wx, w walk
	h.walk(x, &wx)
	ok = g.walkLike(y, h, x, &wx, &w)
	return w.edges, w.decoded, ok
}

// Start gives the instruction of an atom that holds byte i.
func (g *Graph) Start(a AtomID, i int) int {
	var w walk
	g.walk(a, &w)
	return w.start(i)
}
