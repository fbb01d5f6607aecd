package module

import (
	"bytes"
	"debug/elf"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kdelta/kdelta/pkg/object"
)

// head is what gcc puts into the CIE: the frame's end is rsp+8, the return address is saved there.
var head = []byte{0x0c, 7, 8, 0x80 | 16, 1}

func TestFrameRules(t *testing.T) {
	type row struct {
		off   uint64
		entry [6]byte
	}
	sp := func(off uint64, n byte) row { return row{off, [6]byte{n, 0, 0, 0, orcSP, 2}} }
	for _, c := range []struct {
		name   string
		insns  []byte
		want   []row
		opaque int
	}{
		{"leaf", nil, []row{sp(0, 8)}, 0},
		{"push and pop", []byte{0x41, 0x0e, 16, 0x45, 0x0e, 8}, []row{sp(0, 8), sp(1, 16), sp(6, 8)}, 0},
		{"rbp saved", []byte{0x41, 0x0e, 16, 0x80 | 6, 2, 0x43, 0x0d, 6}, []row{sp(0, 8), {1, [6]byte{16, 0, 0xf0, 0xff, orcPrevSP<<4 | orcSP, 2}}, {4, [6]byte{16, 0, 0xf0, 0xff, orcPrevSP<<4 | orcBP, 2}}}, 0},
		{"rbp restored", []byte{0x41, 0x0e, 16, 0x80 | 6, 2, 0x42, 0xc0 | 6, 0x0e, 8}, []row{sp(0, 8), {1, [6]byte{16, 0, 0xf0, 0xff, orcPrevSP<<4 | orcSP, 2}}, sp(3, 8)}, 0},
		{"another register saved", []byte{0x41, 0x0e, 16, 0x80 | 3, 2}, []row{sp(0, 8), sp(1, 16)}, 0},
		{"remember and restore", []byte{0x41, 0x0e, 16, 0x0a, 0x41, 0x0e, 8, 0x41, 0x0b}, []row{sp(0, 8), sp(1, 16), sp(2, 8), sp(3, 16)}, 0},
		{"advances of 1, 2 and 4 bytes", []byte{0x02, 5, 0x0e, 16, 0x03, 1, 0, 0x0e, 24, 0x04, 1, 0, 0, 0, 0x0e, 32}, []row{sp(0, 8), sp(5, 16), sp(6, 24), sp(7, 32)}, 0},
		{"indirect through rbp", []byte{0x41, 0x0f, 3, 0x76, 0x78, 0x06}, []row{sp(0, 8), {1, [6]byte{0xf8, 0xff, 0, 0, orcBPIndirect, 2}}}, 0},
		{"rbp at an expression", []byte{0x41, 0x0c, 10, 0, 0x10, 6, 2, 0x76, 0}, []row{sp(0, 8), {1, [6]byte{0, 0, 0, 0, orcBP<<4 | orcR10, 2}}}, 0},
		{"r10 with an offset", []byte{0x41, 0x0c, 10, 8}, []row{sp(0, 8), {off: 1}}, 1},
		{"a frame in rax", []byte{0x41, 0x0c, 0, 8}, []row{sp(0, 8), {off: 1}}, 1},
		{"an expression that is no place", []byte{0x41, 0x0f, 1, 0x9c}, []row{sp(0, 8), {off: 1}}, 1},
		{"too far", []byte{0x41, 0x0e, 0x80, 0x80, 0x04}, []row{sp(0, 8), {off: 1}}, 1},
		{"arguments", []byte{0x2e, 16}, []row{sp(0, 8)}, 0},
		{"factored", []byte{0x41, 0x12, 7, 0x7e, 0x05, 6, 2}, []row{sp(0, 8), {1, [6]byte{16, 0, 0xf0, 0xff, orcPrevSP<<4 | orcSP, 2}}}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := &completer{opts: CompleteOptions{Call: 2}, done: &Completion{}}
			rows, opaque, err := x.run(&cie{code: 1, data: -8, insns: head}, c.insns, 1, 0, 100)
			require.NoError(t, err)
			var got []row
			for _, r := range rows {
				got = append(got, row{r.off, r.entry})
			}
			assert.Equal(t, c.want, got)
			assert.Equal(t, c.opaque, opaque)
		})
	}
}

func TestFrameErrors(t *testing.T) {
	for _, insns := range [][]byte{
		{0x7f, 0x7f}, // beyond the end of the function
		{0x02},       // cut
		{0x03, 1},    //
		{0x04, 1, 0}, //
		{0x0e},       //
		{0x0e, 0x80}, // a number without end
		{0x0b},       // nothing to restore
		{0x3f},       // unknown
		{0x0f, 9, 1}, // an expression beyond the end
		bytes.Repeat([]byte{0x0a}, maxStates+1),
	} {
		x := &completer{done: &Completion{}}
		_, _, err := x.run(&cie{code: 1, data: -8, insns: head}, insns, 1, 0, 100)
		assert.ErrorIs(t, err, errFrame, "% x", insns)
	}
}

