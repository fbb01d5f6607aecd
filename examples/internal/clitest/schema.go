package clitest

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Validate checks a document against the part of JSON Schema that the schemas of the programs
// use. Members that the schema does not know are faults here, though it allows additions to come.
func Validate(schema, document string) error {
	var v validator
	if err := json.Unmarshal([]byte(schema), &v.root); err != nil {
		return err
	}
	var doc any
	if err := json.Unmarshal([]byte(document), &doc); err != nil {
		return err
	}
	v.check("$", v.root, doc)
	return errors.Join(v.faults...)
}

type validator struct {
	root   map[string]any
	faults []error
}

func (v *validator) check(at string, s map[string]any, doc any) {
	fault := func(format string, args ...any) {
		v.faults = append(v.faults, fmt.Errorf(at+": "+format, args...))
	}
	if ref, ok := s["$ref"].(string); ok {
		s = v.root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
	}
	if c, ok := s["const"]; ok && c != doc {
		fault("%v, not %v", doc, c)
	}
	if e, ok := s["enum"].([]any); ok && !slices.Contains(e, doc) {
		fault("%v is none of %v", doc, e)
	}
	kind := "null"
	switch d := doc.(type) {
	case bool:
		kind = "boolean"
	case string:
		kind = "string"
		if p, ok := s["pattern"].(string); ok && !regexp.MustCompile(p).MatchString(d) {
			fault("%q does not match %s", d, p)
		}
	case float64:
		kind = "number"
		if n, ok := s["minimum"].(float64); ok && d < n {
			fault("%v < %v", d, n)
		}
		if n, ok := s["maximum"].(float64); ok && d > n {
			fault("%v > %v", d, n)
		}
		if d == float64(int64(d)) {
			kind = "integer"
		}
	case []any:
		kind = "array"
		for i, x := range d {
			v.check(fmt.Sprintf("%s[%d]", at, i), s["items"].(map[string]any), x)
		}
	case map[string]any:
		kind = "object"
		props, _ := s["properties"].(map[string]any)
		others, _ := s["additionalProperties"].(map[string]any)
		for n, x := range d {
			p, ok := props[n].(map[string]any)
			if !ok {
				p = others
			}
			if p == nil {
				fault("member %s is not in the schema", n)
				continue
			}
			v.check(at+"."+n, p, x)
		}
		required, _ := s["required"].([]any)
		for _, n := range required {
			if _, ok := d[n.(string)]; !ok {
				fault("member %s is missing", n)
			}
		}
	}
	want, ok := s["type"].([]any)
	if one, single := s["type"].(string); single {
		want, ok = []any{one}, true
	}
	if ok && !slices.Contains(want, any(kind)) && (kind != "integer" || !slices.Contains(want, any("number"))) {
		fault("%s, not %v", kind, want)
	}
}
