package symbols

// Sequence gives the names that the kernel counts, in its order.
func Sequence(t *Table) []string {
	x := newIndex(t, t.Object != Vmlinux)
	out := make([]string, len(x.order))
	for k := range x.order {
		out[k] = x.entry(int32(k)).Name
	}
	return out
}
