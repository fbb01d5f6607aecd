/* SPDX-License-Identifier: MIT */
/*
 * Just enough of a kernel for the fixtures: attributes, and macros that emit the tables that a kernel object holds.
 * The layouts are facts about x86-64 Linux; the code is our own.
 */
#ifndef FAKE_KERNEL_H
#define FAKE_KERNEL_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;
#ifndef __cplusplus
typedef _Bool bool;
#endif

#define NULL ((void *)0)
#define STR_(x) #x
#define STR(x) STR_(x)
#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
#define UNIQUE(prefix) CAT(CAT(__UNIQUE_ID_, prefix), __COUNTER__)

#define noinline __attribute__((__noinline__))
#define always_inline inline __attribute__((__always_inline__))
#ifdef __clang__
#define noipa __attribute__((__noinline__))
#else
#define noipa __attribute__((__noipa__))
#endif
#define used __attribute__((__used__))
#define weak __attribute__((__weak__))
#define cold __attribute__((__cold__))
#define notrace __attribute__((__no_instrument_function__))
#define section(s) __attribute__((__section__(s)))
#define alias(s) __attribute__((__alias__(#s)))
#define aligned(n) __attribute__((__aligned__(n)))
#define __init section(".init.text") cold
#define __initdata section(".init.data")
#define __sched section(".sched.text")
#define noinstr noinline notrace section(".noinstr.text")
#define percpu section(".data..percpu")
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Things of the rest of the "kernel". */
#ifdef __cplusplus
extern "C" {
#endif
extern int _printk(const char *fmt, ...);
extern void __warn_printk(const char *fmt, ...);
extern void __might_sleep(const char *file, int line);
extern void __might_resched(const char *file, int line, unsigned offsets);
extern void lockdep_rcu_suspicious(const char *file, int line, const char *why);
extern void take(const void *p);
extern void take2(const void *p, const void *q);
extern int use(int x);
extern int ext_a(int x);
extern int ext_b(int x);
extern void fatal(const char *what) cold;
#ifdef __cplusplus
}
#endif

/* __bug_table, 12 bytes (up to 7.1): s32 address, s32 file, u16 line, u16 flags. */
#define BUG12(flags)                                                                                                  \
	asm volatile("1:\tud2\n"                                                                                       \
		     "\t.pushsection __bug_table,\"aw\"\n"                                                             \
		     "2:\t.long 1b - .\n\t.long %c0 - .\n\t.word %c1, %c2\n\t.org 2b + 12\n"                           \
		     "\t.popsection\n"                                                                                 \
		     : : "i"(__FILE__), "i"(__LINE__), "i"(flags))
#define WARN12(cond) ({ int c_ = !!(cond); if (unlikely(c_)) BUG12(1 | 9 << 8); unlikely(c_); })

/* __bug_table, 16 bytes (7.2): s32 address, s32 format, s32 file, u16 line, u16 flags. */
#define BUG16(format, flags)                                                                                          \
	asm volatile("1:\tud2\n"                                                                                       \
		     "\t.pushsection __bug_table,\"aw\"\n"                                                             \
		     "2:\t.long 1b - .\n\t.long %c0 - .\n\t.long %c1 - .\n\t.word %c2, %c3\n\t.org 2b + 16\n"          \
		     "\t.popsection\n"                                                                                 \
		     : : "i"(format), "i"(__FILE__), "i"(__LINE__), "i"(flags))
#define WARN16(cond) ({ int c_ = !!(cond); if (unlikely(c_)) BUG16("", 1 | 9 << 8); unlikely(c_); })

/* 7.2's WARN with arguments: the address of the table entry is the first argument of a call to a trapping trampoline. */
struct bug_entry;
extern void __SCT__WARN_trap(struct bug_entry *e, ...);
#define WARN_TRAP_ENTRY(format, flags)                                                                                \
	({                                                                                                            \
		struct bug_entry *e_;                                                                                  \
		asm volatile("leaq 2f(%%rip), %0\n1:\n"                                                                \
			     "\t.pushsection __bug_table,\"aw\"\n"                                                     \
			     "2:\t.long 1b - .\n\t.long %c1 - .\n\t.long %c2 - .\n\t.word %c3, %c4\n\t.org 2b + 16\n"  \
			     "\t.popsection\n"                                                                         \
			     : "=r"(e_) : "i"(format), "i"(__FILE__), "i"(__LINE__), "i"(flags));                      \
		e_;                                                                                                    \
	})
