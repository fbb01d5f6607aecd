package x86

// Padding returns the length of the longest prefix of code that is nothing but
// filler as assemblers and linkers put between functions: whole NOPs (90, and
// 0F 1F /0 with a zero displacement, with any number of 66 and 2E prefixes),
// INT3 and zero bytes.
//
// It is a statement about bytes that control is known not to reach. A NOP
// inside a function can be a patch site, and a zero byte can be data, so the
// caller must know where the code ends. A NOP with a displacement other than
// zero is not filler: FineIBT and others keep values there. PAUSE (F3 90) and
// XCHG with R8 (41 90) are not NOPs.
func Padding(code []byte) int {
	n := 0
	for n < len(code) {
		switch code[n] {
		case 0x00, 0x90, 0xcc:
			n++
		case 0x66, 0x2e, 0x0f:
			var in Inst
			if decode(&in, code[n:]) != nil || !in.filler(code[n:]) {
				return n
			}
			n += int(in.Len)
		default:
			return n
		}
	}
	return n
}

// IsPadding reports whether all of code is filler, see [Padding]. It holds for
// no bytes at all.
func IsPadding(code []byte) bool {
	return Padding(code) == len(code)
}

// filler reports whether the instruction at the start of code is a NOP of the
// kind that fills gaps.
func (in *Inst) filler(code []byte) bool {
	if in.Prefix&^(OpSize|CS) != 0 {
		return false
	}
	switch in.Map {
	case MapOne:
		return in.Opcode == 0x90
	case Map0F:
		disp := code[in.DispOff : in.DispOff+in.DispLen]
		return in.Opcode == 0x1f && in.ModRM>>3&7 == 0 && unsigned(disp) == 0
	}
	return false
}
