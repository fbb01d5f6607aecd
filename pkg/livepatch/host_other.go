//go:build !linux

package livepatch

import (
	"os"
	"time"
)

// Host is a recorded system, with /sys and /proc at the given places. Nothing can be changed.
func Host(sys, proc string) *System {
	return &System{Sys: os.DirFS(sys), Proc: os.DirFS(proc), Clock: clock{}}
}

// Privileged reports whether this process may change the kernel.
func Privileged() bool { return false }

type clock struct{}

func (clock) Now() time.Time        { return time.Now() }
func (clock) Sleep(d time.Duration) { time.Sleep(d) }
