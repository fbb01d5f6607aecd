package report

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/debuginfo"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
)

// HasDebug reports whether an object has debug information; it looks at the names of sections alone.
func HasDebug(f *object.File) bool {
	for i := range f.Sections {
		if n := f.Sections[i].Name; n == ".debug_info" || n == ".zdebug_info" {
			return true
		}
	}
	return false
}

// NeedsDebug reports whether debug information has something to add to a Delta: a function is changed or new.
func NeedsDebug(d *elfdiff.Delta) bool {
	return slices.ContainsFunc(d.Functions, func(f elfdiff.Function) bool { return f.Status == elfdiff.Changed || f.Status == elfdiff.New })
}

// AddDebug adds what the debug information of both objects says to the report:
// warnings about structures whose layout differs and which changed functions use
// (diag.DataStructure), and for changed functions the inlined functions in whose
// code they differ (a cause of kind inlined each). It replaces r.Delta by a copy;
// verdicts stay what they are. Graphs are those that the Delta was made of.
func (r *Diff) AddDebug(orig, patched *elfdiff.Graph, origInfo, patchedInfo *debuginfo.Info) {
	if !origInfo.Present() || !patchedInfo.Present() {
		return
	}
	d := *r.Delta
	d.Functions = slices.Clone(d.Functions)
	d.Diagnostics = slices.Clone(d.Diagnostics)
	l := newLister(&d, orig, patched)
	l.info = patchedInfo
	var funcs []debuginfo.Func
	for i := range d.Functions {
		f := &d.Functions[i]
		if f.Status != elfdiff.Changed && f.Status != elfdiff.New {
			continue
		}
		funcs = append(funcs, debuginfo.Func{Name: f.Name, Orig: unitPlace(orig, f.Orig), Patched: unitPlace(patched, f.Patched)})
		if f.Status == elfdiff.Changed && f.Orig != 0 {
			if cs := l.inlinedCauses(f, origInfo, patchedInfo); len(cs) > 0 {
				f.Causes = slices.Concat(f.Causes, cs)
			}
		}
	}
	for _, c := range debuginfo.Layout(origInfo, patchedInfo, funcs) {
		d.Diagnostics = append(d.Diagnostics, diag.New(diag.DataStructure, diag.Place{File: patched.File.Name}, "%s", layoutText(&c)))
	}
	for _, side := range []struct {
		g *elfdiff.Graph
		i *debuginfo.Info
	}{{orig, origInfo}, {patched, patchedInfo}} {
		if err := side.i.Err(); err != nil {
			d.Diagnostics = append(d.Diagnostics, diag.New(diag.DebugInfo, diag.Place{File: side.g.File.Name}, "%v", err))
		}
	}
	diag.Sort(d.Diagnostics)
	r.Delta = &d
}

// layoutText says what became of a structure and who uses it.
func layoutText(c *debuginfo.StructChange) string {
	s := c.String()
	if len(c.Users) > 0 {
		s += "; used by " + someOf(c.Users, 8)
	}
	if len(c.Reachable) > 0 {
		s += "; within reach of " + someOf(c.Reachable, 8)
	}
	return s
}

func someOf(names []string, most int) string {
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:most], ", ") + " and " + strconv.Itoa(len(names)-most) + " more"
}

// unitPlace gives where the body of a unit starts.
func unitPlace(g *elfdiff.Graph, u elfdiff.UnitID) debuginfo.Place {
	if u == 0 {
		return debuginfo.Place{}
	}
	return atomPlace(g, g.Units[u].Main, 0)
}

func atomPlace(g *elfdiff.Graph, a elfdiff.AtomID, off uint64) debuginfo.Place {
	if a == 0 {
		return debuginfo.Place{}
	}
	return debuginfo.Place{Section: int(g.Atoms[a].Sec), Off: g.Atoms[a].Off + off}
}

const maxInlined = 8 // causes of kind inlined of one function

