// Package checked is the arithmetic on numbers that files bring. None of it wraps.
package checked

// Within reports whether [off, off+size) lies in [0, n).
func Within(off, size, n uint64) bool { return off <= n && size <= n-off }

// Slice gives the size bytes of b at off, without room behind them, when they are there.
func Slice[T any](b []T, off, size uint64) ([]T, bool) {
	if !Within(off, size, uint64(len(b))) {
		return nil, false
	}
	return b[off : off+size : off+size], true
}

// Records reports whether n records of size bytes lie in as many bytes as left. A record has at least a byte.
func Records(n uint64, size int, left uint64) bool { return n <= left/uint64(size) }
