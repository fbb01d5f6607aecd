// Package kernel says what is special about Linux, as data: the tables that
// live beside code, the consumers of line numbers, the sections that take no
// part in a comparison. elfdiff takes it as elfdiff.Rules.
package kernel

import (
	"fmt"
	"maps"
	"slices"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
)

const none = elfdiff.NoField

// Rules gives the rules for x86-64 Linux from 4.x to 7.2. The result is the
// caller's own: add rows in front of Tables for other layouts.
func Rules() *elfdiff.Rules {
	return &elfdiff.Rules{
		Version:  "linux-x86-64/1",
		Tables:   tables(),
		Marks:    ".discard.annotate_data", // ANNOTATE_DATA_SPECIAL of 6.19 and later
		LineArgs: lineArgs(),
		LineData: lineData(),
		Ignore:   ignored(),
		// KPATCH_IGNORE_FUNCTION and KPATCH_IGNORE_SECTION of kpatch-macros.h.
		IgnoreFuncs: ".kpatch.ignore.functions", IgnoreSections: ".kpatch.ignore.sections",
		Labels:  []string{".export_symbol"}, // licence, namespace, address (include/linux/export.h)
		Entry:   []string{"__fentry__"},
		Init:    freed(),
		NoPatch: noPatch(),
		Beside:  beside(),
		Inbound: inbound(),
		// Instrumentation with data of its own: KASAN, KMSAN, gcov, KCOV with guards. KCOV's and KCSAN's calls alone are calls like any other.
		Instrument: []string{"__asan_*", "__hwasan_*", "__msan_*", "__gcov_*", "llvm_gcov_*", "__sanitizer_cov_trace_pc_guard*"},
		Register:   register(),
	}
}

// SetSizes adds what is known of the sizes of tables' entries, by section: of
// elfdiff.SizeCaller or elfdiff.SizeTypes. A table whose size no row has gets one
// in which the fields that lead somewhere are where they were in the row before it.
func SetSizes(r *elfdiff.Rules, source elfdiff.SizeSource, sizes map[string]int) error {
	for _, section := range slices.Sorted(maps.Keys(sizes)) {
		n := sizes[section]
		if n <= 0 || n > maxEntry {
			return fmt.Errorf("%d bytes for an entry of %s", n, section)
		}
		var like *elfdiff.Table
		known, there := false, false
		for i := range r.Tables {
			if t := &r.Tables[i]; t.Section == section {
				known, there = known || t.Entry == n, true
				if slices.Max(t.Refs)+4 <= n && like == nil {
					like = t
				}
			}
		}
		switch {
		case !there:
			return fmt.Errorf("no row for %s, whose entries are said to have %d bytes", section, n)
		case known:
		case like == nil:
			return fmt.Errorf("entries of %s cannot have %d bytes: no row's references fit", section, n)
		default:
			t := *like
			t.Entry, t.Tail, t.SiteLen, t.Body, t.BodyLen, t.Line, t.Format, t.File = n, 0, none, none, none, none, none, none
			r.Tables = append(r.Tables, t)
		}
		r.Sizes = append(r.Sizes, elfdiff.EntrySize{Section: section, Entry: n, Source: source})
	}
	return nil
}

// EntryStructs gives, by section, the structure of the kernel that an entry of its tables is.
func EntryStructs() map[string]string {
	return map[string]string{
		".altinstructions": "alt_instr", "__bug_table": "bug_entry", "__ex_table": "exception_table_entry", "__jump_table": "jump_entry",
		".parainstructions": "paravirt_patch_site", ".static_call_sites": "static_call_site",
	}
}

// maxEntry bounds the sizes that SetSizes takes.
const maxEntry = 4096

// What becomes of a table's entries: in upstream's intermediate, kpatch's, a module.
var (
	carry    = [3]elfdiff.Action{elfdiff.Carry, elfdiff.Carry, elfdiff.Carry}
	objtools = [3]elfdiff.Action{elfdiff.Drop, elfdiff.Carry, elfdiff.Carry} // the kernel build's objtool makes it anew
	rebuilt  = [3]elfdiff.Action{elfdiff.Carry, elfdiff.Drop, elfdiff.Carry} // kpatch's writer makes it anew
	dropped  = [3]elfdiff.Action{elfdiff.Drop, elfdiff.Drop, elfdiff.Drop}
	constant = [3]elfdiff.Action{elfdiff.Constant, elfdiff.Constant, elfdiff.Constant}
)

// emit sets what becomes of a table's entries.
func emit(t elfdiff.Table, a [3]elfdiff.Action) elfdiff.Table {
	t.Emit = a
	return t
}

