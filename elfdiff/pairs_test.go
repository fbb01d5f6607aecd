package elfdiff_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/elfdiff/internal/testutil"
)

// byStatus gives the functions that are not unchanged, by status, sorted.
func byStatus(d *elfdiff.Delta) map[elfdiff.Status][]string {
	m := map[elfdiff.Status][]string{}
	for i := range d.Functions {
		if f := &d.Functions[i]; f.Status != elfdiff.Unchanged {
			m[f.Status] = append(m[f.Status], f.Name)
		}
	}
	for _, l := range m {
		slices.Sort(l)
	}
	return m
}

// dataRows gives the data that are not unchanged as "status name", sorted.
func dataRows(d *elfdiff.Delta) []string {
	var out []string
	for i := range d.Data {
		if x := &d.Data[i]; x.Status != elfdiff.Unchanged {
			out = append(out, x.Status.String()+" "+x.Name)
		}
	}
	slices.Sort(out)
	return out
}

func sorted(l []string) []string { return slices.Sorted(slices.Values(l)) }

func wantLists(t *testing.T, d *elfdiff.Delta, want map[elfdiff.Status][]string, data []string) {
	t.Helper()
	got := byStatus(d)
	for s := elfdiff.LineOnly; s <= elfdiff.Removed; s++ {
		if g, w := got[s], sorted(want[s]); !slices.Equal(g, w) {
			t.Errorf("%v functions: %q, want %q", s, g, w)
		}
	}
	if g := dataRows(d); !slices.Equal(g, sorted(data)) {
		t.Errorf("data: %q, want %q", g, sorted(data))
	}
	if t.Failed() || testing.Verbose() {
		t.Log("\n" + dump(d))
	}
}

// pairGaps is for shared pairs what knownGaps is for fixtures.
var pairGaps = map[string]string{}

// pair runs fn as a subtest that may be a known gap.
func pair(t *testing.T, p testutil.Pair, want map[elfdiff.Status][]string, data []string) {
	t.Run(strings.TrimPrefix(p.Name, filepath.Dir(p.Name)+"/"), func(t *testing.T) {
		t.Parallel()
		d := testutil.Diff(t, testutil.MustLoad(t, p.Orig), testutil.MustLoad(t, p.Patched))
		reason, gap := pairGaps[p.Name]
		if !gap {
			wantLists(t, d, want, data)
			return
		}
		ok := slices.Equal(dataRows(d), sorted(data))
		got := byStatus(d)
		for s := elfdiff.LineOnly; s <= elfdiff.Removed; s++ {
			ok = ok && slices.Equal(got[s], sorted(want[s]))
		}
		if ok {
			t.Errorf("passes now: take it out of pairGaps (%s)", reason)
		} else {
			t.Logf("known gap: %s\n%s", reason, dump(d))
		}
	})
}

func TestPairsCVE(t *testing.T) {
	var want map[string]struct {
		Changed  []string
		LineOnly []string `json:"line_only"`
		New      []string
		Removed  []string
		Object   string
	}
	testutil.ReadJSON(t, testutil.Shared(t, "cve", "expected.json"), &want)
	pairs := testutil.SharedPairs("cve")
	if len(pairs) != len(want) {
		t.Errorf("%d pairs, %d expected", len(pairs), len(want))
	}
	for _, p := range pairs {
		w := want[filepath.Base(p.Name)]
		pair(t, p, map[elfdiff.Status][]string{elfdiff.Changed: w.Changed, elfdiff.LineOnly: w.LineOnly, elfdiff.New: w.New, elfdiff.Removed: w.Removed}, cveData[filepath.Base(p.Name)])
	}
}

// cveData is the data that differ in the pairs of CVE fixes.
var cveData = map[string][]string{}

func TestPairsKpatch(t *testing.T) {
	var want map[string]struct {
		Exit        int
		Changed     []string
		New         []string
		TextSymbols *int `json:"text_symbols"`
	}
	testutil.ReadJSON(t, testutil.Shared(t, "kpatch", "expected.json"), &want)
	pairs := testutil.SharedPairs("kpatch")
	if len(pairs) != len(want) {
		t.Errorf("%d pairs, %d expected", len(pairs), len(want))
	}
	for _, p := range pairs {
		name := filepath.Base(p.Name)
		w := want[name]
		lists := map[elfdiff.Status][]string{elfdiff.Changed: w.Changed, elfdiff.New: w.New, elfdiff.LineOnly: nil}
		x := kpatchDiffers[name]
		for status, l := range x.lists {
			lists[status] = append(slices.Clone(lists[status]), l...)
		}
		pair(t, p, lists, x.data)
	}
}

