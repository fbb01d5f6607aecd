package runpre

import (
	"bytes"
	"debug/elf"

	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/reloc"
	"github.com/kdelta/kdelta/x86"
)

// A branch within a section gets one byte for its distance where that is enough, a
// branch that leaves it gets four. An object with a section for each function has the
// long form where the kernel, which has the functions of a file in one section, may
// have the short one; what lies behind it moves, and with it the distances of other
// branches. The code is the same when it is, instruction by instruction, and all branches
// lead to the same instructions.

// Opcodes of the short forms; the long ones are 0xe9 and 0x0f 0x80 to 0x8f.
const (
	jccShort  = 0x70
	jccNear   = 0x80
	condBits  = 0x0f
	longField = 4
)

// branch gives what a jump does, whatever its form: 1 to 16 for conditions, 17 for always, 0 for other instructions.
func branch(in x86.Inst) int {
	switch {
	case in.Map == x86.MapOne && (in.Opcode == jmpShort || in.Opcode == jmpNear):
		return 17
	case in.Map == x86.MapOne && in.Opcode&^condBits == jccShort, in.Map == x86.Map0F && in.Opcode&^condBits == jccNear:
		return 1 + int(in.Opcode&condBits)
	}
	return 0
}

// compareRelaxed is compare for code whose branches have other forms.
func (c *checker) compareRelaxed(sec object.SecID, from, n, addr uint64) ([]vote, *diff) {
	img := c.w.bytes(addr, int(n))
	if img == nil {
		return nil, &diff{kernel: "fewer bytes"}
	}
	data := c.data(sec)[from : from+n]
	rel := c.f.RelocsOf(sec)
	next, hi := rel.Range(from, from+n)
	type pair struct{ off, i, j uint64 }
	var votes []vote
	var inner []pair        // branches within the function: at, to, to in the kernel
	at := make([]uint64, n) // by start of an instruction: 1 + where the kernel has it
	i, j, refs := uint64(0), uint64(0), 0
	for i < n {
		in, err := x86.Decode(data[i:])
		theirs, err2 := x86.Decode(img[min(j, n):])
		if err != nil || err2 != nil {
			return nil, &diff{off: i, at: j}
		}
		at[i] = 1 + j
		end, endK := i+uint64(in.Len), j+uint64(theirs.Len)
		kind := branch(in)
		same := kind != 0 && kind == branch(theirs)
		// References within the instruction.
		var r object.Reloc
		found := false
		for next < hi {
			x := rel.At(next)
			if x.Type != elf.R_X86_64_NONE && !c.dropped[[2]uint64{uint64(sec), x.Off}] {
				if x.Off-from >= end {
					break
				}
				if found { // two in one instruction
					break
				}
				r, found = x, true
			}
			next++
		}
		info := reloc.Info{}
		if found {
			var ok bool
			if info, ok = followed(r.Type); !ok || r.Off-from < i || r.Off-from+uint64(info.Size) > end || uint64(r.Sym) >= uint64(len(c.f.Symbols)) {
				return nil, &diff{off: i, at: j, ref: true, blind: true, object: "a relocation that cannot be followed (" + reloc.Name(r.Type) + ")"}
			}
			refs++
		}
		switch {
		case same:
			_, size, v, ok := in.Rel(data[i:])
			_, sizeK, vK, ok2 := theirs.Rel(img[j:])
			if !ok || !ok2 {
				return nil, &diff{off: i, at: j}
			}
			switch {
			case !found:
				inner = append(inner, pair{i, end + uint64(v), endK + uint64(vK)})
			case size == longField && sizeK == 1:
				// What a field of four bytes would say.
				vt, d := c.reference(&r, info, addr+endK+uint64(vK)-longField, true)
				if d != nil {
					d.off, d.at, d.ref = i, j, true
					return nil, d
				}
				if vt.sec != 0 {
					vt.off = r.Off - from
					votes = append(votes, vt)
				}
			default:
				same = false
			}
		}
		if !same {
			if in.Len != theirs.Len {
				return nil, &diff{off: i, at: j}
			}
			a, b := data[i:end], img[j:endK]
			if !found {
				if !bytes.Equal(a, b) || (in.RIPRelative() || in.IsBranch()) && i != j {
					return nil, &diff{off: i, at: j}
				}
			} else {
				lo, up := r.Off-from-i, r.Off-from-i+uint64(info.Size)
				if !bytes.Equal(a[:lo], b[:lo]) || !bytes.Equal(a[up:], b[up:]) {
					return nil, &diff{off: i, at: j}
				}
				vt, d := c.field(&r, info, addr+j+lo, b[lo:up], true)
				if d != nil {
					d.off, d.at, d.ref = i, j, true
					return nil, d
				}
				if vt.sec != 0 {
					vt.off = r.Off - from
					votes = append(votes, vt)
				}
			}
		}
		i, j = end, endK
	}
	for _, p := range inner {
		if p.i >= n || at[p.i] != 1+p.j {
			return nil, &diff{off: p.off, at: at[p.off] - 1}
		}
	}
	if has := c.w.references(addr, int(j)); has > refs {
		return nil, &diff{}
	}
	return votes, nil
}
