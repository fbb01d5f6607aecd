package image

import (
	"debug/elf"
	"hash/crc32"
	"slices"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/internal/checked"
	"github.com/kdelta/kdelta/symbols"
)

// EncodingVersion changes when what Encode writes does. A cache has it in its key, beside a digest of the file that was parsed.
const EncodingVersion = 1

const encodingMagic = "kdelta kernel facts\x00"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// omitted are sections whose contents Encode leaves out: nothing here reads them after Parse, or they are empty.
func omitted(name string) bool {
	switch name {
	case ".init.scratch", ".smp_locks", ".retpoline_sites", ".return_sites", ".call_sites", ".cfi_sites", ".ibt_endbr_seal", ".orc_unwind_ip", ".orc_unwind",
		"__ksymtab", "__ksymtab_gpl", "__kcrctab", "__kcrctab_gpl":
		return true
	}
	return false
}

type encoder struct{ out []byte }

func (e *encoder) num(v uint64)   { e.out = le.AppendUint64(e.out, v) }
func (e *encoder) bytes(b []byte) { e.num(uint64(len(b))); e.out = append(e.out, b...) }
func (e *encoder) str(s string)   { e.num(uint64(len(s))); e.out = append(e.out, s...) }
func (e *encoder) flag(v bool) {
	b := byte(0)
	if v {
		b = 1
	}
	e.out = append(e.out, b)
}

// Encode gives the facts in a form from which Decode has them back at the cost of
// copying the names: symbols, exports, conventions, layouts with the raw BTF, and the
// contents of all sections but tables that nobody asks for afterwards (ORC, sites, locks).
func (k *Kernel) Encode() []byte {
	n := len(k.btfRaw) + 64<<10
	for i := range k.Symbols {
		n += len(k.Symbols[i].Name) + 17
	}
	for i := range k.Sections {
		n += len(k.Sections[i].Data)
	}
	e := &encoder{out: make([]byte, 0, n)}
	e.out = append(e.out, encodingMagic...)
	e.num(EncodingVersion)
	for _, s := range [...]string{k.Release, k.Banner, k.Vermagic, k.Compiler} {
		e.str(s)
	}
	c := &k.conv
	e.num(uint64(c.orc))
	e.num(uint64(c.orcSP))
	e.num(uint64(c.padding))
	for _, v := range [...]bool{c.ibt, c.kcfi, c.thunk, c.modversions} {
		e.flag(v)
	}
	e.num(c.fentry)

	e.num(uint64(len(k.Symbols)))
	for i := range k.Symbols {
		e.num(k.Symbols[i].Addr)
	}
	for i := range k.Symbols {
		e.out = append(e.out, k.Symbols[i].Type)
	}
	names := 0
	for i := range k.Symbols {
		names += len(k.Symbols[i].Name)
		e.out = le.AppendUint32(e.out, uint32(names))
	}
	for i := range k.Symbols {
		e.out = append(e.out, k.Symbols[i].Name...)
	}
	e.num(uint64(len(k.Exports)))
	for i := range k.Exports {
		x := &k.Exports[i]
		e.str(x.Name)
		e.str(x.Namespace)
		e.num(x.Addr)
		e.num(uint64(x.CRC))
		e.flag(x.GPL)
	}
	e.flag(k.symvers != nil)
	if k.symvers != nil {
		e.num(uint64(len(k.symvers.Exports)))
		for i := range k.symvers.Exports {
			x := &k.symvers.Exports[i]
			for _, s := range [...]string{x.Symbol, x.Module, x.Type, x.Namespace} {
				e.str(s)
			}
			e.num(uint64(x.CRC))
			e.num(uint64(x.Line))
		}
	}
	e.flag(k.mcount != nil)
	e.num(uint64(len(k.mcount)))
	for _, a := range k.mcount {
		e.num(a)
	}
	keys := make([]string, 0, len(k.structs))
	for name := range k.structs {
		keys = append(keys, name)
	}
	slices.Sort(keys)
	e.num(uint64(len(keys)))
	for _, name := range keys {
		s := k.structs[name]
		e.str(name)
		e.num(s.Size)
		e.num(uint64(len(s.Members)))
		for _, m := range s.Members {
			e.str(m.Name)
			e.num(m.Offset)
			e.num(m.Size)
			e.num(uint64(m.Bits))
		}
	}
	e.num(uint64(len(k.Sections)))
	btf := false
	for i := range k.Sections {
		s := &k.Sections[i]
		e.str(s.Name)
		e.num(s.Addr)
		e.num(s.Size)
		e.num(uint64(s.Flags))
		data := s.Data
		if omitted(s.Name) {
			data = nil
		}
		e.bytes(data)
		btf = btf || s.Name == ".BTF"
	}
	if !btf {
		e.bytes(k.btfRaw)
	}
	return sum(e.out)
}

