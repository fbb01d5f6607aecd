package elfdiff

import "github.com/kdelta/kdelta/pkg/diag"

// Rules is what a comparison has to know of the system that an object is built
// for. It is plain data, never written to: pkg/kernel supplies the rules of
// Linux; the zero value serves an ordinary ELF object.
type Rules struct {
	Version  string  // names the set of rules in results
	Tables   []Table // several rows for one section: Sizes, Marks and sh_entsize choose, else the first that fits
	Sizes    []EntrySize
	Marks    string // section of records (s32 label, u32 type) that list where entries of tables start
	LineArgs []LineArg
	LineData []LineData
	Ignore   []Ignored
	// IgnoreFuncs and IgnoreSections name sections by which the source itself takes functions (by address) or
	// sections (by a string with the name) out of the comparison.
	IgnoreFuncs    string
	IgnoreSections string
	Labels         []string // sections of records without sizes, each of which starts at a symbol

	// For patches. Sections are named, or given by a prefix that ends in '*'.
	Entry   []string  // callees whose call at a function's entry makes it replaceable
	Init    []Ignored // code and data that are freed after init
	NoPatch []Ignored // code that cannot be replaced
	Beside  []Beside
	Inbound []Ignored // references from here into replaced code are dropped, for this reason
	// Instrument names what instrumented code calls: by name, or by prefix when it ends in '*'.
	Instrument []string
	Register   []Refused // new or changed contents mean that something registers with the kernel at build or load time
}

// Freed reports whether what lies in a section of that name is gone after init.
func (r *Rules) Freed(section string) bool {
	_, ok := matchAny(r.Init, section)
	return ok
}

// Beside is a section that lives beside code without being a table of entries of
// one size that have a site.
type Beside struct {
	Section string    // a name, or a prefix when it ends in '*'
	Emit    [3]Action // by Format; Carry: what belongs to included code travels
	How     string    // what brings its contents, or why they stay
}

// BesideOf gives the row for a section; nil when there is none.
func (r *Rules) BesideOf(section string) *Beside {
	for i := range r.Beside {
		if matchSection(r.Beside[i].Section, section) {
			return &r.Beside[i]
		}
	}
	return nil
}

// Refused is a section whose new or changed contents a patch cannot carry, or a family of symbols in it.
type Refused struct {
	Section string
	Symbol  string // empty, a name, or a prefix when it ends in '*'
	Code    diag.Code
}

// Action says what becomes of a table's entries in a patch.
type Action uint8

// The actions.
const (
	Drop     Action = iota // the entry is not needed, or made anew later
	Carry                  // the entry travels with its function
	Constant               // the site is an instruction with a constant that the kernel fills in at boot: rewritten, or refused
)

// Format is a form of patch; it selects a column of the tables.
type Format uint8

// The forms.
const (
	FormatKlp    Format = iota // the kernel build's own intermediate (6.19 and later)
	FormatKpatch               // kpatch's intermediate
	FormatModule               // a finished module
)

// LineData names a line number in data: in data of Section whose symbol has the
// family Family and whose size is Size, the bits of Mask in the little-endian
// 32-bit word at Off, when the reference at File leads to the name of a source
// file. Empty and zero fields match everything; File may be NoField.
type LineData struct {
	Section string // a name, or a prefix when it ends in '*'
	Family  string
	Size    int
	Stride  int // the record repeats every so many bytes; 0: there is one
	File    int
	Off     int
	Mask    uint32
}

// Ignored names sections that take no part in verdicts: by name, or by prefix when it ends in '*'.
type Ignored struct {
	Section string
	Reason  string
}

// NoField says that a table's entries have no such field.
const NoField = -1

// Table is the row of one form of table section: entries of fixed size, each
// of which belongs to the function that its site field refers to. Field
// offsets count bytes from the start of an entry.
type Table struct {
	Section string    // the section's name, or a prefix when it ends in '*'
	Entry   int       // bytes of an entry
	Tail    int       // bytes that the last entry may be cut to; 0: none
	Refs    []int     // offsets at which an entry may have relocations; the row fits a section only if no other has one
	Site    int       // the reference that gives the owner: one of Refs
	Exclude string    // not empty: entries are not compared, for this reason ("derived from the code", ...)
	Emit    [3]Action // by Format

	SiteLen int // u8: bytes of code at the site, or NoField
	Body    int // reference to replacement code, or NoField
	BodyLen int // u8: bytes of replacement code

	Line     int // line number, or NoField
	LineSize int // bytes of it: 2 or 4
	Format   int // reference to a format string, or NoField
	File     int // reference to the name of a source file, or NoField; the row fits only where all entries have one
}

// LineArg is a consumer of line numbers in code: in a call of Callee, argument
// Arg is a source line when argument StringArg leads to the string that Via and
// Text ask for. Arguments are numbered 1 to 6 in the order of the System V ABI.
// Callee and register alone prove nothing: the same register carries real
// numbers to the same printers.
type LineArg struct {
	Callee    string
	Arg       int
	StringArg int
	Via       LineVia
	Text      string // the exact string, for ViaEntryFormat and ViaFormatArg
}

// LineVia says what the string argument of a LineArg must be.
type LineVia uint8

// The kinds of string arguments.
const (
	ViaEntryFormat LineVia = iota + 1 // the address of a table entry whose Format field refers to Text, and whose Line field holds the same number
	ViaFormatArg                      // Text itself: a format
	ViaFileArg                        // a source file's name, as __FILE__ gives it
	ViaFuncArg                        // the function's own name, as __func__ gives it
)
