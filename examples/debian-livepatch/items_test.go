package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

const header = `/* SPDX */
#ifndef _X_H
#define _X_H
#include <linux/types.h> // "not this"

struct thing {
	int a;	/* }; */
	char s[sizeof("};")];
};

#define WIDE(x) \
	((x) * 2)

extern int proto(struct thing *t, int (*f)(void));
int __printf(1, 2) printer(const char *fmt, ...);
DECLARE_PER_CPU(int, counter);
typedef int (*fn_t)(void);
extern struct thing table[] ;

static inline bool __must_check small(const struct thing *t)
{
	if (t->a == '}')
		return true;
#ifdef CONFIG_Y
	return WIDE(t->a) > 3;
#else
	return false;
#endif
}

static __always_inline int caller(struct thing *t) { return small(t); }
enum e { A = (1 << 2), B };
#endif
`

func TestItems(t *testing.T) {
	type it struct {
		kind itemKind
		name string
	}
	var got []it
	for _, i := range items(header) {
		got = append(got, it{i.kind, i.name})
	}
	require.Equal(t, []it{
		{itemOther, ""}, {itemMacro, "_X_H"}, {itemOther, ""}, {itemOther, ""}, {itemMacro, "WIDE"},
		{itemPrototype, "proto"}, {itemPrototype, "printer"}, {itemOther, ""}, {itemOther, ""}, {itemOther, ""},
		{itemFunction, "small"}, {itemFunction, "caller"}, {itemOther, ""}, {itemOther, ""},
	}, got)
}

func TestChangedNames(t *testing.T) {
	for _, c := range []struct {
		before, after string
		names         []string
		all           bool
	}{
		{"static inline int f(void) { return 1; }", "static inline int f(void) { return 2; }", []string{"f"}, false},
		{"static inline int f(void) { return 1; }", "/* new */\nstatic inline int f(void)\n{\n\treturn 1; // one\n}", nil, false},
		{"#define A 1", "#define A 2", []string{"A"}, false},
		{"#define A 1\n", "#define A 1 /* one */\n", nil, false},
		{"struct s { int a; };", "struct s { long a; };", nil, true},
		{"int f(int);", "int f(long);", []string{"f"}, false},
		{"", "static inline int g(void) { return f(); }\nint h(void);", []string{"g", "h"}, false},
		{"#if X\n#endif", "#if Y\n#endif", nil, true},
		{"DEFINE_THING(a, b);", "DEFINE_THING(a, c);", nil, true},
		{"typedef int t;", "typedef long t;", nil, true},
		{"static int f(void) { return 1; }", "static int f(void) { return 2; }", nil, true},
		{"static __always_inline int f(void) { return 1; }", "static __always_inline int f(void) { return 2; }", []string{"f"}, false},
	} {
		names, all := changedNames(c.before, c.after)
		require.Equal(t, c.names, names, c.after)
		require.Equal(t, c.all, all, c.after)
	}
}

func FuzzItems(f *testing.F) {
	f.Add(header)
	f.Fuzz(func(t *testing.T, text string) {
		items(text)
		names, all := changedNames(text, text)
		require.Empty(t, names)
		require.False(t, all)
	})
}

func TestMentions(t *testing.T) {
	for text, want := range map[string]bool{"f": true, "x f(y)": true, "ff": false, "f_": false, "_f f0 af": false, "ff f": true, "": false, "a.f": true} {
		few, many := map[string]bool{"f": true}, map[string]bool{"f": true}
		for _, n := range []string{"n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8"} {
			many[n] = true
		}
		require.Equal(t, want, mentions(text, few), text)
		require.Equal(t, want, mentions(text, many), text)
	}
	require.False(t, mentions("x", map[string]bool{"": true}))
}

func TestPastes(t *testing.T) {
	names := map[string]bool{"tcp_skb_can": true}
	for text, want := range map[string]bool{
		"#define OP(x) tcp_skb_##x()":            true,
		"#define OP(x) tcp_ ## x ## _can()":      true,
		"#define OP(x) x##_can()":                true,
		"#define OP(t) t##_x":                    false, // a parameter
		"#define OP(a, tcp) tcp##a":              false,
		"#define OP(x) tcp_skb_can##x":           false, // the whole name begins another
		"#define OP(x) udp_##x":                  false,
		"#define OP(x, ...) f(x, ##__VA_ARGS__)": false,
		"int x;":                                 false,
	} {
		require.Equal(t, want, pastes(newItem(text), names), text)
	}
}
