package symbols

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRules(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Rules() {
		t.Run(r.Name, func(t *testing.T) {
			require.False(t, seen[r.Name], "rule named twice")
			seen[r.Name] = true
			require.NotEmpty(t, r.Why)
			f := Parse(r.Example)
			require.Equal(t, r.Key, f.Key)
			require.Equal(t, r.Parent, f.Parent)
			require.True(t, f.Flags.Has(r.Flags), "flags %v, want %v", f.Flags, r.Flags)
			if r.Flags == Plain {
				require.Equal(t, Plain, f.Flags)
			}
			require.NotEqual(t, f.Key, Key(r.Unlike), "%s and %s", r.Example, r.Unlike)
			require.Equal(t, f.Key, Key(f.Key), "key of the key")
			require.Equal(t, f.Key, Key(r.Example))
		})
	}
}

// TestRulesAreCopies holds the promise that callers cannot edit the table.
func TestRulesAreCopies(t *testing.T) {
	Rules()[0].Key = "broken"
	require.Equal(t, "cnt", Rules()[0].Key)
}

func TestParseExact(t *testing.T) {
	for _, c := range []struct {
		name, key, parent string
		flags             Flags
	}{
		{"", "", "", Plain},
		{"a", "a", "", Plain},
		{".", ".", "", Plain},
		{"..", "..", "", Plain},
		{".5", ".5", "", Numbered}, // dropping would leave nothing
		{"a.", "a.", "", Plain},
		{"schedule", "schedule", "", Plain},
		{"__schedule", "__schedule", "", Plain},
		{"__x64_sys_read", "__x64_sys_read", "", Plain},
		{"a.5", "a", "", Numbered | StaticLocal},
		{"a.1.2", "a", "", Numbered | StaticLocal},
		{"f.x", "f.x", "", StaticLocal},
		{"f.x.2", "f.x", "", Numbered | StaticLocal},
		{"f.localalias.3", "f.localalias", "", Numbered},
		{"f.part", "f.part", "", StaticLocal}, // gcc always writes a number: a variable
		{"f.part.3", "f.part", "f", Part | Numbered},
		{"f.constprop.0.isra.1.cold.3", "f.constprop.isra.cold", "f.constprop.0.isra.1", Constprop | Isra | Cold | Numbered},
		{"f.part.0.isra.4", "f.part.isra", "f", Part | Isra | Numbered},
		{"f.isra.0.part.1", "f.isra.part", "f.isra.0", Part | Isra | Numbered},
		{"f.cold.llvm.12", "f.cold", "f", Cold | Promoted},
		{"f.llvm.12.cold", "f.cold", "f.llvm.12", Cold | Promoted},
		{"f.llvm.12af", "f", "", Promoted},
		{"f.llvm", "f.llvm", "", Plain},
		{"x.5.lto_priv.0", "x", "", Numbered | StaticLocal | Promoted},
		{"f.__uniq.12.llvm.99", "f", "", Unique | Promoted},
		{"f.__uniq.12.cold.1", "f.cold", "f.__uniq.12", Unique | Cold | Numbered},
		{"f.coldstart", "f.coldstart", "", StaticLocal},
		{".cold", ".cold", "", Cold},
		{".llvm.5", ".llvm", "", Numbered},
		{"__pfx_", "__pfx_", "", Plain},
		{"__pi_", "__pi_", "", Plain},
		{"__pi_memcpy", "__pi_memcpy", "", PI},
		{"__pfx_f", "__pfx_f", "f", Prefix},
		{"__pfx_f.cold", "__pfx_f.cold", "f.cold", Prefix},
		{"__pi___cfi_f", "__pi___cfi_f", "__pi_f", Prefix | CFI | PI},
		{"__cfi_f.llvm.3", "__cfi_f", "f.llvm.3", Prefix | CFI | Promoted},
		{"f.cfi", "f.cfi", "", CFI},
		{"__UNIQUE_ID_addressable_ipc_ns_init_513", "__UNIQUE_ID_addressable_ipc_ns_init_", "", UniqueID | Numbered},
		{"__UNIQUE_ID___addressable_foo412", "__UNIQUE_ID___addressable_foo", "", UniqueID | Numbered},
		{"__UNIQUE_ID_x_12", "__UNIQUE_ID_x_", "", UniqueID | Numbered},
		{"__UNIQUE_ID_ddebug_365.11", "__UNIQUE_ID_ddebug_", "", UniqueID | Numbered},
		{"__UNIQUE_ID_", "__UNIQUE_ID_", "", UniqueID},
		{"__BTF_ID__set8__foo_set8", "__BTF_ID__set8__foo_set8", "", UniqueID},
		{"__BTF_ID__set__7", "__BTF_ID__set__", "", UniqueID | Numbered},
		{"__initcall__kmod_ipv6__1_2_x__3_4_f6", "__initcall__kmod_ipv6____x__3_4_f6", "", Initcall | Numbered},
		{"__initcall__kmod_a___12_34_f6", "__initcall__kmod_a_____f6", "", Initcall | Numbered},
		{"__initcall__kmod_x86_64__12_34_f6s", "__initcall__kmod_x86_64____f6s", "", Initcall | Numbered},
		{"__initcall__kmod_odd", "__initcall__kmod_odd", "", Initcall},
		{"__initcall_f6", "__initcall_f6", "", Plain}, // before 5.11: no counter
		{".L.str", ".L.str", "", Label | Content},
		{".str.5.llvm.9", ".str", "", Content | Numbered | Promoted},
		{".L123", ".L", "", Label | Numbered},
		{".Lsigma2", ".Lsigma2", "", Label},
		{".rodata..L__unnamed_5", ".rodata..L__unnamed_", "", Content | Numbered},
		{".rodata..Lanon.95564b9ffcc7a76f662ee9f70a228d62.1", ".rodata..Lanon", "", Content | Hashed | Numbered},
		{"f.LC5", "f.LC5", "", StaticLocal},
		{"__const.f.x", "__const.f.x", "", Content},
		{"vtable.5", "vtable", "", Content | Numbered},
		{".L__PRETTY_FUNCTION__._ZN1n2fnEv", ".L__PRETTY_FUNCTION__._ZN1n2fnEv", "", Label | Content | CXX},
		{"DW.ref.__gxx_personality_v0", "DW.ref.__gxx_personality_v0", "", Plain},
		{"_ZN1n1zEi.cold", "_ZN1n1zEi.cold", "_ZN1n1zEi", CXX | Cold},
		{"_ZN1nL3bigEPii.isra.0", "_ZN1nL3bigEPii.isra", "", CXX | Isra | Numbered},
		// Legacy Rust writes :: as two dots.
		// A wrong length: nothing is dropped from what may not be a path.
		{"_ZN7a..b.5..c17h20313fe6fd42022fE.cold.1", "_ZN7a..b.5..c17h20313fe6fd42022fE.cold.1", "", CXX},
		{"_ZN8a..b.5.c17h20313fe6fd42022fE.cold.1", "_ZN8a..b.5.cE.cold", "_ZN8a..b.5.c17h20313fe6fd42022fE", Rust | Hashed | Cold | Numbered},
		{"_ZN17h20313fe6fd42022fE", "_ZN17h20313fe6fd42022fE", "", CXX}, // nothing but a hash
		{"__ksymtab__RNvCsfLfy6EI15iL_7___rustc12___rust_alloc", "__ksymtab__RNvC7___rustc12___rust_alloc", "", Rust | Hashed},
		{"__pfx__RNvCsciUMGOH01m6_1b3top", "__pfx__RNvC1b3top", "_RNvCsciUMGOH01m6_1b3top", Prefix | Rust | Hashed},
		{"_RNvCsciUMGOH01m6_1b3top.llvm.123.cold", "_RNvC1b3top.cold", "_RNvCsciUMGOH01m6_1b3top.llvm.123", Rust | Hashed | Promoted | Cold},
		{"_Random", "_Random", "", Plain},
		{"_R", "_R", "", Plain},
		// Labels with one number, and with two.
		{".LBB1_2", ".LBB", "", Label | Numbered},
		{".LBB12", ".LBB12", "", Label},
		{".Lfunc_begin5", ".Lfunc_begin", "", Label | Numbered},
		{".Lfunc_end5", ".Lfunc_end", "", Label | Numbered},
		{".Lfunc_end1_5", ".Lfunc_end1_5", "", Label},
		{"GCC_except_table", "GCC_except_table", "", Content},
		{"GCC_except_tables", "GCC_except_tables", "", Plain},
		// No counter and line, or cut short.
		{"__initcall__kmod_odd_", "__initcall__kmod_odd_", "", Initcall},
		{"__initcall__kmod_a__12x__34_5_f6", "__initcall__kmod_a__12x____f6", "", Initcall | Numbered},
		{"__initcall__kmod_a__12_34", "__initcall__kmod_a__12_34", "", Initcall},
		{"__initcall__kmod_a__12_34x__5_6_f", "__initcall__kmod_a__12_34x____f", "", Initcall | Numbered},
		// Prefixes: the shortest name, and those that tell nothing but themselves.
		{"__pi_x", "__pi_x", "", PI},
		{"__kstrtab_f", "__kstrtab_f", "", Plain},
		{"__kstrtabns_f", "__kstrtabns_f", "", Plain},
		{"__crc_f", "__crc_f", "", Plain},
		{"__export_symbol_f", "__export_symbol_f", "", Plain},
		{"__pfx_f.isra.0", "__pfx_f.isra", "f.isra.0", Prefix | Numbered},
		{"__pfx_f.constprop.0", "__pfx_f.constprop", "f.constprop.0", Prefix | Numbered},
		{"__pfx_f.part.0", "__pfx_f.part", "f.part.0", Prefix | Numbered},
		{"__pfx_f.x.1", "__pfx_f.x", "f.x.1", Prefix | Numbered},
		{"__pfx___key.1", "__pfx___key", "__key.1", Prefix | Numbered},
		// What a number behind a mangled name is, the name does not say.
		{"_RNvC1a1b.5", "_RNvC1a1b", "", Rust | Numbered},
		{"_ZN1n1zEi.5", "_ZN1n1zEi", "", CXX | Numbered},
		// Constants by the start of the name.
		{"C.", "C.", "", Plain},
		{"C.5", "C", "", Content | Numbered},
		{"C.x", "C.x", "", StaticLocal},
		{"Cx5.y", "Cx5.y", "", StaticLocal},
		{"vtable.x", "vtable.x", "", StaticLocal},
		{"__func__.f", "__func__.f", "", StaticLocal | Content | Disposable},
		{"f..__key", "f..__key", "", StaticLocal | Disposable},
		{"f.__func__", "f.__func__", "", StaticLocal | Content | Disposable},
		{"f.__func__.x.2", "f.__func__.x", "", StaticLocal | Content | Disposable | Numbered},
		// A hash has sixteen digits.
		{".Lanon.0123456789abcdef.1", ".Lanon", "", Label | Content | Hashed | Numbered},
		{".Lanon.0123456789abcde.1", ".Lanon.0123456789abcde", "", Label | Numbered},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := Parse(c.name)
			require.Equal(t, Family{c.key, c.parent, c.flags}, f, "flags %v, want %v", f.Flags, c.flags)
			require.Equal(t, f.Key, Key(c.name))
			require.Equal(t, f.Key, Key(f.Key))
		})
	}
}

