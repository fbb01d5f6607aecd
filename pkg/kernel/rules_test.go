package kernel

import (
	"strings"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
)

// Every section that lives beside code in a kernel object has a row, with what becomes of it
// in each form of patch: upstream's intermediate, kpatch's, a module (c carried, d dropped or made anew, x rewritten).
func TestTables(t *testing.T) {
	want := `
__bug_table                  ccc
.altinstructions             ccc
.altinstr_replacement        ccc
.altinstr_aux                ccc
__ex_table                   ccc
.fixup                       ccc
__jump_table                 ccc
.static_call_sites           ccc
.smp_locks                   ccc
.parainstructions            ccc
__mcount_loc                 cdc
__patchable_function_entries ddd
.retpoline_sites             dcc
.return_sites                dcc
.call_sites                  dcc
.cfi_sites                   dcc
.ibt_endbr_seal              ddd
.kcfi_traps                  ccc
.orc_unwind                  dcc
.orc_unwind_ip               dcc
.orc_header                  ddd
.printk_index                ddd
__dyndbg                     ccc
__verbose                    ccc
__tracepoints                ddd
__tracepoints_ptrs           ddd
__tracepoints_strings        ccc
__tracepoint_str             ddd
.static_call_tramp_key       ddd
runtime_ptr_USER_PTR_MAX     xxx
runtime_shift_d_hash_shift   xxx
runtime_mask_d_hash_mask     xxx
.discard.annotate_insn       cdd
`
	r := Rules()
	letters := map[elfdiff.Action]byte{elfdiff.Carry: 'c', elfdiff.Drop: 'd', elfdiff.Constant: 'x'}
	for line := range strings.Lines(strings.TrimSpace(want)) {
		w := strings.Fields(line)
		var got []string
		add := func(a [3]elfdiff.Action) {
			s := string([]byte{letters[a[0]], letters[a[1]], letters[a[2]]})
			if len(got) == 0 || got[len(got)-1] != s {
				got = append(got, s)
			}
		}
		for i := range r.Tables {
			if n, prefix := strings.CutSuffix(r.Tables[i].Section, "*"); n == w[0] || prefix && strings.HasPrefix(w[0], n) {
				add(r.Tables[i].Emit)
			}
		}
		if b := r.BesideOf(w[0]); b != nil {
			add(b.Emit)
			if b.How == "" {
				t.Errorf("%s: no reason", w[0])
			}
		}
		if strings.Join(got, " ") != w[1] {
			t.Errorf("%s: %q, want %s", w[0], got, w[1])
		}
	}
}
