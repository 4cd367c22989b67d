package sim

import (
	"fmt"
	"strings"
	"time"
)

// trace is what happened: always as a hash, on demand also as lines. Two runs of one
// seed have the same hash, or something in the run depends on more than the seed.
type trace struct {
	hash  uint64
	keep  bool
	lines []string
	now   func() time.Duration
}

func newTrace(keep bool, now func() time.Duration) *trace {
	return &trace{hash: 14695981039346656037, keep: keep, now: now}
}

func (t *trace) mix(v uint64) {
	t.hash ^= v
	t.hash *= 1099511628211
	t.hash ^= t.hash >> 29
}

// note takes in an event. what is a constant with one %v-like verb for each value.
func (t *trace) note(what string, values ...uint64) {
	t.mix(uint64(t.now()))
	for i := 0; i < len(what); i++ {
		t.mix(uint64(what[i]))
	}
	for _, v := range values {
		t.mix(v)
	}
	if t.keep {
		args := make([]any, len(values))
		for i, v := range values {
			args[i] = v
		}
		t.line(what, args...)
	}
}

// line keeps a line that is no part of the hash: what the code under test logs, and
// what explains a failure.
func (t *trace) line(format string, args ...any) {
	if t.keep {
		t.lines = append(t.lines, fmt.Sprintf("%12.6f ", t.now().Seconds())+fmt.Sprintf(format, args...))
	}
}

// String returns the lines.
func (t *trace) String() string { return strings.Join(t.lines, "\n") }
