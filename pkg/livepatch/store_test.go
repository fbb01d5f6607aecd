package livepatch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStore(t *testing.T) {
	dir := t.TempDir()
	st := &Store{Dir: filepath.Join(dir, "kdelta"), UnitDir: filepath.Join(dir, "systemd"), Program: "/usr/sbin/kdelta-manage"}
	const r61, r612 = "6.1.0-50-amd64", "6.12.117+deb12-amd64"
	names := func(release string) []string {
		ins, err := st.Installed(release)
		require.NoError(t, err)
		var out []string
		for _, i := range ins {
			s := i.Name
			if i.Skipped {
				s += " skipped"
			}
			out = append(out, s)
		}
		return out
	}
	install := func(name, release string, cum bool) {
		in, changed, err := st.Install(mod(t, name, release, cum, cmdline))
		require.NoError(t, err)
		require.True(t, changed)
		require.Equal(t, filepath.Join(st.Dir, release, name+".ko"), in.File)
		_, changed, err = st.Install(mod(t, name, release, cum, cmdline))
		require.NoError(t, err)
		require.False(t, changed, "the second time")
	}
	rs, err := st.Releases()
	require.NoError(t, err)
	require.Empty(t, rs)
	require.Empty(t, names(r61))

	install("zz", r61, false)
	install("aa", r61, false)
	install("other", r612, true)
	require.Equal(t, []string{"zz", "aa"}, names(r61))
	install("cum", r61, true)
	install("top", r61, false)
	require.Equal(t, []string{"zz skipped", "aa skipped", "cum", "top"}, names(r61))
	rs, err = st.Releases()
	require.NoError(t, err)
	require.Equal(t, []string{r61, r612}, rs)

	unit, err := os.ReadFile(filepath.Join(st.UnitDir, UnitName))
	require.NoError(t, err)
	require.Contains(t, string(unit), "ExecStart=/usr/sbin/kdelta-manage load --installed --store "+st.Dir+"\n")
	require.Contains(t, string(unit), "ConditionDirectoryNotEmpty="+st.Dir+"/%v\n")
	link := filepath.Join(st.UnitDir, "multi-user.target.wants", UnitName)
	data, err := os.ReadFile(link)
	require.NoError(t, err, "the link leads to the unit")
	require.Equal(t, unit, data)

	_, changed, err := st.Install(mod(t, "aa", r61, true, cmdline))
	require.ErrorContains(t, err, "store-conflict")
	require.False(t, changed)
	bad := mod(t, "x", r61, true, cmdline)
	for _, magic := range []string{"", "../../etc SMP", ".", "a/b"} {
		bad.Vermagic = magic
		_, _, err = st.Install(bad)
		require.ErrorContains(t, err, "wrong-release")
	}

	// A file that somebody put there by hand comes last.
	require.NoError(t, os.WriteFile(filepath.Join(st.Dir, r612, "by_hand.ko"), []byte("?"), 0o600))
	require.Equal(t, []string{"other", "by_hand"}, names(r612))

	for _, n := range []string{"zz", "cum", "aa", "top"} {
		_, err := st.Remove(r61, n)
		require.NoError(t, err)
	}
	require.NoDirExists(t, filepath.Join(st.Dir, r61))
	require.FileExists(t, link)
	_, err = st.Remove(r61, "zz")
	require.ErrorContains(t, err, "no-such-patch")
	_, err = st.Remove(r61, "../"+r612+"/other")
	require.ErrorContains(t, err, "no-such-patch")
	_, err = st.Remove(r612, "other")
	require.NoError(t, err)
	_, err = st.Remove(r612, "by_hand")
	require.NoError(t, err)
	require.NoFileExists(t, link)
	require.NoFileExists(t, filepath.Join(st.UnitDir, UnitName))
}

func TestStoreFailures(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	m := mod(t, "p", "6.1.0-50-amd64", true, cmdline)
	_, _, err := (&Store{Dir: file}).Install(m)
	require.ErrorContains(t, err, "store-failed")
	_, err = (&Store{Dir: file}).Releases()
	require.ErrorContains(t, err, "store-failed")
	_, _, err = (&Store{Dir: dir, UnitDir: file, Program: "/p"}).Install(m)
	require.ErrorContains(t, err, "store-failed")
	_, _, err = (&Store{Dir: dir, UnitDir: dir, Program: "relative"}).Install(m)
	require.ErrorContains(t, err, "store-failed")
	_, _, err = (&Store{Dir: dir, UnitDir: dir, Program: "/a b"}).Install(m)
	require.ErrorContains(t, err, "store-failed")
	require.NoFileExists(t, filepath.Join(dir, "6.1.0-50-amd64", "p.ko"))
	require.NoDirExists(t, filepath.Join(dir, "6.1.0-50-amd64"), "nothing is left of an install that failed")
	// The module cannot be written: the unit does not stay either.
	units := filepath.Join(dir, "units")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "6.1.0-50-amd64"), nil, 0o600))
	_, _, err = (&Store{Dir: dir, UnitDir: units, Program: "/p"}).Install(m)
	require.ErrorContains(t, err, "store-failed")
	require.NoFileExists(t, filepath.Join(units, UnitName))
	notKlp := *m
	notKlp.Livepatch = false
	_, _, err = (&Store{Dir: dir}).Install(&notKlp)
	require.ErrorContains(t, err, "not-livepatch")
	require.Equal(t, 1, strings.Count((&Store{Dir: "/d", Program: "/p"}).Unit(), "ExecStart="))
}
