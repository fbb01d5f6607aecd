package report

import (
	"bytes"
	"cmp"
	"debug/elf"
	_ "embed" // for SchemaOfExplain
	"fmt"
	"slices"
	"strings"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/debuginfo"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/symbols"
)

// ExplainSchema is the name and version in the JSON document of an explanation.
const ExplainSchema = "kdelta.explain/v1"

//go:embed schema/explain-v1.json
var explainSchema string

// SchemaOfExplain gives the JSON Schema (draft 2020-12) of the document ExplainSchema.
func SchemaOfExplain() string { return explainSchema }

// Limits of one explanation; what lies beyond is counted.
const (
	maxMatches    = 16 // things of one name
	maxHunks      = 16 // listings of one function
	contextLines  = 3  // equal instructions before and after
	maxHunkLines  = 24
	maxCandidates = 8
	maxNear       = 5
	maxByteRows   = 8
	maxEntryRefs  = 8
)

// Explain is what explanations are made of: two graphs, the Delta of them and,
// where there is any, debug information.
type Explain struct {
	Delta                   *elfdiff.Delta
	Orig, Patched           *elfdiff.Graph
	OrigDebug, PatchedDebug *debuginfo.Info // may be nil
	list                    *lister
}

// Explanation says of the things of one name why they have their verdicts.
type Explanation struct {
	Schema      string                `json:"schema"`
	Symbol      string                `json:"symbol"`
	Same        bool                  `json:"same"`
	Functions   []FunctionExplanation `json:"functions"`
	Data        []DatumExplanation    `json:"data"`
	Diagnostics []jsonDiagnostic      `json:"diagnostics"`
}

// Pairing says why two things are one.
type Pairing struct {
	Confidence string   `json:"confidence"`
	Why        string   `json:"why"`
	OrigName   string   `json:"orig_name"`
	Candidates []string `json:"candidates"` // others of the same family of names
}

// FunctionExplanation is the explanation of one function.
type FunctionExplanation struct {
	jsonFunction
	Pairing    Pairing  `json:"pairing"`
	Proof      string   `json:"proof"` // what was proved of an equal one
	OrigDecl   string   `json:"orig_source"`
	Decl       string   `json:"patched_source"`
	Reasons    []Reason `json:"reasons"`
	Structures []string `json:"structures"` // structures that it uses and whose layout differs
}

// DatumExplanation is the explanation of one variable.
type DatumExplanation struct {
	jsonDatum
	Pairing Pairing   `json:"pairing"`
	Proof   string    `json:"proof"`
	Bytes   []ByteRow `json:"bytes"`
	Refs    []RefRow  `json:"references"`
	More    int       `json:"more"` // rows that are not listed
}

// Reason is a cause with what stands there in both builds.
type Reason struct {
	jsonCause
	Note         string   `json:"note"`        // the proof of a line number
	OrigSource   string   `json:"orig_source"` // file:line
	Source       string   `json:"patched_source"`
	OrigInlined  []string `json:"orig_inlined"` // outermost first: "name, called at file:line"
	Inlined      []string `json:"patched_inlined"`
	Listing      []Line   `json:"listing"`
	OrigEntry    *Entry   `json:"orig_entry,omitempty"`
	PatchedEntry *Entry   `json:"patched_entry,omitempty"`
}

// Line is a line of a listing: an instruction of both builds, or of one.
type Line struct {
	Side       string `json:"side"` // "both", "orig" or "patched"
	OrigOff    string `json:"orig_offset"`
	PatchedOff string `json:"patched_offset"`
	Orig       string `json:"orig"`
	Patched    string `json:"patched"`
	First      bool   `json:"first"` // where the cause lies
}

// Entry is an entry of a table.
type Entry struct {
	Offset string   `json:"offset"`
	Bytes  string   `json:"bytes"`
	Refs   []string `json:"references"`
}

// ByteRow is a row of 16 bytes that differ.
type ByteRow struct {
	Offset  string `json:"offset"`
	Orig    string `json:"orig"`
	Patched string `json:"patched"`
}

// RefRow is a reference that differs.
type RefRow struct {
	Offset  string `json:"offset"`
	Orig    string `json:"orig"`
	Patched string `json:"patched"`
}

// UnknownSymbol is the error for a name that nothing has.
type UnknownSymbol struct {
	Symbol string
	Near   []string // names that are like it, the most similar first
}

