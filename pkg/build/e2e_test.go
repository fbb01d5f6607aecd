package build_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
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

// change is a change of one source file of the kernel.
type change struct {
	object string // the module; empty: vmlinux
	file   string
	edits  []kbuild.Edit
}

var (
	meminfo = change{file: "fs/proc/meminfo.c", edits: []kbuild.Edit{{Old: `"MemTotal: `, New: `"MemKdelta:`}}}
	loadavg = change{file: "fs/proc/loadavg.c", edits: []kbuild.Edit{{Old: `%u/%d %d\n"`, New: `%u/%d %d kdelta\n"`}}}
	version = change{file: "fs/proc/version.c", edits: []kbuild.Edit{{Old: "\t\tutsname()->version);\n", New: "\t\tutsname()->version);\n\tseq_puts(m, \"kdelta\\n\");\n"}}}

	readdir = change{file: "fs/readdir.c", edits: []kbuild.Edit{
		{Old: "static bool filldir64(struct dir_context *ctx", New: `DECLARE_STATIC_KEY_FALSE(sched_schedstats);
static unsigned long kd_seen;

static noinline bool kd_helper(const char *name, int len)
{
	kd_seen++;
	return len == 7 && !memcmp(name, "kdmagic", 7);
}

static __always_inline bool kd_hidden(const char *name, int len)
{
	cond_resched();
	if (static_branch_unlikely(&sched_schedstats))
		return false;
	if (!kd_helper(name, len))
		return false;
	WARN_ONCE(kd_seen, "kdelta hides %s\n", "a file");
	return true;
}

static bool filldir64(struct dir_context *ctx`},
		{Old: "\t\tsizeof(u64));\n\tint prev_reclen;\n", New: "\t\tsizeof(u64));\n\tint prev_reclen;\n\n\tif (kd_hidden(name, namlen))\n\t\treturn true;\n"},
	}}
	netType = change{file: "net/core/net-sysfs.c", edits: []kbuild.Edit{{Old: "NETDEVICE_SHOW_RO(type, fmt_dec);", New: `NETDEVICE_SHOW_RO(type, "%d kd\n");`}}}
	ext4    = change{object: "ext4", file: "fs/ext4/sysfs.c", edits: []kbuild.Edit{
		{Old: "static ssize_t ext4_attr_show(struct kobject *kobj", New: "static struct kobject *ext4_root;\n\nstatic ssize_t ext4_attr_show(struct kobject *kobj"},
		{Old: `sysfs_emit(buf, "supported\n")`, New: `sysfs_emit(buf, "supported kd %d %s\n", ext4_root != NULL, ext4_decode_error(NULL, -ENOMEM, NULL))`},
	}}
	pipe     = change{file: "fs/pipe.c", edits: []kbuild.Edit{{Old: "\t/* Null read succeeds. */\n", New: "\tif (!strcmp(current->comm, \"cat\"))\n\t\tpr_info(\"kdelta: pipe_read\\n\");\n"}}}
	callback = change{file: "fs/proc/loadavg.c", edits: []kbuild.Edit{
		{Old: "#include \"internal.h\"\n", New: `#include "internal.h"
#include <linux/livepatch.h>

#define KD_ID 0x6b64

static int kd_pre_patch(struct klp_object *obj)
{
	pr_info("kdelta: pre_patch of %s\n", obj->name ? obj->name : "vmlinux");
	return 0;
}

static void kd_post_patch(struct klp_object *obj)
{
	pr_info("kdelta: post_patch of %s\n", obj->name ? obj->name : "vmlinux");
}

static void kd_post_unpatch(struct klp_object *obj)
{
	klp_shadow_free_all(KD_ID, NULL);
	pr_info("kdelta: post_unpatch of %s\n", obj->name ? obj->name : "vmlinux");
}

static void *__used __section(".discard.klp_callback_ptrs") __klp_pre_patch_callback_vmlinux = kd_pre_patch;
static void *__used __section(".discard.klp_callback_ptrs") __klp_post_patch_callback_vmlinux = kd_post_patch;
static void *__used __section(".discard.klp_callback_ptrs") __klp_post_unpatch_callback_vmlinux = kd_post_unpatch;
`},
		{Old: "\treturn 0;\n}\n\nstatic int __init proc_loadavg_init", New: `	{
		int *n = klp_shadow_get_or_alloc(&init_task, KD_ID, sizeof(*n), GFP_KERNEL, NULL, NULL);

		if (n)
			seq_printf(m, "shadow %d\n", ++*n);
	}
	return 0;
}

static int __init proc_loadavg_init`},
	}}
)

