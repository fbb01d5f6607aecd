package main

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/kdelta/kdelta/pkg/diag"
)

// workspace is the cache of this program and what it runs.
type workspace struct {
	store
	tools *tools
	prog  *progress
	jobs  int
	// given is a folder with package files, "" for apt.
	given string
}

// target is one kernel's packages, unpacked.
type target struct {
	store      // of what belongs to this kernel: root, source, commands, facts
	release    string
	version    string
	root       string // where the packages are unpacked
	source     string // the distribution's source
	headers    string // where its kbuild runs
	compiler   string // name of the compiler, as the kernel's package says
	compilerID string // what that says of itself
}

// checkPath refuses a folder in which kbuild cannot work.
func checkPath(dir string) error {
	if strings.ContainsAny(dir, " \t\n:%#'\"\\$@") {
		return failure(codeUsage, diag.Place{File: dir}, "Give another folder with --work.", "kbuild does not work in a folder of that name")
	}
	return nil
}

// unpacked finds a release that an earlier run has unpacked.
func (w *workspace) unpacked(release string) (version string) {
	all, err := filepath.Glob(w.path("kernels/" + release + "_*"))
	if err != nil {
		return ""
	}
	slices.Sort(all)
	for _, d := range slices.Backward(all) {
		s := store{d}
		if s.has("root") && s.has("source") {
			return strings.TrimPrefix(filepath.Base(d), release+"_")
		}
	}
	return ""
}

// fetch finds or downloads the packages of a release.
func (w *workspace) fetch(ctx context.Context, release string) (*packages, map[string]string, error) {
	if w.given != "" {
		return w.fromFolder(ctx, release)
	}
	text, _, err := w.tools.run(ctx, toolPackages, "", "apt-cache", "show", "--no-all-versions", "linux-headers-"+release)
	stanzas := parseControl(text)
	if ctx.Err() != nil {
		return nil, nil, err
	}
	if err != nil || len(stanzas) == 0 {
		if one := (diag.Diagnostic{}); errors.As(err, &one) && strings.Contains(one.Message, "no program") {
			return nil, nil, err
		}
		return nil, nil, failure(codePackage, diag.Place{File: "linux-headers-" + release},
			"Run apt-get update; for an older kernel add its release, or a date of snapshot.debian.org, to apt's sources; or give a folder with its packages with --packages.",
			"apt knows no headers of that release")
	}
	p, err := resolve(release, stanzas[0])
	if err != nil {
		return nil, nil, err
	}
	dir := w.path("packages")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, nil, err
	}
	found, missing := choose(p, packageFiles(dir))
	var args []string
	for _, d := range missing {
		args = append(args, d.String())
	}
	if len(args) > 0 {
		args = append([]string{"-qq", "-o", "APT::Sandbox::User=root", "download"}, args...)
		if _, _, err := w.tools.run(ctx, toolPackages, dir, "apt-get", args...); err != nil {
			return nil, nil, w.explainMissing(ctx, missing, err)
		}
		found, missing = choose(p, packageFiles(dir))
	}
	if len(missing) > 0 {
		return nil, nil, w.explainMissing(ctx, missing, nil)
	}
	return p, found, nil
}

// explainMissing says which packages apt cannot give, and which versions it has.
func (w *workspace) explainMissing(ctx context.Context, missing []dependency, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var ds []diag.Diagnostic
	for _, d := range missing {
		text, _, _ := w.tools.run(ctx, toolPackages, "", "apt-cache", "madison", d.name)
		has := parseMadison(text)
		if slices.Contains(has, d.version) || d.version == "" && len(has) > 0 {
			continue // apt knows it: the download failed
		}
		what := "apt knows no version of it"
		if len(has) > 0 {
			what = "apt knows the versions " + strings.Join(has, ", ")
		}
		ds = append(ds, failure(codePackage, diag.Place{File: d.String()},
			"Run apt-get update; for an older kernel add its release, or a date of snapshot.debian.org, to apt's sources; or give a folder with its packages with --packages.",
			"the package is not there: %s", what))
	}
	if len(ds) == 0 {
		return err
	}
	return &diag.Error{Diagnostics: ds}
}