// Error says which name, and which ones are like it.
func (e *UnknownSymbol) Error() string {
	s := fmt.Sprintf("no function or variable %q in either object", e.Symbol)
	if len(e.Near) > 0 {
		s += "; near: " + strings.Join(cleanAll(e.Near), ", ")
	}
	return s
}

// Symbol explains everything that has a name: the name in either object, an
// alias, the name of a part (f.cold), the readable form of a mangled name with or
// without its parameters, or the id that reports give where names repeat. The
// error is an *UnknownSymbol.
func (x *Explain) Symbol(name string) (*Explanation, error) {
	fs, ds := x.find(name)
	if len(fs)+len(ds) == 0 {
		return nil, &UnknownSymbol{Symbol: name, Near: x.near(name)}
	}
	x.list = newLister(x.Delta, x.Orig, x.Patched)
	out := &Explanation{Schema: ExplainSchema, Symbol: clean(name), Same: true, Functions: []FunctionExplanation{}, Data: []DatumExplanation{}, Diagnostics: []jsonDiagnostic{}}
	equal := func(s elfdiff.Status) bool { return s == elfdiff.Unchanged || s == elfdiff.LineOnly }
	for _, f := range fs[:min(len(fs), maxMatches)] {
		out.Functions = append(out.Functions, x.function(f))
		out.Same = out.Same && equal(f.Status)
	}
	for _, d := range ds[:min(len(ds), maxMatches)] {
		out.Data = append(out.Data, x.datum(d))
		out.Same = out.Same && equal(d.Status)
	}
	for i := range x.Delta.Diagnostics {
		d := &x.Delta.Diagnostics[i]
		mine := slices.ContainsFunc(fs, func(f *elfdiff.Function) bool {
			return d.Place.Symbol != "" && (d.Place.Symbol == f.Name || d.Place.Symbol == f.OrigName)
		}) ||
			slices.ContainsFunc(ds, func(v *elfdiff.Datum) bool {
				return d.Place.Symbol != "" && (d.Place.Symbol == v.Name || d.Place.Symbol == v.OrigName)
			})
		if mine {
			out.Diagnostics = append(out.Diagnostics, diagnosticRow(d))
		}
	}
	return out, nil
}

// bare gives a readable name without parameters.
func bare(demangled string) string {
	for i := 1; i < len(demangled); i++ {
		if demangled[i] == '(' {
			return strings.TrimSuffix(demangled[:i], " ")
		}
	}
	return demangled
}

// find gives what has a name, by the best kind of match that there is.
func (x *Explain) find(name string) (fs []*elfdiff.Function, ds []*elfdiff.Datum) {
	best := 0
	keep := func(grade int) bool {
		if grade > best {
			best, fs, ds = grade, nil, nil
		}
		return grade > 0 && grade == best
	}
	readable := func(demangled, orig string) bool {
		for _, s := range []string{demangled, symbols.Demangle(orig)} {
			if s != "" && (s == name || bare(s) == name) {
				return true
			}
		}
		return false
	}
	grade := func(id, n, orig, demangled string, others ...[]string) int {
		switch {
		case n == name || orig == name && orig != "":
			return 4
		case id == name:
			return 3
		case slices.ContainsFunc(others, func(o []string) bool { return slices.Contains(o, name) }):
			return 2
		case readable(demangled, orig):
			return 1
		}
		return 0
	}
	for i := range x.Delta.Functions {
		f := &x.Delta.Functions[i]
		if keep(grade(f.ID, f.Name, f.OrigName, f.Demangled, f.Aliases, f.Members)) {
			fs = append(fs, f)
		}
	}
	for i := range x.Delta.Data {
		d := &x.Delta.Data[i]
		if keep(grade(d.ID, d.Name, d.OrigName, d.Demangled)) {
			ds = append(ds, d)
		}
	}
	return fs, ds
}

// near gives the names that are most like one that nothing has.
func (x *Explain) near(name string) []string {
	type hit struct {
		name string
		far  int
	}
	limit := max(2, len(name)/3)
	var hits []hit
	seen := make(map[string]bool)
	try := func(s, show string) {
		if s == "" || seen[show] || len(s) > 512 || len(name) > 512 {
			return
		}
		far := distance(name, s, limit)
		if far > limit && len(name) >= 4 && strings.Contains(s, name) {
			far = limit
		}
		if far <= limit {
			seen[show] = true
			hits = append(hits, hit{show, far})
		}
	}
	for i := range x.Delta.Functions {
		f := &x.Delta.Functions[i]
		try(f.Name, f.Name)
		try(f.OrigName, f.OrigName)
		try(bare(f.Demangled), bare(f.Demangled))
	}
	for i := range x.Delta.Data {
		d := &x.Delta.Data[i]
		try(d.Name, d.Name)
		try(d.OrigName, d.OrigName)
	}
	slices.SortFunc(hits, func(a, b hit) int { return cmp.Or(cmp.Compare(a.far, b.far), cmp.Compare(a.name, b.name)) })
	var out []string
	for _, h := range hits[:min(len(hits), maxNear)] {
		out = append(out, h.name)
	}
	return out
}

