package elfdiff

import (
	"bytes"
	"cmp"
	"debug/elf"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/kdelta/kdelta/x86"
)

// A source line that changes because somebody added a comment above is not a
// change of the function. It must be proved, not guessed: the fix for
// CVE-2024-36017 changes two immediates and nothing else. The proof is: the
// immediate is loaded into the register of argument n; from there straight to a
// call, nothing touches that register, nothing branches away and nothing jumps
// in; the callee and the exact string in the string argument are those of a row
// of Rules.LineArgs; where the string comes from a table entry, the value is
// also the line number in that entry, in both builds.

// argRegs are the registers of integer arguments 1 to 6 (System V ABI 3.2.3).
var argRegs = [...]x86.Reg{x86.DI, x86.SI, x86.DX, x86.CX, x86.R8, x86.R9}

// maxWindow bounds the bytes between a loaded line number and the call.
const maxWindow = 96

// lineArgument proves that the value that d loads is a source line in both builds.
func (k *comparer) lineArgument(x, y *prover, d immDiff) (Cause, bool) {
	if k.opts.NoLines {
		return Cause{}, false
	}
	rx, tx := x.lineUse(d, d.x)
	if rx == 0 {
		return Cause{}, false
	}
	ry, ty := y.lineUse(d, d.y)
	if ry != rx || tx != ty {
		return Cause{}, false
	}
	row := &k.a.Rules.LineArgs[rx-1]
	return Cause{Kind: CauseLine, Off: uint64(d.off), Orig: dec(d.x), Patched: dec(d.y), Detail: row.Callee,
		Proof: "argument " + strconv.Itoa(row.Arg) + " of " + row.Callee + ", whose argument " + strconv.Itoa(row.StringArg) + " is " + viaWords[row.Via] + " " + strconv.Quote(tx)}, true
}

var viaWords = [...]string{"", "an entry of the bug table with the same line and the format", "the format", "the source file", "the function's name"}

// prover knows one function's code well enough to follow a value to a call. It
// is made by one walk, however many immediates differ.
type prover struct {
	g     *Graph
	id    AtomID
	at    *Atom
	code  []byte
	edges []Edge // by offset
	calls []call // by offset
	enter []int  // places where control may enter other than by running into them, sorted
	bad   bool   // the code does not decode to its end
}

// call is a direct call, with where the registers of its arguments were last
// loaded with an address in the straight piece of code before it; -1 when not, or not known.
type call struct {
	off, end int
	start    int     // of the straight piece
	def      [16]int // by register
}

// newProver walks the code of an atom. Of interest are the calls that follow the immediates imms, in order.
func (g *Graph) newProver(id AtomID, edges []Edge, imms []immDiff, poll *poller) *prover {
	p := &prover{g: g, id: id, at: &g.Atoms[id], code: g.Bytes(id), edges: edges}
	byOff := func(a, b Edge) int { return cmp.Compare(a.Off, b.Off) }
	if !slices.IsSortedFunc(edges, byOff) {
		p.edges = slices.Clone(edges)
		slices.SortStableFunc(p.edges, byOff)
	}
	start := 0 // of the straight piece
	w := x86.Walker{Code: p.code}
	for w.Next() {
		in := &w.Inst
		if in.Flow == x86.FlowNone {
			continue
		}
		end := w.Off + int(in.Len)
		for len(imms) > 0 && imms[0].off < start {
			imms = imms[1:]
		}
		if in.Flow == x86.FlowCall {
			if len(imms) > 0 && imms[0].off < w.Off {
				p.calls = append(p.calls, call{off: w.Off, end: end, start: start, def: p.defs(start, w.Off)})
			}
		} else if in.IsBranch() {
			if fo, _, v, ok := in.Rel(p.code[w.Off:]); ok {
				if _, relocated := p.edgeIn(w.Off+int(fo), w.Off+int(fo)+1); !relocated {
					p.enter = append(p.enter, end+int(v))
				}
			}
		}
		start = end
	}
	p.bad = w.Err != nil
	// Whatever refers to a place inside (other parts, jump tables, fixups) may be how control gets there; the site
	// of a table entry is where something happens, not where control comes from elsewhere.
	for _, u := range g.users(id, poll) {
		if src := &g.Atoms[u.atom]; src.Kind != AtomEntry || int(u.off) != g.Rules.Tables[src.Row-1].Site {
			p.enter = append(p.enter, int(u.pos))
		}
	}
	slices.Sort(p.enter)
	return p
}

