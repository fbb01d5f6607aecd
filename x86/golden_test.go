package x86_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kdelta/kdelta/x86"
)

var update = flag.Bool("update", false, "write testdata/objdump.txt anew with the objdump on this machine")

const golden = "testdata/objdump.txt"

// slot is the distance between test cases in the image given to objdump: 15
// bytes of case, then more NOPs than any instruction can swallow.
const slot = 32

// candidates are byte strings that between them begin with every opcode.
func candidates() [][]byte {
	var out [][]byte
	add := func(parts ...[]byte) {
		var b []byte
		for _, p := range parts {
			b = append(b, p...)
		}
		// What follows is displacement and immediate, recognizable in the text.
		for fill := byte(0x11); len(b) < 15; fill += 0x11 {
			b = append(b, fill)
		}
		out = append(out, b[:15])
	}
	b := func(b ...byte) []byte { return b }

	for _, escape := range [][]byte{nil, {0x0f}} {
		for op := range 256 {
			if escape == nil && (op == 0x0f || op == 0x62 || op == 0xc4 || op == 0xc5) {
				continue // below
			}
			for _, prefix := range [][]byte{nil, {0x66}, {0x48}, {0x67}, {0xf2}, {0xf3}} {
				switch {
				case prefix == nil:
					add(escape, b(byte(op), 0xc1))
					add(escape, b(byte(op), 0x84, 0x25))
				case prefix[0] == 0x67:
					add(prefix, escape, b(byte(op), 0x44, 0x24))
				default:
					add(prefix, escape, b(byte(op), 0x05))
				}
			}
		}
	}
	// Groups: every reg field with a register and a memory operand.
	for _, op := range [][]byte{
		{0x80}, {0x81}, {0x83}, {0x8f}, {0xc0}, {0xc1}, {0xc6}, {0xc7}, {0xd1}, {0xf6}, {0xf7}, {0xfe}, {0xff},
		{0x0f, 0x00}, {0x0f, 0x01}, {0x0f, 0x0d}, {0x0f, 0x18}, {0x0f, 0x71}, {0x0f, 0x72}, {0x0f, 0x73},
		{0x0f, 0xae}, {0x0f, 0xba}, {0x0f, 0xc7}, {0x66, 0x0f, 0xae}, {0xf3, 0x0f, 0xae}, {0xf2, 0x0f, 0xae},
		{0x66, 0x0f, 0xc7}, {0xf3, 0x0f, 0xc7}, {0x66, 0xf7}, {0x66, 0xc7}, {0x48, 0xf7}, {0x48, 0xc7},
	} {
		for ext := range 8 {
			add(op, b(byte(0xc1|ext<<3)))
			add(op, b(byte(0x41|ext<<3)))
		}
	}
	for modrm := 0xc0; modrm < 0x100; modrm++ {
		add(b(0x0f, 0x01, byte(modrm)))
	}
	// Every form of ModRM, with two SIBs.
	for modrm := range 256 {
		add(b(0x48, 0x8b, byte(modrm), 0x25))
		add(b(0x69, byte(modrm), 0x88))
	}
	for op := range 256 {
		for _, escape := range []byte{0x38, 0x3a} {
			for _, prefix := range [][]byte{nil, {0x66}, {0xf2}, {0xf3}} {
				add(prefix, b(0x0f, escape, byte(op), 0xc1))
				add(prefix, b(0x0f, escape, byte(op), 0x44))
			}
		}
		add(b(0x0f, 0x0f, 0x44, 0x24, 0x10, byte(op)))
		for pp := range byte(4) {
			for _, modrm := range []byte{0xc1, 0x44} {
				add(b(0xc5, 0xf8|pp, byte(op), modrm))
				add(b(0xc5, 0xfc|pp, byte(op), modrm))
				for _, w := range []byte{0, 0x80} {
					for m := byte(1); m <= 3; m++ {
						add(b(0xc4, 0xe0|m, 0x78|w|pp, byte(op), modrm))
						add(b(0xc4, 0xe0|m, 0x7c|w|pp, byte(op), modrm))
					}
					for m := byte(1); m <= 6; m++ {
						add(b(0x62, 0xf0|m, 0x7c|w|pp, 0x48, byte(op), modrm))
						add(b(0x62, 0xf0|m, 0x7c|w|pp, 0x08, byte(op), modrm))
						add(b(0x62, 0xf0|m, 0x7c|w|pp, 0x49, byte(op), modrm))
					}
				}
			}
		}
		for m := byte(8); m <= 10; m++ {
			for _, w := range []byte{0, 0x80} {
				add(b(0x8f, 0xe0|m, 0x78|w, byte(op), 0xc1))
				add(b(0x8f, 0xe0|m, 0x7c|w, byte(op), 0x44))
				add(b(0x8f, 0xe0|m, 0x78|w, byte(op), 0xc9))
				add(b(0x8f, 0xe0|m, 0x78|w, byte(op), 0xd1))
			}
		}
	}
	r := rand.New(rand.NewSource(1))
	prefixes := b(0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x3e, 0x26, 0x36, 0x64, 0x65)
	for range 1200 {
		var p []byte
		for range r.Intn(4) {
			p = append(p, prefixes[r.Intn(len(prefixes))])
		}
		if r.Intn(3) > 0 {
			p = append(p, byte(0x40+r.Intn(16)))
		}
		if r.Intn(3) == 0 {
			p = append(p, 0x0f)
		}
		tail := make([]byte, 15)
		r.Read(tail)
		add(p, tail)
	}
	return out
}

