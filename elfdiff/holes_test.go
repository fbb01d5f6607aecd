package elfdiff_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/elfdiff/internal/testutil"
)

// hole is something that objtool klp diff (klp) or create-diff-object (kpatch)
// gets wrong or refuses, and what is asserted of the fixtures that show it.
type hole struct {
	number string // of our notes on the two tools
	says   string
	shows  []showing
}

type showing struct {
	fixture string
	tools   []string // all of these must be there
	is      map[string]elfdiff.Status
	cause   map[string]elfdiff.CauseKind // one of the causes of a function
	some    []string                     // one of these at least is not unchanged; as in want.json
}

var (
	both      = []string{"gcc", "clang"}
	assembled = []string{"as"}
)

const (
	un   = elfdiff.Unchanged
	ch   = elfdiff.Changed
	gone = elfdiff.Removed
	lo   = elfdiff.LineOnly
)

type is = map[string]elfdiff.Status
type of = map[string]elfdiff.CauseKind

var holes = []hole{
	{"klp H1", "only the first relocation of an instruction is hashed: cb = fa to cb = fb is no change", []showing{
		{fixture: "two-relocs", tools: both, is: is{"set": ch, "place": ch, "keep": un, "fa": un, "fb": un}, cause: of{"set": elfdiff.CauseTarget, "place": elfdiff.CauseTarget}}}},
	{"klp H2", "read-only data without a name is not hashed: another initialiser of an array on the stack is no change", []showing{
		{fixture: "anon-rodata", tools: both, is: is{"differs": ch}},
		{fixture: "anon-rodata-one", tools: both, is: is{"differs": ch, "plain": un}, cause: of{"differs": elfdiff.CauseConstant}}}},
	{"klp H3", "statics without a pair are never compared: a constant of a switch turned into a table (CSWTCH.N, .Lswitch.table) is no change", []showing{
		{fixture: "cswtch", tools: both, is: is{"name_of": ch, "other_of": un}, cause: of{"name_of": elfdiff.CauseConstant}}}},
	{"klp H11", "relocation types are not hashed; a jump table counts by the first instruction of each target", []showing{
		{fixture: "reloc-type", tools: assembled, is: is{"load": ch, "offsets": ch, "stays": un}, cause: of{"load": elfdiff.CauseRelocType}},
		{fixture: "jump-table-order", tools: assembled, is: is{"f": ch}},
		{fixture: "jump-table", tools: both}}},
	{"klp H17", "statics of one name are paired by position or by checksum, silently wrong", []showing{
		{fixture: "reorder-statics", tools: both},
		{fixture: "same-name-statics-order", tools: both, is: is{"a": un, "b": un}},
		{fixture: "same-name-statics", tools: both, some: []string{"a", "b", "mode.0", "mode.1", "a.mode", "b.mode"}},
		{fixture: "same-name-blocks", tools: both, some: []string{"f", "n.0", "n.1", "f.n", "f.n.1"}}}},
	{"kpatch 16.1", "a changed parent leaves its unchanged .cold part behind, which jumps back into the old body", []showing{
		{fixture: "cold-parent", tools: []string{"gcc"}, is: is{"foo": ch, "other": un}},
		{fixture: "cold-parent-asm", tools: assembled, is: is{"foo": ch}},
		{fixture: "cold-child", tools: []string{"gcc"}, is: is{"foo": ch, "other": un}}}},
	{"kpatch 16.2", "a changed .part.N with an ftrace site of its own is lost when its parent did not change", []showing{
		{fixture: "part-child", tools: assembled, is: is{"foo.part.0": ch, "foo": un}},
		{fixture: "part-inline", tools: []string{"gcc"}, is: is{"foo.part.0": ch, "foo": un, "caller_one": un, "caller_two": un}}}},
	{"kpatch 16.6", "an alternative that goes is refused, for its replacement code changed and is in no patch", []showing{
		{fixture: "alt-removed", tools: both, is: is{"one": un, "two": ch, "three": un}}}},
	{"kpatch 16.7", "an inserted string or UBSAN record renumbers the names of the others, which are then paired wrongly", []showing{
		{fixture: "lstr-renumber", tools: both, is: is{"first": ch, "second": un, "third": un}},
		{fixture: "lstr-renumber-asm", tools: assembled, is: is{"first": ch, "second": un}},
		{fixture: "ubsan-renumber", tools: both, is: is{"first": ch, "second": un}}}},
	{"kpatch 16.8", "a number in esi or edx before printk counts as a line; lines of __might_resched and others count as changes", []showing{
		{fixture: "printk-int", tools: both, is: is{"log_limit": ch, "log_old": ch, "warn_limit": ch, "log_line": ch, "stays": un}, cause: of{"log_limit": elfdiff.CauseImmediate}},
		{fixture: "warn16-real-arg", tools: both, is: is{"check_limit": ch}},
		{fixture: "line-shift-call", tools: both, is: is{"sleeper": lo, "resched": lo, "rcu": lo, "rtnl": lo}, cause: of{"resched": elfdiff.CauseLine}}}},
	{"kpatch 16.9", "every section with .str in its name counts as strings, so that changed constants there are no change", []showing{
		{fixture: "string-tbl", tools: both, is: is{"string_tbl": ch, "struct_ops": ch, "f": un, "g": un}}}},
	{"kpatch 16.12c", "a function that the source asks to ignore is refused when its .cold part changed too", []showing{
		{fixture: "ignored-cold", tools: assembled, is: is{"foo": un, "other": ch}}}},
	{"kpatch 16.20", "static locals are paired by the order of references; one that goes with its function, or to another, is refused", []showing{
		{fixture: "static-local-removed", tools: both, is: is{"f": ch, "g": un}},
		{fixture: "static-local-fn-removed", tools: both, is: is{"gone": gone, "kept": un}},
		{fixture: "static-local-moved", tools: both, is: is{"f": ch, "g": ch}},
		{fixture: "static-local-resized", tools: both, is: is{"g": un}},
		{fixture: "reorder-statics", tools: both}}},
	{"kpatch 16.22", "foo and foo.7 are one name, the first comes first: another number of clones shifts the pairs", []showing{
		{fixture: "clones", tools: []string{"gcc"}, is: is{"user_nine": elfdiff.New, "user_three": un, "user_five": un, "user_any": un, "work": un}},
		{fixture: "isra-to-plain", tools: []string{"gcc"}, is: is{"caller": ch, "caller_two": ch, "other": un}}}},
}

