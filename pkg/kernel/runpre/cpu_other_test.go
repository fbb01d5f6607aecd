//go:build !unix

package runpre

func cpu() float64 { return 0 }
