package main

import (
	"maps"
	"slices"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/debuginfo"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/kernel/image"
)

// readTypes adds to rules what a kernel's image says by its BTF, or an ELF file by its DWARF, of the sizes of table entries.
func readTypes(rules *elfdiff.Rules, path string) error {
	data, err := readInput(path)
	if err != nil {
		return err
	}
	structs := kernel.EntryStructs()
	sizes := make(map[string]int)
	if k, err := image.Parse(data, image.Options{Name: path}); err == nil {
		for section, n := range k.EntrySizes() {
			if structs[section] != "" {
				sizes[section] = n
			}
		}
	}
	if len(sizes) == 0 {
		info, err := debuginfo.Load(data, debuginfo.Options{})
		if err != nil {
			return diag.New(diag.ImageLacks, diag.Place{File: path}, "neither BTF of a kernel nor DWARF: %v", err)
		}
		known := info.StructSizes(slices.Sorted(maps.Values(structs))...)
		for section, name := range structs {
			if n := known[name]; n != 0 {
				sizes[section] = int(n)
			}
		}
		if len(sizes) == 0 {
			return diag.New(diag.ImageLacks, diag.Place{File: path}, "no type of a table entry (%v)", info.Err())
		}
	}
	return kernel.SetSizes(rules, elfdiff.SizeTypes, sizes)
}
