// Package image reads what one Linux kernel says of itself in its files.
//
// Parse takes the file that is booted (a bzImage, or the vmlinux in it) and gives
// the kernel's release and vermagic, its symbols in its own order (kallsyms),
// exports with their checksums, layouts of structures (BTF), linked code and data,
// and the conventions of its code. ParseModule does the same for a module's
// .ko. Neither needs debug information, headers or a running kernel; where the
// files are not at hand FromParts takes what a running kernel tells.
//
// The image is the kernel as it was linked: no alternative is applied, no call of
// the tracer is a NOP that the build did not make one, no static branch is switched.
//
// Bytes in, values out. Files are taken as hostile: what contradicts itself is
// refused with a *diag.Error (image-malformed, image-unsupported, image-limit and the
// codes of object.Parse), without a panic and without memory in proportion to
// what a header claims.
package image

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/cilium/ebpf/btf"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/internal/checked"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/symbols"
)

var le = binary.LittleEndian

// Options tells Parse and ParseModule what to call the file and how much to accept. The zero value is useful.
type Options struct {
	Name    string // for diagnostics
	MaxSize int64  // bytes after decompression; 0: 1 GiB
}

func (o Options) maxSize() int64 {
	if o.MaxSize <= 0 {
		return 1 << 30
	}
	return o.MaxSize
}

// Symbol is an entry of kallsyms.
type Symbol struct {
	Name string
	Addr uint64 // as linked; offsets into the per-CPU area are small numbers where the kernel links it at 0
	Type byte   // the letter of nm; upper case is global
}

// Export is an exported symbol.
type Export struct {
	Name      string
	Namespace string
	Addr      uint64 // as linked; of a module: the symbol's st_value
	CRC       uint32 // 0 without CONFIG_MODVERSIONS
	GPL       bool   // EXPORT_SYMBOL_GPL
}

// Section is an allocated section of the kernel as it was linked.
type Section struct {
	Name  string
	Addr  uint64
	Size  uint64
	Flags elf.SectionFlag
	Data  []byte // nil for those without contents, and for those that Encode leaves out
}

// Exec reports whether the section holds instructions.
func (s *Section) Exec() bool { return s.Flags&elf.SHF_EXECINSTR != 0 }

// Kernel is the facts of one kernel. Treat it as read-only; it may be used by several goroutines.
type Kernel struct {
	Name     string    // as the caller calls the file
	Release  string    // uname -r
	Banner   string    // /proc/version; empty when unknown
	Vermagic string    // what modules must say; empty when unknown
	Compiler string    // as the banner names it
	Symbols  []Symbol  // all of kallsyms, in the kernel's order
	Exports  []Export  // sorted by name
	Sections []Section // by address

	conv    conventions
	mcount  []uint64 // sorted; nil when unknown
	structs map[string]Struct
	btfRaw  []byte
	symvers *symbols.Symvers // FromParts: with the exports of modules

	once    sync.Once
	byName  map[string]int32 // first symbol of a name
	next    []int32          // the next one of the same name, -1
	onceBTF sync.Once
	spec    *btf.Spec

	onceTable sync.Once
	table     *symbols.Table
	tableErr  error
}

// problem makes the error of a file that is not what it should be.
func problem(code diag.Code, at diag.Place, format string, args ...any) error {
	return &diag.Error{Diagnostics: []diag.Diagnostic{diag.New(code, at, format, args...)}}
}

