package x86

// Reg is a general register, numbered as in ModRM. It names the whole register
// whatever part of it an instruction uses.
type Reg uint8

const (
	AX Reg = iota
	CX
	DX
	BX
	SP
	BP
	SI
	DI
	R8
	R9
	R10
	R11
	R12
	R13
	R14
	R15
)

// String returns the 64-bit name of the register.
func (r Reg) String() string {
	if r > R15 {
		return "unknown"
	}
	return regNames[r]
}

var regNames = [16]string{
	"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
	"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
}

// RegMask is a set of general registers.
type RegMask uint16

// Has reports whether r is in the set.
func (m RegMask) Has(r Reg) bool { return r <= R15 && m>>r&1 != 0 }

func (r Reg) mask() RegMask { return 1 << r }

// reg, base and low are the register operands of ModRM.reg, of ModRM.rm when it
// is a register, and of the low three bits of the opcode.
func (in *Inst) reg() Reg { return Reg(in.ModRM>>3&7 | uint8(in.Prefix&RexR)<<1) }

func (in *Inst) base() Reg { return Reg(in.ModRM&7 | uint8(in.Prefix&RexB)<<3) }

func (in *Inst) low() Reg { return Reg(in.Opcode&7 | uint8(in.Prefix&RexB)<<3) }

// isReg reports whether ModRM.rm is a register.
func (in *Inst) isReg() bool { return in.ModOff != 0 && in.ModRM >= 0xc0 }

// LoadsImm reports whether the instruction, at the start of code, is a MOV that
// sets all 64 bits of a register to the constant v: B8+r and C7 /0, with a
// 32-bit operand zero-extended and, for C7 with REX.W, sign-extended. MOVs of 8
// and 16 bits keep the rest of the register and are not reported. Under a
// relocation v is not the value loaded; the caller must know that there is none
// between ImmOff and ImmOff+ImmLen.
func (in *Inst) LoadsImm(code []byte) (r Reg, v uint64, ok bool) {
	if in.Map != MapOne || in.Prefix&^rexBits != 0 || len(code) < int(in.Len) {
		return 0, 0, false
	}
	imm := code[in.ImmOff : in.ImmOff+in.ImmLen]
	switch {
	case in.Opcode&0xf8 == 0xb8:
		return in.low(), unsigned(imm), true
	case in.Opcode == 0xc7 && in.ModRM&0xf8 == 0xc0:
		if in.Prefix&RexW != 0 {
			return in.base(), uint64(signed(imm)), true
		}
		return in.base(), unsigned(imm), true
	}
	return 0, 0, false
}

// Zeroes reports whether the instruction sets all 64 bits of a register to zero
// as XOR or SUB of a 32-bit or 64-bit register with itself does.
func (in *Inst) Zeroes() (r Reg, ok bool) {
	if in.Map != MapOne || in.Prefix&^rexBits != 0 || !in.isReg() || in.reg() != in.base() {
		return 0, false
	}
	switch in.Opcode {
	case 0x29, 0x2b, 0x31, 0x33:
		return in.reg(), true
	}
	return 0, false
}

// Writes returns the general registers of which the instruction, at the start
// of code, writes any part. It is for proofs and so refuses to guess: known is
// false for calls, system calls and traps, where other code runs, for x87 and
// vector instructions, for VEX, EVEX and XOP, for F2 and F3 where they are not
// plainly understood, and for everything rare. With known the set is exact or,
// for conditional writes (CMOV, CMPXCHG, shifts by CL, REP), the most that can
// be written. The stack pointer counts: PUSH, POP and RET write SP.
func (in *Inst) Writes(code []byte) (mask RegMask, known bool) {
	if len(code) < int(in.Len) || in.Prefix&(VEX|EVEX|XOP) != 0 {
		return 0, false
	}
	switch in.Map {
	case MapOne:
		mask, known = in.writesOne()
	case Map0F:
		mask, known = in.writes0F()
	case Map0F38:
		rep := in.Prefix & (Rep | Repne)
		switch {
		case in.Opcode == 0xf0 && rep == 0 && !in.isReg(): // MOVBE load
			return in.reg().mask(), true
		case in.Opcode == 0xf1 && rep == 0 && !in.isReg(): // MOVBE store
			return 0, true
		case (in.Opcode == 0xf0 || in.Opcode == 0xf1) && rep == Repne: // CRC32
			return in.reg().mask(), true
		}
	}
	if !known {
		return 0, false
	}
	return mask, true
}

// rmMask is the set for an instruction that writes the operand of ModRM.rm.
func (in *Inst) rmMask() RegMask {
	if in.isReg() {
		return in.base().mask()
	}
	return 0
}

// byteMask is the set for a write of 8-bit register number n, of which 4 to 7
// without REX are AH, CH, DH and BH.
func (in *Inst) byteMask(n Reg) RegMask {
	if in.Prefix&Rex == 0 && n >= 4 {
		n &= 3
	}
	return n.mask()
}

