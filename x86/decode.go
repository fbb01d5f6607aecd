// Package x86 knows the facts about 64-bit x86 instructions that comparing two
// builds of a function needs: how long an instruction is, where its
// displacement and immediate fields are, where control goes after it, which
// general registers it writes, what is padding, and how it reads to a person.
//
// The package is pure: bytes in, values out. It opens nothing, keeps nothing
// and, except for [Text], allocates nothing.
//
// # Trust
//
// Any input is safe: every byte string gives an instruction or one of two
// errors, and no read goes past the slice. The package errs towards refusal.
// An encoding whose length two processor vendors disagree about is
// [ErrInvalid], and so is one that needs an extension whose length rules are
// not implemented here (REX2 and APX-extended EVEX). A caller that meets an
// error must treat the rest of the function as bytes of unknown meaning.
//
// What is not checked is whether the instruction would execute: a LOCK prefix
// on an instruction that cannot be locked, a register operand where only
// memory is allowed, or an opcode of a regular map that no processor
// implements yet all decode, because their length is not in doubt.
package x86

import "errors"

// How the decode proceeds
//
// An instruction in 64-bit mode is
//
//	prefixes  REX  escape+opcode  ModRM  SIB  displacement  immediate
//	prefixes  VEX/EVEX/XOP payload  opcode  ModRM  SIB  displacement  immediate
//
// and is at most 15 bytes long. The work is done by tables laid out as in the
// Intel SDM (volume 2, appendix A) so that a reader can hold the two side by
// side; an entry says what follows the opcode byte, not what it means.
//
//  1. Legacy prefixes, in any order and number, collect in a bit set. REX counts
//     only directly before the opcode, so any later prefix forgets it (SDM vol. 2,
//     2.2.1). F2 and F3 exclude each other; the later one counts, as in silicon.
//  2. The opcode byte indexes oneByte. 0F leads to twoByte and from there to
//     0F38, 0F3A and 0F0F. C4, C5 and 62 are always VEX and EVEX in 64-bit
//     mode; 8F is XOP when the low five bits of the next byte are 8 or more,
//     which a POP, with its zero reg field, can never have.
//  3. The table entry says whether ModRM follows. ModRM alone, not the address
//     size, fixes SIB and displacement in 64-bit mode, since the 16-bit forms do
//     not exist there. The MOVs to and from control and debug registers ignore
//     the mod field (SDM, "MOV - Move to/from Control Registers").
//  4. A few opcodes leave the immediate or the flow to ModRM: the groups, of
//     which only F6, F7, C6, C7 and AMD's 0F78 change the length. See group.
//  5. The immediate's size is looked up by its kind and the two bits (66, REX.W)
//     that can change it. REX.W wins over 66.
//
// The maps 0F38, 0F3A, VEX 2/3/5/7, EVEX 2/3/5/6 and XOP 8/9/A are regular: all
// their instructions have ModRM and, by map, no immediate or one of fixed size.
// These maps are not checked for unassigned opcodes, so that tomorrow's
// instructions decode today. The one-byte map, 0F and VEX/EVEX map 1 are
// irregular and unassigned opcodes there are ErrInvalid.
//
// 66 before a near branch (E8, E9, EB, 70-7F, 0F80-8F, E0-E3) is where the
// vendors part: Intel ignores it, AMD takes a 16-bit displacement and cuts the
// instruction pointer to 16 bits. With REX.W both take rel32, and that is the
// only form that toolchains emit (66 66 48 E8, the call in a general-dynamic
// TLS sequence). So 66 with REX.W decodes and 66 alone is ErrInvalid. Near
// RET and indirect branches with 66 decode: their length is not in doubt.
//
// Bounds are handled once: the code is cut to 15 bytes up front, and running
// out of bytes then means ErrInvalid if there were 15 and ErrTruncated if not.

var (
	// ErrTruncated reports that the code ended inside an instruction.
	ErrTruncated = errors.New("x86: truncated instruction")
	// ErrInvalid reports that the bytes are no instruction of 64-bit mode, are
	// longer than 15 bytes, or use an extension that this package refuses.
	ErrInvalid = errors.New("x86: invalid instruction")
)

// maxLen is the longest instruction a processor accepts.
const maxLen = 15

// Map is the opcode map that gives Opcode its meaning. VEX and EVEX share the
// numbers of the legacy maps; the bits VEX and EVEX of Prefix tell them apart.
type Map uint8

