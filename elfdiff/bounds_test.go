package elfdiff_test

import (
	"debug/elf"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/elfdiff/internal/testutil"
)

// TestBounds: which entries of a nameless table code reads. Behind cmp $3 and ja it reads four; whatever else
// the code does there, all that lies there must be equal.
func TestBounds(t *testing.T) {
	const narrow, all = true, false
	for _, c := range []struct {
		name string
		code []byte // before the load by %rax
		want bool
	}{
		{"cmp, ja", []byte{0x83, 0xff, 3, 0x77, 0x0a, 0x89, 0xf8}, narrow},
		{"cmp, ja with a long field", []byte{0x83, 0xff, 3, 0x0f, 0x87, 0x0a, 0, 0, 0, 0x89, 0xf8}, narrow},
		{"cmp $imm32", []byte{0x81, 0xff, 3, 0, 0, 0, 0x77, 0x0a, 0x89, 0xf8}, narrow},
		{"mov before cmp", []byte{0x89, 0xf8, 0x83, 0xf8, 3, 0x77, 0x08}, narrow},
		{"cmp $imm32,%eax", []byte{0x89, 0xf8, 0x3d, 3, 0, 0, 0, 0x77, 0x08}, narrow},
		{"64 bit", []byte{0x48, 0x83, 0xff, 3, 0x77, 0x0a, 0x89, 0xf8}, narrow},
		{"moves between check and branch", []byte{0x83, 0xff, 3, 0xb9, 1, 0, 0, 0, 0x8d, 0x0f, 0x89, 0xca, 0x77, 0x0a, 0x89, 0xf8}, narrow},
		{"16 bit", []byte{0x66, 0x83, 0xff, 3, 0x77, 0x0a, 0x89, 0xf8}, all},
		{"r15 is not edi", []byte{0x41, 0x83, 0xff, 3, 0x77, 0x0a, 0x89, 0xf8}, all},
		{"of memory", []byte{0x83, 0x3f, 3, 0x77, 0x0a, 0x89, 0xf8}, all},
		{"add", []byte{0x83, 0xc7, 3, 0x77, 0x0a, 0x89, 0xf8}, all},
		{"xor between", []byte{0x83, 0xff, 3, 0x31, 0xc9, 0x77, 0x0a, 0x89, 0xf8}, all},
		{"no check", []byte{0x89, 0xf8}, all},
		{"jae", []byte{0x83, 0xff, 3, 0x73, 0x0a, 0x89, 0xf8}, all}, // it reads three; not worth a rule
		{"jbe", []byte{0x83, 0xff, 3, 0x76, 0x0a, 0x89, 0xf8}, all},
		{"jb", []byte{0x83, 0xff, 3, 0x72, 0x0a, 0x89, 0xf8}, all},
		{"jne", []byte{0x83, 0xff, 3, 0x75, 0x0a, 0x89, 0xf8}, all},
		{"jg: signed", []byte{0x83, 0xff, 3, 0x7f, 0x0a, 0x89, 0xf8}, all},
		{"jbe with a long field", []byte{0x83, 0xff, 3, 0x0f, 0x86, 0x0a, 0, 0, 0, 0x89, 0xf8}, all},
		{"jae with a long field", []byte{0x83, 0xff, 3, 0x0f, 0x83, 0x0a, 0, 0, 0, 0x89, 0xf8}, all},
		{"another register", []byte{0x83, 0xfe, 3, 0x77, 0x0a, 0x89, 0xf8}, all},
		{"changed behind the check", []byte{0x83, 0xff, 3, 0x77, 0x0c, 0xff, 0xc7, 0x89, 0xf8}, all},
		{"changed behind the copy", []byte{0x83, 0xff, 3, 0x77, 0x0c, 0x89, 0xf8, 0xff, 0xc0}, all},
		{"flags changed between", []byte{0x83, 0xff, 3, 0x85, 0xf6, 0x77, 0x0a, 0x89, 0xf8}, all},
		{"a call between", []byte{0x83, 0xff, 3, 0x77, 0x0c, 0xff, 0xd2, 0x89, 0xf8}, all},
		{"entered from elsewhere", []byte{0xeb, 0x05, 0x83, 0xff, 3, 0x77, 0x0a, 0x89, 0xf8}, all},
		{"an unconditional jump", []byte{0x83, 0xff, 3, 0xeb, 0x00, 0x89, 0xf8}, all},
		{"a negative limit", []byte{0x83, 0xff, 0xff, 0x77, 0x0a, 0x89, 0xf8}, all},
	} {
		make := func(entry int) *elfdiff.Graph {
			a := newAsm(t)
			a.section(".rodata", rodata)
			for i := range 8 {
				v := uint32(i)
				if i == entry {
					v = 99
				}
				a.u32(v)
			}
			a.section(".text.f", text)
			a.raw(c.code...)
			a.raw(0x8b, 0x04, 0x85).field(elf.R_X86_64_32S, ".rodata", 0) // mov .rodata(,%rax,4),%eax
			a.raw(0xc3, 0x31, 0xc0, 0xc3, 0x90, 0x90, 0x90, 0x90, 0x90, 0xc3)
			a.whole("f", elf.STB_GLOBAL)
			return a.graph()
		}
		for entry := range 8 {
			want := elfdiff.Changed
			if c.want == narrow && entry > 3 {
				want = elfdiff.Unchanged
			}
			if d := testutil.Diff(t, make(-1), make(entry)); d.Functions[0].Status != want || d.Same() {
				t.Errorf("%s: entry %d: %v, want %v; same %v", c.name, entry, d.Functions[0].Status, want, d.Same())
			}
		}
	}
}

