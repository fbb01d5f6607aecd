package x86

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/arch/x86/x86asm"
)

// Text returns the instruction in GNU (AT&T) syntax for people to read. Code
// starts with the instruction, pc is the address of its first byte, and sym,
// which may be nil, gives the symbol that covers an address and where it
// starts, or an empty name. It is asked only about targets of branches and
// RIP-relative operands, never about constants that look like an address.
//
// The text is for display: two different instructions can read alike. Where
// golang.org/x/arch knows an instruction wrongly or not at all the text comes
// from a table here, and what neither knows prints as .byte.
func Text(code []byte, in Inst, pc uint64, sym func(addr uint64) (name string, base uint64)) string {
	if in.Len == 0 || len(code) < int(in.Len) {
		return byteText(code)
	}
	code = code[:in.Len]
	at := ""
	_, _, rel, relative := in.Rel(code)
	target := pc + uint64(in.Len) + uint64(rel)
	if relative && sym != nil {
		if name, base := sym(target); name != "" {
			at = " <" + name
			if target != base {
				at += fmt.Sprintf("%+#x", int64(target-base))
			}
			at += ">"
		}
	}
	if in.IsBranch() {
		return fmt.Sprintf("%s %#x%s", in.branchName(), target, at)
	}
	text, ok := in.ownText(code)
	if !ok {
		text, ok = in.asmText(code)
	}
	if !ok {
		return byteText(code)
	}
	if at != "" {
		text += fmt.Sprintf(" # %#x%s", target, at)
	}
	return text
}

