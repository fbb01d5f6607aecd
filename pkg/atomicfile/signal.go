package atomicfile

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// writing is held by every Write, in common.
var writing sync.RWMutex

// ExitOnSignal makes the program end on SIGINT, SIGTERM and SIGHUP with the exit
// code that shells give, 128 and the signal's number, but not in the middle of a
// Write, which is finished before. A second signal does not wait, for a pipe that nobody
// reads, say. Signals that are ignored stay so (nohup, background jobs). It is for
// the main function.
func ExitOnSignal() {
	c := make(chan os.Signal, 2)
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			signal.Notify(c, s)
		}
	}
	go func() {
		code := codeOf(<-c)
		go func() {
			<-c
			os.Exit(code)
		}()
		writing.Lock()
		os.Exit(code)
	}()
}

func codeOf(s os.Signal) int {
	if n, ok := s.(syscall.Signal); ok {
		return 128 + int(n)
	}
	return 1
}
