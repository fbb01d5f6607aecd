package verify_test

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/pkg/verify"
	"github.com/kdelta/kdelta/reloc"
	"github.com/kdelta/kdelta/symbols"
)

// edit makes one mutant of a patch.
type edit func(b *object.Builder)

// mutation is a kind of fault.
type mutation struct {
	kind   string
	codes  []diag.Code // one of them has to name the fault
	places func(m *mutable) []edit
}

// mutable is a patch with what mutations have to know of it.
type mutable struct {
	*written
	f       *object.File
	secs    []object.SecID // copied from the patched object
	list    object.SecID   // __klp_relocs.vmlinux
	funcs   object.SecID
	objects object.SecID
}

func mutableOf(w *written) *mutable {
	m := &mutable{written: w, f: w.patch}
	for i := 1; i < len(m.f.Sections); i++ {
		s := &m.f.Sections[i]
		switch {
		case s.Type == elf.SHT_RELA:
		case s.Name == klp.SecObjects:
			m.objects = object.SecID(i)
		case s.Name == klp.SecFuncs:
			m.funcs = object.SecID(i)
		case s.Name == klp.SecRelocs+"vmlinux":
			m.list = object.SecID(i)
		case s.Alloc() && s.Name != klp.SecStrings && s.Name != ".modinfo":
			m.secs = append(m.secs, object.SecID(i))
		}
	}
	return m
}

func (m *mutable) relocs(sec object.SecID) []object.Reloc {
	rs := m.f.RelocsOf(sec)
	out := make([]object.Reloc, rs.Len())
	for i := range out {
		out[i] = rs.File(i)
	}
	return out
}

func (m *mutable) sym(r *object.Reloc) *object.Symbol { return &m.f.Symbols[r.Sym] }

func (m *mutable) placeholder(r *object.Reloc) bool {
	return strings.HasPrefix(m.sym(r).Name, klp.Tombstone)
}

// each gives an edit for every relocation of copied sections that change accepts and alters.
func (m *mutable) each(change func(sec object.SecID, r *object.Reloc) bool) []edit {
	var out []edit
	for _, sec := range m.secs {
		rs := m.relocs(sec)
		for i := range rs {
			r := rs[i]
			if !change(sec, &r) {
				continue
			}
			out = append(out, func(b *object.Builder) {
				l := slices.Clone(rs)
				l[i] = r
				b.SetRelocs(sec, l)
			})
		}
	}
	return out
}

// records gives an edit for every livepatch relocation: what it says and where the placeholder is.
func (m *mutable) records(change func(b *object.Builder, record, holder *object.Reloc) bool) []edit {
	var out []edit
	rs := m.relocs(m.list)
	for i := 0; i+1 < len(rs); i += 2 {
		sec := m.sym(&rs[i]).Sec
		hs := m.relocs(sec)
		k := slices.IndexFunc(hs, func(r object.Reloc) bool { return r.Off == uint64(rs[i].Addend) })
		if k < 0 {
			continue
		}
		out = append(out, func(b *object.Builder) {
			l, h := slices.Clone(rs), slices.Clone(hs)
			if change(b, &l[i+1], &h[k]) {
				b.SetRelocs(m.list, l)
				b.SetRelocs(sec, h)
			}
		})
	}
	return out
}

func (m *mutable) renamed(f func(s klp.Symbol) klp.Symbol) []edit {
	return m.records(func(b *object.Builder, record, holder *object.Reloc) bool {
		s, err := klp.ParseSymbol(m.sym(record).Name)
		if err != nil {
			return false
		}
		s = f(s)
		old, hold := b.Symbol(record.Sym), b.Symbol(holder.Sym)
		old.Name, hold.Name = s.String(), klp.Tombstone+s.Name
		record.Sym, holder.Sym = b.AddSymbol(old), b.AddSymbol(hold)
		return true
	})
}

// other gives a symbol of the original that is something else than name.
func (m *mutable) other(name string) string {
	for _, p := range m.pairs {
		for i := range p.Orig.Symbols {
			s := &p.Orig.Symbols[i]
			if s.Sec != 0 && s.Type() == elf.STT_FUNC && s.Name != "" && m.names["vmlinux"].Count(s.Name) == 1 && symbols.Parse(s.Name).Key != symbols.Parse(name).Key && p.Orig.Sections[s.Sec].Exec() {
				return s.Name
			}
		}
	}
	return "no_such_symbol"
}

