package atomicfile

import (
	"context"
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
func ExitOnSignal() { go exit(signals()) }

// CancelOnSignal gives a context that ends on the first of these signals, for
// programs that have something to undo then. The signals after it end the program as those of
// ExitOnSignal do. It is for the main function.
func CancelOnSignal() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	c := signals()
	go func() {
		<-c
		cancel()
		exit(c)
	}()
	return ctx
}

func signals() <-chan os.Signal {
	c := make(chan os.Signal, 2)
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			signal.Notify(c, s)
		}
	}
	return c
}

func exit(c <-chan os.Signal) {
	code := codeOf(<-c)
	go func() {
		<-c
		os.Exit(code)
	}()
	writing.Lock()
	os.Exit(code)
}

func codeOf(s os.Signal) int {
	if n, ok := s.(syscall.Signal); ok {
		return 128 + int(n)
	}
	return 1
}
