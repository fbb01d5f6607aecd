package elfdiff_test

import (
	"context"
	"debug/elf"
	"math/rand/v2"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/elfdiff/internal/testutil"
	"github.com/kdelta/kdelta/x86"
)

const rtnl = "RTNL: assertion failed at %s (%d)\n"

// lineCase is one function f that loads a number which differs between the builds.
type lineCase struct {
	name   string
	body   func(a *asm, line uint32)
	after  func(a *asm, line uint32) // sections behind the function's
	format string                    // in the bug entry; none without
	entry  int                       // line field of the bug entry minus the line
	want   elfdiff.Status
	gap    string // known to fail, with the reason
}

// Offsets in the string section.
const (
	aFile = 0
	aText = 7  // no source file
	aName = 13 // "f"
	aRtnl = 15
)

func lineObject(t *testing.T, c *lineCase, line uint32) *elfdiff.Graph {
	a := newAsm(t)
	a.section(".rodata.str1.1", strs)
	a.str("fs/a.c")
	a.str("a.txt")
	a.str("f")
	a.str(rtnl)
	other := a.str(c.format)
	a.section(".text.f", text)
	a.call("__fentry__")
	c.body(a, line)
	a.raw(0xc3)
	a.whole("f", elf.STB_GLOBAL)
	if c.format != "" {
		a.section("__bug_table", data)
		a.field(elf.R_X86_64_PC32, ".text.f", 5)
		a.field(elf.R_X86_64_PC32, ".rodata.str1.1", other)
		a.field(elf.R_X86_64_PC32, ".rodata.str1.1", aFile)
		a.u16(uint16(int(line) + c.entry)).u16(1)
	}
	if c.after != nil {
		c.after(a, line)
	}
	return a.graph()
}

const strSec = ".rodata.str1.1"