// site is a table of entries of n bytes whose only reference is the site.
func site(section string, n int) elfdiff.Table {
	return elfdiff.Table{Section: section, Entry: n, Refs: []int{0}, Site: 0, SiteLen: none, Body: none, BodyLen: none, Line: none, Format: none, File: none, Emit: carry}
}

// refs is a table of entries of n bytes with references at the given offsets, the first of which is the site.
func refs(section string, n int, at ...int) elfdiff.Table {
	t := site(section, n)
	t.Refs = at
	return t
}

// bug is a form of __bug_table with its line number at offset line.
func bug(n, line, format, file int, at ...int) elfdiff.Table {
	t := refs("__bug_table", n, at...)
	t.Line, t.LineSize, t.Format, t.File = line, 2, format, file
	return t
}

// alt is a form of .altinstructions with its two length bytes at offset lens.
func alt(n, lens int) elfdiff.Table {
	t := refs(".altinstructions", n, 0, 4)
	t.Body, t.SiteLen, t.BodyLen = 4, lens, lens+1
	return t
}

// tail allows a last entry of n bytes: the assembler pads entries before them, not behind.
func tail(t elfdiff.Table, n int) elfdiff.Table {
	t.Tail = n
	return t
}

// derived is a table that the compiler or objtool derives from the code.
func derived(t elfdiff.Table) elfdiff.Table {
	t.Exclude = "derived from the code"
	return t
}

func tables() []elfdiff.Table {
	return []elfdiff.Table{
		// struct bug_entry: 16 bytes since 6.19 (addr, format, file, u16 line, u16 flags), 12 before (addr, file, line, flags).
		// Without CONFIG_DEBUG_BUGVERBOSE there is neither file nor line: 12 bytes with a format, 8 without.
		bug(16, 12, 4, 8, 0, 4, 8),
		bug(12, 8, none, 4, 0, 4),
		bug(12, none, 4, none, 0, 4),
		bug(8, none, none, none, 0),
		// struct alt_instr: 14 bytes since 6.2 (instr, repl, u32 cpuid and flags, lengths), 12 before (u16 cpuid), 13 up to 5.13 (and a pad length).
		alt(14, 12), alt(12, 10), alt(13, 10),
		// struct exception_table_entry: insn, fixup and, since 4.6, a handler (a reference up to 5.16, a number since).
		refs("__ex_table", 12, 0, 4, 8), refs("__ex_table", 8, 0, 4),
		// struct jump_entry: code, target, key; 24 bytes of absolute addresses before 4.20.
		refs("__jump_table", 16, 0, 4, 8), refs("__jump_table", 24, 0, 8, 16),
		// struct static_call_site: site, key.
		refs(".static_call_sites", 8, 0, 4),
		// struct paravirt_patch_site up to 6.7: instr, u8 type, u8 length, padding; in older kernels the address is 8 bytes.
		tail(site(".parainstructions", 16), 12), site(".parainstructions", 12),
		site(".smp_locks", 4),
		// Runtime constants (6.11 and later): the address of an instruction's immediate.
		emit(site("runtime_ptr_*", 4), constant), emit(site("runtime_shift_*", 4), constant), emit(site("runtime_mask_*", 4), constant),
		emit(derived(site("__mcount_loc", 8)), rebuilt),
		emit(derived(site("__patchable_function_entries", 8)), dropped),
		emit(derived(site(".retpoline_sites", 4)), objtools),
		emit(derived(site(".return_sites", 4)), objtools),
		emit(derived(site(".call_sites", 4)), objtools),
		emit(derived(site(".cfi_sites", 4)), objtools),
		emit(derived(site(".ibt_endbr_seal", 4)), dropped),
		derived(site(".kcfi_traps", 4)),
		// Hints for objtool: an instruction, or a table entry, and what is special about it (s32, u32).
		emit(derived(site(".discard.annotate_insn", 8)), [3]elfdiff.Action{elfdiff.Carry, elfdiff.Drop, elfdiff.Drop}),
	}
}

