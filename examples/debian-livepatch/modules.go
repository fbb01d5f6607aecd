package main

import (
	"path"
	"strings"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
)

// moduleFile finds the module that an object belongs to in the text of
// modules.order: of that name, in the object's folder or the nearest one above it.
// The path is relative to /lib/modules/RELEASE and ends in .ko.
func moduleFile(order, source, module string) (string, error) {
	want, dir := klp.ModuleName(module), path.Dir(source)
	best := ""
	for line := range strings.Lines(order) {
		ko := strings.TrimSpace(line)
		if klp.ModuleName(strings.TrimSuffix(path.Base(ko), ".ko")) != want {
			continue
		}
		in := path.Dir(strings.TrimPrefix(ko, "kernel/"))
		if (in == dir || strings.HasPrefix(dir, in+"/")) && len(ko) > len(best) {
			best = ko
		}
	}
	if best == "" {
		// An object may be linked into a module of another folder (its Makefile says ../x.o): the name alone then.
		n := 0
		for line := range strings.Lines(order) {
			if ko := strings.TrimSpace(line); klp.ModuleName(strings.TrimSuffix(path.Base(ko), ".ko")) == want {
				best = ko
				n++
			}
		}
		if n != 1 {
			return "", failure(codeModule, diag.Place{File: source}, "Check that the kernel's configuration builds this file.",
				"it is compiled for module %s, of which the kernel's package has %d", module, n)
		}
	}
	return best, nil
}