// fromFolder takes the packages from a folder.
func (w *workspace) fromFolder(ctx context.Context, release string) (*packages, map[string]string, error) {
	if p, err := unpackedFolder(w.given, release); p != nil || err != nil {
		return p, nil, err
	}
	files := packageFiles(w.given)
	var last error = failure(codePackage, diag.Place{File: w.given}, "Put the packages of the kernel into it, or leave out --packages.", "no linux-headers-%s_*.deb in it", release)
	for _, f := range slices.Backward(files) {
		if n, ok := parseDebName(f); !ok || n.name != "linux-headers-"+release {
			continue
		}
		text, _, err := w.tools.run(ctx, toolPackages, "", "dpkg-deb", "-f", f, "Package", "Version", "Depends")
		if err != nil {
			return nil, nil, err
		}
		s := parseControl(text)
		if len(s) == 0 {
			continue
		}
		p, err := resolve(release, s[0])
		if err != nil {
			return nil, nil, err
		}
		found, missing := choose(p, files)
		if len(missing) == 0 {
			return p, found, nil
		}
		var ds []diag.Diagnostic
		for _, d := range missing {
			ds = append(ds, failure(codePackage, diag.Place{File: d.String()}, "Download it into "+w.given+": apt-get download "+d.String(), "the package is not in %s", w.given))
		}
		last = &diag.Error{Diagnostics: ds}
	}
	return nil, nil, last
}

// unpackedFolder looks whether a folder holds the packages unpacked (dpkg-deb -x).
func unpackedFolder(dir, release string) (*packages, error) {
	id, err := os.ReadFile(filepath.Join(dir, "usr/src/linux-headers-"+release, "include/generated/package.h"))
	if err != nil {
		return nil, nil // packages then
	}
	p := &packages{Release: release, Version: packageID(string(id)), Root: dir}
	p.Source = "linux-source-" + series(p.Version)
	want := []string{"usr/src/" + p.Source + ".tar.*", "boot/vmlinuz-" + release}
	for _, f := range want {
		if found, err := filepath.Glob(filepath.Join(dir, f)); err != nil || len(found) != 1 {
			return nil, failure(codePackage, diag.Place{File: dir}, "Unpack all packages of the kernel into it (dpkg-deb -x), or give a folder with the packages.", "there is no %s in it", f)
		}
	}
	if f, err := os.Open(filepath.Join(dir, "usr/share/doc", p.Source, "changelog.Debian.gz")); err == nil {
		defer f.Close()
		var head [200]byte
		if z, err := gzip.NewReader(f); err == nil {
			n, _ := io.ReadFull(z, head[:])
			if v := changelogVersion(string(head[:n])); v != p.Version {
				return nil, failure(codePackage, diag.Place{File: dir}, "Unpack "+p.Source+"="+p.Version+" into it.", "the source in it is of version %q, the kernel of %q", v, p.Version)
			}
		}
	}
	return p, nil
}

func packageFiles(dir string) []string {
	files, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return nil
	}
	slices.Sort(files)
	return files
}

// open gives a kernel that is unpacked.
func (w *workspace) open(ctx context.Context, release, version string) (*target, error) {
	k := &target{store: store{w.path("kernels/" + release + "_" + version)}, release: release, version: version}
	k.root, k.source = k.path("root"), k.path("source")
	k.headers = filepath.Join(k.root, "usr/src/linux-headers-"+release)
	vars, err := os.ReadFile(filepath.Join(k.headers, ".kernelvariables"))
	if err != nil {
		return nil, failure(codePackage, diag.Place{File: k.headers}, "Remove "+k.dir+" and run again.", "cannot read the distribution's build variables: %v", err)
	}
	config, err := os.ReadFile(filepath.Join(k.headers, ".config"))
	if err != nil {
		return nil, failure(codePackage, diag.Place{File: k.headers}, "Remove "+k.dir+" and run again.", "cannot read the kernel's configuration: %v", err)
	}
	k.compiler = compilerOf(string(vars))
	if k.compiler == "" {
		return nil, failure(codePackage, diag.Place{File: k.headers}, "", ".kernelvariables names no compiler")
	}
	text, _, err := w.tools.run(ctx, toolCompiler, "", k.compiler, "--version")
	if err != nil {
		return nil, err
	}
	k.compilerID, _, _ = strings.Cut(text, "\n")
	want := configString(string(config), "CONFIG_CC_VERSION_TEXT")
	if !sameCompiler(want, k.compilerID) {
		return nil, failure(codeMismatch, diag.Place{File: k.compiler},
			"Install that version of the compiler (snapshot.debian.org has all), or use a machine with the kernel's release of Debian.",
			"the kernel was built by %q, here is %q: their code differs", want, k.compilerID)
	}
	return k, nil
}

