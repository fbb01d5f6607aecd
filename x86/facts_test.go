package x86_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kdelta/kdelta/x86"
)

func TestWalker(t *testing.T) {
	w := x86.Walker{Code: unhex(t, "55 4889e5 06 c3")}
	var offs []int
	for w.Next() {
		offs = append(offs, w.Off)
	}
	require.Equal(t, []int{0, 1}, offs)
	require.ErrorIs(t, w.Err, x86.ErrInvalid)
	require.Equal(t, 4, w.Off)
	require.Empty(t, w.Bytes())

	w = x86.Walker{Code: unhex(t, "90 e80000")}
	require.True(t, w.Next())
	require.False(t, w.Next())
	require.ErrorIs(t, w.Err, x86.ErrTruncated)
	require.Equal(t, 1, w.Off)

	w = x86.Walker{}
	require.False(t, w.Next())
	require.NoError(t, w.Err)

	n := 0
	for range x86.Walk(unhex(t, "90 90 90")) {
		n++
		break
	}
	require.Equal(t, 1, n)
}

func TestPadding(t *testing.T) {
	for _, c := range []struct {
		code string
		want int
	}{
		{"", 0},
		{"90", 1},
		{"6690", 2},
		{"666690", 3},
		{"2e6690", 3},
		{"0f1f00", 3},
		{"0f1f4000", 4},
		{"0f1f440000", 5},
		{"660f1f440000", 6},
		{"0f1f8000000000", 7},
		{"0f1f840000000000", 8},
		{"66660f1f840000000000 c3", 10},
		{"66662e0f1f840000000000 66662e0f1f840000000000", 22},
		{"cccccc 0000 90 c3", 6},
		{"0f1f40d6", 0},  // a value kept in a NOP
		{"0f1f05", 0},    // cut
		{"90 0f1f40", 1}, // cut
		{"66", 0},        // cut
		{"0f1fc8", 0},    // /1
		{"f390", 0},      // PAUSE
		{"4190", 0},      // XCHG
		{"6641 90", 0},   // XCHG
		{"670f1f00", 0},  // not what assemblers write
		{"f30f1efa", 0},  // ENDBR64 starts a function
		{"0f0b", 0},      // UD2 is code
		{"90 c3 90", 1},  // code in between
		{"662e c3", 0},   // prefixes of something else
		{"cc 0f1f00 55", 4},
	} {
		code := unhex(t, c.code)
		require.Equal(t, c.want, x86.Padding(code), c.code)
		require.Equal(t, c.want == len(code), x86.IsPadding(code), c.code)
	}
}

func TestLoadsImm(t *testing.T) {
	for _, c := range []struct {
		code string
		r    x86.Reg
		v    uint64
		ok   bool
	}{
		{"be 2a000000", x86.SI, 42, true},
		{"b8 ffffffff", x86.AX, 0xffffffff, true},
		{"41 b8 01000000", x86.R8, 1, true},
		{"48 b8 0102030405060708", x86.AX, 0x0807060504030201, true},
		{"49 bf ffffffffffffffff", x86.R15, 1<<64 - 1, true},
		{"c7c6 2a000000", x86.SI, 42, true},
		{"c7c6 ffffffff", x86.SI, 0xffffffff, true},
		{"48 c7c2 ffffffff", x86.DX, 1<<64 - 1, true},
		{"49 c7c1 2a000000", x86.R9, 42, true},
		{"66 be 2a00", 0, 0, false},
		{"66 c7c6 2a00", 0, 0, false},
		{"b0 01", 0, 0, false},
		{"c706 2a000000", 0, 0, false},
		{"c7f8 00000000", 0, 0, false},
		{"c6c0 01", 0, 0, false},
		{"31 c0", 0, 0, false},
		{"0fc8", 0, 0, false},
		{"f3 b8 00000000", 0, 0, false},
	} {
		code := unhex(t, c.code)
		in, err := x86.Decode(code)
		require.NoError(t, err)
		r, v, ok := in.LoadsImm(code)
		require.Equal(t, []any{c.r, c.v, c.ok}, []any{r, v, ok}, c.code)
		_, _, ok = in.LoadsImm(code[:in.Len-1])
		require.False(t, ok)
	}
}

