package reloc

import (
	"debug/elf"
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLookupAgainstElf holds the table against debug/elf's names and against
// what the names themselves say.
func TestLookupAgainstElf(t *testing.T) {
	for n := 0; n <= 42; n++ {
		i, ok := Lookup(elf.R_X86_64(n))
		require.True(t, ok)
		require.Equal(t, elf.R_X86_64(n).String(), i.Name, n)
	}
	seen := map[string]bool{}
	for n := 0; n < 256; n++ {
		typ := elf.R_X86_64(n)
		i, ok := Lookup(typ)
		require.Equal(t, n <= 51 || n == 250 || n == 251, ok, n)
		require.False(t, ok && seen[i.Name], i.Name)
		seen[i.Name] = true
		if !ok {
			require.Equal(t, Info{}, i)
			require.Contains(t, Name(typ), "R_X86_64_")
			continue
		}
		require.Equal(t, i.Name, Name(typ))
		require.Contains(t, []uint8{0, 1, 2, 4, 8, 16}, i.Size)
		require.Equal(t, i.Size == 0 || i.Size >= 8, i.Check == Wrap, i.Name)
		if strings.Contains(i.Name, "GOTPC") || strings.HasPrefix(i.Name, "R_X86_64_PC") ||
			strings.HasPrefix(i.Name, "R_X86_64_PLT32") || strings.Contains(i.Name, "GOTTPOFF") {
			require.True(t, i.PCRel, i.Name)
		}
		if i.Class == PCRelative {
			require.True(t, i.PCRel, i.Name)
		}
		if i.Class == Absolute || i.Class == Dynamic || i.Class == Size || i.Size == 0 {
			require.False(t, i.PCRel, i.Name)
		}
		if i.Module {
			require.Contains(t, []Class{None, Absolute, PCRelative, PLT}, i.Class)
		}
	}
	for _, n := range []int{-1, 52, 249, 252, 1 << 40, math.MinInt} {
		_, ok := Lookup(elf.R_X86_64(n))
		require.False(t, ok, n)
	}
	var module []int
	for n := range 256 {
		if i, _ := Lookup(elf.R_X86_64(n)); i.Module {
			module = append(module, n)
		}
	}
	require.Equal(t, []int{0, 1, 2, 4, 10, 11, 24}, module)
	require.Equal(t, "R_X86_64_REX_GOTPCRELX", Name(42))
	require.Equal(t, "R_X86_64_CODE_4_GOTPCRELX", Name(43))
	require.Equal(t, "R_X86_64_77", Name(77))
	require.Equal(t, "pcrel", PCRelative.String())
	require.Equal(t, "vtable", Vtable.String())
	require.Equal(t, "200", Class(200).String())
	require.Equal(t, "either", Either.String())
}

const max64, min64 = math.MaxInt64, math.MinInt64

func TestDisplacement(t *testing.T) {
	for _, c := range []struct {
		what   string
		typ    elf.R_X86_64
		addend int64
		p      Place
		want   int64
		code   Code
	}{
		{"call f", elf.R_X86_64_PLT32, -4, Place{1, 5}, 0, 0},
		{"jmp f+16 behind its prefix", elf.R_X86_64_PLT32, 12, Place{1, 5}, 16, 0},
		{"jcc rel8", elf.R_X86_64_PC8, -1, Place{1, 2}, 0, 0},
		{"jmp rel16", elf.R_X86_64_PC16, -2, Place{2, 4}, 0, 0},
		{"mov x(%rip),%eax", elf.R_X86_64_PC32, -4, Place{2, 6}, 0, 0},
		{"movb $1,x(%rip)", elf.R_X86_64_PC32, -5, Place{2, 7}, 0, 0},
		{"movw $1,x(%rip)", elf.R_X86_64_PC32, -6, Place{3, 9}, 0, 0},
		{"movl $1,x(%rip)", elf.R_X86_64_PC32, -8, Place{2, 10}, 0, 0},
		{"before the symbol", elf.R_X86_64_PC32, -12, Place{2, 6}, -8, 0},
		{".long x - .", elf.R_X86_64_PC32, 0, Place{Field: 8}, 0, 0},
		{".long x+4 - .", elf.R_X86_64_PC32, 4, Place{Field: 8}, 4, 0},
		{".quad x - .", elf.R_X86_64_PC64, 4, Place{Field: 8}, 4, 0},
		{"movabs $x-.,%rax", elf.R_X86_64_PC64, 2, Place{2, 10}, 2, 0},
		{"movabs $_GLOBAL_OFFSET_TABLE_-.", elf.R_X86_64_GOTPC64, 2, Place{2, 10}, 2, 0},
		{"mov $x,%edi", elf.R_X86_64_32S, 8, Place{3, 7}, 8, 0},
		{"mov x(,%rax,8)", elf.R_X86_64_32S, -8, Place{4, 8}, -8, 0},
		{"movabs $x", elf.R_X86_64_64, 8, Place{2, 10}, 8, 0},
		{"mov $pa(x)", elf.R_X86_64_32, 0x80000010, Place{1, 5}, 0x80000010, 0},
		{"mov x@GOTPCREL(%rip)", elf.R_X86_64_REX_GOTPCRELX, -4, Place{3, 7}, 0, 0},
		{"cmpl $1,x@GOTPCREL(%rip)", elf.R_X86_64_GOTPCREL, -8, Place{2, 10}, 0, 0},
		{"none", elf.R_X86_64_NONE, -4, Place{1, 5}, -4, 0},
		{"end of the range", elf.R_X86_64_PC32, max64 - 4, Place{1, 5}, max64, 0},
		{"overflow", elf.R_X86_64_PC32, max64 - 3, Place{1, 5}, 0, AddendOverflow},
		{"no overflow in data", elf.R_X86_64_PC32, max64, Place{Field: 1}, max64, 0},
		{"unknown", 99, 0, Place{1, 5}, 0, Unknown},
		{"end before field", elf.R_X86_64_PC32, -4, Place{5, 1}, 0, BadPlace},
		{"end inside field", elf.R_X86_64_PC32, -4, Place{1, 4}, 0, BadPlace},
		{"end too far", elf.R_X86_64_PC32, -4, Place{1, 10}, 0, BadPlace},
		{"branch with something behind", elf.R_X86_64_PC8, -1, Place{1, 3}, 0, BadPlace},
		{"far offsets", elf.R_X86_64_PC32, -4, Place{math.MaxUint64 - 4, math.MaxUint64}, 0, 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			got, err := Displacement(c.typ, c.addend, c.p)
			if c.code != 0 {
				require.ErrorIs(t, err, c.code)
				var e *Error
				require.ErrorAs(t, err, &e)
				require.Equal(t, c.typ, e.Type)
				require.Equal(t, c.p.Field, e.Offset)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
			back, err := Addend(c.typ, got, c.p)
			require.NoError(t, err)
			require.Equal(t, c.addend, back)
		})
	}
	_, err := Addend(elf.R_X86_64_PC32, min64+3, Place{1, 5})
	require.ErrorIs(t, err, AddendOverflow)
	v, err := Addend(elf.R_X86_64_PC32, min64+4, Place{1, 5})
	require.NoError(t, err)
	require.Equal(t, int64(min64), v)
}

func TestRetarget(t *testing.T) {
	for _, c := range []struct {
		what     string
		typ      elf.R_X86_64
		addend   int64
		from, to uint64
		want     int64
		code     Code
	}{
		{"section to function behind its prefix", elf.R_X86_64_PLT32, 12, 0, 16, -4, 0},
		{"function to section", elf.R_X86_64_PC32, -4, 16, 0, 12, 0},
		{"movl $1,x(%rip)", elf.R_X86_64_PC32, -8, 0, 64, -72, 0},
		{"absolute", elf.R_X86_64_64, 8, 100, 40, 68, 0},
		{"physical", elf.R_X86_64_32S, PhysBias, 100, 40, PhysBias + 60, 0},
		{"none", elf.R_X86_64_NONE, -4, 16, 0, 12, 0},
		{"far apart but back in range", elf.R_X86_64_64, min64, math.MaxUint64, 1 << 62, max64 - 1<<62, 0},
		{"largest", elf.R_X86_64_64, 0, max64, 0, max64, 0},
		{"one more", elf.R_X86_64_64, 1, max64, 0, 0, AddendOverflow},
		{"smallest", elf.R_X86_64_64, 0, 0, 1 << 63, min64, 0},
		{"one less", elf.R_X86_64_64, -1, 0, 1 << 63, 0, AddendOverflow},
		{"wraps twice", elf.R_X86_64_64, max64, math.MaxUint64, 0, 0, AddendOverflow},
		{"got", elf.R_X86_64_GOTPCRELX, -4, 16, 0, 0, Unsupported},
		{"tls", elf.R_X86_64_TPOFF32, 0, 16, 0, 0, Unsupported},
		{"size", elf.R_X86_64_SIZE64, 0, 16, 0, 0, Unsupported},
		{"dynamic", elf.R_X86_64_IRELATIVE, 0, 16, 0, 0, Unsupported},
		{"vtable", R_X86_64_GNU_VTENTRY, 0, 16, 0, 0, Unsupported},
		{"unknown", 52, 0, 16, 0, 0, Unknown},
	} {
		t.Run(c.what, func(t *testing.T) {
			got, err := Retarget(c.typ, c.addend, c.from, c.to)
			if c.code != 0 {
				require.ErrorIs(t, err, c.code)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

// randomPlace returns a place that is valid for t.
func randomPlace(r *rand.Rand, i Info) Place {
	p := Place{Field: uint64(r.Uint32())}
	if i.PCRel && r.IntN(2) == 0 {
		p.End = p.Field + uint64(i.Size)
		if i.Size == 4 {
			p.End += uint64(r.IntN(5))
		}
	}
	return p
}

func edge(r *rand.Rand) uint64 {
	v := uint64(1)<<r.IntN(64) + uint64(r.IntN(9)) - 4
	if r.IntN(2) == 0 {
		v = -v
	}
	return v
}

// TestRetargetInvariant: the byte that is referred to stays the same, computed
// with integers of any size; and the value written stays the same.
func TestRetargetInvariant(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	types := []elf.R_X86_64{1, 2, 4, 10, 11, 12, 13, 14, 15, 24, 39, 40}
	fine := 0
	for range 200_000 {
		typ := types[r.IntN(len(types))]
		i, _ := Lookup(typ)
		p := randomPlace(r, i)
		addend, from, to := int64(edge(r)), edge(r), edge(r)
		got, err := Retarget(typ, addend, from, to)
		exact := new(big.Int).Add(big.NewInt(addend), new(big.Int).SetUint64(from))
		exact.Sub(exact, new(big.Int).SetUint64(to))
		if !exact.IsInt64() {
			require.ErrorIs(t, err, AddendOverflow)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, exact.Int64(), got)
		d0, err0 := Displacement(typ, addend, p)
		d1, err1 := Displacement(typ, got, p)
		if err0 == nil && err1 == nil {
			fine++
			a := new(big.Int).Add(big.NewInt(d0), new(big.Int).SetUint64(from))
			b := new(big.Int).Add(big.NewInt(d1), new(big.Int).SetUint64(to))
			require.Zero(t, a.Cmp(b))
		}
		base := r.Uint64()
		v0, err0 := Value(typ, base+from, addend, p.Field)
		v1, err1 := Value(typ, base+to, got, p.Field)
		require.Equal(t, v0, v1)
		require.Equal(t, err0 == nil, err1 == nil)
	}
	require.Greater(t, fine, 50_000)
}

func TestApply(t *testing.T) {
	const kernel, module = 0xffffffff81000000, 0xffffffffc0000000
	for _, c := range []struct {
		what string
		typ  elf.R_X86_64
		s    uint64
		a    int64
		p    uint64
		want string // bytes
		code Code
	}{
		{"none", elf.R_X86_64_NONE, 1, 2, 3, "", 0},
		{"64", elf.R_X86_64_64, kernel, 8, 0, "\x08\x00\x00\x81\xff\xff\xff\xff", 0},
		{"64 wraps", elf.R_X86_64_64, 4, -8, 0, "\xfc\xff\xff\xff\xff\xff\xff\xff", 0},
		{"pc32 forwards", elf.R_X86_64_PC32, module, -4, kernel, "\xfc\xff\xff\x3e", 0},
		{"plt32 backwards", elf.R_X86_64_PLT32, kernel, -4, module, "\xfc\xff\xff\xc0", 0},
		{"pc32 just fits", elf.R_X86_64_PC32, 0x7fffffff, 0, 0, "\xff\xff\xff\x7f", 0},
		{"pc32 just not", elf.R_X86_64_PC32, 0x80000000, 0, 0, "", Overflow},
		{"pc32 lowest", elf.R_X86_64_PC32, 0, 0, 0x80000000, "\x00\x00\x00\x80", 0},
		{"pc32 too low", elf.R_X86_64_PC32, 0, 0, 0x80000001, "", Overflow},
		{"32", elf.R_X86_64_32, 0xffffffff, 0, 0, "\xff\xff\xff\xff", 0},
		{"32 above", elf.R_X86_64_32, 0xffffffff, 1, 0, "", Overflow},
		{"32 negative", elf.R_X86_64_32, 0, -1, 0, "", Overflow},
		{"32 of a kernel address", elf.R_X86_64_32, kernel, 0, 0, "", Overflow},
		{"32 of a physical address", elf.R_X86_64_32, kernel, PhysBias, 0, "\x00\x00\x00\x01", 0},
		{"32S", elf.R_X86_64_32S, kernel, 0, 0, "\x00\x00\x00\x81", 0},
		{"32S of 2 GiB", elf.R_X86_64_32S, 1 << 31, 0, 0, "", Overflow},
		{"32S of less", elf.R_X86_64_32S, 1<<31 - 1, 0, 0, "\xff\xff\xff\x7f", 0},
		{"16", elf.R_X86_64_16, 0xffff, 0, 0, "\xff\xff", 0},
		{"16 negative", elf.R_X86_64_16, 0, -0x8000, 0, "\x00\x80", 0},
		{"16 above", elf.R_X86_64_16, 0x10000, 0, 0, "", Overflow},
		{"16 below", elf.R_X86_64_16, 0, -0x8001, 0, "", Overflow},
		{"8", elf.R_X86_64_8, 0xff, 0, 0, "\xff", 0},
		{"8 above", elf.R_X86_64_8, 0x100, 0, 0, "", Overflow},
		{"pc8", elf.R_X86_64_PC8, 0x10, -1, 0x1f, "\xf0", 0},
		{"pc8 above", elf.R_X86_64_PC8, 0x80, 0, 0, "", Overflow},
		{"pc16", elf.R_X86_64_PC16, 0x10, -2, 0x1e, "\xf0\xff", 0},
		{"pc16 above", elf.R_X86_64_PC16, 0x8000, 0, 0, "", Overflow},
		{"pc64", elf.R_X86_64_PC64, 0, 0, 1, "\xff\xff\xff\xff\xff\xff\xff\xff", 0},
		{"gotpcrel", elf.R_X86_64_GOTPCREL, 0, -4, 0, "", Unsupported},
		{"pltoff64", elf.R_X86_64_PLTOFF64, 0, 0, 0, "", Unsupported},
		{"tlsgd", elf.R_X86_64_TLSGD, 0, -4, 0, "", Unsupported},
		{"size32", elf.R_X86_64_SIZE32, 0, 0, 0, "", Unsupported},
		{"copy", elf.R_X86_64_COPY, 0, 0, 0, "", Unsupported},
		{"unknown", 60, 0, 0, 0, "", Unknown},
	} {
		t.Run(c.what, func(t *testing.T) {
			field := make([]byte, 12)
			err := Apply(field, c.typ, c.s, c.a, c.p, MustBeZero)
			if c.code != 0 {
				require.ErrorIs(t, err, c.code)
				var e *Error
				require.ErrorAs(t, err, &e)
				require.Equal(t, c.p, e.Offset)
				require.Equal(t, c.typ, e.Type)
				require.Equal(t, make([]byte, 12), field, "nothing is written")
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want+strings.Repeat("\x00", 12-len(c.want)), string(field))
		})
	}
}

func TestApplyUnder(t *testing.T) {
	field := []byte{0, 0, 0, 1, 9}
	err := Apply(field, elf.R_X86_64_PC32, 8, 0, 0, MustBeZero)
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, &Error{Occupied, elf.R_X86_64_PC32, 0, 1 << 24}, e)
	require.EqualError(t, err, "R_X86_64_PC32 at 0x0: bytes under the relocation are not zero (value 0x1000000)")
	require.Equal(t, []byte{0, 0, 0, 1, 9}, field)
	require.NoError(t, Apply(field, elf.R_X86_64_PC32, 8, 0, 0, Overwrite))
	require.Equal(t, []byte{8, 0, 0, 0, 9}, field)
	// What lies behind the field is not under it, and under NONE lies nothing.
	require.NoError(t, Apply([]byte{0, 0, 0, 0, 9}, elf.R_X86_64_PC32, 8, 0, 0, MustBeZero))
	require.NoError(t, Apply([]byte{7}, elf.R_X86_64_NONE, 8, 0, 0, MustBeZero))
	require.ErrorIs(t, Apply(field[:3], elf.R_X86_64_PC32, 8, 0, 0, Overwrite), Short)
	require.ErrorIs(t, Apply(nil, elf.R_X86_64_64, 8, 0, 0, Overwrite), Short)
	require.NoError(t, Apply(nil, elf.R_X86_64_NONE, 8, 0, 0, MustBeZero))
}

func TestTarget(t *testing.T) {
	_, err := Target(make([]byte, 3), elf.R_X86_64_PC32, 0)
	require.ErrorIs(t, err, Short)
	_, err = Target(nil, elf.R_X86_64_NONE, 0)
	require.ErrorIs(t, err, Unsupported)
	_, err = Target(make([]byte, 8), elf.R_X86_64_GOTPCREL, 0)
	require.ErrorIs(t, err, Unsupported)
	_, err = Target(make([]byte, 8), 60, 0)
	require.ErrorIs(t, err, Unknown)
	v, err := Target([]byte{0xff, 0xff, 0xff, 0xff}, elf.R_X86_64_32, 5)
	require.NoError(t, err)
	require.Equal(t, uint64(0xffffffff), v)
	v, err = Target([]byte{0xfc, 0xff, 0xff, 0xff}, elf.R_X86_64_PC32, 0xffffffff81000000)
	require.NoError(t, err)
	require.Equal(t, uint64(0xffffffff80fffffc), v)
}

func TestPhysOffset(t *testing.T) {
	for _, c := range []struct {
		disp, want int64
		ok         bool
	}{
		{0, 0, false}, {-8, -8, false}, {1 << 20, 1 << 20, false}, {1 << 30, 1 << 30, false},
		{PhysBias, 0, true}, {PhysBias + 16, 16, true}, {PhysBias - 8, -8, true},
		{1<<30 + 1, 1 - 1<<30, true}, {PhysBias + 1<<30, PhysBias + 1<<30, false}, {-PhysBias, -PhysBias, false},
	} {
		got, ok := PhysOffset(c.disp)
		require.Equal(t, c.ok, ok, c.disp)
		require.Equal(t, c.want, got, c.disp)
	}
}

func TestErrors(t *testing.T) {
	for c := Unknown; c <= BadPlace; c++ {
		require.NotContains(t, c.Error(), "relocation error ")
		err := error(&Error{Code: c, Type: 43, Offset: 16, Value: -1})
		require.True(t, errors.Is(err, c))
		require.Contains(t, err.Error(), "R_X86_64_CODE_4_GOTPCRELX at 0x10: "+c.Error())
	}
	require.Equal(t, "relocation error 0", Code(0).Error())
	require.Equal(t, "relocation error 99", Code(99).Error())
}

func TestAllocs(t *testing.T) {
	b := make([]byte, 8)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		d, _ := Displacement(elf.R_X86_64_PC32, -4, Place{1, 5})
		a, _ := Retarget(elf.R_X86_64_PC32, d, 16, 0)
		_ = Apply(b, elf.R_X86_64_PC32, 4, a, 0, Overwrite)
		_, _ = Target(b, elf.R_X86_64_PC32, 0)
	}))
}

// FuzzReloc checks the laws that tie the functions together on any input.
func FuzzReloc(f *testing.F) {
	f.Add(2, uint64(0xffffffff81000000), int64(-4), uint64(0xffffffffc0000001), uint64(0xffffffffc0000005), uint64(16), []byte{0, 0, 0, 0, 0, 0, 0, 0})
	f.Add(24, uint64(1), int64(min64), uint64(math.MaxUint64), uint64(0), uint64(0), []byte{})
	f.Add(10, uint64(1), int64(PhysBias), uint64(7), uint64(9), uint64(1)<<63, []byte{1})
	f.Fuzz(func(t *testing.T, n int, s uint64, a int64, p, end, to uint64, field []byte) {
		typ := elf.R_X86_64(n)
		pl := Place{p, end}
		if d, err := Displacement(typ, a, pl); err == nil {
			back, err := Addend(typ, d, pl)
			if err != nil || back != a {
				t.Fatalf("%v: displacement %d, addend %d, want %d, %v", Name(typ), d, back, a, err)
			}
		}
		if b, err := Retarget(typ, a, s, to); err == nil {
			if back, err := Retarget(typ, b, to, s); err != nil || back != a {
				t.Fatalf("%v: there %d and back %d, %v", Name(typ), b, back, err)
			}
			v, err := Value(typ, s, a, p)
			v2, err2 := Value(typ, to, b, p)
			if v != v2 || (err == nil) != (err2 == nil) {
				t.Fatalf("%v: value %#x became %#x, %v, %v", Name(typ), v, v2, err, err2)
			}
		}
		before := string(field)
		if err := Apply(field, typ, s, a, p, MustBeZero); err != nil {
			if string(field) != before {
				t.Fatal("written in spite of", err)
			}
			return
		}
		i, _ := Lookup(typ)
		if string(field[i.Size:]) != before[i.Size:] {
			t.Fatal("written behind the field")
		}
		if i.Size == 0 {
			return
		}
		got, err := Target(field, typ, p)
		mask := ^uint64(0)
		if i.Check == Either { // not told apart by the field
			mask = 1<<(8*i.Size) - 1
		}
		if err != nil || (got^(s+uint64(a)))&mask != 0 {
			t.Fatalf("%v: wrote %#x, read %#x, %v", Name(typ), s+uint64(a), got, err)
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	var i Info
	for b.Loop() {
		i, _ = Lookup(elf.R_X86_64_PLT32)
	}
	_ = i
}

func BenchmarkDisplacement(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_, _ = Displacement(elf.R_X86_64_PC32, -4, Place{1, 5})
	}
}

func BenchmarkRetarget(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_, _ = Retarget(elf.R_X86_64_PC32, -4, 16, 0)
	}
}

func BenchmarkApply(b *testing.B) {
	b.ReportAllocs()
	b.SetBytes(4)
	field := make([]byte, 4)
	for b.Loop() {
		_ = Apply(field, elf.R_X86_64_PC32, 0xffffffff81000000, -4, 0xffffffffc0000001, Overwrite)
	}
}