const (
	MapOne   Map = iota // one-byte opcodes
	Map0F               // 0F xx, VEX and EVEX map 1
	Map0F38             // 0F 38 xx, VEX and EVEX map 2
	Map0F3A             // 0F 3A xx, VEX and EVEX map 3
	Map3DNow            // 0F 0F ModRM xx: Opcode is the trailing byte, which is not counted as an immediate
	Map5                // VEX (AMX) and EVEX (AVX512-FP16) map 5
	Map6                // EVEX map 6
	Map7                // VEX map 7 (MSR access with immediate)
	MapXOP8             // XOP map 8
	MapXOP9             // XOP map 9
	MapXOPA             // XOP map A
)

// Prefix is the set of prefixes of an instruction. For VEX, EVEX and XOP the
// bits RexW, RexR, RexX, RexB, OpSize, Rep and Repne say what the payload
// encodes (W, R, X, B and pp), and Rex is not set.
type Prefix uint32

const (
	RexB     Prefix = 1 << iota // extends ModRM.rm, SIB.base or the register in the opcode
	RexX                        // extends SIB.index
	RexR                        // extends ModRM.reg
	RexW                        // 64-bit operand
	OpSize                      // 66
	Rex                         // a REX byte directly before the opcode
	AddrSize                    // 67
	Lock                        // F0
	Repne                       // F2, unless a later F3 overrides it
	Rep                         // F3, unless a later F2 overrides it
	CS                          // 2E
	DS                          // 3E
	ES                          // 26
	SS                          // 36
	FS                          // 64
	GS                          // 65
	VEX                         // C4 or C5
	EVEX                        // 62
	XOP                         // 8F
)

const (
	rexBits = RexB | RexX | RexR | RexW | Rex
	segBits = CS | DS | ES | SS | FS | GS
)

// Flow says where control goes after an instruction.
type Flow uint8

const (
	// FlowNone goes on to the next instruction. HLT is among them: an interrupt
	// resumes behind it.
	FlowNone Flow = iota
	// FlowJmp goes to a relative target only.
	FlowJmp
	// FlowCond goes to a relative target or to the next instruction: Jcc, LOOP,
	// JRCXZ, and XBEGIN, whose target is the abort handler.
	FlowCond
	// FlowCall calls a relative target.
	FlowCall
	// FlowRet leaves the function: RET, far RET, IRET, SYSRET, SYSEXIT, UIRET,
	// ERETU, ERETS and RSM.
	FlowRet
	// FlowJmpInd jumps to an address from a register or memory, near or far.
	FlowJmpInd
	// FlowCallInd calls an address from a register or memory, near or far.
	FlowCallInd
	// FlowTrap always raises an exception: UD0, UD1, UD2, INT3 and INT1. Whether
	// control ever reaches the next instruction is up to the handler. Linux resumes behind the UD2 of a WARN, and behind the UD1
	// of newer ones, when the bug table has an entry for the address, but not
	// behind that of a BUG. So neither FallsThrough nor EndsFlow holds.
	FlowTrap
	// FlowSys enters other software that usually comes back to the next
	// instruction: INT n, SYSCALL, SYSENTER, and the calls between a guest, its
	// hypervisor and an enclave.
	FlowSys
)

// String returns the flow's name.
func (f Flow) String() string {
	names := [...]string{"none", "jmp", "cond", "call", "ret", "jmp-ind", "call-ind", "trap", "sys"}
	if int(f) < len(names) {
		return names[f]
	}
	return "unknown"
}

// Inst is one decoded instruction. Offsets count from its first byte.
type Inst struct {
	Prefix Prefix
	Len    uint8 // 1 to 15
	Opcode uint8 // the opcode byte after all escapes
	Map    Map
	Flow   Flow

	ModOff  uint8 // offset of the ModRM byte, 0 if there is none
	ModRM   uint8
	SIB     uint8 // 0 if there is none
	DispOff uint8
	DispLen uint8 // 0, 1 or 4; an EVEX disp8 is scaled by the operand size
	// ImmOff and ImmLen are the immediate, a branch's relative field or the
	// absolute address of A0-A3. Where there are two immediates the field
	// spans both: ENTER has 3 bytes (16-bit size, 8-bit level), EXTRQ and
	// INSERTQ have 2.
	ImmOff uint8
	ImmLen uint8
}

