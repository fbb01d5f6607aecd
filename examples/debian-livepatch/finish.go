package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kdelta/kdelta/pkg/atomicfile"
	"github.com/kdelta/kdelta/pkg/build"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel/image"
	"github.com/kdelta/kdelta/pkg/module"
	"github.com/kdelta/kdelta/pkg/object"
)

// facts gives what the kernel's image says of itself, parsed once.
func (k *target) facts() (*image.Kernel, bool, error) {
	name := fmt.Sprintf("facts-%d", image.EncodingVersion)
	if data, ok := k.get(name); ok {
		if f, err := image.Decode("vmlinuz-"+k.release, data); err == nil {
			return f, true, nil
		}
	}
	data, err := k.file("vmlinuz")
	if err != nil {
		return nil, false, err
	}
	f, err := image.Parse(data, image.Options{Name: "vmlinuz-" + k.release})
	if err != nil {
		return nil, false, err
	}
	return f, false, k.put(name, f.Encode())
}

// signer reads the key before any work is done.
func (o *options) signer() (*module.Signer, error) {
	if o.signKey == "" {
		return nil, nil
	}
	key, err := os.ReadFile(o.signKey)
	if err != nil {
		return nil, failure(codeFile, diag.Place{File: o.signKey}, "Give the path of a file that can be read.", "cannot read the key: %v", err)
	}
	cert, err := os.ReadFile(o.signCert)
	if err != nil {
		return nil, failure(codeFile, diag.Place{File: o.signCert}, "Give the path of a file that can be read.", "cannot read the certificate: %v", err)
	}
	s, err := module.ParseSigner(key, cert)
	if err != nil {
		return nil, failure(codeFile, diag.Place{File: o.signKey}, "Give a PEM key that is not encrypted, and its certificate.", "%v", err)
	}
	return s, nil
}

// finish makes the module from the objects.
func (o *options) finish(ctx context.Context, w *workspace, k *target, objs []built, sign *module.Signer, doc *document) ([]diag.Diagnostic, error) {
	var notes []diag.Diagnostic
	var img *image.Kernel
	err := w.prog.step("kernel's facts", func() (cached bool, detail string, err error) {
		img, cached, err = k.facts()
		if err == nil && img.Release != k.release {
			err = failure(codeMismatch, diag.Place{File: "vmlinuz-" + k.release}, "", "the image in the package is of %s", img.Release)
		}
		return cached, "", err
	})
	if err != nil {
		return nil, err
	}

	var r *build.Result
	err = w.prog.step("livepatch", func() (bool, string, error) {
		pairs, modules, err := load(objs)
		if err != nil {
			return false, "", err
		}
		if len(pairs) == 0 {
			return false, "", failure(diag.NothingChanged, diag.Place{}, "", "no object differs")
		}
		r, err = build.Module(ctx, img, modules, pairs, build.Options{Name: o.name, Describe: "Livepatch for " + k.release, Signer: sign})
		if r != nil {
			notes = append(notes, r.Diagnostics...)
		}
		return false, "", err
	})
	if err != nil {
		return nil, err
	}
	for _, f := range r.Made.Contents.Functions {
		if f.Replaces() {
			doc.Replaced = append(doc.Replaced, replaced{f.Object, f.OrigName, f.Pos})
		}
	}
	if err := ctx.Err(); err != nil {
		return notes, err
	}
	if err := atomicfile.Write(o.out, r.Module, 0o666); err != nil {
		return notes, failure(codeOutput, diag.Place{File: o.out}, "Give a path that can be written.", "%v", err)
	}
	doc.Output, doc.Size, doc.Signed = o.out, len(r.Module), sign != nil
	if sign == nil {
		notes = append(notes, enforcement(k, o.out)...)
	}
	return notes, nil
}

// load reads the objects, and the modules that they belong to.
func load(objs []built) (pairs []module.Pair, modules []*image.Module, err error) {
	seen := make(map[string]bool)
	for _, b := range objs {
		p := module.Pair{Object: b.Object}
		for _, side := range []struct {
			file, name string
			to         **object.File
		}{{b.orig, "before", &p.Orig}, {b.patched, "after", &p.Patched}} {
			data, err := os.ReadFile(side.file)
			if err != nil {
				return nil, nil, err
			}
			name := strings.TrimSuffix(b.Source, ".c") + ".o (" + side.name + ")"
			if *side.to, err = object.Parse(data, object.Options{Name: name}); err != nil {
				return nil, nil, err
			}
		}
		if b.header && bytes.Equal(p.Orig.Data, p.Patched.Data) {
			continue // it includes the changed header, without a consequence
		}
		pairs = append(pairs, p)
		if b.ko == "" || seen[b.Object] {
			continue
		}
		seen[b.Object] = true
		data, err := os.ReadFile(b.ko)
		if err != nil {
			return nil, nil, err
		}
		m, err := image.ParseModule(data, image.Options{Name: filepath.Base(b.ko)})
		if err != nil {
			return nil, nil, err
		}
		modules = append(modules, m)
	}
	return pairs, modules, nil
}