var entrySizes = map[string][]int{"__bug_table": {16, 12, 8}, ".altinstructions": {14, 12, 13}, "__ex_table": {12, 8}, "__jump_table": {16}, "__mcount_loc": {8}, ".smp_locks": {4}, ".parainstructions": {16, 12}}

// tables gives the tables that nothing else refers to, with their entries' size.
func (m *mutable) tables() map[object.SecID]int {
	out := map[object.SecID]int{}
	for _, sec := range m.secs {
		s := &m.f.Sections[sec]
		for _, n := range entrySizes[s.Name] {
			starts := 0
			ok := int(s.Size)%n == 0
			for _, r := range m.relocs(sec) {
				if int(r.Off)%n == 0 {
					starts++
				}
				ok = ok && (int(r.Off)%n)%4 == 0
			}
			if ok && starts == int(s.Size)/n {
				out[sec] = n
				break
			}
		}
	}
	for _, sec := range m.secs {
		for _, r := range m.relocs(sec) {
			delete(out, m.sym(&r).Sec)
		}
	}
	for _, r := range m.relocs(m.list) {
		delete(out, m.sym(&r).Sec)
	}
	return out
}

func (m *mutable) entries(change func(data []byte, rs []object.Reloc, k, n int) ([]byte, []object.Reloc)) []edit {
	var out []edit
	tables := m.tables()
	for _, sec := range m.secs {
		n, ok := tables[sec]
		if !ok {
			continue
		}
		for k := range int(m.f.Sections[sec].Size) / n {
			out = append(out, func(b *object.Builder) {
				s := b.Section(sec)
				data, rs := change(bytes.Clone(s.Data), m.relocs(sec), k, n)
				if data == nil {
					return
				}
				s.Data = data
				b.SetSection(sec, s)
				b.SetRelocs(sec, rs)
			})
		}
	}
	return out
}

// bytesOf gives an edit for every byte of copied sections that accept takes and no relocation covers.
func (m *mutable) bytesOf(accept func(s *object.Section, off int) bool) []edit {
	var out []edit
	for _, sec := range m.secs {
		s := &m.f.Sections[sec]
		covered := make([]bool, len(s.Data))
		for _, r := range m.relocs(sec) {
			info, _ := reloc.Lookup(r.Type)
			for k := r.Off; k < r.Off+uint64(info.Size) && k < uint64(len(covered)); k++ {
				covered[k] = true
			}
		}
		for off := range s.Data {
			if !covered[off] && accept(s, off) {
				out = append(out, func(b *object.Builder) {
					s := b.Section(sec)
					s.Data = bytes.Clone(s.Data)
					s.Data[off] ^= 0x41
					b.SetSection(sec, s)
				})
			}
		}
	}
	return out
}

func (m *mutable) inFunction(sec *object.Section, off int) bool {
	for i := range m.f.Symbols {
		s := &m.f.Symbols[i]
		if s.Type() == elf.STT_FUNC && s.Sec != 0 && &m.f.Sections[s.Sec] == sec && uint64(off) >= s.Value && uint64(off) < s.Value+s.Size {
			return true
		}
	}
	return false
}

func setFuncs(b *object.Builder, m *mutable, data []byte, rs []object.Reloc, n int) {
	s := b.Section(m.funcs)
	s.Data = data
	b.SetSection(m.funcs, s)
	b.SetRelocs(m.funcs, rs)
	o := b.Section(m.objects)
	o.Data = bytes.Clone(o.Data)
	binary.LittleEndian.PutUint32(o.Data[56:], uint32(n))
	b.SetSection(m.objects, o)
}

// drop removes what lies in [from, to) from a list of relocations and moves what follows.
func drop(rs []object.Reloc, from, to uint64) []object.Reloc {
	var out []object.Reloc
	for _, r := range rs {
		switch {
		case r.Off < from:
		case r.Off < to:
			continue
		default:
			r.Off -= to - from
		}
		out = append(out, r)
	}
	return out
}

