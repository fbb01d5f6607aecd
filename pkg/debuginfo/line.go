package debuginfo

import (
	"cmp"
	"path"
	"slices"

	"github.com/kdelta/kdelta/pkg/internal/checked"
)

// Line programs are read here and not by debug/dwarf, which believes the counts
// of files and directories in their headers.

// row says that from addr on the code is that of a line.
type row struct {
	addr uint64
	file uint32
	line uint32
}

// sequence is a stretch of code without gaps.
type sequence struct {
	lo, hi uint64
	rows   []row // by address
}

// table is the line table of one unit.
type table struct {
	files []string // by the numbers that the unit uses
	seqs  []sequence
}

func (t *table) file(n int) string {
	if t == nil || n < 0 || n >= len(t.files) {
		return ""
	}
	return t.files[n]
}

// at gives the line of an address.
func (t *table) at(addr uint64) (Pos, bool) {
	if t == nil {
		return Pos{}, false
	}
	i, found := slices.BinarySearchFunc(t.seqs, addr, func(s sequence, a uint64) int { return cmp.Compare(s.lo, a) })
	if !found {
		i--
	}
	if i < 0 || addr >= t.seqs[i].hi {
		return Pos{}, false
	}
	// Of several rows for one address the last one counts.
	rows := t.seqs[i].rows
	j, _ := slices.BinarySearchFunc(rows, addr, func(r row, a uint64) int {
		if r.addr <= a {
			return -1
		}
		return 1
	})
	if j == 0 || rows[j-1].line == 0 {
		return Pos{}, false
	}
	p := Pos{t.file(int(rows[j-1].file)), int(rows[j-1].line)}
	return p, p.File != ""
}

// lineTable reads the line table of a unit, once.
func (in *Info) lineTable(u *unit) *table {
	if u.table == nil {
		u.table = &table{}
		if u.stmts >= 0 {
			in.readLines(u)
		}
	}
	return u.table
}

// join gives the name of a file in directory d of the unit; directory 0 is where the compiler ran.
func join(dirs []string, d uint64, name string) string {
	const most = 4096 // PATH_MAX
	if len(name) > most {
		return name[:most]
	}
	if d == 0 || d >= uint64(len(dirs)) || path.IsAbs(name) || len(dirs[d])+len(name) > most {
		return name
	}
	return path.Join(dirs[d], name)
}

func (in *Info) readLines(u *unit) {
	t := u.table
	if uint64(u.stmts) >= uint64(len(in.lines)) {
		return
	}
	c := cursor{b: in.lines, at: uint64(u.stmts)}
	n, wide := c.length()
	if c.bad || !checked.Within(c.at, n, uint64(len(c.b))) || !in.spend(int(n)) {
		return
	}
	end := c.at + n
	c.b = c.b[:end]
	version := c.u16()
	if version < 2 || version > 5 {
		return
	}
	addrSize := u.addrSize
	if version == 5 {
		addrSize = int(c.u8())
		c.skip(1)
	}
	program := c.offset(wide)
	program += c.at
	minInst := uint64(c.u8())
	if version >= 4 {
		c.skip(1) // operations of an instruction: 1 but for VLIW
	}
	c.skip(1)
	base, span, first := int64(int8(c.u8())), c.u8(), c.u8()
	lengths := slices.Clone(c.take(uint64(max(first, 1) - 1)))
	var dirs []string
	if version < 5 {
		dirs = []string{""}
		for s := c.str(); s != ""; s = c.str() {
			c.skip(1)
			dirs = append(dirs, s)
		}
		c.skip(1)
		t.files = []string{""}
		for s := c.str(); s != ""; s = c.str() {
			c.skip(1)
			d := c.uleb()
			c.uleb()
			c.uleb()
			t.files = append(t.files, join(dirs, d, s))
		}
	} else {
		in.fileList(&c, wide, func(name string, _ uint64) { dirs = append(dirs, name) })
		in.fileList(&c, wide, func(name string, d uint64) { t.files = append(t.files, join(dirs, d, name)) })
	}
	if c.bad || span == 0 || first == 0 || program < c.at || program > end || addrSize > 8 || addrSize < 1 {
		return
	}
	c.at = program
	t.run(&c, base, span, first, minInst, lengths, dirs)
	slices.SortStableFunc(t.seqs, func(a, b sequence) int { return cmp.Compare(a.lo, b.lo) })
}

