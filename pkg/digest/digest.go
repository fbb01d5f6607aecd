// Package digest names the inputs of a comparison by content, so that a build system
// can tell whether a result that it kept is still that of the same inputs.
//
// A digest is XXH3 with 128 bits, in hexadecimal with the name of the form before it:
// "xxh3-128:0123...". It is the same in every run and version, costs a small part of a
// comparison, and does not withstand somebody who makes two contents with one digest on
// purpose. It is a key, never a verdict.
package digest

import (
	"encoding/hex"
	"encoding/json"

	"github.com/zeebo/xxh3"

	"github.com/kdelta/kdelta/elfdiff"
)

// Bytes gives the digest of contents.
func Bytes(data []byte) string {
	sum := xxh3.Hash128(data).Bytes()
	return "xxh3-128:" + hex.EncodeToString(sum[:])
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
