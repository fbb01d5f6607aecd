package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kdelta/kdelta/pkg/atomicfile"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel/image"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/module"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/pkg/verify"
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

	var pairs []module.Pair
	var modules []*image.Module
	err = w.prog.step("check of the build", func() (bool, string, error) {
		seen := make(map[string]bool)
		for _, b := range objs {
			p := module.Pair{Object: b.Object}
			for _, side := range []struct {
				file, name string
				to         **object.File
			}{{b.orig, "before", &p.Orig}, {b.patched, "after", &p.Patched}} {
				data, err := os.ReadFile(side.file)
				if err != nil {
					return false, "", err
				}
				name := strings.TrimSuffix(b.Source, ".c") + ".o (" + side.name + ")"
				if *side.to, err = object.Parse(data, object.Options{Name: name}); err != nil {
					return false, "", err
				}
			}
			pairs = append(pairs, p)
			if b.ko != "" && !seen[b.Object] {
				seen[b.Object] = true
				data, err := os.ReadFile(b.ko)
				if err != nil {
					return false, "", err
				}
				m, err := image.ParseModule(data, image.Options{Name: filepath.Base(b.ko)})
				if err != nil {
					return false, "", err
				}
				modules = append(modules, m)
			}
		}
		return false, "", nil
	})
	if err != nil {
		return nil, err
	}

	var kern *module.Kernel
	var r *module.Result
	err = w.prog.step("compare and write", func() (bool, string, error) {
		var ds []diag.Diagnostic
		var err error
		kern, ds, err = module.Of(img, modules, nil)
		if err != nil {
			return false, "", err
		}
		notes = append(notes, ds...)
		if err := diag.Refuse(ds); err != nil {
			return false, "", err
		}
		r, err = module.Build(ctx, pairs, kern, module.Options{Name: o.name, Describe: "Livepatch for " + k.release})
		return false, "", err
	})
	if err != nil {
		return notes, err
	}
	notes = append(notes, r.Diagnostics...)
	for _, f := range r.Contents.Functions {
		if f.Replaces() {
			doc.Replaced = append(doc.Replaced, replaced{f.Object, f.OrigName, f.Pos})
		}
	}

	err = w.prog.step("proof", func() (bool, string, error) {
		ds, err := prove(ctx, o.name, r, img, modules, kern)
		notes = append(notes, ds...)
		return false, "", err
	})
	if err != nil {
		return notes, err
	}
	data := r.Module
	if sign != nil {
		if data, err = module.Sign(data, sign); err != nil {
			return notes, failure(codeSigning, diag.Place{File: o.signKey}, "", "cannot sign: %v", err)
		}
	}
	if err := atomicfile.Write(o.out, data, 0o666); err != nil {
		return notes, failure(codeOutput, diag.Place{File: o.out}, "Give a path that can be written.", "%v", err)
	}
	doc.Output, doc.Size, doc.Signed = o.out, len(data), sign != nil
	if sign == nil {
		notes = append(notes, enforcement(k, o.out)...)
	}
	return notes, nil
}

// prove checks the finished module with what shares nothing with its writer.
func prove(ctx context.Context, name string, r *module.Result, img *image.Kernel, modules []*image.Module, k *module.Kernel) ([]diag.Diagnostic, error) {
	f, err := object.Parse(r.Module, object.Options{Name: name + ".ko"})
	if err != nil {
		return nil, err
	}
	table, err := img.Table()
	if err != nil {
		return nil, err
	}
	known := func(object string, names verify.Names) verify.Known {
		return verify.Known{Names: names, Oracle: k.Symbols.Oracle(object)}
	}
	opts := verify.Options{Symbols: map[string]verify.Symbols{klp.Vmlinux: known(klp.Vmlinux, verify.NamesOf(klp.Vmlinux, table))},
		Exports: k.Symbols, Layout: k.Layout, Vermagic: k.Vermagic, CRC: k.CRC}
	for _, m := range modules {
		opts.Symbols[m.Name] = known(m.Name, verify.NamesOf(m.Name, m.Table()))
	}
	var pairs []verify.Pair
	for _, p := range r.Pairs {
		pairs = append(pairs, verify.Pair(p))
	}
	v, err := verify.Verify(ctx, f, pairs, opts)
	if err != nil {
		return nil, err
	}
	return v.Findings, v.Err()
}
