package verify

import (
	"strings"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
)

// call is a callback of a kernel object.
type call struct {
	object string
	kind   klp.CallbackKind
}

// callbacks checks that the livepatch core calls what the macros of the patched
// objects name, and nothing else.
func (p *prover) callbacks() {
	type want struct {
		pr *pair
		at site
	}
	wants := map[call]want{}
	for _, pr := range p.pairs {
		p.asked(pr, func(k klp.CallbackKind, at site) { wants[call{pr.Object, k}] = want{pr, at} })
	}
	seen := map[call]bool{}
	for _, c := range p.klp.Callbacks {
		k := call{c.Object, c.Kind}
		name := p.p.f.SymName(c.Func)
		w, ok := wants[k]
		s := &p.p.f.Symbols[c.Func]
		fn := site{s.Sec, s.Value}
		if own, ok := p.takers[c.Func]; ok {
			if own == (site{}) {
				continue // a callback of the module's own, and none of the objects'
			}
			fn = own
		}
		switch {
		case seen[k]:
			p.failSym(diag.VerifyCallback, name, "is a second %s callback of %s", c.Kind, c.Object)
		case !ok:
			p.failSym(diag.VerifyCallback, name, "is the %s callback of %s, for which the patched objects have none", c.Kind, c.Object)
		default:
			p.count("callbacks", 1)
			if at, ok := w.pr.at[w.at]; !ok || at != fn {
				p.failSym(diag.VerifyCallback, name, "is the %s callback of %s, want %s", c.Kind, c.Object, w.pr.q.where(w.at.sec, int64(w.at.off)))
			}
		}
		seen[k] = true
	}
	for _, pr := range p.pairs {
		p.asked(pr, func(k klp.CallbackKind, at site) {
			if c := (call{pr.Object, k}); !seen[c] {
				seen[c] = true
				p.failSym(diag.VerifyCallback, pr.q.where(at.sec, int64(at.off)), "is the %s callback of %s, and the patch does not say so", k, pr.Object)
			}
		})
	}
	if p.klp.Kpatch != nil {
		p.forced()
	}
}

// asked gives the callbacks that the macros of a patched object name.
func (p *prover) asked(pr *pair, each func(k klp.CallbackKind, at site)) {
	q := pr.q
	for i := 1; i < len(q.f.Sections); i++ {
		sec := object.SecID(i)
		word, kpatch := strings.CutPrefix(q.f.Sections[i].Name, klp.KpatchCallbacksSection)
		if !kpatch && q.f.Sections[i].Name != klp.SecCallbacks {
			continue
		}
		kind, known := klp.ParseCallbackKind(word)
		if kpatch && !known {
			continue
		}
		for _, r := range q.relocs(sec) {
			s := &q.f.Symbols[r.sym]
			if s.Sec == 0 {
				continue
			}
			if !kpatch {
				sp := q.spanAt(sec, r.off)
				if sp.sym == 0 {
					continue
				}
				word, object, _ := strings.Cut(strings.TrimPrefix(q.f.Symbols[sp.sym].Name, "__klp_"), "_callback_")
				if kind, known = klp.ParseCallbackKind(word); !known || object != pr.Object {
					continue
				}
			}
			each(kind, site{s.Sec, s.Value + uint64(r.addend)})
		}
	}
}

// forced checks that .kpatch.force names what the macros of the patched objects name.
func (p *prover) forced() {
	wants := map[site]bool{}
	for _, pr := range p.pairs {
		for i := 1; i < len(pr.q.f.Sections); i++ {
			if pr.q.f.Sections[i].Name != klp.KpatchForceSection {
				continue
			}
			for _, r := range pr.q.relocs(object.SecID(i)) {
				if s := &pr.q.f.Symbols[r.sym]; s.Sec != 0 {
					if at, ok := pr.at[site{s.Sec, s.Value + uint64(r.addend)}]; ok {
						wants[at] = true
					}
				}
			}
		}
	}
	for _, fn := range p.klp.Kpatch.Force {
		if s := &p.p.f.Symbols[fn]; !wants[site{s.Sec, s.Value}] {
			p.failSym(diag.VerifyCallback, s.Name, "is forced, and no KPATCH_FORCE_UNSAFE of the patched objects names it")
		}
	}
}
