package guest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	r := Run(t, Config{Release: Debian61, Files: map[string][]byte{"/data/deep/x": []byte("hello\n")}, Script: "cat /data/deep/x\nuname -r\n"})
	assert.Equal(t, "hello\n6.1.0-50-amd64\n", r.Out)
	assert.Equal(t, "0", r.Taint)
	assert.Empty(t, r.Troubles())
}

func TestParse(t *testing.T) {
	log := "noise\n" + begin + "\nout\n" + end + "\n[1] x WARNING: here\n" + taint + "\n512\n" + done + "\nmore"
	r, err := parse(log)
	require.NoError(t, err)
	assert.Equal(t, &Result{Out: "out\n", Dmesg: "[1] x WARNING: here\n", Taint: "512"}, r)
	assert.Equal(t, []string{"[1] x WARNING: here"}, r.Troubles())
	for _, cut := range []string{begin, end, taint, done} {
		_, err := parse(log[:strings.Index(log, cut)])
		assert.Error(t, err)
	}
}

func TestArchive(t *testing.T) {
	b := Archive(map[string][]byte{"/a/b": []byte("12345"), "c": nil})
	assert.Zero(t, len(b)%4)
	assert.Equal(t, 4, strings.Count(string(b), "070701"), "a, a/b, c and the trailer")
	assert.Contains(t, string(b), "a/b\x00")
	assert.Contains(t, string(b), "TRAILER!!!")
}
