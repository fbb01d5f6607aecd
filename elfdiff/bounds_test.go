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
