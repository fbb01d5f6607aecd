package verify_test

import (
	"context"
	"fmt"

	"github.com/kdelta/kdelta/pkg/object"
	"github.com/kdelta/kdelta/pkg/verify"
)

// A patch is proved against the pair of objects that it was made from. Without
// symbols of the kernel the level resolution is not reached, and the result says so.
func ExampleVerify() {
	w := example()
	r, err := verify.Verify(context.Background(), w.patch, w.pairs, verify.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range r.Levels {
		fmt.Printf("%v: %v %q\n", c.Level, c.Proved(), c.Why)
	}
	fmt.Println("refuted:", r.Refuted())

	// Against objects that it was not made from the same patch is refuted.
	w.pairs[0].Patched = w.pairs[0].Orig
	r, err = verify.Verify(context.Background(), w.patch, w.pairs, verify.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("refuted:", r.Refuted(), r.Findings[0].Code)
	// Output:
	// structure: true ""
	// resolution: false "no symbols of the kernel were given"
	// code: true ""
	// refuted: false
	// refuted: true verify-code
}

func example() *written {
	for _, w := range all() {
		if w.name == "const-code/gcc" {
			c := *w
			c.pairs = append([]verify.Pair(nil), w.pairs...)
			return &c
		}
	}
	return &written{patch: &object.File{}}
}
