//go:build linux

package livepatch

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Host is the system that this program runs on, with /sys and /proc at the given
// places. With other places than the real ones it is a recorded system, and nothing can be changed.
func Host(sys, proc string) *System {
	s := &System{Sys: os.DirFS(sys), Proc: os.DirFS(proc), Clock: clock{}}
	if filepath.Clean(sys) == "/sys" && filepath.Clean(proc) == "/proc" {
		s.Control = control{}
	}
	return s
}

// Privileged reports whether this process may change the kernel (CAP_SYS_MODULE).
func Privileged() bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return false
	}
	return data[unix.CAP_SYS_MODULE/32].Effective>>(unix.CAP_SYS_MODULE%32)&1 != 0
}

type clock struct{}

func (clock) Now() time.Time        { return time.Now() }
func (clock) Sleep(d time.Duration) { time.Sleep(d) }

type control struct{}

func (control) LoadModule(m *Module) error {
	// Some policies (LoadPin, IMA) go by the file; it has to be the one that was checked.
	if f, err := os.Open(m.File); err == nil {
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, int64(len(m.Data))+1))
		if err == nil && bytes.Equal(data, m.Data) {
			return unix.FinitModule(int(f.Fd()), "", 0)
		}
	}
	return unix.InitModule(m.Data, "")
}

func (control) UnloadModule(name string) error { return unix.DeleteModule(name, unix.O_NONBLOCK) }

func (control) WriteSys(name, value string) error {
	f, err := os.OpenFile(filepath.Join("/sys", filepath.FromSlash(name)), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

func (control) Kill(pid int, sig syscall.Signal) error { return unix.Kill(pid, sig) }

// KernelLog reads /dev/kmsg (Documentation/ABI/testing/dev-kmsg), a record at a time.
func (control) KernelLog() func() []string {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return func() []string { return nil }
	}
	if _, err := unix.Seek(fd, 0, io.SeekEnd); err != nil {
		unix.Close(fd)
		return func() []string { return nil }
	}
	return func() []string {
		defer unix.Close(fd)
		var out []string
		buf := make([]byte, 8192)
		for len(out) < 1000 {
			n, err := unix.Read(fd, buf)
			if err == unix.EPIPE { // records were overwritten; the next read goes on
				continue
			}
			if err != nil || n <= 0 {
				break
			}
			if line, ok := logRecord(string(buf[:n])); ok {
				out = append(out, line)
			}
		}
		return out
	}
}

// logRecord gives the message of a record of /dev/kmsg: "PRIORITY,...;MESSAGE\n KEY=VALUE\n".
func logRecord(s string) (string, bool) {
	_, msg, ok := strings.Cut(s, ";")
	msg, _, _ = strings.Cut(msg, "\n")
	return msg, ok && msg != ""
}