func replacedNames(m *mutable) map[string]bool {
	out := map[string]bool{}
	p, err := klp.ReadIntermediate(m.f)
	if err == nil {
		for _, o := range p.Objects {
			for _, fn := range o.Funcs {
				out[fn.Name] = true
			}
		}
	}
	return out
}

func mutations() []mutation {
	undefinedNot := func(m *mutable, r *object.Reloc) bool { return r.Type != elf.R_X86_64_NONE && !m.placeholder(r) }
	return []mutation{
		{"wrong addend", []diag.Code{diag.VerifyAddend, diag.VerifyTarget, diag.VerifyData, diag.VerifyMcount}, func(m *mutable) []edit {
			return m.each(func(sec object.SecID, r *object.Reloc) bool {
				r.Addend += 8
				return undefinedNot(m, r) && m.f.Sections[sec].Exec() && m.sym(r).Sec == 0
			})
		}},
		{"wrong addend inside the patch", []diag.Code{diag.VerifyAddend, diag.VerifyTarget, diag.VerifyData, diag.VerifyCode}, func(m *mutable) []edit {
			return m.each(func(sec object.SecID, r *object.Reloc) bool {
				r.Addend += 8
				return undefinedNot(m, r) && m.f.Sections[sec].Exec() && m.sym(r).Sec != 0 && m.f.Sections[m.sym(r).Sec].Size > 16
			})
		}},
		{"wrong addend of a livepatch relocation", []diag.Code{diag.VerifyAddend}, func(m *mutable) []edit {
			return m.records(func(b *object.Builder, record, holder *object.Reloc) bool {
				record.Addend += 16
				holder.Addend += 16
				return true
			})
		}},
		{"wrong symbol", []diag.Code{diag.VerifySymbol}, func(m *mutable) []edit {
			return m.renamed(func(s klp.Symbol) klp.Symbol { s.Name = m.other(s.Name); return s })
		}},
		{"symbol that is not there", []diag.Code{diag.VerifySymbol}, func(m *mutable) []edit {
			return m.renamed(func(s klp.Symbol) klp.Symbol { s.Name += "_"; return s })
		}},
		{"wrong position", []diag.Code{diag.VerifyPosition}, func(m *mutable) []edit {
			return m.renamed(func(s klp.Symbol) klp.Symbol { s.Pos += 7; return s })
		}},
		{"wrong object", []diag.Code{diag.VerifyObject}, func(m *mutable) []edit {
			return m.renamed(func(s klp.Symbol) klp.Symbol { s.Object = "other"; return s })
		}},
		{"omitted .cold", []diag.Code{diag.VerifyCold}, func(m *mutable) []edit {
			var out []edit
			for _, sec := range m.secs {
				rs := m.relocs(sec)
				for i := range rs {
					s := m.sym(&rs[i])
					if s.Sec == 0 || !m.f.Sections[sec].Exec() || s.Sec == sec || !m.f.Sections[s.Sec].Exec() {
						continue
					}
					name := s.Name
					if s.Type() == elf.STT_SECTION {
						for k := range m.f.Symbols {
							if t := &m.f.Symbols[k]; t.Sec == s.Sec && t.Type() == elf.STT_FUNC {
								name = t.Name
							}
						}
					}
					if !symbols.Parse(name).Flags.Has(symbols.Cold) {
						continue
					}
					out = append(out, func(b *object.Builder) {
						l := slices.Clone(rs)
						l[i].Sym = b.AddSymbol(object.BuildSymbol{Name: name, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_NOTYPE)})
						b.SetRelocs(sec, l)
						for k := range m.f.Symbols { // no function of that name is left
							if t := b.Symbol(object.SymID(k)); t.Name == name && t.Sec != 0 {
								t.Size, t.Info = 0, elf.ST_INFO(elf.STB_LOCAL, elf.STT_NOTYPE)
								b.SetSymbol(object.SymID(k), t)
							}
						}
					})
				}
			}
			return out
		}},
		{"dropped table entry", []diag.Code{diag.VerifyEntryMissing}, func(m *mutable) []edit {
			return m.entries(func(data []byte, rs []object.Reloc, k, n int) ([]byte, []object.Reloc) {
				return slices.Delete(data, k*n, k*n+n), drop(rs, uint64(k*n), uint64(k*n+n))
			})
		}},
		{"duplicated table entry", []diag.Code{diag.VerifyEntryExtra}, func(m *mutable) []edit {
			return m.entries(func(data []byte, rs []object.Reloc, k, n int) ([]byte, []object.Reloc) {
				for _, r := range slices.Clone(rs) {
					if int(r.Off)/n == k {
						if m.placeholder(&r) {
							return nil, nil
						}
						r.Off += uint64(len(data) - k*n)
						rs = append(rs, r)
					}
				}
				return append(data, data[k*n:k*n+n]...), rs
			})
		}},
		{"changed table entry", []diag.Code{diag.VerifyEntry, diag.VerifyTarget, diag.VerifyCode}, func(m *mutable) []edit {
			tables := m.tables()
			return m.bytesOf(func(s *object.Section, off int) bool {
				for sec := range tables {
					if s == &m.f.Sections[sec] && (s.Name == "__bug_table" || s.Name == "__ex_table") {
						return true
					}
				}
				return false
			})
		}},
		{"swapped replacement", []diag.Code{diag.VerifyCode, diag.VerifyTarget, diag.VerifyAddend}, func(m *mutable) []edit {
			var out []edit
			for _, sec := range m.secs {
				s := &m.f.Sections[sec]
				e := m.tables()[sec]
				if s.Name != ".altinstructions" || e == 0 {
					continue
				}
				rs := m.relocs(sec)
				body := func(r *object.Reloc, move uint64) (string, bool) {
					n := uint64(s.Data[int(r.Off)-4+map[int]int{14: 13, 12: 11, 13: 11}[e]])
					t := m.sym(r)
					at := t.Value + uint64(r.Addend) + move
					if t.Sec == 0 || n == 0 || at+n > m.f.Sections[t.Sec].Size {
						return "", false
					}
					text := fmt.Sprintf("%x", m.f.Sections[t.Sec].Data[at:at+n])
					for _, x := range m.relocs(t.Sec) {
						if x.Off >= at && x.Off < at+n {
							text += fmt.Sprint(x.Off-at, x.Sym, x.Addend)
						}
					}
					return text, true
				}
				for i := range rs { // what lies one byte further
					if int(rs[i].Off)%e != 4 {
						continue
					}
					x, ok1 := body(&rs[i], 0)
					if y, ok2 := body(&rs[i], 1); ok1 && ok2 && x != y {
						out = append(out, func(b *object.Builder) {
							l := slices.Clone(rs)
							l[i].Addend++
							b.SetRelocs(sec, l)
						})
					}
				}
				for i := range rs {
					for k := i + 1; k < len(rs); k++ {
						if int(rs[i].Off)%e != 4 || int(rs[k].Off)%e != 4 {
							continue
						}
						x, ok1 := body(&rs[i], 0)
						y, ok2 := body(&rs[k], 0)
						if ok1 && ok2 && x != y {
							out = append(out, func(b *object.Builder) {
								l := slices.Clone(rs)
								l[i].Addend, l[k].Addend = l[k].Addend, l[i].Addend
								l[i].Sym, l[k].Sym = l[k].Sym, l[i].Sym
								b.SetRelocs(sec, l)
							})
						}
					}
				}
			}
			return out
		}},
		{"nonzero target bytes", []diag.Code{diag.VerifyNonzero, diag.RelocNonzero}, func(m *mutable) []edit {
			var out []edit
			for _, sec := range m.secs {
				for _, r := range m.relocs(sec) {
					out = append(out, func(b *object.Builder) {
						s := b.Section(sec)
						s.Data = bytes.Clone(s.Data)
						s.Data[r.Off] = 0x11
						b.SetSection(sec, s)
					})
				}
			}
			return out
		}},
		{"duplicate relocation", []diag.Code{diag.VerifyTwice}, func(m *mutable) []edit {
			var out []edit
			for _, sec := range m.secs {
				rs := m.relocs(sec)
				for i := range rs {
					out = append(out, func(b *object.Builder) { b.SetRelocs(sec, append(slices.Clone(rs), rs[i])) })
				}
			}
			return out
		}},
		{"missing relocation", []diag.Code{diag.VerifyTarget, diag.VerifyMcount}, func(m *mutable) []edit {
			var out []edit
			for _, sec := range m.secs {
				rs := m.relocs(sec)
				for i := range rs {
					if !m.placeholder(&rs[i]) && m.f.Sections[sec].Exec() && m.sym(&rs[i]).Sec != 0 {
						out = append(out, func(b *object.Builder) { b.SetRelocs(sec, slices.Delete(slices.Clone(rs), i, i+1)) })
					}
				}
			}
			return out
		}},
		{"wrong type", []diag.Code{diag.VerifyType}, func(m *mutable) []edit {
			return m.each(func(sec object.SecID, r *object.Reloc) bool {
				ok := undefinedNot(m, r) && (r.Type == elf.R_X86_64_PC32 || r.Type == elf.R_X86_64_PLT32) && m.f.Sections[sec].Exec()
				r.Type = elf.R_X86_64_32S
				return ok
			})
		}},
		{"type that the kernel does not apply", []diag.Code{diag.VerifyType}, func(m *mutable) []edit {
			return m.each(func(sec object.SecID, r *object.Reloc) bool {
				r.Type = elf.R_X86_64_GOTPCREL
				return undefinedNot(m, r)
			})
		}},
		{"changed code byte", []diag.Code{diag.VerifyCode, diag.VerifyTarget}, func(m *mutable) []edit {
			return m.bytesOf(func(s *object.Section, off int) bool { return s.Exec() && m.inFunction(s, off) })
		}},
		{"changed string", []diag.Code{diag.VerifyData}, func(m *mutable) []edit {
			return m.bytesOf(func(s *object.Section, off int) bool { return s.Strings() && s.Data[off] != 0 })
		}},
		{"changed data", []diag.Code{diag.VerifyData}, func(m *mutable) []edit {
			tables := m.tables()
			return m.bytesOf(func(s *object.Section, off int) bool {
				for sec := range tables {
					if s == &m.f.Sections[sec] {
						return false
					}
				}
				return !s.Exec() && !s.Strings() && (strings.HasPrefix(s.Name, ".rodata") || strings.HasPrefix(s.Name, ".data"))
			})
		}},
		{"wrong string offset", []diag.Code{diag.VerifyData}, func(m *mutable) []edit {
			return m.each(func(sec object.SecID, r *object.Reloc) bool {
				r.Addend++
				return m.sym(r).Sec != 0 && m.f.Sections[m.sym(r).Sec].Strings()
			})
		}},
		{"function pointer to the new copy", []diag.Code{diag.VerifyPointer}, func(m *mutable) []edit {
			names := replacedNames(m)
			var out []edit
			rs := m.relocs(m.list)
			for i := 0; i+1 < len(rs); i += 2 {
				s, err := klp.ParseSymbol(m.sym(&rs[i+1]).Name)
				if err != nil || !names[s.Name] {
					continue
				}
				id := slices.IndexFunc(m.f.Symbols, func(t object.Symbol) bool {
					return t.Sec != 0 && t.Type() == elf.STT_FUNC && symbols.Parse(t.Name).Key == symbols.Parse(s.Name).Key
				})
				if id < 0 {
					continue
				}
				out = append(out, func(b *object.Builder) {
					sec := m.sym(&rs[i]).Sec
					hs := m.relocs(sec)
					for k := range hs {
						if hs[k].Off == uint64(rs[i].Addend) {
							hs[k].Sym = object.SymID(id)
						}
					}
					b.SetRelocs(sec, hs)
					l := b.Section(m.list)
					at := rs[i].Off
					l.Data = slices.Delete(bytes.Clone(l.Data), int(at), int(at)+24)
					b.SetSection(m.list, l)
					b.SetRelocs(m.list, drop(rs, at, at+24))
				})
			}
			return out
		}},
		{"missing function", []diag.Code{diag.VerifyMissing}, func(m *mutable) []edit {
			var out []edit
			d := m.f.Sections[m.funcs].Data
			n := len(d) / 24
			for k := range n {
				out = append(out, func(b *object.Builder) {
					setFuncs(b, m, slices.Delete(bytes.Clone(d), 24*k, 24*k+24), drop(m.relocs(m.funcs), uint64(24*k), uint64(24*k+24)), n-1)
				})
			}
			return out
		}},
		{"extra function", []diag.Code{diag.VerifyFunction, diag.VerifySymbol}, func(m *mutable) []edit {
			var out []edit
			d := m.f.Sections[m.funcs].Data
			n := len(d) / 24
			for k := range n {
				for _, by := range []int64{0, 1} { // the same name again, or another
					out = append(out, func(b *object.Builder) {
						rs := m.relocs(m.funcs)
						for _, r := range slices.Clone(rs) {
							if int(r.Off)/24 == k {
								if r.Off%24 == 0 {
									r.Addend += by
								}
								r.Off += uint64(24 * (n - k))
								rs = append(rs, r)
							}
						}
						setFuncs(b, m, append(bytes.Clone(d), d[24*k:24*k+24]...), rs, n+1)
					})
				}
			}
			return out
		}},
		{"wrong name of the replaced function", []diag.Code{diag.VerifySymbol, diag.VerifyFunction}, func(m *mutable) []edit {
			var out []edit
			rs := m.relocs(m.funcs)
			for i := range rs {
				if rs[i].Off%24 == 0 {
					out = append(out, func(b *object.Builder) {
						l := slices.Clone(rs)
						l[i].Addend++
						b.SetRelocs(m.funcs, l)
					})
				}
			}
			return out
		}},
		{"wrong position of the replaced function", []diag.Code{diag.VerifyPosition}, func(m *mutable) []edit {
			var out []edit
			for k := range len(m.f.Sections[m.funcs].Data) / 24 {
				out = append(out, func(b *object.Builder) {
					s := b.Section(m.funcs)
					s.Data = bytes.Clone(s.Data)
					s.Data[24*k+16] = 9
					b.SetSection(m.funcs, s)
				})
			}
			return out
		}},
		{"tombstone mismatch", []diag.Code{diag.VerifyTombstone}, func(m *mutable) []edit {
			return m.records(func(b *object.Builder, record, holder *object.Reloc) bool {
				holder.Addend++
				return true
			})
		}},
		{"livepatch relocation left out", []diag.Code{diag.VerifyTombstone}, func(m *mutable) []edit {
			var out []edit
			rs := m.relocs(m.list)
			for i := 0; i+1 < len(rs); i += 2 {
				out = append(out, func(b *object.Builder) {
					l := b.Section(m.list)
					at := rs[i].Off
					l.Data = slices.Delete(bytes.Clone(l.Data), int(at), int(at)+24)
					b.SetSection(m.list, l)
					b.SetRelocs(m.list, drop(rs, at, at+24))
				})
			}
			return out
		}},
		{"stray undefined symbol", []diag.Code{diag.VerifyUndefined}, func(m *mutable) []edit {
			return []edit{func(b *object.Builder) {
				b.AddSymbol(object.BuildSymbol{Name: "stray", Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_NOTYPE)})
			}}
		}},
		{"writable code", []diag.Code{diag.VerifyStructure}, func(m *mutable) []edit {
			var out []edit
			for _, sec := range m.secs {
				if m.f.Sections[sec].Exec() {
					out = append(out, func(b *object.Builder) {
						s := b.Section(sec)
						s.Flags |= elf.SHF_WRITE
						b.SetSection(sec, s)
					})
				}
			}
			return out
		}},
	}
}

