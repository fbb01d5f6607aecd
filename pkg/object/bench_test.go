package object

import (
	"debug/elf"
	"fmt"
	"testing"
)

// kernelLike builds an object with n functions in sections of their own, six
// relocations each, and a table with two entries for each of them.
func kernelLike(n int) *Builder {
	b := NewBuilder(Header{})
	code := make([]byte, 256)
	table := b.AddSection(BuildSection{Name: "__bug_table", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_WRITE, Addralign: 1, Data: make([]byte, 24*n)})
	fn := make([]SymID, n)
	sec := make([]SecID, n)
	for i := range n {
		name := fmt.Sprintf("subsystem_function_%d", i)
		sec[i] = b.AddSection(BuildSection{Name: ".text." + name, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, Addralign: 16, Data: code})
		bind := elf.STB_LOCAL
		if i%4 == 0 {
			bind = elf.STB_GLOBAL
		}
		fn[i] = b.AddSymbol(BuildSymbol{Name: name, Info: elf.ST_INFO(bind, elf.STT_FUNC), Sec: sec[i], Size: 256})
	}
	for i := range n {
		for k := range 6 {
			b.AddReloc(sec[i], Reloc{Off: uint64(k * 40), Sym: fn[(i*7+k)%n], Type: elf.R_X86_64_PLT32, Addend: -4})
		}
		b.AddReloc(table, Reloc{Off: uint64(24 * i), Sym: fn[i], Type: elf.R_X86_64_PC32, Addend: int64(i)})
		b.AddReloc(table, Reloc{Off: uint64(24*i) + 4, Sym: fn[i], Type: elf.R_X86_64_PC32})
	}
	return b
}

var benchSizes = []int{10, 1000, 30_000}

func BenchmarkParse(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d := mustBytes(b, kernelLike(n))
			b.SetBytes(int64(len(d)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(d, Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRewrite loads a parsed object into a Builder and writes it.
func BenchmarkRewrite(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f := mustParse(b, mustBytes(b, kernelLike(n)))
			b.SetBytes(int64(len(f.Data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := FromFile(f).Bytes(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkBytes writes an object that was built from nothing.
func BenchmarkBytes(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x := kernelLike(n)
			b.SetBytes(int64(len(mustBytes(b, x))))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := x.Bytes(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
