// Package client is the Go library for LogCore: it writes logs, reads and follows
// them, and asks the page server for pages.
//
// A Client is one connection and may be used by many goroutines. A Writer owns a
// writer epoch of one log. What it reports as appended is durable; when it can't
// tell whether an entry was written it says so with ErrUnknownOutcome and stops
// (the log may or may not hold that transaction; reopen and look).
//
// Errors are those of package logcore: errors.Is(err, logcore.ErrFenced) and
// errors.As(err, **logcore.LagError) work as if the service were in this process.
// ErrUnavailable means that the service could not be reached.
package client