func TestParseCIE(t *testing.T) {
	good := []byte{1, 'z', 'R', 0, 1, 0x78, 16, 1, 0x1b, 0x0c, 7, 8}
	k := parseCIE(good)
	require.NotNil(t, k)
	assert.Equal(t, &cie{code: 1, data: -8, pcSize: 4, augmented: true, insns: []byte{0x0c, 7, 8}}, k)
	k = parseCIE([]byte{1, 0, 1, 0x78, 16, 0x0c, 7, 8})
	require.NotNil(t, k)
	assert.Equal(t, 8, k.pcSize)
	for n := range len(good) - 3 {
		assert.Nil(t, parseCIE(good[:n]), "cut at %d", n)
	}
	for _, bad := range [][]byte{
		{3, 0, 1, 0x78, 16},                    // a version of .debug_frame
		{1, 'z', 'P', 0, 1, 0x78, 16, 1, 0},    // a personality
		{1, 'e', 'h', 0, 1, 0x78, 16},          // an old form
		{1, 'z', 'R', 0, 1, 0x78, 16, 1, 0x02}, // addresses of two bytes
		{1, 'z', 'R', 0, 1, 0x78, 16, 9, 0x1b}, // longer than the entry
	} {
		assert.Nil(t, parseCIE(bad), "% x", bad)
	}
}

// Between a push and a pop of the flags the frame is a word larger, which compilers do not say.
func TestWindows(t *testing.T) {
	x := &completer{opts: CompleteOptions{Call: 2}, done: &Completion{}}
	rows := []orcRow{{1, 0, [6]byte{8, 0, 0, 0, orcSP, 2}}}
	entry := func(off uint64, n byte) orcRow { return orcRow{1, off, [6]byte{n, 0, 0, 0, orcSP, 2}} }
	assert.Equal(t, []orcRow{entry(0, 8), entry(2, 16), entry(3, 8)}, x.windows(rows, []byte{0x90, 0x9c, 0x58, 0x90, 0xc3}), "pushf; pop %rax")
	assert.Equal(t, []orcRow{entry(0, 8), entry(2, 16), entry(3, 8)}, x.windows(rows, []byte{0x90, 0x50, 0x9d, 0x90, 0xc3}), "push %rax; popf")
	assert.Equal(t, []orcRow{entry(0, 8), entry(1, 16), entry(3, 8)}, x.windows(rows, []byte{0x9c, 0x41, 0x5b, 0xc3}), "pushf; pop %r11")
	assert.Equal(t, rows, x.windows(rows, []byte{0x9c, 0x90, 0xc3}), "no pop")
	assert.Equal(t, rows, x.windows(rows, []byte{0xb8, 0x9c, 0x58, 0, 0, 0xc3}), "a number, not an instruction")
	assert.Equal(t, rows, x.windows(rows, []byte{0x9c, 0x58, 0x06}), "no instruction: nothing is claimed")
}

func fixture(t testing.TB, name string) *object.File {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../../testdata/cases", name))
	require.NoError(t, err)
	f, err := object.Parse(data, object.Options{Name: name})
	require.NoError(t, err)
	return f
}

// Complete is the same when done again, and leaves objects alone that lack nothing.
func TestCompleteTwice(t *testing.T) {
	files, err := filepath.Glob("../../testdata/cases/*/gcc.*.o")
	require.NoError(t, err)
	changed := 0
	for _, name := range files {
		f := fixture(t, filepath.Join(filepath.Base(filepath.Dir(name)), filepath.Base(name)))
		c, done, err := Complete(f, CompleteOptions{Call: 2})
		require.NoError(t, err)
		if !done.Any() {
			assert.Same(t, f, c)
			continue
		}
		changed++
		again, done, err := Complete(c, CompleteOptions{Call: 2})
		require.NoError(t, err)
		assert.Same(t, c, again, "%s: %v", name, done)
	}
	assert.Greater(t, changed, 1)
}

// object with a call of each kind that the kernel rewrites.
func siteObject(t testing.TB, code []byte, calls map[uint64]string, extra func(b *object.Builder, text object.SecID)) *object.File {
	t.Helper()
	b := object.NewBuilder(object.Header{Type: elf.ET_REL})
	text := b.AddSection(object.BuildSection{Name: ".text", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, Addralign: 16, Data: code})
	b.AddSymbol(object.BuildSymbol{Name: "f", Sec: text, Size: uint64(len(code)), Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC)})
	for off := range uint64(len(code)) {
		if name := calls[off]; name != "" {
			sym := b.AddSymbol(object.BuildSymbol{Name: name, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_NOTYPE)})
			b.AddReloc(text, object.Reloc{Off: off, Type: elf.R_X86_64_PLT32, Sym: sym, Addend: -4})
		}
	}
	if extra != nil {
		extra(b, text)
	}
	data, err := b.Bytes()
	require.NoError(t, err)
	f, err := object.Parse(data, object.Options{})
	require.NoError(t, err)
	return f
}

