//# flags: -g
#include "fake_kernel.h"
#ifdef PATCHED
typedef u64 key_t;
#define A2(a, b) b
#else
typedef u32 key_t;
#define A2(a, b) a
#endif

/* Every way in which a layout can change, a structure and a function for each. */
struct moved { int a; A2(int b; int c;, int c; int b;) };
struct retyped { A2(int, unsigned int) a; char *name; };
struct by_typedef { key_t key; char tail; };
struct removed { int a; A2(int gone;,) long z; };
struct renamed { long head; A2(long reserved1, void (*hook)(int)); };
struct name_only { long head; A2(long reserved1, long budget); };
struct bits { unsigned a : 3; unsigned b : A2(4, 5); unsigned c : 2; };
struct array { int a[A2(4, 6)]; };
union either { int i; long l; A2(, char buf[24];) };
struct anonymous { int tag; union { int i; void *p; struct { short lo; A2(, short mid;) short hi; }; }; };
struct inner { long a; A2(, long b;) };
struct holder { int first; struct inner in; int last; };
typedef struct { int x; A2(, int y;) } untagged_t;
struct same { int a; const char *name; };
struct far_end { int a; A2(, int b;) };
struct near_end { struct far_end *far; int n; };

int f_moved(struct moved *p) { return p->b; }
int f_retyped(struct retyped *p) { return p->a / 2; }
int f_by_typedef(struct by_typedef *p) { return p->tail; }
long f_removed(struct removed *p) { return p->z + sizeof(*p) + A2(p->gone, 0); }
long f_renamed(struct renamed *p) { A2(, p->hook(1);) return p->head; }
long f_name_only(struct name_only *p) { return p->head + A2(0, p->budget); }
int f_bits(struct bits *p) { return p->c; }
int f_array(struct array *p) { return sizeof(p->a) + p->a[0]; }
long f_either(union either *p) { return p->l + sizeof(*p); }
int f_anonymous(struct anonymous *p) { return p->hi; }
int f_holder(struct holder *p) { return p->last; }
int f_untagged(untagged_t *p) { return p->x + sizeof(*p); }
int f_same(struct same *p) { return p->a + A2(1, 2); }
int f_reach(struct near_end *p) { return p->far->a + p->n + A2(1, 2); }
int f_untouched(struct moved *p, struct inner *i) { return p->a + i->a; }
