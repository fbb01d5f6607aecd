package module_test

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/module"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/pkg/verify"
	"github.com/kdelta/kdelta/symbols"
)

func parse(t testing.TB, path string) *object.File {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	f, err := object.Parse(data, object.Options{Name: filepath.Base(path)})
	require.NoError(t, err)
	return f
}

func crc(symbol string) (uint32, bool) {
	h := fnv.New32a()
	h.Write([]byte(symbol))
	return h.Sum32(), symbol != "not_exported"
}

// kernelFor makes up a kernel that the originals of pairs are part of, and that exports what the objects lack.
func kernelFor(t testing.TB, pairs []module.Pair) (*module.Kernel, verify.Options) {
	t.Helper()
	var kallsyms, symvers strings.Builder
	names := map[string]bool{"text_poke_set": true}
	for i, p := range pairs {
		for j := range p.Orig.Symbols {
			s := &p.Orig.Symbols[j]
			if s.Sec == 0 || s.Name == "" || !p.Orig.Sections[s.Sec].Alloc() || strings.HasPrefix(s.Name, ".L") {
				continue
			}
			letter := byte('t')
			if s.Type() != elf.STT_FUNC {
				letter = 'd'
			}
			if s.Bind() != elf.STB_LOCAL {
				letter -= 'a' - 'A'
			}
			mod := ""
			if p.Object != klp.Vmlinux {
				mod = "\t[" + p.Object + "]"
			}
			names[s.Name] = true
			fmt.Fprintf(&kallsyms, "%016x %c %s%s\n", 0xffffffff81000000+uint64(i)<<16+uint64(j)<<4, letter, s.Name, mod)
		}
	}
	kallsyms.WriteString("ffffffff82000000 T text_poke_set\n")
	exports := []string{"klp_enable_patch", "__x86_return_thunk", "module_layout", "__fentry__"}
	for _, p := range pairs {
		for _, f := range []*object.File{p.Orig, p.Patched} {
			for j := range f.Symbols {
				if s := &f.Symbols[j]; s.Undefined() && s.Name != "" && !names[s.Name] && !slices.Contains(exports, s.Name) {
					exports = append(exports, s.Name)
				}
			}
		}
	}
	slices.Sort(exports)
	for i, s := range exports {
		v, _ := crc(s)
		fmt.Fprintf(&kallsyms, "%016x T %s\n", 0xffffffff82000010+uint64(i)<<4, s)
		fmt.Fprintf(&symvers, "0x%08x\t%s\tvmlinux\tEXPORT_SYMBOL_GPL\t\n", v, s)
	}
	kallsyms.WriteString("ffffffffc0000000 t kd_filler\t[mod_a]\n")
	tables, err := symbols.ParseKallsyms("kallsyms", []byte(kallsyms.String()))
	require.NoError(t, err)
	exported, err := symbols.ParseSymvers("Module.symvers", []byte(symvers.String()))
	require.NoError(t, err)
	var sources []symbols.Source
	for _, table := range tables {
		sources = append(sources, table)
	}
	var oracles []*symbols.Oracle
	opts := verify.Options{Symbols: map[string]verify.Symbols{}}
	for _, name := range []string{klp.Vmlinux, "mod_a"} {
		o, notes := symbols.NewOracle(name, sources...)
		require.Empty(t, notes)
		oracles = append(oracles, o)
		opts.Symbols[name] = verify.Known{Names: verify.NamesOf(name, tables...), Oracle: o}
	}
	layout := klp.DefaultLayout()
	layout.ModuleSize, layout.ModuleName, layout.ModuleInit, layout.ModuleExit = 896, 24, 312, 848
	k := &module.Kernel{Vermagic: "6.1.0-kd SMP mod_unload ", Layout: layout, Symbols: symbols.NewSet(exported, oracles...), CRC: crc, UnwindCall: 2, ReturnThunk: true}
	opts.Exports, opts.Layout, opts.Vermagic, opts.CRC = k.Symbols, layout, k.Vermagic, k.CRC
	return k, opts
}

// made is a module from a fixture.
type made struct {
	name   string
	r      *module.Result
	pairs  []verify.Pair
	opts   verify.Options
	kernel *module.Kernel
}

// fixtures makes modules of all fixtures that can become one; refused has the codes of the others.
func fixtures(t testing.TB, of string) (list []made, refused map[string]int) {
	t.Helper()
	refused = make(map[string]int)
	files, err := filepath.Glob("../../testdata/cases/*/gcc.ORIG.o")
	require.NoError(t, err)
	for _, orig := range files {
		p := module.Pair{Object: of, Orig: parse(t, orig), Patched: parse(t, strings.Replace(orig, "ORIG", "PATCHED", 1))}
		k, opts := kernelFor(t, []module.Pair{p})
		r, err := module.Build(context.Background(), []module.Pair{p}, k, module.Options{Name: "kd_test"})
		var e *diag.Error
		if errors.As(err, &e) {
			for _, d := range e.Diagnostics {
				if d.Severity == diag.SevError {
					refused[string(d.Code)]++
				}
			}
			continue
		}
		require.NoError(t, err)
		m := made{name: filepath.Base(filepath.Dir(orig)), r: r, opts: opts, kernel: k}
		for _, p := range r.Pairs {
			m.pairs = append(m.pairs, verify.Pair(p))
		}
		list = append(list, m)
	}
	return list, refused
}

