package symbols

import (
	"strings"

	"github.com/ianlancetaylor/demangle"
)

const (
	// maxMangled is the length in bytes beyond which a name is not
	// demangled. Real names end far below it; the parsers recurse once for
	// every nested construct, so their stack is bounded by it.
	maxMangled = 4096
	// maxDemangled is the exponent of two of the longest result: substitutions
	// can make it exponentially longer than the name.
	maxDemangled = 14
)

// Demangle returns the human-readable form of a C++ (Itanium ABI), Rust v0 or
// legacy Rust name, and the name itself if it is not mangled, does not parse or
// is longer than 4096 bytes. What compilers and tools put around the mangled
// name stays as it is: suffixes such as .cold or .llvm.123, which always start
// with a dot, and prefixes such as __pfx_. Results are cut at 16 KiB.
//
// The result is for people. Different symbols may share it, so it must never be
// used as a key.
func Demangle(name string) string {
	body := 0
	if !mayBeMangled(name) {
		if !strings.HasPrefix(name, "__") {
			return name
		}
		if body, _, _ = unwrap(name); !mayBeMangled(name[body:]) {
			return name
		}
	}
	if len(name) > maxMangled {
		return name
	}
	end := componentEnd(name, body)
	s, ok := demangled(name[body:end])
	if !ok {
		return name
	}
	return name[:body] + s + name[end:]
}

func mayBeMangled(s string) bool {
	return len(s) > 2 && s[0] == '_' && (s[1] == 'R' || s[1] == 'Z')
}

// demangled calls the demangler. A panic of it is taken as a refusal: showing a
// name must never be what stops a report about a kernel.
func demangled(name string) (s string, ok bool) {
	defer func() {
		if recover() != nil {
			s, ok = "", false
		}
	}()
	s, err := demangle.ToString(name, demangle.MaxLength(maxDemangled))
	return s, err == nil && s != ""
}