// differ says where we differ from create-diff-object on purpose.
type differ struct {
	why   string
	lists map[elfdiff.Status][]string // beside those of expected.json, or all
	data  []string                    // "status name"; expected.json says nothing of data
}

// kpatchDiffers is what we find beyond create-diff-object, on purpose. It does
// not tell line numbers from no change, so those are listed here in full.
var kpatchDiffers = map[string]differ{
	"line-detect-issue-1253": {
		why:   "line numbers in calls of __btrfs_abort_transaction; ___ratelimit's state and __func__ come with the new message",
		lists: line("balance_node_right", "push_node_left", "split_node"),
		data:  []string{"line-only __UNIQUE_ID_ddebug1396.15", "line-only __UNIQUE_ID_ddebug1398.13", "line-only __UNIQUE_ID_ddebug1402.12", "new __func__.1", "new _rs.0", "new _rs.2"},
	},
	"dynamic-debug-jump-label-issue-1253": {
		why:   "line numbers in calls and descriptors",
		lists: line("balance_node_right", "split_node"),
		data:  []string{"line-only __UNIQUE_ID_ddebug1396.12", "line-only __UNIQUE_ID_ddebug1398.10", "line-only __UNIQUE_ID_ddebug1402.9"},
	},
	"special-static-2":           {why: "a line number in a call of ___might_sleep", lists: line("kvm_arch_vcpu_ioctl_run")},
	"replace-section-references": {why: "a line number in a call of ___might_sleep", lists: line("kvm_arch_vcpu_ioctl_run")},
	"printk-index-1-issue-1206": {
		why:   "line numbers in calls of lockdep_rcu_suspicious, in descriptors and in entries of the printk index",
		lists: line("tcp_rcv_state_process", "tcp_rcv_synrecv_state_fastopen"),
		data: []string{"line-only __UNIQUE_ID_ddebug1009.23", "line-only __UNIQUE_ID_ddebug1010.22", "line-only __UNIQUE_ID_ddebug1011.21", "line-only _entry.10", "line-only _entry.2",
			"line-only _entry.8", "line-only descriptor.15", "line-only descriptor.16"},
	},
	"meminfo-init2": {
		why:   "create-diff-object refuses the change of an __init function by itself (exit 2); the diff says what it is",
		lists: map[elfdiff.Status][]string{elfdiff.Changed: {"proc_meminfo_init"}},
	},

	"jump-label-issue-1021": {why: "line numbers in descriptors", data: []string{"line-only descriptor.68456", "line-only descriptor.68461"}},
	"ASSERT_RTNL-detect": {
		why: "the line is an argument of ASSERT_RTNL's __warn_printk, and in descriptors",
		lists: line("__dev_change_flags", "__dev_change_net_namespace", "__dev_close_many", "__dev_open", "__dev_set_allmulti", "__dev_set_promiscuity", "__netdev_has_upper_dev",
			"__netdev_notify_peers", "__netdev_update_features", "__netdev_upper_dev_link", "__netdev_upper_dev_unlink", "bpf_xdp_link_release", "call_netdevice_notifiers_info",
			"dev_change_name", "dev_change_xdp_fd", "dev_xdp_attach", "flush_all_backlogs", "free_netdev", "list_netdevice", "netdev_has_any_upper_dev", "netdev_has_upper_dev",
			"netdev_is_rx_handler_busy", "netdev_lower_state_changed", "netdev_master_upper_dev_get", "netdev_rx_handler_register", "netdev_rx_handler_unregister",
			"netif_set_real_num_rx_queues", "netif_set_real_num_tx_queues", "register_netdevice", "unlist_netdevice", "unregister_netdevice_many", "unregister_netdevice_queue"),
		data: ddebug(1443, 71, 1444, 70, 1445, 69, 1447, 68, 1448, 67, 1513, 56, 1514, 55, 1516, 54, 1517, 53, 1518, 52, 1519, 51, 1520, 50, 1521, 49, 1522, 48, 1523, 47, 1524, 46, 1525, 45, 1527, 43, 1579, 38),
	},
	"fixup-section":        {why: "a line number in a call of __might_fault", lists: line("SyS_getdents", "compat_SyS_getdents")},
	"clang-special-static": {why: "line numbers in calls; a lock class goes with its last user", lists: line("__synchronize_srcu"), data: []string{"removed init_srcu_struct_fields.__key.14"}},
	"cmdline-ubsan":        {why: "the line in a UBSAN location", lists: line("proc_cmdline_init")},
	"bug-table-section":    {why: "line numbers in calls", lists: line("proc_sys_compare", "unregister_sysctl_table")},
}

