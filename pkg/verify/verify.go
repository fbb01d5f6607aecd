// Package verify proves a finished livepatch object: it reads the patch back from
// its bytes and compares it with the objects that it was made from and with the
// symbols of the kernel that it is for.
//
// It works at three named levels and says which of them it reached:
//
//   - structure needs the patch alone: what the kernel's module loader and its
//     livepatch core ask of the file;
//   - resolution needs the kernel's symbols: every symbol that the patch asks for
//     exists in its object at its position, and what it leaves undefined is exported;
//   - code needs the pairs of objects: every byte and every reference of the patch
//     gives what the patched object would have had, tables are complete, and every
//     function that differs between the two objects is replaced.
//
// The package shares nothing with the writer of patches. It knows no graph of
// atoms and no selection: from the functions that the patch defines it follows
// references in the patch and in the patched object side by side, and demands that
// both lead to the same thing. What stays in the kernel is "the same" when the
// original object has a symbol of exactly the name that the patch asks for, and the
// original and the patched object say that it corresponds to what the patched code
// refers to.
//
// The stance is that of the differ: what is not proved is said. A finding of
// severity error refutes the patch; the warning verify-unproved names what could
// neither be proved nor refuted.
package verify

import (
	"context"
	"errors"
	"fmt"

	"github.com/kdelta/kdelta/elfdiff"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/symbols"
)

// Pair is an object before and after, as the patch was made from it.
type Pair struct {
	Object  string // klp.Vmlinux, or the module's name with '_' for '-'
	Orig    *object.File
	Patched *object.File
}

// Symbols is what is known of the symbols of one kernel object.
type Symbols interface {
	// Count gives how many symbols of a name there are.
	Count(name string) int
}

// Positioner is what a Symbols may also be: it knows which of the symbols of one
// name a symbol of an original object is. *symbols.Oracle has the method.
type Positioner interface {
	Position(f *object.File, sym object.SymID) symbols.Answer
}

// Exports knows exported symbols. *symbols.Symvers and *symbols.Set are such.
type Exports interface {
	// Exporter gives the object that exports a symbol: klp.Vmlinux or a module's name.
	Exporter(name string) (object string, ok bool)
}

// Format is a form of patch.
type Format uint8

// The forms.
const (
	Auto         Format = iota // as the patch's sections say
	Intermediate               // upstream's intermediate form
	Kpatch                     // kpatch's intermediate form
	Final                      // .klp.rela sections
)

var formatNames = [...]string{"auto", "klp", "kpatch", "final"}

// String gives the form's name.
func (f Format) String() string {
	if int(f) < len(formatNames) {
		return formatNames[f]
	}
	return fmt.Sprintf("format(%d)", uint8(f))
}

// Options of Verify. The zero value is useful.
type Options struct {
	Format  Format
	Symbols map[string]Symbols // by kernel object
	Exports Exports
	Rules   *elfdiff.Rules // rows of tables and of line numbers; nil: pkg/kernel's

	// For finished modules; zero values are not checked.
	Layout   *klp.Layout                        // of the livepatch structures; nil: klp.DefaultLayout
	Vermagic string                             // of the kernel
	CRC      func(symbol string) (uint32, bool) // checksums of exported symbols
	// Part says that the object is one of several of a patch: it may replace nothing
	// itself, and what it leaves undefined the others may define.
	Part bool
}

// Level is a level of proof.
type Level uint8

// The levels.
const (
	Structure Level = iota
	Resolution
	Code
)

var levelNames = [...]string{"structure", "resolution", "code"}

// String gives the level's name.
func (l Level) String() string {
	if int(l) < len(levelNames) {
		return levelNames[l]
	}
	return fmt.Sprintf("level(%d)", uint8(l))
}

// Count says how much of something a level covered.
type Count struct {
	What string
	N    int
}

// Coverage is what became of one level.
type Coverage struct {
	Level   Level
	Reached bool   // it ran to its end
	Why     string // not reached: why
	Errors  int    // findings of this level that refute the patch
	Counts  []Count
}

// Proved reports whether the level ran and found nothing against the patch.
func (c *Coverage) Proved() bool { return c.Reached && c.Errors == 0 }