// TestBoundWidths: an indexed access behind a check reads as many bytes as the instruction says, from each place that the index may
// lead to; of one that nobody knows it is believed that it reads all there is.
func TestBoundWidths(t *testing.T) {
	const all = 64
	for _, c := range []struct {
		name  string
		op    []byte // up to the displacement, with ModRM; the SIB byte follows
		tail  []byte // behind it
		width int
	}{
		{"mov", []byte{0x8b, 0x04}, nil, 4}, {"mov, 8 bit", []byte{0x8a, 0x04}, nil, 1}, {"mov, 16 bit", []byte{0x66, 0x8b, 0x04}, nil, 2}, {"mov, 64 bit", []byte{0x48, 0x8b, 0x04}, nil, 8},
		{"movzbl", []byte{0x0f, 0xb6, 0x04}, nil, 1}, {"movsbl", []byte{0x0f, 0xbe, 0x04}, nil, 1}, {"movzwl", []byte{0x0f, 0xb7, 0x04}, nil, 2}, {"movswl", []byte{0x0f, 0xbf, 0x04}, nil, 2}, {"movslq", []byte{0x48, 0x63, 0x04}, nil, 4},
		{"add", []byte{0x03, 0x04}, nil, 4}, {"add, 8 bit", []byte{0x02, 0x04}, nil, 1}, {"cmp", []byte{0x3b, 0x04}, nil, 4}, {"cmp, 8 bit", []byte{0x3a, 0x04}, nil, 1}, {"cmp, 64 bit, the other way", []byte{0x48, 0x39, 0x04}, nil, 8},
		{"test", []byte{0x85, 0x04}, nil, 4}, {"test, 8 bit", []byte{0x84, 0x04}, nil, 1}, {"cmove", []byte{0x0f, 0x44, 0x04}, nil, 4}, {"cmovg", []byte{0x48, 0x0f, 0x4f, 0x04}, nil, 8}, {"imul", []byte{0x0f, 0xaf, 0x04}, nil, 4},
		{"imul with a number", []byte{0x69, 0x04}, []byte{1, 0, 0, 0}, 4}, {"imul with a small number", []byte{0x6b, 0x04}, []byte{3}, 4}, {"cmp with a number", []byte{0x81, 0x3c}, []byte{1, 0, 0, 0}, 4},
		{"cmp with a small number", []byte{0x83, 0x3c}, []byte{1}, 4}, {"cmp of 64 bit with a number", []byte{0x48, 0x83, 0x3c}, []byte{1}, 8}, {"cmpb with a number", []byte{0x80, 0x3c}, []byte{1}, 1},
		{"testb with a number", []byte{0xf6, 0x04}, []byte{1}, 1}, {"test with a number", []byte{0xf7, 0x04}, []byte{1, 0, 0, 0}, 4},
		{"push", []byte{0xff, 0x34}, nil, all}, {"movss", []byte{0xf3, 0x0f, 0x10, 0x04}, nil, all}, {"movups", []byte{0x0f, 0x10, 0x04}, nil, all}, {"bt", []byte{0x0f, 0xa3, 0x04}, nil, all}, {"lea", []byte{0x48, 0x8d, 0x04}, nil, all},
		{"vmovups", []byte{0xc5, 0xf8, 0x10, 0x04}, nil, all},
	} {
		for shift := range 4 {
			build := func(change int) *elfdiff.Graph {
				a := newAsm(t)
				a.section(".rodata", rodata)
				table := make([]byte, 48)
				if change >= 0 {
					table[change] = 1
				}
				a.raw(table...)
				a.section(".text.f", text)
				n := len(c.op) + 1 + 4 + len(c.tail)
				a.raw(0x83, 0xff, 3, 0x77, byte(2+n+1), 0x89, 0xf8)                                       // cmp $3,%edi; ja; mov %edi,%eax
				a.raw(c.op...).raw(byte(shift<<6|5)).field(elf.R_X86_64_32S, ".rodata", 0).raw(c.tail...) // op .rodata(,%rax,1<<shift)
				a.raw(0xc3, 0x31, 0xc0, 0xc3)
				a.whole("f", elf.STB_GLOBAL)
				return a.graph()
			}
			x := build(-1)
			for b := range 48 {
				want := elfdiff.Unchanged
				if b < 3<<shift+c.width {
					want = elfdiff.Changed
				}
				if got := statusOf(t, testutil.Diff(t, x, build(b)), "f"); got != want {
					t.Errorf("%s, scale %d: byte %d: %v, want %v", c.name, 1<<shift, b, got, want)
					break
				}
			}
		}
	}
}
