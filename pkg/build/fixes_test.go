package build_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kdelta/kdelta/pkg/build"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/internal/guest"
	"github.com/kdelta/kdelta/pkg/kernel/image"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/module"
	"github.com/kdelta/kdelta/pkg/object"
)

const fixesDir = "../../../shared/pairs/fixes"

// fix is a real fix between Debian's 6.1.176 and 6.1.192.
type fix struct {
	id      string
	objects []string
	target  string // the module
	funcs   string // what is replaced
	code    diag.Code
	says    string // part of the refusal
	observe string // prints BUG or FIXED
	other   string // the function in which the original object is not what the kernel runs
}

var fixes = []fix{
	// Its objects were built within the source tree, whose UTS_RELEASE is not that of the package.
	{id: "01", objects: []string{"01-prctl-set-auxv"}, funcs: "prctl_set_auxv", observe: "auxv", other: "override_release"},
	{id: "02", objects: []string{"02-fcntl-rw-hint-immutable"}, funcs: "do_fcntl", observe: "rwhint"},
	{id: "04", objects: []string{"04-act-gact-fallback"}, target: "act_gact", funcs: "tcf_gact_init", observe: "gact"},
	{id: "05", objects: []string{"05-isofs-rock-sl-bounds"}, target: "isofs", funcs: "parse_rock_ridge_inode_internal rock_ridge_symlink_read_folio"},
	{id: "07", objects: []string{"07-swapon-encrypted"}, code: diag.NoFtraceEntry, says: "__x64_sys_swapon, __ia32_sys_swapon"},
	{id: "08", objects: []string{"08-mempolicy-no-vma"}, funcs: "migrate_to_node"},
	{id: "10", objects: []string{"10-pipe-fasync-undo"}, funcs: "pipe_fasync"},
	{id: "12", objects: []string{"12-page-pool-frag-align"}, funcs: "page_pool_alloc_frag"},
	{id: "13", objects: []string{"13-thaw-all-deadlock"}, funcs: "do_thaw_all_callback"},
	{id: "14", objects: []string{"14-rhashtable-walk-start"}, code: diag.NoFtraceEntry, says: "in the whole kernel: mem_allocator_disconnect, __netlink_seq_next, netlink_seq_start"},
	{id: "16", objects: []string{"16-seg6-dst-policy-DATA"}, code: diag.DataChanged, says: "seg6_genl_policy"},
	{id: "17", objects: []string{"17-itimerval-init-NOCHANGE"}, code: diag.NothingChanged},
	// __tcp_retransmit_skb.part.0 has an entry of its own, and is not called through anything that changed (kpatch's hole 16.2).
	{id: "18", objects: []string{"18-tcp_cong", "18-tcp_input", "18-tcp_output"}, funcs: "tcp_sacktag_walk tcp_write_xmit __tcp_retransmit_skb.part.0"},
}

func readPairs(t *testing.T, f *fix) []module.Pair {
	t.Helper()
	var pairs []module.Pair
	for _, name := range f.objects {
		p := module.Pair{Object: klp.Vmlinux}
		if f.target != "" {
			p.Object = f.target
		}
		for side, to := range map[string]**object.File{".ORIG.o": &p.Orig, ".PATCHED.o": &p.Patched} {
			data, err := os.ReadFile(filepath.Join(fixesDir, name+side))
			if err != nil {
				t.Skip(err)
			}
			*to, err = object.Parse(data, object.Options{Name: name + side})
			require.NoError(t, err)
		}
		pairs = append(pairs, p)
	}
	return pairs
}

