package x86_test

import (
	"bufio"
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kdelta/kdelta/x86"
)

// pairs is where the corpus of kernel objects is on a developer's machine.
const pairs = "../../shared/pairs"

// gap separates functions in the image given to objdump. No instruction is
// longer, so objdump is back in step at the next function whatever happened.
const gap = 16

// allowance names functions in which objdump and Decode are known to disagree.
// One that is not needed fails the test, so the list cannot rot.
type allowance struct {
	object, function, reason string
}

var allowances = []allowance{
	{"vmlinux.ORIG.o", "mm_release", lkgs},
	{"vmlinux.ORIG.o", "do_arch_prctl_64", lkgs},
	{"vmlinux.ORIG.o", "__switch_to", lkgs},
	{"vmlinux.ORIG.o", "start_thread", lkgs},
	{"vmlinux.ORIG.o", "fpu__init_check_bugs", "objdump prints 9b (fwait) and db e3 (fninit) as one finit"},
}

const lkgs = "lkgs (f2 0f 00 f7) is newer than objdump 2.40, which takes it apart"

// function is one FUNC symbol's code.
type function struct {
	name string
	code []byte
}

// functions returns the code of each FUNC symbol of an object, once per
// distinct range.
func functions(t testing.TB, path string) []function {
	f, err := elf.Open(path)
	require.NoError(t, err)
	defer f.Close()
	syms, err := f.Symbols()
	require.NoError(t, err)
	type key struct {
		sec       elf.SectionIndex
		off, size uint64
	}
	seen := map[key]bool{}
	data := map[elf.SectionIndex][]byte{}
	var fns []function
	for _, s := range syms {
		if elf.ST_TYPE(s.Info) != elf.STT_FUNC || s.Size == 0 || int(s.Section) >= len(f.Sections) {
			continue
		}
		sec := f.Sections[s.Section]
		if sec.Type != elf.SHT_PROGBITS || sec.Flags&elf.SHF_EXECINSTR == 0 {
			continue
		}
		k := key{s.Section, s.Value, s.Size}
		if seen[k] {
			continue
		}
		seen[k] = true
		b, ok := data[s.Section]
		if !ok {
			b, err = sec.Data()
			require.NoError(t, err)
			data[s.Section] = b
		}
		off := s.Value - sec.Addr
		require.LessOrEqual(t, off+s.Size, uint64(len(b)), s.Name)
		fns = append(fns, function{s.Name, b[off : off+s.Size : off+s.Size]})
	}
	return fns
}

// dump streams the lines of a disassembly of the raw bytes.
func dump(t testing.TB, objdump string, image []byte, line func(addr int, raw, text string)) {
	path := filepath.Join(t.TempDir(), "image")
	require.NoError(t, os.WriteFile(path, image, 0o600))
	cmd := exec.Command(objdump, "-D", "-z", "-w", "--insn-width=16", "-b", "binary", "-m", "i386:x86-64", path)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	sc := bufio.NewScanner(out)
	for sc.Scan() {
		// "    addr:\traw bytes\ttext"
		addr, rest, ok := strings.Cut(sc.Text(), ":\t")
		if !ok {
			continue
		}
		a, err := strconv.ParseInt(strings.TrimSpace(addr), 16, 64)
		if err != nil {
			continue
		}
		raw, text, _ := strings.Cut(rest, "\t")
		line(int(a), strings.TrimSpace(raw), strings.TrimSpace(text))
	}
	require.NoError(t, sc.Err())
	require.NoError(t, cmd.Wait())
}

func needObjdump(t testing.TB) string {
	path, err := exec.LookPath("objdump")
	if err != nil {
		t.Skip("objdump is not installed")
	}
	return path
}

