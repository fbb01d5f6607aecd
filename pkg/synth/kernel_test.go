package synth_test

import (
	"debug/elf"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kdelta/kdelta/pkg/kernel/image"
	"github.com/kdelta/kdelta/pkg/kernel/runpre"
	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/pkg/synth"
)

// The reader of kernels takes it for one, with what a livepatch asks of it, and with the object in it.
func TestKernel(t *testing.T) {
	data, err := os.ReadFile("../../testdata/cases/call-target/gcc.ORIG.o")
	require.NoError(t, err)
	f, err := object.Parse(data, object.Options{Name: "x.o"})
	require.NoError(t, err)
	data, err = synth.Kernel(f)
	require.NoError(t, err)
	k, err := image.Parse(data, image.Options{Name: "vmlinux"})
	require.NoError(t, err)
	require.Equal(t, synth.Release, k.Release)
	require.Contains(t, k.Vermagic, synth.Release+" SMP")
	require.True(t, k.HasModversions())
	require.True(t, k.ReturnThunk())
	require.Equal(t, image.ORCTypeSignal, k.ORC())
	_, err = k.KlpLayout()
	require.NoError(t, err)
	for i := range f.Symbols {
		s := &f.Symbols[i]
		switch {
		case s.Name == "":
		case s.Undefined():
			_, ok := k.Export(s.Name)
			require.True(t, ok, s.Name)
		case s.Sec != 0:
			at, ok := k.Addr(s.Name)
			require.True(t, ok, s.Name)
			require.Equal(t, s.Type() == elf.STT_FUNC, k.Ftrace(at), s.Name)
		}
	}
	r, err := runpre.Check(f, k)
	require.NoError(t, err)
	require.Empty(t, r.Diagnostics)
	require.NotZero(t, r.Count(runpre.Exact))
}