// beside lists what belongs to code and is no table of entries with a site.
func beside() []elfdiff.Beside {
	const referred, unwind = "what included code or its table entries refer to", "unwind entries of included code, both halves, closed at its end"
	return []elfdiff.Beside{
		{Section: ".altinstr_replacement", Emit: carry, How: "replacement code of the entries of .altinstructions that travel"},
		{Section: ".altinstr_aux", Emit: carry, How: referred},
		{Section: ".fixup", Emit: carry, How: "code that the entries of __ex_table lead to (up to 5.16)"},
		{Section: ".orc_unwind_ip", Emit: objtools, How: unwind},
		{Section: ".orc_unwind", Emit: objtools, How: unwind},
		{Section: ".orc_header", Emit: dropped, How: "a checksum that the build of the module, or its writer, gives"},
		{Section: "__dyndbg", Emit: carry, How: referred}, // the descriptors of pr_debug
		{Section: "__verbose", Emit: carry, How: referred},
		{Section: ".printk_index", Emit: dropped, How: "an index of formats, for user space"},
		// What the kernel has of tracepoints is referred to there; new ones are never registered.
		{Section: "__tracepoints", Emit: dropped, How: "the kernel's own"},
		{Section: "__tracepoints_ptrs", Emit: dropped, How: "the kernel's own list"},
		{Section: "__tracepoints_strings", Emit: carry, How: referred},
		{Section: "__tracepoint_str", Emit: dropped, How: "the kernel's own list of formats"},
		{Section: ".static_call_tramp_key", Emit: dropped, How: "read when a module is loaded, for keys that only their trampoline is exported of"},
	}
}

func lineArgs() []elfdiff.LineArg {
	const rtnl = "RTNL: assertion failed at %s (%d)\n"
	out := []elfdiff.LineArg{
		// ASSERT_RTNL: WARN_ONCE(!rtnl_is_locked(), rtnl, __FILE__, __LINE__); since 6.19 the format is in the bug entry.
		{Callee: "__SCT__WARN_trap", Arg: 3, StringArg: 1, Via: elfdiff.ViaEntryFormat, Text: rtnl},
		{Callee: "__warn_printk", Arg: 3, StringArg: 1, Via: elfdiff.ViaFormatArg, Text: rtnl},
		{Callee: "printk", Arg: 3, StringArg: 1, Via: elfdiff.ViaFormatArg, Text: "\x013" + rtnl},
		{Callee: "printk", Arg: 3, StringArg: 1, Via: elfdiff.ViaFormatArg, Text: "<3>" + rtnl},
		{Callee: "_printk", Arg: 3, StringArg: 1, Via: elfdiff.ViaFormatArg, Text: "\x013" + rtnl},
	}
	// Functions that take a file name and a line by their prototypes (include/linux/kernel.h, lockdep.h, asm-generic/bug.h).
	for _, f := range []string{"warn_slowpath_null", "warn_slowpath_fmt", "warn_slowpath_fmt_taint", "__might_sleep", "___might_sleep", "__might_resched", "__might_fault", "lockdep_rcu_suspicious"} {
		out = append(out, elfdiff.LineArg{Callee: f, Arg: 2, StringArg: 1, Via: elfdiff.ViaFileArg})
	}
	// fs/btrfs: (object, function, line, ...).
	for _, f := range []string{"__btrfs_abort_transaction", "__btrfs_handle_fs_error", "__btrfs_std_error", "__btrfs_panic"} {
		out = append(out, elfdiff.LineArg{Callee: f, Arg: 3, StringArg: 2, Via: elfdiff.ViaFuncArg})
	}
	return out
}

func lineData() []elfdiff.LineData {
	const whole = 1<<32 - 1
	return []elfdiff.LineData{
		// struct _ddebug: modname, function, filename, format, then lineno in 18 bits (include/linux/dynamic_debug.h).
		{Section: "__dyndbg", Size: 56, Stride: 0, File: 16, Off: 32, Mask: 1<<18 - 1},
		{Section: "__dyndbg", Size: 40, File: 16, Off: 32, Mask: 1<<18 - 1},
		{Section: "__verbose", Size: 56, File: 16, Off: 32, Mask: 1<<18 - 1},
		{Section: "__verbose", Size: 40, File: 16, Off: 32, Mask: 1<<18 - 1},
		// struct pi_entry: fmt, func, file, line (include/linux/printk.h); packed.
		{Family: "_entry", Size: 44, File: 16, Off: 24, Mask: whole},
		// struct source_location of UBSAN records: file, line, column (lib/ubsan.h).
		{Section: ".data..Lubsan_data*", File: 0, Off: 8, Mask: whole},
		{Section: ".data.rel.local..Lubsan_data*", File: 0, Off: 8, Mask: whole},
		{Section: ".data..L__unnamed_*", File: 0, Off: 8, Mask: whole},
		// core::panic::Location: file, its length, line, column.
		{Section: ".rodata..Lanon.*", Size: 24, File: 0, Off: 16, Mask: whole},
		{Section: ".data.rel.ro..Lanon.*", Size: 24, File: 0, Off: 16, Mask: whole},
	}
}