// sum appends the checksum.
func sum(b []byte) []byte { return le.AppendUint32(b, crc32.Checksum(b, castagnoli)) }

type decoder struct {
	in  []byte
	bad bool
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.in)) {
		d.bad = true
		return nil
	}
	b := d.in[:n:n]
	d.in = d.in[n:]
	return b
}

func (d *decoder) num() uint64 {
	b := d.take(8)
	if b == nil {
		return 0
	}
	return le.Uint64(b)
}

func (d *decoder) flag() bool {
	b := d.take(1)
	return b != nil && b[0] != 0
}

func (d *decoder) str() string { return string(d.take(d.num())) }

// count gives a number of records, each of which takes at least size bytes.
func (d *decoder) count(size int) int {
	n := d.num()
	if !checked.Records(n, size, uint64(len(d.in))) {
		d.bad = true
		return 0
	}
	return int(n)
}

// Decode gives back what Encode wrote. The result keeps views of data. name is what the
// caller calls the kernel. The error (image-malformed) says that data is of another version
// or damaged; then the kernel has to be parsed again.
func Decode(name string, data []byte) (*Kernel, error) {
	at := diag.Place{File: name}
	head := len(encodingMagic)
	if len(data) < head+12 || string(data[:head]) != encodingMagic || le.Uint64(data[head:]) != EncodingVersion {
		return nil, problem(diag.ImageMalformed, at, "not the cached facts of a kernel, or of another version of kdelta")
	}
	body := data[:len(data)-4]
	if crc32.Checksum(body, castagnoli) != le.Uint32(data[len(body):]) {
		return nil, problem(diag.ImageMalformed, at, "the cached facts are damaged: their checksum is wrong")
	}
	d := &decoder{in: body[head+8:]}
	k := &Kernel{Name: name}
	for _, s := range [...]*string{&k.Release, &k.Banner, &k.Vermagic, &k.Compiler} {
		*s = d.str()
	}
	c := &k.conv
	c.orc = ORCFormat(d.num())
	c.orcSP = uint8(d.num())
	c.padding = int(d.num())
	for _, v := range [...]*bool{&c.ibt, &c.kcfi, &c.thunk, &c.modversions} {
		*v = d.flag()
	}
	c.fentry = d.num()

	n := d.count(13)
	addrs, types, ends := d.take(uint64(8*n)), d.take(uint64(n)), d.take(uint64(4*n))
	if n > 0 && !d.bad {
		names := string(d.take(uint64(le.Uint32(ends[4*(n-1):]))))
		k.Symbols = make([]Symbol, n)
		from := uint32(0)
		for i := range k.Symbols {
			end := le.Uint32(ends[4*i:])
			if end < from || uint64(end) > uint64(len(names)) {
				d.bad = true
				break
			}
			k.Symbols[i] = Symbol{Name: names[from:end], Addr: le.Uint64(addrs[8*i:]), Type: types[i]}
			from = end
		}
	}
	k.Exports = make([]Export, d.count(33))
	for i := range k.Exports {
		k.Exports[i] = Export{Name: d.str(), Namespace: d.str(), Addr: d.num(), CRC: uint32(d.num()), GPL: d.flag()}
	}
	if d.flag() {
		all := make([]symbols.Export, d.count(48))
		for i := range all {
			all[i] = symbols.Export{Symbol: d.str(), Module: d.str(), Type: d.str(), Namespace: d.str(), CRC: uint32(d.num()), Line: int32(d.num())}
		}
		k.symvers = symbols.NewSymvers(name, all)
	}
	known := d.flag()
	if n := d.count(8); known {
		k.mcount = make([]uint64, n)
		for i := range k.mcount {
			k.mcount[i] = d.num()
		}
	}
	n = d.count(24)
	k.structs = make(map[string]Struct, n)
	for range n {
		name := d.str()
		s := Struct{Size: d.num(), Members: make([]Member, d.count(32))}
		for i := range s.Members {
			s.Members[i] = Member{Name: d.str(), Offset: d.num(), Size: d.num(), Bits: uint32(d.num())}
		}
		k.structs[name] = s
	}
	k.Sections = make([]Section, d.count(40))
	btf := false
	for i := range k.Sections {
		s := &k.Sections[i]
		*s = Section{Name: d.str(), Addr: d.num(), Size: d.num(), Flags: elf.SectionFlag(d.num())}
		if s.Data = d.take(d.num()); len(s.Data) == 0 {
			s.Data = nil
		}
		if s.Name == ".BTF" {
			k.btfRaw, btf = s.Data, true
		}
	}
	if !btf {
		k.btfRaw = d.take(d.num())
	}
	if d.bad || len(d.in) != 0 {
		return nil, problem(diag.ImageMalformed, at, "the cached facts are damaged")
	}
	return k, nil
}
