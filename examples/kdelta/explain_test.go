package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/pkg/report"
)

func explainArgs(name, symbol string, flags ...string) []string {
	return append(append(append([]string{"explain"}, flags...), sides(name)...), symbol)
}

func TestExplain(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		text []string // in the text, in this order
	}{
		{explainArgs("const-code/gcc", "changed_one"), diffDifferent, []string{"changed_one: function in .text.changed_one", "pair: they have the same name", "1. ", "   >-", "    + "}},
		{explainArgs("same/clang", "first"), 2, []string{"near"}},
		{explainArgs("dwarf-inline/gcc", "nested"), diffDifferent, []string{"declared at dwarf-inline.c:19", "source: dwarf-inline.c:", "call __fentry__", "call use", "inlined at +", "(inner, called at dwarf-inline.c:13)"}},
		{explainArgs("dwarf-inline/clang", "other"), diffSame, []string{"unchanged", "proof: ", "Relaxations on: line"}},
		{explainArgs("dwarf-layout/clang", "third"), diffDifferent, []string{"structures that it uses", "struct thing: size 16 -> 32; added (long) added at 8"}},
		{explainArgs("line-shift-call/gcc", "rcu"), diffSame, []string{"line-only", "proof: argument 2 of lockdep_rcu_suspicious, where argument 1 is the name of a source file"}},
		{explainArgs("line-shift-call/gcc", "rcu", "--no-lines"), diffDifferent, []string{": changed", "immediate"}},
		{explainArgs("line-shift-warn12/gcc", "check"), diffSame, []string{"line in __bug_table at +0x8: ", "- entry at 0x0", "+ entry at 0x0", "R_X86_64_PC32 check+"}},
		{explainArgs("alt-feature/gcc", "two"), diffDifferent, []string{"table-entry in .altinstructions", "- entry at 0xe", "+ entry at 0xe"}},
		{explainArgs("data-changed/gcc", "limit"), diffDifferent, []string{"data in .data.limit, 4 bytes: changed", "used by f", "- +0x0  0a 00 00 00 |....|", "+ +0x0  14 00 00 00 |....|"}},
		{explainArgs("data-changed/gcc", "hook"), diffDifferent, []string{"R_X86_64_64 take", "R_X86_64_64 fatal"}},
		{explainArgs("cold-child/gcc", "foo.cold"), diffDifferent, []string{"foo: function", "other parts: foo.cold", "immediate in foo.cold at +0xc: 5 -> 6"}},
		{explainArgs("cxx/g++", "Shape::area"), diffDifferent, []string{"_ZN5Shape4areaEi (Shape::area(int)): function", ">- "}},
		{explainArgs("cxx/g++", "Shape::area(int)"), diffDifferent, nil},
		{explainArgs("static-local-renumbered/gcc", "static-local-renumbered.c:count.2"), diffSame, []string{"of several candidates", "the original calls it count.1", "others of that family of names: "}},
		{explainArgs("func-new/gcc", "added"), diffDifferent, nil},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			if c.args[len(c.args)-1] == "added" {
				c.args[len(c.args)-1] = newFunction(t, "func-new/gcc")
			}
			r := do(c.args...)
			if r.code != c.code {
				t.Fatalf("exit code %d, want %d; %s%s", r.code, c.code, r.out, r.errOut)
			}
			if c.code == exitTrouble {
				if r.out != "" || !strings.Contains(r.errOut, string(codeSymbol)) {
					t.Errorf("%s%s", r.out, r.errOut)
				}
			}
			rest := r.out
			for _, s := range c.text {
				if c.code == exitTrouble {
					break
				}
				_, after, ok := strings.Cut(rest, s)
				if !ok {
					t.Errorf("no %q in order in\n%s", s, r.out)
				}
				rest = after
			}
			r = do(append(c.args, "--json")...)
			if r.code != c.code {
				t.Errorf("with --json: exit code %d", r.code)
			}
			var d struct {
				Schema      string
				Same        *bool
				Diagnostics []struct{ Code string }
			}
			if err := json.Unmarshal([]byte(r.out), &d); err != nil {
				t.Fatal(err)
			}
			if d.Schema != report.ExplainSchema || (d.Same == nil) != (c.code == exitTrouble) || d.Same != nil && *d.Same != (c.code == diffSame) {
				t.Errorf("%+v", d)
			}
		})
	}
}

// newFunction gives the name of a function that only the patched object has.
func newFunction(t *testing.T, name string) string {
	t.Helper()
	for _, f := range decode(t, do(diff(name, "--json")...).out).Functions {
		if f.Status == "new" {
			return f.Name
		}
	}
	t.Fatal("no new function")
	return ""
}

func TestExplainNear(t *testing.T) {
	r := do(explainArgs("const-code/gcc", "changed_onee")...)
	if r.code != exitTrouble || !strings.Contains(r.errOut, "near: changed_one") {
		t.Errorf("exit code %d, %s", r.code, r.errOut)
	}
	if r := do(append([]string{"explain"}, sides("same/gcc")...)...); r.code != exitTrouble || !strings.Contains(r.errOut, "want 3") {
		t.Errorf("exit code %d, %s", r.code, r.errOut)
	}
	if r := do("explain", "no-such-file", cases+"same/gcc.ORIG.o", "f"); r.code != exitTrouble || !strings.Contains(r.errOut, string(codeFile)) {
		t.Errorf("exit code %d, %s", r.code, r.errOut)
	}
}

// Diff warns of structures whose layout differs, and names inlined functions.
func TestDiffDebug(t *testing.T) {
	r := do(diff("dwarf-layout/gcc", "--json")...)
	d := decode(t, r.out)
	if r.code != diffDifferent || len(d.Diagnostics) != 1 || d.Diagnostics[0].Code != "data-structure" || d.Diagnostics[0].Severity != "warning" {
		t.Errorf("exit code %d, %+v", r.code, d.Diagnostics)
	}
	if r := do(diff("dwarf-inline/clang")...); !strings.Contains(r.out, "; inlined inner") {
		t.Error(r.out)
	}
	// One object alone with debug information gives no warning and no fault.
	if r := do("diff", "--json", cases+"const-code/gcc.ORIG.o", cases+"dwarf-layout/gcc.PATCHED.o"); r.code == exitTrouble || len(decode(t, r.out).Diagnostics) > 0 {
		t.Errorf("exit code %d, %s", r.code, r.errOut)
	}
}
