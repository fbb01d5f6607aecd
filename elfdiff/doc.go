// Package elfdiff finds which functions and data differ between two builds of
// an ELF relocatable object.
//
// Analyze turns one object into a Graph of atoms (pieces that can be kept or
// dropped alone), edges (references: relocations, and operands that the
// assembler already resolved inside a section) and units (what a verdict
// belongs to: a function with its prefix, body, cold parts and glued code).
// Diff correlates two graphs, compares them and gives a Delta; Close follows
// what the changed units of a Delta bring along. Each phase only reads what the
// one before it made. All of them are pure functions of their arguments: no
// globals, files, environment, clock or working directory, and the same result
// for any number of processors.
//
// # Stance
//
// A missed change is worse than a false one: it leaves a hole that somebody
// believes is closed. Two pieces are equal only by proof: equal bytes, and
// every reference equal in type, true target and displacement, with data that
// has no name of its own compared by content as far as it can be reached.
// Hashes sort and key; they never decide equality. Every relaxation (a line
// number, padding) has a name, shows in the result and can be switched off.
//
// # Trust
//
// Input is not trusted. What object.Parse accepts gives a result or a typed
// error, without panic, in time near-linear in its size.
package elfdiff
