package main

import (
	"context"
	"os"
	"testing"
)

func TestDiffering(t *testing.T) {
	var data [2][]byte
	for i, side := range []string{"ORIG", "PATCHED"} {
		var err error
		if data[i], err = os.ReadFile("../../testdata/cases/string-changed/gcc." + side + ".o"); err != nil {
			t.Fatal(err)
		}
	}
	fs, err := differing(context.Background(), data[0], data[1])
	if err != nil || len(fs) != 1 || fs[0].Name != "says" {
		t.Errorf("%v, %v", fs, err)
	}
	if _, err := differing(context.Background(), data[0], data[1][:100]); err == nil {
		t.Error("half an object is no error")
	}
}