func TestLineProof(t *testing.T) {
	file := func(a *asm) *asm { return a.lea(toRDI, strSec, aFile) }
	cases := []lineCase{
		{name: "file, then line", want: elfdiff.LineOnly, body: func(a *asm, n uint32) { file(a).movESI(n).call("__might_sleep") }},
		{name: "line, then file", want: elfdiff.LineOnly, body: func(a *asm, n uint32) { file(a.movESI(n)).call("__might_sleep") }},
		{name: "moves between that keep off", want: elfdiff.LineOnly, body: func(a *asm, n uint32) {
			file(a).movESI(n).raw(0x31, 0xd2, 0x89, 0xc3, 0x48, 0x83, 0xec, 0x08).call("__might_sleep")
		}},
		{name: "a second call behind", want: elfdiff.LineOnly, body: func(a *asm, n uint32) { file(a).movESI(n).call("__might_sleep").call("use") }},
		{name: "64-bit immediate", want: elfdiff.LineOnly, body: func(a *asm, n uint32) {
			file(a).raw(0x48, 0xc7, 0xc6).u32(n).call("__might_sleep")
		}},
		{name: "own name", want: elfdiff.LineOnly, body: func(a *asm, n uint32) {
			a.lea(toRSI, strSec, aName).movEDX(n).call("__btrfs_abort_transaction")
		}},
		{name: "format in rdi", want: elfdiff.LineOnly, body: func(a *asm, n uint32) {
			a.lea(toRDI, strSec, aRtnl).movEDX(n).call("__warn_printk")
		}},
		{name: "entry with format and line", want: elfdiff.LineOnly, format: rtnl, body: func(a *asm, n uint32) {
			a.lea(toRDI, "__bug_table", 0).movEDX(n).call("__SCT__WARN_trap")
		}},

		{name: "another callee", want: elfdiff.Changed, body: func(a *asm, n uint32) { file(a).movESI(n).call("printk_once") }},
		{name: "inside the callee", want: elfdiff.Changed, body: func(a *asm, n uint32) {
			file(a).movESI(n).raw(0xe8).field(elf.R_X86_64_PLT32, "__might_sleep", 0)
		}},
		{name: "another register", want: elfdiff.Changed, body: func(a *asm, n uint32) { file(a).movEDX(n).call("__might_sleep") }},
		{name: "no string", want: elfdiff.Changed, body: func(a *asm, n uint32) { a.raw(0x31, 0xff).movESI(n).call("__might_sleep") }},
		{name: "no source file", want: elfdiff.Changed, body: func(a *asm, n uint32) { a.lea(toRDI, strSec, aText).movESI(n).call("__might_sleep") }},
		{name: "another format in rdi", want: elfdiff.Changed, body: func(a *asm, n uint32) { a.lea(toRDI, strSec, aRtnl+1).movEDX(n).call("__warn_printk") }},
		{name: "another function's name", want: elfdiff.Changed, body: func(a *asm, n uint32) {
			a.lea(toRSI, strSec, aText).movEDX(n).call("__btrfs_abort_transaction")
		}},
		{name: "another format in the entry", want: elfdiff.Changed, format: "limit %s (%d)\n", body: func(a *asm, n uint32) {
			a.lea(toRDI, "__bug_table", 0).movEDX(n).call("__SCT__WARN_trap")
		}},
		{name: "not the entry's line", want: elfdiff.Changed, format: rtnl, entry: 1, body: func(a *asm, n uint32) {
			a.lea(toRDI, "__bug_table", 0).movEDX(n).call("__SCT__WARN_trap")
		}},
		{name: "inside the entry", want: elfdiff.Changed, format: rtnl, body: func(a *asm, n uint32) {
			a.lea(toRDI, "__bug_table", 4).movEDX(n).call("__SCT__WARN_trap")
		}},
		{name: "the register is read", want: elfdiff.Changed, body: func(a *asm, n uint32) { file(a).movESI(n).raw(0x89, 0xf0).call("__might_sleep") }},
		{name: "its low byte is read", want: elfdiff.Changed, body: func(a *asm, n uint32) {
			file(a).movESI(n).raw(0x40, 0x88, 0x73, 0x01).call("__might_sleep")
		}},
		{name: "the register is an address", want: elfdiff.Changed, body: func(a *asm, n uint32) { file(a).movESI(n).raw(0x8b, 0x06).call("__might_sleep") }},
		{name: "the register is written", want: elfdiff.Changed, body: func(a *asm, n uint32) { file(a).movESI(n).movESI(7).call("__might_sleep") }},
		{name: "the register is added to", want: elfdiff.Changed, body: func(a *asm, n uint32) { file(a).movESI(n).raw(0x83, 0xc6, 0x01).call("__might_sleep") }},
		{name: "the register is pushed", want: elfdiff.Changed, body: func(a *asm, n uint32) { file(a).movESI(n).raw(0x56).call("__might_sleep") }},
		{name: "a high byte of the register is written", want: elfdiff.Changed, body: func(a *asm, n uint32) {
			a.lea(toRDI, strSec, aRtnl).movEDX(n).raw(0xc6, 0xc6, 0x01).call("__warn_printk")
		}},
		{name: "stored", want: elfdiff.Changed, body: func(a *asm, n uint32) { file(a).raw(0xc7, 0x03).u32(n).call("__might_sleep") }},
		{name: "a branch away", want: elfdiff.Changed, body: func(a *asm, n uint32) { file(a).movESI(n).raw(0x74, 0x05).call("__might_sleep") }},
		{name: "a branch into the window", want: elfdiff.Changed, body: func(a *asm, n uint32) {
			// je over the mov, to the xor
			file(a).raw(0x74, 0x05).movESI(n).raw(0x31, 0xd2).call("__might_sleep")
		}},
		{name: "a branch back to the string", want: elfdiff.LineOnly, body: func(a *asm, n uint32) {
			file(a).movESI(n).call("__might_sleep").raw(0x75, 0xe8&0xff) // to the lea: the whole straight piece runs
		}},
		{name: "a branch between string and line", want: elfdiff.Changed, body: func(a *asm, n uint32) {
			// jmp to the mov, with whatever rdi holds then
			a.raw(0x75, 0x07)
			file(a).movESI(n).call("__might_sleep")
		}},
		{name: "the string's register is cleared", want: elfdiff.Changed, body: func(a *asm, n uint32) { file(a).raw(0x31, 0xff).movESI(n).call("__might_sleep") }},
		{name: "the string is loaded before another call", want: elfdiff.Changed, body: func(a *asm, n uint32) { file(a).call("use").movESI(n).call("__might_sleep") }},
		{name: "an indirect call", want: elfdiff.Changed, body: func(a *asm, n uint32) { file(a).movESI(n).raw(0xff, 0xd0) }},
		{name: "no call", want: elfdiff.Changed, body: func(a *asm, n uint32) { file(a).movESI(n) }},
		{name: "a second number beside", want: elfdiff.Changed, body: func(a *asm, n uint32) { file(a).movESI(n).call("__might_sleep").raw(0xb8).u32(n) }},
		{name: "far from the call", want: elfdiff.Changed, body: func(a *asm, n uint32) {
			file(a).movESI(n)
			for range 128 {
				a.raw(0x90)
			}
			a.call("__might_sleep")
		}},
		{name: "an exception fixup leads between string and line", want: elfdiff.Changed,
			body: func(a *asm, n uint32) { file(a).movESI(n).call("__might_sleep") },
			after: func(a *asm, _ uint32) {
				a.section("__ex_table", rodata)
				a.field(elf.R_X86_64_PC32, ".text.f", 5).field(elf.R_X86_64_PC32, ".text.f", 12+4).u32(3)
			}},
		{name: "a jump table leads between string and line", want: elfdiff.Changed,
			body: func(a *asm, n uint32) {
				a.raw(0xff, 0x24, 0xc5).field(elf.R_X86_64_32S, ".rodata", 0) // jmp *table(,%rax,8)
				a.lea(toRDI, strSec, aRtnl).movEDX(n).call("__warn_printk")
			},
			after: func(a *asm, _ uint32) {
				a.section(".rodata", rodata)
				a.field(elf.R_X86_64_64, ".text.f", 12).field(elf.R_X86_64_64, ".text.f", 19)
			}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			x, y := lineObject(t, &c, 100), lineObject(t, &c, 105)
			d := testutil.Diff(t, x, y)
			got := elfdiff.Status(0)
			for i := range d.Functions {
				if d.Functions[i].Name == "f" {
					got = d.Functions[i].Status
				}
			}
			if c.gap != "" {
				if got == c.want {
					t.Errorf("passes now: it is no gap (%s)", c.gap)
				}
				return
			}
			if got != c.want {
				t.Errorf("f is %v, want %v\n%s", got, c.want, dump(d))
			}
			for _, f := range accounts(x, y, d) {
				t.Error(f)
			}
			strict, err := elfdiff.Diff(context.Background(), x, y, &elfdiff.Options{NoLines: true})
			if err != nil {
				t.Fatal(err)
			}
			if s := strict.Functions[0].Status; s != elfdiff.Changed {
				t.Errorf("without the relaxation f is %v", s)
			}
		})
	}
}

