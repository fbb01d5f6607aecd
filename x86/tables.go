package x86

// entry says what follows an opcode byte: the kind of immediate in the low four
// bits, flags for ModRM, and where control goes. Values from special on say
// instead how to find the entry.
type entry uint16

// Kinds of immediate, by the letters of SDM vol. 2, A.2.2.
const (
	immB  entry = iota + 1 // Ib
	immW                   // Iw
	immZ                   // Iz: 2 bytes with 66, else 4
	immV                   // Iv: also 8 with REX.W
	imm32                  // 4 bytes whatever the prefixes
	immWB                  // Iw Ib, of ENTER
	immBB                  // Ib Ib, of EXTRQ and INSERTQ
	relB                   // Jb
	relZ                   // Jz
	moffs                  // Ob, Ov: an address, 4 bytes with 67
	kinds entry = 0xf
)

// ask marks the lengths that depend on more: near branches on which the vendors
// disagree, and addresses, which depend on 67.
const ask = 0xff

// immLen is the length of each kind, indexed by the bits REX.W (1) and 66 (2).
var immLen = [16][4]uint8{
	immB:  {1, 1, 1, 1},
	immW:  {2, 2, 2, 2},
	immZ:  {4, 4, 2, 4},
	immV:  {4, 8, 2, 8},
	imm32: {4, 4, 4, 4},
	immWB: {3, 3, 3, 3},
	immBB: {2, 2, 2, 2},
	relB:  {1, 1, ask, 1},
	relZ:  {4, 4, ask, 4},
	moffs: {ask, ask, ask, ask},
}

// dispLen is the length of the displacement by the mod field of ModRM, before
// the exceptions of mod 0.
var dispLen = [4]uint8{0, 1, 4, 0}

const (
	rm  entry = 1 << 4 // ModRM follows
	reg entry = 1 << 5 // its mod field is ignored: the operands are registers
	grp entry = 1 << 6 // ask group

	flowShift       = 7
	fJmp      entry = entry(FlowJmp) << flowShift
	fCond     entry = entry(FlowCond) << flowShift
	fCall     entry = entry(FlowCall) << flowShift
	fRet      entry = entry(FlowRet) << flowShift
	fJmpI     entry = entry(FlowJmpInd) << flowShift
	fCallI    entry = entry(FlowCallInd) << flowShift
	fTrap     entry = entry(FlowTrap) << flowShift
	fSys      entry = entry(FlowSys) << flowShift
)

const (
	special entry = 1<<11 + iota
	bad           // no instruction in 64-bit mode
	pfx           // legacy prefix
	rex           // REX prefix
	esc           // 0F
	vec           // VEX, EVEX, XOP or POP
	e38           // 0F 38
	e3a           // 0F 3A
	now           // 0F 0F, 3DNow!
	pop           // 0F B8, POPCNT with F3
)

// Short names for the grids below.
const (
	nil_ entry = 0 // the opcode is all
	rmB        = rm | immB
	rmZ        = rm | immZ
	rmG        = rm | grp
	cJb        = relB | fCond
	cJz        = relZ | fCond
	bbb        = bad
)