// distance gives how many letters have to be changed, added or left out to make
// b of a; limit+1 when there are more than limit.
func distance(a, b string, limit int) int {
	if max(len(a)-len(b), len(b)-len(a)) > limit {
		return limit + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		least := row[0]
		for j := range len(b) {
			v := corner
			if a[i] != b[j] {
				v = 1 + min(corner, row[j], row[j+1])
			}
			corner, row[j+1] = row[j+1], v
			least = min(least, v)
		}
		if least > limit {
			return limit + 1
		}
	}
	return min(row[len(b)], limit+1)
}

// whyPaired says in words how a pair was found.
func whyPaired(c elfdiff.Confidence) string {
	switch c {
	case elfdiff.ConfPinned:
		return "the caller made them a pair"
	case elfdiff.ConfName:
		return "they have the same name, which nothing else has"
	case elfdiff.ConfFamily:
		return "each is the only one of its family of names (without the numbers and suffixes that compilers add)"
	case elfdiff.ConfContent:
		return "of several candidates these two agree in content and in who refers to them"
	case elfdiff.ConfUsers:
		return "of several candidates these two are referred to by the same functions in the same way"
	case elfdiff.ConfLoose:
		return "of several candidates these two agree in content or size alone, or their scope differs"
	case elfdiff.ConfTie:
		return "several candidates are equally good; they were paired in order: pin the pair to be sure"
	}
	return ""
}

// pairing explains a pair; others gives every (id, name, original name) of its kind.
func pairing(c elfdiff.Confidence, id, name, orig string, others func(f func(id, name, orig string))) Pairing {
	p := Pairing{Confidence: confidence(c), Why: whyPaired(c), Candidates: []string{}}
	if c == 0 {
		p.Why = "it has no counterpart"
	} else {
		p.OrigName = clean(cmp.Or(orig, name))
	}
	key := symbols.Key(name)
	others(func(oid, oname, oorig string) {
		if oid != id && len(p.Candidates) < maxCandidates && (symbols.Key(oname) == key || oorig != "" && symbols.Key(oorig) == key) {
			s := oid
			if oorig != "" {
				s += " (was " + oorig + ")"
			}
			p.Candidates = append(p.Candidates, clean(s))
		}
	})
	return p
}

func (x *Explain) function(f *elfdiff.Function) FunctionExplanation {
	out := FunctionExplanation{jsonFunction: functionRow(f), Reasons: []Reason{}, Structures: []string{}}
	out.Pairing = pairing(f.Confidence, f.ID, f.Name, f.OrigName, func(each func(id, name, orig string)) {
		for i := range x.Delta.Functions {
			o := &x.Delta.Functions[i]
			each(o.ID, o.Name, o.OrigName)
		}
	})
	out.OrigDecl = declText(x.OrigDebug, unitPlace(x.Orig, f.Orig))
	out.Decl = declText(x.PatchedDebug, unitPlace(x.Patched, f.Patched))
	shown := make(map[elfdiff.AtomID][][2]uint64) // of the patched object
	for i := range f.Causes {
		out.Reasons = append(out.Reasons, x.reason(f, &f.Causes[i], shown))
	}
	switch f.Status {
	case elfdiff.Unchanged, elfdiff.LineOnly:
		out.Proof = x.proof(f)
	case elfdiff.Changed, elfdiff.New:
		fn := debuginfo.Func{Name: f.Name, Orig: unitPlace(x.Orig, f.Orig), Patched: unitPlace(x.Patched, f.Patched)}
		for _, c := range debuginfo.Layout(x.OrigDebug, x.PatchedDebug, []debuginfo.Func{fn}) {
			s := c.String()
			if len(c.Users) == 0 {
				s += " (within reach)"
			}
			out.Structures = append(out.Structures, clean(s))
		}
	}
	return out
}

func declText(info *debuginfo.Info, p debuginfo.Place) string {
	if _, decl, ok := info.Function(p); ok {
		return clean(decl.String())
	}
	return ""
}

