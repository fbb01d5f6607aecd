package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/symbols"
)

// kernels gives the folder of unpacked kernel packages (with boot/, lib/modules/ and usr/src/).
func kernels(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("KDELTA_KERNELS")
	if dir == "" {
		t.Skip("KDELTA_KERNELS is not set to a folder with unpacked kernel packages")
	}
	return dir
}

func load(t testing.TB, path string) *Kernel {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	k, err := Parse(data, Options{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Every image of the folder: exports equal the Module.symvers of the headers, and what was found is what a kernel has.
func TestRealKernels(t *testing.T) {
	dir := kernels(t)
	images, _ := filepath.Glob(filepath.Join(dir, "boot/vmlinuz-*"))
	if len(images) == 0 {
		t.Skip("no boot/vmlinuz-* in " + dir)
	}
	for _, path := range images {
		release := strings.TrimPrefix(filepath.Base(path), "vmlinuz-")
		t.Run(release, func(t *testing.T) {
			c := cpu()
			k := load(t, path)
			parse := cpu() - c
			if k.Release != release {
				t.Errorf("release %q", k.Release)
			}
			if !strings.HasPrefix(k.Vermagic, release+" SMP ") || !strings.HasSuffix(k.Vermagic, " modversions ") {
				t.Errorf("vermagic %q", k.Vermagic)
			}
			if !strings.Contains(k.Compiler, "gcc") {
				t.Errorf("compiler %q of banner %q", k.Compiler, k.Banner)
			}
			if _, err := k.KlpLayout(); err != nil {
				t.Error(err)
			}
			dup := map[string]int{}
			for i := range k.Symbols {
				dup[k.Symbols[i].Name]++
			}
			shared, names := 0, 0
			for _, n := range dup {
				if n > 1 {
					names++
					shared += n
				}
			}
			traced := 0
			for i := range k.Symbols {
				if k.Symbols[i].Type|0x20 == 't' && k.Ftrace(k.Symbols[i].Addr) {
					traced++
				}
			}
			t.Logf("%.2f s CPU; %d symbols, %d names shared by %d; %d exports; ORC %v sp %d, padding %d, IBT %v, thunk %v, kCFI %v; %d of %d sites are functions; %v", parse, len(k.Symbols), names, shared,
				len(k.Exports), k.ORC(), k.ORCStackPointer(), k.CallPadding(), k.HasIBT(), k.ReturnThunk(), k.KCFI(), traced, len(k.mcount), k.EntrySizes())

			c = cpu()
			enc := k.Encode()
			encode := cpu() - c
			c = cpu()
			d, err := Decode(k.Name, enc)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("encoded %d bytes in %.3f s CPU, decoded in %.3f", len(enc), encode, cpu()-c)
			same(t, k, d)

			text, err := os.ReadFile(filepath.Join(dir, "usr/src/linux-headers-"+release+"/Module.symvers"))
			if err != nil {
				t.Skipf("exports not compared: %v", err)
			}
			sv, err := symbols.ParseSymvers("Module.symvers", text)
			if err != nil {
				t.Fatal(err)
			}
			n, differ := 0, 0
			for _, e := range sv.Exports {
				if e.Module != symbols.Vmlinux {
					continue
				}
				n++
				x, ok := k.Export(e.Symbol)
				if !ok || x.CRC != e.CRC || x.Namespace != e.Namespace || x.GPL != (e.Type == "EXPORT_SYMBOL_GPL") {
					if differ++; differ < 5 {
						t.Errorf("%+v: image has %+v", e, x)
					}
				}
			}
			if n != len(k.Exports) {
				t.Errorf("%d exports, Module.symvers has %d", len(k.Exports), n)
			}
			t.Logf("%d exports compared, %d differ", n, differ)
		})
	}
}

// Functions that were patched on this kernel, and such as livepatch refused there ("failed to find location").
func TestRealFtrace(t *testing.T) {
	path := filepath.Join(kernels(t), "boot/vmlinuz-6.1.0-50-amd64")
	if _, err := os.Stat(path); err != nil {
		t.Skip(err)
	}
	k := load(t, path)
	for name, want := range map[string]bool{
		"do_fcntl": true, "prctl_set_auxv": true, "pipe_fasync": true, "migrate_to_node": true, "__x64_sys_swapon": true, "do_thaw_all_callback": true,
		"__do_sys_swapon": false, "rhashtable_walk_start_check": false, "__fentry__": false, "memcpy": false, "init_task": false,
	} {
		a, ok := k.Addr(name)
		if !ok {
			t.Errorf("%s is not there, or not once", name)
		} else if k.Ftrace(a) != want {
			t.Errorf("%s: traceable is not %v", name, want)
		}
	}
}

// same compares two sets of facts in all that Encode keeps.
func same(t *testing.T, a, b *Kernel) {
	t.Helper()
	if a.Release != b.Release || a.Banner != b.Banner || a.Vermagic != b.Vermagic || a.Compiler != b.Compiler || a.conv != b.conv {
		t.Errorf("versions or conventions differ: %+v and %+v", a.conv, b.conv)
	}
	if len(a.Symbols) != len(b.Symbols) || len(a.Exports) != len(b.Exports) || len(a.Sections) != len(b.Sections) || len(a.mcount) != len(b.mcount) || len(a.structs) != len(b.structs) {
		t.Fatal("numbers differ")
	}
	for i := range a.Symbols {
		if a.Symbols[i] != b.Symbols[i] {
			t.Fatalf("symbol %d: %+v and %+v", i, a.Symbols[i], b.Symbols[i])
		}
	}
	for i := range a.Exports {
		if a.Exports[i] != b.Exports[i] {
			t.Fatalf("export %d: %+v and %+v", i, a.Exports[i], b.Exports[i])
		}
	}
	for i := range a.Sections {
		x, y := &a.Sections[i], &b.Sections[i]
		if x.Name != y.Name || x.Addr != y.Addr || x.Size != y.Size || x.Flags != y.Flags || !omitted(x.Name) && string(x.Data) != string(y.Data) {
			t.Fatalf("section %s differs", x.Name)
		}
	}
	for name, s := range a.structs {
		o := b.structs[name]
		if !s.equal(&o) {
			t.Errorf("struct %s: %+v and %+v", name, s, o)
		}
	}
}
