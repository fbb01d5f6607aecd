package klp

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
)

var peers = flag.String("peers", "/tmp/peers", "directory that get-peers filled")

// fixture is a patch in the making: code and data with two functions, and the model of what it replaces.
type fixture struct {
	b          *object.Builder
	sections   map[object.SecID]object.SymID
	text, data object.SecID
	mod        object.SecID
	fn, cb     object.SymID
	objects    []Object
	relocs     []Reloc
	tables     KpatchTables
}

// newFixture makes a patch of 64 bytes of code. Its names are different for each prefix.
func newFixture(prefix string) *fixture {
	x := &fixture{b: object.NewBuilder(object.Header{}), sections: map[object.SecID]object.SymID{}}
	b := x.b
	b.Name = "fixture"
	x.text = b.AddSection(object.BuildSection{Name: ".text", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, Addralign: 16, Data: make([]byte, 64)})
	x.data = b.AddSection(object.BuildSection{Name: ".data.rel", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_WRITE, Addralign: 8, Data: make([]byte, 32)})
	x.fn = b.AddSymbol(object.BuildSymbol{Name: prefix + "_fn", Sec: x.text, Size: 32, Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_FUNC)})
	x.cb = b.AddSymbol(object.BuildSymbol{Name: prefix + "_cb", Sec: x.text, Value: 32, Size: 32, Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_FUNC)})
	x.objects = []Object{
		{Name: Vmlinux, Funcs: []Func{{Name: prefix + "_fn", New: x.fn}, {Name: prefix + "_twice", Pos: 2, New: x.cb}}},
		{Name: "mod_a", Funcs: []Func{{Name: prefix + "_modfn", Pos: 1, New: x.cb}}},
	}
	x.relocs = []Reloc{
		{Object: Vmlinux, Sec: x.text, Off: 8, Type: elf.R_X86_64_PLT32, Addend: -4, Symbol: Symbol{Vmlinux, "helper", 3, elf.STT_FUNC}},
		{Object: Vmlinux, Sec: x.text, Off: 16, Type: elf.R_X86_64_PC32, Addend: -8, Symbol: Symbol{Vmlinux, "state.0", 0, elf.STT_OBJECT}},
		{Object: "mod_a", Sec: x.text, Off: 40, Type: elf.R_X86_64_32S, Addend: 24, Symbol: Symbol{"mod_b", "exported", 0, elf.STT_FUNC}},
		{Object: Vmlinux, Sec: x.data, Off: 8, Type: elf.R_X86_64_64, Addend: 1 << 40, Symbol: Symbol{Vmlinux, "helper", 3, elf.STT_FUNC}},
	}
	b.AddReloc(x.text, object.Reloc{Off: 24, Type: elf.R_X86_64_PC32, Addend: -4, Sym: x.cb})
	x.tables = KpatchTables{Parent: Vmlinux}
	for _, o := range x.objects {
		for i, f := range o.Funcs {
			x.tables.Funcs = append(x.tables.Funcs, KpatchFunc{Func: f, Object: o.Name, NewSize: 32, OldAddr: 0xffffffff81000000 + uint64(i)<<8, OldSize: 48})
		}
	}
	for _, r := range x.relocs {
		kr := KpatchReloc{Reloc: r, Bind: elf.STB_LOCAL}
		if r.Symbol.Object == Vmlinux {
			kr.Src = 0xffffffff82000000
		} else {
			kr.External, kr.Bind = true, elf.STB_GLOBAL
		}
		x.tables.Relocs = append(x.tables.Relocs, kr)
	}
	return x
}

// module adds what modpost would.
func (x *fixture) module() *fixture {
	x.mod = x.b.AddSection(object.BuildSection{Name: moduleSection, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_WRITE, Addralign: 64, Data: make([]byte, 1280)})
	x.b.AddSymbol(object.BuildSymbol{Name: thisModule, Sec: x.mod, Size: 1280, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_OBJECT)})
	return x
}

func (x *fixture) klp(t testing.TB) []byte {
	Intermediate(x.b, x.objects, x.relocs, nil, x.sections)
	return mustBytes(t, x.b)
}

func (x *fixture) kpatch(t testing.TB) []byte {
	Kpatch(x.b, &x.tables, x.sections)
	return mustBytes(t, x.b)
}

func mustBytes(t testing.TB, b *object.Builder) []byte {
	t.Helper()
	d, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func mustParse(t testing.TB, d []byte) *object.File {
	t.Helper()
	f, err := object.Parse(d, object.Options{Name: "test.o"})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func must(t testing.TB, read func(*object.File) (*Patch, error), d []byte) *Patch {
	t.Helper()
	p, err := read(mustParse(t, d))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// section gives the only section of a name.
func section(t testing.TB, f *object.File, name string) *object.Section {
	t.Helper()
	var s *object.Section
	for i := range f.Sections {
		if f.Sections[i].Name == name {
			if s != nil {
				t.Fatalf("two sections %s", name)
			}
			s = &f.Sections[i]
		}
	}
	if s == nil {
		t.Fatalf("no section %s", name)
	}
	return s
}

// funcs lists what a patch replaces by names, so that files can be compared.
func funcs(p *Patch) []string {
	var out []string
	for _, o := range p.Objects {
		for _, f := range o.Funcs {
			out = append(out, o.Name+":"+f.Name+","+string(rune('0'+f.Pos))+"="+p.File.SymName(f.New))
		}
	}
	for _, c := range p.Callbacks {
		out = append(out, o(c)+"="+p.File.SymName(c.Func))
	}
	slices.Sort(out)
	return out
}

func o(c Callback) string { return c.Object + ":" + c.Kind.String() }

func same[T comparable](t testing.TB, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}

// refused sees that err is a refusal with a diagnostic of code at a section.
func refused(t testing.TB, err error, code diag.Code, sec, part string) {
	t.Helper()
	var de *diag.Error
	if !errors.As(err, &de) {
		t.Fatalf("error %v (%T), want %s", err, err, code)
	}
	for _, d := range de.Diagnostics {
		if d.Code == code && d.Place.Section == sec && strings.Contains(d.Message, part) {
			if !d.Place.HasOffset {
				t.Errorf("%v has no offset", d)
			}
			return
		}
	}
	t.Errorf("error %v\nwant %s in %q with %q", err, code, sec, part)
}

// tool gives the path of a program, or skips.
func tool(t testing.TB, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s here", name)
	}
	return p
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// link runs ld -r over objects.
func link(t testing.TB, objects ...[]byte) []byte {
	t.Helper()
	ld := tool(t, "ld")
	dir := t.TempDir()
	args := []string{"-r", "-o", filepath.Join(dir, "out.ko")}
	for i, d := range objects {
		name := filepath.Join(dir, string(rune('a'+i))+".o")
		write(t, name, d)
		args = append(args, name)
	}
	run(t, ld, args...)
	d, err := os.ReadFile(filepath.Join(dir, "out.ko"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func write(t testing.TB, name string, d []byte) {
	t.Helper()
	if err := os.WriteFile(name, d, 0o666); err != nil {
		t.Fatal(err)
	}
}

// le64 packs words.
func le64(words ...uint64) []byte {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, words)
	return b.Bytes()
}

func runLint(lint, name string) (string, error) {
	out, err := exec.Command(lint, "--gnu-ld", name).CombinedOutput()
	return string(out), err
}