// TestHoles has a subtest for each hole, by its number. Each fixture is judged by
// all of its want.json, and by what its hole is about.
func TestHoles(t *testing.T) {
	pairs := map[string]testutil.Pair{}
	for _, p := range testutil.FixturePairs(t) {
		pairs[p.Name] = p
	}
	for _, h := range holes {
		t.Run(strings.ReplaceAll(h.number, " ", "-"), func(t *testing.T) {
			t.Logf("%s: %s", h.number, h.says)
			for _, s := range h.shows {
				for _, tool := range s.tools {
					p, ok := pairs[s.fixture+"/"+tool]
					if !ok {
						t.Errorf("no fixture %s/%s", s.fixture, tool)
						continue
					}
					t.Run(s.fixture+"-"+tool, func(t *testing.T) { s.check(t, p) })
				}
			}
		})
	}
}

func (s *showing) check(t *testing.T, p testutil.Pair) {
	for _, f := range judge(t, p, readWant(t, p)) {
		t.Error(f)
	}
	d := testutil.Diff(t, testutil.MustLoad(t, p.Orig), testutil.MustLoad(t, p.Patched))
	status := map[string]elfdiff.Status{}
	causes := map[string][]elfdiff.Cause{}
	for i := range d.Data {
		status[d.Data[i].Name] = d.Data[i].Status
	}
	for i := range d.Functions {
		f := &d.Functions[i]
		status[f.Name], causes[f.Name] = f.Status, f.Causes
	}
	for name, want := range s.is {
		if got := status[name]; got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	for name, want := range s.cause {
		if !slices.ContainsFunc(causes[name], func(c elfdiff.Cause) bool { return c.Kind == want }) {
			t.Errorf("%s has no cause of kind %v:%s", name, want, causeList(causes[name]))
		}
	}
	if len(s.some) > 0 && !slices.ContainsFunc(s.some, func(n string) bool { return status[n] > un }) {
		t.Errorf("none of %v differs", s.some)
	}
	if len(s.is) == 0 && len(s.some) == 0 { // a fixture in which the order alone differs, or all that want.json says
		t.Logf("%d functions, %d data, as want.json has them", len(d.Functions), len(d.Data))
	}
}

// TestHolesNamed: the holes that must have a test have one.
func TestHolesNamed(t *testing.T) {
	for _, n := range []string{"klp H1", "klp H2", "klp H3", "klp H11", "klp H17", "kpatch 16.1", "kpatch 16.2", "kpatch 16.6", "kpatch 16.7", "kpatch 16.8", "kpatch 16.9", "kpatch 16.12c", "kpatch 16.20", "kpatch 16.22"} {
		if !slices.ContainsFunc(holes, func(h hole) bool { return h.number == n }) {
			t.Errorf("no test for %s", n)
		}
	}
}

// TestMangledNames: functions of Rust and C++ find each other though the hashes
// in their names changed, and people see readable names.
func TestMangledNames(t *testing.T) {
	cases := []struct {
		pair      string
		demangled map[string]elfdiff.Status // by demangled name
		renamed   bool                      // hashes differ in every name
	}{
		{"rust-change/rustc", is{"rust_change::pick": ch}, true},
		{"rust-comment/rustc", is{"rust_comment::pick": lo, "rust_comment::sum": lo}, true},
		{"rust-v0/rustc", is{"rust_v0::pick": ch}, true},
		{"cxx/g++", is{"twice(int)": ch, "Shape::area(int)": ch, "same(int)": un, "user(int)": un}, false},
		{"cxx/clang++", is{"twice(int)": ch, "Shape::area(int)": ch, "same(int)": un, "user(int)": un}, false},
		{"cxx-template/g++", is{"Ring<int>::push(int)": ch, "Ring<long>::push(long)": ch, "Ring<char>::last() const": elfdiff.New, "three(char)": elfdiff.New}, false},
		{"cxx-template/clang++", is{"Ring<int>::push(int)": ch, "Ring<long>::push(long)": ch, "Ring<char>::last() const": elfdiff.New, "three(char)": elfdiff.New}, false},
	}
	for _, c := range cases {
		t.Run(strings.ReplaceAll(c.pair, "/", "-"), func(t *testing.T) {
			name, tool := filepath.Split(c.pair)
			base := filepath.Join(testutil.Cases(), name, tool)
			d := testutil.Diff(t, testutil.MustLoad(t, base+".ORIG.o"), testutil.MustLoad(t, base+".PATCHED.o"))
			renamed, seen := 0, map[string]elfdiff.Status{}
			for i := range d.Functions {
				f := &d.Functions[i]
				if strings.HasPrefix(f.Name, "_ZN") || strings.HasPrefix(f.Name, "_R") || strings.HasPrefix(f.Name, "_Z") {
					if f.Demangled == "" || f.Demangled == f.Name {
						t.Errorf("%s has no readable name", f.Name)
					}
					if strings.Contains(f.Demangled, "::h") {
						t.Errorf("%s shows its hash", f.Demangled)
					}
				}
				if f.OrigName != "" {
					renamed++
				}
				seen[f.Demangled] = max(seen[f.Demangled], f.Status)
				if c.renamed && (f.Status == elfdiff.New || f.Status == gone) {
					t.Errorf("%s is %v: it has a pair under another hash", f.Demangled, f.Status)
				}
			}
			if c.renamed && renamed == 0 {
				t.Error("no function has another name in the original")
			}
			for n, want := range c.demangled {
				if seen[n] != want {
					t.Errorf("%s is %v, want %v (%v)", n, seen[n], want, fmt.Sprint(seen))
				}
			}
		})
	}
}
