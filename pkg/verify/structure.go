package verify

import (
	"bytes"
	"debug/elf"
	"errors"
	"slices"
	"strings"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/reloc"
)

// structure checks what the file alone can tell.
func (c *checker) structure() {
	cov := &c.res.Levels[Structure]
	if c.p.f.Header.Type != elf.ET_REL {
		c.fail(diag.VerifyStructure, 0, 0, "the file type is %v, not ET_REL", c.p.f.Header.Type)
		cov.Why = "not a relocatable file"
		return
	}
	c.sections()
	c.relocations()
	c.symbols()
	c.metadata()
	c.shapes()
	c.ftrace()
	c.loader()
	cov.Reached = true
}

func (c *checker) sections() {
	f := c.p.f
	names := map[string]bool{}
	for i := 1; i < len(f.Sections); i++ {
		s := &f.Sections[i]
		if !s.Alloc() {
			continue
		}
		c.count("loaded sections", 1)
		sec := object.SecID(i)
		if s.Flags&(elf.SHF_WRITE|elf.SHF_EXECINSTR) == elf.SHF_WRITE|elf.SHF_EXECINSTR {
			c.fail(diag.VerifyStructure, sec, 0, "writable and executable at once")
		}
		if c.res.Format != Final || s.Size == 0 {
			continue
		}
		if names[s.Name] {
			c.fail(diag.VerifyStructure, sec, 0, "a second loaded section of this name")
		}
		names[s.Name] = true
		switch s.Name {
		case "__jump_table", ".static_call_sites", "__bug_table":
			if s.Flags&elf.SHF_WRITE == 0 {
				c.fail(diag.VerifyStructure, sec, 0, "the kernel writes into it, but it is not writable")
			}
		case ".modinfo":
			if !bytes.Contains(append([]byte{0}, s.Data...), []byte("\x00livepatch=")) {
				c.fail(diag.VerifyStructure, sec, 0, "livepatch= is missing: the kernel would not take the module for a livepatch")
			}
		}
	}
}

// relocations checks each place that is written when the patch is loaded.
func (c *checker) relocations() {
	f := c.p.f
	for i := 1; i < len(f.Sections); i++ {
		rs := f.RelocsOf(object.SecID(i))
		s := &f.Sections[i]
		if rs.Len() == 0 {
			continue
		}
		end, loaded := uint64(0), s.Alloc()
		for k := range rs.Len() {
			r := rs.At(k)
			if r.Type == elf.R_X86_64_NONE {
				continue
			}
			c.count("relocations", 1)
			end = c.field(object.SecID(i), r.Off, r.Type, end, loaded)
		}
	}
}

// field checks the field of one relocation; end is that of the one before.
func (c *checker) field(sec object.SecID, off uint64, typ elf.R_X86_64, end uint64, loaded bool) uint64 {
	s := &c.p.f.Sections[sec]
	info, ok := reloc.Lookup(typ)
	if !ok || !info.Module || info.Size == 0 {
		if loaded {
			c.fail(diag.VerifyType, sec, off, "the kernel does not apply relocations of type %s", reloc.Name(typ))
		}
		return end
	}
	size, n := uint64(info.Size), uint64(len(s.Data))
	if off > n || size > n-off {
		c.fail(diag.VerifyStructure, sec, off, "a relocated field of %d bytes reaches beyond the end, 0x%x", size, n)
		return end
	}
	if off < end {
		c.fail(diag.VerifyTwice, sec, off, "the field overlaps that of the relocation before, which ends at 0x%x", end)
		return max(end, off+size)
	}
	if !sameZero(s.Data[off : off+size]) {
		c.fail(diag.VerifyNonzero, sec, off, "% x under %s", s.Data[off:off+size], reloc.Name(typ))
	}
	return off + size
}

