package symbols_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/symbols"
)

// TestMemory: a parser takes memory in proportion to its text, whatever the text says: at most 64 times as much
// for the shortest lines that there are.
func TestMemory(t *testing.T) {
	parsers := map[string]func([]byte){
		"readelf":    func(b []byte) { _, _ = symbols.ParseReadelf("t", symbols.Vmlinux, b) },
		"kallsyms":   func(b []byte) { _, _ = symbols.ParseKallsyms("t", b) },
		"System.map": func(b []byte) { _, _ = symbols.ParseSystemMap("t", b) },
		"symvers":    func(b []byte) { _, _ = symbols.ParseSymvers("t", b) },
	}
	const size = 1 << 20
	for name, parse := range parsers {
		for _, line := range []string{"\n", " \n", "0 t f\n", "0 t f\t[m]\n", "0 U x\n", "1: 0 0 FUNC LOCAL DEFAULT 1 f\n", "1: 0 0 FILE LOCAL DEFAULT ABS a\n", "1: 0 0xffffffffffffffff FUNC LOCAL DEFAULT 4294967295 f\n",
			"Symbol table '.symtab' contains 99999999999 entries:\n", "0x1\ta\tb\tEXPORT_SYMBOL\n", "0x1\ta\tb\tEXPORT_SYMBOL\tn\n", "x", "\x00", "0 t \xff\n", "0 t f\t[" + strings.Repeat("m", 300) + "]\n"} {
			text := []byte(strings.Repeat(line, size/len(line)))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			parse(text)
			runtime.ReadMemStats(&after)
			if used := after.TotalAlloc - before.TotalAlloc; used > 64*size+1<<20 {
				t.Errorf("%s of %d bytes of %.40q: %d bytes of memory", name, size, line, used)
			}
		}
	}
}
