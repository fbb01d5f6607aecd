package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kdelta/kdelta/pkg/diag"
)

func TestClassify(t *testing.T) {
	for name, want := range map[string]fileKind{
		"fs/fcntl.c": kindC, "include/net/tcp.h": kindHeader, "arch/x86/kernel/traps.c": kindC, "arch/x86/include/asm/io.h": kindHeader,
		"Documentation/x.rst": kindNothing, "tools/lib/a.c": kindNothing, "arch/arm64/kernel/a.c": kindNothing, "MAINTAINERS": kindNothing, "drivers/x/README.rst": kindNothing,
		"arch/x86/entry/entry_64.S": kindRefused, "arch/x86/entry/vdso/vclock_gettime.c": kindRefused, "fs/Makefile": kindRefused, "fs/Kconfig": kindRefused,
		"Makefile": kindRefused, "arch/x86/kernel/vmlinux.lds.S": kindRefused, "fs/odd.xyz": kindRefused,
	} {
		got, why := classify(name)
		require.Equal(t, want, got, name)
		require.Equal(t, want == kindC || want == kindHeader, why == "", name)
	}
}

func TestSourcePath(t *testing.T) {
	for name, want := range map[string]string{"a/fs/x.c": "fs/x.c", "b/fs/x.c": "fs/x.c", "linux-6.1/fs/x.c": "fs/x.c", "fs/x.c": "fs/x.c", "fs/./x.c": "fs/x.c", "Makefile": "Makefile"} {
		got, ok := sourcePath(name)
		require.True(t, ok, name)
		require.Equal(t, want, got)
	}
	for _, bad := range []string{"../x", "a/../../x", "/etc/passwd", "fs/x\x00", ".", ""} {
		_, ok := sourcePath(bad)
		require.False(t, ok, bad)
	}
}

const fix = `From: somebody
Subject: [PATCH] fix it

--- a/fs/x.c
+++ b/fs/x.c
@@ -2,3 +2,4 @@ f
 two
-three
+drei
+vier
 five
`

func parseOne(t *testing.T, text string) change {
	t.Helper()
	cs, ds := parsePatch("p", []byte(text))
	require.Empty(t, ds)
	require.Len(t, cs, 1)
	return cs[0]
}

func TestApply(t *testing.T) {
	c := parseOne(t, fix)
	require.Equal(t, "fs/x.c", c.name)
	out, moved, err := apply(c, []byte("one\ntwo\nthree\nfive\n"))
	require.NoError(t, err)
	require.Equal(t, "one\ntwo\ndrei\nvier\nfive\n", string(out))
	require.Equal(t, []int{0}, moved)

	// Other lines before it; the nearest place wins.
	out, moved, err = apply(c, []byte("two\nthree\nfive\n\n\n\n\n\n\n\ntwo\nthree\nfive\n"))
	require.NoError(t, err)
	require.Equal(t, "two\ndrei\nvier\nfive\n\n\n\n\n\n\n\ntwo\nthree\nfive\n", string(out))
	require.Equal(t, []int{-1}, moved)

	// No newline at the end of the file.
	out, _, err = apply(parseOne(t, "--- a/fs/x.c\n+++ b/fs/x.c\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+b\n"), []byte("a"))
	require.NoError(t, err)
	require.Equal(t, "b\n", string(out))

	// Added lines alone, without context.
	out, _, err = apply(parseOne(t, "--- a/fs/x.c\n+++ b/fs/x.c\n@@ -1,0 +2 @@\n+b\n"), []byte("a\nc\n"))
	require.NoError(t, err)
	require.Equal(t, "a\nb\nc\n", string(out))
}

func TestApplyRefuses(t *testing.T) {
	c := parseOne(t, fix)
	for text, says := range map[string]string{
		"one\ntwo\n3\nfive\n":             `best at line 2, but there line 3 is "3", not "three"`,
		"one\n":                           "not even nearly",
		"":                                "not even nearly",
		"one\ntwo\ndrei\nvier\nfive\n":    "in the source already, at line 2",
		"one\ntwo\nthree\nfive":           `line 4 is "five", not "five"`,
		"a\nb\nc\ntwo \nthree\nfive\nx\n": `best at line 4, but there line 4 is "two ", not "two"`,
	} {
		_, _, err := apply(c, []byte(text))
		require.ErrorContains(t, err, says)
		require.Equal(t, codeApply, findings(err)[0].Code)
	}
}

func TestParsePatchRefuses(t *testing.T) {
	git := func(head, name string) string {
		return "diff --git a/" + name + " b/" + name + "\n" + head
	}
	for text, says := range map[string]string{
		"no patch": "no change of a file",
		"--- a/fs/x.c\n+++ b/fs/x.c\n@@ -1,9 +1 @@\n a\n":                                             "cannot read the patch",
		git("new file mode 100644\n--- /dev/null\n+++ b/fs/n.c\n@@ -0,0 +1 @@\n+a\n", "fs/n.c"):       "adds an object",
		git("deleted file mode 100644\n--- a/fs/n.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n", "fs/n.c"):   "removes a file",
		"diff --git a/fs/n.c b/fs/m.c\nsimilarity index 100%\nrename from fs/n.c\nrename to fs/m.c\n": "renames or copies",
		strings.ReplaceAll(fix, "fs/x.c", "arch/x86/entry/entry_64.S"):                                "assembly",
		strings.ReplaceAll(fix, "fs/x.c", "fs/Kconfig"):                                               "how the kernel is built",
		strings.ReplaceAll(fix, "fs/x.c", "../../etc/passwd"):                                         "leads out of the source",
	} {
		_, ds := parsePatch("p", []byte(text))
		require.True(t, diag.HasErrors(ds), text)
		require.Contains(t, ds[0].Message, says)
	}
	cs, ds := parsePatch("p", []byte(strings.ReplaceAll(fix, "fs/x.c", "Documentation/x.rst")))
	require.Empty(t, cs)
	require.Equal(t, diag.SevNote, ds[0].Severity)
}

func TestApplyAll(t *testing.T) {
	one := parseOne(t, fix)
	two := parseOne(t, "--- a/fs/x.c\n+++ b/fs/x.c\n@@ -3 +3 @@\n-drei\n+3\n")
	p, err := applyAll([]change{one, two}, func(string) ([]byte, error) { return []byte("one\ntwo\nthree\nfive\n"), nil })
	require.NoError(t, err)
	require.Equal(t, "one\ntwo\n3\nvier\nfive\n", string(p.files["fs/x.c"]))
	require.Equal(t, "one\ntwo\nthree\nfive\n", string(p.before["fs/x.c"]))

	_, err = applyAll([]change{one, one}, func(string) ([]byte, error) { return []byte("one\ntwo\nthree\nfive\n"), nil })
	require.ErrorContains(t, err, "already")
}

func FuzzPatch(f *testing.F) {
	f.Add(fix, "one\ntwo\nthree\nfive\n")
	f.Fuzz(func(t *testing.T, text, source string) {
		cs, _ := parsePatch("p", []byte(text))
		for _, c := range cs {
			_, ok := sourcePath(c.name)
			require.True(t, ok)
			out, _, err := apply(c, []byte(source))
			if err == nil {
				var grown int64
				for _, fr := range c.file.TextFragments {
					grown += fr.LinesAdded - fr.LinesDeleted
				}
				require.Equal(t, int64(len(splitLines([]byte(source))))+grown, int64(len(splitLines(out))))
			}
		}
	})
}
