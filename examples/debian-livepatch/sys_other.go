//go:build !unix

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"time"
)

func endTogether(*exec.Cmd) {}

func ownCPU() time.Duration { return 0 }

func lockFile(context.Context, *os.File, func()) error {
	return errors.New("locking a file works on Unix only")
}
