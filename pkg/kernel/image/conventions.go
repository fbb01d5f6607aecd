package image

import (
	"slices"
	"sort"
	"strings"
)

// ORCFormat is a form of the unwinder's entries (struct orc_entry), all of which
// have 6 bytes: s16 sp_offset, s16 bp_offset, sp_reg:4, bp_reg:4 and a byte of flags.
type ORCFormat uint8

// The forms.
const (
	ORCNone ORCFormat = iota // the kernel has no ORC, or this is not known
	// ORCTypeEnd is that before 6.4: type:2 (0 is a call frame), then signal and end bits.
	ORCTypeEnd
	// ORCTypeSignal is that of 6.4 and later: type:3 (2 is a call frame), signal:1.
	ORCTypeSignal
)

// String gives a word for the form.
func (f ORCFormat) String() string {
	switch f {
	case ORCTypeEnd:
		return "type:2"
	case ORCTypeSignal:
		return "type:3"
	}
	return "none"
}

// Call gives the last byte of an entry that describes a frame of an ordinary function.
func (f ORCFormat) Call() byte {
	if f == ORCTypeSignal {
		return 2
	}
	return 0
}

// conventions is what holds of all code of a kernel.
type conventions struct {
	orc         ORCFormat
	orcSP       uint8
	padding     int
	ibt         bool
	kcfi        bool
	thunk       bool
	modversions bool
	fentry      uint64
}

// ORC gives the form of the unwinder's entries.
func (k *Kernel) ORC() ORCFormat { return k.conv.orc }

// ORCStackPointer gives the number that the stack pointer has as sp_reg: 5 up to 6.12, 3 in 7.2; 0 when it is not known.
func (k *Kernel) ORCStackPointer() uint8 { return k.conv.orcSP }

// CallPadding gives how many bytes of NOPs are in front of each function (CONFIG_CALL_PADDING), 0 for none.
func (k *Kernel) CallPadding() int { return k.conv.padding }

// HasIBT reports whether functions start with ENDBR64 (CONFIG_X86_KERNEL_IBT).
func (k *Kernel) HasIBT() bool { return k.conv.ibt }

// KCFI reports whether indirect calls check a hash in front of the function (CONFIG_CFI, CONFIG_CFI_CLANG).
func (k *Kernel) KCFI() bool { return k.conv.kcfi }

// ReturnThunk reports whether functions end with a jump to __x86_return_thunk, which is exported.
func (k *Kernel) ReturnThunk() bool { return k.conv.thunk }

// HasModversions reports whether modules must give checksums of what they import (CONFIG_MODVERSIONS).
func (k *Kernel) HasModversions() bool { return k.conv.modversions }

const (
	endbr64  = "\xf3\x0f\x1e\xfa"
	nop5     = "\x0f\x1f\x44\x00\x00" // what stands for the call of the tracer
	callRel  = 0xe8
	callSize = 5
)

// Ftrace reports whether a function at an address can be traced, and so replaced:
// its first instruction (behind ENDBR64) calls the tracer, or is the NOP that the build
// made of that, and the kernel lists it.
func (k *Kernel) Ftrace(addr uint64) bool {
	if b := k.Bytes(addr, len(endbr64)); b != nil && string(b) == endbr64 {
		addr += uint64(len(endbr64))
	}
	b := k.Bytes(addr, callSize)
	if b == nil {
		return false
	}
	if string(b) != nop5 && (b[0] != callRel || k.conv.fentry == 0 || addr+callSize+uint64(int64(int32(le.Uint32(b[1:])))) != k.conv.fentry) {
		return false
	}
	if k.mcount == nil {
		return string(b) != nop5
	}
	_, listed := slices.BinarySearch(k.mcount, addr)
	return listed
}