// TestFixes makes modules of real fixes for the stock kernel, refuses those that cannot be livepatches, loads the
// others into it one by one, and all for vmlinux as one module.
func TestFixes(t *testing.T) {
	k := kernelOf(t, guest.Debian61)
	files := map[string][]byte{"/lib.sh": script(t, "lib.sh")}
	var all []module.Pair
	var load strings.Builder
	load.WriteString(". /lib.sh\n")
	want := ""
	for i := range fixes {
		f := &fixes[i]
		t.Run(f.id, func(t *testing.T) {
			pairs := readPairs(t, f)
			var mods []*image.Module
			if f.target != "" {
				order := modules(t, guest.Debian61, f.target, nil)
				mods = order[len(order)-1:]
				for _, m := range order {
					files["/target/"+m.Name+".ko"] = m.File.Data
					load.WriteString("insmod /target/" + m.Name + ".ko\n")
				}
			}
			name := "kd_fix" + f.id
			opts := build.Options{Name: name}
			if f.other != "" {
				r, err := build.Module(context.Background(), k, mods, pairs, opts)
				require.Error(t, err)
				require.Len(t, r.Diagnostics, 1)
				assert.Equal(t, diag.RunPreMismatch, r.Diagnostics[0].Code)
				assert.Equal(t, f.other, r.Diagnostics[0].Place.Symbol)
				t.Log(r.Diagnostics[0])
				opts.Unchecked = true
			}
			r, err := build.Module(context.Background(), k, mods, pairs, opts)
			if f.code != "" {
				var e *diag.Error
				require.True(t, errors.As(err, &e), "%v", err)
				var codes, text []string
				for _, d := range e.Diagnostics {
					if d.Severity == diag.SevError {
						codes, text = append(codes, string(d.Code)), append(text, d.Message)
					}
				}
				assert.Equal(t, []string{string(f.code)}, codes)
				assert.Contains(t, strings.Join(text, "\n"), f.says)
				return
			}
			require.NoError(t, err)
			var funcs []string
			for _, x := range r.Made.Contents.Functions {
				if x.Replaces() {
					funcs = append(funcs, x.OrigName)
				}
			}
			assert.Equal(t, f.funcs, strings.Join(funcs, " "))
			t.Logf("%d bytes, %v", len(r.Module), r.Diagnostics)
			files["/"+name+".ko"] = r.Module
			watch := func(verdict string) {
				if f.observe != "" {
					load.WriteString("/" + f.observe + " | grep -o 'BUG\\|FIXED'\n")
					want += verdict + "\n"
				}
			}
			if f.observe != "" {
				files["/"+f.observe] = compileStatic(t, filepath.Join(fixesDir, "observers", f.observe+".c"))
			}
			watch("BUG")
			load.WriteString("load " + name + "\n")
			watch("FIXED")
			load.WriteString("unload " + name + "\n")
			want += "rmmod " + name + ": 0\n"
			watch("BUG")
			if f.target == "" {
				all = append(all, pairs...)
			}
		})
	}
	if len(all) == 0 {
		t.Skip("no pairs")
	}
	r, err := build.Module(context.Background(), k, nil, all, build.Options{Name: "kd_all", Unchecked: true})
	require.NoError(t, err)
	t.Logf("all for vmlinux: %d bytes", len(r.Module))
	files["/kd_all.ko"] = r.Module
	load.WriteString("load kd_all\n/auxv | grep -o 'BUG\\|FIXED'\n/rwhint | grep -o 'BUG\\|FIXED'\nls /sys/kernel/livepatch/kd_all/vmlinux | grep -c ,\nunload kd_all\n/auxv | grep -o 'BUG\\|FIXED'\n")
	want += "FIXED\nFIXED\n9\nrmmod kd_all: 0\nBUG\n"
	g := guest.Run(t, guest.Config{Release: guest.Debian61, Files: files, Script: load.String()})
	assert.Equal(t, want, g.Out)
	assert.Equal(t, livepatchTaint, g.Taint)
	assert.Empty(t, g.Troubles())
	if t.Failed() {
		t.Log(g.Dmesg)
	}
}

// compileStatic compiles a program for the guest.
func compileStatic(t *testing.T, path string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "x")
	msg, err := exec.Command("gcc-12", "-O1", "-static", "-o", out, path).CombinedOutput()
	require.NoError(t, err, "%s", msg)
	data, err := os.ReadFile(out)
	require.NoError(t, err)
	return data
}