// Parse reads a kernel: a bzImage (payload in xz, zstd, gzip or lz4), the vmlinux
// that is in it, or either compressed once more. The result keeps views of data
// when that was not compressed.
func Parse(data []byte, opts Options) (*Kernel, error) {
	data, err := vmlinux(data, opts)
	if err != nil {
		return nil, err
	}
	f, err := object.Parse(data, object.Options{Name: opts.Name})
	if err != nil {
		return nil, err
	}
	if f.Header.Type == elf.ET_REL {
		return nil, problem(diag.ImageMalformed, diag.Place{File: opts.Name}, "a relocatable object, which nothing boots")
	}
	k := &Kernel{Name: opts.Name}
	for i := range f.Sections {
		s := &f.Sections[i]
		if !s.Alloc() || s.Size == 0 {
			continue
		}
		if s.Addr+s.Size < s.Addr {
			return nil, problem(diag.ImageMalformed, diag.Place{File: opts.Name, Section: s.Name}, "it does not end: %#x bytes at %#x", s.Size, s.Addr)
		}
		k.Sections = append(k.Sections, Section{Name: s.Name, Addr: s.Addr, Size: s.Size, Flags: s.Flags, Data: s.Data})
	}
	slices.SortStableFunc(k.Sections, func(a, b Section) int {
		if a.Addr != b.Addr {
			if a.Addr < b.Addr {
				return -1
			}
			return 1
		}
		return 0
	})
	if err := k.readSymbols(f); err != nil {
		return nil, err
	}
	if err := k.readVersion(); err != nil {
		return nil, err
	}
	if err := k.readExports(); err != nil {
		return nil, err
	}
	if s := k.Section(".BTF"); s != nil {
		k.btfRaw = s.Data
	}
	k.readStructs()
	k.readMcount()
	k.readConventions()
	return k, nil
}

// readSymbols reads kallsyms, or what the file's symbol table says where the kernel has none.
func (k *Kernel) readSymbols(f *object.File) error {
	err := k.readKallsyms()
	if err == nil || len(f.Symbols) < 2 || f.Sections[f.Symtab].Type != elf.SHT_SYMTAB {
		return err
	}
	for i := range f.Symbols {
		s := &f.Symbols[i]
		if s.Name == "" || s.Undefined() || s.Type() == elf.STT_SECTION || s.Type() == elf.STT_FILE || s.Shndx == elf.SHN_ABS && s.Bind() == elf.STB_LOCAL {
			continue
		}
		k.Symbols = append(k.Symbols, Symbol{Name: s.Name, Addr: s.Value, Type: letter(f, s)})
	}
	slices.SortStableFunc(k.Symbols, func(a, b Symbol) int {
		switch {
		case a.Addr < b.Addr:
			return -1
		case a.Addr > b.Addr:
			return 1
		}
		return 0
	})
	return nil
}

// letter gives that of nm.
func letter(f *object.File, s *object.Symbol) byte {
	c := byte('A')
	if s.Sec != 0 {
		sec := &f.Sections[s.Sec]
		switch {
		case sec.Exec():
			c = 'T'
		case sec.Type == elf.SHT_NOBITS:
			c = 'B'
		case sec.Flags&elf.SHF_WRITE != 0:
			c = 'D'
		default:
			c = 'R'
		}
	}
	switch s.Bind() {
	case elf.STB_LOCAL:
		c |= 0x20
	case elf.STB_WEAK:
		if c = 'W'; s.Type() == elf.STT_OBJECT {
			c = 'V'
		}
	}
	return c
}

// Section gives the section of a name, nil when there is none.
func (k *Kernel) Section(name string) *Section {
	for i := range k.Sections {
		if k.Sections[i].Name == name {
			return &k.Sections[i]
		}
	}
	return nil
}

// SectionAt gives the section that an address lies in, nil when there is none.
func (k *Kernel) SectionAt(addr uint64) *Section {
	i := sort.Search(len(k.Sections), func(i int) bool { return k.Sections[i].Addr > addr }) - 1
	if i < 0 || addr-k.Sections[i].Addr >= k.Sections[i].Size {
		return nil
	}
	return &k.Sections[i]
}

// Bytes gives n bytes of code or data as linked; nil when they are not all in one section's contents.
func (k *Kernel) Bytes(addr uint64, n int) []byte {
	s := k.SectionAt(addr)
	if s == nil || n < 0 {
		return nil
	}
	b, _ := checked.Slice(s.Data, addr-s.Addr, uint64(n))
	return b
}