// TestParseLong: the length of a name decides nothing, nor where in it something was dropped.
func TestParseLong(t *testing.T) {
	for _, end := range []string{".cold", ".llvm.5.cold", ".part.1.cold.2", ".llvm.5.cold.llvm.6.x.llvm.7", ".5.Lanon.0123456789abcdef.1", ".7..LC5", ".7.x.LC5", ".7.str1.8", ".1.__key.2", ".3.isra.4.llvm.5"} {
		short := Parse("a" + end)
		for n := 1; n < 200; n++ {
			a := strings.Repeat("a", n)
			long := Parse(a + end)
			require.Equal(t, a+short.Key[1:], long.Key)
			require.Equal(t, short.Flags, long.Flags, long.Key)
		}
	}
}

// TestRustV0 has names of rustc 1.95 and the same as another compiler or an
// edited source would have spelled them: other hashes (of other lengths), other
// numbers of impls and closures, and so other back references.
func TestRustV0(t *testing.T) {
	for _, c := range [][2]string{
		{"_RNvMNtCsciUMGOH01m6_1b1mINtB2_1ANtNtCslNYArtu3iFV_5alloc6string6StringE2goB4_",
			"_RNvMNtCs7_1b1mINtB2_1ANtNtCs12_5alloc6string6StringE2goB4_"},
		{"_RNvXsq_NtCslNYArtu3iFV_5alloc3vecINtB5_3VecNtNtB7_6string6StringENtNtCsgEmfK2I1SDS_4core3fmt5Debug3fmtCsciUMGOH01m6_1b",
			"_RNvXs1q_NtCslNYArtu3iFV_5alloc3vecINtB6_3VecNtNtB8_6string6StringENtNtCsgEmfK2I1SDSx_4core3fmt5Debug3fmtCs_1b"},
		{"_RNCNvC1a1bs_0", "_RNCNvCs_1a1bs0_0"},
		{"_RNCNvC1a1b0", "_RNCNvC1a1bs0_0"},
	} {
		a, b := Parse(c[0]), Parse(c[1])
		require.Equal(t, a.Key, b.Key)
		require.NotEqual(t, c[0], c[1])
		require.True(t, b.Flags.Has(Rust|Hashed) || b.Flags.Has(Rust|Numbered))
		require.NotContains(t, a.Key, "Cs")
		require.NotEqual(t, a.Key, Demangle(a.Key), "the key is a valid name")
	}
	// i16 is spelled s, as a disambiguator is: only the grammar tells.
	require.Equal(t, "_RINvC1a1fslE", Key("_RINvCs1_1a1fslE"))
	// So is an identifier that holds what looks like one.
	require.Equal(t, "_RNvC1a5Cs1_b", Key("_RNvCs2_1a5Cs1_b"))
	// Generic arguments, constants, functions, dyn, lifetimes stay.
	for _, n := range []string{
		"_RINvC1a1fKj3_E", "_RINvC1a1fKln1f_E", "_RINvC1a1fFG_RL0_hEuE", "_RINvC1a1fDNtC1b1Tp4ItemhEL_E",
		"_RINvC1a1fFUKCmEuE", "_RINvC1a1fKpE", "_RINvC1a1fTlhEAhj4_E", "_RINvC1a1fKRe616263_E", "_RINvC1a1fQeOhPhShE",
		"_RNvYNtC1a1SNtC1b1T1m", "_RNvC1au7caf_dma", "_RINvC1a1fB_E",
	} {
		f := Parse(n)
		require.Equal(t, Family{n, "", Rust}, f, n)
	}
	// Broken names are their own keys.
	for _, n := range []string{
		"_RNvC1", "_RNvCs", "_RNvCs1_9a", "_RNvC1aB9_", "_RINvCs1_1a1f", "_R1NvCs1_1a1f", "_RNvCs1_1a1fz", "_RNvCs1!_1a1f",
		"_RINvCs1_1a1fB5_E", // refers into a disambiguator
		"_R" + strings.Repeat("M", 5000),
	} {
		require.Equal(t, n, Parse(n).Key)
	}
}

