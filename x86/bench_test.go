package x86_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/kdelta/kdelta/x86"
)

// compiled returns compiled code: the functions of one kernel object or, where
// there is no corpus, of the golden listing.
func compiled(b *testing.B) []byte {
	var code []byte
	if found, _ := filepath.Glob(filepath.Join(pairs, "*", "*.o")); len(found) > 0 {
		for _, path := range found {
			if _, err := os.Stat(path); err != nil {
				continue
			}
			for _, fn := range functions(b, path) {
				code = append(code, fn.code...)
			}
			if len(code) > 1<<20 {
				break
			}
		}
		return code
	}
	for _, c := range readGolden(b) {
		if _, err := x86.Decode(c.code); err == nil {
			code = append(code, c.code...)
		}
	}
	return code
}

func BenchmarkDecode(b *testing.B) {
	code := compiled(b)
	b.SetBytes(int64(len(code)))
	b.ReportAllocs()
	for b.Loop() {
		for off := 0; off < len(code); {
			in, err := x86.Decode(code[off:])
			if err != nil {
				b.Fatal(off, err)
			}
			off += int(in.Len)
		}
	}
}

func BenchmarkWalker(b *testing.B) {
	code := compiled(b)
	b.SetBytes(int64(len(code)))
	b.ReportAllocs()
	for b.Loop() {
		w := x86.Walker{Code: code}
		for w.Next() {
		}
		if w.Err != nil {
			b.Fatal(w.Off, w.Err)
		}
	}
}
