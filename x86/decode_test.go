package x86_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kdelta/kdelta/x86"
)

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err, s)
	return b
}

func TestDecode(t *testing.T) {
	type inst = x86.Inst
	for _, c := range []struct {
		code string
		want inst
	}{
		{"90", inst{Len: 1, Opcode: 0x90}},
		{"c3", inst{Len: 1, Opcode: 0xc3, Flow: x86.FlowRet}},
		{"f3 c3", inst{Len: 2, Opcode: 0xc3, Prefix: x86.Rep, Flow: x86.FlowRet}},
		{"c2 0800", inst{Len: 3, Opcode: 0xc2, ImmOff: 1, ImmLen: 2, Flow: x86.FlowRet}},
		{"48 cf", inst{Len: 2, Opcode: 0xcf, Prefix: x86.Rex | x86.RexW, Flow: x86.FlowRet}},
		{"0f05", inst{Len: 2, Map: x86.Map0F, Opcode: 0x05, Flow: x86.FlowSys}},
		{"48 0f07", inst{Len: 3, Map: x86.Map0F, Opcode: 0x07, Prefix: x86.Rex | x86.RexW, Flow: x86.FlowRet}},
		{"0f0b", inst{Len: 2, Map: x86.Map0F, Opcode: 0x0b, Flow: x86.FlowTrap}},
		{"67 0fb9 400c", inst{Len: 5, Map: x86.Map0F, Opcode: 0xb9, Prefix: x86.AddrSize, Flow: x86.FlowTrap, ModOff: 3, ModRM: 0x40, DispOff: 4, DispLen: 1}},
		{"0fff c0", inst{Len: 3, Map: x86.Map0F, Opcode: 0xff, Flow: x86.FlowTrap, ModOff: 2, ModRM: 0xc0}},
		{"cc", inst{Len: 1, Opcode: 0xcc, Flow: x86.FlowTrap}},
		{"f1", inst{Len: 1, Opcode: 0xf1, Flow: x86.FlowTrap}},
		{"cd 80", inst{Len: 2, Opcode: 0xcd, ImmOff: 1, ImmLen: 1, Flow: x86.FlowSys}},
		{"f4", inst{Len: 1, Opcode: 0xf4}},
		{"e8 01020304", inst{Len: 5, Opcode: 0xe8, ImmOff: 1, ImmLen: 4, Flow: x86.FlowCall}},
		{"2e e8 01020304", inst{Len: 6, Opcode: 0xe8, Prefix: x86.CS, ImmOff: 2, ImmLen: 4, Flow: x86.FlowCall}},
		{"6666 48 e8 01020304", inst{Len: 8, Opcode: 0xe8, Prefix: x86.OpSize | x86.Rex | x86.RexW, ImmOff: 4, ImmLen: 4, Flow: x86.FlowCall}},
		{"e9 01020304", inst{Len: 5, Opcode: 0xe9, ImmOff: 1, ImmLen: 4, Flow: x86.FlowJmp}},
		{"eb fe", inst{Len: 2, Opcode: 0xeb, ImmOff: 1, ImmLen: 1, Flow: x86.FlowJmp}},
		{"74 05", inst{Len: 2, Opcode: 0x74, ImmOff: 1, ImmLen: 1, Flow: x86.FlowCond}},
		{"0f84 01020304", inst{Len: 6, Map: x86.Map0F, Opcode: 0x84, ImmOff: 2, ImmLen: 4, Flow: x86.FlowCond}},
		{"e2 05", inst{Len: 2, Opcode: 0xe2, ImmOff: 1, ImmLen: 1, Flow: x86.FlowCond}},
		{"67 e3 05", inst{Len: 3, Opcode: 0xe3, Prefix: x86.AddrSize, ImmOff: 2, ImmLen: 1, Flow: x86.FlowCond}},
		{"c7f8 01020304", inst{Len: 6, Opcode: 0xc7, ModOff: 1, ModRM: 0xf8, ImmOff: 2, ImmLen: 4, Flow: x86.FlowCond}},
		{"66 c7f8 0102", inst{Len: 5, Opcode: 0xc7, Prefix: x86.OpSize, ModOff: 2, ModRM: 0xf8, ImmOff: 3, ImmLen: 2, Flow: x86.FlowCond}},
		{"c6f8 ff", inst{Len: 3, Opcode: 0xc6, ModOff: 1, ModRM: 0xf8, ImmOff: 2, ImmLen: 1}},
		{"ff d0", inst{Len: 2, Opcode: 0xff, ModOff: 1, ModRM: 0xd0, Flow: x86.FlowCallInd}},
		{"ff15 01020304", inst{Len: 6, Opcode: 0xff, ModOff: 1, ModRM: 0x15, DispOff: 2, DispLen: 4, Flow: x86.FlowCallInd}},
		{"3e ffe0", inst{Len: 3, Opcode: 0xff, Prefix: x86.DS, ModOff: 2, ModRM: 0xe0, Flow: x86.FlowJmpInd}},
		{"ff24c5 01020304", inst{Len: 7, Opcode: 0xff, ModOff: 1, ModRM: 0x24, SIB: 0xc5, DispOff: 3, DispLen: 4, Flow: x86.FlowJmpInd}},
		{"48 ff2d 01020304", inst{Len: 7, Opcode: 0xff, Prefix: x86.Rex | x86.RexW, ModOff: 2, ModRM: 0x2d, DispOff: 3, DispLen: 4, Flow: x86.FlowJmpInd}},
		{"48 c705 01020304 05060708", inst{Len: 11, Opcode: 0xc7, Prefix: x86.Rex | x86.RexW, ModOff: 2, ModRM: 0x05, DispOff: 3, DispLen: 4, ImmOff: 7, ImmLen: 4}},
		{"66 c705 01020304 0506", inst{Len: 9, Opcode: 0xc7, Prefix: x86.OpSize, ModOff: 2, ModRM: 0x05, DispOff: 3, DispLen: 4, ImmOff: 7, ImmLen: 2}},
		{"66 48 81c0 01020304", inst{Len: 8, Opcode: 0x81, Prefix: x86.OpSize | x86.Rex | x86.RexW, ModOff: 3, ModRM: 0xc0, ImmOff: 4, ImmLen: 4}},
		{"48 66 81c0 0102", inst{Len: 6, Opcode: 0x81, Prefix: x86.OpSize, ModOff: 3, ModRM: 0xc0, ImmOff: 4, ImmLen: 2}}, // REX forgotten
		{"f2 f3 a4", inst{Len: 3, Opcode: 0xa4, Prefix: x86.Rep}},
		{"f6c0 01", inst{Len: 3, Opcode: 0xf6, ModOff: 1, ModRM: 0xc0, ImmOff: 2, ImmLen: 1}},
		{"f7c8 01020304", inst{Len: 6, Opcode: 0xf7, ModOff: 1, ModRM: 0xc8, ImmOff: 2, ImmLen: 4}},
		{"f7d8", inst{Len: 2, Opcode: 0xf7, ModOff: 1, ModRM: 0xd8}},
		{"49 ba 0102030405060708", inst{Len: 10, Opcode: 0xba, Prefix: x86.Rex | x86.RexW | x86.RexB, ImmOff: 2, ImmLen: 8}},
		{"48 a1 0102030405060708", inst{Len: 10, Opcode: 0xa1, Prefix: x86.Rex | x86.RexW, ImmOff: 2, ImmLen: 8}},
		{"67 a1 01020304", inst{Len: 6, Opcode: 0xa1, Prefix: x86.AddrSize, ImmOff: 2, ImmLen: 4}},
		{"c8 102000", inst{Len: 4, Opcode: 0xc8, ImmOff: 1, ImmLen: 3}},
		{"0f20 05", inst{Len: 3, Map: x86.Map0F, Opcode: 0x20, ModOff: 2, ModRM: 0x05}}, // mod ignored
		{"f30f1efa", inst{Len: 4, Map: x86.Map0F, Opcode: 0x1e, Prefix: x86.Rep, ModOff: 3, ModRM: 0xfa}},
		{"f30fb8c1", inst{Len: 4, Map: x86.Map0F, Opcode: 0xb8, Prefix: x86.Rep, ModOff: 3, ModRM: 0xc1}},
		{"0f0f c1 9e", inst{Len: 4, Map: x86.Map3DNow, Opcode: 0x9e, ModOff: 2, ModRM: 0xc1}},
		{"660f78c0 0102", inst{Len: 6, Map: x86.Map0F, Opcode: 0x78, Prefix: x86.OpSize, ModOff: 3, ModRM: 0xc0, ImmOff: 4, ImmLen: 2}},
		{"f20f78c1 0102", inst{Len: 6, Map: x86.Map0F, Opcode: 0x78, Prefix: x86.Repne, ModOff: 3, ModRM: 0xc1, ImmOff: 4, ImmLen: 2}},
		{"0f78c1", inst{Len: 3, Map: x86.Map0F, Opcode: 0x78, ModOff: 2, ModRM: 0xc1}},
		{"660f3a0fc1 08", inst{Len: 6, Map: x86.Map0F3A, Opcode: 0x0f, Prefix: x86.OpSize, ModOff: 4, ModRM: 0xc1, ImmOff: 5, ImmLen: 1}},
		{"c5f877", inst{Len: 3, Map: x86.Map0F, Opcode: 0x77, Prefix: x86.VEX}},
		{"c4e17877", inst{Len: 4, Map: x86.Map0F, Opcode: 0x77, Prefix: x86.VEX}},
		{"c4e27849c0", inst{Len: 5, Map: x86.Map0F38, Opcode: 0x49, Prefix: x86.VEX, ModOff: 4, ModRM: 0xc0}},
		{"c4e2fbf5 05 01020304", inst{Len: 9, Map: x86.Map0F38, Opcode: 0xf5, Prefix: x86.VEX | x86.RexW | x86.Repne, ModOff: 4, ModRM: 0x05, DispOff: 5, DispLen: 4}},
		{"c4e77af6c0 01020304", inst{Len: 9, Map: x86.Map7, Opcode: 0xf6, Prefix: x86.VEX | x86.Rep, ModOff: 4, ModRM: 0xc0, ImmOff: 5, ImmLen: 4}},
		{"62f17c48 584001", inst{Len: 7, Map: x86.Map0F, Opcode: 0x58, Prefix: x86.EVEX, ModOff: 5, ModRM: 0x40, DispOff: 6, DispLen: 1}},
		{"62f37d48 25c0 ff", inst{Len: 7, Map: x86.Map0F3A, Opcode: 0x25, Prefix: x86.EVEX | x86.OpSize, ModOff: 5, ModRM: 0xc0, ImmOff: 6, ImmLen: 1}},
		{"8fc0", inst{Len: 2, Opcode: 0x8f, ModOff: 1, ModRM: 0xc0}},
		{"8fe878c0c1 01", inst{Len: 6, Map: x86.MapXOP8, Opcode: 0xc0, Prefix: x86.XOP, ModOff: 4, ModRM: 0xc1, ImmOff: 5, ImmLen: 1}},
		{"8fe97801c9", inst{Len: 5, Map: x86.MapXOP9, Opcode: 0x01, Prefix: x86.XOP, ModOff: 4, ModRM: 0xc9}},
		{"8fea7812c1 01020304", inst{Len: 9, Map: x86.MapXOPA, Opcode: 0x12, Prefix: x86.XOP, ModOff: 4, ModRM: 0xc1, ImmOff: 5, ImmLen: 4}},
		{"f20f01ca", inst{Len: 4, Map: x86.Map0F, Opcode: 0x01, Prefix: x86.Repne, ModOff: 3, ModRM: 0xca, Flow: x86.FlowRet}},
		{"f30f01ca", inst{Len: 4, Map: x86.Map0F, Opcode: 0x01, Prefix: x86.Rep, ModOff: 3, ModRM: 0xca, Flow: x86.FlowRet}},
		{"f30f01ec", inst{Len: 4, Map: x86.Map0F, Opcode: 0x01, Prefix: x86.Rep, ModOff: 3, ModRM: 0xec, Flow: x86.FlowRet}},
		{"0f01c1", inst{Len: 3, Map: x86.Map0F, Opcode: 0x01, ModOff: 2, ModRM: 0xc1, Flow: x86.FlowSys}},
		{"0f01ca", inst{Len: 3, Map: x86.Map0F, Opcode: 0x01, ModOff: 2, ModRM: 0xca}},
	} {
		code := unhex(t, c.code)
		in, err := x86.Decode(append(code, 0x90, 0x90))
		require.NoError(t, err, c.code)
		require.Equal(t, c.want, in, c.code)
		checkInvariants(t, code)
		for n := range code {
			_, err := x86.Decode(code[:n])
			require.ErrorIs(t, err, x86.ErrTruncated, "%s cut to %d", c.code, n)
		}
	}
}

