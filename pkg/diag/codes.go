package diag

// Code names one kind of finding. Codes are part of the API: they never change
// their meaning and are never reused.
type Code string

// Entry is what the catalogue says of a code.
type Entry struct {
	Code     Code
	Severity Severity // the severity that New gives
	Meaning  string   // what it says, for somebody who meets it first
	Remedy   string   // what to do about it
	Example  string   // a diagnostic with it, as it is printed
}

// row is what is written down of a code here; examples has the rest.
type row struct {
	code     Code
	severity Severity
	meaning  string
	remedy   string
}

func (r *row) entry() Entry { return Entry{r.code, r.severity, r.meaning, r.remedy, examples[r.code]} }

// Codes of the object reader and the builder.
const (
	ElfMalformed   Code = "elf-malformed"
	ElfUnsupported Code = "elf-unsupported"
	ElfLimit       Code = "elf-limit"
	BuildInvalid   Code = "build-invalid"
)

// Codes of the graph and the differ.
const (
	RelocNonzero       Code = "reloc-nonzero"
	RelocUnsupported   Code = "reloc-unsupported"
	RelocOutside       Code = "reloc-outside"
	RelocOverflow      Code = "reloc-overflow"
	ColdParent         Code = "cold-parent"
	OverlappingSymbols Code = "overlapping-symbols"
	TableShape         Code = "table-shape"
	TableSize          Code = "table-size"
	Undecodable        Code = "undecodable"
	AmbiguousTarget    Code = "ambiguous-target"
	AmbiguousMatch     Code = "ambiguous-match"
	HeaderMismatch     Code = "header-mismatch"
	PinInvalid         Code = "pin-invalid"
	ConstantShared     Code = "constant-shared"
	DebugInfo          Code = "debug-info"
)

// Codes of selection and patch writing.
const (
	DataChanged     Code = "data-changed"
	DataStructure   Code = "data-structure"
	UnknownTable    Code = "unknown-table"
	NoFtraceEntry   Code = "no-ftrace-entry"
	InitChanged     Code = "init-changed"
	InitReference   Code = "init-reference"
	Unpatchable     Code = "unpatchable-section"
	GroupChanged    Code = "section-group"
	SymposUnknown   Code = "sympos-unknown"
	NothingChanged  Code = "nothing-changed"
	WeakChanged     Code = "weak-changed"
	ExportChanged   Code = "export-changed"
	NewInitcall     Code = "new-initcall"
	NewTracepoint   Code = "new-tracepoint"
	Instrumented    Code = "instrumented"
	UnnamedData     Code = "unnamed-data"
	ShortBranch     Code = "short-branch"
	RuntimeConst    Code = "runtime-constant"
	Undefined       Code = "undefined-symbol"
	NoUnwind        Code = "unwind-missing"
	ExportTwice     Code = "export-ambiguous"
	TracepointOff   Code = "tracepoint-disabled"
	PrDebugOff      Code = "pr-debug-disabled"
	StaticKey       Code = "static-key-module"
	StaticCall      Code = "static-call-module"
	LateTable       Code = "table-module"
	MissingFtrace   Code = "ftrace-site"
	CallbackInvalid Code = "callback-invalid"
	ForceIgnored    Code = "force-ignored"
	NotImplemented  Code = "not-supported-yet"
)

// Codes of what is known of a running kernel's symbols.
const (
	SymbolsMalformed Code = "symbols-malformed"
	SymbolsLimit     Code = "symbols-limit"
	SymbolsMismatch  Code = "symbols-mismatch"
	SymposConflict   Code = "sympos-conflict"
)

// Codes of a kernel's and its modules' files.
const (
	ImageMalformed   Code = "image-malformed"
	ImageUnsupported Code = "image-unsupported"
	ImageLimit       Code = "image-limit"
	ImageLacks       Code = "image-lacks"
	RunPreMismatch   Code = "run-pre-mismatch"
)

// Codes of the livepatch formats.
const (
	KlpForm      Code = "klp-form"
	KlpMalformed Code = "klp-malformed"
	KlpName      Code = "klp-name"
	KlpAccess    Code = "klp-access"
	KlpTwice     Code = "klp-twice"
	KlpInit      Code = "klp-init"
	KlpModule    Code = "klp-module"
)