// proof says what was proved of a function that counts as equal.
func (x *Explain) proof(f *elfdiff.Function) string {
	g := x.Patched
	bytes, parts, refs := uint64(0), 0, 0
	for _, m := range g.Units[f.Patched].Members {
		if g.Atoms[m].Kind == elfdiff.AtomPad {
			continue
		}
		es, _ := g.Edges(m, nil)
		bytes, parts, refs = bytes+g.Atoms[m].Size, parts+1, refs+len(es)
	}
	entries := len(g.Units[f.Patched].Entries)
	s := fmt.Sprintf("%s of code in %s and %s are equal in type, target and displacement, with all nameless data that these lead to", count(int(bytes), "byte"), count(parts, "part"), count(refs, "reference"))
	if entries > 0 {
		s += fmt.Sprintf("; so are %s", plural(entries, "table entry", "table entries"))
	}
	if f.Status == elfdiff.LineOnly {
		s += "; the only exceptions are the line numbers below"
	}
	return s + ". " + x.relaxations()
}

// relaxations says under which relaxations a Delta was made.
func (x *Explain) relaxations() string {
	var on []string
	for _, r := range x.Delta.Relaxations {
		if r.Enabled {
			s := r.Name
			if r.Uses > 0 {
				s += " (" + plural(r.Uses, "use", "uses") + " in the whole object)"
			}
			on = append(on, s)
		}
	}
	if len(on) == 0 {
		return "No relaxation was on."
	}
	return "Relaxations on: " + strings.Join(on, ", ") + "."
}

func count(n int, what string) string { return plural(n, what, what+"s") }

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// atoms gives the atoms of both sides that a cause speaks of. Entry is set when they are entries of a table.
func (x *Explain) atoms(f *elfdiff.Function, c *elfdiff.Cause) (ao, ap elfdiff.AtomID, entry bool) {
	if f.Orig == 0 || f.Patched == 0 {
		return 0, 0, false
	}
	uo, up := &x.Orig.Units[f.Orig], &x.Patched.Units[f.Patched]
	if c.Member == "" {
		return uo.Main, up.Main, false
	}
	for _, m := range up.Members {
		if x.Patched.Name(m) == c.Member {
			return x.Delta.OrigOf[m], m, false
		}
	}
	holds := func(g *elfdiff.Graph, e elfdiff.AtomID) bool {
		at := &g.Atoms[e]
		return g.Name(e) == c.Member && at.Off <= c.Off && c.Off < at.Off+at.Size
	}
	if c.Patched != "" || c.Orig == "" {
		for _, e := range up.Entries {
			if holds(x.Patched, e) {
				return x.Delta.OrigOf[e], e, true
			}
		}
	}
	for _, e := range uo.Entries {
		if holds(x.Orig, e) {
			return e, 0, true
		}
	}
	return 0, 0, false
}

// reason explains one cause.
func (x *Explain) reason(f *elfdiff.Function, c *elfdiff.Cause, shown map[elfdiff.AtomID][][2]uint64) Reason {
	out := Reason{jsonCause: causes([]elfdiff.Cause{*c})[0], OrigInlined: []string{}, Inlined: []string{}, Listing: []Line{}}
	ao, ap, entry := x.atoms(f, c)
	if entry {
		out.OrigEntry, out.PatchedEntry = entryOf(x.Orig, ao), entryOf(x.Patched, ap)
		if c.Kind == elfdiff.CauseLine {
			out.Note = "the line field of this table's entries"
		}
		return out
	}
	if c.Kind == elfdiff.CauseLine {
		out.Note = x.lineNote(c)
	}
	if whole(c.Kind) || ao == 0 || ap == 0 || !x.Patched.Atoms[ap].Kind.Code() || !x.Orig.Atoms[ao].Kind.Code() {
		return out
	}
	if c.Kind != elfdiff.CauseInlined {
		out.OrigSource, out.OrigInlined = sourceOf(x.OrigDebug, atomPlace(x.Orig, ao, c.Off))
		out.Source, out.Inlined = sourceOf(x.PatchedDebug, atomPlace(x.Patched, ap, c.Off))
	}
	if len(shown[ap]) >= maxHunks || slices.ContainsFunc(shown[ap], func(r [2]uint64) bool { return r[0] <= c.Off && c.Off < r[1] }) {
		return out
	}
	la, lb := x.list.listing(x.Orig, ao), x.list.listing(x.Patched, ap)
	lines, to := hunk(la, lb, c.Off, c.Kind == elfdiff.CauseInlined)
	out.Listing = lines
	if len(lines) > 0 {
		shown[ap] = append(shown[ap], [2]uint64{c.Off, to})
	}
	return out
}