func TestSites(t *testing.T) {
	code := []byte{
		0xe8, 0, 0, 0, 0, // 0: call __SCT__x
		0x2e, 0xe8, 0, 0, 0, 0, // 5: cs call __x86_indirect_thunk_r11
		0xb0, 0x2e, 0xe8, 0, 0, 0, 0, // 11: mov $0x2e, %al; call __x86_indirect_thunk_rax
		0x0f, 0x84, 0, 0, 0, 0, // 18: je __x86_return_thunk
		0xe9, 0, 0, 0, 0, // 24: jmp __SCT__y
		0xe8, 0, 0, 0, 0, // 29: call __x86_return_thunk, which is no return
		0x48, 0x8d, 0x05, 0, 0, 0, 0, // 34: lea __x86_return_thunk(%rip), %rax
		0xe9, 0, 0, 0, 0, // 41: jmp __x86_return_thunk
		0xe8, 0, 0, 0, 0, // 46: call __SCT__hidden
	}
	calls := map[uint64]string{1: "__SCT__x", 7: "__x86_indirect_thunk_r11", 14: "__x86_indirect_thunk_rax", 20: returnThunk, 25: "__SCT__y", 30: returnThunk, 37: returnThunk, 42: returnThunk, 47: "__SCT__hidden"}
	f := siteObject(t, code, calls, nil)
	c, done, err := Complete(f, CompleteOptions{Has: func(s string) bool { return s != "__SCK__hidden" }})
	require.NoError(t, err)
	assert.Equal(t, map[string]int{".text+12 at 0": 1, ".text+29 at 0": 1}, entries(c, returnSites, 4))
	assert.Equal(t, map[string]int{".text+5 at 0": 1, ".text+d at 0": 1}, entries(c, retpolineSites, 4))
	assert.Equal(t, map[string]int{".text+0 at 0": 1, "__SCK__x+0 at 4": 1, ".text+18 at 0": 1, "__SCK__y+1 at 4": 1}, entries(c, callSites, 8))
	assert.Equal(t, []string{"__SCK__hidden"}, done.Skipped)
	assert.Contains(t, done.String(), "2 return sites, 2 retpoline sites, 2 static calls")
}

func TestBranches(t *testing.T) {
	code := []byte{
		0xeb, 0x10, // 0: off, two bytes
		0xe9, 0, 0, 0, 0, // 2: off, five
		0xeb, 0x10, // 7: on by default: stays
		0x66, 0x90, // 9: a NOP already
		0xc3,
	}
	jump := func(b *object.Builder, text object.SecID) {
		table := b.AddSection(object.BuildSection{Name: jumpTable, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_WRITE, Addralign: 8, Data: make([]byte, 4*jumpEntry)})
		sec := b.AddSymbol(object.BuildSymbol{Sec: text, Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_SECTION)})
		key := b.AddSymbol(object.BuildSymbol{Name: "key", Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_NOTYPE)})
		for i, e := range []struct{ at, flags int64 }{{0, 2}, {2, 3}, {7, 1}, {9, 2}} {
			b.AddReloc(table, object.Reloc{Off: uint64(i * jumpEntry), Type: elf.R_X86_64_PC32, Sym: sec, Addend: e.at})
			b.AddReloc(table, object.Reloc{Off: uint64(i*jumpEntry + 4), Type: elf.R_X86_64_PC32, Sym: sec, Addend: 11})
			b.AddReloc(table, object.Reloc{Off: uint64(i*jumpEntry + 8), Type: elf.R_X86_64_PC64, Sym: key, Addend: e.flags})
		}
	}
	f := siteObject(t, code, map[uint64]string{3: "f_cold"}, jump)
	c, done, err := Complete(f, CompleteOptions{})
	require.NoError(t, err)
	assert.Equal(t, 2, done.Branches)
	want := append([]byte{0x66, 0x90, 0x0f, 0x1f, 0x44, 0, 0}, code[7:]...)
	assert.Equal(t, want, c.Sections[1].Data)
	assert.Zero(t, c.RelocsOf(1).Len(), "the jump's relocation went with it")
	assert.Equal(t, byte(0xeb), f.Sections[1].Data[0], "the input is as it was")
}

func FuzzComplete(f *testing.F) {
	for _, name := range []string{"eh-frame/gcc.ORIG.o", "jump-label-key/gcc.ORIG.o", "retpoline-jump-table/gcc.ORIG.o"} {
		if data, err := os.ReadFile(filepath.Join("../../testdata/cases", name)); err == nil {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := object.Parse(data, object.Options{})
		if err != nil || file.Header.Type != elf.ET_REL {
			return
		}
		c, done, err := Complete(file, CompleteOptions{Call: 2})
		if err != nil {
			return
		}
		if !done.Any() {
			return
		}
		if _, again, err := Complete(c, CompleteOptions{Call: 2}); err != nil || again.Any() {
			t.Fatalf("completed twice: %v, %v", again, err)
		}
	})
}