// scenario is a run of one script of testdata/e2e in a guest.
type scenario struct {
	name    string
	patches map[string][]change // by module
	sign    bool
	stack   bool // the modules do not replace each other, but for the last by name
	taint   string
	warns   []string // texts of the one warning that is provoked
	want    string
}

const livepatchTaint = "45056" // livepatch, out of tree, unsigned

var scenarios = []scenario{
	{name: "string", patches: map[string][]change{"kd_string": {meminfo}}, want: `
before: 1 0 of N
loaded: 0 1 of N
rmmod kd_string: 0
after: 1 0 of N
`},
	{name: "signed", sign: true, patches: map[string][]change{"kd_string": {meminfo}}, want: `
~Module signature appended~
1
rmmod kd_string: 0
`},
	{name: "features", patches: map[string][]change{"kd_features": {readdir}}, taint: "45568", warns: []string{"kdelta hides a file", "fs/readdir.c:"}, want: `
before: kdmagic other 
loaded: other 
branch: kdmagic other 
back: other 
getdents64 to nowhere: Bad address
helper there
rmmod kd_features: 0
after: kdmagic other 
`},
	{name: "duplicate", patches: map[string][]change{"kd_duplicate": {netType}}, want: `
before: 772, others 0
loaded: 772 kd, others 0
patched
type_show,POS
rmmod kd_duplicate: 0
after: 772, others 0
`},
	{name: "target", patches: map[string][]change{"kd_target": {ext4}}, want: `
none: no ext4
patch first: supported kd 1 Out of memory
rmmod ext4: 0
again: supported kd 1 Out of memory
rmmod ext4: 0
and again: supported kd 1 Out of memory
rmmod kd_target: 0
unpatched: supported
module first: supported kd 1 Out of memory
rmmod kd_target: 0
after: supported
rmmod ext4: 0
fresh: supported
`},
	{name: "sleeper", patches: map[string][]change{"kd_sleeper": {pipe}}, want: `
entered: 1
pipe_read of kd_sleeper
transition 1, reader 1
data
rmmod kd_sleeper: 0
quiet
after: 0
`},
	{name: "replace", stack: true, patches: map[string][]change{"kd_string": {meminfo}, "kd_loadavg": {loadavg}, "kd_version": {version}}, want: `
before: 0 0 0
first: 1 0 0
second: 1 1 0
third: 0 0 1
rmmod kd_string: 0
rmmod kd_loadavg: 0
replaced: 0 0 1
rmmod kd_version: 0
after: 0 0 0
`},
	{name: "callbacks", patches: map[string][]change{"kd_callbacks": {callback}}, want: `
before: 
one: shadow 1
two: shadow 2
rmmod kd_callbacks: 0
kdelta: pre_patch of vmlinux
kdelta: post_patch of vmlinux
kdelta: post_unpatch of vmlinux
after: 
from the start: shadow 1
rmmod kd_callbacks: 0
`},
}

var (
	count    = regexp.MustCompile(`of \d+`)
	position = regexp.MustCompile(`type_show,(\d+)`)
)

// TestScenarios loads patches into stock kernels, on both releases. In CI two of
// them run (-run 'TestScenarios/.*/(features|target)'); all of them take some minutes.
func TestScenarios(t *testing.T) {
	for _, release := range []string{guest.Debian61, guest.Debian612} {
		t.Run(release, func(t *testing.T) {
			for i := range scenarios {
				t.Run(scenarios[i].name, func(t *testing.T) { scenarios[i].run(t, release) })
			}
		})
	}
}

