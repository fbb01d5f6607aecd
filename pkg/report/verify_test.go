package report

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/verify"
)

func someProof() *Verify {
	return &Verify{
		Patch: "p\x1b.o",
		Result: &verify.Result{Format: verify.Kpatch, Levels: [3]verify.Coverage{
			{Level: verify.Structure, Reached: true, Counts: []verify.Count{{What: "relocations", N: 9}}},
			{Level: verify.Resolution, Why: "no symbols of the kernel were given"},
			{Level: verify.Code, Reached: true, Errors: 2},
		}},
		Diagnostics: []diag.Diagnostic{diag.New(diag.VerifyCode, diag.Place{File: "p.o", Section: ".text.f"}.At(7), "0x01, want 0x02")},
	}
}

func TestVerifySchema(t *testing.T) {
	v := newValidatorOf(t, SchemaOfVerify())
	for _, p := range []*Verify{someProof(), {}, {Patch: "x"}} {
		if err := v.document(render(t, func(b *bytes.Buffer) error { return p.WriteJSON(b) })); err != nil {
			t.Error(err)
		}
	}
	for f := verify.Intermediate; f <= verify.Final; f++ {
		p := someProof()
		p.Result.Format = f
		if err := v.document(render(t, func(b *bytes.Buffer) error { return p.WriteJSON(b) })); err != nil {
			t.Error(err)
		}
	}
	good := string(render(t, func(b *bytes.Buffer) error { return someProof().WriteJSON(b) }))
	for _, c := range [][2]string{{"kdelta.verify/v1", "kdelta.verify/v2"}, {`"proved"`, `"true"`}, {`"kpatch"`, `"upatch"`}, {`"errors":2`, `"errors":-2`}, {`"why"`, `"because"`}, {`"severity":"error"`, `"severity":"fatal"`}} {
		if bad := strings.Replace(good, c[0], c[1], 1); bad == good || v.document([]byte(bad)) == nil {
			t.Errorf("%s for %s is accepted, or not in\n%s", c[1], c[0], good)
		}
	}
}

func TestVerifyText(t *testing.T) {
	p := someProof()
	const want = "p\\x1b.o: form kpatch\nstructure   proved\nresolution  not reached: no symbols of the kernel were given\ncode        refuted (2)\n"
	if got := string(render(t, func(b *bytes.Buffer) error { return p.WriteText(b) })); got != want {
		t.Errorf("%q", got)
	}
	p.All = true
	if got := string(render(t, func(b *bytes.Buffer) error { return p.WriteText(b) })); !strings.Contains(got, "                  9 relocations\n") {
		t.Errorf("%s", got)
	}
	if err := p.WriteText(closed{}); !errors.Is(err, errClosed) {
		t.Error(err)
	}
	if err := p.WriteJSON(closed{}); !errors.Is(err, errClosed) {
		t.Error(err)
	}
}
