package image

import (
	"bytes"
	"slices"

	"github.com/kdelta/kdelta/pkg/diag"
)

// kallsyms, as scripts/kallsyms.c of the kernel's build writes it into .rodata,
// every table on a boundary of 8 bytes:
//
//	num_syms      u32
//	names         num_syms times: length (ULEB128 of one or two bytes), that many tokens;
//	              the first character that they expand to is the letter of nm
//	markers       u32 for every 256th name: where in names it starts
//	token_table   256 NUL-terminated strings
//	token_index   u16 for each: where in token_table it starts
//	offsets       s32 for each symbol
//	relative_base u64
//	seqs_of_names 3 bytes for each symbol: the order by name
//
// This is the order since 6.4. Before, offsets and relative_base stand in front of
// num_syms, and seqs_of_names (6.2 and later) between markers and token_table.
// An offset that is not negative is an address (in the per-CPU area), and the
// others are relative_base - 1 - offset; where the kernel does not link its per-CPU
// area at 0 (6.15 and later) all are added to relative_base, and later
// there is no relative_base and each is relative to its own place.

const (
	maxKallsyms   = 1 << 24
	maxSymbolName = 1024     // KSYM_NAME_LEN is 512
	maxNamesWalk  = 64 << 20 // steps that looking for the names may take
)

// kallsymsFinder holds the tables while they are looked for.
type kallsymsFinder struct {
	b      []byte // .rodata
	base   uint64 // its address
	tokens [256][]byte
	token  int // where token_table starts
	after  int // where token_index ends, aligned
	walk   int
}

func align8(n int) int { return (n + 7) &^ 7 }

func (k *Kernel) readKallsyms() error {
	at := diag.Place{File: k.Name, Section: ".rodata"}
	s := k.Section(".rodata")
	if s == nil || s.Addr%8 != 0 {
		return problem(diag.ImageMalformed, at, "no such section: not a Linux kernel")
	}
	f := &kallsymsFinder{b: s.Data, base: s.Addr}
	// The digits are names by themselves in every kernel, so their tokens are what they are.
	digits := []byte("0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00")
	for from := 0; ; {
		i := bytes.Index(f.b[from:], digits)
		if i < 0 {
			return problem(diag.ImageMalformed, at, "no kallsyms in it (CONFIG_KALLSYMS, which livepatching needs)")
		}
		i += from
		from = i + 1
		if !f.findTokens(i) {
			continue
		}
		num, ends, ok := f.findNames()
		if !ok {
			continue
		}
		n := len(ends)
		addrs, ok := k.findAddrs(f, num, n)
		if !ok {
			return problem(diag.ImageMalformed, at.At(uint64(num)), "kallsyms has %d names, and nothing near them that could be their addresses", n)
		}
		return k.expand(f, num+8, ends, addrs)
	}
}

// findTokens reads token_table and token_index around the token of '0'.
func (f *kallsymsFinder) findTokens(zero int) bool {
	end := zero
	for range 256 - '0' {
		i := bytes.IndexByte(f.b[end:min(len(f.b), end+maxSymbolName)], 0)
		if i < 0 {
			return false
		}
		end += i + 1
	}
	index := align8(end)
	if index+512 > len(f.b) {
		return false
	}
	f.token = zero - int(le.Uint16(f.b[index+2*'0':]))
	if f.token < 0 || f.token%8 != 0 {
		return false
	}
	f.after = align8(index + 512)
	at := f.token
	for t := range f.tokens {
		if at >= index || int(le.Uint16(f.b[index+2*t:])) != at-f.token {
			return false
		}
		i := bytes.IndexByte(f.b[at:index], 0)
		if i < 0 {
			return false
		}
		f.tokens[t] = f.b[at : at+i]
		at += i + 1
	}
	return at == end
}

// findNames finds num_syms in front of token_table; ends are the ends of the names' records.
func (f *kallsymsFinder) findNames() (num int, ends []int32, ok bool) {
	for num = f.token - 24; num >= 0; num -= 8 {
		n := le.Uint32(f.b[num:])
		// Between names and token_table lie 1/64 byte of markers and 0 or 3 bytes of seqs per symbol.
		room := f.token - num - 8
		if n == 0 || n > maxKallsyms || le.Uint32(f.b[num+4:]) != 0 || uint64(n)*2 > uint64(room) || room/80 > int(n)+64 {
			continue
		}
		if ends, ok = f.names(num+8, int(n), ends[:0]); ok {
			return num, ends, true
		}
		if f.walk > maxNamesWalk {
			return 0, nil, false
		}
	}
	return 0, nil, false
}

