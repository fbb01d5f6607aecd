// Package e2e holds tests of programs of this module from the outside, with real
// kernels. They skip where kernels, compilers or QEMU are missing.
package e2e
