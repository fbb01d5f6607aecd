package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/examples/internal/cli"
	"github.com/kdelta/kdelta/pkg/atomicfile"
	"github.com/kdelta/kdelta/pkg/build"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel"
	"github.com/kdelta/kdelta/pkg/kernel/image"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/module"
	"github.com/kdelta/kdelta/pkg/report"
)

var moduleCommand = &command{
	Name:  "module",
	Args:  "--kernel VMLINUZ [--target MOD.ko] [--name N] [--no-replace] [--unchecked] [--cache DIR] [--sign-key K --sign-cert C] [--json] [-v] ORIG PATCHED [[--target MOD.ko] ORIG PATCHED]... -o OUT.ko",
	Short: "write a loadable livepatch module, from a kernel's image",
	Long: `
Writes the module itself: no kbuild, compiler, headers, modpost or objtool take
part. VMLINUZ is the image of the kernel that is to load it (a bzImage, or the
vmlinux in it). Pairs belong to vmlinux until --target names the file of a module;
the pairs after it belong to that module.

Each original object is held against the kernel first: every function of it must be
what the kernel runs (--unchecked leaves that out). The finished module is read back
and proved before it is written, whole or not at all.

--name is the module's name; without it that of OUT.ko. The patch replaces all that
are active, or with --no-replace goes on top of them. --cache keeps what an image
says in DIR, by the image's contents. --sign-key and --sign-cert append a signature.

Exit code 0: written. 1: wrong usage, or a file that cannot be read or written.
2: not patchable; the diagnostics say why, and OUT.ko is as it was. 3: nothing to
patch, and OUT.ko is as it was.`,
	Run: runModule,
}

type moduleArgs struct {
	kernel  string
	cache   string
	targets []string   // files
	pairs   []pairArgs // object is the file of a target, or empty
	out     string
	key     string
	cert    string
	json    bool
	verbose bool
	rules   *elfdiff.Rules
	opts    build.Options
}

func runModule(e *env, c *command, args []string) int {
	e.trouble = patchTrouble
	a, err := parseModule(e, c, args)
	if err != nil {
		if cli.Fail(err) == 0 {
			return patchWritten
		}
		return patchTrouble
	}
	r := &report.Patch{All: a.verbose, Rules: a.rules.Version}
	code := a.run(context.Background(), r)
	e.tell(r, a.json, code)
	return code
}

func parseModule(e *env, c *command, args []string) (*moduleArgs, error) {
	a := &moduleArgs{rules: kernel.Rules()}
	fs := c.Flags()
	fs.StringVar(&a.out, "o", "", "write the module to `OUT.ko`")
	fs.StringVar(&a.kernel, "kernel", "", "the image of the kernel: `VMLINUZ`")
	fs.StringVar(&a.opts.Name, "name", "", "the name of the module: `N`")
	fs.BoolVar(&a.opts.NoReplace, "no-replace", false, "leave patches that are active in place, below this one")
	fs.BoolVar(&a.opts.Unchecked, "unchecked", false, "do not hold the original objects against the kernel")
	fs.StringVar(&a.cache, "cache", "", "keep what images say in `DIR`")
	fs.StringVar(&a.key, "sign-key", "", "sign the module with the private key in `K` (PEM)")
	fs.StringVar(&a.cert, "sign-cert", "", "the certificate of the key, `C` (PEM or DER)")
	fs.BoolVar(&a.json, "json", false, "write the document "+report.PatchSchema+" to standard output (kdelta schema --patch prints its schema)")
	fs.BoolVar(&a.verbose, "v", false, "list every piece that the module holds, and notes")
	entrySize(fs, a.rules)
	target, half := "", false // half: the PATCHED of the last pair is missing
	fs.Func("target", "the file of the module that the pairs after it belong to, or `vmlinux|MOD.ko`", func(s string) error {
		if half {
			return errors.New("between ORIG and PATCHED of one pair")
		}
		if target = s; s == klp.Vmlinux {
			target = ""
		} else if !slices.Contains(a.targets, s) {
			a.targets = append(a.targets, s)
		}
		return nil
	})
	err := c.ParseEach(e, fs, args, func(arg string) {
		if half = !half; half {
			a.pairs = append(a.pairs, pairArgs{object: target, orig: arg})
		} else {
			a.pairs[len(a.pairs)-1].patched = arg
		}
	})
	switch {
	case err != nil:
		return nil, err
	case a.kernel == "":
		return nil, c.UsageError(e, "no --kernel VMLINUZ")
	case len(a.pairs) == 0:
		return nil, c.UsageError(e, "no pair of objects")
	case half:
		return nil, c.UsageError(e, fmt.Sprintf("%s has no PATCHED", a.pairs[len(a.pairs)-1].orig))
	case a.out == "":
		return nil, c.UsageError(e, "no -o OUT.ko")
	case (a.key == "") != (a.cert == ""):
		return nil, c.UsageError(e, "--sign-key and --sign-cert go together")
	}
	if a.opts.Name == "" {
		a.opts.Name = klp.ModuleName(a.out)
	}
	return a, nil
}

