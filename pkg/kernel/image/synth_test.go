package image

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/kdelta/kdelta/pkg/synth"
)

// tables is an order of kallsyms' tables.
type tables uint8

const (
	order61      tables = iota // offsets first, seqs_of_names in front of token_table
	orderOld                   // the same without seqs_of_names
	order612                   // offsets last
	order615                   // the same, all relative to relative_base
	order72                    // the same, each relative to its own place
	lastOrder    = order72
	fakeText     = 0xffffffff81000000
	fakeRodata   = 0xffffffff82000000
	fakeRelease  = "6.1.0-fake"
	fakeBanner   = "Linux version " + fakeRelease + " (b@h) (gcc-12 (X 12) 12.2.0, GNU ld 2.40) #1 SMP"
	fakeVermagic = fakeRelease + " SMP preempt mod_unload modversions "
)

// fake is a kernel to be made.
type fake struct {
	order   tables
	symbols []Symbol // by address; those of expand() are added
	ibt     bool
	flags   bool // one table of exports, with flags
	noBTF   bool
}

type fakeSection struct {
	name  string
	addr  uint64
	flags elf.SectionFlag
	data  []byte
}

// writeELF gives an ET_EXEC file.
func writeELF(secs []fakeSection) []byte {
	names := []byte{0}
	out := make([]byte, 64)
	type hdr struct{ name, off int }
	var hdrs []hdr
	for _, s := range secs {
		for len(out)%16 != 0 {
			out = append(out, 0)
		}
		hdrs = append(hdrs, hdr{len(names), len(out)})
		names = append(names, s.name+"\x00"...)
		out = append(out, s.data...)
	}
	str := hdr{len(names), len(out)}
	names = append(names, ".shstrtab\x00"...)
	out = append(out, names...)
	for len(out)%8 != 0 {
		out = append(out, 0)
	}
	shoff := len(out)
	out = append(out, make([]byte, 64)...)
	add := func(name int, typ elf.SectionType, flags elf.SectionFlag, addr uint64, off, size int) {
		h := make([]byte, 64)
		le.PutUint32(h, uint32(name))
		le.PutUint32(h[4:], uint32(typ))
		le.PutUint64(h[8:], uint64(flags))
		le.PutUint64(h[16:], addr)
		le.PutUint64(h[24:], uint64(off))
		le.PutUint64(h[32:], uint64(size))
		le.PutUint64(h[48:], 1)
		out = append(out, h...)
	}
	for i, s := range secs {
		add(hdrs[i].name, elf.SHT_PROGBITS, s.flags|elf.SHF_ALLOC, s.addr, hdrs[i].off, len(s.data))
	}
	add(str.name, elf.SHT_STRTAB, 0, 0, str.off, len(names))
	copy(out, "\x7fELF\x02\x01\x01")
	le.PutUint16(out[16:], uint16(elf.ET_EXEC))
	le.PutUint16(out[18:], uint16(elf.EM_X86_64))
	le.PutUint32(out[20:], 1)
	le.PutUint64(out[40:], uint64(shoff))
	le.PutUint16(out[52:], 64)
	le.PutUint16(out[58:], 64)
	le.PutUint16(out[60:], uint16(len(secs)+2))
	le.PutUint16(out[62:], uint16(len(secs)+1))
	return out
}

type blob struct{ bytes.Buffer }

func (b *blob) align() {
	for b.Len()%8 != 0 {
		b.WriteByte(0)
	}
}
func (b *blob) put(v any) { _ = binary.Write(&b.Buffer, binary.LittleEndian, v) }

