//go:build !unix

package image

func cpu() float64 { return 0 }
