package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const headersControl = `N: an apt remark without a field
Package: linux-headers-6.1.0-50-amd64
Source: linux
Version: 6.1.176-1
Depends: linux-headers-6.1.0-50-common (= 6.1.176-1), linux-kbuild-6.1 (>= 6.1.176-1), linux-compiler-gcc-12-x86
Description: Header files for Linux
 of several
 lines

Package: other
Version: 1
`

func TestParseControl(t *testing.T) {
	s := parseControl(headersControl)
	require.Len(t, s, 2)
	require.Equal(t, "6.1.176-1", s[0]["version"])
	require.Equal(t, "Header files for Linux\nof several\nlines", s[0]["description"])
	require.Equal(t, "other", s[1]["package"])
	require.Empty(t, parseControl(" a continuation of nothing\n\n"))
}

func TestParseDepends(t *testing.T) {
	require.Equal(t, []dependency{{"a", "1-2"}, {"b", ""}, {"c", ""}, {"gcc-12", ""}},
		parseDepends("a (= 1-2) | a-unsigned (= 1-2), b (>= 3), c,, gcc-12:any"))
	require.Nil(t, parseDepends(""))
}

func TestParseDebName(t *testing.T) {
	for path, want := range map[string]debName{
		"/x/linux-image-6.12.117+deb12-amd64_6.12.117-1~deb12u1_amd64.deb": {"linux-image-6.12.117+deb12-amd64", "6.12.117-1~deb12u1", "amd64"},
		"a_1%3a2-3_all.deb": {"a", "1:2-3", "all"},
		"a_1_all.udeb":      {},
		"a_1.deb":           {},
		"__.deb":            {},
		"a_b_c_d.deb":       {},
	} {
		got, ok := parseDebName(path)
		require.Equal(t, want, got, path)
		require.Equal(t, want != debName{}, ok, path)
	}
}

func TestParseMadison(t *testing.T) {
	require.Equal(t, []string{"6.1.192-2", "6.1.176-1"}, parseMadison(`linux-source-6.1 |  6.1.192-2 | http://deb.debian.org/debian-security bookworm-security/main amd64 Packages
linux-source-6.1 |  6.1.176-1 | http://deb.debian.org/debian bookworm/main amd64 Packages
linux-source-6.1 |  6.1.176-1 | http://deb.debian.org/debian-security bookworm-security/main amd64 Packages
N: something else
`))
}

func TestResolve(t *testing.T) {
	p, err := resolve("6.1.0-50-amd64", parseControl(headersControl)[0])
	require.NoError(t, err)
	require.Equal(t, &packages{Release: "6.1.0-50-amd64", Version: "6.1.176-1", Image: "linux-image-6.1.0-50-amd64", Headers: "linux-headers-6.1.0-50-amd64",
		Common: "linux-headers-6.1.0-50-common", Kbuild: "linux-kbuild-6.1", Source: "linux-source-6.1"}, p)

	p, err = resolve("6.12.117+deb12-amd64", stanza{"version": "6.12.117-1~deb12u1",
		"depends": "linux-base (>= 4.12~), linux-headers-6.12.117+deb12-common (= 6.12.117-1~deb12u1), linux-image-6.12.117+deb12-amd64 (= 6.12.117-1~deb12u1) | x, linux-kbuild-6.12.117+deb12, gcc-12"})
	require.NoError(t, err)
	require.Equal(t, "linux-source-6.12", p.Source)
	require.Equal(t, "linux-kbuild-6.12.117+deb12", p.Kbuild)

	for _, s := range []stanza{{}, {"version": "6.1.2-1"}, {"version": "x", "depends": "linux-headers-1-common, linux-kbuild-1"}} {
		_, err := resolve("6.1.2", s)
		require.Equal(t, codePackage, findings(err)[0].Code)
	}
}

func TestSeries(t *testing.T) {
	for version, want := range map[string]string{"6.1.176-1": "6.1", "6.12~rc6-1": "6.12", "1:7.2-1": "7.2", "7": "", "": ""} {
		require.Equal(t, want, series(version), version)
	}
}

func TestChoose(t *testing.T) {
	p := &packages{Version: "1-1", Image: "i", Headers: "h", Common: "c", Kbuild: "k", Source: "s"}
	found, missing := choose(p, []string{"/d/i_1-1_amd64.deb", "/d/h_1-1_amd64.deb", "/d/h_2-1_amd64.deb", "/d/c_1-1_all.deb", "/d/k_9-9_amd64.deb", "/d/s_1-2_all.deb", "/d/x.txt"})
	require.Equal(t, map[string]string{"i": "/d/i_1-1_amd64.deb", "h": "/d/h_1-1_amd64.deb", "c": "/d/c_1-1_all.deb", "k": "/d/k_9-9_amd64.deb"}, found)
	require.Equal(t, []dependency{{"s", "1-1"}}, missing)
	require.Equal(t, "s=1-1", missing[0].String())
}

func TestCheckRelease(t *testing.T) {
	for _, ok := range []string{"6.1.0-50-amd64", "6.12.117+deb12-rt-amd64", "7.0~rc1-amd64"} {
		require.NoError(t, checkRelease(ok))
	}
	for _, bad := range []string{"", "../x", "6.1 a", "amd64", "6.1/2", "6.1*"} {
		require.Error(t, checkRelease(bad), bad)
	}
}

func FuzzControl(f *testing.F) {
	f.Add(headersControl)
	f.Fuzz(func(t *testing.T, text string) {
		for _, s := range parseControl(text) {
			for name := range s {
				require.Equal(t, strings.ToLower(name), name)
			}
			_, _ = resolve("1", s)
		}
		parseMadison(text)
	})
}

func TestVersions(t *testing.T) {
	require.Equal(t, "6.1.176-1", packageID("#define LINUX_PACKAGE_ID \" Debian 6.1.176-1\"\n"))
	require.Empty(t, packageID("#define LINUX_PACKAGE_ID \"\"\n"))
	require.Equal(t, "6.12.117-1~deb12u1", changelogVersion("linux-6.12 (6.12.117-1~deb12u1) bookworm-security; urgency=high\n\n  * x (y)\n"))
	require.Empty(t, changelogVersion(""))
}
