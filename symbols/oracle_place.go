package symbols

import (
	"debug/elf"
	"fmt"
	"strings"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
)

// Placement is where the symbols of one object went in a kernel object.
type Placement struct {
	// Diagnostics say what speaks against the object being a part of the kernel object (symbols-mismatch).
	Diagnostics []diag.Diagnostic
	o           *Oracle
	f           *object.File
	t           *Table // the object's own
	in          []placedIn
}

// placedIn is the evidence of one table.
type placedIn struct {
	x       *index
	matches []fileMatch // by block of the object; nil for tables without files
	to      []int32     // by the object's entry: the table's, by file
	runs    *runs
	layout  *layout
	locals  int // of the object that the kernel must have
	missing int // of these, names that the table does not have
}

// wrong reports whether so much is missing that the table is of another build.
func (p *placedIn) wrong() bool { return p.missing*enoughShare > p.locals }

// place finds an object in every table.
func (o *Oracle) place(f *object.File) *Placement {
	p := &Placement{o: o, f: f, t: FromELF(f, "")}
	for _, x := range o.tables {
		in := placedIn{x: x}
		var first string
		for i := range p.t.Entries {
			e := &p.t.Entries[i]
			if ty := elf.SymType(e.Type); !e.Local() || e.Flags&(EntryMeta|EntryUndefined|EntryDiscarded) != 0 || ty != elf.STT_FUNC && ty != elf.STT_OBJECT || discardable(e.Name) {
				continue
			}
			if x.t.Core && e.Flags&EntryInit != 0 || o.object == Vmlinux && kallsymsHides(e) {
				continue
			}
			in.locals++
			if _, ok := x.names[e.Name]; !ok {
				if in.missing++; first == "" {
					first = e.Name
				}
			}
		}
		if in.missing > 0 {
			d := diag.New(diag.SymbolsMismatch, diag.Place{File: f.Name, Symbol: first},
				"%d of its %d local functions and variables are not in %s; the object was built by another toolchain, with another configuration or from other sources", in.missing, in.locals, x.t.Name)
			if in.missing*20 <= in.locals {
				d.Severity = diag.SevNote
			}
			p.Diagnostics = append(p.Diagnostics, d)
		}
		if len(x.t.Blocks) > 0 && len(p.t.Blocks) > 0 {
			in.matches, in.to = matchFiles(p.t, x)
		}
		in.runs = findRuns(f, p.t, x)
		in.layout = findLayout(f, p.t, x)
		p.in = append(p.in, in)
	}
	return p
}

// Position says how the kernel calls symbol sym of the object.
func (p *Placement) Position(sym object.SymID) Answer {
	if sym == 0 || int(sym) >= len(p.t.Entries) {
		return unknown(diag.SymposUnknown, "the object has no symbol %d", sym)
	}
	e := &p.t.Entries[sym]
	switch {
	case e.Flags&EntryMeta != 0:
		return unknown(diag.SymposUnknown, "it has no name, or is the name of a section or file")
	case e.Flags&EntryUndefined != 0, !e.Local():
		a := p.o.Global(e.Name)
		if a.Known || len(p.in) == 0 {
			return a
		}
		// The link made it local: then its file has it.
		if e.Flags&EntryUndefined == 0 && !p.o.hasGlobal(e.Name) {
			if b := p.local(sym, e); b.Known {
				return b
			}
		}
		return a
	case p.o.hides(p.f, sym):
		return unknown(diag.SymposUnknown, "the kernel leaves names of this kind out of its table")
	}
	return p.local(sym, e)
}

func (o *Oracle) hasGlobal(name string) bool {
	for _, x := range o.tables {
		if g, ok := x.names[name]; ok && x.globals[g]+x.unbound[g] > 0 {
			return true
		}
	}
	return false
}

// local collects what every table says of a local symbol.
func (p *Placement) local(sym object.SymID, e *Entry) Answer {
	votes, why := p.o.locate(p.f, sym, nil)
	if why != "" {
		return Answer{Code: diag.SymposConflict, Evidence: why, Candidates: p.o.candidates(e.Name)}
	}
	var whys []string
	has := false
	for i := range p.in {
		in := &p.in[i]
		x := in.x
		g, ok := x.names[e.Name]
		if !ok {
			continue
		}
		has = true
		votes, why = in.vote(p.t, int32(sym), e, g, votes)
		if why != "" {
			whys = append(whys, why)
		}
	}
	switch {
	case !has:
		return unknown(diag.SymposUnknown, "%s has no symbol of this name", p.o.object)
	case len(votes) == 0:
		a := unknown(diag.SymposUnknown, "%s", strings.Join(whys, "; "))
		a.Candidates = p.o.candidates(e.Name)
		return a
	}
	return p.o.settle(e.Name, votes)
}

// vote gives what one table says of a local symbol that it has g namesakes of.
func (in *placedIn) vote(t *Table, i int32, e *Entry, g int32, votes []vote) (_ []vote, why string) {
	x := in.x
	n := len(votes)
	block := int32(-1)
	if in.matches != nil && e.File >= 0 {
		m := &in.matches[e.File]
		switch block = m.block; {
		case block < 0:
			why = m.why
		case in.to[i] < 0:
			return votes, fmt.Sprintf("%s has %s, but not just this symbol in it", x.t.Name, m.evidence)
		case x.at[in.to[i]] < 0:
			return votes, fmt.Sprintf("%s has it, but the kernel leaves it out of its table", x.t.Name)
		default:
			votes = append(votes, vote{x: x, k: x.at[in.to[i]], method: MethodFile, evidence: m.evidence})
		}
	}
	if x.count[g] == 1 {
		k := x.members(g)[0]
		if !alike(e, x.entry(k)) {
			return votes[:n], fmt.Sprintf("the only symbol of this name in %s is of another kind", x.t.Name)
		}
		if block < 0 {
			votes = append(votes, vote{x: x, k: k, method: MethodUnique, evidence: "the only symbol of this name"})
		} else {
			votes[len(votes)-1].method = MethodUnique
			votes[len(votes)-1].evidence = "the only symbol of this name, in " + votes[len(votes)-1].evidence
		}
		return votes, ""
	}
	if in.wrong() {
		return votes[:n], fmt.Sprintf("%d of the object's %d local symbols are not in %s: another toolchain, configuration or source", in.missing, in.locals, x.t.Name)
	}
	if k := in.layout.to[i]; k >= 0 {
		votes = append(votes, vote{x: x, k: k, method: MethodLayout, evidence: in.layout.evidence(t, i)})
	}
	if k := in.runs.to[i]; k >= 0 {
		votes = append(votes, vote{x: x, k: k, method: MethodRun, evidence: in.runs.evidence(i, x)})
	}
	if len(votes) == n {
		r := in.runs.reason(i, x)
		switch {
		case why == "":
			why = r
		case r != "":
			why += "; " + r
		}
		if why == "" {
			why = fmt.Sprintf("%s has %d symbols of this name and does not tell which", x.t.Name, x.count[g])
		}
		return votes, why
	}
	return votes, ""
}
