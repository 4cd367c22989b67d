// Package logcore is the vocabulary of LogCore: the identifiers, the entry, the
// clock and the errors that every other package speaks in. It does no I/O and
// imports nothing but the standard library.
package logcore
