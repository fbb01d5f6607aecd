package livepatch

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kdelta/kdelta/pkg/atomicfile"
	"github.com/kdelta/kdelta/pkg/diag"
)

// Places of what is installed for boot.
const (
	DefaultStore   = "/var/lib/kdelta"
	DefaultUnitDir = "/etc/systemd/system"
	UnitName       = "kdelta-livepatch.service"

	orderFile = "order" // names, one a line, in the order in which they were installed
	wantedBy  = "multi-user.target.wants"
)

// Store is what is loaded at boot: Dir/RELEASE/NAME.ko, and a systemd unit that
// loads what is there for the release that runs.
type Store struct {
	Dir     string // DefaultStore
	UnitDir string // where the unit goes; "": no unit is made
	Program string // absolute path of what the unit runs, as PROGRAM load --installed
}

// Installed is a module of the store.
type Installed struct {
	Name    string
	Release string
	File    string
	Replace *bool // as in Module; nil also when the file cannot be read
	Skipped bool  // not loaded at boot: a later one replaces it
}

func storeFailed(file string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	code := diag.StoreFailed
	if errors.Is(err, fs.ErrPermission) {
		code = diag.NotPermitted
	}
	return refuse(diag.New(code, diag.Place{File: file}, "%v", err))
}

// validRelease keeps releases from becoming other paths than one directory.
func validRelease(r string) bool {
	return r != "" && len(r) <= 64 && r[0] != '.' && !strings.ContainsFunc(r, func(c rune) bool {
		return c != '.' && c != '_' && c != '+' && c != '-' && c != '~' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
	})
}

func (st *Store) file(release, name string) string {
	return filepath.Join(st.Dir, release, name+".ko")
}

// Install puts a module into the store for the release that it was built for, and
// makes sure that the unit is there. It loads nothing. changed is false when all
// was there before. On error, nothing is changed.
func (st *Store) Install(m *Module) (in Installed, changed bool, err error) {
	in = Installed{Name: m.Name, Release: m.Release(), Replace: m.Replace}
	if !m.Livepatch {
		return in, false, refuse(diag.New(diag.NotLivepatch, diag.Place{File: m.File}, "the module does not say livepatch=Y"))
	}
	if !validRelease(in.Release) {
		return in, false, refuse(diag.New(diag.WrongRelease, diag.Place{File: m.File}, "the module is for the release %q, which is none", in.Release))
	}
	in.File = st.file(in.Release, m.Name)
	there := false
	switch old, err := os.ReadFile(in.File); {
	case err == nil && !bytes.Equal(old, m.Data):
		return in, false, refuse(diag.New(diag.StoreConflict, diag.Place{File: in.File}, "another module is installed under the name %s", m.Name))
	case err == nil:
		there = true
	case !errors.Is(err, fs.ErrNotExist):
		return in, false, storeFailed(in.File, err)
	}
	// The unit first: it does nothing while no module is there.
	unit, err := st.installUnit()
	if err == nil && !there {
		err = st.add(in.Release, m)
	}
	if err != nil {
		if !there {
			_ = st.cleanUp(in.Release) // the first error is the one that tells
		}
		return in, false, err
	}
	return in, unit || !there, nil
}

func (st *Store) add(release string, m *Module) error {
	dir := filepath.Join(st.Dir, release)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return storeFailed(dir, err)
	}
	// The order first: a name without a file is not loaded.
	order, err := st.order(release)
	if err != nil {
		return err
	}
	order = append(slices.DeleteFunc(order, func(n string) bool { return n == m.Name }), m.Name)
	if err := st.setOrder(release, order); err != nil {
		return err
	}
	if err := atomicfile.Write(st.file(release, m.Name), m.Data, 0o644); err != nil {
		return storeFailed(st.file(release, m.Name), err)
	}
	return nil
}

// cleanUp removes what nothing needs any more: the directory of a release without
// modules, and the unit when no release has any. Files of somebody else stay, and with them their directories.
func (st *Store) cleanUp(release string) error {
	rs, err := st.Releases()
	if err != nil {
		return err
	}
	var gone []string
	if !slices.Contains(rs, release) {
		gone = append(gone, filepath.Join(st.Dir, release, orderFile))
	}
	if len(rs) == 0 && st.UnitDir != "" {
		gone = append(gone, filepath.Join(st.UnitDir, wantedBy, UnitName), filepath.Join(st.UnitDir, UnitName))
	}
	var first error // one that stays keeps no other
	for _, f := range gone {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) && first == nil {
			first = storeFailed(f, err)
		}
	}
	dir := filepath.Join(st.Dir, release)
	if fi, err := os.Lstat(dir); err == nil && fi.IsDir() {
		_ = os.Remove(dir) // when it is empty
	}
	return first
}