func (in *Inst) rmByteMask() RegMask {
	if in.isReg() {
		return in.byteMask(in.base())
	}
	return 0
}

func (in *Inst) writesOne() (RegMask, bool) {
	const (
		ax, cx, dx  = RegMask(1) << AX, RegMask(1) << CX, RegMask(1) << DX
		sp, bp      = RegMask(1) << SP, RegMask(1) << BP
		si, di      = RegMask(1) << SI, RegMask(1) << DI
		none, known = RegMask(0), true
	)
	op := in.Opcode
	ext := in.ModRM >> 3 & 7

	if in.Prefix&(Rep|Repne) != 0 {
		var m RegMask
		switch op {
		case 0x6c, 0x6d, 0xaa, 0xab, 0xae, 0xaf: // INS, STOS, SCAS
			m = di | cx
		case 0x6e, 0x6f: // OUTS
			m = si | cx
		case 0xa4, 0xa5, 0xa6, 0xa7: // MOVS, CMPS
			m = si | di | cx
		case 0xac, 0xad: // LODS
			m = ax | si | cx
		case 0x90: // PAUSE, if it is not XCHG with R8
			return none, in.Prefix&RexB == 0
		case 0xc2, 0xc3: // RET with BND, or padded to two bytes
			m = sp
		default: // BND branches; the rest is not worth a claim
			return none, in.Flow == FlowJmp || in.Flow == FlowCond && op>>4 == 7 || in.Flow == FlowJmpInd
		}
		return m, known
	}

	switch {
	case op < 0x40: // ADD OR ADC SBB AND SUB XOR CMP
		if op>>3 == 7 {
			return none, known
		}
		switch op & 7 {
		case 0:
			return in.rmByteMask(), known
		case 1:
			return in.rmMask(), known
		case 2:
			return in.byteMask(in.reg()), known
		case 3:
			return in.reg().mask(), known
		case 4, 5:
			return ax, known
		}
		return none, false
	case op >= 0x50 && op < 0x58: // PUSH
		return sp, known
	case op >= 0x58 && op < 0x60: // POP
		return sp | in.low().mask(), known
	case op >= 0x70 && op < 0x80: // Jcc
		return none, known
	case op >= 0x91 && op < 0x98: // XCHG
		return ax | in.low().mask(), known
	case op >= 0xb0 && op < 0xb8: // MOV
		return in.byteMask(in.low()), known
	case op >= 0xb8 && op < 0xc0:
		return in.low().mask(), known
	}

	switch op {
	case 0x63: // MOVSXD
		return in.reg().mask(), known
	case 0x68, 0x6a: // PUSH
		return sp, known
	case 0x69, 0x6b: // IMUL
		return in.reg().mask(), known
	case 0x6c, 0x6d: // INS
		return di, known
	case 0x6e, 0x6f: // OUTS
		return si, known
	case 0x80: // group 1
		if ext == 7 { // CMP
			return none, known
		}
		return in.rmByteMask(), known
	case 0x81, 0x83:
		if ext == 7 {
			return none, known
		}
		return in.rmMask(), known
	case 0x84, 0x85: // TEST
		return none, known
	case 0x86: // XCHG
		return in.rmByteMask() | in.byteMask(in.reg()), known
	case 0x87:
		return in.rmMask() | in.reg().mask(), known
	case 0x88: // MOV
		return in.rmByteMask(), known
	case 0x89, 0x8c:
		return in.rmMask(), known
	case 0x8a:
		return in.byteMask(in.reg()), known
	case 0x8b, 0x8d: // MOV, LEA
		return in.reg().mask(), known
	case 0x8e: // MOV to a segment register
		return none, known
	case 0x8f: // POP
		return sp | in.rmMask(), known
	case 0x90: // NOP, or XCHG with R8
		if in.Prefix&RexB != 0 {
			return ax | R8.mask(), known
		}
		return none, known
	case 0x98: // CBW
		return ax, known
	case 0x99: // CWD
		return dx, known
	case 0x9c, 0x9d: // PUSHF, POPF
		return sp, known
	case 0x9e: // SAHF
		return none, known
	case 0x9f: // LAHF
		return ax, known
	case 0xa0, 0xa1: // MOV
		return ax, known
	case 0xa2, 0xa3:
		return none, known
	case 0xa4, 0xa5, 0xa6, 0xa7: // MOVS, CMPS
		return si | di, known
	case 0xa8, 0xa9: // TEST
		return none, known
	case 0xaa, 0xab, 0xae, 0xaf: // STOS, SCAS
		return di, known
	case 0xac, 0xad: // LODS
		return ax | si, known
	case 0xc0, 0xd0, 0xd2: // shifts
		return in.rmByteMask(), known
	case 0xc1, 0xd1, 0xd3:
		return in.rmMask(), known
	case 0xc2, 0xc3, 0xca, 0xcb: // RET
		return sp, known
	case 0xc6: // MOV; XABORT ends up elsewhere
		return in.rmByteMask(), ext == 0
	case 0xc7: // MOV; XBEGIN writes AX on abort
		return in.rmMask(), ext == 0
	case 0xc8, 0xc9: // ENTER, LEAVE
		return sp | bp, known
	case 0xd7: // XLAT
		return ax, known
	case 0xe0, 0xe1, 0xe2: // LOOP
		return cx, known
	case 0xe3: // JRCXZ
		return none, known
	case 0xe4, 0xe5, 0xec, 0xed: // IN
		return ax, known
	case 0xe6, 0xe7, 0xee, 0xef: // OUT
		return none, known
	case 0xe9, 0xeb: // JMP
		return none, known
	case 0xf5, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd: // flags
		return none, known
	case 0xf6: // group 3
		switch ext {
		case 0, 1: // TEST
			return none, known
		case 2, 3: // NOT, NEG
			return in.rmByteMask(), known
		}
		return ax, known // MUL, IMUL, DIV, IDIV: AX is AH:AL
	case 0xf7:
		switch ext {
		case 0, 1:
			return none, known
		case 2, 3:
			return in.rmMask(), known
		}
		return ax | dx, known
	case 0xfe: // INC, DEC
		return in.rmByteMask(), known
	case 0xff: // group 5
		switch ext {
		case 0, 1: // INC, DEC
			return in.rmMask(), known
		case 4: // JMP
			return none, known
		case 6: // PUSH
			return sp, known
		}
	}
	return none, false
}