func TestKeepsOff(t *testing.T) {
	for _, c := range []struct {
		code []byte
		reg  x86.Reg
		want bool
	}{
		{[]byte{0xba, 1, 0, 0, 0}, x86.SI, true},              // mov $1,%edx
		{[]byte{0xbe, 1, 0, 0, 0}, x86.SI, false},             // mov $1,%esi
		{[]byte{0x41, 0xbe, 1, 0, 0, 0}, x86.SI, true},        // mov $1,%r14d
		{[]byte{0x89, 0xf0}, x86.SI, false},                   // mov %esi,%eax
		{[]byte{0x89, 0xc6}, x86.SI, false},                   // mov %eax,%esi
		{[]byte{0x44, 0x89, 0xf0}, x86.SI, true},              // mov %r14d,%eax
		{[]byte{0x8b, 0x06}, x86.SI, false},                   // mov (%rsi),%eax
		{[]byte{0x8b, 0x04, 0x30}, x86.SI, false},             // mov (%rax,%rsi),%eax
		{[]byte{0x8b, 0x04, 0x06}, x86.SI, false},             // mov (%rsi,%rax),%eax
		{[]byte{0x8b, 0x04, 0x25, 0, 0, 0, 0}, x86.BP, true},  // mov 0x0,%eax: no base
		{[]byte{0x8b, 0x05, 0, 0, 0, 0}, x86.BP, true},        // mov 0(%rip),%eax
		{[]byte{0x48, 0x8d, 0x3d, 0, 0, 0, 0}, x86.SI, true},  // lea 0(%rip),%rdi
		{[]byte{0x48, 0x8d, 0x35, 0, 0, 0, 0}, x86.SI, false}, // lea 0(%rip),%rsi
		{[]byte{0x31, 0xd2}, x86.DX, false},                   // xor %edx,%edx
		{[]byte{0x31, 0xc0}, x86.DX, true},                    // xor %eax,%eax
		{[]byte{0x83, 0xc6, 0x01}, x86.SI, false},             // add $1,%esi
		{[]byte{0x83, 0xc0, 0x01}, x86.SI, true},              // add $1,%eax
		{[]byte{0x56}, x86.SI, false},                         // push %rsi
		{[]byte{0x41, 0x56}, x86.SI, true},                    // push %r14
		{[]byte{0x5e}, x86.SI, false},                         // pop %rsi
		{[]byte{0xa4}, x86.SI, false},                         // movsb
		{[]byte{0xf7, 0xe6}, x86.SI, false},                   // mul %esi
		{[]byte{0x0f, 0xa2}, x86.DX, false},                   // cpuid
		{[]byte{0x0f, 0x05}, x86.CX, false},                   // syscall
		{[]byte{0xf3, 0xaa}, x86.CX, false},                   // rep stosb
		{[]byte{0xd3, 0xe0}, x86.CX, false},                   // shl %cl,%eax
		{[]byte{0x0f, 0x45, 0xd0}, x86.DX, false},             // cmovne %eax,%edx
		{[]byte{0x80, 0xc6, 0x01}, x86.DX, false},             // add $1,%dh
		{[]byte{0x40, 0x80, 0xc6, 0x01}, x86.SI, false},       // add $1,%sil
		{[]byte{0xc6, 0xc6, 0x01}, x86.DX, false},             // mov $1,%dh
		{[]byte{0x81, 0xc6, 0, 1, 0, 0}, x86.SI, false},       // add $256,%esi
		{[]byte{0x81, 0xc0, 0, 1, 0, 0}, x86.SI, true},        // add $256,%eax
		{[]byte{0x81, 0x06, 0, 1, 0, 0}, x86.SI, false},       // addl $256,(%rsi)
		{[]byte{0x33, 0xd0}, x86.DX, false},                   // xor %eax,%edx
		{[]byte{0x33, 0xc2}, x86.DX, false},                   // xor %edx,%eax
		{[]byte{0xc7, 0x02, 1, 0, 0, 0}, x86.DX, false},       // movl $1,(%rdx)
		{[]byte{0xc7, 0x00, 1, 0, 0, 0}, x86.DX, true},        // movl $1,(%rax)
	} {
		in, err := x86.Decode(c.code)
		if err != nil {
			t.Fatalf("% x: %v", c.code, err)
		}
		got := elfdiff.KeepsOff(in, c.code, c.reg)
		if got != c.want {
			t.Errorf("%s (% x) keeps off %v: %v, want %v", x86.Text(c.code, in, 0, nil), c.code, c.reg, got, c.want)
		}
	}
}

