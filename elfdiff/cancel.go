package elfdiff

import "context"

// poller looks at a context every thousand steps or so. The loops of a phase are many
// and nested, down to the comparisons of a sort; rather than hand an error up through
// all of them, step leaves by a panic that the phase's function turns into its error.
type poller struct {
	ctx context.Context
	n   uint32
}

type cancelled struct{ err error }

// step counts a step of about a microsecond. A nil poller never ends anything.
func (p *poller) step() {
	if p == nil {
		return
	}
	if p.n++; p.n&1023 == 0 {
		p.look()
	}
}

func (p *poller) look() {
	if err := p.ctx.Err(); err != nil {
		panic(cancelled{err})
	}
}

// catch, deferred, sets err when the function was left by step.
func catch(err *error) {
	switch r := recover().(type) {
	case nil:
	case cancelled:
		*err = r.err
	default:
		panic(r)
	}
}
