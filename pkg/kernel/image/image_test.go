package image

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/symbols"
)

func codeOf(err error) diag.Code {
	var e *diag.Error
	if !errors.As(err, &e) || len(e.Diagnostics) == 0 {
		return ""
	}
	return e.Diagnostics[0].Code
}

func mustParse(t testing.TB, data []byte) *Kernel {
	t.Helper()
	k, err := Parse(data, Options{Name: "vmlinuz"})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// check holds k against what fake makes.
func check(t *testing.T, f *fake, k *Kernel) {
	t.Helper()
	if k.Release != fakeRelease || k.Vermagic != fakeVermagic || k.Banner != fakeBanner || k.Compiler != "gcc-12 (X 12) 12.2.0" {
		t.Errorf("release %q, vermagic %q, banner %q, compiler %q", k.Release, k.Vermagic, k.Banner, k.Compiler)
	}
	if a, b := k.Version(); a != 6 || b != 1 {
		t.Errorf("version %d.%d", a, b)
	}
	i := k.Find("local")
	if len(i) != 2 || k.Symbols[i[0]] != (Symbol{"local", fakeText + 96, 't'}) || k.Symbols[i[1]] != (Symbol{"local", fakeText + 160, 't'}) {
		t.Errorf("local: %v", i)
	}
	if a, ok := k.Addr(strings.Repeat("long", 60)); !ok || a != fakeText+64+5*32 {
		t.Errorf("long name: %#x, %v", a, ok)
	}
	if _, ok := k.Addr("local"); ok {
		t.Error("local is not unique")
	}
	if a, ok := k.Addr("Tdo"); !ok || a != fakeText+64+4*32 {
		t.Errorf("Tdo: %#x", a)
	}
	if k.Find("nothing") != nil {
		t.Error("nothing was found")
	}
	e, ok := k.Export("do_it")
	if !ok || *e != (Export{Name: "do_it", Namespace: "NS", Addr: fakeText + 128, CRC: 0x22222222, GPL: true}) || len(k.Exports) != 3 {
		t.Errorf("%+v of %d", e, len(k.Exports))
	}
	if x, ok := k.Symvers().Lookup("vfs_read"); !ok || x.CRC != 0x11111111 || x.Module != symbols.Vmlinux || x.Type != "EXPORT_SYMBOL" {
		t.Errorf("%+v", x)
	}
	for name, want := range map[string]bool{"vfs_read": true, "do_it": true, "Tdo": true, "__fentry__": false, "__x86_return_thunk": false} {
		a, _ := k.Addr(name)
		if k.Ftrace(a) != want {
			t.Errorf("Ftrace(%s) is not %v", name, want)
		}
	}
	if k.Ftrace(fakeText+96) || k.Ftrace(0) {
		t.Error("traced")
	}
	orc := ORCTypeSignal
	if f.order <= orderOld {
		orc = ORCTypeEnd
	}
	if k.ORC() != orc || k.ORCStackPointer() != 5 || k.HasIBT() != f.ibt || !k.ReturnThunk() || k.KCFI() || !k.HasModversions() || k.CallPadding() != 0 {
		t.Errorf("conventions %+v", k.conv)
	}
	if b := k.Bytes(fakeText+32, 32); len(b) != 32 || b[0] != 0x90 {
		t.Errorf("% x", b)
	}
	if k.Bytes(fakeText-1, 1) != nil || k.Bytes(fakeText, 1<<20) != nil || k.Bytes(fakeText, -1) != nil {
		t.Error("bytes outside")
	}
	if f.noBTF {
		if _, err := k.KlpLayout(); codeOf(err) != diag.ImageLacks {
			t.Errorf("%v", err)
		}
		return
	}
	l, err := k.KlpLayout()
	if err != nil {
		t.Fatal(err)
	}
	want := klp.DefaultLayout()
	want.ModuleSize, want.ModuleName, want.ModuleInit, want.ModuleExit = 896, 24, 312, 848
	if *l != *want {
		t.Errorf("%+v", l)
	}
	if n := k.EntrySizes(); len(n) != 1 || n["__bug_table"] != 12 {
		t.Errorf("%v", n)
	}
	s, ok := k.Struct("nested")
	if m, _ := s.Member("b"); !ok || m.Offset != 16 || m.Size != 8 {
		t.Errorf("%+v", s)
	}
	if _, ok := k.Struct("none"); ok {
		t.Error("struct none")
	}
}

func TestParse(t *testing.T) {
	many := make([]Symbol, 700) // three groups of markers
	for i := range many {
		many[i] = Symbol{"filler", fakeText + 64 + 6*32, 't'}
	}
	for order := range lastOrder + 1 {
		for _, f := range []*fake{{order: order}, {order: order, ibt: true, flags: true}, {order: order, noBTF: true}, {order: order, symbols: many}} {
			k := mustParse(t, f.vmlinux(t))
			check(t, f, k)
			d, err := Decode("vmlinuz", k.Encode())
			if err != nil {
				t.Fatal(err)
			}
			same(t, k, d)
			check(t, f, d)
		}
	}
}

func TestCompression(t *testing.T) {
	f := &fake{}
	elf := f.vmlinux(t)
	for name, payload := range map[string][]byte{
		"xz": sized(compressXz(elf), len(elf)), "zstd": sized(compressZstd(elf), len(elf)), "lz4": sized(compressLz4(elf), len(elf)), "gzip": compressGzip(elf), "none": elf,
	} {
		check(t, f, mustParse(t, bzImage(payload)))
		if name == "none" {
			continue
		}
		if _, err := Parse(bzImage(payload), Options{MaxSize: int64(len(elf) - 1)}); codeOf(err) != diag.ImageLimit {
			t.Errorf("%s, limited: %v", name, err)
		}
		if _, err := Parse(bzImage(payload[:len(payload)/2]), Options{}); codeOf(err) != diag.ImageMalformed && codeOf(err) != diag.ImageLimit {
			t.Errorf("%s, cut: %v", name, err)
		}
		if name != "gzip" {
			if _, err := Parse(bzImage(sized(payload[:len(payload)-4], len(elf)-1)), Options{}); codeOf(err) != diag.ImageMalformed {
				t.Errorf("%s, wrong size: %v", name, err)
			}
		}
	}
	for _, b := range [][]byte{compressXz(elf), compressZstd(elf), compressLz4(elf), compressGzip(elf)} {
		check(t, f, mustParse(t, b))
	}
	for _, b := range []string{"BZh91AY", "\x5d\x00\x00\x00\x04aaaa", "something else"} {
		if _, err := Parse(bzImage([]byte(b+"        ")), Options{}); codeOf(err) != diag.ImageUnsupported {
			t.Errorf("%q: %v", b, err)
		}
	}
}

func TestRefused(t *testing.T) {
	good := (&fake{}).vmlinux(t)
	replace := func(a, b string) []byte {
		out := bytes.ReplaceAll(good, []byte(a), []byte(b))
		if bytes.Equal(out, good) {
			t.Fatalf("%q is not in it", a)
		}
		return out
	}
	old := bzImage(compressGzip(good))
	le.PutUint16(old[hdrVersion:], 0x207)
	outside := bzImage(compressGzip(good))
	le.PutUint32(outside[hdrPayloadLength:], 1<<30)
	for name, c := range map[string]struct {
		data []byte
		code diag.Code
		text string
	}{
		"nothing":     {nil, diag.ImageMalformed, "neither"},
		"text":        {[]byte(strings.Repeat("no kernel ", 100)), diag.ImageMalformed, "neither"},
		"old":         {old, diag.ImageUnsupported, "boot protocol 2.07"},
		"outside":     {outside, diag.ImageMalformed, "not in the file"},
		"no kallsyms": {replace("4\x005\x006\x00", "4\x005\x007\x00"), diag.ImageMalformed, "no kallsyms"},
		"no rodata":   {replace(".rodata\x00", ".rodatb\x00"), diag.ImageMalformed, "not a Linux kernel"},
		"no banner":   {replace("Linux version ", "Linux versiom "), diag.ImageMalformed, "no banner"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(c.data, Options{Name: "f"})
			if codeOf(err) != c.code || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestDecodeRefused(t *testing.T) {
	enc := mustParse(t, (&fake{}).vmlinux(t)).Encode()
	for i := 0; i < len(enc); i += 1 + len(enc)/512 {
		if _, err := Decode("c", enc[:i]); codeOf(err) != diag.ImageMalformed {
			t.Fatalf("cut at %d: %v", i, err)
		}
		bad := bytes.Clone(enc)
		bad[i] ^= 1
		if _, err := Decode("c", bad); codeOf(err) != diag.ImageMalformed {
			t.Fatalf("bit at %d: %v", i, err)
		}
	}
}

func TestFromParts(t *testing.T) {
	k, err := FromParts(Parts{
		Kallsyms: []byte("0000000000000000 A pcpu\n0000000000000000 T vfs_read\n0000000000000000 t local\n0000000000000000 t local\n0000000000000000 t inmod\t[m]\n"),
		Symvers:  []byte("0x11111111\tvfs_read\tvmlinux\tEXPORT_SYMBOL_GPL\t\n0x22222222\tof_mod\tdrivers/m\tEXPORT_SYMBOL\t\n"),
		BTF:      fakeBTF(t), Banner: fakeBanner + "\n", Vermagic: fakeVermagic,
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(k.Symbols) != 4 || len(k.Find("local")) != 2 || k.Release != fakeRelease || len(k.Exports) != 1 || !k.Exports[0].GPL || !k.HasModversions() {
		t.Errorf("%+v", k)
	}
	if m, ok := k.Symvers().Exporter("of_mod"); !ok || m != "m" {
		t.Errorf("exporter %q", m)
	}
	if _, err := k.KlpLayout(); err != nil {
		t.Error(err)
	}
	if k.Ftrace(0) || k.Bytes(0, 1) != nil {
		t.Error("there is no code")
	}
	d, err := Decode("", k.Encode())
	if err != nil {
		t.Fatal(err)
	}
	same(t, k, d)
	if m, _ := d.Symvers().Exporter("of_mod"); m != "m" {
		t.Errorf("decoded: exporter %q", m)
	}
	if _, err := FromParts(Parts{}); codeOf(err) != diag.ImageLacks {
		t.Errorf("%v", err)
	}
}

// The Oracle of an image counts as the kernel does.
func TestOracle(t *testing.T) {
	k := mustParse(t, (&fake{order: order612}).vmlinux(t))
	tab, err := k.Table()
	if err != nil {
		t.Fatal(err)
	}
	o, ds := symbols.NewOracle(symbols.Vmlinux, tab, k.Symvers())
	if len(ds) > 0 {
		t.Fatal(ds)
	}
	if a := o.Global("vfs_read"); !a.Known || a.Pos != 0 || a.Addr != fakeText+64 {
		t.Errorf("%+v", a)
	}
	if a := o.Global("local"); a.Known {
		t.Errorf("%+v", a)
	}
}

func FuzzParse(f *testing.F) {
	for order := range lastOrder + 1 {
		f.Add((&fake{order: order, noBTF: true}).vmlinux(f))
	}
	f.Add((&fake{order: order612, flags: true}).vmlinux(f))
	elf := (&fake{noBTF: true}).vmlinux(f)
	f.Add(bzImage(sized(compressXz(elf), len(elf))))
	f.Add(bzImage(sized(compressZstd(elf), len(elf))))
	f.Add(bzImage(sized(compressLz4(elf), len(elf))))
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := Parse(data, Options{MaxSize: 1 << 22})
		if err != nil {
			if codeOf(err) == "" {
				t.Fatalf("an error without a code: %v", err)
			}
			return
		}
		for i := range k.Symbols {
			k.Ftrace(k.Symbols[i].Addr)
		}
		_, _ = k.KlpLayout()
		_, _ = k.Table()
		d, err := Decode("", k.Encode())
		if err != nil {
			t.Fatal(err)
		}
		same(t, k, d)
	})
}

func FuzzDecode(f *testing.F) {
	enc := mustParse(f, (&fake{}).vmlinux(f)).Encode()
	f.Add(enc[len(encodingMagic)+8 : len(enc)-4])
	f.Fuzz(func(t *testing.T, body []byte) {
		e := encoder{out: []byte(encodingMagic)}
		e.num(EncodingVersion)
		e.out = append(e.out, body...)
		k, err := Decode("", sum(e.out))
		if err != nil {
			return
		}
		for i := range k.Symbols {
			k.Ftrace(k.Symbols[i].Addr)
		}
		_, _ = k.KlpLayout()
	})
}
