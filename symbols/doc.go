// Package symbols says what is stable in the name of an ELF symbol and what
// the compiler renumbers from one build to the next.
//
// Two builds of one source file name the same thing differently: gcc calls a
// static local cnt.12 today and cnt.14 tomorrow, clang appends .llvm.<hash>
// when it promotes a static, rustc puts a hash of the crate into every name,
// and the Linux kernel pastes __COUNTER__ and __LINE__ into the names of its
// initcalls. [Parse] splits such a name into a [Family]: the key that both
// builds share, the function that a split-off part belongs to, and flags that
// say what was recognised.
//
// # What a key promises
//
// If two builds name one thing by any of the schemes listed by [Rules], the
// keys are equal: the package errs towards equal keys. The converse does not
// hold and must not be assumed. Whenever a number or a hash was dropped the
// flags [Numbered] or [Hashed] say so, and then several different things of
// one object may share the key (gcc's cnt.1 and cnt.2, two closures of one
// Rust function, two instances of one generic). Which of them belong together
// is a question for the content and the users of the symbols, not for their
// names. A key is a string for comparing; it need not be a name that any
// compiler would emit, and its flags mean nothing: parse names, not keys.
//
// A name is evidence, not proof. cold may be the name of a static variable of
// function foo just as well as its cold part; both are foo.cold. The flags
// state the shape of the name, and the caller confirms it by the type,
// binding and section of the symbol.
//
// # What a running kernel calls its symbols
//
// An [Oracle] is made of what is known of one kernel object's symbols ([ParseReadelf],
// [ParseKallsyms], [ParseSystemMap], [FromELF], [SymIDs], [ParseSymvers]) and gives the
// position of a symbol of an object among its namesakes, as the kernel counts. Each
// [Answer] says what it rests on, or why there is none: it never guesses, because a
// patch with a wrong position loads and calls the wrong function. A [Set] holds
// the Oracles of all the kernel objects of one patch.
//
// # Trust
//
// Names come from files that may be hostile. No input panics, time is linear in
// the length of the name, and recursion is bounded. A name that does not
// follow the grammar of the scheme it seems to use is its own key.
package symbols
