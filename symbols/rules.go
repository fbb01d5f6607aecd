package symbols

import "slices"

// Rule describes one naming scheme that [Parse] knows. Rules are documentation
// that tests run: every Example has the Key and at least the Flags given, and
// Unlike, which looks similar, has a key of its own.
type Rule struct {
	// Name is a short stable identifier of the rule.
	Name string
	// Example is a name as a compiler or the kernel emits it.
	Example string
	// Key and Parent are what Parse makes of Example.
	Key, Parent string
	// Flags are flags that Parse sets for Example; it may set more.
	Flags Flags
	// Unlike is a similar name that must not get the same key.
	Unlike string
	// Why says where such names come from and what in them changes.
	Why string
}

// Rules returns the naming schemes that [Parse] knows. The caller owns the slice.
func Rules() []Rule { return slices.Clone(rules) }

var rules = []Rule{
	{"number", "cnt.12", "cnt", "", Numbered | StaticLocal, "cnt12",
		"gcc numbers function-scope statics by a counter of the translation unit; digits without a dot belong to the name"},
	{"clang-static", "f.cnt.3", "f.cnt", "", Numbered | StaticLocal, "f.cnt3",
		"clang puts the function before the variable and a number behind it if it is not the first"},
	{"isra", "f.isra.0", "f.isra", "", Isra | Numbered, "f.isra0",
		"gcc changed the parameters; the number counts the clones of f"},
	{"constprop", "f.constprop.2", "f.constprop", "", Constprop | Numbered, "f.isra.2",
		"gcc copied f for known arguments"},
	{"part", "f.part.0", "f.part", "f", Part | Numbered, "f",
		"gcc's partial inlining keeps the unlikely rest of f apart"},
	{"bb-section", "f.__part.1", "f.__part", "f", Part | Numbered, "f.part.1",
		"clang -fbasic-block-sections places a run of blocks apart"},
	{"cold", "f.cold", "f.cold", "f", Cold, "f.colder",
		"gcc 8 and later, clang's machine function splitter"},
	{"cold-number", "f.isra.0.cold.3", "f.isra.cold", "f.isra.0", Cold | Isra | Numbered, "f.cold.3",
		"gcc before 9 and clang's hot-cold splitting number cold parts"},
	{"part-cold", "f.part.0.cold", "f.part.cold", "f.part.0", Cold | Part | Numbered, "f.cold",
		"a part can have a cold part; its parent is the part"},
	{"llvm", "f.llvm.1234567890123", "f", "", Promoted, "f.llvmx",
		"ThinLTO makes a static global and appends a hash of the module"},
	{"lto_priv", "f.lto_priv.0", "f", "", Promoted, "f.lto_privy",
		"gcc LTO renames a static that it had to make visible"},
	{"uniq", "f.__uniq.203", "f", "", Unique, "f.__uniqx",
		"clang -funique-internal-linkage-names appends a hash of the source path"},
	{"unique-id", "__UNIQUE_ID_ddebug1131.186", "__UNIQUE_ID_ddebug", "", UniqueID | Numbered, "__UNIQUE_ID_modinfo1131",
		"the kernel's __UNIQUE_ID pastes __COUNTER__ behind the prefix"},
	{"unique-id-underscore", "__UNIQUE_ID_addressable_cr4_513", "__UNIQUE_ID_addressable_cr4_", "", UniqueID | Numbered, "__UNIQUE_ID_addressable_cr8_514",
		"newer kernels separate the counter by an underscore, which stays so that digits before it stay too"},
	{"unique-id-clang", "f.__UNIQUE_ID_ddebug9", "f.__UNIQUE_ID_ddebug", "", UniqueID | Numbered, "g.__UNIQUE_ID_ddebug9",
		"the same as a function-scope static of clang"},
	{"addressable", "__addressable_tcp_poll633", "__addressable_tcp_poll", "", UniqueID | Numbered, "__addressable_tcp_push633",
		"kernels before 5.8 paste __LINE__ behind the symbol"},
	{"initcall", "__initcall__kmod_bio__709_2086_init_bio4", "__initcall__kmod_bio____init_bio4", "", Initcall | Numbered, "__initcall__kmod_bio__709_2086_init_bio6",
		"module, counter, line, function, level; the level is no counter"},
	{"initstub", "__initstub__kmod_bio__709_2086_init_bio", "__initstub__kmod_bio____init_bio", "", Initcall | Numbered, "__initstub__kmod_bio__709_2086_init_bio2",
		"clang LTO kernels call initcalls through a stub"},
	{"btf-id", "__BTF_ID__func__bpf_x86__1234", "__BTF_ID__func__bpf_x86__", "", UniqueID | Numbered, "__BTF_ID__struct__bpf_x86__1234",
		"kind, name, counter; the counter follows a double underscore"},
	{"lc", ".LC12", ".LC", "", Label | Content | Numbered, ".LCx12",
		"gcc's pool constants"},
	{"lcpi", ".LCPI3_1", ".LCPI", "", Label | Content | Numbered, ".LCPI3",
		"clang's pool constants: function and number"},
	{"jump-table", ".LJTI5_0", ".LJTI", "", Label | Content | Numbered, ".LJTI5",
		"clang's jump tables: function and number"},
	{"label", ".Ltmp7", ".Ltmp", "", Label | Numbered, ".Lror16",
		"labels of the compiler; names in hand-written assembly are significant"},
	{"str", ".L.str.7", ".L.str", "", Label | Content | Numbered, ".L.strx.7",
		"clang's string literals; .str.7 if promoted"},
	{"const", ".L__const.f.x.2", ".L__const.f.x", "", Label | Content | Numbered, ".L__const.f.y.2",
		"clang's initialisers of local aggregates"},
	{"unnamed", "__unnamed_5", "__unnamed_", "", Content | Numbered, "__unnamed_x5",
		"clang's name for globals without one"},
	{"unnamed-label", ".L__unnamed_5", ".L__unnamed_", "", Label | Content | Numbered, ".L__unnamedx_5",
		"the same as a private symbol"},
	{"unnamed-L", "L__unnamed_5", "L__unnamed_", "", Content | Numbered, "L__unnamedx_5",
		"the same with a broken private prefix, seen in kpatch's corpus"},
	{"ubsan", ".Lubsan_data7", ".Lubsan_data", "", Label | Content | Numbered, ".Lubsan_type7",
		"the records UBSAN passes to its handlers; they hold line numbers"},
	{"anon", ".Lanon.95564b9ffcc7a76f662ee9f70a228d62.1", ".Lanon", "", Label | Content | Hashed | Numbered, ".Lanonx.95564b9ffcc7a76f662ee9f70a228d62.1",
		"rustc's constants: hash of the code generation unit, number"},
	{"anon-llvm", "anon.95564b9ffcc7a76f662ee9f70a228d62.3.llvm.77", "anon", "", Content | Hashed | Numbered | Promoted, "anonx.95564b9ffcc7a76f662ee9f70a228d62.3.llvm.77",
		"the same promoted by ThinLTO"},
	{"alloc", "alloc_95564b9ffcc7a76f662ee9f70a228d62", "alloc_", "", Content | Hashed, "alloc_95564b9f",
		"rustc's constants named by a hash of their content"},
	{"cswtch", "CSWTCH.9", "CSWTCH", "", Content | Disposable | Numbered, "CSWTCH9",
		"gcc's tables for switches that only select a value"},
	{"initialiser", "C.0.77", "C", "", Content | Numbered, "C0.77",
		"gcc's initialisers of local aggregates: number, unique id"},
	{"compound-literal", "__compound_literal.4", "__compound_literal", "", Numbered, "__compound_literal4",
		"gcc's file-scope compound literals; they may be writable, so the content is not their identity"},
	{"switch-table", "switch.table.f.5", "switch.table.f", "", Content | Numbered, "switch.table.g.5",
		"LLVM's tables for switches; .Lswitch.table.f when private"},
	{"switch-table-label", ".Lswitch.table.f", ".Lswitch.table.f", "", Label | Content, ".Lswitch.table.g",
		"the same as a private symbol"},
	{"func-name", "__func__.9", "__func__", "", Content | Disposable | StaticLocal | Numbered, "__func__9",
		"the name of the function as a string; also __FUNCTION__ and __PRETTY_FUNCTION__"},
	{"func-name-clang", "__func__.f", "__func__.f", "", Content | Disposable | StaticLocal, "__func__.g",
		"clang appends the function"},
	{"disposable", "__warned.43", "__warned", "", Disposable | StaticLocal | Numbered, "__warnedx.43",
		"statics of kernel macros of which a patch may bring its own"},
	{"string-section", ".rodata.f.str1.8", ".rodata.f.str1.8", "", Plain, ".rodata.f.str1.1",
		"not a symbol: the number behind .strN is the alignment of a string section, so it is significant"},
	{"except-table", "GCC_except_table12", "GCC_except_table", "", Content | Numbered, "GCC_except_tablex12",
		"clang's exception tables"},
	{"outlined", "OUTLINED_FUNCTION_3", "OUTLINED_FUNCTION_", "", Content | Numbered, "OUTLINED_FUNCTION_x3",
		"code that LLVM's machine outliner shares between functions"},
	{"pfx", "__pfx_f.isra.0", "__pfx_f.isra", "f.isra.0", Prefix | Numbered, "f.isra.0",
		"objtool and gcc name the padding before a function"},
	{"cfi-prefix", "__cfi_f", "__cfi_f", "f", Prefix | CFI, "__pfx_f",
		"kCFI's type hash before a function"},
	{"pi-prefix", "__pi___pfx_memcpy", "__pi___pfx_memcpy", "__pi_memcpy", Prefix | PI, "__pfx_memcpy",
		"objcopy --prefix-symbols on startup code puts __pi_ before everything"},
	{"kcfi-typeid", "__kcfi_typeid_f", "__kcfi_typeid_f", "", CFI, "__cfi_f",
		"the hash of the type of f as an absolute symbol"},
	{"cfi", "f.cfi_jt", "f.cfi_jt", "", CFI, "f.cfi",
		"clang's forward-edge CFI: jump table entry, and f.cfi for the body"},
	{"rust-v0", "_RNvMs5_NtNtCsgEmfK2I1SDS_4core3fmt8buildersNtB5_9DebugList5entry",
		"_RNvMNtNtC4core3fmt8buildersNtB2_9DebugList5entry", "", Rust | Hashed | Numbered,
		"_RNvMs5_NtNtCsgEmfK2I1SDS_4core3fmt8buildersNtB5_8DebugSet5entry",
		"hashes of crates, numbers of impl blocks and closures go; back references are renumbered"},
	{"rust-legacy", "_ZN1b1m10A$LT$T$GT$2go17h20313fe6fd42022fE.llvm.99", "_ZN1b1m10A$LT$T$GT$2goE", "", Rust | Hashed | Promoted,
		"_ZN1b1m10A$LT$T$GT$4stop17h20313fe6fd42022fE", "the hash at the end tells instances apart, but also crates and compilers"},
	{"cxx", "_ZNL3bigEPii.isra.0", "_ZNL3bigEPii.isra", "", CXX | Isra | Numbered, "_ZNL3bigEPil.isra.0",
		"C++ names have no counters of the compiler but their suffixes"},
}
