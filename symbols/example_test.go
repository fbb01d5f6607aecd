package symbols_test

import (
	"fmt"

	"github.com/kdelta/kdelta/symbols"
)

func ExampleParse() {
	for _, name := range []string{"schedule", "cnt.12", "f.part.0.cold", "f.llvm.8523", "__pfx_f"} {
		f := symbols.Parse(name)
		fmt.Printf("%-14s key=%s parent=%q %v\n", name, f.Key, f.Parent, f.Flags)
	}
	// Output:
	// schedule       key=schedule parent="" plain
	// cnt.12         key=cnt parent="" staticlocal|numbered
	// f.part.0.cold  key=f.part.cold parent="f.part.0" cold|part|numbered
	// f.llvm.8523    key=f parent="" promoted
	// __pfx_f        key=__pfx_f parent="f" prefix
}

func ExampleKey() {
	fmt.Println(symbols.Key("__initcall__kmod_bio__709_2086_init_bio4"))
	fmt.Println(symbols.Key("__initcall__kmod_bio__711_2090_init_bio4"))
	// Output:
	// __initcall__kmod_bio____init_bio4
	// __initcall__kmod_bio____init_bio4
}

func ExampleDemangle() {
	fmt.Println(symbols.Demangle("_ZN1n1zEi.cold"))
	fmt.Println(symbols.Demangle("_RNvCsciUMGOH01m6_1b3top.llvm.77"))
	fmt.Println(symbols.Demangle("ext4_file_write_iter"))
	// Output:
	// n::z(int).cold
	// b::top.llvm.77
	// ext4_file_write_iter
}
