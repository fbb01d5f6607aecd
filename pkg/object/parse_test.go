package object

import (
	"os"
	"testing"
)

func BenchmarkParseVmlinux(b *testing.B) {
	d, err := os.ReadFile("/tmp/w/vmlinux.ORIG.o")
	if err != nil {
		b.Skip(err)
	}
	b.SetBytes(int64(len(d)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(d, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
