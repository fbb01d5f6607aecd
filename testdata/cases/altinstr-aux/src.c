#include "fake_kernel.h"
#ifdef PATCHED
#define BIT "8"
#else
#define BIT "4"
#endif
extern u8 capability[];
#define HAS(bit)                                                                                   \
	({                                                                                         \
		__label__ yes, out; int r_ = 0;                                                    \
		asm goto("661:\tjmp 6f\n662:\n"                                                    \
			 ALT_ENTRY(0x115) "\t.pushsection .altinstr_replacement,\"ax\"\n"          \
			 "663:\tjmp %l[out]\n664:\n\t.popsection\n"                                \
			 "\t.pushsection .altinstr_aux,\"ax\"\n"                                   \
			 "6:\ttestb $" bit ", capability+2(%%rip)\n\tjnz %l[yes]\n\tjmp %l[out]\n" \
			 "\t.popsection\n" : : : "cc" : yes, out);                                 \
	yes:	r_ = 1;                                                                            \
	out:	r_;                                                                                \
	})
int first(int x) { if (HAS("1")) return use(x); return ext_a(x); }
int second(int x) { if (HAS(BIT)) return use(x) + 1; return ext_b(x); }
int third(int x) { if (HAS("1")) return use(x) + 2; return ext_a(x); }
