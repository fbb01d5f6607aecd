package module

import (
	"bytes"
	"debug/elf"
	"errors"

	"github.com/kdelta/kdelta/pkg/internal/checked"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/x86"
)

// orcRow is an unwind entry (struct orc_entry, 6 bytes) and where it holds from.
type orcRow struct {
	sec   object.SecID
	off   uint64
	entry [6]byte
}

// Registers of unwind entries (Documentation/arch/x86/orc-unwinder.rst; arch/x86/include/asm/orc_types.h).
const (
	orcUndefined  = 0
	orcPrevSP     = 1
	orcDX         = 2
	orcDI         = 3
	orcBP         = 4
	orcSP         = 5
	orcR10        = 6
	orcR13        = 7
	orcBPIndirect = 8
	orcSPIndirect = 9
)

// Registers of call frame information (psABI, table 3.36).
const (
	dwRDX = 1
	dwRDI = 5
	dwRBP = 6
	dwRSP = 7
	dwR10 = 10
	dwR13 = 13
)

// Limits on what is read: FDEs nest no state deeper than compilers do.
const maxStates = 64

var errFrame = errors.New("call frame information is malformed")

// cfaRule is where the frame's end is, and where the caller's rbp is.
type cfaRule struct {
	reg    uint64 // of the frame's end, when expr is nil
	off    int64
	expr   []byte
	bpKind uint8 // 0: not saved
	bpOff  int64
	bpExpr []byte
}

const (
	bpSame = iota
	bpSaved
	bpExpr
	bpOther
)

// cie is what FDEs share.
type cie struct {
	code, data int64
	pcSize     int // bytes of an address
	augmented  bool
	insns      []byte
}

// frames makes unwind entries from .eh_frame (psABI, 4.2.4), in the order of the FDEs. What it cannot
// read is left without entries.
func (c *completer) frames() []orcRow {
	sec := c.names[ehFrame]
	if sec == 0 {
		return nil
	}
	d := c.f.Sections[sec].Data
	rs := c.f.RelocsOf(sec)
	cies := make(map[uint64]*cie)
	var out []orcRow
	for off := uint64(0); off+4 <= uint64(len(d)); {
		n := uint64(le.Uint32(d[off:]))
		start := off + 4
		if n == 0 || n >= 0xfffffff0 || !checked.Within(start, n, uint64(len(d))) {
			break
		}
		body := d[start : start+n]
		off = start + n
		if len(body) < 4 {
			continue
		}
		id := uint64(le.Uint32(body))
		if id == 0 {
			cies[start-4] = parseCIE(body[4:])
			continue
		}
		k := cies[start-id] // the distance from this field to the CIE, which the assembler resolves
		if k == nil || len(body) < 4+2*k.pcSize {
			continue
		}
		lo, hi := rs.Range(start+4, start+5)
		if hi-lo != 1 {
			continue
		}
		r := rs.At(lo)
		s := &c.f.Symbols[r.Sym]
		if s.Sec == 0 || r.Type != elf.R_X86_64_PC32 && r.Type != elf.R_X86_64_PC64 && r.Type != elf.R_X86_64_64 {
			continue
		}
		at := s.Value + uint64(r.Addend)
		size := uint64(le.Uint32(body[4+k.pcSize:]))
		if k.pcSize == 8 {
			size = le.Uint64(body[4+k.pcSize:])
		}
		insns := body[4+2*k.pcSize:]
		if k.augmented {
			v, rest, err := uleb(insns)
			if err != nil || v > uint64(len(rest)) {
				continue
			}
			insns = rest[v:]
		}
		text := &c.f.Sections[s.Sec]
		if at > text.Size || size > text.Size-at {
			continue
		}
		rows, opaque, err := c.run(k, insns, s.Sec, at, size)
		if err != nil {
			continue
		}
		rows = c.windows(rows, text.Data[:min(uint64(len(text.Data)), at+size)])
		if prefix(text.Data, at) { // what a call through it runs with the function's own frame
			rows[0].off -= prefixSize
		}
		c.done.Functions++
		c.done.Opaque += opaque
		out = append(out, rows...)
		out = append(out, orcRow{sec: s.Sec, off: at + size})
	}
	return out
}

