package livepatch_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kdelta/kdelta/pkg/build"
	"github.com/kdelta/kdelta/pkg/internal/guest"
	"github.com/kdelta/kdelta/pkg/internal/kbuild"
	"github.com/kdelta/kdelta/pkg/kernel/image"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/module"
)

// The patches of the guest tests: one and two stack, cum replaces them. A task that
// waits in pipe_read blocks two.
var edits = map[string]map[string][]kbuild.Edit{
	"kd_one": {"fs/proc/meminfo.c": {{Old: `"MemTotal: `, New: `"MemKdelta:`}}},
	"kd_two": {
		"fs/proc/loadavg.c": {{Old: `%u/%d %d\n"`, New: `%u/%d %d kdelta\n"`}},
		"fs/pipe.c":         {{Old: "\t/* Null read succeeds. */\n", New: "\tif (!strcmp(current->comm, \"nobody\"))\n\t\tpr_info(\"kdelta: pipe_read\\n\");\n"}},
	},
	"kd_cum": {"fs/proc/version.c": {{Old: "\t\tutsname()->version);\n", New: "\t\tutsname()->version);\n\tseq_puts(m, \"kdelta\\n\");\n"}}},
	"kd_crc": {"fs/proc/loadavg.c": {{Old: `%u/%d %d\n"`, New: `%u/%d %d refused\n"`}}},
}

// patches builds the modules as kdelta module does, and kd_old of another release;
// a checksum of kd_crc is wrong, and kd_sig is signed by nobody that the kernel knows.
func patches(t *testing.T, release string) map[string][]byte {
	t.Helper()
	path := guest.Vmlinuz(t, release)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	k, err := image.Parse(data, image.Options{Name: filepath.Base(path)})
	require.NoError(t, err)
	files := make(map[string][]byte)
	make := func(name, as string, signer *module.Signer) []byte {
		var pairs []module.Pair
		for _, file := range slices.Sorted(maps.Keys(edits[name])) {
			p := module.Pair{Object: klp.Vmlinux}
			p.Orig, p.Patched = kbuild.Pair(t, release, file, edits[name][file]...)
			pairs = append(pairs, p)
		}
		r, err := build.Module(context.Background(), k, nil, pairs, build.Options{Name: as, NoReplace: name != "kd_cum", Signer: signer})
		require.NoError(t, err)
		return r.Module
	}
	for name := range edits {
		files["/m/"+name+".ko"] = make(name, name, nil)
	}
	files["/m/kd_sig.ko"] = make("kd_one", "kd_sig", signer(t))
	crc := files["/m/kd_crc.ko"]
	at := bytes.Index(crc, []byte("module_layout\x00")) // behind its checksum of 8 bytes
	require.Greater(t, at, 8)
	crc[at-8] ^= 1
	old := strings.Replace(release, ".0-50", ".0-49", 1)
	if old == release {
		old = strings.Replace(release, "6.12.117", "6.12.116", 1)
	}
	files["/m/kd_old.ko"] = bytes.ReplaceAll(bytes.ReplaceAll(files["/m/kd_one.ko"], []byte(release), []byte(old)), []byte("kd_one"), []byte("kd_old"))
	return files
}

// signer makes a key that no kernel trusts.
func signer(t *testing.T) *module.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	s, err := module.ParseSigner(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	require.NoError(t, err)
	return s
}

// manage builds the command, without anything that the guest would have to have.
func manage(t *testing.T) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kdelta-manage")
	cmd := exec.Command("go", "build", "-o", file, "./examples/kdelta-manage")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	return data
}

const lib = `
mount -t securityfs securityfs /sys/kernel/security 2>/dev/null
# k COMMAND...: the exit code and what is printed
k() {
	echo "-- $*"
	kdelta-manage "$@" >/tmp/out.$(id -u) 2>/tmp/err.$(id -u)
	echo "exit $?"
	cat /tmp/out.$(id -u)
	sed 's/^/! /' /tmp/err.$(id -u)
}
# reader SECONDS: a cat that waits in pipe_read
reader() {
	sleep $1 | cat >/dev/null &
	R=$!
	until grep -q pipe_read /proc/$R/stack; do sleep 0.2; done
}
seen() { echo "seen: $(grep -c MemKdelta /proc/meminfo) $(grep -c kdelta /proc/loadavg) $(grep -c kdelta /proc/version)"; }
loaded() { [ -d /sys/module/$1 ] && echo "$1 loaded" || echo "$1 not loaded"; }
`

