package symbols_test

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/symbols"
)

// shared gives a path below ../shared/pairs, and skips the test when it is not there.
func shared(t testing.TB, elem ...string) string {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	p := filepath.Join(append([]string{filepath.Dir(file), "..", "..", "shared", "pairs"}, elem...)...)
	if _, err := os.Stat(p); err != nil {
		t.Skipf("../shared/pairs/%s is not here; it is not part of the repository", filepath.Join(elem...))
	}
	return p
}

// unpack runs a decompressor on a file.
func unpack(t testing.TB, file string, program ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(program[0]); err != nil {
		t.Skipf("no %s program", program[0])
	}
	out, err := exec.Command(program[0], append(program[1:], file)...).Output()
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return out
}

func parseObject(t testing.TB, name string, data []byte) *object.File {
	t.Helper()
	f, err := object.Parse(data, object.Options{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func readObject(t testing.TB, path string) *object.File {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return parseObject(t, filepath.Base(path), data)
}

// vmlinuxPair is the members of pairs/vmlinux-pair.tar.zst by base name, unpacked once.
var vmlinuxPair = struct {
	once  sync.Once
	files map[string][]byte
}{}

func member(t testing.TB, name string) []byte {
	t.Helper()
	if testing.Short() {
		t.Skip("the vmlinux pair takes seconds to unpack")
	}
	archive := shared(t, "vmlinux-pair.tar.zst")
	vmlinuxPair.once.Do(func() {
		vmlinuxPair.files = make(map[string][]byte)
		r := tar.NewReader(bytes.NewReader(unpack(t, archive, "zstd", "-dc", "--long=27")))
		for {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			if b := filepath.Base(h.Name); b == "vmlinux" || b == "vmlinux.ORIG.o" || b == "Module.symvers" {
				vmlinuxPair.files[b], err = io.ReadAll(r)
				if err != nil {
					t.Error(err)
				}
			}
		}
	})
	data := vmlinuxPair.files[name]
	if data == nil {
		t.Fatalf("the archive has no %s", name)
	}
	return data
}

// tally counts answers about duplicates.
type tally struct {
	asked, known, agreed int
	methods              map[symbols.Method]int
	whys                 map[string]int
}

func (y *tally) add(a symbols.Answer) {
	if y.methods == nil {
		y.methods, y.whys = map[symbols.Method]int{}, map[string]int{}
	}
	y.asked++
	if a.Known {
		y.known++
		y.methods[a.Method]++
		return
	}
	// The reason without its numbers and names.
	y.whys[shape(a.Evidence)]++
}

func shape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= '0' && c <= '9' {
			if !strings.HasSuffix(b.String(), "N") {
				b.WriteByte('N')
			}
		} else {
			b.WriteByte(c)
		}
	}
	if len(b.String()) > 110 {
		return b.String()[:110]
	}
	return b.String()
}

func (y *tally) log(t testing.TB, what string) {
	t.Helper()
	t.Logf("%s: %d of %d answered %v", what, y.known, y.asked, y.methods)
	var whys []string
	for w, n := range y.whys {
		whys = append(whys, fmt.Sprintf("%6d  %s", n, w))
	}
	slices.Sort(whys)
	slices.Reverse(whys)
	for _, w := range whys[:min(len(whys), 14)] {
		t.Log(w)
	}
}

// locals gives the object's named local functions and variables that stay in memory.
func locals(f *object.File) []object.SymID {
	var out []object.SymID
	for i := range f.Symbols {
		s := &f.Symbols[i]
		if s.Bind() == elf.STB_LOCAL && s.Sec != 0 && s.Name != "" && (s.Type() == elf.STT_FUNC || s.Type() == elf.STT_OBJECT) && f.Sections[s.Sec].Alloc() {
			out = append(out, object.SymID(i))
		}
	}
	return out
}

// TestKallsymsOfDebian asks for every duplicate local of the objects of pairs/fixes in the
// kallsyms text of the kernel that they were built for.
func TestKallsymsOfDebian(t *testing.T) {
	text := unpack(t, shared(t, "fixes", "kallsyms-6.1.0-50-amd64.txt.xz"), "xz", "-dc")
	tables, err := symbols.ParseKallsyms("kallsyms", text)
	if err != nil {
		t.Fatal(err)
	}
	o, ds := symbols.NewOracle(symbols.Vmlinux, tables[0])
	if len(ds) > 0 {
		t.Error(ds)
	}
	names := map[string]int{}
	for _, e := range tables[0].Entries {
		names[e.Name]++
	}
	paths, _ := filepath.Glob(filepath.Join(shared(t, "fixes"), "*.ORIG.o"))
	// The same without addresses, as users without privilege see it.
	hidden, err := symbols.ParseKallsyms("hidden", hideAddresses(text))
	if err != nil {
		t.Fatal(err)
	}
	blind, _ := symbols.NewOracle(symbols.Vmlinux, hidden[0])
	var all, dark tally
	for _, path := range paths {
		base := filepath.Base(path)
		f := readObject(t, path)
		p, q := o.Place(f), blind.Place(f)
		if module := strings.HasPrefix(base, "04-") || strings.HasPrefix(base, "05-"); module != (len(p.Diagnostics) > 0) {
			t.Errorf("%s: is of a module: %v, diagnostics %v", base, module, p.Diagnostics)
		} else if module {
			t.Log(p.Diagnostics[0])
			continue
		}
		var y tally
		for _, id := range locals(f) {
			s := &f.Symbols[id]
			a := p.Position(id)
			if !a.Known && (a.Evidence == "" || a.Code == "") || a.Known && a.Method == symbols.MethodNone {
				t.Errorf("%s: %s: no reason: %+v", base, s.Name, a)
			}
			if names[s.Name] < 2 {
				continue
			}
			y.add(a)
			all.add(a)
			b := q.Position(id)
			dark.add(b)
			if b.Known && (!a.Known || a.Pos != b.Pos) {
				t.Errorf("%s: %s: %+v, without addresses %+v", base, s.Name, a, b)
			}
			if a.Known && a.Pos == 0 {
				t.Errorf("%s: %s: position 0 of a duplicate: %+v", base, s.Name, a)
			}
			if !a.Known {
				t.Logf("  %s %s: %s", f.Sections[s.Sec].Name, s.Name, a.Evidence)
			}
		}
		t.Logf("%s: %d of %d answered", base, y.known, y.asked)
	}
	all.log(t, "all")
	dark.log(t, "without addresses")
	if all.known < 25 || dark.known < 4 {
		t.Errorf("%d answers, %d without addresses; there were 25 and 4", all.known, dark.known)
	}
}

// hideAddresses writes zeroes where kallsyms has addresses.
func hideAddresses(text []byte) []byte {
	out := bytes.Clone(text)
	for line := range bytes.Lines(out) {
		for i := 0; i < len(line) && line[i] != ' '; i++ {
			line[i] = '0'
		}
	}
	return out
}

// TestSymIDsAgainstFiles compares what .klp.symid says of the duplicates of vmlinux.o with what the FILE blocks say.
func TestSymIDsAgainstFiles(t *testing.T) {
	orig := parseObject(t, "vmlinux.o", member(t, "vmlinux.ORIG.o"))
	linked := parseObject(t, "vmlinux", member(t, "vmlinux"))
	ids, err := symbols.SymIDs(orig, linked)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	table := symbols.FromELF(linked, symbols.Vmlinux)
	o, ds := symbols.NewOracle(symbols.Vmlinux, table)
	t.Logf("oracle of %d symbols in %v", len(table.Entries), time.Since(start))
	for _, d := range ds {
		t.Error(d)
	}
	start = time.Now()
	p := o.Place(orig)
	t.Logf("placed in %v", time.Since(start))
	for _, d := range p.Diagnostics {
		t.Log(d)
	}
	proof, ds := symbols.NewOracle(symbols.Vmlinux, table, ids)
	for _, d := range ds {
		t.Error(d)
	}
	var y tally
	addrs := addressesOf(table)
	wrong := 0
	for i := range orig.Symbols {
		id := object.SymID(i)
		addr, ok := ids.Addr[id]
		if !ok {
			continue
		}
		a := p.Position(id)
		y.add(a)
		if !a.Known {
			continue
		}
		name := orig.Symbols[i].Name
		got := addrs.of(name, a.Pos)
		if got == addr {
			y.agreed++
		} else if wrong++; wrong < 20 {
			t.Errorf("%s at %#x: answer %d (%#x): %s", name, addr, a.Pos, got, a.Evidence)
		}
		if b := proof.Position(orig, id); !b.Known || b.Pos != a.Pos {
			t.Errorf("%s: with .klp.symid %+v, without %+v", name, b, a)
		}
	}
	y.log(t, "duplicates in .klp.symid")
	// The evidence that does not need FILE symbols, alone.
	bare := *table
	bare.Blocks = nil
	bare.Entries = slices.Clone(table.Entries)
	for i := range bare.Entries {
		bare.Entries[i].File = -1
		bare.Entries[i].Size = 0
	}
	nofiles, _ := symbols.NewOracle(symbols.Vmlinux, &bare)
	p = nofiles.Place(orig)
	var z tally
	for id, addr := range ids.Addr {
		a := p.Position(id)
		if z.add(a); a.Known && addrs.of(orig.Symbols[id].Name, a.Pos) != addr {
			t.Errorf("%s at %#x, without FILE symbols: %+v", orig.Symbols[id].Name, addr, a)
		}
	}
	z.log(t, "the same without FILE symbols")
	if y.agreed != y.known {
		t.Errorf("%d of %d answers agree", y.agreed, y.known)
	}
}

// addresses counts by itself: the sorted addresses of each name.
type addresses map[string][]uint64

func addressesOf(t *symbols.Table) addresses {
	out := make(addresses)
	for _, e := range t.Entries {
		if e.Flags&(symbols.EntryUndefined|symbols.EntryMeta) == 0 {
			out[e.Name] = append(out[e.Name], e.Addr)
		}
	}
	for _, a := range out {
		slices.Sort(a)
	}
	return out
}

// of gives the address of the n-th symbol of a name, or of the only one.
func (a addresses) of(name string, pos uint64) uint64 {
	all := a[name]
	switch {
	case pos == 0 && len(all) == 1:
		return all[0]
	case pos >= 1 && pos <= uint64(len(all)):
		return all[pos-1]
	}
	return 0
}

// embeddedKallsyms decodes the kallsyms tables of a linked vmlinux by their symbols into the text of
// /proc/kallsyms, with addresses hidden: names that follow each other as counted tokens of a table.
func embeddedKallsyms(t testing.TB, f *object.File) []byte {
	t.Helper()
	at := func(name string) []byte {
		for i := range f.Symbols {
			if s := &f.Symbols[i]; s.Name == name && s.Sec != 0 {
				sec := &f.Sections[s.Sec]
				return sec.Data[s.Value-sec.Addr:]
			}
		}
		t.Skipf("vmlinux has no %s", name)
		return nil
	}
	names, tokens, index := at("kallsyms_names"), at("kallsyms_token_table"), at("kallsyms_token_index")
	var out bytes.Buffer
	for range binary.LittleEndian.Uint32(at("kallsyms_num_syms")) {
		n := int(names[0])
		names = names[1:]
		if n&0x80 != 0 {
			n = n&0x7f | int(names[0])<<7
			names = names[1:]
		}
		out.WriteString("0000000000000000 ")
		for i, c := range names[:n] {
			tok := tokens[binary.LittleEndian.Uint16(index[2*int(c):]):]
			tok = tok[:bytes.IndexByte(tok, 0)]
			if i == 0 {
				out.WriteByte(tok[0])
				out.WriteByte(' ')
				tok = tok[1:]
			}
			out.Write(tok)
		}
		out.WriteByte('\n')
		names = names[n:]
	}
	return out.Bytes()
}

// TestCountsOfTheKernel holds our counting of vmlinux's symbols against the kernel's own tables in the same file.
func TestCountsOfTheKernel(t *testing.T) {
	linked := parseObject(t, "vmlinux", member(t, "vmlinux"))
	tables, err := symbols.ParseKallsyms("kallsyms", embeddedKallsyms(t, linked))
	if err != nil {
		t.Fatal(err)
	}
	elfTable := symbols.FromELF(linked, symbols.Vmlinux)
	o, ds := symbols.NewOracle(symbols.Vmlinux, elfTable, tables[0])
	for _, d := range ds {
		t.Error(d)
	}
	ours, theirs := symbols.Sequence(elfTable), symbols.Sequence(tables[0])
	count := map[string]int{}
	for _, n := range ours {
		count[n]++
	}
	for _, n := range theirs {
		count[n]--
	}
	differ := 0
	for n, c := range count {
		if c != 0 {
			if differ++; differ < 20 {
				t.Errorf("%s: %+d in our count", n, c)
			}
		}
	}
	t.Logf("%d symbols of ours, %d of the kernel's, %d names differ", len(ours), len(theirs), differ)
	orig := parseObject(t, "vmlinux.o", member(t, "vmlinux.ORIG.o"))
	p := o.Place(orig)
	var y tally
	for _, id := range locals(orig) {
		if a := p.Position(id); !a.Known || a.Pos != 0 {
			y.add(a)
		}
	}
	y.log(t, "locals of vmlinux.o, not unique, in vmlinux and its kallsyms")
}