func (c *checker) symbols() {
	f := c.p.f
	used := make([]bool, len(f.Symbols))
	for i := 1; i < len(f.Sections); i++ {
		if f.Sections[i].Type != elf.SHT_RELA {
			continue
		}
		rs := f.Relocs(object.SecID(i))
		for k := range rs.Len() {
			used[rs.File(k).Sym] = true
		}
	}
	globals := map[string]bool{}
	for i := 1; i < len(f.Symbols); i++ {
		s := &f.Symbols[i]
		typ := s.Type()
		switch {
		case s.Sec != 0:
			if v, n := s.Value, f.Sections[s.Sec].Size; v > n || s.Size > n-v {
				c.failSym(diag.VerifyStructure, s.Name, "reaches beyond the end of %s", f.Sections[s.Sec].Name)
			}
		case s.Shndx == elf.SHN_COMMON:
			c.failSym(diag.VerifyStructure, s.Name, "is a common symbol, which the kernel refuses")
		case s.Shndx == elf.SHN_UNDEF && typ != elf.STT_FILE && typ != elf.STT_SECTION:
			c.undefined(s, used[i])
		}
		if s.Bind() != elf.STB_LOCAL && s.Name != "" && s.Sec != 0 {
			if globals[s.Name] {
				c.failSym(diag.VerifyStructure, s.Name, "is defined twice")
			}
			globals[s.Name] = true
		}
		if strings.HasPrefix(s.Name, klp.SymPrefix) {
			c.count("livepatch symbols", 1)
			if _, err := klp.ParseSymbol(s.Name); err != nil {
				c.failSym(diag.VerifyStructure, s.Name, "%v", err)
			}
			want := elf.SHN_UNDEF
			if c.res.Format == Final {
				want = object.SHN_LIVEPATCH
			}
			if s.Shndx != want {
				c.failSym(diag.VerifyStructure, s.Name, "has the section index %v, want %v", s.Shndx, want)
			}
		}
	}
}

// undefined checks a symbol that somebody else has to define.
func (c *checker) undefined(s *object.Symbol, used bool) {
	c.count("undefined symbols", 1)
	weak := s.Bind() == elf.STB_WEAK
	marker := strings.HasPrefix(s.Name, klp.SymPrefix) || strings.HasPrefix(s.Name, klp.Tombstone)
	switch {
	case s.Bind() == elf.STB_LOCAL:
		c.failSym(diag.VerifyUndefined, s.Name, "is local and not defined")
	case marker && c.res.Format != Intermediate:
		if !strings.HasPrefix(s.Name, klp.SymPrefix) {
			c.failSym(diag.VerifyUndefined, s.Name, "is left over from another form of patch")
		}
	case marker:
		if !weak {
			c.failSym(diag.VerifyUndefined, s.Name, "is not weak: the link would fail")
		}
	case weak || s.Name == "_GLOBAL_OFFSET_TABLE_":
	case !used:
		c.failSym(diag.VerifyUndefined, s.Name, "is not defined, and nothing refers to it: the kernel would still look for it")
	}
}

// metadata reads what the patch says to the livepatch core.
func (c *checker) metadata() {
	var p *klp.Patch
	var err error
	switch c.res.Format {
	case Kpatch:
		p, err = klp.ReadKpatch(c.p.f)
	case Final:
		p, err = klp.ReadFinal(c.p.f)
		if err == nil && len(p.Objects) == 0 {
			var s *klp.Patch
			if s, _, err = klp.ReadStatic(c.p.f, c.opts.Layout); err == nil {
				c.static = len(c.p.ids(klp.PatchSymbol)) > 0
				p.Objects, p.Callbacks = s.Objects, s.Callbacks
			}
		}
	default:
		p, err = klp.ReadIntermediate(c.p.f)
	}
	if err != nil {
		var refused *diag.Error
		if errors.As(err, &refused) {
			for _, d := range refused.Diagnostics {
				c.report(d)
			}
		} else {
			c.fail(diag.KlpMalformed, 0, 0, "%v", err)
		}
		return
	}
	c.klp = p
	c.records(p)
	c.functions(p)
}