func ignored() []elfdiff.Ignored {
	return []elfdiff.Ignored{
		{Section: ".discard*", Reason: "discarded when the kernel or module is linked"},
		{Section: ".kpatch.*", Reason: "directives for the writer of a patch"},
		{Section: ".orc_unwind*", Reason: "unwind tables, derived from the code"},
		{Section: ".orc_lookup", Reason: "unwind tables, derived from the code"},
		{Section: ".orc_header", Reason: "unwind tables, derived from the code"},
		{Section: ".eh_frame*", Reason: "unwind tables, derived from the code"},
		{Section: ".sframe*", Reason: "unwind tables, derived from the code"},
		{Section: ".note*", Reason: "notes"},
		{Section: ".llvm*", Reason: "hints for the linker"},
		{Section: "__mcount_loc", Reason: "derived from the code"},
		{Section: "__patchable_function_entries", Reason: "derived from the code"},
	}
}

// freed lists what is gone after boot, or after a module is loaded or unloaded (include/linux/init.h).
func freed() []elfdiff.Ignored {
	const init, exit = "freed after init", "discarded, or freed when the module goes"
	return []elfdiff.Ignored{
		{Section: ".init.*", Reason: init}, {Section: ".initcall*", Reason: init}, {Section: ".con_initcall*", Reason: init},
		{Section: ".exit.*", Reason: exit}, {Section: ".exitcall*", Reason: exit},
	}
}

// noPatch lists code that must not be traced or replaced (Documentation/core-api/entry.rst). Functions of
// .sched.text, .spinlock.text and .kprobes.text may, where they call the tracer.
func noPatch() []elfdiff.Ignored {
	const r = "runs where tracing is not allowed"
	return []elfdiff.Ignored{
		{Section: ".noinstr.text*", Reason: r}, {Section: ".entry.text*", Reason: r},
		{Section: ".head.text*", Reason: "runs before the kernel is mapped"}, {Section: ".cpuidle.text*", Reason: r}, {Section: ".static_call.text*", Reason: "trampolines that the kernel rewrites"},
	}
}

// inbound lists what may refer to a function that is replaced without being carried along.
func inbound() []elfdiff.Ignored {
	const registered = "registered when the kernel was built or the module loaded; what is registered is redirected at its entry"
	return []elfdiff.Ignored{
		{Section: ".data*", Reason: "data of the running kernel; calls through it are redirected at the function's entry"},
		{Section: ".rodata*", Reason: "data of the running kernel; calls through it are redirected at the function's entry"},
		{Section: ".bss*", Reason: "data of the running kernel"},
		{Section: ".init*", Reason: registered}, {Section: ".exit*", Reason: registered}, {Section: ".con_initcall*", Reason: registered},
		{Section: "__ksymtab*", Reason: registered}, {Section: "___ksymtab*", Reason: registered}, {Section: "__kcrctab*", Reason: registered}, {Section: "___kcrctab*", Reason: registered}, {Section: "__kflagstab*", Reason: registered}, {Section: ".export_symbol", Reason: registered},
		{Section: "_kprobe_blacklist", Reason: registered}, {Section: "_error_injection_whitelist", Reason: registered}, {Section: "__syscalls_metadata", Reason: registered}, {Section: "_ftrace_events", Reason: registered},
		{Section: "__param", Reason: registered}, {Section: "__bpf_raw_tp_map", Reason: registered}, {Section: ".ref.data*", Reason: registered},
		{Section: ".BTF_ids", Reason: registered},
		{Section: ".eh_frame*", Reason: "unwind tables, made anew"}, {Section: ".sframe*", Reason: "unwind tables, made anew"}, {Section: ".discard*", Reason: "discarded when the kernel or module is linked"},
		{Section: ".kpatch.*", Reason: "directives for the writer of the patch"}, {Section: ".llvm*", Reason: "hints for the linker"}, {Section: ".note*", Reason: "notes"},
	}
}

// register lists sections whose new or changed contents would have to be known to the kernel from the start.
func register() []elfdiff.Refused {
	return []elfdiff.Refused{
		{Section: "__ksymtab*", Code: diag.ExportChanged}, {Section: "___ksymtab*", Code: diag.ExportChanged}, {Section: ".export_symbol", Code: diag.ExportChanged},
		{Section: "__kcrctab*", Code: diag.ExportChanged}, {Section: "___kcrctab*", Code: diag.ExportChanged}, {Section: "__kflagstab*", Code: diag.ExportChanged},
		{Section: "SHN_ABS", Symbol: "__crc_*", Code: diag.ExportChanged}, // the checksums of exports
		{Section: ".initcall*", Code: diag.NewInitcall}, {Section: ".con_initcall*", Code: diag.NewInitcall},
		{Section: "__tracepoints*", Code: diag.NewTracepoint}, {Section: "_ftrace_events", Code: diag.NewTracepoint}, {Section: "__bpf_raw_tp_map", Code: diag.NewTracepoint},
	}
}
