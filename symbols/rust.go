package symbols

import "strings"

// mangled appends a component that starts with _R or _Z.
func (w *rewriter) mangled(i, j int) Flags {
	if w.name[i+1] == 'R' {
		if fl, ok := w.rustV0(i, j); ok {
			return fl | Rust
		}
		w.keep(i, j)
		return 0
	}
	if strings.HasPrefix(w.name[i:j], "_ZN") {
		if stem, last, end := legacyPath(w.name, i); end == j && stem < last {
			w.keep(i, stem)
			w.keep(end-1, end)
			return Rust | Hashed
		}
	}
	w.keep(i, j)
	return CXX
}

// legacyPath reads _ZN (<length> <identifier>)* E at name[i:], a name of the
// legacy Rust scheme or a C++ variable in a namespace. end is the offset behind
// the E, which must end the name or be followed by a dot; 0 if it is something
// else. Identifiers that are a hash (h and 16 hexadecimal digits) at the end of
// the path lie in [stem, last); there are none if stem == last. A path of
// nothing but hashes has no stem and is left alone.
func legacyPath(name string, i int) (stem, last, end int) {
	p := i + 3
	for p < len(name) && isDigit(name[p]) {
		n, q := 0, p
		for q < len(name) && isDigit(name[q]) && n < len(name) {
			n = n*10 + int(name[q]-'0')
			q++
		}
		if n == 0 || n > len(name)-q || name[p] == '0' {
			return 0, 0, 0
		}
		p = q + n
		id := name[q:p]
		if strings.Contains(id, "._ZN") {
			// Never seen in an identifier. Without this check a name made
			// of such nestings would be read once for each of them.
			return 0, 0, 0
		}
		if !(n == 17 && id[0] == 'h' && isHex(id[1:])) {
			stem = p
		}
	}
	if p == i+3 || p >= len(name) || name[p] != 'E' || p+1 < len(name) && name[p+1] != '.' {
		return 0, 0, 0
	}
	if stem == 0 {
		stem = p
	}
	return stem, p, p + 1
}

// legacyEnd returns where the component that starts with _ZN at name[i:] ends
// if dots do not end it, otherwise 0.
func legacyEnd(name string, i int) int {
	if _, _, end := legacyPath(name, i); end > 0 {
		return end
	}
	// A broken path that holds a hash is left alone up to its end, or dropping
	// numbers from its middle could make it a valid path by accident.
	s := name[i:]
	if k := strings.Index(s, "._ZN"); k >= 0 {
		s = s[:k]
	}
	for t := s; ; {
		k := strings.Index(t, "17h")
		if k < 0 || len(t) < k+20 {
			return 0
		}
		if t[k+19] == 'E' && isHex(t[k+3:k+19]) {
			return i + len(s)
		}
		t = t[k+3:]
	}
}

// The Rust v0 scheme compresses: B<n>_ refers back to byte n of the name. The
// disambiguators of crates are hashes of varying length, so dropping them moves
// the bytes that back references count. The name is therefore parsed by its
// grammar (The rustc book, "v0 Symbol Format"), and every back reference is
// rewritten to the offset its target has in the key. Back references are not
// followed: one pass over the bytes is enough to find the disambiguators.

// v0Depth bounds the recursion; real names stay below 30.
const v0Depth = 200

// maxV0 bounds the length of names that are parsed; offsets fit 32 bits.
const maxV0 = 1 << 24

// v0Event is a place where the key differs from the name: a disambiguator that
// is dropped (ref < 0) or a back reference. Offsets count from behind _R, as
// the references do; newEnd is where end lies in the key.
type v0Event struct{ start, end, ref, newRef, newEnd int32 }

type v0Parser struct {
	s     string
	p     int
	depth int
	fl    Flags
	n     int // events in room, unless over is used
	over  []v0Event
	room  [24]v0Event
}

func (v *v0Parser) event(e v0Event) {
	if v.over == nil {
		if v.n < len(v.room) {
			v.room[v.n] = e
			v.n++
			return
		}
		v.over = append(make([]v0Event, 0, 4*len(v.room)), v.room[:]...)
	}
	v.over = append(v.over, e)
}

func (v *v0Parser) events() []v0Event {
	if v.over != nil {
		return v.over
	}
	return v.room[:v.n]
}