func (m *made) prove(t testing.TB, data []byte) *verify.Result {
	t.Helper()
	f, err := object.Parse(data, object.Options{Name: m.name + ".ko"})
	require.NoError(t, err)
	v, err := verify.Verify(context.Background(), f, m.pairs, m.opts)
	require.NoError(t, err)
	return v
}

// Every fixture that can become a module does, for vmlinux and for a module, and is proved at every level.
func TestBuildFixtures(t *testing.T) {
	for _, of := range []string{klp.Vmlinux, "mod_a"} {
		list, refused := fixtures(t, of)
		t.Logf("%s: %d modules; refused: %v", of, len(list), refused)
		assert.Greater(t, len(list), 60)
		for i := range list {
			m := &list[i]
			v := m.prove(t, m.r.Module)
			for l := range v.Levels {
				assert.True(t, v.Levels[l].Proved(), "%s: %v: %v", m.name, verify.Level(l), v.Findings)
			}
			for _, d := range v.Findings {
				assert.NotEqual(t, diag.VerifyUnaccounted, d.Code, "%s: %v", m.name, d)
			}
			again, err := module.Build(context.Background(), []module.Pair{module.Pair(m.pairs[0])}, m.kernel, module.Options{Name: "kd_test"})
			require.NoError(t, err)
			assert.True(t, bytes.Equal(m.r.Module, again.Module), "%s: other bytes from the same input", m.name)
		}
	}
}

// What a loader reads of a module.
func TestModuleFile(t *testing.T) {
	dir := "../../testdata/cases/static-local-new/gcc."
	p := module.Pair{Object: "mod_a", Orig: parse(t, dir+"ORIG.o"), Patched: parse(t, dir+"PATCHED.o")}
	k, opts := kernelFor(t, []module.Pair{p})
	r, err := module.Build(context.Background(), []module.Pair{p}, k, module.Options{Name: "kd_test", NoReplace: true, Describe: "a test"})
	require.NoError(t, err)
	f, err := object.Parse(r.Module, object.Options{})
	require.NoError(t, err)
	find := func(name string) (object.SecID, *object.Section) {
		for i := range f.Sections {
			if f.Sections[i].Name == name {
				return object.SecID(i), &f.Sections[i]
			}
		}
		t.Fatalf("no %s", name)
		return 0, nil
	}
	_, info := find(".modinfo")
	assert.Equal(t, "license=GPL\x00description=a test\x00depends=\x00retpoline=Y\x00livepatch=Y\x00name=kd_test\x00vermagic="+k.Vermagic+"\x00", string(info.Data))
	id, mod := find(".gnu.linkonce.this_module")
	assert.Equal(t, uint64(896), mod.Size)
	assert.Equal(t, elf.SHF_ALLOC|elf.SHF_WRITE, mod.Flags)
	assert.Equal(t, "kd_test\x00", string(mod.Data[24:32]))
	rs := f.RelocsOf(id)
	require.Equal(t, 2, rs.Len())
	assert.Equal(t, uint64(312), rs.At(0).Off)
	assert.Equal(t, "init_module", f.SymName(rs.At(0).Sym))
	assert.Equal(t, uint64(848), rs.At(1).Off)
	assert.Equal(t, "cleanup_module", f.SymName(rs.At(1).Sym))
	_, versions := find("__versions")
	assert.Equal(t, "module_layout", string(bytes.TrimRight(versions.Data[8:64], "\x00")), "first")
	for at := 0; at < len(versions.Data); at += 64 {
		name := string(bytes.TrimRight(versions.Data[at+8:at+64], "\x00"))
		want, _ := crc(name)
		assert.Equal(t, uint64(want), binary.LittleEndian.Uint64(versions.Data[at:]), name)
	}
	s, replace, err := klp.ReadStatic(f, opts.Layout)
	require.NoError(t, err)
	assert.False(t, replace)
	require.Len(t, s.Objects, 1)
	assert.Equal(t, "mod_a", s.Objects[0].Name)
	require.Len(t, s.Objects[0].Funcs, 1)
	assert.Equal(t, "f", s.Objects[0].Funcs[0].Name)
	require.Len(t, s.Callbacks, 1, "this kernel does not take relocations back by itself")
	assert.Equal(t, klp.PostUnpatch, s.Callbacks[0].Kind)

	k.ClearsRelocs = true
	r, err = module.Build(context.Background(), []module.Pair{p}, k, module.Options{Name: "kd_test"})
	require.NoError(t, err)
	f, err = object.Parse(r.Module, object.Options{})
	require.NoError(t, err)
	s, replace, err = klp.ReadStatic(f, opts.Layout)
	require.NoError(t, err)
	assert.True(t, replace)
	assert.Empty(t, s.Callbacks)
}