// defs gives where the straight code in [from, to) last loads each register with an address.
func (p *prover) defs(from, to int) (def [16]int) {
	for i := range def {
		def[i] = -1
	}
	w := x86.Walker{Code: p.code[:to], Off: from}
	for w.Next() {
		in, b := w.Inst, w.Bytes()
		mask, known := in.Writes(b)
		src, dst, copied := copies(in)
		value := -1
		if copied {
			value = def[src]
		}
		address, loads := loadsAddress(in, b)
		for i := range def {
			switch reg := x86.Reg(i); {
			case loads && reg == address:
				def[i] = w.Off
			case !known || mask.Has(reg):
				def[i] = -1
			}
		}
		if copied {
			def[dst] = value
		}
	}
	return def
}

// entered reports whether control may enter at a place in [from, to).
func (p *prover) entered(from, to int) bool {
	i := sort.SearchInts(p.enter, from)
	return p.bad || i < len(p.enter) && p.enter[i] < to
}

// edgeIn gives the first reference whose field lies in [from, to) of the code.
func (p *prover) edgeIn(from, to int) (*Edge, bool) {
	lo := p.at.Off + uint64(from)
	i := sort.Search(len(p.edges), func(i int) bool { return p.edges[i].Off >= lo })
	if i < len(p.edges) && p.edges[i].Off < p.at.Off+uint64(to) {
		return &p.edges[i], true
	}
	return nil, false
}

// lineUse gives 1 + the index of the row that makes the value a line number, and the string that proved it; 0 when none does.
func (p *prover) lineUse(d immDiff, value uint64) (row int, text string) {
	g := p.g
	arg := slices.Index(argRegs[:], d.reg) + 1
	if arg == 0 {
		return 0, ""
	}
	c, callee := p.straightCall(d)
	if c == nil {
		return 0, ""
	}
	for i := range g.Rules.LineArgs {
		r := &g.Rules.LineArgs[i]
		if r.Callee != callee || r.Arg != arg {
			continue
		}
		src, ok := p.argument(c, r.StringArg, d)
		if !ok {
			continue
		}
		t := g.Resolve(src)
		if t.Atom == 0 {
			continue
		}
		switch r.Via {
		case ViaEntryFormat:
			e := &g.Atoms[t.Atom]
			if e.Kind != AtomEntry || t.Disp != 0 {
				continue
			}
			tr := &g.Rules.Tables[e.Row-1]
			if tr.Format == NoField || tr.Line == NoField {
				continue
			}
			b := g.Bytes(t.Atom)
			if leUint(b[tr.Line:tr.Line+tr.LineSize]) != value {
				continue
			}
			if s, ok := g.stringRef(t.Atom, tr.Format); ok && s == r.Text {
				return i + 1, s
			}
		case ViaFormatArg:
			if s, ok := g.stringAt(t); ok && s == r.Text {
				return i + 1, s
			}
		case ViaFileArg:
			if s, ok := g.stringAt(t); ok && sourceName(s) {
				return i + 1, s
			}
		case ViaFuncArg:
			if s, ok := g.stringAt(t); ok && s == g.sourceFunc(p.at) {
				return i + 1, s
			}
		}
	}
	return 0, ""
}

// straightCall follows the code behind the load d to the first call and gives
// that call and the callee's name; nil when anything on the way touches the
// register or control flow.
func (p *prover) straightCall(d immDiff) (c *call, callee string) {
	i := sort.Search(len(p.calls), func(i int) bool { return p.calls[i].off > d.off })
	if i == len(p.calls) || p.calls[i].off > d.off+maxWindow || p.calls[i].start > d.off {
		return nil, ""
	}
	c = &p.calls[i]
	for pos := d.off + d.len; pos < c.off; {
		in, err := x86.Decode(p.code[pos:])
		if err != nil || in.Flow != x86.FlowNone || !keepsOff(in, p.code[pos:], d.reg) {
			return nil, ""
		}
		pos += int(in.Len)
	}
	if p.entered(d.off+1, c.end) {
		return nil, ""
	}
	e, ok := p.edgeIn(c.off, c.end)
	if !ok {
		return nil, ""
	}
	t := p.g.Resolve(e)
	switch {
	case t.Disp != 0 || e.Sym == 0:
		return nil, ""
	case t.Atom != 0 && p.g.File.Symbols[e.Sym].Bind() == elf.STB_LOCAL:
		return nil, "" // a static function may have any name
	}
	return c, p.g.File.Symbols[e.Sym].Name
}