const firstBoot = `
. /lib.sh
mkdir -p /etc /var/lib
echo 'nobody:x:65534:65534::/:/bin/sh' >/etc/passwd
seen
echo "# nothing is there"
k list
k status
k wait
k load --installed
echo "# checks"
k check /m/kd_one.ko
k check /m/kd_old.ko
k load /m/kd_old.ko
k load --dry-run /m/kd_one.ko
loaded kd_one
echo "# not root"
chmod 755 /bin/kdelta-manage
su -s /bin/sh nobody -c '. /lib.sh; k load /m/kd_one.ko; k install /m/kd_one.ko; k check /m/kd_one.ko'
echo "# the kernel refuses"
k load /m/kd_crc.ko
loaded kd_crc
echo "# load"
k load /m/kd_one.ko
seen
k status kd_one
k load /m/kd_one.ko
echo "# stalled"
reader 1000
k load --timeout 3s /m/kd_two.ko
loaded kd_two
seen
kill $R
echo "# ten seconds"
reader 1000
(
	until grep -q 1 /sys/kernel/livepatch/kd_two/transition 2>/dev/null; do sleep 0.2; done
	(sleep 10; kill $R) &
	sleep 1
	kdelta-manage status kd_two >/tmp/status 2>&1
	echo "exit $?" >>/tmp/status
) &
k load --json /m/kd_two.ko
echo "-- status meanwhile"
grep -E 'transition|blocked by|enabling|exit' /tmp/status
seen
k list
echo "# unload stalls, and is undone"
reader 1000
k unload --timeout 3s kd_two
k status kd_two
kill $R
echo "# no wait, wait in vain, signal"
k unload kd_two
reader 1000
k load --no-wait /m/kd_two.ko
k load /m/kd_cum.ko
k wait --timeout 2s
k wait --signal 500ms kd_two
k unload --dry-run kd_two
kill $R
echo "# replace"
k load --replace /m/kd_crc.ko
k check /m/kd_cum.ko
k load --replace /m/kd_cum.ko
seen
k list
loaded kd_one
loaded kd_two
k unload kd_cum
k status kd_cum
seen
echo "# force"
reader 1000
k load --no-wait /m/kd_two.ko
k wait --timeout 1s --force
kill $R
k unload kd_two
echo "# modules that a replacement leaves"
k load /m/kd_one.ko
k load --keep-replaced /m/kd_cum.ko
k list
k unload kd_one
k unload kd_cum
echo "# boot"
k install --dry-run /m/kd_cum.ko
k install /m/kd_one.ko
k install /m/kd_cum.ko
k install /m/kd_old.ko
k install /m/kd_cum.ko
k list --installed
k remove kd_old
k remove kd_old
k list
find /var/lib/kdelta /etc/systemd -type f -o -type l | sort
echo "# files"
for f in $(find /var/lib/kdelta /etc/systemd -type f); do echo "$f $(base64 $f | tr -d '\n')"; done
`

const secondBoot = `
. /lib.sh
seen
echo "-- unit"
eval "$(sed -n 's/^ExecStart=//p' /etc/systemd/system/kdelta-livepatch.service)" >/tmp/unit 2>&1
echo "exit $?"
cat /tmp/unit
k status kd_cum
seen
k load --installed
k remove kd_cum
k remove kd_one
k unload kd_cum
[ -z "$(find /var/lib/kdelta /etc/systemd -type f)" ] && echo "nothing is left"
seen
`

const lockedBoot = `
. /lib.sh
k check /m/kd_one.ko
k load /m/kd_one.ko
k check /m/kd_sig.ko
k load /m/kd_sig.ko
loaded kd_sig
k status
`

var number = regexp.MustCompile(`\[\d+\]`)
var seconds = regexp.MustCompile(`after \d+\.\d s`)

// steps cuts what a guest printed at its "-- " and "# " lines.
func steps(out string) [][]string {
	var all [][]string
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		line = seconds.ReplaceAllString(number.ReplaceAllString(line, "[N]"), "after N s")
		if strings.HasPrefix(line, "-- ") || strings.HasPrefix(line, "# ") || len(all) == 0 {
			all = append(all, nil)
		}
		all[len(all)-1] = append(all[len(all)-1], line)
	}
	return all
}

// expect compares what a guest printed with what was to come: for each line of
// want, lines are skipped until one starts so, but none before an exit code.
func expect(t *testing.T, want, out string) {
	t.Helper()
	var got []string
	for _, s := range steps(out) {
		got = append(got, s...)
	}
	at := 0
	for line := range strings.Lines(strings.TrimPrefix(want, "\n")) {
		line = strings.TrimRight(line, "\n")
		from := at
		for at < len(got) && !strings.HasPrefix(got[at], line) {
			at++
		}
		if at == len(got) || at > from && strings.HasPrefix(line, "exit ") {
			t.Errorf("the guest did not print %q after line %d:\n%s", line, from, strings.Join(got[from:min(from+25, len(got))], "\n"))
			return
		}
		at++
	}
}