// Several objects in one module: sections of one name become one.
func TestSeveralObjects(t *testing.T) {
	var pairs []module.Pair
	for i, name := range []string{"static-local-new", "const-code", "alt-feature", "extable", "cold-grow"} {
		dir := "../../testdata/cases/" + name + "/gcc."
		p := module.Pair{Object: klp.Vmlinux, Orig: parse(t, dir+"ORIG.o"), Patched: parse(t, dir+"PATCHED.o")}
		if i == 1 {
			p.Object = "mod_a"
		}
		pairs = append(pairs, p)
	}
	k, opts := kernelFor(t, pairs)
	r, err := module.Build(context.Background(), pairs, k, module.Options{Name: "kd_several"})
	require.NoError(t, err)
	m := made{name: "several", opts: opts}
	for _, p := range r.Pairs {
		m.pairs = append(m.pairs, verify.Pair(p))
	}
	v := m.prove(t, r.Module)
	assert.NoError(t, v.Err())
	f, err := object.Parse(r.Module, object.Options{})
	require.NoError(t, err)
	seen := make(map[string]bool)
	for i := range f.Sections {
		s := &f.Sections[i]
		assert.False(t, seen[s.Name] && s.Alloc() && s.Size > 0, s.Name)
		seen[s.Name] = true
	}
	p, _, err := klp.ReadStatic(f, opts.Layout)
	require.NoError(t, err)
	assert.Len(t, p.Objects, 2)
}

func TestBuildRefuses(t *testing.T) {
	dir := "../../testdata/cases/const-code/gcc."
	p := module.Pair{Object: klp.Vmlinux, Orig: parse(t, dir+"ORIG.o"), Patched: parse(t, dir+"PATCHED.o")}
	for _, c := range []struct {
		name   string
		change func(k *module.Kernel, o *module.Options, p *module.Pair)
		code   diag.Code
		says   string
	}{
		{"no name", func(_ *module.Kernel, o *module.Options, _ *module.Pair) { o.Name = "" }, diag.KlpName, "1 to 55"},
		{"dash", func(_ *module.Kernel, o *module.Options, _ *module.Pair) { o.Name = "a-b" }, diag.KlpName, "a-b"},
		{"long name", func(_ *module.Kernel, o *module.Options, _ *module.Pair) { o.Name = strings.Repeat("a", 56) }, diag.KlpName, "1 to 55"},
		{"kcfi", func(k *module.Kernel, _ *module.Options, _ *module.Pair) { k.KCFI = true }, diag.NotImplemented, "CONFIG_CFI_CLANG"},
		{"no vermagic", func(k *module.Kernel, _ *module.Options, _ *module.Pair) { k.Vermagic = "" }, diag.KlpInit, "vermagic"},
		{"layout", func(k *module.Kernel, _ *module.Options, _ *module.Pair) { k.Layout.ModuleExit = 892 }, diag.KlpInit, "struct module of 896 bytes"},
		{"description", func(_ *module.Kernel, o *module.Options, _ *module.Pair) { o.Describe = "a\x00b" }, diag.KlpInit, "NUL"},
		{"not traceable", func(k *module.Kernel, _ *module.Options, _ *module.Pair) {
			k.Traceable = func(_, name string, addr, _ uint64) bool { return name != "changed_imm" && addr != 0 }
		}, diag.NoFtraceEntry, "changed_imm of the running kernel"},
		{"no crc", func(k *module.Kernel, _ *module.Options, _ *module.Pair) {
			k.CRC = func(s string) (uint32, bool) { return 0, s != "klp_enable_patch" }
		}, diag.Undefined, "klp_enable_patch"},
		{"same", func(_ *module.Kernel, _ *module.Options, p *module.Pair) { p.Patched = p.Orig }, diag.NothingChanged, "no function differs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			q, o := p, module.Options{Name: "kd_test"}
			k, _ := kernelFor(t, []module.Pair{p})
			c.change(k, &o, &q)
			_, err := module.Build(context.Background(), []module.Pair{q}, k, o)
			var e *diag.Error
			require.True(t, errors.As(err, &e), "%v", err)
			require.True(t, slices.ContainsFunc(e.Diagnostics, func(d diag.Diagnostic) bool {
				return d.Code == c.code && d.Severity == diag.SevError && strings.Contains(d.Message, c.says)
			}), "%v", err)
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	k, _ := kernelFor(t, []module.Pair{p})
	_, err := module.Build(ctx, []module.Pair{p}, k, module.Options{Name: "kd_test"})
	assert.ErrorIs(t, err, context.Canceled)
}
