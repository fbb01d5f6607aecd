package reloc

import "debug/elf"

// Under says what [Apply] does about bytes that are already in the field.
type Under uint8

const (
	// MustBeZero refuses fields that are not zero, as the kernel's module
	// loader does: something under a relocation is either an implicit
	// addend, which x86-64 does not have, or a second relocation.
	MustBeZero Under = iota
	// Overwrite does not look.
	Overwrite
)

// Value returns what the psABI writes into a field of type t: s+a or s+a-p, s
// being the value of the symbol and p the address of the field. Sums are
// modulo 2^64, as addresses are. For class PLT s takes the place of L, which is
// what linkers do for symbols that are defined and what the kernel always does.
// R_X86_64_NONE has the value 0.
//
// It is an error if the value does not fit. (The kernel's module loader checks
// only R_X86_64_32 and R_X86_64_32S and cuts PC-relative values silently.)
// Types of other classes than None, Absolute, PCRelative and PLT are refused.
func Value(t elf.R_X86_64, s uint64, a int64, p uint64) (uint64, error) {
	v, _, err := value(t, s, a, p)
	return v, err
}

func value(t elf.R_X86_64, s uint64, a int64, p uint64) (uint64, Info, error) {
	i, err := computable(t, p, a)
	if err != nil || i.Size == 0 {
		return 0, i, err
	}
	v := s + uint64(a)
	if i.PCRel {
		v -= p
	}
	if !i.Fits(v) {
		return 0, i, &Error{Overflow, t, p, int64(v)}
	}
	return v, i, nil
}

// computable refuses types that need more than s, a and p.
func computable(t elf.R_X86_64, p uint64, a int64) (Info, error) {
	i, ok := Lookup(t)
	if !ok {
		return i, &Error{Unknown, t, p, a}
	}
	switch i.Class {
	case None, Absolute, PCRelative:
		return i, nil
	case PLT:
		if i.PCRel { // PLTOFF64 is relative to the GOT
			return i, nil
		}
	}
	return i, &Error{Unsupported, t, p, a}
}

// Fits reports whether v can be stored in the field so that extending the field
// in the way of i.Check gives v again.
func (i Info) Fits(v uint64) bool {
	if i.Check == Wrap {
		return true
	}
	n := 8 * uint(i.Size)
	signed := uint64(int64(v<<(64-n))>>(64-n)) == v
	unsigned := v>>n == 0
	switch i.Check {
	case Signed:
		return signed
	case Unsigned:
		return unsigned
	}
	return signed || unsigned
}

// Apply writes [Value] into field, which starts at the relocated byte and may
// be longer than the relocation needs. It writes nothing if it returns an error.
func Apply(field []byte, t elf.R_X86_64, s uint64, a int64, p uint64, u Under) error {
	v, i, err := value(t, s, a, p)
	if err != nil {
		return err
	}
	if len(field) < int(i.Size) {
		return &Error{Short, t, p, int64(len(field))}
	}
	field = field[:i.Size]
	if u == MustBeZero {
		if old := load(field); old != 0 {
			return &Error{Occupied, t, p, int64(old)}
		}
	}
	// Byte by byte: the field is little-endian on every host.
	for k := range field {
		field[k] = byte(v >> (8 * k))
	}
	return nil
}

// Target is the inverse of [Apply]: it reads a field that has been relocated and
// returns s+a. For types narrower than an address the field is extended in
// the way of [Info.Check]; [Either] counts as signed.
// It is meant for comparing running code with an object.
// R_X86_64_NONE has no target and is refused.
func Target(field []byte, t elf.R_X86_64, p uint64) (uint64, error) {
	i, err := computable(t, p, 0)
	if err != nil {
		return 0, err
	}
	if i.Size == 0 {
		return 0, &Error{Unsupported, t, p, 0}
	}
	if len(field) < int(i.Size) {
		return 0, &Error{Short, t, p, int64(len(field))}
	}
	v := load(field[:i.Size])
	if n := 8 * uint(i.Size); i.Check == Signed || i.Check == Either {
		v = uint64(int64(v<<(64-n)) >> (64 - n))
	}
	if i.PCRel {
		v += p
	}
	return v, nil
}

// load reads up to 8 bytes, little-endian.
func load(b []byte) (v uint64) {
	for k := range b {
		v |= uint64(b[k]) << (8 * k)
	}
	return v
}
