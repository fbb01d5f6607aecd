// Package digest names the inputs of a comparison by content, so that a build system
// can tell whether a result that it kept is still that of the same inputs.
//
// A digest is two XXH64 with the seeds 0 and 1, in hexadecimal with the name of the form
// before it: "xxh64x2:0123...". It is the same in every run and version, costs a small part
// of a comparison, and does not withstand somebody who makes two contents with one digest
// on purpose. It is a key, never a verdict. (XXH3 with 128 bits would be one pass, but its
// package looks at the processor when a program starts, which costs more than comparing a
// small object.)
package digest

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"

	"github.com/cespare/xxhash/v2"

	"github.com/kdelta/kdelta/elfdiff"
)

// Bytes gives the digest of contents.
func Bytes(data []byte) string {
	var sum [16]byte
	binary.BigEndian.PutUint64(sum[:], xxhash.Sum64(data))
	second := xxhash.NewWithSeed(1)
	_, _ = second.Write(data) // never fails
	binary.BigEndian.PutUint64(sum[8:], second.Sum64())
	return "xxh64x2:" + hex.EncodeToString(sum[:])
}

// Rules gives the digest of rules: every field of every row counts.
func Rules(r *elfdiff.Rules) string { return value(r) }

// Options gives the digest of options, but for Brief, which changes what is listed and no verdict.
func Options(o *elfdiff.Options) string {
	v := *o
	v.Brief = false
	return value(&v)
}

func value(v any) string {
	data, err := json.Marshal(v) // structures in the order of fields, without maps that have none
	if err != nil {
		panic(err) // the types are plain data
	}
	return Bytes(data)
}