// What keeps off a register does not write it, by what the package x86 knows of instructions.
func TestKeepsOffWrites(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 0))
	claims := 0
	for range 200_000 {
		b := make([]byte, 16)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		if n := r.IntN(3); n > 0 {
			b[n-1] = []byte{0x88, 0x89, 0x8a, 0x8b, 0x8d, 0xc6, 0xc7, 0x31, 0x33, 0x80, 0x81, 0x83, 0xb8, 0x90, 0x50}[r.IntN(15)]
			if n == 2 {
				b[0] = []byte{0x40, 0x41, 0x44, 0x48, 0x66, 0xf3, 0x0f}[r.IntN(7)]
			}
		}
		in, err := x86.Decode(b)
		if err != nil {
			continue
		}
		mask, known := in.Writes(b)
		for reg := x86.AX; reg <= x86.R15; reg++ {
			if known && elfdiff.KeepsOff(in, b, reg) {
				if claims++; mask.Has(reg) {
					t.Fatalf("% x keeps off %v, and writes %v", b[:in.Len], reg, mask)
				}
			}
		}
	}
	if claims < 10_000 {
		t.Errorf("%d claims", claims)
	}
}

func TestFlowEnd(t *testing.T) {
	for _, c := range []struct {
		code []byte
		want uint64
	}{
		{[]byte{}, 0},
		{[]byte{0xc3}, 1},
		{[]byte{0x90, 0xc3, 0x90}, 2},
		{[]byte{0x74, 0x01, 0xc3, 0xc3}, 3},                   // a conditional branch goes on
		{[]byte{0xe8, 0, 0, 0, 0, 0xc3, 0x90}, 6},             // so does a call
		{[]byte{0xe9, 0, 0, 0, 0, 0xc3}, 5},                   // jmp
		{[]byte{0xeb, 0x00, 0xc3}, 2},                         // jmp
		{[]byte{0xff, 0xe0, 0xc3}, 2},                         // jmp *%rax
		{[]byte{0x0f, 0x0b, 0xc3}, 3},                         // ud2: WARN goes on behind it
		{[]byte{0x90, 0x90}, 2},                               // no end
		{[]byte{0xe9, 0, 0}, 3},                               // does not decode
		{[]byte{0x90, 0x06, 0xc3}, 3},                         // does not decode before it ends
		{[]byte{0x48, 0xcf, 0x90}, 2},                         // iretq
		{[]byte{0xf3, 0xc3, 0x90}, 2},                         // rep ret
		{[]byte{0x2e, 0x2e, 0x2e, 0xe9, 0, 0, 0, 0, 0x90}, 8}, // a padded jmp
	} {
		if got := elfdiff.FlowEnd(c.code); got != c.want {
			t.Errorf("% x: %d, want %d", c.code, got, c.want)
		}
	}
}