// Decode decodes the first instruction of code. The error is nil,
// [ErrTruncated] or [ErrInvalid]; with an error the Inst is zero.
func Decode(code []byte) (in Inst, err error) {
	err = decode(&in, code)
	return in, err
}

// decode writes *in once, at the end, and only on success.
func decode(in *Inst, code []byte) error {
	if len(code) > maxLen {
		code = code[:maxLen]
	}
	var (
		p   Prefix
		mp  = MapOne
		i   int
		op  byte
		ent entry
	)
	for {
		if i >= len(code) {
			return ranOut(code)
		}
		op = code[i]
		i++
		ent = oneByte[op]
		if ent < special {
			break
		}
		switch ent {
		case rex:
			p = p&^rexBits | Prefix(op&0xf) | Rex
			continue
		case pfx:
			p &^= rexBits
			switch op {
			case 0x66:
				p |= OpSize
			case 0x67:
				p |= AddrSize
			case 0xf0:
				p |= Lock
			case 0xf2:
				p = p&^Rep | Repne
			case 0xf3:
				p = p&^Repne | Rep
			case 0x2e:
				p |= CS
			case 0x3e:
				p |= DS
			case 0x26:
				p |= ES
			case 0x36:
				p |= SS
			case 0x64:
				p |= FS
			case 0x65:
				p |= GS
			}
			continue
		case esc:
			if i >= len(code) {
				return ranOut(code)
			}
			op = code[i]
			i++
			mp = Map0F
			ent = twoByte[op]
			if ent < special {
				break
			}
			switch ent {
			case bad:
				return ErrInvalid
			case now:
				// The opcode is the last byte: decode it as an immediate here
				// and turn it into the opcode at the end.
				mp, ent = Map3DNow, rmB
			case pop:
				// POPCNT with F3. Without, it is the JMPE of Itanium, with
				// another length, and #UD on everything else.
				if p&Rep == 0 {
					return ErrInvalid
				}
				ent = rm
			default:
				mp, ent = Map0F38, rm
				if op == 0x3a {
					mp, ent = Map0F3A, rmB
				}
				if i >= len(code) {
					return ranOut(code)
				}
				op = code[i]
				i++
			}
		case vec:
			var n int
			var err error
			p, mp, op, n, err = vector(p, op, code[i:])
			if err != nil {
				if err == ErrTruncated {
					return ranOut(code)
				}
				return err
			}
			if n == 0 { // 8F that is not XOP
				ent = rm | grp
				break
			}
			i += n
			ent = vectorEntry(p, mp, op)
			if ent == bad {
				return ErrInvalid
			}
		default:
			return ErrInvalid
		}
		break
	}

	var modrm, sib byte
	var modOff, disp int
	if ent&rm != 0 {
		if i >= len(code) {
			return ranOut(code)
		}
		modrm = code[i]
		modOff = i
		i++
		if modrm < 0xc0 && ent&reg == 0 {
			disp = int(dispLen[modrm>>6])
			switch modrm & 7 {
			case 4:
				if i >= len(code) {
					return ranOut(code)
				}
				sib = code[i]
				i++
				if sib&7 == 5 && modrm < 0x40 {
					disp = 4
				}
			case 5:
				if modrm < 0x40 {
					disp = 4
				}
			}
		}
		if ent&grp != 0 {
			ent = group(ent, mp, op, modrm, p)
			if ent == bad {
				return ErrInvalid
			}
		}
	}

	imm := int(immLen[ent&kinds][p>>3&3])
	if imm == ask {
		switch {
		case ent&kinds != moffs: // 66 before a near branch
			return ErrInvalid
		case p&AddrSize != 0:
			imm = 4
		default:
			imm = 8
		}
	}
	end := i + disp + imm
	if end > len(code) {
		return ranOut(code)
	}
	dispOff, immOff := i, i+disp
	if disp == 0 {
		dispOff = 0
	}
	if imm == 0 {
		immOff = 0
	}
	if mp == Map3DNow {
		op = code[immOff]
		if !is3DNow(op) {
			return ErrInvalid
		}
		immOff, imm = 0, 0
	}
	// One field at a time: a composite literal is built aside and copied, which
	// costs a third of the whole decode.
	in.Prefix = p
	in.Len = uint8(end)
	in.Opcode = op
	in.Map = mp
	in.Flow = Flow(ent >> flowShift & 0xf)
	in.ModOff = uint8(modOff)
	in.ModRM = modrm
	in.SIB = sib
	in.DispOff = uint8(dispOff)
	in.DispLen = uint8(disp)
	in.ImmOff = uint8(immOff)
	in.ImmLen = uint8(imm)
	return nil
}