// TestGuest runs every command in stock kernels: with a task that blocks for ten
// seconds, with one that blocks for ever, a replacement, refused modules, and an
// installation that is active after a reboot.
func TestGuest(t *testing.T) {
	for _, release := range []string{guest.Debian61, guest.Debian612} {
		t.Run(release, func(t *testing.T) {
			if testing.Short() {
				t.Skip("boots a kernel")
			}
			files := patches(t, release)
			files["/bin/kdelta-manage"] = manage(t)
			files["/lib.sh"] = []byte(lib)
			first := guest.Run(t, guest.Config{Release: release, Files: files, Script: firstBoot, Timeout: 8 * time.Minute})
			head, store, ok := strings.Cut(first.Out, "# files\n")
			require.True(t, ok)
			t.Log(head)
			expect(t, strings.ReplaceAll(wantFirst, "RELEASE", release), head)
			for _, l := range first.Troubles() {
				if !strings.Contains(l, "disagrees about") {
					t.Error(l)
				}
			}
			_, doc, ok := strings.Cut(head, "-- load --json /m/kd_two.ko\nexit 0\n")
			require.True(t, ok)
			var load struct {
				Outcomes []struct {
					Result  string
					Seconds float64
				}
			}
			require.NoError(t, json.NewDecoder(strings.NewReader(doc)).Decode(&load))
			require.Len(t, load.Outcomes, 1)
			assert.Equal(t, "done", load.Outcomes[0].Result)
			assert.Greater(t, load.Outcomes[0].Seconds, 9.0, "the reader was there for ten seconds")

			after := map[string][]byte{"/bin/kdelta-manage": files["/bin/kdelta-manage"], "/lib.sh": []byte(lib)}
			for line := range strings.Lines(store) {
				if w := strings.Fields(line); len(w) == 2 {
					data, err := base64.StdEncoding.DecodeString(w[1])
					require.NoError(t, err)
					after[w[0]] = data
				}
			}
			second := guest.Run(t, guest.Config{Release: release, Files: after, Script: secondBoot})
			t.Log(second.Out)
			expect(t, strings.ReplaceAll(wantSecond, "RELEASE", release), second.Out)
			assert.Empty(t, second.Troubles())

			locked := guest.Run(t, guest.Config{Release: release, Files: files, Script: lockedBoot, Append: "lockdown=integrity module.sig_enforce=1"})
			t.Log(locked.Out)
			expect(t, wantLocked, locked.Out)
		})
	}
}