// run makes the module, fills in the report and gives the exit code.
func (a *moduleArgs) run(ctx context.Context, r *report.Patch) int {
	trouble := func(err error, file string) int {
		r.Diagnostics = append(r.Diagnostics, findings(err, codeStopped, file)...)
		return patchTrouble
	}
	inputs := append(slices.Clone(a.targets), a.kernel, a.key, a.cert)
	for _, p := range a.pairs {
		inputs = append(inputs, p.orig, p.patched)
	}
	if err := overwrites(a.out, inputs...); err != nil {
		return trouble(err, a.out)
	}
	if a.key != "" {
		s, err := readSigner(a.key, a.cert)
		if err != nil {
			return trouble(err, a.key)
		}
		a.opts.Signer = s
	}
	k, err := readKernel(a.kernel, a.cache)
	if err != nil {
		return trouble(err, a.kernel)
	}
	names := map[string]string{"": klp.Vmlinux}
	var modules []*image.Module
	for _, t := range a.targets {
		m, err := readModule(t)
		if err != nil {
			return trouble(err, t)
		}
		names[t] = m.Name
		modules = append(modules, m)
	}
	var pairs []module.Pair
	for _, p := range a.pairs {
		x := module.Pair{Object: names[p.object]}
		if x.Orig, err = readObject(p.orig); err != nil {
			return trouble(err, p.orig)
		}
		if x.Patched, err = readObject(p.patched); err != nil {
			return trouble(err, p.patched)
		}
		pairs = append(pairs, x)
	}
	a.opts.Rules = a.rules
	res, err := build.Module(ctx, k, modules, pairs, a.opts)
	r.Diagnostics = res.Diagnostics
	if err != nil {
		if e := (*diag.Error)(nil); !errors.As(err, &e) {
			return trouble(err, "")
		}
		return verdict(r.Diagnostics)
	}
	if err := writeOutput(a.out, res.Module); err != nil {
		return trouble(err, a.out)
	}
	r.Contents, r.Output = res.Made.Contents, report.Input{Name: a.out, Size: len(res.Module)}
	return patchWritten
}

func readSigner(key, cert string) (*module.Signer, error) {
	k, err := readInput(key)
	if err != nil {
		return nil, err
	}
	c, err := readInput(cert)
	if err != nil {
		return nil, err
	}
	return module.ParseSigner(k, c)
}

// readKernel reads a kernel's image, or what an earlier run kept of it in a directory. A cache that
// cannot be written is no trouble.
func readKernel(path, cache string) (*image.Kernel, error) {
	data, err := readInput(path)
	if err != nil {
		return nil, err
	}
	if cache == "" {
		return image.Parse(data, image.Options{Name: path})
	}
	kept := filepath.Join(cache, fmt.Sprintf("%x.v%d.kernel", sha256.Sum256(data), image.EncodingVersion))
	if old, err := os.ReadFile(kept); err == nil {
		if k, err := image.Decode(path, old); err == nil {
			return k, nil
		}
	}
	k, err := image.Parse(data, image.Options{Name: path})
	if err == nil && os.MkdirAll(cache, 0o777) == nil {
		_ = atomicfile.Write(kept, k.Encode(), 0o666)
	}
	return k, err
}
