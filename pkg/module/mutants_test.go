package module_test

import (
	"bytes"
	"debug/elf"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
)

// spoiler makes faults in one module: each call of edit gets a Builder of it.
type spoiler struct {
	f     *object.File
	edits []func(b *object.Builder)
}

func (s *spoiler) section(name string) object.SecID {
	for i := range s.f.Sections {
		if s.f.Sections[i].Name == name {
			return object.SecID(i)
		}
	}
	return 0
}

// bytes changes the contents of a section in a way of its own for each place that at names.
func (s *spoiler) bytes(name string, at []int, change func(d []byte, at int) []byte) {
	id := s.section(name)
	if id == 0 {
		return
	}
	for _, i := range at {
		s.edits = append(s.edits, func(b *object.Builder) {
			x := b.Section(id)
			x.Data = change(bytes.Clone(x.Data), i)
			b.SetSection(id, x)
		})
	}
}

// relocs changes each relocation of a section; change gives false to drop it.
func (s *spoiler) relocs(id object.SecID, which func(r *object.Reloc) bool, change func(r *object.Reloc) bool) {
	if id == 0 {
		return
	}
	rs := s.f.RelocsOf(id)
	if s.f.Sections[id].Type == elf.SHT_RELA {
		rs = s.f.Relocs(id)
	}
	for i := range rs.Len() {
		if r := rs.File(i); !which(&r) {
			continue
		}
		s.edits = append(s.edits, func(b *object.Builder) {
			var out []object.Reloc
			for k := range rs.Len() {
				r := rs.File(k)
				if k != i || change(&r) {
					out = append(out, r)
				}
			}
			b.SetRelocs(id, out)
		})
	}
}

func (s *spoiler) named(name string) func(*object.Reloc) bool {
	return func(r *object.Reloc) bool { return s.f.Symbols[r.Sym].Name == name }
}

func (s *spoiler) symbol(name string) object.SymID {
	return object.SymID(slices.IndexFunc(s.f.Symbols, func(x object.Symbol) bool { return x.Name == name }))
}

func every(n, step int) (at []int) {
	for i := 0; i < n; i += step {
		at = append(at, i)
	}
	return at
}

func any1(*object.Reloc) bool { return true }
func drop(*object.Reloc) bool { return false }