// byteText is the last resort.
func byteText(code []byte) string {
	var b strings.Builder
	for i, c := range code {
		if i == 0 {
			b.WriteString(".byte ")
		} else {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%#02x", c)
	}
	return b.String()
}

// asmText asks x86asm, which is not believed about the length: when it does
// not know an instruction it can return success, length 1 and no opcode.
func (in *Inst) asmText(code []byte) (string, bool) {
	// x86asm leaves out a displacement of zero, so that an operand of which the
	// displacement is all there is, such as a per-CPU variable under its
	// relocation, would print as nothing. Give it a number that is easy to
	// replace.
	const marker = 0x7d5a3c1b
	var buf [maxLen]byte
	zero := in.DispLen == 4 && unsigned(code[in.DispOff:in.DispOff+4]) == 0
	if zero {
		code = buf[:copy(buf[:], code)]
		binary.LittleEndian.PutUint32(code[in.DispOff:], marker)
	}
	inst, err := x86asm.Decode(code, 64)
	if err != nil || inst.Op == 0 || inst.Len != int(in.Len) {
		return "", false
	}
	text := x86asm.GNUSyntax(inst, 0, nil)
	if zero {
		text = strings.Replace(text, fmt.Sprintf("%#x", marker), "0x0", 1)
	}
	return text, true
}

var conditions = [16]string{"o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"}

// branchName is the mnemonic of a direct branch with its prefixes.
func (in *Inst) branchName() string {
	name := ""
	for _, p := range []struct {
		bit  Prefix
		name string
	}{{Repne, "bnd "}, {Rep, "repz "}, {CS, "cs "}, {DS, "ds "}, {ES, "es "}, {SS, "ss "}, {FS, "fs "}, {GS, "gs "}, {OpSize, "data16 "}, {Lock, "lock "}, {RexW, "rex.W "}} {
		if in.Prefix&p.bit != 0 {
			name += p.name
		}
	}
	addr32 := in.Prefix&AddrSize != 0
	switch {
	case in.Flow == FlowCall:
		name += "call"
	case in.Flow == FlowJmp:
		name += "jmp"
	case in.Opcode == 0xe3 && addr32:
		return name + "jecxz"
	case in.Opcode == 0xe3:
		name += "jrcxz"
	case in.Opcode == 0xc7:
		name += "xbegin"
	case in.Opcode>>4 == 0xe:
		name += [...]string{"loopne", "loope", "loop"}[in.Opcode&3]
	default:
		name += "j" + conditions[in.Opcode&0xf]
	}
	if addr32 {
		name = "addr32 " + name
	}
	return name
}

// A form is an instruction that this package names itself. In name, ? stands
// for the size suffix l or q, or d or q in those that end in _. Args are
// operand letters in AT&T order:
//
//	m  ModRM.rm, memory or 64-bit register    g  ModRM.reg, 64 bits
//	d  the same with a 32-bit register        G  ModRM.reg, 64 bits with REX.W, else 32
//	M  the same with a register as wide as G  x  ModRM.reg, xmm
//	w  the same with a 16-bit register        X  ModRM.rm, memory or xmm
//	i  the immediate                          t T v  ModRM.reg, ModRM.rm, vvvv, tmm
type form struct {
	pp         Prefix // exactly which of 66, F2, F3
	mask, want byte   // ModRM & mask == want
	mem        int8   // 1: memory operand only, -1: register only
	name, args string
}

type formKey struct {
	vex Prefix
	mp  Map
	op  byte
}

const np = Prefix(0)

// forms are the instructions that x86asm v0.32.0 does not know, takes for
// another one or measures wrongly, as far as kernels use them.
var forms = map[formKey][]form{
	{0, Map0F, 0x00}: {{Repne, 0x38, 0x30, 0, "lkgs", "w"}},
	{0, Map0F, 0x01}: {
		{np, 0xff, 0xc0, 0, "enclv", ""},
		{np, 0xff, 0xc1, 0, "vmcall", ""},
		{np, 0xff, 0xc2, 0, "vmlaunch", ""},
		{np, 0xff, 0xc3, 0, "vmresume", ""},
		{np, 0xff, 0xc4, 0, "vmxoff", ""},
		{np, 0xff, 0xc5, 0, "pconfig", ""},
		{np, 0xff, 0xc6, 0, "wrmsrns", ""},
		{Rep, 0xff, 0xc6, 0, "wrmsrlist", ""},
		{Repne, 0xff, 0xc6, 0, "rdmsrlist", ""},
		{np, 0xff, 0xc8, 0, "monitor %rax,%ecx,%edx", ""},
		{np, 0xff, 0xc9, 0, "mwait %eax,%ecx", ""},
		{np, 0xff, 0xca, 0, "clac", ""},
		{Repne, 0xff, 0xca, 0, "erets", ""},
		{Rep, 0xff, 0xca, 0, "eretu", ""},
		{np, 0xff, 0xcb, 0, "stac", ""},
		{OpSize, 0xff, 0xcc, 0, "tdcall", ""},
		{OpSize, 0xff, 0xcd, 0, "seamret", ""},
		{OpSize, 0xff, 0xce, 0, "seamops", ""},
		{np, 0xff, 0xcf, 0, "encls", ""},
		{OpSize, 0xff, 0xcf, 0, "seamcall", ""},
		{np, 0xff, 0xd4, 0, "vmfunc", ""},
		{np, 0xff, 0xd7, 0, "enclu", ""},
		{np, 0xff, 0xd8, 0, "vmrun", ""},
		{np, 0xff, 0xd9, 0, "vmmcall", ""},
		{Rep, 0xff, 0xd9, 0, "vmgexit", ""},
		{Repne, 0xff, 0xd9, 0, "vmgexit", ""},
		{np, 0xff, 0xda, 0, "vmload", ""},
		{np, 0xff, 0xdb, 0, "vmsave", ""},
		{np, 0xff, 0xdc, 0, "stgi", ""},
		{np, 0xff, 0xdd, 0, "clgi", ""},
		{np, 0xff, 0xde, 0, "skinit", ""},
		{np, 0xff, 0xdf, 0, "invlpga %rax,%ecx", ""},
		{np, 0xff, 0xe8, 0, "serialize", ""},
		{Rep, 0xff, 0xe8, 0, "setssbsy", ""},
		{Repne, 0xff, 0xe8, 0, "xsusldtrk", ""},
		{Repne, 0xff, 0xe9, 0, "xresldtrk", ""},
		{Rep, 0xff, 0xea, 0, "saveprevssp", ""},
		{Rep, 0xff, 0xec, 0, "uiret", ""},
		{Rep, 0xff, 0xed, 0, "testui", ""},
		{np, 0xff, 0xee, 0, "rdpkru", ""},
		{Rep, 0xff, 0xee, 0, "clui", ""},
		{np, 0xff, 0xef, 0, "wrpkru", ""},
		{Rep, 0xff, 0xef, 0, "stui", ""},
		{np, 0xff, 0xfa, 0, "monitorx %rax,%ecx,%edx", ""},
		{Rep, 0xff, 0xfa, 0, "mcommit", ""},
		{np, 0xff, 0xfb, 0, "mwaitx %eax,%ecx,%ebx", ""},
		{np, 0xff, 0xfc, 0, "clzero", ""},
		{np, 0xff, 0xfd, 0, "rdpru", ""},
		{Rep, 0xff, 0xfd, 0, "rmpquery", ""},
		{np, 0xff, 0xfe, 0, "invlpgb", ""},
		{Rep, 0xff, 0xfe, 0, "rmpadjust", ""},
		{Repne, 0xff, 0xfe, 0, "rmpupdate", ""},
		{np, 0xff, 0xff, 0, "tlbsync", ""},
		{Rep, 0xff, 0xff, 0, "psmash", ""},
		{Repne, 0xff, 0xff, 0, "pvalidate", ""},
		{Rep, 0x38, 0x28, 1, "rstorssp", "m"},
	},
	{0, Map0F, 0x09}: {{Rep, 0, 0, 0, "wbnoinvd", ""}},
	{0, Map0F, 0x0d}: {{np, 0x38, 0x10, 1, "prefetchwt1", "m"}},
	{0, Map0F, 0x1c}: {{np, 0x38, 0x00, 1, "cldemote", "m"}},
	{0, Map0F, 0x1e}: {
		{Rep, 0xff, 0xfa, 0, "endbr64", ""},
		{Rep, 0xff, 0xfb, 0, "endbr32", ""},
		{Rep, 0x38, 0x08, -1, "rdssp_?", "M"},
	},
	{0, Map0F, 0x37}: {{np, 0, 0, 0, "getsec", ""}},
	{0, Map0F, 0x78}: {{np, 0, 0, 0, "vmread", "g,m"}},
	{0, Map0F, 0x79}: {{np, 0, 0, 0, "vmwrite", "m,g"}},
	{0, Map0F, 0xae}: {
		{Rep, 0x38, 0x20, 0, "ptwrite?", "M"},
		{Rep, 0x38, 0x28, -1, "incssp_?", "M"},
		{OpSize, 0x38, 0x30, 1, "clwb", "m"},
		{Rep, 0x38, 0x30, 1, "clrssbsy", "m"},
		{OpSize, 0x38, 0x30, -1, "tpause", "d"},
		{Rep, 0x38, 0x30, -1, "umonitor", "m"},
		{Repne, 0x38, 0x30, -1, "umwait", "d"},
		{OpSize, 0x38, 0x38, 1, "clflushopt", "m"},
	},
	{0, Map0F, 0xb9}: {{np, 0, 0, 0, "ud1", "M,G"}, {OpSize, 0, 0, 0, "ud1", "M,G"}, {Rep, 0, 0, 0, "ud1", "M,G"}, {Repne, 0, 0, 0, "ud1", "M,G"}},
	{0, Map0F, 0xff}: {{np, 0, 0, 0, "ud0", "M,G"}},
	{0, Map0F, 0xc7}: {
		{np, 0x38, 0x30, 1, "vmptrld", "m"},
		{OpSize, 0x38, 0x30, 1, "vmclear", "m"},
		{Rep, 0x38, 0x30, 1, "vmxon", "m"},
		{Rep, 0x38, 0x30, -1, "senduipi", "m"},
		{np, 0x38, 0x38, 1, "vmptrst", "m"},
		{Rep, 0x38, 0x38, -1, "rdpid", "m"},
		{np, 0x38, 0x38, -1, "rdseed", "M"},
	},
	{0, Map0F38, 0x80}: {{OpSize, 0, 0, 1, "invept", "m,g"}},
	{0, Map0F38, 0x81}: {{OpSize, 0, 0, 1, "invvpid", "m,g"}},
	{0, Map0F38, 0x82}: {{OpSize, 0, 0, 1, "invpcid", "m,g"}},
	{0, Map0F38, 0xcf}: {{OpSize, 0, 0, 0, "gf2p8mulb", "X,x"}},
	{0, Map0F38, 0xf5}: {{OpSize, 0, 0, 1, "wruss_?", "G,M"}},
	{0, Map0F38, 0xf6}: {
		{np, 0, 0, 1, "wrss_?", "G,M"},
		{OpSize, 0, 0, 0, "adcx", "M,G"},
		{Rep, 0, 0, 0, "adox", "M,G"},
	},
	{0, Map0F38, 0xf8}: {
		{OpSize, 0, 0, 1, "movdir64b", "m,g"},
		{Repne, 0, 0, 1, "enqcmd", "m,g"},
		{Rep, 0, 0, 1, "enqcmds", "m,g"},
	},
	{0, Map0F38, 0xf9}: {{np, 0, 0, 1, "movdiri", "G,M"}},
	{0, Map0F3A, 0xce}: {{OpSize, 0, 0, 0, "gf2p8affineqb", "i,X,x"}},
	{0, Map0F3A, 0xcf}: {{OpSize, 0, 0, 0, "gf2p8affineinvqb", "i,X,x"}},
	{0, Map0F3A, 0xf0}: {{Rep, 0xff, 0xc0, 0, "hreset", "i"}},

	{VEX, Map0F38, 0x49}: {
		{np, 0xff, 0xc0, 0, "tilerelease", ""},
		{np, 0x38, 0x00, 1, "ldtilecfg", "m"},
		{OpSize, 0x38, 0x00, 1, "sttilecfg", "m"},
		{Repne, 0xc7, 0xc0, 0, "tilezero", "t"},
	},
	{VEX, Map0F38, 0x4b}: {
		{Repne, 0, 0, 1, "tileloadd", "m,t"},
		{OpSize, 0, 0, 1, "tileloaddt1", "m,t"},
		{Rep, 0, 0, 1, "tilestored", "t,m"},
	},
	{VEX, Map0F38, 0x5c}: {{Rep, 0, 0, -1, "tdpbf16ps", "v,T,t"}},
	{VEX, Map0F38, 0x5e}: {
		{Repne, 0, 0, -1, "tdpbssd", "v,T,t"},
		{Rep, 0, 0, -1, "tdpbsud", "v,T,t"},
		{OpSize, 0, 0, -1, "tdpbusd", "v,T,t"},
		{np, 0, 0, -1, "tdpbuud", "v,T,t"},
	},
}

// ownText names the instructions in forms.
func (in *Inst) ownText(code []byte) (string, bool) {
	if in.Map == Map0F && in.Opcode == 0x77 && in.Prefix&VEX != 0 {
		// The bit L is in the byte before the opcode.
		if code[in.Len-2]&4 != 0 {
			return "vzeroall", true
		}
		return "vzeroupper", true
	}
	pp := in.Prefix & (Rep | Repne)
	if pp == 0 {
		pp = in.Prefix & OpSize
	}
	for _, f := range forms[formKey{in.Prefix & (VEX | EVEX | XOP), in.Map, in.Opcode}] {
		if pp != f.pp || in.ModRM&f.mask != f.want ||
			f.mem > 0 && in.ModRM >= 0xc0 || f.mem < 0 && in.ModRM < 0xc0 {
			continue
		}
		suffix := "l"
		if in.Prefix&RexW != 0 {
			suffix = "q"
		} else if strings.Contains(f.name, "_") {
			suffix = "d"
		}
		text := strings.ReplaceAll(strings.ReplaceAll(f.name, "?", suffix), "_", "")
		for i, letter := range strings.Split(f.args, ",") {
			if letter == "" {
				break
			}
			if i == 0 {
				text += " "
			} else {
				text += ","
			}
			text += in.operand(letter[0], code)
		}
		return text, true
	}
	return "", false
}

// operand prints one operand of a form.
func (in *Inst) operand(letter byte, code []byte) string {
	wide := 32
	if in.Prefix&RexW != 0 {
		wide = 64
	}
	r, b := in.reg(), in.base()
	switch letter {
	case 'm', 'd', 'M', 'w', 'X', 'T':
		if !in.isReg() {
			return in.memory(code)
		}
	}
	switch letter {
	case 'm':
		return regText(b, 64)
	case 'd':
		return regText(b, 32)
	case 'M':
		return regText(b, wide)
	case 'w':
		return regText(b, 16)
	case 'g':
		return regText(r, 64)
	case 'G':
		return regText(r, wide)
	case 'x':
		return fmt.Sprintf("%%xmm%d", r)
	case 'X':
		return fmt.Sprintf("%%xmm%d", b)
	case 't':
		return fmt.Sprintf("%%tmm%d", r)
	case 'T':
		return fmt.Sprintf("%%tmm%d", b)
	case 'v': // inverted, in the byte before the opcode
		return fmt.Sprintf("%%tmm%d", ^code[in.ModOff-2]>>3&0xf)
	case 'i':
		return fmt.Sprintf("$%#x", unsigned(code[in.ImmOff:in.ImmOff+in.ImmLen]))
	}
	panic("BUG: x86: unknown operand letter")
}

// memory prints the memory operand.
func (in *Inst) memory(code []byte) string {
	var b strings.Builder
	for _, s := range []struct {
		bit  Prefix
		name string
	}{{CS, "%cs:"}, {DS, "%ds:"}, {ES, "%es:"}, {SS, "%ss:"}, {FS, "%fs:"}, {GS, "%gs:"}} {
		if in.Prefix&s.bit != 0 {
			b.WriteString(s.name)
		}
	}
	if in.DispLen != 0 {
		fmt.Fprintf(&b, "%#x", signed(code[in.DispOff:in.DispOff+in.DispLen]))
	}
	bits := 64
	if in.Prefix&AddrSize != 0 {
		bits = 32
	}
	mod, low := in.ModRM>>6, in.ModRM&7
	switch {
	case low == 5 && mod == 0 && bits == 32:
		b.WriteString("(%eip)")
	case low == 5 && mod == 0:
		b.WriteString("(%rip)")
	case low != 4:
		b.WriteString("(" + regText(in.base(), bits) + ")")
	default:
		base := ""
		if in.SIB&7 != 5 || mod != 0 {
			base = regText(Reg(in.SIB&7|uint8(in.Prefix&RexB)<<3), bits)
		}
		index := Reg(in.SIB>>3&7 | uint8(in.Prefix&RexX)<<2)
		switch {
		case index != SP:
			fmt.Fprintf(&b, "(%s,%s,%d)", base, regText(index, bits), 1<<(in.SIB>>6))
		case base != "":
			b.WriteString("(" + base + ")")
		}
	}
	return b.String()
}

// regText is the AT&T name of a register of the given width.
func regText(r Reg, bits int) string {
	name := r.String()
	switch {
	case bits == 64:
	case bits == 32 && r >= R8:
		name += "d"
	case bits == 32:
		name = "e" + name[1:]
	case r >= R8:
		name += "w"
	default:
		name = name[1:]
	}
	return "%" + name
}