// record gives the length of a name's record and where its tokens start.
func (f *kallsymsFinder) record(at, limit int) (start, n int, ok bool) {
	if at >= limit {
		return 0, 0, false
	}
	n, start = int(f.b[at]), at+1
	if n >= 0x80 {
		if start >= limit {
			return 0, 0, false
		}
		n, start = n&0x7f|int(f.b[start])<<7, start+1
	}
	return start, n, n > 0 && n <= limit-start
}

// names walks the records and proves them by the markers behind them.
func (f *kallsymsFinder) names(at, n int, ends []int32) ([]int32, bool) {
	pos := at
	for range n {
		start, size, ok := f.record(pos, f.token)
		f.walk++
		if !ok {
			return ends, false
		}
		pos = start + size
		ends = append(ends, int32(pos-at))
	}
	markers := align8(pos)
	count := (n + 255) / 256
	end := align8(markers + 4*count)
	if end != f.token && align8(end+3*n) != f.token {
		return ends, false
	}
	for i := range count {
		want := int32(0)
		if i > 0 {
			want = ends[i*256-1]
		}
		if le.Uint32(f.b[markers+4*i:]) != uint32(want) {
			return ends, false
		}
	}
	return ends, true
}

// findAddrs finds the addresses of n symbols: the first reading in which they rise and lie in the kernel.
func (k *Kernel) findAddrs(f *kallsymsFinder, num, n int) ([]uint64, bool) {
	out := make([]uint64, n)
	try := func(at int, addr func(i int, off int32) uint64) bool {
		if at < 0 || at%8 != 0 || at+4*n > len(f.b) {
			return false
		}
		prev := uint64(0)
		for i := range out {
			a := addr(i, int32(le.Uint32(f.b[at+4*i:])))
			if a < prev {
				return false
			}
			out[i], prev = a, a
		}
		return k.plausible(out)
	}
	based := func(at, basePos int) bool {
		if basePos < 0 || basePos+8 > len(f.b) {
			return false
		}
		base := le.Uint64(f.b[basePos:])
		if base == 0 {
			return false
		}
		return try(at, func(_ int, off int32) uint64 {
			if off >= 0 {
				return uint64(off)
			}
			return base - 1 - uint64(int64(off))
		}) || try(at, func(_ int, off int32) uint64 { return base + uint64(uint32(off)) })
	}
	before, behind := num-8-align8(4*n), f.after
	switch {
	case based(before, num-8), based(behind, behind+align8(4*n)):
		return out, true
	case try(behind, func(i int, off int32) uint64 { return f.base + uint64(behind+4*i) + uint64(int64(off)) }):
		return out, true
	}
	return nil, false
}

// plausible reports whether addresses are those of this kernel: nearly all lie in its sections or at their ends.
func (k *Kernel) plausible(addrs []uint64) bool {
	in, s := 0, 0
	var text *Section
	for i := range k.Sections {
		if k.Sections[i].Name == ".text" {
			text = &k.Sections[i]
		}
	}
	for _, a := range addrs {
		for s < len(k.Sections) && a > k.Sections[s].Addr+k.Sections[s].Size {
			s++
		}
		if s < len(k.Sections) && a >= k.Sections[s].Addr {
			in++
		}
	}
	if text == nil {
		return false
	}
	_, start := slices.BinarySearch(addrs, text.Addr) // _text or _stext
	return start && in*100 >= len(addrs)*95
}

// expand makes the symbols of the records that start at names.
func (k *Kernel) expand(f *kallsymsFinder, names int, ends []int32, addrs []uint64) error {
	n := len(ends)
	k.Symbols = make([]Symbol, n)
	arena := make([]byte, 0, 24*n)
	cut := make([]int, n)
	pos := names
	for i := range ends {
		start, size, _ := f.record(pos, f.token)
		from := len(arena)
		for _, t := range f.b[start : start+size] {
			if arena = append(arena, f.tokens[t]...); len(arena)-from > maxSymbolName {
				break
			}
		}
		if n := len(arena) - from; n < 2 || n > maxSymbolName {
			return problem(diag.ImageMalformed, diag.Place{File: k.Name, Section: ".rodata"}.At(uint64(start)), "kallsyms: symbol %d has a name of %d bytes", i, n)
		}
		k.Symbols[i].Type, k.Symbols[i].Addr = arena[from], addrs[i]
		arena = append(arena[:from], arena[from+1:]...)
		cut[i] = len(arena)
		pos = names + int(ends[i])
		if len(arena) > 128*(i+4096) {
			return problem(diag.ImageLimit, diag.Place{File: k.Name, Section: ".rodata"}.At(uint64(start)), "kallsyms: names of more than 128 bytes on average")
		}
	}
	all, from := string(arena), 0
	for i, end := range cut {
		k.Symbols[i].Name = all[from:end]
		from = end
	}
	return nil
}