// places of a kind: as many different patches as there are, then more places of each.
const perKind = 20

func TestEveryMutantIsRefuted(t *testing.T) {
	var patches []*mutable
	for _, w := range all() {
		patches = append(patches, mutableOf(w))
	}
	patches = append(patches, mutableOf(pointers(t)))
	kinds, total, caught := 0, 0, 0
	for _, mu := range mutations() {
		var edits [][]edit
		for _, m := range patches {
			edits = append(edits, mu.places(m))
		}
		done, ok, used := 0, 0, map[string]bool{}
		for round := 0; done < perKind; round++ {
			more := false
			for i, m := range patches {
				if round >= len(edits[i]) || done >= perKind {
					continue
				}
				more = true
				// Not always the first place of a patch.
				e := edits[i][(round*7+done)%len(edits[i])]
				b := object.FromFile(m.f)
				e(b)
				data, err := b.Bytes()
				if err != nil {
					continue
				}
				if bytes.Equal(data, mustBytes(m.f)) {
					continue
				}
				f, err := object.Parse(data, object.Options{Name: m.name})
				if err != nil {
					continue
				}
				r, err := verify.Verify(context.Background(), f, m.pairs, m.options())
				if err != nil {
					t.Fatal(err)
				}
				done++
				used[m.name] = true
				if slices.ContainsFunc(r.Findings, func(d diag.Diagnostic) bool {
					return d.Severity == diag.SevError && slices.Contains(mu.codes, d.Code)
				}) {
					ok++
				} else {
					t.Errorf("%s, %s (place %d of %d): not named", mu.kind, m.name, round, len(edits[i]))
					for _, d := range r.Findings {
						t.Logf("    %v", d)
					}
				}
			}
			if !more {
				break
			}
		}
		t.Logf("%-40s %2d places in %2d patches, %2d caught", mu.kind, done, len(used), ok)
		kinds, total, caught = kinds+1, total+done, caught+ok
	}
	t.Logf("%d kinds, %d mutants, %d caught", kinds, total, caught)
}