// TestTwoBuilds has the pairs of names for which kpatch's name comparison and
// ours were settled. own is set where they differ, which is always on purpose.
func TestTwoBuilds(t *testing.T) {
	for _, c := range []struct {
		a, b       string
		kpatch, us bool
		why        string
	}{
		{"a.isra.0", "a.isra.12", true, true, ""},
		{"a.cold", "a.cold.3", true, true, ""},
		{"a.isra.0.cold.1", "a.isra.4.cold", true, true, ""},
		{"a.5", "a", true, true, "but only one is Numbered, and the correlator decides"},
		{"a.x5", "a.x6", false, false, ""},
		{"__UNIQUE_ID_ddebug1131.186", "__UNIQUE_ID_ddebug1132.187", true, true, ""},
		{"f.__UNIQUE_ID_ddebug9", "f.__UNIQUE_ID_ddebug10", true, true, ""},
		{".rodata.f.str1.1", ".rodata.f.str1.8", false, false, ""},
		{".data.v.3", ".data.v.44", true, true, ""},
		{".Lubsan_data1", ".Lubsan_data2", false, true, "the number is a counter; the content decides"},
		{"foo.llvm.123", "foo.llvm.9", true, true, ""},
		{"foo.part.0", "foo.part.0.cold", false, false, ""},
		{"a.", "a", true, false, "no compiler ends a name with a dot; equal there by accident"},
		{"a.1b", "a.2b", true, false, "1b is a word, not a counter"},
		{"a.1", "a.x", false, false, ""},
		{"L__unnamed_5", "L__unnamed_6", false, true, "the number is a counter"},
		{".data.__UNIQUE_ID_x12", ".data.__UNIQUE_ID_x13", false, true, "the counter does not depend on what precedes it"},
		{"foo", "foo.llvm.5", false, true, "promotion by LTO; the flag tells"},
	} {
		t.Run(c.a+"~"+c.b, func(t *testing.T) {
			require.Equal(t, c.us, Key(c.a) == Key(c.b))
			if c.us != c.kpatch {
				require.NotEmpty(t, c.why)
			}
		})
	}
	// The number that was dropped must show.
	require.True(t, Parse("a.5").Flags.Has(Numbered))
	require.False(t, Parse("a").Flags.Has(Numbered))
}

