package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
)

// validator checks documents against the part of JSON Schema that our schemas
// use. A keyword that it does not know is an error, so that nothing is passed over.
type validator struct{ root map[string]any }

func newValidator(tb testing.TB) *validator { return newValidatorOf(tb, Schema()) }

func newValidatorOf(tb testing.TB, schema string) *validator {
	tb.Helper()
	v := new(validator)
	if err := json.Unmarshal([]byte(schema), &v.root); err != nil {
		tb.Fatal(err)
	}
	return v
}

func (v *validator) document(data []byte) error {
	var doc any
	if err := json.Unmarshal(data, &doc); err != nil {
		return err
	}
	return v.check("$", v.root, doc)
}

func (v *validator) check(at string, schema map[string]any, doc any) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%s: "+format, append([]any{at}, args...)...)
	}
	object, isObject := doc.(map[string]any)
	list, isList := doc.([]any)
	text, isText := doc.(string)
	number, isNumber := doc.(float64)
	var errs []error
	for key, want := range schema {
		switch key {
		case "$schema", "$id", "$defs", "title", "description":
		case "$ref":
			name := strings.TrimPrefix(want.(string), "#/$defs/")
			def, ok := v.root["$defs"].(map[string]any)[name].(map[string]any)
			if !ok {
				return bad("no definition %s", want)
			}
			errs = append(errs, v.check(at, def, doc))
		case "type":
			_, isBool := doc.(bool)
			ok := map[string]bool{"object": isObject, "array": isList, "string": isText, "boolean": isBool, "integer": isNumber && number == float64(int64(number))}[want.(string)]
			if !ok {
				errs = append(errs, bad("%v is no %s", doc, want))
			}
		case "const":
			if doc != want {
				errs = append(errs, bad("%v, want %v", doc, want))
			}
		case "enum":
			if !slices.Contains(want.([]any), doc) {
				errs = append(errs, bad("%v is none of %v", doc, want))
			}
		case "pattern":
			if isText && !regexp.MustCompile(want.(string)).MatchString(text) {
				errs = append(errs, bad("%q does not match %s", text, want))
			}
		case "minimum":
			if isNumber && number < want.(float64) {
				errs = append(errs, bad("%v < %v", number, want))
			}
		case "required":
			for _, name := range want.([]any) {
				if _, ok := object[name.(string)]; isObject && !ok {
					errs = append(errs, bad("no member %s", name))
				}
			}
		case "dependentRequired":
			for name, others := range want.(map[string]any) {
				if _, ok := object[name]; !ok {
					continue
				}
				for _, other := range others.([]any) {
					if _, ok := object[other.(string)]; !ok {
						errs = append(errs, bad("%s without %s", name, other))
					}
				}
			}
		case "properties":
			// Stricter than the schema, which allows additions to come: what we write is in it.
			for name, value := range object {
				sub, ok := want.(map[string]any)[name].(map[string]any)
				if !ok {
					errs = append(errs, bad("member %s is not in the schema", name))
					continue
				}
				errs = append(errs, v.check(at+"."+name, sub, value))
			}
		case "items":
			for i, value := range list {
				errs = append(errs, v.check(fmt.Sprintf("%s[%d]", at, i), want.(map[string]any), value))
			}
		default:
			errs = append(errs, bad("unknown keyword %s", key))
		}
	}
	return errors.Join(errs...)
}