#define WARN_FMT(cond, format, ...)                                                                                   \
	({                                                                                                            \
		int c_ = !!(cond);                                                                                     \
		if (unlikely(c_))                                                                                      \
			__SCT__WARN_trap(WARN_TRAP_ENTRY(format, 1 | 9 << 8), ##__VA_ARGS__);                          \
		unlikely(c_);                                                                                          \
	})

/* __ex_table, 12 bytes: s32 instruction, s32 fixup, s32 type and data. */
#define EX_ENTRY(from, to, type)                                                                                      \
	"\t.pushsection __ex_table,\"a\"\n\t.balign 4\n"                                                                \
	"\t.long (" from ") - .\n\t.long (" to ") - .\n\t.long " STR(type) "\n\t.popsection\n"

/* .altinstructions, 14 bytes: s32 site, s32 replacement, u32 feature and flags, u8 site length, u8 replacement length. */
#define ALT_ENTRY(feature)                                                                                            \
	"\t.pushsection .altinstructions,\"a\"\n"                                                                       \
	"\t.long 661b - .\n\t.long 663f - .\n\t.4byte " STR(feature) "\n"                                               \
	"\t.byte 662b - 661b\n\t.byte 664f - 663f\n\t.popsection\n"
#define ALTERNATIVE(old, new, feature)                                                                                \
	"661:\n\t" old "\n662:\n" ALT_ENTRY(feature)                                                                    \
	"\t.pushsection .altinstr_replacement,\"ax\"\n663:\n\t" new "\n664:\n\t.popsection\n"

/* __jump_table, 16 bytes: s32 code, s32 target, s64 key (bit 0: the branch that the compiler laid out, bit 1: in init code). */
struct static_key { int enabled; void *entries; };
static always_inline bool static_branch(struct static_key *const key, const bool branch)
{
	asm goto("1:\t.byte 0x0f, 0x1f, 0x44, 0x00, 0x00\n"
		 "\t.pushsection __jump_table,\"aw\"\n\t.balign 8\n"
		 "\t.long 1b - .\n\t.long %l[yes] - .\n\t.quad %c0 + %c1 - .\n"
		 "\t.popsection\n"
		 : : "i"(key), "i"(branch) : : yes);
	return 0;
yes:
	return 1;
}

/* .static_call_sites, 8 bytes: s32 site, s32 key and flags. */
#define STATIC_CALL_SITE(name)                                                                                        \
	"1:\tcall __SCT__" #name "\n"                                                                                   \
	"\t.pushsection .static_call_sites,\"aw\"\n\t.balign 4\n"                                                       \
	"\t.long 1b - .\n\t.long __SCK__" #name " - .\n\t.popsection\n"

/* .smp_locks, 4 bytes: s32 address of a lock prefix. */
#define LOCK_PREFIX                                                                                                   \
	"\t.pushsection .smp_locks,\"a\"\n\t.balign 4\n\t.long 671f - .\n\t.popsection\n671:\tlock; "

/* .discard.*: addresses that the link throws away. */
#define DISCARD_HERE(name) asm volatile("9:\n\t.pushsection .discard." #name ",\"\"\n\t.long 9b - .\n\t.popsection\n")

/* __initcall: a 4-byte table of relative addresses, whose names hold a counter and a line. */
#define INITCALL_(fn, id, line)                                                                                       \
	asm(".section .initcall6.init,\"a\"\n__initcall__kmod_fixture__" STR(id) "_" STR(line) "_" #fn "6:\n"           \
	    "\t.long " #fn " - .\n\t.previous\n")
#define INITCALL(fn) INITCALL_(fn, __COUNTER__, __LINE__)

/* __dyndbg: a descriptor that holds the line. */
struct ddebug { const char *modname, *function, *filename, *format; unsigned lineno : 18, cls : 6, flags : 8; };
extern void __dynamic_pr_debug(struct ddebug *d, const char *fmt, ...);
#define PR_DEBUG_(name, fmt, ...)                                                                                     \
	do {                                                                                                           \
		static struct ddebug aligned(8) section("__dyndbg") name = { "fixture", __func__, __FILE__, fmt, __LINE__ }; \
		if (unlikely(name.flags & 1))                                                                          \
			__dynamic_pr_debug(&name, fmt, ##__VA_ARGS__);                                                 \
	} while (0)
#define PR_DEBUG(fmt, ...) PR_DEBUG_(UNIQUE(ddebug), fmt, ##__VA_ARGS__)

/* .printk_index: pointers to entries that hold the line. */
struct pi_entry { const char *fmt, *func, *file; unsigned line; const char *level, *subsys; };
#define PR_INDEXED(fmt_, ...)                                                                                         \
	({                                                                                                            \
		static const struct pi_entry _entry = { fmt_, __func__, __FILE__, __LINE__, NULL, NULL };              \
		static const struct pi_entry *_entry_ptr used section(".printk_index") = &_entry;                      \
		_printk(fmt_, ##__VA_ARGS__);                                                                          \
	})

#endif
