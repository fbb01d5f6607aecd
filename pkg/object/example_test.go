package object_test

import (
	"debug/elf"
	"fmt"
	"log"

	"github.com/kdelta/kdelta/pkg/object"
)

// build makes an object with a function that calls another.
func build() ([]byte, error) {
	b := object.NewBuilder(object.Header{})
	text := b.AddSection(object.BuildSection{
		Name: ".text", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, Addralign: 16,
		Data: []byte{0xe9, 0, 0, 0, 0}, // jmp
	})
	b.AddSymbol(object.BuildSymbol{Name: "tick", Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC), Sec: text, Size: 5})
	printk := b.AddSymbol(object.BuildSymbol{Name: "_printk", Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_NOTYPE)})
	b.AddReloc(text, object.Reloc{Off: 1, Sym: printk, Type: elf.R_X86_64_PLT32, Addend: -4})
	return b.Bytes()
}

func ExampleParse() {
	data, err := build()
	if err != nil {
		log.Fatal(err)
	}
	f, err := object.Parse(data, object.Options{Name: "tick.o"})
	if err != nil {
		log.Fatal(err)
	}
	for i := range f.Sections {
		relocs := f.RelocsOf(object.SecID(i))
		for k := range relocs.Len() {
			r := relocs.At(k)
			fmt.Printf("%s+%#x: %v %s%+d\n", f.Sections[i].Name, r.Off, r.Type, f.SymName(r.Sym), r.Addend)
		}
	}
	_, err = object.Parse(data[:200], object.Options{Name: "cut.o"})
	fmt.Println(err)
	// Output:
	// .text+0x1: R_X86_64_PLT32 _printk-4
	// cut.o: 0x28: error: section headers at 0xe0 lie outside the file of 0xc8 bytes [elf-malformed]
}

func ExampleBuilder() {
	data, err := build()
	if err != nil {
		log.Fatal(err)
	}
	f, err := object.Parse(data, object.Options{})
	if err != nil {
		log.Fatal(err)
	}
	// Load it, give a symbol another name and write it again.
	b := object.FromFile(f)
	for id := object.SymID(1); int(id) < b.NumSymbols(); id++ {
		if s := b.Symbol(id); s.Name == "tick" {
			s.Name = "tock"
			b.SetSymbol(id, s)
		}
	}
	data, err = b.Bytes()
	if err != nil {
		log.Fatal(err)
	}
	if f, err = object.Parse(data, object.Options{}); err != nil {
		log.Fatal(err)
	}
	for i := range f.Sections {
		fmt.Println(i, f.Sections[i].Name, f.Sections[i].Type)
	}
	for i := range f.Symbols {
		fmt.Printf("%d %q\n", i, f.Symbols[i].Name)
	}
	// Output:
	// 0  SHT_NULL
	// 1 .text SHT_PROGBITS
	// 2 .rela.text SHT_RELA
	// 3 .symtab SHT_SYMTAB
	// 4 .strtab SHT_STRTAB
	// 5 .shstrtab SHT_STRTAB
	// 0 ""
	// 1 "tock"
	// 2 "_printk"
}
