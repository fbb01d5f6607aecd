package klp_test

import (
	"debug/elf"
	"fmt"
	"log"

	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
)

// linked stands for a module that the kernel's build linked: upstream's intermediate form.
func linked() []byte {
	b := object.NewBuilder(object.Header{})
	text := b.AddSection(object.BuildSection{Name: ".text", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, Addralign: 16, Data: make([]byte, 32)})
	fn := b.AddSymbol(object.BuildSymbol{Name: "cmdline_proc_show", Sec: text, Size: 32, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC)})
	klp.Intermediate(b,
		[]klp.Object{{Name: klp.Vmlinux, Funcs: []klp.Func{{Name: "cmdline_proc_show", New: fn}}}},
		[]klp.Reloc{{Object: klp.Vmlinux, Sec: text, Off: 0xd, Type: elf.R_X86_64_PC32, Addend: -4,
			Symbol: klp.Symbol{Object: klp.Vmlinux, Name: "saved_command_line", Type: elf.STT_OBJECT}}},
		nil, map[object.SecID]object.SymID{})
	d, err := b.Bytes()
	if err != nil {
		log.Fatal(err)
	}
	return d
}

// Finalize is the last step before a module is signed and loaded.
func ExampleFinalize() {
	ko, err := klp.Finalize(linked(), klp.FinalizeOptions{Name: "livepatch.ko", DropBTF: true})
	if err != nil {
		log.Fatal(err)
	}
	f, err := object.Parse(ko, object.Options{})
	if err != nil {
		log.Fatal(err)
	}
	p, err := klp.ReadFinal(f)
	if err != nil {
		log.Fatal(err)
	}
	for _, t := range p.Tuples() {
		fmt.Println(t)
	}
	for _, o := range p.Objects {
		for _, fn := range o.Funcs {
			fmt.Println(o.Name, fn.Name, fn.Pos)
		}
	}
	// Output:
	// vmlinux .text+0xd R_X86_64_PC32 vmlinux:saved_command_line,0 -4
	// vmlinux cmdline_proc_show 0
}

// ParseSymbol reads the name of a symbol that the livepatch core resolves.
func ExampleParseSymbol() {
	s, err := klp.ParseSymbol(".klp.sym.ext4.state.0,2")
	fmt.Println(s.Object, s.Name, s.Pos, err)
	// Output: ext4 state.0 2 <nil>
}
