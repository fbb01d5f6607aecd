package reloc

import (
	"debug/elf"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPCRel lists the types from which the psABI (table 4.9) subtracts P.
func TestPCRel(t *testing.T) {
	var got []int
	for n := range 256 {
		if i, _ := Lookup(elf.R_X86_64(n)); i.PCRel {
			got = append(got, n)
		}
	}
	require.Equal(t, []int{2, 4, 9, 13, 15, 19, 20, 22, 24, 26, 28, 29, 34, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51}, got)
}

// The numbers that debug/elf does not have a name for.
func TestNumbers(t *testing.T) {
	for n, name := range map[elf.R_X86_64]string{
		R_X86_64_CODE_4_GOTPCRELX: "R_X86_64_CODE_4_GOTPCRELX", R_X86_64_CODE_4_GOTTPOFF: "R_X86_64_CODE_4_GOTTPOFF", R_X86_64_CODE_4_GOTPC32_TLSDESC: "R_X86_64_CODE_4_GOTPC32_TLSDESC",
		R_X86_64_CODE_5_GOTPCRELX: "R_X86_64_CODE_5_GOTPCRELX", R_X86_64_CODE_5_GOTTPOFF: "R_X86_64_CODE_5_GOTTPOFF", R_X86_64_CODE_5_GOTPC32_TLSDESC: "R_X86_64_CODE_5_GOTPC32_TLSDESC",
		R_X86_64_CODE_6_GOTPCRELX: "R_X86_64_CODE_6_GOTPCRELX", R_X86_64_CODE_6_GOTTPOFF: "R_X86_64_CODE_6_GOTTPOFF", R_X86_64_CODE_6_GOTPC32_TLSDESC: "R_X86_64_CODE_6_GOTPC32_TLSDESC",
		R_X86_64_GNU_VTINHERIT: "R_X86_64_GNU_VTINHERIT", R_X86_64_GNU_VTENTRY: "R_X86_64_GNU_VTENTRY",
	} {
		require.Equal(t, name, Name(n))
	}
	require.EqualValues(t, 43, R_X86_64_CODE_4_GOTPCRELX)
	require.EqualValues(t, 51, R_X86_64_CODE_6_GOTPC32_TLSDESC)
}

// An error comes with the value 0, which nobody can take for a result that it is not.
func TestErrorsGiveNothing(t *testing.T) {
	zero := func(v any, err error) {
		t.Helper()
		require.Error(t, err)
		require.Zero(t, v)
	}
	pc := elf.R_X86_64_PC32
	for _, typ := range []elf.R_X86_64{99, elf.R_X86_64_GOT64, elf.R_X86_64_TPOFF32} {
		zero(Value(typ, 1, 2, 3))
		zero(Retarget(typ, 1, 2, 3))
	}
	zero(Displacement(99, 5, Place{1, 5}))
	zero(Addend(99, 5, Place{1, 5}))
	zero(Displacement(pc, math.MaxInt64, Place{1, 9}))
	zero(Addend(pc, math.MinInt64, Place{1, 9}))
	zero(Displacement(pc, 5, Place{5, 1}))
	zero(Value(pc, 1<<40, 0, 0))
	zero(Value(99, 0, 5, 0))
	zero(Retarget(pc, math.MaxInt64, 1, 0))
	zero(Retarget(99, 5, 1, 0))
	zero(Target(make([]byte, 8), 99, 5))
	zero(Target(make([]byte, 8), elf.R_X86_64_NONE, 5))
	zero(Target(make([]byte, 3), pc, 5))
}

// What an error of Target tells: no value has been computed.
func TestTargetErrors(t *testing.T) {
	for _, want := range []Error{{Unknown, 99, 7, 0}, {Unsupported, elf.R_X86_64_GOT64, 7, 0}, {Unsupported, elf.R_X86_64_NONE, 7, 0}, {Short, elf.R_X86_64_PC32, 7, 3}} {
		_, err := Target(make([]byte, 3), want.Type, want.Offset)
		require.Equal(t, &want, err)
	}
}

// What is behind the last code, class and check has a text, too.
func TestTexts(t *testing.T) {
	require.Equal(t, "relocation error 8", (BadPlace + 1).Error())
	require.Equal(t, "4", (Either + 1).String())
	require.Equal(t, "relocation error 0", Code(0).Error())
}

// What has no field, or one as wide as an address, takes everything.
func TestFitsAll(t *testing.T) {
	for _, v := range []uint64{0, 1, 1 << 31, 1 << 63, math.MaxUint64} {
		for _, typ := range []elf.R_X86_64{elf.R_X86_64_NONE, elf.R_X86_64_64, elf.R_X86_64_PC64, elf.R_X86_64_TLSDESC, R_X86_64_GNU_VTENTRY} {
			i, _ := Lookup(typ)
			require.True(t, i.Fits(v), "%s %#x", i.Name, v)
		}
	}
}
