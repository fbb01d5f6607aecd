package report

import (
	_ "embed" // for VerifySchema
	"fmt"
	"io"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/verify"
)

// VerifySchema is the name and version in the JSON document of a proof. Within a
// version, members are added and never change their meaning.
const VerifySchema = "kdelta.verify/v1"

//go:embed schema/verify-v1.json
var verifySchema string

// SchemaOfVerify gives the JSON Schema (draft 2020-12) of the document VerifySchema.
func SchemaOfVerify() string { return verifySchema }

// Verify is what came of the proof of a patch.
type Verify struct {
	Patch       string         // the file
	Result      *verify.Result // nil: nothing could be checked
	Diagnostics []diag.Diagnostic
	All         bool // text: say what each level covered
}

type jsonLevel struct {
	Level   string         `json:"level"`
	Verdict string         `json:"verdict"`
	Reached bool           `json:"reached"`
	Why     string         `json:"why"`
	Errors  int            `json:"errors"`
	Counts  map[string]int `json:"counts"`
}

// WriteJSON writes the document VerifySchema.
func (r *Verify) WriteJSON(w io.Writer) error {
	d := newDocumentOf(w, VerifySchema)
	d.member("patch", clean(r.Patch))
	format := ""
	if r.Result != nil {
		format = r.Result.Format.String()
	}
	d.member("format", format)
	d.list("levels")
	if r.Result != nil {
		for i := range r.Result.Levels {
			c := &r.Result.Levels[i]
			l := jsonLevel{c.Level.String(), verdictOf(c), c.Reached, clean(c.Why), c.Errors, map[string]int{}}
			for _, n := range c.Counts {
				l.Counts[n.What] = n.N
			}
			d.row(l)
		}
	}
	d.end()
	d.diagnostics(r.Diagnostics)
	return d.close()
}

// WriteText says which levels were reached and what became of them. Diagnostics are WriteDiagnosticsText's affair.
func (r *Verify) WriteText(w io.Writer) error {
	s := sink{w: w}
	if r.Result == nil {
		return nil
	}
	s.print(clean(r.Patch), ": form ", r.Result.Format.String(), "\n")
	for i := range r.Result.Levels {
		c := &r.Result.Levels[i]
		s.print(fmt.Sprintf("%-10s  %s", c.Level, verdictOf(c)))
		if c.Errors > 0 {
			s.print(fmt.Sprintf(" (%d)", c.Errors))
		}
		if c.Why != "" {
			s.print(": ", clean(c.Why))
		}
		s.print("\n")
		for _, n := range c.Counts {
			if r.All {
				s.print(fmt.Sprintf("            %7d %s\n", n.N, n.What))
			}
		}
	}
	return s.err
}

// verdictOf says what became of a level.
func verdictOf(c *verify.Coverage) string {
	switch {
	case c.Errors > 0:
		return "refuted"
	case c.Reached:
		return "proved"
	}
	return "not reached"
}