// oneByte is the one-byte opcode map in 64-bit mode: SDM vol. 2, tables A-2.
//
// Not in 64-bit mode: PUSH and POP of ES, CS, SS and DS, the decimal
// adjustments, PUSHA and POPA, 82, far CALL and JMP with an immediate, INTO,
// SALC. D5 is REX2 on processors with APX, which this package refuses.
var oneByte = [256]entry{
	// 0     1     2     3     4     5     6     7     8     9     A     B     C     D     E     F
	/* 0 */ rm, rm, rm, rm, immB, immZ, bbb, bbb, rm, rm, rm, rm, immB, immZ, bbb, esc, // ADD, OR
	/* 1 */ rm, rm, rm, rm, immB, immZ, bbb, bbb, rm, rm, rm, rm, immB, immZ, bbb, bbb, // ADC, SBB
	/* 2 */ rm, rm, rm, rm, immB, immZ, pfx, bbb, rm, rm, rm, rm, immB, immZ, pfx, bbb, // AND, SUB
	/* 3 */ rm, rm, rm, rm, immB, immZ, pfx, bbb, rm, rm, rm, rm, immB, immZ, pfx, bbb, // XOR, CMP
	/* 4 */ rex, rex, rex, rex, rex, rex, rex, rex, rex, rex, rex, rex, rex, rex, rex, rex,
	/* 5 */ nil_, nil_, nil_, nil_, nil_, nil_, nil_, nil_, nil_, nil_, nil_, nil_, nil_, nil_, nil_, nil_, // PUSH, POP
	/* 6 */ bbb, bbb, vec, rm, pfx, pfx, pfx, pfx, immZ, rmZ, immB, rmB, nil_, nil_, nil_, nil_, // MOVSXD, PUSH, IMUL, INS, OUTS
	/* 7 */ cJb, cJb, cJb, cJb, cJb, cJb, cJb, cJb, cJb, cJb, cJb, cJb, cJb, cJb, cJb, cJb, // Jcc
	/* 8 */ rmB, rmZ, bbb, rmB, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, vec, // group 1, TEST, XCHG, MOV, LEA, POP/XOP
	/* 9 */ nil_, nil_, nil_, nil_, nil_, nil_, nil_, nil_, nil_, nil_, bbb, nil_, nil_, nil_, nil_, nil_, // XCHG, CBW, CWD, WAIT, flags
	/* A */ moffs, moffs, moffs, moffs, nil_, nil_, nil_, nil_, immB, immZ, nil_, nil_, nil_, nil_, nil_, nil_, // MOV, strings, TEST
	/* B */ immB, immB, immB, immB, immB, immB, immB, immB, immV, immV, immV, immV, immV, immV, immV, immV, // MOV
	/* C */ rmB, rmB, immW | fRet, fRet, vec, vec, rmG, rmG, immWB, nil_, immW | fRet, fRet, fTrap, immB | fSys, bbb, fRet, // shifts, RET, VEX, MOV, ENTER, LEAVE, INT
	/* D */ rm, rm, rm, rm, bbb, bbb, bbb, nil_, rm, rm, rm, rm, rm, rm, rm, rm, // shifts, XLAT, x87
	/* E */ cJb, cJb, cJb, cJb, immB, immB, immB, immB, relZ | fCall, relZ | fJmp, bbb, relB | fJmp, nil_, nil_, nil_, nil_, // LOOP, IN, OUT, CALL, JMP
	/* F */ pfx, fTrap, pfx, pfx, nil_, nil_, rmG, rmG, nil_, nil_, nil_, nil_, nil_, nil_, rmG, rmG, // INT1, HLT, CMC, groups 3, flags, groups 4 and 5
}

