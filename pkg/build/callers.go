package build

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/kernel/image"
)

// callers adds to each refusal of a function that the kernel cannot redirect which
// functions of the whole kernel call it and can be redirected: those of the object
// alone are rarely all. A call is seen by its bytes, so the list is a hint.
func callers(ds []diag.Diagnostic, k *image.Kernel) {
	const most = 8
	wanted := make(map[uint64]int) // address: index into ds
	for i := range ds {
		if all := k.Find(ds[i].Place.Symbol); ds[i].Code == diag.NoFtraceEntry && len(all) == 1 {
			wanted[k.Symbols[all[0]].Addr] = i
		}
	}
	if len(wanted) == 0 {
		return
	}
	names := make(map[int][]string)
	seen := make(map[[2]uint64]bool)
	for i := range k.Sections {
		s := &k.Sections[i]
		if !s.Exec() || strings.HasPrefix(s.Name, ".init") {
			continue
		}
		for off := 0; off+5 <= len(s.Data); off++ {
			if s.Data[off]&^1 != 0xe8 {
				continue
			}
			at := s.Addr + uint64(off)
			to := at + 5 + uint64(int64(int32(binary.LittleEndian.Uint32(s.Data[off+1:]))))
			which, ok := wanted[to]
			if !ok {
				continue
			}
			n := k.Nearest(at)
			if n < 0 {
				continue
			}
			from := k.Symbols[n].Addr
			if key := [2]uint64{to, from}; seen[key] || !k.Ftrace(from) {
				continue
			} else {
				seen[key] = true
			}
			lo, _ := k.SymbolsAt(from)
			names[which] = append(names[which], k.Symbols[lo].Name)
		}
	}
	for which, l := range names {
		more := ""
		if len(l) > most {
			more = fmt.Sprintf(" and %d more", len(l)-most)
			l = l[:most]
		}
		ds[which].Message += fmt.Sprintf("; in the whole kernel: %s%s", strings.Join(l, ", "), more)
	}
}