// compilerOf gives the compiler that .kernelvariables sets.
func compilerOf(text string) string {
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(line, "=")
		if !ok || strings.TrimSpace(strings.TrimRight(strings.TrimSpace(name), ":")) != "CC" {
			continue
		}
		f := strings.Fields(value)
		if len(f) == 0 {
			return ""
		}
		cc := f[len(f)-1]
		for strings.HasPrefix(cc, "$(") { // $(CROSS_COMPILE)gcc-12
			_, cc, _ = strings.Cut(cc, ")")
		}
		return cc
	}
	return ""
}

// sameCompiler compares what two compilers say of themselves, without the names they were called by.
func sameCompiler(a, b string) bool {
	cut := func(s string) string {
		if i := strings.IndexByte(s, '('); i >= 0 {
			return s[i:]
		}
		return s
	}
	return a != "" && cut(a) == cut(b)
}

// configString gives the value of a string option in a .config.
func configString(config, option string) string {
	for line := range strings.Lines(config) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), option+"="); ok {
			return strings.Trim(v, `"`)
		}
	}
	return ""
}

// unpack makes root and source of a kernel.
func (w *workspace) unpack(ctx context.Context, p *packages, files map[string]string) error {
	k := store{w.path("kernels/" + p.Release + "_" + p.Version)}
	var wg sync.WaitGroup
	var errs [2]error
	wg.Go(func() {
		if p.Root != "" {
			errs[0] = os.MkdirAll(k.dir, 0o777)
			if errs[0] == nil && !k.has("root") {
				errs[0] = os.Symlink(p.Root, k.path("root"))
			}
			return
		}
		_, errs[0] = k.folder("root", func(dir string) error {
			for _, name := range []string{p.Image, p.Headers, p.Common, p.Kbuild} {
				if _, _, err := w.tools.run(ctx, toolPackages, "", "dpkg-deb", "-x", files[name], dir); err != nil {
					return err
				}
			}
			return nil
		})
	})
	wg.Go(func() {
		_, errs[1] = k.folder("source", func(dir string) error {
			if p.Root != "" {
				return w.unpackTar(ctx, p.Root, p.Source, dir, k.path("source"))
			}
			pkg := dir + ".deb"
			defer os.RemoveAll(pkg)
			if _, _, err := w.tools.run(ctx, toolPackages, "", "dpkg-deb", "-x", files[p.Source], pkg); err != nil {
				return err
			}
			return w.unpackTar(ctx, pkg, p.Source, dir, k.path("source"))
		})
	})
	wg.Wait()
	return errors.Join(errs[:]...)
}

// unpackTar unpacks the source, without documents and other architectures.
func (w *workspace) unpackTar(ctx context.Context, root, name, dir, final string) error {
	tars, err := filepath.Glob(filepath.Join(root, "usr/src", name+".tar.*"))
	if err != nil || len(tars) != 1 {
		return failure(codePackage, diag.Place{File: name}, "Download the package again.", "%d archives of the source in it", len(tars))
	}
	_, _, err = w.tools.run(ctx, toolPackages, "", "tar", "-x", "-f", tars[0], "-C", dir, "--strip-components=1",
		"--wildcards", "--no-wildcards-match-slash", "--exclude=linux-source-*/Documentation", "--exclude=linux-source-*/arch/[a-tv-wyz]*")
	if err != nil {
		return err
	}
	// Some of its Makefiles say $(srctree)/$(src), where src is absolute for the way in which objects are made here.
	link := filepath.Join(dir, final)
	if err := os.MkdirAll(filepath.Dir(link), 0o777); err != nil {
		return err
	}
	return os.Symlink(final, link)
}

