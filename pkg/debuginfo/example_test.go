package debuginfo_test

import (
	"debug/elf"
	"fmt"
	"log"
	"os"

	"github.com/kdelta/kdelta/pkg/debuginfo"
)

// open loads a fixture and finds a function in it.
func open(name, function string) (*debuginfo.Info, debuginfo.Place) {
	path := "../../testdata/cases/" + name
	data, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	info, err := debuginfo.Load(data, debuginfo.Options{})
	if err != nil {
		log.Fatal(err)
	}
	f, err := elf.Open(path)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	syms, _ := f.Symbols()
	for _, s := range syms {
		if s.Name == function {
			return info, debuginfo.Place{Section: int(s.Section), Off: s.Value}
		}
	}
	return info, debuginfo.Place{}
}

func ExampleInfo_Inlined() {
	info, at := open("dwarf-inline/clang.PATCHED.o", "nested")
	at.Off += 10
	line, _ := info.Line(at)
	fmt.Println(line)
	for _, f := range info.Inlined(at) {
		fmt.Println(f.Name, "called at", f.Call)
	}
	// Output:
	// dwarf-inline.c:6
	// outer called at dwarf-inline.c:19
	// inner called at dwarf-inline.c:13
}

func ExampleLayout() {
	orig, o := open("dwarf-layout/gcc.ORIG.o", "second")
	patched, p := open("dwarf-layout/gcc.PATCHED.o", "second")
	for _, c := range debuginfo.Layout(orig, patched, []debuginfo.Func{{Name: "second", Orig: o, Patched: p}}) {
		fmt.Printf("%s %s, used by %v\n", c.Kind, c.Name, c.Users)
		fmt.Println(c.OrigSize, "->", c.PatchedSize)
		for _, m := range c.Members {
			fmt.Println(m.String())
		}
	}
	// Output:
	// struct thing, used by [second]
	// 16 -> 32
	// added (long int) added at 8
	// b moved from 4 to 16
	// next moved from 8 to 24
}
