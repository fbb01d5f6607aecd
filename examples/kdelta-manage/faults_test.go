//go:build linux

package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kdelta/kdelta/examples/internal/clitest"
	"github.com/kdelta/kdelta/pkg/livepatch"
)

func TestMain(m *testing.M) { clitest.Main(m, main) }

// install gives the arguments that install a file into the machine.
func (m *machine) install(file string) []string {
	return []string{"install", file, "--store", filepath.Join(m.dir, "store"), "--unit-dir", filepath.Join(m.dir, "units")}
}

// An installation onto a disk that is full or read-only is refused, and what was installed stays.
func TestFaultsInstall(t *testing.T) {
	m := newMachine(t, "6.1-idle")
	disk := filepath.Join(m.dir, "store")
	require.NoError(t, os.Mkdir(disk, 0o755))
	clitest.Disk(t, disk)
	code, _, errs := m.do("install", m.module("first", release, false, "cmdline_proc_show"))
	require.Equal(t, 0, code, errs)
	was := clitest.Files(t, disk)
	order := m.read("store/" + release + "/order")

	filler := clitest.Fill(t, disk)
	second := m.module("second", release, false, "cmdline_proc_show")
	code, _, errs = m.do("install", second)
	require.NotEqual(t, 0, code)
	require.Contains(t, errs, "no space left on device")
	require.ElementsMatch(t, append(slices.Clone(was), filepath.Base(filler)), clitest.Files(t, disk))
	require.Equal(t, order, m.read("store/"+release+"/order"))

	require.NoError(t, os.Remove(filler))
	clitest.ReadOnly(t, disk)
	for _, args := range [][]string{{"install", second}, {"remove", "first"}} {
		code, _, errs = m.do(args...)
		require.NotEqual(t, 0, code)
		require.Contains(t, errs, "read-only file system")
	}
	require.Equal(t, was, clitest.Files(t, disk))
	code, _, errs = m.do("load", "--installed")
	require.Equal(t, 0, code, errs)
	require.Equal(t, []string{"load first"}, m.ops)
}

// Where the systemd unit cannot be written nothing is installed.
func TestFaultsUnit(t *testing.T) {
	m := newMachine(t, "6.1-idle")
	units := filepath.Join(m.dir, "units")
	require.NoError(t, os.Mkdir(units, 0o755))
	clitest.Disk(t, units)
	file := m.module("first", release, false, "cmdline_proc_show")
	refused := func(says string, left ...string) {
		code, _, errs := m.do("install", file)
		require.Equal(t, exitRefused, code)
		require.Contains(t, errs, says)
		require.Empty(t, clitest.Files(t, filepath.Join(m.dir, "store")))
		require.Equal(t, left, clitest.Files(t, units))
	}
	filler := clitest.Fill(t, units)
	refused("no space left on device", filepath.Base(filler))
	require.NoError(t, os.Remove(filler))
	require.NoError(t, os.WriteFile(filepath.Join(units, "multi-user.target.wants"), nil, 0o600))
	refused("not a directory", "multi-user.target.wants")
	clitest.ReadOnly(t, units)
	refused("read-only file system", "multi-user.target.wants")
}

// A module file that is cut short, empty or a directory is never loaded or installed.
func TestFaultsModule(t *testing.T) {
	m := newMachine(t, "6.1-idle")
	file := m.module("cut", release, false, "cmdline_proc_show")
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	for _, n := range []int{0, 1, 63, len(data) / 3, len(data) - 100} {
		require.NoError(t, os.WriteFile(file, data[:n], 0o600))
		for _, what := range []string{"check", "load", "install"} {
			code, _, errs := m.do(what, file)
			require.NotEqual(t, 0, code, "%s of %d bytes", what, n)
			require.NotEmpty(t, errs)
		}
	}
	code, _, _ := m.do("install", m.dir)
	require.NotEqual(t, 0, code)
	require.Empty(t, m.ops)
	require.Empty(t, clitest.Files(t, filepath.Join(m.dir, "store")))
}

// A signal at any time leaves a store from which nothing is loaded, or all of the module; the next run finishes the work.
func TestFaultsInterrupt(t *testing.T) {
	m := newMachine(t, "6.1-idle")
	file := m.module("big", release, false, "cmdline_proc_show")
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	data = append(data, make([]byte, 4<<20)...) // nothing says that an ELF file ends with its sections
	require.NoError(t, os.WriteFile(file, data, 0o600))
	installed := filepath.Join(m.dir, "store", release, "big.ko")
	n := 24
	if testing.Short() {
		n = 8
	}
	clitest.Interrupt(t, n, 0, func() *exec.Cmd {
		require.NoError(t, os.RemoveAll(filepath.Join(m.dir, "store")))
		require.NoError(t, os.RemoveAll(filepath.Join(m.dir, "units")))
		return clitest.Program(t, m.install(file)...)
	}, func(code int) {
		clitest.Files(t, m.dir)
		got, err := os.ReadFile(installed)
		if err == nil {
			require.True(t, bytes.Equal(data, got), "a part of the module")
		} else {
			require.ErrorIs(t, err, fs.ErrNotExist)
			require.NotZero(t, code)
		}
		again, _, errs := m.do("install", file)
		require.Zero(t, again, errs)
		got, err = os.ReadFile(installed)
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got))
		require.FileExists(t, filepath.Join(m.dir, "units", "multi-user.target.wants", livepatch.UnitName))
	})
}

// The store goes away, or becomes a file, while install stands between reading it and writing into it.
func TestFaultsVanish(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault func(dir string) error
		says  string
		left  []string
	}{
		{"gone", os.RemoveAll, "no such file or directory", nil},
		{"a file", func(dir string) error {
			return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600))
		}, "not a directory", []string{release}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t, "6.1-idle")
			dir := filepath.Join(m.dir, "store", release)
			require.NoError(t, os.MkdirAll(dir, 0o755))
			order := filepath.Join(dir, "order")
			if err := syscall.Mkfifo(order, 0o600); err != nil {
				t.Skip(err)
			}
			cmd := clitest.Program(t, m.install(m.module("p", release, false, "cmdline_proc_show"))...)
			var errs bytes.Buffer
			cmd.Stderr = &errs
			require.NoError(t, cmd.Start())
			w, err := os.OpenFile(order, os.O_WRONLY, 0) // waits until the program reads it
			require.NoError(t, err)
			require.NoError(t, c.fault(dir))
			require.NoError(t, w.Close())
			require.Equal(t, exitRefused, clitest.ExitCode(t, cmd.Wait()))
			require.Contains(t, errs.String(), c.says)
			require.Equal(t, c.left, clitest.Files(t, filepath.Join(m.dir, "store")))
			require.Empty(t, clitest.Files(t, filepath.Join(m.dir, "units")))
		})
	}
}

// Nobody reads standard output any more: the exit code says so, and what was done is whole.
func TestFaultsStdout(t *testing.T) {
	m := newMachine(t, "6.1-idle")
	file := m.module("p", release, false, "cmdline_proc_show")
	sys := []string{"--sysfs", filepath.Join(m.dir, "sys"), "--proc", filepath.Join(m.dir, "proc")}
	for _, args := range [][]string{
		{"help"}, {"schema"},
		append([]string{"check", file}, sys...), append([]string{"status", "--json"}, sys...), append([]string{"load", "--dry-run", file}, sys...),
		m.install(file), append(m.install(file), "--json"),
	} {
		require.NotZero(t, clitest.Unread(t, clitest.Program(t, args...)), args)
	}
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(data), m.read("store/"+release+"/p.ko"))
}