// TestDisposable has kpatch's table of special statics (it calls them so), with
// the rows where we differ on purpose.
func TestDisposable(t *testing.T) {
	for _, n := range []string{
		"__key.5", "f.__key", "f.__key.2", "__warned.1", "_entry.3", "_rs.1", "__func__.9", "CSWTCH.4",
		"f.__already_done.3",
		// kpatch writes the pattern with its dot and so misses these two
		// outside .data.once.
		"__already_done.5", "f.__already_done",
		// objtool lists it: a pointer to the printk index entry.
		"_entry_ptr.3",
		// Always in .data.once, which kpatch accepts as a whole.
		"__print_once.2",
	} {
		require.True(t, Parse(n).Flags.Has(Disposable), n)
	}
	for _, n := range []string{
		"C.0.77", "__key", "__keys.3", "f.__keyring", "descriptor.4", "f.descriptor", "cnt.3", "__key.cold", "__pfx___key.5",
	} {
		require.False(t, Parse(n).Flags.Any(Disposable), n)
	}
}

func TestDemangle(t *testing.T) {
	for _, c := range [][2]string{
		{"", ""}, {"_", "_"}, {"_Z", "_Z"}, {"_R", "_R"},
		{"schedule", "schedule"}, {"__schedule", "__schedule"}, {"__pfx_schedule", "__pfx_schedule"},
		{"foo.cold", "foo.cold"},
		{"_ZN1n1zEi", "n::z(int)"},
		{"_ZN1n1zEi.cold", "n::z(int).cold"},
		{"_ZN1nL3bigEPii.isra.0", "n::big(int*, int).isra.0"},
		{"_ZZN1n1SIiE1fEiE1c", "n::S<int>::f(int)::c"},
		{"_ZN1b1m3clo17h102c4060646726d5E", "b::m::clo"},
		{"_ZN1b1m10A$LT$T$GT$2go17h20313fe6fd42022fE.llvm.77", "b::m::A<T>::go.llvm.77"},
		{"_RNvCsciUMGOH01m6_1b3top", "b::top"},
		{"_RNvCsciUMGOH01m6_1b3top.llvm.123.cold", "b::top.llvm.123.cold"},
		{"__pfx__RNvCsciUMGOH01m6_1b3top", "__pfx_b::top"},
		{"__ksymtab__ZN1n1zEi", "__ksymtab_n::z(int)"},
		{"_RNvMNtCsciUMGOH01m6_1b1mINtB2_1ANtNtCslNYArtu3iFV_5alloc6string6StringE2goB4_", "<b::m::A<alloc::string::String>>::go"},
		{"_Zork", "_Zork"}, {"_Random", "_Random"},
	} {
		require.Equal(t, c[1], Demangle(c[0]), c[0])
	}
}