func (w *rewriter) rustV0(i, j int) (Flags, bool) {
	s := w.name[i+2 : j]
	// $ starts a vendor suffix, as the dot does.
	if k := strings.IndexByte(s, '$'); k >= 0 {
		s = s[:k]
	}
	v := v0Parser{s: s}
	// A decimal number here would be the version of a later encoding.
	if s == "" || len(s) > maxV0 || isDigit(s[0]) || !v.path() {
		return 0, false
	}
	if v.p < len(s) && !v.path() { // the crate that instantiated a generic
		return 0, false
	}
	if v.p != len(s) || !v.place() {
		return 0, false
	}
	if v.fl == 0 { // nothing to drop, so nothing moves either
		w.keep(i, j)
		return 0, true
	}
	base, from := i+2, i
	events := v.events()
	for k := range events {
		e := &events[k]
		w.keep(from, base+int(e.start))
		if e.ref >= 0 {
			var b [16]byte
			w.lit(string(appendBackref(b[:0], e.newRef)))
		}
		from = base + int(e.end)
	}
	w.keep(from, j)
	return v.fl, true
}

// place computes where everything lies in the key. It fails if a back reference
// points into something that is dropped or at another reference's middle, which
// no compiler emits.
func (v *v0Parser) place() bool {
	var end, newEnd int32
	events := v.events()
	for k := range events {
		e := &events[k]
		e.newEnd = newEnd + e.start - end
		if e.ref >= 0 {
			lo, hi := 0, k // the first event that ends behind the target
			for lo < hi {
				m := (lo + hi) / 2
				if events[m].end <= e.ref {
					lo = m + 1
				} else {
					hi = m
				}
			}
			t := &events[lo]
			if t.start < e.ref || t.start == e.ref && t.ref < 0 {
				return false
			}
			e.newRef = e.ref
			if lo > 0 {
				e.newRef += events[lo-1].newEnd - events[lo-1].end
			}
			var b [16]byte
			e.newEnd += int32(len(appendBackref(b[:0], e.newRef)))
		}
		end, newEnd = e.end, e.newEnd
	}
	return true
}

// appendBackref appends B and n in base 62: 0 is _, n is the digits of n-1 and _.
func appendBackref(b []byte, n int32) []byte {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	b = append(b, 'B')
	if n > 0 {
		var t [12]byte
		i := len(t)
		for n--; ; n /= 62 {
			i--
			t[i] = digits[n%62]
			if n < 62 {
				break
			}
		}
		b = append(b, t[i:]...)
	}
	return append(b, '_')
}

func (v *v0Parser) peek() byte {
	if v.p < len(v.s) {
		return v.s[v.p]
	}
	return 0
}

func (v *v0Parser) eat(c byte) bool {
	if v.peek() != c { // c is never 0
		return false
	}
	v.p++
	return true
}

func (v *v0Parser) enter() bool { v.depth++; return v.depth <= v0Depth }
func (v *v0Parser) leave()      { v.depth-- }

// base62 reads a number; -1 if there is none or it is beyond any name.
func (v *v0Parser) base62() int {
	if v.eat('_') {
		return 0
	}
	n := 0
	for v.p < len(v.s) {
		c := v.s[v.p]
		v.p++
		switch {
		case c == '_':
			return n + 1
		case isDigit(c):
			n = n*62 + int(c-'0')
		case 'a' <= c && c <= 'z':
			n = n*62 + int(c-'a') + 10
		case 'A' <= c && c <= 'Z':
			n = n*62 + int(c-'A') + 36
		default:
			return -1
		}
		// The value of a hash does not matter, only that of references.
		n = min(n, 1<<40)
	}
	return -1
}

// disambiguator skips [s <base 62 number>] and notes it for dropping.
func (v *v0Parser) disambiguator(fl Flags) bool {
	start := v.p
	if !v.eat('s') {
		return true
	}
	if v.base62() < 0 {
		return false
	}
	v.event(v0Event{start: int32(start), end: int32(v.p), ref: -1})
	v.fl |= fl
	return true
}

func (v *v0Parser) backref() bool {
	start := v.p
	v.p++ // B
	ref := v.base62()
	if ref < 0 || ref >= start {
		return false
	}
	v.event(v0Event{start: int32(start), end: int32(v.p), ref: int32(ref)})
	return true
}

func (v *v0Parser) identifier(fl Flags) bool { return v.disambiguator(fl) && v.undisambiguated() }

// undisambiguated reads ["u"] <decimal> ["_"] <bytes>.
func (v *v0Parser) undisambiguated() bool {
	v.eat('u')
	if !isDigit(v.peek()) {
		return false
	}
	n := 0
	if !v.eat('0') {
		for isDigit(v.peek()) {
			n = min(n*10+int(v.peek()-'0'), 1<<40)
			v.p++
		}
	}
	v.eat('_')
	if n > len(v.s)-v.p {
		return false
	}
	v.p += n
	return true
}

