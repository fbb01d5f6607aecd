package main

import (
	"os"
	"syscall"
)

// mapFile maps a file for reading until the program ends; nil when that cannot be done.
func mapFile(f *os.File, size int64) []byte {
	if size != int64(int(size)) {
		return nil
	}
	data, err := syscall.Mmap(int(f.Fd()), 0, int(size), syscall.PROT_READ, syscall.MAP_PRIVATE)
	if err != nil {
		return nil
	}
	return data
}