// kallsyms appends the tables; addr is where b lies.
func (f *fake) kallsyms(b *blob, addr uint64, syms []Symbol) {
	tokens := make([]string, 256)
	for i := range tokens {
		tokens[i] = string(rune(i))
		if i >= 128 || i < 32 {
			tokens[i] = ""
		}
	}
	tokens[1], tokens[200] = "vfs_", "Tdo"
	offsets := func() {
		for _, s := range syms {
			switch {
			case f.order == order72:
				b.put(int32(s.Addr - (addr + uint64(b.Len()))))
			case f.order == order615:
				b.put(uint32(s.Addr - fakeText))
			case s.Addr < fakeText:
				b.put(int32(s.Addr))
			default:
				base := uint64(fakeText)
				b.put(int32(base - 1 - s.Addr))
			}
		}
		b.align()
		if f.order != order72 {
			b.put(uint64(fakeText))
		}
	}
	seqs := func() {
		b.Write(make([]byte, 3*len(syms)))
		b.align()
	}
	b.align()
	if f.order <= orderOld {
		offsets()
	}
	b.put(uint32(len(syms)))
	b.align()
	start := b.Len()
	var markers []uint32
	for i, s := range syms {
		if i%256 == 0 {
			markers = append(markers, uint32(b.Len()-start))
		}
		var rec []byte
		name := string(s.Type) + s.Name
		for name != "" {
			switch {
			case strings.HasPrefix(name, tokens[200]):
				rec, name = append(rec, 200), name[len(tokens[200]):]
			case strings.HasPrefix(name, tokens[1]):
				rec, name = append(rec, 1), name[len(tokens[1]):]
			default:
				rec, name = append(rec, name[0]), name[1:]
			}
		}
		if len(rec) >= 128 {
			b.WriteByte(byte(len(rec)&0x7f | 0x80))
			b.WriteByte(byte(len(rec) >> 7))
		} else {
			b.WriteByte(byte(len(rec)))
		}
		b.Write(rec)
	}
	b.align()
	b.put(markers)
	b.align()
	if f.order == order61 {
		seqs()
	}
	var index []uint16
	start = b.Len()
	for _, t := range tokens {
		index = append(index, uint16(b.Len()-start))
		b.WriteString(t + "\x00")
	}
	b.align()
	b.put(index)
	b.align()
	if f.order >= order612 {
		offsets()
		seqs()
	}
}

