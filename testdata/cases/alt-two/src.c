// Two alternatives for one site; only the second body changes. And bodies that share their bytes.
#include "fake_kernel.h"
#ifdef PATCHED
#define SECOND "mfence"
#else
#define SECOND "lfence"
#endif
#define ALT_TWO(one, two)                                                                       \
	"661:\n\tnop\n\tnop\n\tnop\n662:\n"                                                     \
	"\t.pushsection .altinstructions,\"a\"\n"                                               \
	"\t.long 661b - .\n\t.long 663f - .\n\t.4byte 0x70\n\t.byte 662b - 661b, 664f - 663f\n" \
	"\t.long 661b - .\n\t.long 664f - .\n\t.4byte 0x71\n\t.byte 662b - 661b, 665f - 664f\n" \
	"\t.popsection\n"                                                                       \
	"\t.pushsection .altinstr_replacement,\"ax\"\n663:\n\t" one "\n664:\n\t" two "\n665:\n\t.popsection\n"
int one(int x) { asm volatile(ALT_TWO("sfence", "lfence")); return use(x) + 1; }
int two(int x) { asm volatile(ALT_TWO("sfence", SECOND)); return use(x) + 2; }
int three(int x) { asm volatile(ALT_TWO("sfence", "mfence")); return use(x) + 3; }
