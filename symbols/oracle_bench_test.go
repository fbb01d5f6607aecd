package symbols_test

import (
	"debug/elf"
	"fmt"
	"testing"

	"github.com/kdelta/kdelta/symbols"
)

// bigKernel makes a table like that of a large vmlinux: n symbols, every eighth a duplicate, addresses in no order.
func bigKernel(n int) *symbols.Table {
	t := &symbols.Table{Name: "vmlinux", Object: symbols.Vmlinux, Entries: make([]symbols.Entry, n)}
	for i := range t.Entries {
		name := fmt.Sprintf("a_function_of_some_driver_%d", i)
		if i%8 == 0 {
			name = fmt.Sprintf("__func__.%d", i%97)
		}
		t.Entries[i] = symbols.Entry{Name: name, Addr: 0xffffffff81000000 + uint64(i*7919%n)*16, Size: 16, Sec: 1, File: -1, Type: uint8(elf.STT_FUNC), Flags: symbols.EntryCode}
	}
	return t
}

func BenchmarkNewOracle(b *testing.B) {
	t := bigKernel(250_000)
	b.ReportAllocs()
	for b.Loop() {
		symbols.NewOracle(symbols.Vmlinux, t)
	}
}

func BenchmarkGlobal(b *testing.B) {
	o, _ := symbols.NewOracle(symbols.Vmlinux, bigKernel(250_000))
	b.ReportAllocs()
	for b.Loop() {
		o.Global("a_function_of_some_driver_77777")
	}
}

func BenchmarkParseKallsyms(b *testing.B) {
	text := unpack(b, shared(b, "fixes", "kallsyms-6.1.0-50-amd64.txt.xz"), "xz", "-dc")
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := symbols.ParseKallsyms("kallsyms", text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseReadelf(b *testing.B) {
	text := readelfText(bigKernel(250_000))
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := symbols.ParseReadelf("vmlinux", symbols.Vmlinux, text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPlaceObject(b *testing.B) {
	tables, err := symbols.ParseKallsyms("kallsyms", unpack(b, shared(b, "fixes", "kallsyms-6.1.0-50-amd64.txt.xz"), "xz", "-dc"))
	if err != nil {
		b.Fatal(err)
	}
	o, _ := symbols.NewOracle(symbols.Vmlinux, tables[0])
	f := readObject(b, shared(b, "fixes", "18-tcp_input.ORIG.o"))
	b.ReportAllocs()
	for b.Loop() {
		g := *f // another object each time: the Oracle remembers
		o.Place(&g)
	}
}
