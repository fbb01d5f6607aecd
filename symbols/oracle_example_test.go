package symbols_test

import (
	"fmt"

	"github.com/kdelta/kdelta/symbols"
)

func ExampleOracle_Global() {
	tables, err := symbols.ParseKallsyms("/proc/kallsyms", []byte(
		"0000000000000000 T start_kernel\n"+
			"0000000000000000 t show\n"+
			"0000000000000000 T show\n"+
			"0000000000000000 t show\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	o, _ := symbols.NewOracle(symbols.Vmlinux, tables[0])
	for _, name := range []string{"start_kernel", "show", "stop_kernel"} {
		a := o.Global(name)
		fmt.Println(name, a.Known, a.Pos, a.Evidence)
	}
	// Output:
	// start_kernel true 0 /proc/kallsyms: the only symbol of this name
	// show true 2 /proc/kallsyms: the only global one of 3 symbols of this name
	// stop_kernel false 0 vmlinux has no symbol of this name
}

func ExampleParseSymvers() {
	s, err := symbols.ParseSymvers("Module.symvers", []byte(
		"0x4c9d28b0\tphys_base\tvmlinux\tEXPORT_SYMBOL\t\n"+
			"0x8a1b2c3d\tsnd_hda_add\tsound/pci/hda/snd-hda-codec\tEXPORT_SYMBOL_GPL\t\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	e, ok := s.Lookup("snd_hda_add")
	fmt.Printf("%s %#x %v\n", e.Module, e.CRC, ok)
	// Output: snd_hda_codec 0x8a1b2c3d true
}
