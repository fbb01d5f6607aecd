package patch

import (
	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/klp"
)

// Contents says what a patch holds, and why.
type Contents struct {
	Functions []Function
	Items     []Item
	Sections  []Section
	Callbacks []Callback
	Forced    []string // functions that KPATCH_FORCE_UNSAFE names and the patch holds
}

// Callback is a function of the patch that the livepatch core calls when it patches or unpatches Object.
type Callback struct {
	Object string
	Kind   klp.CallbackKind
	Name   string
	File   string // name of the patched object file
}

// Function is a function of the patch.
type Function struct {
	Object   string // the kernel object that it belongs to
	File     string // name of the patched object file
	Name     string
	OrigName string // of the function that it replaces; empty for a new one
	Pos      uint64 // of the function that it replaces, among symbols of that name: 0 the name is unique
	Addr     uint64 // of the function that it replaces, as the kernel's symbols have it; 0: not known
	Section  string
	Size     uint64 // of all its parts
	Why      []string
}

// Replaces reports whether the function takes the place of one of the running kernel.
func (f *Function) Replaces() bool { return f.OrigName != "" }

// Item is a piece of the patched object that the patch holds.
type Item struct {
	File    string
	Kind    elfdiff.AtomKind
	Name    string
	Section string
	Off     uint64 // in the section of the patched object
	Size    uint64
	Why     []string // references that brought it, from the function that changed to the piece itself
}

// Section is a section of the patch that comes from the patched object. Those
// that hold livepatch metadata are not listed.
type Section struct {
	File string
	Name string
	Size uint64
}

// Contents lists the functions of the patch (those that replace others first),
// all pieces in the order of the patched objects, and its sections.
func (p *Plan) Contents() *Contents {
	c := &Contents{}
	for _, pp := range p.pairs {
		for _, f := range pp.funcs {
			x := pp.function(f.unit)
			x.OrigName, x.Pos, x.Addr = f.name, f.answer.Pos, f.answer.Addr
			c.Functions = append(c.Functions, x)
		}
	}
	for _, pp := range p.pairs {
		for _, u := range pp.sel.New {
			c.Functions = append(c.Functions, pp.function(u))
		}
	}
	for _, pp := range p.pairs {
		g, f := pp.Patched, pp.Patched.File
		for _, a := range pp.atoms {
			at := &g.Atoms[a]
			c.Items = append(c.Items, Item{File: f.Name, Kind: at.Kind, Name: g.Name(a), Section: f.Sections[at.Sec].Name, Off: at.Off, Size: at.Size, Why: pp.sel.Chain(g, a)})
		}
		for _, x := range pp.sel.Pieces {
			name := f.Sections[x.Sec].Name
			c.Items = append(c.Items, Item{File: f.Name, Kind: elfdiff.AtomEntry, Name: name, Section: name, Off: x.Off, Size: x.Size})
		}
		for i := range pp.sections {
			s := &pp.sections[i]
			c.Sections = append(c.Sections, Section{f.Name, f.Sections[s.src].Name, s.size})
		}
		for _, x := range pp.callbacks {
			c.Callbacks = append(c.Callbacks, Callback{pp.Object, x.kind, g.Name(x.fn), f.Name})
		}
		for _, a := range pp.force {
			c.Forced = append(c.Forced, g.Name(a))
		}
	}
	return c
}

func (pp *pairPlan) function(u elfdiff.UnitID) Function {
	g := pp.Patched
	unit := &g.Units[u]
	x := Function{Object: pp.Object, File: g.File.Name, Name: g.Name(unit.Main), Section: g.File.Sections[g.Atoms[unit.Main].Sec].Name, Why: pp.sel.Chain(g, unit.Main)}
	for _, m := range unit.Members {
		if g.Atoms[m].Kind != elfdiff.AtomPad {
			x.Size += g.Atoms[m].Size
		}
	}
	return x
}