// limit is far above what a linear parser needs on a busy machine, and far below what a quadratic one does.
const limit = 30 * time.Second

// TestHostile has names that make naive parsers recurse or square.
func TestHostile(t *testing.T) {
	const n = 1 << 20
	for _, s := range []string{
		strings.Repeat(".", n), strings.Repeat("a.", n), strings.Repeat(".5", n), strings.Repeat("a.5", n),
		strings.Repeat(".llvm.5", n/4), "a" + strings.Repeat(".llvm", n/4) + strings.Repeat(".5", n/4),
		"_ZN" + strings.Repeat("4._ZN", n/4), "_ZN" + strings.Repeat("1a", n), strings.Repeat("_ZN1a.", n/4),
		strings.Repeat("._ZN17h", n/8), "_ZN" + strings.Repeat("17h0123456789abcdef", n/16) + "E",
		"_R" + strings.Repeat("NvC", n), "_RNvC1a" + strings.Repeat("s_", n), "_RIC1a" + strings.Repeat("B_", n) + "E",
		"_RIC1a" + strings.Repeat("Cs_1a", n/4) + "E", "_RINvCs9_1a1b" + strings.Repeat("B4_", n) + "E", "_RTC1a" + strings.Repeat("T", n),
		"__initcall__kmod_" + strings.Repeat("_", n), "__initcall__kmod_" + strings.Repeat("__1", n/2), "__initcall__kmod__" + strings.Repeat("1", n),
		"__UNIQUE_ID_" + strings.Repeat("1", n), strings.Repeat("_ZN1a17h0123456789abcdeE.", n/16), strings.Repeat("__pfx_", n/4),
		"_Z" + strings.Repeat("P", n), "_R" + strings.Repeat("B_", n),
	} {
		start := time.Now()
		f := Parse(s)
		d := time.Since(start)
		require.Less(t, d, limit, "%.20s", s)
		require.Equal(t, f.Key == Key(f.Key), true, "%.40s", s)
		require.Equal(t, len(s), len(Demangle(s)), "beyond the limit of the demangler")
	}
	for _, s := range []string{
		"_Z" + strings.Repeat("P", 4000), "_Z1f" + strings.Repeat("S_", 2000), "_Z1fSt4pairI" + strings.Repeat("St4pairIS_", 300),
		"_R" + strings.Repeat("B_", 2000), "_RIC1a" + strings.Repeat("B_", 2000) + "E", "_RNvC1a" + strings.Repeat("s_", 2000),
		rustBomb(60), cxxBomb(60), "_RIC1aTB1_B1_EE", "_RINvC1a1b" + strings.Repeat("T", 1500) + strings.Repeat("E", 1501),
	} {
		start := time.Now()
		d := Demangle(s)
		require.Less(t, time.Since(start), limit, "%.60s", s)
		require.LessOrEqual(t, len(d), 1<<maxDemangled+len(s)+64)
	}
}