func mustBytes(f *object.File) []byte {
	b, err := object.FromFile(f).Bytes()
	if err != nil {
		return nil
	}
	return b
}

// pointers is a patch with many addresses of a function that it replaces.
func pointers(t testing.TB) *written {
	t.Helper()
	make1 := func(name string, result byte) *object.File {
		b := object.NewBuilder(object.Header{})
		fentry := b.AddSymbol(object.BuildSymbol{Name: "__fentry__", Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_NOTYPE)})
		code := []byte{0xe8, 0, 0, 0, 0, 0xb8, result, 0, 0, 0, 0xc3}
		text := elf.SHF_ALLOC | elf.SHF_EXECINSTR
		cbSec := b.AddSection(object.BuildSection{Name: ".text.cb", Type: elf.SHT_PROGBITS, Flags: text, Addralign: 16, Data: code})
		cb := b.AddSymbol(object.BuildSymbol{Name: "cb", Sec: cbSec, Size: uint64(len(code)), Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC)})
		b.AddReloc(cbSec, object.Reloc{Off: 1, Type: elf.R_X86_64_PLT32, Sym: fentry, Addend: -4})
		user := bytes.Clone(code[:10])
		var rs []object.Reloc
		for range 12 {
			rs = append(rs, object.Reloc{Off: uint64(len(user) + 3), Type: elf.R_X86_64_32S, Sym: cb}) // mov $cb,%rdi
			user = append(user, 0x48, 0xc7, 0xc7, 0, 0, 0, 0)
			rs = append(rs, object.Reloc{Off: uint64(len(user) + 3), Type: elf.R_X86_64_PC32, Sym: cb, Addend: -4}) // lea cb(%rip),%rsi
			user = append(user, 0x48, 0x8d, 0x35, 0, 0, 0, 0)
		}
		user = append(user, 0xc3)
		sec := b.AddSection(object.BuildSection{Name: ".text.user", Type: elf.SHT_PROGBITS, Flags: text, Addralign: 16, Data: user})
		b.AddSymbol(object.BuildSymbol{Name: "user", Sec: sec, Size: uint64(len(user)), Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC)})
		b.AddReloc(sec, object.Reloc{Off: 1, Type: elf.R_X86_64_PLT32, Sym: fentry, Addend: -4})
		for _, r := range rs {
			b.AddReloc(sec, r)
		}
		data, err := b.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		f, err := object.Parse(data, object.Options{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	w := write(t, "pointers", [2]*object.File{make1("a.o", 1), make1("b.o", 2)})
	if w == nil {
		t.Fatal("refused")
	}
	return w
}