// make asks kbuild, in a folder of the source, how it makes the objects of C files, or all
// of a folder (FOLDER/). It runs none of the commands. (Without KBUILD_BUILTIN a folder stands
// for its modules only.)
func (k *target) make(ctx context.Context, t *tools, folder string, sources []string) ([]command, string, error) {
	args := []string{"-n", "-k", "-C", k.headers, "-f", k.source + "/Makefile", "M=" + path.Join(k.source, folder), "KBUILD_BUILTIN=1", "CFLAGS_KERNEL=" + listedFlag, "CFLAGS_MODULE=" + listedFlag}
	for _, s := range sources {
		s = strings.TrimPrefix(strings.TrimPrefix(s, folder), "/")
		if c, ok := strings.CutSuffix(s, ".c"); ok {
			s = c + ".o"
		}
		args = append(args, s)
	}
	out, errs, err := t.run(ctx, toolMake, "", "make", args...)
	if ctx.Err() != nil {
		return nil, "", ctx.Err()
	}
	var one diag.Diagnostic
	if errors.As(err, &one) && strings.Contains(one.Message, "no program") {
		return nil, "", err
	}
	return parseMake(out, k.source), errs, nil // -k: what one target lacks does not matter to the others
}

// commands gives how the objects of C files are made: for each what the cache or make
// says. What the kernel's configuration makes no object of is left out. wants has what make
// says of objects that need a file which only a whole build generates.
func (k *target) commands(ctx context.Context, t *tools, sources []string) (cmds map[string]command, cached bool, wants map[string]string, err error) {
	cmds, wants = make(map[string]command), make(map[string]string)
	var ask []string
	for _, s := range sources {
		c, ok := k.loadCommand(s)
		switch {
		case !ok:
			ask = append(ask, s)
		case c.Compiler != "":
			cmds[s] = c
		}
	}
	cached = len(ask) == 0
	if cached {
		return cmds, true, wants, nil
	}
	side, err := k.sideFolders()
	if err != nil {
		return nil, false, nil, err
	}
	var unlisted []string
	groups := map[string][]string{"": ask}
	for _, pass := range []bool{false, true} {
		next := make(map[string][]string)
		for _, folder := range sortedKeys(groups) {
			made, errs, err := k.make(ctx, t, folder, groups[folder])
			if err != nil {
				return nil, false, nil, err
			}
			for f, why := range wanting(errs, k.source) {
				wants[f] = why
			}
			for _, c := range made {
				if c.listed {
					if err := k.put(commandName(c.Source), c.encode()); err != nil {
						return nil, false, nil, err
					}
					cmds[c.Source] = c
				}
			}
			for _, s := range groups[folder] {
				_, done := cmds[s]
				in := slices.IndexFunc(side, func(d string) bool { return strings.HasPrefix(s, d+"/") })
				switch {
				case done, wants[s] != "":
				case !pass && in >= 0:
					next[side[in]] = append(next[side[in]], s)
				default:
					unlisted = append(unlisted, s)
				}
			}
		}
		groups = next
	}
	if len(unlisted) == 0 {
		return cmds, false, wants, nil
	}
	if err := k.reachingOut(ctx, t); err != nil {
		return nil, false, nil, err
	}
	for _, s := range unlisted {
		if c, ok := k.loadCommand(s); ok && c.Compiler != "" {
			cmds[s] = c
		} else if err := k.put(commandName(s), (&command{Source: s}).encode()); err != nil {
			return nil, false, nil, err
		}
	}
	return cmds, false, wants, nil
}

// reachingOut records, once, how the objects are made that a Makefile names through
// "..": of KVM and some drivers. No rule leads to them from their own folder.
func (k *target) reachingOut(ctx context.Context, t *tools) error {
	const done = "reaching-out-" + cacheVersion
	if k.has(done) {
		return nil
	}
	var folders []string
	err := filepath.WalkDir(k.source, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(p, k.source+"/")
		switch {
		case d.IsDir() && (slices.Contains([]string{"tools", "scripts", "samples", "rust", "arch/um", "arch/x86/um", "arch/xtensa"}, rel)):
			return fs.SkipDir
		case d.IsDir() || d.Name() != "Makefile" && d.Name() != "Kbuild" || path.Dir(rel) == ".":
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		out := namesOutside(string(text))
		for _, inc := range includedMakefiles(string(text)) {
			more, err := os.ReadFile(filepath.Join(k.source, inc))
			out = out || err == nil && namesOutside(string(more))
		}
		if out {
			folders = append(folders, path.Dir(rel)+"/")
		}
		return nil
	})
	if err != nil {
		return err
	}
	made, _, err := k.make(ctx, t, "", folders)
	if err != nil {
		return err
	}
	for _, c := range made {
		if _, known := k.loadCommand(c.Source); c.listed && !known {
			if err := k.put(commandName(c.Source), c.encode()); err != nil {
				return err
			}
		}
	}
	return k.put(done, nil)
}

