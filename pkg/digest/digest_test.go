package digest_test

import (
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/digest"
	"github.com/kdelta/kdelta/pkg/kernel"
)

// TestStable: the form is part of the interface.
func TestStable(t *testing.T) {
	// XXH64 of nothing with the seeds 0 and 1, as the reference implementation gives them.
	if got, want := digest.Bytes(nil), "xxh64x2:ef46db3751d8e999d5afba1336a3be4b"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if a, b := digest.Bytes([]byte("a")), digest.Bytes([]byte("b")); a == b {
		t.Error("a and b")
	}
}

// TestValues: what may change a result changes the digest.
func TestValues(t *testing.T) {
	a, b := kernel.Rules(), kernel.Rules()
	if digest.Rules(a) != digest.Rules(b) {
		t.Error("equal rules")
	}
	b.Tables[0].Entry++
	if digest.Rules(a) == digest.Rules(b) {
		t.Error("another row")
	}
	seen := map[string]bool{}
	for _, o := range []elfdiff.Options{{}, {NoLines: true}, {NoDirectives: true}, {Pins: []elfdiff.Pin{{Orig: "a", Patched: "b"}}}} {
		seen[digest.Options(&o)] = true
	}
	if len(seen) != 4 {
		t.Errorf("%d digests of 4 options", len(seen))
	}
}
