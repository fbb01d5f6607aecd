package main

import (
	"path"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestScanIncludes(t *testing.T) {
	require.Equal(t, []string{"<linux/a.h>", `"b.h"`, "<c.h>", `"../d.h"`}, scanIncludes([]byte(
		"#include <linux/a.h>\n# include \"b.h\" // x\n#include MACRO\n  #\tinclude<c.h>\nint include = 1;\n#include \"../d.h\"\n#include \"open\n#include")))
}

// tree is a small source; the index is made of it.
var tree = map[string]string{
	"include/net/tcp.h":        "#include <net/sock.h>\nstatic inline int can(void) { return 1; }\n#define CAN2() can()\n",
	"include/net/sock.h":       "struct sock { int a; };\n",
	"include/net/mptcp.h":      "#include \"tcp.h\"\nstatic inline int deep(void) { return CAN2(); }\n",
	"include/asm-generic/io.h": "",
	"net/ipv4/tcp.c":           "#include <net/tcp.h>\nint x(void) { return can(); }\n",
	"net/ipv4/other.c":         "#include <net/tcp.h>\nint y(void) { return scan(); }\n",
	"net/mptcp/m.c":            "#include <net/mptcp.h>\nint z(void) { return deep(); }\n",
	"net/mptcp/local.h":        "#include <asm/io.h>\n",
	"net/mptcp/n.c":            "#include \"local.h\"\n#include \"../ipv4/part.h\"\n",
	"net/ipv4/part.h":          "",
	"drivers/a/b.c":            "#include <odd.h>\n",
	"drivers/a/inc/odd.h":      "",
	"kernel/all.c":             "#include \"part.c\"\n#include \"sub/more.c\"\n",
	"kernel/part.c":            "",
	"kernel/sub/more.c":        "",
}

func treeIndex() *index {
	in := make(map[string][]string)
	for f, text := range tree {
		in[f] = scanIncludes([]byte(text))
	}
	return parseIndex(string(makeIndex(in)))
}

func TestClosure(t *testing.T) {
	x := treeIndex()
	for from, want := range map[string][]string{
		"include/net/tcp.h":        {"include/net/mptcp.h", "include/net/tcp.h", "net/ipv4/other.c", "net/ipv4/tcp.c", "net/mptcp/m.c"},
		"include/asm-generic/io.h": {"include/asm-generic/io.h", "net/mptcp/local.h", "net/mptcp/n.c"},
		"net/ipv4/part.h":          {"net/ipv4/part.h", "net/mptcp/n.c"},
		"drivers/a/inc/odd.h":      {"drivers/a/b.c", "drivers/a/inc/odd.h"},
		"net/ipv4/tcp.c":           {"net/ipv4/tcp.c"},
	} {
		require.Equal(t, want, x.closure(from), from)
	}
	require.Equal(t, []string{"kernel/part.c", "kernel/sub/more.c"}, x.includedC())
	require.Equal(t, []string{"kernel/all.c", "kernel/part.c"}, x.closure("kernel/part.c"))
	// A new header, and a file that includes it after the patch.
	x.add("include/net/new.h", nil)
	x.add("net/ipv4/tcp.c", []string{"<net/new.h>"})
	require.Equal(t, []string{"include/net/new.h", "net/ipv4/tcp.c"}, x.closure("include/net/new.h"))
	require.Contains(t, x.closure("include/net/tcp.h"), "net/ipv4/tcp.c")
}

func TestAffected(t *testing.T) {
	text := func(f string) string { return tree[f] }
	files := treeIndex().closure("include/net/tcp.h")
	got, all := affected(files, []string{"can"}, text)
	require.False(t, all)
	require.Equal(t, []string{"net/ipv4/tcp.c", "net/mptcp/m.c"}, got)

	// A type that is made with it concerns everybody.
	_, all = affected(files, []string{"can"}, func(f string) string {
		if f == "include/net/mptcp.h" {
			return "struct s { char a[can()]; };"
		}
		return tree[f]
	})
	require.True(t, all)

	got, all = affected(files, []string{"nobody"}, text)
	require.False(t, all)
	require.Empty(t, got)
}

func FuzzIncludes(f *testing.F) {
	for _, text := range tree {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		list := scanIncludes(text)
		for _, i := range list {
			require.GreaterOrEqual(t, len(i), 3)
		}
		x := parseIndex(string(makeIndex(map[string][]string{"net/x.c": list, "include/a.h": nil})))
		for _, i := range list {
			for _, f := range x.resolve("net", i) {
				require.True(t, x.has(f))
			}
			x.closure(path.Base(i[1 : len(i)-1]))
		}
	})
}