// class sorts cases for which one example is enough: a vector opcode of a map.
func class(c []byte) string {
	switch c[0] {
	case 0xc5:
		return fmt.Sprintf("c5 %x", c[2])
	case 0xc4, 0x8f:
		if c[0] == 0xc4 || c[1]&0x1f >= 8 {
			return fmt.Sprintf("%x %x %x", c[0], c[1]&0x1f, c[3])
		}
	case 0x62:
		return fmt.Sprintf("62 %x %x", c[1]&7, c[4])
	}
	if c[0] == 0x66 || c[0] == 0xf2 || c[0] == 0xf3 {
		c = c[1:]
	}
	if c[0] == 0x0f && (c[1] == 0x38 || c[1] == 0x3a) {
		return fmt.Sprintf("0f %x %x", c[1], c[2])
	}
	return ""
}

// opcode is the opcode of a case that starts with one of the one-byte map or of
// the map 0F, "" for others. A 3DNow! suffix counts.
func opcode(c []byte) string {
	if bytes.IndexByte([]byte{0x66, 0x48, 0x67, 0xf2, 0xf3}, c[0]) >= 0 {
		c = c[1:]
	}
	switch {
	case c[0] == 0x0f && c[1] == 0x0f:
		return hex.EncodeToString(c[:6])
	case c[0] == 0x0f:
		return hex.EncodeToString(c[:2])
	case class(c) != "" || c[0]&0xf0 == 0x40 || bytes.IndexByte([]byte{0xf0, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65}, c[0]) >= 0:
		return ""
	}
	return hex.EncodeToString(c[:1])
}