// records checks the relocations for the livepatch core.
func (c *checker) records(p *klp.Patch) {
	f := c.p.f
	seen := make(map[site]bool, len(p.Relocs))
	c.count("livepatch relocations", len(p.Relocs))
	for i := range p.Relocs {
		r := &p.Relocs[i]
		at := site{r.Sec, r.Off}
		if seen[at] {
			c.fail(diag.VerifyTwice, r.Sec, r.Off, "two livepatch relocations for one place")
			continue
		}
		seen[at] = true
		info, ok := reloc.Lookup(r.Type)
		if !ok || !info.Module {
			c.fail(diag.VerifyType, r.Sec, r.Off, "the kernel does not apply livepatch relocations of type %s", reloc.Name(r.Type))
			continue
		}
		switch vm := r.Object == klp.Vmlinux; {
		case vm != (r.Symbol.Object == klp.Vmlinux):
			c.fail(diag.VerifyObject, r.Sec, r.Off, "%s of %s is looked up when %s is there", r.Symbol.Name, r.Symbol.Object, r.Object)
		case !vm && strings.HasPrefix(f.Sections[r.Sec].Name, ".init"):
			c.fail(diag.VerifyObject, r.Sec, r.Off, "a relocation that waits for %s, in a section that is freed by then", r.Object)
		}
		rs := f.RelocsOf(r.Sec)
		from := r.Off - min(r.Off, 7)
		lo, hi := rs.Range(from, r.Off+uint64(info.Size))
		holders := 0
		for k := lo; k < hi; k++ {
			o := rs.At(k)
			oi, _ := reloc.Lookup(o.Type)
			if oi.Size == 0 || o.Off+uint64(oi.Size) <= r.Off {
				continue
			}
			holders++
			if c.res.Format != Intermediate {
				c.fail(diag.VerifyTwice, r.Sec, r.Off, "an ordinary relocation lies on the place of a livepatch relocation")
				continue
			}
			c.placeholder(r, &o)
		}
		if c.res.Format == Intermediate && holders != 1 {
			c.fail(diag.VerifyTombstone, r.Sec, r.Off, "%d placeholder relocations for the livepatch relocation to %s, want 1", holders, r.Symbol.Name)
		}
	}
	for i := 1; i < len(f.Sections) && c.res.Format == Intermediate; i++ {
		rs := f.RelocsOf(object.SecID(i))
		for k := range rs.Len() {
			r := rs.At(k)
			if r.Type != elf.R_X86_64_NONE && strings.HasPrefix(f.Symbols[r.Sym].Name, klp.Tombstone) && !seen[site{object.SecID(i), r.Off}] {
				c.fail(diag.VerifyTombstone, object.SecID(i), r.Off, "a placeholder relocation (%s) without a livepatch relocation", f.Symbols[r.Sym].Name)
			}
		}
	}
}

// placeholder checks the ordinary relocation that holds the place of r until the module is linked.
func (c *checker) placeholder(r *klp.Reloc, o *object.Reloc) {
	s := &c.p.f.Symbols[o.Sym]
	switch {
	case o.Off != r.Off || o.Type != r.Type || o.Addend != r.Addend:
		c.fail(diag.VerifyTombstone, r.Sec, r.Off, "the placeholder is %s %+d at 0x%x, the livepatch relocation %s %+d", reloc.Name(o.Type), o.Addend, o.Off, reloc.Name(r.Type), r.Addend)
	case s.Sec != 0 || s.Bind() != elf.STB_WEAK || s.Name != klp.Tombstone+r.Symbol.Name:
		c.fail(diag.VerifyTombstone, r.Sec, r.Off, "the placeholder refers to %q, not to %s%s", s.Name, klp.Tombstone, r.Symbol.Name)
	}
}

// functions checks the list of what the patch replaces.
func (c *checker) functions(p *klp.Patch) {
	type key struct {
		object, name string
		pos          uint64
	}
	seen := map[key]bool{}
	news := map[site]string{}
	n := 0
	for _, o := range p.Objects {
		for _, fn := range o.Funcs {
			n++
			k := key{o.Name, fn.Name, max(fn.Pos, 1)} // the core treats 0 and 1 alike
			if seen[k] {
				c.failSym(diag.VerifyFunction, fn.Name, "is replaced twice in %s", o.Name)
			}
			seen[k] = true
			s := &c.p.f.Symbols[fn.New]
			if s.Sec == 0 || s.Type() != elf.STT_FUNC || s.Size == 0 || s.Name == "" {
				c.failSym(diag.VerifyFunction, fn.Name, "the replacement %q is no named function with a size", s.Name)
				continue
			}
			at := site{s.Sec, s.Value}
			if other, ok := news[at]; ok {
				c.failSym(diag.VerifyFunction, fn.Name, "has the same replacement as %s", other)
			}
			news[at] = fn.Name
		}
	}
	c.count("replaced functions", n)
	if n == 0 && len(p.Callbacks) == 0 && c.res.Format != Final && !c.opts.Part {
		c.failSym(diag.VerifyFunction, "", "the patch replaces nothing: the kernel refuses it")
	}
}

// shapes checks that tables hold whole entries.
func (c *checker) shapes() {
	for i := 1; i < len(c.p.f.Sections); i++ {
		sec := object.SecID(i)
		row, known := c.p.row(sec)
		switch {
		case !known:
		case row == nil:
			c.fail(diag.VerifyEntry, sec, 0, "size 0x%x and relocations do not make whole entries of any known layout", c.p.f.Sections[i].Size)
		default:
			c.count("table entries", int((c.p.f.Sections[i].Size+uint64(row.Entry)-1)/uint64(row.Entry)))
		}
	}
	c.p.index()
}