// argument gives the reference that argument n of a call has: the last load of
// its register before the call, in the same straight piece of code as the line's own load.
func (p *prover) argument(c *call, n int, d immDiff) (*Edge, bool) {
	if n < 1 || n > len(argRegs) {
		return nil, false
	}
	def := c.def[argRegs[n-1]]
	if def < c.start || p.entered(def+1, c.end) {
		return nil, false
	}
	in, err := x86.Decode(p.code[def:])
	if err != nil {
		return nil, false
	}
	return p.edgeIn(def, def+int(in.Len))
}

// sourceName reports whether a string can be what __FILE__ gives.
func sourceName(s string) bool {
	i := strings.LastIndexByte(s, '.')
	if i <= 0 {
		return false
	}
	switch s[i:] {
	case ".c", ".h", ".S", ".rs", ".cc", ".cpp":
		return true
	}
	return false
}

// sourceFunc gives the name that __func__ has in the code of an atom that was not inlined into: its own without suffixes.
func (g *Graph) sourceFunc(at *Atom) string {
	if at.Unit == 0 {
		return ""
	}
	n := g.UnitName(at.Unit)
	if i := strings.IndexByte(n, '.'); i > 0 {
		n = n[:i]
	}
	return n
}

// stringAt gives the string that a target leads to, without its terminator.
func (g *Graph) stringAt(t Target) (string, bool) {
	at := &g.Atoms[t.Atom]
	b := g.Bytes(t.Atom)
	if t.Disp < 0 || uint64(t.Disp) >= uint64(len(b)) {
		return "", false
	}
	if at.Kind != AtomString && (at.Kind != AtomObject || at.Flag&FlagContent == 0) {
		return "", false
	}
	b = b[t.Disp:]
	n := bytes.IndexByte(b, 0)
	if n < 0 {
		return "", false
	}
	return string(b[:n]), true
}

// stringRef gives the string that the reference at offset field of an atom leads to.
// File names are not terminated in Rust; a trailing part is cut by the caller's own length.
func (g *Graph) stringRef(a AtomID, field int) (string, bool) {
	at := &g.Atoms[a]
	rs := g.File.RelocsOf(at.Sec)
	lo, hi := rs.Range(at.Off+uint64(field), at.Off+uint64(field)+1)
	if hi-lo != 1 {
		return "", false
	}
	r := rs.At(lo)
	e := g.relocEdge(&r, 0, false)
	t := g.Resolve(&e)
	if t.Atom == 0 {
		return "", false
	}
	return g.stringAt(t)
}

// copies reports whether an instruction copies one whole register to another:
// mov %from,%to of 64 bits, or of 32 bits, which is as good for an address that the
// kernel's code model keeps in 32 bits with a known sign.
func copies(in x86.Inst) (from, to x86.Reg, ok bool) {
	if in.Map != x86.MapOne || in.Opcode != 0x89 && in.Opcode != 0x8b || in.ModRM>>6 != 3 || in.Prefix&^(x86.Rex|x86.RexW|x86.RexR|x86.RexB) != 0 {
		return 0, 0, false
	}
	reg, rm := modReg(in), x86.Reg(in.ModRM&7)
	if in.Prefix&x86.RexB != 0 {
		rm += 8
	}
	if in.Opcode == 0x89 {
		return reg, rm, true
	}
	return rm, reg, true
}

// loadsAddress gives the register that an instruction puts a relocated address into: lea disp(%rip),%reg or mov $imm32,%reg.
func loadsAddress(in x86.Inst, b []byte) (reg x86.Reg, ok bool) {
	if in.Map == x86.MapOne && in.Opcode == 0x8d && in.RIPRelative() {
		return modReg(in), true
	}
	reg, _, ok = in.LoadsImm(b)
	return reg, ok
}

// modReg gives the register that ModRM.reg names.
func modReg(in x86.Inst) x86.Reg {
	r := x86.Reg(in.ModRM >> 3 & 7)
	if in.Prefix&x86.RexR != 0 {
		r += 8
	}
	return r
}