// ddebug gives descriptors by their two numbers, all of them line-only.
func ddebug(n ...int) []string {
	var out []string
	for ; len(n) > 0; n = n[2:] {
		out = append(out, fmt.Sprintf("line-only __UNIQUE_ID_ddebug%d.%d", n[0], n[1]))
	}
	return out
}

func line(names ...string) map[elfdiff.Status][]string {
	return map[elfdiff.Status][]string{elfdiff.LineOnly: names}
}

func TestPairsFixes(t *testing.T) {
	testutil.Shared(t, "fixes")
	for _, p := range testutil.SharedPairs("fixes") {
		w, ok := fixes[filepath.Base(p.Name)]
		if !ok {
			t.Errorf("no expectation for %s", p.Name)
		}
		pair(t, p, w.lists, w.data)
	}
}

// fixes is TABLE.tsv of the pairs, with its notes, as lists. What must be refused
// there is for the patch to refuse: the diff says what changed.
var fixes = map[string]differ{
	"01-prctl-set-auxv":          {lists: changes("prctl_set_auxv")},
	"02-fcntl-rw-hint-immutable": {lists: changes("do_fcntl")},
	"04-act-gact-fallback":       {lists: changes("tcf_gact_init"), data: []string{"new __msg.45"}},
	"05-isofs-rock-sl-bounds":    {lists: changes("parse_rock_ridge_inode_internal", "rock_ridge_symlink_read_folio")},
	"07-swapon-encrypted":        {lists: changes("__do_sys_swapon"), data: []string{"new __already_done.5"}},
	"08-mempolicy-no-vma": {lists: changes("migrate_to_node"),
		data: []string{"line-only __UNIQUE_ID_ddebug427.13", "line-only __UNIQUE_ID_ddebug435.11", "line-only __UNIQUE_ID_ddebug437.10", "line-only __UNIQUE_ID_ddebug439.9"}},
	"10-pipe-fasync-undo":        {lists: changes("pipe_fasync")},
	"12-page-pool-frag-align":    {lists: changes("page_pool_alloc_frag")},
	"13-thaw-all-deadlock":       {lists: changes("do_thaw_all_callback")},
	"14-rhashtable-walk-start":   {lists: changes("rhashtable_walk_start_check")},
	"16-seg6-dst-policy-DATA":    {data: []string{"changed seg6_genl_policy"}},
	"17-itimerval-init-NOCHANGE": {},
	"18-tcp_cong":                {why: "line fields of __bug_table alone"},
	"18-tcp_input":               {lists: changes("tcp_sacktag_walk")},
	"18-tcp_output": {why: "the table has tcp_write_xmit alone; tcp_collapse_retrans changed too, inlined into __tcp_retransmit_skb.part.0 (kpatch 16.2: a changed .part child is lost without a word)",
		lists: changes("tcp_write_xmit", "__tcp_retransmit_skb.part.0")},
}

func changes(names ...string) map[elfdiff.Status][]string {
	return map[elfdiff.Status][]string{elfdiff.Changed: names}
}

func TestPairVmlinux(t *testing.T) {
	a, b := testutil.VmlinuxPair(t)
	ga, err := testutil.Analyze(a, "vmlinux.ORIG.o")
	if err != nil {
		t.Fatal(err)
	}
	gb, err := testutil.Analyze(b, "vmlinux.PATCHED.o")
	if err != nil {
		t.Fatal(err)
	}
	d := testutil.Diff(t, ga, gb)
	wantLists(t, d, map[elfdiff.Status][]string{elfdiff.Changed: {"meminfo_proc_show"}}, nil)
	for _, f := range accounts(ga, gb, d) {
		t.Error(f)
	}
	for _, f := range structure(gb) {
		t.Error(f)
	}
}

// TestPairsListing prints what every shared pair gives: LIST=1 go test -run Listing -v.
func TestPairsListing(t *testing.T) {
	if os.Getenv("LIST") == "" {
		t.Skip("an aid for people: LIST=1")
	}
	for _, dir := range []string{"cve", "kpatch", "fixes"} {
		for _, p := range testutil.SharedPairs(dir) {
			if a, b, ok := testutil.LoadPair(t, p); ok {
				fmt.Printf("== %s\n%s", p.Name, dump(testutil.Diff(t, a, b)))
			}
		}
	}
}