func (in *Inst) writes0F() (RegMask, bool) {
	const (
		ax, dx      = RegMask(1) << AX, RegMask(1) << DX
		cx, bx, sp  = RegMask(1) << CX, RegMask(1) << BX, RegMask(1) << SP
		none, known = RegMask(0), true
	)
	op := in.Opcode
	ext := in.ModRM >> 3 & 7

	if in.Prefix&(Rep|Repne) != 0 {
		switch {
		case op == 0x1e && in.Prefix&Rep != 0: // ENDBR64, ENDBR32
			return none, in.ModRM == 0xfa || in.ModRM == 0xfb
		case (op == 0xb8 || op == 0xbc || op == 0xbd) && in.Prefix&Rep != 0: // POPCNT, TZCNT, LZCNT
			return in.reg().mask(), known
		case op>>4 == 8: // Jcc with BND
			return none, known
		}
		return none, false
	}

	switch op >> 4 {
	case 4: // CMOVcc
		return in.reg().mask(), known
	case 8: // Jcc
		return none, known
	case 9: // SETcc
		return in.rmByteMask(), known
	}

	switch op {
	case 0x01: // CLAC and STAC only
		return none, (in.ModRM == 0xca || in.ModRM == 0xcb) && in.Prefix&OpSize == 0
	case 0x0d, 0x18, 0x1f: // PREFETCH, NOP
		return none, known
	case 0x20, 0x21: // MOV from a control or debug register
		return in.base().mask(), known
	case 0x22, 0x23:
		return none, known
	case 0x31: // RDTSC
		return ax | dx, known
	case 0xa0, 0xa1, 0xa8, 0xa9: // PUSH and POP of FS and GS
		return sp, known
	case 0xa2: // CPUID
		return ax | bx | cx | dx, known
	case 0xa3: // BT
		return none, known
	case 0xa4, 0xa5, 0xab, 0xac, 0xad, 0xb3, 0xbb: // SHLD, BTS, SHRD, BTR, BTC
		return in.rmMask(), known
	case 0xae: // LFENCE, MFENCE, SFENCE
		return none, in.isReg() && ext >= 5 && in.Prefix&OpSize == 0
	case 0xaf: // IMUL
		return in.reg().mask(), known
	case 0xb0: // CMPXCHG
		return in.rmByteMask() | ax, known
	case 0xb1:
		return in.rmMask() | ax, known
	case 0xb6, 0xb7, 0xbc, 0xbd, 0xbe, 0xbf: // MOVZX, BSF, BSR, MOVSX
		return in.reg().mask(), known
	case 0xba: // group 8
		switch ext {
		case 4: // BT
			return none, known
		case 5, 6, 7: // BTS, BTR, BTC
			return in.rmMask(), known
		}
	case 0xc0: // XADD
		return in.rmByteMask() | in.byteMask(in.reg()), known
	case 0xc1:
		return in.rmMask() | in.reg().mask(), known
	case 0xc3: // MOVNTI
		return none, !in.isReg()
	case 0xc7: // CMPXCHG8B, CMPXCHG16B
		return ax | dx, !in.isReg() && ext == 1 && in.Prefix&OpSize == 0
	case 0xc8, 0xc9, 0xca, 0xcb, 0xcc, 0xcd, 0xce, 0xcf: // BSWAP
		return in.low().mask(), known
	}
	return none, false
}
