package x86

import "iter"

// Walker goes through code one instruction after the other:
//
//	w := x86.Walker{Code: code}
//	for w.Next() {
//		use(w.Off, w.Inst)
//	}
//	if w.Err != nil {
//		// code[w.Off:] is not understood
//	}
type Walker struct {
	Code []byte
	// Off is the offset of Inst in Code. When Next has returned false it is
	// where the walk stopped: len(Code), or the first byte not understood.
	Off  int
	Inst Inst
	Err  error // why the walk stopped before the end of Code
}

// Next goes to the next instruction. It returns false at the end of the code
// and at the first error, after which it stays there.
func (w *Walker) Next() bool {
	if w.Err != nil {
		return false
	}
	w.Off += int(w.Inst.Len)
	if w.Off >= len(w.Code) {
		w.Inst = Inst{}
		return false
	}
	if err := decode(&w.Inst, w.Code[w.Off:]); err != nil {
		w.Inst, w.Err = Inst{}, err
		return false
	}
	return true
}

// Bytes returns the bytes of the current instruction.
func (w *Walker) Bytes() []byte {
	end := w.Off + int(w.Inst.Len)
	return w.Code[w.Off:end:end]
}

// Walk yields the offset and value of each instruction of code and stops
// silently at the first that does not decode. It is for code known to decode
// as a whole; everything else wants [Walker], which tells.
func Walk(code []byte) iter.Seq2[int, Inst] {
	return func(yield func(int, Inst) bool) {
		w := Walker{Code: code}
		for w.Next() {
			if !yield(w.Off, w.Inst) {
				return
			}
		}
	}
}