// readMcount reads the list of calls of the tracer.
func (k *Kernel) readMcount() {
	k.conv.fentry, _ = k.Addr("__fentry__")
	from, ok := k.Addr("__start_mcount_loc")
	to, ok2 := k.Addr("__stop_mcount_loc")
	if !ok || !ok2 || to <= from || to-from > 1<<30 {
		return
	}
	b := k.Bytes(from, int(to-from)&^7)
	if len(b) == 0 {
		return
	}
	k.mcount = make([]uint64, len(b)/8)
	for i := range k.mcount {
		k.mcount[i] = le.Uint64(b[8*i:])
	}
	slices.Sort(k.mcount)
}

// sampled bounds how many functions are looked at to learn a convention.
const sampled = 4096

func (k *Kernel) readConventions() {
	c := &k.conv
	_, c.thunk = k.Export("__x86_return_thunk")
	if words := strings.Fields(k.Vermagic); k.Vermagic != "" {
		c.modversions = slices.Contains(words, "modversions")
	}
	c.kcfi = k.Section(".kcfi_traps") != nil
	pfx := make(map[int]int) // distance to the function, how often
	var entries []uint64     // functions that are traced
	for i := range k.Symbols {
		s := &k.Symbols[i]
		switch {
		case s.Type|0x20 != 't':
		case strings.HasPrefix(s.Name, "__cfi_"):
			c.kcfi = true
		case strings.HasPrefix(s.Name, "__pfx_"):
			for j := i + 1; j < len(k.Symbols) && j < i+8; j++ {
				if k.Symbols[j].Name == s.Name[len("__pfx_"):] {
					pfx[int(k.Symbols[j].Addr-s.Addr)]++
					break
				}
			}
		case s.Type == 'T' && len(entries) < sampled && k.Ftrace(s.Addr):
			entries = append(entries, s.Addr)
		}
	}
	endbr := 0
	var runs []int
	for _, a := range entries {
		if b := k.Bytes(a, 4); b != nil && string(b) == endbr64 {
			endbr++
		}
		n := 0
		for n < 64 {
			if b := k.Bytes(a-uint64(n)-1, 1); b == nil || b[0] != 0x90 {
				break
			}
			n++
		}
		runs = append(runs, n)
	}
	c.ibt = endbr*2 > len(entries)
	if len(pfx) > 0 {
		best := 0
		for d, n := range pfx {
			if n > pfx[best] || n == pfx[best] && d < best {
				best = d
			}
		}
		if best <= 64 {
			c.padding = best
		}
	} else if len(runs) > 0 {
		sort.Ints(runs)
		if n := runs[len(runs)/20]; n >= 4 { // what is less comes of alignment
			c.padding = n
		}
	}
	k.readORC()
}

// readORC tells the forms apart: nearly all entries that find the caller's frame describe ordinary calls, and by the stack pointer.
func (k *Kernel) readORC() {
	const size = 6
	s := k.Section(".orc_unwind")
	if s == nil {
		return
	}
	var zero, two, n int
	var regs [16]int
	for b := s.Data; len(b) >= size && n < 16*sampled; b = b[size:] {
		reg := b[4] & 0xf
		if reg == 0 { // undefined
			continue
		}
		n++
		switch b[5] & 7 {
		case 0:
			zero++
			regs[reg]++
		case 2:
			two++
			regs[reg]++
		}
	}
	switch {
	case two > zero:
		k.conv.orc = ORCTypeSignal
	case zero > two:
		k.conv.orc = ORCTypeEnd
	default:
		return
	}
	for reg, n := range regs {
		if n > regs[k.conv.orcSP] {
			k.conv.orcSP = uint8(reg)
		}
	}
}

// RuntimeConsts gives the sections that list constants which the kernel writes into its own code at boot:
// runtime_ptr_VAR and runtime_shift_VAR (include/asm-generic/runtime-const.h).
func (k *Kernel) RuntimeConsts() []string {
	var out []string
	for i := range k.Sections {
		if strings.HasPrefix(k.Sections[i].Name, "runtime_") {
			out = append(out, k.Sections[i].Name)
		}
	}
	return out
}