// rustBomb nests tuples that refer twice to the one before: 2^n elements.
func rustBomb(n int) string {
	s := "INvC1a1bTlE"
	prev := len(s) - 3
	for range n {
		at := len(s)
		r := string(appendBackref(nil, int32(prev)))
		s += "T" + r + r + "E"
		prev = at
	}
	return "_R" + s + "E"
}

// cxxBomb does the same with template arguments.
func cxxBomb(n int) string {
	var b strings.Builder
	b.WriteString("_Z1f1AI")
	for i := range n {
		fmt.Fprintf(&b, "1BIS%s_S%s_E", strings.ToUpper(fmt.Sprintf("%x", i%10)), strings.ToUpper(fmt.Sprintf("%x", i%10)))
	}
	b.WriteString("E")
	return b.String()
}

func TestFlagsString(t *testing.T) {
	require.Equal(t, "plain", Plain.String())
	require.Equal(t, "cold|numbered", (Cold | Numbered).String())
	require.Equal(t, "cxx", CXX.String())
	require.Equal(t, len(flagNames), len(strings.Split(Flags(1<<len(flagNames)-1).String(), "|")))
}

func TestAllocs(t *testing.T) {
	for name, want := range map[string]float64{
		"schedule": 0, "__schedule": 0, "cnt.12": 0, "f.isra.0": 0, "f.llvm.123": 0, "f.cold": 0, "f.part.0": 0,
		"__pfx_schedule": 0, "__UNIQUE_ID_ddebug1131.186": 0, ".LC12": 0, "__BTF_ID__func__x__12": 0, "_ZN1n1zEi.cold": 0,
		"f.part.0.cold": 1, "__initcall__kmod_bio__709_2086_init_bio4": 1, "__pi___pfx_memcpy": 1,
		"_RNvXsq_NtCslNYArtu3iFV_5alloc3vecINtB5_3VecNtNtB7_6string6StringENtNtCsgEmfK2I1SDS_4core3fmt5Debug3fmtCsciUMGOH01m6_1b": 1,
		"_ZN1b1m3clo17h102c4060646726d5E": 1,
	} {
		require.Equal(t, want, testing.AllocsPerRun(100, func() { sink = Parse(name) }), name)
	}
	require.Zero(t, testing.AllocsPerRun(100, func() { sinkString = Demangle("schedule") }))
}