// lineNote says what proves a line number, as far as the cause tells.
func (x *Explain) lineNote(c *elfdiff.Cause) string {
	var rows []string
	for i := range x.Patched.Rules.LineArgs {
		r := &x.Patched.Rules.LineArgs[i]
		if r.Callee != c.Detail {
			continue
		}
		s := fmt.Sprintf("argument %d of %s", r.Arg, r.Callee)
		switch r.Via {
		case elfdiff.ViaEntryFormat:
			s += fmt.Sprintf(", where argument %d is a table entry with the format %q and the same line", r.StringArg, r.Text)
		case elfdiff.ViaFormatArg:
			s += fmt.Sprintf(", where argument %d is the format %q", r.StringArg, r.Text)
		case elfdiff.ViaFileArg:
			s += fmt.Sprintf(", where argument %d is the name of a source file", r.StringArg)
		case elfdiff.ViaFuncArg:
			s += fmt.Sprintf(", where argument %d is the function's own name", r.StringArg)
		}
		rows = append(rows, s)
	}
	switch {
	case len(rows) == 0:
		return ""
	case len(rows) > 3:
		return fmt.Sprintf("one of %d rules for %s", len(rows), c.Detail)
	}
	return strings.Join(rows, "; or ")
}

func sourceOf(info *debuginfo.Info, p debuginfo.Place) (string, []string) {
	chain := []string{}
	for _, in := range info.Inlined(p) {
		s := cmp.Or(in.Name, "?")
		if c := in.Call.String(); c != "" {
			s += ", called at " + c
		}
		chain = append(chain, clean(s))
	}
	pos, ok := info.Line(p)
	if !ok {
		return "", chain
	}
	return clean(pos.String()), chain
}

// entryOf shows a table entry; nil when there is none.
func entryOf(g *elfdiff.Graph, a elfdiff.AtomID) *Entry {
	if a == 0 {
		return nil
	}
	at := &g.Atoms[a]
	b := g.Bytes(a)
	e := &Entry{Offset: hex(at.Off), Bytes: fmt.Sprintf("% x", b[:min(len(b), 64)]), Refs: []string{}}
	edges, _ := g.Edges(a, nil)
	for i := range edges[:min(len(edges), maxEntryRefs)] {
		e.Refs = append(e.Refs, fmt.Sprintf("+%s %s", hex(edges[i].Off-at.Off), clean(g.EdgeText(&edges[i]))))
	}
	return e
}

// hunk lays two listings side by side and gives the lines around the instruction
// at off, which is at the same place in both unless the cause is one of later
// code (loose). The second result is where it ends in the patched code.
func hunk(la, lb []instruction, off uint64, loose bool) ([]Line, uint64) {
	steps := align(keys(la, keyOf), keys(lb, keyOf))
	at := func(list []instruction, i int) bool {
		return i >= 0 && list[i].off <= off && off < list[i].off+uint64(max(list[i].size, 1))
	}
	first := slices.IndexFunc(steps, func(s step) bool { return at(lb, s.b) && (loose || s.a < 0 || at(la, s.a)) })
	if !loose {
		// The first difference is at or before the place where either side has it.
		if i := slices.IndexFunc(steps, func(s step) bool { return at(la, s.a) || at(lb, s.b) }); i >= 0 {
			first = i
		}
	}
	if first < 0 {
		first = len(steps) - 1 // behind the end of one side
	}
	if first < 0 {
		return []Line{}, 0
	}
	lo := max(0, first-contextLines)
	hi, equal := first, 0
	for hi < len(steps) && hi-lo < maxHunkLines && equal < contextLines {
		if s := steps[hi]; s.a >= 0 && s.b >= 0 && hi > first {
			equal++
		} else {
			equal = 0
		}
		hi++
	}
	var out, added []Line
	end := uint64(0)
	flush := func() { out, added = append(out, added...), nil }
	for i := lo; i < hi; i++ {
		s := steps[i]
		ln := Line{First: i == first}
		if s.a >= 0 {
			ln.OrigOff, ln.Orig = hex(la[s.a].off), clean(la[s.a].text)
		}
		if s.b >= 0 {
			ln.PatchedOff, ln.Patched = hex(lb[s.b].off), clean(lb[s.b].text)
			end = lb[s.b].off + uint64(lb[s.b].size)
		}
		switch {
		case s.b < 0:
			ln.Side = "orig"
			out = append(out, ln)
		case s.a < 0:
			ln.Side = "patched"
			added = append(added, ln) // behind what the original has in its place
		default:
			flush()
			ln.Side = "both"
			out = append(out, ln)
		}
	}
	flush()
	return out, end
}