// twoByte is the map behind 0F: SDM vol. 2, tables A-3. From the AMD APM
// (vol. 3, A.1.2): 0E FEMMS, 0F 3DNow!, 0D PREFETCH, 78 EXTRQ, 79 INSERTQ.
// A6 and A7 are VIA PadLock. UD0 (FF) has ModRM on current Intel processors and
// for GNU tools, not on AMD and old Intel; it never completes in any case.
var twoByte = [256]entry{
	// 0     1     2     3     4     5     6     7     8     9     A     B     C     D     E     F
	/* 0 */ rm, rmG, rm, rm, bbb, fSys, nil_, fRet, nil_, nil_, bbb, fTrap, bbb, rm, nil_, now, // groups 6 and 7, LAR, LSL, SYSCALL, CLTS, SYSRET, INVD, WBINVD, UD2
	/* 1 */ rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, // SSE moves, group 16, hint NOPs, ENDBR
	/* 2 */ rm | reg, rm | reg, rm | reg, rm | reg, bbb, bbb, bbb, bbb, rm, rm, rm, rm, rm, rm, rm, rm, // MOV CR and DR, SSE
	/* 3 */ nil_, nil_, nil_, nil_, fSys, fRet, bbb, nil_, e38, bbb, e3a, bbb, bbb, bbb, bbb, bbb, // WRMSR, RDTSC, RDMSR, RDPMC, SYSENTER, SYSEXIT, GETSEC
	/* 4 */ rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, // CMOVcc
	/* 5 */ rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, // SSE
	/* 6 */ rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, // MMX and SSE2
	/* 7 */ rmB, rmB, rmB, rmB, rm, rm, rm, nil_, rmG, rm, bbb, bbb, rm, rm, rm, rm, // PSHUF, groups 12 to 14, PCMPEQ, EMMS, VMREAD, VMWRITE
	/* 8 */ cJz, cJz, cJz, cJz, cJz, cJz, cJz, cJz, cJz, cJz, cJz, cJz, cJz, cJz, cJz, cJz, // Jcc
	/* 9 */ rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, // SETcc
	/* A */ nil_, nil_, nil_, rm, rmB, rm, rmG, rmG, nil_, nil_, fRet, rm, rmB, rm, rm, rm, // FS, CPUID, BT, SHLD, PadLock, GS, RSM, BTS, SHRD, group 15, IMUL
	/* B */ rm, rm, rm, rm, rm, rm, rm, rm, pop, rm | fTrap, rmB, rm, rm, rm, rm, rm, // CMPXCHG, BTR, MOVZX, UD1, group 8, BTC, BSF, BSR, MOVSX
	/* C */ rm, rm, rmB, rm, rmB, rmB, rmB, rm, nil_, nil_, nil_, nil_, nil_, nil_, nil_, nil_, // XADD, CMPPS, MOVNTI, PINSRW, PEXTRW, SHUFPS, group 9, BSWAP
	/* D */ rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, // MMX and SSE2
	/* E */ rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm,
	/* F */ rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm, rm | fTrap, // UD0
}

// vectorMap1 has bit x of row y set when yx is an opcode of VEX or EVEX map 1
// (SDM vol. 2, tables A-3, entries with a v). Rows 4 and 9 are the mask
// register operations of AVX-512, AE is VLDMXCSR and VSTMXCSR.
var vectorMap1 = [16]uint16{
	0x1: 0xffff,
	0x2: 0xff00,
	0x4: 0x0cf6, // 41, 42, 44-47, 4A, 4B
	0x5: 0xffff,
	0x6: 0xffff,
	0x7: 0xffff,
	0x9: 0x030f, // 90-93, 98, 99
	0xa: 0x4000, // AE
	0xc: 0x0074, // C2, C4-C6
	0xd: 0xffff,
	0xe: 0xffff,
	0xf: 0xffff,
}

// The map fields of VEX, EVEX and XOP; MapOne stands for invalid. EVEX map 4
// is APX.
var (
	vexMaps  = [32]Map{1: Map0F, 2: Map0F38, 3: Map0F3A, 5: Map5, 7: Map7}
	evexMaps = [16]Map{1: Map0F, 2: Map0F38, 3: Map0F3A, 5: Map5, 6: Map6}
	xopMaps  = [32]Map{8: MapXOP8, 9: MapXOP9, 10: MapXOPA}
)

// vectorPP is the prefix that the field pp of VEX, EVEX and XOP stands for.
var vectorPP = [4]Prefix{0, OpSize, Rep, Repne}

// is3DNow reports whether op is a 3DNow! suffix (AMD APM vol. 3, table A-17).
func is3DNow(op byte) bool {
	switch op {
	case 0x0c, 0x0d, 0x1c, 0x1d, // conversions
		0x8a, 0x8e, 0x90, 0x94, 0x96, 0x97, 0x9a, 0x9e,
		0xa0, 0xa4, 0xa6, 0xa7, 0xaa, 0xae,
		0xb0, 0xb4, 0xb6, 0xb7, 0xbb, 0xbf:
		return true
	}
	return false
}