func TestDecode_Errors(t *testing.T) {
	for _, op := range []byte{
		0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61,
		0x82, 0x9a, 0xce, 0xd4, 0xd5, 0xd6, 0xea,
	} {
		_, err := x86.Decode([]byte{op})
		require.ErrorIs(t, err, x86.ErrInvalid, "%#x", op)
		_, err = x86.Decode([]byte{0x66, 0x48, op, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
		require.ErrorIs(t, err, x86.ErrInvalid, "%#x", op)
	}
	for _, c := range []struct {
		code string
		why  string
		want error
	}{
		{"", "nothing", x86.ErrTruncated},
		{"66666666666666666666666666666690", "16 bytes", x86.ErrInvalid},
		{"666666666666666666666666666666", "15 prefixes", x86.ErrInvalid},
		{"6666666666666666666666666666", "14 prefixes", x86.ErrTruncated},
		{"66666666666666 48c70500000000 00000000", "18 bytes", x86.ErrInvalid},
		{"66 e8 00000000", "vendors disagree", x86.ErrInvalid},
		{"66 eb 00", "vendors disagree", x86.ErrInvalid},
		{"66 0f84 00000000", "vendors disagree", x86.ErrInvalid},
		{"62f0 7c 48 58 c0", "EVEX map 0", x86.ErrInvalid},
		{"62f4 7c 48 58 c0", "EVEX map 4 is APX", x86.ErrInvalid},
		{"62f9 7c 48 58 c0", "EVEX with B4", x86.ErrInvalid},
		{"62f1 78 48 58 c0", "EVEX with X4", x86.ErrInvalid},
		{"48 c5f877", "REX before VEX", x86.ErrInvalid},
		{"66 c5f877", "66 before VEX", x86.ErrInvalid},
		{"f0 c5f877", "LOCK before VEX", x86.ErrInvalid},
		{"c4e0 78 77 c0", "VEX map 0", x86.ErrInvalid},
		{"c5f8 05", "no such VEX opcode", x86.ErrInvalid},
		{"c4e7 7a 00 c0", "no such opcode in VEX map 7", x86.ErrInvalid},
		{"62f17c48 77 c0", "VZEROUPPER has no EVEX form", x86.ErrInvalid},
		{"8fc8 00", "8F /1 is XOP, cut", x86.ErrTruncated},
		{"8feb 78 00 c0", "XOP map B", x86.ErrInvalid},
		{"8ff0", "XOP map 10", x86.ErrInvalid},
		{"fed0", "FE /2", x86.ErrInvalid},
		{"fff8", "FF /7", x86.ErrInvalid},
		{"ffe8", "far JMP of a register", x86.ErrInvalid},
		{"c6c8", "C6 /1", x86.ErrInvalid},
		{"0f0fc100", "no such 3DNow!", x86.ErrInvalid},
		{"0fb8 00000000", "JMPE", x86.ErrInvalid},
		{"0fa700", "PadLock with memory", x86.ErrInvalid},
		{"660f78c8 0000", "EXTRQ /1", x86.ErrInvalid},
	} {
		in, err := x86.Decode(unhex(t, c.code))
		require.ErrorIs(t, err, c.want, "%s: %s", c.code, c.why)
		require.Zero(t, in)
	}
}

// kernelOnly are the instructions found in kernels that golang.org/x/arch does
// not know or measures wrongly, with the text that Text gives them.
var kernelOnly = []struct{ code, text string }{
	{"f30f1efa", "endbr64"},
	{"f30f1efb", "endbr32"},
	{"c5f877", "vzeroupper"},
	{"c5fc77", "vzeroall"},
	{"0f01ee", "rdpkru"},
	{"0f01ef", "wrpkru"},
	{"0f01ff", "tlbsync"},
	{"0f01fe", "invlpgb"},
	{"0f01c1", "vmcall"},
	{"0f01d9", "vmmcall"},
	{"0f01e8", "serialize"},
	{"0fc7f8", "rdseed %eax"},
	{"480fc7f9", "rdseed %rcx"},
	{"0f01fa", "monitorx %rax,%ecx,%edx"},
	{"0f01fb", "mwaitx %eax,%ecx,%ebx"},
	{"c4e27849c0", "tilerelease"},
	{"0f01ca", "clac"},
	{"0f01cb", "stac"},
	{"0f01c2", "vmlaunch"},
	{"0f01c3", "vmresume"},
	{"0f01c4", "vmxoff"},
	{"0fc730", "vmptrld (%rax)"},
	{"0fc738", "vmptrst (%rax)"},
	{"0f78c2", "vmread %rax,%rdx"},
	{"0f79c2", "vmwrite %rdx,%rax"},
	{"0f01d8", "vmrun"},
	{"0f01da", "vmload"},
	{"0f01db", "vmsave"},
	{"0f01dc", "stgi"},
	{"0f01dd", "clgi"},
	{"0f01de", "skinit"},
	{"0f01df", "invlpga %rax,%ecx"},
	{"0f01fc", "clzero"},
	{"0f01fd", "rdpru"},
	{"0f01cf", "encls"},
	{"0f01d7", "enclu"},
	{"0f01c0", "enclv"},
	{"0f01c5", "pconfig"},
	{"0f01c6", "wrmsrns"},
	{"0f38f908", "movdiri %ecx,(%rax)"},
	{"480f38f608", "wrssq %rcx,(%rax)"},
	{"66480f38f508", "wrussq %rcx,(%rax)"},
	{"0f1c00", "cldemote (%rax)"},
	{"0f0d10", "prefetchwt1 (%rax)"},
	{"c4e2784900", "ldtilecfg (%rax)"},
	{"c4e2794900", "sttilecfg (%rax)"},
	{"c4e27b49c8", "tilezero %tmm1"},
	{"c4e27b4b0c18", "tileloadd (%rax,%rbx,1),%tmm1"},
	{"c4e2795ec8", "tdpbusd %tmm0,%tmm0,%tmm1"},
	{"c4e2735ec2", "tdpbssd %tmm1,%tmm2,%tmm0"},
	{"f30fc7f8", "rdpid %rax"},
	{"660f38f808", "movdir64b (%rax),%rcx"},
	{"f20f38f808", "enqcmd (%rax),%rcx"},
	{"660f388008", "invept (%rax),%rcx"},
	{"660f388108", "invvpid (%rax),%rcx"},
	{"660f388208", "invpcid (%rax),%rcx"},
	{"f30fc730", "vmxon (%rax)"},
	{"660fc730", "vmclear (%rax)"},
	{"f3480f1ec8", "rdsspq %rax"},
	{"f30f1ec8", "rdsspd %eax"},
	{"660f38f6c8", "adcx %eax,%ecx"},
	{"f3480f38f6c8", "adox %rax,%rcx"},
	{"660faef1", "tpause %ecx"},
	{"f20faef1", "umwait %ecx"},
	{"f30faef1", "umonitor %rcx"},
	{"670fb9400c", "ud1 0xc(%eax),%eax"},
	{"480fb93a", "ud1 (%rdx),%rdi"},
	{"660fb9c0", "ud1 %eax,%eax"},
	{"0fffc8", "ud0 %eax,%ecx"},
	{"f30f01ff", "psmash"},
	{"f20f01ff", "pvalidate"},
	{"f20f01fe", "rmpupdate"},
	{"f30f01fe", "rmpadjust"},
	{"660f38cfc1", "gf2p8mulb %xmm1,%xmm0"},
	{"660f3acec108", "gf2p8affineqb $0x8,%xmm1,%xmm0"},
	{"f30f3af0c001", "hreset $0x1"},
	{"f30f01ec", "uiret"},
	{"f30f01ee", "clui"},
	{"f30f01ef", "stui"},
	{"660fae30", "clwb (%rax)"},
	{"f30fae30", "clrssbsy (%rax)"},
	{"660fae38", "clflushopt (%rax)"},
	{"f3480faee8", "incsspq %rax"},
	{"f30f09", "wbnoinvd"},
	{"f30fc7f0", "senduipi %rax"},
	{"f20f00f7", "lkgs %di"},
	{"f20f01ca", "erets"},
	{"f30f01ca", "eretu"},
	{"f30f01e8", "setssbsy"},
	{"f30f01ea", "saveprevssp"},
	{"f30f0128", "rstorssp (%rax)"},
	{"660f01cc", "tdcall"},
	{"660f01cf", "seamcall"},
	{"f30f01d9", "vmgexit"},
	{"0f37", "getsec"},
	{"f3480faee0", "ptwriteq %rax"},
}

func TestKernelOnly(t *testing.T) {
	for _, c := range kernelOnly {
		code := unhex(t, c.code)
		in, err := x86.Decode(append(code, 0x90))
		require.NoError(t, err, c.text)
		require.Equal(t, len(code), int(in.Len), c.text)
		require.Equal(t, c.text, x86.Text(code, in, 0x1000, nil))
	}
}

func TestRel(t *testing.T) {
	for _, c := range []struct {
		code      string
		off, size uint8
		v         int64
		ok        bool
		rip       bool
	}{
		{"e8 ffffffff", 1, 4, -1, true, false},
		{"eb fe", 1, 1, -2, true, false},
		{"0f85 00000080", 2, 4, -1 << 31, true, false},
		{"66 c7f8 feff", 3, 2, -2, true, false},
		{"48 8b05 78563412", 3, 4, 0x12345678, true, true},
		{"c705 f0ffffff 01000000", 2, 4, -16, true, true},
		{"67 8b05 01000000", 3, 4, 1, true, true},
		{"c4e2fbf505 01000000", 5, 4, 1, true, true},
		{"8b0425 01000000", 0, 0, 0, false, false},
		{"8b80 01000000", 0, 0, 0, false, false},
		{"0f20 05", 0, 0, 0, false, false},
		{"b8 01000000", 0, 0, 0, false, false},
	} {
		code := unhex(t, c.code)
		in, err := x86.Decode(code)
		require.NoError(t, err)
		off, size, v, ok := in.Rel(code)
		require.Equal(t, c.ok, ok, c.code)
		require.Equal(t, []any{c.off, c.size, c.v}, []any{off, size, v}, c.code)
		require.Equal(t, c.rip, in.RIPRelative(), c.code)
		require.Equal(t, c.ok && !c.rip, in.IsBranch(), c.code)
		if ok {
			_, _, _, ok = in.Rel(code[:int(off+size)-1])
			require.False(t, ok, "short code")
		}
	}
}

func TestFlow(t *testing.T) {
	for _, c := range []struct {
		code        string
		falls, ends bool
	}{
		{"90", true, false},
		{"f4", true, false},
		{"0f05", true, false},
		{"7400", true, false},
		{"e800000000", true, false},
		{"ffd0", true, false},
		{"c3", false, true},
		{"eb00", false, true},
		{"ffe0", false, true},
		{"0f0b", false, false},
		{"0fb900", false, false},
		{"cc", false, false},
	} {
		in, err := x86.Decode(unhex(t, c.code))
		require.NoError(t, err)
		require.Equal(t, c.falls, in.FallsThrough(), c.code)
		require.Equal(t, c.ends, in.EndsFlow(), c.code)
		require.NotEqual(t, "unknown", in.Flow.String())
	}
}

// checkInvariants holds for any bytes.
func checkInvariants(t testing.TB, code []byte) {
	in, err := x86.Decode(code)
	if err != nil {
		require.Zero(t, in)
		require.True(t, err == x86.ErrTruncated || err == x86.ErrInvalid)
		if err == x86.ErrTruncated {
			require.Less(t, len(code), 15)
		}
		return
	}
	n := int(in.Len)
	require.Positive(t, n)
	require.LessOrEqual(t, n, min(15, len(code)))
	require.LessOrEqual(t, in.DispOff+in.DispLen, in.Len)
	require.LessOrEqual(t, in.ImmOff+in.ImmLen, in.Len)
	require.Less(t, in.ModOff, in.Len)
	if in.DispLen != 0 && in.ImmLen != 0 {
		require.Equal(t, in.DispOff+in.DispLen, in.ImmOff)
	}
	if in.IsBranch() {
		require.NotZero(t, in.ImmLen)
	}
	// Nothing behind Len matters, and every shorter prefix is truncated.
	exact, err := x86.Decode(code[:n:n])
	require.NoError(t, err)
	require.Equal(t, in, exact)
	for k := range n {
		_, err := x86.Decode(code[:k:k])
		require.ErrorIs(t, err, x86.ErrTruncated)
	}
	// The methods take any instruction.
	in.Rel(code)
	if r, _, ok := in.LoadsImm(code); ok {
		mask, known := in.Writes(code)
		require.True(t, known && mask.Has(r))
	}
	if r, ok := in.Zeroes(); ok {
		mask, known := in.Writes(code)
		require.True(t, known && mask.Has(r))
	}
	require.NotEmpty(t, x86.Text(code, in, 0x1000, func(uint64) (string, uint64) { return "f", 0x1000 }))
}

func checkWalk(t testing.TB, code []byte) {
	sum := 0
	w := x86.Walker{Code: code}
	for w.Next() {
		require.Equal(t, sum, w.Off)
		require.Len(t, w.Bytes(), int(w.Inst.Len))
		sum += int(w.Inst.Len)
	}
	require.Equal(t, sum, w.Off)
	require.Equal(t, w.Err == nil, sum == len(code))
	require.False(t, w.Next())
	require.Equal(t, sum, w.Off)
	for off, in := range x86.Walk(code) {
		sum -= int(in.Len)
		_ = off
	}
	require.Zero(t, sum)
	n := x86.Padding(code)
	require.True(t, n >= 0 && n <= len(code))
	require.True(t, x86.IsPadding(code[:n]))
}

func FuzzDecode(f *testing.F) {
	for i, c := range readGolden(f) {
		if i%8 == 0 {
			f.Add(c.code)
		}
	}
	for _, c := range kernelOnly {
		f.Add(unhex(f, c.code))
	}
	f.Fuzz(func(t *testing.T, code []byte) {
		checkInvariants(t, code)
		checkWalk(t, code)
	})
}

// TestGoldenInvariants applies the properties to every listed instruction.
func TestGoldenInvariants(t *testing.T) {
	var all []byte
	for _, c := range readGolden(t) {
		checkInvariants(t, c.code)
		all = append(all, c.code...)
	}
	checkWalk(t, all)
}