// inlinedCauses finds the inlined functions in whose code two builds of a function
// differ. Both are laid side by side by opcodes and targets, so that another choice
// of registers is no difference; what has no partner then is counted for the innermost
// inlined function that it belongs to.
func (l *lister) inlinedCauses(f *elfdiff.Function, ia, ib *debuginfo.Info) []elfdiff.Cause {
	type found struct {
		name          string
		call          debuginfo.Pos
		member        string
		off           uint64
		orig, patched int
		inlinedB      bool
	}
	var list []*found
	at := make(map[string]*found)
	count := func(info *debuginfo.Info, p debuginfo.Place, member string, off uint64, patched bool) {
		chain := info.Inlined(p)
		if len(chain) == 0 {
			return
		}
		in := chain[len(chain)-1]
		if in.Name == "" {
			return
		}
		x := at[in.Name]
		if x == nil {
			x = &found{name: in.Name, call: in.Call, member: member, off: off}
			at[in.Name] = x
			list = append(list, x)
		}
		if patched && !x.inlinedB { // places are those of the patched object where it has one
			x.inlinedB, x.call, x.member, x.off = true, in.Call, member, off
		}
		if patched {
			x.patched++
		} else {
			x.orig++
		}
	}
	for _, y := range l.b.Units[f.Patched].Members {
		x := l.delta.OrigOf[y]
		if x == 0 || !l.b.Atoms[y].Kind.Code() || !l.a.Atoms[x].Kind.Code() || l.b.Atoms[y].Kind == elfdiff.AtomPad {
			continue
		}
		if da, db := l.a.Bytes(x), l.b.Bytes(y); bytes.Equal(da, db) {
			continue
		}
		member := ""
		if y != l.b.Units[f.Patched].Main {
			member = l.b.Name(y)
		}
		la, lb := l.listing(l.a, x), l.listing(l.b, y)
		for _, s := range align(keys(la, shapeOf), keys(lb, shapeOf)) {
			switch {
			case s.b < 0:
				count(ia, atomPlace(l.a, x, la[s.a].off), member, la[s.a].off, false)
			case s.a < 0:
				count(ib, atomPlace(l.b, y, lb[s.b].off), member, lb[s.b].off, true)
			}
		}
	}
	if len(list) > 1 { // with one, there is nothing to choose between
		if rest := slices.DeleteFunc(slices.Clone(list), func(x *found) bool { return l.stable()[x.name] }); len(rest) > 0 {
			list = rest
		}
	}
	slices.SortStableFunc(list, func(x, y *found) int {
		return cmp.Or(cmp.Compare(y.orig+y.patched, x.orig+x.patched), cmp.Compare(x.name, y.name))
	})
	var out []elfdiff.Cause
	for _, x := range list[:min(len(list), maxInlined)] {
		c := elfdiff.Cause{Kind: elfdiff.CauseInlined, Member: x.member, Off: x.off, Detail: x.name}
		if s := x.call.String(); s != "" {
			c.Detail += ", called at " + s
		}
		if x.orig > 0 {
			c.Orig = instructions(x.orig)
		}
		if x.patched > 0 {
			c.Patched = instructions(x.patched)
		}
		out = append(out, c)
	}
	return out
}

// stable gives the functions that are inlined into a function that did not change:
// where several differ in a changed one, these are not what changed.
func (l *lister) stable() map[string]bool {
	if l.inlined == nil {
		l.inlined = make(map[string]bool)
		looked := 0
		for i := range l.delta.Functions {
			f := &l.delta.Functions[i]
			if f.Status != elfdiff.Unchanged {
				continue
			}
			if looked++; looked > maxStable {
				break
			}
			for _, n := range l.info.InlinedInto(unitPlace(l.b, f.Patched)) {
				l.inlined[n] = true
			}
		}
	}
	return l.inlined
}

const maxStable = 4096 // functions that stable looks at

func instructions(n int) string {
	if n == 1 {
		return "1 instruction"
	}
	return strconv.Itoa(n) + " instructions"
}