// Codes of the proof of a finished patch.
const (
	VerifyStructure    Code = "verify-structure"
	VerifyType         Code = "verify-type"
	VerifyTwice        Code = "verify-twice"
	VerifyNonzero      Code = "verify-nonzero"
	VerifyTombstone    Code = "verify-tombstone"
	VerifyUndefined    Code = "verify-undefined"
	VerifyMcount       Code = "verify-mcount"
	VerifySymbol       Code = "verify-symbol"
	VerifyPosition     Code = "verify-position"
	VerifyObject       Code = "verify-object"
	VerifyFunction     Code = "verify-function"
	VerifyMissing      Code = "verify-missing-function"
	VerifyCold         Code = "verify-cold"
	VerifyCode         Code = "verify-code"
	VerifyData         Code = "verify-data"
	VerifyTarget       Code = "verify-target"
	VerifyAddend       Code = "verify-addend"
	VerifyPointer      Code = "verify-pointer"
	VerifyState        Code = "verify-state"
	VerifyEntry        Code = "verify-entry"
	VerifyEntryMissing Code = "verify-entry-missing"
	VerifyEntryExtra   Code = "verify-entry-extra"
	VerifyCallback     Code = "verify-callback"
	VerifyUnaccounted  Code = "verify-unaccounted"
	VerifyUnproved     Code = "verify-unproved"
)

// Codes of a running system and of what is installed for it.
const (
	SystemUnreadable     Code = "system-unreadable"
	LivepatchUnsupported Code = "livepatch-unsupported"
	NotLivepatch         Code = "not-livepatch"
	WrongRelease         Code = "wrong-release"
	Lockdown             Code = "lockdown"
	SignatureRequired    Code = "signature-required"
	ModulesDisabled      Code = "modules-disabled"
	FtraceDisabled       Code = "ftrace-disabled"
	FtraceBusy           Code = "ftrace-busy"
	NotTraceable         Code = "not-traceable"
	FunctionAbsent       Code = "function-absent"
	TargetAbsent         Code = "target-absent"
	AlreadyPatched       Code = "already-patched"
	NotCumulative        Code = "not-cumulative"
	ContentsUnknown      Code = "contents-unknown"
	PatchLoaded          Code = "patch-loaded"
	NoSuchPatch          Code = "no-such-patch"
	TransitionRunning    Code = "transition-running"
	TransitionStalled    Code = "transition-stalled"
	PatchVanished        Code = "patch-vanished"
	PatchLeft            Code = "patch-left"
	ModuleBusy           Code = "module-busy"
	ModuleRejected       Code = "module-rejected"
	NotPermitted         Code = "not-permitted"
	StoreConflict        Code = "store-conflict"
	StoreFailed          Code = "store-failed"
)

