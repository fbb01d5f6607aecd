package checked

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// Against numbers that do not wrap.
func TestChecked(t *testing.T) {
	edge := []uint64{0, 1, 2, 7, 8, 9, 63, 64, 1 << 31, 1<<32 - 1, 1 << 32, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64 - 1, math.MaxUint64}
	r := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		edge = append(edge, r.Uint64()>>r.IntN(64))
	}
	num := func(v uint64) *big.Int { return new(big.Int).SetUint64(v) }
	buf := make([]byte, 64)
	for _, off := range edge {
		for _, size := range edge {
			end := new(big.Int).Add(num(off), num(size))
			for _, n := range []uint64{0, 1, 8, 64, 1 << 32, math.MaxUint64, off, size} {
				if got, want := Within(off, size, n), end.Cmp(num(n)) <= 0; got != want {
					t.Fatalf("Within(%d, %d, %d) = %v", off, size, n, got)
				}
			}
			s, ok := Slice(buf, off, size)
			if want := end.Cmp(num(64)) <= 0; ok != want || ok && (uint64(len(s)) != size || cap(s) != len(s)) {
				t.Fatalf("Slice(64, %d, %d) = %d, %v", off, size, len(s), ok)
			}
			for _, each := range []int{1, 3, 24, 64} {
				all := new(big.Int).Mul(num(off), big.NewInt(int64(each)))
				if got, want := Records(off, each, size), all.Cmp(num(size)) <= 0; got != want {
					t.Fatalf("Records(%d, %d, %d) = %v", off, each, size, got)
				}
			}
		}
	}
}