// spoil has the kinds of faults, each with one of the codes that has to name it.
var spoil = []struct {
	kind  string
	codes []diag.Code
	make  func(s *spoiler)
}{
	{"code of the start", []diag.Code{diag.VerifyCode}, func(s *spoiler) {
		s.bytes(klp.StartSection, []int{16, 20, 22, 27, 64, 67, 68}, func(d []byte, at int) []byte { d[at] ^= 1; return d })
	}},
	{"target of the start", []diag.Code{diag.VerifyTarget}, func(s *spoiler) {
		to := s.symbol("cleanup_module")
		s.relocs(s.section(klp.StartSection), any1, func(r *object.Reloc) bool { r.Sym = to; return true })
	}},
	{"addend of the start", []diag.Code{diag.VerifyTarget}, func(s *spoiler) {
		s.relocs(s.section(klp.StartSection), any1, func(r *object.Reloc) bool { r.Addend += 8; return true })
	}},
	{"return site of the end", []diag.Code{diag.VerifyEntryMissing, diag.VerifyEntry}, func(s *spoiler) {
		start := s.section(klp.StartSection)
		s.relocs(s.section(".return_sites"), func(r *object.Reloc) bool { return s.f.Symbols[r.Sym].Sec == start }, func(r *object.Reloc) bool { r.Addend++; return true })
	}},
	{"module of the patch", []diag.Code{diag.VerifyStructure}, func(s *spoiler) {
		s.relocs(s.section(klp.StaticSection), s.named("__this_module"), drop)
	}},
	{"list of functions", []diag.Code{diag.VerifyStructure, diag.KlpMalformed, diag.VerifyFunction, diag.VerifyMissing}, func(s *spoiler) {
		s.relocs(s.section(klp.StaticSection), func(r *object.Reloc) bool { return s.f.Symbols[r.Sym].Type() == elf.STT_FUNC }, drop)
	}},
	{"name of a function", []diag.Code{diag.VerifySymbol, diag.VerifyFunction}, func(s *spoiler) {
		s.bytes(klp.StaticStrings, []int{1}, func(d []byte, at int) []byte { d[max(0, len(d)-2)] ^= 1; return d })
	}},
	{"position of a function", []diag.Code{diag.VerifyPosition, diag.VerifyFunction}, func(s *spoiler) {
		// struct klp_func: old_name, new_func, old_sympos
		id := s.section(klp.StaticSection)
		rs := s.f.RelocsOf(id)
		var at []int
		for i := range rs.Len() {
			if r := rs.At(i); s.f.Symbols[r.Sym].Type() == elf.STT_FUNC && r.Off%8 == 0 && !strings.HasPrefix(s.f.Symbols[r.Sym].Name, "klp_unrelocate") {
				at = append(at, int(r.Off)+8)
			}
		}
		s.bytes(klp.StaticSection, at, func(d []byte, at int) []byte { d[at] += 9; return d })
	}},
	{"checksum", []diag.Code{diag.VerifyStructure}, func(s *spoiler) {
		s.bytes("__versions", every(int(s.f.Sections[s.section("__versions")].Size), 64), func(d []byte, at int) []byte { d[at]++; return d })
	}},
	{"missing checksum", []diag.Code{diag.VerifyStructure}, func(s *spoiler) {
		s.bytes("__versions", every(int(s.f.Sections[s.section("__versions")].Size), 64), func(d []byte, at int) []byte { return slices.Delete(d, at, at+64) })
	}},
	{"vermagic", []diag.Code{diag.VerifyStructure}, func(s *spoiler) {
		s.bytes(".modinfo", []int{2}, func(d []byte, at int) []byte { d[len(d)-at]++; return d })
	}},
	{"not a livepatch", []diag.Code{diag.VerifyStructure}, func(s *spoiler) {
		s.bytes(".modinfo", []int{0}, func(d []byte, at int) []byte {
			return bytes.Replace(d, []byte("livepatch=Y"), []byte("livepetch=Y"), 1)
		})
	}},
	{"place that is taken back", []diag.Code{diag.VerifyEntryExtra}, func(s *spoiler) {
		s.relocs(s.section(".data.klp_unrelocate"), any1, func(r *object.Reloc) bool { r.Addend += 4; return true })
	}},
	{"place that is left", []diag.Code{diag.VerifyEntryMissing}, func(s *spoiler) {
		s.relocs(s.section(".data.klp_unrelocate"), any1, drop)
	}},
	{"length that is taken back", []diag.Code{diag.VerifyEntryExtra}, func(s *spoiler) {
		id := s.section(".data.klp_unrelocate")
		if id == 0 {
			return
		}
		s.bytes(".data.klp_unrelocate", every(int(s.f.Sections[id].Size)-16, 16), func(d []byte, at int) []byte { d[at+8] += 4; return d })
	}},
	{"end of the list of places", []diag.Code{diag.VerifyEntryMissing}, func(s *spoiler) {
		s.bytes(".data.klp_unrelocate", []int{16, 8}, func(d []byte, at int) []byte { return d[:len(d)-at] })
	}},
	{"callback", []diag.Code{diag.RelocNonzero, diag.VerifyFunction, diag.VerifyCallback, diag.VerifyCode}, func(s *spoiler) {
		s.bytes(".text.klp_unrelocate", every(40, 3), func(d []byte, at int) []byte { d[16+at] ^= 0x40; return d })
	}},
	{"unwind entry", []diag.Code{diag.VerifyEntry}, func(s *spoiler) {
		id := s.section(".orc_unwind")
		start := s.section(".text.klp_unrelocate")
		rs := s.f.RelocsOf(s.section(".orc_unwind_ip"))
		var at []int
		for i := range rs.Len() {
			if r := rs.At(i); id != 0 && s.f.Symbols[r.Sym].Sec != start && s.f.Sections[id].Data[r.Off/4*6+4] != 0 {
				at = append(at, int(r.Off/4*6))
			}
		}
		for _, by := range []byte{8, 16, 0xf8, 1} {
			s.bytes(".orc_unwind", at, func(d []byte, at int) []byte { d[at] += by; return d })
		}
	}},
	{"half of the unwind table", []diag.Code{diag.VerifyStructure}, func(s *spoiler) {
		s.bytes(".orc_unwind", []int{6, 12}, func(d []byte, at int) []byte { return d[:len(d)-at] })
	}},
	{"start of the module", []diag.Code{diag.VerifyStructure}, func(s *spoiler) {
		to := s.symbol("__this_module")
		s.relocs(s.section(".gnu.linkonce.this_module"), any1, func(r *object.Reloc) bool { r.Sym = to; return true })
	}},
	{"livepatch addend", []diag.Code{diag.VerifyAddend, diag.VerifyTarget, diag.VerifyEntry}, func(s *spoiler) { s.klp(func(r *object.Reloc) bool { r.Addend += 8; return true }) }},
	{"livepatch relocation dropped", []diag.Code{diag.VerifyTarget, diag.VerifyCode, diag.VerifyEntry, diag.VerifyData}, func(s *spoiler) { s.klp(drop) }},
}

func (s *spoiler) klp(change func(r *object.Reloc) bool) {
	for i := range s.f.Sections {
		if x := &s.f.Sections[i]; strings.HasPrefix(x.Name, klp.RelaPrefix) && !strings.HasSuffix(x.Name, ".text.klp_unrelocate") {
			s.relocs(object.SecID(i), any1, change)
		}
	}
}

// Faults in what only a finished module has are found, each named.
func TestSpoiledModules(t *testing.T) {
	const places = 20
	var list []made
	for _, of := range []string{"mod_a", klp.Vmlinux} {
		l, _ := fixtures(t, of)
		list = append(list, l...)
	}
	for _, kind := range spoil {
		n := 0
		for i := range list {
			m := &list[i]
			f, err := object.Parse(m.r.Module, object.Options{})
			require.NoError(t, err)
			s := &spoiler{f: f}
			kind.make(s)
			for _, edit := range s.edits {
				if n == places {
					break
				}
				b := object.FromFile(f)
				b.AllowNull = true
				edit(b)
				data, err := b.Bytes()
				require.NoError(t, err, kind.kind)
				n++
				v := m.prove(t, data)
				assert.True(t, v.Refuted(), "%s of %s is not found", kind.kind, m.name)
				found := slices.ContainsFunc(v.Findings, func(d diag.Diagnostic) bool {
					return d.Severity == diag.SevError && slices.Contains(kind.codes, d.Code)
				})
				assert.True(t, found, "%s of %s: %v", kind.kind, m.name, v.Findings)
			}
		}
		assert.Equal(t, places, n, "places for %q", kind.kind)
	}
	t.Logf("%d kinds of faults, %d places each", len(spoil), places)
}