func fakeBTF(t testing.TB) []byte {
	t.Helper()
	raw, err := synth.BTF()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// vmlinux gives the kernel as an ELF file.
func (f *fake) vmlinux(t testing.TB) []byte {
	t.Helper()
	// __fentry__, then functions of 32 bytes, every second of which calls it.
	text := bytes.Repeat([]byte{0x90}, 64)
	syms := []Symbol{{"fixed_percpu_data", 0, 'A'}, {"_text", fakeText, 'T'}, {"__fentry__", fakeText, 'T'}, {"__x86_return_thunk", fakeText + 32, 'T'}}
	if f.order >= order615 {
		syms = syms[1:]
	}
	var mcount blob
	for i, s := range []string{"vfs_read", "local", "do_it", "local", "Tdo", strings.Repeat("long", 60)} {
		at := fakeText + uint64(len(text))
		typ := byte('T')
		if s == "local" {
			typ = 't'
		}
		syms = append(syms, Symbol{s, at, typ})
		var fn []byte
		if f.ibt {
			fn = append(fn, endbr64...)
		}
		if i%2 == 0 {
			call := at + uint64(len(fn))
			mcount.put(call)
			fn = append(fn, 0xe8)
			fn = le.AppendUint32(fn, uint32(uint64(fakeText)-(call+5)))
		}
		fn = append(fn, 0xc3)
		text = append(text, append(fn, bytes.Repeat([]byte{0xcc}, 32-len(fn))...)...)
	}
	ro := &blob{}
	ro.WriteString("Linux version %s (%s)\x00")
	banner := ro.Len()
	ro.WriteString(fakeBanner + "\n\x00" + fakeRelease + " other\x00" + fakeVermagic + "\x00")
	syms = append(syms, f.symbols...)
	syms = append(syms, Symbol{"linux_banner", fakeRodata + uint64(banner), 'R'})
	const init = fakeRodata + 0x1000000
	syms = append(syms, Symbol{"__start_mcount_loc", init, 'D'}, Symbol{"__stop_mcount_loc", init + uint64(mcount.Len()), 'D'})
	ro.WriteString(strings.Repeat("x", 5))
	ro.align()
	f.kallsyms(ro, fakeRodata, syms)
	// Exports: vfs_read, do_it (GPL, in a namespace), __x86_return_thunk.
	const strs = fakeRodata + 0x800000
	var strtab blob
	type export struct {
		name, ns string
		gpl      bool
		crc      uint32
		addr     uint64
	}
	var ksym, crc [2]blob
	var flags blob
	at := [2]uint64{fakeRodata + 0x700000, fakeRodata + 0x710000}
	str := func(s string) uint64 {
		n := strtab.Len()
		strtab.WriteString(s + "\x00")
		return strs + uint64(n)
	}
	for _, e := range []export{{"vfs_read", "", false, 0x11111111, fakeText + 64}, {"do_it", "NS", true, 0x22222222, fakeText + 128}, {"__x86_return_thunk", "", false, 3, fakeText + 32}} {
		i := 0
		if e.gpl && !f.flags {
			i = 1
		}
		for _, v := range []uint64{e.addr, str(e.name), str(e.ns)} {
			ksym[i].put(int32(v - (at[i] + uint64(ksym[i].Len()))))
		}
		crc[i].put(e.crc)
		if e.gpl {
			flags.WriteByte(1)
		} else {
			flags.WriteByte(0)
		}
	}
	orc := []byte{8, 0, 0, 0, 5, 2, 0, 0, 0, 0, 0, 0}
	if f.order <= orderOld {
		orc[5] = 0
	}
	secs := []fakeSection{
		{".text", fakeText, elf.SHF_EXECINSTR, text},
		{".rodata", fakeRodata, 0, ro.Bytes()},
		{"__ksymtab", at[0], 0, ksym[0].Bytes()},
		{"__kcrctab", at[0] + 0x1000, 0, crc[0].Bytes()},
		{"__ksymtab_strings", strs, 0, strtab.Bytes()},
		{".orc_unwind", fakeRodata + 0x900000, 0, orc},
		{".init.data", init, elf.SHF_WRITE, mcount.Bytes()},
	}
	if f.order < order615 {
		secs = append(secs, fakeSection{".data..percpu", 0, elf.SHF_WRITE, make([]byte, 64)})
	}
	if f.flags {
		secs = append(secs, fakeSection{"__kflagstab", at[0] + 0x2000, 0, flags.Bytes()})
	} else {
		secs = append(secs, fakeSection{"__ksymtab_gpl", at[1], 0, ksym[1].Bytes()}, fakeSection{"__kcrctab_gpl", at[1] + 0x1000, 0, crc[1].Bytes()})
	}
	if !f.noBTF {
		secs = append(secs, fakeSection{".BTF", fakeRodata + 0xa00000, 0, fakeBTF(t)})
	}
	return writeELF(secs)
}

// bzImage wraps a payload.
func bzImage(payload []byte) []byte {
	const sects, off = 2, 100
	b := make([]byte, (sects+1)*sectorSize+off)
	b[hdrSetupSects] = sects
	le.PutUint16(b[hdrBootFlag:], 0xaa55)
	copy(b[hdrMagic:], "HdrS")
	le.PutUint16(b[hdrVersion:], 0x20f)
	le.PutUint32(b[hdrPayloadOffset:], off)
	le.PutUint32(b[hdrPayloadLength:], uint32(len(payload)))
	return append(append(b, payload...), "signature"...)
}

func sized(b []byte, n int) []byte { return le.AppendUint32(b, uint32(n)) }

func compressGzip(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

func compressZstd(b []byte) []byte {
	w, _ := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	return w.EncodeAll(b, nil)
}

func compressLz4(b []byte) []byte {
	out := []byte("\x02\x21\x4c\x18")
	for len(b) > 0 {
		n := min(len(b), 64<<10)
		dst := make([]byte, lz4.CompressBlockBound(n))
		m, _ := lz4.CompressBlock(b[:n], dst, nil)
		if m == 0 { // no match: literals only
			lit := []byte{0xf0}
			rest := n - 15
			for ; rest >= 255; rest -= 255 {
				lit = append(lit, 255)
			}
			dst = append(append(lit, byte(rest)), b[:n]...)
			m = len(dst)
		}
		out = append(le.AppendUint32(out, uint32(m)), dst[:m]...)
		b = b[n:]
	}
	return out
}

// compressXz stores b in chunks without compression (xz file format 1.1.0, LZMA2).
func compressXz(b []byte) []byte {
	crc := func(b []byte) []byte { return le.AppendUint32(nil, crc32.ChecksumIEEE(b)) }
	var vli func(n int) []byte
	vli = func(n int) []byte {
		if n < 0x80 {
			return []byte{byte(n)}
		}
		return append([]byte{byte(n) | 0x80}, vli(n>>7)...)
	}
	pad := func(b []byte) []byte {
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
		return b
	}
	flags := []byte{0, 1} // CRC32
	out := append([]byte("\xfd7zXZ\x00"), flags...)
	out = append(out, crc(flags)...)
	head := []byte{2, 0, 0x21, 1, 20, 0, 0, 0} // 12 bytes with CRC; LZMA2, dictionary of 4 MiB
	block := append(head, crc(head)...)
	all := b
	for first := true; len(b) > 0; first = false {
		n := min(len(b), 1<<16)
		control := byte(2)
		if first {
			control = 1
		}
		block = append(block, control, byte((n-1)>>8), byte(n-1))
		block = append(block, b[:n]...)
		b = b[n:]
	}
	block = append(block, 0)
	unpadded := len(block) + 4
	out = append(append(out, pad(block)...), crc(all)...)
	index := pad(append(append([]byte{0, 1}, vli(unpadded)...), vli(len(all))...))
	index = append(index, crc(index)...)
	out = append(out, index...)
	foot := append(le.AppendUint32(nil, uint32(len(index)/4-1)), flags...)
	return append(append(append(out, crc(foot)...), foot...), "YZ"...)
}
