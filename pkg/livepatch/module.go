package livepatch

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
)

// Module is what a module file says about itself.
type Module struct {
	File      string // where it was read from
	Name      string
	Vermagic  string
	Livepatch bool  // it says that it is a live patch
	Signed    bool  // a signature is appended; only the kernel can say whether it is a good one
	Known     bool  // Objects could be read
	Replace   *bool // whether it replaces all active patches; nil: unknown
	Objects   []Object
	Depends   []string
	Data      []byte
}

// Release is the kernel release that the module was built for.
func (m *Module) Release() string {
	r, _, _ := strings.Cut(m.Vermagic, " ")
	return r
}

// The trailer of a signed module (include/linux/module_signature.h).
const (
	sigMarker = "~Module signature appended~\n"
	sigInfo   = 12 // struct module_signature
)

// signature gives the length of the appended signature with its trailer, 0 none.
func signature(ko []byte) int {
	rest, ok := bytes.CutSuffix(ko, []byte(sigMarker))
	if !ok || len(rest) < sigInfo {
		return 0
	}
	n := uint64(binary.BigEndian.Uint32(rest[len(rest)-4:]))
	if n > uint64(len(rest)-sigInfo) {
		return 0
	}
	return int(n) + sigInfo + len(sigMarker)
}

// ReadModule reads a module file, signed or not, but not compressed. file names it in
// errors, which are *diag.Error: elf-... , and not-livepatch for what is no module.
//
// Which functions it replaces is read from the tables of kdelta, kpatch and the
// kernel's own build, and from a struct klp_patch that starts with the address of
// __this_module, as every C source has it.
func ReadModule(file string, ko []byte) (*Module, error) {
	m := &Module{File: file, Data: ko}
	sig := signature(ko)
	m.Signed = sig > 0
	f, err := object.Parse(ko[:len(ko)-sig], object.Options{Name: file})
	if err != nil {
		return nil, err
	}
	sec := slices.IndexFunc(f.Sections, func(s object.Section) bool { return s.Name == ".modinfo" })
	if sec < 0 {
		return nil, refuse(diag.New(diag.NotLivepatch, diag.Place{File: file}, "no .modinfo section: this is no kernel module"))
	}
	for item := range bytes.SplitSeq(f.Sections[sec].Data, []byte{0}) {
		key, value, _ := strings.Cut(string(item), "=")
		switch key {
		case "name":
			m.Name = value
		case "vermagic":
			m.Vermagic = printable(value)
		case "livepatch":
			m.Livepatch = true
		case "depends":
			for d := range strings.SplitSeq(value, ",") {
				if d != "" {
					m.Depends = append(m.Depends, printable(d))
				}
			}
		}
	}
	if m.Name == "" {
		m.Name = klp.ModuleName(file)
	}
	m.Name = strings.ReplaceAll(m.Name, "-", "_")
	if !validName(m.Name) {
		return nil, refuse(diag.New(diag.NotLivepatch, diag.Place{File: file, Section: ".modinfo"}, "the name of the module, %q, is none that the kernel takes", m.Name))
	}
	m.contents(f)
	return m, nil
}

// validName keeps names from becoming paths.
func validName(name string) bool {
	return name != "" && len(name) <= klp.MaxObjectName && !strings.ContainsFunc(name, func(r rune) bool {
		return r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// contents reads what the module replaces. Tables that contradict themselves are
// the business of the verifier and of the kernel: here they count as unknown.
func (m *Module) contents(f *object.File) {
	p, replace, err := klp.ReadStatic(f, nil)
	m.Replace = &replace
	if err != nil || len(p.Objects) == 0 {
		p, replace = klp.ReadSource(f, nil)
		err = nil
	}
	if len(p.Objects) == 0 {
		// Here the module's start makes the structures, and decides.
		p, err = klp.ReadFinal(f)
		m.Replace = nil
	}
	if err != nil || len(p.Objects) == 0 {
		m.Replace = nil
		return
	}
	for _, o := range p.Objects {
		ours := Object{Name: o.Name}
		for _, fn := range o.Funcs {
			if printable(o.Name+fn.Name) != o.Name+fn.Name { // no name that a kernel has
				m.Objects, m.Replace = nil, nil
				return
			}
			ours.Funcs = append(ours.Funcs, Func{Name: fn.Name, Pos: max(fn.Pos, 1)})
		}
		m.Objects = append(m.Objects, ours)
	}
	m.Known = true
}
