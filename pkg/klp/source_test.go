package klp

import (
	"debug/elf"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kdelta/kdelta/pkg/object"
)

// source makes a module with n structures as a C source has them.
func source(t testing.TB, n int) []byte {
	t.Helper()
	b := object.NewBuilder(object.Header{Type: elf.ET_REL})
	text := b.AddSection(object.BuildSection{Name: ".text", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, Addralign: 16, Data: make([]byte, 64)})
	mod := b.AddSection(object.BuildSection{Name: moduleSection, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_WRITE, Addralign: 64, Data: make([]byte, 64)})
	fn := b.AddSymbol(object.BuildSymbol{Name: "new", Sec: text, Size: 64, Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_FUNC)})
	this := b.AddSymbol(object.BuildSymbol{Name: thisModule, Sec: mod, Size: 64, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_OBJECT)})
	sections := map[object.SecID]object.SymID{}
	for range n {
		patch := Static(b, &StaticTables{Module: this, NoReplace: true, Objects: []Object{
			{Name: Vmlinux, Funcs: []Func{{Name: "f", New: fn}, {Name: "g", Pos: 3, New: fn}}},
			{Name: "ext4", Funcs: []Func{{Name: "h", New: fn}}},
		}}, sections)
		s := b.Symbol(patch)
		s.Name = "patch" // as a source calls it
		b.SetSymbol(patch, s)
	}
	data, err := b.Bytes()
	require.NoError(t, err)
	return data
}

func TestReadSource(t *testing.T) {
	f := mustParse(t, source(t, 1))
	p, _, err := ReadStatic(f, nil)
	require.NoError(t, err)
	require.Empty(t, p.Objects)
	p, replace := ReadSource(f, nil)
	require.False(t, replace)
	require.Len(t, p.Objects, 2)
	require.Equal(t, "g", p.Objects[0].Funcs[1].Name)
	require.Equal(t, uint64(3), p.Objects[0].Funcs[1].Pos)
	require.Equal(t, "ext4", p.Objects[1].Name)

	for _, n := range []int{0, 2} {
		p, _ = ReadSource(mustParse(t, source(t, n)), nil)
		require.Empty(t, p.Objects, "%d structures", n)
	}
	p, _ = ReadSource(f, &Layout{})
	require.Empty(t, p.Objects, "a layout that is none")
}

func FuzzReadSource(f *testing.F) {
	f.Add(source(f, 1))
	f.Add(source(f, 2))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := object.Parse(data, object.Options{})
		if err != nil {
			return
		}
		if p, _ := ReadSource(file, nil); p == nil {
			t.Fatal("no patch")
		}
	})
}
