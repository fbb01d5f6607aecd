package livepatch_test

import (
	"fmt"
	"os"

	"github.com/kdelta/kdelta/pkg/livepatch"
)

// Load a patch, and say how it ended.
func ExampleSystem_Load() {
	data, err := os.ReadFile("livepatch-fix.ko")
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := livepatch.ReadModule("livepatch-fix.ko", data)
	if err != nil {
		fmt.Println(err)
		return
	}
	out, err := livepatch.Host("/sys", "/proc").Load(m, livepatch.Options{})
	fmt.Println(out.Result, out.State, out.Took, err)
	for _, t := range out.Blockers {
		fmt.Println("blocked by", t)
	}
}
