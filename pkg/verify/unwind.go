package verify

import (
	"bytes"
	"cmp"
	"slices"
	"sort"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
)

// The unwind table (Documentation/arch/x86/orc-unwinder.rst) is split: addresses
// relative to themselves, and what holds from each on. Entry i of the one belongs to entry i of the other.
const (
	orcAddresses = ".orc_unwind_ip"
	orcStates    = ".orc_unwind"
	orcAddress   = 4
	orcState     = 6
)

// state is what an unwind entry says from a place on.
type state struct {
	at   site
	data []byte
}

// unwindTable gives the unwind entries of a file by place; ok is false when the two halves do not belong together.
func (v *view) unwindTable() (list []state, ok bool) {
	var ips, states object.SecID
	for i := range v.f.Sections {
		switch v.f.Sections[i].Name {
		case orcAddresses:
			ips = object.SecID(i)
		case orcStates:
			states = object.SecID(i)
		}
	}
	if ips == 0 && states == 0 {
		return nil, true
	}
	d := v.f.Sections[states].Data
	if ips == 0 || states == 0 || len(d)%orcState != 0 || v.f.Sections[ips].Size/orcAddress != uint64(len(d)/orcState) {
		return nil, false
	}
	for _, r := range v.relocs(ips) {
		s := &v.f.Symbols[r.sym]
		if r.klp != nil || s.Sec == 0 || r.off%orcAddress != 0 || r.off >= v.f.Sections[ips].Size || !v.f.Sections[s.Sec].Exec() {
			return nil, false
		}
		i := r.off / orcAddress
		list = append(list, state{site{s.Sec, s.Value + uint64(r.addend)}, d[i*orcState : (i+1)*orcState]})
	}
	slices.SortStableFunc(list, func(a, b state) int { return compareSites(a.at, b.at) })
	return list, len(list) == len(d)/orcState
}

// stateAt gives what holds at a place; nil when nothing says so.
func stateAt(list []state, at site) []byte {
	n := sort.Search(len(list), func(i int) bool { return compareSites(list[i].at, at) > 0 })
	if n == 0 || list[n-1].at.sec != at.sec {
		return nil
	}
	return list[n-1].data
}

// unwind checks that the unwind entries of the patch say of its code what those of
// the patched objects say, and that they end where it does. Forms whose build makes them anew have none.
func (p *prover) unwind() {
	got, ok := p.p.unwindTable()
	if !ok {
		p.failSym(diag.VerifyEntry, orcAddresses, "the two halves of the unwind table do not belong together")
		return
	}
	if p.res.Format == Intermediate || len(got) == 0 && p.res.Format == Final {
		return
	}
	wants := map[*pair][]state{}
	for _, pr := range p.pairs {
		wants[pr], _ = pr.q.unwindTable()
	}
	items := make([]itemKey, 0, len(p.from))
	for _, k := range p.from {
		if k.pr.q.f.Sections[k.q.sec].Exec() && len(wants[k.pr]) > 0 && k.size > 0 {
			items = append(items, k)
		}
	}
	slices.SortFunc(items, func(a, b itemKey) int { return cmp.Or(compareSites(a.p, b.p), cmp.Compare(a.size, b.size)) })
	if len(items) > 0 && len(got) == 0 {
		p.failSym(diag.VerifyUnproved, orcAddresses, "not proved: that stacks can be read: the patch has no unwind entries, and the patched objects do")
		return
	}
	for i := range items {
		k := &items[i]
		want := wants[k.pr]
		places := []uint64{0}
		for _, side := range []struct {
			list []state
			at   site
		}{{want, k.q}, {got, k.p}} {
			lo := sort.Search(len(side.list), func(i int) bool { return compareSites(side.list[i].at, side.at) >= 0 })
			for ; lo < len(side.list) && side.list[lo].at.sec == side.at.sec && side.list[lo].at.off < side.at.off+k.size; lo++ {
				places = append(places, side.list[lo].at.off-side.at.off)
			}
		}
		slices.Sort(places)
		for _, off := range slices.Compact(places) {
			w, g := stateAt(want, site{k.q.sec, k.q.off + off}), stateAt(got, site{k.p.sec, k.p.off + off})
			p.count("unwind entries", 1)
			if !bytes.Equal(w, g) && !(sameZero(w) && sameZero(g)) {
				p.fail(diag.VerifyEntry, k.p.sec, k.p.off+off, "the unwind entry says % x, want % x", g, w)
				break
			}
		}
	}
}