// catalogue lists every code once, in the order of the constants above.
var catalogue = []row{
	{ElfMalformed, SevError, "The file is not a well-formed ELF object: a header, table or index points outside what is there.",
		"Rebuild the object; if a tool wrote it, report the tool. kdelta reads nothing from a file that contradicts itself."},
	{ElfUnsupported, SevError, "The file is ELF, but not a kind that kdelta reads (ELF64, little-endian, x86-64).",
		"Give x86-64 objects as the compiler, the linker's -r or objtool write them."},
	{ElfLimit, SevError, "The file exceeds a limit on sizes or counts.",
		"Raise the limit in object.Options if the file is trusted."},
	{BuildInvalid, SevError, "What was put into a Builder does not make a valid object.",
		"This is a fault of the calling program; the message says which section or symbol."},

	{RelocNonzero, SevError, "Bytes under a relocation are not zero. They would be masked in comparison and the kernel refuses them when it loads the module.",
		"Rebuild without implicit addends: x86-64 uses RELA, whose fields are zero in the file."},
	{RelocUnsupported, SevError, "A relocation of a type that the kernel's module loader does not apply.",
		"Rebuild with the kernel's own flags (-mcmodel=kernel -fno-pic); GOT and TLS relocations cannot be in a livepatch."},
	{RelocOutside, SevError, "A relocation's field reaches beyond the end of its section.",
		"Rebuild the object; the file contradicts itself."},
	{RelocOverflow, SevError, "The value of a relocation cannot fit its field: the kernel and its modules lie in the top 2 GiB of the address space. The kernel would refuse the module.",
		"Rebuild with the kernel's own flags (-mcmodel=kernel); in assembler load addresses with movq $symbol or lea."},
	{ColdParent, SevWarning, "A split-off part (.cold) whose parent function was not found by name and reference; it is treated as a function of its own.",
		"If the parent is in this object, report it with both names; otherwise rebuild with -fno-reorder-blocks-and-partition."},
	{OverlappingSymbols, SevWarning, "Two sized symbols overlap in part; their bytes are treated as one piece.",
		"Such code can be compared, but not replaced by a livepatch."},
	{TableShape, SevWarning, "A table's size or relocations do not fit the entry size that its row gives; it is compared as one piece.",
		"Give the entry size of this kernel (--entry-size, --types, or a row of the rules)."},
	{TableSize, SevWarning, "Sources disagree about the size of a table's entries, or one gives a size that the section cannot have. The caller comes before the object's annotations, the kernel's types, sh_entsize.",
		"Give the sizes of the kernel that the object was built for (--entry-size, or its BTF)."},
	{Undecodable, SevWarning, "Code that does not decode cleanly to its end (data between instructions?); it is compared as bytes and references.",
		"Nothing, unless the function is to be patched: then its references inside the section cannot be rewritten."},
	{AmbiguousTarget, SevError, "A reference lies between two pieces (the end of one, the start of the next) and both readings lead to different results.",
		"Rebuild with -fdata-sections, or keep the order of the two objects."},
	{AmbiguousMatch, SevNote, "Several pieces of the original match a piece of the patched object equally well.",
		"Pin the pair, or check the named pieces by hand."},
	{HeaderMismatch, SevError, "The two objects cannot be compared: their ELF headers differ in type, machine or flags.",
		"Give two builds of the same object by the same toolchain."},
	{PinInvalid, SevError, "A pair that the caller pinned does not exist, or contradicts another.",
		"Give names as readelf -s prints them."},

	{ConstantShared, SevWarning, "Read-only data changed, and code that did not change reads it.",
		"The unchanged code keeps the old value in the running kernel; see whether that is right, or change that code as well."},
	{DebugInfo, SevNote, "The debug information of an object could not be read in full; verdicts do not depend on it, but source lines, inlined functions or warnings about structures may be missing.",
		"Rebuild with -g (DWARF 2 to 5, not split)."},

	{DataChanged, SevError, "Data that the running kernel already holds was changed; a livepatch replaces functions, not data.",
		"Keep the old initial value and change the variable in a pre-patch callback, or use a shadow variable."},
	{DataStructure, SevWarning, "The layout of a structure that a changed function uses is different.",
		"Existing instances in the running kernel have the old layout: use a shadow variable for new members."},
	{UnknownTable, SevError, "A section without a rule refers to a function that is replaced; its entries would be lost.",
		"Add a row for the section to the rules (entry size, and keep or drop)."},
	{NoFtraceEntry, SevError, "The function has no ftrace call at its entry, so the kernel cannot redirect it.",
		"Change its callers instead; the message names those that can be patched."},
	{InitChanged, SevError, "Changed code or data that the kernel frees after boot or module load.",
		"It has already run; do what it does in a callback if it must happen."},
	{InitReference, SevError, "A function that is replaced refers to memory that is freed after init.",
		"Remove the reference, or mark the function __init as well."},
	{Unpatchable, SevError, "A changed function lies in a section that livepatch cannot replace (noinstr, entry code and the like).",
		"Change its callers instead."},
	{GroupChanged, SevError, "A changed or new member of a section group.",
		"Kernel objects hold no groups; rebuild without COMDAT."},
	{SymposUnknown, SevError, "The position of a symbol among its namesakes in the running kernel is not known.",
		"Give a symbol source (--symbols), or change the name."},
	{NothingChanged, SevNote, "No function differs.", "There is nothing to patch."},
	{WeakChanged, SevError, "A weak definition changed; the kernel may run another one.",
		"Give a symbol source that shows which definition the kernel runs."},
	{ExportChanged, SevError, "An exported symbol was added, removed or changed.",
		"Modules cannot see exports of a livepatch; keep the export as it was."},
	{NewInitcall, SevError, "The patched object holds an initcall that the original does not.",
		"Initcalls have run already; use a callback."},
	{NewTracepoint, SevError, "The patched object holds a tracepoint that the original does not.",
		"New tracepoints are never registered; use an existing one or printk."},
	{Instrumented, SevError, "The object is instrumented (KASAN, KMSAN, gcov, or KCOV with guards); its hidden data cannot be carried into a livepatch.",
		"Build without the instrumentation."},
	{UnnamedData, SevError, "A function that is replaced refers to writable data that has no symbol, so the running kernel's copy cannot be named.",
		"Rebuild with -fdata-sections, or give the variable a name."},
	{ShortBranch, SevError, "A branch of one byte leads to code that does not travel with it, and cannot reach the running kernel.",
		"Rebuild with -ffunction-sections."},
	{RuntimeConst, SevError, "A constant that the kernel fills into instructions at boot (runtime_const) and that cannot be rewritten into a load.",
		"Keep the function as it is and change its callers."},
	{Undefined, SevError, "A reference to a symbol that nothing in the kernel object defines and nobody exports; the patch would not load, or the reference would never be resolved.",
		"Give the object that defines it as a pair of the same patch, or the right --symbols and --symvers; a weak symbol that the kernel lacks must not be referred to."},
	{NoUnwind, SevWarning, "Code of the patch has no unwind entries: a task that sleeps in it has no reliable stack, and a later transition waits for it.",
		"Compile with -fasynchronous-unwind-tables, or give objects that the kernel's objtool has seen."},
	{ExportTwice, SevError, "Two kernel objects are said to export the symbol.",
		"Give the Module.symvers of one kernel only."},
	{TracepointOff, SevWarning, "A tracepoint of a module is off in the replacement: the kernel sets static keys up when it loads the patch, before it can resolve symbols of the module.",
		"Nothing, unless the trace event is needed: then call its function without the static key."},
	{PrDebugOff, SevWarning, "A pr_debug of a module stays silent in the replacement: its static key cannot be resolved in time.",
		"Use pr_info where the message is needed."},
	{StaticKey, SevError, "A static branch on a key of a module: the kernel sets static keys up when it loads the patch, before it can resolve symbols of the module.",
		"Use static_key_enabled() instead of static_branch_likely() and the like."},
	{StaticCall, SevError, "A static call through a key of a module: the kernel sets static calls up when it loads the patch, before it can resolve symbols of the module.",
		"Use KLP_STATIC_CALL() (KPATCH_STATIC_CALL() with kpatch) instead of static_call()."},
	{LateTable, SevError, "An entry of a kernel table refers to a symbol of a module. The kernel reads tables when it loads the patch, which may be before the module is there.",
		"Keep the reference out of the table: use a symbol of the patch itself."},
	{MissingFtrace, SevError, "The site of a call of the tracer is not what the compiler or recordmcount leave there.",
		"Rebuild the object with the kernel's own flags."},
	{CallbackInvalid, SevError, "A callback that the source asks for cannot be carried: the pointer that its macro leaves is not to a function of the object, it is for another kernel object, or there are two of one kind.",
		"Use each KPATCH_*_CALLBACK or KLP_*_CALLBACK macro once for a kernel object, with a function of the same source file."},
	{ForceIgnored, SevWarning, "KPATCH_FORCE_UNSAFE has no effect on this function: the kernel's livepatch core knows nothing like it, or the function is not in the patch.",
		"Remove the macro; where a transition hangs, write to /sys/kernel/livepatch/PATCH/force when that is known to be safe."},
	{NotImplemented, SevError, "kdelta does not handle this yet and refuses rather than guess.",
		"See the README for what is supported."},

	{KlpForm, SevError, "The file is not in the livepatch form that is wanted here: it is in the final one already, in two at once, or in none.",
		"Give the module as the link made it, before any other tool turned its tables into .klp.rela sections and before it was signed."},
	{KlpMalformed, SevError, "The tables of a livepatch contradict themselves, or the relocations that stand for them.",
		"Rebuild the patch; if a tool wrote it, report the tool."},
	{KlpName, SevError, "A name that the kernel cannot read: empty, too long (object 55 bytes, symbol 511), or with a comma, or an object's name with a dot.",
		"Rename the function or object; module names have '_' for '-' and no suffix."},
	{KlpAccess, SevError, "A relocation that waits for a module applies to a place that is gone or in use by then, or needs a symbol of vmlinux. The kernel rejects it or runs wrong code.",
		"Let symbols of vmlinux wait for vmlinux, and keep symbols of modules out of init code and of tables that the kernel consumes when it loads the patch."},
	{KlpTwice, SevError, "Two relocations write to one place; the kernel finds the second one's bytes not zero and rejects the module.",
		"Remove one of them; the tool that wrote the object left both."},
	{KlpInit, SevError, "The module's start cannot be written: it has one of its own, or what the start needs is missing.",
		"Link the patch without init.c or hook, with what modpost makes, and give the checksums of the symbols that the start calls."},
	{KlpModule, SevError, "The kernel's module loader would reject the file.",
		"The message says which rule; link with the kernel's module linker script, which merges sections of one name."},

	{SymbolsMalformed, SevError, "A list of symbols (readelf, System.map, kallsyms, Module.symvers, .klp.symid) is not what it should be.",
		"Give the whole output of the tool; the message says which line does not fit."},
	{SymbolsLimit, SevError, "A list of symbols has more entries than the limit.",
		"Check that it is the right file; programs that use the library can set a higher limit."},
	{SymbolsMismatch, SevWarning, "The object or a source of symbols does not fit the kernel: names that it must have are missing.",
		"Rebuild the object with the kernel's own compiler, configuration and sources, or give the symbols of the kernel that it belongs to."},
	{SymposConflict, SevError, "Sources of symbols disagree about the position of a symbol.",
		"Give the symbols of one kernel only; of two vmlinux files one is of another build."},

	{ImageMalformed, SevError, "A kernel's image or a module's file is not one, contradicts itself, or is cut.",
		"Give the file as the distribution ships it: the vmlinuz or vmlinux, or the .ko (plain or compressed)."},
	{ImageUnsupported, SevError, "A kernel's image or a module's file is in a form that kdelta does not read.",
		"Unpack it with the kernel's scripts/extract-vmlinux, or with the tool of that compression, and give the result."},
	{ImageLimit, SevError, "A kernel's image or a module's file is larger after decompression than the limit.",
		"Check that it is the right file; programs that use the library can set a higher limit."},
	{ImageLacks, SevError, "The kernel does not tell something that is needed about it.",
		"Give a kernel with CONFIG_KALLSYMS_ALL, CONFIG_DEBUG_INFO_BTF and what CONFIG_LIVEPATCH needs."},

	{RunPreMismatch, SevError, "The original object is not what the kernel runs: a function or constant of the kernel differs from the object's.",
		"Build the original from the sources of exactly this kernel version, with its compiler package and its configuration (the distribution's headers have it); or give the kernel that the object belongs to."},

	{VerifyStructure, SevError, "The patch is not what the module loader takes: a section, symbol or alignment is wrong.",
		"Do not load the patch. Make it anew, and report the tool that wrote it, with the pair of objects."},
	{VerifyType, SevError, "A relocation of the patch has another type than the patched object has there, or one that the kernel does not apply.",
		"Do not load the patch. Make it anew, and report the tool that wrote it, with the pair of objects."},
	{VerifyTwice, SevError, "Two relocations of the patch write to one place.",
		"Do not load the patch. Make it anew, and report the tool that wrote it, with the pair of objects."},
	{VerifyNonzero, SevError, "Bytes of the patch under a relocation are not zero; the kernel would reject the module.",
		"Do not load the patch. Make it anew, and report the tool that wrote it, with the pair of objects."},
	{VerifyTombstone, SevError, "A livepatch relocation and the placeholder that stands for it until the link do not say the same, or one of them is missing.",
		"Do not load the patch. Make it anew, and report the tool that wrote it, with the pair of objects."},
	{VerifyUndefined, SevError, "The patch leaves a symbol undefined that nobody defines, or that nothing needs.",
		"Do not load the patch. Make it anew, and report the tool that wrote it, with the pair of objects."},
	{VerifyMcount, SevError, "The patch lists a place for ftrace that holds neither its call nor room for one; ftrace would disable itself in the whole kernel.",
		"Do not load the patch. Make it anew, and report the tool that wrote it, with the pair of objects."},
	{VerifySymbol, SevError, "The patch refers to another symbol of the kernel than the patched code does, or to one that is not there.",
		"Do not load the patch. Make it anew, and report the tool that wrote it, with the pair of objects."},
	{VerifyPosition, SevError, "The patch asks for the wrong one of several symbols of one name.",
		"Do not load the patch. Make it anew, and report the tool that wrote it, with the pair of objects."},
	{VerifyObject, SevError, "A symbol is looked up in the wrong kernel object, or when that is not there.",
		"Do not load the patch. Make it anew, and report the tool that wrote it, with the pair of objects."},
	{VerifyFunction, SevError, "An entry of the list of replaced functions is wrong: it pairs two different functions, names none, or stands there twice.",
		"Do not load the patch. Make it anew, and report the tool that wrote it, with the pair of objects."},
	{VerifyMissing, SevError, "A function differs between the original and the patched object, and the patch does not replace it.",
		"Do not load the patch. Make it anew, and report the tool that wrote it, with the pair of objects."},
	{VerifyCold, SevError, "A split-off part (.cold) of a replaced function is missing: the new function would run into the old part.",
		"Do not load the patch. Make it anew, and report the tool that wrote it, with the pair of objects."},
	{VerifyCode, SevError, "Code of the patch differs from that of the patched object.",
		"Do not load the patch. Make it anew, and report the tool that wrote it, with the pair of objects."},
	{VerifyData, SevError, "Data, a string or a constant of the patch differs from that of the patched object.",
		"Do not load the patch. Make it anew, and report the tool that wrote it, with the pair of objects."},
	{VerifyTarget, SevError, "A reference of the patch leads elsewhere than that of the patched object, or only one of them has it.",
		"Do not load the patch. Make it anew, and report the tool that wrote it, with the pair of objects."},
	{VerifyAddend, SevError, "A reference of the patch leads to the right symbol, but to another place of it.",
		"Do not load the patch. Make it anew, and report the tool that wrote it, with the pair of objects."},
	{VerifyPointer, SevError, "The patch hands out the address of a replacement, where it has to be that of the function of the kernel: the replacement goes when the patch does.",
		"Do not load the patch. Make it anew, and report the tool that wrote it, with the pair of objects."},
	{VerifyState, SevError, "The patch holds its own copy of a variable that the running kernel has; the two would differ.",
		"Do not load the patch. Make it anew, and report the tool that wrote it, with the pair of objects."},
	{VerifyEntry, SevError, "A table entry of the patch differs from that of the patched object, or is not whole.",
		"Do not load the patch. Make it anew, and report the tool that wrote it, with the pair of objects."},
	{VerifyEntryMissing, SevError, "A table entry about code of the patch is missing.",
		"Do not load the patch. Make it anew, and report the tool that wrote it, with the pair of objects."},
	{VerifyEntryExtra, SevError, "A table of the patch has an entry that the patched object does not have.",
		"Do not load the patch. Make it anew, and report the tool that wrote it, with the pair of objects."},
	{VerifyCallback, SevError, "The callbacks of the patch, or the functions that it forces, are not those that the patched objects ask for.",
		"Do not load the patch. Make it anew, and report the tool that wrote it, with the pair of objects."},
	{VerifyUnaccounted, SevWarning, "The patch holds something that the proof did not need.",
		"Nothing, if the tool that wrote the patch adds such things; else report it."},
	{VerifyUnproved, SevWarning, "Something about the patch could be neither proved nor refuted with what was given.",
		"Give the kernel's symbols, or check the named place by hand."},

	{SystemUnreadable, SevError, "What the kernel says of itself in /proc or /sys cannot be read.",
		"Mount /proc and /sys, or give the right --proc and --sysfs."},
	{LivepatchUnsupported, SevError, "The running kernel has no live patching.",
		"Run a kernel with CONFIG_LIVEPATCH (distributions' kernels for x86-64 have it), with /sys mounted."},
	{NotLivepatch, SevError, "The file is not a livepatch module.",
		"Give the finished module (.ko, not compressed); its .modinfo says livepatch=Y."},
	{WrongRelease, SevError, "The module was built for another kernel than the one that runs.",
		"Build the patch for this release; a patch fits exactly one kernel."},
	{Lockdown, SevError, "The kernel is locked down and takes only modules with a signature that it trusts.",
		"Sign the module with a key that the kernel trusts (a machine owner key under Secure Boot)."},
	{SignatureRequired, SevError, "The kernel takes only modules with a signature that it trusts (module.sig_enforce), or the module's signature is broken.",
		"Sign the module anew, as the last step, with a key that the kernel trusts."},
	{ModulesDisabled, SevError, "Loading of modules has been switched off until the next boot (kernel.modules_disabled).",
		"Install the patch for the next boot, and let it load before that switch is set."},
	{FtraceDisabled, SevError, "ftrace is switched off (kernel.ftrace_enabled), and with it the means by which functions are redirected.",
		"Set kernel.ftrace_enabled to 1."},
	{FtraceBusy, SevError, "Somebody else already redirects a function that the patch replaces; only one user may.",
		"Remove that user (a kprobe that changes the flow, or another patching system) first."},
	{NotTraceable, SevError, "A function that the patch replaces has no ftrace call in the running kernel, so it cannot be redirected.",
		"Build the patch so that it replaces the callers."},
	{FunctionAbsent, SevError, "The running kernel has no function of this name at this position.",
		"Build the patch for exactly this kernel, with its symbols."},
	{TargetAbsent, SevNote, "A module that the patch changes is not loaded; its functions are patched when it is.",
		"Nothing."},
	{AlreadyPatched, SevWarning, "An active patch replaces the same function; the new patch goes on top, and disabling it brings the older patch's code back.",
		"Make a cumulative patch (replace) of everything that is to be in effect."},
	{NotCumulative, SevError, "The patch would be stacked on the active ones, where one that replaces them was asked for.",
		"Build it as a cumulative patch (replace), or load it without --replace."},
	{ContentsUnknown, SevNote, "Which functions the module replaces cannot be seen from the file; checks of functions were left out.",
		"Nothing; the kernel checks them when it loads the module."},
	{PatchLoaded, SevError, "A module of this name is loaded already.",
		"Unload it first; a new version of a patch needs another name, or a cumulative patch that replaces this one."},
	{NoSuchPatch, SevError, "There is no live patch of this name.",
		"The list command shows what there is."},
	{TransitionRunning, SevError, "Another patch is in transition; the kernel does one at a time.",
		"Wait for it, or reverse it."},
	{TransitionStalled, SevError, "Some tasks did not leave the functions in question before the deadline.",
		"Try again with a longer deadline, or stop the tasks that are named."},
	{PatchVanished, SevError, "The patch went away while it was waited for: somebody else disabled, replaced or unloaded it.",
		"See who else manages patches on this system."},
	{PatchLeft, SevError, "An operation failed and could not be undone in full.",
		"The message says what is left; the status command shows it, and the wait command waits for it."},
	{ModuleBusy, SevError, "The module is in use and cannot be removed. One whose patch was removed by force stays until the next boot.",
		"Try again when its users are gone. It does no harm where it is."},
	{ModuleRejected, SevError, "The kernel refused the module or the patch in it.",
		"The message has what the kernel logged; build the patch for exactly this kernel."},
	{NotPermitted, SevError, "The system may not be changed by who asks.",
		"Run the command as root (CAP_SYS_MODULE)."},
	{StoreConflict, SevError, "Another file is installed under this name.",
		"Remove it first, or build the patch under another name."},
	{StoreFailed, SevError, "What is installed for boot could not be read or changed.",
		"See that the directory is there and can be written."},
}

// Catalogue gives every code with its meaning, its remedy and an example, in a fixed order.
func Catalogue() []Entry {
	out := make([]Entry, len(catalogue))
	for i := range catalogue {
		out[i] = catalogue[i].entry()
	}
	return out
}

// Lookup gives the catalogue's entry of a code; for a code that is not in it, an error without a remedy.
func Lookup(c Code) Entry {
	for i := range catalogue {
		if catalogue[i].code == c {
			return catalogue[i].entry()
		}
	}
	return Entry{Code: c, Severity: SevError}
}