// Result is what Verify found.
type Result struct {
	Format   Format
	Levels   [3]Coverage // by Level
	Findings []diag.Diagnostic
}

// Refuted reports whether anything speaks against the patch.
func (r *Result) Refuted() bool { return diag.HasErrors(r.Findings) }

// Err gives a *diag.Error when the patch is refuted, else nil.
func (r *Result) Err() error { return diag.Refuse(r.Findings) }

// maxFindings bounds what one run reports; a patch that is that wrong needs no more.
const maxFindings = 200

// Verify checks a patch. The error is that of the context, or says that an argument is missing;
// everything that is to be said about the patch is in the Result.
func Verify(ctx context.Context, patch *object.File, pairs []Pair, opts Options) (*Result, error) {
	if patch == nil {
		return nil, errors.New("verify: no patch")
	}
	for i := range pairs {
		if pairs[i].Orig == nil || pairs[i].Patched == nil {
			return nil, fmt.Errorf("verify: pair %d is not complete", i+1)
		}
	}
	c := newChecker(ctx, patch, opts)
	c.level = Structure
	c.structure()
	c.level = Resolution
	c.resolution()
	c.level = Code
	c.code(pairs)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	diag.Sort(c.res.Findings)
	return &c.res, nil
}

// Names is a Symbols made of counts by name.
type Names map[string]int

// Count gives how many symbols of a name there are.
func (n Names) Count(name string) int { return n[name] }

// NamesOf counts the names in tables of symbols that describe the kernel object
// objectName; tables of other objects are passed over. Where tables differ the larger count is taken.
func NamesOf(objectName string, tables ...*symbols.Table) Names {
	n := Names{}
	for _, t := range tables {
		if t.Object != "" && t.Object != objectName {
			continue
		}
		here := make(Names, len(t.Entries))
		for i := range t.Entries {
			if e := &t.Entries[i]; e.Flags&(symbols.EntryUndefined|symbols.EntryMeta) == 0 {
				here[e.Name]++
			}
		}
		for name, k := range here {
			n[name] = max(n[name], k)
		}
	}
	return n
}

// Known is a Symbols that knows positions as well.
type Known struct {
	Names
	Oracle *symbols.Oracle // may be nil
}

// Position says which of the symbols of its name a symbol of an original object is.
func (k Known) Position(f *object.File, sym object.SymID) symbols.Answer {
	if k.Oracle == nil {
		return symbols.Answer{}
	}
	return k.Oracle.Position(f, sym)
}

// checker is one run.
type checker struct {
	ctx   context.Context
	res   Result
	opts  Options
	rules *elfdiff.Rules
	level Level
	p     *view      // the patch
	klp   *klp.Patch // what its metadata say; nil when they cannot be read
	pairs []*pair

	static bool // the patch describes itself in the structures of the livepatch core
}

func newChecker(ctx context.Context, patch *object.File, opts Options) *checker {
	c := &checker{ctx: ctx, opts: opts}
	for l := range c.res.Levels {
		c.res.Levels[l].Level = Level(l)
	}
	c.rules = opts.Rules
	if c.rules == nil {
		c.rules = defaultRules()
	}
	c.p = newView(patch, c.rules)
	c.res.Format = opts.Format
	if c.res.Format == Auto {
		c.res.Format = formatOf(patch)
	}
	return c
}

func (c *checker) report(d diag.Diagnostic) {
	if d.Severity == diag.SevError {
		c.res.Levels[c.level].Errors++
	}
	if len(c.res.Findings) < maxFindings {
		c.res.Findings = append(c.res.Findings, d)
	}
}

// fail reports a finding about a place of the patch.
func (c *checker) fail(code diag.Code, sec object.SecID, off uint64, format string, args ...any) {
	c.report(diag.New(code, c.p.place(sec, off), format, args...))
}

func (c *checker) failSym(code diag.Code, name, format string, args ...any) {
	c.report(diag.New(code, diag.Place{File: c.p.f.Name, Symbol: name}, format, args...))
}

func (c *checker) count(what string, n int) {
	l := &c.res.Levels[c.level]
	for i := range l.Counts {
		if l.Counts[i].What == what {
			l.Counts[i].N += n
			return
		}
	}
	l.Counts = append(l.Counts, Count{what, n})
}
