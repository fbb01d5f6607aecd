package object

import (
	"archive/tar"
	"bytes"
	"compress/zlib"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rebuilt makes an object again as it is and in n random orders, and compares
// each with the input: by our reader, by debug/elf and, when tools is set, by
// readelf, ld -r and eu-elflint.
func rebuilt(t *testing.T, d []byte, n int, tools bool) {
	t.Helper()
	f := mustParse(t, d)
	o := mustOracle(t, d)
	if err := o.agrees(f); err != nil {
		t.Fatal(err)
	}
	var in *seen
	if tools {
		in = look(t, d)
	}
	for k := range n + 1 {
		b := FromFile(f)
		m := identity(len(f.Sections), len(f.Symbols))
		if k > 0 {
			r := rand.New(rand.NewPCG(uint64(k), uint64(len(d))))
			secs, syms, pm := shuffle(f, r, k%2 == 0)
			m = pm
			b.SetSectionOrder(secs)
			b.SetSymbolOrder(syms)
		}
		out := mustBytes(t, b)
		if again := mustBytes(t, b); !bytes.Equal(out, again) {
			t.Fatalf("order %d: a second Bytes gives other bytes", k)
		}
		g := mustParse(t, out)
		if err := sameFile(f, g, m); err != nil {
			t.Fatalf("order %d, our reader: %v", k, err)
		}
		p := mustOracle(t, out)
		if err := o.same(p, m); err != nil {
			t.Fatalf("order %d, debug/elf: %v", k, err)
		}
		if err := p.agrees(g); err != nil {
			t.Fatalf("order %d, both readers: %v", k, err)
		}
		if tools && k <= 1 {
			in.compare(t, k, look(t, out))
		}
	}
}

func TestRoundTrip(t *testing.T) {
	corpus(t, func(t *testing.T, path string, d []byte) {
		t.Parallel()
		n := 3
		if testing.Short() {
			n = 1
		}
		rebuilt(t, d, n, !testing.Short())
	})
}

func TestRoundTripVmlinux(t *testing.T) {
	const pair = "../../../shared/pairs/vmlinux-pair.tar.zst"
	if testing.Short() {
		t.Skip("36 MB objects")
	}
	if _, err := os.Stat(pair); err != nil {
		t.Skip("no ../../../shared/pairs/vmlinux-pair.tar.zst")
	}
	zstd, err := exec.LookPath("zstd")
	if err != nil {
		t.Skip("unpacking ../../../shared/pairs/vmlinux-pair.tar.zst needs zstd")
	}
	var stderr bytes.Buffer
	cmd := exec.Command(zstd, "-dcq", "--long=27", pair)
	cmd.Stderr = &stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for tr := tar.NewReader(pipe); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		exec := filepath.Base(h.Name) == "vmlinux"
		if !strings.HasSuffix(h.Name, ".o") && !exec {
			continue
		}
		d, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if exec {
			if err := mustOracle(t, d).agrees(mustParse(t, d)); err != nil {
				t.Errorf("%s: %v", h.Name, err)
			}
			continue
		}
		t.Run(h.Name, func(t *testing.T) { rebuilt(t, d, 2, strings.Contains(h.Name, "ORIG")) })
	}
	io.Copy(io.Discard, pipe)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("zstd: %v: %s", err, stderr.String())
	}
}

// seen is what the tools of the system say of an object.
type seen struct {
	listing map[string][]string // readelf: sections, symbols, relocations without numbers and offsets, sorted
	whole   string              // readelf -aW without file offsets
	noise   string              // readelf: exit status and messages
	ld      string              // ld -r: exit status and messages
	lint    map[string]bool     // eu-elflint: messages without numbers
}