// ftrace checks that what the patch lists for ftrace is a call of it, or the room for one.
func (c *checker) ftrace() {
	c.p.places("__mcount_loc", func(at site, _ []sited) {
		d := c.p.data(at.sec, at.off, min(at.off+5, c.p.f.Sections[at.sec].Size))
		switch {
		case bytes.Equal(d, []byte{0x0f, 0x1f, 0x44, 0, 0}), bytes.Equal(d, []byte{0x90, 0x90, 0x90, 0x90, 0x90}):
		case len(d) == 5 && d[0] == 0xe8 && c.callsFentry(at):
		default:
			c.fail(diag.VerifyMcount, at.sec, at.off, "__mcount_loc lists % x, neither a call of __fentry__ nor a NOP of five bytes", d)
		}
	})
}

// callsFentry reports whether the relocation of a call, an ordinary one or one for the livepatch core, leads to __fentry__.
// A whole kernel as the original object defines __fentry__ itself, and then it may be asked for like any other symbol.
func (c *checker) callsFentry(at site) bool {
	if rs := c.p.relocsIn(at.sec, at.off+1, at.off+2); len(rs) == 1 && rs[0].klp == nil && rs[0].addend == -4 && c.p.f.Symbols[rs[0].sym].Name == "__fentry__" {
		return true
	}
	return c.klp != nil && slices.ContainsFunc(c.klp.Relocs, func(r klp.Reloc) bool {
		return r.Sec == at.sec && r.Off == at.off+1 && r.Addend == -4 && r.Symbol.Name == "__fentry__" && r.Symbol.Object == klp.Vmlinux
	})
}

// resolution checks what the patch asks of the running kernel.
func (c *checker) resolution() {
	cov := &c.res.Levels[Resolution]
	switch {
	case c.klp == nil:
		cov.Why = "the livepatch metadata cannot be read"
		return
	case len(c.opts.Symbols) == 0 && c.opts.Exports == nil:
		cov.Why = "no symbols of the kernel were given"
		return
	}
	missing := map[string]bool{}
	type key struct {
		object, name string
		pos          uint64
	}
	asked := map[key]bool{}
	ask := func(object, name string, pos uint64, report func(code diag.Code, format string, args ...any)) {
		syms := c.opts.Symbols[object]
		if syms == nil {
			missing[object] = true
			return
		}
		k := key{object, name, pos}
		if asked[k] {
			return
		}
		asked[k] = true
		switch n := syms.Count(name); {
		case n == 0:
			report(diag.VerifySymbol, "%s has no symbol %s", object, name)
		case pos == 0 && n > 1:
			report(diag.VerifyPosition, "%s has %d symbols %s, and the patch asks for the only one", object, n, name)
		case pos > uint64(n):
			report(diag.VerifyPosition, "%s has %d symbols %s, and the patch asks for number %d", object, n, name, pos)
		}
	}
	for i := range c.klp.Relocs {
		r := &c.klp.Relocs[i]
		ask(r.Symbol.Object, r.Symbol.Name, r.Symbol.Pos, func(code diag.Code, format string, args ...any) {
			c.fail(code, r.Sec, r.Off, format, args...)
		})
	}
	for _, o := range c.klp.Objects {
		for _, fn := range o.Funcs {
			ask(o.Name, fn.Name, fn.Pos, func(code diag.Code, format string, args ...any) { c.failSym(code, fn.Name, format, args...) })
		}
	}
	c.count("kernel symbols", len(asked))
	if c.opts.Exports != nil && !c.opts.Part {
		for i := 1; i < len(c.p.f.Symbols); i++ {
			s := &c.p.f.Symbols[i]
			if s.Shndx != elf.SHN_UNDEF || s.Bind() != elf.STB_GLOBAL || s.Name == "" || s.Name == "_GLOBAL_OFFSET_TABLE_" || strings.HasPrefix(s.Name, klp.SymPrefix) {
				continue
			}
			c.count("exports", 1)
			if _, ok := c.opts.Exports.Exporter(s.Name); !ok && s.Name != "__this_module" {
				c.failSym(diag.VerifyUndefined, s.Name, "is not defined, and neither the kernel nor a module exports it")
			}
		}
	}
	cov.Reached = len(missing) == 0
	for name := range missing {
		if cov.Why == "" || name < cov.Why {
			cov.Why = name
		}
	}
	if cov.Why != "" {
		cov.Why = "no symbols of " + cov.Why + " were given"
	} else if c.opts.Exports == nil {
		cov.Why = "exports were not given, so undefined symbols were not looked up"
	}
}