func TestZeroes(t *testing.T) {
	for _, c := range []struct {
		code string
		r    x86.Reg
		ok   bool
	}{
		{"31f6", x86.SI, true},
		{"33f6", x86.SI, true},
		{"29c0", x86.AX, true},
		{"48 31d2", x86.DX, true},
		{"45 31c0", x86.R8, true},
		{"44 31c0", 0, false}, // r8d, eax
		{"41 31c0", 0, false},
		{"31f7", 0, false},
		{"66 31f6", 0, false},
		{"30c0", 0, false},
		{"3136", 0, false},
		{"19c0", 0, false}, // SBB
		{"39c0", 0, false}, // CMP
		{"0f31", 0, false},
	} {
		in, err := x86.Decode(unhex(t, c.code))
		require.NoError(t, err)
		r, ok := in.Zeroes()
		require.Equal(t, []any{c.r, c.ok}, []any{r, ok}, c.code)
	}
}

func TestWrites(t *testing.T) {
	for _, c := range []struct{ code, want string }{ // "?" is not known
		{"89d8", "rax"},               // mov %ebx,%eax
		{"8918", ""},                  // mov %ebx,(%rax)
		{"8b18", "rbx"},               // mov (%rax),%ebx
		{"448b18", "r11"},             //
		{"88e0", "rax"},               // mov %ah,%al
		{"88c4", "rax"},               // mov %al,%ah
		{"4088c4", "rsp"},             // mov %al,%spl
		{"b401", "rax"},               // mov $1,%ah
		{"41b401", "r12"},             // mov $1,%r12b
		{"8a30", "rdx"},               // mov (%rax),%dh
		{"488d7c2408", "rdi"},         // lea
		{"31c0", "rax"},               // xor
		{"39c0", ""},                  // cmp
		{"3c01", ""},                  // cmp
		{"0401", "rax"},               // add
		{"83f801", ""},                // cmp
		{"83c001", "rax"},             // add
		{"4983c701", "r15"},           //
		{"808001000000ff", ""},        // addb
		{"85c0", ""},                  // test
		{"87d9", "rcx rbx"},           // xchg
		{"4190", "rax r8"},            // xchg
		{"f390", ""},                  // pause
		{"4191", "rax r9"},            // xchg
		{"55", "rsp"},                 // push
		{"5d", "rsp rbp"},             // pop
		{"415f", "rsp r15"},           //
		{"8f00", "rsp"},               // pop (%rax)
		{"c3", "rsp"},                 //
		{"f3c3", "rsp"},               //
		{"c9", "rsp rbp"},             //
		{"7400", ""},                  //
		{"eb00", ""},                  //
		{"f2eb00", ""},                // bnd jmp
		{"ffe0", ""},                  //
		{"0fb6c1", "rax"},             // movzbl
		{"480fbe3e", "rdi"},           // movsbq
		{"4863c1", "rax"},             // movslq
		{"0f44c1", "rax"},             // cmov
		{"0f94c4", "rax"},             // sete %ah
		{"400f94c4", "rsp"},           // sete %spl
		{"c1e003", "rax"},             // shl
		{"d3e0", "rax"},               //
		{"ffc0", "rax"},               // inc
		{"fec8", "rax"},               // dec
		{"ff30", "rsp"},               // push
		{"f7e1", "rax rdx"},           // mul
		{"f6e1", "rax"},               //
		{"f7d9", "rcx"},               // neg
		{"f7c101000000", ""},          // test
		{"99", "rdx"},                 //
		{"4898", "rax"},               //
		{"f348ab", "rcx rdi"},         // rep stos
		{"a4", "rsi rdi"},             // movs
		{"f3a6", "rcx rsi rdi"},       // repz cmps
		{"0fc8", "rax"},               // bswap
		{"0fafc1", "rax"},             // imul
		{"6bc103", "rax"},             //
		{"f00fb10a", "rax"},           // lock cmpxchg
		{"f00fc10a", "rcx"},           // lock xadd
		{"f0480fc70f", "rax rdx"},     // cmpxchg8b
		{"0fa2", "rax rcx rdx rbx"},   // cpuid
		{"0f31", "rax rdx"},           // rdtsc
		{"0fbae003", ""},              // bt
		{"0fbae803", "rax"},           // bts
		{"f3480fb8c1", "rax"},         // popcnt
		{"0fbcc1", "rax"},             // bsf
		{"f30f1efa", ""},              // endbr64
		{"f3480f1ec8", "?"},           // rdsspq
		{"0f1f00", ""},                // nop
		{"0f01ca", ""},                // clac
		{"0f20c0", "rax"},             // mov %cr0,%rax
		{"0f22c0", ""},                //
		{"0faee8", ""},                // lfence
		{"f30faec0", "?"},             // rdfsbase
		{"e800000000", "?"},           //
		{"ffd0", "?"},                 //
		{"0f05", "?"},                 //
		{"0f0b", "?"},                 //
		{"cc", "?"},                   //
		{"dfe0", "?"},                 // fnstsw %ax
		{"0f30", "?"},                 // wrmsr
		{"0f32", "?"},                 // rdmsr
		{"c7f800000000", "?"},         // xbegin
		{"660f7ec0", "?"},             // movd
		{"c4e2fbf5c1", "?"},           // pdep
		{"f20f2cc0", "?"},             // cvttsd2si
		{"0fc7f0", "?"},               // rdrand
		{"f20f38f0c1", "rax"},         // crc32
		{"480f38f000", "rax"},         // movbe
		{"f3480f38f6c8", "?"},         // adox
		{"f3 89c0", "?"},              //
		{"62f17c485840 01", "?"},      //
		{"8fe97801c9", "?"},           // xop
		{"e200", "rcx"},               // loop
		{"d7", "rax"},                 // xlat
		{"a10000000000000000", "rax"}, //
		{"a30000000000000000", ""},    //
		{"ec", "rax"},                 // in
		{"ee", ""},                    // out
		{"9c", "rsp"},                 //
		{"fa", ""},                    //
		{"f4", "?"},                   //
		{"0fa0", "rsp"},               //
	} {
		code := unhex(t, c.code)
		in, err := x86.Decode(code)
		require.NoError(t, err, c.code)
		mask, known := in.Writes(code)
		got := "?"
		if known {
			var names []string
			for r := x86.AX; r <= x86.R15; r++ {
				if mask.Has(r) {
					names = append(names, r.String())
				}
			}
			got = strings.Join(names, " ")
		} else {
			require.Zero(t, mask, c.code)
		}
		require.Equal(t, c.want, got, c.code)
	}
}