var (
	symLine    = regexp.MustCompile(`^ *\d+: ([0-9a-f]{16} .*)$`)
	symNdx     = regexp.MustCompile(`^(([0-9a-f]{16}) +\S+ +\S+ +\S+ +\S+) +(?:\[.*\] +)?(\S+)(.*)$`)
	relLine    = regexp.MustCompile(`^([0-9a-f]{16}) +([0-9a-f]{16}) +(R_\S+)(.*)$`)
	secOffset  = regexp.MustCompile(`(?m)^(  \[ *\d+\] .*? [0-9a-f]{16}) [0-9a-f]{6,} `)
	fileOffset = regexp.MustCompile(`at offset 0x[0-9a-f]+|starting at offset 0x[0-9a-f]+|Start of section headers: .*`)
	numbers    = regexp.MustCompile(`\[ *\d+\]|\d+`)
)

func look(t *testing.T, d []byte) *seen {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.o")
	if err := os.WriteFile(path, d, 0o644); err != nil {
		t.Fatal(err)
	}
	s := &seen{listing: map[string][]string{}}
	if readelf, err := exec.LookPath("readelf"); err == nil {
		what := "-aW"
		if len(d) > 4<<20 {
			what = "-hSsW" // its time for relocations is quadratic in their sections
		}
		out, stderr, status := run(readelf, what, path)
		s.noise = status + stderr
		s.whole = fileOffset.ReplaceAllString(secOffset.ReplaceAllString(out, "$1 "), "")
		for line := range strings.Lines(out) {
			line = strings.TrimRight(line, "\n")
			if m := symLine.FindStringSubmatch(line); m != nil {
				if n := symNdx.FindStringSubmatch(m[1]); n != nil {
					ndx := n[3]
					if ndx[0] >= '0' && ndx[0] <= '9' {
						ndx = "section"
					}
					s.listing["symbol"] = append(s.listing["symbol"], n[1]+" "+ndx+n[4])
				}
			} else if m := relLine.FindStringSubmatch(line); m != nil {
				s.listing["reloc"] = append(s.listing["reloc"], m[1]+" "+m[2][8:]+" "+m[3]+m[4])
			}
		}
		for _, l := range s.listing {
			slices.Sort(l)
		}
	}
	if ld, err := exec.LookPath("ld"); err == nil {
		out, stderr, status := run(ld, "-r", "-o", path+".ld", path)
		s.ld = strings.ReplaceAll(status+out+stderr, path, "x.o")
	}
	if lint, err := exec.LookPath("eu-elflint"); err == nil && len(d) < 4<<20 {
		out, stderr, _ := run(lint, "--gnu-ld", path)
		s.lint = map[string]bool{}
		for line := range strings.Lines(out + stderr) {
			s.lint[numbers.ReplaceAllString(strings.ReplaceAll(line, path, ""), "N")] = true
		}
	}
	return s
}

func run(name string, args ...string) (stdout, stderr, status string) {
	var o, e bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdout, cmd.Stderr = &o, &e
	if err := cmd.Run(); err != nil {
		status = err.Error() + "\n"
	}
	return o.String(), e.String(), status
}

// compare checks that the tools find nothing in order k of an object that they did not find in the object itself.
func (s *seen) compare(t *testing.T, k int, got *seen) {
	t.Helper()
	if got.noise != "" && got.noise != s.noise {
		t.Errorf("order %d: readelf: %s", k, first(got.noise))
	}
	if k == 0 && got.whole != s.whole {
		t.Errorf("readelf -aW differs: %s", firstDifference(strings.Split(s.whole, "\n"), strings.Split(got.whole, "\n")))
	}
	for what, want := range s.listing {
		if !slices.Equal(want, got.listing[what]) {
			t.Errorf("order %d: readelf lists other %ss: %s", k, what, firstDifference(want, got.listing[what]))
		}
	}
	if got.ld != s.ld {
		t.Errorf("order %d: ld -r: %s", k, first(got.ld))
	}
	for line := range got.lint {
		if !s.lint[line] && !strings.HasPrefix(line, "No errors") {
			t.Errorf("order %d: eu-elflint: %s", k, line)
		}
	}
}

func first(s string) string {
	if len(s) > 1000 {
		return s[:1000]
	}
	return s
}

func firstDifference(a, b []string) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d is\n%s\nwant\n%s", i, b[i], a[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(b), len(a))
}

const shfExclude elf.SectionFlag = 0x80000000

