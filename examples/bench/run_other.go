//go:build !unix

package main

import "errors"

func (p *program) run() (cost, error) {
	return cost{}, errors.New("what a process used is known on Unix only")
}