// ranOut is the error for an instruction that needs more bytes than code has,
// where code was cut to maxLen bytes.
func ranOut(code []byte) error {
	if len(code) >= maxLen {
		return ErrInvalid
	}
	return ErrTruncated
}

// vector decodes the payload behind C4, C5, 62 or 8F up to and including the
// opcode (SDM vol. 2, 2.3.5 and 2.7.1; AMD APM vol. 3, 1.7). n is the number of
// bytes used, 0 if 8F turned out to be the plain POP.
func vector(p Prefix, lead byte, code []byte) (_ Prefix, mp Map, op byte, n int, err error) {
	if len(code) == 0 {
		return p, 0, 0, 0, ErrTruncated
	}
	b := code[0]
	if lead == 0x8f && b&0x1f < 8 {
		return p, MapOne, lead, 0, nil
	}
	// These in front of a vector payload raise #UD.
	if p&(Rex|OpSize|Rep|Repne|Lock) != 0 {
		return p, 0, 0, 0, ErrInvalid
	}
	// R, X and B are stored inverted; RXB in bits 7 to 5 become RexR, RexX, RexB.
	rxb := Prefix(^b >> 5 & 7)
	var pp byte
	switch lead {
	case 0xc5:
		p |= VEX | rxb&RexR
		mp, pp, n = Map0F, b, 2
	case 0xc4:
		mp = vexMaps[b&0x1f]
		p |= VEX | rxb
		n = 3
	case 0x8f:
		mp = xopMaps[b&0x1f]
		p |= XOP | rxb
		n = 3
	case 0x62:
		// Bit 3 is the fixed zero that APX turns into B4.
		mp = evexMaps[b&0xf]
		p |= EVEX | rxb
		n = 4
	}
	if mp == MapOne {
		return p, 0, 0, 0, ErrInvalid
	}
	if len(code) < n {
		return p, 0, 0, 0, ErrTruncated
	}
	if lead != 0xc5 {
		pp = code[1]
		p |= Prefix(pp>>7) << 3 // W
		if lead == 0x62 && pp&4 == 0 {
			// The fixed one that APX turns into X4.
			return p, 0, 0, 0, ErrInvalid
		}
	}
	p |= vectorPP[pp&3]
	return p, mp, code[n-1], n, nil
}

// vectorEntry says what follows the opcode of a VEX, EVEX or XOP instruction.
func vectorEntry(p Prefix, mp Map, op byte) entry {
	switch mp {
	case Map0F:
		e := vectorMap1[op>>4] >> (op & 0xf) & 1
		switch {
		case op == 0x77 && p&VEX != 0: // VZEROUPPER and VZEROALL: no ModRM
			return 0
		case e == 0 || op == 0x77:
			return bad
		case op >= 0x70 && op <= 0x73, op == 0xc2, op >= 0xc4 && op <= 0xc6:
			return rmB
		}
		return rm
	case Map0F3A, MapXOP8:
		return rmB
	case MapXOPA:
		return rm | imm32
	case Map7:
		// RDMSR and WRMSRNS (F6), URDMSR and UWRMSR (F8) of a register and an
		// immediate number.
		if op == 0xf6 || op == 0xf8 {
			return rm | imm32
		}
		return bad
	}
	return rm // 0F38, 5, 6, XOP 9
}