// sideFolders gives the folders that only the kernel's own Makefiles lead to, not the
// rules of the folder above them: in these make is asked from there. Deeper ones come first.
func (k *target) sideFolders() ([]string, error) {
	config, err := os.ReadFile(filepath.Join(k.headers, ".config"))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, m := range []string{"arch/x86/Makefile", "Makefile"} {
		text, err := os.ReadFile(filepath.Join(k.source, m))
		if err != nil {
			return nil, err
		}
		out = append(out, sideFolders(string(text), string(config))...)
	}
	return out, nil
}

func commandName(source string) string { return "commands-" + cacheVersion + "/" + source + ".json" }

func (k *target) loadCommand(source string) (command, bool) {
	data, ok := k.get(commandName(source))
	if !ok {
		return command{}, false
	}
	return decodeCommand(data)
}

// includedC gives the C files that other files include.
func (k *target) includedC() (map[string]bool, bool, error) {
	text, cached := k.get("included-c-" + cacheVersion)
	if !cached {
		x, _, err := k.index()
		if err != nil {
			return nil, false, err
		}
		text = []byte(strings.Join(x.includedC(), "\n") + "\n")
		if err := k.put("included-c-"+cacheVersion, text); err != nil {
			return nil, false, err
		}
	}
	out := make(map[string]bool)
	for f := range strings.FieldsSeq(string(text)) {
		out[f] = true
	}
	return out, cached, nil
}

// index gives who includes what in the whole source.
func (k *target) index() (*index, bool, error) {
	if data, ok := k.get("includes-" + cacheVersion); ok {
		return parseIndex(string(data)), true, nil
	}
	var files []string
	err := filepath.WalkDir(k.source, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(p, k.source+"/")
		if d.IsDir() && (rel == "tools" || rel == "scripts" || rel == "samples" || rel == "rust") {
			return fs.SkipDir
		}
		if ext := filepath.Ext(p); d.Type().IsRegular() && (ext == ".c" || ext == ".h") {
			files = append(files, rel)
		}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	lists := make([][]string, len(files))
	errs := make([]error, len(files))
	var wg sync.WaitGroup
	n := runtime.GOMAXPROCS(0)
	for w := range n {
		wg.Go(func() {
			var buf []byte // one for all: the source is large
			for i := w; i < len(files); i += n {
				buf, errs[i] = readInto(filepath.Join(k.source, files[i]), buf)
				lists[i] = scanIncludes(buf)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, false, err
	}
	in := make(map[string][]string, len(files))
	for i, f := range files {
		in[f] = lists[i]
	}
	data := makeIndex(in)
	return parseIndex(string(data)), false, k.put("includes-"+cacheVersion, data)
}

// readInto reads a file into a buffer, which grows as needed.
func readInto(name string, buf []byte) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return buf[:0], err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return buf[:0], err
	}
	buf = slices.Grow(buf[:0], int(fi.Size()))[:fi.Size()]
	n, err := io.ReadFull(f, buf)
	return buf[:n], err
}

func (k *target) read(name string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(k.source, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, failure(codeApply, diag.Place{File: name}, "Take the version of the patch that is made for this kernel's series.", "the source of %s has no such file", k.release)
	}
	return data, err
}

// modulePath gives the file of a module in the kernel's package, which may be compressed.
func (k *target) modulePath(ko string) (string, error) {
	for _, lib := range []string{"lib/modules", "usr/lib/modules"} {
		for _, ext := range []string{"", ".xz", ".zst", ".gz"} {
			p := filepath.Join(k.root, lib, k.release, ko+ext)
			if _, err := os.Stat(p); err == nil {
				return p, nil
			}
		}
	}
	return "", failure(codeModule, diag.Place{File: ko}, "", "the kernel's package lists the module but does not have it")
}

// file finds a file of the image's package under /lib/modules/RELEASE or /boot.
func (k *target) file(name string) ([]byte, error) {
	for _, p := range []string{"lib/modules/" + k.release + "/" + name, "usr/lib/modules/" + k.release + "/" + name, "boot/" + name + "-" + k.release} {
		data, err := os.ReadFile(filepath.Join(k.root, p))
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return data, err
		}
	}
	return nil, failure(codePackage, diag.Place{File: name}, "", "the package of the image has no %s", name)
}

// String names the kernel.
func (k *target) String() string { return fmt.Sprintf("%s (%s)", k.release, k.version) }