// maxString bounds a NUL-terminated string of the image.
const maxString = 4096

// String gives the NUL-terminated string at an address.
func (k *Kernel) String(addr uint64) (string, bool) {
	s := k.SectionAt(addr)
	if s == nil || addr-s.Addr >= uint64(len(s.Data)) {
		return "", false
	}
	b := s.Data[addr-s.Addr:]
	i := bytes.IndexByte(b[:min(len(b), maxString)], 0)
	if i < 0 {
		return "", false
	}
	return string(b[:i]), true
}

func (k *Kernel) index() {
	k.once.Do(func() {
		k.byName = make(map[string]int32, len(k.Symbols))
		k.next = make([]int32, len(k.Symbols))
		for i := len(k.Symbols) - 1; i >= 0; i-- {
			name := k.Symbols[i].Name
			k.next[i] = -1
			if j, ok := k.byName[name]; ok {
				k.next[i] = j
			}
			k.byName[name] = int32(i)
		}
	})
}

// Find gives the symbols of a name as indices into Symbols, in the kernel's order.
func (k *Kernel) Find(name string) []int {
	k.index()
	i, ok := k.byName[name]
	if !ok {
		return nil
	}
	var out []int
	for ; i >= 0; i = k.next[i] {
		out = append(out, int(i))
	}
	return out
}

// First gives the first symbol of a name as an index into Symbols, -1 when there is none; Next the one after it.
func (k *Kernel) First(name string) int {
	k.index()
	if i, ok := k.byName[name]; ok {
		return int(i)
	}
	return -1
}

// Next gives the next symbol that has the name of symbol i, -1 when there is none.
func (k *Kernel) Next(i int) int {
	k.index()
	return int(k.next[i])
}

// Addr gives the address of the one symbol of a name; false when there is none or several.
func (k *Kernel) Addr(name string) (uint64, bool) {
	k.index()
	i, ok := k.byName[name]
	if !ok || k.next[i] >= 0 {
		return 0, false
	}
	return k.Symbols[i].Addr, true
}

// SymbolsAt gives the range of Symbols that lie at an address.
func (k *Kernel) SymbolsAt(addr uint64) (lo, hi int) {
	lo = sort.Search(len(k.Symbols), func(i int) bool { return k.Symbols[i].Addr >= addr })
	for hi = lo; hi < len(k.Symbols) && k.Symbols[hi].Addr == addr; hi++ {
	}
	return lo, hi
}

// Nearest gives the last symbol at or before an address, for people; -1 when there is none.
func (k *Kernel) Nearest(addr uint64) int {
	return sort.Search(len(k.Symbols), func(i int) bool { return k.Symbols[i].Addr > addr }) - 1
}

// Export gives an exported symbol.
func (k *Kernel) Export(name string) (*Export, bool) { return findExport(k.Exports, name) }

func findExport(all []Export, name string) (*Export, bool) {
	i, ok := slices.BinarySearchFunc(all, name, func(e Export, name string) int { return strings.Compare(e.Name, name) })
	if !ok {
		return nil, false
	}
	return &all[i], true
}

// Table gives the kernel's symbols as a source for an Oracle: the same one each time.
func (k *Kernel) Table() (*symbols.Table, error) {
	k.onceTable.Do(func() {
		k.table, k.tableErr = symbols.FromKallsyms(k.Name, symbols.Vmlinux, len(k.Symbols), func(i int) (uint64, byte, string) {
			s := &k.Symbols[i]
			return s.Addr, s.Type, s.Name
		})
	})
	return k.table, k.tableErr
}

// Symvers gives the kernel's exports as a source for an Oracle or a Set. Of modules it knows those that FromParts was given.
func (k *Kernel) Symvers() *symbols.Symvers {
	if k.symvers != nil {
		return k.symvers
	}
	return symvers(k.Name, symbols.Vmlinux, k.Exports)
}