func updateGolden(t *testing.T) {
	cases := candidates()
	image := make([]byte, 0, len(cases)*slot)
	for _, c := range cases {
		image = append(image, c...)
		for range slot - len(c) {
			image = append(image, 0x90)
		}
	}
	texts := make([]string, len(cases))
	lens := make([]int, len(cases))
	dump(t, needObjdump(t), image, func(addr int, raw, text string) {
		if addr%slot == 0 {
			texts[addr/slot] = strings.Join(strings.Fields(text), " ")
			lens[addr/slot] = len(strings.Fields(raw))
		}
	})
	var b strings.Builder
	b.WriteString("# Written by go test -update with GNU objdump 2.40: bytes|length|text.\n" +
		"# Length bad is for an opcode that objdump knows with no prefix and no ModRM tried.\n")
	known := map[string]bool{}
	for i, c := range cases {
		if !strings.Contains(texts[i], "(bad)") {
			known[opcode(c)] = true
		}
	}
	seen := map[string]bool{}
	for i, c := range cases {
		line := fmt.Sprintf("%x|%d|%s", c[:lens[i]], lens[i], texts[i])
		cl := class(c)
		if strings.Contains(texts[i], "(bad)") {
			// In the regular maps only what exists is of interest.
			op := opcode(c)
			if op == "" || known[op] {
				continue
			}
			line = op + "|bad|"
		}
		if last := texts[i][strings.LastIndexByte(texts[i], ' ')+1:]; strings.HasPrefix(last, "rex") {
			continue // a REX made void by a prefix behind it, which objdump splits off
		}
		if cl != "" && seen[cl] || seen[line] {
			continue
		}
		if cl != "" {
			seen[cl] = true
		}
		seen[line] = true
		b.WriteString(line + "\n")
	}
	require.NoError(t, os.WriteFile(golden, []byte(b.String()), 0o644))
}

type goldenCase struct {
	code []byte
	len  int // 0 for bad
	text string
}

func readGolden(t testing.TB) []goldenCase {
	f, err := os.Open(golden)
	require.NoError(t, err)
	defer f.Close()
	var out []goldenCase
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		if strings.HasPrefix(sc.Text(), "#") {
			continue
		}
		col := strings.SplitN(sc.Text(), "|", 3)
		require.Len(t, col, 3, sc.Text())
		code, err := hex.DecodeString(col[0])
		require.NoError(t, err)
		n := 0
		if col[1] != "bad" {
			n, err = strconv.Atoi(col[1])
			require.NoError(t, err)
		}
		out = append(out, goldenCase{code, n, col[2]})
	}
	require.NoError(t, sc.Err())
	return out
}

// refused reports whether the package refuses on purpose what objdump prints:
// a near branch behind 66 without REX.W, whose length depends on the vendor,
// and a VEX payload behind REX, which raises #UD.
func refused(code []byte) bool {
	data16, rex := false, byte(0)
	for i, b := range code {
		switch {
		case bytes.IndexByte([]byte{0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3}, b) >= 0:
			data16 = data16 || b == 0x66
			rex = 0
		case b&0xf0 == 0x40:
			rex = b
		case b == 0xc4 || b == 0xc5 || b == 0x62:
			return rex != 0
		case b == 0x0f:
			return data16 && rex&8 == 0 && code[i+1]&0xf0 == 0x80
		default:
			branch := b&0xf0 == 0x70 || b >= 0xe0 && b <= 0xe3 || b == 0xe8 || b == 0xe9 || b == 0xeb
			return data16 && rex&8 == 0 && branch
		}
	}
	return false
}

// TestGolden compares lengths with the listing that objdump wrote.
func TestGolden(t *testing.T) {
	if *update {
		updateGolden(t)
	}
	for _, c := range readGolden(t) {
		if c.len == 0 {
			code := append(c.code, make([]byte, 15-len(c.code))...)
			in, err := x86.Decode(code)
			if !errors.Is(err, x86.ErrInvalid) {
				t.Errorf("%x: objdump has bad, Decode has %+v, %v", c.code, in, err)
			}
			continue
		}
		in, err := x86.Decode(c.code)
		if refused(c.code) {
			require.ErrorIs(t, err, x86.ErrInvalid, "%x %s", c.code, c.text)
			continue
		}
		if err != nil {
			t.Errorf("%x: %v; objdump has %d %s", c.code, err, c.len, c.text)
		} else if int(in.Len) != c.len {
			t.Errorf("%x: length %d; objdump has %d %s", c.code, in.Len, c.len, c.text)
		}
	}
}