func (s *scenario) run(t *testing.T, release string) {
	if testing.Short() {
		t.Skip("boots a kernel")
	}
	k := kernelOf(t, release)
	files := map[string][]byte{"/lib.sh": script(t, "lib.sh")}
	for name, changes := range s.patches {
		data, mods := livepatch(t, k, release, name, changes, s.stack && name != "kd_version", s.sign)
		files["/"+name+".ko"] = data
		if len(mods) > 0 {
			var order strings.Builder
			for _, m := range mods {
				files["/target/"+m.Name+".ko"] = m.File.Data
				order.WriteString(m.Name + "\n")
			}
			files["/order"] = []byte(order.String())
		}
	}
	if s.name == "features" {
		files["/observe"] = compileStatic(t, "../../testdata/e2e/observe.c")
	}
	r := guest.Run(t, guest.Config{Release: release, Files: files, Script: string(script(t, s.name+".sh"))})
	got := count.ReplaceAllString(r.Out, "of N")
	if m := position.FindStringSubmatch(got); s.name == "duplicate" && assert.NotNil(t, m, "no position") {
		assert.NotEqual(t, "1", m[1])
		got = strings.ReplaceAll(got, m[0], "type_show,POS")
	}
	assert.Equal(t, strings.TrimPrefix(s.want, "\n"), got)
	taint := s.taint
	if taint == "" {
		taint = livepatchTaint
	}
	assert.Equal(t, taint, r.Taint)
	bad := r.Troubles()
	if len(s.warns) > 0 {
		assert.Equal(t, 1, strings.Count(r.Dmesg, "WARNING:"))
		for _, w := range s.warns {
			assert.Contains(t, r.Dmesg, w)
		}
		bad = nil
		for _, l := range r.Troubles() {
			if !strings.Contains(l, "WARNING:") && !strings.Contains(l, "Call Trace") {
				bad = append(bad, l)
			}
		}
	}
	assert.Empty(t, bad)
	if t.Failed() {
		t.Log(r.Dmesg)
	}
}

var kernels sync.Map

func kernelOf(t *testing.T, release string) *image.Kernel {
	t.Helper()
	if k, ok := kernels.Load(release); ok {
		return k.(*image.Kernel)
	}
	path := guest.Vmlinuz(t, release)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	k, err := image.Parse(data, image.Options{Name: filepath.Base(path)})
	require.NoError(t, err)
	kernels.Store(release, k)
	return k
}

// livepatch makes a module.
func livepatch(t *testing.T, k *image.Kernel, release, name string, changes []change, stack, sign bool) ([]byte, []*image.Module) {
	t.Helper()
	var pairs []module.Pair
	var mods, order []*image.Module
	for _, c := range changes {
		p := module.Pair{Object: klp.Vmlinux}
		if c.object != "" {
			p.Object = c.object
			order = modules(t, release, c.object, nil)
			mods = append(mods, order[len(order)-1])
		}
		p.Orig, p.Patched = kbuild.Pair(t, release, c.file, c.edits...)
		pairs = append(pairs, p)
	}
	opts := build.Options{Name: name, NoReplace: stack}
	if sign {
		opts.Signer = signer(t)
	}
	r, err := build.Module(context.Background(), k, mods, pairs, opts)
	require.NoError(t, err)
	t.Logf("%s: %d bytes; %v; %v", name, len(r.Module), r.Made.Completed[0][1], r.Diagnostics)
	return r.Module, order
}

// modules gives a module of a release and all that it needs, which come first.
func modules(t *testing.T, release, name string, have []*image.Module) []*image.Module {
	t.Helper()
	for _, m := range have {
		if m.Name == name {
			return have
		}
	}
	path := guest.Module(t, release, name)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	m, err := image.ParseModule(data, image.Options{Name: filepath.Base(path)})
	require.NoError(t, err)
	for _, d := range m.Depends {
		have = modules(t, release, d, have)
	}
	return append(have, m)
}

func script(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../../testdata/e2e", name))
	require.NoError(t, err)
	return data
}

// signer makes a key that no kernel knows.
func signer(t *testing.T) *module.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	now := time.Now()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(77), Subject: pkix.Name{CommonName: "kdelta test"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &module.Signer{Key: key, Cert: cert}
}
