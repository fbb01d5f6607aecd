//go:build unix

package main

import (
	"errors"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// run runs the commands and adds up what they took. An exit code is a verdict, not a failure; a signal is one.
func (p *program) run() (cost, error) {
	var sum cost
	if p.prepare != nil {
		if err := p.prepare(); err != nil {
			return sum, err
		}
	}
	for _, argv := range p.cmds {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Dir = p.dir
		start := time.Now()
		err := cmd.Run()
		if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || !exit.Exited()) {
			return sum, err
		}
		if code := cmd.ProcessState.ExitCode(); code != 0 {
			sum.exit = code
		}
		sum.wall += time.Since(start)
		sum.cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
			mem := int64(u.Maxrss)
			if runtime.GOOS != "darwin" { // which counts bytes
				mem *= 1024
			}
			sum.mem = max(sum.mem, mem)
		}
	}
	return sum, nil
}
