package main

import (
	"os"
	"syscall"
)

// mapFile maps a file for reading, until unmapFile or the end of the program; nil when that cannot be done.
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

// unmapFile gives back what mapFile gave; other slices are left alone.
func unmapFile(data []byte) {
	if len(data) >= mapFrom {
		_ = syscall.Munmap(data) // knows what it has mapped
	}
}