// everything is an object with one of each thing whose contents hold indices.
func everything() *Builder {
	b := NewBuilder(Header{OSABI: elf.ELFOSABI_LINUX, Flags: 5})
	group := b.AddSection(BuildSection{Name: ".group", Type: elf.SHT_GROUP})
	text := b.AddSection(BuildSection{Name: ".text.f", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR | elf.SHF_GROUP, Addralign: 16, Data: make([]byte, 40)})
	rela := b.AddSection(BuildSection{Name: ".rela.text.f", Type: elf.SHT_RELA, Flags: elf.SHF_GROUP, Info: uint32(text)})
	order := b.AddSection(BuildSection{Name: "__patchable_function_entries", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_WRITE | elf.SHF_LINK_ORDER | elf.SHF_GROUP, Addralign: 8, Data: make([]byte, 8), Link: text})
	rela2 := b.AddSection(BuildSection{Name: ".rela__patchable_function_entries", Type: elf.SHT_RELA, Flags: elf.SHF_GROUP, Info: uint32(order)})
	bss := b.AddSection(BuildSection{Name: ".bss", Type: elf.SHT_NOBITS, Flags: elf.SHF_ALLOC | elf.SHF_WRITE, Addralign: 32, Size: 1 << 20})
	str := b.AddSection(BuildSection{Name: ".rodata.str1.1", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_MERGE | elf.SHF_STRINGS, Addralign: 1, Entsize: 1, Data: []byte("a\x00b\x00")})
	data := b.AddSection(BuildSection{Name: ".data", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_WRITE, Addralign: 1 << 21, Data: make([]byte, 64)})
	klp := b.AddSection(BuildSection{Name: ".klp.rela.vmlinux..text.f", Type: elf.SHT_RELA, Flags: elf.SHF_ALLOC | SHF_RELA_LIVEPATCH, Info: uint32(text)})
	klp2 := b.AddSection(BuildSection{Name: ".klp.rela.ext4..text.f", Type: elf.SHT_RELA, Flags: elf.SHF_ALLOC | SHF_RELA_LIVEPATCH, Info: uint32(text)})
	symtab := b.AddSection(BuildSection{Name: ".symtab", Type: elf.SHT_SYMTAB})
	b.AddSection(BuildSection{Name: ".info", Type: elf.SHT_PROGBITS, Flags: elf.SHF_INFO_LINK, Addralign: 1, Info: uint32(bss)})
	sig := b.AddSection(BuildSection{Name: ".llvm_addrsig", Type: SHT_LLVM_ADDRSIG, Flags: shfExclude, Addralign: 1, Link: symtab})
	cg := b.AddSection(BuildSection{Name: ".llvm.call-graph-profile", Type: SHT_LLVM_CALL_GRAPH_PROFILE, Flags: shfExclude, Addralign: 1, Entsize: 8, Link: symtab, Data: make([]byte, 16)})
	rel := b.AddSection(BuildSection{Name: ".rel.llvm.call-graph-profile", Type: elf.SHT_REL, Info: uint32(cg)})

	var z bytes.Buffer
	z.Write(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64([]byte{byte(elf.COMPRESS_ZLIB), 0, 0, 0, 0, 0, 0, 0}, 1000), 1))
	zw := zlib.NewWriter(&z)
	zw.Write(make([]byte, 1000))
	zw.Close()
	debug := b.AddSection(BuildSection{Name: ".debug_x", Type: elf.SHT_PROGBITS, Flags: elf.SHF_COMPRESSED, Addralign: 8, Data: z.Bytes()})

	local := elf.ST_INFO(elf.STB_LOCAL, elf.STT_OBJECT)
	fn := elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC)
	// A global symbol first: Bytes moves it behind the local ones.
	f := b.AddSymbol(BuildSymbol{Name: "f", Info: elf.ST_INFO(elf.STB_WEAK, elf.STT_FUNC), Sec: text, Size: 40, Other: byte(elf.STV_HIDDEN)})
	var one SymID
	b.AddSymbol(BuildSymbol{Name: "a.c", Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_FILE), Shndx: elf.SHN_ABS})
	for i := range 150 { // so many that symbol indices take two bytes as ULEB128
		one = b.AddSymbol(BuildSymbol{Name: fmt.Sprintf("v.%d", i), Info: local, Sec: bss, Value: uint64(i) * 8, Size: 8})
	}
	b.AddSymbol(BuildSymbol{Name: "b.c", Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_FILE), Shndx: elf.SHN_ABS})
	b.AddSymbol(BuildSymbol{Name: "v.1", Info: local, Sec: data, Size: 4})
	secsym := b.AddSymbol(BuildSymbol{Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_SECTION), Sec: str})
	com := b.AddSymbol(BuildSymbol{Name: "com", Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_OBJECT), Shndx: elf.SHN_COMMON, Value: 8, Size: 16})
	abs := b.AddSymbol(BuildSymbol{Name: "abs", Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_NOTYPE), Shndx: elf.SHN_ABS, Value: 0xffffffff81000000})
	ext := b.AddSymbol(BuildSymbol{Name: "ext", Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_NOTYPE)})
	b.AddSymbol(BuildSymbol{Name: "g", Info: fn, Sec: text, Value: 8})
	live := b.AddSymbol(BuildSymbol{Name: ".klp.sym.vmlinux.printk,0", Info: fn, Shndx: SHN_LIVEPATCH})

	b.SetGroup(group, BuildGroup{Flags: 1, Sig: f, Members: []SecID{text, rela, order, rela2}})
	b.AddReloc(text, Reloc{Off: 12, Sym: ext, Type: elf.R_X86_64_PLT32, Addend: -4})
	b.AddReloc(text, Reloc{Off: 4, Sym: secsym, Type: elf.R_X86_64_PC32, Addend: -2}) // not sorted
	b.AddReloc(order, Reloc{Sym: f, Type: elf.R_X86_64_64})
	b.SetRelocs(klp, []Reloc{{Off: 20, Sym: live, Type: elf.R_X86_64_PLT32, Addend: -4}})
	b.AddReloc(klp2, Reloc{Off: 30, Sym: live, Type: elf.R_X86_64_PC32, Addend: -4})
	b.AddReloc(data, Reloc{Off: 8, Sym: com, Type: elf.R_X86_64_64, Addend: 1 << 40}) // makes .rela.data
	b.AddReloc(data, Reloc{Off: 0, Sym: abs, Type: elf.R_X86_64_64})
	b.AddReloc(debug, Reloc{Off: 900, Sym: f, Type: elf.R_X86_64_64}) // in what it inflates to
	b.AddReloc(rel, Reloc{Off: 0, Sym: f, Type: elf.R_X86_64_NONE})
	b.AddReloc(rel, Reloc{Off: 8, Sym: one, Type: elf.R_X86_64_NONE})

	s := b.Section(sig)
	s.Data = []byte{byte(f)} // handles, as ULEB128
	for _, id := range []SymID{one, com} {
		s.Data = append(s.Data, byte(id)|0x80, byte(id>>7))
	}
	b.SetSection(sig, s)
	return b
}