// windows adds what compilers do not know of inline assembly: between a push and
// a pop of the flags (local_irq_save and the like) the frame is a word larger. code ends where the function does.
func (c *completer) windows(rows []orcRow, code []byte) []orcRow {
	start := rows[0].off
	if len(code) == 0 || bytes.IndexByte(code[start:], 0x9c) < 0 && bytes.IndexByte(code[start:], 0x9d) < 0 {
		return rows
	}
	var out []orcRow
	next := 0 // the row after the one that holds
	push := false
	w := x86.Walker{Code: code[start:]}
	for w.Next() {
		off := start + uint64(w.Off)
		for next < len(rows) && rows[next].off <= off {
			out = append(out, rows[next])
			next++
		}
		here := rows[next-1]
		if push && here.entry[4]&0xf == orcSP {
			grown := here
			grown.off = off
			le.PutUint16(grown.entry[:], le.Uint16(here.entry[:])+8)
			if here.off == off {
				out = out[:len(out)-1]
			}
			out = append(out, grown)
			if end := off + uint64(w.Inst.Len); end < uint64(len(code)) && (next == len(rows) || rows[next].off > end) {
				here.off = end
				out = append(out, here)
			}
		}
		push = pushes(w.Bytes()) && window(code[off+uint64(w.Inst.Len):], w.Bytes()[0] == 0x9c)
	}
	if w.Err != nil {
		return rows
	}
	return append(out, rows[next:]...)
}

// pushes reports whether an instruction pushes the flags or a register.
func pushes(b []byte) bool {
	return len(b) == 1 && (b[0] == 0x9c || b[0]&0xf8 == 0x50) || len(b) == 2 && b[0] == 0x41 && b[1]&0xf8 == 0x50
}

// window reports whether code starts with the other half: a pop of a register, or of the flags.
func window(code []byte, flags bool) bool {
	switch {
	case !flags:
		return len(code) > 0 && code[0] == 0x9d
	case len(code) > 1 && code[0] == 0x41:
		code = code[1:]
	}
	return len(code) > 0 && code[0]&0xf8 == 0x58
}

// prefixSize is the number of NOPs before functions in kernels with call padding (-fpatchable-function-entry=16,16).
const prefixSize = 16

// prefix reports whether a function has such NOPs before it.
func prefix(d []byte, at uint64) bool {
	return at >= prefixSize && at <= uint64(len(d)) && bytes.Count(d[at-prefixSize:at], []byte{0x90}) == prefixSize
}

func parseCIE(d []byte) *cie {
	if len(d) < 2 || d[0] != 1 {
		return nil
	}
	aug := ""
	i := 1
	for i < len(d) && d[i] != 0 {
		i++
	}
	if i == len(d) {
		return nil
	}
	aug, d = string(d[1:i]), d[i+1:]
	k := &cie{pcSize: 8}
	v, d, err := uleb(d)
	if err != nil {
		return nil
	}
	k.code = int64(v)
	if k.data, d, err = sleb(d); err != nil {
		return nil
	}
	if _, d, err = uleb(d); err != nil { // the return address's register
		return nil
	}
	if aug == "" {
		k.insns = d
		return k
	}
	if aug[0] != 'z' {
		return nil
	}
	k.augmented = true
	n, d, err := uleb(d)
	if err != nil || n > uint64(len(d)) {
		return nil
	}
	data := d[:n]
	k.insns = d[n:]
	for _, ch := range aug[1:] {
		switch ch {
		case 'R':
			if len(data) == 0 {
				return nil
			}
			switch data[0] & 0x0f { // DW_EH_PE_absptr, udata4, sdata4, udata8, sdata8
			case 0x00, 0x04, 0x0c:
				k.pcSize = 8
			case 0x03, 0x0b:
				k.pcSize = 4
			default:
				return nil
			}
			data = data[1:]
		case 'S':
		default:
			return nil // a personality: not in a kernel
		}
	}
	return k
}

func uleb(d []byte) (uint64, []byte, error) {
	v := uint64(0)
	for i := 0; i < len(d) && i < 10; i++ {
		v |= uint64(d[i]&0x7f) << (7 * i)
		if d[i]&0x80 == 0 {
			return v, d[i+1:], nil
		}
	}
	return 0, nil, errFrame
}