func symvers(name, object string, all []Export) *symbols.Symvers {
	out := make([]symbols.Export, len(all))
	for i := range all {
		e := &all[i]
		out[i] = symbols.Export{Symbol: e.Name, Module: object, Type: "EXPORT_SYMBOL", Namespace: e.Namespace, CRC: e.CRC}
		if e.GPL {
			out[i].Type = "EXPORT_SYMBOL_GPL"
		}
	}
	return symbols.NewSymvers(name, out)
}

// Version gives the first two numbers of the release, 0.0 when it has none.
func (k *Kernel) Version() (major, minor int) { return version(k.Release) }

func version(release string) (major, minor int) {
	a, rest, _ := strings.Cut(release, ".")
	b := rest
	if i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		b = rest[:i]
	}
	major, err := strconv.Atoi(a)
	if err != nil {
		return 0, 0
	}
	minor, err = strconv.Atoi(b)
	if err != nil {
		return 0, 0
	}
	return major, minor
}

const bannerStart = "Linux version "

// readVersion finds banner, release and vermagic.
func (k *Kernel) readVersion() error {
	var ro []byte
	if s := k.Section(".rodata"); s != nil {
		ro = s.Data
	}
	if a, ok := k.Addr("linux_banner"); ok {
		k.Banner, _ = k.String(a)
	}
	for at := 0; !strings.HasPrefix(k.Banner, bannerStart); {
		i := bytes.Index(ro[at:], []byte(bannerStart))
		if i < 0 {
			return problem(diag.ImageMalformed, diag.Place{File: k.Name}, "no banner (%q) in it", bannerStart)
		}
		at += i
		if n := bytes.IndexByte(ro[at:min(len(ro), at+maxString)], 0); n > 0 && !bytes.ContainsRune(ro[at:at+n], '%') {
			k.Banner = string(ro[at : at+n])
		}
		at++
	}
	k.Banner = strings.TrimSuffix(k.Banner, "\n")
	k.readBanner()
	if k.Release == "" {
		return problem(diag.ImageMalformed, diag.Place{File: k.Name}, "the banner %q does not tell the release", k.Banner)
	}
	k.Vermagic = findVermagic(ro, k.Release)
	return nil
}

// readBanner takes "Linux version RELEASE (builder) (compiler, linker) #1 ..." apart.
func (k *Kernel) readBanner() {
	rest := strings.TrimPrefix(k.Banner, bannerStart)
	k.Release, rest, _ = strings.Cut(rest, " ")
	for n := 0; n < 2; n++ {
		if !strings.HasPrefix(rest, "(") {
			return
		}
		depth, end := 0, -1
		for i := 0; i < len(rest) && end < 0; i++ {
			switch rest[i] {
			case '(':
				depth++
			case ')':
				if depth--; depth == 0 {
					end = i
				}
			}
		}
		if end < 0 {
			return
		}
		if n == 1 {
			k.Compiler, _, _ = strings.Cut(rest[1:end], ", ")
		}
		rest = strings.TrimLeft(rest[end+1:], " ")
	}
}

// findVermagic finds the string that starts with the release and goes on with words of a vermagic (include/linux/vermagic.h).
func findVermagic(ro []byte, release string) string {
	start := []byte("\x00" + release + " ")
	for {
		i := bytes.Index(ro, start)
		if i < 0 {
			return ""
		}
		ro = ro[i+1:]
		n := bytes.IndexByte(ro[:min(len(ro), maxString)], 0)
		if n < 0 {
			continue
		}
		s := string(ro[:n])
		ok := true
		words := strings.Fields(s)[1:]
		for _, w := range words {
			switch {
			case w == "SMP", w == "preempt", w == "preempt_rt", w == "mod_unload", w == "modversions", strings.HasPrefix(w, "RANDSTRUCT"):
			default:
				ok = false
			}
		}
		if ok && len(words) > 0 {
			return s
		}
	}
}