// keepsOff reports whether an instruction neither reads nor writes a register.
// Only moves and address computations are known; anything else is taken to touch it.
func keepsOff(in x86.Inst, b []byte, reg x86.Reg) bool {
	if in.Map != x86.MapOne || in.Prefix&(x86.VEX|x86.EVEX|x86.XOP) != 0 {
		return false
	}
	ext := func(v uint8, bit x86.Prefix) x86.Reg {
		r := x86.Reg(v & 7)
		if in.Prefix&bit != 0 {
			r += 8
		}
		return r
	}
	op := in.Opcode
	switch {
	case op >= 0xb8 && op <= 0xbf: // mov $imm,%reg
		return ext(op, x86.RexB) != reg
	case op == 0x90: // with REX.B it exchanges %r8 and %rax
		return in.Prefix&x86.RexB == 0
	case op >= 0x50 && op <= 0x57: // push %reg
		return ext(op, x86.RexB) != reg && reg != x86.SP
	case op == 0x89, op == 0x8b, op == 0x8d, op == 0xc6, op == 0xc7, op == 0x31, op == 0x33, op == 0x80, op == 0x81, op == 0x83: // mov, lea, mov $imm, xor, arithmetic with an immediate
	default:
		return false
	}
	if in.ModOff == 0 {
		return false
	}
	mod, rm := in.ModRM>>6, in.ModRM&7
	group := op == 0xc6 || op == 0xc7 || op >= 0x80 && op <= 0x83 // ModRM.reg is part of the opcode
	if !group && ext(in.ModRM>>3, x86.RexR) == reg {
		return false
	}
	if mod == 3 {
		if (op == 0x80 || op == 0xc6) && in.Prefix&x86.Rex == 0 && rm >= 4 {
			return x86.Reg(rm-4) != reg // ah, ch, dh, bh
		}
		return ext(rm, x86.RexB) != reg
	}
	if rm == 4 {
		base, index := ext(in.SIB, x86.RexB), ext(in.SIB>>3, x86.RexX)
		if base == reg && !(mod == 0 && in.SIB&7 == 5) || index == reg && index != x86.SP {
			return false
		}
		return true
	}
	if mod == 0 && rm == 5 {
		return true // RIP-relative
	}
	return ext(rm, x86.RexB) != reg
}

// lineData reports whether two data of one size differ in nothing but line
// numbers that a row of Rules.LineData names, and gives the first.
func (k *comparer) lineData(x, y AtomID, dx, dy []byte) (Cause, bool) {
	if k.opts.NoLines || len(dx) != len(dy) {
		return Cause{}, false
	}
	for i := range k.a.Rules.LineData {
		r := &k.a.Rules.LineData[i]
		if !k.a.lineRow(r, x) || !k.b.lineRow(r, y) {
			continue
		}
		if c, ok := k.maskedEqual(r, x, y, dx, dy); ok {
			return c, true
		}
	}
	return Cause{}, false
}

// lineRow reports whether a row is about atom a.
func (g *Graph) lineRow(r *LineData, a AtomID) bool {
	at := &g.Atoms[a]
	return (r.Section == "" || matchSection(r.Section, g.File.Sections[at.Sec].Name)) &&
		(r.Size == 0 || uint64(r.Size) == at.Size) &&
		(r.Family == "" || staticName(g.nameOf(a).Key) == r.Family)
}

// staticName gives the variable's name in the key of a function's static: clang puts the function in front.
func staticName(key string) string {
	if i := strings.LastIndexByte(key, '.'); i > 0 {
		return key[i+1:]
	}
	return key
}

// maskedEqual compares data outside the line bits of a row's records.
func (k *comparer) maskedEqual(r *LineData, x, y AtomID, dx, dy []byte) (Cause, bool) {
	stride := r.Stride
	if stride == 0 {
		stride = len(dx)
	}
	if stride <= 0 || r.Off+4 > len(dx) {
		return Cause{}, false
	}
	var c Cause
	for base := 0; base < len(dx); base += stride {
		end := min(base+stride, len(dx))
		px, py := dx[base:end], dy[base:end]
		if bytes.Equal(px, py) {
			continue
		}
		if r.Off+4 > len(px) || !bytes.Equal(px[:r.Off], py[:r.Off]) || !bytes.Equal(px[r.Off+4:], py[r.Off+4:]) {
			return Cause{}, false
		}
		vx, vy := uint32(leUint(px[r.Off:r.Off+4])), uint32(leUint(py[r.Off:r.Off+4]))
		if vx&^r.Mask != vy&^r.Mask {
			return Cause{}, false
		}
		if r.File != NoField {
			sx, okx := k.a.stringRef(x, base+r.File)
			sy, oky := k.b.stringRef(y, base+r.File)
			if !okx || !oky || sx != sy || !sourceName(sx) {
				return Cause{}, false
			}
		}
		if c.Kind == 0 {
			c = Cause{Kind: CauseLine, Off: uint64(base + r.Off), Orig: dec(uint64(vx & r.Mask)), Patched: dec(uint64(vy & r.Mask)), Proof: "the line field of " + cmp.Or(r.Family, r.Section)}
		}
	}
	return c, true
}