// fileList reads a list of directories or files of version 5.
func (in *Info) fileList(c *cursor, wide bool, add func(name string, dir uint64)) {
	type field struct{ what, form uint64 }
	fields := make([]field, c.u8())
	for i := range fields {
		fields[i] = field{c.uleb(), c.uleb()}
	}
	n := c.uleb()
	if n > uint64(len(c.b)) || n > 0 && len(fields) == 0 {
		c.bad = true
	}
	for ; n > 0 && !c.bad; n-- {
		name, dir := "", uint64(0)
		for _, f := range fields {
			s, v := "", uint64(0)
			switch f.form {
			case 0x08: // string
				s = c.str()
				c.skip(1)
			case 0x0e, 0x1f: // strp, line_strp
				from := in.str
				if f.form == 0x1f {
					from = in.lstr
				}
				sc := cursor{b: from, at: c.offset(wide)}
				s = sc.str()
				c.bad = c.bad || sc.bad
			case 0x0b:
				v = c.uint(1)
			case 0x05:
				v = c.uint(2)
			case 0x06:
				v = c.uint(4)
			case 0x07:
				v = c.uint(8)
			case 0x0f:
				v = c.uleb()
			case 0x1e: // data16
				c.skip(16)
			case 0x09: // block
				c.skip(c.uleb())
			default:
				c.bad = true
			}
			switch f.what {
			case 1:
				name = s
			case 2:
				dir = v
			}
		}
		if !in.spend(1 + len(name)/8) {
			c.bad = true
		}
		add(name, dir)
	}
}

// run runs a line program up to the end of c.
func (t *table) run(c *cursor, base int64, span, first byte, minInst uint64, lengths []byte, dirs []string) {
	var rows []row
	type state struct {
		addr       uint64
		file, line uint64
	}
	st := state{file: 1, line: 1}
	emit := func() { rows = append(rows, row{st.addr, uint32(st.file), uint32(st.line)}) }
	finish := func() {
		if len(rows) > 0 {
			slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(a.addr, b.addr) })
			t.seqs = append(t.seqs, sequence{lo: rows[0].addr, hi: st.addr, rows: slices.Clone(rows)})
		}
		rows, st = rows[:0], state{file: 1, line: 1}
	}
	special := func(op byte) {
		adj := op - first
		st.addr += uint64(adj/span) * minInst
		st.line += uint64(base + int64(adj%span))
	}
	for c.at < uint64(len(c.b)) && !c.bad {
		op := c.u8()
		switch {
		case op >= first:
			special(op)
			emit()
		case op == 0:
			n := c.uleb()
			if n == 0 || c.bad {
				continue
			}
			body := cursor{b: c.take(n)}
			switch body.u8() {
			case 1: // end_sequence
				finish()
			case 2: // set_address
				st.addr = body.uint(min(n-1, 8))
			case 3: // define_file
				s := body.str()
				body.skip(1)
				t.files = append(t.files, join(dirs, body.uleb(), s))
			}
		case op == 1: // copy
			emit()
		case op == 2: // advance_pc
			st.addr += c.uleb() * minInst
		case op == 3: // advance_line
			st.line += uint64(c.sleb())
		case op == 4: // set_file
			st.file = c.uleb()
		case op == 8: // const_add_pc
			st.addr += uint64((255-first)/span) * minInst
		case op == 9: // fixed_advance_pc
			st.addr += uint64(c.u16())
		default: // of no interest: as many numbers as the header says
			for range lengths[op-1] {
				c.uleb()
			}
		}
	}
}
