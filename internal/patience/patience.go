// Package patience bounds what tests wait for: what hangs fails its own test, with the stacks of all
// goroutines, and not its whole package when go test gives that up.
package patience

import (
	"runtime"
	"testing"
	"time"
)

// Max is how long a test waits for what must come, on the slowest machine. Changed by tests only.
var Max = 2 * time.Minute

// Receive returns what comes out of c, or its zero value when it is closed. It fails the test when
// neither happens in time; what names what is waited for.
func Receive[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	timer := time.NewTimer(Max)
	defer timer.Stop()
	select {
	case v := <-c:
		return v
	case <-timer.C:
	}
	stacks := make([]byte, 1<<20)
	t.Fatalf("not within %v: %s\n\n%s", Max, what, stacks[:runtime.Stack(stacks, true)])
	panic("not reached: Fatalf ends the goroutine")
}

// Return returns what f returns. It fails the test when f does not return in time; f goes on
// then.
func Return[T any](t testing.TB, what string, f func() T) T {
	t.Helper()
	c := make(chan T, 1)
	go func() { c <- f() }()
	return Receive(t, what, c)
}
