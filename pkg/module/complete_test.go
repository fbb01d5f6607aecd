package module

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kdelta/kdelta/pkg/object"
)

// entries gives what a table lists, as "section+offset" by entry, without relocations that are gone.
func entries(f *object.File, name string, stride uint64) map[string]int {
	out := make(map[string]int)
	for i := range f.Sections {
		if f.Sections[i].Name != name {
			continue
		}
		rs := f.RelocsOf(object.SecID(i))
		for k := range rs.Len() {
			r := rs.At(k)
			s := &f.Symbols[r.Sym]
			key := s.Name
			if s.Sec != 0 {
				key = f.Sections[s.Sec].Name + "+" + hex(s.Value+uint64(r.Addend))
			} else {
				key += "+" + hex(uint64(r.Addend))
			}
			out[key+" at "+hex(r.Off%stride)]++
		}
	}
	return out
}

func hex(v uint64) string {
	const digits = "0123456789abcdef"
	if v == 0 {
		return "0"
	}
	s := ""
	for ; v != 0; v >>= 4 {
		s = string(digits[v&15]) + s
	}
	return s
}

// TestCompleteAgainstObjtool compares with the objtool that Debian ships for 6.12, whose kernel runs it on
// linked objects. KDELTA_OBJECTS is a directory with single objects of that kernel.
func TestCompleteAgainstObjtool(t *testing.T) {
	dir := os.Getenv("KDELTA_OBJECTS")
	objtool := "/usr/lib/linux-kbuild-6.12.117+deb12/tools/objtool/objtool"
	if _, err := os.Stat(objtool); dir == "" || err != nil {
		t.Skip("KDELTA_OBJECTS does not name a directory with objects, or objtool of 6.12 is not installed")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.o"))
	require.NoError(t, err)
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			raw, err := os.ReadFile(name)
			require.NoError(t, err)
			f, err := object.Parse(raw, object.Options{Name: name})
			require.NoError(t, err)
			c, done, err := Complete(f, CompleteOptions{Call: 2})
			require.NoError(t, err)
			tool := filepath.Join(t.TempDir(), "x.o")
			b := object.FromFile(f) // objtool complains of references to code from there
			for i := range f.Sections {
				if f.Sections[i].Name == ehFrame {
					b.RemoveSection(object.SecID(i))
				}
			}
			data, err := b.Bytes()
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(tool, data, 0o600))
			cmd := exec.Command(objtool, "--hacks=jump_label", "--hacks=noinstr", "--hacks=skylake", "--ibt", "--orc", "--retpoline", "--rethunk", "--sls", "--static-call", "--uaccess", "--prefix=16", "--link", tool)
			cmd.Env = append(os.Environ(), "SRCARCH=x86")
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			want, err := os.ReadFile(tool)
			require.NoError(t, err)
			o, err := object.Parse(want, object.Options{Name: tool})
			require.NoError(t, err)
			for _, table := range []struct {
				name   string
				stride uint64
			}{{returnSites, 4}, {retpolineSites, 4}, {callSites, 8}} {
				assert.Equal(t, entries(o, table.name, table.stride), entries(c, table.name, table.stride), table.name)
			}
			text := 0
			for i := range o.Sections {
				s := &o.Sections[i]
				if !s.Exec() {
					continue
				}
				for j := range c.Sections {
					if c.Sections[j].Name == s.Name && c.Sections[j].Exec() {
						assert.Equal(t, s.Data, c.Sections[j].Data, s.Name)
						text++
					}
				}
			}
			same, other := unwound(o, c)
			t.Logf("%d text sections equal; %v; %d functions with the same unwind entries, %d with others", text, done, same, other)
			assert.LessOrEqual(t, other*20, same, "unwind entries of more than one function in twenty differ")
		})
	}
}

// unwound counts the sections whose unwind information is the same at every entry of either object, and the others.
// Where an instruction only traps, objtool says that nothing is known.
func unwound(a, b *object.File) (same, other int) {
	x, y := unwindOf(a), unwindOf(b)
	code := make(map[string][]byte)
	for i := range b.Sections {
		code[b.Sections[i].Name] = b.Sections[i].Data
	}
	for sec, rows := range y {
		want, ok := x[sec]
		if !ok {
			continue
		}
		equal := true
		for _, at := range []map[uint64][6]byte{rows, want} {
			for off := range at {
				trap := off < uint64(len(code[sec])) && code[sec][off] == 0xcc
				equal = equal && (trap || holds(rows, off) == holds(want, off))
			}
		}
		if equal {
			same++
		} else {
			other++
		}
	}
	return same, other
}

func holds(rows map[uint64][6]byte, off uint64) [6]byte {
	for {
		if e, ok := rows[off]; ok || off == 0 {
			return e
		}
		off--
	}
}

func unwindOf(f *object.File) map[string]map[uint64][6]byte {
	out := make(map[string]map[uint64][6]byte)
	var ip, un object.SecID
	for i := range f.Sections {
		switch f.Sections[i].Name {
		case orcIP:
			ip = object.SecID(i)
		case orcUnwind:
			un = object.SecID(i)
		}
	}
	rs := f.RelocsOf(ip)
	for k := range rs.Len() {
		r := rs.At(k)
		s := &f.Symbols[r.Sym]
		sec := f.Sections[s.Sec].Name
		if out[sec] == nil {
			out[sec] = make(map[uint64][6]byte)
		}
		out[sec][s.Value+uint64(r.Addend)] = [6]byte(f.Sections[un].Data[r.Off/4*6:])
	}
	return out
}