const wantFirst = `
seen: 0 0 0
# nothing is there
-- list
exit 0
-- status
exit 0
kernel      RELEASE
transition  none
-- wait
exit 0
-- load --installed
exit 0
# checks
-- check /m/kd_one.ko
exit 0
kd_one  for RELEASE, not signed
  vmlinux
    meminfo_proc_show,1
-- check /m/kd_old.ko
exit 1
! kdelta-manage: kd_old: error: the module is for
-- load /m/kd_old.ko
exit 1
! kdelta-manage: kd_old: error: the module is for
-- load --dry-run /m/kd_one.ko
exit 0
would load kd_one from /m/kd_one.ko
kd_one not loaded
# not root
-- load /m/kd_one.ko
exit 1
! kdelta-manage: error: load changes the running kernel: it needs root [not-permitted]
-- install /m/kd_one.ko
exit 1
! kdelta-manage: /etc/systemd/system: error: permission denied [not-permitted]
-- check /m/kd_one.ko
exit 0
# the kernel refuses
-- load /m/kd_crc.ko
exit 3
! kdelta-manage: kd_crc: error: the kernel refused it: the module does not fit this kernel (exec format error); it logged: kd_crc: disagrees about version of symbol module_layout [wrong-release]
kd_crc not loaded
# load
-- load /m/kd_one.ko
exit 0
kd_one  enabled
seen: 1 0 0
-- status kd_one
exit 0
taint       45056 (out-of-tree module, unsigned module, live patch)
kd_one  enabled
-- load /m/kd_one.ko
exit 1
! kdelta-manage: kd_one: error: a module of this name is loaded; its patch is active [patch-loaded]
# stalled
-- load --timeout 3s /m/kd_two.ko
exit 3
blocked by  cat[N] in pipe_read
  pipe_read+
! kdelta-manage: kd_two: error: 1 task(s) had not switched after 3s: cat[N] in pipe_read; the load was reversed, and the module unloaded [transition-stalled]
kd_two not loaded
seen: 1 0 0
# ten seconds
-- load --json /m/kd_two.ko
exit 0
-- status meanwhile
transition  kd_two
kd_two  enabling
blocked by  cat[N] in pipe_read
exit 1
seen: 1 1 0
-- list
exit 0
kd_one  enabled
kd_two  enabled
# unload stalls, and is undone
-- unload --timeout 3s kd_two
exit 3
blocked by  cat[N] in pipe_read [kd_two]
  pipe_read+
! kdelta-manage: kd_two: error: 1 task(s) had not switched after 3s: cat[N] in pipe_read [kd_two]; it is enabled again [transition-stalled]
-- status kd_two
exit 0
kd_two  enabled
# no wait, wait in vain, signal
-- unload kd_two
exit 0
kd_two  unloaded
-- load --no-wait /m/kd_two.ko
exit 0
kd_two  enabling
-- load /m/kd_cum.ko
exit 1
! kdelta-manage: kd_cum: error: kd_two is in transition [transition-running]
-- wait --timeout 2s
exit 4
blocked by  cat[N] in pipe_read
! kdelta-manage: kd_two: error: 1 task(s) had not switched after 2s: cat[N] in pipe_read; the transition goes on [transition-stalled]
-- wait --signal 500ms kd_two
exit 0
kd_two  enabled
-- unload --dry-run kd_two
exit 0
would disable kd_two
# replace
-- load --replace /m/kd_crc.ko
exit 1
! kdelta-manage: kd_crc: error: does not say that it replaces others [not-cumulative]
-- check /m/kd_cum.ko
exit 0
  takes the place of kd_one
  takes the place of kd_two
-- load --replace /m/kd_cum.ko
exit 0
kd_cum  enabled
  kd_one was replaced, and unloaded
  kd_two was replaced, and unloaded
seen: 0 0 1
-- list
exit 0
kd_cum  enabled
kd_one not loaded
kd_two not loaded
-- unload kd_cum
exit 0
kd_cum  unloaded
-- status kd_cum
exit 1
! kdelta-manage: kd_cum: error: no live patch of this name is loaded [no-such-patch]
seen: 0 0 0
# force
-- load --no-wait /m/kd_two.ko
exit 0
kd_two  enabling
-- wait --timeout 1s --force
exit 0
kd_two  enabled
! kdelta-manage: kd_two: warning: was ended by force [transition-stalled]
-- unload kd_two
exit 0
kd_two  unloaded
# modules that a replacement leaves
-- load /m/kd_one.ko
exit 0
-- load --keep-replaced /m/kd_cum.ko
exit 0
kd_cum  enabled
-- list
exit 0
kd_cum  enabled
kd_one  inactive
-- unload kd_one
exit 0
kd_one  unloaded
-- unload kd_cum
exit 0
# boot
-- install --dry-run /m/kd_cum.ko
exit 0
would write /var/lib/kdelta/RELEASE/kd_cum.ko
would write and enable /etc/systemd/system/kdelta-livepatch.service
-- install /m/kd_one.ko
exit 0
kd_one  installed for RELEASE
-- install /m/kd_cum.ko
exit 0
-- install /m/kd_old.ko
exit 0
-- install /m/kd_cum.ko
exit 0
-- list --installed
exit 0
kd_one  installed for RELEASE, not loaded: a later one replaces it
kd_cum  installed for RELEASE
-- remove kd_old
exit 0
-- remove kd_old
exit 1
! kdelta-manage: kd_old: error: is not installed [no-such-patch]
-- list
exit 0
/etc/systemd/system/kdelta-livepatch.service
/etc/systemd/system/multi-user.target.wants/kdelta-livepatch.service
/var/lib/kdelta/RELEASE/kd_cum.ko
/var/lib/kdelta/RELEASE/kd_one.ko
`

const wantSecond = `
seen: 0 0 0
-- unit
exit 0
kd_one  installed for RELEASE, not loaded: a later one replaces it
kd_cum  installed for RELEASE
kd_cum  enabled
-- status kd_cum
exit 0
kd_cum  enabled
seen: 0 0 1
-- load --installed
exit 0
-- remove kd_cum
exit 0
-- remove kd_one
exit 0
-- unload kd_cum
exit 0
kd_cum  unloaded
nothing is left
seen: 0 0 0
`

const wantLocked = `
-- check /m/kd_one.ko
exit 1
! kdelta-manage: kd_one: error: lockdown is integrity, and the module has no signature [lockdown]
-- load /m/kd_one.ko
exit 1
! kdelta-manage: kd_one: error: lockdown is integrity, and the module has no signature [lockdown]
-- check /m/kd_sig.ko
exit 0
-- load /m/kd_sig.ko
exit 3
! kdelta-manage: kd_sig: error: the kernel refused it: the signature is missing, broken or by an unknown key (
kd_sig not loaded
-- status
exit 0
lockdown    integrity; signatures of modules required
`