func TestRoundTripEverything(t *testing.T) {
	d := mustBytes(t, everything())
	f := mustParse(t, d)
	if len(f.Groups) != 1 || f.SymName(f.Groups[0].Sig) != "f" || len(f.Groups[0].Members) != 4 {
		t.Errorf("groups %+v", f.Groups)
	}
	if len(d) > 1<<16 { // a section asks for 2 MB alignment
		t.Errorf("%d bytes", len(d))
	}
	rebuilt(t, d, 20, true)
}

// Counts and indices from 0xff00 on are in section 0 (gABI, "ELF Header").
func TestExtendedHeader(t *testing.T) {
	for _, n := range []int{0xfefe, 0xfeff, 0xff00, 0xff01, 0xfffe, 0xffff, 0x10000} {
		b := NewBuilder(Header{})
		for range n - 2 {
			b.AddSection(BuildSection{Name: ".x", Type: elf.SHT_PROGBITS})
		}
		d := mustBytes(t, b) // the null section, n-2, and .shstrtab
		sh0 := d[le.Uint64(d[40:]):]
		num, names := int(le.Uint16(d[60:])), int(le.Uint16(d[62:]))
		size, link := int(le.Uint64(sh0[32:])), int(le.Uint32(sh0[40:]))
		wantNum, wantSize, wantNames, wantLink := n, 0, n-1, 0
		if n >= 0xff00 {
			wantNum, wantSize = 0, n
		}
		if n-1 >= 0xff00 {
			wantNames, wantLink = 0xffff, n-1
		}
		if num != wantNum || size != wantSize || names != wantNames || link != wantLink {
			t.Errorf("%d sections: e_shnum %d, sh_size %d, e_shstrndx %d, sh_link %d", n, num, size, names, link)
		}
		rebuilt(t, d, 1, false)
	}
}

