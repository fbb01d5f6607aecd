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
