package main

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/kdelta/kdelta/pkg/diag"
)

// tools starts other programs and accounts for their time.
type tools struct {
	mu  sync.Mutex
	cpu map[string]float64 // s, by kind
}

// Kinds of programs.
const (
	toolCompiler = "compiler"
	toolMake     = "make"
	toolObjtool  = "objtool"
	toolPackages = "packages" // apt, dpkg-deb, tar with its decompressor
)

// run starts a program and waits. The output counts also where it fails: what make -k
// says is of use then. The error is a diagnostic with the end of what it said.
func (t *tools) run(ctx context.Context, kind, dir, name string, args ...string) (stdout, stderr string, err error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), "LC_ALL=C", "SOURCE_DATE_EPOCH=0")
	endTogether(cmd)
	cmd.WaitDelay = 10 * time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if s := cmd.ProcessState; s != nil {
		t.mu.Lock()
		t.cpu[kind] += (s.UserTime() + s.SystemTime()).Seconds()
		t.mu.Unlock()
	}
	switch {
	case err == nil:
	case ctx.Err() != nil:
		err = ctx.Err()
	case errors.Is(err, exec.ErrNotFound):
		err = failure(codeTool, diag.Place{}, "Install it: "+installs(filepath.Base(name))+".", "there is no program %s", name)
	default:
		d := failure(codeTool, diag.Place{}, "", "%s: %v", filepath.Base(name), err)
		d.Chain = tail(errs.String(), 12)
		err = d
	}
	return out.String(), errs.String(), err
}

// installs gives the command that brings a program.
func installs(program string) string {
	pkg := program
	switch {
	case strings.HasPrefix(program, "x86_64-linux-gnu-"):
		pkg = strings.TrimPrefix(program, "x86_64-linux-gnu-")
	case strings.HasPrefix(program, "apt-"):
		pkg = "apt"
	case program == "dpkg-deb":
		pkg = "dpkg"
	}
	return "apt-get install " + pkg
}

func tail(text string, n int) []string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	if len(lines) == 1 && lines[0] == "" {
		return nil
	}
	return lines
}

// take gives the time of programs since it was last called.
func (t *tools) take() map[string]float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := t.cpu
	t.cpu = make(map[string]float64)
	return out
}
