package clitest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kdelta/kdelta/examples/internal/clitest"
)

func TestValidate(t *testing.T) {
	const schema = `{"type": "object", "required": ["a"], "properties": {
		"a": {"const": "x"},
		"b": {"type": ["integer", "null"], "minimum": 1, "maximum": 3},
		"c": {"type": "array", "items": {"$ref": "#/$defs/word"}},
		"d": {"type": "object", "additionalProperties": {"type": "boolean"}}},
		"$defs": {"word": {"type": "string", "pattern": "^[a-z]+$", "enum": ["one", "two", "3"]}}}`
	for _, good := range []string{`{"a": "x"}`, `{"a": "x", "b": 1, "c": ["one", "two"], "d": {"any": true}}`, `{"a": "x", "b": null, "c": [], "d": {}}`} {
		require.NoError(t, clitest.Validate(schema, good))
	}
	for _, bad := range []string{
		`[]`, `{}`, `{"a": "y"}`, `{"a": "x", "b": 0}`, `{"a": "x", "b": 4}`, `{"a": "x", "b": 1.5}`, `{"a": "x", "b": "1"}`,
		`{"a": "x", "c": null}`, `{"a": "x", "c": ["three"]}`, `{"a": "x", "c": ["3"]}`, `{"a": "x", "d": {"any": 1}}`, `{"a": "x", "e": 1}`, `{"a": "x"`,
	} {
		require.Error(t, clitest.Validate(schema, bad), bad)
	}
}
