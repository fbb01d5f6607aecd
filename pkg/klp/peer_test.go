package klp

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var pairs = flag.String("pairs", "../../../shared/pairs/kpatch", "directory of pairs of objects for create-diff-object")

// What kpatch's own programs write is read, and Finalize does with it what create-klp-module does.
func TestKpatchPrograms(t *testing.T) {
	cdo, ckm := filepath.Join(*peers, "bin", "create-diff-object"), filepath.Join(*peers, "bin", "create-klp-module")
	if _, err := os.Stat(cdo); err != nil {
		t.Skipf("no create-diff-object: fill %s with get-peers", *peers)
	}
	patched, _ := filepath.Glob(filepath.Join(*pairs, "*.PATCHED.o")) // those of .PATCHED.FAIL.o are to be refused
	if len(patched) == 0 {
		t.Skipf("no pairs in %s", *pairs)
	}
	readelf := tool(t, "readelf")
	dir := t.TempDir()
	symvers := filepath.Join(dir, "Module.symvers")
	write(t, symvers, nil)
	done, relocs := 0, 0
	for _, b := range patched {
		name := strings.TrimSuffix(filepath.Base(b), ".PATCHED.o")
		a := filepath.Join(*pairs, name+".ORIG.o")
		symtab, out := filepath.Join(dir, name+".symtab"), filepath.Join(dir, name+".o")
		text, err := exec.Command(readelf, "-s", "--wide", a).Output()
		if err != nil {
			t.Fatal(err)
		}
		write(t, symtab, text)
		cmd := exec.Command(cdo, a, b, Vmlinux, symtab, symvers, "test", out)
		cmd.Env = append(os.Environ(), "ALT_STRUCT_SIZE=12", "BUG_STRUCT_SIZE=12", "EX_STRUCT_SIZE=12", "JUMP_STRUCT_SIZE=16",
			"ORC_STRUCT_SIZE=6", "PARA_STRUCT_SIZE=16", "STATIC_CALL_STRUCT_SIZE=8", "PRINTK_INDEX_STRUCT_SIZE=8", "FIXUP_STRUCT_SIZE=8")
		if name == "fixup-section" { // of a kernel up to 5.13
			cmd.Env = append(cmd.Env, "ALT_STRUCT_SIZE=13")
		}
		if env, err := os.ReadFile(strings.TrimSuffix(a, ".ORIG.o") + ".env"); err == nil {
			cmd.Env = append(cmd.Env, strings.Fields(string(env))...)
		}
		if msg, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: create-diff-object: %v %s", name, err, strings.TrimSpace(string(msg)))
			continue
		}
		d, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		p := must(t, ReadKpatch, d)
		if p.Kpatch == nil || p.Kpatch.Parent != Vmlinux {
			t.Errorf("%s: parent %+v", name, p.Kpatch)
		}
		ko := link(t, d)
		linked := must(t, ReadKpatch, ko)
		same(t, name+" linked", linked.Tuples(), p.Tuples())
		in, final := filepath.Join(dir, name+".ko"), filepath.Join(dir, name+".klp.ko")
		write(t, in, ko)
		run(t, ckm, in, final)
		if d, err = os.ReadFile(final); err != nil {
			t.Fatal(err)
		}
		theirs := must(t, ReadFinal, d)
		same(t, name+" create-klp-module", theirs.Tuples(), p.Tuples())
		f, err := Finalize(ko, FinalizeOptions{Name: name})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		ours := checkFinal(t, f)
		same(t, name+" finalize", ours.Tuples(), theirs.Tuples())
		same(t, name+" functions", funcs(ours), funcs(theirs))
		done++
		relocs += len(p.Relocs)
	}
	t.Logf("%d of %d pairs, %d relocations", done, len(patched), relocs)
}