func sleb(d []byte) (int64, []byte, error) {
	v := int64(0)
	for i := 0; i < len(d) && i < 10; i++ {
		v |= int64(d[i]&0x7f) << (7 * i)
		if d[i]&0x80 == 0 {
			if d[i]&0x40 != 0 && i < 9 {
				v |= -1 << (7 * (i + 1))
			}
			return v, d[i+1:], nil
		}
	}
	return 0, nil, errFrame
}

// run interprets the instructions of one FDE (DWARF 5, 6.4.2).
func (c *completer) run(k *cie, insns []byte, sec object.SecID, at, size uint64) (rows []orcRow, opaque int, err error) {
	var cur, initial cfaRule
	var stack []cfaRule
	loc := uint64(0)
	emit := func() {
		e, ok := c.entry(&cur)
		if !ok {
			opaque++
		}
		if n := len(rows); n > 0 && rows[n-1].off == at+loc {
			rows[n-1].entry = e
			return
		}
		rows = append(rows, orcRow{sec, at + loc, e})
	}
	step := func(n uint64) error {
		emit()
		if n > size-min(loc, size) {
			return errFrame
		}
		loc += n
		return nil
	}
	exec := func(d []byte, head bool) error {
		for len(d) > 0 {
			op := d[0]
			d = d[1:]
			var u, v uint64
			var s int64
			var err error
			switch op & 0xc0 {
			case 0x40: // advance_loc
				if err = step(uint64(op&0x3f) * uint64(k.code)); err != nil {
					return err
				}
				continue
			case 0x80: // offset
				if u, d, err = uleb(d); err != nil {
					return err
				}
				cur.save(uint64(op&0x3f), int64(u)*k.data)
				continue
			case 0xc0: // restore
				cur.restore(uint64(op&0x3f), &initial)
				continue
			}
			switch op {
			case 0x00: // nop
			case 0x02, 0x03, 0x04: // advance_loc1, 2, 4
				n := 1 << (op - 2)
				if len(d) < n {
					return errFrame
				}
				switch n {
				case 1:
					u = uint64(d[0])
				case 2:
					u = uint64(le.Uint16(d))
				default:
					u = uint64(le.Uint32(d))
				}
				d = d[n:]
				if err = step(u * uint64(k.code)); err != nil {
					return err
				}
			case 0x05, 0x11, 0x14, 0x15: // offset_extended, offset_extended_sf, val_offset, val_offset_sf
				if u, d, err = uleb(d); err != nil {
					return err
				}
				if op == 0x05 || op == 0x14 {
					v, d, err = uleb(d)
					s = int64(v)
				} else {
					s, d, err = sleb(d)
				}
				if err != nil {
					return err
				}
				if op >= 0x14 {
					cur.other(u)
				} else {
					cur.save(u, s*k.data)
				}
			case 0x06: // restore_extended
				if u, d, err = uleb(d); err != nil {
					return err
				}
				cur.restore(u, &initial)
			case 0x07: // undefined
				if u, d, err = uleb(d); err != nil {
					return err
				}
				cur.other(u)
			case 0x08: // same_value
				if u, d, err = uleb(d); err != nil {
					return err
				}
				if u == dwRBP {
					cur.bpKind, cur.bpOff, cur.bpExpr = bpSame, 0, nil
				}
			case 0x09: // register
				if u, d, err = uleb(d); err != nil {
					return err
				}
				if _, d, err = uleb(d); err != nil {
					return err
				}
				cur.other(u)
			case 0x0a: // remember_state
				if len(stack) == maxStates {
					return errFrame
				}
				stack = append(stack, cur)
			case 0x0b: // restore_state
				if len(stack) == 0 {
					return errFrame
				}
				cur, stack = stack[len(stack)-1], stack[:len(stack)-1]
			case 0x0c, 0x12: // def_cfa, def_cfa_sf
				if u, d, err = uleb(d); err != nil {
					return err
				}
				if op == 0x0c {
					v, d, err = uleb(d)
					s = int64(v)
				} else if s, d, err = sleb(d); err == nil {
					s *= k.data
				}
				if err != nil {
					return err
				}
				cur.reg, cur.off, cur.expr = u, s, nil
			case 0x0d: // def_cfa_register
				if cur.reg, d, err = uleb(d); err != nil {
					return err
				}
			case 0x0e: // def_cfa_offset
				if u, d, err = uleb(d); err != nil {
					return err
				}
				cur.off = int64(u)
			case 0x13: // def_cfa_offset_sf
				if s, d, err = sleb(d); err != nil {
					return err
				}
				cur.off = s * k.data
			case 0x0f, 0x10, 0x16: // def_cfa_expression, expression, val_expression
				if op != 0x0f {
					if v, d, err = uleb(d); err != nil {
						return err
					}
				}
				if u, d, err = uleb(d); err != nil || u > uint64(len(d)) {
					return errFrame
				}
				e := d[:u]
				d = d[u:]
				switch {
				case op == 0x0f:
					cur.expr = e
				case op == 0x10 && v == dwRBP:
					cur.bpKind, cur.bpExpr = bpExpr, e
				case op == 0x16:
					cur.other(v)
				}
			case 0x2e: // GNU_args_size
				if _, d, err = uleb(d); err != nil {
					return err
				}
			default:
				return errFrame
			}
		}
		if head {
			initial = cur
		}
		return nil
	}
	if err := exec(k.insns, true); err != nil {
		return nil, 0, err
	}
	rows, opaque = rows[:0], 0
	if err := exec(insns, false); err != nil {
		return nil, 0, err
	}
	emit()
	return rows, opaque, nil
}