var (
	sink       Family
	sinkString string
)

func FuzzParse(f *testing.F) {
	for _, r := range rules {
		f.Add(r.Example)
		f.Add(r.Unlike)
	}
	for _, s := range []string{
		"a.llvm.llvm.5.ff", "a..5.LC3", "_ZN3a.517h0123456789abcdefE", "_ZN5a.b.5.c17h0123456789abcdefE",
		"__initcall__kmod_m__1_2_x__3_4_f6", "__pi___pfx_.5", ".5.str1.8", "_RNvXsq_NtCslN_5alloc3vecINtB5_3VecNtNtB7_6string6StringE4core3fmt",
		"__initcall__kmod_a____1_2_f", "anon.0123456789abcdef.5",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		a := Parse(name)
		if b := Parse(a.Key); b.Key != a.Key {
			t.Fatalf("key of %q is %q, key of that %q", name, a.Key, b.Key)
		}
		if k := Key(name); k != a.Key {
			t.Fatalf("Key %q, Parse %q", k, a.Key)
		}
		if (a.Key == "") != (name == "") {
			t.Fatalf("key of %q is %q", name, a.Key)
		}
		if len(a.Key) > len(name)+8*strings.Count(name, "B") {
			t.Fatalf("key of %q grew to %q", name, a.Key)
		}
		if a.Flags == Plain && a.Key != name {
			t.Fatalf("%q lost something without a flag: %q", name, a.Key)
		}
		if a.Parent != "" && len(a.Parent) >= len(name) {
			t.Fatalf("parent of %q is %q", name, a.Parent)
		}
		if len(name) <= maxMangled {
			Demangle(name)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, n := range []string{
		"ext4_file_write_iter", "__netif_receive_skb_core", "__pfx_ext4_file_write_iter", "cnt.12", "f.isra.0.cold",
		"__UNIQUE_ID_addressable_ipc_ns_init_513",
		"_RNvMNtCsciUMGOH01m6_1b1mINtB2_1ANtNtCslNYArtu3iFV_5alloc6string6StringE2goB4_",
	} {
		b.Run(n[:min(20, len(n))], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				sink = Parse(n)
			}
		})
	}
}

func BenchmarkKey(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		sinkString = Key("ext4_file_write_iter")
	}
}

func BenchmarkDemangle(b *testing.B) {
	for _, n := range []string{"ext4_file_write_iter", "_ZN1n1zEi.cold", "_RNvCsciUMGOH01m6_1b3top"} {
		b.Run(n, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				sinkString = Demangle(n)
			}
		})
	}
}