// manySections builds an object of n data sections with a symbol and, in every
// eighth, a relocation.
func manySections(n int) *Builder {
	b := NewBuilder(Header{})
	content := make([]byte, 16)
	syms := make([]SymID, n)
	secs := make([]SecID, n)
	for i := range n {
		name := fmt.Sprintf(".data.v%d", i)
		secs[i] = b.AddSection(BuildSection{Name: name, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_WRITE, Addralign: 8, Data: content})
		bind := elf.STB_GLOBAL
		if i%3 == 0 {
			bind = elf.STB_LOCAL
		}
		syms[i] = b.AddSymbol(BuildSymbol{Name: name[6:], Info: elf.ST_INFO(bind, elf.STT_OBJECT), Sec: secs[i], Size: 16})
	}
	for i := 0; i < n; i += 8 {
		b.AddReloc(secs[i], Reloc{Off: 8, Sym: syms[n-1-i], Type: elf.R_X86_64_64})
	}
	return b
}

// Section indices from 0xff00 on do not fit in the ELF header and in symbols
// (gABI, "Symbol Table", SHN_XINDEX).
func TestManySections(t *testing.T) {
	for _, tt := range []struct {
		n      int
		xsyms  bool // some symbol needs the table of extended indices
		orders int
		tools  bool
	}{
		{65_000, false, 0, false}, // with the relocation sections more than 0xff00, but no symbol is there
		{0xff00, true, 1, false},
		{70_000, true, 1, !testing.Short()},
	} {
		t.Run(fmt.Sprint(tt.n), func(t *testing.T) {
			d := mustBytes(t, manySections(tt.n))
			f := mustParse(t, d)
			x := 0
			for i := range f.Symbols {
				if f.Symbols[i].Shndx == elf.SHN_XINDEX {
					x++
				}
			}
			has := slices.ContainsFunc(f.Sections, func(s Section) bool { return s.Type == elf.SHT_SYMTAB_SHNDX })
			if len(f.Sections) < int(elf.SHN_LORESERVE) || has != tt.xsyms || (x > 0) != tt.xsyms {
				t.Fatalf("%d sections, %d symbols with an extended index, table %v", len(f.Sections), x, has)
			}
			rebuilt(t, d, tt.orders, tt.tools)
		})
	}
}

// A shuffle may move sections with symbols to indices from 0xff00 on in an object that had no table of extended indices.
func TestShuffleNeedsExtendedIndices(t *testing.T) {
	f := mustParse(t, mustBytes(t, manySections(65_000)))
	b := FromFile(f)
	var order []SecID
	for i := len(f.Sections) - 1; i > 0; i-- {
		order = append(order, SecID(i))
	}
	b.SetSectionOrder(order)
	g := mustParse(t, mustBytes(t, b))
	if len(g.Sections) != len(f.Sections)+1 || g.Sections[len(g.Sections)-1].Name != ".symtab_shndx" {
		t.Fatalf("%d sections, were %d; the last is %s", len(g.Sections), len(f.Sections), g.Sections[len(g.Sections)-1].Name)
	}
	for i := range g.Symbols {
		if s, t0 := &g.Symbols[i], &f.Symbols[i]; s.Name != t0.Name || g.Sections[s.Sec].Name != f.Sections[t0.Sec].Name {
			t.Fatalf("symbol %d %s is in %s", i, s.Name, g.Sections[s.Sec].Name)
		}
	}
}