func (r *cfaRule) save(reg uint64, off int64) {
	if reg == dwRBP {
		r.bpKind, r.bpOff, r.bpExpr = bpSaved, off, nil
	}
}

func (r *cfaRule) other(reg uint64) {
	if reg == dwRBP {
		r.bpKind = bpOther
	}
}

func (r *cfaRule) restore(reg uint64, initial *cfaRule) {
	if reg == dwRBP {
		r.bpKind, r.bpOff, r.bpExpr = initial.bpKind, initial.bpOff, initial.bpExpr
	}
}

// entry says the same as an unwind entry; all zero, "unknown", where there is none that does.
func (c *completer) entry(r *cfaRule) (e [6]byte, ok bool) {
	spReg, spOff := byte(orcUndefined), r.off
	if r.expr != nil {
		reg, off, deref, ok := breg(r.expr)
		if !ok || !deref {
			return e, false
		}
		switch reg {
		case dwRBP:
			spReg = orcBPIndirect
		case dwRSP:
			spReg = orcSPIndirect
			if off != 0 {
				return e, false // the unwinder adds after it has read, not before
			}
		default:
			return e, false
		}
		spOff = off
	} else {
		switch r.reg {
		case dwRSP:
			spReg = orcSP
		case dwRBP:
			spReg = orcBP
		case dwR10:
			spReg = orcR10
		case dwR13:
			spReg = orcR13
		case dwRDX:
			spReg = orcDX
		case dwRDI:
			spReg = orcDI
		default:
			return e, false
		}
		if spReg >= orcR10 || spReg <= orcDI {
			if r.off != 0 {
				return e, false // the unwinder adds nothing to these
			}
		}
	}
	bpReg, bpOff := byte(orcUndefined), int64(0)
	switch r.bpKind {
	case bpSaved:
		bpReg, bpOff = orcPrevSP, r.bpOff
	case bpExpr:
		reg, off, deref, ok := breg(r.bpExpr)
		if !ok || deref || reg != dwRBP {
			return e, false
		}
		bpReg, bpOff = orcBP, off
	case bpOther:
		return e, false
	}
	if int64(int16(spOff)) != spOff || int64(int16(bpOff)) != bpOff {
		return e, false
	}
	le.PutUint16(e[:], uint16(spOff))
	le.PutUint16(e[2:], uint16(bpOff))
	e[4], e[5] = spReg|bpReg<<4, c.opts.Call
	return e, true
}

// breg reads the expression "register + offset", or the value at that address.
func breg(x []byte) (reg uint64, off int64, deref, ok bool) {
	if len(x) < 2 || x[0] < 0x70 || x[0] > 0x8f { // DW_OP_breg0 to breg31
		return 0, 0, false, false
	}
	off, rest, err := sleb(x[1:])
	switch {
	case err != nil || len(rest) > 1 || len(rest) == 1 && rest[0] != 0x06: // DW_OP_deref
		return 0, 0, false, false
	}
	return uint64(x[0] - 0x70), off, len(rest) == 1, true
}
