package image

import (
	"debug/elf"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/symbols"
)

// fakeModule gives a .ko with two functions of one name, of which the second is traced, and one export.
func fakeModule(t testing.TB, info string) []byte {
	t.Helper()
	b := object.NewBuilder(object.Header{Type: elf.ET_REL})
	sec := func(name string, flags elf.SectionFlag, data []byte) object.SecID {
		return b.AddSection(object.BuildSection{Name: name, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | flags, Addralign: 1, Data: data})
	}
	text := sec(".text", elf.SHF_EXECINSTR, make([]byte, 64))
	strs := sec("__ksymtab_strings", 0, []byte("exported\x00NS\x00"))
	tab := sec("__ksymtab_gpl", 0, make([]byte, 12))
	sec("__kcrctab_gpl", 0, []byte{0x44, 0x33, 0x22, 0x11})
	mcount := sec("__mcount_loc", 0, make([]byte, 8))
	sec(".modinfo", 0, []byte(info))
	sym := func(name string, s object.SecID, v uint64, bind elf.SymBind, typ elf.SymType) object.SymID {
		return b.AddSymbol(object.BuildSymbol{Name: name, Sec: s, Value: v, Info: elf.ST_INFO(bind, typ)})
	}
	tsec := sym("", text, 0, elf.STB_LOCAL, elf.STT_SECTION)
	sym("twice", text, 0, elf.STB_LOCAL, elf.STT_FUNC)
	sym("twice", text, 16, elf.STB_LOCAL, elf.STT_FUNC)
	name := sym("__kstrtab_exported", strs, 0, elf.STB_LOCAL, elf.STT_NOTYPE)
	ns := sym("__kstrtabns_exported", strs, 9, elf.STB_LOCAL, elf.STT_NOTYPE)
	fn := sym("exported", text, 32, elf.STB_GLOBAL, elf.STT_FUNC)
	for i, s := range []object.SymID{fn, name, ns} {
		b.AddReloc(tab, object.Reloc{Off: uint64(4 * i), Type: elf.R_X86_64_PC32, Sym: s})
	}
	b.AddReloc(mcount, object.Reloc{Type: elf.R_X86_64_64, Sym: tsec, Addend: 16})
	out, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

const fakeInfo = "license=GPL\x00depends=a,b\x00vermagic=" + fakeVermagic + "\x00"

func TestModule(t *testing.T) {
	ko := fakeModule(t, fakeInfo)
	for name, data := range map[string][]byte{"some-name.ko": ko, "some-name.ko.xz": compressXz(ko), "some-name.ko.zst": compressZstd(ko), "some-name.ko.gz": compressGzip(ko)} {
		m, err := ParseModule(data, Options{Name: "/lib/" + name})
		if err != nil {
			t.Fatal(name, err)
		}
		if m.Name != "some_name" || m.Vermagic != fakeVermagic || !slices.Equal(m.Depends, []string{"a", "b"}) || len(m.Info) != 3 || m.Signed {
			t.Errorf("%+v", m)
		}
		if e, ok := m.Export("exported"); !ok || *e != (Export{Name: "exported", Namespace: "NS", Addr: 32, CRC: 0x11223344, GPL: true}) {
			t.Errorf("%+v", e)
		}
		if x, ok := m.Symvers().Exporter("exported"); !ok || x != "some_name" {
			t.Errorf("exporter %s", x)
		}
		ids := m.Find("twice")
		if len(ids) != 2 || m.Ftrace(ids[0]) || !m.Ftrace(ids[1]) || m.Ftrace(0) || m.Ftrace(1<<30) {
			t.Errorf("%v", ids)
		}
		o, ds := symbols.NewOracle("some_name", m.Table(), m.Symvers())
		if a := o.Global("exported"); len(ds) > 0 || !a.Known || a.Pos != 0 {
			t.Errorf("%v %+v", ds, a)
		}
		k := mustParse(t, (&fake{noBTF: true}).vmlinux(t))
		if why := m.Fits(k); why != "" {
			t.Error(why)
		}
		m.Vermagic = "5.10 SMP "
		if why := m.Fits(k); !strings.Contains(why, "made for 5.10 SMP,") {
			t.Error(why)
		}
	}
	if m, err := ParseModule(fakeModule(t, "name=other\x00"), Options{Name: "x.ko"}); err != nil || m.Name != "other" {
		t.Errorf("%v", err)
	}
	if _, err := ParseModule(fakeModule(t, "")[:100], Options{}); codeOf(err) != diag.ElfMalformed {
		t.Errorf("%v", err)
	}
	if _, err := ParseModule((&fake{noBTF: true}).vmlinux(t), Options{}); codeOf(err) != diag.ImageMalformed {
		t.Errorf("%v", err)
	}
	if _, err := ParseModule(compressZstd(ko), Options{MaxSize: 100}); codeOf(err) != diag.ImageLimit {
		t.Errorf("%v", err)
	}
}

func FuzzParseModule(f *testing.F) {
	ko := fakeModule(f, fakeInfo)
	f.Add(ko)
	f.Add(compressXz(ko))
	f.Add(compressZstd(ko))
	f.Add(compressGzip(ko))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseModule(data, Options{Name: "m.ko", MaxSize: 1 << 22})
		if err != nil {
			if codeOf(err) == "" {
				t.Fatalf("an error without a code: %v", err)
			}
			return
		}
		for i := range m.File.Symbols {
			m.Ftrace(object.SymID(i))
			m.Find(m.File.Symbols[i].Name)
		}
		m.Symvers()
		m.Table()
	})
}

// All modules of the folder: their exports are those of Module.symvers and their vermagic is the kernel's.
func TestRealModules(t *testing.T) {
	dir := kernels(t)
	releases, _ := filepath.Glob(filepath.Join(dir, "lib/modules/*"))
	for _, root := range releases {
		release := filepath.Base(root)
		t.Run(release, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(dir, "usr/src/linux-headers-"+release+"/Module.symvers"))
			if err != nil {
				t.Skip(err)
			}
			sv, err := symbols.ParseSymvers("Module.symvers", text)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]symbols.Export{}
			for _, e := range sv.Exports {
				want[e.Module+" "+e.Symbol] = e
			}
			k := load(t, filepath.Join(dir, "boot/vmlinuz-"+release))
			n, exports, i := 0, 0, 0
			err = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
				if err != nil || d.IsDir() || !strings.Contains(filepath.Base(path), ".ko") {
					return err
				}
				if i++; i%8 != 0 && !strings.Contains(path, "/net/") {
					return nil
				}
				data, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				m, err := ParseModule(data, Options{Name: path})
				if err != nil {
					return err
				}
				n++
				if why := m.Fits(k); why != "" {
					t.Errorf("%s: %s", path, why)
				}
				for _, e := range m.Exports {
					exports++
					w, ok := want[m.Name+" "+e.Name]
					if !ok || w.CRC != e.CRC || w.Namespace != e.Namespace || (w.Type == "EXPORT_SYMBOL_GPL") != e.GPL {
						t.Errorf("%s: %+v, Module.symvers has %+v", path, e, w)
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d modules, %d exports", n, exports)
		})
	}
}