func TestText(t *testing.T) {
	sym := func(addr uint64) (string, uint64) {
		if addr >= 0x1000 && addr < 0x2000 {
			return "fn", 0x1000
		}
		return "", 0
	}
	for _, c := range []struct{ code, text string }{
		{"4889e5", "mov %rsp,%rbp"},
		{"e8fb000000", "call 0x1200 <fn+0x200>"},
		{"e8fbfeffff", "call 0x1000 <fn>"},
		{"e8fb000100", "call 0x11200"},
		{"2ee8fa000000", "cs call 0x1200 <fn+0x200>"},
		{"666648e8f8000000", "data16 rex.W call 0x1200 <fn+0x200>"},
		{"eb0e", "jmp 0x1110 <fn+0x110>"},
		{"740e", "je 0x1110 <fn+0x110>"},
		{"0f8f0a000000", "jg 0x1110 <fn+0x110>"},
		{"e20e", "loop 0x1110 <fn+0x110>"},
		{"67e30d", "jecxz 0x1110 <fn+0x110>"},
		{"c7f80a000000", "xbegin 0x1110 <fn+0x110>"},
		{"488b0509000000", "mov 0x9(%rip),%rax # 0x1110 <fn+0x110>"},
		{"488b0500000000", "mov 0x0(%rip),%rax # 0x1107 <fn+0x107>"},
		{"c6050000000001", "movb $0x1,0x0(%rip) # 0x1107 <fn+0x107>"},
		{"65488b042500000000", "mov %gs:0x0,%rax"},
		{"b810100000", "mov $0x1010,%eax"}, // a constant, not an address
		{"ffd0", "call *%rax"},
		{"0f1f440000", "nopl (%rax,%rax)"},
		{"660fae3d09000000", "clflushopt 0x9(%rip) # 0x1111 <fn+0x111>"},
		{"c4e7 7af6 c0 01000000", ".byte 0xc4, 0xe7, 0x7a, 0xf6, 0xc0, 0x01, 0x00, 0x00, 0x00"},
	} {
		code := unhex(t, c.code)
		in, err := x86.Decode(code)
		require.NoError(t, err)
		got := x86.Text(code, in, 0x1100, sym)
		require.Equal(t, c.text, got, c.code)
	}
	require.Equal(t, ".byte 0x06, 0x00", x86.Text([]byte{6, 0}, x86.Inst{}, 0, nil))
	require.Empty(t, x86.Text(nil, x86.Inst{}, 0, nil))
}

func TestNoAllocs(t *testing.T) {
	code := unhex(t, "f30f1efa 55 4889e5 be2a000000 e800000000 c5f877 31c0 5d c3")
	require.Zero(t, testing.AllocsPerRun(100, func() {
		w := x86.Walker{Code: code}
		for w.Next() {
			w.Inst.Rel(w.Bytes())
			w.Inst.LoadsImm(w.Bytes())
			w.Inst.Writes(w.Bytes())
		}
		for range x86.Walk(code) {
		}
		x86.Padding(code)
		_, _ = x86.Decode(code)
	}))
}