// Unit gives the text of the systemd unit.
func (st *Store) Unit() string {
	return fmt.Sprintf(`# Written by kdelta-manage install.
[Unit]
Description=Live patches of the running kernel
ConditionKernelCommandLine=!kdelta.livepatch=0
ConditionDirectoryNotEmpty=%[2]s/%%v
After=local-fs.target systemd-modules-load.service
Before=network-pre.target
Wants=network-pre.target

[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutStartSec=infinity
ExecStart=%[1]s load --installed --store %[2]s

[Install]
WantedBy=multi-user.target
`, st.Program, st.Dir)
}

func (st *Store) installUnit() (changed bool, err error) {
	if st.UnitDir == "" {
		return false, nil
	}
	for _, p := range []string{st.Program, st.Dir} {
		if !filepath.IsAbs(p) || strings.ContainsAny(p, " \t\n\"'\\%$") {
			return false, refuse(diag.New(diag.StoreFailed, diag.Place{File: p}, "cannot stand in a systemd unit: not an absolute path without blanks and quotes"))
		}
	}
	unit := filepath.Join(st.UnitDir, UnitName)
	if old, err := os.ReadFile(unit); err != nil || string(old) != st.Unit() {
		if err := os.MkdirAll(st.UnitDir, 0o755); err != nil {
			return false, storeFailed(st.UnitDir, err)
		}
		if err := atomicfile.Write(unit, []byte(st.Unit()), 0o644); err != nil {
			return false, storeFailed(unit, err)
		}
		changed = true
	}
	link := filepath.Join(st.UnitDir, wantedBy, UnitName)
	if _, err := os.Lstat(link); err == nil {
		return changed, nil
	}
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return changed, storeFailed(filepath.Dir(link), err)
	}
	if err := os.Symlink(filepath.Join("..", UnitName), link); err != nil {
		return changed, storeFailed(link, err)
	}
	return true, nil
}

// Remove takes a module out of the store, and the unit away with the last one. It unloads nothing.
func (st *Store) Remove(release, name string) (Installed, error) {
	in := Installed{Name: name, Release: release}
	if !validRelease(release) || !validName(name) {
		return in, refuse(diag.New(diag.NoSuchPatch, diag.Place{Symbol: name}, "is not installed for %s", release))
	}
	in.File = st.file(release, name)
	if err := os.Remove(in.File); errors.Is(err, fs.ErrNotExist) {
		return in, refuse(diag.New(diag.NoSuchPatch, diag.Place{File: in.File}, "is not installed"))
	} else if err != nil {
		return in, storeFailed(in.File, err)
	}
	order, err := st.order(release)
	if err != nil {
		return in, err
	}
	if order = slices.DeleteFunc(order, func(n string) bool { return n == name }); len(order) > 0 {
		if err := st.setOrder(release, order); err != nil {
			return in, err
		}
	}
	return in, st.cleanUp(release)
}

// Releases gives the kernels for which something is installed, sorted.
func (st *Store) Releases() ([]string, error) {
	es, err := os.ReadDir(st.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, storeFailed(st.Dir, err)
	}
	var out []string
	for _, e := range es {
		if !e.IsDir() || !validRelease(e.Name()) {
			continue
		}
		if ko, err := filepath.Glob(filepath.Join(st.Dir, e.Name(), "*.ko")); err == nil && len(ko) > 0 {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// Installed gives what is installed for a kernel, in the order in which it is
// loaded: that of installation; files that somebody else put there come last, by name.
func (st *Store) Installed(release string) ([]Installed, error) {
	if !validRelease(release) {
		return nil, nil
	}
	order, err := st.order(release)
	if err != nil {
		return nil, err
	}
	es, err := os.ReadDir(filepath.Join(st.Dir, release))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, storeFailed(filepath.Join(st.Dir, release), err)
	}
	var out []Installed
	for _, e := range es {
		name, ok := strings.CutSuffix(e.Name(), ".ko")
		if !ok || !validName(name) {
			continue
		}
		in := Installed{Name: name, Release: release, File: st.file(release, name)}
		if data, err := os.ReadFile(in.File); err == nil {
			if m, err := ReadModule(in.File, data); err == nil {
				in.Replace = m.Replace
			}
		}
		out = append(out, in)
	}
	rank := func(n string) int {
		if i := slices.Index(order, n); i >= 0 {
			return i
		}
		return len(order)
	}
	slices.SortStableFunc(out, func(a, b Installed) int { return rank(a.Name) - rank(b.Name) })
	for i := len(out) - 1; i >= 0; i-- {
		if out[i].Replace != nil && *out[i].Replace {
			for j := range out[:i] {
				out[j].Skipped = true
			}
			break
		}
	}
	return out, nil
}

func (st *Store) order(release string) ([]string, error) {
	file := filepath.Join(st.Dir, release, orderFile)
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, storeFailed(file, err)
	}
	return strings.Fields(string(data)), nil
}

func (st *Store) setOrder(release string, names []string) error {
	file := filepath.Join(st.Dir, release, orderFile)
	if err := atomicfile.Write(file, []byte(strings.Join(names, "\n")+"\n"), 0o644); err != nil {
		return storeFailed(file, err)
	}
	return nil
}