// group finishes the entry of an opcode whose reg field, or whole ModRM byte,
// is part of the opcode (SDM vol. 2, A.4).
func group(ent entry, mp Map, op, modrm byte, p Prefix) entry {
	ext := modrm >> 3 & 7
	isReg := modrm >= 0xc0
	if mp == MapOne {
		switch op {
		case 0x8f: // group 1A
			if ext != 0 {
				return bad
			}
		case 0xc6: // group 11
			if modrm == 0xf8 { // XABORT
				return ent | immB
			}
			if ext != 0 {
				return bad
			}
			return ent | immB
		case 0xc7:
			if modrm == 0xf8 { // XBEGIN: 66 makes it rel16 with every vendor
				return ent | immZ | fCond
			}
			if ext != 0 {
				return bad
			}
			return ent | immZ
		case 0xf6: // group 3: only TEST, /0 and its alias /1, has an immediate
			if ext < 2 {
				return ent | immB
			}
		case 0xf7:
			if ext < 2 {
				return ent | immZ
			}
		case 0xfe: // group 4
			if ext > 1 {
				return bad
			}
		case 0xff: // group 5
			switch ext {
			case 2:
				return ent | fCallI
			case 4:
				return ent | fJmpI
			case 3, 5: // far: memory only
				if isReg {
					return bad
				}
				if ext == 3 {
					return ent | fCallI
				}
				return ent | fJmpI
			case 7:
				return bad
			}
		}
		return ent
	}
	switch op { // map 0F
	case 0x01: // group 7: system instructions with a register form
		switch modrm {
		case 0xc1, // VMCALL
			0xc2, 0xc3, // VMLAUNCH, VMRESUME
			0xd4,             // VMFUNC
			0xd7,             // ENCLU
			0xd8, 0xd9, 0xc0, // VMRUN, VMMCALL, ENCLV
			0xde: // SKINIT
			return ent | fSys
		case 0xcc, 0xcd, 0xce, 0xcf:
			// 66: TDCALL, SEAMRET, SEAMOPS, SEAMCALL. Without: ENCLS is CF.
			if p&OpSize != 0 {
				return ent | fSys
			}
		case 0xca: // F2: ERETS, F3: ERETU, otherwise CLAC
			if p&(Rep|Repne) != 0 {
				return ent | fRet
			}
		case 0xec: // F3: UIRET
			if p&Rep != 0 {
				return ent | fRet
			}
		}
	case 0x78: // SSE4A: two immediate bytes; without prefix VMREAD has none
		if p&Repne != 0 {
			return ent | immBB
		}
		if p&OpSize != 0 && p&Rep == 0 {
			if ext != 0 || !isReg {
				return bad
			}
			return ent | immBB
		}
	case 0xa6, 0xa7: // VIA PadLock: register form only
		if !isReg {
			return bad
		}
	}
	return ent
}

// RIPRelative reports whether the memory operand is addressed relative to the
// end of the instruction. With the prefix AddrSize the sum is cut to 32 bits.
func (in *Inst) RIPRelative() bool {
	return in.DispLen == 4 && in.ModRM&0xc7 == 0x05
}

// IsBranch reports whether the instruction is a jump, conditional jump or call
// whose target is relative to its end.
func (in *Inst) IsBranch() bool {
	return in.Flow == FlowJmp || in.Flow == FlowCond || in.Flow == FlowCall
}

// Rel returns the field that is relative to the end of the instruction, either
// the target of a branch or the displacement of a RIP-relative operand, and its
// sign-extended value as it stands in code, which must start with the
// instruction. The target is the instruction's address plus Len plus v; under a
// relocation v means nothing. No instruction has two such fields.
func (in *Inst) Rel(code []byte) (off, size uint8, v int64, ok bool) {
	switch {
	case in.IsBranch():
		off, size = in.ImmOff, in.ImmLen
	case in.RIPRelative():
		off, size = in.DispOff, in.DispLen
	default:
		return 0, 0, 0, false
	}
	end := int(off) + int(size)
	if len(code) < end {
		return 0, 0, 0, false
	}
	switch size { // nearly all are of these sizes
	case 1:
		v = int64(int8(code[off]))
	case 4:
		b := code[end-4 : end : end]
		v = int64(int32(uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24))
	default:
		v = signed(code[off:end])
	}
	return off, size, v, true
}

// FallsThrough reports whether the instruction after this one is reached
// without the help of an exception handler. Calls are taken to return. It is
// false for FlowTrap, see there.
func (in *Inst) FallsThrough() bool {
	return !in.EndsFlow() && in.Flow != FlowTrap
}

// EndsFlow reports whether control never goes on to the next instruction from
// here: unconditional jumps and returns. It is false for FlowTrap, see there.
func (in *Inst) EndsFlow() bool {
	return in.Flow == FlowJmp || in.Flow == FlowJmpInd || in.Flow == FlowRet
}

// signed reads a little-endian signed number of at most 8 bytes.
func signed(b []byte) int64 {
	shift := 64 - 8*len(b)
	return int64(unsigned(b)<<shift) >> shift
}

// unsigned reads a little-endian unsigned number of at most 8 bytes.
func unsigned(b []byte) uint64 {
	var v uint64
	for i := len(b) - 1; i >= 0; i-- {
		v = v<<8 | uint64(b[i])
	}
	return v
}
