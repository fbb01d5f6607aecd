package symbols

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var updateFlags = flag.Bool("updateflags", false, "write testdata/flags.txt")

// TestRuleFlags lists what each rule makes of its example: all flags, not only those that the rule promises.
func TestRuleFlags(t *testing.T) {
	var b strings.Builder
	for _, r := range Rules() {
		f, u := Parse(r.Example), Parse(r.Unlike)
		fmt.Fprintf(&b, "%s: %s -> %s of %q, %v (promised: %v); beside it %s -> %s of %q, %v\n", r.Name, r.Example, f.Key, f.Parent, f.Flags, r.Flags, r.Unlike, u.Key, u.Parent, u.Flags)
	}
	path := filepath.Join("testdata", "flags.txt")
	if *updateFlags {
		require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o666))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), b.String())
}

// A back reference leads back: forward or to itself it is none, and the name is no Rust name.
func TestRustBackref(t *testing.T) {
	for _, c := range []struct {
		name string
		rust bool
	}{
		{"_RINvC1a1fB_E", true},   // to 0, the start
		{"_RINvC1a1fB0_E", true},  // to 1
		{"_RINvC1a1fB6_E", true},  // to 7, just before
		{"_RINvC1a1fB7_E", false}, // to 8, itself
		{"_RINvC1a1fB8_E", false},
		{"_RINvC1a1fBz_E", false},
		{"_RINvC1a1fB", false},
		{"_RINvC1a80" + strings.Repeat("x", 80) + "B1o_E", true}, // to 87, just before
		{"_RINvC1a80" + strings.Repeat("x", 80) + "B1p_E", false},
		{"_RINvC1a100" + strings.Repeat("x", 100) + "B1J_E", true}, // to 108, just before
		{"_RINvC1a100" + strings.Repeat("x", 100) + "B1K_E", false},
	} {
		f := Parse(c.name)
		require.Equal(t, c.rust, f.Flags.Has(Rust), c.name)
		require.Equal(t, c.name, f.Key)
	}
}