// TestAgainstObjdump compares instruction boundaries with objdump on each
// function of a corpus of kernel objects. The functions go to objdump as one
// flat image per object rather than as the object: objdump takes time in the
// square of the number of sections, of which vmlinux.o has 55,000, and would
// also start afresh at each label and so hide a loss of step.
func TestAgainstObjdump(t *testing.T) {
	objdump := needObjdump(t)
	if _, err := os.Stat(pairs); err != nil {
		t.Skip("no corpus of kernel objects: ", err)
	}
	var objects []string
	for _, dir := range []string{"cve", "fixes", "kpatch"} {
		found, err := filepath.Glob(filepath.Join(pairs, dir, "*.o"))
		require.NoError(t, err)
		objects = append(objects, found...)
	}
	require.NotEmpty(t, objects)
	sort.Strings(objects)
	if vmlinux := unpack(t); vmlinux != "" {
		objects = append(objects, vmlinux)
	}

	used := make([]bool, len(allowances))
	var nFunc, nInst, nByte, nDiff int
	for _, path := range objects {
		object := filepath.Base(path)
		fns := functions(t, path)
		var image bytes.Buffer
		starts := make([]int, len(fns))
		for i, fn := range fns {
			starts[i] = image.Len()
			image.Write(fn.code)
			image.Write(bytes.Repeat([]byte{0x90}, gap))
		}
		theirs := make([][]int, len(fns))
		bad := make([]string, len(fns))
		cur := 0
		dump(t, objdump, image.Bytes(), func(addr int, _, text string) {
			for cur+1 < len(fns) && addr >= starts[cur+1] {
				cur++
			}
			if off := addr - starts[cur]; off < len(fns[cur].code) {
				theirs[cur] = append(theirs[cur], off)
				if strings.Contains(text, "(bad)") && bad[cur] == "" {
					bad[cur] = fmt.Sprintf("objdump has (bad) at %#x", off)
				}
			}
		})
		for i, fn := range fns {
			var ours []int
			w := x86.Walker{Code: fn.code}
			for w.Next() {
				ours = append(ours, w.Off)
			}
			nFunc++
			nInst += len(ours)
			nByte += len(fn.code)
			why := bad[i]
			if w.Err != nil {
				why = fmt.Sprintf("%v at %#x", w.Err, w.Off)
			} else if at := firstDiff(ours, theirs[i]); at >= 0 {
				why = fmt.Sprintf("boundaries differ at %#x", at)
			}
			if why == "" {
				continue
			}
			nDiff++
			ok := false
			for j, a := range allowances {
				if a.object == object && a.function == fn.name {
					used[j], ok = true, true
				}
			}
			if !ok {
				t.Errorf("%s: %s: %s", object, fn.name, why)
			}
		}
	}
	for j, a := range allowances {
		if !used[j] && !(testing.Short() && a.object == "vmlinux.ORIG.o") {
			t.Errorf("unused allowance: %+v", a)
		}
	}
	t.Logf("%d objects, %d functions, %d instructions, %d bytes, %d functions in disagreement",
		len(objects), nFunc, nInst, nByte, nDiff)
}

// firstDiff returns the first offset that is in only one of two ascending
// lists, -1 if they are equal.
func firstDiff(a, b []int) int {
	for i := 0; i < len(a) || i < len(b); i++ {
		switch {
		case i >= len(a):
			return b[i]
		case i >= len(b):
			return a[i]
		case a[i] != b[i]:
			return min(a[i], b[i])
		}
	}
	return -1
}

// unpack extracts the one large object of the corpus. It returns "" when that
// cannot or should not be done.
func unpack(t testing.TB) string {
	archive := filepath.Join(pairs, "vmlinux-pair.tar.zst")
	if testing.Short() {
		return ""
	}
	for _, tool := range []string{"zstd", "tar"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Log("without vmlinux: ", err)
			return ""
		}
	}
	if _, err := os.Stat(archive); err != nil {
		t.Log("without vmlinux: ", err)
		return ""
	}
	dir := t.TempDir()
	zstd := exec.Command("zstd", "-dc", "--long=27", archive)
	tar := exec.Command("tar", "-x", "-C", dir)
	r, w := io.Pipe()
	zstd.Stdout, tar.Stdin = w, r
	require.NoError(t, tar.Start())
	err := zstd.Run()
	w.Close()
	require.NoError(t, err)
	require.NoError(t, tar.Wait())
	var found string
	require.NoError(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if filepath.Base(path) == "vmlinux.ORIG.o" {
			found = path
		}
		return err
	}))
	require.NotEmpty(t, found)
	return found
}
