package main

import (
	"bytes"
	"debug/elf"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/symbols"
)

// symbolFile is a file that says what a kernel object calls its symbols.
type symbolFile struct {
	path   string
	object string // that it belongs to where it does not say so itself
}

// knowledge is what was read of the running kernel.
type knowledge struct {
	tables  []*symbols.Table
	linked  []*object.File // of vmlinux, for lists of addresses in it
	symvers []*symbols.Symvers
}

// readSymbols reads a file of any kind that has symbols; the kind is seen from its contents.
func (k *knowledge) readSymbols(s symbolFile) error {
	data, err := readInput(s.path)
	if err != nil {
		return err
	}
	switch {
	case bytes.HasPrefix(data, []byte(elf.ELFMAG)):
		f, err := object.Parse(data, object.Options{Name: s.path})
		if err != nil {
			return err
		}
		of := s.object
		switch {
		case f.Header.Type != elf.ET_REL:
			of = klp.Vmlinux
			k.linked = append(k.linked, f)
		case filepath.Ext(s.path) == ".ko":
			of = moduleOf(f, s.path)
		}
		k.tables = append(k.tables, symbols.FromELF(f, of))
	case isReadelf(data):
		t, err := symbols.ParseReadelf(s.path, s.object, data)
		if err != nil {
			return err
		}
		k.tables = append(k.tables, t)
	default: // System.map is kallsyms without modules
		ts, err := symbols.ParseKallsyms(s.path, data)
		if err != nil {
			return err
		}
		k.tables = append(k.tables, ts...)
	}
	return nil
}

// isReadelf reports whether a text is the output of readelf -s.
func isReadelf(data []byte) bool {
	head := data[:min(len(data), 4096)]
	return bytes.Contains(head, []byte("Symbol table '")) || bytes.Contains(head, []byte("Num:"))
}

// moduleOf gives the name of the module that an object is of: "name=" of its .modinfo where there is one, else by its file.
func moduleOf(f *object.File, path string) string {
	for i := range f.Sections {
		if f.Sections[i].Name != ".modinfo" {
			continue
		}
		for s := range bytes.SplitSeq(f.Sections[i].Data, []byte{0}) {
			if name, ok := bytes.CutPrefix(s, []byte("name=")); ok && len(name) > 0 {
				return klp.ModuleName(string(name))
			}
		}
	}
	return klp.ModuleName(path)
}

func (k *knowledge) readSymvers(path string) error {
	data, err := readInput(path)
	if err != nil {
		return err
	}
	s, err := symbols.ParseSymvers(path, data)
	if err != nil {
		return err
	}
	k.symvers = append(k.symvers, s)
	return nil
}

// set makes the Set for a patch of the given objects and their originals, nil when nothing is known.
func (k *knowledge) set(objects []string, originals []*object.File) (*symbols.Set, []diag.Diagnostic) {
	if len(k.tables)+len(k.symvers) == 0 {
		return nil, nil
	}
	var ds []diag.Diagnostic
	var exports []symbols.Source
	for _, s := range k.symvers {
		exports = append(exports, s)
	}
	var names []string // the objects asked for, then those that export something
	if len(k.tables) > 0 {
		names = append(names, objects...)
	}
	for _, t := range k.tables {
		names = append(names, t.Object)
	}
	var oracles []*symbols.Oracle
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			continue
		}
		sources := exports
		exports = nil // one oracle's are the Set's
		for _, t := range k.tables {
			if t.Object == name {
				sources = append(sources, t)
			}
		}
		if name == klp.Vmlinux {
			for _, f := range originals {
				for _, l := range k.linked {
					if hasSection(f, ".klp.symid") && hasSection(l, ".klp.symid") {
						loc, err := symbols.SymIDs(f, l)
						if err != nil {
							ds = append(ds, findings(err, codeStopped, l.Name)...)
							continue
						}
						sources = append(sources, loc)
					}
				}
			}
		}
		o, more := symbols.NewOracle(name, sources...)
		oracles = append(oracles, o)
		if slices.Contains(objects, name) {
			ds = append(ds, more...)
		}
	}
	if len(oracles) == 0 {
		// Exports alone.
		o, _ := symbols.NewOracle("", exports...)
		oracles = append(oracles, o)
	}
	return symbols.NewSet(nil, oracles...), ds
}

func hasSection(f *object.File, name string) bool {
	return slices.ContainsFunc(f.Sections, func(s object.Section) bool { return s.Name == name })
}

// unnamable says what is wrong with a name of a kernel object; empty: nothing.
func unnamable(name string) string {
	switch {
	case name == "" || strings.ContainsAny(name, ", \t\n"):
		return "no name of a module"
	case len(name) > klp.MaxObjectName:
		return "longer than the kernel's limit"
	}
	return ""
}