// Every document that the fixtures lead to follows the schema.
func TestSchema(t *testing.T) {
	v := newValidator(t)
	check := func(t *testing.T, write func(*bytes.Buffer) error) {
		t.Helper()
		if err := v.document(render(t, write)); err != nil {
			t.Error(err)
		}
	}
	r := everything()
	r.All = true
	check(t, func(b *bytes.Buffer) error { return r.WriteJSON(b) })
	check(t, func(b *bytes.Buffer) error { return WriteDiagnosticsJSON(b, r.Delta.Diagnostics) })
	check(t, func(b *bytes.Buffer) error { return WriteDiagnosticsJSON(b, nil) })
	check(t, func(b *bytes.Buffer) error { return (&Diff{Delta: &elfdiff.Delta{}}).WriteJSON(b) })

	origs, err := filepath.Glob(cases + "/*/*.ORIG.o")
	if err != nil || len(origs) < 100 {
		t.Fatalf("%d fixtures, %v", len(origs), err)
	}
	for _, orig := range origs {
		t.Run(strings.TrimSuffix(strings.TrimPrefix(orig, cases+"/"), ".ORIG.o"), func(t *testing.T) {
			r, err := ofFiles(t, orig, strings.TrimSuffix(orig, ".ORIG.o")+".PATCHED.o")
			if refused := (*diag.Error)(nil); errors.As(err, &refused) {
				check(t, func(b *bytes.Buffer) error { return WriteDiagnosticsJSON(b, refused.Diagnostics) })
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, r.All = range []bool{false, true} {
				check(t, func(b *bytes.Buffer) error { return r.WriteJSON(b) })
			}
			seen := make(map[string]bool)
			id := func(s string) {
				if seen[s] {
					t.Errorf("id %s is there twice", s)
				}
				seen[s] = true
			}
			for i := range r.Delta.Functions {
				id(r.Delta.Functions[i].ID)
			}
			for i := range r.Delta.Data {
				id(r.Delta.Data[i].ID)
			}
		})
	}
}

// The validator finds faults: each change to a right document is one.
func TestSchemaRejects(t *testing.T) {
	v := newValidator(t)
	good := string(render(t, func(b *bytes.Buffer) error { return everything().WriteJSON(b) }))
	for _, c := range []struct{ name, old, new string }{
		{"schema", `kdelta.diff/v1`, `kdelta.diff/v2`},
		{"status", `"status":"changed"`, `"status":"altered"`},
		{"offset as number", `"offset":"0x5"`, `"offset":5`},
		{"offset without prefix", `"offset":"0x5"`, `"offset":"5"`},
		{"negative size", `"orig_size":100`, `"orig_size":-1`},
		{"fraction", `"orig_size":100`, `"orig_size":0.5`},
		{"member missing", `"id":"_Z1fv",`, ``},
		{"member unknown", `"id":"_Z1fv",`, `"id":"_Z1fv","colour":"red",`},
		{"null for list", `"aliases":["g"]`, `"aliases":null`},
		{"number in list", `"aliases":["g"]`, `"aliases":[1]`},
		{"functions without summary", `"summary"`, `"sum"`},
		{"severity", `"severity":"error"`, `"severity":"fatal"`},
	} {
		bad := strings.Replace(good, c.old, c.new, 1)
		if bad == good {
			t.Errorf("%s: %s is not in the document", c.name, c.old)
		} else if v.document([]byte(bad)) == nil {
			t.Errorf("%s: accepted", c.name)
		}
	}
}

// The schema's lists of words are those of elfdiff.
func TestSchemaWords(t *testing.T) {
	defs := newValidator(t).root["$defs"].(map[string]any)
	enum := func(m any) []string {
		var out []string
		for _, w := range m.(map[string]any)["enum"].([]any) {
			out = append(out, w.(string))
		}
		slices.Sort(out)
		return out
	}
	words := func(first string, name func(uint8) string) (out []string) {
		if first != "none" {
			out = append(out, first)
		}
		for i := uint8(1); name(i) != strconv.Itoa(int(i)); i++ { // beyond the last word, its number
			out = append(out, name(i))
		}
		slices.Sort(out)
		return out
	}
	status := words("none", func(i uint8) string { return elfdiff.Status(i).String() })
	status = slices.DeleteFunc(status, func(s string) bool { return s == elfdiff.Padding.String() }) // of bytes only
	cause := defs["cause"].(map[string]any)["properties"].(map[string]any)["kind"]
	for _, c := range []struct {
		name      string
		got, want []string
	}{
		{"status", enum(defs["status"]), status},
		{"confidence", enum(defs["confidence"]), words("", func(i uint8) string { return elfdiff.Confidence(i).String() })},
		{"cause", enum(cause), words("none", func(i uint8) string { return elfdiff.CauseKind(i).String() })},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: the schema has %q, elfdiff has %q", c.name, c.got, c.want)
		}
	}
}