func (v *v0Parser) path() bool {
	if !v.enter() {
		return false
	}
	defer v.leave()
	switch v.peek() {
	case 'C':
		v.p++
		return v.identifier(Hashed)
	case 'M':
		v.p++
		return v.disambiguator(Numbered) && v.path() && v.typ()
	case 'X':
		v.p++
		return v.disambiguator(Numbered) && v.path() && v.typ() && v.path()
	case 'Y':
		v.p++
		return v.typ() && v.path()
	case 'N':
		v.p++
		if c := v.peek() | 0x20; c < 'a' || c > 'z' {
			return false
		}
		v.p++
		return v.path() && v.identifier(Numbered)
	case 'I':
		v.p++
		if !v.path() {
			return false
		}
		for !v.eat('E') {
			if !v.genericArg() {
				return false
			}
		}
		return true
	case 'B':
		return v.backref()
	}
	return false
}

func (v *v0Parser) lifetime() bool { return v.eat('L') && v.base62() >= 0 }

func (v *v0Parser) genericArg() bool {
	switch v.peek() {
	case 'L':
		return v.lifetime()
	case 'K':
		v.p++
		return v.constant()
	}
	return v.typ()
}

func (v *v0Parser) typ() bool {
	if !v.enter() {
		return false
	}
	defer v.leave()
	c := v.peek()
	if 'a' <= c && c <= 'z' {
		if c == 'g' || c == 'k' || c == 'q' || c == 'r' || c == 'w' {
			return false
		}
		v.p++
		return true
	}
	switch c {
	case 'A':
		v.p++
		return v.typ() && v.constant()
	case 'S', 'P', 'O':
		v.p++
		return v.typ()
	case 'R', 'Q':
		v.p++
		if v.peek() == 'L' && !v.lifetime() {
			return false
		}
		return v.typ()
	case 'T':
		v.p++
		return v.list((*v0Parser).typ)
	case 'F':
		v.p++
		if !v.binder() {
			return false
		}
		v.eat('U')
		if v.eat('K') && !v.eat('C') && !v.undisambiguated() {
			return false
		}
		return v.list((*v0Parser).typ) && v.typ()
	case 'D':
		v.p++
		return v.binder() && v.list((*v0Parser).dynTrait) && v.lifetime()
	case 'W':
		v.p++
		return v.typ() && v.pattern()
	case 'B':
		return v.backref()
	}
	return v.path()
}

// list reads elements up to an E.
func (v *v0Parser) list(element func(*v0Parser) bool) bool {
	for !v.eat('E') {
		if !element(v) {
			return false
		}
	}
	return true
}

func (v *v0Parser) binder() bool { return !v.eat('G') || v.base62() >= 0 }

func (v *v0Parser) dynTrait() bool {
	if !v.path() {
		return false
	}
	for v.eat('p') {
		if !v.undisambiguated() {
			return false
		}
		if v.eat('K') {
			if !v.constant() {
				return false
			}
		} else if !v.typ() {
			return false
		}
	}
	return true
}

// pattern reads the pattern of a pattern type: a range or alternatives.
func (v *v0Parser) pattern() bool {
	if !v.enter() {
		return false
	}
	defer v.leave()
	switch {
	case v.eat('R'):
		if !v.constant() { // the first of two: lower and upper bound
			return false
		}
		return v.constant()
	case v.eat('O'):
		return v.list((*v0Parser).pattern)
	case v.eat('N'):
		return true
	}
	return false
}

func (v *v0Parser) constant() bool {
	if !v.enter() {
		return false
	}
	defer v.leave()
	c := v.peek()
	switch c {
	case 'B':
		return v.backref()
	case 'p':
		v.p++
		return true
	case 'R', 'Q':
		v.p++
		return v.constant()
	case 'A', 'T':
		v.p++
		return v.list((*v0Parser).constant)
	case 'V':
		v.p++
		if !v.path() {
			return false
		}
		switch {
		case v.eat('U'):
			return true
		case v.eat('T'):
			return v.list((*v0Parser).constant)
		case v.eat('S'):
			return v.list(func(v *v0Parser) bool { return v.identifier(Numbered) && v.constant() })
		}
		return false
	case 0:
		return false
	}
	// A basic type, then its value in hexadecimal: [n] <digits> _.
	if c < 'a' || c > 'z' || !v.typ() {
		return false
	}
	v.eat('n')
	for {
		c := v.peek()
		v.p++
		switch {
		case c == '_':
			return true
		case !isDigit(c) && (c < 'a' || c > 'f'):
			return false
		}
	}
}