func (x *Explain) datum(d *elfdiff.Datum) DatumExplanation {
	out := DatumExplanation{jsonDatum: datumRow(d), Bytes: []ByteRow{}, Refs: []RefRow{}}
	out.Pairing = pairing(d.Confidence, d.ID, d.Name, d.OrigName, func(each func(id, name, orig string)) {
		for i := range x.Delta.Data {
			o := &x.Delta.Data[i]
			each(o.ID, o.Name, o.OrigName)
		}
	})
	var da, db []byte
	if d.Orig != 0 {
		da = x.Orig.Bytes(d.Orig)
	}
	if d.Patched != 0 {
		db = x.Patched.Bytes(d.Patched)
	}
	if d.Status == elfdiff.Unchanged || d.Status == elfdiff.LineOnly {
		size, refs := d.PatchedSize, 0
		if d.Patched != 0 {
			es, _ := x.Patched.Edges(d.Patched, nil)
			refs = len(es)
		}
		what := count(int(size), "byte")
		if d.Patched != 0 && db == nil {
			what += " of zeros"
		}
		out.Proof = fmt.Sprintf("%s and %s are equal. %s", what, count(refs, "reference"), x.relaxations())
	}
	width := 3*min(16, max(len(da), len(db))) - 1
	row := func(b []byte, i int) []byte { return b[min(i, len(b)):min(i+16, len(b))] }
	for i := 0; i < max(len(da), len(db)); i += 16 {
		ra, rb := row(da, i), row(db, i)
		if bytes.Equal(ra, rb) {
			continue
		}
		if len(out.Bytes) == maxByteRows {
			out.More++
			continue
		}
		out.Bytes = append(out.Bytes, ByteRow{hex(uint64(i)), hexRow(ra, width), hexRow(rb, width)})
	}
	out.refRows(x, d)
	return out
}

// hexRow shows up to 16 bytes in hexadecimal and as text.
func hexRow(b []byte, width int) string {
	if len(b) == 0 {
		return ""
	}
	text := make([]byte, len(b))
	for i, c := range b {
		if text[i] = c; c < ' ' || c > '~' {
			text[i] = '.'
		}
	}
	return fmt.Sprintf("%-*s |%s|", width, fmt.Sprintf("% x", b), text)
}

// refRows lists the references of data that differ.
func (out *DatumExplanation) refRows(x *Explain, d *elfdiff.Datum) {
	type ref struct{ text, key string }
	refs := func(g *elfdiff.Graph, a elfdiff.AtomID) (map[uint64]ref, []uint64) {
		m := make(map[uint64]ref)
		var offs []uint64
		if a != 0 {
			edges, _ := g.Edges(a, nil)
			for i := range edges {
				e := &edges[i]
				off := e.Off - g.Atoms[a].Off
				m[off] = ref{g.EdgeText(e), elf.R_X86_64(e.Type).String() + x.list.identity(g, g.Resolve(e))}
				offs = append(offs, off)
			}
		}
		return m, offs
	}
	ra, oa := refs(x.Orig, d.Orig)
	rb, ob := refs(x.Patched, d.Patched)
	offs := slices.Concat(oa, ob)
	slices.Sort(offs)
	for _, off := range slices.Compact(offs) {
		if a, b := ra[off], rb[off]; a.key != b.key {
			if len(out.Refs) == maxByteRows {
				out.More++
				continue
			}
			out.Refs = append(out.Refs, RefRow{hex(off), clean(a.text), clean(b.text)})
		}
	}
}

// diagnosticRow is a diagnostic as JSON documents hold it.
func diagnosticRow(x *diag.Diagnostic) jsonDiagnostic {
	row := jsonDiagnostic{
		Code: string(x.Code), Severity: x.Severity.String(), File: clean(x.Place.File), Symbol: clean(x.Place.Symbol), Section: clean(x.Place.Section),
		Message: clean(x.Message), Remedy: remedy(x), Chain: cleanAll(x.Chain),
	}
	if x.Place.HasOffset {
		row.Offset = hex(x.Place.Offset)
	}
	return row
}
